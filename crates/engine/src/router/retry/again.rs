//! The attempts after the first.

use super::replay::back_off;
use crate::route::{ClusterRoute, RouteEntry};
use crate::router::asking::Asking;
use crate::router::attempt::{Attempt, Failed};
use crate::router::{Router, replies, span};
use crate::upstream::local::{Clusters, LocalHost};
use crate::upstream::stream::UpResponse;
use nuncio_core::{Exchange, clock};
use nuncio_wire::name;
use std::rc::Rc;
use std::time::Duration;

impl Router {
    /// Sends the request again, after `wait`, until nothing calls for another attempt.
    pub(in crate::router) async fn again(
        &self,
        ex: &mut Exchange,
        route: &RouteEntry,
        c: &ClusterRoute,
        attempt: &mut Attempt,
        mut wait: Duration,
        mut result: Result<UpResponse, Failed>,
    ) -> Result<UpResponse, Failed> {
        loop {
            let late = matches!(result, Err(Failed::Late(_)));
            span::over(ex);
            attempt.leave();
            let Some(tries) = attempt.tries.as_mut() else { return result };
            tries.pause(back_off(wait), &ex.sx).await.map_err(|r| Failed::Reply(Box::new(r)))?;
            ex.sx.info.attempts.set(ex.sx.info.attempts.get() + 1);
            let Some(host) = choose(attempt, ex, c) else {
                let cluster = &attempt.account().cluster;
                cluster.plan.stats.upstream_cx_none_healthy().inc();
                attempt.account().reply(None, ex, 503);
                return Err(Failed::Reply(Box::new(replies::no_healthy_upstream())));
            };
            self.prepare(ex, route, c, attempt, &host, late);
            attempt.next(host);
            result = attempt.run(ex).await;
            match attempt.again(ex, &result, &self.retries) {
                Some(more) => wait = more,
                None => return result,
            }
        }
    }

    /// The request's head and body for another attempt.
    fn prepare(
        &self,
        ex: &mut Exchange,
        route: &RouteEntry,
        c: &ClusterRoute,
        attempt: &Attempt,
        host: &Rc<LocalHost>,
        late: bool,
    ) {
        let headers = &mut ex.request.headers;
        if c.include_request_attempt_count {
            headers.set(name::X_ENVOY_ATTEMPT_COUNT, ex.sx.info.attempts.get().to_string().as_bytes());
        }
        if c.include_is_timeout_retry {
            headers.set(name::X_ENVOY_IS_TIMEOUT_RETRY, if late { b"true" } else { b"false" });
        }
        let grpc = c.grpc.is_some() && ex.request.is_grpc();
        let headers = &mut ex.request.headers;
        if grpc || !self.suppress_envoy_headers {
            let end = ex.sx.info.times.ds_rx_end.get();
            let elapsed = end.map_or(Duration::ZERO, |end| clock::now().saturating_duration_since(end));
            let each = attempt.tries.as_ref().and_then(|t| t.timeout());
            if !self.suppress_envoy_headers {
                super::super::set_expected_timeout(headers, attempt.timeout(), each, elapsed);
            }
            if grpc {
                super::super::set_grpc_timeout(headers, attempt.timeout(), each, elapsed);
            }
        }
        route.host_changed(&mut ex.request, &host.host, !self.suppress_envoy_headers);
        span::begin(ex, &attempt.account().cluster, self.child_spans);
        if let Some(body) = attempt.tries.as_ref().and_then(|t| t.body()) {
            ex.request_body = body;
        }
    }
}

/// A host for another attempt: of the cluster as it is now, which may have been replaced meanwhile.
fn choose(attempt: &mut Attempt, ex: &Exchange, c: &ClusterRoute) -> Option<Rc<LocalHost>> {
    let cluster = Clusters::here().get(&attempt.account().cluster.plan.name)?;
    let retry = attempt.tries.as_mut().and_then(|t| t.retry());
    let asking = Asking::new(ex, c, retry.as_deref());
    let host = cluster.choose(&asking);
    let set_cookie = asking.into_cookie();
    attempt.set_cookie = set_cookie.or(attempt.set_cookie.take());
    host
}

//! The attempts after the first.

use super::RetryRuntime;
use super::hedge::{Aside, First};
use super::replay::back_off;
use super::state::{Decision, Verdict};
use crate::route::{ClusterRoute, RouteEntry};
use crate::router::asking::Asking;
use crate::router::attempt::{Attempt, Failed};
use crate::router::{Router, replies, span};
use crate::upstream::local::{Clusters, LocalHost};
use crate::upstream::stream::UpResponse;
use nuncio_core::error::ResetReason;
use nuncio_core::{Exchange, Flag, clock};
use nuncio_wire::name;
use std::rc::Rc;
use std::time::Duration;

/// What follows an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::router) enum After {
    /// Nothing: its result is that of the request.
    Nothing,
    /// Nothing, though another attempt would have been better.
    NoMore,
    /// Another attempt, after this time.
    Again(Duration),
    /// It took too long, and is waited for nevertheless (hedging).
    Patience,
}

impl Router {
    /// Does what follows an attempt, until there is the result of the request.
    pub(in crate::router) async fn again(
        &self,
        ex: &mut Exchange,
        route: &RouteEntry,
        c: &ClusterRoute,
        attempt: &mut Attempt,
        mut after: After,
        mut result: Result<UpResponse, Failed>,
    ) -> Result<UpResponse, Failed> {
        let mut aside = Aside::default();
        loop {
            let next = match after {
                After::Nothing => return result,
                After::NoMore if aside.is_empty() => return result,
                After::NoMore => {
                    attempt.gives_up(&result);
                    span::over(ex);
                    attempt.leave();
                    let (first, head) = aside.alone().await;
                    First::Aside(first, head)
                }
                After::Patience => aside.beside(attempt.patiently(ex)).await,
                After::Again(wait) => {
                    let late = matches!(result, Err(Failed::Late(_)));
                    if late && attempt.hedges() {
                        aside.take(attempt, ex);
                    } else {
                        span::over(ex);
                        attempt.leave();
                    }
                    aside.beside(self.another(ex, route, c, attempt, wait, late)).await
                }
            };
            match next {
                First::Other(r) => result = r,
                First::Aside(first, head) => return attempt.takes_over(ex, first, head).await,
            }
            after = attempt.after(ex, &result, &self.retries);
        }
    }

    /// Another attempt, after `wait`; `late`: the one before took too long.
    async fn another(
        &self,
        ex: &mut Exchange,
        route: &RouteEntry,
        c: &ClusterRoute,
        attempt: &mut Attempt,
        wait: Duration,
        late: bool,
    ) -> Result<UpResponse, Failed> {
        if let Some(tries) = attempt.tries.as_mut() {
            tries.pause(back_off(wait), &ex.sx).await.map_err(|r| Failed::Reply(Box::new(r)))?;
        }
        ex.sx.info.attempts.set(ex.sx.info.attempts.get() + 1);
        let Some(host) = choose(attempt, ex, c) else {
            let cluster = &attempt.account().cluster;
            cluster.plan.stats.upstream_cx_none_healthy().inc();
            attempt.account().reply(None, &ex.sx, 503);
            return Err(Failed::Reply(Box::new(replies::no_healthy_upstream())));
        };
        self.prepare(ex, route, c, attempt, &host, late);
        attempt.next(host);
        attempt.run(ex).await
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
            let each = attempt.tries.as_ref().and_then(|t| t.each().told());
            if !self.suppress_envoy_headers {
                super::super::set_expected_timeout(headers, attempt.timeout(), each, elapsed);
            }
            if grpc {
                super::super::set_grpc_timeout(headers, attempt.timeout(), each, elapsed);
            }
        }
        route.host_changed(&mut ex.request, &ex.sx, &host.host, !self.suppress_envoy_headers);
        span::begin(ex, &attempt.account().cluster, self.child_spans);
        if let Some(body) = attempt.tries.as_ref().and_then(|t| t.body()) {
            ex.request_body = body;
        }
    }
}

impl Attempt {
    /// What follows, when it ended with `result`.
    pub(in crate::router) fn after(
        &mut self,
        ex: &Exchange,
        result: &Result<UpResponse, Failed>,
        rt: &RetryRuntime,
    ) -> After {
        let Some(tries) = self.tries.as_mut() else { return After::Nothing };
        if let Err(Failed::Reply(_)) = result {
            return After::Nothing;
        }
        let hedged = tries.each().hedge && matches!(result, Err(Failed::Late(_)));
        // What it comes to when it is not sent again.
        let otherwise = match result {
            Err(Failed::Late(_)) if hedged => After::Patience,
            Err(Failed::Reset(_)) => After::NoMore,
            _ => After::Nothing,
        };
        if let Err(Failed::Late(late)) = result
            && !hedged
        {
            late.count(&self.account, &self.host);
        }
        // What has been passed on in part cannot be taken back.
        let Some(retry) = tries.retry().filter(|_| !self.informed) else { return otherwise };
        retry.started |= self.sx.info.times.us_tx_beg.get().is_some();
        let head = result.as_ref().ok().map(|r| &r.head);
        let decision = match result {
            Ok(r) => retry.on_head(&r.head, &ex.request),
            Err(Failed::Reset(e)) => retry.on_reset(e.reason),
            // As long as there are retries left, whatever the policy says of time.
            Err(Failed::Late(_)) if hedged => Decision::BackOff,
            Err(Failed::Late(_)) => retry.on_reset(ResetReason::LocalReset),
            Err(Failed::Reply(_)) => Decision::Final,
        };
        let verdict = retry.decide(decision, head, rt);
        verdict.count(&self.account);
        let flag = match verdict {
            Verdict::Final | Verdict::Succeeded => return otherwise,
            Verdict::Again(wait, _) => {
                if !hedged {
                    self.account.retried(&self.host, head.map(|h| h.status));
                }
                return After::Again(wait);
            }
            Verdict::Overflow => Flag::UpstreamOverflow,
            Verdict::LimitExceeded => Flag::UpstreamRetryLimitExceeded,
        };
        self.sx.info.set_flag(flag);
        if hedged { After::Patience } else { After::NoMore }
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

//! The router: turns a request into an upstream exchange (`envoy.filters.http.router`).
//!
//! In order: choose the route, answer redirects and direct responses, find the cluster, choose a host, get a
//! connection, send the request (its body by a pump beside the stream), and hand the response back. What fails on the
//! way becomes a local reply (`replies`).

mod ahead;
mod attempt;
mod charge;
mod replies;

use crate::route::{Action, ClusterRoute, Redirect, RouteEntry};
use crate::stats::RouterStats;
use crate::upstream::local::{Cluster, Clusters};
use attempt::Attempt;
use charge::Account;
use nuncio_api::envoy::extensions::filters::http::router::v3 as pb;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::filter::{BuildCx, Step};
use nuncio_core::info::Interrupt;
use nuncio_core::route::Route;
use nuncio_core::stats::sanitize;
use nuncio_core::{Exchange, Flag, LocalReply};
use nuncio_wire::{ResponseHead, name};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// `extensions.filters.http.router.v3.Router`
pub struct Router {
    /// `suppress_envoy_headers`
    pub suppress_envoy_headers: bool,
    /// `http.<stat_prefix>.`
    pub stats: RouterStats,
    /// `dynamic_stats`: count response codes and times.
    dynamic_stats: bool,
    /// `node.locality.zone`, for stats by zone.
    zone: String,
}

impl Router {
    /// The router of a connection manager, whose stats begin with the context's scope.
    pub fn new(c: &pb::Router, cx: &BuildCx<'_>) -> Router {
        Router {
            suppress_envoy_headers: c.suppress_envoy_headers,
            stats: RouterStats::new(cx.scope),
            dynamic_stats: c.dynamic_stats.unwrap_or(true),
            zone: sanitize(&cx.node.zone),
        }
    }
    /// Serves one request; on success `ex.response` is the upstream's.
    pub async fn serve(&self, ex: &mut Exchange) -> Step<'static> {
        self.stats.rq_total().inc();
        let Some(route) = ex.route().and_then(<dyn Route>::downcast::<RouteEntry>) else {
            self.stats.no_route().inc();
            return reply(replies::no_route());
        };
        match &route.action {
            Action::Cluster(c) => self.forward(ex, &route, c).await,
            Action::Redirect(r) => {
                self.stats.rq_direct_response().inc();
                let location = r.location(&ex.request, &ex.sx);
                let mut reply = LocalReply::new(r.status(), "", "direct_response");
                reply.headers.get_or_insert_default().append(name::LOCATION, &location);
                self.local(ex, &route, reply)
            }
            Action::Direct(d) => {
                self.stats.rq_direct_response().inc();
                let mut reply = LocalReply::new(d.status, d.body(), "direct_response");
                // Envoy takes the route for a redirect to the same place.
                if matches!(d.status, 201 | 300..400) {
                    let location = Redirect::same().location(&ex.request, &ex.sx);
                    reply.headers.get_or_insert_default().append(name::LOCATION, &location);
                }
                self.local(ex, &route, reply)
            }
            Action::NonForwarding => reply(replies::no_route()),
        }
    }

    /// A response that the route itself makes; its header rules apply.
    fn local(&self, ex: &mut Exchange, route: &RouteEntry, r: LocalReply) -> Step<'static> {
        // The rules come before `content-length` and `content-type`, which they can replace, as in Envoy.
        let mut r = r;
        let headers = r.headers.take().unwrap_or_default();
        let mut head = ResponseHead { status: r.status, headers, ..Default::default() };
        route.finalize_response_headers(&mut head, ex);
        r.headers = Some(head.headers);
        ex.reply(r);
        Step::Next
    }

    async fn forward(&self, ex: &mut Exchange, route: &Arc<RouteEntry>, c: &ClusterRoute) -> Step<'static> {
        let Some(name) = c.cluster_name(&ex.request, &ex.sx) else {
            self.stats.no_route().inc();
            return reply(replies::no_route());
        };
        let cluster = Clusters::here().get(&name);
        let Some(cluster) = cluster else {
            self.stats.no_cluster().inc();
            return reply(
                LocalReply::new(c.cluster_not_found_status, "", "cluster_not_found")
                    .flag(Flag::NoClusterFound),
            );
        };
        note_cluster(ex, &cluster);
        let account = self.account(ex, route, cluster);
        let cluster = &account.cluster;
        if cluster.plan.in_maintenance() {
            cluster.plan.stats.upstream_rq_maintenance_mode().inc();
            account.reply(None, ex, 503);
            return reply(replies::maintenance(!self.suppress_envoy_headers));
        }
        ex.sx.info.attempts.set(1);
        let Some(host) = cluster.choose() else {
            cluster.plan.stats.upstream_cx_none_healthy().inc();
            cluster.plan.stats.lb_healthy_panic().inc();
            account.reply(None, ex, 503);
            return reply(replies::no_healthy_upstream());
        };
        let timeout = self.timeout(ex, c);
        if !self.suppress_envoy_headers
            && let Some(t) = timeout
        {
            ex.request
                .headers
                .set(name::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, t.as_millis().to_string().as_bytes());
        }
        if c.include_request_attempt_count {
            ex.request.headers.set(name::X_ENVOY_ATTEMPT_COUNT, b"1");
        }
        route.finalize_request_headers(&mut ex.request, &ex.sx, &host.host, !self.suppress_envoy_headers);
        let mut attempt = Attempt::new(account, host, ex.sx.clone(), c.priority, timeout);
        match attempt.run(ex).await {
            Ok(mut response) => {
                attempt.answered(ex, &mut response, self.suppress_envoy_headers);
                ex.response = Some(response.head);
                ex.response_body = attempt.into_body(response.end);
                if c.include_attempt_count_in_response
                    && let Some(r) = &mut ex.response
                {
                    r.headers.set(name::X_ENVOY_ATTEMPT_COUNT, b"1");
                }
                self.finish_response(ex, route);
                Step::Next
            }
            Err(e) => {
                let r = attempt.failed(ex, &e);
                reply(r)
            }
        }
    }

    /// Who is charged for a request: its cluster, and what else is counted by.
    fn account(&self, ex: &mut Exchange, route: &RouteEntry, cluster: Rc<Cluster>) -> Account {
        let mut account = Account::new(cluster, self.dynamic_stats, route.stats());
        if let Some(v) = route.virtual_cluster(&ex.request) {
            *ex.sx.info.virtual_cluster.borrow_mut() = v.name.clone();
            account.also(v.stats.clone());
        }
        if let Some(alt) = ex.request.headers.get_str(name::X_ENVOY_UPSTREAM_ALT_STAT_NAME) {
            let stats = account.cluster.alt_stats(alt);
            account.alt(stats);
            ex.request.headers.remove(name::X_ENVOY_UPSTREAM_ALT_STAT_NAME);
        }
        if !self.zone.is_empty() {
            account.zone(&self.zone);
        }
        account
    }

    fn finish_response(&self, ex: &mut Exchange, route: &RouteEntry) {
        if let Some(mut head) = ex.response.take() {
            route.finalize_response_headers(&mut head, ex);
            ex.response = Some(head);
        }
    }

    /// The route's timeout, or what an internal caller asks for; `None` is no limit.
    fn timeout(&self, ex: &mut Exchange, c: &ClusterRoute) -> Option<Duration> {
        let asked =
            ex.request.headers.get_str(name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS).and_then(|v| v.parse().ok());
        ex.request.headers.remove(name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS);
        let t = asked.map(Duration::from_millis).or(c.timeout)?;
        (!t.is_zero()).then_some(t)
    }
}

fn reply(r: LocalReply) -> Step<'static> {
    Step::Reply(Box::new(r))
}

fn note_cluster(ex: &Exchange, cluster: &Cluster) {
    let mut up = ex.sx.info.upstream.borrow_mut();
    up.cluster = Some(cluster.plan.name.clone());
    up.cluster_observability = Some(cluster.plan.observability_name.clone());
    up.cluster_metadata = Some(cluster.plan.metadata.clone());
}

/// For the log of a request that a filter answered before the router: the cluster it would have gone to.
pub fn note_route_cluster(ex: &Exchange) {
    if ex.sx.info.upstream.borrow().cluster.is_none()
        && let Some(route) = ex.sx.current_route().and_then(<dyn Route>::downcast::<RouteEntry>)
        && let Action::Cluster(c) = &route.action
        && let Some(name) = c.cluster_name(&ex.request, &ex.sx)
        && let Some(cluster) = Clusters::here().get(&name)
    {
        note_cluster(ex, &cluster);
    }
}

/// Answers 504 when the response is not complete in time.
fn arm_timeout(sx: &Rc<nuncio_core::StreamShared>, timeout: Option<Duration>) {
    if let Some(t) = timeout {
        sx.set_deadline(clock::sleep(TimerKind::Other, t), || Interrupt::Reply(Box::new(replies::timeout())));
    }
}

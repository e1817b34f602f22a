//! The router: turns a request into an upstream exchange (`envoy.filters.http.router`).
//!
//! In order: choose the route, answer redirects and direct responses, find the cluster, choose a host, get a
//! connection, send the request (its body by a pump beside the stream), and hand the response back. What fails on the
//! way becomes a local reply (`replies`).

mod ahead;
mod asking;
mod attempt;
mod charge;
pub mod filters;
pub mod redirect;
mod repeat;
mod replies;
pub mod retry;
pub mod shadow;
mod span;
mod strict;
mod tunnel;

use crate::http::timers;
use crate::route::action::GrpcTimeout;
use crate::route::{Action, ClusterRoute, Redirect, RouteEntry};
use crate::stats::RouterStats;
use crate::upstream::lb::config::Policy;
use crate::upstream::local::{Cluster, Clusters};
use asking::Asking;
use attempt::Attempt;
use charge::Account;
use filters::{Owner, UpstreamFilters, filters_of};
use nuncio_api::envoy::extensions::filters::http::router::v3 as pb;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::BuildResult;
use nuncio_core::filter::{BuildCx, Step};
use nuncio_core::info::{Interrupt, StreamShared};
use nuncio_core::route::Route;
use nuncio_core::stats::sanitize;
use nuncio_core::{Exchange, Flag, LocalReply};
use nuncio_wire::{HeaderMap, IdSet, RequestHead, ResponseHead, name};
use retry::again::After;
use retry::{Each, RetryRuntime, Tries};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use strict::StrictHeaders;

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
    /// `start_child_span`
    child_spans: bool,
    /// `strict_check_headers`
    strict: Option<StrictHeaders>,
    /// `respect_expected_rq_timeout`: another Envoy has said how long the request may take.
    expects: bool,
    /// `suppress_grpc_request_failure_code_stats`
    uncoded_grpc: bool,
    retries: RetryRuntime,
    /// `upstream_http_filters`
    filters: Option<Arc<UpstreamFilters>>,
}

impl Router {
    /// The router of a connection manager, whose stats begin with the context's scope.
    ///
    /// # Errors
    /// Its upstream filters are refused.
    pub fn new(c: &pb::Router, cx: &BuildCx<'_>) -> BuildResult<Router> {
        Ok(Router {
            suppress_envoy_headers: c.suppress_envoy_headers,
            stats: RouterStats::new(cx.scope),
            dynamic_stats: c.dynamic_stats.unwrap_or(true),
            zone: sanitize(&cx.node.zone),
            child_spans: c.start_child_span,
            strict: StrictHeaders::new(&c.strict_check_headers),
            expects: c.respect_expected_rq_timeout,
            uncoded_grpc: c.suppress_grpc_request_failure_code_stats,
            retries: RetryRuntime::new(&cx.server.runtime()),
            filters: UpstreamFilters::new(&c.upstream_http_filters, Owner::Router, cx)?,
        })
    }
    /// Serves one request; on success `ex.response` is the upstream's.
    pub async fn serve(&self, ex: &mut Exchange) -> Step<'static> {
        self.stats.rq_total().inc();
        let Some(route) = ex.route().and_then(<dyn Route>::downcast::<RouteEntry>) else {
            self.stats.no_route().inc();
            return reply(replies::no_route());
        };
        match &route.action {
            Action::Cluster(c) => pin!(self.forward(ex, &route, c)).await,
            Action::Redirect(r) => {
                self.stats.rq_direct_response().inc();
                let location = r.location(&ex.request, &ex.sx);
                let mut reply = LocalReply::new(r.status(), "", "direct_response");
                reply.headers.get_or_insert_default().append(name::LOCATION, &location);
                self.local(ex, &route, reply)
            }
            Action::Direct(d) => {
                self.stats.rq_direct_response().inc();
                let (body, content_type) = d.body(ex);
                let mut reply = LocalReply::new(d.status, body, "direct_response");
                // Envoy takes the route for a redirect to the same place.
                if matches!(d.status, 201 | 300..400) {
                    let location = Redirect::same().location(&ex.request, &ex.sx);
                    reply.headers.get_or_insert_default().append(name::LOCATION, &location);
                }
                if let Some(t) = content_type {
                    reply = reply.header(name::CONTENT_TYPE, t.as_bytes());
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
        note_cluster(&ex.sx, &cluster);
        let account = self.account(ex, route, cluster);
        if let Some(refused) = self.strict.as_ref().and_then(|s| s.refuse(&ex.request.headers)) {
            return reply(refused);
        }
        let cluster = &account.cluster;
        if cluster.plan.in_maintenance() {
            cluster.plan.stats.upstream_rq_maintenance_mode().inc();
            account.reply(None, &ex.sx, 503);
            return reply(replies::maintenance(!self.suppress_envoy_headers));
        }
        ex.sx.info.attempts.set(1);
        let asking = Asking::new(ex, c, None);
        let mut host = cluster.choose(&asking);
        let set_cookie = asking.into_cookie();
        let mut unresolved = None;
        if host.is_none()
            && let Policy::Forward(f) = &cluster.plan.lb.policy
        {
            // In a box: that happens once for a name.
            match Box::pin(f.resolve(f.destination(&Asking::new(ex, c, None)))).await {
                Ok(()) => host = cluster.choose(&Asking::new(ex, c, None)),
                Err(why) => unresolved = Some(why),
            }
        }
        let Some(host) = host else {
            let mut none = replies::no_healthy_upstream();
            // As in Envoy, a host is not counted as missing whose name was waited for.
            if !matches!(unresolved, Some((_, true))) {
                cluster.plan.stats.upstream_cx_none_healthy().inc();
            }
            if let Some(o) = &*ex.sx.info.override_host.borrow()
                && o.strict
                && cluster.at(&o.address).is_none()
            {
                none.status = o.not_found;
            }
            account.reply(None, &ex.sx, none.status);
            if let Some((why, _)) = unresolved {
                none.details = why.to_string().into();
            }
            return counted(with_cookie(none, set_cookie), c, &ex.sx);
        };
        let grpc = c.grpc.filter(|_| ex.request.is_grpc());
        let filters = filters_of(cluster, self.filters.as_ref());
        let expected = self.expects.then(|| expected(&ex.request.headers)).flatten();
        let (timeout, mut each) = timeouts(&mut ex.request.headers, c, grpc, expected);
        each.hedge &= filters.is_none(); // a response that comes late would not go through them
        if !self.suppress_envoy_headers {
            set_expected_timeout(&mut ex.request.headers, timeout.after, each.told(), Duration::ZERO);
        }
        if grpc.is_some() {
            set_grpc_timeout(&mut ex.request.headers, timeout.after, each.told(), Duration::ZERO);
        }
        if c.include_request_attempt_count {
            ex.request.headers.set(name::X_ENVOY_ATTEMPT_COUNT, b"1");
        }
        route.finalize_request_headers(&mut ex.request, &ex.sx, &host.host, !self.suppress_envoy_headers);
        if ex.sx.info.scheme_of_upstream.get() {
            let tls = cluster.plan.transports.of(&host.host.info).is_tls();
            ex.request.headers.set(name::SCHEME, if tls { b"https" } else { b"http" });
        }
        ex.sx.show(&ex.request);
        // After that, since the route may add a header that asks for retries.
        let mut tries = Tries::new(
            c.retry.as_ref(),
            &mut ex.request,
            each,
            c.priority,
            &account,
            &self.retries,
            c.redirects.is_some(),
        );
        if let Some(all) = &c.shadows {
            self.mirror(ex, all, timeout, buffer_limit(ex.sx.conn.buffer_limit.get(), c));
        }
        if let Some(t) = &mut tries {
            t.keep(&mut ex.request_body, buffer_limit(ex.sx.conn.buffer_limit.get(), c), &account);
        }
        span::begin(ex, &account.cluster, self.child_spans);
        let mut attempt = Attempt::new(account, host, ex.sx.clone(), c.priority, timeout, tries);
        attempt.set_cookie = set_cookie;
        attempt.filters = filters;
        attempt.repeat.allowed = self.retries.replay.percent();
        let mut result = match c.ends_connect(&ex.request) {
            false => pin!(attempt.run(ex)).await,
            true => {
                let made = Box::pin(attempt.tunnel(ex)).await;
                attempt.report(ex, &made);
                made
            }
        };
        let after = attempt.after(ex, &result, &self.retries);
        if let After::Again(_) | After::Patience = after {
            // In a box: few requests come here, and all would carry its state.
            result = Box::pin(self.again(ex, route, c, &mut attempt, after, result)).await;
        }
        if let (Some(policy), Ok(r)) = (&c.redirects, &result)
            && policy.takes(r.head.status)
            && self.redirect(ex, policy, &mut attempt, &r.head)
        {
            ex.response = result.ok().map(|r| r.head);
            return Step::Restart;
        }
        match result {
            Ok(mut response) => {
                attempt.answered(ex, &mut response, self.suppress_envoy_headers);
                let set_cookie = attempt.set_cookie.take();
                ex.response = Some(response.head);
                ex.response_body = attempt.into_body(response.end);
                if c.include_attempt_count_in_response
                    && let Some(r) = &mut ex.response
                {
                    set_attempt_count(&mut r.headers, &ex.sx);
                }
                self.finish_response(ex, route);
                if let (Some(cookie), Some(r)) = (set_cookie, &mut ex.response) {
                    r.headers.append(name::SET_COOKIE, cookie.as_bytes());
                }
                Step::Next
            }
            Err(e) => {
                let r = attempt.failed(ex, e);
                counted(with_cookie(r, attempt.set_cookie.take()), c, &ex.sx)
            }
        }
    }

    /// Who is charged for a request: its cluster, and what else is counted by.
    fn account(&self, ex: &mut Exchange, route: &RouteEntry, cluster: Rc<Cluster>) -> Account {
        let internal = ex.request.headers.get(name::X_ENVOY_INTERNAL) == Some(b"true");
        let mut account = Account::new(cluster, self.dynamic_stats, internal, route.stats());
        account.uncoded = self.uncoded_grpc && ex.request.is_grpc();
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
}

/// When a request takes too long, and what its client is told then.
#[derive(Clone, Copy, Debug)]
struct Timeout {
    /// `None` is no limit.
    after: Option<Duration>,
    /// 504, or 204 for who asks for it by `x-envoy-upstream-rq-timeout-alt-response`.
    status: u16,
}

/// The timeout of the request and of each try: the route's, or what an internal caller asks for; `None` is no limit. That of
/// a try counts only while it is shorter; `x-envoy-hedge-on-per-try-timeout` says what happens then.
fn timeouts(
    h: &mut HeaderMap,
    c: &ClusterRoute,
    grpc: Option<GrpcTimeout>,
    expected: Option<Expected>,
) -> (Timeout, Each) {
    const ASKING: IdSet = IdSet::new(&[
        name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
        name::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
        name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
        name::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
    ]);
    const ASKING_LESS: IdSet = IdSet::new(&[
        name::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
        name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
        name::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
    ]);
    let (mut status, mut hedge) = (504, c.hedge);
    let said = |g: GrpcTimeout| Some(g.of(timers::grpc_timeout(h)));
    let (mut whole, mut each) =
        (grpc.map_or(c.timeout, said), c.retry.as_ref().and_then(|p| p.more.as_ref()?.per_try_timeout));
    if h.contains_any(&ASKING) {
        let asked = |name| h.get_str(name).and_then(|v| v.parse().ok()).map(Duration::from_millis);
        if expected.is_none() {
            whole = asked(name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS).or(whole);
        }
        each = asked(name::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS).or(each);
        if h.get(name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE).is_some() {
            status = 204;
        }
        match h.get(name::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT) {
            Some(b"true") => hedge = true,
            Some(b"false") => hedge = false,
            _ => {}
        }
        match expected {
            None => h.remove_all(&ASKING),
            // As in Envoy the header that was not looked at stays.
            Some(_) => h.remove_all(&ASKING_LESS),
        };
    }
    let whole = expected.and_then(|e| e.0).or(whole).filter(|t| !t.is_zero());
    let each = each.filter(|t| !t.is_zero() && whole.is_none_or(|w| *t < w));
    (Timeout { after: whole, status }, Each { timeout: each, hedge })
}

/// `x-envoy-expected-rq-timeout-ms` is there: what it says, if that is a number.
#[derive(Clone, Copy)]
struct Expected(Option<Duration>);

fn expected(h: &HeaderMap) -> Option<Expected> {
    h.get(name::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS)?;
    let ms = h.get_str(name::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS).and_then(|v| v.parse().ok());
    Some(Expected(ms.map(Duration::from_millis)))
}

fn reply(r: LocalReply) -> Step<'static> {
    Step::Reply(Box::new(r))
}

fn note_cluster(sx: &StreamShared, cluster: &Cluster) {
    let mut up = sx.info.upstream.borrow_mut();
    up.cluster = Some(cluster.plan.name.clone());
    up.cluster_observability = Some(cluster.plan.observability_name.clone());
    up.cluster_metadata = Some(cluster.plan.metadata.clone());
}

/// For the log of a request that a filter answered before the router: the cluster it would have gone to.
pub fn note_route_cluster(request: &RequestHead, sx: &StreamShared) {
    if sx.info.upstream.borrow().cluster.is_none()
        && let Some(route) = sx.current_route().and_then(<dyn Route>::downcast::<RouteEntry>)
        && let Action::Cluster(c) = &route.action
        && let Some(name) = c.cluster_name(request, sx)
        && let Some(cluster) = Clusters::here().get(&name)
    {
        note_cluster(sx, &cluster);
    }
}

/// A reply after an attempt at least: it may say how many there were.
fn counted(mut r: LocalReply, c: &ClusterRoute, sx: &StreamShared) -> Step<'static> {
    if c.include_attempt_count_in_response {
        set_attempt_count(r.headers.get_or_insert_default(), sx);
    }
    reply(r)
}

/// A reply to a request that got a cookie while a host was chosen.
fn with_cookie(mut r: LocalReply, cookie: Option<Box<str>>) -> LocalReply {
    if let Some(c) = cookie {
        r.headers.get_or_insert_default().append(name::SET_COOKIE, c.as_bytes());
    }
    r
}

fn set_attempt_count(h: &mut HeaderMap, sx: &StreamShared) {
    h.set(name::X_ENVOY_ATTEMPT_COUNT, sx.info.attempts.get().to_string().as_bytes());
}

/// Tells the host how long it has: `each` try, but no longer than is left of the whole timeout.
fn set_expected_timeout(
    h: &mut HeaderMap,
    whole: Option<Duration>,
    each: Option<Duration>,
    elapsed: Duration,
) {
    let Some(t) = expected_timeout(whole, each, elapsed) else { return };
    let mut ms = itoa::Buffer::new();
    h.set(name::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, ms.format(t.as_millis() as u64).as_bytes());
}

/// How long a host has: `each` try, but no longer than is left of the whole timeout.
fn expected_timeout(whole: Option<Duration>, each: Option<Duration>, elapsed: Duration) -> Option<Duration> {
    let left = whole.map(|w| w.saturating_sub(elapsed).max(Duration::from_millis(1)));
    each.into_iter().chain(left).min()
}

/// Tells a gRPC server how long it has, where routes limit what its clients ask for.
fn set_grpc_timeout(h: &mut HeaderMap, whole: Option<Duration>, each: Option<Duration>, elapsed: Duration) {
    if let Some(t) = expected_timeout(whole, each, elapsed) {
        h.set(name::GRPC_TIMEOUT, &timers::grpc_timeout_text(t));
    }
}

/// How much of a request is kept to send it again, in bytes.
fn buffer_limit(connection: u32, c: &ClusterRoute) -> usize {
    let of_connection = if connection == 0 { u64::MAX } else { connection.into() };
    usize::try_from(c.buffer_limit.unwrap_or(of_connection)).unwrap_or(usize::MAX)
}

/// Answers when the response is not complete in time.
fn arm_timeout(sx: &Rc<StreamShared>, timeout: Timeout) {
    if let Some(t) = timeout.after
        && !sx.has_deadline()
    {
        let late = match timeout.status {
            204 => |sx: &StreamShared| late(sx, 204),
            _ => |sx: &StreamShared| late(sx, 504),
        };
        sx.set_deadline(clock::sleep(TimerKind::Other, t), late);
    }
}

fn late(sx: &StreamShared, status: u16) -> Interrupt {
    let mut r = replies::timeout(status, "response_timeout");
    let route = sx.current_route().and_then(<dyn Route>::downcast::<RouteEntry>);
    if let Some(Action::Cluster(c)) = route.as_deref().map(|r| &r.action)
        && c.include_attempt_count_in_response
    {
        set_attempt_count(r.headers.get_or_insert_default(), sx);
    }
    Interrupt::Reply(Box::new(r))
}

//! The HTTP connection manager: from bytes of a client to an exchange, and back.
//!
//! In the order a request passes: [`codec`] (which protocol is spoken) – [`h1`] / [`h2`] (connection drivers) –
//! [`request`] (what Envoy does to a request's head before filters see it) – [`stream`] (filter chain, response,
//! body) – [`response`] (what it does to a response's head) – [`done`] (stats and access log at the end).
//! [`config`] builds all of it from the `HttpConnectionManager` proto, on main.

pub mod codec;
pub mod config;
mod cycle;
mod date;
mod discovered;
mod done;
pub mod drain;
pub mod extended_connect;
pub mod forwarded_cert;
mod h1;
mod h2;
pub mod header_case;
pub mod local_reply;
pub mod origin;
pub mod path;
mod premature;
pub mod proxy_status;
pub mod rds;
mod request;
mod response;
pub mod scopes;
pub mod stream;
pub mod timers;
pub mod tracing;
mod upgrade;
pub mod vhds;

use crate::route::RouteTable;
use crate::router::Router;
use crate::stats::{Http1Stats, Http2Stats, HttpStats, ListenerHttpStats};
pub use config::HcmPlan;
use drain::DrainToken;
use local_reply::Rewriter;
use nuncio_core::LocalBoxFuture;
use nuncio_core::exchange::ReplyRewriter;
use nuncio_core::filter::Step;
use nuncio_core::info::{ConnInfo, StreamShared};
use nuncio_core::pipeline::{Chain, Terminal};
use nuncio_core::route::RouteSource;
use nuncio_core::{Body, Exchange, rng};
use nuncio_wire::{RequestHead, ResponseHead};
use rds::RouteCell;
use scopes::ScopeSource;
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use upgrade::Upgrades;

/// Bytes of input that are dropped while a client that was refused gets time to read why. Dropping a little spares well-meaning
/// clients a reset; who sends more is left waiting, instead of keeping a worker busy.
const LINGER: usize = 256 << 10;

/// Why a downstream connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The client closed it.
    Remote,
    /// We closed it after a response.
    Local,
    /// We cut it short, with an exchange under way.
    LocalReset,
    /// `idle_timeout`.
    IdleTimeout,
    /// The client did not answer a PING.
    PingTimeout,
    /// `drain_timeout` has passed since the client was asked to go elsewhere.
    Drained,
}

impl CloseReason {
    /// True when the client closed it.
    pub fn is_remote(self) -> bool {
        self == CloseReason::Remote
    }
}

/// Timeouts of a connection manager; `None` is off.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// `common_http_protocol_options.idle_timeout`
    pub idle: Option<Duration>,
    /// `stream_idle_timeout`
    pub stream_idle: Option<Duration>,
    /// `stream_flush_timeout`, where it is set: zero switches it off. Otherwise `stream_idle_timeout` counts.
    pub stream_flush: Option<Duration>,
    /// `request_timeout`
    pub request: Option<Duration>,
    /// `request_headers_timeout`
    pub request_headers: Option<Duration>,
    /// `common_http_protocol_options.max_stream_duration`
    pub max_stream: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`
    pub max_connection: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration_jitter`: so much longer at most, as a part of it.
    pub max_connection_jitter: f64,
    /// `http1_safe_max_connection_duration`: an old HTTP/1 connection ends with the response to its next request.
    pub http1_safe: bool,
    /// `delayed_close_timeout`
    pub delayed_close: Option<Duration>,
    /// `drain_timeout`
    pub drain: Duration,
    /// `drain_timeout_jitter`: so much longer at most, as a part of it.
    pub drain_jitter: f64,
}

impl Timeouts {
    /// How old the connection may become.
    pub fn max_connection(&self, conn: &ConnInfo) -> Option<Duration> {
        let max = self.max_connection?;
        if self.max_connection_jitter == 0.0 {
            return Some(max);
        }
        // Always the same for one connection, which need not remember it.
        let share = (conn.id.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as f64 / f64::from(u32::MAX);
        Some(max + max.mul_f64(self.max_connection_jitter * share))
    }
    /// How long a connection whose drain begins now is open for.
    pub fn drain(&self) -> Duration {
        match self.drain_jitter {
            0.0 => self.drain,
            j => self.drain + self.drain.mul_f64(j * rng::f64()),
        }
    }
}

/// The last filter of a chain.
pub enum Last {
    /// `envoy.filters.http.router`
    Router(Arc<Router>),
    /// A function: the admin interface.
    Handler(Handler),
    /// No terminal filter is configured. Envoy leaves such requests without an answer; we say 404.
    Nothing,
}

/// Answers requests on this thread; the stream is what a body is read with.
pub type Handler =
    Rc<dyn Fn(RequestHead, Body, Rc<StreamShared>) -> LocalBoxFuture<'static, (ResponseHead, Body)>>;

impl Terminal for Last {
    async fn serve<'a>(&'a self, ex: &'a mut Exchange) -> Step<'static> {
        match self {
            Last::Router(r) => r.serve(ex).await,
            Last::Nothing => Step::reply(404, "", "no_terminal_filter"),
            Last::Handler(h) => {
                let (head, body) = h(ex.request.clone(), ex.request_body.take(), ex.sx.clone()).await;
                ex.sx.info.set_details("admin_filter_response");
                ex.response = Some(head);
                ex.response_body = body;
                Step::Next
            }
        }
    }
}

/// Where the routes of a connection manager come from.
enum Routes {
    Table(Rc<RouteCell>),
    Scoped(Rc<ScopeSource>),
}

/// A connection manager on one worker.
pub struct Hcm {
    /// What main built.
    pub plan: Arc<HcmPlan>,
    /// The filters, held by this thread.
    pub chain: Rc<Chain>,
    /// The last filter.
    pub terminal: Last,
    /// `http.<stat_prefix>.`
    pub stats: HttpStats,
    /// `listener.<address>.http.<stat_prefix>.`
    pub listener_stats: ListenerHttpStats,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Settings of HTTP/1 connections.
    pub h1: Arc<nuncio_wire::h1::ServerSettings>,
    /// Settings of HTTP/2 connections.
    pub h2: Arc<nuncio_wire::h2::Settings>,
    /// `proxy_100_continue`
    pub proxy_100_continue: bool,
    /// Whether responses ask clients to go elsewhere.
    pub drain: DrainToken,
    /// `local_reply_config`
    rewriter: Option<Rc<dyn ReplyRewriter>>,
    /// `upgrade_configs`
    upgrades: Upgrades,
    routes: Routes,
    http1: OnceCell<Http1Stats>,
    http2: OnceCell<Http2Stats>,
}

impl Hcm {
    /// The connection manager on this thread.
    pub fn new(plan: Arc<HcmPlan>, terminal: Last) -> Rc<Hcm> {
        Rc::new(Hcm {
            chain: Rc::new(plan.chain()),
            terminal,
            stats: plan.stats.clone(),
            listener_stats: plan.listener_stats.clone(),
            timeouts: plan.timeouts.clone(),
            h1: plan.h1.clone(),
            h2: plan.h2.clone(),
            proxy_100_continue: plan.proxy_100_continue,
            drain: DrainToken::default(),
            rewriter: plan.local_replies.clone().map(|l| Rc::new(Rewriter(l)) as Rc<dyn ReplyRewriter>),
            upgrades: Upgrades::new(&plan),
            routes: match (&plan.rds, &plan.scopes) {
                (_, Some(scopes)) => Routes::Scoped(scopes.instantiate()),
                (Some(slot), _) => Routes::Table(slot.cell()),
                _ => Routes::Table(RouteCell::new(plan.routes.clone())),
            },
            http1: OnceCell::new(),
            http2: OnceCell::new(),
            plan,
        })
    }
    /// The current route table, for a stream that begins.
    pub fn routes(&self) -> Rc<dyn RouteSource> {
        match &self.routes {
            Routes::Table(cell) => cell.get(),
            Routes::Scoped(scopes) => scopes.clone(),
        }
    }
    /// Replaces the route table for streams that begin from now on.
    pub fn set_routes(&self, table: Arc<RouteTable>) {
        // Those of a control plane are shared, and replaced by whoever brings them.
        if let (Routes::Table(cell), None) = (&self.routes, &self.plan.rds) {
            cell.set(table);
        }
    }
    /// Some route has timers of its own.
    fn routes_set_timers(&self) -> bool {
        match &self.routes {
            Routes::Table(cell) => cell.sets_timers(),
            Routes::Scoped(_) => true, // that of some scope may
        }
    }
    /// Envoy makes the codec's stats with its first connection.
    fn http1_stats(&self) -> &Http1Stats {
        self.http1.get_or_init(|| Http1Stats::new(&self.plan.root_scope.scope("http1")))
    }
    fn http2_stats(&self) -> &Http2Stats {
        self.http2.get_or_init(|| Http2Stats::new(&self.plan.root_scope.scope("http2")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::address::Address;

    #[test]
    fn jitter_only_lengthens_and_stays_the_same_for_a_connection() {
        let secs = Duration::from_secs;
        let t = |jitter| Timeouts {
            max_connection: Some(secs(100)),
            max_connection_jitter: jitter,
            drain: secs(10),
            drain_jitter: jitter,
            idle: None,
            stream_idle: None,
            stream_flush: None,
            request: None,
            request_headers: None,
            max_stream: None,
            http1_safe: false,
            delayed_close: None,
        };
        let here = || Address::Internal(Default::default(), Default::default());
        let age = |t: &Timeouts, id| t.max_connection(&ConnInfo::new(id, Arc::default(), here(), here()));
        assert_eq!((age(&t(0.0), 7), t(0.0).drain()), (Some(secs(100)), secs(10)));
        let half = t(0.5);
        let ages: Vec<_> = (0..1000).filter_map(|id| age(&half, id)).collect();
        assert!(ages.iter().all(|a| (secs(100)..=secs(150)).contains(a)));
        for part in 0..5 {
            let from = secs(100 + part * 10);
            let n = ages.iter().filter(|a| (from..from + secs(10)).contains(*a)).count();
            assert!((150..250).contains(&n), "{n} from {from:?}");
        }
        assert_eq!(age(&half, 3), age(&half, 3));
        let drains: Vec<_> = (0..100).map(|_| half.drain()).collect();
        assert!(drains.iter().all(|d| (secs(10)..=secs(15)).contains(d)));
        assert!(drains.iter().any(|d| *d != drains[0]));
        assert_eq!(
            Timeouts { max_connection: None, ..half }.max_connection(&ConnInfo::new(
                1,
                Arc::default(),
                here(),
                here()
            )),
            None
        );
    }
}

use crate::throttle::{FILL_INTERVAL, bucket, throttle};
use crate::token_bucket::TokenBucket;
use nuncio_api::envoy::extensions::filters::http::fault::v3 as pb;
use nuncio_core::clock::{TimerKind, sleep};
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::flags::Flag;
use nuncio_core::matchers::{FractionalPercent, matches_all};
use nuncio_core::registry::Docs;
use nuncio_core::runtime::{Runtime, RuntimeFraction, Snapshot};
use nuncio_core::stats::GaugeGuard;
use nuncio_core::{BuildResult, Exchange, LocalReply, Registry, rng, stats};
use nuncio_wire::name;
use std::sync::Arc;
use std::time::Duration;

mod settings;

use settings::{Settings, Status};

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.fault";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        &[
            "delay",
            "abort",
            "upstream_cluster",
            "headers",
            "downstream_nodes",
            "max_active_faults",
            "response_rate_limit",
            "delay_percent_runtime",
            "abort_percent_runtime",
            "delay_duration_runtime",
            "abort_http_status_runtime",
            "max_active_faults_runtime",
            "response_rate_limit_percent_runtime",
            "abort_grpc_status_runtime",
            "disable_downstream_cluster_stats",
            "filter_metadata",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.http.fault.v3.FaultAbort",
        &["http_status", "grpc_status", "header_abort", "percentage", "response_body"],
    ),
    Covered::new(
        "envoy.extensions.filters.common.fault.v3.FaultDelay",
        &["fixed_delay", "header_delay", "percentage"],
    ),
    Covered::new(
        "envoy.extensions.filters.common.fault.v3.FaultRateLimit",
        &["fixed_limit", "header_limit", "percentage"],
    ),
    Covered::new("envoy.extensions.filters.common.fault.v3.FaultRateLimit.FixedLimit", &["limit_kbps"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Fault>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.fault.`
    pub struct FaultStats {
        aborts_injected: Counter,
        delays_injected: Counter,
        faults_overflow: Counter,
        response_rl_injected: Counter,
        active_faults: Gauge,
        /// `<downstream cluster>.delays_injected` and `.aborts_injected`.
        by_cluster: CounterFamily = "",
    }
}

/// The filter.
pub struct Fault {
    settings: Arc<Settings>,
    /// The filter's own, not a route's: it switches off those of all clusters.
    no_cluster_stats: bool,
    stats: FaultStats,
    runtime: Arc<Runtime>,
    name: Box<str>,
}

/// What goes on with a stream.
#[derive(Default)]
pub struct Injected {
    active: Option<GaugeGuard>,
    /// The response is slowed down.
    limit: Option<Arc<TokenBucket>>,
}

/// Where the runtime may say otherwise for requests of one downstream cluster (`x-envoy-downstream-service-cluster`).
struct Cluster {
    name: String,
    /// Taking it takes a lock, which main holds for as long as it takes to write a pointer; only such requests need it.
    runtime: Arc<Snapshot>,
}

impl Cluster {
    fn key(&self, what: &str) -> String {
        format!("fault.http.{}.{what}", self.name)
    }
    fn number(&self, what: &str) -> Option<u64> {
        self.runtime.get(&self.key(what)).and_then(|v| v.number)
    }
}

/// Decides with a percentage that the runtime may replace: by the key of the downstream cluster when there is one, and
/// then not by the general one.
fn enabled(cluster: Option<(&Cluster, &str)>, key: &RuntimeFraction, configured: FractionalPercent) -> bool {
    let percent = match cluster {
        Some((c, what)) => c.runtime.fraction(&c.key(what)).unwrap_or(configured),
        None => key.get_or(configured),
    };
    percent.matches(rng::u64())
}

impl Fault {
    fn settings(&self, ex: &Exchange) -> Arc<Settings> {
        ex.route_config::<Settings>().unwrap_or_else(|| self.settings.clone())
    }
    fn concerns(&self, s: &Settings, ex: &Exchange) -> bool {
        let node = || ex.request.headers.get(name::X_ENVOY_DOWNSTREAM_SERVICE_NODE);
        let cluster = || {
            let route = ex.route();
            route.as_ref().and_then(|r| r.cluster(&ex.request, &ex.sx)).is_some_and(|c| *c == *s.cluster)
        };
        (s.cluster.is_empty() || cluster())
            && (s.nodes.is_empty() || node().is_some_and(|n| s.nodes.iter().any(|w| w.as_bytes() == n)))
            && matches_all(&s.headers, &ex.request.headers)
    }
    /// Counts the stream as one with a fault, once. False when there are too many.
    fn activate(&self, s: &Settings, st: &mut Injected) -> bool {
        if st.active.is_some() {
            return true;
        }
        let max = s.runtime.max_active.get();
        if max != u64::MAX && self.stats.active_faults().value() >= max {
            self.stats.faults_overflow().inc();
            return false;
        }
        st.active = Some(self.stats.active_faults().guard());
        true
    }
    fn count(&self, s: &Settings, cluster: Option<&Cluster>, what: &str) {
        if let Some(c) = cluster.filter(|c| !c.name.is_empty())
            && !s.no_cluster_stats
            && !self.no_cluster_stats
        {
            self.stats.by_cluster().get(&format!("{}.{what}", c.name)).inc();
        }
    }
    fn note(&self, s: &Settings, ex: &Exchange, flag: Flag) {
        ex.sx.info.set_flag(flag);
        let mut metadata = ex.sx.info.metadata.borrow_mut();
        metadata.get_or_insert_default().0.insert(self.name.to_string(), s.metadata.clone());
    }

    fn delay(&self, s: &Settings, cluster: Option<&Cluster>, ex: &Exchange) -> Option<Duration> {
        let (delay, headers) = (s.delay.as_ref()?, &ex.request.headers);
        let by_cluster = cluster.map(|c| (c, "delay.fixed_delay_percent"));
        if !enabled(by_cluster, &s.runtime.delay_percent, delay.percentage.of(headers)) {
            return None;
        }
        let configured = delay.millis(headers)?;
        let said = cluster.and_then(|c| c.number("delay.fixed_duration_ms"));
        let millis = said.or_else(|| s.runtime.delay_duration.said()).unwrap_or(configured);
        (millis > 0).then(|| Duration::from_millis(millis))
    }
    fn abort(&self, s: &Settings, cluster: Option<&Cluster>, ex: &Exchange) -> Option<Status> {
        let (abort, headers) = (s.abort.as_ref()?, &ex.request.headers);
        let by_cluster = cluster.map(|c| (c, "abort.abort_percent"));
        if !enabled(by_cluster, &s.runtime.abort_percent, abort.percentage.of(headers)) {
            return None;
        }
        // The key of the cluster, when there is a cluster, replaces what is configured and not what the general key says.
        let said = |what: &str, general: Option<u64>, configured: u64| match cluster {
            Some(c) => c.number(what).unwrap_or(configured),
            None => general.unwrap_or(configured),
        };
        Some(match abort.status(headers)? {
            Status::Http(n) => {
                let n = said("abort.http_status", s.runtime.http_status.said(), u64::from(n));
                // What is no status of a final response cannot be sent.
                Status::Http(u16::try_from(n).ok().filter(|n| (200..1000).contains(n)).unwrap_or(500))
            }
            Status::Grpc(n) => {
                Status::Grpc(said("abort.grpc_status", s.runtime.grpc_status.said(), u64::from(n)) as u32)
            }
        })
    }
    fn abort_with(
        &self,
        s: &Settings,
        cluster: Option<&Cluster>,
        ex: &Exchange,
        status: &Status,
    ) -> LocalReply {
        self.count(s, cluster, "aborts_injected");
        self.stats.aborts_injected().inc();
        self.note(s, ex, Flag::FaultInjected);
        let (http, grpc) = match *status {
            Status::Http(s) => (s, None),
            Status::Grpc(s) => (200, Some(s)),
        };
        let body = s.abort.as_ref().and_then(|a| a.body.clone());
        let mut reply = match body {
            Some(b) => LocalReply::new(http, b, "fault_filter_abort"),
            None => LocalReply::new(http, "fault filter abort", "fault_filter_abort"),
        };
        reply.grpc_status = grpc;
        reply
    }
    fn limit(&self, s: &Settings, st: &mut Injected, ex: &Exchange) {
        let (Some(rate), headers) = (&s.rate, &ex.request.headers) else { return };
        if enabled(None, &s.runtime.rate_percent, rate.percentage.of(headers))
            && let Some(kib) = rate.kib(headers)
            && self.activate(s, st)
        {
            self.stats.response_rl_injected().inc();
            st.limit = Some(Arc::new(bucket(kib, FILL_INTERVAL)));
        }
    }
}

impl HttpFilter for Fault {
    type Config = pb::HttpFault;
    type RouteConfig = pb::HttpFault;
    type Route = Settings;
    type Stream = Injected;

    fn new(config: pb::HttpFault, cx: &BuildCx<'_>) -> BuildResult<Fault> {
        let settings = Settings::new(config, cx)?;
        Ok(Fault {
            no_cluster_stats: settings.no_cluster_stats,
            settings: Arc::new(settings),
            stats: FaultStats::new(&cx.scope.scope("fault")),
            runtime: cx.server.runtime(),
            name: cx.name.into(),
        })
    }
    fn route(config: pb::HttpFault, cx: &BuildCx<'_>) -> BuildResult<Settings> {
        Settings::new(config, cx)
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Injected, ex: &'a mut Exchange) -> Step<'a> {
        let s = self.settings(ex);
        if !self.concerns(&s, ex) {
            return Step::Next;
        }
        let cluster = ex.request.headers.get(name::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER);
        let cluster = cluster.map(|n| Cluster {
            name: String::from_utf8_lossy(n).into_owned(),
            runtime: self.runtime.snapshot(),
        });
        self.limit(&s, st, ex);
        if let Some(delay) = self.delay(&s, cluster.as_ref(), ex)
            && self.activate(&s, st)
        {
            self.count(&s, cluster.as_ref(), "delays_injected");
            self.stats.delays_injected().inc();
            self.note(&s, ex, Flag::DelayInjected);
            return Step::wait(async move {
                sleep(TimerKind::Other, delay).await;
                match self.abort(&s, cluster.as_ref(), ex) {
                    Some(status) => Step::Reply(Box::new(self.abort_with(&s, cluster.as_ref(), ex, &status))),
                    None => {
                        if s.rate.is_none() {
                            st.active = None;
                        }
                        Step::Next
                    }
                }
            });
        }
        match self.abort(&s, cluster.as_ref(), ex) {
            Some(status) if self.activate(&s, st) => {
                Step::Reply(Box::new(self.abort_with(&s, cluster.as_ref(), ex, &status)))
            }
            _ => Step::Next,
        }
    }

    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Injected, ex: &'a mut Exchange) -> Step<'a> {
        if let Some(bucket) = st.limit.take()
            && !ex.response_body.is_end()
        {
            ex.response_body = throttle(ex.response_body.take(), bucket, FILL_INTERVAL, ());
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;

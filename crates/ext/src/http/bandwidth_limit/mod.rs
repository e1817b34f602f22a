use crate::config::{Switch, millis, root};
use crate::throttle::{FILL_INTERVAL, Watch, bucket, throttle};
use crate::token_bucket::TokenBucket;
use nuncio_api::envoy::extensions::filters::http::bandwidth_limit::v3 as pb;
use nuncio_core::clock;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::registry::Docs;
use nuncio_core::stats::GaugeGuard;
use nuncio_core::{BuildResult, Exchange, Registry, stats};
use nuncio_wire::HeaderMap;
use pb::bandwidth_limit::EnableMode;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.bandwidth_limit";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit",
    &[
        "stat_prefix",
        "enable_mode",
        "limit_kbps",
        "fill_interval",
        "runtime_enabled",
        "enable_response_trailers",
        "response_trailer_prefix",
    ],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<BandwidthLimit>(NAME, docs);
}

stats! {
    /// Below `<stat_prefix>.http_bandwidth_limit.`
    pub struct BandwidthStats {
        request_enabled: Counter,
        response_enabled: Counter,
        request_enforced: Counter,
        response_enforced: Counter,
        request_pending: Gauge,
        response_pending: Gauge,
        request_incoming_size: SetGauge,
        response_incoming_size: SetGauge,
        request_allowed_size: SetGauge,
        response_allowed_size: SetGauge,
        request_incoming_total_size: Counter,
        response_incoming_total_size: Counter,
        request_allowed_total_size: Counter,
        response_allowed_total_size: Counter,
        request_transfer_duration: Histogram(Milliseconds),
        response_transfer_duration: Histogram(Milliseconds),
    }
}

/// The filter.
pub struct BandwidthLimit(Arc<Limit>);

/// The limit of the filter, or of a route.
pub struct Limit {
    requests: bool,
    responses: bool,
    bucket: Arc<TokenBucket>,
    interval: Duration,
    enabled: Switch,
    trailers: bool,
    prefix: String,
    stats: BandwidthStats,
}

impl Limit {
    fn new(c: &pb::BandwidthLimit, cx: &BuildCx<'_>) -> Limit {
        let mode = c.enable_mode();
        let interval = millis(c.fill_interval.as_ref()).unwrap_or(FILL_INTERVAL);
        let prefix = &c.response_trailer_prefix;
        Limit {
            requests: matches!(mode, EnableMode::Request | EnableMode::RequestAndResponse),
            responses: matches!(mode, EnableMode::Response | EnableMode::RequestAndResponse),
            bucket: Arc::new(bucket(c.limit_kbps.unwrap_or(0), interval)),
            interval,
            enabled: Switch::new(c.runtime_enabled.as_ref(), cx),
            trailers: c.enable_response_trailers,
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{}-", prefix.to_ascii_lowercase())
            },
            stats: BandwidthStats::new(&root(cx.scope).scope(&c.stat_prefix).scope("http_bandwidth_limit")),
        }
    }
}

/// What is known of an exchange.
#[derive(Default)]
pub struct Passed {
    limit: Option<Arc<Limit>>,
    request: Rc<Times>,
}

/// How long the request took, and for how long it was held.
#[derive(Default)]
struct Times {
    duration: Cell<Duration>,
    held: Cell<Duration>,
}

struct Watcher {
    limit: Arc<Limit>,
    response: bool,
    begin: Option<(Instant, GaugeGuard)>,
    held: Duration,
    request: Rc<Times>,
}

impl Watcher {
    fn new(limit: &Arc<Limit>, response: bool, request: &Rc<Times>) -> Watcher {
        Watcher {
            limit: limit.clone(),
            response,
            begin: None,
            held: Duration::ZERO,
            request: request.clone(),
        }
    }
    fn add_trailers(&self, trailers: &mut HeaderMap, took: Duration) {
        for (name, time) in [
            ("bandwidth-request-delay-ms", self.request.duration.get()),
            ("bandwidth-request-filter-delay-ms", self.request.held.get()),
            ("bandwidth-response-delay-ms", took),
            ("bandwidth-response-filter-delay-ms", self.held),
        ] {
            let millis = time.as_millis();
            if millis > 0 {
                let name = format!("{}{name}", self.limit.prefix);
                trailers.set(&*name, millis.to_string().as_bytes());
            }
        }
    }
}

impl Watch for Watcher {
    fn arrived(&mut self, bytes: usize) {
        let s = &self.limit.stats;
        let (pending, size, total) = match self.response {
            false => (s.request_pending(), s.request_incoming_size(), s.request_incoming_total_size()),
            true => (s.response_pending(), s.response_incoming_size(), s.response_incoming_total_size()),
        };
        self.begin.get_or_insert_with(|| (clock::now(), pending.guard()));
        size.set(bytes as u64);
        total.add(bytes as u64);
    }
    fn passed(&mut self, bytes: usize, held: bool) {
        let s = &self.limit.stats;
        let (size, total, enforced) = match self.response {
            false => (s.request_allowed_size(), s.request_allowed_total_size(), s.request_enforced()),
            true => (s.response_allowed_size(), s.response_allowed_total_size(), s.response_enforced()),
        };
        size.set(bytes as u64);
        total.add(bytes as u64);
        if held {
            enforced.inc();
            self.held += self.limit.interval;
        }
    }
    fn ended(&mut self, trailers: Option<Box<HeaderMap>>) -> Option<Box<HeaderMap>> {
        if trailers.is_none() && self.begin.is_some() {
            // The end comes by itself, without a byte.
            let s = &self.limit.stats;
            if self.response { s.response_incoming_size() } else { s.request_incoming_size() }.set(0);
        }
        let Some((begin, _pending)) = self.begin.take() else { return trailers };
        let took = clock::now().saturating_duration_since(begin);
        let s = &self.limit.stats;
        if !self.response {
            s.request_transfer_duration().record(took.as_millis() as u64);
            self.request.duration.set(took);
            self.request.held.set(self.held);
            return trailers;
        }
        s.response_transfer_duration().record(took.as_millis() as u64);
        if !self.limit.trailers {
            return trailers;
        }
        let mut trailers = trailers.unwrap_or_default();
        self.add_trailers(&mut trailers, took);
        Some(trailers)
    }
}

impl HttpFilter for BandwidthLimit {
    type Config = pb::BandwidthLimit;
    type RouteConfig = pb::BandwidthLimit;
    type Route = Limit;
    type Stream = Passed;

    fn new(config: pb::BandwidthLimit, cx: &BuildCx<'_>) -> BuildResult<BandwidthLimit> {
        Ok(BandwidthLimit(Arc::new(Limit::new(&config, cx))))
    }
    fn route(config: pb::BandwidthLimit, cx: &BuildCx<'_>) -> BuildResult<Limit> {
        if config.limit_kbps.is_none() {
            return Err("limit must be set for per route filter config".into());
        }
        Ok(Limit::new(&config, cx))
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Passed, ex: &'a mut Exchange) -> Step<'a> {
        let limit = ex.route_config::<Limit>().unwrap_or_else(|| self.0.clone());
        if limit.requests && limit.enabled.get() {
            limit.stats.request_enabled().inc();
            if !ex.request_body.is_end() {
                let watch = Watcher::new(&limit, false, &st.request);
                ex.request_body =
                    throttle(ex.request_body.take(), limit.bucket.clone(), limit.interval, watch);
            }
        }
        st.limit = Some(limit);
        Step::Next
    }

    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Passed, ex: &'a mut Exchange) -> Step<'a> {
        let limit =
            st.limit.take().unwrap_or_else(|| ex.route_config::<Limit>().unwrap_or_else(|| self.0.clone()));
        if limit.responses && limit.enabled.get() {
            limit.stats.response_enabled().inc();
            if !ex.response_body.is_end() {
                let watch = Watcher::new(&limit, true, &st.request);
                ex.response_body =
                    throttle(ex.response_body.take(), limit.bucket.clone(), limit.interval, watch);
            }
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;

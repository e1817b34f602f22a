use crate::config::{fraction, root};
use crate::token_bucket::TokenBucket;
use nuncio_api::envoy::extensions::common::ratelimit::v3::{
    VhRateLimitsOptions, XRateLimitHeadersRfcVersion,
};
use nuncio_api::envoy::extensions::filters::http::local_ratelimit::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::filter_state::{LifeSpan, StateObject};
use nuncio_core::flags::Flag;
use nuncio_core::format::FormatCx;
use nuncio_core::header_rules::Rules;
use nuncio_core::rate_limit::{Descriptor, Place, Policy, VirtualHostLimits, of_route};
use nuncio_core::registry::Docs;
use nuncio_core::runtime::RuntimeFraction;
use nuncio_core::{BuildResult, Exchange, LocalReply, Registry, StreamShared, rng, stats};
use nuncio_wire::{HeaderMap, name};
use std::rc::Rc;
use std::sync::Arc;

mod limiter;

use limiter::{Limiter, Rates, Verdict};

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.local_ratelimit";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        &[
            "stat_prefix",
            "status",
            "token_bucket",
            "filter_enabled",
            "filter_enforced",
            "request_headers_to_add_when_not_enforced",
            "response_headers_to_add",
            "descriptors",
            "local_rate_limit_per_downstream_connection",
            "enable_x_ratelimit_headers",
            "always_consume_default_token_bucket",
            "rate_limited_as_resource_exhausted",
            "rate_limits",
            "max_dynamic_descriptors",
            "enable_retry_after_header",
            "stage",
            "vh_rate_limits",
        ],
    ),
    Covered::new(
        "envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor",
        &["entries", "token_bucket", "shadow_mode"],
    ),
    Covered::new("envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry", &["key", "value"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<LocalRateLimit>(NAME, docs);
}

stats! {
    /// Below `<stat_prefix>.http_local_rate_limit.`
    pub struct LocalRateLimitStats {
        enabled: Counter,
        enforced: Counter,
        rate_limited: Counter,
        ok: Counter,
        shadow_mode: Counter,
    }
}

/// The filter.
pub struct LocalRateLimit(Arc<Limit>);

/// The limit of the filter, or of a route.
pub struct Limit {
    rates: Rates,
    limiter: Limiter,
    /// Its own `rate_limits`; where it has none, those of the route hold.
    policies: Box<[Policy]>,
    stage: u32,
    of_host: VirtualHostLimits,
    per_connection: bool,
    enabled: Option<RuntimeFraction>,
    enforced: Option<RuntimeFraction>,
    status: u16,
    grpc_status: Option<u32>,
    request_headers: Rules,
    response_headers: Rules,
    x_headers: bool,
    retry_after: bool,
    stats: LocalRateLimitStats,
}

/// The buckets of one connection, in its filter state.
struct OfConnection(Limiter);
impl StateObject for OfConnection {}

/// Its name there. As in Envoy the first limit that comes there stays, also for another configuration.
const OF_CONNECTION: &str = "per_connection_local_rate_limiter";

/// RESOURCE_EXHAUSTED
const RESOURCE_EXHAUSTED: u32 = 8;

impl Limit {
    fn new(c: &pb::LocalRateLimit, cx: &BuildCx<'_>) -> BuildResult<Limit> {
        let rates = Rates::new(c)?;
        let status = c.status.as_ref().map_or(0, |s| s.code);
        Ok(Limit {
            limiter: rates.limiter(),
            rates,
            policies: Policy::list(&c.rate_limits, Place::FilterWithoutLimit, cx)?,
            stage: c.stage,
            of_host: match c.vh_rate_limits() {
                VhRateLimitsOptions::Override => VirtualHostLimits::Override,
                VhRateLimitsOptions::Include => VirtualHostLimits::Include,
                VhRateLimitsOptions::Ignore => VirtualHostLimits::Ignore,
            },
            per_connection: c.local_rate_limit_per_downstream_connection,
            enabled: c.filter_enabled.as_ref().map(|f| fraction(f, cx)),
            enforced: c.filter_enforced.as_ref().map(|f| fraction(f, cx)),
            status: u16::try_from(status).ok().filter(|s| *s >= 400).unwrap_or(429),
            grpc_status: c.rate_limited_as_resource_exhausted.then_some(RESOURCE_EXHAUSTED),
            request_headers: Rules::new(&c.request_headers_to_add_when_not_enforced, &[])?,
            response_headers: Rules::new(&c.response_headers_to_add, &[])?,
            x_headers: c.enable_x_ratelimit_headers() == XRateLimitHeadersRfcVersion::DraftVersion03,
            retry_after: c.enable_retry_after_header,
            stats: LocalRateLimitStats::new(
                &root(cx.scope).scope(&c.stat_prefix).scope("http_local_rate_limit"),
            ),
        })
    }
    fn take(&self, ex: &Exchange) -> Verdict {
        let descriptors = if self.rates.have_descriptors() { self.descriptors(ex) } else { vec![] };
        if !self.per_connection {
            return self.limiter.take(&descriptors);
        }
        let known = ex.sx.conn.filter_state.borrow().get_as::<OfConnection>(OF_CONNECTION);
        let limiter = known.unwrap_or_else(|| {
            let new = Rc::new(OfConnection(self.rates.limiter()));
            ex.sx.conn.filter_state.borrow_mut().set(OF_CONNECTION, LifeSpan::Connection, new.clone());
            new
        });
        limiter.0.take(&descriptors)
    }
    /// Of the filter's own policies, or else of those of the route.
    fn descriptors(&self, ex: &Exchange) -> Vec<Descriptor> {
        if !self.policies.is_empty() {
            let now = self.policies.iter().filter(|p| !p.on_stream_done());
            return now.filter_map(|p| p.descriptor(ex)).collect();
        }
        let Some(route) = ex.route() else { return vec![] };
        // As in Envoy one with a `disable_key` never holds here, and `apply_on_stream_done` means nothing.
        let policies = of_route(&*route, self.stage, self.of_host).filter(|p| !p.has_disable_key());
        policies.filter_map(|p| p.descriptor(ex)).collect()
    }
    fn refuse(&self, bucket: Option<&TokenBucket>, ex: &Exchange) -> LocalReply {
        let mut headers = HeaderMap::new();
        add(&self.response_headers, &mut headers, &ex.sx);
        if let Some(bucket) = bucket
            && self.retry_after
            && self.status == 429
            && !headers.contains(name::RETRY_AFTER)
        {
            headers.append(name::RETRY_AFTER, bucket.reset_seconds().max(1).to_string().as_bytes());
        }
        let mut reply =
            LocalReply::new(self.status, "local_rate_limited", "local_rate_limited").flag(Flag::RateLimited);
        reply.headers = Some(headers);
        reply.grpc_status = self.grpc_status;
        reply
    }
}

/// Adds configured headers. As in Envoy their formats see the stream, and neither request nor response.
fn add(rules: &Rules, headers: &mut HeaderMap, sx: &StreamShared) {
    if rules.is_empty() {
        return;
    }
    let route = sx.current_route();
    let cx = FormatCx { route: route.as_deref(), ..FormatCx::new(&sx.info, &sx.conn) };
    rules.make(headers, &cx).apply(headers);
}

impl HttpFilter for LocalRateLimit {
    type Config = pb::LocalRateLimit;
    type RouteConfig = pb::LocalRateLimit;
    type Route = Limit;
    /// The bucket that response headers speak of, where they are wanted.
    type Stream = Option<Arc<TokenBucket>>;

    fn new(config: pb::LocalRateLimit, cx: &BuildCx<'_>) -> BuildResult<LocalRateLimit> {
        Limit::new(&config, cx).map(|l| LocalRateLimit(Arc::new(l)))
    }
    fn route(config: pb::LocalRateLimit, cx: &BuildCx<'_>) -> BuildResult<Limit> {
        if config.token_bucket.is_none() {
            return Err("local rate limit token bucket must be set for per filter configs".into());
        }
        Limit::new(&config, cx)
    }

    fn on_request<'a>(
        self: &'a Arc<Self>,
        st: &'a mut Option<Arc<TokenBucket>>,
        ex: &'a mut Exchange,
    ) -> Step<'a> {
        let limit = ex.route_config::<Limit>();
        let limit = limit.as_ref().unwrap_or(&self.0);
        let decides = |f: &Option<RuntimeFraction>| f.as_ref().is_some_and(|f| f.matches(rng::u64()));
        if !decides(&limit.enabled) {
            return Step::Next;
        }
        limit.stats.enabled().inc();
        let verdict = limit.take(ex);
        if limit.x_headers {
            st.clone_from(&verdict.bucket);
        }
        if verdict.allowed && !verdict.shadow {
            limit.stats.ok().inc();
            return Step::Next;
        }
        limit.stats.rate_limited().inc();
        if verdict.allowed {
            limit.stats.shadow_mode().inc();
            return Step::Next;
        }
        if !decides(&limit.enforced) {
            add(&limit.request_headers, &mut ex.request.headers, &ex.sx);
            return Step::Next;
        }
        limit.stats.enforced().inc();
        Step::Reply(Box::new(limit.refuse(verdict.bucket.as_deref(), ex)))
    }

    fn on_response<'a>(
        self: &'a Arc<Self>,
        st: &'a mut Option<Arc<TokenBucket>>,
        ex: &'a mut Exchange,
    ) -> Step<'a> {
        if let (Some(bucket), Some(response)) = (st, &mut ex.response) {
            let mut add = |name: &str, n: u64| response.headers.append(name, n.to_string().as_bytes());
            add("x-ratelimit-limit", bucket.max());
            add("x-ratelimit-remaining", bucket.remaining());
            add("x-ratelimit-reset", bucket.reset_seconds());
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;

use crate::config::{fraction, millis, request_cx, root};
use nuncio_api::envoy::extensions::common::ratelimit::v3 as common;
use nuncio_api::envoy::extensions::filters::http::ratelimit::v3 as pb;
use nuncio_api::envoy::service::ratelimit::v3 as rls;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::filter_state::NumberObject;
use nuncio_core::flags::Flag;
use nuncio_core::format::FormatCx;
use nuncio_core::grpc::{Client, Status};
use nuncio_core::header_rules::Rules;
use nuncio_core::rate_limit::{Descriptor, Place, Policy, VirtualHostLimits, of_route};
use nuncio_core::registry::Docs;
use nuncio_core::route::Route;
use nuncio_core::runtime::{RuntimeFraction, RuntimeNumber};
use nuncio_core::stats::sanitize;
use nuncio_core::upstreams::ChargeCluster;
use nuncio_core::{BuildResult, Exchange, LocalReply, Registry, rng, stats};
use nuncio_wire::{HeaderMap, name};
use rls::rate_limit_response::Code;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

mod quota;
#[cfg(test)]
mod tests;

/// Its well-known name, and the name space of the metadata that the service returns.
pub const NAME: &str = "envoy.filters.http.ratelimit";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        &[
            "domain",
            "stage",
            "request_type",
            "timeout",
            "failure_mode_deny",
            "rate_limited_as_resource_exhausted",
            "rate_limit_service",
            "enable_x_ratelimit_headers",
            "disable_x_envoy_ratelimited_header",
            "rate_limited_status",
            "response_headers_to_add",
            "status_on_error",
            "stat_prefix",
            "filter_enabled",
            "filter_enforced",
            "failure_mode_deny_percent",
            "rate_limits",
            "metadata_namespace",
            "enable_retry_after_header",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
        &["vh_rate_limits", "rate_limits", "domain"],
    ),
    Covered::new(
        "envoy.config.ratelimit.v3.RateLimitServiceConfig",
        &["grpc_service", "transport_api_version"],
    ),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<RateLimit>(NAME, docs);
}

stats! {
    /// Below `cluster.`: by the cluster that the request goes to.
    pub struct ByCluster {
        counters: CounterFamily = "",
    }
}

/// The method that is called.
pub(crate) const METHOD: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// How long the service may take when `timeout` does not say.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(20);
/// A number in the filter state that the service is told as `hits_addend`.
pub(crate) const HITS_ADDEND: &str = "envoy.ratelimit.hits_addend";
/// RESOURCE_EXHAUSTED
const RESOURCE_EXHAUSTED: u32 = 8;

/// The filter.
pub struct RateLimit {
    client: Client,
    timeout: Option<Duration>,
    domain: String,
    stage: u32,
    /// `request_type`: only requests from inside (or only those from outside).
    internal_only: Option<bool>,
    deny: Result<RuntimeFraction, bool>,
    enabled: Result<RuntimeFraction, RuntimeNumber>,
    enforced: Result<RuntimeFraction, RuntimeNumber>,
    grpc_status: Option<u32>,
    x_headers: bool,
    limited_header: bool,
    retry_after: bool,
    status: u16,
    status_on_error: u16,
    response_headers: Rules,
    policies: Box<[Policy]>,
    metadata_namespace: String,
    by_cluster: ByCluster,
    /// `ratelimit.` or `ratelimit.<stat_prefix>.`
    prefix: String,
    charges: Option<Arc<dyn ChargeCluster>>,
}

/// What a route says.
pub struct OfRoute {
    of_host: VirtualHostLimits,
    policies: Box<[Policy]>,
    domain: String,
}

/// What is kept of a request that the service is asked about.
pub struct Asked {
    route: Arc<dyn Route>,
    specific: Option<Arc<OfRoute>>,
    /// The service has not answered.
    calling: bool,
    response_headers: HeaderMap,
}

fn decides(f: &Result<RuntimeFraction, RuntimeNumber>) -> bool {
    match f {
        Ok(fraction) => fraction.matches(rng::u64()),
        Err(percent) => percent.percent(),
    }
}

impl HttpFilter for RateLimit {
    type Config = pb::RateLimit;
    type RouteConfig = pb::RateLimitPerRoute;
    type Route = OfRoute;
    type Stream = Option<Box<Asked>>;

    fn new(c: pb::RateLimit, cx: &BuildCx<'_>) -> BuildResult<RateLimit> {
        let client = service(c.rate_limit_service.as_ref(), cx)?;
        let status = |s: &Option<nuncio_api::envoy::r#type::v3::HttpStatus>, least: u16, default: u16| {
            let code = s.as_ref().and_then(|s| u16::try_from(s.code).ok());
            code.filter(|s| *s >= least).unwrap_or(default)
        };
        let or_percent = |f: &Option<_>, key: &str| match f {
            Some(f) => Ok(fraction(f, cx)),
            None => Err(cx.server.runtime().number(key, 100)),
        };
        let namespace = if c.metadata_namespace.is_empty() { NAME } else { &c.metadata_namespace };
        Ok(RateLimit {
            client,
            timeout: timeout(c.timeout.as_ref()),
            stage: c.stage,
            internal_only: match &*c.request_type {
                "internal" => Some(true),
                "external" => Some(false),
                _ => None,
            },
            deny: c.failure_mode_deny_percent.as_ref().map(|f| fraction(f, cx)).ok_or(c.failure_mode_deny),
            enabled: or_percent(&c.filter_enabled, "ratelimit.http_filter_enabled"),
            enforced: or_percent(&c.filter_enforced, "ratelimit.http_filter_enforcing"),
            grpc_status: c.rate_limited_as_resource_exhausted.then_some(RESOURCE_EXHAUSTED),
            x_headers: c.enable_x_ratelimit_headers()
                == pb::rate_limit::XRateLimitHeadersRfcVersion::DraftVersion03,
            limited_header: !c.disable_x_envoy_ratelimited_header,
            retry_after: c.enable_retry_after_header,
            status: status(&c.rate_limited_status, 400, 429),
            status_on_error: status(&c.status_on_error, 100, 500),
            response_headers: Rules::new(&c.response_headers_to_add, &[])?,
            policies: Policy::list(&c.rate_limits, Place::Filter, cx)?,
            metadata_namespace: namespace.to_owned(),
            by_cluster: ByCluster::new(&root(cx.scope).scope("cluster")),
            prefix: match &*c.stat_prefix {
                "" => "ratelimit.".to_owned(),
                p => format!("ratelimit.{p}."),
            },
            charges: cx.server.charges(),
            domain: c.domain,
        })
    }
    fn route(c: pb::RateLimitPerRoute, cx: &BuildCx<'_>) -> BuildResult<OfRoute> {
        use pb::rate_limit_per_route::VhRateLimitsOptions as V;
        Ok(OfRoute {
            of_host: match c.vh_rate_limits() {
                V::Override => VirtualHostLimits::Override,
                V::Include => VirtualHostLimits::Include,
                V::Ignore => VirtualHostLimits::Ignore,
            },
            policies: Policy::list(&c.rate_limits, Place::Filter, cx)?,
            domain: c.domain,
        })
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Self::Stream, ex: &'a mut Exchange) -> Step<'a> {
        if !decides(&self.enabled) {
            return Step::Next;
        }
        let internal = ex.request.headers.get(name::X_ENVOY_INTERNAL) == Some(b"true");
        if self.internal_only.is_some_and(|only| only != internal) {
            return Step::Next;
        }
        let Some(route) = ex.route() else { return Step::Next };
        let Some(cluster) = route.cluster(&ex.request, &ex.sx).map(Cow::into_owned) else {
            return Step::Next;
        };
        if self.charges.as_ref().is_some_and(|c| !c.exists(&cluster)) {
            return Step::Next;
        }
        let specific = ex.route_config::<OfRoute>();
        let (descriptors, later) = self.descriptors(&*route, specific.as_deref(), false, ex);
        if descriptors.is_empty() && !later {
            return Step::Next;
        }
        let calling = !descriptors.is_empty();
        let st = st.insert(Box::new(Asked { route, specific, calling, response_headers: HeaderMap::new() }));
        if !calling {
            return Step::Next;
        }
        let request = self.request(st.specific.as_deref(), descriptors, ex);
        Step::wait(async move {
            let answer = self.client.unary(METHOD, &request, self.timeout, Some(&ex.sx)).await;
            st.calling = false;
            self.decide(answer, &cluster, st, ex)
        })
    }
    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Self::Stream, ex: &'a mut Exchange) -> Step<'a> {
        if let (Some(st), Some(head)) = (st, &mut ex.response) {
            let headers = std::mem::take(&mut st.response_headers);
            headers.iter().for_each(|h| head.headers.append(h.name, h.value));
        }
        Step::Next
    }
    fn on_done(self: &Arc<Self>, st: &mut Self::Stream, ex: &Exchange) {
        let Some(st) = st.as_ref().filter(|st| !st.calling) else { return };
        let (descriptors, _) = self.descriptors(&*st.route, st.specific.as_deref(), true, ex);
        if descriptors.is_empty() {
            return;
        }
        let (client, timeout) = (self.client.clone(), self.timeout);
        let request = self.request(st.specific.as_deref(), descriptors, ex);
        ex.sx.detach(async move {
            // Nobody waits for what it says.
            let _ = client.unary::<rls::RateLimitResponse>(METHOD, &request, timeout, None).await;
        });
    }
}

/// The client of a service.
///
/// # Errors
/// There is none, or its configuration is refused.
pub(crate) fn service(
    s: Option<&nuncio_api::envoy::config::ratelimit::v3::RateLimitServiceConfig>,
    cx: &BuildCx<'_>,
) -> BuildResult<Client> {
    let s = s.ok_or("field: \"rate_limit_service\", reason: is required")?;
    if s.transport_api_version != 2 {
        return Err(
            "V2 .and AUTO xDS transport protocol versions are deprecated in rate_limit_service".into()
        );
    }
    let service = s.grpc_service.as_ref().ok_or("field: \"grpc_service\", reason: is required")?;
    Client::new(service, cx)
}

/// How long a service may take; `None` is no limit.
pub(crate) fn timeout(t: Option<&prost_types::Duration>) -> Option<Duration> {
    Some(millis(t).unwrap_or(TIMEOUT)).filter(|t| !t.is_zero())
}

/// The message for a list of descriptors.
pub(crate) fn message(domain: &str, descriptors: Vec<Descriptor>, hits_addend: u32) -> rls::RateLimitRequest {
    use common::rate_limit_descriptor as d;
    let one = |from: Descriptor| common::RateLimitDescriptor {
        entries: from.entries.into_iter().map(|(key, value)| d::Entry { key, value }).collect(),
        limit: from.limit.map(|(requests_per_unit, unit)| d::RateLimitOverride {
            requests_per_unit,
            unit,
            ..Default::default()
        }),
        hits_addend: from.hits,
        ..Default::default()
    };
    rls::RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: descriptors.into_iter().map(one).collect(),
        hits_addend,
    }
}

impl RateLimit {
    /// The descriptors of a request; and whether there are policies that hold when it is over.
    fn descriptors(
        &self,
        route: &dyn Route,
        specific: Option<&OfRoute>,
        done: bool,
        ex: &Exchange,
    ) -> (Vec<Descriptor>, bool) {
        let (mut found, mut later) = (vec![], false);
        let mut add = |p: &Policy| {
            later |= p.on_stream_done();
            if p.on_stream_done() == done {
                found.extend(p.descriptor(ex));
            }
        };
        if let Some(own) = specific.filter(|s| !s.policies.is_empty()) {
            own.policies.iter().for_each(add);
        } else if !self.policies.is_empty() {
            self.policies.iter().for_each(add);
        } else {
            let of_host = specific.map_or_else(VirtualHostLimits::default, |s| s.of_host);
            of_route(route, self.stage, of_host).filter(|p| p.enabled()).for_each(&mut add);
        }
        (found, later)
    }
    fn request(
        &self,
        specific: Option<&OfRoute>,
        descriptors: Vec<Descriptor>,
        ex: &Exchange,
    ) -> rls::RateLimitRequest {
        let own = specific.map(|s| &s.domain).filter(|d| !d.is_empty());
        let hits = ex.sx.info.filter_state.borrow().get_as::<NumberObject>(HITS_ADDEND).map_or(0, |n| n.0);
        message(own.unwrap_or(&self.domain), descriptors, hits)
    }
    fn count(&self, cluster: &str, what: &str) {
        self.by_cluster.counters().get(&format!("{}.{}{what}", sanitize(cluster), self.prefix)).inc();
    }
    /// Does what the service says.
    fn decide(
        &self,
        answer: Result<rls::RateLimitResponse, Status>,
        cluster: &str,
        st: &mut Asked,
        ex: &mut Exchange,
    ) -> Step<'static> {
        let Ok(answer) = answer else { return self.error(cluster) };
        let over = answer.overall_code() == Code::OverLimit;
        let h = &mut st.response_headers;
        for add in &answer.response_headers_to_add {
            h.append(add.key.to_ascii_lowercase().as_str(), add.value.as_bytes());
        }
        if let Some(s) = answer.dynamic_metadata.filter(|s| !s.fields.is_empty()) {
            ex.sx.info.set_metadata(&self.metadata_namespace, s);
        }
        self.count(cluster, if over { "over_limit" } else { "ok" });
        if over {
            if let Some(charges) = &self.charges {
                charges.charge_internal(cluster, self.status);
            }
            if self.limited_header {
                h.set(name::X_ENVOY_RATELIMITED, b"true");
            }
        }
        if self.x_headers {
            quota::headers(&answer.statuses, h);
        }
        if !(over && decides(&self.enforced)) {
            for add in &answer.request_headers_to_add {
                ex.request.headers.append(add.key.to_ascii_lowercase().as_str(), add.value.as_bytes());
            }
            return Step::Next;
        }
        if self.retry_after
            && self.status == 429
            && !h.contains(name::RETRY_AFTER)
            && let Some(seconds) = quota::reset(&answer.statuses)
        {
            h.append(name::RETRY_AFTER, seconds.max(1).to_string().as_bytes());
        }
        let mut headers = std::mem::take(h);
        self.add_headers(&mut headers, ex);
        let mut reply =
            LocalReply::new(self.status, answer.raw_body, "request_rate_limited").flag(Flag::RateLimited);
        reply.headers = Some(headers);
        reply.grpc_status = self.grpc_status;
        Step::Reply(Box::new(reply))
    }
    /// `response_headers_to_add`
    fn add_headers(&self, headers: &mut HeaderMap, ex: &Exchange) {
        if self.response_headers.is_empty() {
            return;
        }
        let route = ex.sx.current_route();
        let cx = request_cx(&ex.request.headers, &ex.sx, route.as_deref());
        let cx = FormatCx { response: Some((self.status, headers)), ..cx };
        let made = self.response_headers.make(headers, &cx);
        made.apply(headers);
    }
    /// The service failed.
    fn error(&self, cluster: &str) -> Step<'static> {
        self.count(cluster, "error");
        let denies = match &self.deny {
            Ok(fraction) => fraction.matches(rng::u64()),
            Err(deny) => *deny,
        };
        if !denies {
            self.count(cluster, "failure_mode_allowed");
            return Step::Next;
        }
        let reply = LocalReply::new(self.status_on_error, "", "rate_limiter_error");
        Step::Reply(Box::new(reply.flag(Flag::RateLimitServiceError)))
    }
}

use crate::config::fraction;
use nuncio_api::envoy::extensions::filters::http::csrf::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::matchers::StringMatcher;
use nuncio_core::registry::Docs;
use nuncio_core::runtime::RuntimeFraction;
use nuncio_core::{BuildError, BuildResult, Exchange, Registry, rng, stats};
use nuncio_wire::{RequestHead, name};
use std::sync::Arc;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.csrf";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
    &["filter_enabled", "shadow_enabled", "additional_origins"],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Csrf>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.csrf.`
    pub struct CsrfStats {
        missing_source_origin: Counter,
        request_invalid: Counter,
        request_valid: Counter,
    }
}

/// The filter.
pub struct Csrf {
    policy: Arc<Policy>,
    stats: CsrfStats,
}

/// The policy of the filter, or of a route.
pub struct Policy {
    enabled: RuntimeFraction,
    shadow: Option<RuntimeFraction>,
    origins: Vec<StringMatcher>,
}

impl Policy {
    fn new(config: &pb::CsrfPolicy, cx: &BuildCx<'_>) -> BuildResult<Policy> {
        let enabled = config.filter_enabled.as_ref();
        let required = || BuildError::from("field: \"filter_enabled\", reason: is required");
        Ok(Policy {
            enabled: fraction(enabled.ok_or_else(required)?, cx),
            shadow: config.shadow_enabled.as_ref().map(|f| fraction(f, cx)),
            origins: config.additional_origins.iter().map(StringMatcher::new).collect::<BuildResult<_>>()?,
        })
    }
    fn accepts(&self, source: &[u8], head: &RequestHead) -> bool {
        source == head.authority() || self.origins.iter().any(|m| m.matches(source))
    }
}

/// Host and port of an absolute URL; what is none stays as it is.
fn host_and_port(url: &[u8]) -> &[u8] {
    let Some(at) = url.windows(3).position(|w| w == b"://") else { return url };
    let rest = &url[at + 3..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let authority = &rest[..end];
    // Envoy finds no host in one that names a user.
    if authority.contains(&b'@') {
        return b"";
    }
    if authority.is_empty() { url } else { authority }
}

/// Where the request comes from: `origin`, or else `referer`; empty when neither says.
fn source(head: &RequestHead) -> &[u8] {
    match head.headers.get(name::ORIGIN) {
        Some(b"null") => b"",
        Some(origin) if !origin.is_empty() => host_and_port(origin),
        _ => host_and_port(head.headers.get(name::REFERER).unwrap_or_default()),
    }
}

impl HttpFilter for Csrf {
    type Config = pb::CsrfPolicy;
    type RouteConfig = pb::CsrfPolicy;
    type Route = Policy;
    type Stream = ();

    fn new(config: pb::CsrfPolicy, cx: &BuildCx<'_>) -> BuildResult<Csrf> {
        let policy = Arc::new(Policy::new(&config, cx)?);
        Ok(Csrf { policy, stats: CsrfStats::new(&cx.scope.scope("csrf")) })
    }
    fn route(config: pb::CsrfPolicy, cx: &BuildCx<'_>) -> BuildResult<Policy> {
        Policy::new(&config, cx)
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        let policy = ex.route_config::<Policy>();
        let policy = policy.as_ref().unwrap_or(&self.policy);
        let enabled = policy.enabled.matches(rng::u64());
        let shadow = || policy.shadow.as_ref().is_some_and(|f| f.matches(rng::u64()));
        if !enabled && !shadow() {
            return Step::Next;
        }
        if !matches!(ex.request.method(), b"POST" | b"PUT" | b"DELETE" | b"PATCH") {
            return Step::Next;
        }
        let source = source(&ex.request);
        if source.is_empty() {
            self.stats.missing_source_origin().inc();
        } else if policy.accepts(source, &ex.request) {
            self.stats.request_valid().inc();
            return Step::Next;
        } else {
            self.stats.request_invalid().inc();
        }
        if enabled { Step::reply(403, "Invalid origin", "csrf_origin_mismatch") } else { Step::Next }
    }
}

#[cfg(test)]
mod tests;

use crate::config::fraction;
use nuncio_api::envoy::extensions::filters::http::cors::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::matchers::StringMatcher;
use nuncio_core::registry::Docs;
use nuncio_core::runtime::RuntimeFraction;
use nuncio_core::{BuildResult, Exchange, LocalReply, Registry, rng, stats};
use nuncio_wire::name;
use smallvec::SmallVec;
use std::sync::Arc;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.cors";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.extensions.filters.http.cors.v3.Cors", &[]),
    Covered::new(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        &[
            "allow_origin_string_match",
            "allow_methods",
            "allow_headers",
            "expose_headers",
            "max_age",
            "allow_credentials",
            "filter_enabled",
            "shadow_enabled",
            "allow_private_network_access",
            "forward_not_matching_preflights",
        ],
    ),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Cors>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.cors.`
    pub struct CorsStats {
        origin_valid: Counter,
        origin_invalid: Counter,
    }
}

/// The filter; all it does is configured per route.
pub struct Cors {
    stats: CorsStats,
}

/// The policy of one level of the route configuration.
pub struct Policy {
    origins: Vec<StringMatcher>,
    methods: String,
    headers: String,
    expose: String,
    max_age: String,
    credentials: Option<bool>,
    private_network: Option<bool>,
    forward_preflights: Option<bool>,
    enabled: Option<RuntimeFraction>,
    shadow: Option<RuntimeFraction>,
}

impl Policy {
    fn new(config: pb::CorsPolicy, cx: &BuildCx<'_>) -> BuildResult<Policy> {
        Ok(Policy {
            origins: config
                .allow_origin_string_match
                .iter()
                .map(StringMatcher::new)
                .collect::<BuildResult<_>>()?,
            methods: config.allow_methods,
            headers: config.allow_headers,
            expose: config.expose_headers,
            max_age: config.max_age,
            credentials: config.allow_credentials,
            private_network: config.allow_private_network_access,
            forward_preflights: config.forward_not_matching_preflights,
            enabled: config.filter_enabled.as_ref().map(|f| fraction(f, cx)),
            shadow: config.shadow_enabled.as_ref().map(|f| fraction(f, cx)),
        })
    }
    fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|m| m.matches(b"*") || m.matches(origin))
    }
}

/// What a request found: the policies of its route, from the most specific one on, and whether its origin is one of theirs.
#[derive(Default)]
pub struct Seen {
    policies: SmallVec<[Arc<Policy>; 4]>,
    origin: Option<Box<[u8]>>,
}

impl Seen {
    /// The first level that says anything of `what`.
    fn text(&self, what: fn(&Policy) -> &String) -> &str {
        self.policies.iter().map(|p| &**what(p)).find(|t| !t.is_empty()).unwrap_or_default()
    }
    fn flag(&self, what: fn(&Policy) -> Option<bool>, default: bool) -> bool {
        self.policies.iter().find_map(|p| what(p)).unwrap_or(default)
    }
    /// The origins of the first level that lists some.
    fn allows(&self, origin: &[u8]) -> bool {
        self.policies.iter().find(|p| !p.origins.is_empty()).is_some_and(|p| p.allows(origin))
    }
    /// The answer to a preflight request.
    fn preflight(&self, ex: &Exchange, allowed: bool, origin: &[u8]) -> LocalReply {
        let request = |name| ex.request.headers.get(name).unwrap_or_default();
        let mut reply = LocalReply { as_is: true, ..LocalReply::new(200, "", "cors_response") };
        if allowed {
            reply = reply.header(name::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        if self.flag(|p| p.credentials, false) {
            reply = reply.header(name::ACCESS_CONTROL_ALLOW_CREDENTIALS, b"true");
        }
        for (name, text, asked) in [
            (
                name::ACCESS_CONTROL_ALLOW_METHODS,
                self.text(|p| &p.methods),
                name::ACCESS_CONTROL_REQUEST_METHOD,
            ),
            (
                name::ACCESS_CONTROL_ALLOW_HEADERS,
                self.text(|p| &p.headers),
                name::ACCESS_CONTROL_REQUEST_HEADERS,
            ),
        ] {
            // A star allows what is asked for: browsers do not take it as one when they send credentials.
            match text {
                "" => {}
                "*" => reply = reply.header(name, request(asked)),
                text => reply = reply.header(name, text.as_bytes()),
            }
        }
        let max_age = self.text(|p| &p.max_age);
        if !max_age.is_empty() {
            reply = reply.header(name::ACCESS_CONTROL_MAX_AGE, max_age.as_bytes());
        }
        if self.flag(|p| p.private_network, false)
            && request(name::ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK) == b"true"
        {
            reply = reply.header(name::ACCESS_CONTROL_ALLOW_PRIVATE_NETWORK, b"true");
        }
        reply
    }
}

impl HttpFilter for Cors {
    type Config = pb::Cors;
    type RouteConfig = pb::CorsPolicy;
    type Route = Policy;
    type Stream = Seen;

    fn new(_: pb::Cors, cx: &BuildCx<'_>) -> BuildResult<Cors> {
        Ok(Cors { stats: CorsStats::new(&cx.scope.scope("cors")) })
    }
    fn route(config: pb::CorsPolicy, cx: &BuildCx<'_>) -> BuildResult<Policy> {
        Policy::new(config, cx)
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Seen, ex: &'a mut Exchange) -> Step<'a> {
        let policies = ex.route_configs::<Policy>();
        let Some(first) = policies.first() else { return Step::Next };
        // One that answers by itself has no policy, as in Envoy.
        if ex.route().is_none_or(|r| r.cluster(&ex.request, &ex.sx).is_none()) {
            return Step::Next;
        }
        let enabled = first.enabled.as_ref().is_none_or(|f| f.matches(rng::u64()));
        let shadow = || first.shadow.as_ref().is_some_and(|f| f.matches(rng::u64()));
        if !enabled && !shadow() {
            return Step::Next;
        }
        let Some(origin) = ex.request.headers.get(name::ORIGIN).filter(|o| !o.is_empty()) else {
            return Step::Next;
        };
        st.policies = policies;
        let allowed = st.allows(origin);
        if allowed {
            self.stats.origin_valid().inc();
        } else {
            self.stats.origin_invalid().inc();
        }
        if !enabled {
            return Step::Next;
        }
        let asks = ex.request.headers.get(name::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|m| !m.is_empty());
        let preflight = ex.request.method() == b"OPTIONS" && asks;
        let reply = (preflight && (allowed || !st.flag(|p| p.forward_preflights, true)))
            .then(|| Box::new(st.preflight(ex, allowed, origin)));
        if allowed {
            st.origin = Some(origin.into());
        }
        reply.map_or(Step::Next, Step::Reply)
    }

    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Seen, ex: &'a mut Exchange) -> Step<'a> {
        let (Some(origin), Some(response)) = (&st.origin, &mut ex.response) else { return Step::Next };
        let headers = &mut response.headers;
        headers.set(name::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if st.flag(|p| p.credentials, false) {
            headers.set(name::ACCESS_CONTROL_ALLOW_CREDENTIALS, b"true");
        }
        let expose = st.text(|p| &p.expose);
        if !expose.is_empty() {
            headers.set(name::ACCESS_CONTROL_EXPOSE_HEADERS, expose.as_bytes());
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;

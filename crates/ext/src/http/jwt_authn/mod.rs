use nuncio_api::envoy::extensions::filters::http::jwt_authn::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildError, BuildResult, Exchange, LocalReply, Registry, stats};
use nuncio_wire::{RequestHead, name};
use pb::per_route_config::RequirementSpecifier;
use pb::requirement_rule::RequirementType;
use provider::Provider;
use requirement::{Outcome, Requirement};
use rule::Rule;
use std::collections::BTreeMap;
use std::sync::Arc;

mod jwks;
mod provider;
mod remote;
mod requirement;
mod rule;
mod status;
#[cfg(test)]
mod tests;
mod token;

/// Its well-known name, and the name space of the metadata it sets.
pub const NAME: &str = "envoy.filters.http.jwt_authn";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        &[
            "providers",
            "rules",
            "bypass_cors_preflight",
            "requirement_map",
            "strip_failure_response",
            "stat_prefix",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider",
        &[
            "issuer",
            "audiences",
            "subjects",
            "require_expiration",
            "max_lifetime",
            "remote_jwks",
            "local_jwks",
            "forward",
            "from_headers",
            "from_params",
            "from_cookies",
            "forward_payload_header",
            "pad_forward_payload_header",
            "payload_in_metadata",
            "normalize_payload_in_metadata",
            "header_in_metadata",
            "clock_skew_seconds",
            "claim_to_headers",
            "clear_route_cache",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.RemoteJwks",
        &["http_uri", "cache_duration", "retry_policy", "async_fetch"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.JwksAsyncFetch",
        &["fast_listener", "failed_refetch_duration"],
    ),
    Covered::new("envoy.extensions.filters.http.jwt_authn.v3.JwtHeader", &["name", "value_prefix"]),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.JwtClaimToHeader",
        &["header_name", "claim_name"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.RequirementRule",
        &["match", "requires", "requirement_name"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig",
        &["disabled", "requirement_name"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider.NormalizePayload",
        &["space_delimited_claims"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement",
        &[
            "provider_name",
            "provider_and_audiences",
            "requires_any",
            "requires_all",
            "allow_missing_or_failed",
            "allow_missing",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.http.jwt_authn.v3.ProviderWithAudiences",
        &["provider_name", "audiences"],
    ),
    Covered::new("envoy.extensions.filters.http.jwt_authn.v3.JwtRequirementOrList", &["requirements"]),
    Covered::new("envoy.extensions.filters.http.jwt_authn.v3.JwtRequirementAndList", &["requirements"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<JwtAuthn>(NAME, docs);
}

stats! {
    /// `http.<stat_prefix>.jwt_authn.<stat_prefix of the filter>.`
    pub struct JwtStats {
        allowed: Counter,
        cors_preflight_bypassed: Counter,
        denied: Counter,
        jwks_fetch_failed: Counter,
        jwks_fetch_success: Counter,
        jwt_cache_hit: Counter,
        jwt_cache_miss: Counter,
    }
}

/// Providers by name.
pub type Providers = Arc<[(String, Arc<Provider>)]>;

/// The filter.
pub struct JwtAuthn {
    rules: Vec<(Rule, Option<Arc<Requirement>>)>,
    by_name: BTreeMap<String, Arc<Requirement>>,
    bypass_preflight: bool,
    strip: bool,
    stats: JwtStats,
}

/// `PerRouteConfig`
pub enum OfRoute {
    /// `disabled`
    Disabled,
    /// `requirement_name`
    Named(String),
}

/// The longest path that a refusal names.
const MOST_OF_PATH: usize = 256;

impl JwtAuthn {
    fn wrong_name(&self, name: &str) -> String {
        wrong_name(name, &self.by_name)
    }
    fn refuse(&self, status: status::Status, uri: &str) -> LocalReply {
        use status::Status;
        let code = if status == Status::AudienceNotAllowed { 403 } else { 401 };
        let text = status.text();
        if self.strip {
            return LocalReply::new(code, "", details(text));
        }
        let mut challenge = format!("Bearer realm=\"{uri}\"");
        if status != Status::Missed {
            challenge.push_str(", error=\"invalid_token\"");
        }
        LocalReply::new(code, text, details(text)).header(name::WWW_AUTHENTICATE, challenge.as_bytes())
    }
}

fn wrong_name(name: &str, all: &BTreeMap<String, Arc<Requirement>>) -> String {
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    format!("Wrong requirement_name: {name}. It should be one of [{}]", names.join(","))
}

fn details(text: &str) -> String {
    format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_"))
}

/// The URL of a request as its client wrote it.
fn original_uri(head: &RequestHead) -> String {
    let path = head.headers.get(name::X_ENVOY_ORIGINAL_PATH).unwrap_or(head.path());
    let path = &path[..path.len().min(MOST_OF_PATH)];
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    format!("{}://{}{}", text(head.scheme()), text(head.authority()), text(path))
}

fn is_preflight(head: &RequestHead) -> bool {
    let has = |n| head.headers.get(n).is_some_and(|v| !v.is_empty());
    head.method() == b"OPTIONS" && has(name::ORIGIN) && has(name::ACCESS_CONTROL_REQUEST_METHOD)
}

impl HttpFilter for JwtAuthn {
    type Config = pb::JwtAuthentication;
    type RouteConfig = pb::PerRouteConfig;
    type Route = OfRoute;
    type Stream = ();

    fn new(config: pb::JwtAuthentication, cx: &BuildCx<'_>) -> BuildResult<JwtAuthn> {
        let stats = JwtStats::new(&cx.scope.scope("jwt_authn").scope(&config.stat_prefix));
        let provider = |(name, p): (&String, &pb::JwtProvider)| {
            Ok((name.clone(), Arc::new(Provider::new(name, p, &stats, cx)?)))
        };
        let providers = config.providers.iter().map(provider).collect::<BuildResult<Vec<_>>>()?;
        let providers: Providers = providers.into();
        let named = |(name, r): (&String, &pb::JwtRequirement)| {
            Ok((name.clone(), Arc::new(Requirement::new(r, &providers)?)))
        };
        let by_name = config.requirement_map.iter().map(named).collect::<BuildResult<BTreeMap<_, _>>>()?;
        let rule = |r: &pb::RequirementRule| {
            let m = r.r#match.as_deref().ok_or("field: \"match\", reason: is required")?;
            let requirement = match &r.requirement_type {
                None => None,
                Some(RequirementType::Requires(r)) => Some(Arc::new(Requirement::new(r, &providers)?)),
                Some(RequirementType::RequirementName(n)) => {
                    let found = by_name.get(n).cloned();
                    Some(found.ok_or_else(|| BuildError(wrong_name(n, &by_name)))?)
                }
            };
            Ok((Rule::new(m)?, requirement))
        };
        Ok(JwtAuthn {
            rules: config.rules.iter().map(rule).collect::<BuildResult<_>>()?,
            bypass_preflight: config.bypass_cors_preflight,
            strip: config.strip_failure_response,
            stats,
            by_name,
        })
    }
    fn route(config: pb::PerRouteConfig, _: &BuildCx<'_>) -> BuildResult<OfRoute> {
        match config.requirement_specifier {
            Some(RequirementSpecifier::Disabled(_)) => Ok(OfRoute::Disabled),
            Some(RequirementSpecifier::RequirementName(n)) => Ok(OfRoute::Named(n)),
            None => Err("field: \"requirement_specifier\", reason: is required".into()),
        }
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if self.bypass_preflight && is_preflight(&ex.request) {
            self.stats.cors_preflight_bypassed().inc();
            self.stats.allowed().inc();
            return Step::Next;
        }
        let requirement = match ex.route_config::<OfRoute>().as_deref() {
            Some(OfRoute::Disabled) => None,
            Some(OfRoute::Named(n)) => match self.by_name.get(n) {
                Some(r) => Some(r.clone()),
                None => {
                    self.stats.denied().inc();
                    let why = self.wrong_name(n);
                    let body =
                        if self.strip { String::new() } else { format!("Failed JWT authentication: {why}") };
                    return Step::reply(403, body.into_bytes(), details(&why));
                }
            },
            None => {
                let rule = self.rules.iter().find(|(rule, _)| rule.matches(&ex.request));
                rule.and_then(|(_, r)| r.clone())
            }
        };
        let Some(requirement) = requirement else {
            self.stats.allowed().inc();
            return Step::Next;
        };
        Step::wait(async move {
            let uri = original_uri(&ex.request);
            let mut out = Outcome::default();
            let result = requirement.check(ex, &mut out, &self.stats).await;
            if out.clear_route_cache {
                ex.clear_route_cache();
            }
            if !out.extracted.fields.is_empty() {
                ex.sx.info.set_metadata(NAME, out.extracted);
            }
            match result {
                Ok(()) => {
                    self.stats.allowed().inc();
                    Step::Next
                }
                Err(status) => {
                    self.stats.denied().inc();
                    Step::Reply(Box::new(self.refuse(status, &uri)))
                }
            }
        })
    }
}

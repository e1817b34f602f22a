use crate::config::{Switch, fraction, root};
use auth::check_response::HttpResponse;
use nuncio_api::envoy::extensions::filters::http::ext_authz::v3 as pb;
use nuncio_api::envoy::service::auth::v3 as auth;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::grpc::Client;
use nuncio_core::info::Interrupt;
use nuncio_core::matchers::ListStringMatcher;
use nuncio_core::registry::Docs;
use nuncio_core::runtime::RuntimeFraction;
use nuncio_core::stats::{Scope, sanitize};
use nuncio_core::upstreams::ChargeCluster;
use nuncio_core::{BodyError, BuildResult, Exchange, Flag, LocalReply, Registry, clock, rng, stats};
use pb::ext_authz::Services;
use pb::ext_authz_per_route::Override;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod ahead;
mod answer;
mod check;
mod http;
#[cfg(test)]
mod tests;

use answer::Pending;
use http::{HttpService, Said};

/// Its well-known name, and the name space of the metadata it sets.
pub const NAME: &str = "envoy.filters.http.ext_authz";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        &[
            "grpc_service",
            "http_service",
            "transport_api_version",
            "failure_mode_allow",
            "failure_mode_allow_header_add",
            "with_request_body",
            "clear_route_cache",
            "status_on_error",
            "filter_enabled",
            "deny_at_disable",
            "include_peer_certificate",
            "include_tls_session",
            "stat_prefix",
            "allowed_headers",
            "disallowed_headers",
            "charge_cluster_response_stats",
            "enable_dynamic_metadata_ingestion",
            "max_denied_response_body_bytes",
            "metadata_context_namespaces",
            "route_metadata_context_namespaces",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.http.ext_authz.v3.BufferSettings",
        &["max_request_bytes", "allow_partial_message", "pack_as_bytes"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
        &["disabled", "check_settings"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.ext_authz.v3.CheckSettings",
        &["context_extensions", "disable_request_body_buffering", "with_request_body"],
    ),
    http::COVERED[0],
    http::COVERED[1],
    http::COVERED[2],
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<ExtAuthz>(NAME, docs);
}

stats! {
    /// `http.<stat_prefix>.ext_authz.[<stat_prefix>.]`
    pub struct ExtAuthzStats {
        ok: Counter,
        denied: Counter,
        error: Counter,
        disabled: Counter,
        failure_mode_allowed: Counter,
        invalid: Counter,
        ignored_dynamic_metadata: Counter,
        filter_state_name_collision: Counter,
    }
    /// Below `cluster.`: the same by the cluster that the request goes to.
    pub struct ByCluster {
        counters: CounterFamily = "",
    }
}

/// The method that is called.
const METHOD: &str = "envoy.service.auth.v3.Authorization/Check";
/// How long the service may take when `GrpcService.timeout` does not say.
const TIMEOUT: Duration = Duration::from_millis(200);

/// The filter.
pub struct ExtAuthz {
    service: Service,
    body: Option<BodyRules>,
    failure_mode_allow: bool,
    failure_mode_allow_header: bool,
    clear_route_cache: bool,
    status_on_error: u16,
    enabled: Option<RuntimeFraction>,
    deny_at_disable: Option<Switch>,
    certificate: bool,
    tls_session: bool,
    /// The service is one over HTTP, which gets some headers always.
    over_http: bool,
    allowed: Option<ListStringMatcher>,
    disallowed: Option<ListStringMatcher>,
    takes_metadata: bool,
    max_denied_body: usize,
    namespaces: Vec<String>,
    route_namespaces: Vec<String>,
    stats: ExtAuthzStats,
    by_cluster: ByCluster,
    /// `ext_authz.` or `ext_authz.<stat_prefix>.`
    prefix: String,
    charges: Option<Arc<dyn ChargeCluster>>,
}

/// Who is asked.
enum Service {
    Grpc(Client, Duration),
    Http(HttpService),
}

/// `with_request_body`
#[derive(Clone, Copy)]
struct BodyRules {
    max: usize,
    partial: bool,
    as_bytes: bool,
}

impl BodyRules {
    fn new(b: &pb::BufferSettings) -> BodyRules {
        BodyRules {
            max: b.max_request_bytes as usize,
            partial: b.allow_partial_message,
            as_bytes: b.pack_as_bytes,
        }
    }
}

/// What a route says.
pub struct Route {
    disabled: bool,
    extensions: BTreeMap<String, String>,
    no_body: bool,
    body: Option<BodyRules>,
}

impl HttpFilter for ExtAuthz {
    type Config = pb::ExtAuthz;
    type RouteConfig = pb::ExtAuthzPerRoute;
    type Route = Route;
    /// What is to be done to the response.
    type Stream = Option<Box<Pending>>;

    fn new(c: pb::ExtAuthz, cx: &BuildCx<'_>) -> BuildResult<ExtAuthz> {
        // Who speaks HTTP has no version of the protocol.
        if c.transport_api_version != 2 && matches!(c.services, Some(Services::GrpcService(_))) {
            return Err("V2 .and AUTO xDS transport protocol versions are deprecated in grpc_service".into());
        }
        let (service, over_http) = match &c.services {
            Some(Services::GrpcService(s)) => {
                let client = Client::new(s, cx)?;
                let timeout = client.timeout().unwrap_or(TIMEOUT);
                (Service::Grpc(client, timeout), None)
            }
            Some(Services::HttpService(s)) => (Service::Http(HttpService::new(s, TIMEOUT, cx)?), Some(&**s)),
            None => return Err("ExtAuthzValidationError.Services: value is required".into()),
        };
        let own_list = over_http.and_then(|s| s.authorization_request.as_ref()?.allowed_headers.as_ref());
        if own_list.is_some() && c.allowed_headers.is_some() {
            return Err("Invalid duplicate configuration for allowed_headers.".into());
        }
        let mut allowed_headers = c.allowed_headers.clone().or_else(|| own_list.cloned());
        if over_http.is_some() {
            allowed_headers.get_or_insert_default();
        }
        let over_http = over_http.is_some();
        let mut scope = cx.scope.scope("ext_authz");
        let mut prefix = "ext_authz.".to_owned();
        if !c.stat_prefix.is_empty() {
            scope = scope.scope(&c.stat_prefix);
            prefix = format!("ext_authz.{}.", c.stat_prefix);
        }
        let list = |l: &Option<_>| l.as_ref().map(ListStringMatcher::new).transpose();
        let status = c.status_on_error.as_ref().map_or(0, |s| s.code);
        let charge = c.charge_cluster_response_stats.unwrap_or(true);
        Ok(ExtAuthz {
            service,
            over_http,
            body: c.with_request_body.as_ref().map(BodyRules::new),
            failure_mode_allow: c.failure_mode_allow,
            failure_mode_allow_header: c.failure_mode_allow_header_add,
            clear_route_cache: c.clear_route_cache,
            status_on_error: u16::try_from(status).ok().filter(|s| *s > 0).unwrap_or(403),
            enabled: c.filter_enabled.as_ref().map(|f| fraction(f, cx)),
            deny_at_disable: c.deny_at_disable.as_ref().map(|d| Switch::new(Some(d), cx)),
            certificate: c.include_peer_certificate,
            tls_session: c.include_tls_session,
            allowed: list(&allowed_headers)?,
            disallowed: list(&c.disallowed_headers)?,
            takes_metadata: c.enable_dynamic_metadata_ingestion.unwrap_or(true),
            max_denied_body: c.max_denied_response_body_bytes as usize,
            namespaces: c.metadata_context_namespaces,
            route_namespaces: c.route_metadata_context_namespaces,
            stats: ExtAuthzStats::new(&scope),
            by_cluster: ByCluster::new(&clusters(cx.scope)),
            prefix,
            charges: if charge { cx.server.charges() } else { None },
        })
    }
    fn route(c: pb::ExtAuthzPerRoute, _: &BuildCx<'_>) -> BuildResult<Route> {
        let none = Route { disabled: false, extensions: BTreeMap::new(), no_body: false, body: None };
        match c.r#override {
            Some(Override::Disabled(disabled)) => Ok(Route { disabled, ..none }),
            Some(Override::CheckSettings(s)) => {
                if s.disable_request_body_buffering && s.with_request_body.is_some() {
                    return Err("Invalid configuration for check_settings. Only one of \
                                disable_request_body_buffering or with_request_body can be set."
                        .into());
                }
                Ok(Route {
                    body: s.with_request_body.as_ref().map(BodyRules::new),
                    no_body: s.disable_request_body_buffering,
                    extensions: s.context_extensions,
                    ..none
                })
            }
            None => Err("ExtAuthzPerRouteValidationError.Override: value is required".into()),
        }
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Self::Stream, ex: &'a mut Exchange) -> Step<'a> {
        let routes = ex.route_configs::<Route>();
        let specific = routes.first();
        if specific.is_some_and(|r| r.disabled) {
            return Step::Next;
        }
        if self.enabled.as_ref().is_some_and(|f| !f.matches(rng::u64())) {
            self.stats.disabled().inc();
            return match self.deny_at_disable.as_ref().is_some_and(Switch::get) {
                true => self.fails(),
                false => Step::Next,
            };
        }
        let mut body = self.body.filter(|_| !specific.is_some_and(|r| r.no_body));
        if let Some(own) = specific.and_then(|r| r.body) {
            // How it is packed is the filter's to say.
            body = Some(BodyRules { as_bytes: self.body.is_some_and(|b| b.as_bytes), ..own });
        }
        let body = body.filter(|_| !ex.request_body.is_end() && !is_upgrade(ex));
        let mut extensions = BTreeMap::new();
        for r in routes.iter().rev() {
            extensions.extend(r.extensions.clone());
        }
        Step::wait(async move {
            let taken = match body {
                None => None,
                Some(rules) => match ahead::take(ex, rules).await {
                    Ok(taken) => Some(taken),
                    Err(ahead::Ended::TooLarge) => {
                        return Step::reply(413, "Payload Too Large", "request_payload_too_large");
                    }
                    Err(ahead::Ended::Body(BodyError::Reply(r))) => return Step::Reply(r),
                    Err(ahead::Ended::Body(BodyError::Reset(reason))) => {
                        ex.sx.interrupt(Interrupt::Reset(reason));
                        std::future::pending().await
                    }
                },
            };
            let request = self.request(ex, extensions, taken, body.is_some_and(|b| b.as_bytes));
            let began = clock::now();
            let said = match &self.service {
                Service::Grpc(client, timeout) => {
                    let call = client.unary(METHOD, &request, Some(*timeout), Some(&ex.sx));
                    Said { answer: call.await, more: vec![] }
                }
                Service::Http(service) => service.ask(request, &ex.sx).await,
            };
            self.decide(said, began, st, ex)
        })
    }
    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Self::Stream, ex: &'a mut Exchange) -> Step<'a> {
        if let (Some(pending), Some(head)) = (st.take(), &mut ex.response) {
            pending.apply(&mut head.headers);
        }
        Step::Next
    }
}

impl ExtAuthz {
    /// What cannot be decided is refused.
    fn fails(&self) -> Step<'static> {
        let r = LocalReply::new(self.status_on_error, "", "ext_authz_error");
        Step::Reply(Box::new(r.flag(Flag::UnauthorizedExternalService)))
    }
    fn count(&self, cluster: Option<&str>, what: &str) {
        if let Some(c) = cluster {
            self.by_cluster.counters().get(&format!("{}.{}{what}", sanitize(c), self.prefix)).inc();
        }
    }
    /// The service failed; `says`: how it wants that to be answered.
    fn error(
        &self,
        says: Option<auth::DeniedHttpResponse>,
        cluster: Option<&str>,
        ex: &mut Exchange,
    ) -> Step<'static> {
        self.count(cluster, "error");
        self.stats.error().inc();
        if !self.failure_mode_allow {
            return match says {
                None => self.fails(),
                Some(d) => {
                    let mut r = answer::denied(d, self.max_denied_body, self.status_on_error);
                    r.details = "ext_authz_error".into();
                    Step::Reply(Box::new(r.flag(Flag::UnauthorizedExternalService)))
                }
            };
        }
        self.stats.failure_mode_allowed().inc();
        self.count(cluster, "failure_mode_allowed");
        if self.failure_mode_allow_header {
            ex.request.headers.append("x-envoy-auth-failure-mode-allowed", b"true");
        }
        Step::Next
    }
    /// Does what the service says.
    fn decide(
        &self,
        said: Said,
        began: Instant,
        st: &mut Option<Box<Pending>>,
        ex: &mut Exchange,
    ) -> Step<'static> {
        let cluster = ex.route().and_then(|r| r.cluster(&ex.request, &ex.sx).map(|c| c.into_owned()));
        let cluster = cluster.as_deref();
        let Ok(mut answer) = said.answer else { return self.error(None, cluster, ex) };
        let passes = answer.status.as_ref().is_none_or(|s| s.code == 0);
        self.take_metadata(&mut answer, passes, began, ex);
        if passes {
            let ok = match answer.http_response {
                Some(HttpResponse::OkResponse(ok)) => *ok,
                _ => auth::OkHttpResponse::default(),
            };
            if self.clear_route_cache && answer::changes_request(&ok) {
                ex.clear_route_cache();
            }
            *st = answer::apply(ok, &said.more, ex);
            self.count(cluster, "ok");
            self.stats.ok().inc();
            return Step::Next;
        }
        let denied = match answer.http_response {
            Some(HttpResponse::ErrorResponse(says)) => return self.error(Some(says), cluster, ex),
            Some(HttpResponse::DeniedResponse(d)) => d,
            _ => auth::DeniedHttpResponse::default(),
        };
        self.stats.denied().inc();
        self.count(cluster, "denied");
        let r = answer::denied(denied, self.max_denied_body, 403);
        if let (Some(charges), Some(cluster)) = (&self.charges, cluster) {
            charges.charge_internal(cluster, r.status);
        }
        Step::Reply(Box::new(r.flag(Flag::UnauthorizedExternalService)))
    }
    fn take_metadata(&self, answer: &mut auth::CheckResponse, passes: bool, began: Instant, ex: &Exchange) {
        let outer = answer.dynamic_metadata.take();
        let inner = match &mut answer.http_response {
            Some(HttpResponse::OkResponse(ok)) => ok.dynamic_metadata.take(),
            _ => None,
        };
        let Some(mut metadata) = inner.or(outer).filter(|m| !m.fields.is_empty()) else { return };
        if !self.takes_metadata {
            self.stats.ignored_dynamic_metadata().inc();
            return;
        }
        if passes {
            let took = clock::now().saturating_duration_since(began).as_millis() as f64;
            let kind = Some(prost_types::value::Kind::NumberValue(took));
            metadata.fields.insert("ext_authz_duration".into(), prost_types::Value { kind });
        }
        ex.sx.info.set_metadata(NAME, metadata);
    }
}

/// Where the stats of clusters begin.
fn clusters(scope: &Scope) -> Scope {
    root(scope).scope("cluster")
}

/// A request whose body is not to be waited for.
fn is_upgrade(ex: &Exchange) -> bool {
    ex.request.is_connect() || ex.request.headers.contains(nuncio_wire::name::UPGRADE)
}

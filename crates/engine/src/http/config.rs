//! Builds a connection manager from its proto, on main.

use super::codec::CodecType;
use super::discovered;
use super::forwarded_cert::ForwardedCert;
use super::local_reply::LocalReplies;
use super::origin::{Origin, trace_reasons};
use super::path::PathRules;
use super::premature::PrematureLimits;
use super::proxy_status::ProxyStatus;
use super::rds::{RouteProviders, RouteSlot};
use super::scopes::ScopesPlan;
use super::tracing::TracingPlan;
use super::upgrade::UpgradePlan;
use super::{Hcm, Last, Timeouts};
use crate::keepalive::KeepalivePlan;
use crate::proto::{duration, duration_or, positive};
use crate::route::RouteTable;
use crate::router::Router;
use crate::stats::{HttpStats, ListenerHttpStats, TracingStats};
use nuncio_api::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions};
use nuncio_api::envoy::extensions::filters::http::router::v3::Router as RouterConfig;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_api::envoy::r#type::matcher::v3::StringMatcher as StringMatcherConfig;
use nuncio_api::envoy::r#type::v3::Percent;
use nuncio_core::address::local_ip;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::{BuildCx, NodeInfo};
use nuncio_core::kinds::DynEarlyHeaderMutation;
use nuncio_core::matchers::{CidrSet, StringMatcher};
use nuncio_core::pipeline::{Chain, ChainFilter};
use nuncio_core::route::FilterId;
use nuncio_core::runtime::{RuntimeNumber, ServerState};
use nuncio_core::stats::Scope;
use nuncio_wire::{h1, h2};
use pb::http_connection_manager as hcm;
use prost::Name;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What is read of `HttpConnectionManager` and the messages in it.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        &[
            "codec_type",
            "stat_prefix",
            "route_config",
            "rds",
            "scoped_routes",
            "http_filters",
            "add_user_agent",
            "common_http_protocol_options",
            "http_protocol_options",
            "http2_protocol_options",
            "server_name",
            "server_header_transformation",
            "max_request_headers_kb",
            "stream_idle_timeout",
            "stream_flush_timeout",
            "request_timeout",
            "request_headers_timeout",
            "http1_safe_max_connection_duration",
            "drain_timeout",
            "drain_timeout_jitter",
            "delayed_close_timeout",
            "access_log",
            "use_remote_address",
            "xff_num_trusted_hops",
            "internal_address_config",
            "skip_xff_append",
            "via",
            "generate_request_id",
            "preserve_external_request_id",
            "always_set_request_id_in_response",
            "forward_client_cert_details",
            "set_current_client_cert_details",
            "original_ip_detection_extensions",
            "early_header_mutation_extensions",
            "scheme_header_transformation",
            "forward_proto_config",
            "add_proxy_protocol_connection_state",
            "append_x_forwarded_port",
            "request_id_extension",
            "flush_access_log_on_new_request",
            "access_log_flush_interval",
            "access_log_options",
            "proxy_100_continue",
            "normalize_path",
            "merge_slashes",
            "path_with_escaped_slashes_action",
            "strip_matching_host_port",
            "strip_any_host_port",
            "strip_trailing_host_dot",
            "stream_error_on_invalid_http_message",
            "local_reply_config",
            "upgrade_configs",
            "append_local_overload",
            "proxy_status_config",
            "tracing",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
        &["config_source", "route_config_name"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
        &["upgrade_type", "filters", "enabled"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
        &["cidr_ranges"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        &["name", "typed_config", "config_discovery", "disabled", "is_optional"],
    ),
    Covered::new(
        "envoy.config.core.v3.HttpProtocolOptions",
        &[
            "idle_timeout",
            "max_connection_duration",
            "max_connection_duration_jitter",
            "max_stream_duration",
            "max_headers_count",
            "headers_with_underscores_action",
            "max_requests_per_connection",
            "max_response_headers_kb",
        ],
    ),
    Covered::new(
        "envoy.config.core.v3.Http1ProtocolOptions",
        &[
            "send_fully_qualified_url",
            "ignore_http_11_upgrade",
            "allow_absolute_url",
            "accept_http_10",
            "default_host_for_http_10",
            "enable_trailers",
            "allow_chunked_length",
            "allow_custom_methods",
            "header_key_format",
            "override_stream_error_on_invalid_http_message",
        ],
    ),
    Covered::new(
        "envoy.config.core.v3.Http2ProtocolOptions",
        &[
            "hpack_table_size",
            "max_concurrent_streams",
            "initial_stream_window_size",
            "initial_connection_window_size",
            "max_outbound_frames",
            "max_outbound_control_frames",
            "max_consecutive_inbound_frames_with_empty_payload",
            "max_inbound_priority_frames_per_stream",
            "max_inbound_window_update_frames_per_data_frame_sent",
            "override_stream_error_on_invalid_http_message",
            "allow_connect",
            "custom_settings_parameters",
            "connection_keepalive",
        ],
    ),
    Covered::new("envoy.config.core.v3.Http2ProtocolOptions.SettingsParameter", &["identifier", "value"]),
    Covered::new(
        "envoy.extensions.filters.http.router.v3.Router",
        &[
            "suppress_envoy_headers",
            "dynamic_stats",
            "start_child_span",
            "upstream_http_filters",
            "strict_check_headers",
            "respect_expected_rq_timeout",
            "suppress_grpc_request_failure_code_stats",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.HcmAccessLogOptions",
        &[
            "access_log_flush_interval",
            "flush_access_log_on_new_request",
            "flush_log_on_tunnel_successfully_established",
        ],
    ),
];

/// `server_header_transformation`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServerHeader {
    /// Ours, always.
    #[default]
    Overwrite,
    /// Ours, unless the upstream sent one.
    AppendIfAbsent,
    /// The upstream's, or none.
    PassThrough,
}

/// Which addresses count as internal (`internal_address_config`); without configuration none does.
#[derive(Clone, Default)]
pub struct InternalAddresses(Option<CidrSet>);

impl InternalAddresses {
    /// True for an internal address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.as_ref().is_some_and(|s| s.contains(ip))
    }
}

/// What a listener gives to the connection managers in it.
pub struct ListenerCx<'a> {
    /// `listener.<address>.`
    pub scope: &'a Scope,
    /// Connections drain while the server's health check fails (`drain_type: DEFAULT`, and not the admin interface).
    pub drains_with_health: bool,
    /// `bypass_overload_manager`; the admin interface does so.
    pub bypasses_overload: bool,
}

/// A connection manager as main builds it; every worker makes an [`Hcm`] of it.
#[derive(Clone)]
pub struct HcmPlan {
    /// `common_http_protocol_options.max_requests_per_connection`; 0: no limit
    pub max_requests_per_connection: u32,
    /// `codec_type`
    pub codec: CodecType,
    /// `http.<stat_prefix>.`
    pub stats: HttpStats,
    /// `listener.<address>.http.<stat_prefix>.`
    pub listener_stats: ListenerHttpStats,
    /// The store's root, for `http1.` and `http2.`.
    pub root_scope: Scope,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Settings of HTTP/1 connections.
    pub h1: Arc<h1::ServerSettings>,
    /// Settings of HTTP/2 connections.
    pub h2: Arc<h2::Settings>,
    /// `http2_protocol_options.connection_keepalive`
    pub keepalive: Option<KeepalivePlan>,
    /// When a client has reset too many streams.
    pub premature: PrematureLimits,
    /// The key `http.max_requests_per_io_cycle`: how many requests of a connection begin before others have their turn.
    pub requests_per_cycle: RuntimeNumber,
    /// `http_protocol_options.override_stream_error_on_invalid_http_message`, or the connection manager's
    /// `stream_error_on_invalid_http_message`: a client that was answered with 400 keeps its HTTP/1 connection.
    pub h1_stream_errors: bool,
    /// `proxy_100_continue`
    pub proxy_100_continue: bool,
    /// The route table; replaced on workers when it changes.
    pub routes: Arc<RouteTable>,
    /// `rds`: the routes are these instead.
    pub rds: Option<Arc<RouteSlot>>,
    /// `scoped_routes`: a request's headers say which routes these are.
    pub scopes: Option<ScopesPlan>,
    /// `early_header_mutation_extensions`
    pub(super) early_mutations: Vec<Arc<dyn DynEarlyHeaderMutation>>,
    /// `use_remote_address`
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`
    pub xff_num_trusted_hops: u32,
    /// `skip_xff_append`
    pub skip_xff_append: bool,
    /// Our address, for x-forwarded-for of loopback peers.
    pub local_address: IpAddr,
    /// `internal_address_config`
    pub internal_addresses: InternalAddresses,
    /// `add_user_agent`: the service cluster's name.
    pub user_agent: Option<String>,
    /// This proxy.
    pub node: Arc<NodeInfo>,
    /// `via`
    pub via: String,
    /// `generate_request_id`
    pub generate_request_id: bool,
    /// `preserve_external_request_id`
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`
    pub always_set_request_id_in_response: bool,
    /// What is not by default of where requests come from.
    pub(super) origin: Option<Arc<Origin>>,
    /// `request_id_extension`: ids say whether a request is traced.
    pub(super) pack_trace_reason: bool,
    /// `forward_client_cert_details`
    pub(super) forwarded_cert: ForwardedCert,
    /// `server_header_transformation`
    pub server_header: ServerHeader,
    /// `server_name`
    pub server_name: String,
    /// Drain and health state of the server.
    pub server: Arc<ServerState>,
    /// Connections drain while the server's health check fails.
    pub drains_with_health: bool,
    /// What overload protection asks for is heeded (not with `bypass_overload_manager` of the listener).
    pub overloadable: bool,
    /// `append_local_overload`
    pub append_local_overload: bool,
    /// `proxy_status_config`
    pub(super) proxy_status: Option<Arc<ProxyStatus>>,
    /// Path and host normalisation.
    pub path: PathRules,
    /// `flush_access_log_on_new_request`: the log has an entry for the beginning of a request, too.
    pub(super) log_beginnings: bool,
    /// `access_log_flush_interval`: and one each such time, for as long as it takes.
    pub(super) log_every: Option<Duration>,
    /// `flush_log_on_tunnel_successfully_established`: and one when it has become a tunnel.
    pub(super) log_tunnels: bool,
    /// `access_log`
    pub access_logs: Vec<nuncio_core::access_log::Logger>,
    /// `local_reply_config`
    pub local_replies: Option<Arc<LocalReplies>>,
    /// `upgrade_configs`
    pub(super) upgrades: Vec<UpgradePlan>,
    filters: Filters,
    router: Option<Arc<Router>>,
    /// `http.<stat_prefix>.tracing.`, but not of the admin interface.
    pub(super) tracing: Option<TracingStats>,
    /// `tracing`
    pub(super) traces: Option<Arc<TracingPlan>>,
}

impl HcmPlan {
    /// Builds a connection manager.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(
        c: &pb::HttpConnectionManager,
        listener: &ListenerCx<'_>,
        cx: &BuildCx<'_>,
    ) -> BuildResult<HcmPlan> {
        let filter_scope = filter_scope(c, cx);
        let cx = BuildCx { scope: &filter_scope, ..*cx };
        let (filters, router) = filters(&c.http_filters, &cx)?;
        let (mut rds, mut scopes) = (None, None);
        let routes = match &c.route_specifier {
            Some(hcm::RouteSpecifier::RouteConfig(routes)) => Arc::new(RouteTable::new(routes, &cx)?),
            Some(hcm::RouteSpecifier::Rds(r)) => {
                rds = Some(RouteProviders::here().provide(c, r, &cx)?);
                Arc::new(RouteTable::empty())
            }
            Some(hcm::RouteSpecifier::ScopedRoutes(s)) => {
                scopes = Some(ScopesPlan::new(c, s, &cx)?);
                Arc::new(RouteTable::empty())
            }
            None => return Err("field: \"route_specifier\", reason: is required".into()),
        };
        let runtime = cx.server.runtime().snapshot();
        let mut common = c.common_http_protocol_options.unwrap_or_default();
        if common.max_response_headers_kb.is_some() {
            return Err("Error: max_response_headers_kb cannot be set on http_connection_manager.".into());
        }
        common.max_headers_count.get_or_insert_with(|| {
            runtime.number("envoy.reloadable_features.max_request_headers_count", 100) as u32
        });
        let mut plan = HcmPlan::bare(&c.stat_prefix, listener, &cx, routes);
        plan.codec = match hcm::CodecType::try_from(c.codec_type) {
            Ok(hcm::CodecType::Http1) => CodecType::Http1,
            Ok(hcm::CodecType::Http2) => CodecType::Http2,
            Ok(hcm::CodecType::Http3) => {
                return Err(BuildError::not_implemented("HttpConnectionManager.codec_type: HTTP3"));
            }
            _ => CodecType::Auto,
        };
        plan.timeouts = Timeouts {
            idle: match &common.idle_timeout {
                None => Some(Duration::from_secs(3600)),
                some => duration(some)?.filter(|d| !d.is_zero()),
            },
            stream_idle: Some(duration_or(&c.stream_idle_timeout, Duration::from_secs(300))?)
                .filter(|d| !d.is_zero()),
            stream_flush: duration(&c.stream_flush_timeout)?,
            request: duration(&c.request_timeout)?.filter(|d| !d.is_zero()),
            request_headers: duration(&c.request_headers_timeout)?.filter(|d| !d.is_zero()),
            max_stream: duration(&common.max_stream_duration)?.filter(|d| !d.is_zero()),
            max_connection: duration(&common.max_connection_duration)?,
            max_connection_jitter: percent(common.max_connection_duration_jitter),
            http1_safe: c.http1_safe_max_connection_duration,
            delayed_close: Some(duration_or(&c.delayed_close_timeout, Duration::from_secs(1))?)
                .filter(|d| !d.is_zero()),
            drain: duration_or(&c.drain_timeout, Duration::from_secs(5))?,
            drain_jitter: percent(c.drain_timeout_jitter),
        };
        let head_kb = c.max_request_headers_kb.map_or_else(
            || runtime.number("envoy.reloadable_features.max_request_headers_size_kb", 60),
            u64::from,
        );
        // Configured is 8192 at most; of the runtime, no more.
        let head_bytes = head_kb.min(8192) as usize * 1024;
        plan.h1 = Arc::new(h1_settings(c.http_protocol_options.as_deref(), &common, head_bytes)?);
        let h2_options = c.http2_protocol_options.as_deref();
        let mut h2 = h2_settings(h2_options, &common, head_bytes)?;
        let errors = c.stream_error_on_invalid_http_message;
        if h2_options.is_none_or(|o| o.override_stream_error_on_invalid_http_message.is_none()) {
            h2.stream_error_on_invalid_messaging = errors.unwrap_or(h2.stream_error_on_invalid_messaging);
        }
        plan.h2 = Arc::new(h2);
        plan.keepalive = keepalive(h2_options)?;
        plan.premature = PrematureLimits::new(&cx.server.runtime());
        plan.requests_per_cycle =
            cx.server.runtime().number("http.max_requests_per_io_cycle", u32::MAX.into());
        let own =
            c.http_protocol_options.as_ref().and_then(|o| o.override_stream_error_on_invalid_http_message);
        plan.h1_stream_errors = own.or(errors).unwrap_or(false);
        plan.max_requests_per_connection = common.max_requests_per_connection.unwrap_or(0);
        plan.proxy_100_continue = c.proxy_100_continue;
        plan.use_remote_address = c.use_remote_address.unwrap_or(false);
        plan.xff_num_trusted_hops = c.xff_num_trusted_hops;
        plan.skip_xff_append = c.skip_xff_append;
        if let Some(i) = &c.internal_address_config {
            plan.internal_addresses = InternalAddresses(Some(CidrSet::new(&i.cidr_ranges)?));
        }
        plan.user_agent = c.add_user_agent.unwrap_or(false).then(|| cx.node.cluster.clone());
        plan.via = c.via.clone();
        plan.generate_request_id = c.generate_request_id.unwrap_or(true);
        plan.preserve_external_request_id = c.preserve_external_request_id;
        plan.always_set_request_id_in_response = c.always_set_request_id_in_response;
        plan.log_beginnings = c
            .access_log_options
            .as_ref()
            .map_or(c.flush_access_log_on_new_request, |o| o.flush_access_log_on_new_request);
        let interval = c.access_log_options.as_ref().map(|o| o.access_log_flush_interval);
        plan.log_every = duration(&interval.unwrap_or(c.access_log_flush_interval))?;
        plan.log_tunnels =
            c.access_log_options.is_some_and(|o| o.flush_log_on_tunnel_successfully_established);
        plan.early_mutations =
            c.early_header_mutation_extensions.iter().map(|e| early(e, &cx)).collect::<BuildResult<_>>()?;
        plan.origin = Origin::new(c)?.map(Arc::new);
        let ids = trace_reasons(c.request_id_extension.as_ref())?;
        plan.pack_trace_reason = ids.0;
        plan.traces = c.tracing.as_ref().map(|t| TracingPlan::new(t, ids, &cx)).transpose()?.map(Arc::new);
        plan.forwarded_cert =
            ForwardedCert::new(c.forward_client_cert_details, c.set_current_client_cert_details.as_ref());
        plan.server_header = match hcm::ServerHeaderTransformation::try_from(c.server_header_transformation) {
            Ok(hcm::ServerHeaderTransformation::AppendIfAbsent) => ServerHeader::AppendIfAbsent,
            Ok(hcm::ServerHeaderTransformation::PassThrough) => ServerHeader::PassThrough,
            _ => ServerHeader::Overwrite,
        };
        if !c.server_name.is_empty() {
            plan.server_name = c.server_name.clone();
        }
        plan.append_local_overload = c.append_local_overload;
        plan.proxy_status = c
            .proxy_status_config
            .as_ref()
            .map(|s| Arc::new(ProxyStatus::new(s, &cx.node.id, &plan.server_name)));
        plan.path = PathRules::new(c, &runtime)?;
        plan.access_logs = nuncio_core::access_log::build(&c.access_log, &cx)?;
        (plan.filters, plan.router, plan.rds, plan.scopes) = (filters, router, rds, scopes);
        plan.upgrades = super::upgrade::plans(&c.upgrade_configs, &cx)?;
        plan.local_replies = c.local_reply_config.as_ref().map(|l| LocalReplies::new(l, &cx)).transpose()?;
        plan.tracing = Some(TracingStats::new(&filter_scope.scope("tracing")));
        Ok(plan)
    }

    /// The same connection manager with the routes of `c`, which differs in nothing else. `None` when that takes another
    /// chain of filters, because only one of the tables switches some of them on or off.
    ///
    /// # Errors
    /// The routes are refused.
    pub fn with_routes(
        &self,
        c: &pb::HttpConnectionManager,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Option<HcmPlan>> {
        let Some(hcm::RouteSpecifier::RouteConfig(routes)) = &c.route_specifier else { return Ok(None) };
        let routes = RouteTable::new(routes, &BuildCx { scope: &filter_scope(c, cx), ..*cx })?;
        let routes = Arc::new(routes);
        let fits = routes.switches_filters() == self.routes.switches_filters();
        Ok(fits.then(|| HcmPlan { routes, ..self.clone() }))
    }

    /// A connection manager with Envoy's defaults and no filters (the admin interface).
    pub fn bare(
        stat_prefix: &str,
        listener: &ListenerCx<'_>,
        cx: &BuildCx<'_>,
        routes: Arc<RouteTable>,
    ) -> HcmPlan {
        let root = cx.scope.store().root();
        HcmPlan {
            max_requests_per_connection: 0,
            codec: CodecType::Auto,
            stats: HttpStats::new(&root.scope("http").scope(stat_prefix)),
            listener_stats: ListenerHttpStats::new(&listener.scope.scope("http").scope(stat_prefix)),
            root_scope: root,
            timeouts: Timeouts {
                idle: Some(Duration::from_secs(3600)),
                stream_idle: Some(Duration::from_secs(300)),
                stream_flush: None,
                request: None,
                request_headers: None,
                max_stream: None,
                max_connection: None,
                max_connection_jitter: 0.0,
                http1_safe: false,
                delayed_close: Some(Duration::from_secs(1)),
                drain: Duration::from_secs(5),
                drain_jitter: 0.0,
            },
            h1: Arc::default(),
            h2: Arc::default(),
            keepalive: None,
            premature: PrematureLimits::default(),
            requests_per_cycle: RuntimeNumber::fixed(u32::MAX.into()),
            h1_stream_errors: false,
            proxy_100_continue: false,
            routes,
            rds: None,
            scopes: None,
            early_mutations: vec![],
            use_remote_address: false,
            xff_num_trusted_hops: 0,
            skip_xff_append: false,
            local_address: local_ip(),
            internal_addresses: InternalAddresses::default(),
            user_agent: None,
            node: Arc::new(cx.node.clone()),
            via: String::new(),
            generate_request_id: true,
            preserve_external_request_id: false,
            always_set_request_id_in_response: false,
            log_beginnings: false,
            log_every: None,
            log_tunnels: false,
            origin: None,
            pack_trace_reason: true,
            forwarded_cert: ForwardedCert::default(),
            server_header: ServerHeader::Overwrite,
            server_name: "envoy".into(),
            server: cx.server.state(),
            drains_with_health: listener.drains_with_health,
            overloadable: !listener.bypasses_overload,
            append_local_overload: false,
            proxy_status: None,
            path: PathRules::default(),
            access_logs: vec![],
            local_replies: None,
            upgrades: vec![],
            filters: vec![],
            router: None,
            tracing: None,
            traces: None,
        }
    }

    /// The filters, for one worker.
    pub(super) fn chain(&self) -> Chain {
        self.chain_of(&self.filters)
    }
    /// A chain of these filters, for one worker.
    pub(super) fn chain_of(&self, filters: &Filters) -> Chain {
        let filter = |(id, f, disabled): &(FilterId, Arc<dyn nuncio_core::filter::DynFilter>, bool)| {
            ChainFilter { id: *id, filter: f.clone(), disabled: *disabled }
        };
        let filters: Vec<_> = filters.iter().map(filter).collect();
        // Of routes that are yet to come, any may switch filters.
        let switchable = self.rds.is_some()
            || self.scopes.is_some()
            || self.routes.switches_filters()
            || filters.iter().any(|f| f.disabled);
        Chain { filters, switchable }
    }
    /// The connection manager for one worker.
    pub fn instantiate(self: &Arc<Self>) -> Rc<Hcm> {
        let last = self.router.clone().map_or(Last::Nothing, Last::Router);
        Hcm::new(self.clone(), last)
    }
}

/// A percentage as a part of the whole.
fn percent(p: Option<Percent>) -> f64 {
    p.map_or(0.0, |p| p.value / 100.0)
}

/// Where the stats of its filters go.
pub(super) fn filter_scope(c: &pb::HttpConnectionManager, cx: &BuildCx<'_>) -> Scope {
    cx.scope.store().root().scope("http").scope(&c.stat_prefix)
}

/// An early header mutation.
fn early(
    e: &nuncio_api::envoy::config::core::v3::TypedExtensionConfig,
    cx: &BuildCx<'_>,
) -> BuildResult<Arc<dyn DynEarlyHeaderMutation>> {
    let none = prost_types::Any::default();
    cx.registry.build_early_header_mutation(&e.name, e.typed_config.as_ref().unwrap_or(&none), cx)
}

/// A filter chain as it was built: name, filter, `disabled`.
pub(super) type Filters = Vec<(FilterId, Arc<dyn nuncio_core::filter::DynFilter>, bool)>;

/// The chain before the router, and the router, if there is one.
pub(super) fn filters(
    all: &[pb::HttpFilter],
    cx: &BuildCx<'_>,
) -> BuildResult<(Filters, Option<Arc<Router>>)> {
    let router_type = RouterConfig::full_name();
    let mut filters = vec![];
    for (i, f) in all.iter().enumerate() {
        let Some(pb::http_filter::ConfigType::TypedConfig(any)) = &f.config_type else {
            if let Some(pb::http_filter::ConfigType::ConfigDiscovery(c)) = &f.config_type {
                let found = discovered::filter(&f.name, c, cx)?;
                filters.push((FilterId::of(&f.name), found, f.disabled));
                if i + 1 < all.len() {
                    continue;
                }
                let last = format!("HttpFilter.config_discovery of the last filter, {}", f.name);
                return Err(BuildError::not_implemented(last));
            }
            return Err(format!(
                "Didn't find a registered implementation for '{}' with type URL: ''",
                f.name
            )
            .into());
        };
        let last = i + 1 == all.len();
        if any.type_url.rsplit('/').next() == Some(&router_type) {
            if !last {
                return Err(format!(
                    "Error: terminal filter named {} of type envoy.filters.http.router must be the last filter in a http filter chain.",
                    f.name
                )
                .into());
            }
            if cx.registry.is_disabled(nuncio_core::registry::Kind::HttpFilter, "envoy.filters.http.router") {
                return Err(nuncio_api::extensions::unregistered(&f.name, &router_type).into());
            }
            let router = Router::new(&crate::proto::unpack(any)?, cx)?;
            return Ok((filters, Some(Arc::new(router))));
        }
        match cx.registry.build_http_filter(&f.name, any, cx) {
            Ok(built) => filters.push((FilterId::of(&f.name), built, f.disabled)),
            Err(e) if f.is_optional && e.0.starts_with("Didn't find") => {}
            Err(e) => return Err(e),
        }
        if last {
            return Err(format!(
                "Error: non-terminal filter named {} of type {} is the last filter in a http filter chain.",
                f.name,
                cx.registry
                    .name_of(nuncio_core::registry::Kind::HttpFilter, &any.type_url)
                    .unwrap_or(&f.name)
            )
            .into());
        }
    }
    Ok((filters, None))
}

/// Settings of HTTP/1 connections from clients.
fn h1_settings(
    o: Option<&Http1ProtocolOptions>,
    common: &HttpProtocolOptions,
    head_bytes: usize,
) -> BuildResult<h1::ServerSettings> {
    let o = o.cloned().unwrap_or_default();
    Ok(h1::ServerSettings {
        max_head_bytes: head_bytes,
        max_headers: common.max_headers_count.unwrap_or(100) as usize,
        accept_http_10: o.accept_http_10,
        default_host_for_http_10: o.default_host_for_http_10,
        allow_absolute_url: o.allow_absolute_url.unwrap_or(true),
        allow_chunked_length: o.allow_chunked_length,
        allow_custom_methods: o.allow_custom_methods,
        enable_trailers: o.enable_trailers,
        underscores: match common.headers_with_underscores_action {
            1 => h1::Underscores::Reject,
            2 => h1::Underscores::DropHeader,
            _ => h1::Underscores::Allow,
        },
        header_case: super::header_case::header_case(o.header_key_format.as_ref())?,
        ignore_upgrade: ignored_upgrades(&o.ignore_http_11_upgrade)?,
        ..Default::default()
    })
}

/// `ignore_http_11_upgrade`
fn ignored_upgrades(all: &[StringMatcherConfig]) -> BuildResult<Option<h1::IgnoreUpgrade>> {
    let all = all.iter().map(StringMatcher::new).collect::<BuildResult<Vec<_>>>()?;
    if all.is_empty() {
        return Ok(None);
    }
    Ok(Some(h1::IgnoreUpgrade(Arc::new(move |token| all.iter().any(|m| m.matches(token))))))
}

/// Settings of HTTP/2 connections, of either side.
pub fn h2_settings(
    o: Option<&Http2ProtocolOptions>,
    common: &HttpProtocolOptions,
    head_bytes: usize,
) -> BuildResult<h2::Settings> {
    let o = o.cloned().unwrap_or_default();
    let d = h2::Settings::default();
    let mut s = h2::Settings {
        header_table_size: o.hpack_table_size.unwrap_or(d.header_table_size),
        max_concurrent_streams: o.max_concurrent_streams.unwrap_or(d.max_concurrent_streams),
        initial_window_size: o.initial_stream_window_size.unwrap_or(d.initial_window_size),
        connection_window: o.initial_connection_window_size.unwrap_or(d.connection_window),
        max_headers_bytes: head_bytes as u32,
        max_headers_count: common.max_headers_count.unwrap_or(100),
        underscores: match common.headers_with_underscores_action {
            1 => h2::Underscores::Reject,
            2 => h2::Underscores::DropHeader,
            _ => h2::Underscores::Allow,
        },
        stream_error_on_invalid_messaging: o.override_stream_error_on_invalid_http_message.unwrap_or(false),
        max_outbound_frames: o.max_outbound_frames.unwrap_or(d.max_outbound_frames),
        max_outbound_control_frames: o.max_outbound_control_frames.unwrap_or(d.max_outbound_control_frames),
        max_consecutive_empty_frames: o
            .max_consecutive_inbound_frames_with_empty_payload
            .unwrap_or(d.max_consecutive_empty_frames),
        max_priority_frames_per_stream: o
            .max_inbound_priority_frames_per_stream
            .unwrap_or(d.max_priority_frames_per_stream),
        max_window_updates_per_data_frame: positive(
            o.max_inbound_window_update_frames_per_data_frame_sent,
            d.max_window_updates_per_data_frame,
        ),
        enable_connect_protocol: o.allow_connect,
        ..d
    };
    custom_settings(&o, &mut s)?;
    Ok(s)
}

/// `connection_keepalive`
pub fn keepalive(o: Option<&Http2ProtocolOptions>) -> BuildResult<Option<KeepalivePlan>> {
    o.and_then(|o| o.connection_keepalive.as_ref()).map(KeepalivePlan::new).transpose()
}

/// `custom_settings_parameters`, with Envoy's checks. They are sent first: what has a field of its own is said again.
fn custom_settings(o: &Http2ProtocolOptions, s: &mut h2::Settings) -> BuildResult<()> {
    let mut seen: Vec<(u32, u32)> = vec![];
    let (mut clashes, mut doubles) = (vec![], vec![]);
    for p in &o.custom_settings_parameters {
        let (id, value) = (p.identifier.unwrap_or(0), p.value.unwrap_or(0));
        match seen.iter().find(|k| k.0 == id) {
            Some((_, same)) if *same == value => continue,
            Some(_) => clashes.push(format!("0x{id:02x}")),
            None => seen.push((id, value)),
        }
        match id {
            1 if o.hpack_table_size.is_some() => doubles.push("hpack_table_size"),
            3 if o.max_concurrent_streams.is_some() => doubles.push("max_concurrent_streams"),
            4 if o.initial_stream_window_size.is_some() => doubles.push("initial_stream_window_size"),
            2 if value == 1 => {
                return Err("server push is not supported by Envoy and can not be enabled via a SETTINGS \
                            parameter."
                    .into());
            }
            8 => {
                return Err("the \"allow_connect\" SETTINGS parameter must only be configured through the \
                            named field"
                    .into());
            }
            5 => s.max_frame_size = value.clamp(16_384, 16_777_215),
            // The field's rule bounds it to 16 bits.
            _ => s.custom.push((id as u16, value)),
        }
    }
    if !clashes.is_empty() {
        return Err(format!(
            "inconsistent HTTP/2 custom SETTINGS parameter(s) detected; identifiers = {{{}}}",
            clashes.join(",")
        )
        .into());
    }
    if !doubles.is_empty() {
        return Err(format!(
            "the {{{}}} HTTP/2 SETTINGS parameter(s) can not be configured through both named and custom \
             parameters",
            doubles.join(",")
        )
        .into());
    }
    Ok(())
}

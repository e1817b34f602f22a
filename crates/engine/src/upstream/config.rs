//! Builds a cluster from its proto, on main.

use super::breakers::{Breakers, Resource, RetryBudget};
use super::cluster::{ClusterPlan, UpstreamHttp, UpstreamProtocol};
use super::connect::Eyeballs;
use super::dns::DnsOptions;
use super::eds::EdsPlan;
use super::forward;
use super::health::{HealthStatuses, PanicPolicy};
use super::health_check;
use super::host::Wanted;
use super::lb;
use super::lb::config::PolicyCx;
use super::members;
use super::outlier;
use super::transport::Transports;
use crate::http::config;
use crate::proto::{self, duration, duration_or};
use crate::router::filters::{Owner, UpstreamFilters};
use crate::stats::{ClusterStats, RemainingStats};
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::endpoint::v3 as ep;
use nuncio_api::envoy::extensions::upstreams::http::v3 as up;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::HostInfo;
use nuncio_core::metadata::LazyMetadata;
use nuncio_core::runtime::{Runtime, Snapshot};
use nuncio_core::stats::sanitize;
use nuncio_wire::{h1, h2};
use socket2::TcpKeepalive;
use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::LocalKey;
use std::time::Duration;
use up::http_protocol_options::UpstreamProtocolOptions as U;
use up::http_protocol_options::explicit_http_config::ProtocolConfig as P;

/// What is read of `Cluster` and the messages in it.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.cluster.v3.Cluster",
        &[
            "name",
            "alt_stat_name",
            "type",
            "connect_timeout",
            "upstream_connection_options",
            "lb_policy",
            "load_balancing_policy",
            "lb_subset_config",
            "round_robin_lb_config",
            "least_request_lb_config",
            "ring_hash_lb_config",
            "maglev_lb_config",
            "original_dst_lb_config",
            "cleanup_interval",
            "load_assignment",
            "circuit_breakers",
            "preconnect_policy",
            "connection_pool_per_downstream_connection",
            "http2_protocol_options",
            "typed_extension_protocol_options",
            "cluster_type",
            "eds_cluster_config",
            "dns_refresh_rate",
            "dns_failure_refresh_rate",
            "dns_jitter",
            "respect_dns_ttl",
            "dns_lookup_family",
            "typed_dns_resolver_config",
            "transport_socket",
            "transport_socket_matches",
            "upstream_http_protocol_options",
            "upstream_bind_config",
            "metadata",
            "max_requests_per_connection",
            "common_lb_config",
            "outlier_detection",
            "health_checks",
            "ignore_health_on_host_removal",
            "wait_for_warm_on_init",
        ],
    )
    .ignoring(&[(
        "per_connection_buffer_limit_bytes",
        "a soft limit; our buffers per connection stay below Envoy's default",
    )]),
    Covered::new("envoy.config.core.v3.BindConfig", &["source_address"]),
    Covered::new(
        "envoy.config.cluster.v3.UpstreamConnectionOptions",
        &["tcp_keepalive", "happy_eyeballs_config"],
    ),
    Covered::new(
        "envoy.config.core.v3.TcpKeepalive",
        &["keepalive_probes", "keepalive_time", "keepalive_interval"],
    ),
    Covered::new("envoy.config.cluster.v3.Cluster.CustomClusterType", &["name", "typed_config"]),
    Covered::new("envoy.config.cluster.v3.CircuitBreakers", &["thresholds", "per_host_thresholds"]),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.PreconnectPolicy",
        &["per_upstream_preconnect_ratio", "predictive_preconnect_ratio"],
    ),
    Covered::new(
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        &[
            "priority",
            "max_connections",
            "max_pending_requests",
            "max_requests",
            "max_retries",
            "max_connection_pools",
            "track_remaining",
            "retry_budget",
        ],
    ),
    Covered::new(
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
        &["budget_percent", "min_retry_concurrency"],
    ),
    Covered::new("envoy.config.endpoint.v3.ClusterLoadAssignment", &["cluster_name", "endpoints", "policy"]),
    Covered::new(
        "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy",
        &["overprovisioning_factor", "weighted_priority_health", "endpoint_stale_after"],
    ),
    Covered::new("envoy.config.cluster.v3.Cluster.EdsClusterConfig", &["eds_config", "service_name"]),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        &[
            "healthy_panic_threshold",
            "update_merge_window",
            "zone_aware_lb_config",
            "locality_weighted_lb_config",
            "consistent_hashing_lb_config",
            "ignore_new_hosts_until_first_hc",
            "close_connections_on_host_set_change",
            "override_host_status",
        ],
    ),
    Covered::new("envoy.config.core.v3.HealthStatusSet", &["statuses"]),
    Covered::new(
        "envoy.config.endpoint.v3.LocalityLbEndpoints",
        &["locality", "metadata", "lb_endpoints", "load_balancing_weight", "priority"],
    ),
    Covered::new(
        "envoy.config.endpoint.v3.LbEndpoint",
        &["endpoint", "metadata", "health_status", "load_balancing_weight"],
    ),
    Covered::new(
        "envoy.config.endpoint.v3.Endpoint",
        &["address", "hostname", "health_check_config", "additional_addresses"],
    ),
    Covered::new("envoy.config.endpoint.v3.Endpoint.AdditionalAddress", &["address"]),
    Covered::new(
        "envoy.config.cluster.v3.UpstreamConnectionOptions.HappyEyeballsConfig",
        &["first_address_family_version", "first_address_family_count"],
    ),
    Covered::new(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        &[
            "common_http_protocol_options",
            "explicit_http_config",
            "use_downstream_protocol_config",
            "auto_config",
            "upstream_http_protocol_options",
            "http_filters",
        ],
    ),
    Covered::new(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        &["http_protocol_options", "http2_protocol_options"],
    ),
    Covered::new(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
        &["http_protocol_options", "http2_protocol_options"],
    ),
    Covered::new(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        &["http_protocol_options", "http2_protocol_options"],
    ),
];

/// Where a cluster's hosts come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discovery {
    /// Addresses in the configuration.
    Static,
    /// Names that are resolved.
    Dns,
    /// What a control plane says.
    Eds,
    /// Wherever a request or a connection wanted to go.
    OriginalDst,
    /// Wherever the name in a request leads.
    Forward,
}

/// One configured endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// An address, or a name with a port.
    pub target: Target,
    /// More addresses of the same host.
    pub others: Box<[nuncio_core::address::Address]>,
    /// Facts the host will have.
    pub hostname: String,
    /// Region, zone, sub-zone.
    pub locality: Arc<[String; 3]>,
    /// `LbEndpoint.metadata`
    pub metadata: LazyMetadata,
    /// `LocalityLbEndpoints.metadata`
    pub locality_metadata: LazyMetadata,
    /// `load_balancing_weight`
    pub weight: u32,
    /// `LocalityLbEndpoints.priority`
    pub priority: u32,
    /// `LocalityLbEndpoints.load_balancing_weight`
    pub locality_weight: u32,
    /// `health_status`
    pub status: core::HealthStatus,
    /// `health_check_config`
    pub check: Option<Box<health_check::Target>>,
}

/// `TcpKeepalive`; what is not said is the system's.
fn keepalive(k: core::TcpKeepalive) -> TcpKeepalive {
    let secs = |n: u32| Duration::from_secs(n.into());
    let mut set = TcpKeepalive::new();
    if let Some(t) = k.keepalive_time {
        set = set.with_time(secs(t));
    }
    if let Some(t) = k.keepalive_interval {
        set = set.with_interval(secs(t));
    }
    if let Some(n) = k.keepalive_probes {
        set = set.with_retries(n);
    }
    set
}

/// What an endpoint is found by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// An address.
    Address(nuncio_core::address::Address),
    /// A name to resolve, and the port.
    Name(String, u16),
}

impl Endpoint {
    /// The host at `address`.
    pub fn host(&self, address: nuncio_core::address::Address) -> Wanted {
        let info = HostInfo {
            address_text: address.to_string().into(),
            hostname: self.hostname.as_str().into(),
            locality: self.locality.clone(),
            metadata: self.metadata.clone(),
            locality_metadata: self.locality_metadata.clone(),
            canary: self
                .metadata
                .get("envoy.lb", ["canary"])
                .is_some_and(|v| matches!(v.kind, Some(prost_types::value::Kind::BoolValue(true)))),
            address: Some(address),
        };
        Wanted {
            info: Arc::new(info),
            weight: self.weight,
            priority: self.priority,
            locality_weight: self.locality_weight,
            others: self.others.clone(),
            status: self.status,
            check: self.check.clone(),
        }
    }
}

/// A cluster and where its hosts come from.
pub struct Built {
    /// The plan.
    pub plan: Arc<ClusterPlan>,
    /// How its hosts are found.
    pub discovery: Discovery,
    /// What is configured.
    pub endpoints: Vec<Endpoint>,
    /// Resolution, for names.
    pub dns: DnsOptions,
    /// `outlier_detection`
    pub outlier: Option<Box<outlier::Config>>,
    /// `health_checks`
    pub health: Vec<health_check::Configured>,
    /// Which control plane to ask.
    pub eds: Option<EdsPlan>,
    /// The name of the cache that its hosts come from.
    pub forward: Option<Arc<str>>,
}

/// Builds a cluster; `added_via_api` says that it comes from a control plane.
///
/// # Errors
/// The configuration is refused.
pub fn build(c: &pb::Cluster, added_via_api: bool, cx: &BuildCx<'_>) -> BuildResult<Built> {
    let (discovery, dns) = discovery(c)?;
    if discovery == Discovery::Eds && c.eds_cluster_config.is_none() {
        return Err("cannot create an EDS cluster without an EDS config".into());
    }
    let forward = forward::config::of_cluster(c)?;
    let ours = forward.as_ref().map(|_| safe_by_default(c));
    let c = ours.as_ref().unwrap_or(c);
    let alt = if c.alt_stat_name.is_empty() { &c.name } else { &c.alt_stat_name };
    let scope = cx.scope.scope("cluster").scope(&sanitize(alt));
    let runtime = cx.server.runtime().snapshot();
    let http = http(c, &runtime, cx)?;
    let transports = Transports::new(c, auto(c)?.as_ref(), &[], &scope, cx)?;
    if matches!(http.protocol, UpstreamProtocol::Auto { .. }) {
        negotiable(c, &transports, &runtime)?;
    }
    let breakers = breakers(c.circuit_breakers.as_ref())?;
    let remaining = [0, 1].map(|priority: usize| {
        let thresholds =
            c.circuit_breakers.as_ref()?.thresholds.iter().find(|t| t.priority == priority as i32);
        if !thresholds?.track_remaining {
            return None;
        }
        let scope = scope.scope("circuit_breakers").scope(["default", "high"][priority]);
        let stats = RemainingStats::new(&scope);
        members::derive_remaining(&stats, &breakers[priority]);
        Some(stats)
    });
    let plan = ClusterPlan {
        name: c.name.as_str().into(),
        observability_name: alt.as_str().into(),
        connect_timeout: duration_or(&c.connect_timeout, Duration::from_secs(5))?,
        keepalive: c.upstream_connection_options.as_ref().and_then(|o| o.tcp_keepalive).map(keepalive),
        eyeballs: Eyeballs::new(c.upstream_connection_options.as_ref())?,
        lb: lb::config::of_cluster(c, PolicyCx { build: cx, scope: &scope, cluster: &c.name })?,
        panic: panic_policy(c, &cx.server.runtime()),
        merge_window: merge_window(c)?,
        warm_hosts: c.common_lb_config.as_ref().is_some_and(|l| l.ignore_new_hosts_until_first_hc),
        close_on_set_change: c
            .common_lb_config
            .as_ref()
            .is_some_and(|l| l.close_connections_on_host_set_change),
        override_status: HealthStatuses::new(
            c.common_lb_config.as_ref().and_then(|l| l.override_host_status.as_ref()),
        ),
        ignore_health_on_host_removal: c.ignore_health_on_host_removal,
        waits_for_names: c.wait_for_warm_on_init.unwrap_or(true),
        transports,
        source: source(c)?,
        http,
        preconnect: preconnect(c)?,
        pool_per_connection: c.connection_pool_per_downstream_connection,
        breakers,
        stats: ClusterStats::new(&scope),
        remaining,
        metadata: LazyMetadata::new(c.metadata.as_ref()),
        added_via_api,
        maintenance: AtomicU32::new(0),
        use_http2: cx.server.runtime().number("upstream.use_http2", 100),
        scope,
    };
    if ClusterPlan::RUNTIME_PREFIXES.iter().any(|p| runtime.has_prefix(p)) {
        plan.apply_runtime(&runtime);
    }
    let outlier = match &c.outlier_detection {
        Some(o) => Some(Box::new(outlier::Config::new(o, &cx.server.runtime())?)),
        None => None,
    };
    let health = health_checks(c, &plan, cx)?;
    let endpoints = endpoints(c, discovery)?;
    let eds = match discovery {
        Discovery::Eds => Some(EdsPlan::new(c, cx, &plan.scope)?),
        Discovery::Static | Discovery::Dns | Discovery::OriginalDst | Discovery::Forward => None,
    };
    let forward = forward.map(|(_, cache)| cache.name.into());
    Ok(Built { plan: Arc::new(plan), discovery, endpoints, dns, outlier, health, eds, forward })
}

/// `auto_config` leaves the HTTP version to the handshake, so every connection must have one.
fn negotiable(c: &pb::Cluster, transports: &Transports, runtime: &Snapshot) -> BuildResult<()> {
    let lacks = |what: &str| {
        Err(BuildError(format!(
            "ALPN configured for cluster {} which has a non-ALPN {what}: {}",
            c.name, c.name
        )))
    };
    if !transports.default_negotiates() {
        return lacks("transport socket");
    }
    if !transports.all_negotiate() && runtime.number("config.do_not_validate_alpn_support", 0) == 0 {
        return lacks("transport socket matcher");
    }
    Ok(())
}

fn health_checks(
    c: &pb::Cluster,
    plan: &ClusterPlan,
    cx: &BuildCx<'_>,
) -> BuildResult<Vec<health_check::Configured>> {
    let unnamed = c.health_checks.iter().position(|h| h.name.is_empty());
    if let (Some(i), 2..) = (unnamed, c.health_checks.len()) {
        return Err(BuildError(format!(
            "health check at index {i} is missing a name; all health checks must have a name when multiple health \
             checks are configured"
        )));
    }
    let mut names = HashSet::new();
    let twice = c.health_checks.iter().position(|h| !h.name.is_empty() && !names.insert(&h.name));
    if let Some(i) = twice {
        return Err(BuildError(format!(
            "duplicate health check name '{}' at index {i}; all health check names must be unique within a cluster",
            c.health_checks[i].name
        )));
    }
    let each = c.health_checks.iter().map(|h| {
        let config = health_check::Config::new(h, &c.name, plan.http.protocol, &plan.scope, cx)?;
        let own = match h.tls_options.as_ref().filter(|t| !t.alpn_protocols.is_empty()) {
            Some(t) => Some(Transports::new(c, None, &t.alpn_protocols, &plan.scope, cx)?),
            None => None,
        };
        Ok((config, own))
    });
    each.collect()
}

/// Where hosts come from, and how names are resolved.
fn discovery(c: &pb::Cluster) -> BuildResult<(Discovery, DnsOptions)> {
    use pb::cluster::{ClusterDiscoveryType as T, DiscoveryType as D};
    let dns = |logical| Ok((Discovery::Dns, DnsOptions { logical, ..DnsOptions::new(c)? }));
    let found = match &c.cluster_discovery_type {
        None => Ok((Discovery::Static, DnsOptions::default())),
        Some(T::Type(t)) => match D::try_from(*t) {
            Ok(D::Static) => Ok((Discovery::Static, DnsOptions::default())),
            Ok(D::OriginalDst) => Ok((Discovery::OriginalDst, DnsOptions::default())),
            Ok(D::StrictDns) => dns(false),
            Ok(D::LogicalDns) => dns(true),
            Ok(D::Eds) => Ok((Discovery::Eds, DnsOptions::default())),
            Err(_) => Err("unknown cluster type".into()),
        },
        Some(T::ClusterType(t)) => match (t.name.as_str(), &t.typed_config) {
            (_, Some(any)) if any.type_url.ends_with("/envoy.extensions.clusters.dns.v3.DnsCluster") => {
                Ok((Discovery::Dns, DnsOptions::of_extension(&proto::unpack(any)?)?))
            }
            ("envoy.cluster.eds", None) => Ok((Discovery::Eds, DnsOptions::default())),
            (_, Some(any)) if any.type_url.ends_with(forward::config::TYPE) => {
                Ok((Discovery::Forward, DnsOptions::default()))
            }
            // It has no hosts of its own.
            (_, Some(any)) if any.type_url.ends_with(lb::config::AGGREGATE) => {
                Ok((Discovery::Static, DnsOptions::default()))
            }
            ("envoy.cluster.static", None) => Ok((Discovery::Static, DnsOptions::default())),
            ("envoy.cluster.strict_dns", None) => dns(false),
            ("envoy.cluster.logical_dns", None) => dns(true),
            _ => Err(BuildError::not_implemented(format_args!("Cluster.cluster_type: {}", t.name))),
        },
    }?;
    if found.1.logical {
        match &c.load_assignment {
            None => return Err("LOGICAL_DNS clusters must have a single host".into()),
            Some(a) if a.endpoints.len() == 1 && a.endpoints[0].lb_endpoints.len() == 1 => {}
            Some(_) => {
                return Err("LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single \
                            lb_endpoint"
                    .into());
            }
        }
    }
    Ok(found)
}

/// A cluster that sends requests wherever they want to go asks for the names in them, and checks certificates by those,
/// unless it says something itself.
fn safe_by_default(c: &pb::Cluster) -> pb::Cluster {
    let mut c = c.clone();
    if c.upstream_http_protocol_options.is_none() {
        let auto = core::UpstreamHttpProtocolOptions {
            auto_sni: true,
            auto_san_validation: true,
            ..Default::default()
        };
        c.upstream_http_protocol_options = Some(auto);
    }
    c
}

fn panic_policy(c: &pb::Cluster, runtime: &Runtime) -> PanicPolicy {
    let threshold = c.common_lb_config.as_ref().and_then(|l| l.healthy_panic_threshold.as_ref());
    // In whole percent, as in Envoy.
    let threshold = threshold.map_or(50, |p| p.value.round() as u64);
    let panic = PanicPolicy::new(runtime.number("upstream.healthy_panic_threshold", threshold));
    panic.set_policy(c.load_assignment.as_ref().and_then(|a| a.policy.as_ref()));
    panic
}

fn merge_window(c: &pb::Cluster) -> BuildResult<Duration> {
    let default = Duration::from_secs(1);
    c.common_lb_config.as_ref().map_or(Ok(default), |l| duration_or(&l.update_merge_window, default))
}

/// `preconnect_policy.per_upstream_preconnect_ratio`; `None` unless more connections are wanted than requests need.
fn preconnect(c: &pb::Cluster) -> BuildResult<Option<f64>> {
    let Some(p) = &c.preconnect_policy else { return Ok(None) };
    if p.predictive_preconnect_ratio.is_some_and(|r| r > 1.0) {
        return Err(BuildError::not_implemented(
            "Cluster.PreconnectPolicy.predictive_preconnect_ratio above 1",
        ));
    }
    Ok(p.per_upstream_preconnect_ratio.filter(|r| *r > 1.0))
}

fn breakers(c: Option<&pb::CircuitBreakers>) -> BuildResult<[Arc<Breakers>; 2]> {
    let thresholds = c.map(|c| &c.thresholds[..]).unwrap_or_default();
    let per_host = c.map(|c| &c.per_host_thresholds[..]).unwrap_or_default();
    // Envoy's words.
    if per_host.iter().any(|t| {
        t.max_pending_requests.is_some()
            || t.max_requests.is_some()
            || t.max_retries.is_some()
            || t.max_connection_pools.is_some()
            || t.retry_budget.is_some()
    }) {
        return Err("Unsupported field in per_host_thresholds".into());
    }
    Ok([0, 1].map(|priority| {
        let t = thresholds.iter().find(|t| t.priority == priority);
        let max = |v: Option<Option<u32>>, default| Resource::new(v.flatten().unwrap_or(default));
        Arc::new(Breakers {
            connections: max(t.map(|t| t.max_connections), 1024),
            pending: max(t.map(|t| t.max_pending_requests), 1024),
            requests: max(t.map(|t| t.max_requests), 1024),
            retries: max(t.map(|t| t.max_retries), 3),
            // Nobody counts them where nobody asks.
            pools: t.and_then(|t| match (t.max_connection_pools, t.track_remaining) {
                (None, false) => None,
                (None, true) => Some(Resource::unlimited()),
                (Some(max), _) => Some(Resource::new(max)),
            }),
            per_host: per_host.iter().find(|t| t.priority == priority).and_then(|t| t.max_connections),
            budget: t.and_then(|t| t.retry_budget.as_ref()).map(|b| {
                Box::new(RetryBudget {
                    percent: b.budget_percent.as_ref().map_or(20.0, |p| p.value),
                    min: b.min_retry_concurrency.unwrap_or(3).into(),
                })
            }),
        })
    }))
}

/// `upstream_http_protocol_options`, where it stands now or where it stood.
pub fn auto(c: &pb::Cluster) -> BuildResult<Option<core::UpstreamHttpProtocolOptions>> {
    let any =
        c.typed_extension_protocol_options.get("envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    let o: Option<up::HttpProtocolOptions> = any.map(proto::unpack).transpose()?;
    Ok(o.map_or_else(|| c.upstream_http_protocol_options.clone(), |o| o.upstream_http_protocol_options))
}

fn http(c: &pb::Cluster, runtime: &Snapshot, cx: &BuildCx<'_>) -> BuildResult<UpstreamHttp> {
    let any =
        c.typed_extension_protocol_options.get("envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    if let Some(other) = c
        .typed_extension_protocol_options
        .keys()
        .find(|k| *k != "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
    {
        return Err(BuildError::not_implemented(format_args!(
            "Cluster.typed_extension_protocol_options: {other}"
        )));
    }
    let o: up::HttpProtocolOptions = match any {
        Some(any) => proto::unpack(any)?,
        None => up::HttpProtocolOptions::default(),
    };
    let (old_h2, old_max) = (c.http2_protocol_options.as_deref(), c.max_requests_per_connection);
    let mut common = o.common_http_protocol_options.unwrap_or_default();
    let guard = |name: &str, default| runtime.number(&format!("envoy.reloadable_features.{name}"), default);
    common.max_headers_count.get_or_insert_with(|| guard("max_response_headers_count", 100) as u32);
    let head_kb = |default| match (common.max_response_headers_kb, guard("max_response_headers_size_kb", 0)) {
        (Some(kb), _) => kb as usize,
        (None, 0) => default,
        (None, kb) => kb.min(8192) as usize,
    };
    if common.max_stream_duration.is_some() {
        return Err(BuildError::not_implemented("HttpProtocolOptions.max_stream_duration of a cluster"));
    }
    let (protocol, h1o, h2o) = match &o.upstream_protocol_options {
        None if old_h2.is_some() => (UpstreamProtocol::Http2, None, old_h2.cloned()),
        None => (UpstreamProtocol::Http1, None, None),
        Some(U::ExplicitHttpConfig(e)) => match &e.protocol_config {
            Some(P::Http2ProtocolOptions(h)) => (UpstreamProtocol::Http2, None, Some((**h).clone())),
            Some(P::HttpProtocolOptions(h)) => (UpstreamProtocol::Http1, Some((**h).clone()), None),
            _ => {
                return Err(BuildError::not_implemented(
                    "HttpProtocolOptions.explicit_http_config.http3_protocol_options",
                ));
            }
        },
        Some(U::UseDownstreamProtocolConfig(d)) => (
            UpstreamProtocol::Downstream,
            d.http_protocol_options.as_deref().cloned(),
            d.http2_protocol_options.as_deref().cloned(),
        ),
        Some(U::AutoConfig(a)) => (
            UpstreamProtocol::Auto { http2: a.http2_protocol_options.is_some() },
            a.http_protocol_options.as_deref().cloned(),
            a.http2_protocol_options.as_deref().cloned(),
        ),
    };
    let h1o = h1o.unwrap_or_default();
    Ok(UpstreamHttp {
        protocol,
        h1: shared(
            &LAST_H1,
            h1::ClientSettings {
                max_head_bytes: head_kb(80) * 1024,
                max_headers: common.max_headers_count.unwrap_or(100) as usize,
                enable_trailers: h1o.enable_trailers,
                allow_chunked_length: h1o.allow_chunked_length,
                send_fully_qualified_url: h1o.send_fully_qualified_url,
                header_case: crate::http::header_case::header_case(h1o.header_key_format.as_ref())?,
            },
        ),
        h2: shared(&LAST_H2, config::h2_settings(h2o.as_ref(), &common, head_kb(60) * 1024)?),
        keepalive: config::keepalive(h2o.as_ref())?,
        filters: UpstreamFilters::new(&o.http_filters, Owner::Cluster, cx)?,
        idle_timeout: match &common.idle_timeout {
            None => Some(Duration::from_secs(3600)),
            some => duration(some)?.filter(|d| !d.is_zero()),
        },
        max_connection_duration: duration(&common.max_connection_duration)?.filter(|d| !d.is_zero()),
        max_requests_per_connection: common.max_requests_per_connection.or(old_max).unwrap_or(0),
    })
}

thread_local! {
    static LAST_H1: Last<h1::ClientSettings> = const { RefCell::new(None) };
    static LAST_H2: Last<h2::Settings> = const { RefCell::new(None) };
}

type Last<T> = RefCell<Option<Arc<T>>>;

/// What the cluster before has too, the two share: nearly all clusters of a configuration have the same settings.
fn shared<T: PartialEq>(last: &'static LocalKey<Last<T>>, new: T) -> Arc<T> {
    last.with_borrow_mut(|last| match last {
        Some(same) if **same == new => same.clone(),
        _ => last.insert(Arc::new(new)).clone(),
    })
}

/// `upstream_bind_config`, of which only the address is heeded.
fn source(c: &pb::Cluster) -> BuildResult<Option<SocketAddr>> {
    let Some(source) = c.upstream_bind_config.as_ref().and_then(|b| b.source_address.as_ref()) else {
        return Ok(None);
    };
    let a = core::Address { address: Some(core::address::Address::SocketAddress(source.clone())) };
    match proto::address(&a)? {
        nuncio_core::address::Address::Ip(a) => Ok(Some(a)),
        _ => Err(BuildError(format!("malformed IP address: {}", source.address))),
    }
}

fn endpoints(c: &pb::Cluster, discovery: Discovery) -> BuildResult<Vec<Endpoint>> {
    match &c.load_assignment {
        // Those of a control plane come later.
        Some(la) if discovery != Discovery::Eds => endpoints_of(la, discovery),
        _ => Ok(vec![]),
    }
}

/// The endpoints of an assignment.
///
/// # Errors
/// One of them is refused.
pub fn endpoints_of(la: &ep::ClusterLoadAssignment, discovery: Discovery) -> BuildResult<Vec<Endpoint>> {
    let mut all = vec![];
    for l in &la.endpoints {
        let locality = l.locality.as_ref().map(|l| [l.region.clone(), l.zone.clone(), l.sub_zone.clone()]);
        let locality = Arc::new(locality.unwrap_or_default());
        let locality_metadata = LazyMetadata::new(l.metadata.as_ref());
        for e in &l.lb_endpoints {
            let Some(ep::lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &e.host_identifier else {
                return Err(BuildError::not_implemented("LbEndpoint.endpoint_name"));
            };
            let Some(address) = endpoint.address.as_deref() else {
                return Err("EndpointValidationError.Address: value is required".into());
            };
            all.push(Endpoint {
                target: target(address, discovery)?,
                others: others(endpoint, discovery)?,
                hostname: match (&endpoint.hostname, discovery, &address.address) {
                    (h, Discovery::Dns, Some(core::address::Address::SocketAddress(s))) if h.is_empty() => {
                        s.address.clone()
                    }
                    (h, _, _) => h.clone(),
                },
                locality: locality.clone(),
                metadata: LazyMetadata::new(e.metadata.as_ref()),
                locality_metadata: locality_metadata.clone(),
                weight: e.load_balancing_weight.unwrap_or(1),
                priority: l.priority,
                locality_weight: l.load_balancing_weight.unwrap_or(0),
                status: e.health_status(),
                check: health_check::Target::new(endpoint.health_check_config.as_ref())?,
            });
        }
    }
    Ok(all)
}

/// `additional_addresses`
fn others(e: &ep::Endpoint, discovery: Discovery) -> BuildResult<Box<[nuncio_core::address::Address]>> {
    if discovery == Discovery::Dns && !e.additional_addresses.is_empty() {
        return Err(BuildError::not_implemented("Endpoint.additional_addresses of a name"));
    }
    let all = e.additional_addresses.iter().map(|a| match &a.address {
        Some(a) => proto::address(a).map_err(|e| BuildError(e.to_string())),
        None => Err("AdditionalAddress.address: value is required".into()),
    });
    all.collect()
}

fn target(a: &core::Address, discovery: Discovery) -> BuildResult<Target> {
    match (discovery, &a.address) {
        (Discovery::Dns, Some(core::address::Address::SocketAddress(s))) => {
            let port = proto::port(s)?;
            Ok(match s.address.parse() {
                Ok(ip) => Target::Address(SocketAddr::new(ip, port).into()),
                Err(_) => Target::Name(s.address.clone(), port),
            })
        }
        _ => proto::address(a).map(Target::Address).map_err(|e| {
            let hint =
                "Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'";
            BuildError(format!("{e}. {hint}"))
        }),
    }
}

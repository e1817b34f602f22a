//! Builds a listener from its proto, on main.

use super::chains::Chains;
use super::filters::Filters;
use super::gate::{self, NetworkFilters};
use super::socket::Listen;
use super::terminal::TerminalPlan;
use crate::http::config::ListenerCx;
use crate::proto;
use crate::stats::{ListenerConfigStats, ListenerStats};
use crate::tls::{ServerTls, fingerprint};
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use nuncio_core::access_log::Logger;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::{Direction, ListenerInfo};
use nuncio_core::registry::Kind;
use nuncio_core::rng;
use nuncio_core::runtime::{RuntimeNumber, ServerState};
use nuncio_core::stats::{Scope, sanitize};
use prost::Message;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What is read of `Listener` and the messages in it.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.listener.v3.Listener",
        &[
            "name",
            "address",
            "additional_addresses",
            "stat_prefix",
            "filter_chains",
            "metadata",
            "traffic_direction",
            "tcp_backlog_size",
            "bind_to_port",
            "deprecated_v1",
            "use_original_dst",
            "default_filter_chain",
            "listener_filters",
            "listener_filters_timeout",
            "continue_on_listener_filters_timeout",
            "access_log",
            "drain_type",
            "ignore_global_conn_limit",
            "bypass_overload_manager",
        ],
    )
    .ignoring(&[
        (
            "per_connection_buffer_limit_bytes",
            "a soft limit; our buffers per connection stay below Envoy's default",
        ),
        (
            "max_connections_to_accept_per_socket_event",
            "shares a worker's time between its sockets; ours accepts one connection at a time and shares it anyhow",
        ),
        ("enable_reuse_port", "every worker has a socket of its own; with one worker there is one socket"),
    ]),
    Covered::new("envoy.config.listener.v3.Listener.DeprecatedV1", &["bind_to_port"]),
    Covered::new(
        "envoy.config.listener.v3.FilterChain",
        &[
            "filter_chain_match",
            "filters",
            "transport_socket",
            "transport_socket_connect_timeout",
            "name",
            "metadata",
        ],
    ),
    Covered::new(
        "envoy.config.listener.v3.FilterChainMatch",
        &[
            "destination_port",
            "prefix_ranges",
            "address_suffix",
            "suffix_len",
            "server_names",
            "transport_protocol",
            "application_protocols",
            "direct_source_prefix_ranges",
            "source_type",
            "source_prefix_ranges",
            "source_ports",
        ],
    ),
    Covered::new(
        "envoy.config.listener.v3.ListenerFilter",
        &["name", "typed_config", "config_discovery", "filter_disabled"],
    ),
    Covered::new(
        "envoy.config.listener.v3.ListenerFilterChainMatchPredicate",
        &["or_match", "and_match", "not_match", "any_match", "destination_port_range"],
    ),
    Covered::new("envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet", &["rules"]),
    Covered::new("envoy.type.v3.Int32Range", &["start", "end"]),
    Covered::new("envoy.config.listener.v3.Filter", &["name", "typed_config", "config_discovery"]),
    Covered::new("envoy.config.core.v3.TransportSocket", &["name", "typed_config"]),
    Covered::new("envoy.config.core.v3.Address", &["socket_address", "pipe"]),
    Covered::new(
        "envoy.config.core.v3.SocketAddress",
        &["protocol", "address", "port_value", "ipv4_compat"],
    ),
    Covered::new("envoy.config.core.v3.Pipe", &["path", "mode"]),
    Covered::new("envoy.config.listener.v3.AdditionalAddress", &["address"]),
];

/// A listener as main builds it.
pub struct ListenerPlan {
    /// Name, direction, metadata.
    pub info: Arc<ListenerInfo>,
    /// Tells this generation of the listener from all others.
    pub tag: u64,
    /// Where to listen: the address, then `additional_addresses`.
    pub addresses: Vec<Listen>,
    /// `bind_to_port`: without it connections come from listeners that [hand them over](Self::use_original_dst) only.
    pub binds: bool,
    /// `use_original_dst`: connections belong to the listener at the address that they wanted to go to, if there is one.
    pub use_original_dst: bool,
    /// Runs before a chain is chosen.
    pub filters: Filters,
    /// Which chain a connection gets, by its place in `chains`.
    pub matcher: Chains,
    /// The filter chains; the default one, if any, is the last. Those that a change leaves alone are shared with the
    /// plan before.
    pub chains: Vec<Arc<ChainPlan>>,
    /// `access_log`: an entry per connection.
    pub access_logs: Vec<Logger>,
    /// `tcp_backlog_size`
    pub backlog: i32,
    /// `listener.<address>.`
    pub stats: ListenerStats,
    /// The same, but not of the admin interface.
    pub config_stats: Option<ListenerConfigStats>,
    /// The prefix of the stats, for those per worker.
    pub scope: Scope,
    /// Runtime key `envoy.resource_limits.listener.<name>.connection_limit`.
    pub connection_limit: RuntimeNumber,
    /// Connections open, over all workers, for the limit.
    pub connections: Arc<AtomicU64>,
    /// For what overload protection asks.
    pub server: Arc<ServerState>,
    /// `ignore_global_conn_limit`
    pub ignores_connection_limit: bool,
    /// `bypass_overload_manager`
    pub bypasses_overload: bool,
}

/// A filter chain.
#[derive(Clone)]
pub struct ChainPlan {
    /// Tells it from all other chains; a chain of which only the routes have changed keeps it.
    pub tag: u32,
    /// Its name.
    pub name: Arc<str>,
    /// TLS, or none.
    pub tls: Option<ServerTls>,
    /// Of the files and secrets that TLS uses ([`fingerprint`]).
    pub fingerprint: u64,
    /// `transport_socket_connect_timeout`
    pub handshake_timeout: Option<Duration>,
    /// The last network filter; without one every connection is closed at once.
    pub terminal: Option<TerminalPlan>,
    /// The network filters before it.
    pub network: NetworkFilters,
}

static NEXT_TAG: AtomicU64 = AtomicU64::new(0);

static NEXT_CHAIN: AtomicU32 = AtomicU32::new(0);

impl ListenerPlan {
    /// A number that no other generation of any listener has.
    pub fn next_tag() -> u64 {
        NEXT_TAG.fetch_add(1, Relaxed)
    }
    /// True when the files and secrets that `c`, this plan's configuration, names are still what they were.
    pub fn is_current(&self, c: &pb::Listener, cx: &BuildCx<'_>) -> bool {
        all_chains(c).zip(&self.chains).all(|(c, plan)| plan.fingerprint == fingerprint_of(c, cx))
    }
    /// Builds a listener. Filter chains that are also in `old`, the configuration and the plan before this one, are
    /// taken over.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(
        c: &pb::Listener,
        old: Option<(&pb::Listener, &ListenerPlan)>,
        cx: &BuildCx<'_>,
    ) -> BuildResult<ListenerPlan> {
        let address = c
            .address
            .as_deref()
            .ok_or_else(|| BuildError::from("error adding listener: no address specified"))?;
        let additional = c.additional_addresses.iter().map(|a| a.address.as_ref());
        let mut addresses = vec![listen(address)?];
        for a in additional {
            addresses.push(listen(a.ok_or_else(|| BuildError::from("Address must be set"))?)?);
        }
        let address = addresses[0].address.clone(); // put there above
        let all: Vec<_> = addresses.iter().map(|a| a.address.to_string()).collect();
        let all = all.join(",");
        let v1 = c.deprecated_v1.as_ref().and_then(|v1| v1.bind_to_port);
        let name = match c.name.is_empty() {
            true => String::from_utf8_lossy(&rng::uuid4()).into_owned(),
            false => c.name.clone(),
        };
        let prefix = match c.stat_prefix.is_empty() {
            true => sanitize(&address.to_string()),
            false => c.stat_prefix.clone(),
        };
        let scope = cx.scope.scope("listener").scope(&prefix);
        if c.filter_chains.is_empty() && c.default_filter_chain.is_none() {
            return Err(format!("error adding listener '{all}': no filter chains specified").into());
        }
        let cx = &BuildCx { scope: &scope, ..*cx };
        // Before the chains: what comes from a control plane is asked for in Envoy's order.
        let filters = Filters::new(c, cx)?;
        let default = c.default_filter_chain.as_ref().map(|_| c.filter_chains.len());
        let matcher = Chains::new(&c.filter_chains, default, &all)?;
        let drains_with_health = c.drain_type() == pb::listener::DrainType::Default;
        let bypasses_overload = c.bypass_overload_manager;
        let listener = ListenerCx { scope: &scope, drains_with_health, bypasses_overload };
        let chains =
            all_chains(c).map(|f| match old.map(|old| ChainPlan::continued(f, old, &listener, cx)) {
                Some(Ok(None)) | None => ChainPlan::new(f, &listener, cx).map(Arc::new),
                Some(Ok(Some(kept))) => Ok(kept),
                Some(Err(e)) => Err(e),
            });
        let chains = chains.collect::<BuildResult<_>>()?;
        let key = format!("envoy.resource_limits.listener.{name}.connection_limit");
        let direction = match c.traffic_direction {
            1 => Direction::Inbound,
            2 => Direction::Outbound,
            _ => Direction::Unspecified,
        };
        let buffer_limit = c.per_connection_buffer_limit_bytes.unwrap_or(1024 * 1024);
        let metadata = proto::metadata(c.metadata.as_ref());
        let info = ListenerInfo { name, direction, metadata, buffer_limit };
        Ok(ListenerPlan {
            info: Arc::new(info),
            tag: ListenerPlan::next_tag(),
            addresses,
            binds: c.bind_to_port != Some(false) && v1 != Some(false),
            use_original_dst: c.use_original_dst == Some(true),
            filters,
            matcher,
            chains,
            access_logs: nuncio_core::access_log::build(&c.access_log, cx)?,
            backlog: c.tcp_backlog_size.map_or(128, |b| b.min(i32::MAX as u32) as i32),
            stats: ListenerStats::new(&scope),
            config_stats: Some(ListenerConfigStats::new(&scope)),
            connection_limit: cx.server.runtime().number(&key, u64::MAX),
            connections: old.map(|(_, p)| p.connections.clone()).unwrap_or_default(),
            server: cx.server.state(),
            ignores_connection_limit: c.ignore_global_conn_limit,
            bypasses_overload,
            scope,
        })
    }
}

/// The filter chains in the order of their numbers: the default one is the last.
fn all_chains(c: &pb::Listener) -> impl Iterator<Item = &pb::FilterChain> {
    c.filter_chains.iter().chain(c.default_filter_chain.as_deref())
}

/// Of the files and secrets of a chain's TLS context.
fn fingerprint_of(c: &pb::FilterChain, cx: &BuildCx<'_>) -> u64 {
    fingerprint(c.transport_socket.as_ref(), &|name| cx.server.secret(name))
}

impl ChainPlan {
    /// A number that no other filter chain has.
    pub fn next_tag() -> u32 {
        NEXT_CHAIN.fetch_add(1, Relaxed)
    }
    fn new(c: &pb::FilterChain, listener: &ListenerCx<'_>, cx: &BuildCx<'_>) -> BuildResult<ChainPlan> {
        let terminal = TerminalPlan::new(&c.filters, listener, cx)?;
        let before_last = c.filters.split_last().map_or(&[][..], |(_, before)| before);
        let network = gate::build(before_last, matches!(terminal, Some(TerminalPlan::Http(_))), cx)?;
        Ok(ChainPlan {
            tag: ChainPlan::next_tag(),
            name: c.name.as_str().into(),
            tls: tls(c.transport_socket.as_ref(), listener.scope, cx)?,
            fingerprint: fingerprint_of(c, cx),
            handshake_timeout: proto::duration(&c.transport_socket_connect_timeout)?.filter(|d| !d.is_zero()),
            terminal,
            network,
        })
    }
    /// The chain of `old` that is the same as `c`, or differs in its routes only. Unlike Envoy's, a chain does not
    /// drain because its routes have changed.
    fn continued(
        c: &pb::FilterChain,
        (old, plan): (&pb::Listener, &ListenerPlan),
        listener: &ListenerCx<'_>,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Option<Arc<ChainPlan>>> {
        let chains = || all_chains(old).zip(&plan.chains);
        let now = fingerprint_of(c, cx);
        let secured = |kept: &ChainPlan| {
            // Connections that come from now on get the new certificates.
            let tls = tls(c.transport_socket.as_ref(), listener.scope, cx)?;
            Ok(Some(Arc::new(ChainPlan { tls, fingerprint: now, ..kept.clone() })))
        };
        if let Some((_, same)) = chains().find(|(o, _)| *o == c) {
            return if same.fingerprint == now { Ok(Some(same.clone())) } else { secured(same) };
        }
        let Some((new, rest)) = without_routes(c) else { return Ok(None) };
        let like = |o: &pb::FilterChain| without_routes(o).is_some_and(|(_, r)| r == rest);
        let Some((_, kept)) = chains().find(|(o, _)| like(o)) else { return Ok(None) };
        let Some(TerminalPlan::Http(hcm)) = &kept.terminal else { return Ok(None) };
        let Some(hcm) = hcm.with_routes(&new, cx)? else { return Ok(None) };
        let terminal = Some(TerminalPlan::Http(Arc::new(hcm)));
        let kept = ChainPlan { terminal, ..(**kept).clone() };
        if kept.fingerprint == now { Ok(Some(Arc::new(kept))) } else { secured(&kept) }
    }
}

/// The one filter whose configuration may change under its connections.
const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A filter chain that is one connection manager with routes in it: the manager, and the chain without these routes.
fn without_routes(c: &pb::FilterChain) -> Option<(HttpConnectionManager, pb::FilterChain)> {
    let mut rest = c.clone();
    let [pb::Filter { config_type: Some(pb::filter::ConfigType::TypedConfig(any)), .. }] =
        &mut rest.filters[..]
    else {
        return None;
    };
    if any.type_url.rsplit('/').next() != Some(HCM) {
        return None;
    }
    let manager: HttpConnectionManager = proto::unpack(any).ok()?;
    let mut bare = manager.clone();
    let Some(RouteSpecifier::RouteConfig(_)) = bare.route_specifier.take() else { return None };
    any.value = bare.encode_to_vec();
    Some((manager, rest))
}

/// An address to listen at, with the permissions of a pipe.
fn listen(a: &core::Address) -> BuildResult<Listen> {
    let mode = match &a.address {
        Some(core::address::Address::Pipe(p)) => {
            if p.mode != 0 && p.path.starts_with('@') {
                return Err("Cannot set mode for Abstract AF_UNIX sockets".into());
            }
            p.mode
        }
        Some(core::address::Address::SocketAddress(s)) if s.protocol != 0 => {
            return Err(BuildError::not_implemented("SocketAddress.protocol: UDP"));
        }
        _ => 0,
    };
    let ipv4_compat = match &a.address {
        Some(core::address::Address::SocketAddress(s)) => s.ipv4_compat,
        _ => false,
    };
    let address = proto::address(a)?;
    if ipv4_compat {
        let takes_both = |a: Ipv6Addr| a.is_unspecified() || a.to_ipv4_mapped().is_some();
        if !matches!(&address, Address::Ip(SocketAddr::V6(a)) if takes_both(*a.ip())) {
            return Err(BuildError(format!(
                "Only IPv6 address '::' or valid IPv4-mapped IPv6 address can set ipv4_compat: {address}"
            )));
        }
    }
    Ok(Listen { address, mode, ipv4_compat })
}

fn tls(t: Option<&core::TransportSocket>, scope: &Scope, cx: &BuildCx<'_>) -> BuildResult<Option<ServerTls>> {
    let Some(t) = t else { return Ok(None) };
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &t.config_type else {
        return Err(nuncio_api::extensions::unregistered(&t.name, "").into());
    };
    match any.type_url.rsplit('/').next() {
        Some("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer") => Ok(None),
        Some("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext") => {
            Ok(Some(ServerTls::new(proto::unpack(any)?, scope, cx)?))
        }
        _ => {
            let e = cx.registry.find::<()>(Kind::DownstreamTransportSocket, &t.name, &any.type_url);
            Err(e.err().unwrap_or_else(|| BuildError::not_implemented(&t.name)))
        }
    }
}

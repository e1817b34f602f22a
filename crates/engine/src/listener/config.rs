//! Builds a listener from its proto, on main.

use crate::http::HcmPlan;
use crate::http::config::ListenerCx;
use crate::proto;
use crate::stats::{ListenerConfigStats, ListenerStats};
use crate::tls::ServerTls;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::{Direction, ListenerInfo};
use nuncio_core::registry::Kind;
use nuncio_core::rng;
use nuncio_core::runtime::RuntimeNumber;
use nuncio_core::stats::{Scope, sanitize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// What is read of `Listener` and the messages in it.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.listener.v3.Listener",
        &[
            "name",
            "address",
            "stat_prefix",
            "filter_chains",
            "metadata",
            "traffic_direction",
            "tcp_backlog_size",
            "bind_to_port",
        ],
    )
    .ignoring(&[
        (
            "per_connection_buffer_limit_bytes",
            "a soft limit; our buffers per connection stay below Envoy's default",
        ),
        ("drain_type", "matters when listeners are removed by a control plane"),
        ("ignore_global_conn_limit", "there is no global connection limit yet"),
        ("enable_reuse_port", "every worker has a socket of its own; with one worker there is one socket"),
    ]),
    Covered::new(
        "envoy.config.listener.v3.FilterChain",
        &["filters", "transport_socket", "transport_socket_connect_timeout", "name", "metadata"],
    ),
    Covered::new("envoy.config.listener.v3.Filter", &["name", "typed_config"]),
    Covered::new("envoy.config.core.v3.TransportSocket", &["name", "typed_config"]),
    Covered::new("envoy.config.core.v3.Address", &["socket_address", "pipe"]),
    Covered::new("envoy.config.core.v3.SocketAddress", &["protocol", "address", "port_value"])
        .ignoring(&[("ipv4_compat", "IPv4-mapped addresses are accepted and printed as IPv4")]),
    Covered::new("envoy.config.core.v3.Pipe", &["path"]),
];

/// A listener as main builds it.
pub struct ListenerPlan {
    /// Name, direction, metadata.
    pub info: Arc<ListenerInfo>,
    /// Where to listen.
    pub address: Address,
    /// The one filter chain.
    pub chain: ChainPlan,
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
    pub connections: AtomicU64,
}

/// A filter chain.
pub struct ChainPlan {
    /// Its name.
    pub name: Arc<str>,
    /// TLS, or none.
    pub tls: Option<ServerTls>,
    /// `transport_socket_connect_timeout`
    pub handshake_timeout: Option<Duration>,
    /// The connection manager; without one every connection is closed at once.
    pub hcm: Option<Arc<HcmPlan>>,
}

impl ListenerPlan {
    /// Builds a listener.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: &pb::Listener, cx: &BuildCx<'_>) -> BuildResult<ListenerPlan> {
        let address = c
            .address
            .as_deref()
            .ok_or_else(|| BuildError::from("error adding listener: no address specified"))?;
        let address = proto::address(address)?;
        if matches!(c.bind_to_port, Some(false)) {
            return Err(BuildError::not_implemented("Listener.bind_to_port: false"));
        }
        let name = match c.name.is_empty() {
            true => String::from_utf8_lossy(&rng::uuid4()).into_owned(),
            false => c.name.clone(),
        };
        let prefix = match c.stat_prefix.is_empty() {
            true => sanitize(&address.to_string()),
            false => c.stat_prefix.clone(),
        };
        let scope = cx.scope.scope("listener").scope(&prefix);
        let chain = match &c.filter_chains[..] {
            [one] => ChainPlan::new(one, &scope, cx)?,
            [] => {
                return Err(format!("error adding listener '{address}': no filter chains specified").into());
            }
            all => {
                return Err(duplicate_chain(all, &address).unwrap_or_else(|| {
                    BuildError::not_implemented("Listener.filter_chains: more than one")
                }));
            }
        };
        let key = format!("envoy.resource_limits.listener.{name}.connection_limit");
        let direction = match c.traffic_direction {
            1 => Direction::Inbound,
            2 => Direction::Outbound,
            _ => Direction::Unspecified,
        };
        let info = ListenerInfo { name, direction, metadata: proto::metadata(c.metadata.as_ref()) };
        Ok(ListenerPlan {
            info: Arc::new(info),
            address,
            chain,
            backlog: c.tcp_backlog_size.map_or(128, |b| b.min(i32::MAX as u32) as i32),
            stats: ListenerStats::new(&scope),
            config_stats: Some(ListenerConfigStats::new(&scope)),
            connection_limit: cx.server.runtime().number(&key, u64::MAX),
            connections: AtomicU64::new(0),
            scope,
        })
    }
}

/// Says of two chains that match the same connections, when there are none that need a closer look.
fn duplicate_chain(all: &[pb::FilterChain], address: &Address) -> Option<BuildError> {
    let matches_all = |c: &&pb::FilterChain| {
        c.filter_chain_match.as_ref().is_none_or(|m| prost::Message::encoded_len(m) == 0)
    };
    let mut same = all.iter().filter(matches_all);
    let (first, second) = (same.next()?, same.next()?);
    Some(BuildError(format!(
        "error adding listener '{address}': filter chain '{}' has the same matching rules defined as '{}'. duplicate \
         matcher is: {{}}",
        second.name, first.name
    )))
}

impl ChainPlan {
    fn new(c: &pb::FilterChain, scope: &Scope, cx: &BuildCx<'_>) -> BuildResult<ChainPlan> {
        let hcm = ChainPlan::connection_manager(c, scope, cx)?;
        Ok(ChainPlan {
            name: c.name.as_str().into(),
            tls: tls(c.transport_socket.as_ref(), scope, cx)?,
            handshake_timeout: proto::duration(&c.transport_socket_connect_timeout)?.filter(|d| !d.is_zero()),
            hcm,
        })
    }
    fn connection_manager(
        c: &pb::FilterChain,
        scope: &Scope,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Option<Arc<HcmPlan>>> {
        let Some((last, before)) = c.filters.split_last() else { return Ok(None) };
        if let Some(f) = before.first() {
            return Err(BuildError::not_implemented(format_args!(
                "network filter {} before the last",
                f.name
            )));
        }
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &last.config_type else {
            return Err(nuncio_api::extensions::unregistered(&last.name, "").into());
        };
        const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        if any.type_url.rsplit('/').next() != Some(HCM) {
            // The registry has the right words; it holds no network filter yet.
            let e = cx.registry.find::<()>(Kind::NetworkFilter, &last.name, &any.type_url);
            return Err(e.err().unwrap_or_else(|| BuildError::not_implemented(&last.name)));
        }
        HcmPlan::new(&proto::unpack(any)?, &ListenerCx { scope }, cx).map(|h| Some(Arc::new(h)))
    }
}

fn tls(t: Option<&core::TransportSocket>, scope: &Scope, cx: &BuildCx<'_>) -> BuildResult<Option<ServerTls>> {
    let Some(t) = t else { return Ok(None) };
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &t.config_type else {
        return Err(nuncio_api::extensions::unregistered(&t.name, "").into());
    };
    match any.type_url.rsplit('/').next() {
        Some("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer") => Ok(None),
        Some("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext") => {
            Ok(Some(ServerTls::new(&proto::unpack(any)?, scope)?))
        }
        _ => {
            let e = cx.registry.find::<()>(Kind::DownstreamTransportSocket, &t.name, &any.type_url);
            Err(e.err().unwrap_or_else(|| BuildError::not_implemented(&t.name)))
        }
    }
}

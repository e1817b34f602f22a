//! Which transport a connection to a host gets (`transport_socket`, `transport_socket_matches`), and what a request
//! asks of it (`auto_sni`, `auto_san_validation`, the addresses of a PROXY header). Requests that ask for different things
//! do not share connections.

use super::host::Wanted;
use super::proxy_header::ProxyHeader;
use crate::proto;
use crate::stats::{ClusterStats, TransportMatchStats};
use crate::tls::secrets::Find;
use crate::tls::{ClientTls, fingerprint};
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::{ConnInfo, HostInfo};
use nuncio_core::metadata::LazyMetadata;
use nuncio_core::registry::Kind;
use nuncio_core::stats::{Scope, sanitize};
use nuncio_wire::{RequestHead, name};
use prost_types::{Struct, Value};
use std::net::IpAddr;
use std::sync::Arc;

/// What is read of the messages about transports.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
        &["name", "match", "transport_socket"],
    ),
    Covered::new(
        "envoy.config.core.v3.UpstreamHttpProtocolOptions",
        &["auto_sni", "auto_san_validation", "override_auto_sni_header"],
    ),
    Covered::new(
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        &["config", "transport_socket"],
    ),
    Covered::new("envoy.config.core.v3.ProxyProtocolConfig", &["version", "added_tlvs"]),
    Covered::new("envoy.config.core.v3.TlvEntry", &["type", "value"]),
];

/// How a connection to a host is made.
#[derive(Clone)]
pub enum Transport {
    /// `envoy.transport_sockets.raw_buffer`
    Raw,
    /// `envoy.transport_sockets.tls`
    Tls(Arc<ClientTls>),
    /// `envoy.transport_sockets.upstream_proxy_protocol`, over one of the others.
    Proxy(Arc<(ProxyHeader, Transport)>),
}

/// The transports of a cluster.
#[derive(Clone)]
pub struct Transports {
    default: Transport,
    matches: Box<[Match]>,
    auto: Option<Box<Auto>>,
    /// Some transport sends the addresses of the downstream connection.
    addresses: bool,
}

/// An entry of `transport_socket_matches`.
#[derive(Clone)]
struct Match {
    labels: Struct,
    transport: Transport,
    stats: TransportMatchStats,
}

/// `upstream_http_protocol_options`
#[derive(Clone)]
struct Auto {
    sni: bool,
    san: bool,
    /// `override_auto_sni_header`, or empty.
    header: String,
}

/// What a request asks of its connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TransportOptions {
    /// The server name to ask for.
    pub sni: Option<Box<str>>,
    /// The name that the host's certificate must be for.
    pub san: Option<Box<str>>,
    /// The client's address, and ours as it knows it.
    pub addresses: Option<Box<(Address, Address)>>,
}

/// The name space of an endpoint's metadata that `transport_socket_matches` look at.
const LABELS: &str = "envoy.transport_socket_match";

impl Transports {
    /// Builds the transports of a cluster; `auto` are its `upstream_http_protocol_options`, and TLS offers `alpn` when it
    /// names nothing itself.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(
        c: &pb::Cluster,
        auto: Option<&core::UpstreamHttpProtocolOptions>,
        alpn: &[String],
        scope: &Scope,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Transports> {
        let build = |t: &core::TransportSocket| Transport::new(t, alpn, scope, cx);
        let mut matches = vec![];
        for m in &c.transport_socket_matches {
            let transport = m.transport_socket.as_ref().map_or(Ok(Transport::Raw), build)?;
            let stats = TransportMatchStats::new(&scope.scope(&sanitize(&m.name)));
            matches.push(Match { labels: m.r#match.clone().unwrap_or_default(), transport, stats });
        }
        let default = c.transport_socket.as_ref().map_or(Ok(Transport::Raw), build)?;
        let proxies = |t: &Transport| matches!(t, Transport::Proxy(_));
        let auto = auto.filter(|a| a.auto_sni || a.auto_san_validation).map(|a| {
            let header = a.override_auto_sni_header.to_ascii_lowercase();
            Box::new(Auto { sni: a.auto_sni, san: a.auto_san_validation, header })
        });
        Ok(Transports {
            addresses: proxies(&default) || matches.iter().any(|m| proxies(&m.transport)),
            default,
            matches: matches.into(),
            auto,
        })
    }
    /// Connections of the default transport begin with a handshake.
    pub fn default_negotiates(&self) -> bool {
        self.default.is_tls()
    }
    /// Connections begin with a handshake, whatever the host.
    pub fn all_negotiate(&self) -> bool {
        self.default.is_tls() && self.matches.iter().all(|m| m.transport.is_tls())
    }
    /// The transport of a host: the first whose labels are all in its metadata, else the default one.
    pub fn of(&self, host: &HostInfo) -> &Transport {
        self.matched(host).map_or(&self.default, |m| &m.transport)
    }
    /// The transport of who has these labels, whatever its host has.
    pub fn labelled(&self, labels: &Struct) -> &Transport {
        let fits = |m: &&Match| m.labels.fields.iter().all(|(k, v)| labels.fields.get(k) == Some(v));
        self.matches.iter().find(fits).map_or(&self.default, |m| &m.transport)
    }
    /// By the metadata of the host, else by those of its locality.
    fn matched(&self, host: &HostInfo) -> Option<&Match> {
        let by = |metadata: &LazyMetadata| {
            let has = |(k, v): (&String, &Value)| metadata.get(LABELS, [&**k]) == Some(v);
            self.matches.iter().find(|m| m.labels.fields.iter().all(has))
        };
        by(&host.metadata).or_else(|| by(&host.locality_metadata))
    }
    /// Counts the hosts that were found by the transport they get.
    pub fn count(&self, wanted: &[Wanted], stats: &ClusterStats) {
        if self.matches.is_empty() {
            return stats.default_total_match_count().add(wanted.len() as u64);
        }
        for w in wanted {
            match self.matched(&w.info) {
                Some(m) => m.stats.total_match_count().inc(),
                None => stats.default_total_match_count().inc(),
            }
        }
    }
    /// What a request (nothing: bytes) of this downstream connection asks of its connection; `None`: nothing.
    pub fn options(&self, head: Option<&RequestHead>, conn: &ConnInfo) -> Option<TransportOptions> {
        if self.auto.is_none() && !self.addresses {
            return None;
        }
        let mut o = TransportOptions::default();
        if self.addresses {
            o.addresses = Some(Box::new((conn.remote.borrow().clone(), conn.local.borrow().clone())));
        }
        if let (Some(auto), Some(head)) = (&self.auto, head) {
            auto.ask(head, &mut o);
        }
        Some(o)
    }
}

/// True without a transport socket, or with one that sends bytes as they are.
pub fn is_plain(socket: Option<&core::TransportSocket>) -> bool {
    use core::transport_socket::ConfigType::TypedConfig;
    match socket.and_then(|s| s.config_type.as_ref()) {
        None => true,
        Some(TypedConfig(any)) => {
            any.type_url.ends_with("/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")
        }
    }
}

/// A number that changes when the files or secrets of one of the transports do.
pub fn fingerprint_of(c: &pb::Cluster, find: Find<'_>) -> u64 {
    let others = c.transport_socket_matches.iter().map(|m| fingerprint(m.transport_socket.as_ref(), find));
    others.fold(fingerprint(c.transport_socket.as_ref(), find), |all, one| all.rotate_left(1) ^ one)
}

impl Auto {
    fn ask(&self, head: &RequestHead, o: &mut TransportOptions) {
        let own = Some(&*self.header).filter(|h| !h.is_empty());
        let own = own.and_then(|h| head.headers.get(h)).filter(|v| !v.is_empty());
        let Some(authority) = own.or_else(|| head.headers.get(name::AUTHORITY)) else { return };
        let host = host_of(&String::from_utf8_lossy(authority)).to_owned();
        if self.sni && host.parse::<IpAddr>().is_err() {
            o.sni = Some(host.as_str().into());
        }
        if self.san {
            o.san = Some(host.into());
        }
    }
}

/// The host of an authority, without its port and without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    if let Some((v6, _)) = authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        return v6;
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

impl Transport {
    /// True when TLS is spoken in the end.
    pub fn is_tls(&self) -> bool {
        match self {
            Transport::Raw => false,
            Transport::Tls(_) => true,
            Transport::Proxy(p) => p.1.is_tls(),
        }
    }
    fn new(
        t: &core::TransportSocket,
        alpn: &[String],
        scope: &Scope,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Transport> {
        let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &t.config_type else {
            return Err(nuncio_api::extensions::unregistered(&t.name, "").into());
        };
        match any.type_url.rsplit('/').next() {
            Some("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer") => Ok(Transport::Raw),
            Some("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext") => {
                let mut c: UpstreamTlsContext = proto::unpack(any)?;
                let common = c.common_tls_context.get_or_insert_default();
                if common.alpn_protocols.is_empty() {
                    common.alpn_protocols = alpn.to_vec();
                }
                Ok(Transport::Tls(Arc::new(ClientTls::new(c, scope, cx)?)))
            }
            Some("envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport") => {
                let c: ProxyProtocolUpstreamTransport = proto::unpack(any)?;
                let header = ProxyHeader::new(&c.config.unwrap_or_default(), scope);
                let Some(inner) = &c.transport_socket else { return Err("value is required".into()) };
                Ok(Transport::Proxy(Arc::new((header, Transport::new(inner, alpn, scope, cx)?))))
            }
            _ => {
                let e = cx.registry.find::<()>(Kind::UpstreamTransportSocket, &t.name, &any.type_url);
                Err(e.err().unwrap_or_else(|| BuildError::not_implemented(&t.name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_authorities() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:443", "a.example"),
            ("[::1]:443", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("10.0.0.1:80", "10.0.0.1"),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn requests_ask_for_their_host() {
        let ask = |auto: Auto, headers: &[(&str, &str)]| {
            let headers = headers.iter().copied().collect();
            let mut o = TransportOptions::default();
            auto.ask(&RequestHead { headers, ..Default::default() }, &mut o);
            (o.sni, o.san)
        };
        let auto = |header: &str| Auto { sni: true, san: true, header: header.into() };
        let some = |s: &str| Some(Box::<str>::from(s));
        assert_eq!(ask(auto(""), &[(":authority", "a.b:1")]), (some("a.b"), some("a.b")));
        assert_eq!(ask(auto(""), &[(":authority", "10.0.0.1:1")]), (None, some("10.0.0.1")));
        assert_eq!(
            ask(auto("x-sni"), &[(":authority", "a.b"), ("x-sni", "c.d")]),
            (some("c.d"), some("c.d"))
        );
        assert_eq!(ask(auto("x-sni"), &[(":authority", "a.b")]), (some("a.b"), some("a.b")));
        assert_eq!(ask(auto(""), &[]), (None, None));
    }
}

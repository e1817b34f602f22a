//! The cluster that a channel is here.

use super::args::Args;
use super::target::Target;
use crate::data_source;
use crate::error::BuildResult;
use nuncio_api::envoy::config::cluster::v3 as cluster;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::core::v3::grpc_service::google_grpc as google;
use nuncio_api::envoy::config::endpoint::v3 as endpoint;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_api::envoy::extensions::upstreams::http::v3 as http;
use prost::{Message, Name};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// The window of streams and connections, in bytes: what the library announces.
const WINDOW: u32 = 4 << 20;
/// How long a connection may take to come about, in seconds (`GRPC_ARG_MIN_RECONNECT_BACKOFF_MS`).
const CONNECT: i64 = 20;

/// Where files of trusted authorities are, in the order in which the library looks for them.
const ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// `ssl_credentials`, for a server of this name.
pub(super) fn transport_socket(
    ssl: &google::SslCredentials,
    host: &str,
) -> BuildResult<core::TransportSocket> {
    let given = |s: &Option<core::DataSource>| s.clone().filter(|s| s.specifier.is_some());
    let ip: Option<IpAddr> = host.parse().ok();
    let roots = match given(&ssl.root_certs) {
        Some(s) => s,
        None => {
            let env = std::env::var("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH").ok();
            let file = env.into_iter().chain(ROOTS.map(str::to_owned)).find(|p| Path::new(p).is_file());
            let file =
                file.ok_or("ssl_credentials without root_certs: this machine has no trusted authorities")?;
            inline(std::fs::read(&file).map_err(|e| format!("unable to read file: {file}: {e}"))?)
        }
    };
    // Nobody follows these files: they are read now, as in Envoy.
    let read = |s: Option<core::DataSource>| s.map(|s| data_source::read(&s).map(inline)).transpose();
    let (key, chain) = (read(given(&ssl.private_key))?, read(given(&ssl.cert_chain))?);
    let names = ip.map(|ip| tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::IpAddress.into(),
        matcher: Some(nuncio_api::envoy::r#type::matcher::v3::StringMatcher {
            match_pattern: Some(nuncio_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern::Exact(
                ip.to_string(),
            )),
            ..Default::default()
        }),
        ..Default::default()
    });
    let validation = tls::CertificateValidationContext {
        trusted_ca: read(Some(roots))?,
        match_typed_subject_alt_names: names.into_iter().collect(),
        ..Default::default()
    };
    let certificate = (key.is_some() || chain.is_some()).then(|| tls::TlsCertificate {
        certificate_chain: chain,
        private_key: key,
        ..Default::default()
    });
    let params = tls::TlsParameters {
        tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13.into(),
        ..Default::default()
    };
    let common = tls::CommonTlsContext {
        tls_params: Some(params),
        tls_certificates: certificate.into_iter().collect(),
        alpn_protocols: vec!["h2".to_owned()],
        validation_context_type: Some(tls::common_tls_context::ValidationContextType::ValidationContext(
            validation.into(),
        )),
        ..Default::default()
    };
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common.into()),
        sni: if ip.is_none() { host.to_owned() } else { String::new() },
        auto_sni_san_validation: ip.is_none(),
        ..Default::default()
    };
    Ok(core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(&context))),
    })
}

fn inline(bytes: Vec<u8>) -> core::DataSource {
    let specifier = Some(core::data_source::Specifier::InlineBytes(bytes));
    core::DataSource { specifier, ..Default::default() }
}

fn any<M: Message + Name>(m: &M) -> prost_types::Any {
    prost_types::Any { type_url: M::type_url(), value: m.encode_to_vec() }
}

/// A cluster of what `target` says; it has no name.
pub(super) fn cluster_of(
    target: &Target,
    socket: Option<core::TransportSocket>,
    args: &Args,
) -> cluster::Cluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily};
    let address = |host: String, port: u16| core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: host,
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    };
    let (kind, mut addresses) = match target {
        Target::Name(host, port) => (DiscoveryType::LogicalDns, vec![address(host.clone(), *port)]),
        Target::Addresses(all) => {
            (DiscoveryType::Static, all.iter().map(|a| address(a.ip().to_string(), a.port())).collect())
        }
        Target::Unix(path) => {
            let pipe = core::Pipe { path: path.clone(), ..Default::default() };
            (DiscoveryType::Static, vec![core::Address { address: Some(core::address::Address::Pipe(pipe)) }])
        }
    };
    let others = addresses.split_off(1.min(addresses.len()));
    let other = |a: core::Address| endpoint::endpoint::AdditionalAddress { address: Some(a.into()) };
    let host = endpoint::Endpoint {
        address: addresses.pop().map(Box::new),
        additional_addresses: others.into_iter().map(other).collect(),
        ..Default::default()
    };
    let host = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(host.into())),
        ..Default::default()
    };
    let locality = endpoint::LocalityLbEndpoints { lb_endpoints: vec![host], ..Default::default() };
    let most = cluster::circuit_breakers::Thresholds {
        max_connections: Some(u32::MAX),
        max_pending_requests: Some(u32::MAX),
        max_requests: Some(u32::MAX),
        ..Default::default()
    };
    cluster::Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        dns_lookup_family: DnsLookupFamily::All.into(),
        connect_timeout: Some(prost_types::Duration { seconds: CONNECT, nanos: 0 }),
        load_assignment: Some(
            endpoint::ClusterLoadAssignment { endpoints: vec![locality], ..Default::default() }.into(),
        ),
        circuit_breakers: Some(cluster::CircuitBreakers { thresholds: vec![most], ..Default::default() }),
        transport_socket: socket,
        typed_extension_protocol_options: protocol(args),
        ..Default::default()
    }
}

fn protocol(args: &Args) -> BTreeMap<String, prost_types::Any> {
    let ms = |n: i64| prost_types::Duration { seconds: n / 1000, nanos: (n % 1000) as i32 * 1_000_000 };
    // The largest number stands for "never"; the library waits 20 seconds for an answer.
    let never = i64::from(i32::MAX);
    let keepalive = args.keepalive.filter(|n| (1..never).contains(n)).map(|n| core::KeepaliveSettings {
        interval: Some(ms(n)),
        timeout: Some(ms(args.keepalive_timeout.filter(|n| (1..never).contains(n)).unwrap_or(20_000))),
        ..Default::default()
    });
    let h2 = core::Http2ProtocolOptions {
        initial_stream_window_size: Some(WINDOW),
        initial_connection_window_size: Some(WINDOW),
        connection_keepalive: keepalive,
        ..Default::default()
    };
    use http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use http::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};
    let explicit =
        ExplicitHttpConfig { protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(h2.into())) };
    let options = http::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    BTreeMap::from([(name.to_owned(), any(&options))])
}

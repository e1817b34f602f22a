//! `GrpcService.GoogleGrpc`: Envoy's second gRPC client, with a channel in place of a cluster. Here a channel is a cluster
//! that nobody else sees; this file says which, and what differs on the wire and in the stats.

use super::{Status, code};
use crate::coverage::Covered;
use crate::data_source;
use crate::error::{BuildError, BuildResult, ResetReason};
use crate::filter::BuildCx;
use crate::stats::Scope;
use crate::{stats, worker};
use nuncio_api::envoy::config::cluster::v3 as cluster;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::core::v3::grpc_service::GoogleGrpc;
use nuncio_api::envoy::config::core::v3::grpc_service::google_grpc as google;
use nuncio_api::envoy::config::endpoint::v3 as endpoint;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_api::envoy::extensions::upstreams::http::v3 as http;
use prost::{Message, Name};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is read of `GrpcService.GoogleGrpc`.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.GrpcService.GoogleGrpc",
        &[
            "target_uri",
            "channel_credentials",
            "call_credentials",
            "stat_prefix",
            "credentials_factory_name",
            "per_stream_buffer_limit_bytes",
            "channel_args",
        ],
    ),
    Covered::new(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelCredentials",
        &["ssl_credentials", "local_credentials"],
    ),
    Covered::new(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials",
        &["root_certs", "private_key", "cert_chain"],
    ),
    Covered::new("envoy.config.core.v3.GrpcService.GoogleGrpc.GoogleLocalCredentials", &[]),
    Covered::new("envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials", &["access_token"]),
    Covered::new("envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelArgs", &["args"]),
    Covered::new(
        "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelArgs.Value",
        &["string_value", "int_value"],
    ),
];

/// Longest message that is taken when `grpc.max_receive_message_length` does not say, in bytes.
const RECEIVE: u32 = 4 << 20;
/// `per_stream_buffer_limit_bytes` when it is not set.
const BUFFER: usize = 1 << 20;
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

/// Arguments of channels that only tune the library's own machinery.
const HARMLESS: [&str; 14] = [
    "grpc.client_idle_timeout_ms",
    "grpc.dns_enable_srv_queries",
    "grpc.dns_min_time_between_resolutions_ms",
    "grpc.enable_channelz",
    "grpc.enable_retries",
    "grpc.experimental.tcp_max_read_chunk_size",
    "grpc.experimental.tcp_min_read_chunk_size",
    "grpc.http2.bdp_probe",
    "grpc.http2.lookahead_bytes",
    "grpc.http2.min_time_between_pings_ms",
    "grpc.http2.max_pings_without_data",
    "grpc.initial_reconnect_backoff_ms",
    "grpc.max_reconnect_backoff_ms",
    "grpc.use_local_subchannel_pool",
];

/// What is different from calls to a cluster of the configuration.
#[derive(Debug)]
pub(super) struct Channel {
    /// `target_uri`
    pub uri: String,
    /// `:authority`
    pub authority: String,
    /// Whether its connections are encrypted.
    pub tls: bool,
    /// Longest message that is received, in bytes.
    pub receive: u32,
    /// Longest message that is sent, in bytes.
    pub send: Option<u32>,
    /// So many bytes may wait to be sent.
    pub buffer: usize,
    /// `user-agent`
    pub agent: String,
    /// `authorization`, of a token.
    pub token: Option<String>,
    /// What is counted.
    pub stats: Counts,
}

stats! {
    /// `grpc.<stat_prefix>.`
    pub struct ChannelStats {
        google_grpc_client_creation: Counter,
        streams_total: Counter,
        streams_closed_0: Counter,
        streams_closed_1: Counter,
        streams_closed_2: Counter,
        streams_closed_3: Counter,
        streams_closed_4: Counter,
        streams_closed_5: Counter,
        streams_closed_6: Counter,
        streams_closed_7: Counter,
        streams_closed_8: Counter,
        streams_closed_9: Counter,
        streams_closed_10: Counter,
        streams_closed_11: Counter,
        streams_closed_12: Counter,
        streams_closed_13: Counter,
        streams_closed_14: Counter,
        streams_closed_15: Counter,
        streams_closed_16: Counter,
    }
}

/// The stats of a channel, which are there from its first use on.
#[derive(Debug)]
pub(super) struct Counts {
    scope: Scope,
    stats: OnceLock<ChannelStats>,
    /// A bit for each thread that has used it: Envoy makes a client for each.
    used: AtomicU64,
}

impl Counts {
    fn new(scope: Scope) -> Counts {
        Counts { scope, stats: OnceLock::new(), used: AtomicU64::new(0) }
    }
    /// A stream begins.
    pub fn begin(&self) {
        let stats = self.stats.get_or_init(|| ChannelStats::new(&self.scope));
        let bit = 1 << (worker::current_index() % 64);
        if self.used.load(Ordering::Relaxed) & bit == 0
            && self.used.fetch_or(bit, Ordering::Relaxed) & bit == 0
        {
            stats.google_grpc_client_creation().inc();
        }
        stats.streams_total().inc();
    }
    /// The other side has ended a stream.
    pub fn end(&self, status: u32) {
        let Some(s) = self.stats.get() else { return };
        let counter = match status {
            code::OK => s.streams_closed_0(),
            code::CANCELLED => s.streams_closed_1(),
            code::INVALID_ARGUMENT => s.streams_closed_3(),
            code::DEADLINE_EXCEEDED => s.streams_closed_4(),
            code::NOT_FOUND => s.streams_closed_5(),
            code::ALREADY_EXISTS => s.streams_closed_6(),
            code::PERMISSION_DENIED => s.streams_closed_7(),
            code::RESOURCE_EXHAUSTED => s.streams_closed_8(),
            code::FAILED_PRECONDITION => s.streams_closed_9(),
            code::ABORTED => s.streams_closed_10(),
            code::OUT_OF_RANGE => s.streams_closed_11(),
            code::UNIMPLEMENTED => s.streams_closed_12(),
            code::INTERNAL => s.streams_closed_13(),
            code::UNAVAILABLE => s.streams_closed_14(),
            code::DATA_LOSS => s.streams_closed_15(),
            code::UNAUTHENTICATED => s.streams_closed_16(),
            _ => s.streams_closed_2(), // UNKNOWN, and what is no code
        };
        counter.inc();
    }
}

/// What the library says of a call that was cut off after its response had begun.
pub(super) fn cut_off(r: ResetReason) -> Status {
    match r {
        ResetReason::ConnectionTermination => Status::new(code::UNAVAILABLE, "Socket closed"),
        _ => Status::new(code::INTERNAL, "Received RST_STREAM"),
    }
}

/// Checks `initial_metadata` (gRPC over HTTP/2, "Custom-Metadata").
///
/// # Errors
/// A name or a value that gRPC does not know.
pub(super) fn check_metadata(all: &[core::HeaderValue]) -> BuildResult<()> {
    for h in all {
        let name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if h.key.is_empty() || !h.key.bytes().all(name) {
            let text = format!("Illegal characters in gRPC initial metadata header key: {}.", h.key);
            return Err(text.into());
        }
        if !h.key.ends_with("-bin") && !h.value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(
                format!("Illegal ASCII value for gRPC initial metadata header key: {}.", h.key).into()
            );
        }
    }
    Ok(())
}

/// Where a channel leads.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    Name(String, u16),
    Addresses(Vec<SocketAddr>),
    Unix(String),
}

/// Where `target_uri` leads, and what its requests have for an authority (gRPC's "Name Resolution").
fn target(uri: &str) -> BuildResult<(Target, String)> {
    let (scheme, rest) = match uri.split_once(':') {
        Some((s @ ("dns" | "ipv4" | "ipv6" | "unix" | "unix-abstract"), rest)) => (s, rest),
        Some((s @ ("xds" | "google-c2p" | "vsock"), _)) => {
            return Err(BuildError::not_implemented(format_args!("GoogleGrpc.target_uri of {s}:")));
        }
        _ => ("dns", uri),
    };
    let wrong = || BuildError(format!("invalid target_uri '{uri}'"));
    match scheme {
        "unix" | "unix-abstract" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let path = if scheme == "unix" { path.to_owned() } else { format!("@{path}") };
            Ok((Target::Unix(path), "localhost".to_owned()))
        }
        "ipv4" | "ipv6" => {
            let list = rest.trim_start_matches('/');
            let address = |a: &str| {
                a.parse().or_else(|_| Ok::<_, std::net::AddrParseError>((a.parse::<IpAddr>()?, 443).into()))
            };
            let all: Result<Vec<SocketAddr>, _> = list.split(',').map(address).collect();
            Ok((Target::Addresses(all.map_err(|_| wrong())?), list.to_owned()))
        }
        _ => {
            let name = match rest.strip_prefix("//") {
                None => rest,
                Some(r) if r.starts_with('/') => r.trim_start_matches('/'),
                Some(_) if uri.starts_with("dns:") => {
                    return Err(BuildError::not_implemented("GoogleGrpc.target_uri with a DNS server"));
                }
                Some(_) => rest,
            };
            if let Ok(a) = name.parse::<SocketAddr>() {
                return Ok((Target::Addresses(vec![a]), name.to_owned()));
            }
            if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
                return Ok((Target::Addresses(vec![(ip, 443).into()]), name.to_owned()));
            }
            let (host, port) = match name.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
                None => (name, 443),
            };
            if host.is_empty() || host.contains(['/', ':']) {
                return Err(wrong());
            }
            Ok((Target::Name(host.to_owned(), port), name.to_owned()))
        }
    }
}

/// `channel_args`, as far as they matter here.
#[derive(Default)]
struct Args {
    receive: Option<i64>,
    send: Option<i64>,
    authority: Option<String>,
    tls_name: Option<String>,
    agents: [Option<String>; 2],
    keepalive: Option<i64>,
    keepalive_timeout: Option<i64>,
}

impl Args {
    fn new(g: &GoogleGrpc) -> BuildResult<Args> {
        use google::channel_args::value::ValueSpecifier as V;
        let mut args = Args::default();
        let all = g.channel_args.as_ref().map(|a| &a.args);
        for (name, value) in all.into_iter().flatten() {
            let (text, number) = match &value.value_specifier {
                Some(V::StringValue(s)) => (Some(s.clone()), None),
                Some(V::IntValue(n)) => (None, Some(*n)),
                None => return Err(format!("channel_args '{name}': value is required").into()),
            };
            match name.as_str() {
                "grpc.max_receive_message_length" => args.receive = number,
                "grpc.max_send_message_length" => args.send = number,
                "grpc.default_authority" => args.authority = text,
                "grpc.ssl_target_name_override" => args.tls_name = text,
                "grpc.primary_user_agent" => args.agents[0] = text,
                "grpc.secondary_user_agent" => args.agents[1] = text,
                "grpc.keepalive_time_ms" => args.keepalive = number,
                "grpc.keepalive_timeout_ms" => args.keepalive_timeout = number,
                // Pings without calls, and without data, are sent here anyway.
                "grpc.keepalive_permit_without_calls" => {}
                other if HARMLESS.contains(&other) => {}
                other => return Err(BuildError::not_implemented(format_args!("channel_args {other}"))),
            }
        }
        Ok(args)
    }
    /// A length that the library may be told: -1 is none.
    fn length(n: Option<i64>) -> Option<u32> {
        n.map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }
}

/// Builds the channel, and the cluster that it is here.
pub(super) fn channel(g: &GoogleGrpc, cx: &BuildCx<'_>) -> BuildResult<(Channel, cluster::Cluster)> {
    const DEFAULT: &str = "envoy.grpc_credentials.default";
    if !g.credentials_factory_name.is_empty() && g.credentials_factory_name != DEFAULT {
        return Err(format!("Unknown google grpc credentials factory: {}", g.credentials_factory_name).into());
    }
    let (target, name) = target(&g.target_uri)?;
    let args = Args::new(g)?;
    let authority = args.authority.clone().unwrap_or(name);
    let socket = match credentials(g) {
        Some(google::channel_credentials::CredentialSpecifier::SslCredentials(ssl)) => {
            let host = args.tls_name.clone().unwrap_or_else(|| host_of(&authority).to_owned());
            Some(transport_socket(ssl, &host)?)
        }
        Some(google::channel_credentials::CredentialSpecifier::LocalCredentials(_)) => match target {
            Target::Unix(_) => None,
            _ => return Err("local_credentials are for targets of unix: only".into()),
        },
        Some(google::channel_credentials::CredentialSpecifier::GoogleDefault(_)) => {
            return Err(BuildError::not_implemented("ChannelCredentials.google_default"));
        }
        None => None,
    };
    let token = g.call_credentials.iter().find_map(|c| match &c.credential_specifier {
        Some(google::call_credentials::CredentialSpecifier::AccessToken(t)) => Some(format!("Bearer {t}")),
        _ => None,
    });
    if token.is_some() && socket.is_none() {
        return Err(
            "call_credentials need ssl_credentials: without them a token would be readable on the way".into(),
        );
    }
    let [first, second] = args.agents.clone();
    let own = concat!("grpc-nuncio/", env!("CARGO_PKG_VERSION"));
    let agent =
        [first.as_deref(), Some(own), second.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let scope = cx.scope.store().root().scope("grpc").scope(&g.stat_prefix);
    let channel = Channel {
        uri: g.target_uri.clone(),
        authority,
        tls: socket.is_some(),
        receive: Args::length(args.receive).unwrap_or(RECEIVE),
        send: Args::length(args.send),
        buffer: g.per_stream_buffer_limit_bytes.map_or(BUFFER, |n| n as usize),
        agent,
        token,
        stats: Counts::new(scope),
    };
    Ok((channel, cluster_of(&target, socket, &args)))
}

fn credentials(g: &GoogleGrpc) -> Option<&google::channel_credentials::CredentialSpecifier> {
    g.channel_credentials.as_ref()?.credential_specifier.as_ref()
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    if authority.parse::<IpAddr>().is_ok() {
        return authority;
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

fn transport_socket(ssl: &google::SslCredentials, host: &str) -> BuildResult<core::TransportSocket> {
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
        matcher: Some(
            nuncio_api::envoy::r#type::matcher::v3::StringMatcher {
                match_pattern: Some(
                    nuncio_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern::Exact(
                        ip.to_string(),
                    ),
                ),
                ..Default::default()
            }
            .into(),
        ),
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
    let specifier = Some(core::data_source::Specifier::InlineBytes(bytes.into()));
    core::DataSource { specifier, ..Default::default() }
}

fn any<M: Message + Name>(m: &M) -> prost_types::Any {
    prost_types::Any { type_url: M::type_url(), value: m.encode_to_vec() }
}

fn cluster_of(target: &Target, socket: Option<core::TransportSocket>, args: &Args) -> cluster::Cluster {
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
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit.into())),
        ..Default::default()
    };
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    BTreeMap::from([(name.to_owned(), any(&options))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let name = |h: &str, p| Target::Name(h.to_owned(), p);
        let address =
            |all: &[&str]| Target::Addresses(all.iter().map(|a| a.parse().expect("an address")).collect());
        for (uri, to, authority) in [
            ("dns:///a.example:80", name("a.example", 80), "a.example:80"),
            ("dns:a.example", name("a.example", 443), "a.example"),
            ("localhost:9002", name("localhost", 9002), "localhost:9002"),
            ("127.0.0.1:9002", address(&["127.0.0.1:9002"]), "127.0.0.1:9002"),
            ("[::1]", address(&["[::1]:443"]), "[::1]"),
            (
                "ipv4:127.0.0.1:1,127.0.0.2",
                address(&["127.0.0.1:1", "127.0.0.2:443"]),
                "127.0.0.1:1,127.0.0.2",
            ),
            ("ipv6:[::1]:2", address(&["[::1]:2"]), "[::1]:2"),
            ("unix:///run/x", Target::Unix("/run/x".into()), "localhost"),
            ("unix:run/x", Target::Unix("run/x".into()), "localhost"),
            ("unix-abstract:x", Target::Unix("@x".into()), "localhost"),
        ] {
            assert_eq!(target(uri).expect(uri), (to, authority.to_owned()), "{uri}");
        }
        for uri in ["xds:///a", "dns://8.8.8.8/a", "ipv4:a.example", "a:b", "http://a:1", ":1", ""] {
            assert!(target(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn arguments_are_read_or_refused() {
        use google::channel_args::{Value, value::ValueSpecifier as V};
        let args = |name: &str, v: V| {
            let args = BTreeMap::from([(name.to_owned(), Value { value_specifier: Some(v) })]);
            Args::new(&GoogleGrpc { channel_args: Some(google::ChannelArgs { args }), ..Default::default() })
        };
        let read = args("grpc.max_receive_message_length", V::IntValue(-1)).expect("known");
        assert_eq!(Args::length(read.receive), Some(u32::MAX));
        assert!(args("grpc.enable_retries", V::IntValue(0)).is_ok());
        let why = args("grpc.lb_policy_name", V::StringValue("x".into())).err().expect("unknown");
        assert_eq!(why.0, "not implemented yet: channel_args grpc.lb_policy_name");
    }

    #[test]
    fn hosts() {
        for (authority, host) in
            [("a:1", "a"), ("a", "a"), ("[::1]:2", "::1"), ("::1", "::1"), ("127.0.0.1:3", "127.0.0.1")]
        {
            assert_eq!(host_of(authority), host);
        }
    }
}

//! The messages of `envoy.data.accesslog.v3`.

use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::data::accesslog::v3 as pb;
use nuncio_api::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use nuncio_core::BuildResult;
use nuncio_core::address::Address;
use nuncio_core::clock;
use nuncio_core::flags::{Flag, Flags};
use nuncio_core::format::FormatCx;
use nuncio_core::info::{CertInfo, TlsInfo};
use nuncio_core::tracing::tags::CustomTag;
use nuncio_wire::{HeaderMap, HeaderName, Version, name};
use pb::AccessLogType as Type;
use pb::http_access_log_entry::HttpVersion;
use pb::tls_properties::CertificateProperties;
use pb::tls_properties::certificate_properties::{SubjectAltName, subject_alt_name::San};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the configuration wants to see in every entry.
pub struct Common {
    tags: Vec<CustomTag>,
    /// `filter_state_objects_to_log`
    state: Vec<String>,
}

impl Common {
    /// As configured.
    ///
    /// # Errors
    /// A tag is refused.
    pub fn new(c: &CommonGrpcAccessLogConfig) -> BuildResult<Common> {
        Ok(Common { tags: CustomTag::list(&c.custom_tags)?, state: c.filter_state_objects_to_log.clone() })
    }
}

/// Headers that the configuration wants to see, with their names in lower case.
pub struct Headers {
    /// Of the request.
    pub request: Vec<(String, HeaderName)>,
    /// Of the response.
    pub response: Vec<(String, HeaderName)>,
    /// Of the response's trailers.
    pub trailers: Vec<(String, HeaderName)>,
}

/// Names from configuration.
pub fn header_names(names: &[String]) -> Vec<(String, HeaderName)> {
    names.iter().map(|n| (n.to_ascii_lowercase(), HeaderName::new(n))).collect()
}

/// The entry of a request.
pub fn http(cx: &FormatCx<'_>, c: &Common, wanted: &Headers) -> pb::HttpAccessLogEntry {
    let info = cx.info;
    let version = match info.protocol.get() {
        None => HttpVersion::ProtocolUnspecified,
        Some(Version::Http10) => HttpVersion::Http10,
        Some(Version::Http11) => HttpVersion::Http11,
        Some(Version::Http2) => HttpVersion::Http2,
        Some(Version::Http3) => HttpVersion::Http3,
    };
    let of = |n: nuncio_wire::Id| cx.request.and_then(|h| h.get(n)).map(text).unwrap_or_default();
    let method = core::RequestMethod::from_str_name(&of(name::METHOD)).unwrap_or_default();
    let (down, up) = (&info.downstream, &info.upstream_meter);
    let request = pb::HttpRequestProperties {
        request_method: method.into(),
        scheme: of(name::SCHEME),
        authority: of(name::AUTHORITY),
        path: of(name::PATH),
        user_agent: of(name::USER_AGENT),
        referer: of(name::REFERER),
        forwarded_for: of(name::X_FORWARDED_FOR),
        request_id: of(name::X_REQUEST_ID),
        original_path: of(name::X_ENVOY_ORIGINAL_PATH),
        request_headers_bytes: cx.request.map_or(0, |h| h.byte_size() as u64),
        request_body_bytes: info.bytes_received.get(),
        request_headers: chosen(cx.request, &wanted.request, |n| {
            // In Envoy `host` is another name of `:authority`.
            cx.request.filter(|_| n.id() == name::HOST).and_then(|h| h.get(name::AUTHORITY)).map(text)
        }),
        downstream_header_bytes_received: down.header_rx.get(),
        upstream_header_bytes_sent: up.header_tx.get(),
        ..Default::default()
    };
    let headers = cx.response.map(|(_, h)| h);
    let response = pb::HttpResponseProperties {
        response_code: Some(info.response_code.get().into()).filter(|c| *c > 0),
        // `:status` counts, as it is one of the headers to Envoy.
        response_headers_bytes: headers.map_or(0, |h| (h.byte_size() + ":status200".len()) as u64),
        response_body_bytes: info.bytes_sent.get(),
        response_headers: chosen(headers, &wanted.response, |n| {
            cx.response.filter(|_| n.id() == name::STATUS).map(|(s, _)| s.to_string())
        }),
        response_trailers: chosen(cx.trailers, &wanted.trailers, |_| None),
        response_code_details: info.details.borrow().clone().into_owned(),
        upstream_header_bytes_received: up.header_rx.get(),
        downstream_header_bytes_sent: down.header_tx.get(),
    };
    pb::HttpAccessLogEntry {
        common_properties: Some(Box::new(common(cx, c))),
        protocol_version: version.into(),
        request: Some(Box::new(request)),
        response: Some(response),
    }
}

/// The entry of a connection.
pub fn tcp(cx: &FormatCx<'_>, c: &Common) -> pb::TcpAccessLogEntry {
    let connection = pb::ConnectionProperties {
        received_bytes: cx.info.bytes_received.get(),
        sent_bytes: cx.info.bytes_sent.get(),
    };
    pb::TcpAccessLogEntry {
        common_properties: Some(Box::new(common(cx, c))),
        connection_properties: Some(connection),
    }
}

fn common(cx: &FormatCx<'_>, c: &Common) -> pb::AccessLogCommon {
    let (info, conn) = (cx.info, cx.conn);
    let since = |t: Option<Instant>| {
        t.map(|t| t.saturating_duration_since(info.start)).and_then(|d: Duration| d.try_into().ok())
    };
    let (t, up) = (&info.times, info.upstream.borrow());
    let over = is_over(cx.log_type);
    let remote = match &*info.remote.borrow() {
        Some(a) => address(a),
        None => address(&conn.remote.borrow()),
    };
    let metadata = info
        .metadata
        .borrow()
        .as_ref()
        .filter(|m| !m.0.is_empty())
        .map(|m| core::Metadata { filter_metadata: m.0.clone(), ..Default::default() });
    let tags = c.tags.iter().map(|t| (t.name().to_owned(), t.value(cx))).filter(|(_, v)| !v.is_empty());
    let state = c.state.iter().filter_map(|key| {
        let object = info.filter_state.borrow().get(key).or_else(|| conn.filter_state.borrow().get(key));
        Some((key.clone(), object?.message()?))
    });
    let of_connection = cx.request.is_none();
    pb::AccessLogCommon {
        downstream_remote_address: Some(remote),
        downstream_local_address: Some(address(&conn.local.borrow())),
        downstream_direct_remote_address: Some(address(&conn.direct_remote)),
        tls_properties: tls(cx),
        start_time: Some(info.start_wall.into()),
        duration: since(over.then(clock::now)),
        time_to_last_rx_byte: since(t.ds_rx_end.get()),
        time_to_first_upstream_tx_byte: since(t.us_tx_beg.get()),
        time_to_last_upstream_tx_byte: since(t.us_tx_end.get()),
        time_to_first_upstream_rx_byte: since(t.us_rx_beg.get()),
        time_to_last_upstream_rx_byte: since(t.us_rx_end.get()),
        time_to_first_downstream_tx_byte: since(t.ds_tx_beg.get()),
        time_to_last_downstream_tx_byte: since(t.ds_tx_end.get()),
        upstream_remote_address: up.host.as_ref().and_then(|h| h.address.as_ref()).map(address),
        upstream_local_address: up.local_address.as_ref().map(address),
        upstream_cluster: match (&up.host, &up.cluster) {
            (Some(_), Some(name)) => name.to_string(),
            _ => String::new(),
        },
        upstream_transport_failure_reason: up.transport_failure.clone().into_owned(),
        response_flags: flags(info.flags.get()),
        metadata,
        route_name: cx.route.map(|r| r.name().to_owned()).unwrap_or_default(),
        filter_state_objects: state.collect(),
        custom_tags: tags.collect(),
        upstream_request_attempt_count: info.attempts.get(),
        connection_termination_details: conn.ended(|e| &e.termination).into_owned(),
        stream_id: match (info.stream_id.borrow().as_deref(), cx.request) {
            (Some(id), _) => id.to_owned(),
            (None, h) => h.and_then(|h| h.get(name::X_REQUEST_ID)).map(text).unwrap_or_default(),
        },
        intermediate_log_entry: !over,
        // A fact of connections: the entry of a request has none.
        downstream_transport_failure_reason: match of_connection {
            true => conn.ended(|e| &e.transport_failure).into_owned(),
            false => String::new(),
        },
        downstream_wire_bytes_sent: info.downstream.wire_tx.get(),
        downstream_wire_bytes_received: info.downstream.wire_rx.get(),
        upstream_wire_bytes_sent: info.upstream_meter.wire_tx.get(),
        upstream_wire_bytes_received: info.upstream_meter.wire_rx.get(),
        access_log_type: cx.log_type.into(),
        ..Default::default()
    }
}

/// The entry is the last one of its request or connection.
fn is_over(t: Type) -> bool {
    !matches!(
        t,
        Type::TcpUpstreamConnected
            | Type::TcpPeriodic
            | Type::DownstreamStart
            | Type::DownstreamPeriodic
            | Type::UpstreamPoolReady
            | Type::UpstreamPeriodic
            | Type::DownstreamTunnelSuccessfullyEstablished
            | Type::UdpTunnelUpstreamConnected
            | Type::UdpPeriodic
    )
}

/// Bytes as text: what is not UTF-8 becomes `!`, byte by byte.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(t) => t.to_owned(),
        Err(_) => bytes
            .utf8_chunks()
            .flat_map(|c| c.valid().chars().chain(c.invalid().iter().map(|_| '!')))
            .collect(),
    }
}

/// The headers that are wanted and there, with all their values; `or` knows some by another name.
fn chosen(
    headers: Option<&HeaderMap>,
    wanted: &[(String, HeaderName)],
    or: impl Fn(&HeaderName) -> Option<String>,
) -> BTreeMap<String, String> {
    let value = |n: &HeaderName| headers.and_then(|h| h.joined(n)).map(|v| text(&v)).or_else(|| or(n));
    wanted.iter().filter_map(|(key, n)| Some((key.clone(), value(n)?))).collect()
}

fn address(a: &Address) -> Box<core::Address> {
    use core::address::Address as A;
    use core::envoy_internal_address::AddressNameSpecifier;
    use core::socket_address::PortSpecifier;
    let a = match a {
        Address::Ip(_) => A::SocketAddress(core::SocketAddress {
            address: a.without_port(),
            port_specifier: a.port().map(|p| PortSpecifier::PortValue(p.into())),
            ..Default::default()
        }),
        Address::Pipe(p) => {
            A::Pipe(core::Pipe { path: p.to_string_lossy().into_owned(), ..Default::default() })
        }
        Address::Internal(name, id) => A::EnvoyInternalAddress(core::EnvoyInternalAddress {
            endpoint_id: id.to_string(),
            address_name_specifier: Some(AddressNameSpecifier::ServerListenerName(name.to_string())),
        }),
    };
    Box::new(core::Address { address: Some(a) })
}

fn tls(cx: &FormatCx<'_>) -> Option<Box<pb::TlsProperties>> {
    let sni = cx.conn.sni.get().cloned().unwrap_or_default();
    let Some(t) = cx.conn.tls.get() else {
        return Some(sni)
            .filter(|s| !s.is_empty())
            .map(|s| Box::new(pb::TlsProperties { tls_sni_hostname: s, ..Default::default() }));
    };
    Some(Box::new(pb::TlsProperties { tls_sni_hostname: sni, ..handshake(t) }))
}

fn handshake(t: &TlsInfo) -> pb::TlsProperties {
    use pb::tls_properties::TlsVersion as V;
    let version = match t.version {
        "TLSv1.3" => V::TlSv13,
        "TLSv1.2" => V::TlSv12,
        _ => V::VersionUnspecified,
    };
    let certificate = |c: Option<&CertInfo>, issuer: bool| CertificateProperties {
        subject_alt_name: c
            .map(|c| c.uri_sans.iter().map(|u| SubjectAltName { san: Some(San::Uri(u.clone())) }).collect())
            .unwrap_or_default(),
        subject: c.map(|c| c.subject.clone()).unwrap_or_default(),
        issuer: c.filter(|_| issuer).map(|c| c.issuer.clone()).unwrap_or_default(),
    };
    pb::TlsProperties {
        tls_version: version.into(),
        tls_cipher_suite: Some(cipher_id(&t.cipher)),
        local_certificate_properties: Some(certificate(t.local.as_deref(), false)),
        peer_certificate_properties: Some(certificate(t.peer.as_deref(), true)),
        tls_session_id: t.session_id.clone(),
        ..Default::default()
    }
}

/// The number of a cipher suite (IANA's registry); 65535 for one that is not known here, as in Envoy.
fn cipher_id(openssl: &str) -> u32 {
    match openssl {
        "TLS_AES_128_GCM_SHA256" => 0x1301,
        "TLS_AES_256_GCM_SHA384" => 0x1302,
        "TLS_CHACHA20_POLY1305_SHA256" => 0x1303,
        "ECDHE-ECDSA-AES128-GCM-SHA256" => 0xc02b,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => 0xc02c,
        "ECDHE-RSA-AES128-GCM-SHA256" => 0xc02f,
        "ECDHE-RSA-AES256-GCM-SHA384" => 0xc030,
        "ECDHE-RSA-CHACHA20-POLY1305" => 0xcca8,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => 0xcca9,
        _ => 0xffff,
    }
}

/// The flags that the message has; nothing when there are none. It has no word for overloaded endpoints.
fn flags(flags: Flags) -> Option<pb::ResponseFlags> {
    use pb::response_flags::{Unauthorized, unauthorized::Reason};
    let mut m = pb::ResponseFlags::default();
    let mut any = false;
    for f in flags.iter() {
        let field = match f {
            Flag::FailedLocalHealthCheck => &mut m.failed_local_healthcheck,
            Flag::NoHealthyUpstream => &mut m.no_healthy_upstream,
            Flag::UpstreamRequestTimeout => &mut m.upstream_request_timeout,
            Flag::LocalReset => &mut m.local_reset,
            Flag::UpstreamRemoteReset => &mut m.upstream_remote_reset,
            Flag::UpstreamConnectionFailure => &mut m.upstream_connection_failure,
            Flag::UpstreamConnectionTermination => &mut m.upstream_connection_termination,
            Flag::UpstreamOverflow => &mut m.upstream_overflow,
            Flag::NoRouteFound => &mut m.no_route_found,
            Flag::DelayInjected => &mut m.delay_injected,
            Flag::FaultInjected => &mut m.fault_injected,
            Flag::RateLimited => &mut m.rate_limited,
            Flag::UnauthorizedExternalService => {
                m.unauthorized_details = Some(Unauthorized { reason: Reason::ExternalService.into() });
                any = true;
                continue;
            }
            Flag::RateLimitServiceError => &mut m.rate_limit_service_error,
            Flag::DownstreamConnectionTermination => &mut m.downstream_connection_termination,
            Flag::UpstreamRetryLimitExceeded => &mut m.upstream_retry_limit_exceeded,
            Flag::StreamIdleTimeout => &mut m.stream_idle_timeout,
            Flag::InvalidEnvoyRequestHeaders => &mut m.invalid_envoy_request_headers,
            Flag::DownstreamProtocolError => &mut m.downstream_protocol_error,
            Flag::UpstreamMaxStreamDurationReached => &mut m.upstream_max_stream_duration_reached,
            Flag::ResponseFromCacheFilter => &mut m.response_from_cache_filter,
            Flag::NoFilterConfigFound => &mut m.no_filter_config_found,
            Flag::DurationTimeout => &mut m.duration_timeout,
            Flag::UpstreamProtocolError => &mut m.upstream_protocol_error,
            Flag::NoClusterFound => &mut m.no_cluster_found,
            Flag::OverloadManagerTerminated => &mut m.overload_manager,
            Flag::DnsResolutionFailed => &mut m.dns_resolution_failure,
            Flag::DownstreamRemoteReset => &mut m.downstream_remote_reset,
            Flag::DropOverload | Flag::UnconditionalDropOverload => continue,
        };
        *field = true;
        any = true;
    }
    any.then_some(m)
}

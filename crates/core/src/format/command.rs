//! Names and parameters of the commands, with Envoy's rules and error texts.

use super::operator::*;
use super::parse::Extras;
use super::time::{TimeFormat, local_is_utc};
use crate::cel::Program;
use crate::error::{BuildError, BuildResult};
use nuncio_wire::HeaderName;

/// What a command may be followed by.
struct Syntax {
    params: Params,
    length: bool,
}
#[derive(PartialEq)]
enum Params {
    None,
    Optional,
    Required,
    /// The command says itself what is wrong.
    Own,
}

fn syntax(name: &str) -> Syntax {
    let (params, length) = match name {
        "REQ" | "REQUEST_HEADER" | "RESP" | "RESPONSE_HEADER" | "TRAILER" | "RESPONSE_TRAILER"
        | "STREAM_INFO_REQ" | "QUERY_PARAM" | "DYNAMIC_METADATA" | "ENVIRONMENT" => (Params::Required, true),
        "COMMON_DURATION" | "UPSTREAM_METADATA" | "CLUSTER_METADATA" => (Params::Required, false),
        "PATH" | "QUERY_PARAMS" | "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => (Params::Optional, true),
        "START_TIME"
        | "START_TIME_LOCAL"
        | "EMIT_TIME"
        | "EMIT_TIME_LOCAL"
        | "GRPC_STATUS"
        | "RESPONSE_CODE_DETAILS"
        | "REQUESTED_SERVER_NAME" => (Params::Optional, false),
        "METADATA" | "XFCC_VALUE" | "COALESCE" | "CEL" | "TYPED_CEL" | "REQ_WITHOUT_QUERY" => {
            (Params::Own, true)
        }
        n if n.ends_with("_ADDRESS_WITHOUT_PORT") => (Params::Optional, false),
        n if n.ends_with("_PEER_CERT_V_START") || n.ends_with("_PEER_CERT_V_END") => {
            (Params::Optional, false)
        }
        _ => (Params::None, false),
    };
    Syntax { params, length }
}

impl Operator {
    /// Parses a command; errors have Envoy's texts.
    pub(super) fn new(name: &str, params: &str, max: Option<usize>, extras: Extras) -> BuildResult<Operator> {
        let unknown = || BuildError(format!("Not supported field in StreamInfo: {name}"));
        let s = syntax(name);
        let op = match s.params {
            Params::None => {
                // Whether the command exists comes first, then how it is written.
                let op = plain(name)?.ok_or_else(unknown)?;
                if !params.is_empty() || max.is_some() {
                    return Err(BuildError(format!("{name} does not take any parameters or length")));
                }
                op
            }
            _ => {
                if s.params == Params::Required && params.is_empty() {
                    return Err(BuildError(format!("{name} requires parameters")));
                }
                if !s.length && max.is_some() {
                    return Err(BuildError(format!("{name} does not allow length to be specified.")));
                }
                with_params(name, params, max, extras)?.ok_or_else(unknown)?
            }
        };
        Ok(Operator { op, max })
    }
}

/// Commands without parameters.
fn plain(name: &str) -> BuildResult<Option<Op>> {
    use Simple as S;
    let simple = match name {
        "ACCESS_LOG_TYPE" => S::AccessLogType,
        "BYTES_RECEIVED" => S::BytesReceived,
        "BYTES_SENT" => S::BytesSent,
        "BYTES_RETRANSMITTED" | "PACKETS_RETRANSMITTED" => S::Retransmitted,
        "CONNECTION_ID" => S::ConnectionId,
        "CONNECTION_TERMINATION_DETAILS" => S::ConnectionTerminationDetails,
        "CUSTOM_FLAGS" => S::CustomFlags,
        "DOWNSTREAM_DETECTED_CLOSE_TYPE" => S::DetectedCloseType,
        "DOWNSTREAM_HANDSHAKE_DURATION" => S::HandshakeDuration,
        "DOWNSTREAM_LOCAL_CLOSE_REASON" => S::DownstreamLocalCloseReason,
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => S::DownstreamTransportFailure,
        "DURATION" => S::Duration,
        "FILTER_CHAIN_NAME" => S::FilterChainName,
        "LISTENER_NAME" => S::ListenerName,
        "LOCAL_REPLY_BODY" => S::LocalReplyBody,
        "PROTOCOL" => S::Protocol,
        "REQUEST_DURATION" => S::RequestDuration,
        "REQUEST_TX_DURATION" => S::RequestTxDuration,
        "RESPONSE_CODE" => S::ResponseCode,
        "RESPONSE_DURATION" => S::ResponseDuration,
        "RESPONSE_FLAGS" => S::ResponseFlags,
        "RESPONSE_FLAGS_LONG" => S::ResponseFlagsLong,
        "RESPONSE_TX_DURATION" => S::ResponseTxDuration,
        "ROUTE_NAME" => S::RouteName,
        "STREAM_ID" => S::StreamId,
        "UNIQUE_ID" => S::UniqueId,
        "UPSTREAM_CLUSTER" => S::UpstreamCluster,
        "UPSTREAM_CLUSTER_RAW" => S::UpstreamClusterRaw,
        "UPSTREAM_CONNECTION_ID" => S::UpstreamConnectionId,
        "UPSTREAM_CONNECTION_IDS_ATTEMPTED" => S::UpstreamConnectionIds,
        "UPSTREAM_CONNECTION_POOL_READY_DURATION" => S::PoolReadyDuration,
        "UPSTREAM_DETECTED_CLOSE_TYPE" => S::UpstreamDetectedCloseType,
        "UPSTREAM_HOST" => S::UpstreamHost,
        "UPSTREAM_HOST_NAME" => S::UpstreamHostName,
        "UPSTREAM_HOST_NAME_WITHOUT_PORT" => S::UpstreamHostNameNoPort,
        "UPSTREAM_HOST_NAMES_ATTEMPTED" => S::UpstreamHostNames,
        "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT" => S::UpstreamHostNamesNoPort,
        "UPSTREAM_HOSTS_ATTEMPTED" => S::UpstreamHosts,
        "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT" => S::UpstreamHostsNoPort,
        "UPSTREAM_LOCAL_CLOSE_REASON" => S::UpstreamLocalCloseReason,
        "UPSTREAM_PROTOCOL" => S::UpstreamProtocol,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => S::UpstreamAttempts,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => S::UpstreamTransportFailure,
        "VIRTUAL_CLUSTER_NAME" => S::VirtualClusterName,
        "HOSTNAME" => return Ok(Some(hostname())),
        "REQUEST_HEADERS_BYTES" => return Ok(Some(Op::HeadersBytes(HeadersOf::Request))),
        "RESPONSE_HEADERS_BYTES" => return Ok(Some(Op::HeadersBytes(HeadersOf::Response))),
        "RESPONSE_TRAILERS_BYTES" => return Ok(Some(Op::HeadersBytes(HeadersOf::Trailers))),
        "GRPC_STATUS_NUMBER" => return Ok(Some(Op::GrpcStatus(GrpcForm::Number))),
        "TRACE_ID" => S::TraceId,
        "SPAN_ID" => S::SpanId,
        // QUIC acknowledgements, TCP round-trip times and TLS fingerprints: nothing here sets them yet.
        "ROUNDTRIP_DURATION" | "DOWNSTREAM_CX_RTT" | "TLS_JA3_FINGERPRINT" | "TLS_JA4_FINGERPRINT" => {
            return Ok(Some(Op::Unset));
        }
        "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1"
        | "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256"
        | "DOWNSTREAM_PEER_CHAIN_SERIALS"
        | "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256"
        | "DOWNSTREAM_PEER_ISSUER_SERIAL"
        | "DOWNSTREAM_PEER_OTHERNAME_SAN"
        | "DOWNSTREAM_LOCAL_OTHERNAME_SAN" => {
            return Err(BuildError::not_implemented(format_args!("%{name}%")));
        }
        _ => return Ok(meter(name).or_else(|| tls(name)).or_else(|| address(name))),
    };
    Ok(Some(Op::Simple(simple)))
}

fn hostname() -> Op {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    match name {
        Ok(n) if !n.trim_ascii().is_empty() => Op::Fixed(n.trim_ascii().into()),
        _ => Op::Unset,
    }
}

fn side(name: &str) -> Option<(bool, &str)> {
    match name.strip_prefix("UPSTREAM_") {
        Some(rest) => Some((true, rest)),
        None => name.strip_prefix("DOWNSTREAM_").map(|rest| (false, rest)),
    }
}

fn meter(name: &str) -> Option<Op> {
    let (upstream, rest) = side(name)?;
    let of = match rest {
        "HEADER_BYTES_RECEIVED" => MeterOf::HeaderReceived,
        "HEADER_BYTES_SENT" => MeterOf::HeaderSent,
        "DECOMPRESSED_HEADER_BYTES_RECEIVED" => MeterOf::PlainHeaderReceived,
        "DECOMPRESSED_HEADER_BYTES_SENT" => MeterOf::PlainHeaderSent,
        "WIRE_BYTES_RECEIVED" => MeterOf::WireReceived,
        "WIRE_BYTES_SENT" => MeterOf::WireSent,
        _ => return None,
    };
    Some(Op::Meter { upstream, of })
}

fn tls(name: &str) -> Option<Op> {
    use CertField as C;
    let (upstream, rest) = side(name)?;
    let field = match rest {
        "TLS_VERSION" => TlsField::Version,
        "TLS_CIPHER" => TlsField::Cipher,
        "TLS_GROUP" => TlsField::Group,
        "TLS_SESSION_ID" => TlsField::SessionId,
        "SERVER_NAME" if upstream => TlsField::ServerName,
        "PEER_SUBJECT" => TlsField::Peer(C::Subject),
        "PEER_ISSUER" => TlsField::Peer(C::Issuer),
        "PEER_CERT" => TlsField::Peer(C::Pem),
        "PEER_URI_SAN" => TlsField::Peer(C::Uri),
        "PEER_DNS_SAN" => TlsField::Peer(C::Dns),
        "PEER_IP_SAN" => TlsField::Peer(C::Ip),
        "LOCAL_URI_SAN" => TlsField::Local(C::Uri),
        "LOCAL_DNS_SAN" => TlsField::Local(C::Dns),
        "LOCAL_IP_SAN" => TlsField::Local(C::Ip),
        // Envoy has the rest for the downstream only.
        "PEER_SERIAL" if !upstream => TlsField::Peer(C::Serial),
        "PEER_FINGERPRINT_256" if !upstream => TlsField::Peer(C::Sha256),
        "PEER_FINGERPRINT_1" if !upstream => TlsField::Peer(C::Sha1),
        "PEER_EMAIL_SAN" if !upstream => TlsField::Peer(C::Email),
        "LOCAL_EMAIL_SAN" if !upstream => TlsField::Local(C::Email),
        "LOCAL_SUBJECT" if !upstream => TlsField::Local(C::Subject),
        _ => return None,
    };
    Some(Op::Tls { upstream, field })
}

fn address(name: &str) -> Option<Op> {
    let (of, form) = [
        ("DOWNSTREAM_LOCAL_", AddressOf::Local),
        ("DOWNSTREAM_REMOTE_", AddressOf::Remote),
        ("DOWNSTREAM_DIRECT_LOCAL_", AddressOf::DirectLocal),
        ("DOWNSTREAM_DIRECT_REMOTE_", AddressOf::DirectRemote),
        ("UPSTREAM_LOCAL_", AddressOf::UpstreamLocal),
        ("UPSTREAM_REMOTE_", AddressOf::UpstreamRemote),
    ]
    .into_iter()
    .find_map(|(prefix, of)| name.strip_prefix(prefix).map(|rest| (of, rest)))?;
    let form = match (form, of) {
        ("ADDRESS", _) => AddressForm::Full,
        ("ADDRESS_WITHOUT_PORT", _) => AddressForm::NoPort,
        ("PORT", _) => AddressForm::Port,
        ("ADDRESS_ENDPOINT_ID", AddressOf::Local | AddressOf::DirectLocal | AddressOf::UpstreamRemote) => {
            AddressForm::EndpointId
        }
        _ => return None,
    };
    Some(Op::Address { of, form })
}

/// Commands that take parameters.
fn with_params(name: &str, params: &str, max: Option<usize>, extras: Extras) -> BuildResult<Option<Op>> {
    Ok(Some(match name {
        "REQ" | "REQUEST_HEADER" | "STREAM_INFO_REQ" => header(HeadersOf::Request, params, false)?,
        "RESP" | "RESPONSE_HEADER" => header(HeadersOf::Response, params, false)?,
        "TRAILER" | "RESPONSE_TRAILER" => header(HeadersOf::Trailers, params, false)?,
        "REQ_WITHOUT_QUERY" if extras.req_without_query => header(HeadersOf::Request, params, true)?,
        "START_TIME" => Op::Time { of: TimeOf::Start, format: TimeFormat::new(params)? },
        "EMIT_TIME" => Op::Time { of: TimeOf::Emit, format: TimeFormat::new(params)? },
        "START_TIME_LOCAL" => Op::Time { of: TimeOf::Start, format: local(name, params)? },
        "EMIT_TIME_LOCAL" => Op::Time { of: TimeOf::Emit, format: local(name, params)? },
        "COMMON_DURATION" => duration(params)?,
        "PATH" => path(params)?,
        "QUERY_PARAM" => Op::QueryParam(params.into()),
        "QUERY_PARAMS" => match params {
            "" | "ORIG" => Op::QueryParams { decoded: false },
            "DECODED" => Op::QueryParams { decoded: true },
            _ => {
                return Err(BuildError(format!(
                    "Invalid QUERY_PARAMS option: '{params}', only 'ORIG'/'DECODED' are allowed"
                )));
            }
        },
        "GRPC_STATUS" => Op::GrpcStatus(match params {
            "" | "CAMEL_STRING" => GrpcForm::Camel,
            "SNAKE_STRING" => GrpcForm::Snake,
            "NUMBER" => GrpcForm::Number,
            _ => {
                return Err(BuildError(format!(
                    "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: {params}"
                )));
            }
        }),
        "DYNAMIC_METADATA" => metadata(MetadataOf::Dynamic, params),
        "CLUSTER_METADATA" => metadata(MetadataOf::Cluster, params),
        "UPSTREAM_METADATA" => metadata(MetadataOf::UpstreamHost, params),
        "METADATA" => {
            let (kind, rest) = params.split_once(':').unwrap_or((params, ""));
            let of = match kind {
                "DYNAMIC" => MetadataOf::Dynamic,
                "CLUSTER" => MetadataOf::Cluster,
                "ROUTE" => MetadataOf::Route,
                "UPSTREAM_HOST" => MetadataOf::UpstreamHost,
                "LISTENER" => MetadataOf::Listener,
                "VIRTUAL_HOST" => return Err(BuildError::not_implemented("%METADATA(VIRTUAL_HOST)%")),
                _ => return Err(BuildError(format!("{kind} is not supported type of metadata"))),
            };
            metadata(of, rest)
        }
        "FILTER_STATE" => filter_state(params)?,
        // Checked as the downstream's; upstream filters share none yet.
        "UPSTREAM_FILTER_STATE" => filter_state(params).map(|_| Op::Unset)?,
        "RESPONSE_CODE_DETAILS" => Op::Details { blanks: params == "ALLOW_WHITESPACES" },
        "ENVIRONMENT" => {
            let value = std::env::var(params).unwrap_or_else(|_| "-".into());
            Op::Fixed(value.into())
        }
        "XFCC_VALUE" => {
            let key = params.to_ascii_lowercase();
            if key.is_empty() {
                return Err("XFCC_VALUE command requires a subcommand".into());
            }
            if !["by", "hash", "cert", "chain", "subject", "uri", "dns"].contains(&&*key) {
                return Err(BuildError(format!("XFCC_VALUE command does not support subcommand: {key}")));
            }
            Op::Xfcc(key.into())
        }
        "REQUESTED_SERVER_NAME" => server_name(params)?,
        "COALESCE" => coalesce(params, max, extras)?,
        "CEL" | "TYPED_CEL" => {
            let program = Box::new(Program::parse(params, extras.cel)?);
            Op::Cel { program, typed: name == "TYPED_CEL" }
        }
        "DOWNSTREAM_PEER_CERT_V_START" => cert_time(TimeOf::NotBefore { upstream: false }, params)?,
        "UPSTREAM_PEER_CERT_V_START" => cert_time(TimeOf::NotBefore { upstream: true }, params)?,
        "DOWNSTREAM_PEER_CERT_V_END" => cert_time(TimeOf::NotAfter { upstream: false }, params)?,
        "UPSTREAM_PEER_CERT_V_END" => cert_time(TimeOf::NotAfter { upstream: true }, params)?,
        _ => {
            return Ok(address(name).map(|op| match (op, params.trim_ascii().parse()) {
                (Op::Address { of, .. }, Ok(bits)) => Op::Address { of, form: AddressForm::Range(bits) },
                (op, _) => op,
            }));
        }
    }))
}

fn cert_time(of: TimeOf, format: &str) -> BuildResult<Op> {
    Ok(Op::Time { of, format: TimeFormat::new(format)? })
}

fn local(name: &str, format: &str) -> BuildResult<TimeFormat> {
    if !local_is_utc() {
        return Err(BuildError::not_implemented(format_args!("%{name}% in a time zone other than UTC")));
    }
    if format.is_empty() { Ok(TimeFormat::local_default()) } else { TimeFormat::new(format) }
}

fn header(of: HeadersOf, params: &str, without_query: bool) -> BuildResult<Op> {
    let (name, or) = match params.split_once('?') {
        Some((name, or)) => (name, or),
        None => (params, ""),
    };
    if or.contains('?') {
        return Err(BuildError(format!("More than 1 alternative header specified in token: {params}")));
    }
    if !valid_name(name) || !valid_name(or) {
        return Err("Invalid header configuration. Format string contains invalid characters.".into());
    }
    let or = (!or.is_empty()).then(|| HeaderName::new(or));
    Ok(Op::Header { of, name: HeaderName::new(name), or, without_query })
}

/// RFC 9110 tokens, `:` allowed in front of one.
fn valid_name(name: &str) -> bool {
    let rest = match name.strip_prefix(':') {
        Some("") => return false,
        Some(rest) => rest,
        None => name,
    };
    rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn duration(params: &str) -> BuildResult<Op> {
    let mut words = params.split(':');
    let (Some(from), Some(to), precision, None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BuildError(format!("Invalid common duration configuration: {params}.")));
    };
    let unit = match precision {
        None | Some("ms") => 1_000_000,
        Some("us") => 1000,
        Some("ns") => 1,
        Some(other) => return Err(BuildError(format!("Invalid common duration precision: {other}."))),
    };
    let point = |name| match name {
        "DS_CX_BEG" => Point::DsCxBeg,
        "DS_RX_BEG" => Point::DsRxBeg,
        "DS_RX_END" => Point::DsRxEnd,
        "US_CX_BEG" => Point::UsCxBeg,
        "US_CX_END" => Point::UsCxEnd,
        "US_HS_END" => Point::UsHsEnd,
        "US_TX_BEG" => Point::UsTxBeg,
        "US_TX_END" => Point::UsTxEnd,
        "US_RX_BEG" => Point::UsRxBeg,
        "US_RX_BODY_BEG" => Point::UsRxBodyBeg,
        "US_RX_END" => Point::UsRxEnd,
        "DS_TX_BEG" => Point::DsTxBeg,
        "DS_TX_END" => Point::DsTxEnd,
        _ => Point::Unknown,
    };
    Ok(Op::Duration { from: point(from), to: point(to), unit })
}

fn path(params: &str) -> BuildResult<Op> {
    let mut words = params.split(':');
    let query = match words.next().unwrap_or("") {
        "" | "WQ" => true,
        "NQ" => false,
        other => {
            return Err(BuildError(format!("Invalid PATH option: '{other}', only 'WQ'/'NQ' are allowed")));
        }
    };
    let of = match words.next().unwrap_or("") {
        "" | "ORIG_OR_PATH" => PathOf::Either,
        "ORIG" => PathOf::Original,
        "PATH" => PathOf::Current,
        other => {
            return Err(BuildError(format!(
                "Invalid PATH option: '{other}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"
            )));
        }
    };
    Ok(Op::Path { query, of })
}

fn metadata(of: MetadataOf, params: &str) -> Op {
    let mut words = params.split(':').map(Box::from);
    let namespace = words.next().unwrap_or_default();
    Op::Metadata { of, namespace, path: words.collect() }
}

fn filter_state(params: &str) -> BuildResult<Op> {
    let mut words = params.splitn(3, ':');
    let key = words.next().unwrap_or("");
    let (form, field) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if key.is_empty() {
        return Err("Invalid filter state configuration, key cannot be empty.".into());
    }
    if !["", "PLAIN", "TYPED", "FIELD"].contains(&form) {
        return Err("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.".into());
    }
    if (form == "FIELD") == field.is_empty() {
        return Err("Invalid filter state serialize type, FIELD should be used with the field name.".into());
    }
    if form == "FIELD" {
        return Err(BuildError::not_implemented("%FILTER_STATE(:FIELD)%"));
    }
    Ok(Op::FilterState { key: key.into(), typed: form != "PLAIN" })
}

fn server_name(params: &str) -> BuildResult<Op> {
    let mut words = params.split(':');
    let sni = match words.next().unwrap_or("") {
        "" | "SNI_ONLY" => SniUse::Only,
        "SNI_FIRST" => SniUse::First,
        "HOST_FIRST" => SniUse::HostFirst,
        other => {
            return Err(BuildError(format!(
                "Invalid REQUESTED_SERVER_NAME option: '{other}', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"
            )));
        }
    };
    let host = match words.next().unwrap_or("") {
        "" | "ORIG_OR_HOST" => HostOf::Either,
        "HOST" => HostOf::Current,
        "ORIG" => HostOf::Original,
        other => {
            return Err(BuildError(format!(
                "Invalid REQUESTED_SERVER_NAME option: '{other}', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed"
            )));
        }
    };
    Ok(Op::ServerName { sni, host })
}

/// `{"operators": ["PROTOCOL", {"command": "REQ", "param": "x", "max_length": 5}]}`: the first that is set.
fn coalesce(params: &str, max: Option<usize>, extras: Extras) -> BuildResult<Op> {
    let json: serde_json::Value = serde_json::from_str(params)
        .map_err(|e| BuildError(format!("COALESCE: failed to parse JSON configuration: {e}")))?;
    let Some(list) = json.get("operators").and_then(|v| v.as_array()).filter(|l| !l.is_empty()) else {
        return Err("COALESCE: 'operators' must be a list that is not empty".into());
    };
    let mut operators = Vec::new();
    for item in list {
        let text = |k: &str| item.get(k).and_then(|v| v.as_str());
        let Some(command) = item.as_str().or_else(|| text("command")) else {
            return Err("COALESCE: an operator must be a string or an object with 'command'".into());
        };
        let own =
            item.get("max_length").and_then(|v| v.as_u64()).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let mut op = Operator::new(command, text("param").unwrap_or(""), own, extras)?;
        op.max = match (own, max) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        operators.push(op);
    }
    Ok(Op::Coalesce(operators))
}

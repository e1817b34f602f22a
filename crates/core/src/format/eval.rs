//! What the commands of format strings yield.

use super::FormatCx;
use super::operator::*;
use super::out::Out;
use crate::address::Address;
use crate::clock;
use crate::filter_state::StringObject;
use crate::flags::Flag;
use crate::info::{CertInfo, HostInfo, TlsInfo};
use crate::matchers::{CidrRange, query};
use crate::metadata::Metadata;
use nuncio_wire::{AsName, HeaderMap, HeaderName, name};
use prost_types::Struct;
use std::any::Any;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

impl Operator {
    /// Appends the value; `false`, and nothing written, when it is unset.
    pub(super) fn append(&self, cx: &FormatCx<'_>, out: &mut Out<'_>) -> bool {
        match &self.op {
            Op::Simple(s) => simple(*s, cx, out),
            Op::Header { of, name, or, without_query } => {
                let value = header(cx, *of, name).or_else(|| header(cx, *of, or.as_ref()?));
                match value {
                    Some(Value::Bytes(v)) if *without_query => out.text(before_query(v), self.max),
                    Some(Value::Bytes(v)) => out.text(v, self.max),
                    Some(Value::Status(s)) => out.text(&s, self.max),
                    None => false,
                }
            }
            Op::HeadersBytes(of) => out.number(match of {
                HeadersOf::Request => size(cx.request),
                // `:status` counts, as it is one of the headers to Envoy.
                HeadersOf::Response => {
                    cx.response.map_or(0, |(_, h)| size(Some(h)) + ":status200".len() as u64)
                }
                HeadersOf::Trailers => size(cx.trailers),
            }),
            Op::Time { of, format } => match time(*of, cx) {
                Some(at) => out.build(None, |buf| format.append(at, buf)),
                None => false,
            },
            Op::Duration { from, to, unit } => {
                let (Some(from), Some(to)) = (point(*from, cx), point(*to, cx)) else { return false };
                match to.checked_duration_since(from) {
                    Some(d) => out.number((d.as_nanos() / u128::from(*unit)) as u64),
                    None => false,
                }
            }
            Op::Path { query, of } => {
                let original = || request(cx, name::X_ENVOY_ORIGINAL_PATH).filter(|p| !p.is_empty());
                let current = || request(cx, name::PATH).filter(|p| !p.is_empty());
                let path = match of {
                    PathOf::Original => original(),
                    PathOf::Current => current(),
                    PathOf::Either => original().or_else(current),
                };
                path.is_some_and(|p| out.text(if *query { p } else { before_query(p) }, self.max))
            }
            Op::QueryParam(key) => {
                let Some(q) = request(cx, name::PATH).and_then(query::of_path) else { return false };
                let found = query::params(q).find(|(n, _)| query::decode(n).eq(key.bytes()));
                found.is_some_and(|(_, v)| out.build(self.max, |buf| buf.extend(query::decode(v))))
            }
            Op::QueryParams { decoded } => match request(cx, name::PATH).and_then(query::of_path) {
                Some(q) if *decoded => out.build(self.max, |buf| decode_visible(q, buf)),
                Some(q) if !q.is_empty() => out.text(q, self.max),
                _ => false,
            },
            Op::GrpcStatus(form) => grpc_status(*form, cx, out),
            Op::Metadata { of, namespace, path } => {
                let mut get = |m: &Metadata| {
                    if path.is_empty() {
                        return m.0.get(&**namespace).is_some_and(|s: &Struct| out.fields(s, self.max));
                    }
                    m.get(namespace, path.iter().map(|s| &**s)).is_some_and(|v| out.value(v, self.max))
                };
                match of {
                    MetadataOf::Dynamic => cx.info.metadata.borrow().as_deref().is_some_and(get),
                    MetadataOf::Cluster => {
                        cx.info.upstream.borrow().cluster_metadata.as_deref().is_some_and(get)
                    }
                    MetadataOf::UpstreamHost => {
                        cx.info.upstream.borrow().host.as_ref().is_some_and(|h| get(&h.metadata))
                    }
                    MetadataOf::Route => cx.route.is_some_and(|r| get(r.metadata())),
                    MetadataOf::Listener => get(&cx.conn.listener.metadata),
                }
            }
            Op::FilterState { key, typed } => {
                let object = cx.info.filter_state.borrow().get(key);
                let Some(object) = object.or_else(|| cx.conn.filter_state.borrow().get(key)) else {
                    return false;
                };
                if let Some(message) = object.fields().filter(|_| *typed) {
                    return out.value(message, self.max);
                }
                let Some(text) = object.text() else { return false };
                if !*typed {
                    return out.text(text.as_bytes(), self.max);
                }
                // Strings are the only objects with a message; in text it is printed as JSON.
                let any: &dyn Any = &*object;
                any.is::<StringObject>() && out.json_string(text.as_bytes(), self.max)
            }
            Op::Details { blanks } => {
                let details = cx.info.details.borrow();
                if details.is_empty() && cx.info.empty_details.get() {
                    return out.text(b"", None);
                }
                if *blanks {
                    out.nonempty(details.as_bytes())
                } else {
                    underscored(&details, u8::is_ascii_whitespace, out)
                }
            }
            Op::Fixed(text) => out.text(text.as_bytes(), self.max),
            Op::Xfcc(key) => {
                let value = request(cx, name::X_FORWARDED_CLIENT_CERT);
                value.is_some_and(|v| out.build_if(self.max, |buf| super::xfcc::append(v, key, buf)))
            }
            Op::Cel { program, typed } => match program.eval(cx) {
                Ok(v) if *typed && out.is_json() => v.proto().is_some_and(|v| out.value(&v, self.max)),
                Ok(v) => out.text(&v.print(), self.max),
                Err(_) => false,
            },
            Op::ServerName { sni, host } => server_name(*sni, *host, cx, out),
            Op::Address { of, form } => address(*of, *form, cx, out),
            Op::Tls { upstream, field } => tls(cx, *upstream, |t| tls_field(t, *field, out)).unwrap_or(false),
            Op::Meter { upstream, of } => {
                let m = if *upstream { &cx.info.upstream_meter } else { &cx.info.downstream };
                out.number(match of {
                    MeterOf::HeaderReceived => m.header_rx.get(),
                    MeterOf::HeaderSent => m.header_tx.get(),
                    MeterOf::PlainHeaderReceived => m.plain_header_rx.get(),
                    MeterOf::PlainHeaderSent => m.plain_header_tx.get(),
                    MeterOf::WireReceived => m.wire_rx.get(),
                    MeterOf::WireSent => m.wire_tx.get(),
                })
            }
            Op::Coalesce(operators) => operators.iter().any(|op| op.append(cx, out)),
            Op::Unset => false,
        }
    }
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Status([u8; 3]),
}

/// The first value of a header, as Envoy logs it.
fn header<'a>(cx: &FormatCx<'a>, of: HeadersOf, n: &HeaderName) -> Option<Value<'a>> {
    let headers = match of {
        HeadersOf::Request => cx.request?,
        HeadersOf::Trailers => cx.trailers?,
        HeadersOf::Response => {
            let (status, headers) = cx.response?;
            if n.id() == name::STATUS {
                return Some(Value::Status(crate::matchers::status_text(status)));
            }
            headers
        }
    };
    let found = headers.get(n);
    // In Envoy `host` is another name of `:authority`.
    let host = || (n.id() == name::HOST).then(|| headers.get(name::AUTHORITY)).flatten();
    found.or_else(host).map(Value::Bytes)
}

fn request<'a>(cx: &FormatCx<'a>, n: impl AsName) -> Option<&'a [u8]> {
    cx.request?.get(n)
}

fn size(headers: Option<&HeaderMap>) -> u64 {
    headers.map_or(0, |h| h.byte_size() as u64)
}

fn before_query(path: &[u8]) -> &[u8] {
    path.iter().position(|b| *b == b'?').map_or(path, |i| &path[..i])
}

/// `%QUERY_PARAMS(DECODED)%`: only visible ASCII is decoded, without `"` and `\`, so that the result is safe in a log.
fn decode_visible(query: &[u8], out: &mut Vec<u8>) {
    let hex = |b: u8| char::from(b).to_digit(16);
    let mut rest = query;
    while let Some(b) = rest.first() {
        if let [b'%', hi, lo, tail @ ..] = rest
            && let (Some(hi), Some(lo)) = (hex(*hi), hex(*lo))
            && let c = (hi * 16 + lo) as u8
            && c.is_ascii_graphic()
            && !matches!(c, b'"' | b'\\')
        {
            out.push(c);
            rest = tail;
        } else {
            out.push(*b);
            rest = &rest[1..];
        }
    }
}

fn millis(d: Option<Duration>, out: &mut Out<'_>) -> bool {
    d.is_some_and(|d| out.number(d.as_millis() as u64))
}

fn underscored(text: &str, blank: impl Fn(&u8) -> bool, out: &mut Out<'_>) -> bool {
    let put = |b: u8| if blank(&b) { b'_' } else { b };
    !text.is_empty() && out.build(None, |buf| buf.extend(text.bytes().map(put)))
}

fn joined<T>(items: &[T], out: &mut Out<'_>, mut put: impl FnMut(&T, &mut Vec<u8>)) -> bool {
    !items.is_empty()
        && out.build(None, |buf| {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    buf.push(b',');
                }
                put(item, buf);
            }
        })
}

fn simple(s: Simple, cx: &FormatCx<'_>, out: &mut Out<'_>) -> bool {
    use Simple as S;
    let (info, conn) = (cx.info, cx.conn);
    let since_start = |t: Option<Instant>| t.map(|t| t.saturating_duration_since(info.start));
    match s {
        S::AccessLogType => out.text(cx.log_type.as_str_name().as_bytes(), None),
        S::BytesReceived => out.number(info.bytes_received.get()),
        S::BytesSent => out.number(info.bytes_sent.get()),
        S::Retransmitted => out.number(0), // counted for QUIC only
        S::ConnectionId => out.number(conn.id.get()),
        S::ConnectionTerminationDetails => out.nonempty(conn.ended(|e| &e.termination).as_bytes()),
        S::CustomFlags => out.text(b"", None),
        S::DetectedCloseType => out.text(b"Normal", None),
        // A fact of connections: the entry of a request has none.
        S::DownstreamLocalCloseReason => out.nonempty(conn.ended(|e| &e.local_close_reason).as_bytes()),
        S::DownstreamTransportFailure => {
            cx.request.is_none() && underscored(&conn.ended(|e| &e.transport_failure), |b| *b == b' ', out)
        }
        S::Duration => millis(since_start(Some(clock::now())), out),
        S::FilterChainName => conn.filter_chain_name.get().is_some_and(|n| out.nonempty(n.as_bytes())),
        S::HandshakeDuration => millis(since_start(conn.handshake_done.get()), out),
        S::ListenerName => out.nonempty(conn.listener.name.as_bytes()),
        S::LocalReplyBody => out.text(cx.local_reply_body, None),
        S::PoolReadyDuration => millis(info.upstream.borrow().pool_ready, out),
        S::Protocol => info.protocol.get().is_some_and(|v| out.text(v.as_str().as_bytes(), None)),
        S::RequestDuration => millis(since_start(info.times.ds_rx_end.get()), out),
        S::RequestTxDuration => millis(since_start(info.times.us_tx_end.get()), out),
        S::ResponseCode => out.number(info.response_code.get().into()),
        S::ResponseDuration => millis(since_start(info.times.us_rx_beg.get()), out),
        S::ResponseFlags => flags(cx, Flag::short, out),
        S::ResponseFlagsLong => flags(cx, Flag::long, out),
        S::ResponseTxDuration => {
            let (Some(from), Some(to)) = (info.times.us_rx_beg.get(), info.times.ds_tx_end.get()) else {
                return false;
            };
            millis(Some(to.saturating_duration_since(from)), out)
        }
        S::RouteName => cx.route.is_some_and(|r| out.nonempty(r.name().as_bytes())),
        S::StreamId => match info.stream_id.borrow().as_deref() {
            Some(id) => out.text(id.as_bytes(), None),
            None => request(cx, name::X_REQUEST_ID).is_some_and(|id| out.text(id, None)),
        },
        S::TraceId => {
            let active = info.trace.borrow();
            active
                .as_ref()
                .and_then(|a| a.traced())
                .is_some_and(|(t, s)| out.nonempty(t.trace_id(s).as_bytes()))
        }
        S::SpanId => {
            let active = info.trace.borrow();
            let id = active.as_ref().and_then(|a| a.traced()).and_then(|(t, s)| t.span_id(s));
            id.is_some_and(|id| out.nonempty(id.as_bytes()))
        }
        S::UniqueId => out.text(&crate::rng::uuid4(), None),
        S::VirtualClusterName => {
            info.virtual_cluster.borrow().as_ref().is_some_and(|n| out.text(n.as_bytes(), None))
        }
        S::UpstreamAttempts => out.number(info.attempts.get().into()),
        _ => upstream(s, cx, out),
    }
}

fn upstream(s: Simple, cx: &FormatCx<'_>, out: &mut Out<'_>) -> bool {
    use Simple as S;
    let up = cx.info.upstream.borrow();
    // A host without a name has its address for one.
    fn host_name(h: &HostInfo) -> &str {
        if h.hostname.is_empty() { &h.address_text } else { &h.hostname }
    }
    match s {
        S::UpstreamCluster => {
            let observed = up.cluster_observability.as_ref().filter(|n| !n.is_empty());
            observed.or(up.cluster.as_ref()).is_some_and(|n| out.nonempty(n.as_bytes()))
        }
        S::UpstreamClusterRaw => up.cluster.as_ref().is_some_and(|n| out.nonempty(n.as_bytes())),
        S::UpstreamConnectionId => out.number(up.connection_id.unwrap_or(0)),
        S::UpstreamConnectionIds => joined(&up.connections_attempted, out, |n, buf| {
            // Writing to a vector cannot fail.
            let _ = write!(buf, "{n}");
        }),
        S::UpstreamDetectedCloseType => up.host.is_some() && out.text(b"Normal", None),
        S::UpstreamHost => up.host.as_ref().is_some_and(|h| out.nonempty(h.address_text.as_bytes())),
        S::UpstreamHostName => up.host.as_ref().is_some_and(|h| out.nonempty(host_name(h).as_bytes())),
        S::UpstreamHostNameNoPort => {
            up.host.as_ref().is_some_and(|h| out.nonempty(without_port(host_name(h)).as_bytes()))
        }
        S::UpstreamHosts => {
            joined(&up.hosts_attempted, out, |h, buf| buf.extend_from_slice(h.address_text.as_bytes()))
        }
        S::UpstreamHostsNoPort => joined(&up.hosts_attempted, out, |h, buf| {
            // Without brackets: this is an address, not a host.
            let text = without_port(&h.address_text).trim_start_matches('[').trim_end_matches(']');
            buf.extend_from_slice(text.as_bytes());
        }),
        S::UpstreamHostNames => {
            joined(&up.hosts_attempted, out, |h, buf| buf.extend_from_slice(host_name(h).as_bytes()))
        }
        S::UpstreamHostNamesNoPort => joined(&up.hosts_attempted, out, |h, buf| {
            buf.extend_from_slice(without_port(host_name(h)).as_bytes());
        }),
        S::UpstreamLocalCloseReason => out.nonempty(up.local_close_reason.as_bytes()),
        S::UpstreamProtocol => up.protocol.is_some_and(|v| out.text(v.as_str().as_bytes(), None)),
        S::UpstreamTransportFailure => underscored(&up.transport_failure, |b| *b == b' ', out),
        _ => false,
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(i) if !host[i..].contains(']') => &host[..i],
        _ => host,
    }
}

fn flags(cx: &FormatCx<'_>, text: impl Fn(Flag) -> &'static str, out: &mut Out<'_>) -> bool {
    let flags = cx.info.flags.get();
    // Envoy calls this a value, so it stays when empty values are omitted.
    if flags.is_empty() {
        return out.text(b"-", None);
    }
    out.build(None, |buf| {
        for (i, f) in flags.iter().enumerate() {
            if i > 0 {
                buf.push(b',');
            }
            buf.extend_from_slice(text(f).as_bytes());
        }
    })
}

fn time(of: TimeOf, cx: &FormatCx<'_>) -> Option<SystemTime> {
    let peer = |upstream, get: fn(&CertInfo) -> Option<SystemTime>| {
        tls(cx, upstream, |t| t.peer.as_deref().and_then(get)).flatten()
    };
    match of {
        TimeOf::Start => Some(cx.info.start_wall),
        TimeOf::Emit => Some(clock::wall()),
        TimeOf::NotBefore { upstream } => peer(upstream, |c| c.not_before),
        TimeOf::NotAfter { upstream } => peer(upstream, |c| c.not_after),
    }
}

fn point(p: Point, cx: &FormatCx<'_>) -> Option<Instant> {
    let t = &cx.info.times;
    match p {
        Point::DsCxBeg => Some(cx.conn.start),
        Point::DsRxBeg => Some(cx.info.start),
        Point::DsRxEnd => t.ds_rx_end.get(),
        Point::UsCxBeg => t.us_cx_beg.get(),
        Point::UsCxEnd => t.us_cx_end.get(),
        Point::UsHsEnd => t.us_hs_end.get(),
        Point::UsTxBeg => t.us_tx_beg.get(),
        Point::UsTxEnd => t.us_tx_end.get(),
        Point::UsRxBeg => t.us_rx_beg.get(),
        Point::UsRxBodyBeg => t.us_rx_body_beg.get(),
        Point::UsRxEnd => t.us_rx_end.get(),
        Point::DsTxBeg => t.ds_tx_beg.get(),
        Point::DsTxEnd => t.ds_tx_end.get(),
        Point::Unknown => None,
    }
}

fn server_name(sni: SniUse, host: HostOf, cx: &FormatCx<'_>, out: &mut Out<'_>) -> bool {
    // Known to the TLS inspector only, whatever the handshake said.
    let name = cx.conn.sni.get().map(String::as_str).filter(|s| !s.is_empty());
    let original = || request(cx, name::X_ENVOY_ORIGINAL_HOST).filter(|h| !h.is_empty());
    let current = || request(cx, name::AUTHORITY).filter(|h| !h.is_empty());
    let host = || match host {
        HostOf::Original => original(),
        HostOf::Current => current(),
        HostOf::Either => original().or_else(current),
    };
    // A client chooses the name and it was checked by nobody (CVE-2024-45808).
    let clean = |b: u8| if b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-') { b } else { b'_' };
    let put_name =
        |out: &mut Out<'_>| name.is_some_and(|n| out.build(None, |buf| buf.extend(n.bytes().map(clean))));
    let put_host = |out: &mut Out<'_>| host().is_some_and(|h| out.text(h, None));
    match sni {
        SniUse::Only => put_name(out),
        SniUse::First => put_name(out) || put_host(out),
        SniUse::HostFirst => put_host(out) || put_name(out),
    }
}

fn address(of: AddressOf, form: AddressForm, cx: &FormatCx<'_>, out: &mut Out<'_>) -> bool {
    let (conn, up) = (cx.conn, cx.info.upstream.borrow());
    let mut put = |a: &Address| match form {
        AddressForm::Full => out.display(a),
        AddressForm::NoPort => no_port(a, out),
        AddressForm::Range(bits) => match a.ip() {
            Some(_) if bits < 0 => out.text(b"", None),
            Some(ip) => out.display(CidrRange::of(ip, u32::try_from(bits).unwrap_or(u32::MAX))),
            None => no_port(a, out),
        },
        AddressForm::Port => a.port().is_some_and(|p| out.number(p.into())),
        AddressForm::EndpointId => match a {
            Address::Internal(_, id) => out.text(id.as_bytes(), None),
            _ => out.text(b"", None),
        },
    };
    match of {
        AddressOf::Local => put(&conn.local.borrow()),
        AddressOf::Remote => match &*cx.info.remote.borrow() {
            Some(a) => put(a),
            None => put(&conn.remote.borrow()),
        },
        AddressOf::DirectLocal => put(&conn.direct_local),
        AddressOf::DirectRemote => put(&conn.direct_remote),
        AddressOf::UpstreamLocal => up.local_address.as_ref().is_some_and(put),
        AddressOf::UpstreamRemote => up.remote_address.as_ref().is_some_and(put),
    }
}

fn no_port(a: &Address, out: &mut Out<'_>) -> bool {
    match a.ip() {
        Some(ip) => out.display(ip),
        None => out.display(a),
    }
}

fn tls<R>(cx: &FormatCx<'_>, upstream: bool, f: impl FnOnce(&TlsInfo) -> R) -> Option<R> {
    if upstream { cx.info.upstream.borrow().tls.as_deref().map(f) } else { cx.conn.tls.get().map(|t| f(t)) }
}

fn tls_field(t: &TlsInfo, field: TlsField, out: &mut Out<'_>) -> bool {
    let mut cert = |c: &CertInfo, field| match field {
        CertField::Subject => out.nonempty(c.subject.as_bytes()),
        CertField::Issuer => out.nonempty(c.issuer.as_bytes()),
        CertField::Serial => out.nonempty(c.serial.as_bytes()),
        CertField::Sha256 => out.nonempty(c.fingerprint_256.as_bytes()),
        CertField::Sha1 => out.nonempty(c.fingerprint_1.as_bytes()),
        CertField::Pem => out.nonempty(c.pem_urlencoded.as_bytes()),
        CertField::Uri => names(&c.uri_sans, out),
        CertField::Dns => names(&c.dns_sans, out),
        CertField::Ip => names(&c.ip_sans, out),
        CertField::Email => names(&c.email_sans, out),
    };
    match field {
        TlsField::Peer(f) => t.peer.as_deref().is_some_and(|c| cert(c, f)),
        TlsField::Local(f) => t.local.as_deref().is_some_and(|c| cert(c, f)),
        TlsField::Version => out.nonempty(t.version.as_bytes()),
        TlsField::Cipher => out.nonempty(t.cipher.as_bytes()),
        TlsField::Group => out.nonempty(t.group.as_bytes()),
        TlsField::SessionId => out.nonempty(t.session_id.as_bytes()),
        TlsField::ServerName => out.nonempty(t.sni.as_bytes()),
    }
}

fn names(sans: &[String], out: &mut Out<'_>) -> bool {
    joined(sans, out, |s, buf| buf.extend_from_slice(s.as_bytes()))
}

/// Names of gRPC's status codes, as Envoy and as absl call them.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

fn grpc_status(form: GrpcForm, cx: &FormatCx<'_>, out: &mut Out<'_>) -> bool {
    let content_type = request(cx, name::CONTENT_TYPE).and_then(|v| v.strip_prefix(b"application/grpc"));
    if !content_type.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';'))) {
        return false;
    }
    let text = cx.trailers.and_then(|t| t.get(name::GRPC_STATUS));
    let text = text.or_else(|| cx.response.and_then(|(_, h)| h.get(name::GRPC_STATUS)));
    let code: Option<u64> = match text {
        Some(t) => std::str::from_utf8(t).ok().and_then(|t| t.trim_ascii().parse().ok()),
        // Envoy maps the HTTP status (`Grpc::Utility::httpToGrpcStatus`).
        None => match cx.info.response_code.get() {
            0 => return false,
            400 => Some(13),
            401 => Some(16),
            403 => Some(7),
            404 => Some(12),
            429 | 502..=504 => Some(14),
            _ => Some(2),
        },
    };
    // A status that is no number is -1 to Envoy.
    let Some(code) = code else { return out.text(b"-1", None) };
    let names = usize::try_from(code).ok().and_then(|c| GRPC.get(c));
    match (form, names) {
        (GrpcForm::Number, _) => out.number(code),
        (GrpcForm::Camel, Some((camel, _))) => out.text(camel.as_bytes(), None),
        (GrpcForm::Snake, Some((_, snake))) => out.text(snake.as_bytes(), None),
        (_, None) => out.display(code),
    }
}

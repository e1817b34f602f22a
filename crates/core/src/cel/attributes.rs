//! Envoy's attributes: groups of facts about a request, its response, its connection and its configuration.

use super::time::SECOND;
use super::value::{Failed, Value, namespace};
use crate::address::Address;
use crate::error::BuildError;
use crate::exchange::grpc_status_of;
use crate::format::FormatCx;
use crate::info::{CertInfo, Direction, HostInfo, TlsInfo};
use crate::metadata::Metadata;
use nuncio_wire::{AsName, HeaderMap, HeaderName, name};
use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// `request`
    Request,
    /// `response`
    Response,
    /// `connection`
    Connection,
    /// `upstream`
    Upstream,
    /// `source`
    Source,
    /// `destination`
    Destination,
    /// `metadata` and its like.
    Metadata(MetadataOf),
    /// The `filter_metadata` of one of these.
    Namespaces(MetadataOf),
    /// `filter_state`
    FilterState,
    /// `upstream_filter_state`, in which there is nothing.
    UpstreamFilterState,
    /// `xds`
    Xds,
    /// `upstream.locality`
    Locality,
    /// `headers` or `trailers` of one of these.
    Headers(HeadersOf),
}

/// Whose metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataOf {
    /// Dynamic metadata.
    Stream,
    /// Of the route.
    Route,
    /// Of the cluster.
    Cluster,
    /// Of the upstream host.
    Host,
    /// Of the listener.
    Listener,
}

/// Whose headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadersOf {
    /// The request's.
    Request,
    /// The response's.
    Response,
    /// The response's trailers.
    Trailers,
}

type Found<'a> = Result<Value<'a>, Failed>;

/// The group of this name.
pub(super) fn group(name: &str) -> Option<Object> {
    Some(match name.strip_prefix('.').unwrap_or(name) {
        "request" => Object::Request,
        "response" => Object::Response,
        "connection" => Object::Connection,
        "upstream" => Object::Upstream,
        "source" => Object::Source,
        "destination" => Object::Destination,
        "metadata" => Object::Metadata(MetadataOf::Stream),
        "filter_state" => Object::FilterState,
        "upstream_filter_state" => Object::UpstreamFilterState,
        "xds" => Object::Xds,
        _ => return None,
    })
}

/// What Envoy knows and this proxy does not show.
pub(super) fn unbuilt(of: Object, field: &str) -> Option<BuildError> {
    let name = match (of, field) {
        (Object::Xds, "node" | "virtual_host_metadata" | "upstream_host_locality_metadata") => "xds",
        (Object::Upstream, "num_endpoints") => "upstream",
        (Object::Metadata(_), "typed_filter_metadata") => "metadata",
        _ => return None,
    };
    Some(BuildError::not_implemented(format_args!("CEL attribute {name}.{field}")))
}

fn int<'a>(n: u64) -> Value<'a> {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn bytes<'a>(b: &'a [u8]) -> Value<'a> {
    Value::Text(Cow::Borrowed(b))
}

fn duration<'a>(d: Duration) -> Value<'a> {
    Value::Duration(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

fn timestamp<'a>(t: SystemTime) -> Value<'a> {
    let since = t.duration_since(UNIX_EPOCH).unwrap_or_default();
    Value::Timestamp(i128::from(since.as_secs()) * i128::from(SECOND) + i128::from(since.subsec_nanos()))
}

impl HeadersOf {
    fn of<'a>(self, cx: &FormatCx<'a>) -> Option<&'a HeaderMap> {
        match self {
            HeadersOf::Request => cx.request,
            HeadersOf::Response => cx.response.map(|(_, h)| h),
            HeadersOf::Trailers => cx.trailers,
        }
    }
    /// A header; several of one name are joined.
    pub(super) fn get<'a>(self, name: impl AsName, cx: &FormatCx<'a>) -> Option<Value<'a>> {
        if let (HeadersOf::Response, b":status") = (self, name.text()) {
            return cx.response.map(|(status, _)| Value::text(status.to_string()));
        }
        self.of(cx)?.joined(name).map(Value::Text)
    }
}

impl Object {
    /// What it has under a key.
    pub(super) fn get<'a>(self, key: &[u8], cx: &FormatCx<'a>) -> Found<'a> {
        let text = std::str::from_utf8(key).map_err(|_| Failed::NoSuchKey)?;
        let found = match self {
            Object::Request => request(text, cx),
            Object::Response => response(text, cx),
            Object::Connection => connection(text, cx),
            Object::Upstream => upstream(text, cx),
            Object::Source => match &*cx.info.remote.borrow() {
                Some(a) => peer(text, a),
                None => peer(text, &cx.conn.remote.borrow()),
            },
            Object::Destination => peer(text, &cx.conn.local.borrow()),
            Object::Metadata(of) => {
                (text == "filter_metadata").then_some(Value::Object(Object::Namespaces(of)))
            }
            Object::Namespaces(of) => of.with(cx, |m| namespace(m, key)),
            Object::FilterState => {
                let object = cx.info.filter_state.borrow().get(text);
                let object = object.or_else(|| cx.conn.filter_state.borrow().get(text));
                object.and_then(|o| o.text()).map(|t| Value::Bytes(Cow::Owned(t.into_bytes())))
            }
            Object::UpstreamFilterState => None,
            Object::Xds => xds(text, cx),
            Object::Locality => {
                let at = ["region", "zone", "sub_zone"].iter().position(|n| *n == text);
                let up = cx.info.upstream.borrow();
                let host = up.host.as_ref().ok_or(Failed::NoSuchKey)?;
                at.and_then(|i| host.locality.get(i)).map(|t| Value::text(t.as_str()))
            }
            Object::Headers(of) => of.get(&HeaderName::new(&text.to_ascii_lowercase()), cx),
        };
        found.ok_or(Failed::NoSuchKey)
    }
    /// How many entries it has.
    pub(super) fn size(self, cx: &FormatCx<'_>) -> usize {
        match self {
            Object::Headers(of) => {
                let status = usize::from(of == HeadersOf::Response && cx.response.is_some());
                of.of(cx).map_or(0, |h| h.iter().count() + status)
            }
            Object::Namespaces(of) => of.with(cx, |m| Some(m.0.len())).unwrap_or(0),
            // As in Envoy nobody counts them.
            _ => 0,
        }
    }
}

impl MetadataOf {
    fn with<T>(self, cx: &FormatCx<'_>, f: impl FnOnce(&Metadata) -> Option<T>) -> Option<T> {
        match self {
            MetadataOf::Stream => f(cx.info.metadata.borrow().as_deref()?),
            MetadataOf::Route => f(cx.route?.metadata()),
            MetadataOf::Cluster => f(cx.info.upstream.borrow().cluster_metadata.as_deref()?),
            MetadataOf::Host => f(&cx.info.upstream.borrow().host.as_ref()?.metadata),
            MetadataOf::Listener => f(&cx.conn.listener.metadata),
        }
    }
}

fn request<'a>(field: &str, cx: &FormatCx<'a>) -> Option<Value<'a>> {
    let header = |name| HeadersOf::Request.get(name, cx);
    let path = || cx.request.map(|h| h.get(name::PATH).unwrap_or_default());
    let query_at = |p: &[u8]| p.iter().position(|b| *b == b'?');
    match field {
        "headers" => Some(Value::Object(Object::Headers(HeadersOf::Request))),
        "path" => header(name::PATH),
        "url_path" => path().map(|p| bytes(&p[..query_at(p).unwrap_or(p.len())])),
        "query" => path().map(|p| {
            let query = query_at(p).map_or(&[][..], |i| &p[i + 1..]);
            bytes(query.split(|b| *b == b'#').next().unwrap_or_default())
        }),
        "host" => header(name::AUTHORITY),
        "scheme" => header(name::SCHEME),
        "method" => header(name::METHOD),
        "referer" => header(name::REFERER),
        "useragent" => header(name::USER_AGENT),
        "id" => header(name::X_REQUEST_ID),
        "time" => Some(timestamp(cx.info.start_wall)),
        "protocol" => cx.info.protocol.get().map(|v| bytes(v.as_str().as_bytes())),
        "duration" => {
            let end = cx.info.times.ds_tx_end.get()?;
            Some(duration(end.saturating_duration_since(cx.info.start)))
        }
        "size" => match cx.request.and_then(|h| h.get(name::CONTENT_LENGTH)) {
            Some(n) => std::str::from_utf8(n).ok()?.parse().ok().map(int),
            None => Some(int(cx.info.bytes_received.get())),
        },
        "total_size" => {
            let head = cx.request.map_or(0, |h| h.byte_size() as u64);
            Some(int(cx.info.bytes_received.get() + head))
        }
        _ => None,
    }
}

fn response<'a>(field: &str, cx: &FormatCx<'a>) -> Option<Value<'a>> {
    match field {
        "headers" => Some(Value::Object(Object::Headers(HeadersOf::Response))),
        "trailers" => Some(Value::Object(Object::Headers(HeadersOf::Trailers))),
        "code" => Some(cx.info.response_code.get()).filter(|c| *c > 0).map(|c| Value::Int(c.into())),
        "code_details" => {
            let details = cx.info.details.borrow();
            (!details.is_empty()).then(|| Value::text(details.as_ref()))
        }
        "flags" => {
            // One bit of each, in the order of Envoy's list.
            Some(Value::Int(cx.info.flags.get().iter().fold(0, |bits, f| bits | 1 << (f as u32))))
        }
        "grpc_status" => {
            let of = |h: Option<&'a HeaderMap>| h.and_then(|h| h.get(name::GRPC_STATUS));
            match of(cx.trailers).or_else(|| of(cx.response.map(|(_, h)| h))) {
                Some(t) => std::str::from_utf8(t).ok()?.trim().parse().ok().map(Value::Int),
                None => {
                    let code = Some(cx.info.response_code.get()).filter(|c| *c > 0)?;
                    let status = if code == 200 { 2 } else { grpc_status_of(code) };
                    Some(Value::Int(status.into()))
                }
            }
        }
        "size" => Some(int(cx.info.bytes_sent.get())),
        "total_size" => {
            let head = cx.response.map_or(0, |(_, h)| h.byte_size() as u64 + ":status200".len() as u64);
            let trailers = cx.trailers.map_or(0, |h| h.byte_size() as u64);
            Some(int(cx.info.bytes_sent.get() + head + trailers))
        }
        "backend_latency" => {
            let (from, to) = (cx.info.times.us_tx_beg.get()?, cx.info.times.us_rx_end.get()?);
            Some(duration(to.saturating_duration_since(from)))
        }
        _ => None,
    }
}

fn connection<'a>(field: &str, cx: &FormatCx<'a>) -> Option<Value<'a>> {
    let tls = cx.conn.tls.get();
    let nonempty = |t: &str| (!t.is_empty()).then(|| Value::text(t));
    match field {
        "mtls" => Some(Value::Bool(tls.is_some_and(|t| t.peer.is_some()))),
        "requested_server_name" => {
            let sni = cx.conn.sni.get().or(tls.map(|t| &t.sni));
            Some(Value::text(sni.map_or("", |s| s.as_str())))
        }
        "id" => Some(Value::Uint(cx.conn.id.get())),
        "termination_details" => nonempty(&cx.conn.ended(|e| &e.termination)),
        "transport_failure_reason" => nonempty(&cx.conn.ended(|e| &e.transport_failure)),
        _ => tls_fact(field, tls?),
    }
}

/// Facts of a TLS connection; those of a certificate that is not there are empty, or not there.
fn tls_fact<'a>(field: &str, tls: &TlsInfo) -> Option<Value<'a>> {
    let subject = |c: &Option<std::sync::Arc<CertInfo>>| {
        Some(Value::text(c.as_ref().map_or("", |c| c.subject.as_str())))
    };
    let first = |names: Option<&Vec<String>>| names?.first().map(|n| Value::text(n.as_str()));
    let (local, peer) = (tls.local.as_deref(), tls.peer.as_deref());
    match field {
        "tls_version" => Some(Value::text(tls.version)),
        "subject_local_certificate" => subject(&tls.local),
        "subject_peer_certificate" => subject(&tls.peer),
        "uri_san_local_certificate" => first(local.map(|c| &c.uri_sans)),
        "uri_san_peer_certificate" => first(peer.map(|c| &c.uri_sans)),
        "dns_san_local_certificate" => first(local.map(|c| &c.dns_sans)),
        "dns_san_peer_certificate" => first(peer.map(|c| &c.dns_sans)),
        "sha256_peer_certificate_digest" => peer.map(|c| Value::text(c.fingerprint_256.as_str())),
        _ => None,
    }
}

fn upstream<'a>(field: &str, cx: &FormatCx<'a>) -> Option<Value<'a>> {
    let up = cx.info.upstream.borrow();
    let host = |f: &dyn Fn(&HostInfo) -> Option<Value<'a>>| up.host.as_deref().and_then(f);
    match field {
        "address" => host(&|h| h.address.as_ref().map(|_| Value::text(&*h.address_text))),
        "port" => host(&|h| h.address.as_ref()?.port().map(|p| Value::Int(p.into()))),
        "local_address" => up.local_address.as_ref().map(|a| Value::text(a.to_string())),
        "locality" => host(&|_| Some(Value::Object(Object::Locality))),
        "transport_failure_reason" => Some(Value::text(up.transport_failure.as_ref())),
        "cx_pool_ready_duration" => up.pool_ready.map(duration),
        "request_attempt_count" => Some(Value::Uint(cx.info.attempts.get().into())),
        _ => tls_fact(field, up.tls.as_deref()?),
    }
}

fn peer<'a>(field: &str, a: &Address) -> Option<Value<'a>> {
    match field {
        "address" => Some(Value::text(a.to_string())),
        "port" => a.port().map(|p| Value::Int(p.into())),
        _ => None,
    }
}

fn xds<'a>(field: &str, cx: &FormatCx<'a>) -> Option<Value<'a>> {
    let metadata = |of| Some(Value::Object(Object::Metadata(of)));
    match field {
        "cluster_name" => cx.info.upstream.borrow().cluster.as_ref().map(|c| Value::text(&**c)),
        "cluster_metadata" => metadata(MetadataOf::Cluster),
        "route_name" => cx.route.map(|r| bytes(r.name().as_bytes())),
        "route_metadata" => cx.route.and_then(|_| metadata(MetadataOf::Route)),
        "virtual_host_name" => cx.route.map(|r| bytes(r.virtual_host().as_bytes())),
        "upstream_host_metadata" => metadata(MetadataOf::Host),
        "filter_chain_name" => Some(Value::text(cx.conn.filter_chain_name.get().map_or("", |n| n))),
        "listener_metadata" => metadata(MetadataOf::Listener),
        "listener_direction" => Some(Value::Int(match cx.conn.listener.direction {
            Direction::Unspecified => 0,
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        })),
        _ => None,
    }
}

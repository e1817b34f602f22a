//! What spans say: Envoy's own tags, and those of the configuration (`envoy.type.tracing.v3`).

use super::{Active, Settings, Span};
use crate::address::Address;
use crate::coverage::Covered;
use crate::error::{BuildError, BuildResult};
use crate::flags::Flag;
use crate::format::{FormatCx, HeaderFormatter, append_value};
use crate::info::StreamInfo;
use crate::metadata::Metadata;
use nuncio_api::envoy::r#type::metadata::v3 as meta;
use nuncio_api::envoy::r#type::tracing::v3 as pb;
use nuncio_wire::{HeaderMap, HeaderName, Version, name};
use prost_types::value::Kind;
use std::time::{Instant, SystemTime};

/// What is read of the tags.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.type.tracing.v3.CustomTag",
        &["tag", "literal", "environment", "request_header", "metadata", "value"],
    ),
    Covered::new("envoy.type.tracing.v3.CustomTag.Literal", &["value"]),
    Covered::new("envoy.type.tracing.v3.CustomTag.Environment", &["name", "default_value"]),
    Covered::new("envoy.type.tracing.v3.CustomTag.Header", &["name", "default_value"]),
    Covered::new("envoy.type.tracing.v3.CustomTag.Metadata", &["kind", "metadata_key", "default_value"]),
    Covered::new("envoy.type.metadata.v3.MetadataKind", &["request", "route", "cluster", "host"]),
];

/// A tag of the configuration.
pub struct CustomTag {
    name: String,
    value: Value,
}

enum Value {
    /// The same for all.
    Fixed(String),
    Header(HeaderName, String),
    Metadata {
        of: Of,
        namespace: String,
        path: Vec<String>,
        default: String,
    },
    Format(HeaderFormatter),
}

/// Whose metadata.
enum Of {
    Request,
    Route,
    Cluster,
    Host,
}

impl CustomTag {
    /// Compiles a list.
    ///
    /// # Errors
    /// A format is refused.
    pub fn list(all: &[pb::CustomTag]) -> BuildResult<Vec<CustomTag>> {
        all.iter().map(CustomTag::new).collect()
    }
    fn new(t: &pb::CustomTag) -> BuildResult<CustomTag> {
        use meta::metadata_kind::Kind as K;
        use pb::custom_tag::Type as T;
        let value = match &t.r#type {
            Some(T::Literal(l)) => Value::Fixed(l.value.clone()),
            Some(T::Environment(e)) => {
                Value::Fixed(std::env::var(&e.name).unwrap_or_else(|_| e.default_value.clone()))
            }
            Some(T::RequestHeader(h)) => Value::Header(HeaderName::new(&h.name), h.default_value.clone()),
            Some(T::Metadata(m)) => {
                use meta::metadata_key::path_segment::Segment;
                let key = m.metadata_key.clone().unwrap_or_default();
                let step = |s: meta::metadata_key::PathSegment| match s.segment {
                    Some(Segment::Key(k)) => Ok(k),
                    _ => Err(BuildError::not_implemented("MetadataKey.PathSegment.index")),
                };
                Value::Metadata {
                    of: match m.kind.as_ref().and_then(|k| k.kind.as_ref()) {
                        Some(K::Route(_)) => Of::Route,
                        Some(K::Cluster(_)) => Of::Cluster,
                        Some(K::Host(_)) => Of::Host,
                        _ => Of::Request,
                    },
                    namespace: key.key,
                    path: key.path.into_iter().map(step).collect::<BuildResult<_>>()?,
                    default: m.default_value.clone(),
                }
            }
            Some(T::Value(format)) => Value::Format(HeaderFormatter::new(format)?),
            None => return Err(BuildError::from("field: \"type\", reason: is required")),
        };
        Ok(CustomTag { name: t.tag.clone(), value })
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its value for a span or a log entry; empty when there is none.
    pub fn value(&self, cx: &FormatCx<'_>) -> String {
        match &self.value {
            Value::Fixed(text) => text.clone(),
            Value::Header(name, default) => {
                cx.request.and_then(|h| h.get_str(name)).unwrap_or(default).to_owned()
            }
            Value::Format(f) => {
                let mut out = vec![];
                f.append(cx, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
            Value::Metadata { of, namespace, path, default } => {
                let found = |m: &Metadata| text(m.get(namespace, path.iter().map(|s| &**s))?.kind.as_ref()?);
                let up = cx.info.upstream.borrow();
                let value = match of {
                    Of::Request => cx.info.metadata.borrow().as_deref().and_then(found),
                    Of::Route => cx.route.map(|r| r.metadata()).and_then(found),
                    Of::Cluster if up.host.is_none() => None,
                    Of::Cluster => up.cluster_metadata.as_deref().and_then(found),
                    Of::Host => up.host.as_ref().and_then(|h| found(&h.metadata)),
                };
                value.unwrap_or_else(|| default.clone())
            }
        }
    }
}

/// A value of metadata as text.
fn text(v: &Kind) -> Option<String> {
    match v {
        Kind::BoolValue(b) => Some(b.to_string()),
        Kind::NumberValue(n) => Some(n.to_string()),
        Kind::StringValue(s) => Some(s.clone()),
        Kind::ListValue(_) | Kind::StructValue(_) => {
            let mut json = vec![];
            append_value(&mut json, &prost_types::Value { kind: Some(v.clone()) });
            String::from_utf8(json).ok()
        }
        Kind::NullValue(_) => None,
    }
}

/// Completes the span of a request at its end.
pub fn downstream(active: &Active, span: &mut Span, cx: &FormatCx<'_>) {
    let info = cx.info;
    if let Some(h) = cx.request.filter(|h| !h.is_empty()) {
        let value = |n: nuncio_wire::Id| String::from_utf8_lossy(h.get(n).unwrap_or_default()).into_owned();
        let or_dash =
            |n| h.get(n).map_or_else(|| "-".to_owned(), |v| String::from_utf8_lossy(v).into_owned());
        if h.contains(name::X_REQUEST_ID) {
            span.tag("guid:x-request-id", value(name::X_REQUEST_ID));
        }
        span.tag("http.url", url(h, active.settings.max_path));
        span.tag("http.method", value(name::METHOD));
        span.tag("downstream_cluster", or_dash(name::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER));
        span.tag("user_agent", or_dash(name::USER_AGENT));
        span.tag("http.protocol", protocol(info.protocol.get()));
        span.tag(
            "peer.address",
            match &cx.conn.direct_remote {
                Address::Ip(a) => Address::Ip(*a).ip().map_or_else(String::new, |ip| ip.to_string()),
                other => other.to_string(),
            },
        );
        if h.contains(name::X_CLIENT_TRACE_ID) {
            span.tag("guid:x-client-trace-id", value(name::X_CLIENT_TRACE_ID));
        }
        let grpc = h.get(name::CONTENT_TYPE).is_some_and(|t| t.starts_with(b"application/grpc"));
        for (tag, id) in [
            ("grpc.path", name::PATH),
            ("grpc.authority", name::AUTHORITY),
            ("grpc.content_type", name::CONTENT_TYPE),
            ("grpc.timeout", name::GRPC_TIMEOUT),
        ] {
            if grpc && h.contains(id) {
                span.tag(tag, value(id));
            }
        }
    }
    span.tag("request_size", info.bytes_received.get().to_string());
    span.tag("response_size", info.bytes_sent.get().to_string());
    common(active, span, cx, info.response_code.get());
    grpc_answer(span, cx.response.map(|(_, h)| h));
    grpc_answer(span, cx.trailers);
}

/// Says which host a span speaks of: the present one.
pub fn host(span: &mut Span, info: &StreamInfo) {
    let up = info.upstream.borrow();
    span.tag("http.protocol", protocol(up.protocol));
    if let Some(host) = &up.host {
        span.tag("upstream_address", &*host.address_text);
        span.tag("peer.address", &*host.address_text);
    }
}

fn protocol(v: Option<Version>) -> &'static str {
    v.map_or("-", Version::as_str)
}

/// What all spans say; `status`: the response's, 0 for none.
pub fn common(active: &Active, span: &mut Span, cx: &FormatCx<'_>, status: u16) {
    let info = cx.info;
    span.tag("component", "proxy");
    {
        let up = info.upstream.borrow();
        if let (Some(name), Some(shown)) = (&up.cluster, &up.cluster_observability) {
            span.tag("upstream_cluster", &**name);
            span.tag("upstream_cluster.name", &**shown);
        }
    }
    span.tag("http.status_code", status.to_string());
    let flags: Vec<_> = info.flags.get().iter().map(Flag::short).collect();
    span.tag("response_flags", if flags.is_empty() { "-".to_owned() } else { flags.join(",") });
    if active.settings.verbose {
        span.events.extend(events(info));
    }
    if status == 0 || status >= 500 {
        span.tag("error", "true");
    }
    let of_route = active.route_tags.as_deref().unwrap_or_default();
    let general = active.settings.custom_tags.iter().filter(|t| !of_route.iter().any(|r| r.name == t.name));
    for t in of_route.iter().chain(general) {
        let value = t.value(cx);
        if !value.is_empty() {
            span.tag(t.name.clone(), value);
        }
    }
}

/// What happened when.
fn events(info: &StreamInfo) -> impl Iterator<Item = (SystemTime, &'static str)> {
    let t = &info.times;
    let (start, wall) = (info.start, info.start_wall);
    let at = move |i: Instant| wall + i.saturating_duration_since(start);
    [
        (t.ds_rx_end.get(), "last_downstream_rx_byte_received"),
        (t.us_tx_beg.get(), "first_upstream_tx_byte_sent"),
        (t.us_tx_end.get(), "last_upstream_tx_byte_sent"),
        (t.us_rx_beg.get(), "first_upstream_rx_byte_received"),
        (t.us_rx_end.get(), "last_upstream_rx_byte_received"),
        (t.ds_tx_beg.get(), "first_downstream_tx_byte_sent"),
        (t.ds_tx_end.get(), "last_downstream_tx_byte_sent"),
    ]
    .into_iter()
    .filter_map(move |(i, name)| Some((at(i?), name)))
}

/// What gRPC says of a call's end.
pub fn grpc_answer(span: &mut Span, headers: Option<&HeaderMap>) {
    /// Those of `google.rpc.Code` that are no fault of the caller.
    const ERRORS: [u32; 7] = [2, 4, 8, 12, 13, 14, 15];
    let Some(h) = headers else { return };
    let Some(status) = h.get_str(name::GRPC_STATUS) else { return };
    span.tag("grpc.status_code", status);
    if let Some(m) = h.get(name::GRPC_MESSAGE) {
        span.tag("grpc.message", String::from_utf8_lossy(m).into_owned());
    }
    if status.parse().is_ok_and(|s: u32| ERRORS.contains(&s)) {
        span.tag("error", "true");
    }
}

/// The URL that was asked for.
fn url(h: &HeaderMap, max_path: usize) -> String {
    let Some(path) = h.get(name::X_ENVOY_ORIGINAL_PATH).or_else(|| h.get(name::PATH)) else {
        return String::new();
    };
    let path = &path[..path.len().min(max_path)];
    let of = |id| h.get(id).unwrap_or_default();
    String::from_utf8_lossy(&[of(name::SCHEME), b"://", of(name::AUTHORITY), path].concat()).into_owned()
}

impl Settings {
    /// Settings of a connection manager that says nothing.
    pub fn plain() -> Settings {
        Settings {
            tracer: None,
            upstream_spans: false,
            propagates: true,
            verbose: false,
            max_path: 256,
            custom_tags: vec![],
            operation: None,
            upstream_operation: None,
        }
    }
}

//! The messages of OTLP, as far as they are sent (`opentelemetry/proto/trace/v1/trace.proto`).

#![allow(missing_docs)] // named as in the proto

use nuncio_core::tracing::{Span as OwnSpan, SpanKind};
use std::time::SystemTime;

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// Its fields say nothing that matters here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportTraceServiceResponse {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    /// In a `oneof`, whose empty text is sent, too.
    #[prost(string, optional, tag = "1")]
    pub string_value: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// `SPAN_KIND_SERVER`, `SPAN_KIND_CLIENT`
const KINDS: (i32, i32) = (2, 3);
/// `STATUS_CODE_ERROR`
const ERROR: i32 = 2;

/// An attribute.
pub fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { string_value: Some(value.to_owned()) }) }
}

/// A span as it is sent.
pub fn span(s: OwnSpan) -> Span {
    let nanos = |t: SystemTime| {
        t.duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|d| u64::try_from(d.as_nanos()).ok())
            .unwrap_or(0)
    };
    let trace = [s.trace_high.unwrap_or(0).to_be_bytes(), s.trace.to_be_bytes()].concat();
    Span {
        trace_id: trace,
        span_id: s.id.to_be_bytes().to_vec(),
        trace_state: String::from_utf8_lossy(&s.state).into_owned(),
        parent_span_id: s.parent.map(|p| p.to_be_bytes().to_vec()).unwrap_or_default(),
        kind: if s.kind == SpanKind::Server { KINDS.0 } else { KINDS.1 },
        start_time_unix_nano: nanos(s.start),
        end_time_unix_nano: nanos(s.start + s.took),
        status: status(&s),
        attributes: s.tags.iter().map(|(k, v)| attribute(k, v)).collect(),
        name: s.name,
    }
}

/// What the conventions of OpenTelemetry make of a status of HTTP or gRPC.
fn status(s: &OwnSpan) -> Option<Status> {
    let client = s.kind == SpanKind::Client;
    let tag = |name: &str| s.tags.iter().find(|t| t.0 == name).and_then(|t| t.1.parse::<u32>().ok());
    let http = tag("http.status_code").filter(|c| *c >= 500 || client && *c >= 400).map(|_| ERROR);
    let grpc = tag("grpc.status_code").map(|c| match client {
        true if c == 0 => 0,
        true => ERROR,
        false if [2, 4, 12, 13, 14, 15].contains(&c) => ERROR,
        false => 0,
    });
    grpc.or(http).map(|code| Status { code })
}

//! Spans as Zipkin takes them (API v2), in JSON and in protobuf.

use nuncio_api::json::write_quoted;
use nuncio_core::address::local_ip;
use nuncio_core::tracing::{Span, SpanKind};
use prost::Message;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::SystemTime;

/// Who reports.
pub struct Service {
    name: String,
    address: IpAddr,
    /// `shared_span_context`: both sides of a call are one span.
    pub shares: bool,
}

fn micros(t: SystemTime) -> u64 {
    t.duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|d| u64::try_from(d.as_micros()).ok()).unwrap_or(0)
}

/// What happened when, the end included, as Zipkin's first version named it.
fn annotations(s: &Span) -> Vec<(u64, &'static str)> {
    let end = if s.kind == SpanKind::Server { "ss" } else { "cr" };
    let events = s.events.iter().map(|(at, what)| (micros(*at), *what));
    events.chain([(micros(s.start + s.took), end)]).collect()
}

fn took(s: &Span) -> u64 {
    u64::try_from(s.took.as_micros()).unwrap_or(u64::MAX)
}

impl Service {
    /// A service of this name, at our address.
    pub fn new(name: &str, shares: bool) -> Service {
        Service { name: name.to_owned(), address: local_ip(), shares }
    }
    /// A list of spans.
    pub fn json(&self, spans: &[Span]) -> Vec<u8> {
        let mut out = String::from("[");
        for (i, s) in spans.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            // Writing to a string cannot fail.
            let _ = self.span(s, &mut out);
        }
        out.push(']');
        out.into_bytes()
    }
    fn span(&self, s: &Span, out: &mut String) -> std::fmt::Result {
        out.write_str("{\"annotations\":[")?;
        for (i, (at, what)) in annotations(s).into_iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(out, "{comma}{{\"timestamp\":{at},\"value\":\"{what}\"}}")?;
        }
        let kind = if s.kind == SpanKind::Server { "SERVER" } else { "CLIENT" };
        let version = if self.address.is_ipv4() { "ipv4" } else { "ipv6" };
        write!(
            out,
            "],\"duration\":{},\"id\":\"{:016x}\",\"kind\":\"{kind}\",\"localEndpoint\":{{\"{version}\":\"{}\",\"port\":0",
            took(s),
            s.id,
            self.address
        )?;
        if !self.name.is_empty() {
            out.write_str(",\"serviceName\":")?;
            write_quoted(out, &self.name)?;
        }
        out.write_char('}')?;
        if !s.name.is_empty() {
            out.write_str(",\"name\":")?;
            write_quoted(out, &s.name)?;
        }
        if let Some(parent) = s.parent {
            write!(out, ",\"parentId\":\"{parent:016x}\"")?;
        }
        if self.shared(s) {
            out.write_str(",\"shared\":true")?;
        }
        out.write_str(",\"tags\":{")?;
        for (i, (key, value)) in tags(s).into_iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_quoted(out, key)?;
            out.push(':');
            write_quoted(out, value)?;
        }
        write!(out, "}},\"timestamp\":{},\"traceId\":\"{}\"}}", micros(s.start), s.trace_hex())
    }
    fn shared(&self, s: &Span) -> bool {
        self.shares && s.kind == SpanKind::Server
    }
    /// A list of spans.
    pub fn proto(&self, spans: &[Span]) -> Vec<u8> {
        let one = |s: &Span| {
            let high = s.trace_high.map(u64::to_be_bytes);
            ProtoSpan {
                trace_id: [high.as_ref().map_or(&[][..], |h| &h[..]), &s.trace.to_be_bytes()].concat(),
                parent_id: s.parent.map(|p| p.to_be_bytes().to_vec()).unwrap_or_default(),
                id: s.id.to_be_bytes().to_vec(),
                kind: if s.kind == SpanKind::Client { 1 } else { 2 },
                name: s.name.clone(),
                timestamp: micros(s.start),
                duration: took(s),
                local_endpoint: Some(self.endpoint()),
                annotations: annotations(s)
                    .into_iter()
                    .map(|(timestamp, value)| Annotation { timestamp, value: value.to_owned() })
                    .collect(),
                tags: tags(s).into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
                shared: self.shared(s),
            }
        };
        ListOfSpans { spans: spans.iter().map(one).collect() }.encode_to_vec()
    }
    fn endpoint(&self) -> Endpoint {
        let mut e = Endpoint { service_name: self.name.clone(), ..Default::default() };
        match self.address {
            IpAddr::V4(a) => e.ipv4 = a.octets().to_vec(),
            IpAddr::V6(a) => e.ipv6 = a.octets().to_vec(),
        }
        e
    }
}

/// Tags that say something, by name.
fn tags(s: &Span) -> BTreeMap<&str, &str> {
    s.tags.iter().filter(|t| !t.1.is_empty()).map(|t| (&*t.0, &*t.1)).collect()
}

/// `zipkin.proto3.ListOfSpans`
#[derive(Clone, PartialEq, Message)]
struct ListOfSpans {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<ProtoSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    parent_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(int32, tag = "4")]
    kind: i32,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "6")]
    timestamp: u64,
    #[prost(uint64, tag = "7")]
    duration: u64,
    #[prost(message, optional, tag = "8")]
    local_endpoint: Option<Endpoint>,
    #[prost(message, repeated, tag = "10")]
    annotations: Vec<Annotation>,
    #[prost(btree_map = "string, string", tag = "11")]
    tags: BTreeMap<String, String>,
    #[prost(bool, tag = "13")]
    shared: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Endpoint {
    #[prost(string, tag = "1")]
    service_name: String,
    #[prost(bytes = "vec", tag = "2")]
    ipv4: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    ipv6: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Annotation {
    #[prost(fixed64, tag = "1")]
    timestamp: u64,
    #[prost(string, tag = "2")]
    value: String,
}

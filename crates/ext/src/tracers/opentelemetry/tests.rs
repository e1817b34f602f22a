use super::*;
use crate::testing::tracer;
use nuncio_core::clock;

const CONFIG: &str = "envoy.config.trace.v3.OpenTelemetryConfig";

fn start<'a>(egress: bool, independent: bool, sampled: bool) -> Start<'a> {
    let (start, began) = (clock::wall(), clock::now());
    Start { operation: "ingress", host: "a.example", start, began, egress, independent, sampled }
}

#[test]
fn a_trace_goes_on_as_its_headers_say() {
    let t = tracer(CONFIG, "").expect("it is good");
    let span = t.start(&start(false, false, true), &HeaderMap::new()).expect("it begins");
    assert!(span.sampled && span.parent.is_none() && span.kind == SpanKind::Server);
    let mut h = HeaderMap::new();
    t.inject(&span, &mut h);
    let id = t.span_id(&span).expect("it has one");
    assert_eq!(h.get_str(name::TRACEPARENT), Some(&*format!("00-{}-{id}-01", t.trace_id(&span))));
    assert_eq!(h.get(name::TRACESTATE), Some(&b""[..]));

    h.set(name::TRACESTATE, b"k=v");
    let next = t.start(&start(true, false, false), &h).expect("it goes on");
    assert!(next.sampled, "what came along decides");
    assert_eq!((next.parent, next.trace, next.kind), (Some(span.id), span.trace, SpanKind::Client));
    let child = t.child(&next, &start(true, true, false));
    assert_eq!((child.parent, child.trace, child.kind), (Some(next.id), span.trace, SpanKind::Client));
    t.inject(&child, &mut h);
    assert_eq!(h.get_str(name::TRACESTATE), Some("k=v"));

    let bad: HeaderMap = [("traceparent", "nonsense")].into_iter().collect();
    assert!(t.start(&start(false, false, true), &bad).is_none());
}

#[test]
fn what_is_sent() {
    let t = tracer(CONFIG, "").expect("it is good");
    let mut span = t.start(&start(false, false, true), &HeaderMap::new()).expect("it begins");
    span.took = Duration::from_micros(5);
    span.tag("a", "1");
    span.tag("a", "2");
    span.tag("http.status_code", "503");
    let sent = otlp::span(span.clone());
    assert_eq!((sent.trace_id.len(), sent.span_id.len(), &*sent.name, sent.kind), (16, 8, "ingress", 2));
    assert_eq!(sent.end_time_unix_nano - sent.start_time_unix_nano, 5000);
    assert_eq!(sent.attributes[0], otlp::attribute("a", "2"));
    assert_eq!(sent.status.map(|s| s.code), Some(2));
    span.tag("http.status_code", "404");
    assert_eq!(otlp::span(span.clone()).status, None, "it is not the server's fault");
    span.kind = SpanKind::Client;
    assert_eq!(otlp::span(span).status.map(|s| s.code), Some(2));
}

#[test]
fn refusals() {
    let both = "grpc_service: {envoy_grpc: {cluster_name: c}}, http_service: {http_uri: {uri: x, cluster: c, timeout: 1s}}";
    assert!(tracer(CONFIG, both).err().expect("it is refused").contains("both gRPC and HTTP exporters"));
}

use super::*;
use crate::testing::tracer;
use nuncio_core::clock;
use nuncio_core::tracing::DynTracer;
use nuncio_wire::name;
use std::time::SystemTime;

const CONFIG: &str = "envoy.config.trace.v3.ZipkinConfig";
const GOOD: &str = "collector_cluster: c, collector_endpoint: /s, collector_endpoint_version: HTTP_JSON";

fn made(more: &str) -> Arc<dyn DynTracer> {
    tracer(CONFIG, &format!("{GOOD}{more}")).expect("it is good")
}

fn start<'a>(egress: bool, independent: bool, sampled: bool) -> Start<'a> {
    let (start, began) = (clock::wall(), clock::now());
    Start { operation: "router c egress", host: "a.example", start, began, egress, independent, sampled }
}

#[test]
fn a_server_shares_the_span_of_its_client() {
    let t = made("");
    let root = t.start(&start(false, false, true), &HeaderMap::new()).expect("it begins");
    assert_eq!((root.id, root.trace_high, &*root.name), (root.trace, None, "a.example"));
    let mut h = HeaderMap::new();
    t.inject(&root, &mut h);
    assert_eq!(h.get_str(name::X_B3_TRACEID), Some(&*format!("{:016x}", root.id)));
    assert_eq!((h.get_str(name::X_B3_SAMPLED), h.get("x-b3-parentspanid")), (Some("1"), None));

    let shared = t.start(&start(false, false, false), &h).expect("it goes on");
    assert_eq!((shared.id, shared.parent, shared.sampled), (root.id, None, true));
    let client = t.start(&start(true, false, false), &h).expect("it goes on");
    assert_eq!((client.parent, client.kind), (Some(root.id), SpanKind::Client));
    let own =
        made(", shared_span_context: false").start(&start(false, false, false), &h).expect("it goes on");
    assert_eq!((own.parent, own.kind), (Some(root.id), SpanKind::Server));
    let child = t.child(&shared, &start(false, true, true));
    assert_eq!(
        (child.parent, child.kind, &*child.name),
        (Some(root.id), SpanKind::Client, "router c egress")
    );
    t.inject(&child, &mut h);
    assert_eq!(h.get_str("x-b3-parentspanid"), Some(&*format!("{:016x}", root.id)));
}

#[test]
fn sampling_that_came_along_is_kept() {
    let t = made("");
    let of = |name: &str, value: &str| {
        let h: HeaderMap = [(name, value)].into_iter().collect();
        t.start(&start(false, false, true), &h).map(|s| s.sampled)
    };
    assert_eq!(
        (of("x-b3-sampled", "0"), of("b3", "0"), of("b3", "1")),
        (Some(false), Some(false), Some(true))
    );
    assert_eq!(of("b3", "nonsense"), None);

    let value = "000000000000000a-000000000000000b-1-000000000000000c";
    let mut h: HeaderMap = [("b3", value)].into_iter().collect();
    let span = t.start(&start(false, false, true), &h).expect("it goes on");
    t.inject(&span, &mut h);
    assert_eq!((h.get_str("b3"), h.get(name::X_B3_TRACEID)), (Some(value), None), "it goes on as it came");
}

#[test]
fn w3c_beside_b3() {
    let t = made(", trace_context_option: USE_B3_WITH_W3C_PROPAGATION, trace_id_128bit: true");
    let root = t.start(&start(false, false, true), &HeaderMap::new()).expect("it begins");
    let mut h = HeaderMap::new();
    t.inject(&root, &mut h);
    assert!(h.contains(name::X_B3_TRACEID) && h.contains(name::TRACEPARENT));
    let only: HeaderMap =
        [("traceparent", "00-0000000000000001000000000000000a-00000000000000ff-00")].into_iter().collect();
    let next = t.start(&start(true, false, true), &only).expect("it goes on");
    assert_eq!((next.trace_high, next.trace, next.parent, next.sampled), (Some(1), 10, Some(255), false));
    assert!(made("").start(&start(true, false, true), &only).expect("it begins").parent.is_none());
}

#[test]
fn what_is_sent() {
    let t = made("");
    let mut span = t.start(&start(false, false, true), &HeaderMap::new()).expect("it begins");
    (span.id, span.trace, span.start) = (1, 2, SystemTime::UNIX_EPOCH + Duration::from_micros(7));
    span.took = Duration::from_micros(3);
    span.tag("b", "x\"y");
    span.tag("a", "");
    let service = Service::new("svc", true);
    let json: serde_json::Value = serde_json::from_slice(&service.json(&[span.clone()])).expect("it is JSON");
    assert_eq!(json[0]["annotations"], serde_json::json!([{"timestamp": 10, "value": "ss"}]));
    assert_eq!(
        (&json[0]["id"], &json[0]["traceId"]),
        (&"0000000000000001".into(), &"0000000000000002".into())
    );
    assert_eq!((&json[0]["kind"], &json[0]["shared"]), (&"SERVER".into(), &true.into()));
    assert_eq!((&json[0]["timestamp"], &json[0]["duration"]), (&7.into(), &3.into()));
    assert_eq!(
        (&json[0]["tags"], &json[0]["name"]),
        (&serde_json::json!({"b": "x\"y"}), &"a.example".into())
    );
    assert_eq!(json[0]["localEndpoint"]["serviceName"], "svc");
    assert!(!service.proto(&[span]).is_empty());
}

#[test]
fn refusals() {
    let refusal = |config: &str| tracer(CONFIG, config).err().expect("it is refused");
    assert!(refusal("collector_endpoint_version: HTTP_JSON").contains("must be specified when not using"));
    assert!(
        refusal("collector_cluster: c, collector_endpoint: /, collector_endpoint_version: GRPC")
            .contains("not implemented")
    );
    let unknown =
        "collector_cluster: no-such-cluster, collector_endpoint: /, collector_endpoint_version: HTTP_JSON";
    assert_eq!(refusal(unknown), "envoy.tracers.zipkin: unknown cluster 'no-such-cluster'");
}

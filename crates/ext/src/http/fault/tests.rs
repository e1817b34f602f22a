//! Values were measured on Envoy 1.40.

use crate::testing::filters;
use nuncio_core::clock;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Reply;
use std::time::Duration;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: f, typed_config: {{{TYPE}, {config}}}}}"))
}

const ALWAYS: &str = "percentage: {numerator: 100}";

fn stats<const N: usize>(t: &FilterTest, names: [&str; N]) -> [u64; N] {
    names.map(|n| t.stat(&format!("http.test.fault.{n}")))
}

#[test]
fn aborts() {
    let t = test(&format!("abort: {{http_status: 418, {ALWAYS}}}, filter_metadata: {{a: b}}"));
    let seen = t.request("GET /").send();
    assert!(seen.upstream.is_none());
    assert_eq!((seen.status, &*seen.body, &*seen.flags), (418, "fault filter abort", "FI"));
    assert_eq!(seen.details, "fault_filter_abort");
    assert!(seen.sx.info.metadata.borrow().as_ref().unwrap().get("f", ["a"]).is_some());
    assert_eq!(stats(&t, ["aborts_injected", "delays_injected", "active_faults"]), [1, 0, 0]);
    let t = test(&format!("abort: {{http_status: 418, {ALWAYS}, response_body: mine}}"));
    assert_eq!(t.request("GET /").send().body, "mine");
}

#[test]
fn grpc_aborts() {
    let t = test(&format!("abort: {{grpc_status: 5, {ALWAYS}}}"));
    let seen = t.request("POST /").header("content-type", "application/grpc").send();
    assert_eq!((seen.status, seen.header("grpc-status").as_deref()), (200, Some("5")));
    assert_eq!(seen.header("grpc-message").as_deref(), Some("fault filter abort"));
    let seen = t.request("GET /").send();
    assert_eq!((seen.status, &*seen.body), (200, "fault filter abort"));
}

#[test]
fn delays() {
    let t = test(&format!("delay: {{fixed_delay: 0.05s, {ALWAYS}}}"));
    let begin = clock::now();
    let seen = t.request("GET /").send();
    assert!(begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
    assert_eq!((seen.status, &*seen.flags, seen.upstream.is_some()), (200, "DI", true));
    assert_eq!(stats(&t, ["aborts_injected", "delays_injected", "active_faults"]), [0, 1, 0]);
    let t = test(&format!("delay: {{fixed_delay: 0.001s, {ALWAYS}}}, abort: {{http_status: 503, {ALWAYS}}}"));
    assert_eq!(t.request("GET /").send().flags, "DI,FI");
}

#[test]
fn headers_control_faults() {
    let t = test(&format!(
        "abort: {{header_abort: {{}}, {ALWAYS}}}, delay: {{header_delay: {{}}, percentage: {{numerator: 50}}}}"
    ));
    let status = |name: &str, value: &str| t.request("GET /").header(name, value).send().status;
    assert_eq!(status("x-envoy-fault-abort-request", "404"), 404);
    assert_eq!(status("x-envoy-fault-abort-request", "700"), 200);
    assert_eq!(status("x-envoy-fault-abort-request", "no"), 200);
    assert_eq!(status("x-no", "1"), 200);
    let seen = t.request("GET /").header("x-envoy-fault-abort-grpc-request", "3").send();
    assert_eq!(seen.flags, "FI");
    let seen = t
        .request("GET /")
        .header("x-envoy-fault-abort-request", "404")
        .header("x-envoy-fault-abort-request-percentage", "0")
        .send();
    assert_eq!(seen.status, 200);
    // The header cannot raise what is configured.
    let some = (0..60).filter(|_| {
        let r = t.request("GET /").header("x-envoy-fault-delay-request", "1");
        r.header("x-envoy-fault-delay-request-percentage", "100").send().flags == "DI"
    });
    assert!((1..60).contains(&some.count()));
}

#[test]
fn responses_are_slowed_down() {
    let t = test(&format!("response_rate_limit: {{fixed_limit: {{limit_kbps: 10}}, {ALWAYS}}}"));
    // Half a KiB comes at once, and then as much every 50 ms.
    t.replies(Reply::new(200).body(vec![b'x'; 512]).body(vec![b'y'; 1024]).trailer("t", "v"));
    let begin = clock::now();
    let seen = t.request("GET /").send();
    assert!(begin.elapsed() >= Duration::from_millis(100), "{:?}", begin.elapsed());
    assert_eq!((seen.body.len(), seen.trailer("t").as_deref()), (1536, Some("v")));
    assert_eq!(stats(&t, ["response_rl_injected", "active_faults"]), [1, 0]);
}

#[test]
fn only_requests_that_match() {
    let t = test(&format!(
        "abort: {{http_status: 503, {ALWAYS}}}, upstream_cluster: c, downstream_nodes: [node], headers: [{{name: x, present_match: true}}]"
    ))
    .route_config("virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /c}, route: {cluster: c}}, {match: {prefix: /}, route: {cluster: d}}]}]");
    let status = |path: &str, node: &str, x: &str| {
        let r = t.request(path).header("x-envoy-downstream-service-node", node);
        r.header(x, "1").send().status
    };
    assert_eq!(status("GET /c", "node", "x"), 503);
    assert_eq!(
        (status("GET /d", "node", "x"), status("GET /c", "m", "x"), status("GET /c", "node", "y")),
        (200, 200, 200)
    );
}

#[test]
fn at_most_so_many() {
    let t = test(&format!("abort: {{http_status: 503, {ALWAYS}}}, max_active_faults: 0"));
    assert_eq!(t.request("GET /").send().status, 200);
    assert_eq!(stats(&t, ["faults_overflow", "aborts_injected"]), [1, 0]);
    t.runtime("fault.http.max_active_faults", "1");
    assert_eq!(t.request("GET /").send().status, 503);
}

#[test]
fn the_runtime_says_otherwise() {
    let t =
        test("abort: {http_status: 503, percentage: {numerator: 0}}, abort_http_status_runtime: my.status");
    let status = |cluster: &str| {
        t.request("GET /").header("x-envoy-downstream-service-cluster", cluster).send().status
    };
    let plain = || t.request("GET /").send().status;
    assert_eq!((plain(), status("a")), (200, 200));
    t.runtime("fault.http.abort.abort_percent", "100");
    assert_eq!((plain(), status("a")), (503, 200));
    t.runtime("my.status", "404");
    t.runtime("fault.http.a.abort.abort_percent", "100");
    assert_eq!((plain(), status("a"), status("b")), (404, 503, 200));
    t.runtime("fault.http.a.abort.http_status", "405");
    assert_eq!(status("a"), 405);
    assert_eq!(stats(&t, ["a.aborts_injected", "aborts_injected"]), [2, 4]);
}

#[test]
fn a_route_has_faults_of_its_own() {
    let config = format!("{{f: {{{TYPE}, abort: {{http_status: 404, {ALWAYS}}}}}}}");
    let t = test(&format!("abort: {{http_status: 503, {ALWAYS}}}")).route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /r}}, route: {{cluster: c}}, typed_per_filter_config: {config}}}, {{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]"
    ));
    assert_eq!((t.request("GET /r").send().status, t.request("GET /").send().status), (404, 503));
}

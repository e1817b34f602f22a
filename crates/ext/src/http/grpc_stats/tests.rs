use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::{Reply, Seen};

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";
const ROUTES: &str =
    "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: 'c:1'}}]}]";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: g, typed_config: {{{TYPE}, {config}}}}}")).route_config(ROUTES)
}

/// A message of gRPC with a content of so many bytes.
fn message(n: u8) -> Vec<u8> {
    [&[0, 0, 0, 0, n][..], &vec![b'x'; n.into()]].concat()
}

fn call(t: &FilterTest, path: &str) -> Seen {
    let two = [message(3), message(0)].concat();
    let reply = Reply::new(200).header("content-type", "application/grpc").body(message(9));
    t.replies(reply.trailer("grpc-status", "0"));
    t.request(&format!("POST {path}")).header("content-type", "application/grpc").body(two).send()
}

fn stats(t: &FilterTest) -> Vec<(String, u64)> {
    let all = t.stats().into_iter().filter(|(n, _)| n.starts_with("cluster."));
    all.map(|(n, v)| (n.trim_start_matches("cluster.c_1.grpc.").to_owned(), v)).collect()
}

fn expected(prefix: &str) -> Vec<(String, u64)> {
    let all =
        [("0", 1), ("request_message_count", 2), ("response_message_count", 1), ("success", 1), ("total", 1)];
    all.map(|(n, v)| (format!("{prefix}{n}"), v)).to_vec()
}

fn sorted(t: &FilterTest) -> Vec<(String, u64)> {
    let mut all = stats(t);
    all.sort();
    all
}

#[test]
fn calls_and_messages() {
    let t = test("emit_filter_state: true");
    let seen = call(&t, "/a.B/C");
    assert_eq!(sorted(&t), expected(""));
    let state = seen.sx.info.filter_state.borrow().get(super::NAME).and_then(|o| o.text());
    assert_eq!(state.as_deref(), Some("2,1"));
}

#[test]
fn methods() {
    let t = test("stats_for_all_methods: true");
    call(&t, "/a.B/C?q");
    assert_eq!(sorted(&t), expected("a.B.C."));
    let t = test("stats_for_all_methods: true, replace_dots_in_grpc_service_name: true");
    call(&t, "/a.B/C");
    assert_eq!(sorted(&t), expected("a_B.C."));
}

#[test]
fn listed_methods() {
    let t = test("individual_method_stats_allowlist: {services: [{name: a.B, method_names: [C]}]}");
    call(&t, "/a.B/C");
    assert_eq!(sorted(&t), expected("a.B.C."));
    let t = test("individual_method_stats_allowlist: {services: [{name: a.B, method_names: [C]}]}");
    call(&t, "/a.B/D");
    assert_eq!(sorted(&t), expected(""));
}

#[test]
fn failures_in_headers() {
    let t = test("stats_for_all_methods: false");
    t.replies(Reply::new(200).header("content-type", "application/grpc").header("grpc-status", "13"));
    t.request("POST /a/b").header("content-type", "application/grpc").send();
    let want = [("13", 1), ("failure", 1), ("total", 1)].map(|(n, v)| (n.to_owned(), v));
    assert_eq!(sorted(&t), want);
}

#[test]
fn what_is_no_call_of_grpc() {
    let t = test("emit_filter_state: true");
    t.replies(Reply::new(200).header("grpc-status", "0"));
    t.request("POST /a/b").header("content-type", "text/plain").body(message(1)).send();
    assert_eq!(stats(&t), []);
    // One whose path names no method.
    call(&t, "/a");
    assert_eq!(stats(&t), []);
}

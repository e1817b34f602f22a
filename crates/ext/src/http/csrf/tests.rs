//! Values were measured on Envoy 1.40.

use crate::testing::filters;
use nuncio_testkit::FilterTest;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.csrf.v3.CsrfPolicy";
const ON: &str = "filter_enabled: {default_value: {numerator: 100}}";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: csrf, typed_config: {{{TYPE}, {config}}}}}"))
}

fn stats(t: &FilterTest) -> [u64; 3] {
    ["missing_source_origin", "request_invalid", "request_valid"]
        .map(|n| t.stat(&format!("http.test.csrf.{n}")))
}

#[test]
fn the_source_must_be_the_target() {
    let t = test(ON);
    let status = |name: &str, value: &str| t.request("POST /").header(name, value).send().status;
    for same in ["http://test.example", "https://test.example/", "test.example", "http://test.example?q"] {
        assert_eq!(status("origin", same), 200, "{same}");
    }
    assert_eq!(status("referer", "http://test.example/page?q=http://b"), 200);
    assert_eq!(stats(&t), [0, 0, 5]);
    for other in ["http://b.example", "http://test.example:81", "://"] {
        assert_eq!(status("origin", other), 403, "{other}");
    }
    assert_eq!(stats(&t), [0, 3, 5]);
    assert_eq!((status("origin", "null"), status("x", "y"), status("origin", "")), (403, 403, 403));
    assert_eq!((status("referer", "http://u:p@test.example"), stats(&t)), (403, [4, 3, 5]));
}

#[test]
fn refusal() {
    let seen = test(ON).request("DELETE /").send();
    assert!(seen.upstream.is_none());
    assert_eq!((seen.status, &*seen.body, &*seen.flags), (403, "Invalid origin", "-"));
    assert_eq!(seen.details, "csrf_origin_mismatch");
}

#[test]
fn null_is_no_reason_to_look_at_the_referer() {
    let t = test(ON);
    let r = t.request("POST /").header("origin", "null").header("referer", "http://test.example/");
    assert_eq!((r.send().status, stats(&t)), (403, [1, 0, 0]));
}

#[test]
fn other_methods_and_origins_pass() {
    let t = test(&format!("{ON}, additional_origins: [{{suffix: .b}}]"));
    assert_eq!(t.request("GET /").header("origin", "http://c").send().status, 200);
    assert_eq!(stats(&t), [0, 0, 0]);
    assert_eq!(t.request("PATCH /").header("origin", "http://a.b").send().status, 200);
    assert_eq!(stats(&t), [0, 0, 1]);
}

#[test]
fn a_shadow_only_counts_and_routes_decide_for_themselves() {
    let shadow = "filter_enabled: {default_value: {numerator: 0}, runtime_key: turn.on}, shadow_enabled: {default_value: {numerator: 100}}";
    let t = test(ON).route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], typed_per_filter_config: {{csrf: {{{TYPE}, {shadow}}}}}, routes: [{{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]"
    ));
    let status = || t.request("PUT /").header("origin", "http://b").send().status;
    assert_eq!((status(), stats(&t)), (200, [0, 1, 0]));
    t.runtime("turn.on", "100");
    assert_eq!(status(), 403);
    let off = test("filter_enabled: {default_value: {numerator: 0}}");
    assert_eq!((off.request("POST /").send().status, stats(&off)), (200, [0, 0, 0]));
}

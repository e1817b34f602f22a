use crate::testing::filters;
use nuncio_testkit::FilterTest;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3";

/// The names that the test's cache knows are listed at `FakeNames`.
fn test(filter: &str, route: &str) -> FilterTest {
    let cache = "dns_cache_config: {name: c}";
    filters(&format!("- {{name: f, typed_config: {{{TYPE}.FilterConfig, {cache}, {filter}}}}}")).route_config(
        &format!(
            "virtual_hosts: [{{name: v, domains: ['*'], routes: [\
           {{match: {{prefix: /plain}}, route: {{cluster: plain}}}}, \
           {{match: {{prefix: /}}, route: {{cluster: forward}}, {route}}}]}}]"
        ),
    )
}

fn status_and_details(t: &FilterTest, authority: &str) -> (u16, String, String) {
    let seen = t.request("GET /").authority(authority).send();
    let details = seen.sx.info.details.borrow().to_string();
    (seen.status, seen.body.clone(), details)
}

#[test]
fn what_is_resolved_passes_and_what_is_not_is_answered() {
    let t = test("", "");
    assert_eq!(status_and_details(&t, "known.test").0, 200);
    assert_eq!(status_and_details(&t, "later.test:81").0, 200);
    let failed = "dns_resolution_failure{nobody}";
    let answer = |status, body: &str, details: &str| (status, body.to_owned(), details.to_owned());
    assert_eq!(status_and_details(&t, "unknown.test"), answer(503, "DNS resolution failure", failed));
    assert_eq!(status_and_details(&t, "full.test"), answer(503, "DNS cache overflow", "dns_cache_overflow"));
    let busy = "Dynamic forward proxy pending request overflow";
    let details = "dynamic_forward_proxy_pending_request_overflow";
    assert_eq!(status_and_details(&t, "busy.test"), answer(503, busy, details));
    assert_eq!(t.request("GET /plain").authority("unknown.test").send().status, 200);
}

#[test]
fn a_route_rewrites_the_authority() {
    let per_route = |c: &str| format!("typed_per_filter_config: {{f: {{{TYPE}.PerRouteConfig, {c}}}}}");
    let t = test("", &per_route("host_rewrite_literal: known.test"));
    let seen = t.request("GET /").authority("unknown.test").send();
    assert_eq!((seen.status, seen.upstream().header(":authority").as_deref()), (200, Some("known.test")));
    let t = test("", &per_route("host_rewrite_header: x-to"));
    assert_eq!(t.request("GET /").authority("unknown.test").send().status, 503);
    let seen = t.request("GET /").authority("unknown.test").header("x-to", "known.test").send();
    assert_eq!((seen.status, seen.upstream().header(":authority").as_deref()), (200, Some("known.test")));
}

#[test]
fn the_address_is_left_in_the_filter_state() {
    let address = |t: &FilterTest| {
        let seen = t.request("GET /").authority("later.test").send();
        let state = seen.sx.info.filter_state.borrow();
        state.get("envoy.stream.upstream_address").and_then(|o| o.text())
    };
    assert_eq!(address(&test("save_upstream_address: true", "")).as_deref(), Some("10.0.0.2:80"));
    assert_eq!(address(&test("", "")), None);
}

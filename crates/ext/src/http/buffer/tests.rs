//! Values were measured on Envoy 1.40.

use crate::testing::filters;
use nuncio_testkit::FilterTest;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.buffer.v3";

fn test() -> FilterTest {
    filters(&format!("- {{name: bf, typed_config: {{{TYPE}.Buffer, max_request_bytes: 5}}}}"))
}

#[test]
fn a_request_that_fits_passes_as_a_whole() {
    let seen = test().request("POST /").header("content-length", "5").body("012").body("34").send();
    assert_eq!((&*seen.upstream().body, seen.status), ("01234", 200));
    assert_eq!(seen.upstream().header("content-length").as_deref(), Some("5"));
}

#[test]
fn one_without_a_length_gets_it() {
    let seen = test().request("POST /").body("ab").body("cd").send();
    assert_eq!(seen.upstream().header("content-length").as_deref(), Some("4"));
    let seen = test().request("POST /").body("ab").trailer("x", "y").send();
    assert_eq!(seen.upstream().header("content-length").as_deref(), Some("2"));
    assert_eq!(seen.upstream().trailer("x").as_deref(), Some("y"));
    // Trailers alone are an empty body.
    let seen = test().request("POST /").trailer("x", "y").send();
    assert_eq!(seen.upstream().header("content-length").as_deref(), Some("0"));
}

#[test]
fn one_that_is_too_large_is_answered() {
    for pieces in [&["012345"][..], &["01234", "5"], &["0", "1", "2", "3", "4", "5", "6"]] {
        let t = test();
        let request = pieces.iter().fold(t.request("POST /"), |r, p| r.body(p));
        let seen = request.send();
        assert!(seen.upstream.is_none());
        assert_eq!((seen.status, &*seen.body, &*seen.flags), (413, "Payload Too Large", "-"));
        assert_eq!(seen.details, "request_payload_too_large");
    }
}

#[test]
fn one_without_a_body_is_left_alone() {
    let seen = test().request("GET /").send();
    assert_eq!(seen.upstream().header("content-length"), None);
}

#[test]
fn routes_switch_it_off_or_set_another_limit() {
    let route = |path: &str, config: &str| {
        format!(
            "{{match: {{prefix: {path}}}, route: {{cluster: c}}, typed_per_filter_config: {{bf: {{{TYPE}.BufferPerRoute, {config}}}}}}}"
        )
    };
    let routes = [route("/off", "disabled: true"), route("/ten", "buffer: {max_request_bytes: 10}")];
    let t = test().route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], routes: [{}, {{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]",
        routes.join(", ")
    ));
    let status = |line: &str, body: &str| t.request(line).body(body).send().status;
    assert_eq!((status("POST /", "01234"), status("POST /", "012345")), (200, 413));
    assert_eq!((status("POST /ten", "0123456789"), status("POST /ten", "0123456789a")), (200, 413));
    let off = t.request("POST /off").body("0123456789abc").send();
    assert_eq!((off.status, off.upstream().header("content-length")), (200, None));
}

#[test]
fn a_limit_is_wanted() {
    let refusal = |config: &str| {
        filters(&format!("- {{name: bf, typed_config: {{{TYPE}.Buffer, {config}}}}}")).refusal()
    };
    assert!(refusal("").contains("MaxRequestBytes: value is required"), "{}", refusal(""));
    assert!(refusal("max_request_bytes: 0").contains("MaxRequestBytes: value must be greater than 0"));
}

#[test]
fn a_request_that_breaks_off_ends_the_stream() {
    let t = test();
    let seen = t.request("POST /").body("a").reset().send();
    assert!(seen.upstream.is_none() && seen.status == 0);
}

//! Values were measured on Envoy 1.40.

use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::{Reply, Seen};

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3";

fn level(config: &str) -> String {
    match config {
        "" => "typed_per_filter_config: {}".into(),
        c => format!("typed_per_filter_config: {{cors: {{{TYPE}.CorsPolicy, {c}}}}}"),
    }
}

fn test(route: &str, host: &str) -> FilterTest {
    filters(&format!("- {{name: cors, typed_config: {{{TYPE}.Cors}}}}")).route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], {}, routes: [
           {{match: {{path: /direct}}, direct_response: {{status: 200}}}},
           {{match: {{prefix: /}}, route: {{cluster: c}}, {}}}]}}]",
        level(host),
        level(route)
    ))
}

const ORIGIN: &str = "allow_origin_string_match: [{exact: 'http://a.example'}]";

fn preflight(t: &FilterTest, origin: &str) -> Seen {
    t.request("OPTIONS /")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "x-a")
        .header("access-control-request-private-network", "true")
        .send()
}

fn stats(t: &FilterTest) -> (u64, u64) {
    (t.stat("http.test.cors.origin_valid"), t.stat("http.test.cors.origin_invalid"))
}

#[test]
fn a_preflight_request_is_answered() {
    let t = test(
        &format!(
            "{ORIGIN}, allow_methods: 'GET,PUT', allow_headers: x-b, max_age: '10', allow_credentials: true, allow_private_network_access: true"
        ),
        "",
    );
    let seen = preflight(&t, "http://a.example");
    assert!(seen.upstream.is_none());
    assert_eq!((seen.status, &*seen.details, &*seen.flags, &*seen.body), (200, "cors_response", "-", ""));
    let want = [
        ("access-control-allow-origin", "http://a.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,PUT"),
        ("access-control-allow-headers", "x-b"),
        ("access-control-max-age", "10"),
        ("access-control-allow-private-network", "true"),
    ];
    assert_eq!(seen.headers, want.into_iter().collect());
    assert_eq!(stats(&t), (1, 0));
}

#[test]
fn stars_allow_what_is_asked_for() {
    let t = test(&format!("{ORIGIN}, allow_methods: '*', allow_headers: '*'"), "");
    let seen = preflight(&t, "http://a.example");
    assert_eq!(seen.header("access-control-allow-methods").as_deref(), Some("PUT"));
    assert_eq!(seen.header("access-control-allow-headers").as_deref(), Some("x-a"));
    assert_eq!(seen.header("access-control-allow-private-network"), None);
    // A star among the origins matches any.
    let t = test("allow_origin_string_match: [{exact: '*'}]", "");
    assert_eq!(preflight(&t, "http://z").header("access-control-allow-origin").as_deref(), Some("http://z"));
}

#[test]
fn other_origins_go_to_the_service_unless_they_must_not() {
    let t = test(ORIGIN, "");
    let seen = preflight(&t, "http://b.example");
    assert_eq!((seen.upstream.is_some(), seen.header("access-control-allow-origin")), (true, None));
    let t = test(&format!("{ORIGIN}, forward_not_matching_preflights: false, allow_methods: GET"), "");
    let seen = preflight(&t, "http://b.example");
    assert_eq!((seen.upstream.is_none(), seen.header("access-control-allow-origin")), (true, None));
    assert_eq!(seen.header("access-control-allow-methods").as_deref(), Some("GET"));
    assert_eq!(stats(&t), (0, 1));
}

#[test]
fn responses_say_who_may_read_them() {
    let t = test(&format!("{ORIGIN}, allow_credentials: true, expose_headers: x-e"), "");
    t.replies(Reply::new(200).header("access-control-allow-origin", "up"));
    let seen = t.request("GET /").header("origin", "http://a.example").send();
    let want = [
        ("access-control-allow-origin", "http://a.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "x-e"),
    ];
    assert_eq!(seen.headers, want.into_iter().collect());
    let seen = t.request("GET /").header("origin", "http://b.example").send();
    assert_eq!(seen.header("access-control-allow-origin").as_deref(), Some("up"));
    assert_eq!(stats(&t), (1, 1));
    t.request("GET /").send();
    // OPTIONS without what makes it a preflight request.
    let seen = t.request("OPTIONS /").header("origin", "http://a.example").send();
    assert!(seen.upstream.is_some());
    assert_eq!(stats(&t), (2, 1));
}

#[test]
fn levels_complete_each_other() {
    let t = test("allow_methods: GET", &format!("{ORIGIN}, allow_methods: POST, max_age: '5'"));
    let seen = preflight(&t, "http://a.example");
    assert_eq!(seen.header("access-control-allow-methods").as_deref(), Some("GET"));
    assert_eq!(seen.header("access-control-max-age").as_deref(), Some("5"));
    // Whether it is on is a matter of the most specific level alone.
    let off = "filter_enabled: {default_value: {numerator: 0}}";
    assert!(
        preflight(&test("allow_methods: GET", &format!("{ORIGIN}, {off}")), "http://a.example")
            .upstream
            .is_none()
    );
    let t = test(&format!("{ORIGIN}, {off}"), "");
    assert!(preflight(&t, "http://a.example").upstream.is_some());
    assert_eq!(stats(&t), (0, 0));
}

#[test]
fn a_shadow_only_counts() {
    let t = test(
        &format!(
            "{ORIGIN}, filter_enabled: {{default_value: {{numerator: 0}}, runtime_key: turn.on}}, shadow_enabled: {{default_value: {{numerator: 100}}}}"
        ),
        "",
    );
    let seen = preflight(&t, "http://a.example");
    assert_eq!((seen.upstream.is_some(), stats(&t)), (true, (1, 0)));
    t.runtime("turn.on", "100");
    assert!(preflight(&t, "http://a.example").upstream.is_none());
}

#[test]
fn routes_that_do_not_forward_have_no_policy() {
    let t = test("", ORIGIN);
    let seen = t.request("GET /direct").header("origin", "http://a.example").send();
    assert_eq!((seen.header("access-control-allow-origin"), stats(&t)), (None, (0, 0)));
}

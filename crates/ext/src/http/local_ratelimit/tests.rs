//! Values were measured on Envoy 1.40.

use crate::testing::filters;
use nuncio_core::clock::sim::Sim;
use nuncio_testkit::FilterTest;
use std::time::Duration;

const TYPE: &str =
    "'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const ON: &str =
    "filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: l, typed_config: {{{TYPE}, stat_prefix: s, {config}}}}}"))
}

fn bucket(tokens: u32) -> String {
    format!("token_bucket: {{max_tokens: {tokens}, fill_interval: 100s}}")
}

fn stats(t: &FilterTest) -> [u64; 5] {
    let stat = |n: &str| t.stat(&format!("s.http_local_rate_limit.{n}"));
    ["enabled", "ok", "rate_limited", "enforced", "shadow_mode"].map(stat)
}

#[test]
fn a_bucket_empties_and_fills() {
    let sim = Sim::new();
    let t = test(&format!("token_bucket: {{max_tokens: 2, tokens_per_fill: 1, fill_interval: 1s}}, {ON}"));
    let send = || t.request("GET /").send();
    assert_eq!([send().status, send().status], [200, 200]);
    let seen = send();
    assert!(seen.upstream.is_none());
    assert_eq!((seen.status, &*seen.body, &*seen.flags), (429, "local_rate_limited", "RL"));
    assert_eq!(seen.details, "local_rate_limited");
    sim.advance(Duration::from_millis(1001));
    assert_eq!([send().status, send().status], [200, 429]);
    assert_eq!(stats(&t), [5, 3, 2, 2, 0]);
}

#[test]
fn headers_of_responses() {
    let _sim = Sim::new();
    let t = test(&format!(
        "{}, {ON}, enable_x_ratelimit_headers: DRAFT_VERSION_03, enable_retry_after_header: true,
         response_headers_to_add: [{{header: {{key: x-l, value: '1'}}}}]",
        bucket(1)
    ));
    let three = |limit, left, reset| {
        [("x-ratelimit-limit", limit), ("x-ratelimit-remaining", left), ("x-ratelimit-reset", reset)]
    };
    assert_eq!(t.request("GET /").send().headers, three("1", "0", "100").into_iter().collect());
    let refused =
        [("x-l", "1"), ("retry-after", "100"), ("content-length", "18"), ("content-type", "text/plain")];
    assert_eq!(
        t.request("GET /").send().headers,
        refused.into_iter().chain(three("1", "0", "100")).collect()
    );
}

#[test]
fn statuses() {
    let status = |config: &str| {
        let t = test(&format!("{}, {ON}, {config}", bucket(0)));
        let seen = t.request("POST /").header("content-type", "application/grpc").send();
        (t.request("GET /").send().status, seen.header("grpc-status").unwrap())
    };
    assert_eq!(status("status: {code: 503}"), (503, "14".into()));
    assert_eq!(status("status: {code: 200}"), (429, "14".into()));
    assert_eq!(status("rate_limited_as_resource_exhausted: true"), (429, "8".into()));
}

#[test]
fn it_may_be_off_or_only_watch() {
    let t = test(&bucket(0));
    assert_eq!((t.request("GET /").send().status, stats(&t)), (200, [0, 0, 0, 0, 0]));
    let t = test(&format!(
        "{}, filter_enabled: {{default_value: {{numerator: 100}}}}, filter_enforced: {{default_value: {{numerator: 0}}, runtime_key: e}},
         request_headers_to_add_when_not_enforced: [{{header: {{key: x-over, value: '1'}}}}]",
        bucket(0)
    ));
    let seen = t.request("GET /").send();
    assert_eq!((seen.upstream().header("x-over").as_deref(), stats(&t)), (Some("1"), [1, 0, 1, 0, 0]));
    t.runtime("e", "100");
    assert_eq!((t.request("GET /").send().status, stats(&t)), (429, [2, 0, 2, 1, 0]));
    // Without a bucket nothing is limited.
    let t = test(ON);
    assert_eq!((t.request("GET /").send().status, stats(&t)), (200, [1, 1, 0, 0, 0]));
}

fn descriptors(actions: &str, descriptors: &str, more: &str) -> FilterTest {
    test(&format!(
        "{}, {ON}, rate_limits: [{{actions: [{actions}]}}], descriptors: [{descriptors}], {more}",
        bucket(100)
    ))
}

fn descriptor(key: &str, value: &str, tokens: u32, more: &str) -> String {
    format!("{{entries: [{{key: {key}, value: '{value}'}}], {}, {more}}}", bucket(tokens))
}

#[test]
fn descriptors_have_buckets_of_their_own() {
    let t = descriptors(
        "{request_headers: {header_name: x, descriptor_key: k}}",
        &[descriptor("k", "a", 1, ""), descriptor("k", "b", 0, "shadow_mode: true")].join(", "),
        "enable_x_ratelimit_headers: DRAFT_VERSION_03",
    );
    let send = |x: &str| t.request("GET /").header("x", x).send();
    let limit = |x: &str| {
        let seen = send(x);
        (seen.status, seen.header("x-ratelimit-limit").unwrap())
    };
    assert_eq!([limit("a"), limit("a")], [(200, "1".into()), (429, "1".into())]);
    assert_eq!(limit("c"), (200, "100".into()));
    assert_eq!(limit("b"), (200, "0".into()));
    assert_eq!(stats(&t), [4, 2, 2, 1, 1]);
    // The default bucket was asked for all but the one that was refused.
    assert_eq!(send("c").header("x-ratelimit-remaining").as_deref(), Some("96"));
}

#[test]
fn an_entry_without_a_value_matches_any() {
    let t = descriptors(
        "{request_headers: {header_name: x, descriptor_key: k}}",
        &descriptor("k", "", 1, ""),
        "max_dynamic_descriptors: 2",
    );
    let status = |x: &str| t.request("GET /").header("x", x).send().status;
    assert_eq!([status("a"), status("a"), status("b"), status("b")], [200, 429, 200, 429]);
    // The third value takes the place of the one used longest ago.
    assert_eq!([status("a"), status("c"), status("a"), status("b")], [429, 200, 429, 200]);
}

#[test]
fn actions() {
    let limited = |action: &str, key: &str, value: &str, line: &str| {
        let t = descriptors(action, &descriptor(key, value, 0, ""), "");
        let refused = t.request(line).header("x", "v").send().status == 429;
        let other = descriptors(action, &descriptor(key, "other", 0, ""), "");
        assert_eq!(other.request(line).header("x", "v").send().status, 200, "{action}");
        refused
    };
    for (action, key, value) in [
        ("{source_cluster: {}}", "source_cluster", "test-cluster"),
        ("{remote_address: {}}", "remote_address", "127.0.0.1"),
        ("{masked_remote_address: {v4_prefix_mask_len: 8}}", "masked_remote_address", "127.0.0.0/8"),
        ("{generic_key: {descriptor_value: g}}", "generic_key", "g"),
        (
            "{generic_key: {descriptor_key: k, descriptor_value: '%REQ(x)%', default_value: d}}",
            "k",
            "%REQ(x)%",
        ),
        (
            "{header_value_match: {descriptor_value: h, headers: [{name: x, present_match: true}]}}",
            "header_match",
            "h",
        ),
        ("{query_parameters: {query_parameter_name: q, descriptor_key: k}}", "k", "a b"),
        (
            "{query_parameter_value_match: {descriptor_value: m, query_parameters: [{name: q}]}}",
            "query_match",
            "m",
        ),
        (
            "{metadata: {metadata_key: {key: nn, path: [{key: p}]}, descriptor_key: k, default_value: d}}",
            "k",
            "d",
        ),
    ] {
        assert!(limited(action, key, value, "GET /?z=1&q=a%20b"), "{action}");
    }
    let t = descriptors("{destination_cluster: {}}", &descriptor("destination_cluster", "c", 0, ""), "")
        .route_config(
            "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: c}}]}]",
        );
    assert_eq!(t.request("GET /").send().status, 429);
}

#[test]
fn values_are_formats_where_the_runtime_says_so() {
    let action = "{generic_key: {descriptor_value: '%REQ(y-key)%', default_value: d}}";
    let status = |wanted: &str, sent: &str| {
        let t = descriptors(action, &descriptor("generic_key", wanted, 0, ""), "");
        t.runtime("envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value", "true");
        t.request("GET /").header(sent, "v").send().status
    };
    assert_eq!([status("v", "y-key"), status("d", "other"), status("v", "other")], [429, 429, 200]);
}

#[test]
fn an_action_that_finds_nothing() {
    let two = |skip: bool| {
        let missing =
            format!("{{request_headers: {{header_name: yy, descriptor_key: yy, skip_if_absent: {skip}}}}}");
        let actions = format!("{{generic_key: {{descriptor_value: g}}}}, {missing}");
        descriptors(&actions, &descriptor("generic_key", "g", 0, ""), "").request("GET /").send().status
    };
    assert_eq!((two(true), two(false)), (429, 200));
}

#[test]
fn hits() {
    let t = test(&format!(
        "{}, {ON}, rate_limits: [{{actions: [{{generic_key: {{descriptor_value: g}}}}], hits_addend: {{format: '%REQ(x)%'}}}}],
         descriptors: [{}]",
        bucket(100),
        descriptor("generic_key", "g", 5, "")
    ));
    let status = |x: &str| t.request("GET /").header("x", x).send().status;
    assert_eq!([status("3"), status("3"), status("2"), status("0"), status("1")], [200, 429, 200, 200, 429]);
    // What is no number makes no descriptor.
    assert_eq!([status("no"), status("-1")], [200, 200]);
}

#[test]
fn the_default_bucket_may_be_left_alone() {
    let t = test(&format!(
        "{}, {ON}, rate_limits: [{{actions: [{{generic_key: {{descriptor_value: g}}}}]}}], descriptors: [{}],
         always_consume_default_token_bucket: false",
        bucket(0),
        descriptor("generic_key", "g", 1, "")
    ));
    let status = || t.request("GET /").send().status;
    assert_eq!([status(), status()], [200, 429]);
}

#[test]
fn connections_may_have_buckets_of_their_own() {
    // Each request of these tests has a connection of its own.
    let t = test(&format!("{}, {ON}, local_rate_limit_per_downstream_connection: true", bucket(1)));
    let status = || t.request("GET /").send().status;
    assert_eq!([status(), status()], [200, 200]);
}

#[test]
fn routes_and_refusals() {
    let routes = |config: &str| {
        test(&format!("{}, {ON}", bucket(0))).route_config(&format!(
            "virtual_hosts: [{{name: v, domains: ['*'], typed_per_filter_config: {{l: {{{TYPE}, stat_prefix: r, {config}}}}}, routes: [{{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]"
        ))
    };
    let t = routes(&format!("{}, {ON}", bucket(1)));
    assert_eq!((t.request("GET /").send().status, t.stat("r.http_local_rate_limit.ok")), (200, 1));
    assert_eq!(routes(ON).refusal(), "local rate limit token bucket must be set for per filter configs");
    let short = "token_bucket: {max_tokens: 1, fill_interval: 0.049s}";
    assert_eq!(test(short).refusal(), "local rate limit token bucket fill timer must be >= 50ms");
    let d = format!("{{entries: [{{key: a, value: b}}], {short}}}");
    assert_eq!(
        test(&format!("descriptors: [{d}]")).refusal(),
        "local rate limit descriptor token bucket fill timer must be >= 50ms"
    );
    let d = descriptor("a", "b", 1, "");
    assert!(
        test(&format!("descriptors: [{d}, {d}]")).refusal().starts_with("duplicate descriptor in the local")
    );
    assert_eq!(
        test("rate_limits: [{stage: 1, actions: [{remote_address: {}}]}]").refusal(),
        "'stage' field and 'disable_key' field are not supported"
    );
}

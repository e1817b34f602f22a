use crate::testing::filters;
use nuncio_api::envoy::config::core::v3::HeaderValue;
use nuncio_api::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use nuncio_api::envoy::service::ratelimit::v3 as rls;
use nuncio_core::clock::sim::Sim;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::{Reply, Seen};
use rls::rate_limit_response::{Code, DescriptorStatus, RateLimit as Limit, rate_limit::Unit};
use std::time::Duration;

const ROUTES: &str = "virtual_hosts: [{name: v, domains: ['*'], rate_limits: [{actions: [{generic_key: \
    {descriptor_value: host}}]}], routes: [{match: {prefix: /plain}, route: {cluster: up}}, {match: {prefix: /direct}, \
    direct_response: {status: 200}}, ROUTES]}]";

fn with(fields: &str, routes: &str) -> FilterTest {
    let t = filters(&format!(
        "- {{name: envoy.filters.http.ratelimit, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit, domain: d, \
         rate_limit_service: {{transport_api_version: V3, grpc_service: {{envoy_grpc: {{cluster_name: rls}}}}}}, \
         {fields}}}}}"
    ));
    t.route_config(&ROUTES.replace("ROUTES", routes))
}

fn test(fields: &str) -> FilterTest {
    with(
        fields,
        "{match: {prefix: /}, route: {cluster: up, rate_limits: [{actions: [{generic_key: {descriptor_value: route}}]}]}}",
    )
}

fn answer(code: Code) -> rls::RateLimitResponse {
    rls::RateLimitResponse { overall_code: code.into(), ..Default::default() }
}

fn asked(t: &FilterTest) -> rls::RateLimitRequest {
    let call = t.calls().seen().pop().expect("a call");
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    assert_eq!((&*call.cluster, call.headers.get_str(":path")), ("rls", Some(path)));
    assert_eq!(call.timeout, Some(Duration::from_millis(20)));
    call.message()
}

/// `key=value,key=value` of each.
fn texts(all: &[RateLimitDescriptor]) -> Vec<String> {
    let one = |d: &RateLimitDescriptor| {
        d.entries.iter().map(|e| format!("{}={}", e.key, e.value)).collect::<Vec<_>>().join(",")
    };
    all.iter().map(one).collect()
}

/// What the service is told of a request.
fn told(t: &FilterTest, line: &str) -> Vec<String> {
    t.calls().answer_message(&answer(Code::Ok));
    let before = t.calls().seen().len();
    t.request(line).send();
    if t.calls().seen().len() == before { vec!["nothing".into()] } else { texts(&asked(t).descriptors) }
}

#[test]
fn within_the_limits() {
    let t = test("enable_x_ratelimit_headers: DRAFT_VERSION_03");
    let add = |key: &str| vec![HeaderValue { key: key.into(), value: "1".into(), ..Default::default() }];
    let status = |n, unit: Unit, name: &str, left, reset| DescriptorStatus {
        code: Code::Ok.into(),
        current_limit: Some(Limit {
            requests_per_unit: n,
            unit: unit.into(),
            name: name.into(),
            ..Default::default()
        }),
        limit_remaining: left,
        duration_until_reset: Some(prost_types::Duration { seconds: reset, nanos: 0 }),
        ..Default::default()
    };
    t.calls().answer_message(&rls::RateLimitResponse {
        response_headers_to_add: add("X-Answer"),
        request_headers_to_add: add("X-Ask"),
        statuses: vec![
            status(100, Unit::Hour, "", 9, 60),
            status(10, Unit::Second, "per-ip", 3, 1),
            DescriptorStatus::default(),
        ],
        ..answer(Code::Ok)
    });
    let seen = t.request("GET /").send();
    let h = |n: &str| seen.header(n).unwrap_or_default();
    assert_eq!(
        (seen.status, &*h("x-answer"), seen.upstream().header("x-ask").as_deref()),
        (200, "1", Some("1"))
    );
    assert_eq!(h("x-ratelimit-limit"), "10, 100;w=3600, 10;w=1;name=\"per-ip\"");
    assert_eq!((&*h("x-ratelimit-remaining"), &*h("x-ratelimit-reset")), ("3", "1"));
    assert_eq!(t.stat("cluster.up.ratelimit.ok"), 1);
    let asked = asked(&t);
    assert_eq!(
        (&*asked.domain, asked.hits_addend, texts(&asked.descriptors)),
        ("d", 0, vec!["generic_key=route".into()])
    );
}

/// A request, and the service says that it is over its limits.
fn over(t: &FilterTest) -> Seen {
    t.calls().answer_message(&rls::RateLimitResponse {
        raw_body: b"slower".as_slice().into(),
        statuses: vec![DescriptorStatus {
            code: Code::OverLimit.into(),
            duration_until_reset: Some(prost_types::Duration { seconds: 7, nanos: 0 }),
            ..Default::default()
        }],
        ..answer(Code::OverLimit)
    });
    t.request("GET /").header("x-who", "me").send()
}

#[test]
fn over_the_limits() {
    let t = test(
        "enable_retry_after_header: true, response_headers_to_add: [{header: {key: x-for, value: '%REQ(x-who)%'}}]",
    );
    let seen = over(&t);
    assert!(seen.upstream.is_none());
    assert_eq!(
        (seen.status, &*seen.body, &*seen.flags, &*seen.details),
        (429, "slower", "RL", "request_rate_limited")
    );
    let h = |n: &str| seen.header(n).unwrap_or_default();
    assert_eq!((&*h("x-envoy-ratelimited"), &*h("retry-after"), &*h("x-for")), ("true", "7", "me"));
    let t =
        test("rate_limited_status: {code: 503}, disable_x_envoy_ratelimited_header: true, stat_prefix: p");
    let seen = over(&t);
    assert_eq!((seen.status, seen.header("x-envoy-ratelimited")), (503, None));
    assert_eq!(t.stat("cluster.up.ratelimit.p.over_limit"), 1);
}

#[test]
fn not_enforced() {
    let t = test("filter_enforced: {default_value: {numerator: 0}}");
    assert_eq!((over(&t).status, t.stat("cluster.up.ratelimit.over_limit")), (200, 1));
    let t = test("filter_enabled: {default_value: {numerator: 0}}");
    assert_eq!((over(&t).status, t.calls().seen().len()), (200, 0));
}

#[test]
fn a_service_that_fails_lets_pass_or_not() {
    let t = test("");
    assert_eq!(t.request("GET /").send().status, 200);
    let stats = ["error", "failure_mode_allowed"].map(|n| t.stat(&format!("cluster.up.ratelimit.{n}")));
    assert_eq!(stats, [1, 1]);
    let seen = test("failure_mode_deny: true").request("GET /").send();
    assert_eq!((seen.status, &*seen.flags, &*seen.details), (500, "RLSE", "rate_limiter_error"));
    let t =
        test("failure_mode_deny_percent: {default_value: {numerator: 100}}, status_on_error: {code: 503}");
    t.calls().answer(Reply::new(503));
    assert_eq!(t.request("GET /").send().status, 503);
}

#[test]
fn which_limits_hold() {
    let limits = "{match: {prefix: /include}, route: {cluster: up, include_vh_rate_limits: true, rate_limits: [{actions: [{generic_key: {descriptor_value: route}}]}]}}, \
        {match: {prefix: /stage}, route: {cluster: up, rate_limits: [{stage: 2, actions: [{generic_key: {descriptor_value: later}}]}, {disable_key: k, actions: [{generic_key: {descriptor_key: a, descriptor_value: now}}]}]}}, \
        {match: {prefix: /ignore}, route: {cluster: up}, typed_per_filter_config: {envoy.filters.http.ratelimit: {'@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute, vh_rate_limits: IGNORE}}}, \
        {match: {prefix: /own}, route: {cluster: up}, typed_per_filter_config: {envoy.filters.http.ratelimit: {'@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute, domain: o, rate_limits: [{actions: [{request_headers: {header_name: ':path', descriptor_key: p}}], hits_addend: {number: 3}}]}}}";
    let t = with("", limits);
    let told = |line: &str| told(&t, line).join(" ");
    assert_eq!(told("GET /plain"), "generic_key=host");
    assert_eq!(told("GET /direct"), "nothing");
    assert_eq!(told("GET /include"), "generic_key=route generic_key=host");
    assert_eq!(told("GET /stage"), "a=now");
    assert_eq!(told("GET /ignore"), "nothing");
    assert_eq!(told("GET /own"), "p=/own");
    let last = asked(&t);
    assert_eq!((&*last.domain, last.descriptors[0].hits_addend), ("o", Some(3)));
    t.runtime("ratelimit.k.http_filter_enabled", "0");
    assert_eq!(told("GET /stage"), "nothing");
    let t = with("stage: 2", limits);
    assert_eq!(self::told(&t, "GET /stage").join(" "), "generic_key=later");
    // Of its own, and only of requests from inside.
    let t = with("request_type: internal, rate_limits: [{actions: [{remote_address: {}}]}]", limits);
    assert_eq!(self::told(&t, "GET /plain").join(" "), "nothing");
}

#[test]
fn limits_of_their_own_and_what_a_match_input_says() {
    let limits = "{match: {prefix: /}, route: {cluster: up, rate_limits: [{limit: {rate_limit: {requests_per_unit: 5, unit: MINUTE}}, actions: [{extension: {name: who, typed_config: {'@type': type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x-who}}}]}, \
        {actions: [{remote_address_match: {descriptor_value: us, address_matcher: {ranges: [{address_prefix: 10.0.0.0, prefix_len: 1}]}}}]}, \
        {actions: [{remote_address_match: {descriptor_value: them, descriptor_key: r, address_matcher: {invert_match: true, ranges: [{address_prefix: 200.0.0.0, prefix_len: 8}]}}}]}]}}";
    let t = with("", limits);
    t.calls().answer_message(&answer(Code::Ok));
    t.request("GET /").header("x-who", "me").send();
    let asked = asked(&t);
    assert_eq!(texts(&asked.descriptors).join(" "), "who=me remote_address_match=us r=them");
    assert_eq!(asked.descriptors[0].limit.map(|l| (l.requests_per_unit, l.unit)), Some((5, 2)));
    assert_eq!(told(&t, "GET /").join(" "), "remote_address_match=us r=them");
}

#[test]
fn what_holds_when_the_request_is_over() {
    let _sim = Sim::new();
    let t = test(
        "rate_limits: [{apply_on_stream_done: true, hits_addend: {format: '%RESPONSE_CODE%'}, actions: [{generic_key: {descriptor_value: done}}]}]",
    );
    t.calls().answer_message(&answer(Code::OverLimit));
    assert_eq!(t.request("GET /").send().status, 200);
    let asked = asked(&t);
    assert_eq!(
        (texts(&asked.descriptors).join(" "), asked.descriptors[0].hits_addend),
        ("generic_key=done".into(), Some(200))
    );
    assert!(t.stats().is_empty(), "what it says then is not counted");
}

#[test]
fn expressions_make_descriptors() {
    let expr = |text: &str, skip: bool| {
        format!(
            "{{actions: [{{extension: {{name: e, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor, descriptor_key: e, \
             skip_if_error: {skip}, text: \"{text}\"}}}}}}, {{generic_key: {{descriptor_value: g}}}}]}}"
        )
    };
    let limits = [
        expr("request.method", false),
        expr("request.headers['x-none']", true),
        expr("request.headers['x-none']", false),
    ];
    let t = with(
        "",
        &format!("{{match: {{prefix: /}}, route: {{cluster: up, rate_limits: [{}]}}}}", limits.join(", ")),
    );
    assert_eq!(told(&t, "GET /").join(" "), "e=GET,generic_key=g generic_key=g");
}

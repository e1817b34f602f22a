use crate::testing::filters;
use nuncio_core::clock::sim::Sim;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Reply;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

fn test(config: &str) -> FilterTest {
    filters(&format!(
        "- name: hc
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
    {config}
    headers: [{{name: ':path', string_match: {{exact: /healthz}}}}]"
    ))
}

fn stat(t: &FilterTest, name: &str) -> u64 {
    t.stat(&format!("http.test.health_check.{name}"))
}

#[test]
fn answers_while_the_server_is_healthy() {
    let t = test("pass_through_mode: false");
    let seen = t.request("GET /healthz").send();
    assert_eq!((seen.status, &*seen.body, &*seen.details, &*seen.flags), (200, "", "health_check_ok", "-"));
    assert_eq!(seen.header("x-envoy-upstream-healthchecked-cluster").as_deref(), Some("test-cluster"));
    assert_eq!(seen.header("x-envoy-immediate-health-check-fail"), None);
    assert!(seen.upstream.is_none() && seen.sx.info.health_check.get());
    assert_eq!((stat(&t, "request_total"), stat(&t, "ok"), stat(&t, "failed")), (1, 1, 0));
}

#[test]
fn fails_when_told_to_and_marks_every_response() {
    let t = test("pass_through_mode: false");
    t.server_state().health_check_failed.store(true, Relaxed);
    let seen = t.request("GET /healthz").send();
    assert_eq!((seen.status, &*seen.details, &*seen.flags), (503, "health_check_failed", "LH"));
    let names: Vec<_> = seen.headers.iter().map(|h| String::from_utf8_lossy(h.name).into_owned()).collect();
    assert_eq!(names, ["x-envoy-upstream-healthchecked-cluster", "x-envoy-immediate-health-check-fail"]);
    let other = t.request("GET /x").send();
    assert_eq!(other.header("x-envoy-immediate-health-check-fail").as_deref(), Some("true"));
    assert_eq!(other.header("x-envoy-upstream-healthchecked-cluster"), None);
    assert_eq!((stat(&t, "request_total"), stat(&t, "failed")), (1, 1));
    t.server_state().health_check_failed.store(false, Relaxed);
    assert_eq!(t.request("GET /healthz").send().status, 200);
}

#[test]
fn other_requests_pass() {
    let t = test("pass_through_mode: false");
    let seen = t.request("GET /other").send();
    assert!(seen.upstream.is_some() && !seen.sx.info.health_check.get());
    assert_eq!(stat(&t, "request_total"), 0);
}

#[test]
fn answers_when_the_request_has_been_read() {
    let t = test("pass_through_mode: false");
    let seen = t.request("POST /healthz").body("a").body("b").trailer("t", "1").send();
    assert_eq!((seen.status, stat(&t, "ok")), (200, 1));
}

#[test]
fn passes_health_checks_through_and_marks_them() {
    let t = test("pass_through_mode: true").upstream_replies(Reply::new(204));
    let seen = t.request("GET /healthz").send();
    assert_eq!((seen.status, seen.sx.info.health_check.get()), (204, true));
    assert_eq!(seen.upstream().path(), "/healthz");
    assert_eq!(seen.header("x-envoy-upstream-healthchecked-cluster").as_deref(), Some("test-cluster"));
    assert_eq!(stat(&t, "request_total"), 0);
    t.server_state().health_check_failed.store(true, Relaxed);
    let seen = t.request("GET /healthz").send();
    assert!(seen.upstream.is_none() && seen.status == 503);
}

#[test]
fn keeps_the_answer_for_the_cache_time() {
    let sim = Sim::new();
    let t = test("pass_through_mode: true\n    cache_time: 2s").upstream_replies(Reply::new(500));
    let ask = || t.request("GET /healthz").send();
    assert!(ask().upstream.is_some());
    let seen = ask();
    assert_eq!((seen.status, &*seen.details, &*seen.flags), (500, "health_check_cached", "LH"));
    assert!(seen.upstream.is_none());
    // Time is cut into stretches: this is in the same one still.
    sim.advance(Duration::from_millis(1999));
    assert!(ask().upstream.is_none());
    sim.advance(Duration::from_millis(1));
    t.replies(Reply::new(200).header("x-envoy-degraded", ""));
    assert!(ask().upstream.is_some());
    let seen = ask();
    assert_eq!((seen.status, seen.header("x-envoy-degraded").as_deref()), (200, Some("")));
    assert_eq!((stat(&t, "cached_response"), stat(&t, "failed"), stat(&t, "degraded")), (3, 2, 1));
}

#[test]
fn an_answer_between_two_stretches_is_good_to_the_end_of_its_own() {
    let sim = Sim::new();
    let t = test("pass_through_mode: true\n    cache_time: 2s");
    t.request("GET /x").send();
    sim.advance(Duration::from_millis(1900));
    assert!(t.request("GET /healthz").send().upstream.is_some());
    assert!(t.request("GET /healthz").send().upstream.is_none());
    sim.advance(Duration::from_millis(100));
    assert!(t.request("GET /healthz").send().upstream.is_some());
}

#[test]
fn grpc_clients_get_their_kind_of_answer() {
    let t = test("pass_through_mode: false");
    t.server_state().health_check_failed.store(true, Relaxed);
    let seen = t.request("POST /healthz").header("content-type", "application/grpc").send();
    assert_eq!((seen.status, seen.header("grpc-status").as_deref()), (200, Some("14")));
}

#[test]
fn refusals() {
    let refusal = |c: &str| test(c).refusal();
    assert_eq!(
        refusal("pass_through_mode: false\n    cache_time: 1s"),
        "cache_time_ms must not be set when path_through_mode is disabled"
    );
    assert!(refusal("cache_time: 1s").contains("PassThroughMode: value is required"));
    assert_eq!(
        refusal("pass_through_mode: false\n    cluster_min_healthy_percentages: {c: {value: 50}}"),
        "not implemented yet: HealthCheck.cluster_min_healthy_percentages"
    );
}

#[test]
fn a_route_has_nothing_to_configure() {
    let t = test("pass_through_mode: false").route_config(
        "typed_per_filter_config: {hc: {'@type': type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: true}}",
    );
    assert_eq!(t.refusal(), "The filter hc doesn't support virtual host or route specific configurations");
}

#[test]
fn a_request_that_breaks_off_ends_the_stream() {
    let t = test("pass_through_mode: false");
    let seen = t.request("POST /healthz").body("a").reset().send();
    assert!(seen.upstream.is_none() && seen.status == 0);
}

use crate::testing::filters;
use nuncio_core::clock;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Reply;
use std::time::Duration;

const TYPE: &str =
    "'@type': type.googleapis.com/envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: b, typed_config: {{{TYPE}, stat_prefix: s, {config}}}}}"))
}

fn stat(t: &FilterTest, name: &str) -> u64 {
    t.stat(&format!("s.http_bandwidth_limit.{name}"))
}

#[test]
fn both_directions_share_a_bucket() {
    // 512 bytes come at once, then 512 every 50 ms.
    let t = test(
        "enable_mode: REQUEST_AND_RESPONSE, limit_kbps: 10, enable_response_trailers: true, response_trailer_prefix: X",
    );
    t.replies(Reply::new(200).body(vec![b'y'; 3000]));
    let begin = clock::now();
    let seen = t.request("POST /").body(vec![b'x'; 3000]).send();
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
    assert_eq!((seen.upstream().body.len(), seen.body.len()), (3000, 3000));
    for both in ["request", "response"] {
        assert_eq!(stat(&t, &format!("{both}_enabled")), 1);
        assert!(stat(&t, &format!("{both}_enforced")) >= 1);
        assert_eq!(stat(&t, &format!("{both}_incoming_total_size")), 3000);
        assert_eq!(stat(&t, &format!("{both}_allowed_total_size")), 3000);
        assert_eq!(stat(&t, &format!("{both}_incoming_size")), 0);
        assert_eq!(stat(&t, &format!("{both}_pending")), 0);
        for trailer in ["delay", "filter-delay"] {
            let time = seen.trailer(&format!("x-bandwidth-{both}-{trailer}-ms")).unwrap();
            assert!(time.parse::<u64>().unwrap() > 0, "{both} {trailer}");
        }
    }
}

#[test]
fn modes_and_switches() {
    let enabled = |config: &str| {
        let t = test(config);
        t.replies(Reply::new(200).body("y"));
        let seen = t.request("POST /").body("x").send();
        assert_eq!((seen.status, seen.trailers), (200, None));
        (stat(&t, "request_enabled"), stat(&t, "response_enabled"))
    };
    assert_eq!(enabled("limit_kbps: 10"), (0, 0));
    assert_eq!(enabled("limit_kbps: 10, enable_mode: REQUEST"), (1, 0));
    assert_eq!(enabled("limit_kbps: 10, enable_mode: RESPONSE"), (0, 1));
    let off = "runtime_enabled: {default_value: false, runtime_key: k}";
    assert_eq!(enabled(&format!("limit_kbps: 10, enable_mode: REQUEST_AND_RESPONSE, {off}")), (0, 0));
    let t = test(&format!("limit_kbps: 10, enable_mode: REQUEST, {off}"));
    t.runtime("k", "true");
    t.request("GET /").send();
    assert_eq!(stat(&t, "request_enabled"), 1);
}

#[test]
fn routes() {
    let routes = |config: &str| {
        test("enable_mode: REQUEST, limit_kbps: 1").route_config(&format!(
            "typed_per_filter_config: {{b: {{{TYPE}, stat_prefix: r, {config}}}}}\nvirtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]"
        ))
    };
    assert_eq!(routes("enable_mode: REQUEST").refusal(), "limit must be set for per route filter config");
    let t = routes("limit_kbps: 100, enable_mode: RESPONSE");
    t.request("GET /").send();
    assert_eq!((stat(&t, "request_enabled"), t.stat("r.http_bandwidth_limit.response_enabled")), (0, 1));
}

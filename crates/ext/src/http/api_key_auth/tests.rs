use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Seen;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: k, typed_config: {{{TYPE}.ApiKeyAuth, {config}}}}}"))
}

const KEYS: &str = "credentials: [{key: k1, client: c1}, {key: k2, client: c2}]";

fn says(seen: &Seen) -> (u16, String) {
    (seen.status, seen.details.clone())
}

#[test]
fn keys_come_in_three_ways() {
    let t = test(&format!(
        "{KEYS}, key_sources: [{{header: X-Key}}, {{query: key}}, {{cookie: key}}], forwarding: {{header: x-client, hide_credentials: true}}"
    ));
    let up = |seen: &Seen, n: &str| seen.upstream().header(n);
    let seen = t.request("GET /").header("x-key", "Bearer k1").send();
    assert_eq!((up(&seen, "x-client").as_deref(), up(&seen, "x-key")), (Some("c1"), None));
    let seen = t.request("GET /p?a=1&key=k%32&b").send();
    assert_eq!((up(&seen, "x-client").as_deref(), &*seen.upstream().path()), (Some("c2"), "/p?a=1&b="));
    let seen = t.request("GET /").header("cookie", "a=b; key=k1; c=d").send();
    assert_eq!(
        (up(&seen, "x-client").as_deref(), up(&seen, "cookie").as_deref()),
        (Some("c1"), Some("a=b; c=d"))
    );
    // An empty key is none, so the next source is asked.
    assert_eq!(t.request("GET /?key=k1").header("x-key", "").send().status, 200);
    let seen = t.request("GET /").header("x-key", "k3").send();
    assert_eq!(
        (says(&seen), &*seen.body),
        ((401, "unknown_api_key".into()), "Client authentication failed.")
    );
    assert_eq!(says(&t.request("GET /").send()), (401, "missing_api_key".into()));
    let stat = |n: &str| t.stat(&format!("http.test.api_key_auth.{n}"));
    assert_eq!(["allowed", "unauthorized", "forbidden"].map(stat), [4, 2, 0]);
}

#[test]
fn routes_may_replace_each_part() {
    let route = |prefix: &str, config: &str| {
        format!(
            "{{match: {{prefix: {prefix}}}, route: {{cluster: up}}, typed_per_filter_config: {{k: {{{TYPE}.ApiKeyAuthPerRoute, {config}}}}}}}"
        )
    };
    let routes = [
        route("/two", "allowed_clients: [c2]"),
        route("/own", "credentials: [{key: k3, client: c3}], key_sources: [{query: k}]"),
    ];
    let t = test(&format!("{KEYS}, key_sources: [{{header: x-key}}]"));
    let t = t.route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], routes: [{}]}}]",
        routes.join(", ")
    ));
    let status = |line: &str, key: &str| says(&t.request(line).header("x-key", key).send());
    assert_eq!(status("GET /two", "k2").0, 200);
    assert_eq!(status("GET /two", "k1"), (403, "client_not_allowed".into()));
    assert_eq!(status("GET /own?k=k3", "").0, 200);
    assert_eq!(status("GET /own", "k1"), (401, "missing_api_key".into()));
}

#[test]
fn what_is_missing_or_wrong() {
    let none = |config: &str| says(&test(config).request("GET /").send());
    assert_eq!(none(KEYS), (401, "missing_key_sources".into()));
    assert_eq!(none("key_sources: [{header: x-key}]"), (401, "missing_credentials".into()));
    assert_eq!(test("key_sources: [{}]").refusal(), "One of 'header'/'query'/'cookie' must be set.");
    let twice = test("credentials: [{key: k1, client: c1}, {key: k1, client: c2}]").refusal();
    assert_eq!(twice, "Duplicated credential key: 'k1'");
}

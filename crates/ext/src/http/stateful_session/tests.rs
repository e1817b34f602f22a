use crate::testing::filters;
use nuncio_core::base64;
use nuncio_core::clock::sim::Sim;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::{Reply, Seen};
use std::time::Duration;

const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
const STATE: &str = "type.googleapis.com/envoy.extensions.http.stateful_session";

/// In the form that all states take.
fn config(more: &str, state: &str, message: &str, fields: &str) -> String {
    format!(
        "{more}, session_state: {{name: envoy.http.stateful_session.{state}, typed_config: {{'@type': {STATE}.{state}.v3.{message}, {fields}}}}}"
    )
}

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: s, typed_config: {{'@type': {FILTER}, {config}}}}}"))
        .upstream_replies(Reply::new(200).from_host("10.0.0.1:80"))
}

fn by_cookie(more: &str, cookie: &str) -> String {
    config(more, "cookie", "CookieBasedSessionState", &format!("cookie: {{name: ss, {cookie}}}"))
}

/// Where a request wanted to go, and whether only there.
fn wanted(seen: &Seen) -> Option<(String, bool, u16)> {
    let wanted = seen.sx.info.override_host.borrow();
    wanted.as_ref().map(|o| (o.address.to_string(), o.strict, o.not_found))
}

fn address(seen: &Seen) -> Option<String> {
    wanted(seen).map(|w| w.0)
}

#[test]
fn a_cookie_leads_back() {
    let t = test(&by_cookie(
        "stat_prefix: p",
        "path: /a, attributes: [{name: Secure}, {name: SameSite, value: Lax}]",
    ));
    let seen = t.request("GET /a").send();
    assert_eq!(wanted(&seen), None);
    let set = seen.header("set-cookie").expect("a cookie");
    let (pair, rest) = set.split_once(';').expect("attributes");
    assert_eq!((pair, rest), ("ss=\"CgsxMC4wLjAuMTo4MA==\"", " Path=/a; Secure; SameSite=Lax; HttpOnly"));
    let seen = t.request("GET /a/b").header("cookie", pair).send();
    assert_eq!(wanted(&seen), Some(("10.0.0.1:80".into(), false, 503)));
    assert_eq!(seen.header("set-cookie"), None, "it has come where it belongs");
    t.replies(Reply::new(200).from_host("10.0.0.2:80"));
    let seen = t.request("GET /a?q").header("cookie", pair).send();
    assert!(
        address(&seen).is_some() && seen.header("set-cookie").is_some(),
        "its host is not there any more"
    );
    for path in ["/", "/ab", "/b"] {
        let seen = t.request(&format!("GET {path}")).header("cookie", pair).send();
        assert_eq!((address(&seen), seen.header("set-cookie")), (None, None), "{path}");
    }
    let stat = |n: &str| t.stat(&format!("http.test.stateful_session.p.{n}"));
    assert_eq!(["routed", "failed_open", "failed_closed", "no_session"].map(stat), [1, 2, 0, 3]);
}

#[test]
fn paths_of_cookies() {
    let asks = |cookie_path: &str, path: &str| {
        let t = test(&by_cookie("strict: false", &format!("path: {cookie_path}")));
        t.request(&format!("GET {path}")).send().header("set-cookie").is_some()
    };
    assert!(
        asks("/", "/x")
            && asks("''", "/x")
            && asks("/a/", "/a/")
            && asks("/a/", "/a/b")
            && asks("/a", "/a#x")
    );
    assert!(!asks("/a/", "/a") && !asks("/a", "/ab") && !asks("/a", "/"));
}

#[test]
fn what_cookies_say() {
    let t = test(&by_cookie("strict: true, status_on_strict_destination_not_found: 421", ""));
    let of = |value: &[u8]| {
        address(&t.request("GET /").header("cookie", &format!("ss={}", base64::encode(value))).send())
    };
    assert_eq!(of(b"127.0.0.1:1").as_deref(), Some("127.0.0.1:1"), "as it was once");
    assert_eq!(of(b"\n\x091.2.3.4:5").as_deref(), Some("1.2.3.4:5"));
    assert_eq!(of(b"\n\x091.2.3.4:5\x10\x01"), None, "expired");
    assert_eq!((of(b""), of(b"\n\0")), (None, None));
    assert_eq!(of(b"\xff").as_deref(), Some("\u{fffd}"), "asks for something");
    let raw = |v: &str| wanted(&t.request("GET /").header("cookie", &format!("ss={v}")).send());
    assert_eq!((raw("MTI3LjAuMC4xOjE"), raw("?")), (None, None), "no Base64");
    assert_eq!(raw("\"MTI3LjAuMC4xOjE=\""), Some(("127.0.0.1:1".into(), true, 421)));
}

#[test]
fn cookies_expire() {
    let sim = Sim::new();
    let t = test(&by_cookie("strict: true", "ttl: 10s"));
    let set = t.request("GET /").send().header("set-cookie").expect("a cookie");
    let (pair, rest) = set.split_once(';').expect("attributes");
    assert_eq!(rest, " Max-Age=10; HttpOnly");
    let known = || address(&t.request("GET /").header("cookie", pair).send()).is_some();
    assert!(known());
    sim.advance(Duration::from_secs(9));
    assert!(known());
    sim.advance(Duration::from_secs(2));
    assert!(!known());
}

#[test]
fn headers() {
    let t = test(&config("strict: false", "header", "HeaderBasedSessionState", "name: X-S"));
    let seen = t.request("GET /").send();
    assert_eq!((address(&seen), seen.header("x-s").as_deref()), (None, Some("MTAuMC4wLjE6ODA=")));
    let seen = t.request("GET /").header("x-s", "MTAuMC4wLjE6ODA=").send();
    assert_eq!((address(&seen).as_deref(), seen.header("x-s").as_deref()), (Some("10.0.0.1:80"), None));
    t.replies(Reply::new(200).from_host("10.0.0.1:80").header("x-s", "a").header("x-s", "b"));
    let seen = t.request("GET /").header("x-s", "%").send();
    assert_eq!((address(&seen), seen.header("x-s").as_deref()), (None, Some("MTAuMC4wLjE6ODA=")));
}

#[test]
fn envelopes() {
    let t = test(&config("strict: false", "envelope", "EnvelopeSessionState", "header: {name: X-S}"));
    assert_eq!(t.request("GET /").send().header("x-s"), None, "nothing to wrap");
    t.replies(Reply::new(200).from_host("10.0.0.1:80").header("x-s", "abc"));
    let seen = t.request("GET /").send();
    assert_eq!((address(&seen), seen.header("x-s").as_deref()), (None, Some("MTAuMC4wLjE6ODA=;UV:YWJj")));
    let seen = t.request("GET /").header("x-s", "MTAuMC4wLjE6ODA=;UV:YWJj").send();
    assert_eq!(address(&seen).as_deref(), Some("10.0.0.1:80"));
    assert_eq!(seen.upstream().header("x-s").as_deref(), Some("abc"));
    assert_eq!(seen.header("x-s").as_deref(), Some("MTAuMC4wLjE6ODA=;UV:YWJj"), "wrapped again");
    for broken in ["MTAuMC4wLjE6ODA=", "MTAuMC4wLjE6ODA=;UV:", "MTAuMC4wLjE6ODA=;UV:%", ";"] {
        let seen = t.request("GET /").header("x-s", broken).send();
        assert_eq!((address(&seen), seen.upstream().header("x-s").as_deref()), (None, Some(broken)));
    }
    let seen = t.request("GET /").header("x-s", "?;a;UV:YWJj").send();
    assert_eq!((address(&seen), seen.upstream().header("x-s").as_deref()), (None, Some("abc")));
    t.replies(Reply::new(200).from_host("10.0.0.1:80").header("x-s", "a").header("x-s", "b"));
    assert_eq!(t.request("GET /").send().header("x-s").as_deref(), Some("a,b"));
}

#[test]
fn routes() {
    let route = |path: &str, config: &str| {
        format!(
            "{{match: {{prefix: {path}}}, route: {{cluster: c}}, typed_per_filter_config: {{s: {{'@type': {FILTER}PerRoute, {config}}}}}}}"
        )
    };
    let header = config("strict: true", "header", "HeaderBasedSessionState", "name: x-r");
    let t = test(&by_cookie("stat_prefix: p", "")).route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], routes: [{}, {}, {}, {{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]",
        route("/off", "disabled: true"),
        route("/header", &format!("stateful_session: {{{header}}}")),
        route("/none", "stateful_session: {}"),
    ));
    let set = |path: &str| {
        let seen = t.request(&format!("GET {path}")).header("x-r", "MS4yLjMuNDo1").send();
        (wanted(&seen).map(|w| w.1), seen.header("set-cookie").is_some(), seen.header("x-r").is_some())
    };
    assert_eq!(
        [set("/"), set("/off"), set("/none")],
        [(None, true, false), (None, false, false), (None, false, false)]
    );
    assert_eq!(set("/header"), (Some(true), false, true));
    let stat = |n: &str| t.stat(&format!("http.test.stateful_session.p.{n}"));
    assert_eq!(["routed", "failed_open", "no_session"].map(stat), [0, 1, 0], "routes count nothing");
}

#[test]
fn refusals() {
    let state = |name: &str, ty: &str| {
        test(&format!("session_state: {{name: {name}, typed_config: {{'@type': {STATE}.{ty}}}}}")).refusal()
    };
    assert_eq!(
        state("x", "header.v3.HeaderBasedSessionState, name: a"),
        "Didn't find a registered implementation for name: 'x'"
    );
    let wrong = state("envoy.http.stateful_session.cookie", "header.v3.HeaderBasedSessionState, name: a");
    assert!(
        wrong.starts_with("Unable to unpack as envoy.extensions.http.stateful_session.cookie.v3."),
        "{wrong}"
    );
}

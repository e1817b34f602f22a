//! Values were measured on Envoy 1.40.

use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Seen;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.basic_auth.v3";
/// The password is `test1`.
const USER: &str = "u:{SHA}tESsBmE/yNY3lb6a0L6vVQEZNqw=";

fn users(users: &str, more: &str) -> FilterTest {
    filters(&format!(
        "- {{name: ba, typed_config: {{{TYPE}.BasicAuth, users: {{inline_string: \"{users}\"}}, {more}}}}}"
    ))
}

fn send(t: &FilterTest, line: &str, credentials: &str) -> Seen {
    let header = format!("Basic {}", nuncio_core::base64::encode(credentials.as_bytes()));
    t.request(line).header("authorization", &header).send()
}

fn stats(t: &FilterTest) -> (u64, u64) {
    (t.stat("http.test.basic_auth.allowed"), t.stat("http.test.basic_auth.denied"))
}

#[test]
fn the_right_password() {
    let t = users(USER, "forward_username_header: x-user");
    let seen = send(&t, "GET /", "u:test1");
    assert_eq!((seen.status, seen.upstream().header("x-user").as_deref()), (200, Some("u")));
    assert!(seen.upstream().header("authorization").is_some());
    assert_eq!(stats(&t), (1, 0));
}

#[test]
fn refusals() {
    let t = users(USER, "");
    for (credentials, details) in [
        ("u:test2", "invalid_credential_for_basic_auth"),
        ("v:test1", "invalid_credential_for_basic_auth"),
        ("u", "invalid_format_for_basic_auth"),
    ] {
        let seen = send(&t, "GET /p?q", credentials);
        assert_eq!((seen.status, &*seen.details, &*seen.flags), (401, details, "-"));
        assert!(seen.upstream.is_none());
        let challenge = "Basic realm=\"http://test.example/p?q\"";
        assert_eq!(seen.header("www-authenticate").as_deref(), Some(challenge));
    }
    let seen = t.request("GET /").send();
    assert_eq!((&*seen.details, seen.status), ("no_credential_for_basic_auth", 401));
    assert_eq!(seen.body, "User authentication failed. Missing username and password.");
    let seen = t.request("GET /").header("authorization", "Bearer a").send();
    assert_eq!(seen.details, "invalid_scheme_for_basic_auth");
    assert_eq!(stats(&t), (0, 5));
}

#[test]
fn missing_credentials_may_be_allowed() {
    let t = users(USER, "allow_missing: true, emit_dynamic_metadata: true, authentication_header: x-auth");
    assert_eq!(t.request("GET /").send().status, 200);
    assert_eq!(t.request("GET /").header("x-auth", "Bearer a").send().status, 200);
    assert_eq!(t.request("GET /").header("x-auth", "Basic !").send().status, 401);
    assert_eq!(stats(&t), (0, 1));
    let header = format!("Basic {}", nuncio_core::base64::encode(b"u:test1"));
    let seen = t.request("GET /").header("x-auth", &header).send();
    let metadata = seen.sx.info.metadata.borrow();
    assert!(metadata.as_ref().unwrap().get("ba", ["username"]).is_some());
}

#[test]
fn routes_have_users_of_their_own() {
    let config = format!(
        "{{ba: {{{TYPE}.BasicAuthPerRoute, users: {{inline_string: \"v:{{SHA}}tESsBmE/yNY3lb6a0L6vVQEZNqw=\"}}}}}}"
    );
    let t = users(USER, "").route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: c}}, typed_per_filter_config: {config}}}]}}]"
    ));
    assert_eq!((send(&t, "GET /", "v:test1").status, send(&t, "GET /", "u:test1").status), (200, 401));
}

#[test]
fn files_of_users() {
    let refusal = |u: &str| users(u, "").refusal();
    assert_eq!(refusal("u"), "basic auth: invalid htpasswd format, username:password is expected");
    assert_eq!(refusal(":{SHA}x"), "basic auth: empty user name or password");
    assert_eq!(refusal("u:"), "basic auth: empty user name or password");
    assert_eq!(refusal("u:p"), "basic auth: unsupported htpasswd format: please use {SHA}");
    assert_eq!(refusal("u:{SHA}p"), "basic auth: invalid htpasswd format, invalid SHA hash length");
    assert_eq!(refusal(&format!("{USER}\\n{USER}")), "basic auth: duplicate users");
    let t = users(&format!("# comment\\n\\n{USER}\\n"), "");
    assert_eq!(send(&t, "GET /", "u:test1").status, 200);
}

use crate::testing::filters;
use nuncio_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption, QueryParameter};
use nuncio_api::envoy::service::auth::v3 as auth;
use nuncio_api::envoy::r#type::v3::HttpStatus;
use nuncio_api::google::rpc::Status;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Reply;

fn test(fields: &str) -> FilterTest {
    filters(&format!(
        "- {{name: envoy.filters.http.ext_authz, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, transport_api_version: V3, \
         grpc_service: {{envoy_grpc: {{cluster_name: authz}}}}, {fields}}}}}"
    ))
}

fn option(key: &str, value: &str, append: Option<bool>) -> HeaderValueOption {
    let header = HeaderValue { key: key.into(), value: value.into(), ..Default::default() };
    HeaderValueOption { header: Some(header), append, ..Default::default() }
}

fn passes(ok: auth::OkHttpResponse) -> auth::CheckResponse {
    let response = auth::check_response::HttpResponse::OkResponse(Box::new(ok));
    auth::CheckResponse { http_response: Some(response), ..Default::default() }
}

fn asked(t: &FilterTest) -> auth::AttributeContext {
    let call = t.calls().seen().pop().expect("a call");
    assert_eq!(
        (&*call.cluster, call.headers.get_str(":path")),
        ("authz", Some("/envoy.service.auth.v3.Authorization/Check"))
    );
    *call.message::<auth::CheckRequest>().attributes.expect("attributes")
}

#[test]
fn who_may_pass_does_with_changes() {
    let t = test("stat_prefix: waf");
    let set = |key: &str, value: &str| QueryParameter { key: key.into(), value: value.into() };
    t.calls().answer_message(&passes(auth::OkHttpResponse {
        headers: vec![
            option("x-set", "new", None),
            option("x-more", "2", Some(true)),
            option("x-none", "2", Some(true)),
        ],
        headers_to_remove: vec!["x-gone".into(), ":path".into(), "Host".into()],
        response_headers_to_add: vec![
            option("x-answer", "1", Some(true)),
            option("x-up", "ours", Some(false)),
        ],
        query_parameters_to_set: vec![set("b", "2")],
        query_parameters_to_remove: vec!["c".into()],
        ..Default::default()
    }));
    t.replies(Reply::new(200).header("x-up", "theirs"));
    let request =
        t.request("GET /p?c=1&a=1").header("x-set", "old").header("x-more", "1").header("x-gone", "1");
    let seen = request.send();
    let up = seen.upstream();
    let h = |n: &str| up.header(n);
    assert_eq!((h("x-set").as_deref(), h("x-more").as_deref()), (Some("new"), Some("1,2")));
    assert_eq!((h("x-none"), h("x-gone"), &*up.path()), (None, None, "/p?a=1&b=2"));
    assert_eq!(
        (seen.header("x-answer").as_deref(), seen.header("x-up").as_deref()),
        (Some("1"), Some("ours"))
    );
    assert_eq!((seen.status, t.stat("http.test.ext_authz.waf.ok")), (200, 1));
    let http = asked(&t).request.and_then(|r| r.http).expect("of a request");
    assert_eq!((&*http.method, &*http.path, &*http.host), ("GET", "/p?c=1&a=1", "test.example"));
    assert_eq!(http.headers.get("x-set").map(String::as_str), Some("old"));
    assert_eq!(http.headers.get(":authority").map(String::as_str), Some("test.example"));
}

#[test]
fn who_may_not_is_answered() {
    let t = test("max_denied_response_body_bytes: 3");
    let denied = auth::DeniedHttpResponse {
        status: Some(HttpStatus { code: 401 }),
        headers: vec![option("www-authenticate", "Basic", None)],
        body: "go away".into(),
    };
    let response = auth::check_response::HttpResponse::DeniedResponse(denied);
    let status = Some(Status { code: 7, ..Default::default() });
    t.calls().answer_message(&auth::CheckResponse {
        status: status.clone(),
        http_response: Some(response),
        ..Default::default()
    });
    let seen = t.request("GET /").send();
    assert!(seen.upstream.is_none());
    assert_eq!((seen.status, &*seen.body, &*seen.flags), (401, "go ", "UAEX"));
    assert_eq!(
        (&*seen.details, seen.header("www-authenticate").as_deref()),
        ("ext_authz_denied", Some("Basic"))
    );
    t.calls().answer_message(&auth::CheckResponse { status, ..Default::default() });
    assert_eq!(t.request("GET /").send().status, 403);
    assert_eq!(t.stat("http.test.ext_authz.denied"), 2);
}

#[test]
fn a_service_that_fails_refuses_or_not() {
    let seen = test("").request("GET /").send();
    assert_eq!(
        (seen.status, &*seen.body, &*seen.flags, &*seen.details),
        (403, "", "UAEX", "ext_authz_error")
    );
    let seen = test("status_on_error: {code: ServiceUnavailable}").request("GET /").send();
    assert_eq!(seen.status, 503);
    let t = test("failure_mode_allow: true, failure_mode_allow_header_add: true");
    t.calls().answer(Reply::new(503));
    let seen = t.request("GET /").send();
    assert_eq!(seen.upstream().header("x-envoy-auth-failure-mode-allowed").as_deref(), Some("true"));
    let stats = ["error", "failure_mode_allowed", "ok"].map(|s| t.stat(&format!("http.test.ext_authz.{s}")));
    assert_eq!(stats, [1, 1, 0]);
}

#[test]
fn the_service_sees_the_body_or_its_beginning() {
    let ask = |fields: &str, pieces: &[&str]| {
        let t = test(&format!("with_request_body: {{{fields}}}"));
        t.calls().answer_message(&auth::CheckResponse::default());
        let seen = pieces.iter().fold(t.request("POST /"), |r, p| r.body(p)).trailer("x-t", "1").send();
        let http =
            t.calls().seen().first().map(|_| *asked(&t).request.and_then(|r| r.http).expect("of a request"));
        (seen, http)
    };
    let (seen, http) = ask("max_request_bytes: 5", &["012", "34"]);
    let http = http.expect("it asked");
    assert_eq!((&*http.body, &*seen.upstream().body), ("01234", "01234"));
    assert_eq!(http.headers.get("x-envoy-auth-partial-body").map(String::as_str), Some("false"));
    assert_eq!(seen.upstream().trailer("x-t").as_deref(), Some("1"));
    let (seen, http) =
        ask("max_request_bytes: 5, allow_partial_message: true, pack_as_bytes: true", &["012", "345", "67"]);
    let http = http.expect("it asked");
    assert_eq!((&http.raw_body[..], &*http.body, &*seen.upstream().body), (&b"01234"[..], "", "01234567"));
    assert_eq!(http.headers.get("x-envoy-auth-partial-body").map(String::as_str), Some("true"));
    let (seen, http) = ask("max_request_bytes: 5", &["012", "345"]);
    assert_eq!((seen.status, &*seen.body, http.is_none()), (413, "Payload Too Large", true));
}

#[test]
fn routes_say_more_or_switch_it_off() {
    let per = |s: &str| {
        format!(
            "typed_per_filter_config: {{envoy.filters.http.ext_authz: {{'@type': \
             type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, {s}}}}}"
        )
    };
    let t = test("allowed_headers: {patterns: [{exact: x-a}, {prefix: ':'}]}, disallowed_headers: {patterns: [{exact: ':path'}]}")
        .route_config(&format!(
            "virtual_hosts: [{{name: v, domains: ['*'], {}, routes: [{{match: {{prefix: /off}}, route: {{cluster: c}}, {}}}, \
             {{match: {{prefix: /}}, route: {{cluster: c}}, {}}}]}}]",
            per("check_settings: {context_extensions: {a: host, b: host}}"),
            per("disabled: true"),
            per("check_settings: {context_extensions: {a: route}}")
        ))
        .clusters(&["c"]);
    assert_eq!(t.request("GET /off").send().status, 200);
    assert!(t.calls().seen().is_empty());
    t.calls().answer_message(&auth::CheckResponse::default());
    assert_eq!(t.request("GET /").header("x-a", "1").header("x-b", "1").send().status, 200);
    let a = asked(&t);
    let extensions: Vec<_> = a.context_extensions.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(extensions, [("a", "route"), ("b", "host")]);
    let http = a.request.and_then(|r| r.http).expect("of a request");
    let names: Vec<_> = http.headers.keys().map(String::as_str).collect();
    assert_eq!(names, [":authority", ":method", ":scheme", "x-a"]);
    assert_eq!((t.stat("http.test.ext_authz.ok"), t.stat("cluster.c.ext_authz.ok")), (1, 1));
}

#[test]
fn what_is_not_built_is_refused() {
    let t = test("validate_mutations: true");
    assert!(t.refusal().contains("not implemented yet"), "{}", t.refusal());
}

/// A service over HTTP.
fn over_http(service: &str, fields: &str) -> FilterTest {
    filters(&format!(
        "- {{name: envoy.filters.http.ext_authz, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, transport_api_version: V3, \
         http_service: {{server_uri: {{uri: 'http://a', cluster: authz, timeout: 0.5s}}, {service}}}, {fields}}}}}"
    ))
}

#[test]
fn a_service_over_http_lets_pass_with_some_headers() {
    let t = over_http(
        "path_prefix: /check, authorization_request: {allowed_headers: {patterns: [{exact: x-ask}]}, \
         headers_to_add: [{key: x-own, value: '1'}]}, authorization_response: {allowed_upstream_headers: \
         {patterns: [{prefix: x-up}]}, allowed_upstream_headers_to_append: {patterns: [{exact: x-more}]}, \
         allowed_client_headers_on_success: {patterns: [{exact: x-client}]}, \
         dynamic_metadata_from_headers: {patterns: [{exact: x-meta}]}}",
        "with_request_body: {max_request_bytes: 10}",
    );
    let answer = Reply::new(200).header("x-up-a", "new").header("x-more", "2").header("x-client", "c");
    t.calls().answer(answer.header("x-other", "1").header("x-envoy-auth-headers-to-remove", "x-gone, x-ask"));
    let request = t.request("POST /p?q=1").header("x-ask", "a").header("x-secret", "s").header("x-gone", "g");
    let request = request.header("x-more", "1").header("x-up-a", "old").header("authorization", "me");
    let seen = request.body("abc").send();
    let up = seen.upstream();
    let h = |n: &str| up.header(n).unwrap_or_default();
    assert_eq!((&*h("x-up-a"), &*h("x-gone"), &*h("x-ask"), &*h("x-other")), ("new", "", "", ""));
    assert_eq!(up.headers.iter().filter(|h| h.name == b"x-more").count(), 2);
    assert_eq!((seen.header("x-client").as_deref(), t.stat("http.test.ext_authz.ok")), (Some("c"), 1));
    let call = t.calls().seen().pop().expect("a call");
    let asked = |n: &str| call.headers.get_str(n);
    assert_eq!(
        (asked(":method"), asked(":path"), asked("authorization")),
        (Some("POST"), Some("/check/p?q=1"), Some("me"))
    );
    assert_eq!((asked("x-ask"), asked("x-secret"), asked("x-own")), (Some("a"), None, Some("1")));
    assert_eq!((asked("content-length"), &*call.body), (Some("3"), &b"abc"[..]));
}

#[test]
fn a_service_over_http_refuses_or_fails() {
    let t = over_http("authorization_response: {allowed_client_headers: {patterns: [{exact: x-why}]}}", "");
    let answer =
        Reply::new(401).header("x-why", "because").header("x-other", "1").header("location", "/login");
    t.calls().answer(answer.body("no"));
    let seen = t.request("GET /").send();
    assert_eq!(
        (seen.status, &*seen.body, &*seen.flags, &*seen.details),
        (401, "no", "UAEX", "ext_authz_denied")
    );
    let h = |n: &str| seen.header(n).unwrap_or_default();
    assert_eq!((&*h("x-why"), &*h("location"), &*h("x-other")), ("because", "/login", ""));
    t.calls().answer(Reply::new(503).body("broken"));
    let seen = t.request("GET /").send();
    assert_eq!((seen.status, &*seen.body, &*seen.details), (403, "", "ext_authz_error"));
    assert_eq!(["denied", "error"].map(|n| t.stat(&format!("http.test.ext_authz.{n}"))), [1, 1]);
    let refusal = over_http("path_prefix: check", "").refusal();
    assert_eq!(refusal, "path_prefix should start with \"/\".");
    let twice = over_http(
        "authorization_request: {allowed_headers: {patterns: [{exact: a}]}}",
        "allowed_headers: {patterns: [{exact: a}]}",
    );
    assert_eq!(twice.refusal(), "Invalid duplicate configuration for allowed_headers.");
}

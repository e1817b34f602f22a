use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Reply;

const FILTER: &str =
    "'@type': type.googleapis.com/envoy.extensions.filters.http.custom_response.v3.CustomResponse";
const POLICY: &str = "type.googleapis.com/envoy.extensions.http.custom_response";

/// A matcher of these statuses.
fn matcher(policies: &[(u16, String)]) -> String {
    let one = |(status, policy): &(u16, String)| {
        format!("'{status}': {{action: {{name: a, typed_config: {{{policy}}}}}}}")
    };
    let all: Vec<_> = policies.iter().map(one).collect();
    let input = "{name: i, typed_config: {'@type': type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput}}";
    format!(
        "custom_response_matcher: {{matcher_tree: {{input: {input}, exact_match_map: {{map: {{{}}}}}}}}}",
        all.join(", ")
    )
}

fn local(fields: &str) -> String {
    format!("'@type': {POLICY}.local_response_policy.v3.LocalResponsePolicy, {fields}")
}

fn redirect(fields: &str) -> String {
    format!("'@type': {POLICY}.redirect_policy.v3.RedirectPolicy, {fields}")
}

fn test(policies: &[(u16, String)]) -> FilterTest {
    filters(&format!("- {{name: c, typed_config: {{{FILTER}, {}}}}}", matcher(policies)))
}

#[test]
fn responses_of_its_own() {
    let format = "{json_format: {was: '%LOCAL_REPLY_BODY%', path: '%REQ(:path)%', code: '%RESPONSE_CODE%'}}";
    let t = test(&[
        (404, local(&format!("status_code: 499, body: {{inline_string: gone}}, body_format: {format}"))),
        (
            418,
            local(
                "response_code_details: tea, response_headers_to_add: [{header: {key: x-a, value: '%RESP(x-up)%'}}]",
            ),
        ),
        (429, local("preserve_response_code_details: true, body: {inline_string: later}")),
    ]);
    t.replies(Reply::new(404).header("x-up", "1").body("theirs"));
    let seen = t.request("GET /p").send();
    assert_eq!((seen.status, &*seen.body), (499, "{\"code\":404,\"path\":\"/p\",\"was\":\"gone\"}\n"));
    assert_eq!((seen.header("x-up"), &*seen.details), (None, ""));
    assert!(seen.sx.info.empty_details.get());
    t.replies(Reply::new(418).header("x-up", "1").body("theirs"));
    let seen = t.request("GET /p").send();
    assert_eq!((seen.status, &*seen.body, &*seen.details), (418, "", "tea"));
    assert_eq!(seen.header("x-a").as_deref(), Some("1"));
    t.replies(Reply::new(429));
    let seen = t.request("GET /p").send();
    assert_eq!((seen.status, &*seen.body, &*seen.details), (429, "later", "via_upstream"));
    t.replies(Reply::new(200).body("theirs"));
    assert_eq!(t.request("GET /p").send().body, "theirs");
}

#[test]
fn the_most_specific_level_that_matches() {
    let level = |policies: &[(u16, String)]| {
        format!("typed_per_filter_config: {{c: {{{FILTER}, {}}}}}", matcher(policies))
    };
    let body = |text: &str| local(&format!("body: {{inline_string: {text}}}"));
    let host = level(&[(404, body("host")), (500, body("host"))]);
    let route = level(&[(404, body("route"))]);
    let t = test(&[(404, body("filter")), (500, body("filter")), (503, body("filter"))]).route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], {host}, routes: [{{match: {{prefix: /}}, route: {{cluster: c}}, {route}}}]}}]"
    ));
    let of = |status: u16| {
        t.replies(Reply::new(status));
        t.request("GET /").send().body
    };
    assert_eq!([of(404), of(500), of(503), of(200)], ["route", "host", "filter", ""]);
}

#[test]
fn redirects_that_lead_nowhere() {
    let t = test(&[(500, redirect("uri: 'http://nowhere/x', request_headers_to_add: [{header: {key: x-a, value: b}}]"))])
        .route_config("virtual_hosts: [{name: v, domains: ['test.example'], routes: [{match: {prefix: /}, route: {cluster: c}}]}]");
    t.replies(Reply::new(500).body("theirs"));
    let seen = t.request("GET /p").send();
    assert_eq!((seen.status, &*seen.body), (500, "theirs"));
    assert_eq!(t.stat("custom_response_redirect_no_route"), 0, "the request was not read to its end");
}

#[test]
fn refusals() {
    let refusal = |policy: String| test(&[(500, policy)]).refusal();
    assert_eq!(
        refusal(redirect("uri: nonsense")),
        "Invalid uri specified for redirection for custom response: nonsense"
    );
    assert!(refusal("'@type': type.googleapis.com/google.protobuf.Struct".into()).starts_with("Didn't find"));
}

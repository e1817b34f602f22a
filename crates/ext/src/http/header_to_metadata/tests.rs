use crate::testing::filters;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::{Reply, Seen};
use prost_types::value::Kind;

const TYPE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config";

fn test(config: &str) -> FilterTest {
    filters(&format!("- {{name: h, typed_config: {{{TYPE}, {config}}}}}"))
}

fn value(seen: &Seen, namespace: &str, key: &str) -> Option<Kind> {
    let m = seen.sx.info.metadata.borrow();
    m.as_ref()?.get(namespace, [key])?.kind.clone()
}

fn text(s: &str) -> Option<Kind> {
    Some(Kind::StringValue(s.into()))
}

#[test]
fn headers_that_are_there_and_that_are_missing() {
    let t = test(
        "stat_prefix: s, request_rules: [
           {header: X-A, on_header_present: {metadata_namespace: ns, key: a}, remove: true},
           {header: x-b, on_header_present: {key: b, value: fixed}},
           {header: x-c, on_header_missing: {key: c, value: none}},
           {header: x-d, on_header_present: {key: d}}]",
    );
    let seen = t.request("GET /").header("x-a", "1").header("x-a", "2").header("x-b", "3").send();
    assert_eq!(value(&seen, "ns", "a"), text("1,2"));
    let own = "envoy.filters.http.header_to_metadata";
    assert_eq!((value(&seen, own, "b"), value(&seen, own, "c")), (text("fixed"), text("none")));
    assert_eq!(value(&seen, own, "d"), None);
    assert_eq!((seen.upstream().header("x-a"), seen.upstream().header("x-b").is_some()), (None, true));
    let stat = |n: &str| t.stat(&format!("http_filter_name.s.{n}"));
    assert_eq!((stat("request_rules_processed"), stat("request_metadata_added")), (4, 3));
    assert_eq!(stat("request_header_not_found"), 1);
}

#[test]
fn cookies() {
    let t = test(
        "request_rules: [{cookie: id, on_header_present: {metadata_namespace: nn, key: k}, on_header_missing: {metadata_namespace: nn, key: k, value: none}}]",
    );
    let found = |cookie: &str| value(&t.request("GET /").header("cookie", cookie).send(), "nn", "k");
    assert_eq!(found("a=b; id=\"x=y\"; c"), text("x=y"));
    assert_eq!((found("a=b"), found("id="), found("xid=1")), (text("none"), text("none"), text("none")));
}

#[test]
fn kinds_encodings_and_rewrites() {
    let one = |target: &str, header: &str| {
        let t = test(&format!(
            "stat_prefix: s, request_rules: [{{header: x, on_header_present: {{metadata_namespace: nn, key: k, {target}}}}}]"
        ));
        let found = value(&t.request("GET /").header("x", header).send(), "nn", "k");
        let stat = |n: &str| t.stat(&format!("http_filter_name.s.{n}"));
        let failed = ["base64_decode_failed", "header_value_too_long", "regex_substitution_failed"].map(stat);
        (found, failed)
    };
    assert_eq!(one("type: NUMBER", " 1.5").0, Some(Kind::NumberValue(1.5)));
    assert_eq!(one("type: NUMBER", "x"), (None, [0, 0, 0]));
    assert_eq!(one("encode: BASE64", "YWI").0, text("ab"));
    assert_eq!(one("encode: BASE64", "!"), (None, [1, 0, 0]));
    // A serialized Value with string_value "hi".
    assert_eq!(one("encode: BASE64, type: PROTOBUF_VALUE", "GgJoaQ==").0, text("hi"));
    assert_eq!(one("encode: BASE64, type: PROTOBUF_VALUE", "Gglo"), (None, [0, 0, 0]));
    assert_eq!(one("", &"v".repeat(8192)), (None, [0, 1, 0]));
    assert!(one("", &"v".repeat(8191)).0.is_some());
    let rewrite = "regex_value_rewrite: {pattern: {regex: '^/(v[0-9]+)/.*$'}, substitution: '\\1'}";
    assert_eq!(one(rewrite, "/v2/x").0, text("v2"));
    let nothing = "regex_value_rewrite: {pattern: {regex: '.*'}, substitution: ''}";
    assert_eq!(one(nothing, "abc"), (None, [0, 0, 1]));
    assert_eq!(one("", ""), (None, [0, 0, 0]));
}

#[test]
fn responses_and_routes() {
    let rules = |key: &str| {
        format!(
            "response_rules: [{{header: x-up, on_header_present: {{metadata_namespace: nn, key: {key}}}}}]"
        )
    };
    let t = test(&rules("filter")).route_config(&format!(
        "virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /r}}, route: {{cluster: c}}, typed_per_filter_config: {{h: {{{TYPE}, {}}}}}}}, {{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]",
        rules("route")
    ));
    t.replies(Reply::new(200).header("x-up", "u"));
    let seen = t.request("GET /").send();
    assert_eq!((value(&seen, "nn", "filter"), value(&seen, "nn", "route")), (text("u"), None));
    let seen = t.request("GET /r").send();
    assert_eq!((value(&seen, "nn", "filter"), value(&seen, "nn", "route")), (None, text("u")));
}

#[test]
fn refusals() {
    let refusal = |rule: &str| test(&format!("request_rules: [{{{rule}}}]")).refusal();
    assert_eq!(refusal("header: a, cookie: b"), "Cannot specify both header and cookie in the same rule");
    assert_eq!(refusal("remove: true"), "One of Cookie or Header option needs to be specified");
    assert_eq!(
        refusal("header: A"),
        "header to metadata filter: rule for header 'a' has neither `on_header_present` nor `on_header_missing` set"
    );
    let present = "on_header_present: {key: k, value: v, regex_value_rewrite: {pattern: {regex: a}}}";
    assert_eq!(
        refusal(&format!("header: a, {present}")),
        "Cannot specify both value and regex_value_rewrite"
    );
    assert_eq!(
        refusal("cookie: a, on_header_present: {key: k}, remove: true"),
        "Cannot specify remove for cookie"
    );
    assert_eq!(
        refusal("header: a, on_header_missing: {key: k}"),
        "Cannot specify on_header_missing rule with an empty value"
    );
    let t = test("stat_prefix: a").route_config(&format!("typed_per_filter_config: {{h: {{{TYPE}}}}}"));
    assert_eq!(
        t.refusal(),
        "header_to_metadata_filter: Per filter configs must at least specify either request or response rules"
    );
}

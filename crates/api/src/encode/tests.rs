use super::scalar::base64;
use super::well_known::{parse_duration, parse_timestamp};
use super::*;
use crate::json::to_json;
use crate::tree::{parse_json, parse_yaml};

/// The message as JSON, or the reason of the first error.
fn yaml(message: &str, text: &str) -> String {
    let tree = parse_yaml(text).expect("a document");
    let (bytes, errors) = encode(schema(message), tree.root());
    match errors.first() {
        None => to_json(message, &bytes).map(|value| value.to_string()).unwrap_or_default(),
        Some(error) => reason(&error.phrase),
    }
}

fn schema(message: &str) -> &'static Message {
    crate::schema::message(message).expect(message)
}

/// What follows the place.
fn reason(phrase: &str) -> String {
    let phrase = phrase.split_once("near ").map_or(phrase, |(_, rest)| rest);
    phrase.split_once(": ").map_or(phrase, |(_, reason)| reason).trim_end_matches(')').to_string()
}

#[test]
fn numbers_take_every_form_of_the_legacy_parser() {
    let port = |value: &str| yaml("envoy.config.core.v3.SocketAddress", &format!("port_value: {value}"));
    for (value, want) in [
        ("8080", "8080"),
        ("'8080'", "8080"),
        ("'+80'", "80"),
        ("8080.0", "8080"),
        ("8e3", "8000"),
        ("0x10", "16"),
        ("4294967295", "4294967295"),
    ] {
        assert_eq!(port(value), format!("{{\"port_value\":{want}}}"), "{value}");
    }
    for (value, want) in [
        ("80.5", "expected integer, but JSON number had fractional part"),
        ("-1", "JSON number out of range for int"),
        ("4294967296", "integer out of range"),
        ("' 80'", "non-number characters in quoted number"),
        ("0o10", "invalid number: '0o10'"),
        ("inf", "invalid number: 'inf'"),
        ("true", "expected number or string"),
        ("[80, 81]", "expected number or string"),
    ] {
        assert_eq!(port(value), want, "{value}");
    }
    let percent = |value: &str| yaml("envoy.type.v3.Percent", &format!("value: {value}"));
    assert_eq!(percent("12.5"), "{\"value\":12.5}");
    assert_eq!(percent("NaN"), "{\"value\":\"NaN\"}");
    assert_eq!(percent("-Infinity"), "{\"value\":\"-Infinity\"}");
    assert_eq!(percent(".inf"), "non-number characters in quoted number");
}

#[test]
fn json_numbers_keep_their_digits() {
    let message = "envoy.config.endpoint.v3.UpstreamEndpointStats";
    let tree = parse_json(
        r#"{"totalIssuedRequests": 9007199254740993, "total_error_requests": "18446744073709551615"}"#,
    );
    let tree = tree.expect("a document");
    let (bytes, errors) = encode(schema(message), tree.root());
    assert!(errors.is_empty(), "{errors:?}");
    let value = to_json(message, &bytes).expect("JSON");
    assert_eq!(value["total_issued_requests"], "9007199254740993");
    assert_eq!(value["total_error_requests"], "18446744073709551615");
}

#[test]
fn lists_take_a_lone_value_null_and_nested_lists() {
    let host = |value: &str| yaml("envoy.config.route.v3.VirtualHost", &format!("domains: {value}"));
    assert_eq!(host("a"), "{\"domains\":[\"a\"]}");
    assert_eq!(host("[a, null, b]"), "{\"domains\":[\"a\",\"\",\"b\"]}");
    assert_eq!(host("[a, [b, [c]], d]"), "{\"domains\":[\"a\",\"b\",\"c\",\"d\"]}");
    assert_eq!(host("null"), "{}");
    assert_eq!(host("[]"), "{}");
    assert_eq!(host("{a: b}"), "unexpected character: '{'; expected '\"'");
    let codes =
        |value: &str| yaml("envoy.config.route.v3.RetryPolicy", &format!("retriable_status_codes: {value}"));
    assert_eq!(codes("[503, '504', [500]]"), "{\"retriable_status_codes\":[503,504,500]}");
    assert_eq!(codes("503"), "{\"retriable_status_codes\":[503]}");
    assert_eq!(codes("[]"), "{}");
    assert_eq!(codes("[x]"), "invalid number: 'x'");
}

#[test]
fn a_key_given_twice_counts_once_and_both_spellings_merge() {
    let cluster = |text: &str| yaml("envoy.config.cluster.v3.Cluster", text);
    assert_eq!(cluster("name: a\nname: b"), "{\"name\":\"b\"}");
    let twice = "load_assignment: {cluster_name: a}\nload_assignment: {policy: {}}";
    assert_eq!(cluster(twice), "{\"load_assignment\":{\"policy\":{}}}");
    let spellings = "load_assignment: {cluster_name: a}\nloadAssignment: {policy: {}}";
    assert_eq!(cluster(spellings), "{\"load_assignment\":{\"cluster_name\":\"a\",\"policy\":{}}}");
    let route = |text: &str| yaml("envoy.config.route.v3.RouteMatch", text);
    assert_eq!(route("prefix: a\nprefix: b"), "{\"prefix\":\"b\"}");
    assert!(route("prefix: a\npath: b").starts_with("'path' has already been set"));
    assert_eq!(route("prefix: a\npath: null"), "{\"prefix\":\"a\"}");
}

#[test]
fn structs_hold_any_json() {
    let node = |value: &str| yaml("envoy.config.core.v3.Node", &format!("metadata: {value}"));
    assert_eq!(
        node("{a: 1, b: [x, null, {c: 1.5}], d: yes, e: null}"),
        "{\"metadata\":{\"a\":1,\"b\":[\"x\",null,{\"c\":\"1.5\"}],\"d\":true,\"e\":null}}"
    );
    assert_eq!(node("5"), "unexpected character: '5'; expected '{'");
}

#[test]
fn typed_structs_become_what_they_stand_for() {
    let any = |text: &str| yaml("google.protobuf.Any", text);
    let inner = "envoy.extensions.filters.http.router.v3.Router";
    for outer in ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"] {
        let text = format!("'@type': t/{outer}\ntype_url: t/{inner}\nvalue: {{start_child_span: true}}");
        assert_eq!(any(&text), format!("{{\"@type\":\"t/{inner}\",\"start_child_span\":true}}"));
        let text = format!("'@type': t/{outer}\ntype_url: t/{inner}");
        assert_eq!(any(&text), format!("{{\"@type\":\"t/{inner}\"}}"));
        // Who makes the extension knows whether there is one.
        let text = format!("'@type': t/{outer}\ntypeUrl: t/stats.PluginConfig\nvalue: {{a: 1}}");
        let want = format!(
            "{{\"@type\":\"t/{outer}\",\"type_url\":\"t/stats.PluginConfig\",\"value\":{{\"a\":1}}}}"
        );
        assert_eq!(any(&text), want);
    }
    let text = format!("'@type': t/xds.type.v3.TypedStruct\ntype_url: t/{inner}\nvalue: {{bogus: 1}}");
    assert_eq!(any(&text), "no such field: 'bogus') has unknown fields");
}

#[test]
fn well_known_types_in_an_any_stand_under_value() {
    let any = |text: &str| yaml("google.protobuf.Any", text);
    assert_eq!(
        any("'@type': t/google.protobuf.Duration\nvalue: 1.5s"),
        "{\"@type\":\"t/google.protobuf.Duration\",\"value\":\"1.500s\"}"
    );
    assert_eq!(
        any("'@type': t/google.protobuf.Struct\nvalue: {a: b}"),
        "{\"@type\":\"t/google.protobuf.Struct\",\"value\":{\"a\":\"b\"}}"
    );
    assert_eq!(
        any("'@type': t/google.protobuf.Duration\nx: 1"),
        "fields in a well-known-typed Any must be @type or value"
    );
    assert_eq!(any("{}"), "{}");
    assert_eq!(any("[]"), "unexpected character: '['; expected '{'");
}

#[test]
fn durations_and_times() {
    assert_eq!(parse_duration("0.25s"), Ok((0, 250_000_000)));
    assert_eq!(parse_duration("-0.5s"), Ok((0, -500_000_000)));
    assert_eq!(parse_duration("315576000000s"), Ok((315_576_000_000, 0)));
    for (text, reason) in [
        ("", "duration must start with an integer"),
        (".5s", "duration must start with an integer"),
        ("1--s", "duration had bad seconds"),
        ("315576000001s", "duration out of range"),
        ("1.s", "duration had bad nanoseconds"),
        ("1.0123456789s", "duration had bad nanoseconds"),
        ("1ms", "duration must end with a single 's'"),
        ("1ss", "duration must end with a single 's'"),
    ] {
        assert_eq!(parse_duration(text), Err(reason), "{text}");
    }
    assert_eq!(parse_timestamp("1970-01-01T00:00:00Z"), Ok((0, 0)));
    assert_eq!(parse_timestamp("2000-02-29T12:00:00.5+02:00"), Ok((951_818_400, 500_000_000)));
    assert_eq!(parse_timestamp("0001-01-01T00:00:00Z"), Ok((-62_135_596_800, 0)));
    assert_eq!(parse_timestamp("9999-12-31T23:59:59.999999999Z"), Ok((253_402_300_799, 999_999_999)));
    for (text, reason) in [
        ("2000-01-01", "timestamp string too short"),
        ("0000-01-01T00:00:00Z", "bad year in timestamp"),
        ("2000-13-01T00:00:00Z", "bad month in timestamp"),
        ("2000-01-01 00:00:00Z", "bad day in timestamp"),
        ("2000-01-01T00:00:00.1", "timestamp missing timezone offset"),
        ("2000-01-01T00:00:00z", "bad timezone offset"),
        ("2000-01-01T00:00:00+1", "timestamp offset of wrong size."),
        ("2000-01-é1T00:00:00Z", "bad day in timestamp"),
    ] {
        assert_eq!(parse_timestamp(text), Err(reason), "{text}");
    }
}

#[test]
fn base64_in_both_alphabets() {
    assert_eq!(base64(""), Some(vec![]));
    assert_eq!(base64("Zm9vYg=="), Some(b"foob".to_vec()));
    assert_eq!(base64("Zm9vYg"), Some(b"foob".to_vec()));
    assert_eq!(base64("-_+/"), Some(vec![0xfb, 0xff, 0xbf]));
    for text in ["Z", "Zm9vY", "Zm9v Yg", "=", "Zm9vYg=", "Zm9=vYg=", "é"] {
        assert_eq!(base64(text), None, "{text}");
    }
}

#[test]
fn depth_counts_aliases_too() {
    // Each level is an alias to the one before: shallow to read, deep to encode.
    let mut text = "a0: &a0 {struct: {}}\n".to_string();
    for level in 1..=60 {
        text.push_str(&format!("a{level}: &a{level} {{x: {{y: *a{}}}}}\n", level - 1));
    }
    let node = format!("templates: {{}}\n{text}metadata: *a60\n");
    let tree = parse_yaml(&node).expect("a document");
    let (_, errors) = encode(schema("envoy.config.core.v3.Node"), tree.root());
    assert!(errors.iter().any(|error| error.phrase.contains("too deeply nested")), "{errors:?}");
    assert!(errors.len() <= MAX_ERRORS);
}

#[test]
fn errors_are_bounded() {
    let text: String = (0..1_000).map(|number| format!("x{number}: 1\n")).collect();
    let tree = parse_yaml(&text).expect("a document");
    let (_, errors) = encode(schema("envoy.config.core.v3.Node"), tree.root());
    assert_eq!(errors.len(), MAX_ERRORS);
}

#[test]
fn a_key_of_a_map_comes_once_in_json_and_the_last_counts_in_yaml() {
    let text = "{\"metadata\": {\"a\": 1, \"a\": 2}}";
    let tree = parse_json(text).expect("a document");
    let (_, errors) = encode(schema("envoy.config.core.v3.Node"), tree.root());
    assert_eq!(reason(&errors[0].phrase), "got unexpectedly-repeated repeated map key: 'a'");
    assert_eq!(yaml("envoy.config.core.v3.Node", text), "{\"metadata\":{\"a\":2}}");
}

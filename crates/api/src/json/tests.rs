use super::*;
use crate::encode::encode;
use crate::envoy::config::core::v3::{HeaderValue, Node};
use crate::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
use crate::tree::parse_yaml;

fn wire(message: &str, text: &str) -> Vec<u8> {
    let tree = parse_yaml(text).expect("a document");
    let (bytes, errors) = encode(schema::message(message).expect(message), tree.root());
    assert!(errors.is_empty(), "{errors:?}");
    bytes
}

fn print(message: &str, text: &str, options: JsonOptions) -> String {
    let mut out = String::new();
    let schema = schema::message(message).expect(message);
    write_json(&mut out, schema, &wire(message, text), options).expect("a String takes everything");
    out
}

#[test]
fn fields_come_by_number_in_envoys_layout() {
    let pretty = JsonOptions { pretty: true, ..JsonOptions::default() };
    let text = "locality: {region: r}\nclient_features: [a, b]\ncluster: c\nid: x\nmetadata: {}\n";
    assert_eq!(
        print("envoy.config.core.v3.Node", text, pretty),
        "{\n \"id\": \"x\",\n \"cluster\": \"c\",\n \"metadata\": {},\n \"locality\": {\n  \"region\": \"r\"\n },\n \
         \"client_features\": [\n  \"a\",\n  \"b\"\n ]\n}\n"
    );
    assert_eq!(print("envoy.config.core.v3.Node", "{}", pretty), "{}\n");
}

#[test]
fn defaults_are_printed_on_demand() {
    let options = JsonOptions { defaults: true, ..JsonOptions::default() };
    assert_eq!(
        print("envoy.config.core.v3.SocketAddress", "port_value: 1", options),
        "{\"protocol\":\"TCP\",\"address\":\"\",\"port_value\":1,\"resolver_name\":\"\",\"ipv4_compat\":false,\
         \"network_namespace_filepath\":\"\"}"
    );
    let node = print("envoy.config.core.v3.Node", "id: x", options);
    assert!(node.contains("\"dynamic_parameters\":{}") && node.contains("\"extensions\":[]"), "{node}");
}

#[test]
fn numbers_times_and_bytes() {
    let double = |value: f64| {
        let mut out = String::new();
        write_double(&mut out, value).expect("a String takes everything");
        out
    };
    for (value, want) in [
        (0.0, "0"),
        (-0.5, "-0.5"),
        (100.0, "100"),
        (0.1, "0.1"),
        (1.0 / 3.0, "0.3333333333333333"),
        (123_456_789_012_345.0, "123456789012345"),
        (1e15, "1e+15"),
        (1e22, "1e+22"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.5e-7, "1.5e-07"),
        (1e300, "1e+300"),
        (f64::NAN, "\"NaN\""),
        (f64::NEG_INFINITY, "\"-Infinity\""),
    ] {
        assert_eq!(double(value), want);
    }
    let any = |text: &str| {
        to_json("google.protobuf.Any", &wire("google.protobuf.Any", text)).expect("JSON")["value"].clone()
    };
    for (text, want) in [
        ("Duration\nvalue: 0.25s", "0.250s"),
        ("Duration\nvalue: -0.000001s", "-0.000001s"),
        ("Duration\nvalue: 1.000000001s", "1.000000001s"),
        ("Timestamp\nvalue: '2000-02-29T12:00:00.5+02:00'", "2000-02-29T10:00:00.500Z"),
        ("Timestamp\nvalue: '0001-01-01T00:00:00Z'", "0001-01-01T00:00:00Z"),
        ("BytesValue\nvalue: '-_8'", "+/8="),
        ("UInt64Value\nvalue: '18446744073709551615'", "18446744073709551615"),
        ("FieldMask\nvalue: fooBar,baz.quxQuux", "fooBar,baz.quxQuux"),
    ] {
        assert_eq!(any(&format!("'@type': t/google.protobuf.{text}")), want, "{text}");
    }
}

#[test]
fn texts_are_escaped_as_protobuf_does() {
    let mut out = String::new();
    write_quoted(&mut out, "a\"\\\n\t\r\u{8}\u{c}\u{1}<b>é😀\u{2028}\u{e0001}/")
        .expect("a String takes everything");
    assert_eq!(out, r#""a\"\\\n\t\r\b\f\u0001\u003cb\u003eé😀\u2028\udb40\udc01/""#);
}

#[test]
fn an_any_of_an_unknown_type_is_kept() {
    let any = prost_types::Any { type_url: "t/no.such.Type".to_string(), value: vec![1, 2] };
    assert_eq!(json_of_any(&any, JsonOptions::default()), r#"{"@type":"t/no.such.Type","value":"AQI="}"#);
    assert_eq!(json_of_any(&prost_types::Any::default(), JsonOptions::default()), "{}");
}

#[test]
fn secrets_are_redacted() {
    let text = "private_key: {inline_string: secret}\ncertificate_chain: {inline_string: public}\n\
                password: {inline_bytes: c2VjcmV0}\n";
    let message = "envoy.extensions.transport_sockets.tls.v3.TlsCertificate";
    let redacted = print(message, text, JsonOptions { redact: true, ..JsonOptions::default() });
    assert!(!redacted.contains("secret") && !redacted.contains("c2Vj"), "{redacted}");
    assert!(redacted.contains(r#""private_key":{"inline_string":"[redacted]"}"#), "{redacted}");
    assert!(redacted.contains(r#""password":{"inline_bytes":"W3JlZGFjdGVkXQ=="}"#), "{redacted}");
    assert!(redacted.contains("public"), "{redacted}");
    let whole = TlsCertificate::default();
    assert_eq!(json_of(&whole, JsonOptions::default()).as_deref(), Some("{}"));
}

#[test]
fn pieces_of_a_message_are_merged_and_the_last_value_counts() {
    use prost::Message;
    let mut bytes = Node { id: "a".to_string(), ..Node::default() }.encode_to_vec();
    bytes.extend(Node { id: "b".to_string(), ..Node::default() }.encode_to_vec());
    assert_eq!(to_json("envoy.config.core.v3.Node", &bytes).expect("JSON").to_string(), r#"{"id":"b"}"#);
    let option = |key: &str, value: &str| {
        let header = HeaderValue { key: key.to_string(), value: value.to_string(), ..HeaderValue::default() };
        crate::envoy::config::core::v3::HeaderValueOption { header: Some(header), ..Default::default() }
            .encode_to_vec()
    };
    let bytes = [option("k", ""), option("", "v")].concat();
    let json = to_json("envoy.config.core.v3.HeaderValueOption", &bytes).expect("JSON");
    assert_eq!(json.to_string(), r#"{"header":{"key":"k","value":"v"}}"#);
}

//! Messages in JSON, as `/config_dump` shows them: fields have the proto's names, `Any`s are expanded, secrets redacted.

use nuncio_api::json::{JsonOptions, json_of_any};
use serde_json::Value;

/// How the admin interface prints.
pub const OPTIONS: JsonOptions = JsonOptions { pretty: true, defaults: false, redact: true };

/// The message in an `Any`, with its `@type`.
pub fn any(a: &prost_types::Any) -> Value {
    let options = JsonOptions { pretty: false, ..OPTIONS };
    // The writer writes JSON; a message nested too deep for the reader is left out.
    serde_json::from_str(&json_of_any(a, options)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_api::load::{Format, UnknownFields, parse_message};
    use prost::Name;
    use serde_json::json;

    fn round_trip<M: prost::Message + Name + Default>(yaml: &str) -> Value {
        let m = parse_message::<M>(yaml.as_bytes(), Format::Yaml, "x", UnknownFields::Refuse)
            .expect("a valid message");
        let mut v = any(&prost_types::Any { type_url: M::type_url(), value: m.message.encode_to_vec() });
        v.as_object_mut().expect("an object").shift_remove("@type");
        v
    }

    #[test]
    fn a_cluster() {
        use nuncio_api::envoy::config::cluster::v3::Cluster;
        let yaml = "name: c\ntype: STRICT_DNS\nconnect_timeout: 0.25s\nlb_policy: LEAST_REQUEST\nrespect_dns_ttl: true\n\
                    per_connection_buffer_limit_bytes: 0\nmetadata: {filter_metadata: {b: {x: [1, a, null, {y: 7}]}, a: {}}}\n\
                    transport_socket: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}\n\
                    circuit_breakers: {thresholds: [{max_connections: 7}, {priority: HIGH}]}";
        let v = round_trip::<Cluster>(yaml);
        let expected = json!({
            "name": "c",
            "type": "STRICT_DNS",
            "connect_timeout": "0.250s",
            "per_connection_buffer_limit_bytes": 0,
            "lb_policy": "LEAST_REQUEST",
            "circuit_breakers": {"thresholds": [{"max_connections": 7}, {"priority": "HIGH"}]},
            "transport_socket": {"name": "t", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}},
            "metadata": {"filter_metadata": {"a": {}, "b": {"x": [1, "a", null, {"y": 7}]}}},
            "respect_dns_ttl": true,
        });
        assert_eq!(v, expected);
        let by_number = [
            "name",
            "type",
            "connect_timeout",
            "per_connection_buffer_limit_bytes",
            "lb_policy",
            "circuit_breakers",
        ];
        let keys: Vec<&String> =
            v.as_object().expect("an object").keys().filter(|k| by_number.contains(&k.as_str())).collect();
        // `type` is 2, `connect_timeout` 4, `per_connection_buffer_limit_bytes` 5, `lb_policy` 6, `circuit_breakers` 10.
        assert_eq!(keys, by_number);
    }

    #[test]
    fn secrets_are_redacted() {
        use nuncio_api::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
        let v = round_trip::<TlsCertificate>(
            "certificate_chain: {inline_string: public}\nprivate_key: {inline_string: secret}\npassword: {inline_bytes: c2VjcmV0}",
        );
        let expected = json!({
            "certificate_chain": {"inline_string": "public"},
            "private_key": {"inline_string": "[redacted]"},
            "password": {"inline_bytes": "W3JlZGFjdGVkXQ=="},
        });
        assert_eq!(v, expected);
    }
}

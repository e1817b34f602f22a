//! Damaged input: nothing may panic, and nothing may be accepted that does not decode.

use nuncio_api::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::json::{JsonOptions, write_json};
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_api::schema;
use nuncio_api::validate::validate;

/// A small generator with a fixed seed (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// One to four bytes changed, removed, doubled or inserted.
fn damage(source: &[u8], random: &mut Random, alphabet: &[u8]) -> Vec<u8> {
    let mut bytes = source.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let byte = alphabet[random.below(alphabet.len())];
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] = byte,
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.below(60)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.insert(at, byte),
        }
    }
    bytes
}

fn check(bytes: &[u8], format: Format) -> bool {
    match parse_message::<Bootstrap>(bytes, format, "damaged", UnknownFields::Refuse) {
        Ok(loaded) => {
            // What is accepted can be printed and read again.
            let schema = schema::message("envoy.config.bootstrap.v3.Bootstrap").expect("a message");
            let mut json = String::new();
            write_json(&mut json, schema, &loaded.wire, JsonOptions::default())
                .expect("a String takes everything");
            let again =
                parse_message::<Bootstrap>(json.as_bytes(), Format::Json, "json", UnknownFields::Refuse);
            assert!(again.is_ok(), "{json}: {again:?}");
            true
        }
        Err(errors) => {
            assert!(!errors.envoy_phrase().is_empty());
            assert!(!errors.to_string().is_empty());
            false
        }
    }
}

const BASE: &[u8] = include_bytes!("variants/base.yaml");

#[test]
fn damaged_yaml() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let accepted = (0..500).filter(|_| {
        let bytes = damage(BASE, &mut random, b"{}[]:,-&*!|>'\"%@`#? \t\n\r0x1eys\xc3\xa9");
        check(&bytes, Format::Yaml)
    });
    assert!(accepted.count() > 15);
}

#[test]
fn damaged_json_and_text() {
    let json = br#"{"node": {"id": "n", "metadata": {"a": [1, -2.5e3, null, true, "x\u00e9"]}}, "stats_flush_interval": "5s",
        "static_resources": {"clusters": [{"name": "c", "connect_timeout": "0.25s", "type": "STATIC"}]}}"#;
    let text = br#"node { id: "n" metadata { fields { key: "a" value { number_value: -1.5 } } } }
        stats_flush_interval { seconds: 5 } static_resources { clusters { name: 'c\x41' type: STATIC } }"#;
    let mut random = Random(0xfeed_beef_dead_cafe);
    let mut accepted = 0;
    for _ in 0..800 {
        accepted += usize::from(check(
            &damage(json, &mut random, b"{}[]:,\"\\u0e-+.tfn \xf0\x9f\x98\x80"),
            Format::Json,
        ));
        accepted += usize::from(check(
            &damage(text, &mut random, b"{}[]<>:,;\"'\\x0e-+.# \n\xf0\x9f\x98\x80"),
            Format::Text,
        ));
    }
    assert!(accepted > 30, "{accepted}");
}

#[test]
fn damaged_bytes() {
    let loaded =
        parse_message::<Bootstrap>(BASE, Format::Yaml, "base", UnknownFields::Refuse).expect("a bootstrap");
    let schema = schema::message("envoy.config.bootstrap.v3.Bootstrap").expect("a message");
    let all: Vec<u8> = (0..=255).collect();
    let mut random = Random(0x0bad_cafe_0bad_cafe);
    for _ in 0..1_500 {
        let bytes = damage(&loaded.wire, &mut random, &all);
        let _violations = validate(schema, &bytes);
        let mut json = String::new();
        let options = JsonOptions { pretty: true, defaults: true, redact: true };
        write_json(&mut json, schema, &bytes, options).expect("a String takes everything");
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
        let _loaded = parse_message::<Bootstrap>(&bytes, Format::Binary, "wire", UnknownFields::Refuse);
    }
}

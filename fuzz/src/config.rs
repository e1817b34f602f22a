//! Configuration: what is accepted can be printed and read again, what is refused says why.

use nuncio_api::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::json::{JsonOptions, write_json};
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_api::schema;

/// A bootstrap; the first byte chooses how it is written.
pub fn config(data: &[u8]) {
    let Some((&knobs, bytes)) = data.split_first() else { return };
    let format = match knobs & 3 {
        0 => Format::Yaml,
        1 => Format::Json,
        2 => Format::Text,
        _ => Format::Binary,
    };
    let unknown = if knobs & 4 == 0 { UnknownFields::Refuse } else { UnknownFields::Ignore };
    match parse_message::<Bootstrap>(bytes, format, "input", unknown) {
        Ok(loaded) => {
            let Some(schema) = schema::message("envoy.config.bootstrap.v3.Bootstrap") else { return };
            let mut json = String::new();
            write_json(&mut json, schema, &loaded.wire, JsonOptions::default())
                .expect("a String takes everything");
            let again = parse_message::<Bootstrap>(json.as_bytes(), Format::Json, "json", unknown);
            assert!(again.is_ok(), "{json}: {again:?}");
        }
        Err(errors) => {
            assert!(!errors.envoy_phrase().is_empty());
            assert!(!errors.to_string().is_empty());
        }
    }
}

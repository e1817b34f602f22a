//! `Http1ProtocolOptions.header_key_format`: in which case header names are written.

use nuncio_api::envoy::config::core::v3::http1_protocol_options::HeaderKeyFormat;
use nuncio_api::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;
use nuncio_api::envoy::extensions::http::header_formatters::preserve_case::v3 as pb;
use nuncio_api::extensions::unregistered;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_wire::h1::HeaderCase;
use prost::Name;

/// What is read of `HeaderKeyFormat` and the formatter it may name.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat",
        &["proper_case_words", "stateful_formatter"],
    ),
    Covered::new("envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords", &[]),
    Covered::new(
        "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        &["formatter_type_on_envoy_headers"],
    ),
];

/// Reads the format; lower case without one.
///
/// # Errors
/// The formatter is not known.
pub fn header_case(f: Option<&HeaderKeyFormat>) -> BuildResult<HeaderCase> {
    let formatter = match f.and_then(|f| f.header_format.as_ref()) {
        None => return Ok(HeaderCase::Lower),
        Some(HeaderFormat::ProperCaseWords(_)) => return Ok(HeaderCase::Proper),
        Some(HeaderFormat::StatefulFormatter(f)) => f,
    };
    let any = formatter.typed_config.clone().unwrap_or_default();
    let kind = any.type_url.rsplit('/').next().unwrap_or_default();
    if kind != pb::PreserveCaseFormatterConfig::full_name() {
        return Err(unregistered(&formatter.name, kind).into());
    }
    let c: pb::PreserveCaseFormatterConfig = crate::proto::unpack(&any)?;
    Ok(match c.formatter_type_on_envoy_headers() {
        pb::preserve_case_formatter_config::FormatterTypeOnEnvoyHeaders::Default => HeaderCase::Preserve,
        pb::preserve_case_formatter_config::FormatterTypeOnEnvoyHeaders::ProperCase => {
            HeaderCase::PreserveElseProper
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_api::load::{Format, UnknownFields, parse_message};

    fn read(yaml: &str) -> BuildResult<HeaderCase> {
        let f = parse_message::<HeaderKeyFormat>(yaml.as_bytes(), Format::Yaml, "x", UnknownFields::Refuse);
        header_case(Some(&f.expect("it is well-formed").message))
    }

    #[test]
    fn formats() {
        let preserve = |fields: &str| {
            let config = "type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig";
            read(&format!("stateful_formatter: {{name: p, typed_config: {{'@type': {config}, {fields}}}}}"))
        };
        assert_eq!(header_case(None), Ok(HeaderCase::Lower));
        assert_eq!(read("proper_case_words: {}"), Ok(HeaderCase::Proper));
        assert_eq!(preserve(""), Ok(HeaderCase::Preserve));
        assert_eq!(
            preserve("formatter_type_on_envoy_headers: PROPER_CASE"),
            Ok(HeaderCase::PreserveElseProper)
        );
        let other = "type.googleapis.com/envoy.config.core.v3.Node";
        let e = read(&format!("stateful_formatter: {{name: p, typed_config: {{'@type': {other}}}}}"));
        assert!(e.unwrap_err().0.starts_with("Didn't find a registered implementation for 'p'"));
    }
}

//! Values of a record: texts with commands, in lists and maps of any depth.

use super::super::grpc::entry;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::opentelemetry::proto::common::v1 as pb;
use nuncio_core::BuildResult;
use nuncio_core::format::{FormatCx, Formatter, Purpose};
use pb::any_value::Value;

/// A value that is made for each record.
pub enum Template {
    /// A text.
    Text(Formatter),
    /// Values one after the other.
    List(Vec<Template>),
    /// Values by name, in the order of the configuration.
    Map(Vec<(String, Template)>),
}

impl Template {
    /// As configured; `formatters` are commands that extensions bring.
    ///
    /// # Errors
    /// A format is refused, or is none.
    pub fn new(v: &pb::AnyValue, formatters: &[core::TypedExtensionConfig]) -> BuildResult<Template> {
        match &v.value {
            Some(Value::StringValue(t)) => {
                let source = core::DataSource {
                    specifier: Some(core::data_source::Specifier::InlineString(t.clone())),
                    ..Default::default()
                };
                let format = core::SubstitutionFormatString {
                    format: Some(core::substitution_format_string::Format::TextFormatSource(source)),
                    formatters: formatters.to_vec(),
                    ..Default::default()
                };
                Ok(Template::Text(Formatter::new(&format, Purpose::Body)?))
            }
            Some(Value::KvlistValue(l)) => Ok(Template::Map(Template::list(Some(l), formatters)?)),
            Some(Value::ArrayValue(l)) => {
                let all = l.values.iter().map(|v| Template::new(v, formatters));
                Ok(Template::List(all.collect::<BuildResult<_>>()?))
            }
            _ => Err(
                "Only string values, nested key value lists and array values are supported in OpenTelemetry \
                      access log format."
                    .into(),
            ),
        }
    }
    /// As [`new`](Self::new), for all values of a list.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn list(
        l: Option<&pb::KeyValueList>,
        formatters: &[core::TypedExtensionConfig],
    ) -> BuildResult<Vec<(String, Template)>> {
        let none = pb::AnyValue::default();
        let of = |kv: &pb::KeyValue| {
            Ok((kv.key.clone(), Template::new(kv.value.as_ref().unwrap_or(&none), formatters)?))
        };
        l.map_or(&[][..], |l| &l.values).iter().map(of).collect()
    }
    /// The value for a record.
    pub fn value(&self, cx: &FormatCx<'_>) -> pb::AnyValue {
        let value = match self {
            Template::Text(f) => {
                let mut text = vec![];
                f.append(cx, &mut text);
                Value::StringValue(entry::text(&text))
            }
            Template::List(all) => {
                Value::ArrayValue(pb::ArrayValue { values: all.iter().map(|t| t.value(cx)).collect() })
            }
            Template::Map(all) => {
                let one = |(k, t): &(String, Template)| super::attribute(k.clone(), t.value(cx));
                Value::KvlistValue(pb::KeyValueList { values: all.iter().map(one).collect() })
            }
        };
        pb::AnyValue { value: Some(value) }
    }
}

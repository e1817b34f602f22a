mod body;
mod export;

use super::grpc::{self, entry};
use body::Template;
use export::{Exporter, Settings, To};
use nuncio_api::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use nuncio_api::opentelemetry::proto::common::v1::{AnyValue, KeyValue, any_value::Value};
use nuncio_api::opentelemetry::proto::logs::v1::LogRecord;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::filter_state::StateObject;
use nuncio_core::format::{FormatCx, append_value};
use nuncio_core::kinds::AccessLogger;
use nuncio_core::registry::Docs;
use nuncio_core::tracing::tags::CustomTag;
use nuncio_core::{BuildResult, Registry};
use prost_types::value::Kind;
use std::time::SystemTime;

/// Its well-known name.
pub const NAME: &str = "envoy.access_loggers.open_telemetry";

/// What is read of its configuration; services and `common_config` are read by others, too, and said there.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
        &[
            "common_config",
            "http_service",
            "grpc_service",
            "disable_builtin_labels",
            "resource_attributes",
            "body",
            "attributes",
            "stat_prefix",
            "formatters",
            "log_name",
            "buffer_flush_interval",
            "buffer_size_bytes",
            "filter_state_objects_to_log",
            "custom_tags",
        ],
    ),
    Covered::new("opentelemetry.proto.common.v1.KeyValueList", &["values"]),
    Covered::new("opentelemetry.proto.common.v1.ArrayValue", &["values"]),
    Covered::new("opentelemetry.proto.common.v1.KeyValue", &["key", "value"]),
    Covered::new(
        "opentelemetry.proto.common.v1.AnyValue",
        &[
            "string_value",
            "bool_value",
            "int_value",
            "double_value",
            "array_value",
            "kvlist_value",
            "bytes_value",
        ],
    ),
];

/// Registers the logger.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.access_logger::<OpenTelemetry>(NAME, docs);
}

/// The logger.
pub struct OpenTelemetry {
    body: Option<Template>,
    attributes: Vec<(String, Template)>,
    /// `filter_state_objects_to_log`
    state: Vec<String>,
    tags: Vec<CustomTag>,
    exporter: Exporter,
}

impl AccessLogger for OpenTelemetry {
    type Config = OpenTelemetryAccessLogConfig;

    fn new(c: OpenTelemetryAccessLogConfig, cx: &BuildCx<'_>) -> BuildResult<OpenTelemetry> {
        let common = c.common_config.as_deref();
        let common = common.map(|c| grpc::common(Some(Box::new(c.clone())))).transpose()?;
        let old = common.as_ref().map(grpc::service).transpose()?;
        let to = match (old, &c.grpc_service, &c.http_service) {
            (Some(s), None, None) => To::grpc(&s, cx)?,
            (None, Some(s), None) => To::grpc(s, cx)?,
            (None, None, Some(s)) => To::http(s, cx)?,
            (None, None, None) => {
                return Err("OpenTelemetry access logger requires one of: grpc_service, http_service, or \
                            common_config.grpc_service to be configured."
                    .into());
            }
            _ => {
                return Err("OpenTelemetry access logger can only have one transport configured. Specify exactly one \
                            of: grpc_service, http_service, or common_config.grpc_service."
                    .into());
            }
        };
        let common = common.unwrap_or_default();
        let settings = Settings {
            interval: c.buffer_flush_interval.or(common.buffer_flush_interval),
            size: c.buffer_size_bytes.or(common.buffer_size_bytes),
            resource: resource(&c, &common.log_name, cx),
        };
        let formats = &c.formatters;
        let body = c.body.as_ref().filter(|b| b.value.is_some());
        Ok(OpenTelemetry {
            body: body.map(|b| Template::new(b, formats)).transpose()?,
            attributes: Template::list(c.attributes.as_ref(), formats)?,
            state: c.filter_state_objects_to_log.clone(),
            tags: CustomTag::list(&c.custom_tags)?,
            exporter: Exporter::new(&c, to, settings, cx),
        })
    }
    fn log(&self, entry: &FormatCx<'_>) {
        self.exporter.report(self.record(entry));
    }
}

impl OpenTelemetry {
    fn record(&self, cx: &FormatCx<'_>) -> LogRecord {
        let info = cx.info;
        let mut attributes: Vec<KeyValue> =
            self.attributes.iter().map(|(k, t)| attribute(k.clone(), t.value(cx))).collect();
        let object = |key: &str| {
            info.filter_state.borrow().get(key).or_else(|| cx.conn.filter_state.borrow().get(key))
        };
        let state = self.state.iter().filter_map(|key| Some((key, json(&*object(key)?)?)));
        attributes.extend(state.map(|(k, v)| attribute(k.clone(), text(v))));
        let tags = self.tags.iter().map(|t| (t.name(), t.value(cx))).filter(|(_, v)| !v.is_empty());
        attributes.extend(tags.map(|(k, v)| attribute(k.to_owned(), text(v))));
        let active = info.trace.borrow();
        let traced = active.as_ref().and_then(|a| a.traced());
        let since = info.start_wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        LogRecord {
            time_unix_nano: u64::try_from(since.as_nanos()).unwrap_or(0),
            body: self.body.as_ref().map(|b| b.value(cx)),
            attributes,
            trace_id: traced.map(|(t, s)| trace_id(&t.trace_id(s))).unwrap_or_default(),
            span_id: traced.and_then(|(t, s)| t.span_id(s)).map(|id| unhex(&id)).unwrap_or_default(),
            ..Default::default()
        }
    }
}

fn text(t: String) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(t)) }
}

fn attribute(key: String, value: AnyValue) -> KeyValue {
    KeyValue { key, value: Some(value), ..Default::default() }
}

/// An object of the filter state, as JSON; nothing for one that has no message.
fn json(o: &dyn StateObject) -> Option<String> {
    let mut out = vec![];
    match (o.fields(), o.message()) {
        (Some(v), _) => append_value(&mut out, v),
        (None, Some(m)) if m.type_url.ends_with(".StringValue") => {
            append_value(&mut out, &prost_types::Value { kind: Some(Kind::StringValue(o.text()?)) });
        }
        (None, Some(_)) => return o.text(),
        (None, None) => return None,
    }
    Some(entry::text(&out))
}

/// Who sends the records: this node, unless that is not wanted, and what is configured.
fn resource(c: &OpenTelemetryAccessLogConfig, log_name: &str, cx: &BuildCx<'_>) -> Vec<KeyValue> {
    let mut all = vec![];
    if !c.disable_builtin_labels {
        let node = cx.server.node_message();
        let zone = node.locality.map(|l| l.zone).unwrap_or_default();
        let log_name = if c.log_name.is_empty() { log_name } else { &c.log_name };
        let labels = [
            ("log_name", log_name.to_owned()),
            ("zone_name", zone),
            ("cluster_name", node.cluster),
            ("node_name", node.id),
        ];
        all.extend(labels.map(|(k, v)| attribute(k.to_owned(), text(v))));
    }
    all.extend(c.resource_attributes.iter().flat_map(|l| l.values.iter().cloned()));
    all
}

/// A trace's id has 16 bytes; shorter ones (Zipkin's) get zeros before them.
fn trace_id(hex: &str) -> Vec<u8> {
    match (hex.len(), unhex(hex)) {
        (32, id) => id,
        (16, id) => [&[0; 8], &id[..]].concat(),
        _ => vec![],
    }
}

/// The bytes of hexadecimal digits; nothing when there are others.
fn unhex(hex: &str) -> Vec<u8> {
    let byte = |i: usize| hex.get(i..i + 2).and_then(|b| u8::from_str_radix(b, 16).ok());
    (0..hex.len()).step_by(2).map(byte).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests;

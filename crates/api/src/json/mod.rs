//! Protobuf bytes → JSON, as Envoy's admin interface prints it.
//!
//! Fields have their proto names and come by number, every `Any` is expanded, 64-bit integers are texts. Written as it is
//! read: a large `/config_dump` takes no tree.

mod scalar;
mod writer;

use crate::schema::{self, Message};
use crate::wire::{put_bytes, put_tag};
use std::fmt;

pub use scalar::{write_double, write_quoted};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Line breaks, and one blank per level, as in Envoy's admin interface; then a line break at the end.
    pub pretty: bool,
    /// Also fields that have no presence and their default value (`always_print_primitive_fields`).
    pub defaults: bool,
    /// `[redacted]` for texts that are marked as sensitive, and nothing for other such values.
    pub redact: bool,
}

/// Writes a message as JSON. Bytes that are no such message are left out from where they go wrong.
///
/// # Errors
/// Only those of `out`.
pub fn write_json(
    out: &mut dyn fmt::Write,
    message: &'static Message,
    bytes: &[u8],
    options: JsonOptions,
) -> fmt::Result {
    let mut writer = writer::Writer { out, options, level: 0, depth: 0 };
    writer.message(message, bytes, false)?;
    if options.pretty { out.write_char('\n') } else { Ok(()) }
}

/// Writes a message as a value in a text whose line is indented by `level`, without a line break at the end.
///
/// # Errors
/// Only those of `out`.
pub fn write_value(
    out: &mut dyn fmt::Write,
    message: &'static Message,
    bytes: &[u8],
    options: JsonOptions,
    level: usize,
) -> fmt::Result {
    writer::Writer { out, options, level, depth: 0 }.message(message, bytes, false)
}

/// Writes the fields of a message into an object that is open; its entries are indented by `level`. `first`: it has none
/// yet.
///
/// # Errors
/// Only those of `out`.
pub fn write_fields(
    out: &mut dyn fmt::Write,
    message: &'static Message,
    bytes: &[u8],
    options: JsonOptions,
    level: usize,
    first: &mut bool,
) -> fmt::Result {
    writer::Writer { out, options, level, depth: 1 }.fields(message, bytes, false, first)
}

/// The JSON text of a generated message; none if its type is not in the schema.
pub fn json_of<M: prost::Message + prost::Name>(message: &M, options: JsonOptions) -> Option<String> {
    let schema = schema::message(&M::full_name())?;
    let mut text = String::new();
    write_json(&mut text, schema, &message.encode_to_vec(), options).ok()?;
    Some(text)
}

/// The JSON text of an `Any`, with its `@type`.
pub fn json_of_any(any: &prost_types::Any, options: JsonOptions) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _written = write_any(&mut text, any, options, 0);
    if options.pretty {
        text.push('\n');
    }
    text
}

/// Writes an `Any`, with its `@type`, as [`write_value`] writes a message.
///
/// # Errors
/// Only those of `out`.
pub fn write_any(
    out: &mut dyn fmt::Write,
    any: &prost_types::Any,
    options: JsonOptions,
    level: usize,
) -> fmt::Result {
    let mut bytes = Vec::with_capacity(any.value.len() + any.type_url.len() + 16);
    put_tag(&mut bytes, 1, 2);
    put_bytes(&mut bytes, any.type_url.as_bytes());
    put_tag(&mut bytes, 2, 2);
    put_bytes(&mut bytes, &any.value);
    schema::message("google.protobuf.Any").map_or(Ok(()), |any| write_value(out, any, &bytes, options, level))
}

/// A message as a JSON value; none if its type is not in the schema.
pub fn to_json(message_name: &str, bytes: &[u8]) -> Option<serde_json::Value> {
    let mut text = String::new();
    write_json(&mut text, schema::message(message_name)?, bytes, JsonOptions::default()).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests;

//! Tree → protobuf bytes, driven by the schema.
//!
//! Takes what protobuf's JSON parser takes in the legacy mode that Envoy uses: names in both spellings, enums in any case
//! or as numbers, numbers as texts, a lone value for a list, null for an unset field and for a default element of a list,
//! `{seconds: 1}` for a duration. Errors have the parser's phrases; all of them are collected, and what is wrong is left out.

mod any;
mod scalar;
mod well_known;

use crate::error::{ConfigError, Rank, Stage};
use crate::schema::{Field, Kind, Message, Presence, Type};
use crate::suggest;
use crate::tree::{Elements, Entries, MAX_DEPTH, Node, Value};
use crate::wire::{Wire, put_bytes, put_delimited, put_tag, put_varint};
use std::collections::HashSet;
use std::fmt::Write;

/// After so many errors no more are kept.
pub const MAX_ERRORS: usize = 200;

/// Encodes a tree as a message. The bytes hold all that is right.
pub fn encode(message: &'static Message, root: Node<'_>) -> (Vec<u8>, Vec<ConfigError>) {
    let mut encoder = Encoder {
        path: Vec::new(),
        roots: vec![(message, 0)],
        entries: Vec::new(),
        errors: Vec::new(),
        depth: 0,
    };
    let mut out = Vec::new();
    encoder.message(message, root, &mut out);
    (out, encoder.errors)
}

/// A step of the path to a value.
#[derive(Clone, Copy)]
enum Step<'t> {
    Field(&'t str, &'static Field),
    Index(u32),
    Any(&'static Message),
    Struct,
    List,
}

struct Encoder<'t> {
    path: Vec<Step<'t>>,
    /// The message that errors name as the document's, and where its path begins: the content of a `TypedStruct` is a
    /// document of its own.
    roots: Vec<(&'static Message, usize)>,
    /// Entries of the messages that are being encoded, with the positions of their fields.
    entries: Vec<Entry<'t>>,
    errors: Vec<ConfigError>,
    depth: usize,
}

#[derive(Clone, Copy)]
struct Entry<'t> {
    field: usize,
    key: Node<'t>,
    value: Node<'t>,
    /// The same key comes again.
    replaced: bool,
}

/// The value cannot be encoded; the error is recorded.
struct Refused;

impl<'t> Encoder<'t> {
    /// Encodes the content of a message.
    fn message(&mut self, message: &'static Message, node: Node<'t>, out: &mut Vec<u8>) {
        let value = node.value();
        match (message.kind, value) {
            (Kind::Any, _) => self.any(node, out),
            (Kind::Struct, _) => self.structure(node, out),
            (Kind::Value, _) => self.value(node, out),
            // These may also be written as the objects that they are.
            (_, Value::Map(entries)) => self.fields(message, node, entries, false, out),
            (Kind::Duration, _) => self.duration(node, out),
            (Kind::Timestamp, _) => self.timestamp(node, out),
            (Kind::FieldMask, _) => self.field_mask(node, out),
            (Kind::ListValue, _) => self.list_value(node, out),
            (Kind::Wrapper, _) => {
                if let Some(field) = message.fields().first() {
                    self.singular(field, node, out);
                }
            }
            (Kind::Plain | Kind::TypedStruct, _) => self.unexpected(node, '{'),
        }
    }

    /// Encodes the entries of an object as the fields of a message. `reparse` skips the `@type` of an `Any`.
    fn fields(
        &mut self,
        message: &'static Message,
        node: Node<'t>,
        entries: Entries<'t>,
        reparse: bool,
        out: &mut Vec<u8>,
    ) {
        if !self.enter(node) {
            return;
        }
        let base = self.entries.len();
        let mut seen = 0_u128;
        for (key, value) in entries {
            let name = key.text();
            if reparse && name == "@type" {
                continue;
            }
            let Some(field) = message.index_of_name(name) else {
                self.unknown_field(message, key);
                continue;
            };
            let bit = 1_u128 << (field & 127);
            if seen & bit != 0 {
                // The last one counts; the one to be replaced is near the end if there are many.
                let same = |earlier: &&mut Entry<'t>| earlier.field == field && earlier.key.text() == name;
                if let Some(earlier) = self.entries[base..].iter_mut().rev().find(same) {
                    earlier.replaced = true;
                }
            }
            seen |= bit;
            self.entries.push(Entry { field, key, value, replaced: false });
        }
        let mut oneofs = 0_u64;
        for at in base..self.entries.len() {
            let Entry { field, key, value, replaced } = self.entries[at];
            if !replaced {
                self.field(&message.fields()[field], key, value, &mut oneofs, out);
            }
        }
        self.entries.truncate(base);
        self.depth -= 1;
    }

    fn field(
        &mut self,
        field: &'static Field,
        key: Node<'t>,
        value: Node<'t>,
        oneofs: &mut u64,
        out: &mut Vec<u8>,
    ) {
        if value.is_null() && !takes_null(field.ty) {
            return;
        }
        self.path.push(Step::Field(key.text(), field));
        let bit = field.oneof().map_or(0, |oneof| 1 << (oneof & 63));
        if *oneofs & bit != 0 {
            let name = key.text();
            let reason = format!("'{name}' has already been set (either directly or as part of a oneof)");
            self.invalid(value, &reason);
        } else {
            *oneofs |= bit;
            match field.presence {
                Presence::Map => self.map(field, value, out),
                Presence::Repeated => self.repeated(field, value, &mut 0, out),
                Presence::Packed => self.packed(field, value, out),
                Presence::Implicit | Presence::Explicit => self.singular(field, value, out),
            }
        }
        self.path.pop();
    }

    /// Encodes a tag and a value, or nothing if the value is refused or a default that need not be written.
    fn singular(&mut self, field: &'static Field, node: Node<'t>, out: &mut Vec<u8>) {
        if node.is_null() && !takes_null(field.ty) {
            return;
        }
        let start = out.len();
        put_tag(out, field.number, field.ty.wire_type());
        let value = out.len();
        let refused = self.element(field.ty, node, out).is_err();
        let default = field.presence == Presence::Implicit && out[value..].iter().all(|byte| *byte == 0);
        if refused || default {
            out.truncate(start);
        }
    }

    fn repeated(&mut self, field: &'static Field, node: Node<'t>, index: &mut u32, out: &mut Vec<u8>) {
        let Value::Seq(elements) = node.value() else {
            // A lone value is a list of one.
            self.singular(field, node, out);
            return;
        };
        if !self.enter(node) {
            return;
        }
        let flatten =
            !matches!(field.ty.message().map(|message| message.kind), Some(Kind::Value | Kind::ListValue));
        for element in elements {
            self.path.push(Step::Index(*index));
            if flatten && matches!(element.value(), Value::Seq(_)) {
                self.path.pop();
                self.repeated(field, element, index, out);
                continue;
            }
            *index += 1;
            let start = out.len();
            put_tag(out, field.number, field.ty.wire_type());
            if element.is_null() && !takes_null(field.ty) {
                put_zero(field.ty, out);
            } else if self.element(field.ty, element, out).is_err() {
                out.truncate(start);
            }
            self.path.pop();
        }
        self.depth -= 1;
    }

    fn packed(&mut self, field: &'static Field, node: Node<'t>, out: &mut Vec<u8>) {
        let start = out.len();
        put_tag(out, field.number, 2);
        let mut index = 0;
        let empty = put_delimited(out, |out| {
            let start = out.len();
            self.packed_elements(field.ty, node, &mut index, out);
            out.len() == start
        });
        if empty {
            out.truncate(start);
        }
    }

    fn packed_elements(&mut self, ty: Type, node: Node<'t>, index: &mut u32, out: &mut Vec<u8>) {
        let Value::Seq(elements) = node.value() else {
            // Nothing was written if it is refused.
            let _refused = self.element(ty, node, out);
            return;
        };
        if !self.enter(node) {
            return;
        }
        for element in elements {
            self.path.push(Step::Index(*index));
            match element.value() {
                Value::Seq(_) => {
                    self.path.pop();
                    self.packed_elements(ty, element, index, out);
                    continue;
                }
                Value::Null => put_zero(ty, out),
                _ => drop(self.element(ty, element, out)),
            }
            *index += 1;
            self.path.pop();
        }
        self.depth -= 1;
    }

    fn map(&mut self, field: &'static Field, node: Node<'t>, out: &mut Vec<u8>) {
        let (Value::Map(entries), Some([key_field, value_field])) =
            (node.value(), field.ty.message().map(Message::fields))
        else {
            self.unexpected(node, '{');
            return;
        };
        if !self.enter(node) {
            return;
        }
        let mut keys = HashSet::new();
        for (index, (key, value)) in entries.enumerate() {
            self.path.push(Step::Index(index as u32));
            self.check_key(key, &mut keys);
            put_tag(out, field.number, 2);
            put_delimited(out, |out| {
                let start = out.len();
                if self.map_key(key_field, key, out).is_err() {
                    out.truncate(start);
                }
                self.singular(value_field, value, out);
            });
            self.path.pop();
        }
        self.depth -= 1;
    }

    /// In JSON a key of a map must not come again.
    fn check_key(&mut self, key: Node<'t>, keys: &mut HashSet<&'t str>) {
        if key.unique_keys() && !keys.insert(key.text()) {
            self.invalid(key, &format!("got unexpectedly-repeated repeated map key: '{}'", key.text()));
        }
    }

    fn map_key(&mut self, field: &'static Field, key: Node<'t>, out: &mut Vec<u8>) -> Result<(), Refused> {
        put_tag(out, field.number, field.ty.wire_type());
        match field.ty {
            Type::String => put_bytes(out, key.text().as_bytes()),
            Type::Bool => match key.text() {
                "true" => out.push(1),
                "false" => out.push(0),
                other => return self.refuse(key, &format!("expected bool string, got '{other}'")),
            },
            _ => match key.text().parse::<i128>() {
                Ok(number) => put_varint(out, number as u64),
                Err(_) => return self.refuse(key, "non-number characters in quoted number"),
            },
        }
        Ok(())
    }

    /// Encodes a value without its tag.
    fn element(&mut self, ty: Type, node: Node<'t>, out: &mut Vec<u8>) -> Result<(), Refused> {
        match ty.message() {
            Some(message) => {
                put_delimited(out, |out| self.message(message, node, out));
                Ok(())
            }
            None => self.scalar(ty, node, out),
        }
    }

    /// Goes one level deeper, unless that is too deep.
    fn enter(&mut self, node: Node<'t>) -> bool {
        if self.depth >= MAX_DEPTH {
            self.invalid(node, "JSON content was too deeply nested");
            return false;
        }
        self.depth += 1;
        true
    }

    fn unknown_field(&mut self, message: &'static Message, key: Node<'t>) {
        if self.is_full() {
            return;
        }
        let name = key.text();
        let reason = self.describe(key, &format!("no such field: '{name}'"));
        let names = message.fields().iter().map(Field::name);
        let suggestion = suggest::nearest(name, names).map(str::to_string);
        self.unknown(key, &reason, suggestion);
    }

    /// Records what Envoy takes for a field or value that it does not know.
    fn unknown(&mut self, node: Node<'t>, reason: &str, suggestion: Option<String>) {
        let root = self.roots.last().map_or("", |(root, _)| root.name());
        let phrase =
            format!("Protobuf message (type {root} reason INVALID_ARGUMENT: {reason}) has unknown fields");
        self.error(Stage::Unknown, node, phrase, suggestion);
    }

    /// Records that a node cannot be what it is.
    fn invalid(&mut self, node: Node<'t>, reason: &str) {
        let reason = self.describe(node, reason);
        self.mismatch(node, &reason, None);
    }

    fn mismatch(&mut self, node: Node<'t>, reason: &str, suggestion: Option<String>) {
        let phrase = format!("Unable to parse JSON as proto (INVALID_ARGUMENT: {reason})");
        self.error(Stage::Shape, node, phrase, suggestion);
    }

    fn refuse<T>(&mut self, node: Node<'t>, reason: &str) -> Result<T, Refused> {
        self.invalid(node, reason);
        Err(Refused)
    }

    fn unexpected(&mut self, node: Node<'t>, expected: char) {
        let found = first_character(node);
        self.invalid(node, &format!("unexpected character: '{found}'; expected '{expected}'"));
    }

    /// No more errors are kept.
    fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    fn error(&mut self, stage: Stage, node: Node<'t>, phrase: String, suggestion: Option<String>) {
        if self.is_full() {
            return;
        }
        // Envoy reads a TypedStruct's content when it makes the extension.
        let stage = if self.roots.len() > 1 { Stage::Rule } else { stage };
        let order = vec![self.errors.len() as u32];
        let mut path = String::new();
        describe_path(&self.path, &mut path);
        self.errors.push(ConfigError {
            position: Some(node.position()),
            path,
            suggestion,
            rank: Rank { stage, order },
            ..ConfigError::new(stage, phrase)
        });
    }

    /// `invalid JSON in MESSAGE @ PATH: TYPE, near LINE:COLUMN: REASON`
    fn describe(&self, node: Node<'t>, reason: &str) -> String {
        let (root, start) = self.roots.last().map_or(("", 0), |(root, start)| (root.name(), *start));
        let mut text = format!("invalid JSON in {root}");
        let steps = &self.path[start..];
        if !steps.is_empty() {
            text.push_str(" @ ");
            describe_path(steps, &mut text);
        }
        match steps.iter().rev().find(|step| !matches!(step, Step::Index(_))) {
            Some(Step::Field(_, field)) => _ = write!(text, ": {}", field.ty.describe()),
            Some(Step::Any(message)) => _ = write!(text, ": message {}", message.name()),
            Some(Step::Struct) => text.push_str(": message google.protobuf.Struct.FieldsEntry"),
            Some(Step::List) => text.push_str(": message google.protobuf.Value"),
            Some(Step::Index(_)) | None => {}
        }
        let position = node.position();
        _ = write!(text, ", near {}:{}: {reason}", position.line, position.column);
        text
    }
}

fn describe_path(steps: &[Step<'_>], out: &mut String) {
    let start = out.len();
    for step in steps {
        if !matches!(step, Step::Index(_)) && out.len() > start {
            out.push('.');
        }
        match step {
            Step::Field(name, _) => out.push_str(name),
            Step::Index(index) => _ = write!(out, "[{index}]"),
            Step::Any(_) => out.push_str("<any>"),
            Step::Struct => out.push_str("<struct>"),
            Step::List => out.push_str("<list>"),
        }
    }
}

/// Whether null is a value of the type, and not an unset field.
fn takes_null(ty: Type) -> bool {
    ty.message().is_some_and(|message| message.kind == Kind::Value)
        || ty.enumeration().is_some_and(|known| known.name() == "google.protobuf.NullValue")
}

fn put_zero(ty: Type, out: &mut Vec<u8>) {
    let len = match Wire::zero(ty.wire_type()) {
        Wire::Eight(_) => 8,
        Wire::Four(_) => 4,
        Wire::Varint(_) | Wire::Bytes(_) => 1,
    };
    out.resize(out.len() + len, 0);
}

/// The first character of the node as JSON.
fn first_character(node: Node<'_>) -> char {
    match node.value() {
        Value::Null => 'n',
        Value::Bool(true) => 't',
        Value::Bool(false) => 'f',
        Value::Int(value) => value.to_string().chars().next().unwrap_or('0'),
        Value::Number(text) => text.chars().next().unwrap_or('0'),
        Value::Text(_) => '"',
        Value::Seq(_) => '[',
        Value::Map(_) => '{',
    }
}

/// The elements of a list.
fn elements(node: Node<'_>) -> Option<Elements<'_>> {
    match node.value() {
        Value::Seq(elements) => Some(elements),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

//! The walk over the bytes.

use super::JsonOptions;
use super::scalar::{
    write_base64, write_double, write_duration, write_quoted, write_single, write_timestamp,
};
use crate::schema::{self, Field, Kind, Message, Presence, Type};
use crate::wire::{Wire, any_parts, last, packed, records, seconds_and_nanos};
use std::fmt;

/// Messages may be nested this deep; what is deeper is null.
const MAX_DEPTH: usize = 200;

/// What stands for a text that is not shown.
const REDACTED: &str = "[redacted]";

pub(super) struct Writer<'o> {
    pub out: &'o mut dyn fmt::Write,
    pub options: JsonOptions,
    /// How far the line is indented.
    pub level: usize,
    pub depth: usize,
}

impl Writer<'_> {
    /// Writes a message. `sensitive`: it is inside a field that is not to be shown.
    pub fn message(&mut self, message: &'static Message, bytes: &[u8], sensitive: bool) -> fmt::Result {
        if self.depth >= MAX_DEPTH {
            return self.out.write_str("null");
        }
        self.depth += 1;
        let result = match message.kind {
            Kind::Any => self.any(bytes, sensitive),
            Kind::Plain | Kind::TypedStruct => {
                let mut first = true;
                self.open('{')?;
                self.fields(message, bytes, sensitive, &mut first)?;
                self.close('}', first)
            }
            _ => self.well_known(message, bytes, sensitive),
        };
        self.depth -= 1;
        result
    }

    fn well_known(&mut self, message: &'static Message, bytes: &[u8], sensitive: bool) -> fmt::Result {
        match message.kind {
            Kind::Duration => write_duration(self.out, seconds_and_nanos(bytes)),
            Kind::Timestamp => write_timestamp(self.out, seconds_and_nanos(bytes)),
            Kind::Wrapper => match message.fields().first() {
                Some(field) => {
                    let wire = value_of(bytes, field.number, field.ty);
                    self.value(field.ty, wire, sensitive)
                }
                None => self.out.write_str("null"),
            },
            Kind::Struct => self.structure(bytes, sensitive),
            Kind::ListValue => {
                let mut first = true;
                self.open('[')?;
                for (_, value) in records(bytes).flatten().filter(|(number, _)| *number == 1) {
                    if !value.bytes().is_empty() {
                        self.separate(&mut first)?;
                        self.json_value(value.bytes(), sensitive)?;
                    }
                }
                self.close(']', first)
            }
            Kind::Value => self.json_value(bytes, sensitive),
            Kind::FieldMask => {
                let paths = records(bytes).flatten().filter(|(number, _)| *number == 1);
                let paths: Vec<_> = paths.map(|(_, path)| camel_case(&text(path))).collect();
                write_quoted(self.out, &paths.join(","))
            }
            Kind::Plain | Kind::Any | Kind::TypedStruct => Ok(()),
        }
    }

    fn any(&mut self, bytes: &[u8], sensitive: bool) -> fmt::Result {
        let (url, value) = any_parts(bytes);
        let mut first = true;
        self.open('{')?;
        if !url.is_empty() {
            self.name("@type", &mut first)?;
            write_quoted(self.out, url)?;
            match schema::message_of_url(url) {
                Some(message) if matches!(message.kind, Kind::Plain | Kind::TypedStruct) => {
                    self.fields(message, value, sensitive, &mut first)?;
                }
                Some(message) => {
                    self.name("value", &mut first)?;
                    self.message(message, value, sensitive)?;
                }
                None => {
                    self.name("value", &mut first)?;
                    write_base64(self.out, value)?;
                }
            }
        }
        self.close('}', first)
    }

    /// Writes the fields of an object that is open, by number.
    pub fn fields(
        &mut self,
        message: &'static Message,
        bytes: &[u8],
        sensitive: bool,
        first: &mut bool,
    ) -> fmt::Result {
        let fields = message.fields();
        let known = records(bytes).map_while(Result::ok).filter_map(|(number, wire)| {
            let field = fields.get(message.index_of_number(number)?)?;
            field.takes(wire.wire_type()).then_some((field, wire))
        });
        let mut values: Vec<(&'static Field, Wire<'_>)> = known.collect();
        values.sort_by_key(|(field, _)| field.number);
        let mut defaults = Vec::new();
        if self.options.defaults {
            let absent = |field: &&Field| field.presence != Presence::Explicit;
            defaults.extend(fields.iter().filter(absent).filter(|field| {
                values.binary_search_by_key(&field.number, |(field, _)| field.number).is_err()
            }));
            defaults.sort_by_key(|field| field.number);
        }
        let mut defaults = defaults.into_iter().peekable();
        let mut rest = values.as_slice();
        loop {
            let next = rest.first().map(|(field, _)| *field);
            if let Some(field) = defaults.next_if(|field| next.is_none_or(|next| field.number < next.number))
            {
                self.default(field, first)?;
                continue;
            }
            let Some(field) = next else { return Ok(()) };
            let count = rest.iter().take_while(|(other, _)| other.number == field.number).count();
            let (group, after) = rest.split_at(count);
            rest = after;
            self.field(field, group, sensitive || self.options.redact && field.sensitive(), first)?;
        }
    }

    fn default(&mut self, field: &'static Field, first: &mut bool) -> fmt::Result {
        self.name(field.name(), first)?;
        match field.presence {
            Presence::Map => self.out.write_str("{}"),
            Presence::Repeated | Presence::Packed => self.out.write_str("[]"),
            Presence::Implicit | Presence::Explicit => {
                self.value(field.ty, Wire::zero(field.ty.wire_type()), false)
            }
        }
    }

    /// Writes a field from all of its records.
    fn field(
        &mut self,
        field: &'static Field,
        group: &[(&'static Field, Wire<'_>)],
        sensitive: bool,
        first: &mut bool,
    ) -> fmt::Result {
        if sensitive && !shown_redacted(field) {
            return Ok(());
        }
        match field.presence {
            Presence::Implicit | Presence::Explicit => {
                let Some((_, wire)) = group.last() else { return Ok(()) };
                if is_unset_value(field.ty, *wire) {
                    return Ok(());
                }
                self.name(field.name(), first)?;
                if group.len() > 1 && field.ty.message().is_some() {
                    // A message that comes in pieces is their merge, and that of bytes one after the other.
                    let whole: Vec<u8> = group.iter().flat_map(|(_, wire)| wire.bytes()).copied().collect();
                    return self.value(field.ty, Wire::Bytes(&whole), sensitive);
                }
                self.value(field.ty, *wire, sensitive)
            }
            Presence::Repeated | Presence::Packed => {
                self.name(field.name(), first)?;
                self.list(field, group, sensitive)
            }
            Presence::Map => {
                self.name(field.name(), first)?;
                self.map(field, group, sensitive)
            }
        }
    }

    fn list(
        &mut self,
        field: &'static Field,
        group: &[(&'static Field, Wire<'_>)],
        sensitive: bool,
    ) -> fmt::Result {
        let mut first = true;
        self.open('[')?;
        for (_, wire) in group {
            match wire {
                Wire::Bytes(bytes) if field.ty.wire_type() != 2 => {
                    for wire in packed(bytes, field.ty.wire_type()) {
                        self.separate(&mut first)?;
                        self.value(field.ty, wire, sensitive)?;
                    }
                }
                _ if is_unset_value(field.ty, *wire) => {}
                _ => {
                    self.separate(&mut first)?;
                    self.value(field.ty, *wire, sensitive)?;
                }
            }
        }
        self.close(']', first)
    }

    fn map(
        &mut self,
        field: &'static Field,
        group: &[(&'static Field, Wire<'_>)],
        sensitive: bool,
    ) -> fmt::Result {
        let Some([key_field, value_field]) = field.ty.message().map(Message::fields) else { return Ok(()) };
        let entry = |wire: Wire<'_>| {
            let key = value_of(wire.bytes(), 1, key_field.ty);
            key_text(key_field.ty, key)
        };
        // The last entry of a key counts.
        let mut entries: Vec<(String, Wire<'_>)> =
            group.iter().map(|(_, wire)| (entry(*wire), *wire)).collect();
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, earlier| later.0 == earlier.0);
        let mut first = true;
        self.open('{')?;
        for (key, wire) in &entries {
            let value = value_of(wire.bytes(), 2, value_field.ty);
            if is_unset_value(value_field.ty, value) {
                continue;
            }
            self.name(key, &mut first)?;
            self.value(value_field.ty, value, sensitive)?;
        }
        self.close('}', first)
    }

    fn value(&mut self, ty: Type, wire: Wire<'_>, sensitive: bool) -> fmt::Result {
        match (ty, wire) {
            (Type::Message(_), _) => match ty.message() {
                Some(message) => self.message(message, wire.bytes(), sensitive),
                None => Ok(()),
            },
            (Type::String, _) if sensitive => write_quoted(self.out, REDACTED),
            (Type::Bytes, _) if sensitive => write_base64(self.out, REDACTED.as_bytes()),
            (Type::String, _) => write_quoted(self.out, &text(wire)),
            (Type::Bytes, _) => write_base64(self.out, wire.bytes()),
            (Type::Enum(_), Wire::Varint(number)) => {
                let known = ty.enumeration();
                if known.is_some_and(|known| known.name() == "google.protobuf.NullValue") {
                    return self.out.write_str("null");
                }
                match known.and_then(|known| known.name_of(number as i32)) {
                    Some(name) => write_quoted(self.out, name),
                    None => write!(self.out, "{}", number as i32),
                }
            }
            (Type::Bool, _) => self.out.write_str(if wire == Wire::Varint(0) { "false" } else { "true" }),
            (Type::Double, Wire::Eight(bits)) => write_double(self.out, f64::from_bits(bits)),
            (Type::Float, Wire::Four(bits)) => write_single(self.out, f32::from_bits(bits)),
            (Type::Int64 | Type::Sint64 | Type::Sfixed64 | Type::Uint64 | Type::Fixed64, _) => {
                write!(self.out, "\"{}\"", key_text(ty, wire))
            }
            _ => self.out.write_str(&key_text(ty, wire)),
        }
    }

    fn structure(&mut self, bytes: &[u8], sensitive: bool) -> fmt::Result {
        let Some(field) = schema::message("google.protobuf.Struct").and_then(|known| known.fields().first())
        else {
            return Ok(());
        };
        let entries = records(bytes).flatten().filter(|(number, _)| *number == 1);
        let group: Vec<_> = entries.map(|(_, wire)| (field, wire)).collect();
        self.map(field, &group, sensitive)
    }

    /// `google.protobuf.Value`
    fn json_value(&mut self, bytes: &[u8], sensitive: bool) -> fmt::Result {
        match records(bytes).flatten().last() {
            Some((2, Wire::Eight(bits))) => write_double(self.out, f64::from_bits(bits)),
            Some((3, _)) if sensitive => write_quoted(self.out, REDACTED),
            Some((3, wire)) => write_quoted(self.out, &text(wire)),
            Some((4, wire)) => self.out.write_str(if wire == Wire::Varint(0) { "false" } else { "true" }),
            Some((5, Wire::Bytes(bytes))) => self.named("google.protobuf.Struct", bytes, sensitive),
            Some((6, Wire::Bytes(bytes))) => self.named("google.protobuf.ListValue", bytes, sensitive),
            _ => self.out.write_str("null"),
        }
    }

    fn named(&mut self, name: &str, bytes: &[u8], sensitive: bool) -> fmt::Result {
        match schema::message(name) {
            Some(message) => self.message(message, bytes, sensitive),
            None => self.out.write_str("null"),
        }
    }

    fn open(&mut self, bracket: char) -> fmt::Result {
        self.level += 1;
        self.out.write_char(bracket)
    }

    fn close(&mut self, bracket: char, empty: bool) -> fmt::Result {
        self.level -= 1;
        if !empty {
            self.line()?;
        }
        self.out.write_char(bracket)
    }

    /// Begins an element.
    fn separate(&mut self, first: &mut bool) -> fmt::Result {
        if !std::mem::take(first) {
            self.out.write_char(',')?;
        }
        self.line()
    }

    /// Begins an entry.
    fn name(&mut self, name: &str, first: &mut bool) -> fmt::Result {
        self.separate(first)?;
        write_quoted(self.out, name)?;
        self.out.write_str(if self.options.pretty { ": " } else { ":" })
    }

    fn line(&mut self) -> fmt::Result {
        if !self.options.pretty {
            return Ok(());
        }
        self.out.write_char('\n')?;
        (0..self.level).try_for_each(|_| self.out.write_char(' '))
    }
}

/// Whether something of a field remains when it is redacted: a text that says so, or the messages around such texts.
fn shown_redacted(field: &Field) -> bool {
    let value = match field.presence {
        Presence::Map => field.ty.message().and_then(|entry| entry.fields().get(1)).map(|field| field.ty),
        _ => Some(field.ty),
    };
    matches!(value, Some(Type::String | Type::Bytes | Type::Message(_)))
}

/// A `google.protobuf.Value` that is nothing is left out.
fn is_unset_value(ty: Type, wire: Wire<'_>) -> bool {
    wire.bytes().is_empty() && ty.message().is_some_and(|message| message.kind == Kind::Value)
}

/// The value of a field that is a scalar or a message, or its default.
fn value_of(bytes: &[u8], number: u32, ty: Type) -> Wire<'_> {
    last(bytes, number, ty.wire_type()).unwrap_or(Wire::zero(ty.wire_type()))
}

fn text(wire: Wire<'_>) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(wire.bytes())
}

/// A number, boolean or text without quotes.
fn key_text(ty: Type, wire: Wire<'_>) -> String {
    match (ty, wire) {
        (_, Wire::Bytes(_)) => text(wire).into_owned(),
        (Type::Bool, _) => (wire != Wire::Varint(0)).to_string(),
        (Type::Int32, Wire::Varint(value)) => (value as i32).to_string(),
        (Type::Uint32, Wire::Varint(value)) => (value as u32).to_string(),
        (Type::Int64, Wire::Varint(value)) | (Type::Sfixed64, Wire::Eight(value)) => {
            (value as i64).to_string()
        }
        (Type::Sint32 | Type::Sint64, Wire::Varint(value)) => {
            ((value >> 1) as i64 ^ -((value & 1) as i64)).to_string()
        }
        (Type::Sfixed32, Wire::Four(value)) => (value as i32).to_string(),
        (_, Wire::Four(value)) => value.to_string(),
        (_, Wire::Varint(value) | Wire::Eight(value)) => value.to_string(),
    }
}

/// `foo_bar.baz` as `fooBar.baz`
fn camel_case(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut upper = false;
    for character in path.chars() {
        match character {
            '_' => upper = true,
            _ => {
                out.push(if std::mem::take(&mut upper) { character.to_ascii_uppercase() } else { character });
            }
        }
    }
    out
}

//! protoc-gen-validate's rules, on protobuf bytes.
//!
//! Envoy checks a message when it loads it and an extension's configuration when it makes the extension; it reports the
//! first violation. Here one walk goes through a message and through every `Any` inside, and reports all.

mod deprecated;
mod in_progress;
mod path;
mod phrase;
mod special;
mod value;

use crate::error::{ConfigError, Rank, Severity, Stage};
use crate::schema::{self, Field, Kind, Message, Presence, Rule};
use crate::wire::{Wire, any_parts, last, packed, records, seconds_and_nanos};
pub use path::Step;
use phrase::count_phrase;
use std::collections::HashSet;
use std::fmt::Write;

/// After so many violations of a kind no more are kept.
pub const MAX_VIOLATIONS: usize = 200;

/// So many unknown fields of a message are named.
const MAX_UNKNOWN: usize = 32;

/// Messages may be nested this deep, as in prost's decoder.
const MAX_DEPTH: usize = 100;

/// A rule that is broken, or a field that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub path: Vec<Step>,
    /// Envoy's phrase.
    pub phrase: String,
    /// What kind of violation it is.
    pub kind: ViolationKind,
    order: Vec<u32>,
}

/// How bad a violation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// A rule is broken: Envoy refuses the message.
    Rule,
    /// The message has a field that the schema does not know: refused in static configuration, else ignored.
    UnknownField,
    /// A deprecated field or value is used, for the first time in the message: Envoy logs a warning.
    Deprecated,
    /// A message or a field that is marked as work in progress is used: Envoy logs a warning and counts it, once for each
    /// time that it looks.
    InProgress,
}

/// Checks a message, and the messages in its `Any`s.
pub fn validate(message: &'static Message, bytes: &[u8]) -> Vec<Violation> {
    let mut validator = Validator {
        frames: Vec::new(),
        root: 0,
        order: vec![0],
        marker: 0,
        counts: Vec::new(),
        deprecated: HashSet::new(),
        looks: 1,
        violations: Vec::new(),
        kept: [0; 4],
    };
    validator.message(message, bytes);
    validator.violations.sort_by(|a, b| a.order.cmp(&b.order));
    validator.violations
}

impl Violation {
    /// `static_resources.listeners[0].filter_chains[0].filters[0].typed_config.<any>.stat_prefix`
    pub fn path_text(&self) -> String {
        path::text(&self.path)
    }

    /// The violation as an error without a place in a file.
    pub fn into_error(self) -> ConfigError {
        let (stage, severity) = match self.kind {
            ViolationKind::Rule => (Stage::Rule, Severity::Refused),
            ViolationKind::UnknownField => (Stage::Unknown, Severity::Unknown),
            ViolationKind::Deprecated => (Stage::Rule, Severity::Deprecated),
            ViolationKind::InProgress => (Stage::Rule, Severity::InProgress),
        };
        ConfigError {
            path: self.path_text(),
            severity,
            rank: Rank { stage, order: self.order },
            ..ConfigError::new(stage, self.phrase)
        }
    }
}

/// Which of a field's values is meant.
#[derive(Clone)]
enum Element {
    Only,
    Index(u32),
    Key(String),
}

/// A message that is being checked, and the field of it that is.
struct Frame {
    message: &'static Message,
    field: &'static Field,
    element: Element,
}

struct Validator {
    frames: Vec<Frame>,
    /// The frame at which the message of the innermost `Any` begins.
    root: usize,
    /// Order of the value being checked: positions of declaration, and for each root a marker that puts the violations
    /// of the message itself before those inside its `Any`s.
    order: Vec<u32>,
    marker: usize,
    /// Values seen of each field, of the messages being checked.
    counts: Vec<u32>,
    /// Deprecated fields seen: message and field.
    deprecated: HashSet<(usize, u32)>,
    /// How often Envoy checks the message of the innermost `Any`.
    looks: usize,
    violations: Vec<Violation>,
    /// How many there are of each kind.
    kept: [usize; 4],
}

impl Validator {
    fn message(&mut self, message: &'static Message, bytes: &[u8]) {
        match message.kind {
            Kind::Any => return self.any(bytes),
            Kind::Duration => return self.duration(bytes),
            Kind::Plain | Kind::TypedStruct => {}
            _ => return,
        }
        if self.frames.len() >= MAX_DEPTH {
            return self
                .report(ViolationKind::Rule, "Unable to parse protobuf: it is nested too deep".to_string());
        }
        if message.in_progress() || message.in_file_in_progress() {
            self.message_in_progress(message);
        }
        let fields = message.fields();
        let base = self.counts.len();
        self.counts.resize(base + fields.len(), 0);
        let mut oneofs = 0_u64;
        let mut unknown = Vec::new();
        for record in records(bytes) {
            let Ok((number, wire)) = record else {
                self.report(
                    ViolationKind::Rule,
                    format!("Unable to parse protobuf: {} is malformed", message.name()),
                );
                break;
            };
            let index =
                message.index_of_number(number).filter(|index| fields[*index].takes(wire.wire_type()));
            let Some(index) = index else {
                if unknown.len() < MAX_UNKNOWN {
                    unknown.push(number.to_string());
                }
                continue;
            };
            oneofs |= fields[index].oneof().map_or(0, |oneof| 1 << (oneof & 63));
            self.record(message, index, base, wire);
        }
        if !unknown.is_empty() {
            self.unknown_fields(message, &unknown);
        }
        if !message.unchecked {
            self.absent(message, base, oneofs);
        }
        if special::of(message) != special::Special::Nothing {
            self.special(message, bytes);
        }
        self.counts.truncate(base);
    }

    /// Checks one record of a field.
    fn record(&mut self, message: &'static Message, index: usize, base: usize, wire: Wire<'_>) {
        let field = &message.fields()[index];
        let rules = if message.unchecked { &[] } else { field.rules() };
        if field.deprecated() {
            self.deprecated_field(message, field);
        }
        if field.in_progress() && self.counts[base + index] == 0 {
            self.field_in_progress(message, field);
        }
        self.order.push(special::rank(message, index));
        match field.presence {
            Presence::Implicit | Presence::Explicit => {
                self.counts[base + index] += 1;
                self.element(message, field, field.ty, rules, Element::Only, wire);
            }
            Presence::Packed if matches!(wire, Wire::Bytes(_)) => {
                for wire in packed(wire.bytes(), field.ty.wire_type()) {
                    self.list_element(message, index, base, rules, wire);
                }
            }
            Presence::Packed | Presence::Repeated => self.list_element(message, index, base, rules, wire),
            Presence::Map => {
                self.counts[base + index] += 1;
                self.map_entry(message, field, rules, wire.bytes());
            }
        }
        self.order.pop();
    }

    fn list_element(
        &mut self,
        message: &'static Message,
        index: usize,
        base: usize,
        rules: &'static [Rule],
        wire: Wire<'_>,
    ) {
        let field = &message.fields()[index];
        let position = self.counts[base + index];
        self.counts[base + index] += 1;
        self.order.push(position);
        self.element(message, field, field.ty, each(rules), Element::Index(position), wire);
        self.order.pop();
    }

    fn map_entry(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        rules: &'static [Rule],
        entry: &[u8],
    ) {
        let Some(inner) = field.ty.message() else { return };
        let [key_field, value_field] = inner.fields() else { return };
        if inner.in_file_in_progress() {
            self.message_in_progress(inner);
        }
        let key = value_of(entry, 1, key_field.ty);
        let value = value_of(entry, 2, value_field.ty);
        let name = match key {
            Wire::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Wire::Varint(number) | Wire::Eight(number) => (number as i64).to_string(),
            Wire::Four(number) => number.to_string(),
        };
        for rule in rules {
            if let Rule::Keys(keys) = rule {
                self.element(message, field, key_field.ty, keys, Element::Key(name.clone()), key);
            }
        }
        self.element(message, field, value_field.ty, each(rules), Element::Key(name), value);
    }

    /// Checks one value of a field.
    fn element(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        ty: schema::Type,
        rules: &'static [Rule],
        element: Element,
        wire: Wire<'_>,
    ) {
        let Some(inner) = ty.message() else {
            if field.has_deprecated_value()
                && let Wire::Varint(number) = wire
            {
                self.deprecated_value(message, field, number as i32, false);
            }
            if !rules.is_empty() {
                self.scalar(message, field, ty, rules, element, wire);
            }
            return;
        };
        let bytes = wire.bytes();
        match inner.kind {
            Kind::Wrapper => {
                let Some(value) = inner.fields().first() else { return };
                let wire = value_of(bytes, 1, value.ty);
                return self.scalar(message, field, value.ty, rules, element, wire);
            }
            Kind::Any => {
                let (url, _) = any_parts(bytes);
                if rules.iter().any(|rule| matches!(rule, Rule::AnyIn(list) if !list.contains(&url))) {
                    self.broken(message, field, &element, "type URL must be in list");
                }
            }
            _ => {}
        }
        let skip = rules.contains(&Rule::Skip);
        self.frames.push(Frame { message, field, element });
        if !skip || inner.kind == Kind::Any {
            self.message(inner, bytes);
        }
        if inner.kind == Kind::Duration
            && let Some(Frame { element, .. }) = self.frames.pop()
        {
            if let Some(reason) = value::duration(rules, bytes) {
                self.broken(message, field, &element, &reason);
            }
            return;
        }
        self.frames.pop();
    }

    fn scalar(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        ty: schema::Type,
        rules: &'static [Rule],
        element: Element,
        wire: Wire<'_>,
    ) {
        if rules.contains(&Rule::IgnoreEmpty) && wire == Wire::zero(ty.wire_type()) {
            return;
        }
        // The first broken rule speaks for the field, as in Envoy.
        if let Some(reason) = rules.iter().find_map(|rule| value::check(rule, ty, wire)) {
            self.broken(message, field, &element, &reason);
        }
    }

    /// Checks what is missing, and how many values there are.
    fn absent(&mut self, message: &'static Message, base: usize, oneofs: u64) {
        for (index, field) in message.fields().iter().enumerate() {
            let rules = field.rules();
            let count = self.counts[base + index];
            if count == 0 && field.has_deprecated_value() && field.presence == Presence::Implicit {
                self.deprecated_value(message, field, 0, true);
            }
            // A rule of a oneof's case counts only when that case is set.
            if rules.is_empty() || count == 0 && field.oneof().is_some() {
                continue;
            }
            self.order.push(special::rank(message, index));
            for rule in rules {
                match rule {
                    Rule::Required if count == 0 => {
                        self.broken(message, field, &Element::Only, "value is required")
                    }
                    Rule::Items(least, most) if count > 0 || !rules.contains(&Rule::IgnoreEmpty) => {
                        let least_met = least.is_none_or(|least| u64::from(count) >= least);
                        let most_met = most.is_none_or(|most| u64::from(count) <= most);
                        if !least_met || !most_met {
                            let unit = if field.presence == Presence::Map { "pair" } else { "item" };
                            let reason = count_phrase(*least, *most, unit);
                            self.broken(message, field, &Element::Only, &reason);
                        }
                    }
                    _ => {}
                }
            }
            if count == 0 && field.presence == Presence::Implicit {
                let wire = Wire::zero(field.ty.wire_type());
                self.scalar(message, field, field.ty, rules, Element::Only, wire);
            }
            self.order.pop();
        }
        for (index, oneof) in message.oneofs().iter().enumerate() {
            if oneof.required && oneofs & 1 << (index & 63) == 0 {
                self.order.push((message.fields().len() + index) as u32);
                let reason = format!("field: \"{}\", reason: is required", oneof.name());
                self.violate(&[Step::Field(oneof.name().into())], &reason);
                self.order.pop();
            }
        }
    }

    /// Checks the message in an `Any` whose type is known.
    fn any(&mut self, bytes: &[u8]) {
        let (url, value) = any_parts(bytes);
        let Some(message) = schema::message_of_url(url).filter(|_| !url.is_empty()) else { return };
        let (root, marker, looks) = (self.root, self.marker, self.looks);
        self.looks = self.looks_at_any();
        self.order[marker] = 1;
        self.root = self.frames.len();
        self.marker = self.order.len();
        self.order.push(0);
        self.message(message, value);
        self.order.truncate(self.marker);
        (self.root, self.marker, self.looks) = (root, marker, looks);
        self.order[marker] = 0;
    }

    /// Envoy refuses every duration below zero.
    fn duration(&mut self, bytes: &[u8]) {
        let (seconds, nanos) = seconds_and_nanos(bytes);
        let mut shown = String::new();
        if seconds != 0 {
            _ = write!(shown, " seconds: {seconds}");
        }
        if nanos != 0 {
            _ = write!(shown, " nanos: {nanos}");
        }
        let reason = if seconds < 0 || nanos < 0 {
            "Expected positive duration"
        } else if nanos > 999_999_999 || seconds > i64::MAX / 1_000_000_000 {
            "Duration out-of-range"
        } else {
            return;
        };
        self.report_early(ViolationKind::Rule, &[0], format!("Invalid duration: {reason}:{shown}"));
    }

    /// Reports what Envoy looks at before the rules of the whole message.
    fn report_early(&mut self, kind: ViolationKind, rank: &[u32], phrase: String) {
        let order = self.order.clone();
        self.order.truncate(self.marker + 1);
        self.order.extend_from_slice(rank);
        self.report(kind, phrase);
        self.order = order;
    }

    fn unknown_fields(&mut self, message: &'static Message, numbers: &[String]) {
        let parents: Vec<_> = self.frames[self.root..].iter().map(|frame| frame.message.name()).collect();
        let parents = if parents.is_empty() { "root".to_string() } else { parents.join("::") };
        let numbers = numbers.join(", ");
        let name = message.name();
        let phrase = format!(
            "Protobuf message (type {name}({parents}) with unknown field set {{{numbers}}}) has unknown fields"
        );
        self.report(ViolationKind::UnknownField, phrase);
    }

    fn broken(&mut self, message: &'static Message, field: &'static Field, element: &Element, reason: &str) {
        let label = phrase::label(field.name(), element);
        let reason = format!("{}ValidationError.{label}: {reason}", message.short_name());
        let mut steps = vec![Step::Field(field.name().into())];
        steps.extend(step_of(element));
        self.violate(&steps, &reason);
    }

    /// Records a violation at a field of the message being checked.
    fn violate(&mut self, steps: &[Step], reason: &str) {
        let mut chain = String::new();
        for frame in &self.frames[self.root..] {
            let label = phrase::label(frame.field.name(), &frame.element);
            let name = frame.message.short_name();
            _ = write!(
                chain,
                "{name}ValidationError.{label}: embedded message failed validation | caused by "
            );
        }
        let before = self.violations.len();
        self.report(ViolationKind::Rule, format!("Proto constraint validation failed ({chain}{reason})"));
        if let Some(violation) = self.violations.get_mut(before) {
            violation.path.extend_from_slice(steps);
        }
    }

    fn report(&mut self, kind: ViolationKind, phrase: String) {
        let kept = &mut self.kept[kind as usize];
        if *kept >= MAX_VIOLATIONS {
            return;
        }
        *kept += 1;
        let mut path = Vec::new();
        for frame in &self.frames {
            // What follows an Any in the frames is the message inside.
            path.push(Step::Field(frame.field.name().into()));
            path.extend(step_of(&frame.element));
            let ty = match frame.field.presence {
                Presence::Map => {
                    frame.field.ty.message().and_then(|entry| entry.fields().get(1)).map(|field| field.ty)
                }
                _ => Some(frame.field.ty),
            };
            if ty.and_then(schema::Type::message).is_some_and(|message| message.kind == Kind::Any) {
                path.push(Step::Any);
            }
        }
        self.violations.push(Violation { path, phrase, kind, order: self.order.clone() });
    }
}

/// The rules of a list's elements or a map's values.
fn each(rules: &'static [Rule]) -> &'static [Rule] {
    rules
        .iter()
        .find_map(|rule| if let Rule::Each(rules) = rule { Some(*rules) } else { None })
        .unwrap_or(&[])
}

/// The value of a field that is a scalar or a message, or its default.
fn value_of(bytes: &[u8], number: u32, ty: schema::Type) -> Wire<'_> {
    last(bytes, number, ty.wire_type()).unwrap_or(Wire::zero(ty.wire_type()))
}

fn step_of(element: &Element) -> Option<Step> {
    match element {
        Element::Only => None,
        Element::Index(index) => Some(Step::Index(*index)),
        Element::Key(key) => Some(Step::Key(key.clone())),
    }
}

#[cfg(test)]
mod tests;

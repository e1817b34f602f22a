//! Configuration is never accepted and ignored: what a builder does not read is refused by name.
//!
//! Each builder says next to its code which fields of which messages it reads ([`Covered`]), and which it knowingly
//! leaves aside because leaving them aside is harmless. [`Coverage::check`] walks a message's wire bytes with the schema and
//! reports every field that is set and that nobody reads. Extension configs are walked too once their message is
//! covered; one that is not covered belongs to an extension that the registry refuses by itself.

use nuncio_api::schema::{self, Kind, Presence};
use nuncio_api::wire::{Wire, records};
use std::collections::HashMap;

/// What is read of one message.
#[derive(Clone, Copy, Debug)]
pub struct Covered {
    /// Full name of the message.
    pub message: &'static str,
    /// Fields that are read.
    pub fields: &'static [&'static str],
    /// Fields that are left aside, each with the reason why that is harmless.
    pub ignored: &'static [(&'static str, &'static str)],
}

impl Covered {
    /// Fields that are read.
    pub const fn new(message: &'static str, fields: &'static [&'static str]) -> Covered {
        Covered { message, fields, ignored: &[] }
    }
    /// Adds fields that are knowingly left aside.
    pub const fn ignoring(self, ignored: &'static [(&'static str, &'static str)]) -> Covered {
        Covered { ignored, ..self }
    }
}

/// A field that is set and that nobody reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Where: `static_resources.clusters[0].health_checks`.
    pub path: String,
    /// Message and field: `Cluster.health_checks`.
    pub field: String,
}

/// The tables of all builders.
#[derive(Default)]
pub struct Coverage {
    by_message: HashMap<&'static str, Covered>,
}

impl Coverage {
    /// Adds a table.
    ///
    /// # Panics
    /// When a message is there already: two builders would read it. At start only.
    pub fn add(&mut self, table: impl IntoIterator<Item = &'static Covered>) {
        for c in table {
            let old = self.by_message.insert(c.message, *c);
            assert!(old.is_none(), "two tables cover {}", c.message);
        }
    }
    /// Every table, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Covered> {
        self.by_message.values()
    }
    /// Fields that are said to be read while nobody says what is read of the messages in them, as
    /// `(Message.field, type)`: whatever is set there would be passed over.
    pub fn holes(&self) -> Vec<(String, &'static str)> {
        let mut holes = vec![];
        for c in self.by_message.values() {
            let fields = schema::message(c.message).into_iter().flat_map(|m| m.fields());
            for f in fields.filter(|f| c.fields.contains(&f.name())) {
                // The value's, of a map.
                let value = |m: &'static schema::Message| match f.presence {
                    Presence::Map => m.fields().get(1).and_then(|v| v.ty.message()),
                    _ => Some(m),
                };
                let Some(inner) = f.ty.message().and_then(value) else { continue };
                let known = self.by_message.contains_key(inner.name());
                if !known && inner.kind == Kind::Plain && !inner.fields().is_empty() {
                    holes.push((format!("{}.{}", c.message, f.name()), inner.name()));
                }
            }
        }
        holes.sort();
        holes
    }
    /// Every field set in `bytes`, a message of type `message`, that nobody reads.
    pub fn check(&self, message: &str, bytes: &[u8]) -> Vec<Unread> {
        let mut walk = Walk { coverage: self, path: vec![], found: vec![] };
        if let Some(m) = schema::message(message) {
            walk.message(m, bytes);
        }
        walk.found
    }
}

struct Walk<'a> {
    coverage: &'a Coverage,
    path: Vec<String>,
    found: Vec<Unread>,
}

impl Walk<'_> {
    fn message(&mut self, m: &'static schema::Message, bytes: &[u8]) {
        if m.kind == Kind::Any {
            return self.any(bytes);
        }
        let Some(covered) = self.coverage.by_message.get(m.name()).copied() else { return };
        let mut seen: HashMap<u32, usize> = HashMap::new();
        for (number, value) in records(bytes).flatten() {
            let Some(f) = m.index_of_number(number).map(|i| &m.fields()[i]) else { continue };
            let n = seen.entry(number).or_insert(0);
            let segment = if f.is_list() { format!("{}[{n}]", f.name()) } else { f.name().to_owned() };
            *n += 1;
            self.path.push(segment);
            if covered.fields.contains(&f.name()) {
                if let (Some(inner), Wire::Bytes(b)) = (f.ty.message(), value) {
                    self.inner(inner, f, b);
                }
            } else if !covered.ignored.iter().any(|(i, _)| *i == f.name()) {
                let unread =
                    Unread { path: self.path.join("."), field: format!("{}.{}", m.short_name(), f.name()) };
                if !self.found.contains(&unread) {
                    self.found.push(unread);
                }
            }
            self.path.pop();
        }
    }
    /// A message in a field; in a map it is the entry's value.
    fn inner(&mut self, m: &'static schema::Message, f: &schema::Field, bytes: &[u8]) {
        if f.presence != Presence::Map {
            return self.message(m, bytes);
        }
        for (number, value) in records(bytes).flatten() {
            if let (2, Wire::Bytes(b)) = (number, value)
                && let Some(inner) = m.fields().get(1).and_then(|v| v.ty.message())
            {
                self.message(inner, b);
            }
        }
    }
    fn any(&mut self, bytes: &[u8]) {
        let (mut url, mut value) = (&b""[..], &b""[..]);
        for f in records(bytes).flatten() {
            match f {
                (1, Wire::Bytes(b)) => url = b,
                (2, Wire::Bytes(b)) => value = b,
                _ => {}
            }
        }
        let name = std::str::from_utf8(url).unwrap_or_default().rsplit('/').next().unwrap_or_default();
        if let Some(m) = schema::message(name) {
            self.message(m, value);
        }
    }
}

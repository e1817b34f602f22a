//! `google.protobuf.Any`, and the `TypedStruct`s inside.

use super::{Encoder, Step, first_character};
use crate::schema::{self, Kind, Message};
use crate::suggest;
use crate::tree::{Node, Value};
use crate::wire::{put_bytes, put_delimited, put_tag};

impl<'t> Encoder<'t> {
    pub(super) fn any(&mut self, node: Node<'t>, out: &mut Vec<u8>) {
        let Value::Map(entries) = node.value() else {
            self.unexpected(node, '{');
            return;
        };
        let Some(url_node) = node.get("@type") else {
            if entries.len() > 0 {
                let reason = "in legacy mode, missing @type in Any is only allowed for an empty object";
                self.invalid(node, reason);
            }
            return;
        };
        let Value::Text(url) = url_node.value() else {
            let found = first_character(url_node);
            self.invalid(url_node, &format!("unexpected character: '{found}'; expected '\"'"));
            return;
        };
        let Some(message) = self.resolve(url, url_node) else { return };
        if message.kind == Kind::TypedStruct && self.typed_struct(node, out) {
            return;
        }
        put_tag(out, 1, 2);
        put_bytes(out, url.as_bytes());
        self.path.push(Step::Any(message));
        put_value(out, |out| match message.kind {
            Kind::Plain | Kind::TypedStruct => self.fields(message, node, entries, true, out),
            _ => self.well_known(message, node, out),
        });
        self.path.pop();
    }

    /// A message whose JSON is not an object stands under `value`.
    fn well_known(&mut self, message: &'static Message, node: Node<'t>, out: &mut Vec<u8>) {
        let Value::Map(entries) = node.value() else { return };
        for (key, value) in entries {
            match key.text() {
                "@type" => {}
                "value" => self.message(message, value, out),
                _ => self.invalid(key, "fields in a well-known-typed Any must be @type or value"),
            }
        }
    }

    /// Encodes the message that a `TypedStruct` stands for; false if that is not known.
    fn typed_struct(&mut self, node: Node<'t>, out: &mut Vec<u8>) -> bool {
        let url = node.get("type_url").or_else(|| node.get("typeUrl")).map_or("", Node::text);
        let Some(message) = schema::message_of_url(url).filter(|message| message.kind == Kind::Plain) else {
            return false;
        };
        put_tag(out, 1, 2);
        put_bytes(out, url.as_bytes());
        let Some((key, value)) = entry(node, "value").filter(|(_, value)| !value.is_null()) else {
            return true;
        };
        let Some(field) = schema::message("xds.type.v3.TypedStruct").and_then(|known| known.field("value"))
        else {
            return false;
        };
        self.path.push(Step::Any(message));
        self.path.push(Step::Field(key.text(), field));
        self.roots.push((message, self.path.len()));
        put_value(out, |out| self.message(message, value, out));
        self.roots.pop();
        self.path.truncate(self.path.len() - 2);
        true
    }

    /// The message that a type URL names.
    fn resolve(&mut self, url: &str, node: Node<'t>) -> Option<&'static Message> {
        if url.split_once('/').is_none_or(|(host, _)| host.is_empty()) {
            let reason = format!("@type must contain at least one / and a nonempty host; got: {url}");
            let suggestion =
                schema::message(url).map(|known| format!("type.googleapis.com/{}", known.name()));
            self.mismatch(node, &reason, suggestion);
            return None;
        }
        let message = schema::message_of_url(url);
        if message.is_none() && !self.is_full() {
            let (host, name) = url.rsplit_once('/').unwrap_or(("", url));
            let names = schema::messages().iter().filter(|known| !known.map_entry).map(Message::name);
            let suggestion = suggest::nearest(name, names).map(|known| format!("{host}/{known}"));
            self.mismatch(node, &format!("could not find @type '{url}'"), suggestion);
        }
        message
    }
}

/// The last entry with that key.
fn entry<'t>(node: Node<'t>, name: &str) -> Option<(Node<'t>, Node<'t>)> {
    match node.value() {
        Value::Map(entries) => entries.filter(|(key, _)| key.text() == name).last(),
        _ => None,
    }
}

/// The value of an `Any`; left out if it is empty.
fn put_value(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_tag(out, 2, 2);
    let value = out.len();
    put_delimited(out, write);
    if out.len() == value + 1 {
        out.truncate(start);
    }
}

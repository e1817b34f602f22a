//! The bootstrap: its static listeners and clusters, of which there may be thousands, one after the other.

use super::element::{line, name};
use super::{BOOTSTRAP, message, type_url, typed};
use crate::admin::json;
use crate::admin::mask::Mask;
use crate::proto_json::{self, OPTIONS};
use crate::server::Server;
use crate::time::rfc3339_millis;
use bytes::Bytes;
use nuncio_api::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::json::{write_fields, write_value};
use nuncio_api::schema::{self, Field, Message};
use nuncio_api::wire::{Wire, put_bytes, put_tag, put_value, records};
use prost::Name;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// `static_resources`
const RESOURCES: &str = "static_resources";

/// How deep the fields of the bootstrap, those of `static_resources`, and the elements of its lists are indented.
const FIELDS: usize = 4;
const LISTS: usize = FIELDS + 1;
const ELEMENTS: usize = LISTS + 1;

/// `envoy.admin.v3.BootstrapConfigDump`, while it is written.
pub(super) struct BootstrapDump {
    /// The fields before `static_resources`, then those after it.
    fields: [Vec<u8>; 2],
    /// The lists of `static_resources`: each with its elements.
    lists: VecDeque<(&'static Field, VecDeque<Bytes>)>,
    read: String,
    has_resources: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Begin,
    /// In `static_resources`: nothing of it is written, something is, or the beginning of a list.
    Resources {
        first: bool,
        in_list: bool,
    },
}

impl BootstrapDump {
    /// Of what the server was started with, or loaded since.
    pub fn new(server: &Server) -> BootstrapDump {
        let (bytes, at) = server.bootstrap();
        let schema = schema::message(&Bootstrap::full_name());
        let number = |name| schema.and_then(|m| m.field(name)).map_or(0, |f| f.number);
        let (node, resources) = (number("node"), number(RESOURCES));
        let mut d = BootstrapDump {
            fields: Default::default(),
            lists: VecDeque::new(),
            read: rfc3339_millis(at),
            has_resources: false,
            state: State::Begin,
        };
        if let Some(own) = server.node_message() {
            put_tag(&mut d.fields[0], node, 2);
            put_bytes(&mut d.fields[0], &prost::Message::encode_to_vec(own));
        }
        for (number, wire) in records(&bytes).map_while(Result::ok) {
            match wire {
                Wire::Bytes(inner) if number == resources => d.resources(&bytes, inner),
                _ if number == node => {}
                _ => {
                    let at = &mut d.fields[usize::from(number > resources)];
                    put_tag(at, number, wire.wire_type());
                    put_value(at, wire);
                }
            }
        }
        d.lists.make_contiguous().sort_by_key(|(f, _)| f.number);
        d
    }
    fn resources(&mut self, all: &Bytes, bytes: &[u8]) {
        self.has_resources = true;
        let Some(schema) = resources() else { return };
        for (number, wire) in records(bytes).map_while(Result::ok) {
            let field = schema.index_of_number(number).and_then(|i| schema.fields().get(i));
            let (Some(field), Wire::Bytes(element)) = (field, wire) else { continue };
            let element = all.slice_ref(element);
            match self.lists.iter_mut().find(|(f, _)| f.number == number) {
                Some((_, elements)) => elements.push_back(element),
                None => self.lists.push_back((field, [element].into())),
            }
        }
    }
    /// Writes one resource; true when all is written.
    pub fn step(&mut self, out: &mut String) -> bool {
        let bootstrap = schema::message(&Bootstrap::full_name());
        // A String takes everything.
        let fields = |bytes: &[u8], first: &mut bool, out: &mut String| {
            let _ = bootstrap.map(|m| write_fields(out, m, bytes, OPTIONS, FIELDS, first));
        };
        let mut first = true;
        match self.state {
            State::Begin => {
                out.push('{');
                name("@type", FIELDS - 1, &mut first, out);
                json::string(&type_url(BOOTSTRAP), out);
                name("bootstrap", FIELDS - 1, &mut first, out);
                out.push('{');
                let mut first = true;
                fields(&self.fields[0], &mut first, out);
                if self.has_resources {
                    name(RESOURCES, FIELDS, &mut first, out);
                    out.push('{');
                    self.state = State::Resources { first: true, in_list: false };
                    return false;
                }
                self.end(first, out)
            }
            State::Resources { first, in_list } => {
                let Some((field, elements)) = self.lists.front_mut() else {
                    if !first {
                        line(FIELDS, out);
                    }
                    out.push('}');
                    return self.end(false, out);
                };
                let mut first = first;
                if !in_list {
                    name(field.name(), LISTS, &mut first, out);
                    out.push('[');
                } else {
                    out.push(',');
                }
                line(ELEMENTS, out);
                if let (Some(element), Some(m)) = (elements.pop_front(), field.ty.message()) {
                    let _ = write_value(out, m, &element, OPTIONS, ELEMENTS);
                }
                let ends = elements.is_empty();
                if ends {
                    line(LISTS, out);
                    out.push(']');
                    self.lists.pop_front();
                }
                self.state = State::Resources { first, in_list: !ends };
                false
            }
        }
    }
    /// What follows the resources; `first`: nothing came before.
    fn end(&mut self, mut first: bool, out: &mut String) -> bool {
        if let Some(m) = schema::message(&Bootstrap::full_name()) {
            let _ = write_fields(out, m, &self.fields[1], OPTIONS, FIELDS, &mut first);
        }
        if !first {
            line(FIELDS - 1, out);
        }
        out.push('}');
        name("last_updated", FIELDS - 1, &mut false, out);
        json::string(&self.read, out);
        line(FIELDS - 2, out);
        out.push('}');
        true
    }
}

fn resources() -> Option<&'static Message> {
    schema::message("envoy.config.bootstrap.v3.Bootstrap.StaticResources")
}

/// What a mask keeps of the dump; none when it does not fit.
pub(super) fn trimmed(server: &Server, mask: &Mask) -> Option<Value> {
    let message = message(BOOTSTRAP).filter(|m| mask.fits(m))?;
    let (bytes, at) = server.bootstrap();
    let mut value = json!({"last_updated": rfc3339_millis(at)});
    if mask.keeps("bootstrap") {
        let mut b: Bootstrap = prost::Message::decode(bytes).unwrap_or_default(); // it was encoded or checked here
        b.node = server.node_message().cloned().map(Box::new);
        let any =
            prost_types::Any { type_url: Bootstrap::type_url(), value: prost::Message::encode_to_vec(&b) };
        let mut bootstrap = proto_json::any(&any);
        if let Value::Object(o) = &mut bootstrap {
            o.shift_remove("@type");
        }
        value = json!({"bootstrap": bootstrap, "last_updated": rfc3339_millis(at)});
    }
    mask.trim(message, &mut value);
    Some(typed(BOOTSTRAP, value))
}

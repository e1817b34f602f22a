//! One element of a list: a resource, and what is known of it.

use super::List;
use crate::admin::json;
use crate::admin::mask::Mask;
use crate::admin::view::{ConfigView, Dumped};
use crate::proto_json::{self, OPTIONS};
use crate::time::rfc3339_millis;
use nuncio_api::json::{write_any, write_fields};
use nuncio_api::schema::{self, Message};
use serde_json::{Map, Value};
use std::rc::Rc;

/// An element that is asked for by `?resource=`.
pub(super) struct Element {
    /// Where it stands.
    pub list: &'static List,
    /// What it is.
    pub message: &'static Message,
    /// What is in it.
    pub view: ConfigView,
    /// What is kept of it.
    pub mask: Option<Rc<Mask>>,
}

impl Element {
    /// Whether the mask fits.
    pub fn fits(&self) -> bool {
        let mut v = value(self.list, &self.view);
        self.mask.as_ref().is_none_or(|mask| mask.trim_resource(self.message, &mut v))
    }
    /// Writes it with its type.
    pub fn write_alone(&self, depth: usize, out: &mut String) {
        let url = format!("type.googleapis.com/{}", self.message.name());
        let Some(mask) = &self.mask else {
            return write(self.list, &self.view, Some(&url), depth, out);
        };
        let mut v = value(self.list, &self.view);
        mask.trim_resource(self.message, &mut v);
        let mut typed = Map::new();
        typed.insert("@type".into(), url.into());
        if let Value::Object(fields) = v {
            typed.extend(fields);
        }
        json::write(&Value::Object(typed), depth, out);
    }
}

/// What stands around the configuration, in the order of the message's fields: what comes before it, and what after.
fn around(l: &List, c: &ConfigView) -> [Vec<(&'static str, String)>; 2] {
    let secret = matches!(l.of, Dumped::Secrets | Dumped::DynamicSecrets | Dumped::WarmingSecrets);
    let (mut before, mut after) = (vec![], vec![]);
    if secret {
        before.push(("name", c.name.clone()));
    }
    if let Some(v) = c.version.as_ref().filter(|v| !v.is_empty()) {
        before.push(("version_info", v.to_string()));
    }
    if l.dated {
        let at = if secret { &mut before } else { &mut after };
        at.push(("last_updated", rfc3339_millis(c.last_updated)));
    }
    [before, after]
}

/// Writes one, with its type if that is asked for.
pub(super) fn write(l: &List, c: &ConfigView, url: Option<&str>, depth: usize, out: &mut String) {
    let any = (c.config)();
    let mut first = true;
    out.push('{');
    if let Some(url) = url {
        name("@type", depth + 1, &mut first, out);
        json::string(url, out);
    }
    if l.field.is_empty() {
        if let Some(message) = schema::message_of_url(&any.type_url) {
            // A String takes everything.
            let _ = write_fields(out, message, &any.value, OPTIONS, depth + 1, &mut first);
        }
    } else {
        let [before, after] = around(l, c);
        let text = |(field, text): (&str, String), first: &mut bool, out: &mut String| {
            name(field, depth + 1, first, out);
            json::string(&text, out);
        };
        before.into_iter().for_each(|entry| text(entry, &mut first, out));
        name(l.field, depth + 1, &mut first, out);
        let _ = write_any(out, &any, OPTIONS, depth + 1); // likewise
        after.into_iter().for_each(|entry| text(entry, &mut first, out));
    }
    if !first {
        line(depth, out);
    }
    out.push('}');
}

/// The same as a value, for a mask to cut.
fn value(l: &List, c: &ConfigView) -> Value {
    let mut config = proto_json::any(&(c.config)());
    if l.field.is_empty() {
        if let Value::Object(o) = &mut config {
            o.shift_remove("@type");
        }
        return config;
    }
    let [before, after] = around(l, c);
    let text = |(field, text): (&str, String)| (field.to_owned(), text.into());
    let config = [(l.field.to_owned(), config)];
    Value::Object(before.into_iter().map(text).chain(config).chain(after.into_iter().map(text)).collect())
}

/// Begins an entry of an object that is open.
pub(super) fn name(name: &str, depth: usize, first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
    line(depth, out);
    json::string(name, out);
    out.push_str(": ");
}

/// Begins a line.
pub(super) fn line(depth: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', depth));
}

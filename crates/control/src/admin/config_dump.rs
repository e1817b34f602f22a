//! `/config_dump`: the configuration in use, a piece at a time.

use super::mask::Mask;
use super::response::{Chunks, JSON};
use super::view::{ConfigView, Dumped};
use super::{AdminCx, Params, Request, Response, json};
use crate::proto_json;
use crate::regex::Search;
use crate::time::rfc3339_millis;
use nuncio_api::schema::{self, Message};
use serde_json::{Map, Value};
use std::collections::VecDeque;

/// Roughly how much one piece of the answer holds.
const CHUNK: usize = 32 << 10;

/// A section: one message of `envoy.admin.v3`.
struct Section {
    /// Its message, without the package.
    message: &'static str,
    /// Its list, the field of the list's elements that holds the configuration, and where its elements come from.
    list: Option<(&'static str, &'static str, Dumped)>,
    /// Elements say when they were taken over.
    dated: bool,
}

const fn section(message: &'static str, list: &'static str, field: &'static str, of: Dumped) -> Section {
    Section { message, list: Some((list, field, of)), dated: true }
}

/// The sections after the bootstrap, in Envoy's order. Those without a list are never filled yet.
const SECTIONS: &[Section] = &[
    section("ClustersConfigDump", "static_clusters", "cluster", Dumped::Clusters),
    Section {
        dated: false,
        ..section("EndpointsConfigDump", "static_endpoint_configs", "endpoint_config", Dumped::Endpoints)
    },
    section("ListenersConfigDump", "static_listeners", "listener", Dumped::Listeners),
    Section { message: "ScopedRoutesConfigDump", list: None, dated: false },
    section("RoutesConfigDump", "static_route_configs", "route_config", Dumped::Routes),
    section("SecretsConfigDump", "static_secrets", "secret", Dumped::Secrets),
];

const BOOTSTRAP: &str = "BootstrapConfigDump";

/// `/config_dump`
pub fn config_dump(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    let params = request.params();
    let filter =
        match params.get_filled("name_regex").map(|r| Search::whole(r).map_err(|e| (r, e))).transpose() {
            Ok(f) => f,
            Err((r, e)) => {
                let body = format!("INVALID_ARGUMENT: Error while parsing name_regex from {r}: {e}");
                return Response { content_type: "text/plain", ..Response::text(400, body) };
            }
        };
    let mask = params.get_filled("mask").map(Mask::parse);
    let result = match params.get_filled("resource") {
        Some(resource) => one_list(cx, resource, mask.as_ref(), filter.as_ref(), &params),
        None => all(cx, mask.as_ref(), filter.as_ref(), &params),
    };
    result.unwrap_or_else(|(status, body)| Response {
        content_type: "text/plain",
        headers: vec![("x-content-type-options", "nosniff")],
        ..Response::text(status, body)
    })
}

/// A refusal: status and text.
type Refused = (u16, String);

fn full_name(message: &str) -> String {
    format!("envoy.admin.v3.{message}")
}
fn message(name: &str) -> Option<&'static Message> {
    schema::message(&full_name(name))
}

fn shown(s: &Section, params: &Params) -> bool {
    s.message != "EndpointsConfigDump" || params.has("include_eds")
}

fn items(cx: &AdminCx<'_>, of: Dumped, filter: Option<&Search>) -> VecDeque<ConfigView> {
    let mut all = cx.view.dump(of);
    all.retain(|c| filter.is_none_or(|f| f.found_in(&c.name)));
    all.into()
}

/// Everything: a list of sections.
fn all(
    cx: &AdminCx<'_>,
    mask: Option<&Mask>,
    filter: Option<&Search>,
    params: &Params,
) -> Result<Response, Refused> {
    let mut parts = VecDeque::new();
    let bootstrap = typed(BOOTSTRAP, cx.server.bootstrap_json());
    match mask {
        None => parts.push_back(Part::Whole(bootstrap)),
        Some(mask) => parts.extend(trimmed(BOOTSTRAP, bootstrap, mask).map(Part::Whole)),
    }
    for s in SECTIONS.iter().filter(|s| shown(s, params)) {
        let elements = s.list.map_or_else(VecDeque::new, |(.., of)| items(cx, of, filter));
        match mask {
            None => parts.push_back(Part::List(s, elements)),
            Some(mask) => {
                let mut o = Map::new();
                if let Some((list, ..)) = s.list.filter(|_| !elements.is_empty()) {
                    o.insert(list.into(), elements.iter().map(|e| element(s, e)).collect());
                }
                parts.extend(trimmed(s.message, typed(s.message, Value::Object(o)), mask).map(Part::Whole));
            }
        }
    }
    if let (true, Some(mask)) = (parts.is_empty(), mask) {
        let text = params.get("mask").unwrap_or_default();
        debug_assert_eq!(*mask, Mask::parse(text));
        return Err((400, format!("FieldMask {text} could not be successfully applied to any configs.")));
    }
    Ok(Response::chunks(JSON, Dump { parts, begun: false, list_begun: false }))
}

/// `?resource=`: the elements of one list.
fn one_list(
    cx: &AdminCx<'_>,
    resource: &str,
    mask: Option<&Mask>,
    filter: Option<&Search>,
    params: &Params,
) -> Result<Response, Refused> {
    let sections = std::iter::once((BOOTSTRAP, None))
        .chain(SECTIONS.iter().filter(|s| shown(s, params)).map(|s| (s.message, Some(s))));
    for (name, section) in sections {
        let Some(field) = message(name).and_then(|m| m.field(resource)).filter(|f| f.name() == resource)
        else {
            continue;
        };
        if !field.is_list() {
            let text =
                format!("{resource} is not a repeated field. Use ?mask={resource} to get only this field");
            return Err((400, text));
        }
        let element_type = field.ty.message();
        let list = section.and_then(|s| Some((s, s.list?))).filter(|(_, (list, ..))| *list == resource);
        let elements = list.map_or_else(VecDeque::new, |(_, (.., of))| items(cx, of, filter));
        let mut parts = VecDeque::new();
        for e in &elements {
            let Some((s, m)) = section.zip(element_type) else { continue };
            let mut value = element(s, e);
            if mask.is_some_and(|mask| !mask.trim_resource(m, &mut value)) {
                let text = mask.map(Mask::debug).unwrap_or_default();
                return Err((400, format!("FieldMask \n{text} could not be successfully used.")));
            }
            let mut o = Map::new();
            o.insert("@type".into(), format!("type.googleapis.com/{}", m.name()).into());
            if let Value::Object(fields) = value {
                o.extend(fields);
            }
            parts.push_back(Part::Whole(Value::Object(o)));
        }
        return Ok(Response::chunks(JSON, Dump { parts, begun: false, list_begun: false }));
    }
    Err((404, format!("{resource} not found in config dump")))
}

/// A message with its type in front.
fn typed(message: &str, value: Value) -> Value {
    let mut o = Map::new();
    o.insert("@type".into(), format!("type.googleapis.com/{}", full_name(message)).into());
    if let Value::Object(fields) = value {
        o.extend(fields);
    }
    Value::Object(o)
}

fn trimmed(name: &str, mut value: Value, mask: &Mask) -> Option<Value> {
    if let Value::Object(o) = &mut value {
        o.shift_remove("@type");
    }
    mask.trim(message(name)?, &mut value).then(|| typed(name, value))
}

/// One element of a section's list.
fn element(s: &Section, c: &ConfigView) -> Value {
    let (mut o, config) = (Map::new(), proto_json::any(&(c.config)()));
    let Some((_, field, of)) = s.list else { return Value::Object(o) };
    if of == Dumped::Secrets {
        o.insert("name".into(), c.name.clone().into()); // static ones were never updated: they have no time
        o.insert(field.into(), config);
        return Value::Object(o);
    }
    o.insert(field.into(), config);
    if s.dated {
        o.insert("last_updated".into(), rfc3339_millis(c.last_updated).into());
    }
    Value::Object(o)
}

enum Part {
    Whole(Value),
    List(&'static Section, VecDeque<ConfigView>),
}

struct Dump {
    parts: VecDeque<Part>,
    begun: bool,
    /// The first part is a list and its beginning is written.
    list_begun: bool,
}

impl Dump {
    /// Writes one element; true when its part is done.
    fn step(&mut self, out: &mut String) -> bool {
        let Some(part) = self.parts.front_mut() else { return true };
        if !self.list_begun {
            out.push_str(if self.begun { ",\n  " } else { "{\n \"configs\": [\n  " });
            self.begun = true;
        }
        match part {
            Part::Whole(v) => {
                json::write(v, 2, out);
                true
            }
            Part::List(s, elements) => {
                let Some(e) = elements.pop_front() else {
                    match self.list_begun {
                        true => out.push_str("\n   ]\n  }"),
                        false => json::write(&typed(s.message, Value::Null), 2, out),
                    }
                    self.list_begun = false;
                    return true;
                };
                if self.list_begun {
                    out.push_str(",\n    ");
                } else {
                    self.list_begun = true;
                    out.push_str("{\n   \"@type\": ");
                    json::string(&format!("type.googleapis.com/{}", full_name(s.message)), out);
                    out.push_str(",\n   ");
                    json::string(s.list.map_or("", |(list, ..)| list), out);
                    out.push_str(": [\n    ");
                }
                json::write(&element(s, &e), 4, out);
                false
            }
        }
    }
}

impl Chunks for Dump {
    fn next(&mut self, out: &mut String) -> bool {
        while out.len() < CHUNK {
            if self.parts.is_empty() {
                out.push_str(if self.begun { "\n ]\n}\n" } else { "{}\n" });
                return false;
            }
            if self.step(out) {
                self.parts.pop_front();
            }
        }
        true
    }
}

//! `/config_dump`: the configuration in use. Whatever its size, the answer is made a resource at a time, while it is sent.

mod bootstrap;
mod element;
mod scopes;

use super::mask::Mask;
use super::response::{Chunks, JSON};
use super::view::{ConfigView, Dumped};
use super::{AdminCx, Params, Request, Response, json};
use crate::regex::Search;
use bootstrap::BootstrapDump;
use element::Element;
use nuncio_api::envoy::admin::v3::scoped_routes_config_dump::{
    DynamicScopedRouteConfigs, InlineScopedRouteConfigs,
};
use nuncio_api::schema::{self, Message};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Roughly how much one piece of the answer holds.
const CHUNK: usize = 32 << 10;

/// A section: one message of `envoy.admin.v3`.
struct Section {
    /// Its message, without the package.
    message: &'static str,
    lists: &'static [List],
}

/// A list of a section.
struct List {
    /// Its field.
    name: &'static str,
    /// The field of its elements that holds the configuration; empty when the configuration is all there is.
    field: &'static str,
    /// Where its elements come from.
    of: Dumped,
    /// Elements say when they were taken over.
    dated: bool,
}

const fn list(name: &'static str, field: &'static str, of: Dumped) -> List {
    List { name, field, of, dated: true }
}

/// The sections after the bootstrap, in Envoy's order.
const SECTIONS: &[Section] = &[
    Section {
        message: "ClustersConfigDump",
        lists: &[
            list("static_clusters", "cluster", Dumped::Clusters),
            list("dynamic_active_clusters", "cluster", Dumped::DynamicClusters),
            list("dynamic_warming_clusters", "cluster", Dumped::WarmingClusters),
        ],
    },
    // Only when there are some.
    Section { message: "EcdsConfigDump", lists: &[list("ecds_filters", "ecds_filter", Dumped::Extensions)] },
    Section {
        message: "EndpointsConfigDump",
        lists: &[
            List { dated: false, ..list("static_endpoint_configs", "endpoint_config", Dumped::Endpoints) },
            List {
                dated: false,
                ..list("dynamic_endpoint_configs", "endpoint_config", Dumped::DynamicEndpoints)
            },
        ],
    },
    Section {
        message: "ListenersConfigDump",
        lists: &[
            list("static_listeners", "listener", Dumped::Listeners),
            list("dynamic_listeners", "", Dumped::DynamicListeners),
        ],
    },
    Section {
        message: "ScopedRoutesConfigDump",
        lists: &[
            list("inline_scoped_route_configs", "", Dumped::Scopes),
            list("dynamic_scoped_route_configs", "", Dumped::DynamicScopes),
        ],
    },
    Section {
        message: "RoutesConfigDump",
        lists: &[
            list("static_route_configs", "route_config", Dumped::Routes),
            list("dynamic_route_configs", "route_config", Dumped::DynamicRoutes),
        ],
    },
    // Static secrets were never updated: they have no time.
    Section {
        message: "SecretsConfigDump",
        lists: &[
            List { dated: false, ..list("static_secrets", "secret", Dumped::Secrets) },
            list("dynamic_active_secrets", "secret", Dumped::DynamicSecrets),
            list("dynamic_warming_secrets", "secret", Dumped::WarmingSecrets),
        ],
    },
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
        Some(resource) => one_list(cx, resource, mask, filter.as_ref(), &params),
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
    let Some(f) = filter else { return all.into() };
    match of {
        Dumped::Scopes => all.iter_mut().for_each(|c| {
            scopes::retain(c, |d: &mut InlineScopedRouteConfigs| &mut d.scoped_route_configs, f);
        }),
        Dumped::DynamicScopes => all.iter_mut().for_each(|c| {
            scopes::retain(c, |d: &mut DynamicScopedRouteConfigs| &mut d.scoped_route_configs, f);
        }),
        _ => all.retain(|c| f.found_in(&c.name)),
    }
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
    match mask {
        None => parts.push_back(Part::Bootstrap(BootstrapDump::new(cx.server))),
        Some(mask) => parts.extend(bootstrap::trimmed(cx.server, mask).map(Part::Whole)),
    }
    for s in SECTIONS.iter().filter(|s| shown(s, params)) {
        // A list ends a path: it is kept as a whole or not at all.
        if mask.is_some_and(|mask| message(s.message).is_none_or(|m| !mask.fits(m))) {
            continue;
        }
        let kept = |field: &str| mask.is_none_or(|mask| mask.keeps(field));
        let lists = s.lists.iter().filter(|l| kept(l.name)).map(|l| (l, items(cx, l.of, filter)));
        let lists: VecDeque<_> = lists.filter(|(_, elements)| !elements.is_empty()).collect();
        let version = cx.view.version(s.message).filter(|_| kept("version_info"));
        if lists.is_empty() && s.message == "EcdsConfigDump" {
            continue;
        }
        parts.push_back(Part::Lists(s, version, lists));
    }
    if let (true, Some(_)) = (parts.is_empty(), mask) {
        let text = params.get("mask").unwrap_or_default();
        return Err((400, format!("FieldMask {text} could not be successfully applied to any configs.")));
    }
    Ok(Response::chunks(JSON, Dump::new(parts)))
}

/// `?resource=`: the elements of one list.
fn one_list(
    cx: &AdminCx<'_>,
    resource: &str,
    mask: Option<Mask>,
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
        let list = section.and_then(|s| s.lists.iter().find(|l| l.name == resource));
        let Some((list, message)) = list.zip(field.ty.message()) else {
            return Ok(Response::chunks(JSON, Dump::new(VecDeque::new())));
        };
        let mask = mask.map(Rc::new);
        let element = |view| Element { list, message, view, mask: mask.clone() };
        let parts: VecDeque<Part> =
            items(cx, list.of, filter).into_iter().map(element).map(Part::Element).collect();
        // Whether a mask fits is the same for all elements of a list.
        if let (Some(Part::Element(first)), Some(mask)) = (parts.front(), &mask)
            && !first.fits()
        {
            return Err((400, format!("FieldMask \n{} could not be successfully used.", mask.debug())));
        }
        return Ok(Response::chunks(JSON, Dump::new(parts)));
    }
    Err((404, format!("{resource} not found in config dump")))
}

/// A message with its type in front.
fn typed(message: &str, value: Value) -> Value {
    let mut o = Map::new();
    o.insert("@type".into(), type_url(message).into());
    if let Value::Object(fields) = value {
        o.extend(fields);
    }
    Value::Object(o)
}

fn type_url(message: &str) -> String {
    format!("type.googleapis.com/{}", full_name(message))
}

enum Part {
    Whole(Value),
    Bootstrap(BootstrapDump),
    /// One element of a list, as if it were a section.
    Element(Element),
    /// A section, its version, and its lists, none of them empty.
    Lists(&'static Section, Option<Arc<str>>, VecDeque<(&'static List, VecDeque<ConfigView>)>),
}

struct Dump {
    parts: VecDeque<Part>,
    begun: bool,
    /// Of the first part, which is a section, the beginning is written.
    section_begun: bool,
    /// And that of its first list.
    list_begun: bool,
}

impl Dump {
    fn new(parts: VecDeque<Part>) -> Dump {
        Dump { parts, begun: false, section_begun: false, list_begun: false }
    }
    /// Writes one resource; true when its part is done.
    fn step(&mut self, out: &mut String) -> bool {
        let Some(part) = self.parts.front_mut() else { return true };
        if !self.section_begun {
            out.push_str(if self.begun { ",\n  " } else { "{\n \"configs\": [\n  " });
            self.begun = true;
        }
        let (s, version, lists) = match part {
            Part::Whole(v) => {
                json::write(v, 2, out);
                return true;
            }
            Part::Bootstrap(b) => {
                let done = b.step(out);
                self.section_begun = !done;
                return done;
            }
            Part::Element(e) => {
                e.write_alone(2, out);
                return true;
            }
            Part::Lists(s, version, lists) => (s, version, lists),
        };
        let Some((l, elements)) = lists.front_mut() else {
            match self.section_begun {
                true => out.push_str("\n  }"),
                false => {
                    let version = version.as_ref().map(|v| ("version_info".into(), v.to_string().into()));
                    json::write(&typed(s.message, Value::Object(version.into_iter().collect())), 2, out);
                }
            }
            self.section_begun = false;
            return true;
        };
        if !self.section_begun {
            self.section_begun = true;
            out.push_str("{\n   \"@type\": ");
            json::string(&type_url(s.message), out);
            if let Some(version) = version {
                out.push_str(",\n   \"version_info\": ");
                json::string(version, out);
            }
        }
        if self.list_begun {
            out.push_str(",\n    ");
        } else {
            self.list_begun = true;
            out.push_str(",\n   ");
            json::string(l.name, out);
            out.push_str(": [\n    ");
        }
        if let Some(e) = elements.pop_front() {
            element::write(l, &e, None, 4, out);
        }
        if elements.is_empty() {
            self.list_begun = false;
            out.push_str("\n   ]");
            lists.pop_front();
        }
        false
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

//! `/listeners`: where the proxy listens.

use super::clusters::address_json;
use super::{AdminCx, Request, Response};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// `/listeners`
pub fn listeners(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    let all = cx.view.listeners();
    if request.params().get("format") == Some("json") {
        let one = |l: &super::view::ListenerView| {
            let mut o = Map::new();
            o.insert("name".into(), l.name.clone().into());
            let mut addresses = l.addresses.iter().map(address_json);
            if let Some(first) = addresses.next() {
                o.insert("local_address".into(), first);
            }
            let more: Vec<Value> = addresses.collect();
            if !more.is_empty() {
                o.insert("additional_local_addresses".into(), more.into());
            }
            Value::Object(o)
        };
        if all.is_empty() {
            return Response::json(&json!({}));
        }
        return Response::json(&json!({"listener_statuses": all.iter().map(one).collect::<Value>()}));
    }
    let mut out = String::new();
    for (l, a) in all.iter().flat_map(|l| l.addresses.iter().map(move |a| (l, a))) {
        let _ = writeln!(out, "{}::{a}", l.name); // a String takes everything
    }
    Response::text(200, out)
}

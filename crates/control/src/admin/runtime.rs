//! `/runtime` and `/runtime_modify`.

use super::{AdminCx, Request, Response};
use nuncio_core::log;
use serde_json::{Map, Value, json};

/// `/runtime`: all layers, and what each key comes to.
pub fn runtime(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let snapshot = cx.server.runtime.current().snapshot();
    let layers: Vec<Value> = snapshot.layers.iter().map(|l| l.name.clone().into()).collect();
    let mut entries: Map<String, Value> = Map::new();
    for (key, _) in snapshot.iter() {
        let values: Vec<&str> =
            snapshot.layers.iter().map(|l| l.values.get(key).map_or("", |v| &v.text)).collect();
        // Shown is the last text, not what counts: those differ when a layer says "".
        let last = values.iter().rfind(|v| !v.is_empty()).unwrap_or(&"");
        entries.insert(key.to_owned(), json!({"layer_values": values, "final_value": last}));
    }
    Response::json(&json!({"entries": entries, "layers": layers}))
}

const USAGE: &str = "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       \
                     or send the parameters as form values\nuse an empty value to remove a previously added override";

/// `/runtime_modify`
pub fn runtime_modify(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    let params = request.params();
    if params.0.is_empty() {
        return Response::text(400, USAGE);
    }
    // Of a repeated key the first value counts.
    let mut changes: Vec<(String, String)> = Vec::new();
    for (k, v) in params.0 {
        if !changes.iter().any(|(known, _)| *known == k) {
            changes.push((k, v));
        }
    }
    match cx.server.runtime.modify(changes) {
        Ok(()) => Response::ok(),
        Err(e) => {
            log!(Runtime, Error, "{e}");
            Response::text(503, e)
        }
    }
}

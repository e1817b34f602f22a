//! `/init_dump`: what the start still waits for.

use super::{AdminCx, Request, Response};
use serde_json::{Value, json};

/// `/init_dump`
pub fn init_dump(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let waiting = cx.server.init_targets();
    if waiting.is_empty() {
        return Response::json(&json!({}));
    }
    let targets: Vec<Value> = waiting.into_iter().map(Value::from).collect();
    Response::json(
        &json!({"unready_targets_dumps": [{"name": "init manager Server", "target_names": targets}]}),
    )
}

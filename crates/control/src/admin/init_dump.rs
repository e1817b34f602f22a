//! `/init_dump`: what listeners that do not serve yet are waiting for.

use super::{AdminCx, Request, Response};
use serde_json::{Map, Value, json};

/// `/init_dump`; the one mask there is names the listeners, which are all there is.
pub fn init_dump(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    if request.params().get_filled("mask").is_some_and(|mask| mask != "listener") {
        return Response::json(&json!({}));
    }
    let one = |(name, targets): (String, Vec<String>)| {
        let mut dump = Map::new();
        dump.insert("name".into(), format!("init manager Listener-local-init-manager {name}").into());
        if !targets.is_empty() {
            dump.insert("target_names".into(), targets.into());
        }
        Value::Object(dump)
    };
    let waiting: Vec<Value> = cx.view.unready_listeners().into_iter().map(one).collect();
    Response::json(&if waiting.is_empty() { json!({}) } else { json!({"unready_targets_dumps": waiting}) })
}

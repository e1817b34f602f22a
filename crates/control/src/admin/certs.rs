//! `/certs`: the certificates in use.

use super::view::{CertView, CertsView};
use super::{AdminCx, Request, Response};
use crate::time::rfc3339_seconds;
use serde_json::{Map, Value, json};
use std::time::SystemTime;

/// `/certs`
pub fn certs(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let now = SystemTime::now();
    let all: Vec<Value> = cx.view.certs().iter().map(|c| one(c, now)).collect();
    Response::json(&json!({"certificates": all}))
}

fn one(c: &CertsView, now: SystemTime) -> Value {
    let list = |certs: &[CertView]| certs.iter().map(|c| details(c, now)).collect::<Value>();
    json!({"ca_cert": list(&c.ca_cert), "cert_chain": list(&c.cert_chain)})
}

fn details(c: &CertView, now: SystemTime) -> Value {
    let sans = c.subject_alt_names.iter().map(|(kind, value)| {
        let mut o = Map::new();
        o.insert((*kind).into(), value.clone().into());
        Value::Object(o)
    });
    let days = c.expiration_time.duration_since(now).map_or(0, |d| d.as_secs() / 86_400);
    json!({
        "path": c.path,
        "serial_number": c.serial_number,
        "subject_alt_names": sans.collect::<Value>(),
        "days_until_expiration": days.to_string(),
        "valid_from": rfc3339_seconds(c.valid_from),
        "expiration_time": rfc3339_seconds(c.expiration_time),
    })
}

//! `/clusters`: every cluster with its hosts.

use super::response::{Chunks, JSON, TEXT};
use super::view::{ClusterView, HostView, Thresholds, View};
use super::{AdminCx, Request, Response, json};
use crate::regex::Search;
use nuncio_core::address::Address;
use nuncio_engine::upstream::health::HostHealth;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::rc::Rc;

/// Roughly how much one piece of the answer holds.
const CHUNK: usize = 32 << 10;

/// `/clusters`
pub fn clusters(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    let params = request.params();
    let filter = match params.get_filled("filter").map(Search::new).transpose() {
        Ok(f) => f,
        Err(_) => return Response::text(400, "Invalid re2 regex"),
    };
    let walk = Walk { view: cx.server.view(), after: None, filter };
    match params.get("format") {
        Some("json") => Response::chunks(JSON, AsJson { walk, begun: false }),
        _ => Response::chunks(TEXT, AsText(walk)),
    }
}

struct Walk {
    view: Rc<dyn View>,
    after: Option<String>,
    filter: Option<Search>,
}

impl Walk {
    /// The next cluster, or at least progress: `Some(None)` stands for one that the filter hides.
    fn next(&mut self) -> Option<Option<ClusterView>> {
        let c = self.view.next_cluster(self.after.as_deref())?;
        self.after = Some(c.name.clone());
        Some(self.filter.as_ref().is_none_or(|f| f.found_in(&c.name)).then_some(c))
    }
}

/// Clusters looked at for one piece, so that a filter that hides all does not run on without a pause.
const EFFORT: usize = 256;

struct AsText(Walk);

impl Chunks for AsText {
    fn next(&mut self, out: &mut String) -> bool {
        for _ in 0..EFFORT {
            match self.0.next() {
                None => return false,
                Some(c) => c.iter().for_each(|c| text(c, out)),
            }
            if out.len() >= CHUNK {
                break;
            }
        }
        true
    }
}

struct AsJson {
    walk: Walk,
    begun: bool,
}

impl Chunks for AsJson {
    fn next(&mut self, out: &mut String) -> bool {
        for _ in 0..EFFORT {
            match self.walk.next() {
                None => {
                    out.push_str(if self.begun { "\n ]\n}\n" } else { "{}\n" });
                    return false;
                }
                Some(None) => {}
                Some(Some(c)) => {
                    out.push_str(if self.begun { ",\n  " } else { "{\n \"cluster_statuses\": [\n  " });
                    self.begun = true;
                    json::write(&cluster_json(&c), 2, out);
                }
            }
            if out.len() >= CHUNK {
                break;
            }
        }
        true
    }
}

fn text(c: &ClusterView, out: &mut String) {
    // A String takes everything, so the results of writing are not looked at.
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{}::{key}::{value}", c.name);
    };
    line("observability_name", &c.observability_name);
    if let Some(o) = &c.outlier {
        line("outlier::success_rate_average", &Rate(o.success_rate.0));
        line("outlier::success_rate_ejection_threshold", &Rate(o.success_rate.1));
        line("outlier::local_origin_success_rate_average", &Rate(o.local_origin_success_rate.0));
        line("outlier::local_origin_success_rate_ejection_threshold", &Rate(o.local_origin_success_rate.1));
    }
    for (name, t) in ["default", "high"].iter().zip(&c.breakers) {
        line(&format!("{name}_priority::max_connections"), &t.max_connections);
        line(&format!("{name}_priority::max_pending_requests"), &t.max_pending_requests);
        line(&format!("{name}_priority::max_requests"), &t.max_requests);
        line(&format!("{name}_priority::max_retries"), &t.max_retries);
    }
    line("added_via_api", &c.added_via_api);
    if !c.eds_service_name.is_empty() {
        line("eds_service_name", &c.eds_service_name);
    }
    c.hosts.iter().for_each(|h| host_text(&c.name, h, out));
}

fn host_text(cluster: &str, h: &HostView, out: &mut String) {
    let begin = format!("{cluster}::{}", h.address);
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{begin}::{key}::{value}"); // a String takes everything
    };
    for (name, value) in h.stats.by_name() {
        line(name, &value);
    }
    line("hostname", &h.hostname);
    line("health_flags", &flags(h.health));
    line("weight", &h.weight);
    for (name, value) in ["region", "zone", "sub_zone"].iter().zip(&h.locality) {
        line(name, value);
    }
    line("canary", &h.canary);
    line("priority", &h.priority);
    line("success_rate", &Rate(h.success_rate));
    line("local_origin_success_rate", &Rate(h.local_origin_success_rate));
}

/// A percentage: `-1`, `100`, `97.5`.
struct Rate(f64);
impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl super::view::HostStats {
    /// By name, as Envoy sorts them.
    fn by_name(&self) -> [(&'static str, u64); 9] {
        [
            ("cx_active", self.cx_active),
            ("cx_connect_fail", self.cx_connect_fail),
            ("cx_total", self.cx_total),
            ("rq_active", self.rq_active),
            ("rq_error", self.rq_error),
            ("rq_pending_active", self.rq_pending_active),
            ("rq_success", self.rq_success),
            ("rq_timeout", self.rq_timeout),
            ("rq_total", self.rq_total),
        ]
    }
}

/// Bits of health with their words in text and their fields in JSON.
const HEALTH: &[(u16, &str, &str)] = &[
    (HostHealth::FAILED_ACTIVE_HC, "/failed_active_hc", "failed_active_health_check"),
    (HostHealth::FAILED_OUTLIER_CHECK, "/failed_outlier_check", "failed_outlier_check"),
    (HostHealth::FAILED_EDS_HEALTH, "/failed_eds_health", ""),
    (HostHealth::DEGRADED_ACTIVE_HC, "/degraded_active_hc", "failed_active_degraded_check"),
    (HostHealth::DEGRADED_EDS_HEALTH, "/degraded_eds_health", ""),
    (HostHealth::PENDING_DYNAMIC_REMOVAL, "/pending_dynamic_removal", "pending_dynamic_removal"),
    (HostHealth::PENDING_ACTIVE_HC, "/pending_active_hc", "pending_active_hc"),
    (
        HostHealth::EXCLUDED_VIA_IMMEDIATE_HC_FAIL,
        "/excluded_via_immediate_hc_fail",
        "excluded_via_immediate_hc_fail",
    ),
    (HostHealth::ACTIVE_HC_TIMEOUT, "/active_hc_timeout", "active_hc_timeout"),
    (HostHealth::EDS_STATUS_DRAINING, "/eds_status_draining", ""),
];

fn flags(bits: u16) -> String {
    if bits == 0 {
        return "healthy".to_owned();
    }
    HEALTH.iter().filter(|(bit, ..)| bits & bit != 0).map(|(_, text, _)| *text).collect()
}

fn cluster_json(c: &ClusterView) -> Value {
    let mut o = Map::new();
    o.insert("name".into(), c.name.clone().into());
    if c.added_via_api {
        o.insert("added_via_api".into(), true.into());
    }
    let percent = |v: f64| json!({"value": v});
    if let Some(t) = c.outlier.map(|o| o.success_rate.1).filter(|t| *t >= 0.0) {
        o.insert("success_rate_ejection_threshold".into(), percent(t));
    }
    if !c.hosts.is_empty() {
        o.insert("host_statuses".into(), c.hosts.iter().map(host_json).collect());
    }
    if let Some(t) = c.outlier.map(|o| o.local_origin_success_rate.1).filter(|t| *t >= 0.0) {
        o.insert("local_origin_success_rate_ejection_threshold".into(), percent(t));
    }
    let [default, high] = &c.breakers;
    let mut second = json!({"priority": "HIGH"});
    if let (Some(o), Value::Object(t)) = (second.as_object_mut(), thresholds(high)) {
        o.extend(t);
    }
    o.insert("circuit_breakers".into(), json!({"thresholds": [thresholds(default), second]}));
    o.insert("observability_name".into(), c.observability_name.clone().into());
    if !c.eds_service_name.is_empty() {
        o.insert("eds_service_name".into(), c.eds_service_name.clone().into());
    }
    Value::Object(o)
}

fn thresholds(t: &Thresholds) -> Value {
    json!({
        "max_connections": t.max_connections,
        "max_pending_requests": t.max_pending_requests,
        "max_requests": t.max_requests,
        "max_retries": t.max_retries,
    })
}

/// An address as `envoy.config.core.v3.Address` in JSON.
pub fn address_json(a: &Address) -> Value {
    match a {
        Address::Ip(_) => {
            json!({"socket_address": {"address": a.without_port(), "port_value": a.port().unwrap_or(0)}})
        }
        Address::Pipe(p) => json!({"pipe": {"path": p.display().to_string()}}),
        Address::Internal(name, id) => {
            json!({"envoy_internal_address": {"server_listener_name": &**name, "endpoint_id": &**id}})
        }
    }
}

fn host_json(h: &HostView) -> Value {
    let mut o = Map::new();
    o.insert("address".into(), address_json(&h.address));
    let gauge = |name: &str| name.ends_with("_active");
    let stats = h.stats.by_name();
    let (gauges, counters): (Vec<_>, Vec<_>) = stats.iter().partition(|(n, _)| gauge(n));
    let metric = |(name, value): &(&str, u64)| {
        let mut m = Map::new();
        if gauge(name) {
            m.insert("type".into(), "GAUGE".into());
        }
        if *value != 0 {
            m.insert("value".into(), value.to_string().into());
        }
        m.insert("name".into(), (*name).into());
        Value::Object(m)
    };
    o.insert("stats".into(), counters.into_iter().chain(gauges).map(metric).collect());
    o.insert("health_status".into(), health_json(h.health));
    if h.success_rate >= 0.0 {
        o.insert("success_rate".into(), json!({"value": h.success_rate}));
    }
    o.insert("weight".into(), h.weight.into());
    if !h.hostname.is_empty() {
        o.insert("hostname".into(), h.hostname.clone().into());
    }
    if h.priority != 0 {
        o.insert("priority".into(), h.priority.into());
    }
    if h.local_origin_success_rate >= 0.0 {
        o.insert("local_origin_success_rate".into(), json!({"value": h.local_origin_success_rate}));
    }
    let parts = ["region", "zone", "sub_zone"].into_iter().zip(&h.locality).filter(|(_, v)| !v.is_empty());
    o.insert("locality".into(), Value::Object(parts.map(|(k, v)| (k.into(), v.clone().into())).collect()));
    Value::Object(o)
}

fn health_json(bits: u16) -> Value {
    let mut o = Map::new();
    for (bit, _, field) in HEALTH.iter().filter(|(_, _, f)| !f.is_empty()) {
        if bits & bit != 0 {
            o.insert((*field).into(), true.into());
        }
    }
    let has = |bit| bits & bit != 0;
    let eds = match () {
        () if has(HostHealth::FAILED_EDS_HEALTH) => "UNHEALTHY",
        () if has(HostHealth::EDS_STATUS_DRAINING) => "DRAINING",
        () if has(HostHealth::DEGRADED_EDS_HEALTH) => "DEGRADED",
        () => "HEALTHY",
    };
    // Fields are printed by number: `eds_health_status` is the third.
    let at = o
        .keys()
        .take_while(|k| matches!(k.as_str(), "failed_active_health_check" | "failed_outlier_check"))
        .count();
    o.shift_insert(at, "eds_health_status".into(), eds.into());
    Value::Object(o)
}

//! Open Request Cost Aggregation (ORCA): what a host says of its load, with its responses or on a stream of their own
//! (`xds.data.orca.v3.OrcaLoadReport`).

use nuncio_wire::HeaderMap;
use prost::Message;
use serde_json::Value;
use std::collections::BTreeMap;

/// `xds.data.orca.v3.OrcaLoadReport`
#[derive(Clone, PartialEq, Message)]
pub struct LoadReport {
    /// `cpu_utilization`: 0 to 1, more when it is overcommitted.
    #[prost(double, tag = "1")]
    pub cpu_utilization: f64,
    /// `mem_utilization`, 0 to 1.
    #[prost(double, tag = "2")]
    pub mem_utilization: f64,
    /// `request_cost`, by the names of costs.
    #[prost(btree_map = "string, double", tag = "4")]
    pub request_cost: BTreeMap<String, f64>,
    /// `utilization`, by the names of resources.
    #[prost(btree_map = "string, double", tag = "5")]
    pub utilization: BTreeMap<String, f64>,
    /// `rps_fractional`: requests per second.
    #[prost(double, tag = "6")]
    pub rps_fractional: f64,
    /// `eps`: errors per second.
    #[prost(double, tag = "7")]
    pub eps: f64,
    /// `named_metrics`
    #[prost(btree_map = "string, double", tag = "8")]
    pub named_metrics: BTreeMap<String, f64>,
    /// `application_utilization`, 0 to 1 or more.
    #[prost(double, tag = "9")]
    pub application_utilization: f64,
}

/// `xds.service.orca.v3.OrcaLoadReportRequest`
#[derive(Clone, PartialEq, Message)]
pub struct LoadReportRequest {
    /// `report_interval`
    #[prost(message, optional, tag = "1")]
    pub report_interval: Option<prost_types::Duration>,
}

/// The path of the calls on which hosts report.
pub const STREAM: &[u8] = b"/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";

const BIN: &str = "endpoint-load-metrics-bin";
const ANY: &str = "endpoint-load-metrics";

impl LoadReport {
    /// The report in a response's headers or trailers; `None`: there is none, or none that makes sense.
    pub fn of(headers: &HeaderMap) -> Option<LoadReport> {
        if let Some(v) = headers.get(BIN) {
            return binary(v);
        }
        let v = std::str::from_utf8(headers.get(ANY)?).ok()?;
        if let Some(rest) = v.strip_prefix("BIN ") {
            return binary(rest.as_bytes());
        }
        if let Some(rest) = v.strip_prefix("TEXT ") {
            return text(rest);
        }
        json(v.strip_prefix("JSON ")?)
    }
    /// The largest of the metrics of these names, 0 if there is none.
    pub fn largest(&self, names: &[Metric]) -> f64 {
        let of = |all: &BTreeMap<String, f64>, key: &Option<Box<str>>| match key {
            None => all.values().copied().fold(0.0, f64::max),
            Some(k) => all.get(&**k).copied().unwrap_or(0.0),
        };
        let value = |m: &Metric| match m {
            Metric::Cpu => self.cpu_utilization,
            Metric::Mem => self.mem_utilization,
            Metric::Application => self.application_utilization,
            Metric::Errors => self.eps,
            Metric::Requests => self.rps_fractional,
            Metric::Named(key) => of(&self.named_metrics, key),
            Metric::Utilization(key) => of(&self.utilization, key),
            Metric::Cost(key) => of(&self.request_cost, key),
        };
        names.iter().map(value).fold(0.0, f64::max)
    }
}

/// A metric that a configuration names. Of those with keys `None` stands for all (`*`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Metric {
    /// `cpu_utilization`
    Cpu,
    /// `mem_utilization`
    Mem,
    /// `application_utilization`
    Application,
    /// `eps`
    Errors,
    /// `rps_fractional`
    Requests,
    /// `named_metrics.<key>`
    Named(Option<Box<str>>),
    /// `utilization.<key>`
    Utilization(Option<Box<str>>),
    /// `request_cost.<key>`
    Cost(Option<Box<str>>),
}

impl Metric {
    /// The metric of a name; `None`: no report has it.
    pub fn named(name: &str) -> Option<Metric> {
        let key = |k: &str| (k != "*").then(|| k.into());
        Some(match name {
            "cpu_utilization" => Metric::Cpu,
            "mem_utilization" => Metric::Mem,
            "application_utilization" => Metric::Application,
            "eps" => Metric::Errors,
            "rps_fractional" => Metric::Requests,
            _ => match name.split_once('.')? {
                ("named_metrics", k) => Metric::Named(key(k)),
                ("utilization", k) => Metric::Utilization(key(k)),
                ("request_cost", k) => Metric::Cost(key(k)),
                _ => return None,
            },
        })
    }
}

fn binary(v: &[u8]) -> Option<LoadReport> {
    let bytes = base64(v).filter(|b| !b.is_empty())?;
    LoadReport::decode(&*bytes).ok()
}

/// `name=value` or `name:value`, with commas between; one that makes no sense spoils all.
fn text(v: &str) -> Option<LoadReport> {
    let mut r = LoadReport::default();
    let mut names = vec![];
    for entry in v.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let (name, value) = entry.split_once(['=', ':'])?;
        if name.is_empty() || names.contains(&name) {
            return None;
        }
        names.push(name);
        let value: f64 = value.trim().parse().ok()?;
        if !value.is_finite() || value < 0.0 {
            return None;
        }
        match name {
            "cpu_utilization" => r.cpu_utilization = value,
            "mem_utilization" => r.mem_utilization = value,
            "application_utilization" => r.application_utilization = value,
            "eps" => r.eps = value,
            "rps_fractional" => r.rps_fractional = value,
            _ => {
                let (map, key) = match name.split_once('.')? {
                    ("utilization", key) => (&mut r.utilization, key),
                    ("named_metrics", key) => (&mut r.named_metrics, key),
                    _ => return None,
                };
                if key.is_empty() {
                    return None;
                }
                map.insert(key.to_owned(), value);
            }
        }
    }
    Some(r)
}

/// Protobuf's JSON; fields that are not known are not heeded.
fn json(v: &str) -> Option<LoadReport> {
    let mut r = LoadReport::default();
    let Value::Object(fields) = serde_json::from_str(v).ok()? else { return None };
    for (name, value) in fields.into_iter().filter(|(_, v)| !v.is_null()) {
        match &*name {
            "cpuUtilization" | "cpu_utilization" => r.cpu_utilization = number(&value)?,
            "memUtilization" | "mem_utilization" => r.mem_utilization = number(&value)?,
            "applicationUtilization" | "application_utilization" => {
                r.application_utilization = number(&value)?;
            }
            "rpsFractional" | "rps_fractional" => r.rps_fractional = number(&value)?,
            "eps" => r.eps = number(&value)?,
            "requestCost" | "request_cost" => r.request_cost = numbers(value)?,
            "utilization" => r.utilization = numbers(value)?,
            "namedMetrics" | "named_metrics" => r.named_metrics = numbers(value)?,
            _ => {}
        }
    }
    Some(r)
}

fn number(v: &Value) -> Option<f64> {
    match v {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => match s.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            s => s.parse().ok().filter(|n: &f64| n.is_finite()),
        },
        _ => None,
    }
}

fn numbers(v: Value) -> Option<BTreeMap<String, f64>> {
    let Value::Object(all) = v else { return None };
    all.into_iter().map(|(k, v)| Some((k, number(&v)?))).collect()
}

/// RFC 4648 §4, with padding or without.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let digits = text.get(..text.len().checked_sub(padding)?)?;
    if padding > 0 && (padding > 2 || !text.len().is_multiple_of(4)) || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for at in 0..4 {
            let digit = match group.get(at) {
                Some(b @ b'A'..=b'Z') => b - b'A',
                Some(b @ b'a'..=b'z') => b - b'a' + 26,
                Some(b @ b'0'..=b'9') => b - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return None,
                None => 0,
            };
            bits = bits << 6 | u32::from(digit);
        }
        out.extend(bits.to_be_bytes().get(1..group.len())?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Option<LoadReport> {
        let mut h = HeaderMap::default();
        h.append(name, value.as_bytes());
        LoadReport::of(&h)
    }
    fn any(value: &str) -> Option<LoadReport> {
        of(ANY, value)
    }

    #[test]
    fn three_forms_say_the_same() {
        let mut r =
            LoadReport { cpu_utilization: 0.5, rps_fractional: 100.0, eps: 2.0, ..Default::default() };
        r.named_metrics.insert("q".into(), 0.75);
        r.utilization.insert("gpu".into(), 0.25);
        let said =
            "cpu_utilization=0.5, rps_fractional:100,eps=2e0 ,named_metrics.q=.75,utilization.gpu= 0.25";
        assert_eq!(any(&format!("TEXT {said}")).as_ref(), Some(&r));
        let said = r#"{"cpuUtilization": 0.5, "rps_fractional": "100", "eps": 2, "namedMetrics": {"q": 0.75},
            "utilization": {"gpu": 0.25}, "more": [1], "memUtilization": null}"#;
        assert_eq!(any(&format!("JSON {said}")).as_ref(), Some(&r));
        // The bytes of `cpu_utilization: 0.5, rps_fractional: 100`.
        let bin = "CQAAAAAAAOA/MQAAAAAAAFlA";
        let plain = LoadReport { cpu_utilization: 0.5, rps_fractional: 100.0, ..Default::default() };
        assert_eq!(any(&format!("BIN {bin}")), Some(plain.clone()));
        assert_eq!(of(BIN, bin), Some(plain));
        let one = Some(LoadReport { cpu_utilization: 2.0, ..Default::default() });
        assert_eq!((of(BIN, "CQAAAAAAAABA"), of(BIN, "CQAAAAAAAABA=")), (one, None));
    }

    #[test]
    fn reports_that_make_no_sense() {
        for bad in [
            "",
            "cpu_utilization=0.5",
            "TEXT cpu_utilization",
            "TEXT cpu_utilization=",
            "TEXT =1",
            "TEXT cpu_utilization=x",
            "TEXT cpu_utilization=nan",
            "TEXT cpu_utilization=inf",
            "TEXT cpu_utilization=-1",
            "TEXT cpu_utilization=1,cpu_utilization=1",
            "TEXT other=1",
            "TEXT request_cost.x=1",
            "TEXT utilization.=1",
            "JSON [1]",
            r#"JSON {"eps": true}"#,
            r#"JSON {"eps": "x"}"#,
            "JSON {",
            "BIN",
            "BIN ",
            "BIN !",
            "BIN CQ==",
            "bin CQAAAAAAAABA",
        ] {
            assert_eq!(any(bad), None, "{bad}");
        }
        assert_eq!(LoadReport::of(&HeaderMap::default()), None);
        assert_eq!(any("TEXT "), Some(LoadReport::default()));
    }

    #[test]
    fn metrics_by_name() {
        let r = any("TEXT mem_utilization=0.25,utilization.a=0.5,utilization.b=0.75,named_metrics.a=0.125")
            .expect("it makes sense");
        let of =
            |names: &[&str]| r.largest(&names.iter().filter_map(|n| Metric::named(n)).collect::<Vec<_>>());
        assert_eq!(of(&["mem_utilization", "cpu_utilization"]), 0.25);
        assert_eq!(of(&["utilization.a"]), 0.5);
        assert_eq!(of(&["utilization.*", "named_metrics.a"]), 0.75);
        assert_eq!(of(&["named_metrics.b", "request_cost.a", "eps"]), 0.0);
        assert_eq!((Metric::named("x.y"), Metric::named("x")), (None, None));
    }
}

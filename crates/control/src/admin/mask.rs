//! `?mask=` of `/config_dump`: a `google.protobuf.FieldMask` applied to a message in JSON.
//!
//! Paths are checked against the schema, as protobuf does: a list or a map ends a path, and an unknown field makes
//! the whole mask invalid.

use nuncio_api::schema::{self, Kind, Message, Presence};
use serde_json::{Map, Value};

/// The paths of a mask.
#[derive(Debug, PartialEq)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Paths separated by commas.
    pub fn parse(text: &str) -> Mask {
        Mask(text.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect())
    }
    /// The mask as protobuf's debug text has it.
    pub fn debug(&self) -> String {
        self.0.iter().map(|p| format!("paths: \"{p}\"\n")).collect()
    }
    /// Whether every path leads to a field of the message.
    pub fn fits(&self, m: &Message) -> bool {
        self.0.iter().all(|p| fits(m, &p.split('.').collect::<Vec<_>>()))
    }
    /// Whether it keeps this field of the message, or something of it.
    pub fn keeps(&self, field: &str) -> bool {
        self.0.iter().any(|p| p.split('.').next() == Some(field))
    }
    /// Keeps the named fields of `value`, a message of type `m`. False when a path does not fit the message.
    pub fn trim(&self, m: &Message, value: &mut Value) -> bool {
        if !self.fits(m) {
            return false;
        }
        let paths: Vec<Vec<&str>> = self.0.iter().map(|p| p.split('.').collect()).collect();
        keep(value, &paths.iter().map(Vec::as_slice).collect::<Vec<_>>());
        true
    }
    /// As [`trim`](Self::trim), for an element of a dump's list: a path may lead into the one field of type `Any`.
    pub fn trim_resource(&self, m: &Message, value: &mut Value) -> bool {
        let is_any = |name: &str| {
            let f = m.field(name).filter(|f| !f.is_list());
            f.and_then(|f| f.ty.message()).is_some_and(|m| m.kind == Kind::Any)
        };
        let (mut outer, mut inner, mut field) = (Vec::new(), Vec::new(), None);
        for path in &self.0 {
            match path.split_once('.') {
                Some((first, rest)) if is_any(first) => {
                    outer.push(first.to_owned());
                    inner.push(rest.to_owned());
                    field = Some(first);
                }
                None if is_any(path) => outer.push(path.clone()),
                _ => outer.push(path.clone()),
            }
        }
        if let Some(any) = field.and_then(|f| value.get_mut(f)) {
            let url = any.get("@type").and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some(m) = schema::message_of_url(&url) else { return false };
            // A path that names the field as a whole leaves nothing of it for the others to cut: as in protobuf, the
            // inner mask decides.
            if !Mask(inner).trim(m, any) {
                return false;
            }
            if let Value::Object(o) = any {
                o.shift_insert(0, "@type".into(), url.into());
            }
        }
        Mask(outer).trim(m, value)
    }
}

fn fits(m: &Message, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    // Masks name fields as the proto does, not as JSON does.
    let Some(f) = m.field(first).filter(|f| f.name() == *first) else { return false };
    if rest.is_empty() {
        return true;
    }
    match f.ty.message() {
        Some(inner) if matches!(f.presence, Presence::Explicit | Presence::Implicit) => fits(inner, rest),
        _ => false,
    }
}

fn keep(value: &mut Value, paths: &[&[&str]]) {
    let Value::Object(fields) = value else { return };
    let old = std::mem::take(fields);
    *fields = old.into_iter().filter_map(|(name, v)| kept(name, v, paths)).collect::<Map<_, _>>();
}

fn kept(name: String, mut v: Value, paths: &[&[&str]]) -> Option<(String, Value)> {
    let here: Vec<&[&str]> = paths.iter().filter(|p| p.first() == Some(&&*name)).map(|p| &p[1..]).collect();
    if here.is_empty() {
        return None;
    }
    if !here.iter().any(|p| p.is_empty()) {
        keep(&mut v, &here);
    }
    Some((name, v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(name: &str) -> &'static Message {
        schema::message(name).expect("a message of the API")
    }

    #[test]
    fn keeps_what_is_named() {
        let m = message("envoy.config.core.v3.Node");
        let node = json!({"id": "n", "cluster": "c", "locality": {"region": "r", "zone": "z"}, "client_features": ["a"]});
        let trimmed = |mask: &str| {
            let mut v = node.clone();
            Mask::parse(mask).trim(m, &mut v).then_some(v)
        };
        assert_eq!(trimmed("id,locality.zone"), Some(json!({"id": "n", "locality": {"zone": "z"}})));
        assert_eq!(
            trimmed("locality.zone,locality"),
            Some(json!({"locality": {"region": "r", "zone": "z"}}))
        );
        assert_eq!(trimmed("client_features"), Some(json!({"client_features": ["a"]})));
        assert_eq!(trimmed("nope"), None);
        assert_eq!(trimmed("id.x"), None, "no field of a string");
        assert_eq!(trimmed("clientFeatures"), None, "the proto's names");
        assert_eq!(trimmed("locality.nope"), None);
    }

    #[test]
    fn leads_into_the_any_of_a_resource() {
        let m = message("envoy.admin.v3.ClustersConfigDump.StaticCluster");
        let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let cluster =
            json!({"cluster": {"@type": url, "name": "c", "alt_stat_name": "x"}, "last_updated": "t"});
        let trimmed = |mask: &str| {
            let mut v = cluster.clone();
            Mask::parse(mask).trim_resource(m, &mut v).then_some(v)
        };
        assert_eq!(trimmed("cluster.name"), Some(json!({"cluster": {"@type": url, "name": "c"}})));
        assert_eq!(trimmed("cluster"), Some(json!({"cluster": cluster["cluster"]})));
        assert_eq!(
            trimmed("last_updated,cluster.alt_stat_name"),
            Some(json!({"cluster": {"@type": url, "alt_stat_name": "x"}, "last_updated": "t"}))
        );
        assert_eq!((trimmed("cluster.nope"), trimmed("nope.foo")), (None, None));
        assert_eq!(Mask::parse("nope.foo,b").debug(), "paths: \"nope.foo\"\npaths: \"b\"\n");
    }
}

//! Metadata: `google.protobuf.Struct`s by name space, static (routes, hosts, clusters) or set by filters.

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::collections::BTreeMap;

/// Structs by name space, e.g. `envoy.lb`.
#[derive(Default, Clone, PartialEq, Debug)]
pub struct Metadata(pub BTreeMap<String, Struct>);

impl Metadata {
    /// The value at `namespace` and then along `path` through nested structs.
    pub fn get<'a>(&'a self, namespace: &str, path: impl IntoIterator<Item = &'a str>) -> Option<&'a Value> {
        let mut fields = &self.0.get(namespace)?.fields;
        let mut found: Option<&Value> = None;
        for key in path {
            if let Some(v) = found {
                let Some(Kind::StructValue(s)) = &v.kind else { return None };
                fields = &s.fields;
            }
            found = Some(fields.get(key)?);
        }
        found
    }
    /// Merges `s` into a name space, field by field; later values win (Envoy's `setDynamicMetadata`).
    pub fn merge(&mut self, namespace: &str, s: Struct) {
        merge(self.0.entry(namespace.to_owned()).or_default(), s);
    }
}

fn merge(into: &mut Struct, from: Struct) {
    for (k, v) in from.fields {
        match (into.fields.get_mut(&k).and_then(|v| v.kind.as_mut()), v.kind) {
            (Some(Kind::StructValue(old)), Some(Kind::StructValue(new))) => merge(old, new),
            (_, kind) => drop(into.fields.insert(k, Value { kind })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn st(k: &str, v: Kind) -> Struct {
        Struct { fields: [(k.to_owned(), Value { kind: Some(v) })].into() }
    }

    #[test]
    fn merge_and_path() {
        let mut m = Metadata::default();
        m.merge("ns", st("a", Kind::StructValue(st("b", Kind::StringValue("x".into())))));
        m.merge("ns", st("a", Kind::StructValue(st("c", Kind::BoolValue(true)))));
        assert_eq!(m.get("ns", ["a", "b"]).and_then(|v| v.kind.clone()), Some(Kind::StringValue("x".into())));
        assert_eq!(m.get("ns", ["a", "c"]).and_then(|v| v.kind.clone()), Some(Kind::BoolValue(true)));
        assert!(m.get("ns", ["a", "d"]).is_none() && m.get("no", ["a"]).is_none());
    }
}

//! Metadata: `google.protobuf.Struct`s by name space, static (routes, hosts, clusters) or set by filters.

use crate::coverage::Covered;
use nuncio_api::envoy::config::core::v3 as pb;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// What is read of metadata, and of paths into it.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.config.core.v3.Metadata", &["filter_metadata"]).ignoring(&[(
        "typed_filter_metadata",
        "for extensions that ask for it by name, of which none is built",
    )]),
    Covered::new("envoy.type.metadata.v3.MetadataKey", &["key", "path"]),
    Covered::new("envoy.type.metadata.v3.MetadataKey.PathSegment", &["key"]),
];

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

/// Metadata from configuration. It stays encoded until somebody looks into it: of ten thousand clusters nobody looks
/// at the metadata of most, and decoded it takes ten times the memory.
#[derive(Clone, Debug, Default)]
pub struct LazyMetadata(Option<Arc<Encoded>>);

#[derive(Debug)]
struct Encoded {
    bytes: Box<[u8]>,
    decoded: OnceLock<Metadata>,
}

static EMPTY: Metadata = Metadata(BTreeMap::new());

impl LazyMetadata {
    /// The `filter_metadata` of the message.
    pub fn new(m: Option<&pb::Metadata>) -> LazyMetadata {
        let encode = |m: &pb::Metadata| {
            Arc::new(Encoded { bytes: m.encode_to_vec().into(), decoded: OnceLock::new() })
        };
        LazyMetadata(m.filter(|m| !m.filter_metadata.is_empty()).map(encode))
    }
    /// True when both say the same, as far as their encoded forms tell; nothing is decoded for that.
    pub fn same(&self, other: &LazyMetadata) -> bool {
        let bytes = |m: &LazyMetadata| m.0.as_ref().map(Arc::as_ptr);
        bytes(self) == bytes(other) || matches!((&self.0, &other.0), (Some(a), Some(b)) if a.bytes == b.bytes)
    }
}

impl Deref for LazyMetadata {
    type Target = Metadata;
    fn deref(&self) -> &Metadata {
        let Some(e) = &self.0 else { return &EMPTY };
        e.decoded.get_or_init(|| {
            // It was encoded above; if it did not decode, there would be nothing to show.
            Metadata(pb::Metadata::decode(&*e.bytes).unwrap_or_default().filter_metadata)
        })
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

    #[test]
    fn what_is_kept_encoded_comes_back() {
        let one = Metadata([("ns".to_owned(), st("a", Kind::BoolValue(true)))].into());
        let message = pb::Metadata { filter_metadata: one.0.clone(), ..Default::default() };
        let lazy = LazyMetadata::new(Some(&message));
        assert_eq!((&*lazy, &*lazy.clone()), (&one, &one));
        assert_eq!((&*LazyMetadata::new(None), &*LazyMetadata::default()), (&EMPTY, &EMPTY));
    }
}

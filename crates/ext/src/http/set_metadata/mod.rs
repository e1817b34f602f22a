use nuncio_api::envoy::extensions::filters::http::set_metadata::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, NoRoute, Step};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry, stats};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.set_metadata";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.set_metadata.v3.Config",
        &["metadata_namespace", "value", "metadata"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.set_metadata.v3.Metadata",
        &["metadata_namespace", "allow_overwrite", "value"],
    ),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<SetMetadata>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.set_metadata.`
    pub struct SetMetadataStats {
        overwrite_denied: Counter,
    }
}

/// The filter.
pub struct SetMetadata {
    all: Vec<Set>,
    stats: SetMetadataStats,
}

struct Set {
    namespace: String,
    value: Struct,
    overwrite: bool,
}

/// Puts `from` into `into`, as Envoy's `StructUtil::update`: lists grow, structs are merged, anything else is replaced.
fn update(into: &mut Struct, from: &Struct) {
    for (key, value) in &from.fields {
        match into.fields.entry(key.clone()) {
            Entry::Vacant(e) => drop(e.insert(value.clone())),
            Entry::Occupied(mut e) => update_value(e.get_mut(), value),
        }
    }
}

fn update_value(into: &mut Value, from: &Value) {
    match (&mut into.kind, &from.kind) {
        (Some(Kind::StructValue(old)), Some(Kind::StructValue(new))) => update(old, new),
        (Some(Kind::ListValue(old)), Some(Kind::ListValue(new))) => {
            old.values.extend(new.values.iter().cloned())
        }
        (_, kind) => into.kind.clone_from(kind),
    }
}

impl HttpFilter for SetMetadata {
    type Config = pb::Config;
    type RouteConfig = NoRoute;
    type Route = ();
    type Stream = ();

    fn new(config: pb::Config, cx: &BuildCx<'_>) -> BuildResult<SetMetadata> {
        let first = config.value.filter(|_| !config.metadata_namespace.is_empty()).map(|value| Set {
            namespace: config.metadata_namespace,
            value,
            overwrite: true,
        });
        // An entry without a value sets nothing.
        let others = config.metadata.into_iter().filter_map(|m| {
            Some(Set { value: m.value?, namespace: m.metadata_namespace, overwrite: m.allow_overwrite })
        });
        Ok(SetMetadata {
            all: first.into_iter().chain(others).collect(),
            stats: SetMetadataStats::new(&cx.scope.scope("set_metadata")),
        })
    }
    fn route(_: NoRoute, _: &BuildCx<'_>) -> BuildResult<()> {
        Ok(())
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if self.all.is_empty() {
            return Step::Next;
        }
        let mut metadata = ex.sx.info.metadata.borrow_mut();
        let metadata = metadata.get_or_insert_default();
        for set in &self.all {
            match metadata.0.entry(set.namespace.clone()) {
                Entry::Vacant(e) => drop(e.insert(set.value.clone())),
                Entry::Occupied(mut e) if set.overwrite => update(e.get_mut(), &set.value),
                Entry::Occupied(_) => self.stats.overwrite_denied().inc(),
            }
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;

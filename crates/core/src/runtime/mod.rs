//! Runtime values (`layered_runtime`) and the state of the server, as the floors above see them.
//!
//! [`value`] is what one key is worth; a [`Snapshot`] merges the layers. Whoever needs a key again and again keeps a
//! handle ([`handle`]), which main writes when the runtime changes: reading one takes neither lock nor look-up.

mod handle;
mod value;

use crate::coverage::Covered;
pub use handle::{Runtime, RuntimeDouble, RuntimeFraction, RuntimeNumber};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
pub use value::RuntimeValue;

/// What is read of values that the runtime may change.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.config.core.v3.RuntimeFeatureFlag", &["default_value", "runtime_key"]),
    Covered::new("envoy.config.core.v3.RuntimeUInt32", &["default_value", "runtime_key"]),
];

/// One layer: its name and its values, keys joined with `.`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    /// `RuntimeLayer.name`.
    pub name: String,
    /// True for an `admin_layer`.
    pub admin: bool,
    /// What the layer says, by key.
    pub values: BTreeMap<String, RuntimeValue>,
}

/// The merged view of all layers; later layers win.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    merged: BTreeMap<String, RuntimeValue>,
}

impl Snapshot {
    /// Merges the layers.
    pub fn new(layers: Vec<Layer>) -> Snapshot {
        let merged = layers.iter().flat_map(|l| l.values.clone()).collect();
        Snapshot { layers, merged }
    }
    /// What a key is worth.
    pub fn get(&self, key: &str) -> Option<&RuntimeValue> {
        self.merged.get(key)
    }
    /// The value as a number, or `default` when it is absent or no number.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        self.get(key).and_then(|v| v.number).unwrap_or(default)
    }
    /// The value as a fraction.
    pub fn fraction(&self, key: &str) -> Option<crate::matchers::FractionalPercent> {
        self.get(key).and_then(RuntimeValue::as_fraction)
    }
    /// True when a key begins with `prefix`.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.merged.range::<str, _>(from).next().is_some_and(|(k, _)| k.starts_with(prefix))
    }
    /// Every key with its final value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RuntimeValue)> {
        self.merged.iter().map(|(k, v)| (&**k, v))
    }
}

/// Flags of the whole server that requests look at; written by main, read anywhere.
#[derive(Debug, Default)]
pub struct ServerState {
    /// `/healthcheck/fail` was called.
    pub health_check_failed: AtomicBool,
    /// The server is draining: responses tell clients to go elsewhere.
    pub draining: AtomicBool,
    /// What overload protection asks for.
    pub overload: crate::overload::Overload,
}

impl ServerState {
    /// True after `/healthcheck/fail`.
    pub fn health_check_failed(&self) -> bool {
        self.health_check_failed.load(Relaxed)
    }
    /// True while draining.
    pub fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win() {
        let l = |name: &str, k: &str, v: &str| Layer {
            name: name.into(),
            values: [(k.to_owned(), RuntimeValue::of_text(v).expect("a value"))].into(),
            ..Default::default()
        };
        let s = Snapshot::new(vec![l("a", "x.y", "1"), l("b", "x.y", "2")]);
        assert_eq!(s.number("x.y", 0), 2);
        assert_eq!(s.number("no", 7), 7);
        assert!(s.has_prefix("x.") && s.has_prefix("") && !s.has_prefix("x.y.") && !s.has_prefix("y"));
    }
}

//! Runtime values (`layered_runtime`) and the state of the server, as the floors above see them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

/// One layer: its name and its values, keys joined with `.`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    /// `RuntimeLayer.name`.
    pub name: String,
    /// True for an `admin_layer`.
    pub admin: bool,
    /// Values as text.
    pub values: BTreeMap<String, String>,
}

/// The merged view of all layers; later layers win.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    merged: BTreeMap<String, String>,
}

impl Snapshot {
    /// Merges the layers.
    pub fn new(layers: Vec<Layer>) -> Snapshot {
        let merged = layers.iter().flat_map(|l| l.values.clone()).filter(|(_, v)| !v.is_empty()).collect();
        Snapshot { layers, merged }
    }
    /// The value as text.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.merged.get(key).map(String::as_str)
    }
    /// The value as a number, or `default` when it is absent or no number.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        self.get(key).and_then(|v| v.parse().ok()).unwrap_or(default)
    }
    /// Every key with its final value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.merged.iter().map(|(k, v)| (&**k, &**v))
    }
}

/// The runtime: readers take the current snapshot, main replaces it. Not for the hot path: plans and per-worker
/// cells carry what requests need.
#[derive(Debug, Default)]
pub struct Runtime(RwLock<Arc<Snapshot>>);

impl Runtime {
    /// A runtime with these layers.
    pub fn new(layers: Vec<Layer>) -> Runtime {
        Runtime(RwLock::new(Arc::new(Snapshot::new(layers))))
    }
    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        // A poisoned lock still guards a whole `Arc`.
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// Replaces the snapshot.
    pub fn set(&self, s: Snapshot) {
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(s);
    }
}

/// Flags of the whole server that requests look at; written by main, read anywhere.
#[derive(Debug, Default)]
pub struct ServerState {
    /// `/healthcheck/fail` was called.
    pub health_check_failed: AtomicBool,
    /// The server is draining: responses tell clients to go elsewhere.
    pub draining: AtomicBool,
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
            values: [(k.to_owned(), v.to_owned())].into(),
            ..Default::default()
        };
        let r = Runtime::new(vec![l("a", "x.y", "1"), l("b", "x.y", "2")]);
        assert_eq!(r.snapshot().number("x.y", 0), 2);
        assert_eq!(r.snapshot().number("no", 7), 7);
    }
}

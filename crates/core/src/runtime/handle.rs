//! The runtime as a whole, and handles to single keys of it.

use super::{Layer, Snapshot};
use crate::matchers::FractionalPercent;
use crate::rng;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};

/// The runtime: main replaces the snapshot, and with it what the handles say. To take a [`snapshot`](Self::snapshot)
/// or a handle takes a lock, so both are for main.
#[derive(Debug, Default)]
pub struct Runtime {
    snapshot: RwLock<Arc<Snapshot>>,
    keys: Mutex<HashMap<String, Weak<Key>>>,
}

/// What handles to one key share. [`NONE`] where the key says nothing of that kind.
#[derive(Debug)]
struct Key {
    number: AtomicU64,
    /// Numerator and denominator.
    fraction: AtomicU64,
    /// Bits of a number that need not be whole; [`NONE`] is not the pattern of any.
    double: AtomicU64,
}

const NONE: u64 = u64::MAX;

impl Key {
    fn set(&self, s: &Snapshot, key: &str) {
        let value = s.get(key);
        let number = value.and_then(|v| v.number).map_or(NONE, |n| n.min(NONE - 1));
        let fraction = value.and_then(|v| v.as_fraction());
        let fraction = fraction.map_or(NONE, |f| u64::from(f.numerator) << 32 | u64::from(f.denominator));
        self.number.store(number, Relaxed);
        self.fraction.store(fraction, Relaxed);
        self.double.store(value.and_then(|v| v.double).map_or(NONE, f64::to_bits), Relaxed);
    }
}

impl Runtime {
    /// A runtime with these layers.
    pub fn new(layers: Vec<Layer>) -> Runtime {
        Runtime { snapshot: RwLock::new(Arc::new(Snapshot::new(layers))), keys: Mutex::default() }
    }
    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        // A poisoned lock still guards a whole `Arc`.
        self.snapshot.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// Replaces the snapshot.
    pub fn set(&self, s: Snapshot) {
        let mut keys = self.keys();
        keys.retain(|name, key| key.upgrade().inspect(|k| k.set(&s, name)).is_some());
        *self.snapshot.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(s);
    }
    fn keys(&self) -> MutexGuard<'_, HashMap<String, Weak<Key>>> {
        // Whatever a panic interrupted, every entry is whole.
        self.keys.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// An empty name is no key.
    fn key(&self, name: &str) -> Option<Arc<Key>> {
        if name.is_empty() {
            return None;
        }
        let mut keys = self.keys();
        if let Some(known) = keys.get(name).and_then(Weak::upgrade) {
            return Some(known);
        }
        let none = || AtomicU64::new(NONE);
        let key = Arc::new(Key { number: none(), fraction: none(), double: none() });
        key.set(&self.snapshot(), name);
        keys.insert(name.to_owned(), Arc::downgrade(&key));
        Some(key)
    }
    /// A handle to a number (`RuntimeUInt32`, and the keys that Envoy reads by name).
    pub fn number(&self, key: &str, default: u64) -> RuntimeNumber {
        RuntimeNumber { key: self.key(key), default }
    }
    /// A handle to a number that need not be whole (`RuntimeDouble`).
    pub fn double(&self, key: &str, default: f64) -> RuntimeDouble {
        RuntimeDouble { key: self.key(key), default }
    }
    /// A handle to a fraction (`RuntimeFractionalPercent`).
    pub fn fraction(&self, key: &str, default: FractionalPercent) -> RuntimeFraction {
        RuntimeFraction { key: self.key(key), default }
    }
}

/// A number that an operator may change while the server runs. Reading it is one relaxed load.
#[derive(Debug, Clone)]
pub struct RuntimeNumber {
    key: Option<Arc<Key>>,
    default: u64,
}

impl RuntimeNumber {
    /// A number that nobody can change.
    pub const fn fixed(n: u64) -> RuntimeNumber {
        RuntimeNumber { key: None, default: n }
    }
    /// The number at this moment.
    pub fn get(&self) -> u64 {
        match self.key.as_ref().map(|k| k.number.load(Relaxed)) {
            None | Some(NONE) => self.default,
            Some(n) => n,
        }
    }
    /// The number at this moment, if the runtime says one.
    pub fn said(&self) -> Option<u64> {
        let n = self.key.as_ref()?.number.load(Relaxed);
        (n != NONE).then_some(n)
    }
    /// Decides with the number as percent (Envoy's `featureEnabled`).
    pub fn percent(&self) -> bool {
        match self.get() {
            0 => false,
            100.. => true,
            n => rng::below(100) < n,
        }
    }
}

/// A number that need not be whole, and that an operator may change while the server runs.
#[derive(Debug, Clone)]
pub struct RuntimeDouble {
    key: Option<Arc<Key>>,
    default: f64,
}

impl RuntimeDouble {
    /// A number that nobody can change.
    pub const fn fixed(n: f64) -> RuntimeDouble {
        RuntimeDouble { key: None, default: n }
    }
    /// The number at this moment.
    pub fn get(&self) -> f64 {
        match self.key.as_ref().map(|k| k.double.load(Relaxed)) {
            None | Some(NONE) => self.default,
            Some(bits) => f64::from_bits(bits),
        }
    }
}

/// A fraction that an operator may change while the server runs. Reading it is one relaxed load.
#[derive(Debug, Clone)]
pub struct RuntimeFraction {
    key: Option<Arc<Key>>,
    default: FractionalPercent,
}

impl RuntimeFraction {
    /// The fraction at this moment.
    pub fn get(&self) -> FractionalPercent {
        self.get_or(self.default)
    }
    /// As [`get`](Self::get), with a default of this moment.
    pub fn get_or(&self, default: FractionalPercent) -> FractionalPercent {
        match self.key.as_ref().map(|k| k.fraction.load(Relaxed)) {
            None | Some(NONE) => default,
            Some(f) => FractionalPercent { numerator: (f >> 32) as u32, denominator: f as u32 },
        }
    }
    /// Decides for a random number, e.g. the one a stream keeps.
    pub fn matches(&self, random: u64) -> bool {
        self.get().matches(random)
    }
}

#[cfg(test)]
mod tests {
    use super::super::RuntimeValue;
    use super::*;

    fn snapshot(key: &str, value: &str) -> Snapshot {
        let values = [(key.to_owned(), RuntimeValue::of_text(value).expect("a value"))].into();
        Snapshot::new(vec![Layer { values, ..Default::default() }])
    }

    #[test]
    fn handles_follow_the_snapshot() {
        let r = Runtime::default();
        let (n, none) = (r.number("k", 7), r.number("", 8));
        let f = r.fraction("k", FractionalPercent::NEVER);
        assert_eq!((n.get(), none.get(), f.matches(0)), (7, 8, false));
        assert_eq!((n.said(), f.get_or(FractionalPercent::ALWAYS)), (None, FractionalPercent::ALWAYS));
        r.set(snapshot("k", "30"));
        assert_eq!((n.get(), f.matches(29), f.matches(30)), (30, true, false));
        assert_eq!((n.said(), f.get_or(FractionalPercent::NEVER).numerator), (Some(30), 30));
        assert_eq!(r.number("k", 7).get(), 30, "a handle made later knows the value");
        r.set(snapshot("k", "{numerator: 5, denominator: TEN_THOUSAND}"));
        assert_eq!((n.get(), f.matches(4), f.matches(5), f.matches(10_004)), (7, true, false, true));
        r.set(snapshot("k", "99999999999999"));
        assert!(f.matches(99), "more than all is all");
        r.set(snapshot("", "1"));
        assert_eq!((n.get(), none.get()), (7, 8), "an empty name is no key");
    }

    #[test]
    fn keys_without_handles_are_forgotten() {
        let r = Runtime::default();
        drop(r.number("k", 1));
        r.set(Snapshot::default());
        assert!(r.keys().is_empty());
    }

    #[test]
    fn percent() {
        for (n, always, never) in [(0, false, true), (100, true, false), (1000, true, false)] {
            let n = RuntimeNumber::fixed(n);
            assert!((0..50).all(|_| n.percent()) == always && (0..50).all(|_| !n.percent()) == never);
        }
        let half = RuntimeNumber::fixed(50);
        assert!((0..200).any(|_| half.percent()) && (0..200).any(|_| !half.percent()));
    }
}

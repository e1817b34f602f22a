//! A block: one instance of a group of stats, i.e. a schema with a prefix and a range of cells.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock};

use super::schema::Schema;
use super::store::{Inner, Retired, lock};

/// Computes one derived gauge: its value, or `None` while it was never used (it is then 0, and hidden by
/// `?usedonly`).
pub type DerivedFn = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Computes the derived gauges of a group when somebody reads: one call for all of them.
pub trait DeriveGauges: Send + Sync {
    /// Sets the gauges that are in use. Runs on main while stats are read and must not block.
    fn derive(&self, gauges: &mut DerivedGauges<'_>);
}

impl<F: Fn(&mut DerivedGauges<'_>) + Send + Sync> DeriveGauges for F {
    fn derive(&self, gauges: &mut DerivedGauges<'_>) {
        self(gauges);
    }
}

/// Where [`DeriveGauges`] puts values. What is not set was never used.
pub struct DerivedGauges<'a> {
    schema: &'static Schema,
    values: &'a mut [Option<u64>],
    next: usize,
}

impl DerivedGauges<'_> {
    /// Sets a gauge, by the name of its accessor. Quickest in the order of declaration.
    pub fn set(&mut self, field: &str, value: u64) {
        let derived = &self.schema.layout().derived;
        for at in (self.next..derived.len()).chain(0..self.next) {
            if self.schema.members[usize::from(derived[at])].field == field {
                self.values[at] = Some(value);
                self.next = at + 1;
                return;
            }
        }
        debug_assert!(false, "{} has no derived gauge {field}", self.schema.name);
    }
}

/// The names given at run time: member, key, cell.
pub(super) type Names = BTreeMap<u16, BTreeMap<Box<str>, u32>>;

/// The cells of response codes 100 to 599, in rows of a hundred: 0 is "none", else the cell plus one.
pub(super) type CodeRows = [OnceLock<Box<[AtomicU32; 100]>>; 5];

/// What most blocks do not need.
#[derive(Default)]
pub(super) struct Cold {
    pub(super) names: Mutex<Names>,
    codes: OnceLock<Box<[CodeRows]>>,
    pub(super) derived: Mutex<Vec<(u16, DerivedFn)>>,
    pub(super) texts: Mutex<Vec<(u16, Arc<str>)>>,
}

/// One instance of a group. All cells from `slots`, `sets` and `histograms` on, as many as the schema's layout
/// says, belong to it until it is dropped.
pub(super) struct Block {
    pub(super) store: Arc<Inner>,
    pub(super) schema: &'static Schema,
    pub(super) prefix: Arc<str>,
    /// Never used again, unlike cells.
    pub(super) serial: u64,
    pub(super) slots: u32,
    pub(super) sets: u32,
    pub(super) histograms: u32,
    /// Computes the derived gauges that have no function of their own.
    pub(super) source: Mutex<Option<Arc<dyn DeriveGauges>>>,
    pub(super) cold: OnceLock<Box<Cold>>,
}

impl Block {
    pub(super) fn cold(&self) -> &Cold {
        self.cold.get_or_init(Box::default)
    }

    /// The rows of a [`Codes`](super::schema::Kind::Codes) of this block.
    pub(super) fn codes(&self, number: u16) -> &CodeRows {
        let make = || (0..self.schema.layout().codes).map(|_| [const { OnceLock::new() }; 5]).collect();
        &self.cold().codes.get_or_init(make)[usize::from(number)]
    }

    /// The values of all derived gauges as the layout numbers them; empty when there is nothing to compute them.
    pub(super) fn derived(&self) -> Vec<Option<u64>> {
        let layout = self.schema.layout();
        if layout.derived.is_empty() {
            return Vec::new();
        }
        // The functions are called without a lock.
        let source = lock(&self.source).clone();
        let own = self.cold.get().map(|cold| lock(&cold.derived).clone()).unwrap_or_default();
        if source.is_none() && own.is_empty() {
            return Vec::new();
        }
        let mut values = vec![None; layout.derived.len()];
        if let Some(source) = source {
            source.derive(&mut DerivedGauges { schema: self.schema, values: &mut values, next: 0 });
        }
        for (member, function) in own {
            if let Some(at) = layout.derived.iter().position(|of| *of == member) {
                values[at] = function();
            }
        }
        values
    }

    /// The value of one derived gauge.
    pub(super) fn derived_at(&self, at: u16) -> Option<u64> {
        self.derived().get(usize::from(at)).copied().flatten()
    }

    pub(super) fn text(&self, index: u16) -> Option<Arc<str>> {
        lock(&self.cold.get()?.texts).iter().find(|t| t.0 == index).map(|t| t.1.clone())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let names = self.cold.get().map(|cold| std::mem::take(&mut *lock(&cold.names))).unwrap_or_default();
        self.store.retire(self, Retired::new(self, names));
    }
}

/// A counted reference to a group of stats; what [`stats!`](crate::stats!) wraps. Cloning it is cheap, and the
/// stats exist (are listed) while one exists.
#[derive(Clone)]
pub struct Group(pub(super) Arc<Block>);

impl Group {
    /// The prefix, with its dot: `cluster.foo.`
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Lets `source` compute every derived gauge of the group that has no function of its own. It should hold what it
    /// reads weakly, since the group may live longer. A later call replaces the earlier.
    pub fn derive(&self, source: Arc<dyn DeriveGauges>) {
        *lock(&self.0.source) = Some(source);
    }

    pub(super) fn set_derived(&self, index: u16, function: DerivedFn) {
        put(&mut lock(&self.0.cold().derived), index, function);
    }

    pub(super) fn set_text(&self, index: u16, text: Arc<str>) {
        put(&mut lock(&self.0.cold().texts), index, text);
    }
}

fn put<T>(list: &mut Vec<(u16, T)>, index: u16, value: T) {
    match list.iter_mut().find(|entry| entry.0 == index) {
        Some(entry) => entry.1 = value,
        None => list.push((index, value)),
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.0.schema.name, self.0.prefix)
    }
}

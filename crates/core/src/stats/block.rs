//! A block: one instance of a group of stats, i.e. a schema with a prefix and a range of cells.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock};

use super::schema::{DerivedGauge, Schema};
use super::store::{Inner, Retired, lock};

/// Computes one derived gauge: its value, or `None` while it was never used (it is then 0, and hidden by
/// `?usedonly`).
pub type DerivedFn = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Computes the derived gauges of a group when somebody reads: one call for all of them.
pub trait DeriveGauges: Send + Sync {
    /// Sets the gauges that are in use. Runs on main while stats are read; it must not block, nor ask the group itself.
    fn derive(&self, gauges: &mut DerivedGauges);
    /// Touches the memory that [`derive`](Self::derive) reads and that is likely to be cold. It is called for many groups in a
    /// row before the first is derived, so that the processor waits for all of it together, not for each alone.
    fn touch(&self) {}
}

impl<F: Fn(&mut DerivedGauges) + Send + Sync> DeriveGauges for F {
    fn derive(&self, gauges: &mut DerivedGauges) {
        self(gauges);
    }
}

/// Where [`DeriveGauges`] puts values. What is not set was never used.
#[derive(Debug, Default)]
pub struct DerivedGauges {
    /// A bit for each gauge that is set.
    used: u64,
    /// By number; empty when nothing computes them.
    values: Vec<u64>,
}

impl DerivedGauges {
    /// Sets a gauge.
    #[inline]
    pub fn set(&mut self, gauge: DerivedGauge, value: u64) {
        if let Some(at) = self.values.get_mut(usize::from(gauge.0)) {
            *at = value;
            self.used |= 1 << gauge.0;
        }
    }

    #[inline]
    pub(super) fn get(&self, number: u16) -> Option<u64> {
        (self.used >> number & 1 != 0).then(|| self.values[usize::from(number)])
    }

    /// The numbers of those that are set.
    #[inline]
    pub(super) fn used(&self) -> u64 {
        self.used
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
    pub(super) derived: Mutex<Vec<(DerivedGauge, DerivedFn)>>,
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

    /// The values of all derived gauges.
    pub(super) fn derived(&self) -> DerivedGauges {
        let layout = self.schema.layout();
        if layout.derived == 0 {
            return DerivedGauges::default();
        }
        let source = lock(&self.source);
        let own = self.cold.get().map(|cold| lock(&cold.derived).clone()).unwrap_or_default();
        if source.is_none() && own.is_empty() {
            return DerivedGauges::default();
        }
        let mut gauges = DerivedGauges { used: 0, values: vec![0; usize::from(layout.derived)] };
        if let Some(source) = &*source {
            source.derive(&mut gauges);
        }
        drop(source);
        // These are called without a lock.
        for (gauge, function) in own {
            match function() {
                Some(value) => gauges.set(gauge, value),
                None => gauges.used &= !(1 << gauge.0),
            }
        }
        gauges
    }

    /// The first of two steps to fetch what a reader of this block needs; see [`DeriveGauges::touch`].
    pub(super) fn touch(&self) {
        self.store.sets.touch(self.sets, self.schema.layout().sets);
        // Counts stand before what is counted.
        black_box((Arc::strong_count(&self.prefix), lock(&self.source).as_ref().map(Arc::strong_count)));
    }

    /// The second step, when what the first fetched is there.
    pub(super) fn touch_source(&self) {
        if let Some(source) = &*lock(&self.source) {
            source.touch();
        }
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

    pub(super) fn set_derived(&self, gauge: DerivedGauge, function: DerivedFn) {
        put(&mut lock(&self.0.cold().derived), gauge, function);
    }

    pub(super) fn set_text(&self, index: u16, text: Arc<str>) {
        put(&mut lock(&self.0.cold().texts), index, text);
    }
}

fn put<K: PartialEq, T>(list: &mut Vec<(K, T)>, key: K, value: T) {
    match list.iter_mut().find(|entry| entry.0 == key) {
        Some(entry) => entry.1 = value,
        None => list.push((key, value)),
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.0.schema.name, self.0.prefix)
    }
}

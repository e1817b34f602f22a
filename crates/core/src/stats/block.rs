//! A block: one instance of a group of stats, i.e. a schema with a prefix and a range of cells.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock};

use super::schema::{Layout, Schema};
use super::store::{Inner, Retired, lock};

/// Computes a derived gauge: gets the accessor's name and returns the value, or `None` while it was never used
/// (it is then 0, and hidden by `?usedonly`).
pub type DerivedFn = Arc<dyn Fn(&'static str) -> Option<u64> + Send + Sync>;

/// The names given at run time: member, key, cell.
pub(super) type Names = BTreeMap<u16, BTreeMap<Box<str>, u32>>;

/// The cells of response codes 100 to 599, in rows of a hundred: 0 is "none", else the cell plus one.
pub(super) type CodeRows = [OnceLock<Box<[AtomicU32; 100]>>; 5];

/// What most blocks do not need.
pub(super) struct Cold {
    pub(super) names: Mutex<Names>,
    pub(super) codes: Box<[CodeRows]>,
    pub(super) derived: Mutex<Vec<(u16, DerivedFn)>>,
    pub(super) texts: Mutex<Vec<(u16, Arc<str>)>>,
}

impl Cold {
    fn new(layout: &Layout) -> Self {
        Self {
            names: Mutex::default(),
            codes: (0..layout.codes).map(|_| [const { OnceLock::new() }; 5]).collect(),
            derived: Mutex::default(),
            texts: Mutex::default(),
        }
    }
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
    pub(super) cold: OnceLock<Box<Cold>>,
}

impl Block {
    pub(super) fn cold(&self) -> &Cold {
        self.cold.get_or_init(|| Box::new(Cold::new(self.schema.layout())))
    }

    /// The value of a derived gauge: by its own function, else by the group's.
    pub(super) fn derived(&self, index: u16) -> Option<u64> {
        let function = {
            let derived = lock(&self.cold.get()?.derived);
            let of = |wanted| derived.iter().find(|d| d.0 == wanted).map(|d| d.1.clone());
            of(index).or_else(|| of(ALL))?
        };
        function(self.schema.members[usize::from(index)].field)
    }

    pub(super) fn text(&self, index: u16) -> Option<Arc<str>> {
        lock(&self.cold.get()?.texts).iter().find(|t| t.0 == index).map(|t| t.1.clone())
    }
}

/// In place of a member: the function that serves all derived gauges of the group.
const ALL: u16 = u16::MAX;

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

    /// Lets `f` compute every derived gauge of the group that has no function of its own. `f` gets the accessor's
    /// name. It runs on main while stats are read and must not block; it should hold its source weakly, since the
    /// group may live longer. A later call replaces the earlier.
    pub fn derive(&self, f: impl Fn(&'static str) -> Option<u64> + Send + Sync + 'static) {
        self.set_derived(ALL, Arc::new(f));
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

//! Stats whose names are known only at run time: response codes, and families keyed by text.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::block::{Block, Group, Names};
use super::handles::{Counter, Histogram, SetGauge};
use super::schema::{CODE_UNKNOWN, Kind};
use super::store::lock;

/// Counters by response code, named as Envoy does: `<name>_completed`, `<name>_2xx`, `<name>_200`; codes outside
/// 100…599 count as `<name>_unknown`. Each but the first is listed once used. Recording neither hashes nor locks, except for the
/// first time of a code.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    group: &'a Group,
    index: u16,
    slots: u32,
    number: u16,
}

impl<'a> Codes<'a> {
    #[doc(hidden)]
    #[inline]
    pub fn of(group: &'a Group, index: u16, offset: u32, number: u16) -> Self {
        Self { group, index, slots: group.0.slots + offset, number }
    }

    /// Counts a finished exchange: completed, its class and its code.
    #[inline]
    pub fn record(self, code: u16) {
        self.record_completed();
        self.record_code(code);
    }

    /// Counts `_completed` alone (`RouterStatsOptions`: without the codes).
    #[inline]
    pub fn record_completed(self) {
        self.fixed(0).inc();
    }

    /// Counts the class and the code.
    #[inline]
    pub fn record_code(self, code: u16) {
        match code {
            100..=599 => {
                self.fixed(u32::from(code / 100)).inc();
                Counter { group: self.group, id: self.code_slot(code) }.inc();
            }
            _ => self.fixed(CODE_UNKNOWN).inc(),
        }
    }

    #[inline]
    fn fixed(self, offset: u32) -> Counter<'a> {
        Counter { group: self.group, id: self.slots + offset }
    }

    #[inline]
    fn code_slot(self, code: u16) -> u32 {
        let rows = self.group.0.codes(self.number);
        let row =
            rows[usize::from(code / 100 - 1)].get_or_init(|| Box::new([const { AtomicU32::new(0) }; 100]));
        let cell = &row[usize::from(code % 100)];
        match cell.load(Ordering::Acquire) {
            0 => self.new_code(code, cell),
            slot => slot - 1,
        }
    }

    #[cold]
    fn new_code(self, code: u16, cell: &AtomicU32) -> u32 {
        let block = &*self.group.0;
        let mut names = lock(&block.cold().names);
        let slot = *names
            .entry(self.index)
            .or_default()
            .entry(format!("_{code}").into())
            .or_insert_with(|| block.store.new_slot());
        cell.store(slot + 1, Ordering::Release);
        slot
    }
}

/// The key that stands for all keys beyond the limit of a family.
pub const OVERFLOW: &str = "overflow";

macro_rules! family {
    ($(#[$meta:meta])* $name:ident, $handle:ident, $make:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<'a> {
            group: &'a Group,
            index: u16,
        }

        impl<'a> $name<'a> {
            #[doc(hidden)]
            pub fn of(group: &'a Group, index: u16) -> Self {
                Self { group, index }
            }

            /// The stat of this key. It is listed from now on. Beyond the store's limit of keys, the stat of
            /// [`OVERFLOW`]. Characters that would spoil the output become `_`.
            pub fn get(self, key: &str) -> $handle<'a> {
                $make(self.group, lookup(self.group, self.index, key))
            }
        }
    };
}

family!(
    /// Counters keyed by text, `<name><key>`.
    CounterFamily,
    Counter,
    |group, id| Counter { group, id }
);
family!(
    /// Set gauges keyed by text, `<name><key>`.
    GaugeFamily,
    SetGauge,
    SetGauge::at
);
family!(
    /// Histograms keyed by text, `<name><key>`.
    HistogramFamily,
    Histogram,
    Histogram::at
);

/// What a thread knows of the names of one block.
struct Known {
    block: Weak<Block>,
    members: Vec<(u16, KnownMember)>,
}

#[derive(Default)]
struct KnownMember {
    cells: HashMap<Box<str>, u32>,
    /// The family reached its limit and `cells` has all of it: an unknown key is the overflow.
    overflow: Option<u32>,
}

#[derive(Default)]
struct Cache {
    blocks: HashMap<u64, Known>,
    purge_at: usize,
}

thread_local!(static CACHE: RefCell<Cache> = RefCell::default());

fn lookup(group: &Group, index: u16, key: &str) -> u32 {
    let found = CACHE.try_with(|cache| {
        let mut cache = cache.borrow_mut();
        let member = cache.member(&group.0, index);
        if let Some(&cell) = member.cells.get(key) {
            return cell;
        }
        if let Some(cell) = member.overflow {
            return cell;
        }
        intern(&group.0, index, key, member)
    });
    // Without a cache the thread is ending.
    found.unwrap_or_else(|_| intern(&group.0, index, key, &mut KnownMember::default()))
}

impl Cache {
    fn member(&mut self, block: &Arc<Block>, index: u16) -> &mut KnownMember {
        if !self.blocks.contains_key(&block.serial) && self.blocks.len() >= self.purge_at {
            self.blocks.retain(|_, known| known.block.strong_count() > 0);
            self.purge_at = (self.blocks.len() * 2).max(64);
        }
        let known = self
            .blocks
            .entry(block.serial)
            .or_insert_with(|| Known { block: Arc::downgrade(block), members: Vec::new() });
        let at = match known.members.iter().position(|m| m.0 == index) {
            Some(at) => at,
            None => {
                known.members.push((index, KnownMember::default()));
                known.members.len() - 1
            }
        };
        &mut known.members[at].1
    }
}

/// Finds or makes the cell of a key, under the block's lock.
#[cold]
fn intern(block: &Arc<Block>, index: u16, key: &str, known: &mut KnownMember) -> u32 {
    let clean: String = key.chars().map(|c| if c.is_control() || c == ':' { '_' } else { c }).collect();
    let limit = block.store.settings().family_limit;
    let mut names = lock(&block.cold().names);
    let family = names.entry(index).or_default();
    if let Some(&cell) = family.get(&*clean) {
        if clean == key {
            known.cells.insert(key.into(), cell);
        }
        return cell;
    }
    let full = family.len() >= limit;
    let name = if full { OVERFLOW } else { &clean };
    let cell = match family.get(name) {
        Some(&cell) => cell,
        None => {
            let cell = new_cell(block, index);
            family.insert(name.into(), cell);
            cell
        }
    };
    if full {
        known.cells = copy(&names, index);
        known.overflow = Some(cell);
    } else if clean == key {
        // A key that had to be cleaned is not remembered: there may be any number of them for one name.
        known.cells.insert(key.into(), cell);
    }
    cell
}

fn copy(names: &Names, index: u16) -> HashMap<Box<str>, u32> {
    names.get(&index).into_iter().flatten().map(|(key, cell)| (key.clone(), *cell)).collect()
}

fn new_cell(block: &Block, index: u16) -> u32 {
    match block.schema.members[usize::from(index)].kind {
        Kind::GaugeFamily => block.store.new_set(),
        Kind::HistogramFamily(_) => block.store.new_histogram(),
        _ => block.store.new_slot(),
    }
}

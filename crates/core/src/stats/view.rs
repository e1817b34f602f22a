//! One block as a reader sees it: its stats of one section, in order, with their values.

use std::sync::Arc;

use super::block::{Block, DerivedGauges};
use super::book::{Book, Flushed};
use super::histogram::Unit;
use super::schema::{Entry, Kind, Layout, Place, Section};
use super::settings::Settings;
use super::slots::{USED, gauge_value};
use super::store::lock;

/// The value of a stat at the moment of reading.
#[derive(Clone, Debug)]
pub enum Value {
    /// A counter, since it exists or was last reset.
    Counter(u64),
    /// A gauge.
    Gauge(u64),
    /// A text readout.
    Text(Arc<str>),
    /// A histogram: what was flushed, `None` if nothing ever was.
    Histogram(Unit, Option<Arc<Flushed>>),
}

/// The cell of a counter and its raw sum, for what counts differences.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    None,
    Slot(u32, u64),
    Set(u32, u64),
}

pub(super) struct Reading {
    pub(super) value: Value,
    /// Whether it was ever written (a histogram: flushed).
    pub(super) used: bool,
    /// Whether it exists: false for a lazy stat before its first use.
    pub(super) listed: bool,
    pub(super) cell: Cell,
}

/// The stats of a block in one section, by name.
pub(super) struct View {
    pub(super) block: Arc<Block>,
    section: Section,
    fixed: &'static [Entry],
    dynamic: Vec<Entry>,
    used_only: bool,
    /// With `used_only`, when no thread wrote a cell: the fixed stats that were used otherwise.
    few: Option<Few>,
    /// Sums of the cells; empty when none was written.
    slots: Vec<u64>,
    sets: Vec<(u64, bool)>,
    derived: DerivedGauges,
    mask: Option<Arc<[Vec<u64>; 3]>>,
    at_fixed: usize,
    at_dynamic: usize,
}

/// Some of the fixed stats of a section, a bit for each.
struct Few([u64; Few::MAX / 64]);

impl Few {
    const MAX: usize = 256;

    /// The numeric stats that have no cell of a thread and were used.
    fn of(layout: &Layout, sets: &[(u64, bool)], derived: &DerivedGauges) -> Self {
        let mut few = Self([0; _]);
        let mut put = |at: u16| few.0[usize::from(at) / 64] |= 1 << (at % 64);
        for (_, at) in sets.iter().zip(&layout.set_entries).filter(|((_, used), _)| *used) {
            put(*at);
        }
        let mut used = derived.used();
        while used != 0 {
            put(layout.derived_entries[used.trailing_zeros() as usize]);
            used &= used - 1;
        }
        few
    }

    /// The first of them that is not before `at`.
    #[inline]
    fn first_from(&self, at: usize) -> Option<usize> {
        let mut word = at / 64;
        let mut bits = self.0.get(word)? & (u64::MAX << (at % 64));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

impl View {
    /// The view of a block; numbers are read now. `None` if the section has no stat to show. Stats that surely are
    /// not to be shown (rejected, lazy and not used, not used with `used_only`) are left out.
    pub(super) fn load(
        block: Arc<Block>,
        section: Section,
        used_only: bool,
        book: &mut Book,
        settings: &Settings,
    ) -> Option<Self> {
        let layout = block.schema.layout();
        let fixed = &layout.entries[section as usize][..];
        let dynamic =
            if layout.dynamic[section as usize] { dynamic(&block, section, settings) } else { Vec::new() };
        if fixed.is_empty() && dynamic.is_empty() {
            return None;
        }
        let (mut slots, mut sets, mut derived) = (Vec::new(), Vec::new(), DerivedGauges::default());
        let mut few = None;
        match section {
            Section::Numeric => {
                let store = &block.store;
                store.for_shards(|shard| shard.slots.sum_range(block.slots, layout.slots, &mut slots));
                sets = store.sets.read_range(block.sets, layout.sets);
                derived = block.derived();
                if used_only && slots.is_empty() && fixed.len() <= Few::MAX {
                    few = Some(Few::of(layout, &sets, &derived));
                }
            }
            Section::Histogram if used_only && dynamic.is_empty() => {
                let mut all = block.histograms..block.histograms + layout.histograms;
                if !all.any(|id| book.histogram(id).is_some()) {
                    return None;
                }
            }
            _ => {}
        }
        let mask = settings.accept.as_ref().map(|_| mask(&block, book, settings));
        let (at_fixed, at_dynamic) = (0, 0);
        let mut view = Self {
            block,
            section,
            fixed,
            dynamic,
            used_only,
            few,
            slots,
            sets,
            derived,
            mask,
            at_fixed,
            at_dynamic,
        };
        view.skip();
        view.current().is_some().then_some(view)
    }

    /// The stat at hand.
    #[inline]
    pub(super) fn current(&self) -> Option<&Entry> {
        match (self.fixed.get(self.at_fixed), self.dynamic.get(self.at_dynamic)) {
            (Some(fixed), Some(dynamic)) => Some(if dynamic.name < fixed.name { dynamic } else { fixed }),
            (fixed, dynamic) => fixed.or(dynamic),
        }
    }

    /// Goes to the next stat. Returns whether there is one.
    #[inline]
    pub(super) fn advance(&mut self) -> bool {
        match (self.fixed.get(self.at_fixed), self.dynamic.get(self.at_dynamic)) {
            (Some(fixed), Some(dynamic)) if dynamic.name < fixed.name => self.at_dynamic += 1,
            (Some(_), _) => self.at_fixed += 1,
            (None, _) => self.at_dynamic += 1,
        }
        self.skip();
        self.current().is_some()
    }

    /// Passes over fixed stats that are surely not to be shown: most of an idle cluster, so this must be quick.
    fn skip(&mut self) {
        while self.at_fixed < self.fixed.len() {
            if let Some(few) = &self.few {
                self.at_fixed = few.first_from(self.at_fixed).unwrap_or(self.fixed.len());
                if self.mask.is_none() {
                    return;
                }
            }
            if self.at_fixed == self.fixed.len() || self.is_shown(self.at_fixed) {
                return;
            }
            self.at_fixed += 1;
        }
    }

    #[inline]
    fn is_shown(&self, at: usize) -> bool {
        let masked =
            self.mask.as_ref().is_some_and(|mask| mask[self.section as usize][at / 64] >> (at % 64) & 1 != 0);
        let entry = &self.fixed[at];
        !masked && !((entry.lazy || self.used_only) && self.is_surely_unused(entry.place))
    }

    #[inline]
    fn is_surely_unused(&self, place: Place) -> bool {
        match place {
            Place::Counter(at) | Place::Gauge(at) => self.slot(at) & USED == 0,
            Place::SharedCounter(at) | Place::SetGauge(at) => !self.set(at).1,
            Place::Derived(at) => self.derived(at).is_none(),
            Place::Text(_) => self.block.cold.get().is_none(),
            _ => false,
        }
    }

    #[inline]
    fn slot(&self, at: u32) -> u64 {
        self.slots.get(at as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn set(&self, at: u32) -> (u64, bool) {
        self.sets.get(at as usize).copied().unwrap_or((0, false))
    }

    #[inline]
    fn derived(&self, at: u16) -> Option<u64> {
        self.derived.get(at)
    }

    /// The number of the stat at hand: fixed stats first, then those named at run time.
    pub(super) fn number(&self) -> u32 {
        let is_fixed = match (self.fixed.get(self.at_fixed), self.dynamic.get(self.at_dynamic)) {
            (Some(fixed), Some(dynamic)) => dynamic.name >= fixed.name,
            (fixed, _) => fixed.is_some(),
        };
        (if is_fixed { self.at_fixed } else { self.fixed.len() + self.at_dynamic }) as u32
    }

    /// Reads the value of a stat of this view.
    pub(super) fn read(&self, entry: &Entry, book: &Book) -> Reading {
        read(&self.block, entry, book, |at| self.slot(at), |at| self.set(at), |at| self.derived(at))
    }

    /// The stats that were named at run time, as this view numbers them.
    pub(super) fn into_dynamic(self) -> Vec<Entry> {
        self.dynamic
    }
}

/// Reads one stat of a block, as it is now.
pub(super) fn read_one(block: &Block, entry: &Entry, book: &Book) -> Reading {
    let slot = |offset: u32| block.store.sum_slot(block.slots + offset);
    let set = |offset: u32| block.store.sets.read(block.sets + offset);
    read(block, entry, book, slot, set, |at| block.derived().get(at))
}

/// Reads a stat; `slot` and `set` give the raw sums of the block's cells, `derived` what is computed.
fn read(
    block: &Block,
    entry: &Entry,
    book: &Book,
    slot: impl Fn(u32) -> u64,
    set: impl Fn(u32) -> (u64, bool),
    derived: impl Fn(u16) -> Option<u64>,
) -> Reading {
    let reading = |value, used, cell| Reading { value, used, listed: !entry.lazy || used, cell };
    let is_used = |raw: u64| raw & USED != 0;
    let slot_counter = |id: u32, raw: u64| {
        reading(Value::Counter(book.slots.value(id, raw)), is_used(raw), Cell::Slot(id, raw))
    };
    let set_counter = |id: u32, (raw, used): (u64, bool)| {
        reading(Value::Counter(book.sets.value(id, raw)), used, Cell::Set(id, raw))
    };
    let gauge = |value: u64, used: bool| reading(Value::Gauge(value), used, Cell::None);
    let histogram = |id, unit| {
        let flushed = book.histogram(id).cloned();
        let used = flushed.is_some();
        let reading = reading(Value::Histogram(unit, flushed), used, Cell::None);
        // One that is made at its first use is listed from then on, even before its first flush.
        Reading { listed: reading.listed || is_recorded(block, id), ..reading }
    };
    match entry.place {
        Place::Counter(offset) => slot_counter(block.slots + offset, slot(offset)),
        Place::DynamicCounter(id) => slot_counter(id, block.store.sum_slot(id)),
        Place::SharedCounter(offset) => set_counter(block.sets + offset, set(offset)),
        Place::Gauge(offset) => gauge(gauge_value(slot(offset)), is_used(slot(offset))),
        Place::SetGauge(offset) => gauge(set(offset).0, set(offset).1),
        Place::DynamicGauge(id) => {
            let (value, used) = block.store.sets.read(id);
            gauge(value, used)
        }
        Place::Derived(index) => {
            let value = derived(index);
            gauge(value.unwrap_or(0), value.is_some())
        }
        Place::Text(index) => {
            let text = block.text(index);
            let used = text.is_some();
            reading(Value::Text(text.unwrap_or_default()), used, Cell::None)
        }
        Place::Histogram(offset, unit) => histogram(block.histograms + offset, unit),
        Place::DynamicHistogram(id, unit) => histogram(id, unit),
    }
}

fn is_recorded(block: &Block, id: u32) -> bool {
    let mut recorded = false;
    block.store.for_shards(|shard| {
        recorded |= shard.histograms.get(id).is_some_and(|cells| cells.samples() != 0);
    });
    recorded
}

/// The stats of a block that were named at run time.
fn dynamic(block: &Block, section: Section, settings: &Settings) -> Vec<Entry> {
    let Some(cold) = block.cold.get() else { return Vec::new() };
    let mut entries = Vec::new();
    for (member, cells) in lock(&cold.names).iter() {
        let member = &block.schema.members[usize::from(*member)];
        let place = |id| match member.kind {
            Kind::GaugeFamily => Place::DynamicGauge(id),
            Kind::HistogramFamily(unit) => Place::DynamicHistogram(id, unit),
            _ => Place::DynamicCounter(id),
        };
        if place(0).section() != section {
            continue;
        }
        entries.extend(cells.iter().map(|(key, id)| Entry {
            name: format!("{}{key}", member.name).into(),
            place: place(*id),
            lazy: false,
        }));
    }
    if let Some(accept) = &settings.accept {
        entries.retain(|entry| accept(&format!("{}{}", block.prefix, entry.name)));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// A bit per fixed stat that `stats_matcher` rejects; computed once per block.
fn mask(block: &Block, book: &mut Book, settings: &Settings) -> Arc<[Vec<u64>; 3]> {
    let compute = || {
        let mut name = block.prefix.to_string();
        std::array::from_fn(|section| {
            let entries = &block.schema.layout().entries[section];
            let mut bits = vec![0; entries.len().div_ceil(64)];
            for (i, entry) in entries.iter().enumerate() {
                name.truncate(block.prefix.len());
                name.push_str(&entry.name);
                if settings.accept.as_ref().is_some_and(|accept| !accept(&name)) {
                    bits[i / 64] |= 1 << (i % 64);
                }
            }
            bits
        })
    };
    book.masks.entry(block.serial).or_insert_with(|| Arc::new(compute())).clone()
}

//! What main alone knows: baselines of reset counters, what sinks have been told, flushed histograms.

use std::collections::HashMap;
use std::sync::Arc;

use super::histogram::{Cells, Distribution};
use super::shard::Shard;
use super::slots::VALUE;
use super::store::{Inner, Range, Retired, Store, lock};

const PAGE: usize = 512;

/// Numbers by cell, zero unless set; pages are allocated when needed.
#[derive(Default)]
pub(super) struct Paged(Vec<Option<Box<[u64; PAGE]>>>);

impl Paged {
    pub(super) fn get(&self, id: u32) -> u64 {
        let page = self.0.get(id as usize / PAGE).and_then(Option::as_deref);
        page.map_or(0, |page| page[id as usize % PAGE])
    }

    pub(super) fn set(&mut self, id: u32, value: u64) {
        let at = id as usize / PAGE;
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at].get_or_insert_with(|| Box::new([0; PAGE]))[id as usize % PAGE] = value;
    }

    fn clear(&mut self, range: &Range) {
        for id in range.base..range.base + range.len {
            if self.get(id) != 0 {
                self.set(id, 0);
            }
        }
    }
}

/// The state of a histogram at the last flush.
#[derive(Debug, Default)]
pub struct Flushed {
    /// The samples between the last two flushes.
    pub interval: Distribution,
    /// All samples up to the last flush.
    pub cumulative: Distribution,
}

#[derive(Default)]
struct HistogramState {
    samples: u64,
    flushed: Arc<Flushed>,
}

/// Counters of one kind: what a reset took away, and what sinks were told.
#[derive(Default)]
pub(super) struct Counters {
    baseline: Paged,
    latched: Paged,
}

impl Counters {
    /// The value since the last reset, from the sum of the cells.
    pub(super) fn value(&self, id: u32, raw: u64) -> u64 {
        (raw & VALUE).wrapping_sub(self.baseline.get(id)) & VALUE
    }

    pub(super) fn reset(&mut self, id: u32, raw: u64) {
        self.baseline.set(id, raw & VALUE);
    }

    /// What was added since the last call.
    pub(super) fn latch(&mut self, id: u32, raw: u64) -> u64 {
        let delta = (raw & VALUE).wrapping_sub(self.latched.get(id)) & VALUE;
        if delta != 0 {
            self.latched.set(id, raw & VALUE);
        }
        delta
    }

    fn clear(&mut self, range: &Range) {
        self.baseline.clear(range);
        self.latched.clear(range);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    pub(super) slots: Counters,
    pub(super) sets: Counters,
    histograms: Vec<Option<Box<HistogramState>>>,
    /// Per block (by serial) and section: a bit per fixed stat that `stats_matcher` rejects.
    pub(super) masks: HashMap<u64, Arc<[Vec<u64>; 3]>>,
}

impl Book {
    /// The flushed state of a histogram; `None` if no sample was ever flushed.
    pub(super) fn histogram(&self, id: u32) -> Option<&Arc<Flushed>> {
        self.histograms.get(id as usize)?.as_deref().map(|state| &state.flushed)
    }

    pub(super) fn forget(&mut self, group: &Retired) {
        group.slots.iter().for_each(|range| self.slots.clear(range));
        group.sets.iter().for_each(|range| self.sets.clear(range));
        for id in group.histograms.iter().flat_map(|range| range.base..range.base + range.len) {
            if let Some(state) = self.histograms.get_mut(id as usize) {
                *state = None;
            }
        }
        self.masks.remove(&group.serial);
    }

    fn flush(&mut self, id: u32, shards: &[&Shard]) {
        if id as usize >= self.histograms.len() {
            self.histograms.resize_with(id as usize + 1, || None);
        }
        let cells = || shards.iter().filter_map(|shard| shard.histograms.get(id));
        let samples = cells().map(Cells::samples).fold(0, u64::wrapping_add);
        let slot = &mut self.histograms[id as usize];
        if slot.is_none() && samples == 0 {
            return;
        }
        let state = slot.get_or_insert_default();
        if state.samples == samples && state.flushed.interval.is_empty() {
            return;
        }
        let cumulative = Distribution::sum(cells());
        let interval = cumulative.since(&state.flushed.cumulative);
        state.samples = samples;
        state.flushed = Arc::new(Flushed { interval, cumulative });
    }
}

/// A flush of the histograms under way, see [`Store::begin_histogram_flush`].
pub struct HistogramFlush {
    store: Store,
    ids: Vec<u32>,
}

impl HistogramFlush {
    /// Flushes up to `limit` histograms. Returns whether there are more.
    pub fn step(&mut self, limit: usize) -> bool {
        let store: &Inner = &self.store.0;
        let owned = store.shards();
        let shards: Vec<&Shard> = std::iter::once(&store.shared).chain(owned.iter().map(|s| &**s)).collect();
        let mut book = lock(&store.book);
        for id in self.ids.drain(self.ids.len().saturating_sub(limit)..) {
            book.flush(id, &shards);
        }
        !self.ids.is_empty()
    }
}

impl Store {
    /// Ends the interval of all histograms: what was recorded since the last flush becomes the *interval* column
    /// and adds to the *cumulative* one. Main does this every `stats_flush_interval`, and before sinks are fed.
    pub fn flush_histograms(&self) {
        let mut flush = self.begin_histogram_flush();
        while flush.step(usize::MAX) {}
    }

    /// The same in steps, for a main thread that must not be held up: a histogram takes about a microsecond.
    pub fn begin_histogram_flush(&self) -> HistogramFlush {
        let mut ids = Vec::new();
        self.0.for_shards(|shard| shard.histograms.for_each(|id, _| ids.push(id)));
        ids.sort_unstable();
        ids.dedup();
        HistogramFlush { store: self.clone(), ids }
    }
}

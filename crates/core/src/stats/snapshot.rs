//! What stat sinks get at every flush: all stats with their values, and what each counter gained since the last time.

use std::sync::Arc;

use super::book::Flushed;
use super::histogram::Unit;
use super::schema::{SECTIONS, Section};
use super::settings::Settings;
use super::store::{Store, lock};
use super::tags::Tags;
use super::view::{Cell, Reading, Value};
use super::walk::{Shown, Step, Walk};

const ALL: Shown = Shown { used_only: false, counters: true, gauges: true };

/// A stat at the moment of a flush.
pub struct Metric<'a> {
    /// The full name.
    pub name: &'a str,
    /// The value.
    pub value: MetricValue,
    /// Whether it was ever written; sinks pass over stats that were not.
    pub used: bool,
    settings: &'a Settings,
}

/// The value of a [`Metric`].
#[derive(Clone, Debug)]
pub enum MetricValue {
    /// A counter.
    Counter {
        /// Since it exists or was last reset.
        value: u64,
        /// Since the flush before.
        delta: u64,
    },
    /// A gauge.
    Gauge(u64),
    /// A text readout.
    Text(Arc<str>),
    /// A histogram; `None` before its first samples were flushed.
    Histogram(Unit, Option<Arc<Flushed>>),
}

impl<'a> Metric<'a> {
    /// The tags of the name.
    pub fn tags(&self) -> Tags<'a> {
        self.settings.tags.extract(self.name)
    }

    /// The name without its tags.
    pub fn tag_extracted_name(&self) -> String {
        let mut extracted = String::new();
        self.tags().push_extracted_name(self.name, &mut extracted);
        extracted
    }

    /// The bucket bounds of a histogram.
    pub fn bucket_bounds(&self) -> &'a [f64] {
        self.settings.buckets(self.name)
    }
}

/// A flush to sinks under way.
pub struct Snapshot {
    store: Store,
    walks: Vec<Walk>,
}

impl Snapshot {
    /// Calls `f` with the next stats: text readouts, then counters and gauges, then histograms, each by name. About
    /// `limit` stats and groups are looked at. Returns whether there is more.
    pub fn step(&mut self, limit: usize, mut f: impl FnMut(&Metric<'_>)) -> bool {
        let store = self.store.clone();
        let mut book = lock(&store.0.book);
        let Some(walk) = self.walks.last_mut() else { return false };
        walk.effort = 0;
        loop {
            match walk.next(&mut book, limit.max(1)) {
                Step::Stat(Reading { value, used, cell, .. }) => {
                    let value = match value {
                        Value::Counter(value) => {
                            let delta = match cell {
                                Cell::Slot(id, raw) => book.slots.latch(id, raw),
                                Cell::Set(id, raw) => book.sets.latch(id, raw),
                                Cell::None => 0,
                            };
                            MetricValue::Counter { value, delta }
                        }
                        Value::Gauge(value) => MetricValue::Gauge(value),
                        Value::Text(text) => MetricValue::Text(text),
                        Value::Histogram(unit, flushed) => MetricValue::Histogram(unit, flushed),
                    };
                    f(&Metric { name: &walk.name, value, used, settings: walk.settings() });
                }
                Step::Pause => return true,
                Step::End => {
                    self.walks.pop();
                    return !self.walks.is_empty();
                }
            }
        }
    }
}

impl Store {
    /// Starts a flush to sinks. Finish one before the next begins, since each takes the counters' gains with it.
    /// [`Store::flush_histograms`] comes first.
    pub fn snapshot(&self) -> Snapshot {
        let walks = SECTIONS.iter().rev().map(|section| Walk::new(self.0.clone(), *section, ALL)).collect();
        Snapshot { store: self.clone(), walks }
    }

    /// `POST /reset_counters`: all counters start from zero. They stay *used*, and what sinks are told does not change.
    pub fn reset_counters(&self) {
        let mut book = lock(&self.0.book);
        let mut walk = Walk::new(self.0.clone(), Section::Numeric, ALL);
        loop {
            match walk.next(&mut book, usize::MAX) {
                Step::Stat(reading) => match reading.cell {
                    Cell::Slot(id, raw) if raw != 0 => book.slots.reset(id, raw),
                    Cell::Set(id, raw) if raw != 0 => book.sets.reset(id, raw),
                    _ => {}
                },
                Step::Pause => walk.effort = 0,
                Step::End => return,
            }
        }
    }
}

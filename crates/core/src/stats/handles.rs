//! The handles by which stats are written. They borrow their group, so that none outlives the cells it writes;
//! `to_owned()` of a handle keeps the group alive instead.

use std::sync::Arc;

use super::block::Group;
use super::schema::DerivedGauge;
use super::shard;
use super::slots::{VALUE, gauge_value};

/// A counter. Counting costs a load and a store on threads that own a shard.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a> {
    pub(super) group: &'a Group,
    pub(super) id: u32,
}

impl<'a> Counter<'a> {
    #[doc(hidden)]
    #[inline]
    pub fn of(group: &'a Group, offset: u32) -> Self {
        Self { group, id: group.0.slots + offset }
    }

    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(self, n: u64) {
        add(self.group, self.id, n);
    }

    /// The sum over all threads since it exists (a reset of counters does not change it).
    pub fn value(self) -> u64 {
        self.group.0.store.sum_slot(self.id) & VALUE
    }

    /// The same counter, keeping its group alive.
    pub fn to_owned(self) -> OwnedCounter {
        OwnedCounter { group: self.group.clone(), id: self.id }
    }
}

#[inline]
fn add(group: &Group, id: u32, delta: u64) {
    shard::with(
        &group.0.store,
        |shard| shard.slots.add_owned(id, delta),
        |shard| shard.slots.add_shared(id, delta),
    );
}

/// A [`Counter`] that keeps its group alive.
#[derive(Clone, Debug)]
pub struct OwnedCounter {
    group: Group,
    id: u32,
}

impl OwnedCounter {
    /// The handle.
    #[inline]
    pub fn get(&self) -> Counter<'_> {
        Counter { group: &self.group, id: self.id }
    }
}

/// A gauge that goes up and down, possibly on different threads.
#[derive(Clone, Copy, Debug)]
pub struct Gauge<'a> {
    group: &'a Group,
    id: u32,
}

impl<'a> Gauge<'a> {
    #[doc(hidden)]
    #[inline]
    pub fn of(group: &'a Group, offset: u32) -> Self {
        Self { group, id: group.0.slots + offset }
    }

    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.add(1);
    }

    /// Takes one away.
    #[inline]
    pub fn dec(self) {
        self.sub(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(self, n: u64) {
        add(self.group, self.id, n);
    }

    /// Takes `n` away.
    #[inline]
    pub fn sub(self, n: u64) {
        add(self.group, self.id, n.wrapping_neg());
    }

    /// The sum over all threads.
    pub fn value(self) -> u64 {
        gauge_value(self.group.0.store.sum_slot(self.id))
    }

    /// Adds one now and takes it away when the guard is dropped.
    pub fn guard(self) -> GaugeGuard {
        self.inc();
        GaugeGuard { gauge: self.to_owned() }
    }

    /// The same gauge, keeping its group alive.
    pub fn to_owned(self) -> OwnedGauge {
        OwnedGauge { group: self.group.clone(), id: self.id }
    }
}

/// A [`Gauge`] that keeps its group alive.
#[derive(Clone, Debug)]
pub struct OwnedGauge {
    group: Group,
    id: u32,
}

impl OwnedGauge {
    /// The handle.
    #[inline]
    pub fn get(&self) -> Gauge<'_> {
        Gauge { group: &self.group, id: self.id }
    }
}

/// Counts as one in a [`Gauge`] while it lives.
#[derive(Debug)]
pub struct GaugeGuard {
    gauge: OwnedGauge,
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauge.get().dec();
    }
}

/// A counter in one shared cell, for rare events.
#[derive(Clone, Copy, Debug)]
pub struct SharedCounter<'a> {
    group: &'a Group,
    id: u32,
}

impl<'a> SharedCounter<'a> {
    #[doc(hidden)]
    #[inline]
    pub fn of(group: &'a Group, offset: u32) -> Self {
        Self { group, id: group.0.sets + offset }
    }

    /// Adds one.
    pub fn inc(self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(self, n: u64) {
        self.group.0.store.sets.update(self.id, |value| value.wrapping_add(n));
    }

    /// The value since it exists.
    pub fn value(self) -> u64 {
        self.group.0.store.sets.read(self.id).0
    }
}

/// A gauge in one shared cell, set from any thread.
#[derive(Clone, Copy, Debug)]
pub struct SetGauge<'a> {
    group: &'a Group,
    pub(super) id: u32,
}

impl<'a> SetGauge<'a> {
    #[doc(hidden)]
    #[inline]
    pub fn of(group: &'a Group, offset: u32) -> Self {
        Self::at(group, group.0.sets + offset)
    }

    pub(super) fn at(group: &'a Group, id: u32) -> Self {
        Self { group, id }
    }

    /// Sets the value.
    pub fn set(self, value: u64) {
        self.group.0.store.sets.update(self.id, |_| value);
    }

    /// Adds `n`.
    pub fn add(self, n: u64) {
        self.group.0.store.sets.update(self.id, |value| value.wrapping_add(n));
    }

    /// Takes `n` away, not below zero.
    pub fn sub(self, n: u64) {
        self.group.0.store.sets.update(self.id, |value| value.saturating_sub(n));
    }

    /// The value.
    pub fn value(self) -> u64 {
        self.group.0.store.sets.read(self.id).0
    }

    /// The same gauge, keeping its group alive.
    pub fn to_owned(self) -> OwnedSetGauge {
        OwnedSetGauge { group: self.group.clone(), id: self.id }
    }
}

/// A [`SetGauge`] that keeps its group alive.
#[derive(Clone, Debug)]
pub struct OwnedSetGauge {
    group: Group,
    id: u32,
}

impl OwnedSetGauge {
    /// The handle.
    pub fn get(&self) -> SetGauge<'_> {
        SetGauge::at(&self.group, self.id)
    }
}

/// A gauge that is computed when somebody reads.
#[derive(Clone, Copy, Debug)]
pub struct Derived<'a> {
    group: &'a Group,
    gauge: DerivedGauge,
}

impl<'a> Derived<'a> {
    #[doc(hidden)]
    pub fn of(group: &'a Group, gauge: DerivedGauge) -> Self {
        Self { group, gauge }
    }

    /// Lets `f` compute the value; `None` is "never used". Like [`Group::derive`], for this gauge alone.
    pub fn set(self, f: impl Fn() -> Option<u64> + Send + Sync + 'static) {
        self.group.set_derived(self.gauge, Arc::new(f));
    }

    /// The value now.
    pub fn value(self) -> u64 {
        self.group.0.derived().get(self.gauge.0).unwrap_or(0)
    }
}

/// A text readout.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    group: &'a Group,
    index: u16,
}

impl<'a> Text<'a> {
    #[doc(hidden)]
    pub fn of(group: &'a Group, index: u16) -> Self {
        Self { group, index }
    }

    /// Sets the text.
    pub fn set(self, text: &str) {
        self.group.set_text(self.index, text.into());
    }

    /// The text; empty before it was set.
    pub fn value(self) -> Arc<str> {
        self.group.0.text(self.index).unwrap_or_default()
    }
}

/// A histogram.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<'a> {
    group: &'a Group,
    id: u32,
}

impl<'a> Histogram<'a> {
    #[doc(hidden)]
    #[inline]
    pub fn of(group: &'a Group, offset: u32) -> Self {
        Self::at(group, group.0.histograms + offset)
    }

    pub(super) fn at(group: &'a Group, id: u32) -> Self {
        Self { group, id }
    }

    /// Records a value in the histogram's unit. It shows after the next flush.
    #[inline]
    pub fn record(self, value: u64) {
        shard::with(
            &self.group.0.store,
            |shard| shard.histograms.get_or(self.id).record_owned(value),
            |shard| shard.histograms.get_or(self.id).record_shared(value),
        );
    }

    /// The same histogram, keeping its group alive.
    pub fn to_owned(self) -> OwnedHistogram {
        OwnedHistogram { group: self.group.clone(), id: self.id }
    }
}

/// A [`Histogram`] that keeps its group alive.
#[derive(Clone, Debug)]
pub struct OwnedHistogram {
    group: Group,
    id: u32,
}

impl OwnedHistogram {
    /// The handle.
    #[inline]
    pub fn get(&self) -> Histogram<'_> {
        Histogram::at(&self.group, self.id)
    }
}

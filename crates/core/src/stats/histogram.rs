//! Histograms with Envoy's buckets: log-linear, two significant digits (the "circllhist" of OpenHistogram).
//!
//! A bucket holds the values that share the first two digits and the magnitude, so `45` falls into `[45, 46)` and
//! `12345` into `[12000, 13000)`; single digits have a bucket of their own, `[7, 7.1)`, and zero is exact. The
//! printed quantiles interpolate inside a bucket, which is why one sample of 1 ms reads as `1.05`.
//!
//! Threads write [`Cells`], which only ever grow. Main sums them at every flush: the difference to the sum before
//! is Envoy's *interval*, the sum itself its *cumulative* column. Nothing needs to be swapped or cleared.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::slots::Directory;

/// The quantiles Envoy prints.
pub const QUANTILES: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.90, 0.95, 0.99, 0.995, 0.999, 1.0];

/// Envoy's bucket bounds for `histogram_buckets=cumulative|disjoint` and Prometheus, unless
/// `stats_config.histogram_bucket_settings` says otherwise.
pub const DEFAULT_BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6,
    3.6e6,
];

/// What a histogram measures. Sinks use it; a percentage is recorded in millionths and printed as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Unspecified,
    /// A size.
    Bytes,
    /// A duration in microseconds.
    Microseconds,
    /// A duration in milliseconds.
    Milliseconds,
    /// A fraction: 1.0 is recorded as 1,000,000.
    Percent,
}

impl Unit {
    pub(super) fn scale(self) -> f64 {
        if self == Unit::Percent { 1e6 } else { 1.0 }
    }
}

const DIGITS: usize = 90;
/// Magnitudes 10¹ … 10¹⁸: `i64::MAX` is the largest value recorded.
const DECADES: usize = 18;

/// A bucket by number: 0 is the value zero, then 90 per power of ten.
type Bucket = u16;

/// The counts of one histogram as one thread writes them.
pub(super) struct Cells {
    samples: AtomicU64,
    zero: AtomicU64,
    ones: [AtomicU64; 9],
    decades: [OnceLock<Box<[AtomicU64; DIGITS]>>; DECADES],
}

impl Cells {
    const fn new() -> Self {
        Self {
            samples: AtomicU64::new(0),
            zero: AtomicU64::new(0),
            ones: [const { AtomicU64::new(0) }; 9],
            decades: [const { OnceLock::new() }; DECADES],
        }
    }

    #[inline]
    fn cell(&self, value: u64) -> &AtomicU64 {
        match value {
            0 => &self.zero,
            1..=9 => &self.ones[value as usize - 1],
            _ => {
                let value = value.min(i64::MAX as u64);
                let magnitude = value.ilog10();
                let digits = (value / 10u64.pow(magnitude - 1)) as usize;
                let decade = self.decades[magnitude as usize - 1]
                    .get_or_init(|| Box::new([const { AtomicU64::new(0) }; DIGITS]));
                &decade[digits - 10]
            }
        }
    }

    /// Counts a value, on the thread that owns these cells.
    #[inline]
    pub(super) fn record_owned(&self, value: u64) {
        for cell in [self.cell(value), &self.samples] {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// Counts a value, from any thread.
    pub(super) fn record_shared(&self, value: u64) {
        self.cell(value).fetch_add(1, Relaxed);
        self.samples.fetch_add(1, Relaxed);
    }

    pub(super) fn samples(&self) -> u64 {
        self.samples.load(Relaxed)
    }

    fn for_each(&self, mut f: impl FnMut(Bucket, &AtomicU64)) {
        f(0, &self.zero);
        for (i, cell) in self.ones.iter().enumerate() {
            // 1…9 are 10, 20 … 90 tenths.
            f(1 + 10 * i as Bucket, cell);
        }
        for (i, decade) in self.decades.iter().enumerate() {
            if let Some(decade) = decade.get() {
                for (digits, cell) in decade.iter().enumerate() {
                    f((1 + (i + 1) * DIGITS + digits) as Bucket, cell);
                }
            }
        }
    }

    /// Back to empty; only when no handle can record any more.
    pub(super) fn clear(&self) {
        self.for_each(|_, cell| cell.store(0, Relaxed));
        self.samples.store(0, Relaxed);
    }
}

const GROUP: u32 = 32;

/// The histograms of one shard, allocated when first recorded.
pub(super) struct CellTable {
    groups: Directory<[OnceLock<Box<Cells>>; GROUP as usize]>,
}

impl CellTable {
    pub(super) const fn new() -> Self {
        Self { groups: Directory::new() }
    }

    #[inline]
    pub(super) fn get_or(&self, id: u32) -> &Cells {
        let group = self.groups.get_or(id / GROUP, || [const { OnceLock::new() }; GROUP as usize]);
        group[(id % GROUP) as usize].get_or_init(|| Box::new(Cells::new()))
    }

    pub(super) fn get(&self, id: u32) -> Option<&Cells> {
        self.groups.get(id / GROUP)?[(id % GROUP) as usize].get().map(|b| &**b)
    }

    pub(super) fn for_each(&self, mut f: impl FnMut(u32, &Cells)) {
        self.groups.for_each(|group, cells| {
            for (i, cells) in cells.iter().enumerate() {
                if let Some(cells) = cells.get() {
                    f(group * GROUP + i as u32, cells);
                }
            }
        });
    }
}

/// Counts per bucket, ascending, no empty bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    counts: Vec<(Bucket, u64)>,
}

/// One bucket of a [`Distribution`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketCount {
    /// The smallest value of the bucket.
    pub lower_bound: f64,
    /// How far it reaches.
    pub width: f64,
    /// The samples in it.
    pub count: u64,
}

impl Distribution {
    /// No samples.
    pub const fn new() -> Self {
        Self { counts: Vec::new() }
    }

    /// The sum of what the given threads recorded.
    pub(super) fn sum<'a>(cells: impl Iterator<Item = &'a Cells>) -> Self {
        let mut counts: Vec<(Bucket, u64)> = Vec::new();
        for cells in cells {
            let known = counts.len();
            cells.for_each(|bucket, cell| match cell.load(Relaxed) {
                0 => {}
                count => match counts[..known].binary_search_by_key(&bucket, |c| c.0) {
                    Ok(at) => counts[at].1 += count,
                    Err(_) => counts.push((bucket, count)),
                },
            });
            if known != 0 {
                counts.sort_unstable_by_key(|c| c.0);
            }
        }
        Self { counts }
    }

    /// What came on top of `before`, which is an earlier state of the same histogram.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut old = before.counts.iter().peekable();
        let counts = self
            .counts
            .iter()
            .filter_map(|&(bucket, count)| {
                while old.next_if(|o| o.0 < bucket).is_some() {}
                let known = old.next_if(|o| o.0 == bucket).map_or(0, |o| o.1);
                (count > known).then(|| (bucket, count - known))
            })
            .collect();
        Self { counts }
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The number of samples.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.1).sum()
    }

    /// The buckets, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = BucketCount> + '_ {
        self.counts.iter().map(|&(bucket, count)| {
            let (lower_bound, width) = bounds(bucket);
            BucketCount { lower_bound, width, count }
        })
    }

    /// The sum of the samples, each taken as the middle of its bucket that makes the smallest relative error.
    pub fn approximate_sum(&self) -> f64 {
        self.buckets().fold(0.0, |sum, b| {
            let middle = if b.lower_bound == 0.0 {
                0.0
            } else {
                b.lower_bound + b.width * (b.lower_bound / (b.lower_bound + (b.lower_bound + b.width)))
            };
            sum + middle * b.count as f64
        })
    }

    /// The samples in buckets that start at or below `threshold`'s bucket, so those in the same bucket count in.
    pub fn count_below(&self, threshold: f64) -> u64 {
        let Some(limit) = bucket_order(threshold) else { return 0 };
        self.counts.iter().take_while(|&&(bucket, _)| order(bucket) <= limit).map(|c| c.1).sum()
    }

    /// The values at [`QUANTILES`], NaN without samples. The *k*-th of *n* samples in a bucket is taken to lie
    /// *k/(n+1)* of the width above its lower bound.
    pub fn quantiles(&self) -> [f64; QUANTILES.len()] {
        let total = self.count() as f64;
        if self.is_empty() {
            return [f64::NAN; QUANTILES.len()];
        }
        let mut at = 0;
        let mut below = 0.0;
        let mut upto = self.counts[0].1 as f64;
        QUANTILES.map(|quantile| {
            let rank = total * quantile;
            while at + 1 < self.counts.len() && upto < rank {
                at += 1;
                below = upto;
                upto += self.counts[at].1 as f64;
            }
            let (bucket, count) = self.counts[at];
            let (lower, width) = bounds(bucket);
            let nth = (rank - below).ceil().max(1.0);
            lower + nth / (count as f64 + 1.0) * width
        })
    }
}

fn power_of_ten(exponent: usize) -> f64 {
    const POWERS: [f64; 20] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18, 1e19,
    ];
    POWERS[exponent.min(POWERS.len() - 1)]
}

/// The exponent and the two digits of a bucket other than zero.
fn parts(bucket: Bucket) -> (usize, u16) {
    let index = bucket - 1;
    (usize::from(index) / DIGITS, 10 + index % DIGITS as u16)
}

/// Lower bound and width.
fn bounds(bucket: Bucket) -> (f64, f64) {
    if bucket == 0 {
        return (0.0, 0.0);
    }
    let (exponent, digits) = parts(bucket);
    let scale = power_of_ten(exponent);
    (f64::from(digits) / 10.0 * scale, scale / 10.0)
}

/// A number that sorts buckets with thresholds, which unlike samples may lie below 1.
fn order(bucket: Bucket) -> i32 {
    if bucket == 0 {
        return i32::MIN;
    }
    let (exponent, digits) = parts(bucket);
    exponent as i32 * 100 + i32::from(digits)
}

/// The [`order`] of the bucket that `value` would fall into; `None` for what has no bucket (negative, not finite).
fn bucket_order(value: f64) -> Option<i32> {
    if !value.is_finite() || value < 0.0 {
        return None;
    }
    if value == 0.0 {
        return Some(i32::MIN);
    }
    let mut exponent = value.log10().floor() as i32;
    // The small margin keeps decimal bounds such as 0.11 in their own bucket in spite of binary rounding.
    let mut digits = (value / 10f64.powi(exponent) * 10.0 + 1e-13).floor() as i32;
    if digits >= 100 {
        digits /= 10;
        exponent += 1;
    }
    Some(exponent * 100 + digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Distribution {
        let cells = Cells::new();
        values.iter().for_each(|&v| cells.record_owned(v));
        Distribution::sum([&cells].into_iter())
    }

    #[test]
    fn buckets_hold_two_digits() {
        let buckets: Vec<_> = of(&[0, 7, 10, 99, 100, 109, 110, 12345, u64::MAX])
            .buckets()
            .map(|b| (b.lower_bound, b.width))
            .collect();
        assert_eq!(
            buckets,
            [
                (0.0, 0.0),
                (7.0, 0.1),
                (10.0, 1.0),
                (99.0, 1.0),
                (100.0, 10.0),
                (110.00000000000001, 10.0),
                (12000.0, 1000.0),
                (9.2 * 1e18, 1e17),
            ]
        );
    }

    #[test]
    fn sums_of_shards_and_differences() {
        let (a, b) = (Cells::new(), Cells::new());
        a.record_owned(5);
        a.record_owned(700);
        b.record_shared(5);
        b.record_shared(1);
        let before = Distribution::sum([&a, &b].into_iter());
        assert_eq!(before.counts, [(1, 1), (41, 2), (1 + 180 + 60, 1)]);
        b.record_shared(700);
        b.record_shared(0);
        let after = Distribution::sum([&b, &a].into_iter());
        assert_eq!(after.since(&before).counts, [(0, 1), (1 + 180 + 60, 1)]);
        assert!(after.since(&after).is_empty());
        assert_eq!(after.count(), 6);
        assert_eq!(b.samples(), 4);
    }

    #[test]
    fn thresholds_include_their_own_bucket() {
        let d = of(&[0, 3, 20, 21, 100, 109]);
        assert_eq!([0.0, 0.5, 3.0, 20.5, 100.0, 99.9].map(|t| d.count_below(t)), [1, 1, 2, 3, 6, 4]);
        assert_eq!(d.count_below(-1.0), 0);
        assert_eq!(of(&[100]).count_below(0.11), 0);
    }
}

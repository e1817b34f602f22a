//! Numbered cells that cost nothing until they are written.
//!
//! A [`Directory`] is a table without a maximum: bucket *b* holds `FIRST << b` entries and is allocated when an
//! entry of it is first written. Entries never move, so a reference stays valid while the directory lives, and
//! readers on other threads need no lock (an acquire load per level).
//!
//! A numeric cell is 63 bits of value and, in the top bit, the *used* mark: Envoy's `?usedonly` asks whether a
//! stat was ever written, not whether it is zero now.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The mark "was written at least once".
pub(super) const USED: u64 = 1 << 63;
/// The value bits of a cell.
pub(super) const VALUE: u64 = USED - 1;

const FIRST_BITS: u32 = 5;
const BUCKETS: usize = (33 - FIRST_BITS) as usize;

type Bucket<T> = Box<[OnceLock<Box<T>>]>;

/// A growing table of lazily allocated `T`s, indexed by `u32`.
pub(super) struct Directory<T> {
    buckets: [OnceLock<Bucket<T>>; BUCKETS],
}

impl<T> Directory<T> {
    pub(super) const fn new() -> Self {
        Self { buckets: [const { OnceLock::new() }; BUCKETS] }
    }

    /// Bucket and offset of an entry: indices are shifted by the size of the first bucket, so that the bucket
    /// number is a bit length.
    #[inline]
    fn place(index: u32) -> (usize, usize) {
        let shifted = u64::from(index) + (1 << FIRST_BITS);
        let bucket = shifted.ilog2() - FIRST_BITS;
        (bucket as usize, (shifted - (1u64 << (bucket + FIRST_BITS))) as usize)
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (bucket, at) = Self::place(index);
        self.buckets.get(bucket)?.get()?.get(at)?.get().map(|b| &**b)
    }

    #[inline]
    pub(super) fn get_or(&self, index: u32, make: fn() -> T) -> &T {
        match self.get(index) {
            Some(found) => found,
            None => self.grow(index, make),
        }
    }

    #[cold]
    fn grow(&self, index: u32, make: fn() -> T) -> &T {
        let (bucket, at) = Self::place(index);
        let size = 1usize << (bucket as u32 + FIRST_BITS);
        let entries = self.buckets[bucket].get_or_init(|| (0..size).map(|_| OnceLock::new()).collect());
        entries[at].get_or_init(|| Box::new(make()))
    }

    /// Calls `f` for every allocated entry, in index order.
    pub(super) fn for_each(&self, mut f: impl FnMut(u32, &T)) {
        for (bucket, entries) in self.buckets.iter().enumerate() {
            let Some(entries) = entries.get() else { continue };
            let base = (1u64 << (bucket as u32 + FIRST_BITS)) - (1 << FIRST_BITS);
            for (at, entry) in entries.iter().enumerate() {
                if let Some(entry) = entry.get() {
                    f((base + at as u64) as u32, entry);
                }
            }
        }
    }
}

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

type Chunk = [AtomicU64; CHUNK];

fn new_chunk() -> Chunk {
    [const { AtomicU64::new(0) }; CHUNK]
}

/// Numeric cells, in chunks of 2 KiB.
pub(super) struct Slots {
    chunks: Directory<Chunk>,
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self { chunks: Directory::new() }
    }

    #[inline]
    fn cell(&self, id: u32) -> &AtomicU64 {
        &self.chunks.get_or(id >> CHUNK_BITS, new_chunk)[id as usize % CHUNK]
    }

    /// Adds `delta` (modulo 2⁶³) and marks the cell used. Only the thread that owns this table may call it: a
    /// load and a store, no read-modify-write.
    #[inline]
    pub(super) fn add_owned(&self, id: u32, delta: u64) {
        let cell = self.cell(id);
        cell.store(cell.load(Relaxed).wrapping_add(delta) | USED, Relaxed);
    }

    /// Adds `delta` (modulo 2⁶³) and marks the cell used, from any thread.
    pub(super) fn add_shared(&self, id: u32, delta: u64) {
        // The closure always returns a value, so the update cannot fail.
        let _ = self.cell(id).fetch_update(Relaxed, Relaxed, |raw| Some(raw.wrapping_add(delta) | USED));
    }

    /// The cell as it is: value bits and used mark; 0 if it was never written.
    pub(super) fn read(&self, id: u32) -> u64 {
        self.chunks.get(id >> CHUNK_BITS).map_or(0, |chunk| chunk[id as usize % CHUNK].load(Relaxed))
    }

    /// Adds the `len` cells from `base` on to `into` (values modulo 2⁶³, used marks or-ed), which is empty until a
    /// cell of the range was written. Chunks that nobody wrote are passed over without a look at their cells.
    pub(super) fn sum_range(&self, base: u32, len: u32, into: &mut Vec<u64>) {
        self.for_range(base, len, |at, cell| {
            let raw = cell.load(Relaxed);
            if raw != 0 {
                into.resize(len as usize, 0);
                into[at as usize] = merge(into[at as usize], raw);
            }
        });
    }

    /// Sets the cells of a range back to "never written".
    pub(super) fn clear_range(&self, base: u32, len: u32) {
        self.for_range(base, len, |_, cell| {
            if cell.load(Relaxed) != 0 {
                cell.store(0, Relaxed);
            }
        });
    }

    fn for_range(&self, base: u32, len: u32, mut f: impl FnMut(u32, &AtomicU64)) {
        let mut at = 0;
        while at < len {
            let id = base + at;
            let count = (CHUNK as u32 - id % CHUNK as u32).min(len - at);
            if let Some(chunk) = self.chunks.get(id >> CHUNK_BITS) {
                let start = id as usize % CHUNK;
                for (i, cell) in chunk[start..start + count as usize].iter().enumerate() {
                    f(at + i as u32, cell);
                }
            }
            at += count;
        }
    }
}

/// Cells that all threads share, with all 64 bits of value: a gauge may be a hash. The used marks lie beside them.
pub(super) struct SharedSlots {
    chunks: Directory<SharedChunk>,
}

struct SharedChunk {
    values: [AtomicU64; SHARED_CHUNK],
    used: AtomicU64,
}

/// As many as there are bits in a word of used marks.
const SHARED_CHUNK: usize = 64;

impl SharedSlots {
    pub(super) const fn new() -> Self {
        Self { chunks: Directory::new() }
    }

    /// Replaces the value by `f(value)` and marks the cell used.
    pub(super) fn update(&self, id: u32, f: impl Fn(u64) -> u64) {
        let chunk = self.chunks.get_or(id / SHARED_CHUNK as u32, || SharedChunk {
            values: [const { AtomicU64::new(0) }; SHARED_CHUNK],
            used: AtomicU64::new(0),
        });
        let at = id as usize % SHARED_CHUNK;
        // The closure always returns a value, so the update cannot fail.
        let _ = chunk.values[at].fetch_update(Relaxed, Relaxed, |value| Some(f(value)));
        if chunk.used.load(Relaxed) >> at & 1 == 0 {
            chunk.used.fetch_or(1 << at, Relaxed);
        }
    }

    /// The value, and whether the cell was ever written.
    pub(super) fn read(&self, id: u32) -> (u64, bool) {
        let at = id as usize % SHARED_CHUNK;
        self.chunks.get(id / SHARED_CHUNK as u32).map_or((0, false), |chunk| {
            (chunk.values[at].load(Relaxed), chunk.used.load(Relaxed) >> at & 1 != 0)
        })
    }

    /// The `len` cells from `base` on as [`read`](Self::read) gives them; empty when none was ever written.
    pub(super) fn read_range(&self, base: u32, len: u32) -> Vec<(u64, bool)> {
        let mut cells = Vec::new();
        let mut at = 0;
        while at < len {
            let id = base + at;
            let start = id as usize % SHARED_CHUNK;
            let count = (SHARED_CHUNK - start).min((len - at) as usize);
            if let Some(chunk) = self.chunks.get(id / SHARED_CHUNK as u32) {
                let used = chunk.used.load(Relaxed) >> start;
                if used << (SHARED_CHUNK - count) != 0 {
                    cells.resize(len as usize, (0, false));
                    for (i, cell) in cells[at as usize..][..count].iter_mut().enumerate() {
                        *cell = (chunk.values[start + i].load(Relaxed), used >> i & 1 != 0);
                    }
                }
            }
            at += count as u32;
        }
        cells
    }

    /// Fetches the memory of a range, for [`read_range`](Self::read_range).
    pub(super) fn touch(&self, base: u32, len: u32) {
        // As many cells as a cache line has.
        for id in (base..base + len).step_by(8) {
            if let Some(chunk) = self.chunks.get(id / SHARED_CHUNK as u32) {
                black_box(chunk.values[id as usize % SHARED_CHUNK].load(Relaxed));
            }
        }
    }

    /// Sets the cells of a range back to "never written".
    pub(super) fn clear_range(&self, base: u32, len: u32) {
        for id in base..base + len {
            if let Some(chunk) = self.chunks.get(id / SHARED_CHUNK as u32) {
                let at = id as usize % SHARED_CHUNK;
                chunk.values[at].store(0, Relaxed);
                chunk.used.fetch_and(!(1 << at), Relaxed);
            }
        }
    }
}

/// The sum of two cells of the same stat.
#[inline]
pub(super) fn merge(a: u64, b: u64) -> u64 {
    ((a & VALUE).wrapping_add(b & VALUE) & VALUE) | ((a | b) & USED)
}

/// The value of a summed gauge. A sum taken while shards move may be briefly below zero: shown as 0.
#[inline]
pub(super) fn gauge_value(raw: u64) -> u64 {
    let value = raw & VALUE;
    if value >> 62 == 0 { value } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_dense_and_unique() {
        let mut expected = (0, 0);
        for index in 0..5000u32 {
            assert_eq!(Directory::<u8>::place(index), expected);
            expected.1 += 1;
            if expected.1 == 1 << (expected.0 as u32 + FIRST_BITS) {
                expected = (expected.0 + 1, 0);
            }
        }
        let (bucket, at) = Directory::<u8>::place(u32::MAX);
        assert_eq!(bucket, BUCKETS - 1);
        assert_eq!(at, 31);
    }

    #[test]
    fn a_cell_that_was_never_written_is_unused_and_zero_written_is_used() {
        let slots = Slots::new();
        assert_eq!(slots.read(70_000), 0);
        slots.add_owned(70_000, 0);
        assert_eq!(slots.read(70_000), USED);
        slots.clear_range(69_000, 3000);
        assert_eq!(slots.read(70_000), 0);
    }

    #[test]
    fn gauges_wrap_within_their_63_bits() {
        let (a, b) = (Slots::new(), Slots::new());
        a.add_owned(3, 1);
        b.add_owned(3, 1u64.wrapping_neg());
        assert_eq!(a.read(3) & VALUE, 1);
        let mut sum = Vec::new();
        a.sum_range(0, 3, &mut sum);
        assert!(sum.is_empty(), "nobody wrote these");
        a.sum_range(0, 5, &mut sum);
        b.sum_range(0, 5, &mut sum);
        assert_eq!(sum[3], USED);
        b.add_shared(3, 1u64.wrapping_neg());
        let mut sum = Vec::new();
        a.sum_range(3, 1, &mut sum);
        b.sum_range(3, 1, &mut sum);
        assert_eq!(gauge_value(sum[0]), 0, "one below zero is shown as 0");
    }

    #[test]
    fn shared_cells_have_64_bits_and_a_mark() {
        let slots = SharedSlots::new();
        slots.update(130, |_| u64::MAX);
        slots.update(131, |value| value);
        assert_eq!(
            [129, 130, 131, 7000].map(|id| slots.read(id)),
            [(0, false), (u64::MAX, true), (0, true), (0, false)]
        );
        let range = slots.read_range(100, 92);
        assert_eq!(range.iter().filter(|cell| cell.1).count(), 2);
        assert_eq!(range[30..32], [(u64::MAX, true), (0, true)]);
        assert_eq!(slots.read_range(129, 3), [(0, false), (u64::MAX, true), (0, true)]);
        assert!(slots.read_range(100, 30).is_empty() && slots.read_range(7000, 5).is_empty());
        slots.clear_range(100, 31);
        assert_eq!([130, 131].map(|id| slots.read(id)), [(0, false), (0, true)]);
    }

    #[test]
    fn ranges_cross_chunks() {
        let slots = Slots::new();
        for id in 250..260 {
            slots.add_owned(id, u64::from(id));
        }
        let mut sum = Vec::new();
        slots.sum_range(245, 20, &mut sum);
        let values: Vec<u64> = sum.iter().map(|raw| raw & VALUE).collect();
        assert_eq!(values[..6], [0, 0, 0, 0, 0, 250]);
        assert_eq!(values[14..], [259, 0, 0, 0, 0, 0]);
    }
}

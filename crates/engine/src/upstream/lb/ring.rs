//! A ring of hashes (ketama): every host stands at several places, and a request goes to the next one.

use super::hashing::Entry;
use nuncio_core::hash64::{murmur2, xxh64};
use nuncio_core::stats;

stats! {
    /// `cluster.<name>.ring_hash_lb.`
    pub struct RingStats {
        max_hashes_per_host: SetGauge,
        min_hashes_per_host: SetGauge,
        size: SetGauge,
    }
}

/// A ring.
#[derive(Debug, Default)]
pub struct Ring {
    hashes: Box<[u64]>,
    hosts: Box<[u32]>,
}

impl Ring {
    /// The ring of these hosts, of which there is one at least: so many entries that the lightest has a whole number of
    /// them, and `max` at most.
    pub fn new(entries: &[Entry], min: u64, max: u64, murmur: bool, stats: &RingStats) -> Ring {
        let lightest = entries.iter().map(|e| e.weight).fold(1.0, f64::min);
        let scale = ((lightest * min as f64).ceil() / lightest).min(max as f64);
        let size = scale.ceil() as u64;
        let mut ring: Vec<(u64, u32)> = Vec::with_capacity(size as usize);
        let (mut placed, mut target) = (0.0, 0.0);
        let (mut fewest, mut most) = (size, 0);
        for e in entries {
            let mut key = format!("{}_", e.key);
            let stem = key.len();
            target += scale * e.weight;
            let mut n: u64 = 0;
            while placed < target {
                key.truncate(stem);
                key += itoa::Buffer::new().format(n);
                let hash = if murmur { murmur2(key.as_bytes()) } else { xxh64(key.as_bytes(), 0) };
                ring.push((hash, e.host));
                n += 1;
                placed += 1.0;
            }
            fewest = fewest.min(n);
            most = most.max(n);
        }
        ring.sort_unstable_by_key(|e| e.0);
        stats.size().set(size);
        stats.min_hashes_per_host().set(fewest);
        stats.max_hashes_per_host().set(most);
        let (hashes, hosts): (Vec<u64>, Vec<u32>) = ring.into_iter().unzip();
        Ring { hashes: hashes.into(), hosts: hosts.into() }
    }
    /// The host of a hash; the `attempt`th after it while others are rejected.
    pub fn host(&self, hash: u64, attempt: u32) -> Option<u32> {
        let at = self.hashes.partition_point(|h| *h < hash) + attempt as usize;
        // Behind the last entry comes the first; a second time round, attempts count from there, as in Envoy.
        let at = match self.hashes.last() {
            Some(last) if *last < hash => attempt as usize,
            _ => at,
        };
        self.hosts.get(at.checked_rem(self.hosts.len())?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::stats::Store;

    fn entries(weights: &[f64]) -> Vec<Entry> {
        let one = |(i, w): (usize, &f64)| Entry { host: i as u32, key: format!("10.0.0.{i}:80"), weight: *w };
        weights.iter().enumerate().map(one).collect()
    }
    fn ring(weights: &[f64], min: u64, max: u64) -> (Ring, [u64; 3]) {
        let stats = RingStats::new(&Store::new().scope("r"));
        let r = Ring::new(&entries(weights), min, max, false, &stats);
        (r, [stats.size().value(), stats.min_hashes_per_host().value(), stats.max_hashes_per_host().value()])
    }

    #[test]
    fn sizes_follow_weights() {
        assert_eq!(ring(&[0.25; 4], 1024, 8 << 20).1, [1024, 256, 256]);
        assert_eq!(ring(&[1.0 / 3.0; 3], 1024, 8 << 20).1, [1026, 342, 342]);
        assert_eq!(ring(&[0.25; 4], 1, 6).1, [4, 1, 1]);
        assert_eq!(ring(&[0.25; 4], 6, 6).1, [6, 1, 2]);
        assert_eq!(ring(&[0.9, 0.1], 10, 1000).1, [10, 1, 9]);
    }

    #[test]
    fn hashes_go_to_the_next_entry() {
        let r = Ring { hashes: [10, 20, 30].into(), hosts: [0, 1, 2].into() };
        assert_eq!([0, 10, 11, 20, 30, 31].map(|h| r.host(h, 0)), [0, 0, 1, 1, 2, 0].map(Some));
        assert_eq!([1, 2, 3].map(|n| r.host(11, n)), [2, 0, 1].map(Some));
        assert_eq!(r.host(31, 1), Some(1));
        assert_eq!(Ring::default().host(1, 0), None);
    }
}

//! A Maglev table (Eisenbud et al., NSDI 2016, section 3.4), with Envoy's weights: hosts take entries in turn, each the next
//! free one of a permutation of its own.

use super::hashing::Entry;
use nuncio_core::hash64::xxh64;
use nuncio_core::stats;

stats! {
    /// `cluster.<name>.maglev_lb.`
    pub struct MaglevStats {
        max_entries_per_host: SetGauge,
        min_entries_per_host: SetGauge,
    }
}

/// `Maglev.table_size` where it is not set.
pub const DEFAULT_SIZE: u64 = 65_537;

/// A size must be one, or permutations would miss entries.
pub fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// A table.
#[derive(Debug)]
pub struct Maglev(Box<[u32]>);

/// A host while the table is filled.
struct Filling {
    host: u32,
    offset: u64,
    skip: u64,
    weight: f64,
    /// It takes the next entry in the turn in which its weight has added up to this.
    due: f64,
    next: u64,
    taken: u64,
}

impl Maglev {
    /// The table of these hosts, of which there is one at least.
    pub fn new(entries: &[Entry], size: u64, stats: &MaglevStats) -> Maglev {
        let heaviest = entries.iter().map(|e| e.weight).fold(0.0, f64::max);
        let mut sorted: Vec<&Entry> = entries.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key)); // so that no other order of hosts makes another table
        let mut hosts: Vec<Filling> = sorted
            .iter()
            .map(|e| Filling {
                host: e.host,
                offset: xxh64(e.key.as_bytes(), 0) % size,
                skip: xxh64(e.key.as_bytes(), 1) % (size - 1) + 1,
                weight: e.weight,
                due: 0.0,
                next: 0,
                taken: 0,
            })
            .collect();
        const FREE: u32 = u32::MAX;
        let mut table = vec![FREE; size as usize];
        let (mut filled, mut turn) = (0, 0.0);
        while filled < size {
            turn += 1.0;
            for h in &mut hosts {
                if filled == size {
                    break;
                }
                if turn * h.weight < h.due {
                    continue;
                }
                h.due += heaviest;
                let place = loop {
                    let place = ((h.offset + h.skip * h.next) % size) as usize;
                    h.next += 1;
                    if table[place] == FREE {
                        break place;
                    }
                };
                table[place] = h.host;
                h.taken += 1;
                filled += 1;
            }
        }
        let taken = || hosts.iter().map(|h| h.taken);
        stats.min_entries_per_host().set(taken().min().unwrap_or(0));
        stats.max_entries_per_host().set(taken().max().unwrap_or(0));
        Maglev(table.into())
    }
    /// The host of a hash; another one for each `attempt`, while others are rejected.
    pub fn host(&self, hash: u64, attempt: u32) -> Option<u32> {
        let hash = match attempt {
            0 => hash,
            n => hash ^ (u64::MAX - u64::from(n) + 1),
        };
        self.0.get((hash % (self.0.len() as u64).max(1)) as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::stats::Store;

    #[test]
    fn entries_follow_weights_and_few_move() {
        let stats = MaglevStats::new(&Store::new().scope("m"));
        let entry = |i: u32, weight| Entry { host: i, key: format!("10.0.0.{i}:80"), weight };
        let three: Vec<Entry> = (0..3).map(|i| entry(i, 1.0 / 3.0)).collect();
        let m = Maglev::new(&three, 65_537, &stats);
        assert_eq!(
            (stats.min_entries_per_host().value(), stats.max_entries_per_host().value()),
            (21_845, 21_846)
        );
        let two = Maglev::new(&[entry(0, 0.5), entry(1, 0.5)], 65_537, &stats);
        let moved =
            (0..65_537).filter(|h| m.host(*h, 0) != Some(2) && m.host(*h, 0) != two.host(*h, 0)).count();
        assert!(moved < 65_537 / 10, "{moved}");
        Maglev::new(&[entry(0, 0.75), entry(1, 0.25)], 11, &stats);
        assert_eq!((stats.min_entries_per_host().value(), stats.max_entries_per_host().value()), (3, 8));
        assert_ne!(m.host(5, 1), None);
    }

    #[test]
    fn primes() {
        assert!([2, 3, 65_537, 5_000_011].into_iter().all(is_prime));
        assert!(![0, 1, 4, 65_536, 65_539 * 3].into_iter().any(is_prime));
    }
}

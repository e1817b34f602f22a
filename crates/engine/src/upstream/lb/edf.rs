//! Whose turn it is among hosts of unequal weight: earliest deadline first, as Envoy schedules them. A host of weight `w`
//! is due every `1/w` units of time, so its turns are spread evenly among those of the others.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// When a host is due. Hosts that are due together come in the order in which they were put in.
struct Turn {
    due: f64,
    order: u64,
    host: u32,
}

impl Ord for Turn {
    /// The greatest, which the heap gives first, is the earliest.
    fn cmp(&self, other: &Turn) -> Ordering {
        other.due.total_cmp(&self.due).then(other.order.cmp(&self.order))
    }
}
impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Turn) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Turn {
    fn eq(&self, other: &Turn) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Turn {}

/// A schedule of hosts, known by their places in a list.
#[derive(Default)]
pub struct Edf {
    turns: BinaryHeap<Turn>,
    now: f64,
    order: u64,
}

impl Edf {
    /// A schedule of hosts with these weights, which are above 0.
    #[cfg(test)]
    pub fn new(weights: impl Iterator<Item = f64>) -> Edf {
        let mut edf = Edf::default();
        weights.enumerate().for_each(|(i, w)| edf.add(i as u32, w));
        edf
    }
    /// A schedule from which `picks` turns have been taken already, in time that does not depend on their number: workers
    /// begin at different points of the cycle, whatever its length.
    pub fn begun(weights: &[f64], picks: u32) -> Edf {
        // A little more than its weight, so that no rounding puts a host before another that is due at the same time.
        let weights = weights.iter().map(|w| w + 1e-13);
        let sum: f64 = weights.clone().sum();
        let mut edf = Edf::default();
        let mut taken = 0;
        for (host, w) in weights.clone().enumerate() {
            let mut turns = (w * f64::from(picks) / sum) as u32;
            if turns > 0 && f64::from(turns) / w >= f64::from(picks) / sum {
                turns -= 1;
            }
            taken += turns;
            edf.now = edf.now.max(f64::from(turns) / w);
            edf.order += 1;
            edf.turns.push(Turn { due: f64::from(turns + 1) / w, order: edf.order, host: host as u32 });
        }
        let weights: Vec<f64> = weights.collect();
        for _ in taken..picks {
            edf.next(|i| weights.get(i).copied().unwrap_or(1.0));
        }
        edf
    }
    /// The host whose turn it is; `weight` says what weight it has from now on.
    pub fn next(&mut self, weight: impl FnOnce(usize) -> f64) -> Option<usize> {
        let Turn { due, host, .. } = self.turns.pop()?;
        self.now = due;
        self.add(host, weight(host as usize));
        Some(host as usize)
    }
    fn add(&mut self, host: u32, weight: f64) {
        self.order += 1;
        self.turns.push(Turn { due: self.now + 1.0 / weight, order: self.order, host });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(weights: &[f64], n: usize) -> Vec<usize> {
        let mut edf = Edf::new(weights.iter().copied());
        (0..n).filter_map(|_| edf.next(|i| weights[i])).collect()
    }

    #[test]
    fn turns_are_spread() {
        assert_eq!(sequence(&[1.0, 2.0], 6), [1, 0, 1, 1, 0, 1]);
        assert_eq!(sequence(&[1.0, 1.0, 1.0], 6), [0, 1, 2, 0, 1, 2]);
        let many = sequence(&[1.0, 4.0, 2.0, 8.0], 150);
        let count = |h| many.iter().filter(|x| **x == h).count();
        assert_eq!([count(0), count(1), count(2), count(3)], [10, 40, 20, 80]);
    }

    #[test]
    fn turns_may_have_been_taken() {
        let weights = [1.0, 4.0, 2.0, 8.0];
        for picks in [0, 1, 7, 15, 29, 1_000] {
            let mut edf = Edf::begun(&weights, picks);
            let got: Vec<_> = (0..30).filter_map(|_| edf.next(|i| weights[i])).collect();
            assert_eq!(got, sequence(&weights, picks as usize + 30)[picks as usize..], "{picks}");
        }
        assert_eq!(Edf::begun(&[], 9).next(|_| 1.0), None);
    }

    #[test]
    fn weights_may_change() {
        let mut edf = Edf::new([1.0, 1.0].into_iter());
        let turns: Vec<_> = (0..9).filter_map(|_| edf.next(|i| [1.0, 8.0][i])).collect();
        assert_eq!(turns, [0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(Edf::default().next(|_| 1.0), None);
    }
}

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
    pub fn new(weights: impl Iterator<Item = f64>) -> Edf {
        let mut edf = Edf::default();
        weights.enumerate().for_each(|(i, w)| edf.add(i as u32, w));
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
    fn weights_may_change() {
        let mut edf = Edf::new([1.0, 1.0].into_iter());
        let turns: Vec<_> = (0..9).filter_map(|_| edf.next(|i| [1.0, 8.0][i])).collect();
        assert_eq!(turns, [0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(Edf::default().next(|_| 1.0), None);
    }
}

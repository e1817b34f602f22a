//! Which priority gets which part of the requests, by how many of its hosts are fit, and which of them panic.

/// How fit a priority is: hosts, or the sums of their weights (`weighted_priority_health`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// Healthy hosts.
    pub healthy: u64,
    /// Degraded hosts.
    pub degraded: u64,
    /// All that count, excluded ones (draining) do not.
    pub eligible: u64,
    /// The same as numbers of hosts, whatever the unit of the others: healthy, degraded, eligible.
    pub hosts: [u64; 3],
    /// All hosts there are.
    pub all: u64,
    /// `overprovisioning_factor`: by how much in percent the number of fit hosts counts for more.
    pub overprovisioning: u32,
}

/// Fewer hosts of a priority are fit than `threshold` says, in percent.
pub fn panics(f: &Fitness, threshold: u64) -> bool {
    let [healthy, degraded, eligible] = f.hosts;
    let percent = |n: u64| if eligible == 0 { 0.0 } else { 100.0 * n as f64 / eligible as f64 };
    percent(healthy) + percent(degraded) < threshold.min(100) as f64
}

/// The shares of the priorities, of a hundred requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// What the healthy hosts of each priority get.
    pub healthy: Vec<u32>,
    /// What the degraded hosts of each priority get.
    pub degraded: Vec<u32>,
    /// Too few are fit there: all hosts of the priority get its share.
    pub panic: Vec<bool>,
}

impl Loads {
    /// Of these priorities, of which there is one at least. `threshold` is the panic threshold in percent.
    pub fn new(levels: &[Fitness], threshold: u64) -> Loads {
        let (healthy, degraded) = Loads::available(levels);
        let total = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut loads = Loads {
            healthy: vec![0; levels.len()],
            degraded: vec![0; levels.len()],
            panic: vec![false; levels.len()],
        };
        if total > 0 {
            loads.share(&healthy, &degraded, total);
        }
        if threshold == 0 && total == 0 {
            loads.give_rest(100);
            return loads;
        }
        if total < 100 {
            for (panic, f) in loads.panic.iter_mut().zip(levels) {
                *panic = panics(f, threshold);
            }
        }
        if loads.panic.iter().all(|p| *p) {
            loads.share_by_size(levels);
        }
        loads
    }
    /// What the healthy and the degraded hosts of each priority can take, in percent of all requests.
    pub fn available(levels: &[Fitness]) -> (Vec<u32>, Vec<u32>) {
        let available = |f: &Fitness, n: u64| match f.eligible {
            0 => 0,
            of => (u64::from(f.overprovisioning) * n / of).min(100) as u32, // rounded down for each, as in Envoy
        };
        let healthy = levels.iter().map(|f| available(f, f.healthy)).collect();
        (healthy, levels.iter().map(|f| available(f, f.degraded)).collect())
    }
    /// The shares of priorities that can take so much, `total` of all but no more than 100, and more than 0.
    pub fn shared(healthy: &[u32], degraded: &[u32], total: u32) -> Loads {
        let none = vec![0; healthy.len()];
        let mut loads = Loads { healthy: none.clone(), degraded: none, panic: vec![] };
        loads.share(healthy, degraded, total);
        loads
    }
    /// As much as they can take for the healthy hosts of each priority in turn, then for the degraded ones; what
    /// rounding leaves goes to the first that can take anything.
    fn share(&mut self, healthy: &[u32], degraded: &[u32], total: u32) {
        let mut left = 100;
        for (loads, available) in [(&mut self.healthy, healthy), (&mut self.degraded, degraded)] {
            for (load, a) in loads.iter_mut().zip(available) {
                *load = (a * 100 / total).min(left);
                left -= *load;
            }
        }
        let first = healthy.iter().position(|a| *a > 0);
        match first {
            Some(i) => self.healthy[i] += left,
            None => {
                if let Some(i) = degraded.iter().position(|a| *a > 0) {
                    self.degraded[i] += left;
                }
            }
        }
    }
    /// All panic: by the number of hosts, fit or not.
    fn share_by_size(&mut self, levels: &[Fitness]) {
        let all: u64 = levels.iter().map(|f| f.all).sum();
        self.degraded.fill(0);
        if all == 0 {
            return self.give_rest(100);
        }
        let mut left = 100;
        for (load, f) in self.healthy.iter_mut().zip(levels) {
            *load = (100 * f.all / all) as u32;
            left -= *load;
        }
        if let Some(i) = levels.iter().position(|f| f.all > 0) {
            self.healthy[i] += left;
        }
    }
    fn give_rest(&mut self, n: u32) {
        if let Some(first) = self.healthy.first_mut() {
            *first = n;
        }
    }
    /// One priority with healthy hosts gets everything, and does not panic.
    pub fn is_simple(&self) -> bool {
        self.healthy.first() == Some(&100) && self.panic.first() == Some(&false)
    }
    /// The priority of a request, and whether its degraded hosts are meant; `hash` decides.
    pub fn choose(&self, hash: u64) -> (usize, bool) {
        let point = (hash % 100 + 1) as u32;
        let mut sum = 0;
        for (loads, degraded) in [(&self.healthy, false), (&self.degraded, true)] {
            for (i, load) in loads.iter().enumerate() {
                sum += load;
                if point <= sum {
                    return (i, degraded);
                }
            }
        }
        (0, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitness(healthy: u64, degraded: u64, all: u64) -> Fitness {
        Fitness {
            healthy,
            degraded,
            eligible: all,
            hosts: [healthy, degraded, all],
            all,
            overprovisioning: 140,
        }
    }
    fn one(healthy: u64, degraded: u64, all: u64, threshold: u64) -> (bool, u32) {
        let l = Loads::new(&[fitness(healthy, degraded, all)], threshold);
        assert_eq!(l.healthy[0] + l.degraded[0], 100);
        (l.panic[0], l.healthy[0])
    }

    #[test]
    fn shares_of_one_priority_follow_its_fitness() {
        // Up to 28 % may fail before others have to help out.
        assert_eq!(one(10, 0, 10, 50), (false, 100));
        assert_eq!(one(72, 28, 100, 50), (false, 100));
        assert_eq!(one(50, 50, 100, 50), (false, 70));
        assert_eq!(one(1, 1, 4, 50), (false, 50), "half of them are left: no panic");
        assert_eq!(one(1, 0, 2, 50), (false, 100));
        assert_eq!(one(1, 0, 3, 50), (true, 100));
        assert_eq!(one(1, 0, 3, 33), (false, 100));
        assert_eq!(one(0, 3, 3, 50), (false, 0));
        assert_eq!(one(0, 1, 3, 0), (false, 0));
        assert_eq!(one(0, 0, 3, 50), (true, 100));
        assert_eq!(one(0, 0, 0, 50), (true, 100), "an empty cluster panics");
        assert_eq!(one(0, 0, 0, 0), (false, 100));
        // Enough are left by overprovisioning, whatever the threshold.
        let l = Loads::new(&[Fitness { overprovisioning: 300, ..fitness(1, 0, 3) }], 50);
        assert_eq!((l.panic[0], l.healthy[0]), (false, 100));
        assert_eq!(one(3, 0, 4, 100), (false, 100));
        // All panic: their hosts get everything, also where degraded ones had a share.
        assert_eq!(one(0, 1, 3, 50), (true, 100));
    }

    #[test]
    fn lower_priorities_help_out() {
        let of = |levels: &[(u64, u64, u64)]| {
            let levels: Vec<_> = levels.iter().map(|(h, d, n)| fitness(*h, *d, *n)).collect();
            let l = Loads::new(&levels, 50);
            (l.healthy, l.degraded, l.panic)
        };
        assert_eq!(of(&[(4, 0, 4), (4, 0, 4)]), (vec![100, 0], vec![0, 0], vec![false; 2]));
        assert_eq!(of(&[(2, 0, 4), (4, 0, 4)]), (vec![70, 30], vec![0, 0], vec![false; 2]));
        assert_eq!(of(&[(0, 0, 4), (4, 0, 4)]), (vec![0, 100], vec![0, 0], vec![false; 2]));
        assert_eq!(of(&[(0, 0, 0), (4, 0, 4)]), (vec![0, 100], vec![0, 0], vec![false; 2]));
        // Envoy's documentation: 25 % and 25 % healthy.
        assert_eq!(of(&[(1, 0, 4), (1, 0, 4)]), (vec![50, 50], vec![0, 0], vec![true; 2]));
        // Degraded hosts of a high priority come after healthy ones of a low one.
        assert_eq!(of(&[(0, 4, 4), (4, 0, 4)]), (vec![0, 100], vec![0, 0], vec![false; 2]));
        assert_eq!(of(&[(0, 4, 4), (2, 0, 4)]), (vec![0, 70], vec![30, 0], vec![false; 2]));
        // All panic: by size.
        assert_eq!(of(&[(0, 0, 1), (0, 0, 3)]), (vec![25, 75], vec![0, 0], vec![true; 2]));
        assert_eq!(of(&[(0, 0, 0), (0, 0, 3)]), (vec![0, 100], vec![0, 0], vec![true; 2]));
    }

    #[test]
    fn a_hash_decides() {
        let l = Loads { healthy: vec![10, 20], degraded: vec![0, 70], panic: vec![false; 2] };
        assert_eq!(
            [0, 9, 10, 29, 30, 99, 100].map(|h| l.choose(h)),
            [(0, false), (0, false), (1, false), (1, false), (1, true), (1, true), (0, false)]
        );
    }
}

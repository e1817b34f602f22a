//! `envoy.retry_priorities.previous_priorities`: retries go to priorities that were not tried for the request.

use super::loads::{Fitness, Loads};
use crate::upstream::host::Host;
use std::cell::RefCell;
use std::sync::Arc;

/// The priorities that were tried for a request.
#[derive(Debug)]
pub struct PreviousPriorities {
    /// `update_frequency`, at least 1: after so many attempts the shares are made anew.
    every: usize,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    tried: Vec<Arc<Host>>,
    excluded: Vec<bool>,
    loads: Loads,
}

impl PreviousPriorities {
    /// None yet.
    pub fn new(every: u32) -> PreviousPriorities {
        PreviousPriorities { every: every.max(1) as usize, state: RefCell::default() }
    }
    /// A host is tried.
    pub fn tries(&self, host: Arc<Host>) {
        self.state.borrow_mut().tried.push(host);
    }
    /// The shares of these priorities for the next attempt; `None`: those they have anyway. `priority` says of a host where
    /// among them it is.
    pub fn loads(&self, levels: &[Fitness], priority: impl Fn(&Arc<Host>) -> Option<usize>) -> Option<Loads> {
        let s = &mut *self.state.borrow_mut();
        if s.tried.len() < self.every {
            return None;
        }
        if s.tried.len().is_multiple_of(self.every) {
            // Priorities that hosts no longer have are kept in mind, as in Envoy.
            if s.excluded.len() < levels.len() {
                s.excluded.resize(levels.len(), false);
            }
            for place in s.tried.iter().filter_map(priority) {
                if let Some(e) = s.excluded.get_mut(place) {
                    *e = true;
                }
            }
            s.loads = s.adjusted(levels)?;
        }
        // A set that has fewer priorities by now has its own shares.
        Some(s.loads.clone()).filter(|l| l.healthy.len() == levels.len())
    }
}

impl State {
    fn adjusted(&mut self, levels: &[Fitness]) -> Option<Loads> {
        let available = Loads::available(levels);
        let rest = |excluded: &[bool]| {
            let left = |all: &[u32]| -> Vec<u32> {
                all.iter().zip(excluded).map(|(a, e)| if *e { 0 } else { *a }).collect()
            };
            let (healthy, degraded) = (left(&available.0), left(&available.1));
            let total = healthy.iter().chain(&degraded).sum::<u32>().min(100);
            (healthy, degraded, total)
        };
        let mut left = rest(&self.excluded);
        if left.2 == 0 {
            // All were tried that can take anything: from the beginning.
            self.excluded.fill(false);
            self.tried.clear();
            left = rest(&self.excluded);
        }
        let (healthy, degraded, total) = left;
        (total > 0).then(|| Loads::shared(&healthy, &degraded, total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::host::Wanted;

    fn level(healthy: u64, all: u64) -> Fitness {
        let hosts = [healthy, 0, all];
        Fitness { healthy, degraded: 0, eligible: all, hosts, all, overprovisioning: 100 }
    }
    fn host(priority: u32) -> Arc<Host> {
        Arc::new(Host::new(Wanted { priority, ..Wanted::default() }))
    }
    fn next(p: &PreviousPriorities, levels: &[Fitness]) -> Option<Vec<u32>> {
        p.loads(levels, |h| Some(h.priority() as usize)).map(|l| l.healthy)
    }

    #[test]
    fn priorities_are_tried_in_turn() {
        // 100, 50 and 50 % healthy.
        let levels = [level(2, 2), level(1, 2), level(1, 2)];
        let p = PreviousPriorities::new(1);
        assert_eq!(next(&p, &levels), None);
        p.tries(host(0));
        assert_eq!(next(&p, &levels), Some(vec![0, 50, 50]));
        p.tries(host(2));
        assert_eq!(next(&p, &levels), Some(vec![0, 100, 0]));
        p.tries(host(1));
        assert_eq!(next(&p, &levels), Some(vec![100, 0, 0]), "from the beginning");
        assert_eq!(next(&p, &levels), None, "what was tried before is forgotten");
        p.tries(host(0));
        assert_eq!(next(&p, &levels), Some(vec![0, 50, 50]));
    }

    #[test]
    fn shares_are_made_anew_after_some_attempts() {
        let levels = [level(1, 1), level(1, 1), level(1, 1)];
        let p = PreviousPriorities::new(2);
        p.tries(host(0));
        assert_eq!(next(&p, &levels), None);
        p.tries(host(0));
        assert_eq!(next(&p, &levels), Some(vec![0, 100, 0]));
        p.tries(host(1));
        assert_eq!(next(&p, &levels), Some(vec![0, 100, 0]), "not yet");
        p.tries(host(1));
        assert_eq!(next(&p, &levels), Some(vec![0, 0, 100]));
    }

    #[test]
    fn priorities_that_can_take_nothing_are_left_alone() {
        let p = PreviousPriorities::new(1);
        p.tries(host(0));
        assert_eq!(next(&p, &[level(0, 1), level(0, 2)]), None, "none can");
        let p = PreviousPriorities::new(1);
        p.tries(host(0));
        assert_eq!(next(&p, &[level(1, 1), level(0, 1), level(1, 2)]), Some(vec![0, 0, 100]));
        p.tries(host(7));
        assert_eq!(next(&p, &[level(1, 1)]), Some(vec![100]), "fewer are left");
    }
}

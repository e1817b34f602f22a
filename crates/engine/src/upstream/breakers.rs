//! Circuit breakers: limits of one cluster and priority, counted across all workers, as Envoy's contract asks.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// One limited resource. Relaxed: the count is exact, the moment at which another worker sees it is not.
#[derive(Debug)]
pub struct Resource {
    used: AtomicU32,
    configured: u32,
    max: AtomicU64,
    /// All that was taken in spite of a limit of 0 was given back.
    passed: AtomicBool,
}

impl Resource {
    /// A resource with a limit.
    pub fn new(max: u32) -> Resource {
        Resource {
            used: AtomicU32::new(0),
            configured: max,
            max: AtomicU64::new(max.into()),
            passed: AtomicBool::new(false),
        }
    }
    /// A resource that is only counted.
    pub fn unlimited() -> Resource {
        let r = Resource::new(u32::MAX);
        r.set_max(u64::MAX);
        r
    }
    /// Takes one unless the limit is reached.
    pub fn try_take(&self) -> bool {
        self.try_take_of(self.max())
    }
    /// Takes one unless `max` are taken.
    pub fn try_take_of(&self, max: u64) -> bool {
        let one_more = |n: u32| n.checked_add(1).filter(|more| u64::from(*more) <= max);
        self.used.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }
    /// Takes one, whatever the limit says.
    pub fn take(&self) {
        self.used.fetch_add(1, Relaxed);
    }
    /// True while another one may be taken.
    pub fn can_take(&self) -> bool {
        self.used() < self.max()
    }
    /// Gives one back.
    pub fn give(&self) {
        if self.used.fetch_sub(1, Relaxed) == 1 && self.max() == 0 {
            self.passed.store(true, Relaxed);
        }
    }
    /// What the gauges of open breakers say. As in Envoy, one that lets nothing through is open from the first time that
    /// something was taken all the same.
    pub fn is_open(&self) -> bool {
        !self.can_take() && (self.used() > 0 || self.passed.load(Relaxed))
    }
    /// How many are taken.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed).into()
    }
    /// The limit.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }
    /// The limit of the configuration, which counts where the runtime says nothing.
    pub fn configured(&self) -> u64 {
        self.configured.into()
    }
    /// Changes the limit.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Relaxed);
    }
}

/// `Thresholds.RetryBudget`: retries are limited to a part of the requests under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// `budget_percent`, 20 by default.
    pub percent: f64,
    /// `min_retry_concurrency`: so many are always allowed, 3 by default.
    pub min: u64,
}

/// `CircuitBreakers.Thresholds` of one priority.
#[derive(Debug)]
pub struct Breakers {
    /// `max_connections`
    pub connections: Resource,
    /// `max_pending_requests`
    pub pending: Resource,
    /// `max_requests`
    pub requests: Resource,
    /// `max_retries`
    pub retries: Resource,
    /// `max_connection_pools`; `None`: there is no limit, and nobody asks how many there are.
    pub pools: Option<Resource>,
    /// `per_host_thresholds`, `max_connections` of each host.
    pub per_host: Option<u32>,
    /// `retry_budget`, which replaces `max_retries`.
    pub budget: Option<Box<RetryBudget>>,
}

impl Breakers {
    /// Takes a connection to a host that has `active`, unless there are too many: to it, or in all.
    pub fn try_take_connection(&self, active: u64) -> bool {
        self.per_host.is_none_or(|max| active < max.into()) && self.connections.try_take()
    }
    /// How many retries may be under way.
    pub fn max_retries(&self) -> u64 {
        match &self.budget {
            None => self.retries.max(),
            Some(b) => {
                let active = self.requests.used() + self.pending.used();
                ((b.percent / 100.0 * active as f64) as u64).max(b.min)
            }
        }
    }
    /// Takes a retry unless too many are under way.
    pub fn try_take_retry(&self) -> bool {
        self.retries.try_take_of(self.max_retries())
    }
    /// The limits with their names.
    pub fn named(&self) -> [(&Resource, &'static str); 4] {
        [
            (&self.connections, "max_connections"),
            (&self.pending, "max_pending_requests"),
            (&self.requests, "max_requests"),
            (&self.retries, "max_retries"),
        ]
    }
}

impl Default for Breakers {
    fn default() -> Breakers {
        Breakers {
            connections: Resource::new(1024),
            pending: Resource::new(1024),
            requests: Resource::new(1024),
            retries: Resource::new(3),
            pools: None,
            per_host: None,
            budget: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_exactly() {
        let r = Resource::new(2);
        assert!(r.try_take() && r.try_take() && !r.try_take() && !r.can_take());
        r.give();
        assert!(r.can_take() && r.try_take());
        assert_eq!((r.used(), r.max()), (2, 2));
        r.set_max(1);
        assert!(!r.can_take() && r.max() == 1 && r.configured() == 2);
    }
    #[test]
    fn a_budget_follows_the_requests_under_way() {
        let budget = Some(Box::new(RetryBudget { percent: 20.0, min: 1 }));
        let b = Breakers { budget, ..Breakers::default() };
        assert!(b.try_take_retry() && !b.try_take_retry());
        (0..12).for_each(|_| b.requests.take());
        (0..3).for_each(|_| b.pending.take());
        assert_eq!(b.max_retries(), 3);
        assert!(b.try_take_retry() && b.try_take_retry() && !b.try_take_retry());
        assert!(b.retries.is_open(), "as many as max_retries");
        b.retries.give();
        assert!(b.try_take_retry());
    }
    #[test]
    fn a_limit_of_nothing_opens_with_the_first() {
        let r = Resource::new(0);
        assert!(!r.try_take() && !r.is_open());
        r.take();
        assert!(r.is_open());
        r.give();
        assert!(r.is_open() && !r.can_take());
        let two = Resource::new(2);
        two.take();
        assert!(!two.is_open());
        two.take();
        assert!(two.is_open());
    }
}

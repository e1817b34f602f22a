//! Circuit breakers: limits of one cluster and priority, counted across all workers, as Envoy's contract asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One limited resource. Relaxed: the count is exact, the moment at which another worker sees it is not.
#[derive(Debug)]
pub struct Resource {
    used: AtomicU64,
    max: u64,
}

impl Resource {
    /// A resource with a limit.
    pub fn new(max: u64) -> Resource {
        Resource { used: AtomicU64::new(0), max }
    }
    /// Takes one unless the limit is reached.
    pub fn try_take(&self) -> bool {
        self.used.fetch_update(Relaxed, Relaxed, |n| (n < self.max).then_some(n + 1)).is_ok()
    }
    /// Takes one, whatever the limit says.
    pub fn take(&self) {
        self.used.fetch_add(1, Relaxed);
    }
    /// True while another one may be taken.
    pub fn can_take(&self) -> bool {
        self.used.load(Relaxed) < self.max
    }
    /// Gives one back.
    pub fn give(&self) {
        self.used.fetch_sub(1, Relaxed);
    }
    /// How many are taken.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
    /// The limit.
    pub fn max(&self) -> u64 {
        self.max
    }
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
}

impl Default for Breakers {
    fn default() -> Breakers {
        Breakers {
            connections: Resource::new(1024),
            pending: Resource::new(1024),
            requests: Resource::new(1024),
            retries: Resource::new(3),
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
    }
}

//! Circuit breakers: limits of one cluster and priority, counted across all workers, as Envoy's contract asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One limited resource. Relaxed: the count is exact, the moment at which another worker sees it is not.
#[derive(Debug)]
pub struct Resource {
    used: AtomicU64,
    max: AtomicU64,
    configured: u64,
}

impl Resource {
    /// A resource with a limit.
    pub fn new(max: u64) -> Resource {
        Resource { used: AtomicU64::new(0), max: AtomicU64::new(max), configured: max }
    }
    /// Takes one unless the limit is reached.
    pub fn try_take(&self) -> bool {
        let max = self.max();
        self.used.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
    }
    /// Takes one, whatever the limit says.
    pub fn take(&self) {
        self.used.fetch_add(1, Relaxed);
    }
    /// True while another one may be taken.
    pub fn can_take(&self) -> bool {
        self.used.load(Relaxed) < self.max()
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
        self.max.load(Relaxed)
    }
    /// The limit of the configuration, which counts where the runtime says nothing.
    pub fn configured(&self) -> u64 {
        self.configured
    }
    /// Changes the limit.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Relaxed);
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

impl Breakers {
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
}

//! Who is in a cluster now, and what its computed gauges say of it.

#![expect(clippy::disallowed_types, reason = "only main comes here, and whoever reads its stats")]

use super::breakers::{Breakers, Resource};
use super::host::HostSet;
use crate::stats::{ClusterStats, RemainingStats};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

/// The hosts of a cluster, set on main.
#[derive(Debug, Default)]
pub struct Members {
    hosts: RwLock<Arc<HostSet>>,
    max_host_weight: AtomicU32,
}

impl Members {
    /// The hosts at this moment.
    pub fn hosts(&self) -> Arc<HostSet> {
        // A poisoned lock still guards a whole `Arc`.
        self.hosts.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// Replaces them.
    pub fn set(&self, hosts: Arc<HostSet>) {
        *self.hosts.write().unwrap_or_else(|e| e.into_inner()) = hosts;
    }
    /// The largest weight of the hosts that discovery named last, at least 1; 0 before that, and for ever where hosts
    /// are not discovered.
    pub fn set_max_host_weight(&self, weight: u32) {
        self.max_host_weight.store(weight, Relaxed);
    }
}

/// Lets one function compute all derived gauges of a cluster when somebody reads: an idle cluster costs next to
/// nothing.
pub fn derive(stats: &ClusterStats, members: &Arc<Members>, breakers: &[Arc<Breakers>; 2]) {
    let (members, breakers) = (members.clone(), breakers.clone());
    stats.group().derive(move |gauge| {
        let count = || members.hosts().hosts.len() as u64;
        match gauge {
            "membership_total" | "membership_healthy" => Some(count()),
            "membership_degraded" | "membership_excluded" => Some(0),
            "max_host_weight" => Some(members.max_host_weight.load(Relaxed).into()).filter(|w| *w != 0),
            _ => open(gauge, &breakers),
        }
    });
}

/// A breaker that is open; a closed one counts as never used.
fn open(gauge: &str, [default, high]: &[Arc<Breakers>; 2]) -> Option<u64> {
    let (breakers, which) = match gauge.strip_prefix("high_") {
        Some(which) => (high, which),
        None => (default, gauge.strip_prefix("default_")?),
    };
    let resource: &Resource = match which {
        "cx_open" => &breakers.connections,
        "rq_open" => &breakers.requests,
        "rq_pending_open" => &breakers.pending,
        "rq_retry_open" => return breakers.retries_open().then_some(1),
        _ => return None, // there is no limit of pools
    };
    (!resource.can_take()).then_some(1)
}

/// Lets one function compute what is left of each resource (`track_remaining`).
pub fn derive_remaining(stats: &RemainingStats, breakers: &Arc<Breakers>) {
    let breakers = breakers.clone();
    stats.group().derive(move |gauge| {
        let left = |r: &Resource| r.max().saturating_sub(r.used());
        Some(match gauge {
            "remaining_cx" => left(&breakers.connections),
            "remaining_pending" => left(&breakers.pending),
            // As in Envoy: with a budget it depends on what changes without it.
            "remaining_retries" if breakers.budget.is_some() => 0,
            "remaining_retries" => left(&breakers.retries),
            "remaining_rq" => left(&breakers.requests),
            _ => u64::MAX, // there is no limit of pools
        })
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::stats::Store;

    #[test]
    fn gauges_follow_hosts_and_breakers() {
        let store = Store::new();
        let stats = ClusterStats::new(&store.scope("cluster.c"));
        let members = Arc::new(Members::default());
        let breakers: [Arc<Breakers>; 2] =
            [Arc::default(), Arc::new(Breakers { requests: Resource::new(1), ..Default::default() })];
        derive(&stats, &members, &breakers);
        let remaining = RemainingStats::new(&store.scope("cluster.c.circuit_breakers.high"));
        derive_remaining(&remaining, &breakers[1]);
        assert_eq!((stats.membership_total().value(), stats.max_host_weight().value()), (0, 0));
        members.set_max_host_weight(3);
        assert_eq!(stats.max_host_weight().value(), 3);
        assert_eq!((stats.high_rq_open().value(), remaining.remaining_rq().value()), (0, 1));
        assert!(breakers[1].requests.try_take());
        assert_eq!((stats.high_rq_open().value(), remaining.remaining_rq().value()), (1, 0));
        assert_eq!((stats.default_rq_open().value(), stats.high_cx_open().value()), (0, 0));
        assert_eq!(remaining.remaining_cx_pools().value(), u64::MAX);
    }
}

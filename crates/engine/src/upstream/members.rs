//! Who is in a cluster now, and what its computed gauges say of it.

#![expect(clippy::disallowed_types, reason = "only main comes here, and whoever reads its stats")]

use super::breakers::{Breakers, Resource};
use super::health::{Health, HostHealth};
use super::host::HostSet;
use crate::stats::{ClusterStats, RemainingStats};
use nuncio_core::stats::{DeriveGauges, DerivedGauges};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

/// The hosts of a cluster, set on main, and its limits. It computes all derived gauges of the cluster
/// ([`Group::derive`](nuncio_core::stats::Group::derive)): an idle cluster costs next to nothing.
#[derive(Debug, Default)]
pub struct Members {
    hosts: RwLock<Arc<HostSet>>,
    /// Healthy, degraded, excluded, all.
    counts: [AtomicU32; 4],
    breakers: [Arc<Breakers>; 2],
    max_host_weight: AtomicU32,
    initialized: AtomicBool,
}

impl Members {
    /// No hosts yet.
    pub fn new(breakers: [Arc<Breakers>; 2]) -> Members {
        Members { breakers, ..Members::default() }
    }
    /// The hosts at this moment.
    pub fn hosts(&self) -> Arc<HostSet> {
        // A poisoned lock still guards a whole `Arc`.
        self.hosts.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// Replaces them.
    pub fn set(&self, hosts: Arc<HostSet>) {
        self.count(&hosts);
        *self.hosts.write().unwrap_or_else(|e| e.into_inner()) = hosts;
    }
    /// The health of some has changed.
    pub fn recount(&self) {
        self.count(&self.hosts());
    }
    fn count(&self, hosts: &HostSet) {
        let count = |f: &dyn Fn(&HostHealth) -> bool| hosts.hosts.iter().filter(|h| f(&h.health)).count();
        let counts = [
            count(&|h| h.get() == Health::Healthy),
            count(&|h| h.get() == Health::Degraded),
            count(&HostHealth::is_excluded),
            hosts.hosts.len(),
        ];
        self.counts.iter().zip(counts).for_each(|(gauge, n)| gauge.store(n as u32, Relaxed));
    }
    /// The first hosts are there, or it is known that there are none; false while a cluster of the same name is warming.
    pub fn set_initialized(&self, initialized: bool) {
        self.initialized.store(initialized, Relaxed);
    }
    /// The largest weight of the hosts that discovery named last, at least 1; 0 before that, and for ever where hosts
    /// are not discovered.
    pub fn set_max_host_weight(&self, weight: u32) {
        self.max_host_weight.store(weight, Relaxed);
    }
}

impl DeriveGauges for Members {
    fn derive(&self, gauges: &mut DerivedGauges) {
        let [default, high] = &self.breakers;
        // A breaker that is closed counts as never used.
        let mut open = |gauge, open: bool| {
            if open {
                gauges.set(gauge, 1);
            }
        };
        open(const { ClusterStats::derived("default_cx_open") }, default.connections.is_open());
        let pools = |b: &Breakers| b.pools.as_ref().is_some_and(Resource::is_open);
        open(const { ClusterStats::derived("default_cx_pool_open") }, pools(default));
        open(const { ClusterStats::derived("high_cx_pool_open") }, pools(high));
        open(const { ClusterStats::derived("default_rq_open") }, default.requests.is_open());
        open(const { ClusterStats::derived("default_rq_pending_open") }, default.pending.is_open());
        open(const { ClusterStats::derived("default_rq_retry_open") }, default.retries.is_open());
        open(const { ClusterStats::derived("high_cx_open") }, high.connections.is_open());
        open(const { ClusterStats::derived("high_rq_open") }, high.requests.is_open());
        open(const { ClusterStats::derived("high_rq_pending_open") }, high.pending.is_open());
        open(const { ClusterStats::derived("high_rq_retry_open") }, high.retries.is_open());
        match self.max_host_weight.load(Relaxed) {
            0 => {}
            weight => gauges.set(const { ClusterStats::derived("max_host_weight") }, weight.into()),
        }
        let [healthy, degraded, excluded, total] = self.counts.each_ref().map(|c| c.load(Relaxed).into());
        gauges.set(const { ClusterStats::derived("membership_degraded") }, degraded);
        gauges.set(const { ClusterStats::derived("membership_excluded") }, excluded);
        gauges.set(const { ClusterStats::derived("membership_healthy") }, healthy);
        gauges.set(const { ClusterStats::derived("membership_total") }, total);
        gauges.set(
            const { ClusterStats::derived("warming_state") },
            u64::from(!self.initialized.load(Relaxed)),
        );
    }
    fn touch(&self) {
        for b in &self.breakers {
            black_box((b.connections.used(), b.requests.used(), b.pools.is_some()));
        }
    }
}

/// Lets one function compute what is left of each resource (`track_remaining`).
pub fn derive_remaining(stats: &RemainingStats, breakers: &Arc<Breakers>) {
    let breakers = breakers.clone();
    stats.group().derive(Arc::new(move |gauges: &mut DerivedGauges| {
        let left = |r: &Resource| r.max().saturating_sub(r.used());
        let b = &breakers;
        gauges.set(const { RemainingStats::derived("remaining_cx") }, left(&b.connections));
        gauges.set(
            const { RemainingStats::derived("remaining_cx_pools") },
            b.pools.as_ref().map_or(u64::MAX, left),
        );
        gauges.set(const { RemainingStats::derived("remaining_pending") }, left(&b.pending));
        // As in Envoy: with a budget it depends on what changes without it.
        gauges.set(
            const { RemainingStats::derived("remaining_retries") },
            if b.budget.is_some() { 0 } else { left(&b.retries) },
        );
        gauges.set(const { RemainingStats::derived("remaining_rq") }, left(&b.requests));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::ClusterStats;
    use nuncio_core::stats::Store;

    #[test]
    fn gauges_follow_hosts_and_breakers() {
        let store = Store::new();
        let stats = ClusterStats::new(&store.scope("cluster.c"));
        let high = Arc::new(Breakers { requests: Resource::new(1), ..Default::default() });
        let breakers = [Arc::default(), high];
        let members = Arc::new(Members::new(breakers.clone()));
        stats.group().derive(members.clone());
        let remaining = RemainingStats::new(&store.scope("cluster.c.circuit_breakers.high"));
        derive_remaining(&remaining, &breakers[1]);
        assert_eq!(stats.warming_state().value(), 1);
        members.set_initialized(true);
        assert_eq!(stats.warming_state().value(), 0);
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

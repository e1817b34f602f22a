//! Hosts: the members of a cluster, shared by all workers.

use nuncio_core::info::HostInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one host, as `/clusters` prints them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct HostCounters {
    /// Connections open.
    pub cx_active: AtomicU64,
    /// Connects that failed.
    pub cx_connect_fail: AtomicU64,
    /// Connections made.
    pub cx_total: AtomicU64,
    /// Requests under way.
    pub rq_active: AtomicU64,
    /// Requests that failed (5xx or reset).
    pub rq_error: AtomicU64,
    /// Requests that were answered otherwise.
    pub rq_success: AtomicU64,
    /// Requests that timed out.
    pub rq_timeout: AtomicU64,
    /// Requests sent.
    pub rq_total: AtomicU64,
}

impl HostCounters {
    /// Adds one; relaxed, totals only.
    pub fn inc(c: &AtomicU64) {
        c.fetch_add(1, Relaxed);
    }
    /// Takes one off.
    pub fn dec(c: &AtomicU64) {
        c.fetch_sub(1, Relaxed);
    }
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Address, names, locality, metadata.
    pub info: Arc<HostInfo>,
    /// `load_balancing_weight`, 1 to 2^32-1.
    pub weight: u32,
    /// Counters; a host that stays over an update keeps them.
    pub counters: HostCounters,
}

/// The hosts of a cluster at one moment.
#[derive(Debug, Default)]
pub struct HostSet {
    /// In the order of configuration and resolution.
    pub hosts: Vec<Arc<Host>>,
}

impl HostSet {
    /// The set that follows `self`: hosts with the same address, name and weight are the same objects.
    pub fn next(&self, wanted: Vec<(Arc<HostInfo>, u32)>) -> HostSet {
        let hosts = wanted.into_iter().map(|(info, weight)| {
            let same = self.hosts.iter().find(|h| {
                h.info.address == info.address && h.info.hostname == info.hostname && h.weight == weight
            });
            same.cloned()
                .unwrap_or_else(|| Arc::new(Host { info, weight, counters: HostCounters::default() }))
        });
        HostSet { hosts: hosts.collect() }
    }
    /// True when both hold the same hosts in the same order.
    pub fn same(&self, other: &HostSet) -> bool {
        self.hosts.len() == other.hosts.len()
            && self.hosts.iter().zip(&other.hosts).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(port: u16) -> Arc<HostInfo> {
        let address = Some(std::net::SocketAddr::from(([127, 0, 0, 1], port)).into());
        Arc::new(HostInfo { address, ..Default::default() })
    }

    #[test]
    fn hosts_that_stay_keep_their_counters() {
        let a = HostSet::default().next(vec![(info(1), 1), (info(2), 1)]);
        HostCounters::inc(&a.hosts[1].counters.rq_total);
        let b = a.next(vec![(info(2), 1), (info(3), 1)]);
        assert!(Arc::ptr_eq(&a.hosts[1], &b.hosts[0]));
        assert_eq!(b.hosts[0].counters.rq_total.load(Relaxed), 1);
        assert!(!a.same(&b) && a.same(&a.next(vec![(info(1), 1), (info(2), 1)])));
    }
}

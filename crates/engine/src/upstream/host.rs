//! Hosts: the members of a cluster, shared by all workers.

use super::health::HostHealth;
use super::outlier::Monitor;
use nuncio_api::envoy::config::core::v3::HealthStatus;
use nuncio_core::address::Address;
use nuncio_core::info::HostInfo;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

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
    /// More addresses of the same host, tried after the first (`LOGICAL_DNS`).
    pub others: Box<[Address]>,
    /// How fit it is.
    pub health: HostHealth,
    /// Counters; a host that stays over an update keeps them.
    pub counters: HostCounters,
    /// Whom its answers are reported to, with outlier detection.
    pub monitor: OnceLock<Box<Monitor>>,
}

/// The hosts of a cluster at one moment.
#[derive(Debug, Default)]
pub struct HostSet {
    /// In the order of configuration and resolution.
    pub hosts: Vec<Arc<Host>>,
}

/// A host that discovery names.
#[derive(Debug)]
pub struct Wanted {
    /// Address, names, locality, metadata.
    pub info: Arc<HostInfo>,
    /// Its weight.
    pub weight: u32,
    /// More addresses.
    pub others: Box<[Address]>,
    /// `health_status`
    pub status: HealthStatus,
}

impl Host {
    /// The hosts that follow `old`: those with the same addresses, name and weight are the same objects.
    pub fn continued(old: &[Arc<Host>], wanted: Vec<Wanted>) -> Vec<Arc<Host>> {
        let hosts = wanted.into_iter().map(|w| {
            let same = old.iter().find(|h| {
                h.info.address == w.info.address
                    && h.info.hostname == w.info.hostname
                    && h.weight == w.weight
                    && h.others == w.others
            });
            let status = w.status;
            let host = same.cloned().unwrap_or_else(|| {
                let Wanted { info, weight, others, .. } = w;
                let (health, counters, monitor) = Default::default();
                Arc::new(Host { info, weight, others, health, counters, monitor })
            });
            host.health.set_status(status);
            host
        });
        hosts.collect()
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
        let wanted = |ports: &[u16]| -> Vec<Wanted> {
            let status = HealthStatus::Unknown;
            ports.iter().map(|p| Wanted { info: info(*p), weight: 1, others: [].into(), status }).collect()
        };
        let a = Host::continued(&[], wanted(&[1, 2]));
        HostCounters::inc(&a[1].counters.rq_total);
        let b = Host::continued(&a, wanted(&[2, 3]));
        assert!(Arc::ptr_eq(&a[1], &b[0]));
        assert_eq!(b[0].counters.rq_total.load(Relaxed), 1);
        let mut moved = wanted(&[2]);
        moved[0].others = [std::net::SocketAddr::from(([127, 0, 0, 2], 2)).into()].into();
        assert!(!Arc::ptr_eq(&b[0], &Host::continued(&b, moved)[0]));
    }
}

//! Hosts: the members of a cluster, shared by all workers.

use super::health::HostHealth;
use super::health_check::Target;
use super::lb::client_side::HostLoad;
pub use super::lb::set::HostSet;
use super::outlier::Monitor;
use nuncio_api::envoy::config::core::v3::HealthStatus;
use nuncio_core::address::Address;
use nuncio_core::clock;
use nuncio_core::info::HostInfo;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

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
    /// What discovery says of it beside; it may change while the host stays.
    place: Place,
    /// More addresses of the same host, tried after the first (`LOGICAL_DNS`).
    pub others: Box<[Address]>,
    /// How fit it is.
    pub health: HostHealth,
    /// Counters; a host that stays over an update keeps them.
    pub counters: HostCounters,
    /// Whom its answers are reported to, with outlier detection.
    pub monitor: OnceLock<Box<Monitor>>,
    /// What it reports of its load, where that counts.
    pub load: OnceLock<Box<HostLoad>>,
    /// `Endpoint.health_check_config`
    pub check: Option<Box<Target>>,
    /// With active health checks, the cluster that hears when it tells a request that it has failed.
    pub checked_by: OnceLock<Arc<str>>,
}

/// Where a host stands among the others.
#[derive(Debug, Default)]
struct Place {
    weight: AtomicU32,
    priority: AtomicU32,
    locality_weight: AtomicU32,
    /// In milliseconds of [`up_now`].
    up_since: AtomicU64,
    /// Chosen since somebody last asked.
    used: AtomicBool,
}

/// Milliseconds on a clock of which only differences mean something: since when hosts are up.
pub fn up_now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let now = clock::now();
    now.saturating_duration_since(*START.get_or_init(|| now)).as_millis() as u64
}

/// A host that discovery names.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Address, names, locality, metadata.
    pub info: Arc<HostInfo>,
    /// Its weight.
    pub weight: u32,
    /// `LocalityLbEndpoints.priority`
    pub priority: u32,
    /// `LocalityLbEndpoints.load_balancing_weight`
    pub locality_weight: u32,
    /// More addresses.
    pub others: Box<[Address]>,
    /// `health_status`
    pub status: HealthStatus,
    /// `health_check_config`
    pub check: Option<Box<Target>>,
}

impl Host {
    /// A host.
    pub fn new(w: Wanted) -> Host {
        let (place, health, counters, monitor, load, checked_by) = Default::default();
        let Wanted { info, others, check, .. } = w;
        let host = Host { info, place, others, health, counters, monitor, load, check, checked_by };
        host.place.up_since.store(up_now(), Relaxed);
        host.takes(w.status, w.weight, w.priority, w.locality_weight);
        host
    }
    fn takes(&self, status: HealthStatus, weight: u32, priority: u32, locality_weight: u32) {
        self.health.set_status(status);
        self.place.weight.store(weight, Relaxed);
        self.place.priority.store(priority, Relaxed);
        self.place.locality_weight.store(locality_weight, Relaxed);
    }
    /// `load_balancing_weight`, 1 to 2^32-1.
    pub fn weight(&self) -> u32 {
        self.place.weight.load(Relaxed)
    }
    /// It weighs this from now on.
    pub fn set_weight(&self, weight: u32) {
        self.place.weight.store(weight, Relaxed);
    }
    /// `LocalityLbEndpoints.priority`, 0 is the highest.
    pub fn priority(&self) -> u32 {
        self.place.priority.load(Relaxed)
    }
    /// `load_balancing_weight` of its locality, 0 if it has none.
    pub fn locality_weight(&self) -> u32 {
        self.place.locality_weight.load(Relaxed)
    }
    /// It is chosen.
    pub fn set_used(&self) {
        if !self.place.used.load(Relaxed) {
            self.place.used.store(true, Relaxed);
        }
    }
    /// True when it was chosen since this was last asked.
    pub fn take_chosen(&self) -> bool {
        self.place.used.swap(false, Relaxed)
    }
    /// True when it was chosen since this was last asked, or has connections.
    pub fn take_used(&self) -> bool {
        self.place.used.swap(false, Relaxed) || self.counters.cx_active.load(Relaxed) > 0
    }
    /// When it came up, by [`up_now`]: when it was added, or passed its first health check.
    pub fn up_since(&self) -> u64 {
        self.place.up_since.load(Relaxed)
    }
    /// It has come up now: slow start begins.
    pub fn comes_up(&self) {
        self.place.up_since.store(up_now(), Relaxed);
    }
    /// `disable_active_health_check`
    pub fn is_unchecked(&self) -> bool {
        self.check.as_ref().is_some_and(|c| c.disabled)
    }
    /// The hosts that follow `old`: those with the same addresses and name are the same objects.
    pub fn continued(old: &[Arc<Host>], wanted: Vec<Wanted>) -> Vec<Arc<Host>> {
        let hosts = wanted.into_iter().map(|w| {
            let same = old.iter().find(|h| {
                h.info.address == w.info.address
                    && h.info.hostname == w.info.hostname
                    && h.others == w.others
                    && h.check == w.check
                    && h.info.locality == w.info.locality
                    && h.info.metadata.same(&w.info.metadata)
                    && h.info.locality_metadata.same(&w.info.locality_metadata)
            });
            match same {
                Some(h) => {
                    h.takes(w.status, w.weight, w.priority, w.locality_weight);
                    h.clone()
                }
                None => Arc::new(Host::new(w)),
            }
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
            let one = |p: &u16| {
                let (weight, priority, locality_weight) = (1, 0, 0);
                Wanted {
                    info: info(*p),
                    weight,
                    priority,
                    locality_weight,
                    others: [].into(),
                    status,
                    check: None,
                }
            };
            ports.iter().map(one).collect()
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

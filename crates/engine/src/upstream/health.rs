//! How fit hosts are, and what that means for the choice among them: who gets which part of the requests, and when a
//! cluster panics.

use super::cluster::LbPolicy;
use super::edf::Edf;
use super::local::LocalHost;
use nuncio_api::envoy::config::core::v3::HealthStatus;
use nuncio_core::rng;
use nuncio_core::runtime::RuntimeNumber;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// What counts for the choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Gets requests.
    Healthy,
    /// Gets requests when there are not enough healthy hosts.
    Degraded,
    /// Gets requests when there are so few others that the cluster panics.
    Unhealthy,
}

/// What is known of a host's health; shared by all threads. Main changes it, but for
/// [`EXCLUDED_VIA_IMMEDIATE_HC_FAIL`](Self::EXCLUDED_VIA_IMMEDIATE_HC_FAIL).
#[derive(Debug, Default)]
pub struct HostHealth(AtomicU16);

impl HostHealth {
    /// An active health check failed.
    pub const FAILED_ACTIVE_HC: u16 = 1;
    /// Outlier detection has ejected it.
    pub const FAILED_OUTLIER_CHECK: u16 = 1 << 1;
    /// `health_status` said so (`UNHEALTHY`, `TIMEOUT`).
    pub const FAILED_EDS_HEALTH: u16 = 1 << 2;
    /// An active health check was answered with `x-envoy-degraded`.
    pub const DEGRADED_ACTIVE_HC: u16 = 1 << 3;
    /// `health_status: DEGRADED`
    pub const DEGRADED_EDS_HEALTH: u16 = 1 << 4;
    /// Discovery no longer names it; it stays while it passes its health checks.
    pub const PENDING_DYNAMIC_REMOVAL: u16 = 1 << 5;
    /// Added while the cluster ran, and not checked yet.
    pub const PENDING_ACTIVE_HC: u16 = 1 << 6;
    /// It answered with `x-envoy-immediate-health-check-fail`.
    pub const EXCLUDED_VIA_IMMEDIATE_HC_FAIL: u16 = 1 << 7;
    /// The last active health check that failed was not answered in time.
    pub const ACTIVE_HC_TIMEOUT: u16 = 1 << 8;
    /// `health_status: DRAINING`
    pub const EDS_STATUS_DRAINING: u16 = 1 << 9;

    const OF_EDS: u16 = Self::FAILED_EDS_HEALTH | Self::DEGRADED_EDS_HEALTH | Self::EDS_STATUS_DRAINING;
    const UNHEALTHY: u16 = Self::FAILED_ACTIVE_HC
        | Self::FAILED_OUTLIER_CHECK
        | Self::FAILED_EDS_HEALTH
        | Self::EDS_STATUS_DRAINING;
    const DEGRADED: u16 = Self::DEGRADED_ACTIVE_HC | Self::DEGRADED_EDS_HEALTH;
    const EXCLUDED: u16 =
        Self::PENDING_ACTIVE_HC | Self::EXCLUDED_VIA_IMMEDIATE_HC_FAIL | Self::EDS_STATUS_DRAINING;

    /// What discovery says. True when that changed something.
    pub fn set_status(&self, status: HealthStatus) -> bool {
        let bits = match status {
            HealthStatus::Unknown | HealthStatus::Healthy => 0,
            HealthStatus::Unhealthy | HealthStatus::Timeout => Self::FAILED_EDS_HEALTH,
            HealthStatus::Draining => Self::EDS_STATUS_DRAINING,
            HealthStatus::Degraded => Self::DEGRADED_EDS_HEALTH,
        };
        let old = self.0.fetch_and(!Self::OF_EDS, Relaxed);
        self.0.fetch_or(bits, Relaxed);
        old & Self::OF_EDS != bits
    }
    /// The reasons why the host is not plainly healthy.
    pub fn bits(&self) -> u16 {
        self.0.load(Relaxed)
    }
    /// True when one of these reasons holds.
    pub fn has(&self, bits: u16) -> bool {
        self.bits() & bits != 0
    }
    /// Adds reasons.
    pub fn set(&self, bits: u16) {
        self.0.fetch_or(bits, Relaxed);
    }
    /// Takes reasons away.
    pub fn clear(&self, bits: u16) {
        self.0.fetch_and(!bits, Relaxed);
    }
    /// What counts.
    pub fn get(&self) -> Health {
        let bits = self.bits();
        if bits & Self::UNHEALTHY != 0 {
            Health::Unhealthy
        } else if bits & Self::DEGRADED != 0 {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }
    /// It does not count among the hosts of which enough should be fit: it is meant to get nothing, or nothing is known
    /// of it yet.
    pub fn is_excluded(&self) -> bool {
        self.has(Self::EXCLUDED)
    }
    /// As `health_status` of `/config_dump`.
    pub fn status(&self) -> HealthStatus {
        match self.get() {
            Health::Healthy => HealthStatus::Healthy,
            Health::Degraded => HealthStatus::Degraded,
            Health::Unhealthy => HealthStatus::Unhealthy,
        }
    }
}

/// When a cluster panics (`CommonLbConfig`), and how early degraded hosts help out (`ClusterLoadAssignment.Policy`).
#[derive(Clone, Debug)]
pub struct PanicPolicy {
    /// `healthy_panic_threshold`, in percent, or runtime key `upstream.healthy_panic_threshold`; 0: never.
    pub threshold: RuntimeNumber,
    /// `overprovisioning_factor`, in percent.
    pub overprovisioning: u32,
}

/// What the fitness of all hosts means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    /// Too few are fit: all get requests.
    pub panic: bool,
    /// Of a hundred requests the healthy hosts get so many, the degraded ones the others.
    pub healthy: u32,
}

impl Shares {
    /// Of so many hosts; `all` without those that are excluded.
    pub fn new(healthy: usize, degraded: usize, all: usize, threshold: u64, overprovisioning: u32) -> Shares {
        let eligible = all.max(1) as u64;
        let availability = |n: usize| {
            // Rounded down for each kind, as in Envoy.
            (u64::from(overprovisioning) * n as u64 / eligible).min(100) as u32
        };
        let (h, d) = (availability(healthy), availability(degraded));
        let total = (h + d).min(100);
        let percent = |n: usize| 100.0 * n as f64 / eligible as f64;
        let panic = total < 100 && percent(healthy) + percent(degraded) < threshold.min(100) as f64;
        let healthy = match total {
            0 => 100,
            _ => {
                let h_share = (h * 100 / total).min(100);
                let d_share = (d * 100 / total).min(100 - h_share);
                // What rounding leaves goes to the healthy, if there are any.
                if h > 0 { 100 - d_share } else { 0 }
            }
        };
        Shares { panic, healthy }
    }
}

/// Hosts to choose from.
#[derive(Default)]
pub struct HostList {
    /// The hosts.
    pub hosts: Vec<Rc<LocalHost>>,
    /// Of round robin.
    cursor: Cell<usize>,
    /// Their weights differ.
    schedule: Option<Box<RefCell<Edf>>>,
}

impl HostList {
    /// With a start of its own, so that workers do not march in step.
    pub fn new(hosts: Vec<Rc<LocalHost>>) -> HostList {
        let weight = |h: &Rc<LocalHost>| f64::from(h.host.weight);
        let differ = hosts.windows(2).any(|w| w[0].host.weight != w[1].host.weight);
        let schedule = differ.then(|| {
            let mut edf = Edf::new(hosts.iter().map(weight));
            for _ in 0..rng::below(hosts.len() as u64) {
                edf.next(|i| weight(&hosts[i]));
            }
            Box::new(RefCell::new(edf))
        });
        HostList { hosts, cursor: Cell::new(rng::u64() as usize >> 1), schedule }
    }
    /// The host whose turn it is; `None` when there is none.
    pub fn choose(&self, policy: LbPolicy) -> Option<&Rc<LocalHost>> {
        let n = self.hosts.len();
        if n == 0 {
            return None;
        }
        let busy = |i: usize| self.hosts[i].host.counters.rq_active.load(Relaxed);
        let weight = |i: usize| f64::from(self.hosts[i].host.weight);
        let scheduled = |weight: &dyn Fn(usize) -> f64| self.schedule.as_ref()?.borrow_mut().next(weight);
        let i = match policy {
            LbPolicy::RoundRobin => scheduled(&weight).unwrap_or_else(|| {
                let i = self.cursor.get();
                self.cursor.set(i.wrapping_add(1));
                i % n
            }),
            LbPolicy::Random => rng::below(n as u64) as usize,
            // Of unequal weight: a host's weight is shared by the requests it has.
            LbPolicy::LeastRequest => scheduled(&|i| weight(i) / (busy(i) + 1) as f64).unwrap_or_else(|| {
                let (a, b) = (rng::below(n as u64) as usize, rng::below(n as u64) as usize);
                if busy(b) < busy(a) { b } else { a }
            }),
        };
        self.hosts.get(i)
    }
}

/// The lists of a cluster of which some host is not healthy.
pub struct Parts {
    shares: Shares,
    healthy: HostList,
    degraded: HostList,
}

impl Parts {
    /// The lists, unless all are healthy.
    pub fn of(all: &[Rc<LocalHost>], policy: &PanicPolicy) -> Option<Box<Parts>> {
        let list = |health| -> Vec<Rc<LocalHost>> {
            all.iter().filter(|h| h.host.health.get() == health).cloned().collect()
        };
        let healthy = list(Health::Healthy);
        if healthy.len() == all.len() && !all.is_empty() {
            return None;
        }
        let degraded = list(Health::Degraded);
        let shares = Shares::new(
            healthy.len(),
            degraded.len(),
            all.iter().filter(|h| !h.host.health.is_excluded()).count(),
            policy.threshold.get(),
            policy.overprovisioning,
        );
        Some(Box::new(Parts { shares, healthy: HostList::new(healthy), degraded: HostList::new(degraded) }))
    }
    /// Whose turn it is; `None`: the cluster panics, and all hosts may get the request.
    pub fn choose(&self) -> Option<&HostList> {
        match self.shares {
            Shares { panic: true, .. } => None,
            Shares { healthy: 100, .. } => Some(&self.healthy),
            Shares { healthy, .. } if rng::below(100) < u64::from(healthy) => Some(&self.healthy),
            _ => Some(&self.degraded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_fitness() {
        let of = |healthy, degraded, all, threshold| {
            let s = Shares::new(healthy, degraded, all, threshold, 140);
            (s.panic, s.healthy)
        };
        // Up to 28 % may fail before others have to help out.
        assert_eq!(of(10, 0, 10, 50), (false, 100));
        assert_eq!(of(72, 28, 100, 50), (false, 100));
        assert_eq!(of(50, 50, 100, 50), (false, 70));
        assert_eq!(of(1, 1, 4, 50), (false, 50), "half of them are left: no panic");
        assert_eq!(of(1, 0, 2, 50), (false, 100));
        assert_eq!(of(1, 0, 3, 50), (true, 100));
        assert_eq!(of(1, 0, 3, 33), (false, 100));
        assert_eq!(of(0, 3, 3, 50), (false, 0));
        assert_eq!(of(0, 1, 3, 50), (true, 0));
        assert_eq!(of(0, 1, 3, 0), (false, 0));
        assert_eq!(of(0, 0, 3, 50), (true, 100));
        assert_eq!(of(0, 0, 0, 50), (true, 100), "an empty cluster panics");
        assert_eq!(of(0, 0, 0, 0), (false, 100));
        // Enough are left by overprovisioning, whatever the threshold.
        let s = Shares::new(1, 0, 3, 50, 300);
        assert_eq!((s.panic, s.healthy), (false, 100));
        assert_eq!(of(3, 0, 4, 100), (false, 100));
    }
    #[test]
    fn status_of_discovery() {
        let h = HostHealth::default();
        for (status, health) in [
            (HealthStatus::Unknown, Health::Healthy),
            (HealthStatus::Healthy, Health::Healthy),
            (HealthStatus::Unhealthy, Health::Unhealthy),
            (HealthStatus::Draining, Health::Unhealthy),
            (HealthStatus::Timeout, Health::Unhealthy),
            (HealthStatus::Degraded, Health::Degraded),
        ] {
            h.set_status(status);
            assert_eq!(h.get(), health, "{status:?}");
        }
    }
}

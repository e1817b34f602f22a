//! How fit hosts are, and when a cluster panics because too few are.

use nuncio_api::envoy::config::core::v3::{HealthStatus, HealthStatusSet};
use nuncio_api::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use nuncio_core::runtime::RuntimeNumber;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};

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
pub struct HostHealth {
    bits: AtomicU16,
    /// `health_status`
    said: AtomicU8,
}

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
        self.said.store(status as u8, Relaxed);
        let old = self.bits.fetch_and(!Self::OF_EDS, Relaxed);
        self.bits.fetch_or(bits, Relaxed);
        old & Self::OF_EDS != bits
    }
    /// The reasons why the host is not plainly healthy.
    pub fn bits(&self) -> u16 {
        self.bits.load(Relaxed)
    }
    /// True when one of these reasons holds.
    pub fn has(&self, bits: u16) -> bool {
        self.bits() & bits != 0
    }
    /// Adds reasons.
    pub fn set(&self, bits: u16) {
        self.bits.fetch_or(bits, Relaxed);
    }
    /// Takes reasons away.
    pub fn clear(&self, bits: u16) {
        self.bits.fetch_and(!bits, Relaxed);
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

/// Of which health hosts may be that requests ask for (`CommonLbConfig.override_host_status`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthStatuses(u8);

impl HealthStatuses {
    /// These; none are configured: all but those that are unfit.
    pub fn new(s: Option<&HealthStatusSet>) -> HealthStatuses {
        let default = [HealthStatus::Unknown, HealthStatus::Healthy, HealthStatus::Degraded];
        let bits = |all: &mut dyn Iterator<Item = HealthStatus>| all.fold(0, |bits, s| bits | 1 << s as u8);
        HealthStatuses(s.map_or_else(|| bits(&mut default.into_iter()), |s| bits(&mut s.statuses())))
    }
    /// True for a host whose health is among them: what was found out about it counts before what discovery says.
    pub fn allow(self, h: &HostHealth) -> bool {
        let said = h.said.load(Relaxed);
        let status = if h.has(HostHealth::FAILED_ACTIVE_HC | HostHealth::FAILED_OUTLIER_CHECK) {
            HealthStatus::Unhealthy as u8
        } else if h.has(HostHealth::FAILED_EDS_HEALTH | HostHealth::EDS_STATUS_DRAINING) {
            said
        } else if h.has(HostHealth::DEGRADED_ACTIVE_HC) {
            HealthStatus::Degraded as u8
        } else {
            said
        };
        self.0 >> status & 1 != 0
    }
}

/// When a cluster panics (`CommonLbConfig`), and how early degraded hosts help out (`ClusterLoadAssignment.Policy`).
#[derive(Debug)]
pub struct PanicPolicy {
    /// `healthy_panic_threshold`, in percent, or runtime key `upstream.healthy_panic_threshold`; 0: never.
    pub threshold: RuntimeNumber,
    /// `overprovisioning_factor`, in percent; discovery may change it.
    overprovisioning: AtomicU32,
    /// `weighted_priority_health`; discovery may change it.
    by_weight: AtomicBool,
}

impl PanicPolicy {
    /// With this threshold, and Envoy's default of the rest.
    pub fn new(threshold: RuntimeNumber) -> PanicPolicy {
        PanicPolicy { threshold, overprovisioning: AtomicU32::new(140), by_weight: AtomicBool::new(false) }
    }
    /// Takes over what an assignment says; main does that before it sets the hosts. True when that changed something.
    pub fn set_policy(&self, p: Option<&Policy>) -> bool {
        let factor = p.and_then(|p| p.overprovisioning_factor).unwrap_or(140);
        let by_weight = p.is_some_and(|p| p.weighted_priority_health);
        let other_factor = self.overprovisioning.swap(factor, Relaxed) != factor;
        self.by_weight.swap(by_weight, Relaxed) != by_weight || other_factor
    }
    /// By how much in percent the number of fit hosts counts for more.
    pub fn overprovisioning(&self) -> u32 {
        self.overprovisioning.load(Relaxed)
    }
    /// Hosts count by what they weigh.
    pub fn by_weight(&self) -> bool {
        self.by_weight.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn which_may_be_asked_for() {
        let default = HealthStatuses::new(None);
        let some =
            HealthStatusSet { statuses: vec![HealthStatus::Timeout as i32, HealthStatus::Healthy as i32] };
        let (none, some) =
            (HealthStatuses::new(Some(&HealthStatusSet::default())), HealthStatuses::new(Some(&some)));
        let allowed = |h: &HostHealth| [default, some, none].map(|s| s.allow(h));
        let h = HostHealth::default();
        assert_eq!(allowed(&h), [true, false, false]);
        for (status, expected) in [
            (HealthStatus::Healthy, [true, true, false]),
            (HealthStatus::Degraded, [true, false, false]),
            (HealthStatus::Unhealthy, [false; 3]),
            (HealthStatus::Draining, [false; 3]),
            (HealthStatus::Timeout, [false, true, false]),
        ] {
            h.set_status(status);
            assert_eq!(allowed(&h), expected, "{status:?}");
        }
        h.set(HostHealth::FAILED_ACTIVE_HC);
        assert_eq!(allowed(&h), [false; 3], "what a check found counts first");
        h.clear(HostHealth::FAILED_ACTIVE_HC);
        h.set_status(HealthStatus::Healthy);
        h.set(HostHealth::DEGRADED_ACTIVE_HC);
        assert_eq!(allowed(&h), [true, false, false]);
    }
}

//! What results of checks make of a host: no clock, no socket.

use super::HealthCheckStats;
use crate::upstream::health::HostHealth;
use nuncio_api::envoy::data::core::v3::HealthCheckFailureType;
use nuncio_core::rng;
use nuncio_core::runtime::RuntimeNumber;
use std::time::Duration;

/// Why a host failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Its answer was not what was expected: an HTTP status, 0 for other checks.
    Active(u16),
    /// It told a request so (`x-envoy-immediate-health-check-fail`).
    Passive,
    /// There was no connection, or it ended.
    Network,
    /// There was no answer in time.
    NetworkTimeout,
}

impl Failure {
    pub(super) fn pb(self) -> HealthCheckFailureType {
        match self {
            Failure::Active(_) => HealthCheckFailureType::Active,
            Failure::Passive => HealthCheckFailureType::Passive,
            Failure::Network => HealthCheckFailureType::Network,
            Failure::NetworkTimeout => HealthCheckFailureType::NetworkTimeout,
        }
    }
    pub(super) fn http_status(self) -> u32 {
        if let Failure::Active(status) = self { status.into() } else { 0 }
    }
    fn is_network(self) -> bool {
        matches!(self, Failure::Network | Failure::NetworkTimeout)
    }
}

/// What a result changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// Nothing.
    Unchanged,
    /// The host's health.
    Changed,
    /// It will change, if the next results are the same.
    Pending,
}

/// What is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// `eject_unhealthy_event`
    Ejected(Failure),
    /// `add_healthy_event`, at the first check or later.
    Added(bool),
    /// `successful_health_check_event`
    Passed,
    /// `health_check_failure_event`, at the first check or later.
    Failed(Failure, bool),
    /// `degraded_healthy_host`
    Degraded,
    /// `no_longer_degraded_host`
    NoLongerDegraded,
}

/// What the checks of all hosts of a cluster have in common; named as in `envoy.config.core.v3.HealthCheck`.
#[derive(Debug)]
pub struct Rules {
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
    pub interval: Duration,
    pub initial_jitter: Duration,
    pub interval_jitter: Duration,
    pub interval_jitter_percent: u32,
    pub no_traffic_interval: Duration,
    pub no_traffic_healthy_interval: Duration,
    pub unhealthy_interval: Duration,
    pub unhealthy_edge_interval: Duration,
    pub healthy_edge_interval: Duration,
    pub always_log_health_check_failures: bool,
    pub always_log_health_check_success: bool,
    /// Runtime keys `health_check.min_interval` and `health_check.max_interval`, in milliseconds.
    pub limits: [RuntimeNumber; 2],
}

impl Rules {
    /// How long it is until the next check, after a result. `traffic`: the cluster has had a connection.
    pub fn next(&self, healthy: bool, t: Transition, traffic: bool) -> Duration {
        let pending = t == Transition::Pending;
        let base = match (traffic, healthy, pending) {
            (true, true, true) => self.healthy_edge_interval,
            (true, true, false) => self.interval,
            (true, false, true) => self.unhealthy_edge_interval,
            (true, false, false) => self.unhealthy_interval,
            (false, true, false) => self.no_traffic_healthy_interval,
            (false, ..) => self.no_traffic_interval,
        };
        self.jittered(base, self.interval_jitter)
    }
    /// How long it is until the first check; `None`: it comes at once.
    pub fn first(&self) -> Option<Duration> {
        let jitter = self.initial_jitter;
        (jitter.as_millis() > 0).then(|| self.jittered(Duration::ZERO, jitter))
    }
    fn jittered(&self, base: Duration, jitter: Duration) -> Duration {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let base = ms(base);
        let percent = base.saturating_mul(self.interval_jitter_percent.into()) / 100;
        // Of nothing there is nothing at random.
        let time = base.saturating_add(rng::below(percent)).saturating_add(rng::below(ms(jitter)));
        let [min, max] = &self.limits;
        Duration::from_millis(time.min(max.get()).max(min.get()).max(1))
    }
}

/// What is remembered of the results of one host.
#[derive(Debug)]
pub struct State {
    healthy: u32,
    unhealthy: u32,
    first: bool,
}

impl State {
    /// Before the first check. Counts the host.
    pub fn new(host: &HostHealth, stats: &HealthCheckStats) -> State {
        if !host.has(HostHealth::FAILED_ACTIVE_HC) {
            stats.healthy().inc();
        }
        if host.has(HostHealth::DEGRADED_ACTIVE_HC) {
            stats.degraded().inc();
        }
        State { healthy: 0, unhealthy: 0, first: true }
    }
    /// There was no check yet.
    pub fn is_first(&self) -> bool {
        self.first
    }
    /// The host is no longer checked. True when it never was.
    pub fn ends(&self, host: &HostHealth, stats: &HealthCheckStats) -> bool {
        if !host.has(HostHealth::FAILED_ACTIVE_HC) {
            stats.healthy().dec();
        }
        if host.has(HostHealth::DEGRADED_ACTIVE_HC) {
            stats.degraded().dec();
        }
        self.first
    }
    /// A check was passed; `degraded`: the host said that it is.
    pub fn passed(
        &mut self,
        host: &HostHealth,
        rules: &Rules,
        stats: &HealthCheckStats,
        degraded: bool,
        log: &mut dyn FnMut(Event),
    ) -> Transition {
        self.unhealthy = 0;
        let mut t = Transition::Unchanged;
        if host.has(HostHealth::FAILED_ACTIVE_HC) {
            self.healthy += u32::from(!self.first);
            // The first result counts at once, so that a start does not take long.
            if self.first || self.healthy == rules.healthy_threshold {
                host.clear(
                    HostHealth::FAILED_ACTIVE_HC
                        | HostHealth::ACTIVE_HC_TIMEOUT
                        | HostHealth::EXCLUDED_VIA_IMMEDIATE_HC_FAIL,
                );
                stats.healthy().inc();
                t = Transition::Changed;
                log(Event::Added(self.first));
            } else {
                t = Transition::Pending;
            }
        }
        if t != Transition::Changed && rules.always_log_health_check_success {
            log(Event::Passed);
        }
        t = checked(host, t);
        if degraded != host.has(HostHealth::DEGRADED_ACTIVE_HC) {
            if degraded {
                host.set(HostHealth::DEGRADED_ACTIVE_HC);
                stats.degraded().inc();
                log(Event::Degraded);
            } else {
                // The gauge stays, as in Envoy.
                log(Event::NoLongerDegraded);
                host.clear(HostHealth::DEGRADED_ACTIVE_HC);
            }
            if t == Transition::Unchanged {
                t = Transition::Changed;
            }
        }
        stats.success().inc();
        self.first = false;
        t
    }
    /// A check failed. One that is `retriable`, or whose network failed, counts by the threshold; another at once.
    pub fn failed(
        &mut self,
        host: &HostHealth,
        rules: &Rules,
        stats: &HealthCheckStats,
        (failure, retriable): (Failure, bool),
        log: &mut dyn FnMut(Event),
    ) -> Transition {
        self.healthy = 0;
        let mut t = Transition::Unchanged;
        if !host.has(HostHealth::FAILED_ACTIVE_HC) {
            let by_threshold = failure.is_network() || retriable;
            self.unhealthy += u32::from(by_threshold);
            if !by_threshold || self.unhealthy == rules.unhealthy_threshold {
                host.set(HostHealth::FAILED_ACTIVE_HC);
                stats.healthy().dec();
                t = Transition::Changed;
                log(Event::Ejected(failure));
            } else {
                t = Transition::Pending;
            }
        }
        if failure == Failure::NetworkTimeout && host.has(HostHealth::FAILED_ACTIVE_HC) {
            host.set(HostHealth::ACTIVE_HC_TIMEOUT);
        } else {
            host.clear(HostHealth::ACTIVE_HC_TIMEOUT);
        }
        t = checked(host, t);
        if self.first || rules.always_log_health_check_failures {
            log(Event::Failed(failure, self.first));
        }
        stats.failure().inc();
        match failure {
            f if f.is_network() => stats.network_failure().inc(),
            Failure::Passive => stats.passive_failure().inc(),
            _ => {}
        }
        self.first = false;
        t
    }
}

/// The host has been checked: it counts among the others from now on.
fn checked(host: &HostHealth, t: Transition) -> Transition {
    if !host.has(HostHealth::PENDING_ACTIVE_HC) {
        return t;
    }
    host.clear(HostHealth::PENDING_ACTIVE_HC);
    Transition::Changed
}

//! Decides on main who is ejected, and for how long.

use super::OutlierStats;
use super::config::Config;
use super::event::{self, About};
use super::monitor::{Errors, Monitor, Streak};
use crate::upstream::health::HostHealth;
use crate::upstream::host::Host;
use nuncio_api::envoy::data::cluster::v3::OutlierEjectionType as T;
use nuncio_core::filter::EventLog;
use nuncio_core::runtime::RuntimeNumber;
use nuncio_core::{clock, rng};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a host is ejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    SuccessRateLocalOrigin,
    FailurePercentage,
    FailurePercentageLocalOrigin,
}

impl Kind {
    pub(super) fn pb(self) -> T {
        match self {
            Kind::Consecutive5xx => T::Consecutive5xx,
            Kind::ConsecutiveGatewayFailure => T::ConsecutiveGatewayFailure,
            Kind::ConsecutiveLocalOriginFailure => T::ConsecutiveLocalOriginFailure,
            Kind::SuccessRate => T::SuccessRate,
            Kind::SuccessRateLocalOrigin => T::SuccessRateLocalOrigin,
            Kind::FailurePercentage => T::FailurePercentage,
            Kind::FailurePercentageLocalOrigin => T::FailurePercentageLocalOrigin,
        }
    }
    /// Whose errors it looks at.
    fn errors(self) -> Errors {
        match self {
            Kind::SuccessRateLocalOrigin
            | Kind::FailurePercentageLocalOrigin
            | Kind::ConsecutiveLocalOriginFailure => Errors::LocalOrigin,
            _ => Errors::External,
        }
    }
    fn enforcing(self, c: &Config) -> &RuntimeNumber {
        match self {
            Kind::Consecutive5xx => &c.enforcing_consecutive_5xx,
            Kind::ConsecutiveGatewayFailure => &c.enforcing_consecutive_gateway_failure,
            Kind::ConsecutiveLocalOriginFailure => &c.enforcing_consecutive_local_origin_failure,
            Kind::SuccessRate => &c.enforcing_success_rate,
            Kind::SuccessRateLocalOrigin => &c.enforcing_local_origin_success_rate,
            Kind::FailurePercentage => &c.enforcing_failure_percentage,
            Kind::FailurePercentageLocalOrigin => &c.enforcing_failure_percentage_local_origin,
        }
    }
    fn count_detected(self, s: &OutlierStats) {
        match self {
            Kind::Consecutive5xx => s.ejections_detected_consecutive_5xx().inc(),
            Kind::ConsecutiveGatewayFailure => s.ejections_detected_consecutive_gateway_failure().inc(),
            Kind::ConsecutiveLocalOriginFailure => {
                s.ejections_detected_consecutive_local_origin_failure().inc();
            }
            Kind::SuccessRate => s.ejections_detected_success_rate().inc(),
            Kind::SuccessRateLocalOrigin => s.ejections_detected_local_origin_success_rate().inc(),
            Kind::FailurePercentage => s.ejections_detected_failure_percentage().inc(),
            Kind::FailurePercentageLocalOrigin => {
                s.ejections_detected_local_origin_failure_percentage().inc();
            }
        }
    }
    fn count_enforced(self, s: &OutlierStats) {
        s.ejections_enforced_total().inc();
        match self {
            Kind::Consecutive5xx => s.ejections_enforced_consecutive_5xx().inc(),
            Kind::ConsecutiveGatewayFailure => s.ejections_enforced_consecutive_gateway_failure().inc(),
            Kind::ConsecutiveLocalOriginFailure => {
                s.ejections_enforced_consecutive_local_origin_failure().inc();
            }
            Kind::SuccessRate => s.ejections_enforced_success_rate().inc(),
            Kind::SuccessRateLocalOrigin => s.ejections_enforced_local_origin_success_rate().inc(),
            Kind::FailurePercentage => s.ejections_enforced_failure_percentage().inc(),
            Kind::FailurePercentageLocalOrigin => {
                s.ejections_enforced_local_origin_failure_percentage().inc();
            }
        }
    }
}

/// Hosts whose health is another now.
pub type Changed = Vec<Arc<Host>>;

/// Tells main that a streak of a host is as long as is allowed. It runs on workers.
type Tell = Arc<dyn Fn(&Arc<Host>, Streak) + Send + Sync>;

/// The detector of one cluster.
pub struct Detector {
    cluster: Arc<str>,
    config: Arc<Config>,
    stats: OutlierStats,
    log: Option<EventLog>,
    tell: Tell,
    hosts: RefCell<HashMap<*const Host, Watched>>,
    ejected: Cell<u64>,
    /// Average and threshold in percent, for external errors and those of local origin; -1 without.
    rates: Cell<[(f64, f64); 2]>,
}

/// What is kept of a host.
struct Watched {
    host: Arc<Host>,
    ejections: u32,
    /// So many times the base time is how long it is ejected for.
    backoff: u32,
    jitter: Duration,
    last_ejection: Option<Instant>,
    last_unejection: Option<Instant>,
}

impl Watched {
    fn is_ejected(&self) -> bool {
        self.host.health.has(HostHealth::FAILED_OUTLIER_CHECK)
    }
    fn monitor(&self) -> Option<&Monitor> {
        self.host.monitor.get().map(|m| &**m)
    }
    fn about<'a>(&self, cluster: &'a str, since: Option<Instant>) -> About<'a> {
        About {
            cluster,
            url: self.host.info.address_text.to_string(),
            ejections: self.ejections,
            since: since.map(|t| clock::now().saturating_duration_since(t)),
        }
    }
}

impl Detector {
    /// No hosts yet. `tell` is called on workers.
    pub fn new(
        cluster: Arc<str>,
        config: Config,
        stats: OutlierStats,
        log: Option<EventLog>,
        tell: impl Fn(&Arc<Host>, Streak) + Send + Sync + 'static,
    ) -> Detector {
        Detector {
            cluster,
            config: Arc::new(config),
            stats,
            log,
            tell: Arc::new(tell),
            hosts: RefCell::default(),
            ejected: Cell::new(0),
            rates: Cell::new([(-1.0, -1.0); 2]),
        }
    }
    /// These hosts are watched from now on, and no others.
    pub fn set_hosts(&self, hosts: &[Arc<Host>]) {
        let mut old = self.hosts.take();
        let new = hosts.iter().map(|h| {
            let key = Arc::as_ptr(h);
            (key, old.remove(&key).unwrap_or_else(|| self.watch(h)))
        });
        *self.hosts.borrow_mut() = new.collect();
        old.values().filter(|w| w.is_ejected()).for_each(|_| self.add_ejected(false));
    }
    fn watch(&self, host: &Arc<Host>) -> Watched {
        host.monitor.get_or_init(|| {
            let (weak, tell) = (Arc::downgrade(host), self.tell.clone());
            let tell = move |s| weak.upgrade().iter().for_each(|h| tell(h, s));
            Box::new(Monitor::new(self.config.clone(), tell))
        });
        Watched {
            host: host.clone(),
            ejections: 0,
            backoff: 0,
            jitter: Duration::ZERO,
            last_ejection: None,
            last_unejection: None,
        }
    }
    fn add_ejected(&self, one_more: bool) {
        let n = self.ejected.get();
        if one_more {
            self.ejected.set(n + 1);
            self.stats.ejections_active().inc();
        } else {
            self.ejected.set(n.saturating_sub(1));
            self.stats.ejections_active().dec();
        }
    }
    /// How long it is until the next [`interval`](Self::interval).
    pub fn next_interval(&self) -> Duration {
        Duration::from_millis(self.config.interval.get().max(1))
    }
    /// A host has failed so often in a row.
    pub fn streak(&self, host: &Arc<Host>, s: Streak) -> Changed {
        let kind = match s {
            Streak::Consecutive5xx => Kind::Consecutive5xx,
            Streak::GatewayFailure => Kind::ConsecutiveGatewayFailure,
            Streak::LocalOriginFailure => Kind::ConsecutiveLocalOriginFailure,
        };
        let mut hosts = self.hosts.borrow_mut();
        let n = hosts.len();
        // It may have left while the message was under way, or been ejected for something else.
        let Some(w) = hosts.get_mut(&Arc::as_ptr(host)).filter(|w| !w.is_ejected()) else { return vec![] };
        kind.count_detected(&self.stats);
        let ejected = self.eject(w, kind, n);
        if kind == Kind::Consecutive5xx {
            self.stats.ejections_consecutive_5xx().inc();
        }
        // A new streak begins, though no good answer came between.
        w.monitor().into_iter().for_each(|m| m.end(s));
        if ejected { vec![host.clone()] } else { vec![] }
    }
    /// The host passed an active health check.
    pub fn checked(&self, host: &Arc<Host>) -> Changed {
        if !self.config.successful_active_health_check_uneject_host
            || host.health.has(HostHealth::FAILED_ACTIVE_HC)
        {
            return vec![];
        }
        let mut hosts = self.hosts.borrow_mut();
        let Some(w) = hosts.get_mut(&Arc::as_ptr(host)).filter(|w| w.is_ejected()) else { return vec![] };
        self.uneject(w);
        vec![host.clone()]
    }
    /// An interval has passed: lets in again whose time is over, and looks at the rates.
    pub fn interval(&self) -> Changed {
        let now = clock::now();
        let mut hosts = self.hosts.borrow_mut();
        let mut changed = vec![];
        for w in hosts.values_mut() {
            if w.is_ejected() && self.is_over(w, now) {
                self.uneject(w);
                changed.push(w.host.clone());
            }
            w.monitor().into_iter().for_each(Monitor::turn);
        }
        self.by_rates(&mut hosts, Errors::External, &mut changed);
        self.by_rates(&mut hosts, Errors::LocalOrigin, &mut changed);
        let interval = Duration::from_millis(self.config.interval.get());
        for w in hosts.values_mut().filter(|w| !w.is_ejected()) {
            if w.last_unejection.is_some_and(|t| now.saturating_duration_since(t) >= interval) {
                w.backoff = w.backoff.saturating_sub(1);
            }
        }
        changed
    }
    fn is_over(&self, w: &Watched, now: Instant) -> bool {
        let time = self.config.base_ejection_time.get().saturating_mul(w.backoff.into());
        let time = Duration::from_millis(time.min(self.config.max_ejection_time.get()));
        w.last_ejection.is_none_or(|t| now.saturating_duration_since(t) >= time + w.jitter)
    }
    fn uneject(&self, w: &mut Watched) {
        self.add_ejected(false);
        w.host.health.clear(HostHealth::FAILED_OUTLIER_CHECK);
        w.monitor().into_iter().for_each(Monitor::end_all);
        w.last_unejection = Some(clock::now());
        if let Some(log) = &self.log {
            log(&event::unejected(w.about(&self.cluster, w.last_ejection)));
        }
    }
    /// True when it is ejected indeed.
    fn eject(&self, w: &mut Watched, kind: Kind, of: usize) -> bool {
        let c = &self.config;
        let percent = 100.0 * (self.ejected.get() + 1) as f64 / of.max(1) as f64;
        let fits = percent <= c.max_ejection_percent.get().min(100) as f64;
        if !(fits || c.always_eject_one_host && self.ejected.get() == 0) {
            self.stats.ejections_overflow().inc();
            return false;
        }
        if matches!(kind, Kind::Consecutive5xx | Kind::SuccessRate) {
            self.stats.ejections_total().inc();
        }
        let enforced = kind.enforcing(c).percent();
        if enforced {
            self.add_ejected(true);
            kind.count_enforced(&self.stats);
            w.host.health.set(HostHealth::FAILED_OUTLIER_CHECK);
            w.ejections += 1;
            w.last_ejection = Some(clock::now());
            w.jitter = Duration::from_millis(rng::below(c.max_ejection_time_jitter.get().saturating_add(1)));
            let base = c.base_ejection_time.get();
            if base.saturating_mul(w.backoff.into()) < c.max_ejection_time.get().saturating_add(base) {
                w.backoff = w.backoff.saturating_add(1);
            }
        }
        if let Some(log) = &self.log {
            let errors = kind.errors();
            let host = w.monitor().map_or(-1.0, |m| m.success_rate(errors));
            let rates = (host, self.rates(errors));
            log(&event::ejected(w.about(&self.cluster, w.last_unejection), kind, enforced, rates));
        }
        enforced
    }
    /// Success rates and failure percentages of the interval before.
    fn by_rates(&self, hosts: &mut HashMap<*const Host, Watched>, e: Errors, changed: &mut Changed) {
        let c = &self.config;
        let n = hosts.len();
        let (success_hosts, failure_hosts) =
            (c.success_rate_minimum_hosts.get(), c.failure_percentage_minimum_hosts.get());
        self.set_rates(e, (-1.0, -1.0));
        if (n as u64) < success_hosts.min(failure_hosts) {
            return;
        }
        let (success_volume, failure_volume) =
            (c.success_rate_request_volume.get(), c.failure_percentage_request_volume.get());
        let (mut by_success, mut by_failure) = (vec![], vec![]);
        for (key, w) in hosts.iter().filter(|(_, w)| !w.is_ejected()) {
            let Some((monitor, (rate, volume))) = w.monitor().and_then(|m| Some((m, m.last(e)?))) else {
                continue;
            };
            if volume >= success_volume.min(failure_volume) {
                monitor.set_success_rate(e, rate);
            }
            if volume >= success_volume {
                by_success.push((*key, rate));
            }
            if volume >= failure_volume {
                by_failure.push((*key, rate));
            }
        }
        let (success, failure) = match e {
            Errors::External => (Kind::SuccessRate, Kind::FailurePercentage),
            Errors::LocalOrigin => (Kind::SuccessRateLocalOrigin, Kind::FailurePercentageLocalOrigin),
        };
        let mut eject = |key: &*const Host, kind: Kind| {
            let Some(w) = hosts.get_mut(key) else { return };
            kind.count_detected(&self.stats);
            // Both ways may find the same host: it is ejected once.
            if !w.is_ejected() && self.eject(w, kind, n) {
                changed.push(w.host.clone());
            }
        };
        if !by_success.is_empty() && by_success.len() as u64 >= success_hosts {
            let factor = c.success_rate_stdev_factor.get() as f64 / 1000.0;
            let rates: Vec<f64> = by_success.iter().map(|(_, rate)| *rate).collect();
            let (average, threshold) = threshold(&rates, factor);
            self.set_rates(e, (average, threshold));
            for (key, _) in by_success.iter().filter(|(_, rate)| *rate < threshold) {
                self.stats.ejections_success_rate().inc();
                eject(key, success);
            }
        }
        if !by_failure.is_empty() && by_failure.len() as u64 >= failure_hosts {
            let threshold = c.failure_percentage_threshold.get() as f64;
            for (key, _) in by_failure.iter().filter(|(_, rate)| 100.0 - rate >= threshold) {
                eject(key, failure);
            }
        }
    }
    fn set_rates(&self, e: Errors, to: (f64, f64)) {
        let mut rates = self.rates.get();
        rates[e as usize] = to;
        self.rates.set(rates);
    }
    /// Average success rate of the last interval, and below which a host is ejected, in percent; -1 where too few hosts had
    /// enough requests.
    pub fn rates(&self, e: Errors) -> (f64, f64) {
        self.rates.get()[e as usize]
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        (0..self.ejected.get()).for_each(|_| self.stats.ejections_active().dec());
    }
}

/// The average, and so many standard deviations below it.
pub(super) fn threshold(rates: &[f64], factor: f64) -> (f64, f64) {
    let n = rates.len().max(1) as f64;
    let average = rates.iter().sum::<f64>() / n;
    let variance = rates.iter().map(|r| (r - average).powi(2)).sum::<f64>() / n;
    (average, average - factor * variance.sqrt())
}

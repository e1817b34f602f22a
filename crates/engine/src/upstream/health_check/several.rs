//! The health checks of a cluster: one, or several, of which a host has to pass all.
//!
//! With several each has a view of its own of every host; what these come to together is the host's health.

use super::checker::{Checker, Report};
use super::config::Config;
use super::state::Transition;
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::health::HostHealth;
use crate::upstream::host::Host;
use crate::upstream::transport::Transports;
use nuncio_core::stats;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

stats! {
    /// `cluster.<name>.health_check.` with several checks: hosts as all of them see it.
    pub struct TogetherStats {
        degraded: Gauge,
        healthy: Gauge,
    }
}

/// A check, and its transport if it has one of its own.
pub type Configured = (Config, Option<Transports>);

type Heard = Box<dyn Fn(&Arc<Host>, Report)>;

/// The health checks of one cluster.
pub struct Checks {
    all: Vec<Rc<Checker>>,
    together: Option<Rc<Together>>,
}

/// What several checks come to.
struct Together {
    all: Vec<Rc<Checker>>,
    stats: TogetherStats,
    heard: OnceCell<Heard>,
    /// Hosts that are checked, and as what they are counted: healthy, degraded.
    hosts: RefCell<Counted>,
}

type Counted = HashMap<*const Host, (Arc<Host>, [bool; 2])>;

impl Checks {
    /// Checks nobody yet.
    pub fn new(plan: &Arc<ClusterPlan>, all: Vec<Configured>) -> Checks {
        let several = all.len() > 1;
        let checker = |(config, own)| Rc::new(Checker::new(plan.clone(), config, own, several));
        let all: Vec<_> = all.into_iter().map(checker).collect();
        let together = several.then(|| {
            let stats = TogetherStats::new(&plan.scope.scope("health_check"));
            let (heard, hosts) = Default::default();
            Rc::new(Together { all: all.clone(), stats, heard, hosts })
        });
        Checks { all, together }
    }
    /// Tells `f` of every result that says something of a host's health; set once.
    pub fn tells(&self, f: impl Fn(&Arc<Host>, Report) + 'static) {
        let Some(together) = &self.together else {
            if let Some(c) = self.all.first() {
                c.tells(f);
            }
            return;
        };
        // The first one stays: a cluster begins once.
        let _ = together.heard.set(Box::new(f));
        for c in &self.all {
            let together = Rc::downgrade(together);
            c.tells(move |host, _| {
                if let Some(t) = together.upgrade() {
                    t.hears(host);
                }
            });
        }
    }
    /// These hosts are checked from now on, and no others ([`Checker::set_hosts`]).
    pub fn set_hosts(&self, hosts: &[Arc<Host>], pending: bool, logical: bool) {
        let set = || self.all.iter().for_each(|c| c.set_hosts(hosts, pending, logical));
        let Some(t) = &self.together else { return set() };
        let old = t.hosts.take();
        let known: HashSet<_> = hosts.iter().map(Arc::as_ptr).collect();
        let unknown = |h: &Arc<Host>| !t.all.iter().all(|c| c.has_checked(h));
        let gone = old.values().filter(|(h, _)| !known.contains(&Arc::as_ptr(h)) && unknown(h));
        let gone: Vec<_> = gone.map(|(h, _)| h.clone()).collect();
        set();
        t.set_hosts(hosts, old);
        // Somebody may wait for a check that will not come.
        gone.iter().for_each(|h| t.tell(h, false));
    }
    /// How many hosts are checked.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.all.first().map_or(0, |c| c.len())
    }
    /// A host has told a request that it has failed.
    pub fn failed_passively(&self, host: &Arc<Host>) {
        self.all.iter().for_each(|c| c.failed_passively(host));
    }
    /// Checks nobody any more, and tells nobody.
    pub fn end(&self) {
        self.all.iter().for_each(|c| c.end());
        if let Some(t) = &self.together {
            t.hosts.take().into_values().for_each(|(_, counted)| t.count(counted, [false; 2]));
        }
    }
}

/// What checks find of a host.
const FOUND: u16 = HostHealth::FAILED_ACTIVE_HC
    | HostHealth::DEGRADED_ACTIVE_HC
    | HostHealth::ACTIVE_HC_TIMEOUT
    | HostHealth::PENDING_ACTIVE_HC;

impl Together {
    fn set_hosts(&self, hosts: &[Arc<Host>], mut old: Counted) {
        for h in hosts.iter().filter(|h| !h.is_unchecked()) {
            let key = Arc::as_ptr(h);
            let counted = old.remove(&key).map_or([false; 2], |(_, counted)| counted);
            self.hosts.borrow_mut().insert(key, (h.clone(), counted));
            self.judge(h);
        }
        old.into_values().for_each(|(_, counted)| self.count(counted, [false; 2]));
    }
    /// A check has ended.
    fn hears(&self, host: &Arc<Host>) {
        if !self.hosts.borrow().contains_key(&Arc::as_ptr(host)) {
            return;
        }
        let changed = self.judge(host);
        // Nothing is known of a host until all have looked at it once.
        if changed || self.all.iter().all(|c| c.has_checked(host)) {
            self.tell(host, changed);
        }
    }
    fn tell(&self, host: &Arc<Host>, changed: bool) {
        let transition = if changed { Transition::Changed } else { Transition::Unchanged };
        let passed = !host.health.has(HostHealth::FAILED_ACTIVE_HC);
        if let Some(f) = self.heard.get() {
            f(host, Report { transition, passed });
        }
    }
    /// What fails one check has failed. True when the host's health changed.
    fn judge(&self, host: &Arc<Host>) -> bool {
        let views = self.all.iter().map(|c| c.view(host));
        let found = views.fold(0, |all, view| all | view) & FOUND;
        let before = host.health.bits() & FOUND;
        host.health.clear(FOUND & !found);
        host.health.set(found);
        if before & !found & HostHealth::FAILED_ACTIVE_HC != 0 {
            host.health.clear(HostHealth::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
            host.comes_up();
        }
        let now = [found & HostHealth::FAILED_ACTIVE_HC == 0, found & HostHealth::DEGRADED_ACTIVE_HC != 0];
        if let Some((_, counted)) = self.hosts.borrow_mut().get_mut(&Arc::as_ptr(host)) {
            self.count(std::mem::replace(counted, now), now);
        }
        (before ^ found) & !HostHealth::ACTIVE_HC_TIMEOUT != 0
    }
    fn count(&self, before: [bool; 2], now: [bool; 2]) {
        let s = &self.stats;
        for (gauge, (before, now)) in [s.healthy(), s.degraded()].into_iter().zip(before.into_iter().zip(now))
        {
            match (before, now) {
                (false, true) => gauge.inc(),
                (true, false) => gauge.dec(),
                _ => {}
            }
        }
    }
}

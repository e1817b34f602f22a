//! Keeps an eye on the hosts of a cluster, on main: hears what its health checks and its outlier detection find, and says
//! when the workers hear of what has changed.

use super::health::HostHealth;
use super::health_check::{Report, Transition};
use super::host::Host;
use super::manager::{ClusterEntry, ClusterManager, WeakManager};
use super::outlier::{Changed, Streak};
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::worker;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// Changes of health within `update_merge_window` after another change are told together.
#[derive(Default)]
pub struct Merge {
    last: Cell<Option<Instant>>,
    waiting: RefCell<Option<AbortHandle>>,
}

/// When a change is told.
#[derive(PartialEq, Eq, Debug)]
pub enum Next {
    /// At once. `out_of_window`: because the last one was long ago.
    Now {
        /// There is a window.
        out_of_window: bool,
    },
    /// With all others until then.
    Later(Duration),
    /// With those that wait already.
    Waiting,
}

impl Merge {
    /// A change of health.
    pub fn next(&self, window: Duration) -> Next {
        if window.is_zero() {
            return Next::Now { out_of_window: false };
        }
        let now = clock::now();
        // In whole milliseconds, as Envoy compares.
        let ms = |d: Duration| d.as_millis();
        let long_ago = |t: Instant| ms(now.saturating_duration_since(t)) > ms(window);
        if self.last.get().is_none_or(long_ago) {
            self.changed_anyhow();
            return Next::Now { out_of_window: true };
        }
        match &*self.waiting.borrow() {
            Some(_) => Next::Waiting,
            None => Next::Later(window),
        }
    }
    /// This task will tell what waits.
    pub fn waits(&self, task: AbortHandle) {
        *self.waiting.borrow_mut() = Some(task);
    }
    /// What waited is told.
    pub fn merged(&self) {
        self.waiting.take();
        self.last.set(Some(clock::now()));
    }
    /// All hosts are told. True when that saves telling something that waited.
    pub fn changed_anyhow(&self) -> bool {
        self.last.set(Some(clock::now()));
        self.waiting.take().inspect(AbortHandle::abort).is_some()
    }
}

/// The clusters with outlier detection or health checks, by name: workers cannot hold on to what lives on main.
#[derive(Default)]
struct Watched(RefCell<HashMap<Arc<str>, Vec<Entry>>>);

type Entry = (WeakManager, Weak<ClusterEntry>);

/// Begins to watch the hosts of a cluster, for as long as it lives.
pub fn begin(manager: &ClusterManager, c: &Rc<ClusterEntry>) {
    if c.detector.is_none() && c.checker.is_none() {
        return;
    }
    let known = worker::local(Watched::default);
    let (manager, weak) = (manager.downgrade(), Rc::downgrade(c));
    known.0.borrow_mut().entry(c.plan.name.clone()).or_default().push((manager.clone(), weak.clone()));
    if let Some(k) = &c.checker {
        let (manager, weak) = (manager.clone(), weak.clone());
        k.tells(move |host, report| {
            if let (Some(manager), Some(c)) = (manager.upgrade(), weak.upgrade()) {
                checked(&manager, &c, host, report);
            }
        });
    }
    if c.detector.is_none() {
        return;
    }
    let task = tokio::task::spawn_local(async move {
        while let Some(wait) = weak.upgrade().and_then(|c| Some(c.detector.as_ref()?.next_interval())) {
            clock::sleep(TimerKind::Other, wait).await;
            let (Some(manager), Some(c)) = (manager.upgrade(), weak.upgrade()) else { return };
            let changed = c.detector.as_ref().map(|d| d.interval());
            told(&manager, &c, changed.unwrap_or_default());
        }
    });
    c.kept_by(task.abort_handle());
}

/// A cluster is watched no more.
pub fn forget(c: &Rc<ClusterEntry>) {
    if c.detector.is_none() && c.checker.is_none() {
        return;
    }
    let known = worker::local(Watched::default);
    let mut known = known.0.borrow_mut();
    if let Some(all) = known.get_mut(&c.plan.name) {
        all.retain(|(_, w)| w.as_ptr() != Rc::as_ptr(c));
        if all.is_empty() {
            known.remove(&c.plan.name);
        }
    }
}

/// On a worker: a host has failed so often in a row.
pub fn tell(cluster: Arc<str>, host: Arc<Host>, s: Streak) {
    worker::post_to_main(move || {
        let known = worker::local(Watched::default);
        // An old and a new cluster may have the name: only one of them has the host.
        let all = known.0.borrow().get(&cluster).cloned().unwrap_or_default();
        for (manager, c) in all.iter().filter_map(|(m, c)| Some((m.upgrade()?, c.upgrade()?))) {
            let changed = c.detector.as_ref().map(|d| d.streak(&host, s));
            told(&manager, &c, changed.unwrap_or_default());
        }
    });
}

/// On a worker: a host told a request that it has failed (`x-envoy-immediate-health-check-fail`).
pub fn tell_failed(cluster: Arc<str>, host: Arc<Host>) {
    host.health.set(HostHealth::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
    worker::post_to_main(move || {
        let known = worker::local(Watched::default);
        let all = known.0.borrow().get(&cluster).cloned().unwrap_or_default();
        for checker in all.iter().filter_map(|(_, c)| c.upgrade()?.checker.clone()) {
            checker.failed_passively(&host);
        }
    });
}

/// A check has ended.
fn checked(manager: &ClusterManager, c: &Rc<ClusterEntry>, host: &Arc<Host>, report: Report) {
    let failed = host.health.has(HostHealth::FAILED_ACTIVE_HC);
    if report.transition == Transition::Changed {
        manager.health_changed(c, host, failed);
    }
    if report.passed
        && let Some(d) = &c.detector
    {
        let changed = d.checked(host);
        told(manager, c, changed);
    }
    manager.checked(c);
    if failed && host.health.has(HostHealth::PENDING_DYNAMIC_REMOVAL) {
        let rest = c.hosts().hosts.iter().filter(|h| !Arc::ptr_eq(h, host)).cloned().collect();
        manager.set_hosts(c, rest);
    }
}

/// `new`, and of the hosts until now those that discovery no longer names but that pass their health checks.
pub fn with_those_that_stay(c: &ClusterEntry, mut new: Vec<Arc<Host>>) -> Vec<Arc<Host>> {
    if c.checker.is_none() || c.plan.ignore_health_on_host_removal || c.dns.logical {
        return new;
    }
    const FAILED: u16 = HostHealth::FAILED_ACTIVE_HC | HostHealth::FAILED_EDS_HEALTH;
    let old = c.hosts();
    let named: HashSet<_> = new.iter().map(|h| h.info.address.clone()).collect();
    let already: HashSet<_> = new.iter().map(Arc::as_ptr).collect();
    for h in &old.hosts {
        if already.contains(&Arc::as_ptr(h)) || h.is_unchecked() || h.health.has(FAILED) {
            continue;
        }
        if !named.contains(&h.info.address) {
            h.health.set(HostHealth::PENDING_DYNAMIC_REMOVAL);
            new.push(h.clone());
        }
    }
    new
}

fn told(manager: &ClusterManager, c: &Rc<ClusterEntry>, changed: Changed) {
    for host in changed {
        let failed = host.health.has(HostHealth::FAILED_OUTLIER_CHECK);
        manager.health_changed(c, &host, failed);
    }
}

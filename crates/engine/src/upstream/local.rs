//! Clusters on one worker: the plan, the current hosts, the balancer's cursor, and a pool per host.

use super::cluster::ClusterPlan;
use super::health::{HostList, Parts};
use super::host::{Host, HostSet};
use super::pool::HostPool;
use crate::stats::{AltStats, Http1Stats, Http2Stats, RetryStats, ZoneStats};
use nuncio_core::hash::TrustedMap;
use nuncio_core::stats::{OVERFLOW, sanitize};
use nuncio_core::worker;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A cluster on this thread.
pub struct Cluster {
    /// What main built.
    pub plan: Arc<ClusterPlan>,
    hosts: RefCell<HostList>,
    /// Some host is not healthy.
    parts: RefCell<Option<Box<Parts>>>,
    http1: OnceCell<Http1Stats>,
    http2: OnceCell<Http2Stats>,
    retry: OnceCell<RetryStats>,
    alt: RefCell<HashMap<Box<str>, AltStats>>,
}

/// Most names of `x-envoy-upstream-alt-stat-name` that a cluster counts by; further ones share a name.
const MOST_ALT_NAMES: usize = 256;

/// A host on this thread.
pub struct LocalHost {
    /// The host all threads share.
    pub host: Arc<Host>,
    /// This thread's connections to it.
    pub pool: HostPool,
    /// Between our zone and its; made with the first request when both are known.
    pub zone: OnceCell<ZoneStats>,
}

impl Cluster {
    fn new(plan: Arc<ClusterPlan>) -> Rc<Cluster> {
        Rc::new(Cluster {
            plan,
            hosts: RefCell::new(HostList::new(vec![])),
            parts: RefCell::default(),
            http1: OnceCell::new(),
            http2: OnceCell::new(),
            retry: OnceCell::new(),
            alt: RefCell::default(),
        })
    }
    /// Replaces the hosts; those that stay keep their pools, the others' idle connections are closed.
    pub fn set_hosts(self: &Rc<Self>, set: &HostSet) {
        let old = std::mem::take(&mut self.hosts.borrow_mut().hosts);
        let mut by_host: HashMap<*const Host, Rc<LocalHost>> =
            old.into_iter().map(|h| (Arc::as_ptr(&h.host), h)).collect();
        let new = set.hosts.iter().map(|h| {
            by_host.remove(&Arc::as_ptr(h)).unwrap_or_else(|| {
                let pool = HostPool::new(self.clone(), h.clone());
                Rc::new(LocalHost { host: h.clone(), pool, zone: OnceCell::new() })
            })
        });
        let new: Vec<_> = new.collect();
        *self.parts.borrow_mut() = Parts::of(&new, &self.plan.panic);
        *self.hosts.borrow_mut() = HostList::new(new);
        for gone in by_host.into_values() {
            gone.pool.drain();
        }
    }
    /// The health of some hosts has changed.
    pub fn refresh(&self) {
        *self.parts.borrow_mut() = Parts::of(&self.hosts.borrow().hosts, &self.plan.panic);
    }
    /// A host has failed: its connections end with the requests they carry.
    pub fn failed(&self, host: *const Host) {
        let hosts = self.hosts.borrow();
        let Some(h) = hosts.hosts.iter().find(|h| Arc::as_ptr(&h.host) == host) else { return };
        h.pool.drain_existing();
    }
    /// Chooses a host; `None` when there is none.
    pub fn choose(&self) -> Option<Rc<LocalHost>> {
        let (all, parts) = (self.hosts.borrow(), self.parts.borrow());
        let list = match &*parts {
            None => &all,
            Some(p) => p.choose().unwrap_or_else(|| {
                self.plan.stats.lb_healthy_panic().inc();
                &all
            }),
        };
        list.choose(self.plan.lb).cloned()
    }
    /// The codec's stats, made with the first connection as in Envoy.
    pub fn http1_stats(&self) -> &Http1Stats {
        self.http1.get_or_init(|| Http1Stats::new(&self.plan.scope.scope("http1")))
    }
    /// The codec's stats, made with the first connection as in Envoy.
    pub fn http2_stats(&self) -> &Http2Stats {
        self.http2.get_or_init(|| Http2Stats::new(&self.plan.scope.scope("http2")))
    }
    /// Responses that were retried.
    pub fn retry_stats(&self) -> &RetryStats {
        self.retry.get_or_init(|| RetryStats::new(&self.plan.scope.scope("retry")))
    }
    /// As [`choose`](Self::choose), and chooses again, up to `attempts` times, while `rejects` says so.
    pub fn choose_unless(
        &self,
        rejects: impl Fn(&LocalHost) -> bool,
        attempts: u32,
    ) -> Option<Rc<LocalHost>> {
        let mut host = self.choose()?;
        for _ in 0..attempts {
            if !rejects(&host) {
                break;
            }
            host = self.choose()?;
        }
        Some(host)
    }
    /// Stats under a name that a request asks for.
    pub fn alt_stats(&self, name: &str) -> AltStats {
        let mut known = self.alt.borrow_mut();
        let name = match known.contains_key(name) || known.len() < MOST_ALT_NAMES {
            true => name,
            false => OVERFLOW,
        };
        let make = || AltStats::new(&self.plan.scope.scope(&sanitize(name)));
        known.entry(name.into()).or_insert_with(make).clone()
    }
    fn drain(&self) {
        *self.parts.borrow_mut() = Parts::of(&[], &self.plan.panic);
        for h in std::mem::take(&mut self.hosts.borrow_mut().hosts) {
            h.pool.drain();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Perhaps the last one that holds the plan, when requests outlived their cluster: main frees plans.
        worker::retire(self.plan.clone());
    }
}

/// All clusters of this thread.
#[derive(Default)]
pub struct Clusters {
    by_name: RefCell<TrustedMap<Arc<str>, Known>>,
}

/// A cluster of which this thread knows.
enum Known {
    /// Nobody asked for it yet: of ten thousand clusters most are idle on most threads.
    Idle(Arc<ClusterPlan>, Arc<HostSet>),
    InUse(Rc<Cluster>),
}

impl Known {
    fn drain(self) {
        if let Known::InUse(c) = self {
            c.drain();
        }
    }
}

impl Clusters {
    /// This thread's clusters.
    pub fn here() -> Rc<Clusters> {
        worker::local(Clusters::default)
    }
    /// The cluster of a name.
    pub fn get(&self, name: &str) -> Option<Rc<Cluster>> {
        match self.by_name.borrow().get(name)? {
            Known::InUse(c) => return Some(c.clone()),
            Known::Idle(..) => {}
        }
        self.begin(name)
    }
    #[cold]
    fn begin(&self, name: &str) -> Option<Rc<Cluster>> {
        let mut all = self.by_name.borrow_mut();
        let known = all.get_mut(name)?;
        let cluster = match known {
            Known::InUse(c) => return Some(c.clone()),
            Known::Idle(plan, hosts) => {
                let cluster = Cluster::new(plan.clone());
                cluster.set_hosts(hosts);
                cluster
            }
        };
        *known = Known::InUse(cluster.clone());
        Some(cluster)
    }
    /// Makes room for this many more clusters.
    pub fn reserve(&self, more: usize) {
        self.by_name.borrow_mut().reserve(more);
    }
    /// Adds a cluster, or replaces the one of its name (whose connections drain).
    pub fn set(&self, plan: Arc<ClusterPlan>, hosts: Arc<HostSet>) {
        let old = self.by_name.borrow_mut().insert(plan.name.clone(), Known::Idle(plan, hosts));
        if let Some(old) = old {
            old.drain();
        }
    }
    /// Replaces a cluster's hosts.
    pub fn set_hosts(&self, name: &str, hosts: &Arc<HostSet>) {
        let in_use = match self.by_name.borrow_mut().get_mut(name) {
            None => return,
            Some(Known::Idle(_, known)) => return worker::retire(std::mem::replace(known, hosts.clone())),
            Some(Known::InUse(c)) => c.clone(),
        };
        in_use.set_hosts(hosts);
    }
    /// The health of some of a cluster's hosts has changed.
    pub fn refresh(&self, name: &str) {
        self.in_use(name, Cluster::refresh);
    }
    /// Tells a cluster that one of its hosts has failed.
    pub fn failed(&self, name: &str, host: &Arc<Host>) {
        self.in_use(name, |c| c.failed(Arc::as_ptr(host)));
    }
    /// A cluster that nobody here has used has nothing to bring up to date.
    fn in_use(&self, name: &str, f: impl FnOnce(&Cluster)) {
        let found = match self.by_name.borrow().get(name) {
            Some(Known::InUse(c)) => c.clone(),
            _ => return,
        };
        f(&found);
    }
    /// Removes a cluster; its connections drain.
    pub fn remove(&self, name: &str) {
        let old = self.by_name.borrow_mut().remove(name);
        if let Some(old) = old {
            old.drain();
        }
    }
}

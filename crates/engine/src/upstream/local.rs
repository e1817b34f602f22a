//! Clusters on one worker: the plan, the current hosts, the balancer's cursor, and a pool per host.

use super::cluster::ClusterPlan;
use super::host::{Host, HostSet};
use super::lb::LbContext;
use super::lb::config::Policy;
use super::lb::pick::{Picked, Picker, Picking};
use super::pool::HostPool;
use super::transport::TransportOptions;
use crate::stats::{AltStats, Http1Stats, Http2Stats, ReplayStats, RetryStats, ZoneStats};
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
    hosts: RefCell<Hosts>,
    http1: OnceCell<Http1Stats>,
    http2: OnceCell<Http2Stats>,
    retry: OnceCell<RetryStats>,
    replay: OnceCell<ReplayStats>,
    alt: RefCell<HashMap<Box<str>, AltStats>>,
}

/// The hosts as this thread knows them.
#[derive(Default)]
struct Hosts {
    set: Arc<HostSet>,
    picker: Picker,
    /// Those that were chosen since the set was replaced, by their places in it.
    by_place: Vec<Option<Rc<LocalHost>>>,
    /// All that were ever chosen and are still hosts, by their addresses in memory: each keeps its host there.
    known: TrustedMap<usize, Rc<LocalHost>>,
}

/// Most names of `x-envoy-upstream-alt-stat-name` that a cluster counts by; further ones share a name.
const MOST_ALT_NAMES: usize = 256;

/// A host on this thread.
pub struct LocalHost {
    /// The host all threads share.
    pub host: Arc<Host>,
    /// This thread's connections to it.
    pub pool: HostPool,
    /// The same for requests that are kept apart from others.
    others: RefCell<HashMap<PoolKey, Rc<HostPool>>>,
    /// Between our zone and its; made with the first request when both are known.
    pub zone: OnceCell<ZoneStats>,
}

/// What sets a request's connections apart from those of others.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct PoolKey {
    /// What it asks of them.
    pub options: Option<TransportOptions>,
    /// Its priority: 0, or 1 for high.
    pub priority: usize,
    /// The client's connection, when clients share none.
    pub client: Option<u64>,
}

impl PoolKey {
    /// The key of most requests.
    pub fn is_usual(&self) -> bool {
        self.options.is_none() && self.priority == 0 && self.client.is_none()
    }
}

/// So many pools of a host are kept that nobody uses.
const MOST_UNUSED_POOLS: usize = 64;

impl LocalHost {
    /// The connections that are what `options` asks for; `cluster` is the host's.
    pub fn pool_for(&self, key: PoolKey, cluster: &Rc<Cluster>) -> Rc<HostPool> {
        let mut others = self.others.borrow_mut();
        if others.len() >= MOST_UNUSED_POOLS && !others.contains_key(&key) {
            // Clients choose what they ask for.
            others.retain(|_, p| !p.is_empty());
        }
        let new = |k: &PoolKey| {
            Rc::new(HostPool::new(cluster.clone(), self.host.clone(), k.options.clone(), k.priority))
        };
        others.entry(key).or_insert_with_key(new).clone()
    }
    /// Whether `pool`, which is of this host, may be used: it is, or there may be one more in the cluster
    /// (`max_connection_pools`), perhaps in the place of one that nobody needs at the moment.
    pub fn admits(&self, pool: &HostPool, cluster: &Cluster) -> bool {
        if pool.admitted(cluster) {
            return true;
        }
        let gives_way = |p: &HostPool| p.gives_way_to(pool);
        let freed = gives_way(&self.pool) || self.others.borrow().values().any(|p| gives_way(p));
        if freed && pool.admitted(cluster) {
            return true;
        }
        cluster.plan.stats.upstream_cx_pool_overflow().inc();
        false
    }
    fn drain(&self) {
        self.pool.drain();
        self.others.take().values().for_each(|p| p.drain());
    }
    fn drain_existing(&self) {
        self.pool.drain_existing();
        self.others.borrow().values().for_each(|p| p.drain_existing());
    }
}

impl Cluster {
    fn new(plan: Arc<ClusterPlan>) -> Rc<Cluster> {
        Rc::new(Cluster {
            plan,
            hosts: RefCell::default(),
            http1: OnceCell::new(),
            http2: OnceCell::new(),
            retry: OnceCell::new(),
            replay: OnceCell::new(),
            alt: RefCell::default(),
        })
    }
    /// Replaces the hosts; those that stay keep their pools, the others' idle connections are closed.
    pub fn set_hosts(&self, set: &Arc<HostSet>) {
        let (old, gone) = {
            let mut hosts = self.hosts.borrow_mut();
            let gone = set.gone.iter().filter_map(|h| hosts.known.remove(&place(h)));
            let gone: Vec<_> = gone.collect();
            hosts.by_place.clear();
            hosts.picker.changed();
            (std::mem::replace(&mut hosts.set, set.clone()), gone)
        };
        worker::retire(old);
        gone.iter().for_each(|h| h.drain());
        if self.plan.close_on_set_change {
            self.drain_existing();
        }
    }
    /// All connections end with the requests they carry.
    pub fn drain_existing(&self) {
        let known: Vec<_> = self.hosts.borrow().known.values().cloned().collect();
        known.iter().for_each(|h| h.drain_existing());
    }
    /// A host has failed: its connections end with the requests they carry.
    pub fn failed(&self, host: &Arc<Host>) {
        let known = self.hosts.borrow().known.get(&place(host)).cloned();
        known.iter().for_each(|h| h.drain_existing());
    }
    /// The hosts at this moment.
    pub fn host_set(&self) -> Arc<HostSet> {
        self.hosts.borrow().set.clone()
    }
    /// Chooses a host; `None` when there is none.
    pub fn choose(self: &Rc<Self>, cx: &dyn LbContext) -> Option<Rc<LocalHost>> {
        if let Some(wanted) = cx.override_host() {
            let found = self.at(&wanted.address);
            let fit = found.filter(|h| self.plan.override_status.allow(&h.host.health));
            if fit.is_some() || wanted.strict {
                return fit;
            }
        }
        let mut host = self.choose_once(cx, 0, None)?;
        for attempt in 1..=cx.attempts() {
            if !cx.rejects(&host.host) {
                break;
            }
            host = self.choose_once(cx, attempt, None)?;
        }
        Some(host)
    }
    /// The host with this address.
    pub fn at(self: &Rc<Self>, address: &str) -> Option<Rc<LocalHost>> {
        let Hosts { set, by_place, known, .. } = &mut *self.hosts.borrow_mut();
        let at = set.at(address)?;
        self.placed(set, by_place, known, at as usize)
    }
    /// One choice, after so many that were rejected; `force`: from this priority, and its degraded hosts or not.
    pub fn choose_once(
        self: &Rc<Self>,
        cx: &dyn LbContext,
        attempt: u32,
        force: Option<(usize, bool)>,
    ) -> Option<Rc<LocalHost>> {
        if let Policy::Aggregate(a) = &self.plan.lb.policy {
            return a.choose(&self.plan, cx, attempt);
        }
        let Hosts { set, picker, by_place, known } = &mut *self.hosts.borrow_mut();
        let plan = &self.plan;
        let picking = Picking { set, lb: &plan.lb, cx, attempt, plan, force };
        let at = match picker.pick(&picking)? {
            Picked::At(at) => at as usize,
            Picked::Host(h) => return Some(self.known(known, &h)),
        };
        self.placed(set, by_place, known, at)
    }
    /// The host at this place of the set.
    fn placed(
        self: &Rc<Self>,
        set: &HostSet,
        by_place: &mut Vec<Option<Rc<LocalHost>>>,
        known: &mut TrustedMap<usize, Rc<LocalHost>>,
        at: usize,
    ) -> Option<Rc<LocalHost>> {
        if by_place.is_empty() {
            by_place.resize_with(set.hosts.len(), || None);
        }
        let slot = by_place.get_mut(at)?;
        if let Some(h) = slot {
            return Some(h.clone());
        }
        Some(slot.insert(self.known(known, set.hosts.get(at)?)).clone())
    }
    fn known(
        self: &Rc<Self>,
        known: &mut TrustedMap<usize, Rc<LocalHost>>,
        host: &Arc<Host>,
    ) -> Rc<LocalHost> {
        let new = || {
            let pool = HostPool::new(self.clone(), host.clone(), None, 0);
            let others = RefCell::default();
            Rc::new(LocalHost { host: host.clone(), pool, others, zone: OnceCell::new() })
        };
        known.entry(place(host)).or_insert_with(new).clone()
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
    /// Requests that were sent again because their connection had gone: no stat of Envoy's, so there is none before the first.
    pub fn replay_stats(&self) -> &ReplayStats {
        self.replay.get_or_init(|| ReplayStats::new(&self.plan.scope.scope("nuncio")))
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
        let hosts = self.hosts.take();
        hosts.known.values().for_each(|h| h.drain());
        worker::retire(hosts.set);
    }
}

/// What a host is known by, as long as somebody keeps it.
fn place(h: &Arc<Host>) -> usize {
    Arc::as_ptr(h).addr()
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
    /// Tells a cluster that one of its hosts has failed.
    pub fn failed(&self, name: &str, host: &Arc<Host>) {
        self.in_use(name, |c| c.failed(host));
    }
    /// Tells a cluster that the health of a host has changed which ends all its connections.
    pub fn drain_existing(&self, name: &str) {
        self.in_use(name, Cluster::drain_existing);
    }
    /// Tells a cluster that its hosts weigh something else.
    pub fn reweighed(&self, name: &str) {
        self.in_use(name, |c| c.hosts.borrow_mut().picker.reweighed());
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

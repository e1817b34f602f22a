//! Clusters on main: built from configuration, kept up to date by DNS ([`resolve`](super::resolve)), published to the workers.
//!
//! A cluster that is added or changed while the server runs is *warming* until it has its first hosts, or knows that it
//! has none; only then it takes the place of the one of its name, whose connections drain: requests under way end on
//! them.
//!
//! [`entry`] is one of them, [`warming`] its way into use, [`hosts`] what becomes of a change of its hosts.

mod entry;
mod hosts;
mod warming;

pub use entry::ClusterEntry;

use crate::kept::Kept;
use crate::revision::{Change, Done, Revision, unwatched};
use crate::stats::RouterStats;
use crate::upstream::client::Client;
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::config::Built;
use crate::upstream::dns::{DnsStats, Resolver, Servers};
use crate::upstream::health_check::Checks;
use crate::upstream::host::Host;
use crate::upstream::load_reports::LoadReports;
use crate::upstream::local::Clusters;
use crate::upstream::members::Members;
use crate::upstream::outlier::{Detector, OutlierStats};
use crate::upstream::own::OwnClusters;
use crate::upstream::watch::Merge;
use crate::upstream::{config, forward, outlier, transport, watch};
use bytes::Bytes;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::{BuildCx, EventLog};
use nuncio_core::init::Init;
use nuncio_core::runtime::Snapshot;
use nuncio_core::stats::Scope;
use nuncio_core::upstreams::{ClientOptions, DnsCache, HttpClient};
use nuncio_core::worker::Workers;
use nuncio_core::{log, stats};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::Notify;

stats! {
    /// `cluster_manager.`
    pub struct ClusterManagerStats {
        cluster_added: SharedCounter,
        cluster_modified: SharedCounter,
        cluster_removed: SharedCounter,
        cluster_updated: SharedCounter,
        cluster_updated_via_merge: SharedCounter,
        update_merge_cancelled: SharedCounter,
        update_out_of_merge_window: SharedCounter,
        active_clusters: SetGauge,
        warming_clusters: SetGauge,
    }
}

/// All clusters.
#[derive(Clone)]
pub struct ClusterManager(Rc<Inner>);

/// [`ClusterManager`], as long as there is one.
#[derive(Clone)]
pub(super) struct WeakManager(Weak<Inner>);

impl WeakManager {
    pub(super) fn upgrade(&self) -> Option<ClusterManager> {
        self.0.upgrade().map(ClusterManager)
    }
}

type ByName = BTreeMap<String, Rc<ClusterEntry>>;
/// Learns a number.
type Counted = Box<dyn Fn(usize)>;
/// Learns a name.
type Added = Rc<dyn Fn(&str)>;

struct Inner {
    clusters: RefCell<ByName>,
    /// Those that wait for their first hosts while the server runs.
    warming: RefCell<ByName>,
    /// This thread uses the clusters; not so when a configuration is only tried out.
    here: Cell<bool>,
    /// The first clusters are initialized: from now on changes are warmed.
    running: Cell<bool>,
    /// Learns how many clusters there are.
    counted: RefCell<Option<Counted>>,
    /// Learns which clusters are put to use.
    added: RefCell<Option<Added>>,
    workers: RefCell<Option<Rc<Workers>>>,
    /// `cluster_manager.local_cluster_name`: the cluster this proxy belongs to.
    local: RefCell<Option<String>>,
    /// Workers, and main.
    threads: Cell<u64>,
    /// Of clusters that name none.
    servers: RefCell<Servers>,
    resolvers: RefCell<Vec<(Servers, Rc<Resolver>)>>,
    root: Scope,
    stats: ClusterManagerStats,
    /// Of calls of our own; kept so that they outlive each client.
    calls: OnceCell<RouterStats>,
    changed: Notify,
    /// `cluster_manager.outlier_detection.event_log_path`
    outlier_log: RefCell<Option<EventLog>>,
    /// The runtime says something of a cluster.
    by_runtime: Cell<bool>,
    /// Those that only the client knows they were made for.
    own: OnceCell<OwnClusters>,
}

impl ClusterManager {
    /// No clusters yet.
    pub fn new(root: &Scope) -> ClusterManager {
        ClusterManager(Rc::new(Inner {
            clusters: RefCell::default(),
            warming: RefCell::default(),
            here: Cell::new(false),
            running: Cell::new(false),
            counted: RefCell::default(),
            added: RefCell::default(),
            workers: RefCell::default(),
            local: RefCell::default(),
            threads: Cell::new(1),
            servers: RefCell::default(),
            resolvers: RefCell::default(),
            root: root.clone(),
            stats: ClusterManagerStats::new(&root.scope("cluster_manager")),
            calls: OnceCell::new(),
            changed: Notify::new(),
            outlier_log: RefCell::default(),
            by_runtime: Cell::new(true),
            own: OnceCell::new(),
        }))
    }
    /// Sets the resolver of clusters that name none (`Bootstrap.typed_dns_resolver_config`); before any is added.
    ///
    /// # Errors
    /// A resolver that is not built.
    pub fn set_resolver(&self, any: &prost_types::Any) -> BuildResult<()> {
        *self.0.servers.borrow_mut() = Servers::new(any)?;
        Ok(())
    }
    /// Sets where ejections are logged (`cluster_manager.outlier_detection.event_log_path`); before any cluster is added.
    pub fn set_outlier_log(&self, log: EventLog) {
        *self.0.outlier_log.borrow_mut() = Some(log);
    }
    pub(super) fn downgrade(&self) -> WeakManager {
        WeakManager(Rc::downgrade(&self.0))
    }
    /// Names the cluster this proxy belongs to (`local_cluster_name`), before any cluster is added: localities count.
    pub fn set_local(&self, name: &str) {
        *self.0.local.borrow_mut() = Some(name.to_owned()).filter(|n| !n.is_empty());
    }
    /// Says how many workers there will be: what is counted on each of them is counted here.
    pub fn set_workers(&self, n: usize) {
        self.0.threads.set(n as u64 + 1);
    }
    /// Adds a cluster from the bootstrap.
    ///
    /// # Errors
    /// The configuration is refused, or the name is taken.
    pub fn add(&self, c: &pb::Cluster, cx: &BuildCx<'_>) -> BuildResult<()> {
        if self.has(&c.name) {
            return Err(BuildError(format!("cluster manager: duplicate cluster '{}'", c.name)));
        }
        self.set(c, Revision::fixed(), cx, unwatched()).map(drop)
    }
    /// Adds a cluster from the bootstrap, from its message's bytes, which are kept.
    ///
    /// # Errors
    /// As of [`add`](Self::add).
    pub fn add_encoded(&self, bytes: Bytes, cx: &BuildCx<'_>) -> BuildResult<()> {
        let (config, c) = Kept::<pb::Cluster>::encoded(bytes)?;
        if self.has(&c.name) {
            return Err(BuildError(format!("cluster manager: duplicate cluster '{}'", c.name)));
        }
        self.set_kept(&c, Some(config), Revision::fixed(), cx, unwatched()).map(drop)
    }
    /// Adds a cluster, or changes the one of its name. `done` runs when it is warm and all workers have it.
    ///
    /// # Errors
    /// The configuration is refused; what there was stays.
    pub fn set(
        &self,
        c: &pb::Cluster,
        revision: Revision,
        cx: &BuildCx<'_>,
        done: Done,
    ) -> BuildResult<Change> {
        self.set_kept(c, None, revision, cx, done)
    }
    /// As [`set`](Self::set), from the message's bytes, which are kept.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_encoded(
        &self,
        bytes: Bytes,
        revision: Revision,
        cx: &BuildCx<'_>,
        done: Done,
    ) -> BuildResult<Change> {
        let (config, c) = Kept::<pb::Cluster>::encoded(bytes)?;
        self.set_kept(&c, Some(config), revision, cx, done)
    }
    fn set_kept(
        &self,
        c: &pb::Cluster,
        config: Option<Kept<pb::Cluster>>,
        revision: Revision,
        cx: &BuildCx<'_>,
        done: Done,
    ) -> BuildResult<Change> {
        let there = self.warming(&c.name).or_else(|| self.get(&c.name));
        let current = |e: &ClusterEntry| {
            let find = |name: &str| cx.server.secret(name);
            revision.version.is_some() || e.fingerprint == transport::fingerprint_of(c, &find)
        };
        if let Some(e) = there.as_ref().filter(|e| e.config.same(c) && current(e)) {
            config.into_iter().for_each(|newer| e.config.renew(newer));
            done();
            return Ok(Change::Same);
        }
        let init = Init::default();
        let waiting = BuildCx { init: &init, ..*cx };
        let built = config::build(c, revision.version.is_some(), &waiting).inspect_err(|_| {
            // Envoy counts those of a control plane before it builds them.
            match (&there, &revision.version) {
                (_, None) => {}
                (Some(_), _) => self.0.stats.cluster_modified().inc(),
                (None, _) => self.0.stats.cluster_added().inc(),
            }
        });
        let Built { plan, discovery, endpoints, mut dns, outlier, health, eds, forward } = built?;
        if c.typed_dns_resolver_config.is_none() && dns.servers == Servers::default() {
            dns.servers = self.0.servers.borrow().clone();
        }
        let entry = Rc::new(ClusterEntry {
            members: Arc::new(Members::new(plan.breakers.clone())),
            dns,
            revision,
            config: config.unwrap_or_else(|| Kept::new(c)),
            fingerprint: transport::fingerprint_of(c, &|name| cx.server.secret(name)),
            endpoints: RefCell::new(endpoints),
            discovery,
            eds,
            forward,
            subscription: RefCell::default(),
            begun: Cell::new(false),
            init,
            initialized: Cell::new(false),
            tasks: RefCell::default(),
            done: RefCell::new(Some(done)),
            detector: outlier.map(|config| self.detector(&plan, *config)),
            checker: (!health.is_empty()).then(|| Rc::new(Checks::new(&plan, health))),
            reports: LoadReports::new(&plan),
            found: Cell::new(false),
            unchecked: Cell::new(0),
            merge: Merge::default(),
            plan,
        });
        // Without hosts it has a set too: one that panics.
        entry.members.set(self.host_set(&entry, vec![], None).into());
        let change = match there {
            Some(_) => {
                self.0.stats.cluster_modified().inc();
                Change::Modified
            }
            None => {
                self.0.stats.cluster_added().inc();
                Change::Added
            }
        };
        if self.0.running.get() {
            log!(Upstream, Debug, "add/update cluster {} starting warming", c.name);
            let old = self.0.warming.borrow_mut().insert(c.name.clone(), entry.clone());
            old.iter().for_each(Self::ends);
            self.count();
            match self.get(&c.name) {
                Some(active) => active.members.set_initialized(false),
                None => entry.plan.stats.group().derive(entry.members.clone()),
            }
            self.begin(&entry);
        } else {
            self.activate(&entry);
        }
        Ok(change)
    }
    /// Removes a cluster, warming or not: requests to it are answered with 503 from now on, those under way end well.
    /// `done` runs when no worker knows it any more. False when there is none of this name.
    pub fn remove(&self, name: &str, done: Done) -> bool {
        let warming = self.0.warming.borrow_mut().remove(name);
        let active = self.0.clusters.borrow_mut().remove(name);
        if warming.is_none() && active.is_none() {
            return false;
        }
        log!(Upstream, Debug, "removing cluster {name}");
        warming.iter().chain(&active).for_each(Self::ends);
        self.0.stats.cluster_removed().inc();
        self.count();
        self.0.changed.notify_one();
        match active {
            Some(old) => {
                let name = old.plan.name.clone();
                self.on_all(move |here| here.remove(&name), old.plan.clone(), done);
            }
            None => done(),
        }
        true
    }
    /// A client for calls of the proxy's own, which go through the cluster of this name.
    ///
    /// # Errors
    /// The retry policy is refused.
    pub fn http_client(&self, o: &ClientOptions<'_>, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        let scope = self.0.root.scope("http").scope("async-client");
        self.0.calls.get_or_init(|| RouterStats::new(&scope));
        Ok(Arc::new(Client::new(o, &scope, cx)?))
    }
    /// A client for a cluster that nobody else sees; it goes with its last client.
    ///
    /// # Errors
    /// The cluster is refused.
    pub fn own_client(&self, cluster: pb::Cluster, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        let own = self.0.own.get_or_init(|| {
            let own = OwnClusters::new();
            *own.manager.0.servers.borrow_mut() = self.0.servers.borrow().clone();
            own.manager.0.threads.set(self.0.threads.get());
            own.manager.0.here.set(self.0.here.get());
            *own.manager.0.workers.borrow_mut() = self.0.workers.borrow().clone();
            own
        });
        own.client(cluster, cx)
    }
    /// Finds the hosts of clusters that were added since, unless a configuration is only tried out.
    pub(super) fn begin_those_here(&self) {
        if self.0.here.get() {
            self.list().iter().for_each(|c| self.begin(c));
        }
    }
    /// Tells the clusters of a change of the runtime.
    pub fn runtime_changed(&self, s: &Snapshot) {
        let said = ClusterPlan::RUNTIME_PREFIXES.iter().any(|p| s.has_prefix(p));
        // Once more after the last key is gone.
        if said | self.0.by_runtime.replace(said) {
            let (active, warming) = (self.0.clusters.borrow(), self.0.warming.borrow());
            active.values().chain(warming.values()).for_each(|c| c.plan.apply_runtime(s));
        }
    }
    /// The cache of names of this configuration.
    ///
    /// # Errors
    /// Another configuration has its name, or it is refused.
    pub fn dns_cache(&self, c: &DnsCacheConfig, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DnsCache>> {
        let resolver = |o: &forward::config::Options| match &o.servers {
            Some(own) => self.resolver(own),
            None => self.resolver(&self.0.servers.borrow().clone()),
        };
        forward::cache::get(self, c, resolver, &cx.scope.store().root())
    }
    /// True when there is a cluster of this name, warming or not.
    pub fn has(&self, name: &str) -> bool {
        self.0.clusters.borrow().contains_key(name) || self.0.warming.borrow().contains_key(name)
    }
    /// True when there is a cluster of this name that no control plane has brought.
    pub fn is_fixed(&self, name: &str) -> bool {
        let there = self.warming(name).or_else(|| self.get(name));
        there.is_some_and(|c| c.revision.version.is_none())
    }
    /// Every active cluster, sorted by name.
    pub fn list(&self) -> Vec<Rc<ClusterEntry>> {
        self.0.clusters.borrow().values().cloned().collect()
    }
    /// Every cluster that is warming, sorted by name.
    pub fn list_warming(&self) -> Vec<Rc<ClusterEntry>> {
        self.0.warming.borrow().values().cloned().collect()
    }
    /// Tells `f` how many clusters there are, now and at every change.
    pub fn follow_count(&self, f: impl Fn(usize) + 'static) {
        f(self.0.clusters.borrow().len());
        *self.0.counted.borrow_mut() = Some(Box::new(f));
    }
    /// Tells `f` the name of each cluster that is put to use while the server runs.
    pub fn follow_added(&self, f: impl Fn(&str) + 'static) {
        *self.0.added.borrow_mut() = Some(Rc::new(f));
    }
    /// True when there is a cluster of this name that is not warming.
    pub fn is_up(&self, name: &str) -> bool {
        self.0.clusters.borrow().contains_key(name)
    }
    /// Runs `done` on main when all workers have the clusters as they are now.
    pub fn settled(&self, done: Done) {
        self.on_all(|_| (), (), done);
    }
    /// Gives all clusters to the workers, and from now on every change. Main has them since `initialize`.
    pub fn publish(&self, workers: &Rc<Workers>) {
        if let Some(own) = self.0.own.get() {
            own.manager.publish(workers);
        }
        *self.0.workers.borrow_mut() = Some(workers.clone());
        let entries = self.list();
        let all: Vec<_> = entries.iter().map(|c| (c.plan.clone(), c.hosts())).collect();
        let done: Vec<Done> = entries.iter().filter_map(|c| c.done.take()).collect();
        let tell = move || {
            let here = Clusters::here();
            here.reserve(all.len());
            all.iter().for_each(|(plan, hosts)| here.set(plan.clone(), hosts.clone()));
        };
        workers.run_on_all(move |_| tell(), || done.into_iter().for_each(|d| d()));
    }

    fn get(&self, name: &str) -> Option<Rc<ClusterEntry>> {
        self.0.clusters.borrow().get(name).cloned()
    }
    fn warming(&self, name: &str) -> Option<Rc<ClusterEntry>> {
        self.0.warming.borrow().get(name).cloned()
    }
    fn count(&self) {
        let (active, warming) = (self.0.clusters.borrow().len(), self.0.warming.borrow().len());
        self.0.stats.active_clusters().set(active as u64);
        self.0.stats.warming_clusters().set(warming as u64);
        if let Some(f) = &*self.0.counted.borrow() {
            f(active);
        }
    }
    /// Changes the clusters here and on the workers. `kept` is freed, and `done` runs, when all have done so.
    pub(super) fn on_all(
        &self,
        f: impl Fn(&Clusters) + Send + Sync + 'static,
        kept: impl Send + 'static,
        done: Done,
    ) {
        let workers = self.0.workers.borrow().clone();
        if self.0.here.get() {
            f(&Clusters::here());
        }
        let Some(w) = workers else { return done() };
        w.run_on_all(
            move |_| f(&Clusters::here()),
            move || {
                drop(kept);
                done();
            },
        );
    }
    fn detector(&self, plan: &Arc<ClusterPlan>, config: outlier::Config) -> Box<Detector> {
        let stats = OutlierStats::new(&plan.scope.scope("outlier_detection"));
        let log = self.0.outlier_log.borrow().clone();
        let name = plan.name.clone();
        let tell = move |host: &Arc<Host>, s| watch::tell(name.clone(), host.clone(), s);
        Box::new(Detector::new(plan.name.clone(), config, stats, log, tell))
    }
    /// The resolver that asks these servers.
    fn resolver(&self, servers: &Servers) -> Rc<Resolver> {
        let mut all = self.0.resolvers.borrow_mut();
        if let Some((_, r)) = all.iter().find(|(s, _)| s == servers) {
            return r.clone();
        }
        let stats = DnsStats::new(&self.0.root.scope("dns").scope("cares"));
        let new = Rc::new(Resolver::new(servers, stats));
        all.push((servers.clone(), new.clone()));
        new
    }
    fn is_active(&self, c: &Rc<ClusterEntry>) -> bool {
        self.get(&c.plan.name).is_some_and(|active| Rc::ptr_eq(&active, c))
    }
}

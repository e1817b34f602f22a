//! Clusters on main: built from configuration, kept up to date by DNS ([`super::resolve`]), published to the workers.

use super::cluster::ClusterPlan;
use super::config::{self, Built, Discovery, Endpoint, Target};
use super::dns::{DnsOptions, DnsStats, Resolver, Servers};
use super::host::{Host, HostSet};
use super::local::Clusters;
use super::members::{self, Members};
use super::resolve;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::runtime::Snapshot;
use nuncio_core::stats;
use nuncio_core::stats::Scope;
use nuncio_core::worker::Workers;
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
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

/// A cluster as main knows it.
pub struct ClusterEntry {
    /// The plan.
    pub plan: Arc<ClusterPlan>,
    /// Its hosts.
    pub members: Arc<Members>,
    /// How its names are resolved.
    pub dns: DnsOptions,
    /// Its configuration, encoded: a tenth of what the message takes in memory.
    config: Box<[u8]>,
    /// What is configured, until the hosts are made of it.
    endpoints: RefCell<Vec<Endpoint>>,
    discovery: Discovery,
    initialized: Cell<bool>,
}

impl ClusterEntry {
    /// The hosts at this moment.
    pub fn hosts(&self) -> Arc<HostSet> {
        self.members.hosts()
    }
    /// Its configuration.
    pub fn config(&self) -> pb::Cluster {
        pb::Cluster::decode(&*self.config).unwrap_or_default() // it was encoded here
    }
    /// Hands out what is configured, once.
    pub fn take_endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.take()
    }
}

/// All clusters.
#[derive(Clone)]
pub struct ClusterManager(Rc<Inner>);

struct Inner {
    clusters: RefCell<BTreeMap<String, Rc<ClusterEntry>>>,
    workers: RefCell<Option<Rc<Workers>>>,
    /// Of clusters that name none.
    servers: RefCell<Servers>,
    resolvers: RefCell<Vec<(Servers, Rc<Resolver>)>>,
    root: Scope,
    stats: ClusterManagerStats,
    changed: Notify,
    /// The runtime says something of a cluster.
    by_runtime: Cell<bool>,
}

impl ClusterManager {
    /// No clusters yet.
    pub fn new(root: &Scope) -> ClusterManager {
        ClusterManager(Rc::new(Inner {
            clusters: RefCell::default(),
            workers: RefCell::default(),
            servers: RefCell::default(),
            resolvers: RefCell::default(),
            root: root.clone(),
            stats: ClusterManagerStats::new(&root.scope("cluster_manager")),
            changed: Notify::new(),
            by_runtime: Cell::new(true),
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
    /// Adds a cluster from the bootstrap.
    ///
    /// # Errors
    /// The configuration is refused, or the name is taken.
    pub fn add(&self, c: &pb::Cluster, cx: &BuildCx<'_>) -> BuildResult<()> {
        if self.has(&c.name) {
            return Err(BuildError(format!("cluster manager: duplicate cluster '{}'", c.name)));
        }
        let Built { plan, discovery, endpoints, mut dns } = config::build(c, cx)?;
        if c.typed_dns_resolver_config.is_none() && dns.servers == Servers::default() {
            dns.servers = self.0.servers.borrow().clone();
        }
        let members = Arc::default();
        members::derive(&plan.stats, &members, &plan.breakers);
        let entry = ClusterEntry {
            plan,
            members,
            dns,
            config: c.encode_to_vec().into(),
            endpoints: RefCell::new(endpoints),
            discovery,
            initialized: Cell::new(false),
        };
        self.0.clusters.borrow_mut().insert(c.name.clone(), Rc::new(entry));
        self.0.stats.cluster_added().inc();
        self.0.stats.active_clusters().set(self.0.clusters.borrow().len() as u64);
        Ok(())
    }
    /// Tells the clusters of a change of the runtime.
    pub fn runtime_changed(&self, s: &Snapshot) {
        let said = ClusterPlan::RUNTIME_PREFIXES.iter().any(|p| s.has_prefix(p));
        // Once more after the last key is gone.
        if said | self.0.by_runtime.replace(said) {
            self.0.clusters.borrow().values().for_each(|c| c.plan.apply_runtime(s));
        }
    }
    /// True when there is a cluster of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.clusters.borrow().contains_key(name)
    }
    /// Every cluster, sorted by name.
    pub fn list(&self) -> Vec<Rc<ClusterEntry>> {
        self.0.clusters.borrow().values().cloned().collect()
    }
    /// Finds the first hosts of every cluster, and begins to keep them up to date. Names that do not resolve leave
    /// their cluster empty; they are asked again later.
    pub async fn initialize(&self) {
        for c in self.list() {
            match c.discovery {
                Discovery::Static => self.initialize_static(&c),
                Discovery::Dns => resolve::start(self, &c, &self.resolver(&c.dns.servers)),
            }
        }
        while self.list().iter().any(|c| !c.initialized.get()) {
            self.0.changed.notified().await;
        }
    }
    /// Gives all clusters to the workers, and from now on every change. Main takes part as a worker of its own.
    pub fn publish(&self, workers: &Rc<Workers>) {
        *self.0.workers.borrow_mut() = Some(workers.clone());
        let all: Vec<_> = self.list().iter().map(|c| (c.plan.clone(), c.hosts())).collect();
        let here = Clusters::here();
        all.iter().for_each(|(plan, hosts)| here.set(plan.clone(), hosts));
        workers.run_on_all(
            move |_| {
                let here = Clusters::here();
                all.iter().for_each(|(plan, hosts)| here.set(plan.clone(), hosts));
            },
            || (),
        );
    }

    fn initialize_static(&self, c: &Rc<ClusterEntry>) {
        let endpoints = c.take_endpoints();
        let wanted = endpoints.iter().filter_map(|e| match &e.target {
            Target::Address(a) => Some(e.host(a.clone())),
            Target::Name(..) => None,
        });
        let wanted: Vec<_> = wanted.collect();
        if !wanted.is_empty() {
            // Each host is matched to a transport socket, of which there is one.
            c.plan.stats.default_total_match_count().add(wanted.len() as u64);
            self.set_hosts(c, Host::continued(&[], wanted));
        }
        c.initialized.set(true);
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
    /// A cluster has its first hosts, or knows that it has none.
    pub(super) fn initialized(&self, c: &ClusterEntry) {
        if !c.initialized.replace(true) {
            self.0.changed.notify_one();
        }
    }
    /// Replaces the hosts of a cluster, which have changed, here and on the workers.
    pub(super) fn set_hosts(&self, c: &ClusterEntry, hosts: Vec<Arc<Host>>) {
        let new = Arc::new(HostSet { hosts });
        c.members.set(new.clone());
        c.plan.stats.membership_change().inc();
        if c.initialized.get() {
            self.0.stats.cluster_updated().inc();
        }
        let workers = self.0.workers.borrow().clone();
        if let Some(w) = workers {
            let name = c.plan.name.clone();
            Clusters::here().set_hosts(&name, &new);
            w.run_on_all(move |_| Clusters::here().set_hosts(&name, &new), || ());
        }
    }
}

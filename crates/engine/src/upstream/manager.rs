//! Clusters on main: built from configuration, kept up to date by DNS, published to the workers.

#![expect(clippy::disallowed_types, reason = "only main comes here, and whoever reads its stats")]

use super::cluster::ClusterPlan;
use super::config::{self, Built, Discovery, Endpoint, Target};
use super::dns::{DnsOptions, Resolver};
use super::host::HostSet;
use super::local::Clusters;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::stats;
use nuncio_core::stats::Scope;
use nuncio_core::worker::Workers;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
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
    /// Its configuration.
    pub config: pb::Cluster,
    hosts: Arc<RwLock<Arc<HostSet>>>,
    endpoints: Vec<Endpoint>,
    discovery: Discovery,
    dns: DnsOptions,
    initialized: Cell<bool>,
}

impl ClusterEntry {
    /// The hosts at this moment.
    pub fn hosts(&self) -> Arc<HostSet> {
        // A poisoned lock still guards a whole `Arc`.
        self.hosts.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// All clusters.
#[derive(Clone)]
pub struct ClusterManager(Rc<Inner>);

struct Inner {
    clusters: RefCell<BTreeMap<String, Rc<ClusterEntry>>>,
    workers: RefCell<Option<Rc<Workers>>>,
    resolver: RefCell<Option<prost_types::Any>>,
    stats: ClusterManagerStats,
    changed: Notify,
}

impl ClusterManager {
    /// No clusters yet.
    pub fn new(root: &Scope) -> ClusterManager {
        ClusterManager(Rc::new(Inner {
            clusters: RefCell::default(),
            workers: RefCell::default(),
            resolver: RefCell::default(),
            stats: ClusterManagerStats::new(&root.scope("cluster_manager")),
            changed: Notify::new(),
        }))
    }
    /// Sets the resolver of clusters that name none (`Bootstrap.typed_dns_resolver_config`); before any is added.
    ///
    /// # Errors
    /// A resolver that is not built.
    pub fn set_resolver(&self, any: &prost_types::Any) -> BuildResult<()> {
        DnsOptions::new(&pb::Cluster::default())?.resolver(any)?;
        *self.0.resolver.borrow_mut() = Some(any.clone());
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
        if let (None, Some(any)) = (&c.typed_dns_resolver_config, &*self.0.resolver.borrow()) {
            dns.resolver(any)?;
        }
        let hosts = Arc::new(RwLock::new(Arc::new(HostSet::default())));
        membership(&plan, &hosts);
        let entry = ClusterEntry {
            plan,
            config: c.clone(),
            hosts,
            endpoints,
            discovery,
            dns,
            initialized: Cell::new(false),
        };
        self.0.clusters.borrow_mut().insert(c.name.clone(), Rc::new(entry));
        self.0.stats.cluster_added().inc();
        self.0.stats.active_clusters().set(self.0.clusters.borrow().len() as u64);
        Ok(())
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
                Discovery::Static => {
                    let wanted = c.endpoints.iter().filter_map(|e| match &e.target {
                        Target::Address(a) => Some(e.host(a.clone())),
                        Target::Name(..) => None,
                    });
                    let wanted: Vec<_> = wanted.collect();
                    if !wanted.is_empty() {
                        self.set_hosts(&c, wanted);
                    }
                    c.initialized.set(true);
                }
                Discovery::StrictDns => drop(tokio::task::spawn_local(refresh(self.clone(), c))),
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

    fn set_hosts(&self, c: &Rc<ClusterEntry>, wanted: Vec<(Arc<nuncio_core::info::HostInfo>, u32)>) {
        // Each host that configuration or DNS names is matched to a transport socket, of which there is one.
        c.plan.stats.default_total_match_count().add(wanted.len() as u64);
        let old = c.hosts();
        let new = old.next(wanted);
        if old.same(&new) {
            c.plan.stats.update_no_rebuild().inc();
            return;
        }
        let new = Arc::new(new);
        *c.hosts.write().unwrap_or_else(|e| e.into_inner()) = new.clone();
        c.plan.stats.membership_change().inc();
        let workers = self.0.workers.borrow().clone();
        if let Some(w) = workers {
            let name = c.plan.name.clone();
            Clusters::here().set_hosts(&name, &new);
            self.0.stats.cluster_updated().inc();
            w.run_on_all(move |_| Clusters::here().set_hosts(&name, &new), || ());
        }
    }
}

/// `membership_*`, computed when somebody reads: an idle cluster costs nothing.
fn membership(plan: &ClusterPlan, hosts: &Arc<RwLock<Arc<HostSet>>>) {
    let count = |f: fn(&HostSet) -> u64| {
        let hosts = hosts.clone();
        move || Some(f(&hosts.read().unwrap_or_else(|e| e.into_inner())))
    };
    let s = &plan.stats;
    s.membership_total().set(count(|h| h.hosts.len() as u64));
    s.membership_healthy().set(count(|h| h.hosts.len() as u64));
    s.membership_degraded().set(|| Some(0));
    s.membership_excluded().set(|| Some(0));
}

/// Counts over all resolvers (`dns.cares.`).
static RESOLUTIONS: AtomicU64 = AtomicU64::new(0);

/// Names resolved since the start.
pub fn resolutions() -> u64 {
    RESOLUTIONS.load(Relaxed)
}

/// Keeps a STRICT_DNS cluster up to date, for ever.
async fn refresh(manager: ClusterManager, c: Rc<ClusterEntry>) {
    let resolver = Resolver::new(c.dns.clone());
    loop {
        let mut wait = c.dns.refresh;
        let found = match &resolver {
            Ok(r) => resolve_all(&c, r).await,
            Err(e) => Err(e.clone()),
        };
        match found {
            Ok((wanted, ttl)) => {
                c.plan.stats.update_success().inc();
                manager.set_hosts(&c, wanted);
                if c.dns.respect_ttl && !ttl.is_zero() {
                    wait = ttl;
                }
            }
            Err(_) => c.plan.stats.update_failure().inc(),
        }
        if !c.initialized.replace(true) {
            manager.0.changed.notify_one();
        }
        // A little jitter, so that many clusters do not ask in step.
        let jitter = nuncio_core::rng::below(1 + wait.as_millis() as u64 / 10);
        clock::sleep(TimerKind::Other, wait + std::time::Duration::from_millis(jitter)).await;
    }
}

type Wanted = (Vec<(Arc<nuncio_core::info::HostInfo>, u32)>, std::time::Duration);

async fn resolve_all(c: &ClusterEntry, r: &Resolver) -> Result<Wanted, String> {
    let (mut wanted, mut ttl) = (vec![], std::time::Duration::MAX);
    let mut seen = BTreeSet::new();
    for e in &c.endpoints {
        let addresses: Vec<Address> = match &e.target {
            Target::Address(a) => vec![a.clone()],
            Target::Name(name, port) => {
                c.plan.stats.update_attempt().inc();
                RESOLUTIONS.fetch_add(1, Relaxed);
                let answer = r.resolve(name).await?;
                if answer.addresses.is_empty() {
                    c.plan.stats.update_empty().inc();
                }
                ttl = ttl.min(answer.ttl);
                // Sorted, so that an answer in another order is no change.
                let mut ips = answer.addresses;
                ips.sort();
                ips.into_iter().map(|ip| SocketAddr::new(ip, *port).into()).collect()
            }
        };
        for a in addresses {
            if seen.insert(a.to_string()) {
                wanted.push(e.host(a));
            }
        }
    }
    Ok((wanted, ttl))
}

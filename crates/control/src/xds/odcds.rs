//! Clusters that are asked for when requests need them (on-demand CDS): of the `on_demand` filter and of TCP proxies.
//!
//! A worker asks main through a [`Handle`]; main asks the control plane once for each cluster, and answers when all workers
//! have it, when the control plane says that there is none, or when the time is over.

use super::Xds;
use super::cds::Cds;
use super::resource::CLUSTER;
use nuncio_api::envoy::config::core::v3::ConfigSource;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::discovery::{
    CountUpdates, Discovery, OnDemand, Removed, Subscribe, Subscriber, SubscriptionStats, Update,
};
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::stats::Scope;
use nuncio_core::upstreams::{FindCluster, Found};
use nuncio_core::{LocalBoxFuture, log, worker};
use nuncio_engine::ClusterManager;
use nuncio_engine::upstream::local::Clusters;
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// So many clusters are asked for, at most: clients may choose their names.
const MOST_CLUSTERS: usize = 65_536;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// What workers hold of a source.
struct Handle {
    id: u64,
}

/// Asks `source` for clusters.
///
/// # Errors
/// Clusters cannot come from there.
pub fn finder(
    source: &ConfigSource,
    xds: &Rc<Xds>,
    clusters: &ClusterManager,
    cx: &BuildCx<'_>,
) -> BuildResult<Arc<dyn FindCluster>> {
    xds.check(source)?;
    xds.check_delta(source, "on-demand CDS")?;
    let handle = Arc::new(Handle { id: NEXT.fetch_add(1, Relaxed) });
    if !cx.validate_only {
        Finders::here().add(handle.id, source, xds, clusters, cx.scope);
    }
    Ok(handle)
}

impl FindCluster for Handle {
    fn is_here(&self, name: &str) -> bool {
        Clusters::here().get(name).is_some()
    }
    fn find(&self, name: &str, limit: Duration) -> LocalBoxFuture<'static, Found> {
        let (answer, answered) = oneshot::channel();
        let (id, name) = (self.id, name.to_owned());
        worker::post_to_main(move || {
            if let Some(all) = worker::existing::<Finders>() {
                all.find(id, name, limit, answer);
            }
        });
        Box::pin(async move { answered.await.unwrap_or(Found::Missing) })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let id = self.id;
        // When the process ends, all that is left is gone already.
        let release = move || worker::existing::<Finders>().iter().for_each(|f| f.release(id));
        match worker::current_index() == worker::MAIN {
            true => release(),
            false => worker::post_to_main(release),
        }
    }
}

/// All sources, and who waits; lives on main.
#[derive(Default)]
struct Finders {
    /// By their configuration.
    all: RefCell<BTreeMap<Vec<u8>, Rc<Finder>>>,
    waiting: RefCell<HashMap<String, Waiting>>,
}

/// Requests that wait for one cluster.
struct Waiting {
    requests: Vec<oneshot::Sender<Found>>,
    timer: AbortHandle,
}

/// Asks one source.
struct Finder {
    me: Weak<Finder>,
    /// Of the handles.
    ids: RefCell<HashSet<u64>>,
    source: ConfigSource,
    xds: Rc<Xds>,
    clusters: ClusterManager,
    cds: Cds,
    scope: Scope,
    stats: Rc<dyn CountUpdates>,
    subscription: RefCell<Option<OnDemand>>,
    asked: RefCell<HashSet<String>>,
    /// Each cluster is a subscription of its own, as Envoy counts.
    aggregated: bool,
    begun: Cell<bool>,
}

impl Finders {
    fn here() -> Rc<Finders> {
        worker::local(Finders::default)
    }
    fn add(
        &self,
        id: u64,
        source: &ConfigSource,
        xds: &Rc<Xds>,
        clusters: &ClusterManager,
        any_scope: &Scope,
    ) {
        clusters.follow_added(|name| {
            if let Some(all) = worker::existing::<Finders>() {
                all.finish(name, Found::Here);
            }
        });
        let mut all = self.all.borrow_mut();
        let finder = all.entry(source.encode_to_vec()).or_insert_with(|| {
            let scope = any_scope.store().root().scope("cluster_manager").scope("odcds");
            Rc::new_cyclic(|me| Finder {
                me: me.clone(),
                ids: RefCell::default(),
                source: source.clone(),
                xds: xds.clone(),
                clusters: clusters.clone(),
                cds: Cds::on_demand(clusters, Rc::downgrade(xds)),
                stats: Rc::new(SubscriptionStats::new(&scope)),
                scope,
                subscription: RefCell::default(),
                asked: RefCell::default(),
                aggregated: Xds::is_ads(source),
                begun: Cell::new(false),
            })
        });
        finder.ids.borrow_mut().insert(id);
    }
    fn release(&self, id: u64) {
        let mut gone = vec![];
        self.all.borrow_mut().retain(|_, f| {
            f.ids.borrow_mut().remove(&id);
            let stays = !f.ids.borrow().is_empty();
            if !stays {
                gone.push(f.clone());
            }
            stays
        });
        drop(gone); // the subscription ends here
    }
    fn find(&self, id: u64, name: String, limit: Duration, answer: oneshot::Sender<Found>) {
        let finder = self.all.borrow().values().find(|f| f.ids.borrow().contains(&id)).cloned();
        let Some(finder) = finder else { return };
        if finder.clusters.is_up(&name) {
            // The worker may not have it yet.
            return finder.clusters.settled(Box::new(move || {
                let _ = answer.send(Found::Here); // who asked may be gone
            }));
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(w) = waiting.get_mut(&name) {
            w.requests.retain(|r| !r.is_closed());
            w.requests.push(answer);
            return;
        }
        let late = name.clone();
        let timer = tokio::task::spawn_local(async move {
            clock::sleep(TimerKind::Other, limit).await;
            log!(Upstream, Debug, "odcds: on-demand discovery for cluster {late} timed out");
            Finders::here().finish(&late, Found::TimedOut);
        });
        waiting.insert(name.clone(), Waiting { requests: vec![answer], timer: timer.abort_handle() });
        drop(waiting);
        finder.ask(&name);
    }
    /// A cluster is there, or is known not to come.
    fn finish(&self, name: &str, found: Found) {
        let Some(w) = self.waiting.borrow_mut().remove(name) else { return };
        w.timer.abort();
        let tell = move || {
            for r in w.requests {
                let _ = r.send(found); // who asked may be gone
            }
        };
        let clusters = self.all.borrow().values().next().map(|f| f.clusters.clone());
        match clusters {
            Some(c) if found == Found::Here => c.settled(Box::new(tell)),
            _ => tell(),
        }
    }
}

impl Finder {
    fn ask(&self, name: &str) {
        {
            let mut asked = self.asked.borrow_mut();
            let full = asked.len() >= MOST_CLUSTERS;
            let known = asked.contains(name);
            if !known && full {
                drop(asked);
                return Finders::here().finish(name, Found::Missing);
            }
            if !known {
                asked.insert(name.to_owned());
            }
            // The first attempt is the subscription's own.
            if self.begun.replace(true) && !(known && self.aggregated) {
                self.stats.attempt();
            }
        }
        let begun = self.subscription.borrow().is_some();
        if !begun {
            let subscriber: Weak<Finder> = self.me.clone();
            let new = self.xds.subscribe_on_demand(Subscribe {
                kind: CLUSTER,
                source: &self.source,
                name: None,
                scope: &self.scope,
                stats: self.stats.clone(),
                subscriber,
            });
            *self.subscription.borrow_mut() = new;
        }
        if let Some(s) = &*self.subscription.borrow() {
            (s.ask)(name);
        }
    }
}

impl Subscriber for Finder {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let result = self.cds.update(u, cx);
        if let Removed::Named(names) = u.removed {
            names.iter().for_each(|name| Finders::here().finish(name, Found::Missing));
        }
        result
    }
    fn give_up(&self) {}
}

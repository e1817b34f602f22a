//! Hosts from a control plane (`type: EDS`): a `ClusterLoadAssignment` names all of them, each time anew.

use super::config::{self, Endpoint, Target};
use super::host::Host;
use super::manager::{ClusterEntry, ClusterManager};
use crate::proto::duration;
use crate::stats::ClusterStats;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::config::core::v3::ConfigSource;
use nuncio_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::discovery::{
    CountUpdates, Discovery, Subscribe, Subscriber, Subscription, Update, now_ms, version_number,
};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::stats;
use nuncio_core::stats::Scope;
use prost::Message;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

stats! {
    /// `cluster.<name>.`, of clusters whose hosts come from a control plane; [`ClusterStats`] has the rest.
    pub struct EdsStats {
        init_fetch_timeout: SharedCounter,
        update_rejected: SharedCounter,
        update_time: SetGauge,
        version: SetGauge,
        version_text: Text,
        update_duration: Histogram(Milliseconds),
    }
}

/// `Cluster.eds_cluster_config`
pub struct EdsPlan {
    /// `service_name`, or else the cluster's name.
    pub service: String,
    /// `service_name`; may be empty.
    pub service_name: String,
    /// `eds_config`
    source: ConfigSource,
    discovery: Rc<dyn Discovery>,
    stats: EdsStats,
}

impl EdsPlan {
    /// Reads it.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: &pb::Cluster, cx: &BuildCx<'_>, scope: &Scope) -> BuildResult<EdsPlan> {
        let eds = c.eds_cluster_config.as_ref();
        let eds = eds.ok_or("cannot create an EDS cluster without an EDS config")?;
        let source = eds.eds_config.as_deref().cloned().unwrap_or_default();
        let discovery = cx.server.discovery();
        let discovery = discovery.ok_or_else(|| BuildError::not_implemented("Cluster.type: EDS"))?;
        discovery.check(&source)?;
        let service = if eds.service_name.is_empty() { &c.name } else { &eds.service_name };
        Ok(EdsPlan {
            service: service.clone(),
            service_name: eds.service_name.clone(),
            source,
            discovery,
            stats: EdsStats::new(scope),
        })
    }
    /// True when a control plane that is reached through clusters must be asked: those come first.
    pub fn is_remote(&self) -> bool {
        use nuncio_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier as S;
        !matches!(self.source.config_source_specifier, Some(S::Path(_) | S::PathConfigSource(_)))
    }
}

/// The subscription of one cluster.
pub struct Eds {
    subscriber: Rc<Assigned>,
    subscription: Subscription,
}

impl Eds {
    /// Asks for the hosts of a cluster, for as long as this lives.
    pub fn start(manager: &ClusterManager, c: &Rc<ClusterEntry>, plan: &EdsPlan) -> Eds {
        let subscriber = Rc::new(Assigned {
            manager: manager.clone(),
            cluster: Rc::downgrade(c),
            service: plan.service.clone(),
            stale: RefCell::default(),
        });
        let weak: Weak<Assigned> = Rc::downgrade(&subscriber);
        let subscription = plan.discovery.subscribe(Subscribe {
            kind: "envoy.config.endpoint.v3.ClusterLoadAssignment",
            source: &plan.source,
            name: Some(&plan.service),
            scope: &c.plan.scope,
            stats: Rc::new(Counted { cluster: c.plan.stats.clone(), eds: plan.stats.clone() }),
            subscriber: weak,
        });
        Eds { subscriber, subscription }
    }
}

impl Drop for Eds {
    fn drop(&mut self) {
        let _held = &self.subscription; // goes with this
        self.subscriber.stale.take().iter().for_each(AbortHandle::abort);
    }
}

/// Takes over assignments.
struct Assigned {
    manager: ClusterManager,
    cluster: Weak<ClusterEntry>,
    service: String,
    /// Waits for `endpoint_stale_after`.
    stale: RefCell<Option<AbortHandle>>,
}

impl Subscriber for Assigned {
    fn update(&self, u: &Update<'_>, _: &BuildCx<'_>) -> BuildResult<()> {
        let Some(c) = self.cluster.upgrade() else { return Ok(()) };
        let Some(r) = u.resources.first() else {
            c.plan.stats.update_empty().inc();
            self.manager.initialized(&c);
            return Ok(());
        };
        let assignment = ClusterLoadAssignment::decode(&*r.bytes)
            .map_err(|e| BuildError(format!("Unable to parse protobuf: {e}")))?;
        if assignment.cluster_name != self.service {
            let (expected, got) = (&self.service, &assignment.cluster_name);
            return Err(format!("Unexpected EDS cluster (expecting {expected}): {got}").into());
        }
        let endpoints = endpoints(&assignment)?;
        let policy = assignment.policy.clone().unwrap_or_default();
        let rules_changed = c.plan.panic.set_policy(Some(&policy));
        self.stale.take().iter().for_each(AbortHandle::abort);
        if let Some(after) = duration(&policy.endpoint_stale_after)?.filter(|d| !d.is_zero()) {
            c.plan.stats.assignment_timeout_received().inc();
            *self.stale.borrow_mut() = Some(expire(&self.manager, &self.cluster, after));
        }
        take(&self.manager, &c, &endpoints, rules_changed);
        self.manager.initialized(&c);
        Ok(())
    }
    fn give_up(&self) {
        if let Some(c) = self.cluster.upgrade() {
            self.manager.initialized(&c);
        }
    }
}

/// Takes all hosts away after a while.
fn expire(manager: &ClusterManager, c: &Weak<ClusterEntry>, after: Duration) -> AbortHandle {
    let (manager, c) = (manager.clone(), c.clone());
    let wait = async move {
        clock::sleep(TimerKind::Other, after).await;
        if let Some(c) = c.upgrade() {
            take(&manager, &c, &[], false);
            c.plan.stats.assignment_stale().inc();
        }
    };
    tokio::task::spawn_local(wait).abort_handle()
}

/// The endpoints of an assignment; of those at one address only the first counts.
fn endpoints(a: &ClusterLoadAssignment) -> BuildResult<Vec<Endpoint>> {
    let mut all = config::endpoints_of(a, config::Discovery::Eds)?;
    let mut seen = HashSet::new();
    all.retain(|e| match &e.target {
        Target::Address(a) => seen.insert(a.to_string()),
        Target::Name(..) => false, // only of names that are resolved
    });
    Ok(all)
}

/// Gives the cluster these hosts; those that stay keep their connections and counters. `rules_changed`: it means something
/// else how fit they are.
fn take(manager: &ClusterManager, c: &Rc<ClusterEntry>, endpoints: &[Endpoint], rules_changed: bool) {
    let wanted = endpoints.iter().filter_map(|e| match &e.target {
        Target::Address(a) => Some(e.host(a.clone())),
        Target::Name(..) => None,
    });
    let wanted: Vec<_> = wanted.collect();
    c.plan.transports.count(&wanted, &c.plan.stats);
    let weight = wanted.iter().map(|w| w.weight).max().unwrap_or(1).max(1);
    c.members.set_max_host_weight(weight);
    let now = c.hosts();
    // What may change while a host stays.
    let said = |h: &Arc<Host>| (h.health.bits(), h.weight(), h.priority(), h.locality_weight());
    let before: Vec<_> = now.hosts.iter().map(said).collect();
    let mut new = Host::continued(&now.hosts, wanted);
    new.sort_by_key(|h| h.priority()); // as sets have them
    let same = new.len() == now.hosts.len() && new.iter().zip(&now.hosts).all(|(n, o)| Arc::ptr_eq(n, o));
    match (same, !rules_changed && new.iter().map(said).eq(before)) {
        (true, true) => c.plan.stats.update_no_rebuild().inc(),
        (true, false) => manager.refresh(c),
        (false, _) => manager.set_hosts(c, new),
    }
}

/// Counts in the cluster's own stats.
struct Counted {
    cluster: ClusterStats,
    eds: EdsStats,
}

impl CountUpdates for Counted {
    fn attempt(&self) {
        self.cluster.update_attempt().inc();
    }
    fn success(&self, version: &str, took: Option<Duration>) {
        self.cluster.update_success().inc();
        self.eds.update_time().set(now_ms());
        self.eds.version().set(version_number(version));
        self.eds.version_text().set(version);
        if let Some(took) = took {
            self.eds.update_duration().record(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
    }
    fn failure(&self) {
        self.cluster.update_failure().inc();
    }
    fn rejected(&self) {
        self.eds.update_rejected().inc();
    }
    fn timed_out(&self) {
        self.eds.init_fetch_timeout().inc();
    }
}

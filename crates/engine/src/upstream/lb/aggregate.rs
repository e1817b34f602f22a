//! `envoy.clusters.aggregate`: the priorities of several clusters, one cluster after the other, stand in for each other as those
//! of one cluster do.

use super::LbContext;
use super::loads::{Fitness, Loads};
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::host::Host;
use crate::upstream::local::{Cluster, Clusters, LocalHost};
use nuncio_api::envoy::extensions::clusters::aggregate::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::rng;
use std::rc::Rc;
use std::sync::Arc;

/// What is read of the message.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.clusters.aggregate.v3.ClusterConfig", &["clusters"])];

/// `ClusterConfig`
#[derive(Debug)]
pub struct Aggregate {
    clusters: Box<[String]>,
}

impl Aggregate {
    /// Of these clusters, the first of which is preferred.
    pub fn new(c: &pb::ClusterConfig) -> Aggregate {
        Aggregate { clusters: c.clusters.clone().into() }
    }
    /// The host for a request: of the cluster and priority whose turn it is. Clusters that do not exist, and priorities
    /// without hosts, have no turns.
    pub fn choose(&self, plan: &ClusterPlan, cx: &dyn LbContext, attempt: u32) -> Option<Rc<LocalHost>> {
        let here = Clusters::here();
        let mut turns: Vec<(Rc<Cluster>, usize)> = vec![];
        let mut fitness: Vec<Fitness> = vec![];
        for cluster in self.clusters.iter().filter_map(|name| here.get(name)) {
            let set = cluster.host_set();
            for (priority, level) in set.levels.iter().enumerate().filter(|(_, l)| !l.all.is_empty()) {
                turns.push((cluster.clone(), priority));
                fitness.push(level.fitness);
            }
        }
        if turns.is_empty() {
            return None;
        }
        // Where a host is that was tried.
        let place = |h: &Arc<Host>| {
            let there = |c: &Cluster| c.host_set().hosts.iter().any(|o| Arc::ptr_eq(o, h));
            turns.iter().position(|(c, priority)| *priority == h.priority() as usize && there(c))
        };
        let again = cx.retry_priority().and_then(|r| r.loads(&fitness, place));
        let loads = again.unwrap_or_else(|| Loads::new(&fitness, plan.panic.threshold.get()));
        let (i, degraded) = loads.choose(rng::u64());
        let (cluster, priority) = turns.get(i)?;
        cluster.choose_once(cx, attempt, Some((*priority, degraded)))
    }
}

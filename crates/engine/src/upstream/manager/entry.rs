//! A cluster as main knows it.

use crate::kept::Kept;
use crate::revision::{Done, Revision};
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::config::{Discovery, Endpoint};
use crate::upstream::dns::DnsOptions;
use crate::upstream::eds::{Eds, EdsPlan};
use crate::upstream::health_check::Checks;
use crate::upstream::host::HostSet;
use crate::upstream::load_reports::LoadReports;
use crate::upstream::members::Members;
use crate::upstream::outlier::Detector;
use crate::upstream::watch::Merge;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::init::Init;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::AbortHandle;
/// A cluster as main knows it.
pub struct ClusterEntry {
    /// The plan.
    pub plan: Arc<ClusterPlan>,
    /// Its hosts.
    pub members: Arc<Members>,
    /// How its names are resolved.
    pub dns: DnsOptions,
    /// Where it came from, and when.
    pub revision: Revision,
    /// Its configuration.
    pub config: Kept<pb::Cluster>,
    /// Of the files and secrets that TLS uses.
    pub(super) fingerprint: u64,
    /// What is configured, until the hosts are made of it.
    pub(super) endpoints: RefCell<Vec<Endpoint>>,
    pub(super) discovery: Discovery,
    /// Which control plane says who its hosts are.
    pub eds: Option<EdsPlan>,
    /// The cache that its hosts come from.
    pub(super) forward: Option<Arc<str>>,
    pub(super) subscription: RefCell<Option<Eds>>,
    pub(super) begun: Cell<bool>,
    /// What it waits for besides its hosts: secrets.
    pub init: Init,
    pub(super) initialized: Cell<bool>,
    /// Keep its hosts up to date.
    pub(super) tasks: RefCell<Vec<AbortHandle>>,
    pub(super) done: RefCell<Option<Done>>,
    /// Outlier detection, when it is configured.
    pub detector: Option<Box<Detector>>,
    /// Active health checks, when they are configured.
    pub checker: Option<Rc<Checks>>,
    /// What its hosts report of their load, when their weights follow from that.
    pub(super) reports: Option<Rc<LoadReports>>,
    /// Its first hosts are found, or it is known that there are none.
    pub(super) found: Cell<bool>,
    /// So many checks are waited for until it is initialized.
    pub(super) unchecked: Cell<usize>,
    /// When the workers last heard of a change of health.
    pub(super) merge: Merge,
}

impl ClusterEntry {
    /// The hosts at this moment.
    pub fn hosts(&self) -> Arc<HostSet> {
        self.members.hosts()
    }
    /// Hands out what is configured, once.
    pub fn take_endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.take()
    }
    /// Notes a task that keeps its hosts up to date: it ends with the cluster.
    pub(in crate::upstream) fn kept_by(&self, task: AbortHandle) {
        self.tasks.borrow_mut().push(task);
    }
    /// Nobody needs its hosts any more.
    pub(super) fn end(&self) {
        self.tasks.take().iter().for_each(AbortHandle::abort);
        if let Some(k) = &self.checker {
            k.end();
        }
        if let Some(r) = &self.reports {
            r.end();
        }
        self.merge.changed_anyhow();
        let ended = self.subscription.take();
        drop(ended); // it may look at this cluster
    }
}

impl Drop for ClusterEntry {
    fn drop(&mut self) {
        self.end();
    }
}

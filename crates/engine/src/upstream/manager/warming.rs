//! From a configuration to a cluster that is used: its first hosts are found and checked, then it takes its place.

use super::{ClusterEntry, ClusterManager};
use crate::revision::unwatched;
use crate::upstream::config::{Discovery, Target};
use crate::upstream::eds::{Eds, EdsPlan};
use crate::upstream::host::Host;
use crate::upstream::local::Clusters;
use crate::upstream::{forward, original, resolve, watch};
use nuncio_core::log;
use std::rc::Rc;

impl ClusterManager {
    /// Finds the first hosts of every cluster, and begins to keep them up to date. Names that do not resolve leave
    /// their cluster empty; they are asked again later. From now on main itself can use the clusters: it asks control
    /// planes while others wait for what these say.
    pub async fn initialize(&self) {
        self.initialize_primary().await;
        self.initialize_secondary().await;
    }
    /// Does so for clusters that need no control plane: some of them lead to it.
    pub async fn initialize_primary(&self) {
        self.0.here.set(true);
        let here = Clusters::here();
        self.list().iter().for_each(|c| here.set(c.plan.clone(), c.hosts()));
        if let Some(own) = self.0.own.get() {
            own.manager.0.here.set(true);
            own.manager.list().iter().for_each(|c| here.set(c.plan.clone(), c.hosts()));
            own.manager.begin_those_here();
        }
        self.initialize_those(|c| !c.eds.as_ref().is_some_and(EdsPlan::is_remote)).await;
    }
    /// Does so for the others, then lets changes be warmed.
    pub async fn initialize_secondary(&self) {
        self.initialize_those(|_| true).await;
        self.0.running.set(true);
    }
    async fn initialize_those(&self, wanted: impl Fn(&ClusterEntry) -> bool) {
        let mut these = self.list();
        these.retain(|c| wanted(c));
        these.iter().for_each(|c| self.begin(c));
        while these.iter().any(|c| !c.initialized.get()) {
            self.0.changed.notified().await;
        }
    }
    /// Waits until no cluster is warming.
    pub async fn warmed(&self) {
        while !self.0.warming.borrow().is_empty() {
            self.0.changed.notified().await;
        }
    }
    /// Finds the first hosts of a cluster, and begins to keep them up to date.
    pub(super) fn begin(&self, c: &Rc<ClusterEntry>) {
        if c.begun.replace(true) {
            return;
        }
        watch::begin(self, c);
        if let Some(r) = &c.reports {
            self.begin_reweighing(c, r.period());
        }
        match (c.discovery, &c.eds) {
            (Discovery::OriginalDst, _) => original::start(self, c),
            (Discovery::Forward, _) => forward::cache::attach(self, c, c.forward.as_deref().unwrap_or("")),
            (Discovery::Dns, _) => {
                resolve::start(self, c, &self.resolver(&c.dns.servers));
                if !c.plan.waits_for_names {
                    self.initialized(c);
                }
            }
            (Discovery::Eds, Some(plan)) => {
                let eds = Eds::start(self, c, plan);
                *c.subscription.borrow_mut() = Some(eds);
            }
            (Discovery::Static | Discovery::Eds, _) => self.initialize_static(c),
        }
    }
    /// Nobody needs a cluster's hosts any more.
    pub(super) fn ends(c: &Rc<ClusterEntry>) {
        c.end();
        watch::forget(c);
    }
    /// Lets a cluster take the place of the one of its name, here and on the workers.
    pub(super) fn activate(&self, c: &Rc<ClusterEntry>) {
        let name = c.plan.name.to_string();
        self.0.warming.borrow_mut().remove(&name);
        // From now on the gauges of this name speak of it.
        c.plan.stats.group().derive(c.members.clone());
        let old = self.0.clusters.borrow_mut().insert(name, c.clone());
        self.count();
        if self.0.workers.borrow().is_none() {
            // `publish` will give it to the workers.
            if self.0.here.get() {
                Clusters::here().set(c.plan.clone(), c.hosts());
            }
            return;
        }
        let (plan, hosts) = (c.plan.clone(), c.hosts());
        let done = c.done.take().unwrap_or_else(unwatched);
        let old = old.inspect(Self::ends).map(|o| o.plan.clone());
        self.on_all(move |here| here.set(plan.clone(), hosts.clone()), old, done);
        let added = self.0.added.borrow().clone();
        if let Some(f) = added {
            f(&c.plan.name);
        }
    }
    fn initialize_static(&self, c: &Rc<ClusterEntry>) {
        let endpoints = c.take_endpoints();
        let wanted = endpoints.iter().filter_map(|e| match &e.target {
            Target::Address(a) => Some(e.host(a.clone())),
            Target::Name(..) => None,
        });
        let wanted: Vec<_> = wanted.collect();
        if !wanted.is_empty() {
            // Each host is matched to a transport socket.
            c.plan.transports.count(&wanted, &c.plan.stats);
            self.set_hosts(c, Host::continued(&[], wanted));
        }
        self.initialized(c);
    }
    /// A cluster has its first hosts, or knows that it has none. It is initialized when all were checked.
    pub(in crate::upstream) fn initialized(&self, c: &Rc<ClusterEntry>) {
        if c.found.replace(true) {
            return;
        }
        c.unchecked.set(c.checker.as_ref().map_or(0, |k| k.len()));
        if c.unchecked.get() == 0 {
            self.finish(c);
        }
    }
    /// A host of a cluster was checked.
    pub(in crate::upstream) fn checked(&self, c: &Rc<ClusterEntry>) {
        let waiting = c.unchecked.get();
        if waiting > 0 {
            c.unchecked.set(waiting - 1);
            if waiting == 1 {
                self.finish(c);
            }
        }
    }
    fn finish(&self, c: &Rc<ClusterEntry>) {
        if !c.init.is_ready() {
            // Held weakly: one that has ended is gone at once.
            let (this, init, c) = (self.clone(), c.init.clone(), Rc::downgrade(c));
            tokio::task::spawn_local(async move {
                init.ready().await;
                c.upgrade().iter().for_each(|c| this.finish(c));
            });
            return;
        }
        if c.initialized.replace(true) {
            return;
        }
        if c.checker.is_some() {
            self.rebuild(c);
        }
        c.members.set_initialized(true);
        if self.warming(&c.plan.name).is_some_and(|w| Rc::ptr_eq(&w, c)) {
            log!(Upstream, Debug, "warming cluster {} complete", c.plan.name);
            self.activate(c);
        }
        self.0.changed.notify_one();
    }
}

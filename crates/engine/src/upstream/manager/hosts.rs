//! What becomes of a change of a cluster's hosts, or of their health: a set of that cluster alone, which workers swap in.

use super::{ClusterEntry, ClusterManager};
use crate::revision::unwatched;
use crate::upstream::config::Discovery;
use crate::upstream::host::{Host, HostSet};
use crate::upstream::lb::client_side;
use crate::upstream::lb::set::Making;
use crate::upstream::watch::{self, Next};
use nuncio_core::clock::{self, TimerKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

impl ClusterManager {
    /// The health of a host has changed: its cluster counts anew, and the workers hear of it, perhaps with the next changes
    /// (`update_merge_window`). That a host has failed they hear at once: connections to it are not used again.
    pub(in crate::upstream) fn health_changed(&self, c: &Rc<ClusterEntry>, host: &Arc<Host>, failed: bool) {
        if !c.initialized.get() {
            return; // all will be looked at when it is
        }
        c.members.recount();
        if !self.is_active(c) {
            return;
        }
        if failed {
            let (name, host) = (c.plan.name.clone(), host.clone());
            self.on_all(move |here| here.failed(&name, &host), (), unwatched());
        }
        if c.plan.close_on_set_change {
            let name = c.plan.name.clone();
            self.on_all(move |here| here.drain_existing(&name), (), unwatched());
        }
        match c.merge.next(c.plan.merge_window) {
            Next::Now { out_of_window } => {
                if out_of_window {
                    self.0.stats.update_out_of_merge_window().inc();
                }
                self.refresh(c);
            }
            Next::Later(wait) => {
                let (manager, weak) = (self.downgrade(), Rc::downgrade(c));
                let task = tokio::task::spawn_local(async move {
                    clock::sleep(TimerKind::Other, wait).await;
                    let (Some(manager), Some(c)) = (manager.upgrade(), weak.upgrade()) else { return };
                    c.merge.merged();
                    manager.0.stats.cluster_updated_via_merge().inc();
                    manager.refresh(&c);
                });
                c.merge.waits(task.abort_handle());
            }
            Next::Waiting => {}
        }
    }
    pub(in crate::upstream) fn refresh(&self, c: &Rc<ClusterEntry>) {
        self.0.stats.cluster_updated().inc();
        self.rebuild(c);
    }
    /// What hosts report becomes their weight, again and again.
    pub(super) fn begin_reweighing(&self, c: &Rc<ClusterEntry>, period: Duration) {
        let (manager, weak) = (self.downgrade(), Rc::downgrade(c));
        let task = tokio::task::spawn_local(async move {
            loop {
                clock::sleep(TimerKind::Other, period).await;
                let (Some(manager), Some(c)) = (manager.upgrade(), weak.upgrade()) else { return };
                if client_side::reweigh(&c.hosts().hosts) && manager.is_active(&c) {
                    let name = c.plan.name.clone();
                    manager.on_all(move |here| here.reweighed(&name), (), unwatched());
                }
            }
        });
        c.kept_by(task.abort_handle());
    }
    /// The set of these hosts, after the present one of the cluster.
    pub(super) fn host_set(
        &self,
        c: &ClusterEntry,
        hosts: Vec<Arc<Host>>,
        local: Option<&HostSet>,
    ) -> HostSet {
        let making = Making {
            lb: &c.plan.lb,
            panic: &c.plan.panic,
            stats: &c.plan.stats,
            local,
            zones: self.0.local.borrow().is_some(),
            threads: self.0.threads.get(),
        };
        HostSet::new(hosts, &c.hosts(), &making)
    }
    /// The hosts of the cluster this proxy belongs to, unless that is `c`.
    fn local_hosts(&self, c: &ClusterEntry) -> Option<Arc<HostSet>> {
        let name = self.0.local.borrow();
        let local = name.as_deref().filter(|n| **n != *c.plan.name).and_then(|n| self.get(n))?;
        Some(local.hosts())
    }
    /// Replaces the hosts of a cluster, which have changed, here and on the workers.
    pub(in crate::upstream) fn set_hosts(&self, c: &Rc<ClusterEntry>, hosts: Vec<Arc<Host>>) {
        let mut hosts = watch::with_those_that_stay(c, hosts);
        if let Some(r) = &c.reports {
            hosts.sort_by_key(|h| h.priority());
            r.set_hosts(&hosts);
            // Those that are configured keep their weights until the next time.
            if c.discovery != Discovery::Static {
                client_side::reweigh(&hosts);
            }
        }
        if let Some(k) = &c.checker {
            k.set_hosts(&hosts, c.plan.warm_hosts && c.discovery != Discovery::Static, c.dns.logical);
        }
        if let Some(d) = &c.detector {
            d.set_hosts(&hosts);
        }
        let local = self.local_hosts(c);
        let new = Arc::new(self.host_set(c, hosts, local.as_deref()));
        let changes = new.changed_levels(&c.hosts());
        c.members.set(new.clone());
        c.plan.stats.membership_change().add(changes);
        if c.initialized.get() {
            self.0.stats.cluster_updated().add(changes);
            if c.merge.changed_anyhow() {
                self.0.stats.update_merge_cancelled().inc();
            }
        }
        // The workers hear nothing of a cluster that is warming, or that has ended.
        if self.is_active(c) {
            self.publish_hosts(c, new);
            let local = self.0.local.borrow().as_deref() == Some(&*c.plan.name);
            if local {
                // How others spread their requests over localities depends on who sends them.
                self.list()
                    .iter()
                    .filter(|o| !Rc::ptr_eq(o, c) && o.initialized.get())
                    .for_each(|o| self.rebuild(o));
            }
        }
    }
    /// Makes the set of a cluster's hosts anew: something about them has changed, but not who they are.
    pub(in crate::upstream) fn rebuild(&self, c: &Rc<ClusterEntry>) {
        let local = self.local_hosts(c);
        let new = Arc::new(self.host_set(c, c.hosts().hosts.clone(), local.as_deref()));
        c.members.set(new.clone());
        if self.is_active(c) {
            self.publish_hosts(c, new);
        }
    }
    fn publish_hosts(&self, c: &ClusterEntry, new: Arc<HostSet>) {
        let name = c.plan.name.clone();
        self.on_all(move |here| here.set_hosts(&name, &new), (), unwatched());
    }
}

//! The hosts of an `ORIGINAL_DST` cluster, on main: those that workers made are added for all, and those that nobody uses
//! are taken away.

use super::host::Host;
use super::lb::config::Policy;
use super::lb::original_dst::MOST_HOSTS;
use super::manager::{ClusterEntry, ClusterManager, WeakManager};
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::worker;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// The clusters of the type, by name: workers cannot hold on to what lives on main.
#[derive(Default)]
struct Known(RefCell<HashMap<Arc<str>, Place>>);

/// A cluster and its manager, as long as they live.
type Place = (WeakManager, Weak<ClusterEntry>);

/// Begins to keep the hosts of a cluster, for as long as it lives. It has none at first.
pub fn start(manager: &ClusterManager, c: &Rc<ClusterEntry>) {
    let Policy::OriginalDst(config) = &c.plan.lb.policy else { return manager.initialized(c) };
    let interval = config.cleanup;
    let (weak_manager, weak) = (manager.downgrade(), Rc::downgrade(c));
    let known = worker::local(Known::default);
    known.0.borrow_mut().retain(|_, (_, c)| c.strong_count() > 0);
    known.0.borrow_mut().insert(c.plan.name.clone(), (weak_manager.clone(), weak.clone()));
    let task = tokio::task::spawn_local(async move {
        loop {
            clock::sleep(TimerKind::Other, interval).await;
            let (Some(manager), Some(c)) = (weak_manager.upgrade(), weak.upgrade()) else { return };
            cleanup(&manager, &c);
        }
    });
    c.kept_by(task.abort_handle());
    manager.initialized(c);
}

/// On a worker: a request goes to a host that the cluster does not have yet.
pub fn add_host(cluster: Arc<str>, host: Arc<Host>) {
    worker::post_to_main(move || {
        let known = worker::local(Known::default);
        let entry = known.0.borrow().get(&cluster).cloned();
        let Some((manager, c)) = entry.and_then(|(m, c)| Some((m.upgrade()?, c.upgrade()?))) else { return };
        let mut hosts = c.hosts().hosts.clone();
        // Two workers may have made one of the same address: both stay, since both may have connections.
        if hosts.len() < MOST_HOSTS {
            hosts.push(host);
            manager.set_hosts(&c, hosts);
        }
    });
}

/// Takes away the hosts that nobody has chosen since the last time, and that have no connections. Those of one address
/// stay or go together.
fn cleanup(manager: &ClusterManager, c: &Rc<ClusterEntry>) {
    let all = c.hosts();
    let mut used: HashMap<&str, bool> = HashMap::new();
    for h in &all.hosts {
        *used.entry(&*h.info.address_text).or_default() |= h.take_used();
    }
    let stays = |h: &&Arc<Host>| used.get(&*h.info.address_text) == Some(&true);
    let keep: Vec<_> = all.hosts.iter().filter(stays).cloned().collect();
    if keep.len() < all.hosts.len() {
        manager.set_hosts(c, keep);
    }
}

//! Listeners on main.

use super::config::ListenerPlan;
use super::socket::{self, Bound};
use super::worker::LocalListeners;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::stats::Scope;
use nuncio_core::worker::Workers;
use nuncio_core::{log, stats};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

stats! {
    /// `listener_manager.`
    pub struct ListenerManagerStats {
        listener_added: SharedCounter,
        listener_create_failure: SharedCounter,
        listener_create_success: SharedCounter,
        listener_in_place_updated: SharedCounter,
        listener_modified: SharedCounter,
        listener_removed: SharedCounter,
        listener_stopped: SharedCounter,
        total_filter_chains_draining: SetGauge,
        total_listeners_active: SetGauge,
        total_listeners_draining: SetGauge,
        total_listeners_warming: SetGauge,
        workers_pinned: SetGauge,
        workers_started: SetGauge,
    }
}

/// A listener as main knows it.
pub struct ListenerEntry {
    /// The plan.
    pub plan: Arc<ListenerPlan>,
    /// Its configuration.
    pub config: pb::Listener,
    /// Where it listens; port 0 has become a real port.
    pub address: RefCell<Address>,
    sockets: RefCell<Vec<Bound>>,
}

/// All listeners.
#[derive(Clone)]
pub struct ListenerManager(Rc<Inner>);

struct Inner {
    listeners: RefCell<Vec<Rc<ListenerEntry>>>,
    stats: ListenerManagerStats,
    workers: RefCell<Option<Rc<Workers>>>,
}

/// True when two listeners would share a port or path by mistake; port 0 becomes another port for each.
fn same_port(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Ip(a), Address::Ip(b)) => a == b && a.port() != 0,
        _ => a == b,
    }
}

impl ListenerManager {
    /// No listeners yet.
    pub fn new(root: &Scope) -> ListenerManager {
        ListenerManager(Rc::new(Inner {
            listeners: RefCell::default(),
            stats: ListenerManagerStats::new(&root.scope("listener_manager")),
            workers: RefCell::default(),
        }))
    }
    /// Adds a listener and binds its sockets, unless the configuration is only to be validated.
    ///
    /// # Errors
    /// The configuration is refused, or an address cannot be bound.
    pub fn add(&self, c: &pb::Listener, workers: usize, cx: &BuildCx<'_>) -> BuildResult<()> {
        let at = self.list().iter().position(|l| !c.name.is_empty() && l.config.name == c.name);
        if at.is_some_and(|at| self.list()[at].config == *c) {
            return Ok(());
        }
        let plan = Arc::new(ListenerPlan::new(c, cx)?);
        let others = self.list().into_iter().enumerate().filter(|(i, _)| Some(*i) != at);
        if others.into_iter().any(|(_, l)| same_port(&l.plan.address, &plan.address)) {
            let e = format!(
                "error adding listener: '{}' has duplicate address '{}' as existing listener, to check if the listener \
                 has duplicated addresses with other listeners or 'enable_reuse_port' is set to 'false' for the listener",
                plan.info.name, plan.address
            );
            log!(Config, Warning, "{e}");
            return Err(BuildError(e));
        }
        if let Some(at) = at {
            // The later one of a name replaces the former, whose sockets close now.
            self.0.listeners.borrow_mut().remove(at);
        }
        let sockets = match cx.validate_only {
            true => vec![],
            false => socket::bind(&plan.address, workers, plan.backlog)?,
        };
        let address = sockets.first().map_or_else(|| plan.address.clone(), |s| s.address(&plan.address));
        let (address, sockets) = (RefCell::new(address), RefCell::new(sockets));
        let entry = ListenerEntry { plan, config: c.clone(), address, sockets };
        let mut all = self.0.listeners.borrow_mut();
        let end = all.len();
        all.insert(at.unwrap_or(end), Rc::new(entry));
        drop(all);
        match at {
            Some(_) => self.0.stats.listener_modified().inc(),
            None => self.0.stats.listener_added().inc(),
        }
        self.0.stats.total_listeners_active().set(self.list().len() as u64);
        Ok(())
    }
    /// Every listener, in the order they were added.
    pub fn list(&self) -> Vec<Rc<ListenerEntry>> {
        self.0.listeners.borrow().clone()
    }
    /// Lets all workers accept.
    pub fn start(&self, workers: &Rc<Workers>) {
        *self.0.workers.borrow_mut() = Some(workers.clone());
        for l in self.list() {
            for (i, socket) in l.sockets.take().into_iter().enumerate() {
                let plan = l.plan.clone();
                let created = self.0.stats.clone();
                workers.run_on(i, move || {
                    let hcms = plan.chains.iter().map(|c| c.hcm.as_ref().map(|h| h.instantiate())).collect();
                    let handler = format!("worker_{i}");
                    let started = LocalListeners::here().start(plan, hcms, vec![socket], &handler);
                    match started {
                        Ok(()) => created.listener_create_success().inc(),
                        Err(_) => created.listener_create_failure().inc(),
                    }
                });
            }
        }
        self.0.stats.workers_started().set(1);
    }
    /// Tells clients to go elsewhere (`/drain_listeners?graceful`).
    pub fn drain(&self, inbound_only: bool) {
        self.on_all(move || LocalListeners::here().drain(inbound_only));
    }
    /// Stops to accept; connections go on (`/drain_listeners`).
    pub fn stop(&self, inbound_only: bool) {
        self.0.stats.listener_stopped().add(self.list().len() as u64);
        self.on_all(move || LocalListeners::here().stop_accepting(inbound_only));
    }
    fn on_all(&self, f: impl Fn() + Send + Sync + 'static) {
        if let Some(w) = &*self.0.workers.borrow() {
            w.run_on_all(move |_| f(), || ());
        }
    }
}

//! Listeners on main: what there is, how it changes, how it ends.
//!
//! A listener that is changed becomes a new generation, which accepts from duplicates of the same sockets, so that no
//! connection in their queues is lost; then the old one stops to accept and drains: for `--drain-time-s` its responses
//! ask clients to go elsewhere, then what is left is cut. A listener that is removed drains likewise.

use super::config::ListenerPlan;
use super::socket::{self, Bound};
use super::worker::{LocalListeners, Which};
use crate::http::drain::Drain;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::stats::Scope;
use nuncio_core::worker::Workers;
use nuncio_core::{log, stats};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

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
    /// Where it listens: the address, then `additional_addresses`; port 0 has become a real port.
    pub addresses: Vec<Address>,
    /// By address and worker; nothing once it has stopped.
    sockets: RefCell<Vec<Vec<Bound>>>,
}

/// All listeners.
#[derive(Clone)]
pub struct ListenerManager(Rc<Inner>);

struct Inner {
    listeners: RefCell<Vec<Rc<ListenerEntry>>>,
    draining: Cell<u64>,
    stats: ListenerManagerStats,
    workers: RefCell<Option<Rc<Workers>>>,
    /// `--drain-time-s`, and whether `--drain-strategy` is `immediate`.
    drain: Cell<(Duration, bool)>,
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
            draining: Cell::new(0),
            stats: ListenerManagerStats::new(&root.scope("listener_manager")),
            workers: RefCell::default(),
            drain: Cell::new((Duration::from_secs(600), false)),
        }))
    }
    /// `--drain-time-s`, and whether `--drain-strategy` is `immediate`.
    pub fn set_drain(&self, time: Duration, immediate: bool) {
        self.0.drain.set((time, immediate));
    }
    /// Adds a listener, or changes the one of this name, and binds its sockets, unless the configuration is only to be
    /// validated. Once workers run, it accepts at once.
    ///
    /// # Errors
    /// The configuration is refused, or an address cannot be bound; then nothing has changed.
    pub fn add(&self, c: &pb::Listener, workers: usize, cx: &BuildCx<'_>) -> BuildResult<()> {
        let at = self.list().iter().position(|l| !c.name.is_empty() && l.config.name == c.name);
        let old = at.map(|at| self.list()[at].clone());
        if old.as_ref().is_some_and(|o| o.config == *c) {
            return Ok(());
        }
        let plan = Arc::new(ListenerPlan::new(c, cx)?);
        self.check_addresses(&plan, at)?;
        let sockets = match cx.validate_only {
            true => vec![],
            false => sockets(&plan, old.as_deref(), workers)?,
        };
        let bound = |i: usize, a: &Address| {
            sockets.get(i).and_then(|s| s.first()).map_or_else(|| a.clone(), |s| s.address(a))
        };
        let addresses = plan.addresses.iter().enumerate().map(|(i, a)| bound(i, &a.address)).collect();
        let entry = ListenerEntry { plan, config: c.clone(), addresses, sockets: RefCell::new(sockets) };
        let entry = Rc::new(entry);
        match at {
            Some(at) => {
                self.0.listeners.borrow_mut()[at] = entry.clone();
                self.0.stats.listener_modified().inc();
            }
            None => {
                self.0.listeners.borrow_mut().push(entry.clone());
                self.0.stats.listener_added().inc();
            }
        }
        self.count();
        self.start_one(&entry);
        if let Some(old) = old {
            self.drain_and_remove(old);
        }
        Ok(())
    }
    /// Removes a listener. False when there is none of this name.
    pub fn remove(&self, name: &str) -> bool {
        let Some(at) = self.list().iter().position(|l| l.plan.info.name == name) else { return false };
        let old = self.0.listeners.borrow_mut().remove(at);
        self.0.stats.listener_removed().inc();
        self.count();
        self.drain_and_remove(old);
        true
    }
    /// Every listener, in the order they were added.
    pub fn list(&self) -> Vec<Rc<ListenerEntry>> {
        self.0.listeners.borrow().clone()
    }
    /// Lets all workers accept.
    pub fn start(&self, workers: &Rc<Workers>) {
        *self.0.workers.borrow_mut() = Some(workers.clone());
        self.list().iter().for_each(|l| self.start_one(l));
        self.0.stats.workers_started().set(1);
    }
    /// Asks clients to go elsewhere (`/drain_listeners?graceful`); how long that takes.
    pub fn drain(&self, which: Which) -> Duration {
        let (time, immediate) = self.0.drain.get();
        let drain = Drain::begin(time, immediate);
        self.on_all(move || LocalListeners::here().drain(which, drain));
        time
    }
    /// Stops to accept and closes the sockets; connections go on (`/drain_listeners`).
    pub fn stop(&self, which: Which) {
        for l in self.list().iter().filter(|l| which.includes(l.plan.tag, l.plan.info.direction)) {
            if !l.sockets.take().is_empty() {
                self.0.stats.listener_stopped().inc();
            }
        }
        self.on_all(move || LocalListeners::here().stop(which));
    }

    fn check_addresses(&self, plan: &ListenerPlan, except: Option<usize>) -> BuildResult<()> {
        let others = self.list().into_iter().enumerate().filter(|(i, _)| Some(*i) != except);
        for (_, l) in others {
            let taken =
                |a: &&socket::Listen| l.plan.addresses.iter().any(|b| same_port(&a.address, &b.address));
            let Some(a) = plan.addresses.iter().find(taken) else { continue };
            let e = format!(
                "error adding listener: '{}' has duplicate address '{}' as existing listener, to check if the listener \
                 has duplicated addresses with other listeners or 'enable_reuse_port' is set to 'false' for the listener",
                plan.info.name, a.address
            );
            log!(Config, Warning, "{e}");
            return Err(BuildError(e));
        }
        Ok(())
    }
    fn count(&self) {
        self.0.stats.total_listeners_active().set(self.list().len() as u64);
        self.0.stats.total_listeners_warming().set(0);
    }
    fn count_draining(&self, n: u64) {
        self.0.draining.set(n);
        self.0.stats.total_listeners_draining().set(n);
    }
    /// Lets the workers accept from duplicates of the sockets, if workers run.
    fn start_one(&self, l: &ListenerEntry) {
        let Some(workers) = self.0.workers.borrow().clone() else { return };
        let sockets = l.sockets.borrow();
        for i in 0..workers.len() {
            let own: Option<Vec<Bound>> =
                sockets.iter().map(|a| a.get(i).and_then(|s| s.try_clone().ok())).collect();
            let (plan, created) = (l.plan.clone(), self.0.stats.clone());
            let Some(own) = own else {
                created.listener_create_failure().inc();
                continue;
            };
            workers.run_on(i, move || {
                let hcms = plan.chains.iter().map(|c| c.hcm.as_ref().map(|h| h.instantiate())).collect();
                match LocalListeners::here().start(plan, hcms, own, &format!("worker_{i}")) {
                    Ok(()) => created.listener_create_success().inc(),
                    Err(_) => created.listener_create_failure().inc(),
                }
            });
        }
    }
    /// Ends a generation of a listener: at once it stops to accept, after the drain time its connections are cut.
    fn drain_and_remove(&self, old: Rc<ListenerEntry>) {
        let Some(workers) = self.0.workers.borrow().clone() else { return };
        let which = Which::One(old.plan.tag);
        old.sockets.take();
        self.on_all(move || LocalListeners::here().stop(which));
        let time = self.drain(which);
        self.count_draining(self.0.draining.get() + 1);
        let this = self.clone();
        tokio::task::spawn_local(async move {
            clock::sleep(TimerKind::Other, time).await;
            let (done, gone) = tokio::sync::oneshot::channel::<()>();
            workers.run_on_all(move |_| LocalListeners::here().remove(which), move || drop(done));
            drop(workers);
            let _ = gone.await; // nothing is ever sent: it ends when all workers have let go
            this.count_draining(this.0.draining.get().saturating_sub(1));
            drop(old);
        });
    }
    fn on_all(&self, f: impl Fn() + Send + Sync + 'static) {
        if let Some(w) = &*self.0.workers.borrow() {
            w.run_on_all(move |_| f(), || ());
        }
    }
}

/// The sockets of a listener, by address and worker: those of the former generation where it listens at the same
/// address, else new ones.
fn sockets(plan: &ListenerPlan, old: Option<&ListenerEntry>, workers: usize) -> BuildResult<Vec<Vec<Bound>>> {
    let one = |a: &socket::Listen| {
        let kept = old.and_then(|o| {
            let at = o.plan.addresses.iter().position(|b| b.address == a.address)?;
            let sockets = o.sockets.borrow();
            sockets.get(at)?.iter().map(|s| s.try_clone().ok()).collect::<Option<Vec<_>>>()
        });
        match kept {
            Some(kept) => Ok(kept),
            None => socket::bind(a, workers, plan.backlog),
        }
    };
    plan.addresses.iter().map(one).collect()
}

//! Listeners on main: what there is, how it changes, how it ends.
//!
//! A listener that is added or changed while the server runs is *warming* until what it waits for is there
//! ([`Init`]); then it takes the place of the one of its name. When only filter chains have changed, connections of the
//! others notice nothing (`listener_in_place_updated`). Else it becomes a new generation, which accepts from duplicates of the
//! same sockets, so that no connection in their queues is lost, and the old one stops to accept and drains: for
//! `--drain-time-s` its responses ask clients to go elsewhere, then what is left is cut. Filter chains that go, and
//! listeners that are removed, drain likewise.

use super::config::{ChainPlan, ListenerPlan};
use super::socket::{self, Bound};
use super::worker::{LocalListeners, Which};
use crate::http::drain::Drain;
use crate::http::rds::RouteProviders;
use crate::kept::Kept;
use crate::revision::{Change, Done, Revision, unwatched};
use bytes::Bytes;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::Direction;
use nuncio_core::init::Init;
use nuncio_core::stats::Scope;
use nuncio_core::worker::Workers;
use nuncio_core::{log, stats};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// So many listeners whose update was refused are remembered at most.
const FAILURES: usize = 1000;

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
    pub config: Kept<pb::Listener>,
    /// Where it came from, and when.
    pub revision: Revision,
    /// What it waits for while it is warming.
    pub init: Init,
    /// Where it listens: the address, then `additional_addresses`; port 0 has become a real port.
    pub addresses: Vec<Address>,
    /// By address and worker; nothing once it has stopped.
    sockets: RefCell<Vec<Vec<Bound>>>,
    /// The generation it differs from in filter chains only: it goes on with the connections of that one.
    continues: Option<u64>,
    done: RefCell<Option<Done>>,
}

/// An update from a control plane that was refused (`envoy.admin.v3.UpdateFailureState`).
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was refused.
    pub config: pb::Listener,
    /// When that was.
    pub at: SystemTime,
    /// Why.
    pub details: String,
}

/// All listeners.
#[derive(Clone)]
pub struct ListenerManager(Rc<Inner>);

type List = RefCell<Vec<Rc<ListenerEntry>>>;

struct Inner {
    listeners: List,
    warming: List,
    draining: List,
    chains_draining: Cell<u64>,
    failures: RefCell<BTreeMap<String, Failure>>,
    /// Told to stop: listeners of these kinds are not added any more.
    stopped: RefCell<Vec<Which>>,
    stats: ListenerManagerStats,
    workers: RefCell<Option<Rc<Workers>>>,
    /// `--drain-time-s`, and whether `--drain-strategy` is `immediate`.
    drain: Cell<(Duration, bool)>,
}

fn named(list: &List, name: &str) -> Option<Rc<ListenerEntry>> {
    list.borrow().iter().find(|l| *l.plan.info.name == *name).cloned()
}

fn take_out(list: &List, entry: &Rc<ListenerEntry>) -> bool {
    let at = list.borrow().iter().position(|l| Rc::ptr_eq(l, entry));
    let out = at.map(|at| list.borrow_mut().remove(at));
    out.is_some()
}

/// Two listeners that differ in nothing but their filter chains.
fn only_chains_differ(a: &pb::Listener, b: &pb::Listener) -> bool {
    let frame = |l: &pb::Listener| {
        let mut l = l.clone();
        (l.filter_chains, l.default_filter_chain, l.filter_chain_matcher) = Default::default();
        l
    };
    !b.filter_chains.is_empty() && frame(a) == frame(b)
}

/// True when two listeners would share a port or path by mistake; port 0 becomes another port for each that binds.
fn same_port(a: &Address, b: &Address, binds: bool) -> bool {
    match (a, b) {
        (Address::Ip(a), Address::Ip(b)) => a == b && (a.port() != 0 || !binds),
        _ => a == b,
    }
}

impl ListenerManager {
    /// Leaves connections with the kernel for a while, or takes them again
    /// (`envoy.overload_actions.stop_accepting_connections`).
    ///
    /// `done` runs on main when all workers do so.
    pub fn pause(&self, paused: bool, done: impl FnOnce() + Send + 'static) {
        match &*self.0.workers.borrow() {
            Some(w) => w.run_on_all(move |_| LocalListeners::here().pause(paused), done),
            None => done(),
        }
    }
    /// No listeners yet.
    pub fn new(root: &Scope) -> ListenerManager {
        ListenerManager(Rc::new(Inner {
            listeners: RefCell::default(),
            warming: RefCell::default(),
            draining: RefCell::default(),
            chains_draining: Cell::new(0),
            failures: RefCell::default(),
            stopped: RefCell::default(),
            stats: ListenerManagerStats::new(&root.scope("listener_manager")),
            workers: RefCell::default(),
            drain: Cell::new((Duration::from_secs(600), false)),
        }))
    }
    /// `--drain-time-s`, and whether `--drain-strategy` is `immediate`.
    pub fn set_drain(&self, time: Duration, immediate: bool) {
        self.0.drain.set((time, immediate));
    }
    /// Adds a static listener, or changes the one of this name: [`set`](Self::set) without further ado.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn add(&self, c: &pb::Listener, workers: usize, cx: &BuildCx<'_>) -> BuildResult<()> {
        self.set(c, Revision::fixed(), workers, cx, unwatched()).map(drop)
    }
    /// Adds a static listener as [`add`](Self::add) does, from its message's bytes, which are kept.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn add_encoded(&self, bytes: Bytes, workers: usize, cx: &BuildCx<'_>) -> BuildResult<()> {
        self.set_encoded(bytes, Revision::fixed(), workers, cx, unwatched()).map(drop)
    }
    /// As [`set`](Self::set), from the message's bytes, which are kept.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_encoded(
        &self,
        bytes: Bytes,
        revision: Revision,
        workers: usize,
        cx: &BuildCx<'_>,
        done: Done,
    ) -> BuildResult<Change> {
        let (config, c) = Kept::encoded(bytes)?;
        self.try_set(&c, Some(config), revision, workers, cx, done)
    }
    /// Adds a listener, or changes the one of this name, and binds its sockets, unless the configuration is only to be
    /// validated. Once workers run, it accepts as soon as it is warm; `done` runs when all workers have it.
    ///
    /// # Errors
    /// The configuration is refused, or an address cannot be bound; then nothing has changed.
    pub fn set(
        &self,
        c: &pb::Listener,
        revision: Revision,
        workers: usize,
        cx: &BuildCx<'_>,
        done: Done,
    ) -> BuildResult<Change> {
        let (via_api, at) = (revision.version.is_some(), revision.updated);
        let set = self.try_set(c, None, revision, workers, cx, done);
        if let (true, Err(e)) = (via_api, &set) {
            let failure = Failure { config: c.clone(), at, details: e.0.clone() };
            self.0.failures.borrow_mut().insert(c.name.clone(), failure);
        }
        set
    }
    fn try_set(
        &self,
        c: &pb::Listener,
        config: Option<Kept<pb::Listener>>,
        revision: Revision,
        workers: usize,
        cx: &BuildCx<'_>,
        done: Done,
    ) -> BuildResult<Change> {
        let direction = match c.traffic_direction {
            1 => Direction::Inbound,
            2 => Direction::Outbound,
            _ => Direction::Unspecified,
        };
        if self.0.stopped.borrow().iter().any(|w| w.includes(u64::MAX, direction)) {
            log!(Config, Debug, "listener {} can not be added because such listeners are stopped", c.name);
            done();
            return Ok(Change::Same);
        }
        let of = |list| named(list, &c.name).filter(|_| !c.name.is_empty());
        let (active, warming) = (of(&self.0.listeners), of(&self.0.warming));
        if let Some(same) = [&active, &warming].into_iter().flatten().find(|l| l.config.same(c))
            && (revision.version.is_some() || same.plan.is_current(c, cx))
        {
            config.into_iter().for_each(|newer| same.config.renew(newer));
            done();
            // What is warming gives way when the configuration went back to what is active.
            return match (&active, &warming) {
                (Some(a), Some(w)) if Rc::ptr_eq(a, same) => {
                    take_out(&self.0.warming, w);
                    self.count();
                    self.0.stats.listener_modified().inc();
                    Ok(Change::Modified)
                }
                _ => Ok(Change::Same),
            };
        }
        let running = self.0.workers.borrow().is_some();
        let before = active.as_ref().filter(|_| running).map(|a| (a, a.config.get()));
        let in_place = before.as_ref().filter(|(_, config)| only_chains_differ(config, c));
        let init = Init::default();
        let cx = BuildCx { init: &init, ..*cx };
        let plan = Arc::new(ListenerPlan::new(c, in_place.map(|(a, config)| (config, &*a.plan)), &cx)?);
        let old = warming.as_ref().or(active.as_ref());
        let shares = |l: &pb::Listener| l.enable_reuse_port.unwrap_or(true);
        if old.is_some_and(|o| shares(&o.config.get()) != shares(c)) {
            let e = format!("Listener {}: reuse port cannot be changed during an update", c.name);
            return Err(BuildError(e));
        }
        self.check_addresses(&plan, &c.name)?;
        let sockets = match cx.validate_only {
            true => vec![],
            false => self.sockets(&plan, old, workers)?,
        };
        let bound = |i: usize, a: &Address| {
            sockets.get(i).and_then(|s| s.first()).map_or_else(|| a.clone(), |s| s.address(a))
        };
        let entry = Rc::new(ListenerEntry {
            addresses: plan.addresses.iter().enumerate().map(|(i, a)| bound(i, &a.address)).collect(),
            continues: in_place.map(|(a, _)| a.plan.tag),
            plan,
            config: config.unwrap_or_else(|| Kept::new(c)),
            revision,
            init,
            sockets: RefCell::new(sockets),
            done: RefCell::new(Some(done)),
        });
        let change = match old {
            Some(_) => {
                self.0.stats.listener_modified().inc();
                Change::Modified
            }
            None => {
                self.0.stats.listener_added().inc();
                Change::Added
            }
        };
        if in_place.is_some() {
            self.0.stats.listener_in_place_updated().inc();
        }
        if !running {
            self.replace(active.as_ref(), entry);
            self.count();
            return Ok(change);
        }
        if let Some(w) = &warming {
            take_out(&self.0.warming, w);
        }
        self.0.warming.borrow_mut().push(entry.clone());
        self.count();
        self.warm(entry);
        Ok(change)
    }
    /// Removes a listener, warming or not; what is active drains. `done` runs when no worker accepts for it any more.
    /// False when there is none of this name.
    pub fn remove(&self, name: &str, done: Done) -> bool {
        let (active, warming) = (named(&self.0.listeners, name), named(&self.0.warming, name));
        if active.is_none() && warming.is_none() {
            return false;
        }
        if let Some(w) = &warming {
            take_out(&self.0.warming, w);
        }
        if let Some(a) = &active {
            take_out(&self.0.listeners, a);
        }
        self.0.stats.listener_removed().inc();
        self.count();
        match active {
            Some(old) => self.drain_and_remove(old, done),
            None => done(),
        }
        true
    }
    /// Every listener, in the order they were added.
    pub fn list(&self) -> Vec<Rc<ListenerEntry>> {
        self.0.listeners.borrow().clone()
    }
    /// Every listener that is warming.
    pub fn list_warming(&self) -> Vec<Rc<ListenerEntry>> {
        self.0.warming.borrow().clone()
    }
    /// Every listener that does not serve yet: all, before there are workers.
    pub fn list_unready(&self) -> Vec<Rc<ListenerEntry>> {
        let mut all = if self.0.workers.borrow().is_some() { vec![] } else { self.list() };
        all.extend(self.list_warming());
        all
    }
    /// Every generation of a listener that drains.
    pub fn list_draining(&self) -> Vec<Rc<ListenerEntry>> {
        self.0.draining.borrow().clone()
    }
    /// What a control plane sent last and was refused, by the listener's name.
    pub fn failures(&self) -> BTreeMap<String, Failure> {
        self.0.failures.borrow().clone()
    }
    /// Notes a listener of a control plane that was refused.
    pub fn note_failure(&self, name: &str, failure: Failure) {
        let mut all = self.0.failures.borrow_mut();
        if all.len() < FAILURES || all.contains_key(name) {
            all.insert(name.to_owned(), failure);
        }
    }
    /// Forgets earlier failures: another response of the control plane is taken up.
    pub fn forget_failures(&self) {
        self.0.failures.borrow_mut().clear();
    }
    /// Waits for what listeners need before they can serve; before [`start`](Self::start).
    pub async fn initialize(&self) {
        self.list().iter().for_each(|l| l.init.begin());
        // Others may come meanwhile.
        while let Some(l) = self.list().into_iter().find(|l| !l.init.is_ready()) {
            l.init.ready().await;
        }
    }
    /// Lets all workers accept.
    pub fn start(&self, workers: &Rc<Workers>) {
        *self.0.workers.borrow_mut() = Some(workers.clone());
        RouteProviders::here().publish(workers);
        crate::ecds::Providers::here().publish(workers);
        self.list().iter().for_each(|l| self.start_one(l));
        self.0.stats.workers_started().set(1);
    }
    /// Asks clients to go elsewhere (`/drain_listeners?graceful`); how long that takes.
    pub fn drain(&self, which: Which) -> Duration {
        let (time, immediate) = self.0.drain.get();
        let drain = Drain::begin(time, immediate);
        self.on_all(move || LocalListeners::here().drain(which, drain), unwatched());
        time
    }
    /// Stops to accept and closes the sockets; connections go on (`/drain_listeners`).
    pub fn stop(&self, which: Which) {
        self.0.stopped.borrow_mut().push(which);
        for l in self.list().iter().filter(|l| which.includes(l.plan.tag, l.plan.info.direction)) {
            if !l.sockets.take().is_empty() {
                self.0.stats.listener_stopped().inc();
            }
        }
        self.on_all(move || LocalListeners::here().stop(which), unwatched());
    }

    fn check_addresses(&self, plan: &ListenerPlan, name: &str) -> BuildResult<()> {
        let others = self.list().into_iter().chain(self.list_warming());
        for l in others.filter(|l| name.is_empty() || *l.plan.info.name != *name) {
            let taken = |a: &&socket::Listen| {
                l.plan.addresses.iter().any(|b| same_port(&a.address, &b.address, l.plan.binds))
            };
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
        let count = |list: &List| list.borrow().len() as u64;
        self.0.stats.total_listeners_active().set(count(&self.0.listeners));
        self.0.stats.total_listeners_warming().set(count(&self.0.warming));
        self.0.stats.total_listeners_draining().set(count(&self.0.draining));
        self.0.stats.total_filter_chains_draining().set(self.0.chains_draining.get());
    }
    /// Puts a listener in the place of the one before it, or behind all others.
    fn replace(&self, old: Option<&Rc<ListenerEntry>>, new: Rc<ListenerEntry>) {
        let mut all = self.0.listeners.borrow_mut();
        match all.iter_mut().find(|l| old.is_some_and(|o| Rc::ptr_eq(o, l))) {
            Some(l) => *l = new,
            None => all.push(new),
        }
    }
    /// Lets a listener serve once it has what it waits for.
    fn warm(&self, l: Rc<ListenerEntry>) {
        if l.init.is_ready() {
            return self.warmed(&l);
        }
        // Held weakly: one that is taken out of the list is gone at once.
        let (this, init, l) = (self.clone(), l.init.clone(), Rc::downgrade(&l));
        tokio::task::spawn_local(async move {
            init.ready().await;
            if let Some(l) = l.upgrade() {
                this.warmed(&l);
            }
        });
    }
    fn warmed(&self, l: &Rc<ListenerEntry>) {
        if !take_out(&self.0.warming, l) {
            return; // something newer took its place, or it was removed
        }
        let old = named(&self.0.listeners, &l.plan.info.name);
        self.replace(old.as_ref(), l.clone());
        // The chains it shares are those of that generation, which may be gone.
        match old.as_ref().filter(|o| l.continues == Some(o.plan.tag)) {
            Some(old) => self.update_in_place(old, l),
            None => {
                self.start_one(l);
                old.into_iter().for_each(|o| self.drain_and_remove(o, unwatched()));
            }
        }
        self.count();
    }
    /// Lets the workers accept from duplicates of the sockets, if workers run.
    fn start_one(&self, l: &ListenerEntry) {
        let Some(workers) = self.0.workers.borrow().clone() else { return };
        let sockets = l.sockets.borrow();
        for i in 0..workers.len() {
            let bound = sockets.iter().filter(|_| l.plan.binds);
            let own: Option<Vec<Bound>> = bound.map(|a| a.get(i).and_then(|s| s.try_clone().ok())).collect();
            let (plan, created) = (l.plan.clone(), self.0.stats.clone());
            let Some(own) = own else {
                created.listener_create_failure().inc();
                continue;
            };
            workers.run_on(i, move || {
                let terminals =
                    plan.chains.iter().map(|c| c.terminal.as_ref().map(|t| t.instantiate(None))).collect();
                match LocalListeners::here().start(plan, terminals, own, &format!("worker_{i}")) {
                    Ok(()) => created.listener_create_success().inc(),
                    Err(_) => created.listener_create_failure().inc(),
                }
            });
        }
        // Jobs of a worker run in their order.
        self.on_all(|| (), l.done.take().unwrap_or_else(unwatched));
    }
    /// Gives the workers the filter chains of a listener. Those that go drain.
    fn update_in_place(&self, old: &Rc<ListenerEntry>, new: &Rc<ListenerEntry>) {
        let (time, immediate) = self.0.drain.get();
        let drain = Drain::begin(time, immediate);
        let (tag, plan, created) = (old.plan.tag, new.plan.clone(), self.0.stats.clone());
        let update = move || {
            LocalListeners::here().update(tag, &plan, drain);
            created.listener_create_success().inc();
        };
        self.on_all(update, new.done.take().unwrap_or_else(unwatched));
        let stays = |c: &ChainPlan| new.plan.chains.iter().any(|n| n.tag == c.tag);
        let gone: Arc<[u32]> = old.plan.chains.iter().filter(|c| !stays(c)).map(|c| c.tag).collect();
        let n = gone.len() as u64;
        self.0.chains_draining.set(self.0.chains_draining.get() + n);
        let (this, old) = (self.clone(), old.clone());
        tokio::task::spawn_local(async move {
            clock::sleep(TimerKind::Other, time).await;
            this.on_all_and_wait(move || LocalListeners::here().remove_chains(&gone)).await;
            drop(old); // the plan is freed here
            this.0.chains_draining.set(this.0.chains_draining.get().saturating_sub(n));
            this.count();
        });
    }
    /// Ends a generation of a listener: at once it stops to accept, after the drain time its connections are cut.
    /// `done` runs when it has stopped.
    fn drain_and_remove(&self, old: Rc<ListenerEntry>, done: Done) {
        if self.0.workers.borrow().is_none() {
            return done();
        }
        let which = Which::One(old.plan.tag);
        self.0.draining.borrow_mut().push(old.clone());
        let (stopped, has_stopped) = tokio::sync::oneshot::channel::<()>();
        let stop = move || LocalListeners::here().stop(which);
        let stopped = move || {
            done();
            drop(stopped);
        };
        self.on_all(stop, Box::new(stopped));
        let time = self.drain(which);
        self.count();
        let this = self.clone();
        tokio::task::spawn_local(async move {
            // Until then a listener at the same address can go on with the sockets.
            let _ = has_stopped.await; // nothing is ever sent: it ends when all workers have stopped
            old.sockets.take();
            clock::sleep(TimerKind::Other, time).await;
            this.on_all_and_wait(move || LocalListeners::here().remove(which)).await;
            take_out(&this.0.draining, &old);
            this.count();
        });
    }
    fn on_all(&self, f: impl Fn() + Send + Sync + 'static, done: Done) {
        if let Some(w) = &*self.0.workers.borrow() {
            w.run_on_all(move |_| f(), done);
        }
    }
    async fn on_all_and_wait(&self, f: impl Fn() + Send + Sync + 'static) {
        let (done, gone) = tokio::sync::oneshot::channel::<()>();
        self.on_all(f, Box::new(move || drop(done)));
        let _ = gone.await; // nothing is ever sent: it ends when all workers have let go
    }
    /// The sockets of a listener, by address and worker: where there is a listener at the same address that this one
    /// follows, or one that is about to stop, duplicates of those, else new ones.
    fn sockets(
        &self,
        plan: &ListenerPlan,
        old: Option<&Rc<ListenerEntry>>,
        workers: usize,
    ) -> BuildResult<Vec<Vec<Bound>>> {
        if !plan.binds {
            return Ok(plan.addresses.iter().map(|_| vec![]).collect());
        }
        let draining = self.list_draining();
        let one = |a: &socket::Listen| match old.into_iter().chain(&draining).find_map(|o| o.sockets_at(a)) {
            Some(kept) => Ok(kept),
            None => socket::bind(a, workers, plan.backlog),
        };
        plan.addresses.iter().map(one).collect()
    }
}

impl ListenerEntry {
    /// Duplicates of the sockets at an address.
    fn sockets_at(&self, a: &socket::Listen) -> Option<Vec<Bound>> {
        let mut all = self.plan.addresses.iter().zip(&self.addresses);
        let at = all.position(|(asked, got)| asked.address == a.address || *got == a.address)?;
        let sockets = self.sockets.borrow();
        sockets.get(at).filter(|s| !s.is_empty())?.iter().map(|s| s.try_clone().ok()).collect()
    }
}

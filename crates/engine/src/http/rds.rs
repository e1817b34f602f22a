//! Routes from a control plane (`HttpConnectionManager.rds`).
//!
//! Connection managers that ask for the same routes share one subscription and one table. Main builds the table and
//! gives it to the workers; on a worker all these connection managers look into one [`RouteCell`].

#![expect(
    clippy::disallowed_types,
    reason = "a worker reads the lock once, when it makes a connection manager"
)]

use super::config::filter_scope;
use super::vhds::{self, Vhds};
use crate::route::{RouteTable, TableSource};
use bytes::Bytes;
use nuncio_api::envoy::config::route::v3::RouteConfiguration;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_core::discovery::{
    CountUpdates, Discovery, ReloadStats, Resource, Subscribe, Subscriber, Subscription, SubscriptionStats,
    Update,
};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::hash::TrustedMap;
use nuncio_core::init::{Init, Target};
use nuncio_core::stats::Scope;
use nuncio_core::worker::{self, Workers};
use nuncio_core::{clock, stats};
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock, Weak as ArcWeak};
use std::time::SystemTime;
use tokio::sync::oneshot;

/// The routes of one connection manager on a worker, or those that several share.
pub struct RouteCell {
    source: RefCell<Rc<TableSource>>,
    /// Number of the subscription.
    slot: Option<u64>,
    /// Some route of the table has timers of its own.
    timers: Cell<bool>,
}

impl RouteCell {
    /// A cell that holds `table`.
    pub fn new(table: Arc<RouteTable>) -> Rc<RouteCell> {
        RouteCell::of(table, None)
    }
    fn of(table: Arc<RouteTable>, slot: Option<u64>) -> Rc<RouteCell> {
        let timers = Cell::new(table.sets_timers());
        let source = RefCell::new(Self::source(table, slot));
        Rc::new(RouteCell { source, slot, timers })
    }
    fn source(table: Arc<RouteTable>, slot: Option<u64>) -> Rc<TableSource> {
        Rc::new(match slot {
            Some(slot) => TableSource::subscribed(table, slot),
            None => TableSource::new(table),
        })
    }
    /// The table, for a stream that begins.
    pub fn get(&self) -> Rc<TableSource> {
        self.source.borrow().clone()
    }
    /// Replaces the table for streams that begin from now on.
    pub fn set(&self, table: Arc<RouteTable>) {
        self.timers.set(table.sets_timers());
        *self.source.borrow_mut() = Self::source(table, self.slot);
    }
    /// Some route has timers of its own.
    pub fn sets_timers(&self) -> bool {
        self.timers.get()
    }
}

/// Routes that may be replaced, as the plans of connection managers hold them: the subscription lives as long as any.
pub struct RouteSlot {
    id: u64,
    table: RwLock<Arc<RouteTable>>,
}

impl RouteSlot {
    fn empty() -> Arc<RouteSlot> {
        let table = RwLock::new(Arc::new(RouteTable::empty()));
        Arc::new(RouteSlot { id: NEXT.fetch_add(1, Relaxed), table })
    }
    /// The table at this moment.
    fn table(&self) -> Arc<RouteTable> {
        // A poisoned lock still guards a whole `Arc`.
        self.table.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// What the connection managers of this worker look into.
    pub fn cell(&self) -> Rc<RouteCell> {
        LocalRoutes::here().cell(self.id, || self.table())
    }
}

impl Drop for RouteSlot {
    fn drop(&mut self) {
        let id = self.id;
        // When the process ends, all that is left is gone already.
        let release = move || worker::existing::<RouteProviders>().iter().for_each(|p| p.release(id));
        match worker::current_index() == worker::MAIN {
            true => release(),
            false => worker::post_to_main(release),
        }
    }
}

/// The cells of one worker.
#[derive(Default)]
pub(super) struct LocalRoutes(RefCell<TrustedMap<u64, Rc<RouteCell>>>);

impl LocalRoutes {
    pub(super) fn here() -> Rc<LocalRoutes> {
        worker::local(LocalRoutes::default)
    }
    fn cell(&self, id: u64, table: impl FnOnce() -> Arc<RouteTable>) -> Rc<RouteCell> {
        self.0.borrow_mut().entry(id).or_insert_with(|| RouteCell::of(table(), Some(id))).clone()
    }
    pub(super) fn get(&self, id: u64) -> Option<Rc<RouteCell>> {
        self.0.borrow().get(&id).cloned()
    }
    fn set(&self, id: u64, table: &Arc<RouteTable>) {
        if let Some(cell) = self.0.borrow().get(&id) {
            cell.set(table.clone());
        }
    }
    fn remove(&self, id: u64) {
        let gone = self.0.borrow_mut().remove(&id);
        drop(gone);
    }
}

stats! {
    /// `http.<stat_prefix>.rds.<route_config_name>.`; [`SubscriptionStats`] and [`ReloadStats`] are there, too.
    struct RdsStats {
        update_empty: SharedCounter,
    }
}

/// A subscription to routes, on main.
pub struct RouteProvider {
    id: u64,
    pub(super) name: String,
    slot: RefCell<ArcWeak<RouteSlot>>,
    /// Where the stats of filters go that routes configure: those of the first connection manager that asked.
    pub(super) filters: Scope,
    state: RefCell<Option<(Resource, SystemTime)>>,
    /// What came last.
    came: RefCell<Option<Bytes>>,
    /// The same, when VHDS adds to it.
    pub(super) base: RefCell<Option<RouteConfiguration>>,
    pub(super) vhds: RefCell<Option<Rc<Vhds>>>,
    me: Weak<RouteProvider>,
    pub(super) discovery: Rc<dyn Discovery>,
    /// Who waits for the first table; nobody any more once it is there, or known not to come.
    waiting: RefCell<Option<Vec<Target>>>,
    /// Requests that wait for it; each goes on when its sender is dropped.
    asked: RefCell<Vec<oneshot::Sender<()>>>,
    stats: RdsStats,
    reloads: ReloadStats,
    subscription: RefCell<Option<Subscription>>,
}

/// All subscriptions to routes; they live on main.
#[derive(Default)]
pub struct RouteProviders {
    all: RefCell<BTreeMap<Vec<u8>, Rc<RouteProvider>>>,
    workers: RefCell<Option<Rc<Workers>>>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl RouteProviders {
    /// Those of this thread.
    pub fn here() -> Rc<RouteProviders> {
        worker::local(RouteProviders::default)
    }
    /// From now on these workers are told.
    pub fn publish(&self, workers: &Rc<Workers>) {
        *self.workers.borrow_mut() = Some(workers.clone());
    }
    /// The routes of every subscription that has some, and when they came; sorted by name.
    pub fn list(&self) -> Vec<(Resource, SystemTime)> {
        let mut all: Vec<_> = self.all.borrow().values().filter_map(|p| p.state.borrow().clone()).collect();
        all.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        all
    }
    /// The routes that a connection manager asks for. What is built waits for them.
    ///
    /// # Errors
    /// They cannot come from there.
    pub fn provide(
        &self,
        c: &pb::HttpConnectionManager,
        rds: &pb::Rds,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<RouteSlot>> {
        let discovery = cx.server.discovery();
        let discovery = discovery.ok_or_else(|| BuildError::not_implemented("HttpConnectionManager.rds"))?;
        let source = rds.config_source.as_deref().cloned().unwrap_or_default();
        discovery.check(&source)?;
        if cx.validate_only {
            return Ok(RouteSlot::empty());
        }
        Ok(self.open(&discovery, &filter_scope(c, cx), rds, Some(cx.init)))
    }
    /// The routes that `rds` names, whose source was checked; `init` waits for them. `filters`: where the stats of filters
    /// go that they configure, and below it their own.
    pub(super) fn open(
        &self,
        discovery: &Rc<dyn Discovery>,
        filters: &Scope,
        rds: &pb::Rds,
        init: Option<&Init>,
    ) -> Arc<RouteSlot> {
        let name = &rds.route_config_name;
        let key = rds.encode_to_vec();
        let there = self.all.borrow().get(&key).cloned();
        if let Some((p, slot)) = there.and_then(|p| p.slot.borrow().upgrade().map(|s| (p.clone(), s))) {
            p.wait(init);
            return slot;
        }
        let source = rds.config_source.as_deref().cloned().unwrap_or_default();
        let scope = filters.scope("rds").scope(name);
        let slot = RouteSlot::empty();
        let provider = Rc::new_cyclic(|me| RouteProvider {
            id: slot.id,
            came: RefCell::default(),
            base: RefCell::default(),
            vhds: RefCell::default(),
            me: me.clone(),
            discovery: discovery.clone(),
            name: name.clone(),
            slot: RefCell::new(Arc::downgrade(&slot)),
            filters: filters.clone(),
            state: RefCell::default(),
            waiting: RefCell::new(Some(vec![])),
            asked: RefCell::default(),
            stats: RdsStats::new(&scope),
            reloads: ReloadStats::new(&scope),
            subscription: RefCell::default(),
        });
        provider.wait(init);
        self.all.borrow_mut().insert(key, provider.clone());
        let weak: Weak<RouteProvider> = Rc::downgrade(&provider);
        let subscription = discovery.subscribe(Subscribe {
            kind: "envoy.config.route.v3.RouteConfiguration",
            source: &source,
            name: Some(name),
            scope: &scope,
            stats: Rc::new(SubscriptionStats::new(&scope)) as Rc<dyn CountUpdates>,
            subscriber: weak,
        });
        *provider.subscription.borrow_mut() = Some(subscription);
        slot
    }
    /// The subscription of this number.
    pub(super) fn find(&self, id: u64) -> Option<Rc<RouteProvider>> {
        self.all.borrow().values().find(|p| p.id == id).cloned()
    }
    /// Lets go of `waiting` when the routes are there, or known not to come, on all workers.
    pub(super) fn when_ready(&self, slot: &RouteSlot, waiting: oneshot::Sender<()>) {
        if let Some(p) = self.find(slot.id) {
            p.when_ready(waiting);
        }
    }
    /// Runs `job` on all workers, and then `done` on main.
    pub(super) fn on_workers(
        &self,
        job: impl Fn() + Send + Sync + 'static,
        done: impl FnOnce() + Send + 'static,
    ) {
        match &*self.workers.borrow() {
            Some(w) => w.run_on_all(move |_| job(), done),
            None => done(),
        }
    }
    /// Nobody needs these routes any more.
    fn release(&self, id: u64) {
        let mut gone = vec![];
        self.all.borrow_mut().retain(|_, p| {
            let stays = p.id != id;
            if !stays {
                gone.push(p.clone());
            }
            stays
        });
        drop(gone); // the subscription ends here
        if let Some(w) = &*self.workers.borrow() {
            w.run_on_all(move |_| LocalRoutes::here().remove(id), || ());
        }
    }
}

impl RouteProvider {
    fn wait(&self, init: Option<&Init>) {
        if let (Some(waiting), Some(init)) = (&mut *self.waiting.borrow_mut(), init) {
            let name = format!("shared target RdsRouteConfigSubscription RDS init {}", self.name);
            waiting.push(init.target(&name));
        }
    }
    fn when_ready(&self, request: oneshot::Sender<()>) {
        if self.waiting.borrow().is_none() {
            return self.published(move || drop(request));
        }
        let mut asked = self.asked.borrow_mut();
        asked.retain(|r| !r.is_closed());
        asked.push(request);
    }
    pub(super) fn ready(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
        let asked = self.asked.take();
        if !asked.is_empty() {
            self.published(move || drop(asked));
        }
    }
    /// Other routes are in use, or the same once more.
    pub(super) fn reloaded(&self) {
        self.reloads.reloaded();
    }
    /// Runs `then` on main when all workers have the routes that were published so far.
    pub(super) fn published(&self, then: impl FnOnce() + Send + 'static) {
        match &*RouteProviders::here().workers.borrow() {
            Some(w) => w.run_on_all(|_| (), then),
            None => then(),
        }
    }
    /// Puts other routes to use; `shown` is what `/config_dump` says of them.
    pub(super) fn take(&self, c: RouteConfiguration, shown: Resource, cx: &BuildCx<'_>) -> BuildResult<()> {
        let table = RouteTable::dynamic(c, &BuildCx { scope: &self.filters, ..*cx })?;
        self.reloads.reloaded();
        *self.state.borrow_mut() = Some((shown, clock::wall()));
        self.publish(table);
        Ok(())
    }
    fn publish(&self, table: RouteTable) {
        let Some(slot) = self.slot.borrow().upgrade() else { return };
        let (id, table) = (self.id, Arc::new(table));
        let old = {
            let mut held = slot.table.write().unwrap_or_else(|e| e.into_inner());
            std::mem::replace(&mut *held, table.clone())
        };
        if let Some(w) = &*RouteProviders::here().workers.borrow() {
            w.run_on_all(move |_| LocalRoutes::here().set(id, &table), move || drop(old));
        }
    }
}

impl Subscriber for RouteProvider {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let Some(r) = u.resources.first() else {
            // Routes that are taken back stay, as in Envoy.
            if matches!(u.removed, nuncio_core::discovery::Removed::Others) {
                self.stats.update_empty().inc();
                self.ready();
            }
            return Ok(());
        };
        if self.came.borrow().as_ref().is_none_or(|now| *now != r.bytes) {
            let c = RouteConfiguration::decode(&*r.bytes)
                .map_err(|e| BuildError(format!("Unable to parse protobuf: {e}")))?;
            if c.name != self.name {
                let (expected, got) = (&self.name, &c.name);
                return Err(format!("Unexpected RDS configuration (expecting {expected}): {got}").into());
            }
            let waits = vhds::update(self, &self.me, c, r, cx)?;
            *self.came.borrow_mut() = Some(r.bytes.clone());
            if waits {
                return Ok(());
            }
        }
        self.ready();
        Ok(())
    }
    fn give_up(&self) {
        self.ready();
    }
}

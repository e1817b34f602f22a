//! Scopes from a control plane (`ScopedRoutes.scoped_rds`).
//!
//! A scope brings its routes, or names those that RDS is to bring: at once, or when a request needs them
//! (`ScopedRouteConfiguration.on_demand`, with the `on_demand` filter). Main keeps the scopes; workers are told what
//! changes.

#![expect(
    clippy::disallowed_types,
    reason = "a worker reads the lock once, when it makes a connection manager"
)]

use super::key::{self, Key};
use super::{Scope, ScopePlan, ScopeSource, Scopes, checked};
use crate::http::config::filter_scope;
use crate::http::rds::RouteProviders;
use crate::route::RouteTable;
use nuncio_api::envoy::config::core::v3::ConfigSource;
use nuncio_api::envoy::config::route::v3::ScopedRouteConfiguration;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_core::discovery::{
    CountUpdates, Discovery, ReloadStats, Removed, Subscribe, Subscriber, Subscription, SubscriptionStats,
    Update,
};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::hash::TrustedMap;
use nuncio_core::init::{Init, Target};
use nuncio_core::route::RouteSource;
use nuncio_core::stats::Scope as StatScope;
use nuncio_core::{LocalBoxFuture, clock, stats, worker};
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock, Weak as ArcWeak};
use std::time::SystemTime;
use tokio::sync::oneshot;

/// What becomes of keys: other routes, or none.
type Delta = Vec<(Key, Option<ScopePlan>)>;

stats! {
    /// `http.<stat_prefix>.scoped_rds.<name>.`; [`SubscriptionStats`] and [`ReloadStats`] are there, too.
    struct SrdsStats {
        update_empty: SharedCounter,
        all_scopes: SetGauge,
        on_demand_scopes: SetGauge,
        active_scopes: SetGauge,
    }
}

/// Scopes that may change, as the plans of connection managers hold them: the subscription lives as long as any.
pub struct ScopeSlot {
    id: u64,
    scopes: RwLock<TrustedMap<Key, ScopePlan>>,
}

impl ScopeSlot {
    fn new() -> Arc<ScopeSlot> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(ScopeSlot { id: NEXT.fetch_add(1, Relaxed), scopes: RwLock::default() })
    }
    pub(super) fn id(&self) -> u64 {
        self.id
    }
    /// What the connection managers of this worker look into.
    pub(super) fn scopes(&self) -> Rc<Scopes> {
        let there = LocalScopes::here().0.borrow().get(&self.id).cloned();
        there.unwrap_or_else(|| {
            // A poisoned lock still guards a whole map: each change is one insertion.
            let now = self.scopes.read().unwrap_or_else(|e| e.into_inner());
            let of = |(k, s): (&Key, &ScopePlan)| (k.as_slice().into(), Scope::new(s));
            let scopes = Rc::new(Scopes(RefCell::new(now.iter().map(of).collect())));
            LocalScopes::here().0.borrow_mut().insert(self.id, scopes.clone());
            scopes
        })
    }
    fn apply(&self, delta: &Delta) {
        let mut scopes = self.scopes.write().unwrap_or_else(|e| e.into_inner());
        for (key, plan) in delta {
            match plan {
                Some(p) => scopes.insert(key.clone(), p.clone()),
                None => scopes.remove(key),
            };
        }
    }
}

impl Drop for ScopeSlot {
    fn drop(&mut self) {
        let id = self.id;
        // When the process ends, all that is left is gone already.
        let release = move || worker::existing::<ScopeProviders>().iter().for_each(|p| p.release(id));
        match worker::current_index() == worker::MAIN {
            true => release(),
            false => worker::post_to_main(release),
        }
    }
}

/// The scopes of one worker, by subscription.
#[derive(Default)]
struct LocalScopes(RefCell<TrustedMap<u64, Rc<Scopes>>>);

impl LocalScopes {
    fn here() -> Rc<LocalScopes> {
        worker::local(LocalScopes::default)
    }
    fn apply(&self, id: u64, delta: &Delta) {
        let Some(scopes) = self.0.borrow().get(&id).cloned() else { return };
        for (key, plan) in delta {
            let new = plan.as_ref().map(Scope::new);
            let mut map = scopes.0.borrow_mut();
            let old = match new {
                Some(s) => map.insert(key.as_slice().into(), s),
                None => map.remove(key.as_slice()),
            };
            drop(map);
            drop(old);
        }
    }
    fn remove(&self, id: u64) {
        let gone = self.0.borrow_mut().remove(&id);
        drop(gone);
    }
}

/// A scope, on main.
struct Held {
    config: Rc<ScopedRouteConfiguration>,
    key: Key,
    routes: ScopePlan,
}

/// A subscription to scopes, on main.
pub struct ScopeProvider {
    id: u64,
    /// `ScopedRoutes.name`
    name: String,
    discovery: Rc<dyn Discovery>,
    /// Where the stats of filters go that routes configure: those of the first connection manager that asked.
    filters: StatScope,
    /// `rds_config_source`
    routes_from: ConfigSource,
    slot: RefCell<ArcWeak<ScopeSlot>>,
    scopes: RefCell<BTreeMap<String, Held>>,
    /// Names of scopes by their keys.
    names: RefCell<HashMap<Key, String>>,
    /// Of the last response that changed anything.
    version: RefCell<Option<Arc<str>>>,
    /// When the last response came.
    updated: Cell<SystemTime>,
    /// The first scopes, and their routes.
    init: Init,
    first: RefCell<Option<Target>>,
    /// Who waits for them; nobody any more once they are there, or known not to come.
    waiting: RefCell<Option<Vec<Target>>>,
    stats: SrdsStats,
    reloads: ReloadStats,
    subscription: RefCell<Option<Subscription>>,
}

/// The scopes of a subscription, for `/config_dump`.
pub struct ScopesView {
    /// `ScopedRoutes.name`
    pub name: String,
    /// Of the last response that changed anything.
    pub version: Arc<str>,
    /// When the last response came.
    pub updated: SystemTime,
    /// The scopes, sorted by name.
    pub scopes: Vec<Rc<ScopedRouteConfiguration>>,
}

/// All subscriptions to scopes; they live on main.
#[derive(Default)]
pub struct ScopeProviders(RefCell<BTreeMap<Vec<u8>, Rc<ScopeProvider>>>);

impl ScopeProviders {
    /// Those of this thread.
    pub fn here() -> Rc<ScopeProviders> {
        worker::local(ScopeProviders::default)
    }
    /// What came of every subscription that brought anything.
    pub fn list(&self) -> Vec<ScopesView> {
        self.0.borrow().values().filter_map(|p| p.view()).collect()
    }
    /// The scopes that a connection manager asks for. What is built waits for them. Connection managers that ask alike
    /// share them.
    ///
    /// # Errors
    /// They cannot come from there.
    pub(super) fn provide(
        &self,
        c: &pb::HttpConnectionManager,
        s: &pb::ScopedRoutes,
        d: &pb::ScopedRds,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<ScopeSlot>> {
        let discovery = cx.server.discovery();
        let discovery = discovery.ok_or_else(|| BuildError::not_implemented("ScopedRoutes.scoped_rds"))?;
        let source = d.scoped_rds_config_source.as_deref().cloned().unwrap_or_default();
        discovery.check(&source)?;
        if cx.validate_only {
            return Ok(ScopeSlot::new());
        }
        let routes_from = s.rds_config_source.as_deref().cloned().unwrap_or_default();
        let mut key = d.encode_length_delimited_to_vec();
        key.extend(routes_from.encode_to_vec());
        let there = self.0.borrow().get(&key).cloned();
        if let Some((p, slot)) = there.and_then(|p| p.slot.borrow().upgrade().map(|s| (p.clone(), s))) {
            p.wait(cx.init);
            return Ok(slot);
        }
        let filters = filter_scope(c, cx);
        let scope = filters.scope("scoped_rds").scope(&s.name);
        let (slot, init) = (ScopeSlot::new(), Init::default());
        let first = init.target("ConfigSubscriptionCommonBase local init target 'SRDS'");
        let provider = Rc::new(ScopeProvider {
            id: slot.id,
            name: s.name.clone(),
            discovery: discovery.clone(),
            filters,
            routes_from,
            slot: RefCell::new(Arc::downgrade(&slot)),
            scopes: RefCell::default(),
            names: RefCell::default(),
            version: RefCell::default(),
            updated: Cell::new(clock::wall()),
            init,
            first: RefCell::new(Some(first)),
            waiting: RefCell::new(Some(vec![])),
            stats: SrdsStats::new(&scope),
            reloads: ReloadStats::new(&scope),
            subscription: RefCell::default(),
        });
        provider.wait(cx.init);
        self.0.borrow_mut().insert(key, provider.clone());
        let weak: Weak<ScopeProvider> = Rc::downgrade(&provider);
        let subscription = discovery.subscribe(Subscribe {
            kind: "envoy.config.route.v3.ScopedRouteConfiguration",
            source: &source,
            name: None,
            scope: &scope,
            stats: Rc::new(SubscriptionStats::new(&scope)) as Rc<dyn CountUpdates>,
            subscriber: weak.clone(),
        });
        *provider.subscription.borrow_mut() = Some(subscription);
        let init = provider.init.clone();
        tokio::task::spawn_local(async move {
            init.ready().await;
            let waiting = weak.upgrade().and_then(|p| p.waiting.take());
            drop(waiting);
        });
        Ok(slot)
    }
    fn find(&self, id: u64) -> Option<Rc<ScopeProvider>> {
        self.0.borrow().values().find(|p| p.id == id).cloned()
    }
    /// Nobody needs these scopes any more.
    fn release(&self, id: u64) {
        let mut gone = vec![];
        self.0.borrow_mut().retain(|_, p| {
            let stays = p.id != id;
            if !stays {
                gone.push(p.clone());
            }
            stays
        });
        drop(gone); // the subscription ends here
        RouteProviders::here().on_workers(move || LocalScopes::here().remove(id), || ());
    }
}

/// Asks for the routes of a scope, on a worker: gives the scopes that there are when it was answered.
pub(super) fn ask(
    slot: u64,
    key: Key,
    scopes: Weak<ScopeSource>,
) -> LocalBoxFuture<'static, Option<Rc<dyn RouteSource>>> {
    let (waiting, answered) = oneshot::channel();
    worker::post_to_main(move || {
        if let Some(p) = worker::existing::<ScopeProviders>().and_then(|all| all.find(slot)) {
            p.ask(&key, waiting);
        }
    });
    Box::pin(async move {
        // Nothing is ever sent: who answers lets go.
        let _ = answered.await;
        Some(scopes.upgrade()? as Rc<dyn RouteSource>)
    })
}

impl ScopeProvider {
    fn wait(&self, init: &Init) {
        if let Some(waiting) = &mut *self.waiting.borrow_mut() {
            waiting.push(init.target("ConfigSubscriptionCommonBase init target 'SRDS'"));
        }
    }
    fn answered(&self) {
        let first = self.first.take();
        drop(first);
    }
    fn view(&self) -> Option<ScopesView> {
        let version = self.version.borrow().clone()?;
        let scopes = self.scopes.borrow().values().map(|h| h.config.clone()).collect();
        Some(ScopesView { name: self.name.clone(), version, updated: self.updated.get(), scopes })
    }
    /// Subscribes to the routes of a scope.
    fn open(&self, name: &str, init: Option<&Init>) -> ScopePlan {
        let source = Some(Box::new(self.routes_from.clone()));
        let rds = pb::Rds { config_source: source, route_config_name: name.to_owned() };
        ScopePlan::Rds(RouteProviders::here().open(&self.discovery, &self.filters, &rds, init))
    }
    /// A request waits for the routes of the scope with this key.
    fn ask(&self, key: &Key, waiting: oneshot::Sender<()>) {
        let Some(name) = self.names.borrow().get(key).cloned() else { return };
        let mut scopes = self.scopes.borrow_mut();
        let Some(held) = scopes.get_mut(&name) else { return };
        if let ScopePlan::OnDemand = held.routes {
            if self.discovery.check(&self.routes_from).is_err() {
                return;
            }
            held.routes = self.open(&held.config.route_configuration_name, None);
            let delta = vec![(key.clone(), Some(held.routes.clone()))];
            self.publish(delta, ());
        }
        if let ScopePlan::Rds(slot) = &held.routes {
            RouteProviders::here().when_ready(slot, waiting);
        }
        drop(scopes);
        self.count();
    }
    fn count(&self) {
        let scopes = self.scopes.borrow();
        let named = || scopes.values().filter(|h| h.config.route_configuration.is_none());
        let on_demand = named().filter(|h| h.config.on_demand).count();
        let active = named().filter(|h| matches!(h.routes, ScopePlan::Rds(_))).count();
        self.stats.all_scopes().set(scopes.len() as u64);
        self.stats.on_demand_scopes().set(on_demand as u64);
        self.stats.active_scopes().set(active as u64);
    }
    /// Tells the workers; `old` goes when they know.
    fn publish(&self, delta: Delta, old: impl Send + 'static) {
        let Some(slot) = self.slot.borrow().upgrade() else { return };
        slot.apply(&delta);
        let (id, delta) = (self.id, Arc::new(delta));
        let after = delta.clone(); // so that no worker is the last to hold it
        RouteProviders::here()
            .on_workers(move || LocalScopes::here().apply(id, &delta), move || drop((after, old)));
    }
    /// Whether two scopes would have the same name or key.
    fn conflicts(&self, new: &[ScopedRouteConfiguration], removed: &HashSet<&str>) -> Result<(), String> {
        let mut seen: HashSet<&str> = HashSet::new();
        let replaced: HashSet<&str> = new.iter().map(|s| &*s.name).collect();
        let mut keys: HashMap<Key, &str> = HashMap::new();
        let names = self.names.borrow();
        for s in new {
            if !seen.insert(&s.name) {
                return Err(format!("duplicate scoped route configuration '{}' found", s.name));
            }
            let key = key::of(s.key.as_ref());
            let kept = names.get(&key).map(|n| &**n);
            let kept = kept.filter(|n| !replaced.contains(n) && !removed.contains(n));
            if let Some(first) = kept.or_else(|| keys.get(&key).copied()) {
                let second = &s.name;
                return Err(format!(
                    "scope key conflict found, first scope is '{first}', second scope is '{second}'"
                ));
            }
            keys.insert(key, &s.name);
        }
        Ok(())
    }
    fn take(&self, new: Vec<ScopedRouteConfiguration>, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let replaced: HashSet<&str> = new.iter().map(|s| &*s.name).collect();
        let removed: Vec<String> = match u.removed {
            Removed::Named(names) => names.to_vec(),
            Removed::Others => self.scopes.borrow().keys().cloned().collect(),
        };
        let removed: HashSet<&str> =
            removed.iter().map(String::as_str).filter(|n| !replaced.contains(n)).collect();
        self.conflicts(&new, &removed)
            .map_err(|e| BuildError(format!("Error adding/updating scoped route(s): {e}")))?;
        let removed: Vec<String> = removed.into_iter().map(str::to_owned).collect();
        let is_new = |s: &ScopedRouteConfiguration| {
            self.scopes.borrow().get(&s.name).is_none_or(|held| *held.config != *s)
        };
        let new: Vec<_> = new.into_iter().filter(is_new).collect();
        // Nothing is begun before all of them are known to be right.
        let tables = new.iter().map(|s| self.table(s, cx)).collect::<BuildResult<Vec<_>>>()?;
        let mut delta = Delta::new();
        let mut old = vec![]; // subscriptions among it may be needed once more below
        {
            let (mut scopes, mut names) = (self.scopes.borrow_mut(), self.names.borrow_mut());
            for name in removed.iter().chain(new.iter().map(|s| &s.name)) {
                let Some(gone) = scopes.remove(name) else { continue };
                names.remove(&gone.key);
                delta.push((gone.key, None));
                old.push(gone.routes);
            }
        }
        let changed = !delta.is_empty() || !new.is_empty();
        let waits = self.waiting.borrow().is_some();
        for (config, table) in new.into_iter().zip(tables) {
            let routes = match table {
                Some(table) => ScopePlan::Fixed(table),
                None if config.on_demand => ScopePlan::OnDemand,
                None => self.open(&config.route_configuration_name, waits.then_some(&self.init)),
            };
            let key = key::of(config.key.as_ref());
            delta.push((key.clone(), Some(routes.clone())));
            self.names.borrow_mut().insert(key.clone(), config.name.clone());
            let held = Held { key, routes, config: Rc::new(config) };
            self.scopes.borrow_mut().insert(held.config.name.clone(), held);
        }
        if changed {
            *self.version.borrow_mut() = Some(u.version.into());
            // Subscriptions end now, before the response is acknowledged, as in Envoy; tables when no worker has them.
            old.retain(|plan| matches!(plan, ScopePlan::Fixed(_)));
            self.publish(delta, old);
        }
        Ok(())
    }
    /// The routes that came with a scope; none when RDS brings them.
    fn table(&self, s: &ScopedRouteConfiguration, cx: &BuildCx<'_>) -> BuildResult<Option<Arc<RouteTable>>> {
        checked(s)?;
        if let Some(routes) = &s.route_configuration {
            let cx = BuildCx { scope: &self.filters, ..*cx };
            return Ok(Some(Arc::new(RouteTable::new(routes, &cx)?)));
        }
        if !s.on_demand {
            self.discovery.check(&self.routes_from)?;
        }
        Ok(None)
    }
}

impl Subscriber for ScopeProvider {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let decoded = u.resources.iter().map(|r| ScopedRouteConfiguration::decode(&*r.bytes));
        let new = decoded
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| BuildError(format!("Unable to parse protobuf: {e}")))?;
        self.take(new, u, cx)?;
        self.updated.set(clock::wall());
        self.count();
        self.reloads.reloaded();
        self.answered();
        Ok(())
    }
    fn give_up(&self) {
        self.answered();
    }
}

#[cfg(test)]
#[path = "srds_tests.rs"]
mod tests;

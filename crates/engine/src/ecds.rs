//! Filters whose configuration comes from a control plane (`config_discovery`, ECDS).
//!
//! Main subscribes once for all filters of one kind that ask one source for one name; each of them builds what has come in
//! its own way. A worker looks into a [`Slot`] when a stream or connection begins, which keeps the filter it found there.

#![expect(clippy::disallowed_types, reason = "a worker reads the lock once, when it first looks into a slot")]

use nuncio_api::envoy::config::core::v3::{ExtensionConfigSource, TypedExtensionConfig};
use nuncio_core::coverage::Covered;
use nuncio_core::discovery::{
    CountUpdates, Removed, Resource, Subscribe, Subscriber, Subscription, SubscriptionStats, Update,
};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::hash::TrustedMap;
use nuncio_core::init::Target;
use nuncio_core::stats::Scope;
use nuncio_core::worker::{self, Workers};
use nuncio_core::{clock, stats};
use prost::Message;
use prost_types::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock, Weak as ArcWeak};
use std::time::SystemTime;

/// What is read of `ExtensionConfigSource`; what comes from there is in a table of `core`.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.config.core.v3.ExtensionConfigSource",
    &["config_source", "default_config", "apply_default_config_without_warming", "type_urls"],
)];

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A filter that may be replaced, or not be there yet: the subscription lives as long as any of them.
pub struct Slot<T: Clone + Send + Sync + 'static> {
    id: u64,
    now: RwLock<Option<T>>,
}

/// What a worker knows of slots.
struct Local<T>(RefCell<TrustedMap<u64, Rc<Option<T>>>>);

impl<T: Clone + Send + Sync + 'static> Local<T> {
    fn here() -> Rc<Local<T>> {
        worker::local(|| Local(RefCell::default()))
    }
}

impl<T: Clone + Send + Sync + 'static> Slot<T> {
    /// The filter at this moment, on this worker; none when its configuration is missing.
    pub fn get(&self) -> Rc<Option<T>> {
        let here = Local::<T>::here();
        let mut all = here.0.borrow_mut();
        all.entry(self.id).or_insert_with(|| Rc::new(self.now())).clone()
    }
    fn now(&self) -> Option<T> {
        // A poisoned lock still guards a whole value.
        self.now.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// Puts another filter to use, on main; the one before goes when all workers have let go.
    fn set(&self, filter: Option<T>) {
        let old = {
            let mut now = self.now.write().unwrap_or_else(|e| e.into_inner());
            std::mem::replace(&mut *now, filter.clone())
        };
        let id = self.id;
        if let Some(w) = Providers::here().workers() {
            let tell = move |_| {
                if let Some(f) = Local::<T>::here().0.borrow_mut().get_mut(&id) {
                    *f = Rc::new(filter.clone());
                }
            };
            w.run_on_all(tell, move || drop(old));
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for Slot<T> {
    fn drop(&mut self) {
        let id = self.id;
        // When the process ends, all that is left is gone already.
        let release = move || {
            let Some(providers) = worker::existing::<Providers>() else { return };
            providers.release(id);
            if let Some(w) = providers.workers() {
                let forget = move |_| {
                    let gone = Local::<T>::here().0.borrow_mut().remove(&id);
                    drop(gone);
                };
                w.run_on_all(forget, || ());
            }
        };
        match worker::current_index() == worker::MAIN {
            true => release(),
            false => worker::post_to_main(release),
        }
    }
}

/// A filter that wants configuration.
struct Holder {
    id: u64,
    types: Vec<String>,
    /// Where its stats go.
    scope: Scope,
    /// Builds a filter, which is put to use when what this gives is called.
    build: Build,
    /// Puts the default to use, or nothing.
    reset: Box<dyn Fn()>,
}

type Build = Box<dyn Fn(&TypedExtensionConfig, &BuildCx<'_>) -> BuildResult<Box<dyn FnOnce()>>>;

impl Holder {
    fn build(&self, c: &TypedExtensionConfig, cx: &BuildCx<'_>) -> BuildResult<Box<dyn FnOnce()>> {
        let any = c.typed_config.clone().unwrap_or_default();
        let of = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
        if !self.types.iter().any(|t| of(t) == of(&any.type_url)) {
            let types: Vec<_> = self.types.iter().map(|t| of(t)).collect();
            let (got, want) = (of(&any.type_url), types.join(", "));
            return Err(format!("Error: filter config has type URL {got} but expect {want}.").into());
        }
        (self.build)(c, &BuildCx { scope: &self.scope, ..*cx })
    }
}

stats! {
    /// `extension_config_discovery.<kind>.<name>.`; [`SubscriptionStats`] are there, too.
    struct EcdsStats {
        config_conflict: SharedCounter,
        config_fail: SharedCounter,
        config_reload: SharedCounter,
    }
}

/// A subscription to one configuration, on main.
struct Provider {
    name: String,
    holders: RefCell<Vec<Holder>>,
    state: RefCell<Option<(Resource, SystemTime)>>,
    /// Who waits for the first configuration; nobody any more once it is there, or known not to come.
    waiting: RefCell<Option<Vec<Target>>>,
    stats: EcdsStats,
    subscription: RefCell<Option<Subscription>>,
}

/// By kind, source and name.
type Key = (&'static str, Vec<u8>, String);

/// All subscriptions; they live on main.
#[derive(Default)]
pub struct Providers {
    all: RefCell<BTreeMap<Key, Rc<Provider>>>,
    workers: RefCell<Option<Rc<Workers>>>,
}

impl Providers {
    /// Those of this thread.
    pub fn here() -> Rc<Providers> {
        worker::local(Providers::default)
    }
    /// From now on these workers are told.
    pub fn publish(&self, workers: &Rc<Workers>) {
        *self.workers.borrow_mut() = Some(workers.clone());
    }
    fn workers(&self) -> Option<Rc<Workers>> {
        self.workers.borrow().clone()
    }
    /// Every configuration that has come, and when; sorted by name.
    pub fn list(&self) -> Vec<(Resource, SystemTime)> {
        let mut all: Vec<_> = self.all.borrow().values().filter_map(|p| p.state.borrow().clone()).collect();
        all.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        all
    }
    fn release(&self, id: u64) {
        let mut gone = vec![];
        self.all.borrow_mut().retain(|_, p| {
            p.holders.borrow_mut().retain(|h| h.id != id);
            let stays = !p.holders.borrow().is_empty();
            if !stays {
                gone.push(p.clone());
            }
            stays
        });
        drop(gone); // the subscription ends here
    }
}

/// A filter of a kind (`http_filter`, `network_filter`, `tcp_listener_filter`) whose configuration is discovered; `build`
/// makes one. What is built waits for the configuration, unless it need not.
///
/// # Errors
/// It cannot come from there, or the default is refused.
pub fn discover<T: Clone + Send + Sync + 'static>(
    kind: &'static str,
    name: &str,
    c: &ExtensionConfigSource,
    cx: &BuildCx<'_>,
    build: impl Fn(&Any, &BuildCx<'_>) -> BuildResult<T> + 'static,
) -> BuildResult<Arc<Slot<T>>> {
    let discovery = cx.server.discovery();
    let discovery = discovery.ok_or_else(|| BuildError::not_implemented("config_discovery here"))?;
    let source = c.config_source.as_deref().cloned().unwrap_or_default();
    discovery.check(&source)?;
    if c.apply_default_config_without_warming && c.default_config.is_none() {
        return Err(format!(
            "Error: filter config {name} applied without warming but has no default config."
        )
        .into());
    }
    for url in &c.type_urls {
        // Known at all; its configuration will say the rest.
        let ty = url.rsplit('/').next().unwrap_or_default();
        if nuncio_api::schema::message(ty).is_none() {
            return Err(format!("Error: no factory found for a required type URL {url}.").into());
        }
    }
    let default = c.default_config.as_ref().map(|any| build(any, cx)).transpose()?;
    let slot = Arc::new(Slot { id: NEXT.fetch_add(1, Relaxed), now: RwLock::new(default.clone()) });
    if cx.validate_only {
        return Ok(slot);
    }
    let (weak, owned) = (Arc::downgrade(&slot), name.to_owned());
    let reset = weak.clone();
    let holder = Holder {
        id: slot.id,
        types: c.type_urls.clone(),
        scope: cx.scope.clone(),
        build: Box::new(move |c, cx| {
            let any = c.typed_config.clone().unwrap_or_default();
            let made = build(&any, &BuildCx { name: &owned, ..*cx })?;
            let weak: ArcWeak<Slot<T>> = weak.clone();
            Ok(Box::new(move || weak.upgrade().iter().for_each(|s| s.set(Some(made.clone())))))
        }),
        reset: Box::new(move || reset.upgrade().iter().for_each(|s| s.set(default.clone()))),
    };
    let key = (kind, source.encode_to_vec(), name.to_owned());
    let all = Providers::here();
    let there = all.all.borrow().get(&key).cloned();
    let waits = !c.apply_default_config_without_warming;
    if let Some(p) = there {
        p.join(holder, waits, cx)?;
        return Ok(slot);
    }
    let scope = cx.scope.store().root().scope("extension_config_discovery").scope(kind).scope(name);
    let provider = Rc::new(Provider {
        name: name.to_owned(),
        holders: RefCell::default(),
        state: RefCell::default(),
        waiting: RefCell::new(Some(vec![])),
        stats: EcdsStats::new(&scope),
        subscription: RefCell::default(),
    });
    provider.join(holder, waits, cx)?;
    all.all.borrow_mut().insert(key, provider.clone());
    let subscriber: Weak<Provider> = Rc::downgrade(&provider);
    let subscription = discovery.subscribe(Subscribe {
        kind: "envoy.config.core.v3.TypedExtensionConfig",
        source: &source,
        name: Some(name),
        scope: &scope,
        stats: Rc::new(SubscriptionStats::new(&scope)) as Rc<dyn CountUpdates>,
        subscriber,
    });
    *provider.subscription.borrow_mut() = Some(subscription);
    Ok(slot)
}

impl Provider {
    fn join(&self, holder: Holder, waits: bool, cx: &BuildCx<'_>) -> BuildResult<()> {
        let known = self.state.borrow().clone();
        if let Some((r, _)) = known {
            let apply = holder.build(&decode(&r)?, cx)?;
            apply();
        } else if waits && let Some(waiting) = &mut *self.waiting.borrow_mut() {
            waiting.push(cx.init.target(&format!("DynamicFilterConfigProviderImpl {}", self.name)));
        }
        self.holders.borrow_mut().push(holder);
        Ok(())
    }
    fn ready(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }
    fn reset(&self) {
        self.holders.borrow().iter().for_each(|h| (h.reset)());
    }
}

fn decode(r: &Resource) -> BuildResult<TypedExtensionConfig> {
    TypedExtensionConfig::decode(&*r.bytes).map_err(|e| BuildError(format!("Unable to parse protobuf: {e}")))
}

impl Subscriber for Provider {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let Some(r) = u.resources.first() else {
            if matches!(u.removed, Removed::Named(names) if names.contains(&self.name)) {
                *self.state.borrow_mut() = None;
                self.reset();
                self.stats.config_reload().inc();
            }
            return Ok(());
        };
        let c = decode(r)?;
        if c.name != self.name {
            return Err(format!("Unexpected resource name in ExtensionConfigDS response: {}", c.name).into());
        }
        // All of them, or none.
        let built: BuildResult<Vec<_>> = self.holders.borrow().iter().map(|h| h.build(&c, cx)).collect();
        built?.into_iter().for_each(|apply| apply());
        self.stats.config_reload().inc();
        *self.state.borrow_mut() = Some((r.clone(), clock::wall()));
        self.ready();
        Ok(())
    }
    fn give_up(&self) {
        self.stats.config_fail().inc();
        self.ready();
    }
}

#[cfg(test)]
#[path = "ecds_tests.rs"]
mod tests;

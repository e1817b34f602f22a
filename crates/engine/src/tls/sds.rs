//! Secrets that come while the server runs (`SdsSecretConfig.sds_config`): from files and from control planes.
//!
//! Contexts that name the same secret share one subscription ([`SecretProvider`]). A context is built when all its secrets
//! are there, and anew when one of them changes, be it that another one comes or that a file it names is replaced
//! ([`Renewed`]): handshakes from then on use it, connections stay. What cannot be built is refused; the context before
//! stays in use.

#![expect(
    clippy::disallowed_types,
    reason = "a worker reads the lock once a handshake, which costs a thousand times as much"
)]

use super::material;
use nuncio_api::envoy::config::core::v3::{DataSource, data_source::Specifier};
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::discovery::{
    Discovery, Removed, Subscribe, Subscriber, Subscription, SubscriptionStats, Update,
};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::init::Target;
use nuncio_core::worker;
use nuncio_core::{clock, log, stats};
use pb::secret::Type;
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

/// Why a connection ends that comes before its secrets.
pub const NOT_READY: &str = "TLS error: Secret is not supplied by SDS";

/// Full name of the message.
const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";

stats! {
    /// `sds.<name>.`; [`SubscriptionStats`] are there, too.
    struct SdsStats {
        key_rotation_failed: SharedCounter,
    }
}

/// Something built of secrets, as all threads share it.
pub struct Renewed<T> {
    /// Known to main by this number when it can change.
    id: Option<u64>,
    now: RwLock<Option<Arc<T>>>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl<T: Send + Sync + 'static> Renewed<T> {
    /// Builds something of these secrets: now, if they are there (or none is wanted), and whenever one changes. `renewed` is
    /// called for every secret that comes; `cx.init` waits for the first ones.
    ///
    /// # Errors
    /// It cannot be built, or a secret cannot come from where it should.
    pub fn new(
        wanted: &[pb::SdsSecretConfig],
        cx: &BuildCx<'_>,
        build: impl Fn() -> BuildResult<T> + 'static,
        renewed: impl Fn() + 'static,
    ) -> BuildResult<Arc<Renewed<T>>> {
        if wanted.is_empty() {
            return Ok(Arc::new(Renewed { id: None, now: RwLock::new(Some(Arc::new(build()?))) }));
        }
        let discovery = cx.server.discovery();
        let discovery = discovery.ok_or_else(|| BuildError::not_implemented("SdsSecretConfig.sds_config"))?;
        for w in wanted {
            discovery.check(&w.sds_config.clone().unwrap_or_default())?;
        }
        if cx.validate_only {
            return Ok(Arc::new(Renewed { id: None, now: RwLock::default() }));
        }
        let providers = SecretProviders::here();
        let wants: Vec<_> = wanted.iter().map(|w| providers.provide(w, &*discovery, cx)).collect();
        let came = wants.iter().filter(|w| w.current().is_some()).count();
        let there = |wants: &[Rc<SecretProvider>]| wants.iter().all(|p| p.current().is_some());
        let now = if there(&wants) { Some(Arc::new(build()?)) } else { None };
        let id = NEXT.fetch_add(1, Relaxed);
        let slot = Arc::new(Renewed { id: Some(id), now: RwLock::new(now) });
        // Envoy counts each secret that comes, also while others are missing, and each that is there already.
        (0..came).for_each(|_| renewed());
        let (weak, mine, renewed) = (Arc::downgrade(&slot), wants.clone(), Rc::new(renewed));
        let rebuild = move || -> BuildResult<Commit> {
            if !there(&mine) {
                let renewed = renewed.clone();
                return Ok(Box::new(move || renewed()));
            }
            let (new, slot, renewed) = (Arc::new(build()?), weak.clone(), renewed.clone());
            Ok(Box::new(move || {
                if let Some(slot) = slot.upgrade() {
                    slot.set(new);
                    renewed();
                }
            }))
        };
        providers.users.borrow_mut().insert(id, Rc::new(User { wants, rebuild: Box::new(rebuild) }));
        Ok(slot)
    }
    /// What there is at this moment; nothing before all secrets are there.
    pub fn get(&self) -> Option<Arc<T>> {
        // A poisoned lock still guards a whole `Arc`.
        self.now.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    fn set(&self, new: Arc<T>) {
        let old = self.now.write().unwrap_or_else(|e| e.into_inner()).replace(new);
        drop(old); // not while the lock is held
    }
}

impl<T> Drop for Renewed<T> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        match worker::current_index() == worker::MAIN {
            true => release(id),
            false => worker::post_to_main(move || release(id)),
        }
    }
}

fn release(id: u64) {
    if let Some(all) = worker::existing::<SecretProviders>() {
        all.release(id);
    }
}

/// Puts to use what was built.
type Commit = Box<dyn FnOnce()>;

/// Something that is built of secrets, as main knows it.
struct User {
    wants: Vec<Rc<SecretProvider>>,
    rebuild: Box<dyn Fn() -> BuildResult<Commit>>,
}

/// A secret that came.
#[derive(Clone)]
struct Current {
    /// As it came.
    source: Arc<pb::Secret>,
    /// With the content of its files instead of their names.
    secret: Arc<pb::Secret>,
    version: Arc<str>,
    at: SystemTime,
}

/// A subscription to a secret, on main.
pub struct SecretProvider {
    me: Weak<SecretProvider>,
    key: Vec<u8>,
    name: String,
    state: RefCell<Option<Current>>,
    /// Who waits for it; nobody any more once it is there, or known not to come.
    waiting: RefCell<Option<Vec<Target>>>,
    stats: SdsStats,
    subscription: RefCell<Option<Subscription>>,
    /// Folders of its files.
    folders: RefCell<Vec<Subscription>>,
}

/// A secret as `/config_dump` shows it.
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Its version, and when it came; nothing while it is waited for.
    pub revision: Option<(Arc<str>, SystemTime)>,
    /// Itself, private keys included.
    pub secret: Option<Arc<pb::Secret>>,
}

/// All subscriptions to secrets; they live on main.
#[derive(Default)]
pub struct SecretProviders {
    all: RefCell<BTreeMap<Vec<u8>, Rc<SecretProvider>>>,
    users: RefCell<BTreeMap<u64, Rc<User>>>,
    generation: Cell<u64>,
}

impl SecretProviders {
    /// Those of this thread.
    pub fn here() -> Rc<SecretProviders> {
        worker::local(SecretProviders::default)
    }
    /// The secret that a context names, if it is there.
    pub fn find(&self, s: &pb::SdsSecretConfig) -> Option<Arc<pb::Secret>> {
        self.all.borrow().get(&s.encode_to_vec())?.current()
    }
    /// All of them, sorted by kind and name.
    pub fn list(&self) -> Vec<SecretView> {
        let view = |p: &Rc<SecretProvider>| {
            let now = p.state.borrow().clone();
            SecretView {
                name: p.name.clone(),
                revision: now.as_ref().map(|n| (n.version.clone(), n.at)),
                secret: now.map(|n| n.secret),
            }
        };
        let mut all: Vec<_> = self.all.borrow().values().map(view).collect();
        // Certificates first, as in Envoy.
        let kind = |v: &SecretView| match v.secret.as_ref().and_then(|s| s.r#type.as_ref()) {
            Some(Type::TlsCertificate(_)) => 0,
            Some(Type::ValidationContext(_)) => 1,
            _ => 2,
        };
        all.sort_by(|a, b| kind(a).cmp(&kind(b)).then_with(|| a.name.cmp(&b.name)));
        all
    }
    /// Another number whenever one of them changes.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }
    fn provide(
        &self,
        s: &pb::SdsSecretConfig,
        discovery: &dyn Discovery,
        cx: &BuildCx<'_>,
    ) -> Rc<SecretProvider> {
        let key = s.encode_to_vec();
        let there = self.all.borrow().get(&key).cloned();
        if let Some(p) = there {
            p.wait(cx);
            return p;
        }
        let scope = cx.scope.store().root().scope("sds").scope(&s.name);
        let provider = Rc::new_cyclic(|me| SecretProvider {
            me: me.clone(),
            key: key.clone(),
            name: s.name.clone(),
            state: RefCell::default(),
            waiting: RefCell::new(Some(vec![])),
            stats: SdsStats::new(&scope),
            subscription: RefCell::default(),
            folders: RefCell::default(),
        });
        provider.wait(cx);
        self.all.borrow_mut().insert(key, provider.clone());
        let weak: Weak<SecretProvider> = Rc::downgrade(&provider);
        let source = s.sds_config.clone().unwrap_or_default();
        let subscription = discovery.subscribe(Subscribe {
            kind: SECRET,
            source: &source,
            name: Some(&s.name),
            stats: Rc::new(SubscriptionStats::new(&scope)),
            scope: &scope,
            subscriber: weak,
        });
        *provider.subscription.borrow_mut() = Some(subscription);
        provider
    }
    /// Nobody needs what has this number any more, nor perhaps its secrets.
    fn release(&self, id: u64) {
        let gone = self.users.borrow_mut().remove(&id);
        let Some(gone) = gone else { return };
        for p in &gone.wants {
            let used = self.users.borrow().values().any(|u| u.wants.iter().any(|w| Rc::ptr_eq(w, p)));
            let ended = if used { None } else { self.all.borrow_mut().remove(&p.key) };
            drop(ended); // the subscription ends with `gone`
        }
    }
    /// Builds anew what is built of a secret, and uses it if all of it could be built.
    fn renew(&self, p: &SecretProvider) -> BuildResult<()> {
        let mine = |u: &&Rc<User>| u.wants.iter().any(|w| std::ptr::eq(&**w, p));
        let users: Vec<_> = self.users.borrow().values().filter(mine).cloned().collect();
        let built: Vec<_> = users.iter().map(|u| (u.rebuild)()).collect::<BuildResult<_>>()?;
        self.generation.set(self.generation.get() + 1);
        built.into_iter().for_each(|commit| commit());
        Ok(())
    }
}

impl SecretProvider {
    fn current(&self) -> Option<Arc<pb::Secret>> {
        self.state.borrow().as_ref().map(|c| c.secret.clone())
    }
    fn wait(&self, cx: &BuildCx<'_>) {
        if let Some(waiting) = &mut *self.waiting.borrow_mut() {
            waiting.push(cx.init.target(&format!("shared target SdsApi {}", self.name)));
        }
    }
    fn ready(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }
    fn take_over(&self, new: Current) -> BuildResult<()> {
        let old = self.state.replace(Some(new));
        let renewed = SecretProviders::here().renew(self);
        if renewed.is_err() {
            *self.state.borrow_mut() = old;
        }
        renewed
    }
    /// Looks at the folders that the files of a secret are in.
    fn follow(&self, secret: &pb::Secret, discovery: &dyn Discovery) {
        let follow = |folder: PathBuf| {
            let me = self.me.clone();
            let changed = move || me.upgrade().into_iter().for_each(|p| p.files_changed());
            discovery.follow(&folder, Rc::new(changed))
        };
        let followed = folders(secret).into_iter().map(follow).collect();
        let before = self.folders.replace(followed);
        drop(before);
    }
    /// Something was moved into a folder of its files.
    fn files_changed(&self) {
        let Some(now) = self.state.borrow().clone() else { return };
        let renewed = resolved(&now.source).and_then(|secret| match secret == *now.secret {
            true => Ok(()),
            false => self.take_over(Current { secret: Arc::new(secret), ..now }),
        });
        if let Err(e) = renewed {
            self.stats.key_rotation_failed().inc();
            log!(Secret, Warning, "Failed to reload certificates: {e}");
        }
    }
}

impl Subscriber for SecretProvider {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let Some(r) = u.resources.first() else {
            return match u.removed {
                // A secret that is taken back stays.
                Removed::Named(gone) if !gone.is_empty() => Ok(()),
                _ => Err(format!("Missing SDS resources for {} in onConfigUpdate()", self.name).into()),
            };
        };
        let secret = pb::Secret::decode(&*r.bytes).map_err(|e| BuildError(e.to_string()))?;
        if secret.name != self.name {
            let (expected, got) = (&self.name, &secret.name);
            return Err(format!("Unexpected SDS secret (expecting {expected}): {got}").into());
        }
        let (version, at) = (r.version.clone(), clock::wall());
        if let Some(now) = &mut *self.state.borrow_mut()
            && *now.source == secret
        {
            // The same once more: nothing is read or built.
            (now.version, now.at) = (version, at);
            return Ok(());
        }
        let read = Arc::new(resolved(&secret)?);
        let source = Arc::new(secret);
        self.take_over(Current { source: source.clone(), secret: read, version, at })?;
        if let Some(d) = cx.server.discovery() {
            self.follow(&source, &*d);
        }
        self.ready();
        Ok(())
    }
    fn give_up(&self) {
        self.ready();
    }
}

/// A secret with the content of its files instead of their names: all of it is read at one time.
fn resolved(s: &pb::Secret) -> BuildResult<pb::Secret> {
    let read = |d: &mut Option<DataSource>| -> BuildResult<()> {
        if let Some(d) = d
            && matches!(d.specifier, Some(Specifier::Filename(_)))
        {
            d.specifier = Some(Specifier::InlineBytes(material::read(d)?.0));
        }
        Ok(())
    };
    let mut s = s.clone();
    match &mut s.r#type {
        Some(Type::TlsCertificate(c)) => {
            read(&mut c.certificate_chain)?;
            read(&mut c.private_key)?;
        }
        Some(Type::ValidationContext(v)) => {
            read(&mut v.trusted_ca)?;
            read(&mut v.crl)?;
        }
        Some(Type::SessionTicketKeys(k)) => {
            for key in &mut k.keys {
                let mut one = Some(std::mem::take(key));
                read(&mut one)?;
                *key = one.unwrap_or_default();
            }
        }
        _ => {}
    }
    Ok(s)
}

/// Where the files of a secret are: `watched_directory`, or the folders that they are in.
fn folders(s: &pb::Secret) -> Vec<PathBuf> {
    let (watched, sources): (_, [Option<&DataSource>; 2]) = match &s.r#type {
        Some(Type::TlsCertificate(c)) => {
            (c.watched_directory.as_ref(), [c.certificate_chain.as_ref(), c.private_key.as_ref()])
        }
        Some(Type::ValidationContext(v)) => {
            (v.watched_directory.as_ref(), [v.trusted_ca.as_ref(), v.crl.as_ref()])
        }
        _ => return vec![],
    };
    let parent = |d: &DataSource| match &d.specifier {
        Some(Specifier::Filename(f)) => {
            let parent = Path::new(f).parent()?;
            Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
        }
        _ => None,
    };
    let mut all: Vec<PathBuf> = sources.into_iter().flatten().filter_map(parent).collect();
    if let (Some(w), false) = (watched, all.is_empty()) {
        all = vec![PathBuf::from(&w.path)];
    }
    all.dedup();
    all
}

#[cfg(test)]
#[path = "sds_tests.rs"]
mod tests;

//! A cache of names, on main: asks for each that somebody wants, tells the workers and the clusters, asks again while it is
//! used.

use super::config::Options;
use super::names::{Cache, Known, Name, Names, host_of, port_of};
use crate::revision::unwatched;
use crate::stats::DnsCacheStats;
use crate::upstream::breakers::Resource;
use crate::upstream::dns::{Answer, Resolver};
use crate::upstream::host::{Host, Wanted};
use crate::upstream::manager::{ClusterEntry, ClusterManager, WeakManager};
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::info::HostInfo;
use nuncio_core::stats::{DerivedGauge, DerivedGauges, Scope};
use nuncio_core::upstreams::DnsCache;
use nuncio_core::{rng, worker};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// The caches of this server, by name.
#[derive(Default)]
struct Caches(RefCell<HashMap<Arc<str>, Rc<Main>>>);

/// A cache on main.
struct Main {
    config: DnsCacheConfig,
    options: Options,
    names: Arc<Names>,
    manager: WeakManager,
    resolver: Rc<Resolver>,
    entries: RefCell<BTreeMap<Arc<str>, Entry>>,
    clusters: RefCell<Vec<Attached>>,
    begun: Cell<bool>,
}

/// A name.
struct Entry {
    /// What became of it; `None` while it is resolved for the first time.
    name: Option<Name>,
    last_used: Instant,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A cluster with the cache, and its hosts by the keys of their names.
struct Attached {
    cluster: Weak<ClusterEntry>,
    hosts: BTreeMap<Arc<str>, Arc<Host>>,
}

/// The cache of a configuration, made when its name is new.
///
/// # Errors
/// Another configuration has its name, or it is refused.
pub fn get(
    manager: &ClusterManager,
    c: &DnsCacheConfig,
    resolver: impl FnOnce(&Options) -> Rc<Resolver>,
    root: &Scope,
) -> BuildResult<Arc<dyn DnsCache>> {
    let caches = worker::local(Caches::default);
    if let Some(there) = caches.0.borrow().get(&*c.name).filter(|m| m.manager.upgrade().is_some()) {
        if there.config != *c {
            let name = &c.name;
            return Err(BuildError(format!("config specified DNS cache '{name}' with different settings")));
        }
        return Ok(Arc::new(Cache(there.names.clone())));
    }
    let options = Options::new(c)?;
    let stats = DnsCacheStats::new(&root.scope("dns_cache").scope(&nuncio_core::stats::sanitize(&c.name)));
    let pending = Arc::new(Resource::new(options.max_pending));
    let left = pending.clone();
    stats.group().derive(Arc::new(move |gauges: &mut DerivedGauges| {
        if left.is_open() {
            gauges.set(const { DnsCacheStats::derived("rq_pending_open") }, 1);
        }
        const REMAINING: DerivedGauge = DnsCacheStats::derived("rq_pending_remaining");
        gauges.set(REMAINING, left.max().saturating_sub(left.used()));
    }));
    let names = Arc::new(Names {
        name: c.name.as_str().into(),
        max_hosts: options.max_hosts,
        hosts: Default::default(),
        pending,
        stats,
        on_demand: options.on_demand,
    });
    let main = Main {
        config: c.clone(),
        resolver: resolver(&options),
        options,
        names: names.clone(),
        manager: manager.downgrade(),
        entries: RefCell::default(),
        clusters: RefCell::default(),
        begun: Cell::new(false),
    };
    caches.0.borrow_mut().insert(names.name.clone(), Rc::new(main));
    Ok(Arc::new(Cache(names)))
}

/// A cluster has the cache from now on: its hosts are the names that were resolved.
pub fn attach(manager: &ClusterManager, c: &Rc<ClusterEntry>, cache: &str) {
    let main = worker::local(Caches::default).0.borrow().get(cache).cloned();
    let Some(main) = main else { return manager.initialized(c) };
    let mut attached = Attached { cluster: Rc::downgrade(c), hosts: BTreeMap::new() };
    for (key, e) in main.entries.borrow().iter() {
        if let Some(n) = e.name.as_ref().filter(|n| !n.addresses.is_empty()) {
            attached.add(c, key, n);
        }
    }
    if !attached.hosts.is_empty() {
        manager.set_hosts(c, attached.hosts.values().cloned().collect());
    }
    main.clusters.borrow_mut().push(attached);
    if !main.begun.replace(true) {
        for (host, port) in &main.options.preresolve {
            main.load(super::names::key_of(host, *port).into(), *port, false);
        }
    }
    manager.initialized(c);
}

/// On a worker: a name is wanted that it does not know. `again`: it is known, but could not be resolved.
pub fn load(cache: Arc<str>, key: Arc<str>, port: u16, again: bool) {
    worker::post_to_main(move || {
        let main = worker::local(Caches::default).0.borrow().get(&cache).cloned();
        if let Some(main) = main {
            main.load(key, port, again);
        }
    });
}

impl Attached {
    fn add(&mut self, c: &ClusterEntry, key: &Arc<str>, n: &Name) {
        let Some((first, others)) = n.addresses.split_first() else { return };
        let info = HostInfo {
            hostname: key.clone(),
            address_text: first.to_string().into(),
            address: Some(first.clone()),
            ..HostInfo::default()
        };
        let wanted = Wanted { info: Arc::new(info), weight: 1, others: others.into(), ..Wanted::default() };
        // Each host is matched to a transport socket.
        c.plan.transports.count(std::slice::from_ref(&wanted), &c.plan.stats);
        self.hosts.insert(key.clone(), Arc::new(Host::new(wanted)));
    }
}

impl Main {
    fn load(self: &Rc<Main>, key: Arc<str>, port: u16, again: bool) {
        let mut entries = self.entries.borrow_mut();
        if let Some(e) = entries.get(&key) {
            match &e.name {
                None => return, // all who wait will hear
                // A worker asked before it heard.
                Some(n) if !(again && n.addresses.is_empty()) => return self.tell(&key, Some(n.clone())),
                Some(_) => {
                    entries.remove(&key);
                    self.forgotten();
                }
            }
        }
        self.names.hosts.fetch_add(1, Relaxed);
        self.names.stats.host_added().inc();
        self.names.stats.num_hosts().add(1);
        let task = tokio::task::spawn_local(keep(Rc::downgrade(self), key.clone(), port)).abort_handle();
        entries.insert(key, Entry { name: None, last_used: clock::now(), task });
    }
    fn forgotten(&self) {
        self.names.hosts.fetch_sub(1, Relaxed);
        self.names.stats.host_removed().inc();
        self.names.stats.num_hosts().sub(1);
    }
    fn tell(&self, key: &Arc<str>, name: Option<Name>) {
        let Some(manager) = self.manager.upgrade() else { return };
        let (cache, key) = (self.names.name.clone(), key.clone());
        manager.on_all(move |_| Known::here().update(&cache, &key, name.as_ref()), (), unwatched());
    }
    /// The clusters with the cache get a host, or lose it.
    fn hosts(&self, key: &Arc<str>, name: Option<&Name>) {
        let Some(manager) = self.manager.upgrade() else { return };
        let mut all = self.clusters.borrow_mut();
        all.retain(|a| a.cluster.strong_count() > 0);
        for a in all.iter_mut() {
            let Some(c) = a.cluster.upgrade() else { continue };
            a.hosts.remove(key);
            if let Some(n) = name {
                a.add(&c, key, n);
            }
            manager.set_hosts(&c, a.hosts.values().cloned().collect());
        }
    }
    /// When a name was used last, by any cluster.
    fn last_used(&self, key: &Arc<str>) -> Option<Instant> {
        let all = self.clusters.borrow();
        let used = all.iter().filter_map(|a| a.hosts.get(key)).fold(false, |any, h| any | h.take_chosen());
        let mut entries = self.entries.borrow_mut();
        let e = entries.get_mut(key)?;
        if used {
            e.last_used = clock::now();
        }
        Some(e.last_used)
    }
    /// Takes an answer in. How long until the name is asked for again; `None`: when somebody wants it.
    fn finish(&self, key: &Arc<str>, port: u16, answer: Found, failures: &mut u32) -> Option<Duration> {
        let stats = &self.names.stats;
        let (answer, completed) = match answer {
            Found::Answer(a) => (a, true),
            Found::Failed(why) => (Err(why), false),
        };
        match completed {
            true => stats.dns_query_success().inc(),
            false => stats.dns_query_failure().inc(),
        }
        let o = &self.options;
        // In whole seconds, as in Envoy.
        let mut wait = Duration::from_secs(o.refresh.as_secs());
        if let Ok(a) = &answer {
            wait = Duration::from_secs(o.min_refresh.as_secs()).max(Duration::from_secs(a.ttl.as_secs()));
        }
        let old = self.entries.borrow().get(key)?.name.clone();
        let new = match answer {
            Ok(a) => Name { addresses: addresses(&a, port), details: "".into() },
            Err(why) => Name {
                addresses: [].into(),
                details: format!("dns_resolution_failure{{{}}}", why.replace(' ', "_")).into(),
            },
        };
        let had = old.as_ref().map_or(&[][..], |o| &o.addresses[..]);
        let changed = !new.addresses.is_empty()
            && (had.len() != new.addresses.len() || new.addresses.iter().any(|a| !had.contains(a)));
        // What was resolved once stays as it was when it cannot be resolved any more.
        if changed || had.is_empty() {
            if let Some(e) = self.entries.borrow_mut().get_mut(key) {
                e.name = Some(new.clone());
            }
            if changed {
                stats.host_address_changed().inc();
                self.hosts(key, Some(&new));
            }
            self.tell(key, Some(new));
        }
        if completed {
            *failures = 0;
            return Some(wait);
        }
        if o.on_demand {
            return None;
        }
        let Some((base, max)) = o.failure_refresh else { return Some(o.refresh) };
        let bound = base.saturating_mul(1 << (*failures).min(30)).min(max);
        *failures += 1;
        Some(Duration::from_millis(rng::below((bound.as_millis() as u64).max(1))))
    }
    fn forget(&self, key: &Arc<str>) {
        let entry = self.entries.borrow_mut().remove(key);
        let Some(e) = entry else { return };
        self.forgotten();
        if e.name.as_ref().is_some_and(|n| !n.addresses.is_empty()) {
            self.hosts(key, None);
        }
        self.tell(key, None);
    }
}

/// What came of a question.
enum Found {
    /// Addresses, or why there are none.
    Answer(Result<Answer, String>),
    Failed(String),
}

/// Whether a name may be asked for: clients choose them.
fn is_name(host: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'*'))
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

fn addresses(a: &Answer, port: u16) -> Arc<[Address]> {
    let mut all: Vec<Address> = vec![];
    for ip in &a.addresses {
        let address = SocketAddr::new(*ip, port).into();
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all.into()
}

/// Resolves a name as often as it is to be, until nobody uses it.
async fn keep(cache: Weak<Main>, key: Arc<str>, default_port: u16) {
    let port = port_of(&key).unwrap_or(default_port);
    let host = host_of(&key).to_owned();
    let mut failures = 0;
    loop {
        let Some(main) = cache.upgrade() else { return };
        main.names.stats.dns_query_attempt().inc();
        let (resolver, family, timeout) = (main.resolver.clone(), main.options.family, main.options.timeout);
        drop(main);
        let ask = async {
            match host.parse::<IpAddr>() {
                Ok(ip) => {
                    Found::Answer(Ok(Answer { addresses: vec![ip], ttl: Duration::ZERO, unknown: false }))
                }
                Err(_) if !is_name(&host) => Found::Failed("cares_failure:Misformatted domain name".into()),
                Err(_) => match resolver.resolve(&host, family).await {
                    Ok(a) if a.addresses.is_empty() => Found::Answer(Err(match a.unknown {
                        true => "cares_norecords:Domain name not found".into(),
                        false => "cares_norecords:DNS server returned answer with no data".into(),
                    })),
                    Ok(a) => Found::Answer(Ok(a)),
                    Err(e) => Found::Failed(format!("cares_failure:{e}")),
                },
            }
        };
        let found = match timeout {
            None => ask.await,
            Some(t) => match clock::timeout(TimerKind::Other, t, ask).await {
                Ok(found) => found,
                Err(_) => {
                    let Some(main) = cache.upgrade() else { return };
                    main.names.stats.dns_query_timeout().inc();
                    Found::Failed("resolve_timeout".into())
                }
            },
        };
        let Some(main) = cache.upgrade() else { return };
        let wait = main.finish(&key, port, found, &mut failures);
        drop(main);
        let Some(wait) = wait else { return std::future::pending().await };
        clock::sleep(TimerKind::Other, wait).await;
        let Some(main) = cache.upgrade() else { return };
        let Some(last) = main.last_used(&key) else { return };
        if clock::now().saturating_duration_since(last) > main.options.host_ttl {
            // The last thing done here: the task ends with its entry.
            return main.forget(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_that_may_be_asked_for() {
        for good in ["a", "a.test", "a.test.", "_x._tcp.a-b.test", "10.test"] {
            assert!(super::is_name(good), "{good}");
        }
        let (label, name) = ("a".repeat(64), "a.".repeat(130));
        for bad in ["", ".", "a..b", "a b", "${x}", "a\u{e9}", &label, &name] {
            assert!(!super::is_name(bad), "{bad}");
        }
    }
}

//! What a worker knows of names, and how it learns of others.

use super::cache;
use crate::stats::DnsCacheStats;
use crate::upstream::breakers::Resource;
use crate::upstream::lb::config::Policy;
use crate::upstream::local::Clusters;
use nuncio_core::address::Address;
use nuncio_core::upstreams::{DnsCache, Lookup, Resolved};
use nuncio_core::worker;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::oneshot;

/// What threads share of a cache.
pub struct Names {
    /// `DnsCacheConfig.name`
    pub name: Arc<str>,
    /// How many names there may be.
    pub max_hosts: usize,
    /// How many there are.
    pub hosts: AtomicUsize,
    /// Requests that wait.
    pub pending: Arc<Resource>,
    /// `dns_cache.<name>.`
    pub stats: DnsCacheStats,
    /// What did not resolve is asked for again.
    pub on_demand: bool,
}

/// What became of a name.
#[derive(Clone, Debug)]
pub struct Name {
    /// All its addresses, with the port.
    pub addresses: Arc<[Address]>,
    /// Why there are none.
    pub details: Arc<str>,
}

impl Name {
    fn resolved(&self) -> Resolved {
        self.addresses.first().cloned().ok_or_else(|| self.details.clone())
    }
}

/// The names of all caches, as this thread knows them.
#[derive(Default)]
pub struct Known(RefCell<HashMap<Arc<str>, OfCache>>);

#[derive(Default)]
struct OfCache {
    names: HashMap<Arc<str>, Name>,
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<Resolved>>>,
}

impl Known {
    /// This thread's.
    pub fn here() -> std::rc::Rc<Known> {
        worker::local(Known::default)
    }
    /// Main says what became of a name; `None`: it was forgotten.
    pub fn update(&self, cache: &Arc<str>, key: &Arc<str>, name: Option<&Name>) {
        let waiting = {
            let mut all = self.0.borrow_mut();
            let of = all.entry(cache.clone()).or_default();
            match name {
                Some(n) => of.names.insert(key.clone(), n.clone()),
                None => of.names.remove(key),
            };
            // Those that wait for a name that was forgotten ask again.
            of.waiting.remove(key).unwrap_or_default()
        };
        if let Some(n) = name {
            waiting.into_iter().for_each(|w| drop(w.send(n.resolved()))); // some have given up
        }
    }
}

/// The key of a name in the cache: with the port it has, or the default.
pub fn key_of(host: &str, port: u16) -> String {
    match port_of(host) {
        Some(_) => host.to_owned(),
        None => format!("{host}:{port}"),
    }
}

/// The port of an authority.
pub fn port_of(authority: &str) -> Option<u16> {
    let (host, port) = authority.rsplit_once(':')?;
    let plain = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    port.parse().ok().filter(|_| plain)
}

/// The host of an authority, without its port and without the brackets of an IPv6 address.
pub fn host_of(authority: &str) -> &str {
    let host = match port_of(authority) {
        Some(_) => authority.rsplit_once(':').map_or(authority, |(h, _)| h),
        None => authority,
    };
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// One of the requests that may wait; given back when dropped.
struct Permit(Arc<Resource>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give();
    }
}

/// A cache as its users see it.
pub struct Cache(pub Arc<Names>);

impl DnsCache for Cache {
    fn default_port(&self, cluster: &str) -> Option<u16> {
        match &Clusters::here().get(cluster)?.plan.lb.policy {
            Policy::Forward(f) => Some(f.default_port),
            _ => None,
        }
    }
    fn look_up(&self, host: &str, port: u16) -> Lookup {
        let names = &self.0;
        if !names.pending.try_take() {
            names.stats.dns_rq_pending_overflow().inc();
            return Lookup::Busy;
        }
        let permit = Permit(names.pending.clone());
        let key: Arc<str> = key_of(host, port).into();
        let here = Known::here();
        let mut all = here.0.borrow_mut();
        let of = all.entry(names.name.clone()).or_default();
        let mut again = false;
        if let Some(n) = of.names.get(&key) {
            again = names.on_demand && n.addresses.is_empty();
            if !again {
                return Lookup::Known(n.resolved());
            }
        }
        if names.hosts.load(Relaxed) >= names.max_hosts {
            names.stats.host_overflow().inc();
            return Lookup::Full;
        }
        let (tell, told) = oneshot::channel();
        let waiting = of.waiting.entry(key.clone()).or_default();
        waiting.retain(|w| !w.is_closed());
        waiting.push(tell);
        let asked = waiting.len() > 1;
        drop(all);
        if !asked {
            cache::load(names.name.clone(), key, port, again);
        }
        Lookup::Loading(Box::pin(async move {
            let resolved = told.await.unwrap_or_else(|_| Err("dns_cache_host_removed".into()));
            drop(permit);
            resolved
        }))
    }
}

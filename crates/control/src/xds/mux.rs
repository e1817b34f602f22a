//! All subscriptions that share a stream to a control plane: turns responses into updates, and says which request is due.
//! It needs no socket; [`super::stream`] connects it.

use super::apply::Refused;
use super::delta::Delta;
use super::resource::{Received, received, type_url, unwrapped};
use super::sotw::Sotw;
use super::watch::{Demand, Watch};
use bytes::Bytes;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use nuncio_core::discovery::{Removed, Resource, Update};
use nuncio_core::{clock, log, stats};
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

stats! {
    /// `control_plane.`
    pub struct ControlPlaneStats {
        connected_state: SetGauge,
        pending_requests: SetGauge,
        rate_limit_enforced: SharedCounter,
        identifier: Text,
    }
}

/// Which protocol is spoken.
pub enum Machine {
    /// State of the world.
    Sotw(Sotw),
    /// Delta.
    Delta(Delta),
}

macro_rules! both {
    ($machine:expr, $m:ident => $e:expr) => {
        match $machine {
            Machine::Sotw($m) => $e,
            Machine::Delta($m) => $e,
        }
    };
}

/// See the module.
pub struct Mux {
    machine: RefCell<Machine>,
    watches: RefCell<BTreeMap<String, Vec<Rc<Watch>>>>,
    /// When resources end, by type and name.
    ends: RefCell<HashMap<(String, String), Instant>>,
    node: Rc<core::Node>,
    /// `set_node_on_first_message_only`
    node_once: bool,
    node_sent: Cell<bool>,
    /// Something has changed: perhaps a request is due.
    pub wake: Notify,
    /// What is counted of the stream.
    pub stats: ControlPlaneStats,
}

/// What a response says, in either protocol.
struct Incoming {
    url: String,
    nonce: String,
    version: String,
    resources: Vec<Result<Received, String>>,
    removed: Vec<String>,
    identifier: Option<String>,
}

impl Mux {
    /// Nothing is subscribed yet.
    pub fn new(delta: bool, node: Rc<core::Node>, node_once: bool, stats: ControlPlaneStats) -> Rc<Mux> {
        let machine = match delta {
            true => Machine::Delta(Delta::default()),
            false => Machine::Sotw(Sotw::default()),
        };
        Rc::new(Mux {
            machine: RefCell::new(machine),
            watches: RefCell::default(),
            ends: RefCell::default(),
            node,
            node_once,
            node_sent: Cell::new(false),
            wake: Notify::new(),
            stats,
        })
    }
    /// Whether it speaks the delta protocol.
    pub fn is_delta(&self) -> bool {
        matches!(&*self.machine.borrow(), Machine::Delta(_))
    }
    /// Asks for what a watch wants. What another one of the same name has, it gets at once.
    pub fn add(&self, watch: &Rc<Watch>) {
        let url = type_url(watch.kind);
        match (&mut *self.machine.borrow_mut(), &watch.demand) {
            (Machine::Delta(m), Some(_)) => m.open(&url),
            (m, _) => both!(m, m => m.subscribe(&url, watch.name.as_deref())),
        }
        let known = {
            let mut all = self.watches.borrow_mut();
            let of_type = all.entry(url).or_default();
            let known = watch
                .name
                .as_ref()
                .and_then(|n| of_type.iter().filter(|w| w.name.as_ref() == Some(n)).find_map(|w| w.last()));
            of_type.push(watch.clone());
            known
        };
        self.wake.notify_one();
        if let Some(r) = known {
            let version = r.version.clone();
            let u = Update { resources: &[r], removed: Removed::Named(&[]), version: &version };
            // It was taken over once; when it does not fit this one, its own response will say so.
            if let Err(e) = watch.deliver(&u, true) {
                watch.rejected(&e);
            }
        }
    }
    /// A watch on demand wants one more resource.
    pub fn ask(&self, watch: &Watch, name: &str) {
        let new = watch.demand.as_ref().is_some_and(|d| d.asked.borrow_mut().insert(name.to_owned()));
        if new {
            both!(&mut *self.machine.borrow_mut(), m => m.subscribe(&type_url(watch.kind), Some(name)));
            self.wake.notify_one();
        }
    }
    /// A watch wants nothing any more.
    pub fn remove(&self, watch: &Rc<Watch>) {
        watch.end();
        let url = type_url(watch.kind);
        if let Some(all) = self.watches.borrow_mut().get_mut(&url) {
            all.retain(|w| !Rc::ptr_eq(w, watch));
        }
        match (&mut *self.machine.borrow_mut(), &watch.demand) {
            (Machine::Delta(m), Some(demand)) => {
                m.close(&url);
                demand.asked.take().iter().for_each(|name| m.unsubscribe(&url, Some(name)));
            }
            (m, _) => both!(m, m => m.unsubscribe(&url, watch.name.as_deref())),
        }
        self.wake.notify_one();
    }
    /// No requests for these kinds until [`resume`](Self::resume).
    pub fn pause(&self, kinds: &[&str]) {
        kinds.iter().for_each(|k| both!(&mut *self.machine.borrow_mut(), m => m.pause(&type_url(k))));
    }
    /// See [`pause`](Self::pause).
    pub fn resume(&self, kinds: &[&str]) {
        kinds.iter().for_each(|k| both!(&mut *self.machine.borrow_mut(), m => m.resume(&type_url(k))));
        self.wake.notify_one();
    }
    /// A stream begins.
    pub fn connected(&self) {
        both!(&mut *self.machine.borrow_mut(), m => m.connected());
        self.node_sent.set(false);
        self.stats.connected_state().set(1);
    }
    /// The stream is over, or did not come about.
    pub fn disconnected(&self) {
        both!(&mut *self.machine.borrow_mut(), m => m.disconnected());
        self.stats.connected_state().set(0);
        self.stats.pending_requests().set(0);
        let all: Vec<_> = self.watches.borrow().values().flatten().cloned().collect();
        all.iter().for_each(|w| w.failed());
    }
    /// The next request that is due, encoded.
    pub fn request(&self) -> Option<Bytes> {
        let mut machine = self.machine.borrow_mut();
        let node = || {
            let needed = !(self.node_once && self.node_sent.replace(true));
            needed.then(|| Box::new((*self.node).clone()))
        };
        let bytes = match &mut *machine {
            Machine::Sotw(m) => {
                let mut r = m.next()?;
                r.node = node();
                r.encode_to_vec()
            }
            Machine::Delta(m) => {
                let mut r = m.next()?;
                r.node = node();
                r.encode_to_vec()
            }
        };
        Some(bytes.into())
    }
    /// How many requests are due.
    pub fn pending(&self) -> usize {
        both!(&*self.machine.borrow(), m => m.pending())
    }
    /// Takes over a response.
    ///
    /// # Errors
    /// It is none: the stream is of no use.
    pub async fn response(&self, bytes: Bytes) -> Result<(), String> {
        let delta = self.is_delta();
        let incoming = match bytes.len() < LONG {
            true => Incoming::decode(bytes, delta),
            // Elsewhere: main has other things to do meanwhile.
            false => {
                let decoded = tokio::task::spawn_blocking(move || Incoming::decode(bytes, delta)).await;
                decoded.unwrap_or_else(|e| Err(format!("cannot decode: {e}")))
            }
        }?;
        if let Some(id) = &incoming.identifier {
            self.stats.identifier().set(id);
        }
        let (url, nonce, version) = (incoming.url.clone(), incoming.nonce.clone(), incoming.version.clone());
        let url = url.as_str();
        let wanted = both!(&*self.machine.borrow(), m => m.is_wanted(url));
        match wanted {
            None => {
                log!(
                    Config,
                    Warning,
                    "Ignoring a response for type URL {url} (version {version}), which has no subscribers."
                );
                return Ok(());
            }
            Some(false) => {
                let empty = incoming.resources.is_empty();
                if let Machine::Sotw(m) = &mut *self.machine.borrow_mut() {
                    m.unwanted(url, &nonce, &version, empty);
                    self.wake.notify_one();
                    return Ok(());
                }
            }
            Some(true) => {}
        }
        both!(&mut *self.machine.borrow_mut(), m => m.pause(url));
        let result = match delta {
            true => self.take_delta(incoming).await,
            false => self.take_sotw(incoming).await,
        };
        // What waits for these resources goes on first: what it asks for comes before the answer, as in Envoy.
        tokio::task::yield_now().await;
        let mut machine = self.machine.borrow_mut();
        if let Err(e) = &result {
            log!(Config, Debug, "{url}: version {version} is refused: {e}");
        }
        match &mut *machine {
            Machine::Sotw(m) => {
                let result = result.as_ref().map(|()| version.as_str()).map_err(String::as_str);
                m.answered(url, &nonce, result);
                m.resume(url);
            }
            Machine::Delta(m) => {
                m.answered(url, &nonce, result.as_ref().map(|_| ()).map_err(String::as_str));
                m.resume(url);
            }
        }
        Ok(())
    }
    /// When the next resource ends.
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.borrow().values().min().copied()
    }
    /// Takes away the resources whose time is over.
    pub fn expire(&self) {
        let now = clock::now();
        let mut over: BTreeMap<String, Vec<String>> = BTreeMap::new();
        self.ends.borrow_mut().retain(|(url, name), end| {
            let stays = *end > now;
            if !stays {
                over.entry(url.clone()).or_default().push(name.clone());
            }
            stays
        });
        for (url, names) in over {
            if let Machine::Delta(m) = &mut *self.machine.borrow_mut() {
                m.took(&url, [], &names);
            }
            for w in self.of_type(&url) {
                let own: Vec<String> =
                    names.iter().filter(|n| w.name.as_ref().is_none_or(|own| own == *n)).cloned().collect();
                if !own.is_empty() {
                    let u = Update { resources: &[], removed: Removed::Named(&own), version: "" };
                    if let Err(e) = w.deliver(&u, true) {
                        w.rejected(&e);
                    }
                }
            }
        }
    }

    fn of_type(&self, url: &str) -> Vec<Rc<Watch>> {
        self.watches.borrow().get(url).cloned().unwrap_or_default()
    }
    fn note_end(&self, url: &str, r: &Received) {
        if r.ttl.is_none() && self.ends.borrow().is_empty() {
            return;
        }
        let key = (url.to_owned(), r.name.clone());
        match r.ttl {
            Some(ttl) => drop(self.ends.borrow_mut().insert(key, clock::now() + ttl)),
            None => drop(self.ends.borrow_mut().remove(&key)),
        }
    }
    async fn take_sotw(&self, i: Incoming) -> Result<(), String> {
        let mut errors = Refused::default();
        let none = i.resources.is_empty();
        let mut all: Vec<Resource> = vec![];
        for r in i.resources {
            match r {
                Ok(r) => {
                    self.note_end(&i.url, &r);
                    all.extend(r.resource);
                }
                Err(e) => errors.add(BETWEEN, e),
            }
        }
        let watches = self.of_type(&i.url);
        if !errors.is_empty() {
            let why = errors.text();
            watches.iter().for_each(|w| refuse(w, &why));
            return Err(why);
        }
        // A response that names only what lives on says nothing of the rest.
        let heartbeat = all.is_empty() && !none;
        let by_name: HashMap<&str, &Resource> = match watches.iter().any(|w| w.name.is_some()) {
            true => all.iter().map(|r| (r.name.as_str(), r)).collect(),
            false => HashMap::new(),
        };
        for w in watches {
            let u = Update { resources: &all, removed: Removed::Others, version: &i.version };
            let delivered = match w.name.as_deref().map(|n| by_name.get(n)) {
                None if heartbeat => continue,
                None => w.deliver_whole(&u).await,
                Some(None) => continue,
                Some(Some(r)) => {
                    let one = std::slice::from_ref(*r);
                    w.deliver(&Update { resources: one, ..u }, true)
                }
            };
            match delivered {
                Ok(()) => w.attempt(),
                Err(e) => {
                    refuse(&w, &e);
                    errors.add(BETWEEN, e);
                }
            }
        }
        errors.into_result()
    }
    async fn take_delta(&self, i: Incoming) -> Result<(), String> {
        let mut errors = Refused::default();
        let mut seen = HashSet::new();
        for r in &i.resources {
            match r {
                Ok(r) if !seen.insert(r.name.as_str()) => {
                    let why = format_args!("duplicate name {} found among added/updated resources", r.name);
                    errors.add(BETWEEN, why);
                }
                Ok(_) => {}
                Err(e) => errors.add(BETWEEN, e),
            }
        }
        if let Some(name) = i.removed.iter().find(|n| !seen.insert(n.as_str())) {
            let why = format_args!("duplicate name {name} found in the union of added+removed resources");
            errors.add(BETWEEN, why);
        }
        let watches = self.of_type(&i.url);
        if !errors.is_empty() {
            let why = errors.text();
            watches.iter().for_each(|w| refuse(w, &why));
            return Err(why);
        }
        drop(seen);
        let mut resources: Vec<Resource> = vec![];
        // Names and aliases of all that is spoken of, for who waits for an answer.
        let mut ids: Vec<Vec<String>> = vec![];
        let asking = watches.iter().any(|w| w.demand.is_some());
        for r in i.resources.into_iter().flatten() {
            self.note_end(&i.url, &r);
            resources.extend(r.resource);
            if asking {
                ids.push(std::iter::once(r.name).chain(r.aliases).collect());
            }
        }
        let by_name: HashMap<&str, usize> = match watches.iter().any(|w| w.name.is_some()) {
            true => resources.iter().enumerate().map(|(at, r)| (r.name.as_str(), at)).collect(),
            false => HashMap::new(),
        };
        let removed: HashSet<&str> = i.removed.iter().map(String::as_str).collect();
        // Which of them are refused; of those for a watch of all, only the text says which.
        let (mut refused, mut all_refused) = (HashSet::<String>::new(), false);
        for w in watches {
            let u =
                Update { resources: &resources, removed: Removed::Named(&i.removed), version: &i.version };
            let delivered = match w.name.as_deref() {
                None => match &w.demand {
                    None => {
                        w.attempt();
                        w.deliver_whole(&u).await
                    }
                    Some(demand) => {
                        let Some(result) = on_demand(&w, demand, &ids, &u) else { continue };
                        result
                    }
                },
                Some(name) => {
                    let gone = removed.get(name).map(|n| vec![(*n).to_owned()]).unwrap_or_default();
                    let one = by_name.get(name).and_then(|at| resources.get(*at));
                    let one = one.map(std::slice::from_ref).unwrap_or_default();
                    if one.is_empty() && gone.is_empty() {
                        continue;
                    }
                    w.attempt();
                    w.deliver(&Update { resources: one, removed: Removed::Named(&gone), ..u }, true)
                }
            };
            if let Err(e) = delivered {
                refuse(&w, &e);
                errors.add(BETWEEN, e);
                match &w.name {
                    Some(n) => drop(refused.insert(n.clone())),
                    None => all_refused = true,
                }
            }
        }
        if let Machine::Delta(m) = &mut *self.machine.borrow_mut() {
            let taken = resources.iter().filter(|r| !all_refused && !refused.contains(&r.name));
            m.took(&i.url, taken.map(|r| (r.name.as_str(), &*r.version)), &i.removed);
        }
        for name in &i.removed {
            self.ends.borrow_mut().remove(&(i.url.clone(), name.clone()));
        }
        errors.into_result()
    }
}

/// Stands between what was refused.
const BETWEEN: &str = "; ";
/// Longer responses, in bytes, are not decoded on main.
const LONG: usize = 64 * 1024;

/// Hands on what of a response a watch on demand has asked for; none when there is nothing of that. `ids`: each name with its
/// aliases.
fn on_demand(w: &Watch, demand: &Demand, ids: &[Vec<String>], u: &Update<'_>) -> Option<Result<(), String>> {
    let Removed::Named(removed) = u.removed else { return None };
    let came: Vec<_> = ids.iter().filter(|n| n.first().is_some_and(|name| demand.wants(name))).collect();
    let removed: Vec<String> = removed.iter().filter(|n| demand.wants(n)).cloned().collect();
    if came.is_empty() && removed.is_empty() {
        return None;
    }
    w.attempt();
    let resources: Vec<_> = u.resources.iter().filter(|r| demand.wants(&r.name)).cloned().collect();
    let delivered =
        w.deliver(&Update { resources: &resources, removed: Removed::Named(&removed), ..*u }, true);
    if delivered.is_ok() {
        w.tell(&came.into_iter().flatten().chain(&removed).cloned().collect::<Vec<_>>());
    }
    Some(delivered)
}

fn refuse(w: &Watch, why: &str) {
    w.rejected(why);
    w.attempt();
}

impl Incoming {
    fn decode(bytes: Bytes, delta: bool) -> Result<Incoming, String> {
        let bad = |e: prost::DecodeError| format!("Unable to parse protobuf: {e}");
        Ok(match delta {
            true => Incoming::delta(DeltaDiscoveryResponse::decode(bytes).map_err(bad)?),
            false => Incoming::sotw(DiscoveryResponse::decode(bytes).map_err(bad)?),
        })
    }
    fn sotw(r: DiscoveryResponse) -> Incoming {
        let version: Arc<str> = r.version_info.as_str().into();
        Incoming {
            resources: r.resources.into_iter().map(|any| received(any, &r.type_url, &version)).collect(),
            url: r.type_url,
            nonce: r.nonce,
            version: r.version_info,
            removed: vec![],
            identifier: r.control_plane.map(|c| c.identifier),
        }
    }
    fn delta(r: DeltaDiscoveryResponse) -> Incoming {
        Incoming {
            resources: r.resources.into_iter().map(|w| unwrapped(w, &r.type_url, None)).collect(),
            url: r.type_url,
            nonce: r.nonce,
            version: r.system_version_info,
            removed: r.removed_resources,
            identifier: r.control_plane.map(|c| c.identifier),
        }
    }
}

/// A moment that never comes.
pub fn far() -> Duration {
    Duration::from_secs(365 * 24 * 3600)
}

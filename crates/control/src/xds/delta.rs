//! The delta protocol, without sockets: which requests are due. A request says what is wanted in addition or no more;
//! ACKs and NACKs are requests with a nonce. They come before what becomes due after them.

use super::queue::Queue;
use super::sotw::status;
use nuncio_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The name that stands for all resources.
const ALL: &str = "*";

/// The state of all types of one stream.
#[derive(Default)]
pub struct Delta {
    types: Vec<Type>,
    /// Only says who is paused.
    paused: Queue,
    /// Types that were due before the first of the ACKs was.
    first: VecDeque<String>,
    acks: VecDeque<Ack>,
    /// Control planes that were heard once are told what is known.
    heard: bool,
}

struct Ack {
    url: String,
    nonce: String,
    refusal: Option<String>,
}

#[derive(Default)]
struct Type {
    url: String,
    /// What was asked for by name, [`ALL`] included, with the version that is here.
    wanted: BTreeMap<String, Option<String>>,
    /// How many want it.
    counts: BTreeMap<String, usize>,
    /// How many ask for resources when they need them.
    open: usize,
    /// What came because all is wanted.
    others: BTreeMap<String, String>,
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// Nothing was ever asked for by its name: the first request of a stream may be empty, which means all.
    only_all: bool,
    /// Of this stream.
    asked: bool,
}

impl Delta {
    fn find(&mut self, url: &str) -> Option<&mut Type> {
        self.types.iter_mut().find(|t| t.url == url)
    }
    fn of_type(&mut self, url: &str) -> &mut Type {
        let at = self.types.iter().position(|t| t.url == url).unwrap_or_else(|| {
            self.types.push(Type { url: url.to_owned(), only_all: true, ..Type::default() });
            self.types.len() - 1
        });
        &mut self.types[at]
    }
    /// Somebody will ask for resources of a type; the control plane hears of it at once, though nothing is named.
    pub fn open(&mut self, url: &str) {
        self.of_type(url).open += 1;
    }
    /// See [`open`](Self::open).
    pub fn close(&mut self, url: &str) {
        if let Some(t) = self.find(url) {
            t.open = t.open.saturating_sub(1);
        }
    }
    /// Somebody wants a resource, or all of a type.
    pub fn subscribe(&mut self, url: &str, name: Option<&str>) {
        let t = self.of_type(url);
        let name = name.unwrap_or(ALL);
        let count = t.counts.entry(name.to_owned()).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        t.only_all &= name == ALL;
        let known = t.others.remove(name);
        t.wanted.insert(name.to_owned(), known);
        t.removed.remove(name);
        t.added.insert(name.to_owned());
    }
    /// Somebody wants it no more.
    pub fn unsubscribe(&mut self, url: &str, name: Option<&str>) {
        let Some(t) = self.find(url) else { return };
        let name = name.unwrap_or(ALL);
        let Some(count) = t.counts.get_mut(name) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        t.counts.remove(name);
        t.added.remove(name);
        if let Some(version) = t.wanted.remove(name) {
            // It may be one of all: whether it is, the control plane will say.
            if let (Some(v), true) = (version, t.wanted.contains_key(ALL)) {
                t.others.insert(name.to_owned(), v);
            }
            t.removed.insert(name.to_owned());
            t.only_all = false;
        }
        if name == ALL {
            t.others.clear();
        }
    }
    /// True when somebody wants resources of this type; `None` when nobody ever has.
    pub fn is_wanted(&self, url: &str) -> Option<bool> {
        self.types.iter().find(|t| t.url == url).map(|t| !t.counts.is_empty() || t.open > 0)
    }
    /// No requests of this type until as many [`resume`](Self::resume)s.
    pub fn pause(&mut self, url: &str) {
        self.paused.pause(url);
    }
    /// See [`pause`](Self::pause).
    pub fn resume(&mut self, url: &str) {
        self.paused.resume(url);
    }
    /// A stream begins: everything is asked for anew.
    pub fn connected(&mut self) {
        (self.acks, self.first) = Default::default();
        self.types.iter_mut().for_each(|t| t.asked = false);
    }
    /// There is no stream.
    pub fn disconnected(&mut self) {
        (self.acks, self.first) = Default::default();
    }
    /// Resources have come and gone.
    pub fn took<'a>(
        &mut self,
        url: &str,
        resources: impl IntoIterator<Item = (&'a str, &'a str)>,
        removed: &[String],
    ) {
        self.heard = true;
        let Some(t) = self.find(url) else { return };
        let all = t.wanted.contains_key(ALL) || t.open > 0;
        for (name, version) in resources {
            match t.wanted.get_mut(name) {
                Some(v) => *v = Some(version.to_owned()),
                None if all => drop(t.others.insert(name.to_owned(), version.to_owned())),
                None => {}
            }
        }
        for name in removed {
            t.others.remove(name);
            if let Some(v) = t.wanted.get_mut(name) {
                *v = None;
            }
        }
    }
    /// A response is to be acknowledged, or refused.
    pub fn answered(&mut self, url: &str, nonce: &str, result: Result<(), &str>) {
        self.heard = true;
        if self.acks.is_empty() {
            let due = self.types.iter().filter(|t| t.is_due() && !self.paused.is_paused(&t.url));
            self.first = due.map(|t| t.url.clone()).collect();
        }
        let refusal = result.err().map(str::to_owned);
        self.acks.push_back(Ack { url: url.to_owned(), nonce: nonce.to_owned(), refusal });
    }
    /// The next request that is due, without a node.
    pub fn next(&mut self) -> Option<DeltaDiscoveryRequest> {
        let heard = self.heard;
        while let Some(url) = self.first.pop_front() {
            let paused = self.paused.is_paused(&url);
            if let Some(t) = self.find(&url).filter(|t| !paused && t.is_due()) {
                return Some(t.request(heard));
            }
        }
        let ack = self.acks.iter().position(|a| !self.paused.is_paused(&a.url));
        if let Some(ack) = ack.and_then(|at| self.acks.remove(at)) {
            let mut request = self.find(&ack.url)?.request(heard);
            request.response_nonce = ack.nonce;
            request.error_detail = ack.refusal.map(|message| status(&message));
            return Some(request);
        }
        let t = self.types.iter_mut().find(|t| t.is_due() && !self.paused.is_paused(&t.url))?;
        Some(t.request(heard))
    }
    /// Requests that are due.
    pub fn pending(&self) -> usize {
        self.acks.len() + self.types.iter().filter(|t| t.is_due()).count()
    }
}

impl Type {
    fn is_due(&self) -> bool {
        !self.added.is_empty()
            || !self.removed.is_empty()
            || (!self.asked && (!self.wanted.is_empty() || self.open > 0))
    }
    fn request(&mut self, heard: bool) -> DeltaDiscoveryRequest {
        let mut request = DeltaDiscoveryRequest { type_url: self.url.clone(), ..Default::default() };
        if !self.asked {
            self.asked = true;
            let only_all = self.wanted.len() == 1 && self.wanted.contains_key(ALL);
            let fresh = self.added.iter().any(|a| a != ALL) || !self.removed.is_empty();
            let nothing_named = self.only_all || (only_all && !fresh);
            if heard {
                let named = self.wanted.iter().filter_map(|(n, v)| Some((n.clone(), v.clone()?)));
                let others = self.others.iter().map(|(n, v)| (n.clone(), v.clone()));
                request.initial_resource_versions = named.chain(others).collect();
            }
            self.added = self.wanted.keys().cloned().collect();
            if nothing_named {
                self.added.clear();
            }
            self.removed.clear();
        }
        request.resource_names_subscribe = std::mem::take(&mut self.added).into_iter().collect();
        request.resource_names_unsubscribe = std::mem::take(&mut self.removed).into_iter().collect();
        request
    }
}

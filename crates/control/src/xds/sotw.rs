//! The state-of-the-world protocol, without sockets: which requests are due. A request names everything that is wanted of
//! a type, and is also the ACK or NACK of the response before.

use super::apply::cut;
use super::queue::Queue;
use nuncio_api::envoy::service::discovery::v3::DiscoveryRequest;
use nuncio_api::google::rpc::Status;
use std::collections::BTreeMap;

/// `INTERNAL`, with which Envoy refuses.
pub(super) const REFUSED: i32 = 13;

/// The state of all types of one stream.
#[derive(Default)]
pub struct Sotw {
    types: Vec<Type>,
    queue: Queue,
}

struct Type {
    url: String,
    /// Of the last response that was taken over.
    version: String,
    /// Of the last response.
    nonce: String,
    /// What is wanted, and how often.
    names: BTreeMap<String, usize>,
    /// How many want all.
    all: usize,
    refusal: Option<String>,
}

impl Sotw {
    /// Somebody wants a resource, or all of a type.
    pub fn subscribe(&mut self, url: &str, name: Option<&str>) {
        let at = self.types.iter().position(|t| t.url == url).unwrap_or_else(|| {
            self.types.push(Type {
                url: url.to_owned(),
                version: String::new(),
                nonce: String::new(),
                names: BTreeMap::new(),
                all: 0,
                refusal: None,
            });
            self.types.len() - 1
        });
        match name {
            Some(n) => *self.types[at].names.entry(n.to_owned()).or_default() += 1,
            None => self.types[at].all += 1,
        }
        self.queue.push(url);
    }
    /// Somebody wants it no more.
    pub fn unsubscribe(&mut self, url: &str, name: Option<&str>) {
        let Some(t) = self.types.iter_mut().find(|t| t.url == url) else { return };
        match name {
            Some(n) => {
                if let Some(count) = t.names.get_mut(n) {
                    *count -= 1;
                    if *count == 0 {
                        t.names.remove(n);
                    }
                }
            }
            None => t.all = t.all.saturating_sub(1),
        }
        self.queue.push(url);
    }
    /// True when somebody wants resources of this type; `None` when nobody ever has.
    pub fn is_wanted(&self, url: &str) -> Option<bool> {
        self.types.iter().find(|t| t.url == url).map(|t| t.all > 0 || !t.names.is_empty())
    }
    /// No requests of this type until as many [`resume`](Self::resume)s.
    pub fn pause(&mut self, url: &str) {
        self.queue.pause(url);
    }
    /// See [`pause`](Self::pause).
    pub fn resume(&mut self, url: &str) {
        self.queue.resume(url);
    }
    /// A stream begins: everything is asked for anew.
    pub fn connected(&mut self) {
        self.queue.clear();
        for t in &mut self.types {
            t.nonce.clear();
            t.refusal = None;
            self.queue.push(&t.url);
        }
    }
    /// There is no stream.
    pub fn disconnected(&mut self) {
        self.queue.clear();
    }
    /// A response was taken over, or refused.
    pub fn answered(&mut self, url: &str, nonce: &str, result: Result<&str, &str>) {
        let Some(t) = self.types.iter_mut().find(|t| t.url == url) else { return };
        nonce.clone_into(&mut t.nonce);
        match result {
            Ok(version) => version.clone_into(&mut t.version),
            Err(e) => t.refusal = Some(e.to_owned()),
        }
        self.queue.push(url);
    }
    /// A response came for a type that nobody wants any more. Only one that is not empty is answered.
    pub fn unwanted(&mut self, url: &str, nonce: &str, version: &str, empty: bool) {
        let Some(t) = self.types.iter_mut().find(|t| t.url == url) else { return };
        nonce.clone_into(&mut t.nonce);
        match empty {
            true => version.clone_into(&mut t.version),
            false => self.queue.push(url),
        }
    }
    /// The next request that is due, without a node.
    pub fn next(&mut self) -> Option<DiscoveryRequest> {
        let url = self.queue.pop()?;
        let t = self.types.iter_mut().find(|t| t.url == url)?;
        Some(DiscoveryRequest {
            version_info: t.version.clone(),
            resource_names: t.names.keys().cloned().collect(),
            type_url: t.url.clone(),
            response_nonce: t.nonce.clone(),
            error_detail: t.refusal.take().map(|message| status(&message)),
            ..Default::default()
        })
    }
    /// Requests that are due.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }
}

/// `error_detail`, as long as Envoy lets it be.
pub(super) fn status(message: &str) -> Status {
    const MOST: usize = 4096;
    let message = match message.get(..cut(message, MOST)).filter(|m| m.len() < message.len()) {
        None => message.to_owned(),
        Some(begin) => format!("{begin}...(truncated)"),
    };
    Status { code: REFUSED, message, details: vec![] }
}

//! A stream of the state-of-the-world protocol, without sockets.

use crate::fault::NONCE;
use crate::kinds::{Kind, by_url};
use crate::plane::What;
use crate::world::World;
use nuncio_api::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// What one stream wants, and has.
#[derive(Default)]
pub struct Sotw {
    types: BTreeMap<usize, Type>,
    nonces: u64,
}

struct Type {
    kind: &'static Kind,
    names: BTreeSet<String>,
    nonce: String,
    version: String,
    /// What the last response held.
    sent: BTreeSet<String>,
}

impl Type {
    fn wants_all(&self) -> bool {
        self.kind.all_by_default && self.names.is_empty()
    }
    fn held(&self, world: &World) -> BTreeSet<String> {
        match self.wants_all() {
            true => world.names(self.kind).map(str::to_owned).collect(),
            false => self.names.iter().filter(|n| world.get(self.kind, n).is_some()).cloned().collect(),
        }
    }
    fn response(&mut self, world: &World, nonce: u64) -> (Vec<u8>, What) {
        (self.version, self.nonce, self.sent) =
            (world.version(self.kind), nonce.to_string(), self.held(world));
        let url = self.kind.url();
        let any = |bytes: &bytes::Bytes| prost_types::Any { type_url: url.clone(), value: bytes.to_vec() };
        let resources: Vec<_> =
            self.sent.iter().filter_map(|n| world.get(self.kind, n)).map(|e| any(&e.bytes)).collect();
        let what = What::Sent { version: self.version.clone(), resources: resources.len(), removed: vec![] };
        let response = DiscoveryResponse {
            version_info: self.version.clone(),
            resources,
            type_url: url.clone(),
            nonce: self.nonce.clone(),
            ..Default::default()
        };
        (response.encode_to_vec(), what)
    }
}

impl Sotw {
    /// Takes a request: the response to it, and what there is to tell.
    ///
    /// # Errors
    /// It is none, or of a kind that is not served.
    pub fn request(
        &mut self,
        bytes: &[u8],
        only: Option<&'static Kind>,
        world: &World,
        tell: &mut dyn FnMut(&'static Kind, What),
    ) -> Result<Option<Vec<u8>>, String> {
        let r = DiscoveryRequest::decode(bytes).map_err(|e| e.to_string())?;
        let kind = only.or_else(|| by_url(&r.type_url)).ok_or_else(|| format!("no {} here", r.type_url))?;
        let names: BTreeSet<String> = r.resource_names.into_iter().collect();
        let first = !self.types.contains_key(&kind.rank());
        let t = self.types.entry(kind.rank()).or_insert_with(|| Type {
            kind,
            names: BTreeSet::new(),
            nonce: String::new(),
            version: String::new(),
            sent: BTreeSet::new(),
        });
        let at_fault = r.response_nonce == NONCE;
        if !r.response_nonce.is_empty() && r.response_nonce != t.nonce && !at_fault {
            return Ok(None); // answers a response that another one has overtaken
        }
        if !r.response_nonce.is_empty() {
            let version = if at_fault { NONCE.to_owned() } else { t.version.clone() };
            tell(kind, What::answer(version, r.error_detail));
        }
        let more = names.iter().any(|n| !t.names.contains(n));
        if first || more {
            tell(kind, What::Asked { names: names.iter().cloned().collect() });
        }
        t.names = names;
        if !(first || more) || (!t.wants_all() && t.held(world).is_empty()) {
            return Ok(None);
        }
        self.nonces += 1;
        let (response, what) = t.response(world, self.nonces);
        tell(kind, what);
        Ok(Some(response))
    }
    /// The responses that are due because resources have changed.
    pub fn push(&mut self, world: &World, tell: &mut dyn FnMut(&'static Kind, What)) -> Vec<Vec<u8>> {
        let mut due = vec![];
        for t in self.types.values_mut() {
            let wanted = t.wants_all() || !t.names.is_empty();
            // A response cannot say that something wanted by its name is gone, but that it is not among the rest.
            let something = t.wants_all() || !t.sent.is_empty() || !t.held(world).is_empty();
            if wanted && something && world.version(t.kind) != t.version {
                self.nonces += 1;
                let (response, what) = t.response(world, self.nonces);
                tell(t.kind, what);
                due.push(response);
            }
        }
        due
    }
}

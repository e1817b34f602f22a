//! A stream of the delta protocol, without sockets.

use crate::fault::NONCE;
use crate::kinds::{Kind, by_url};
use crate::plane::What;
use crate::world::World;
use nuncio_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// The name that means all.
const ALL: &str = "*";
/// Responses whose answer has not come: so many are remembered.
const OPEN: usize = 1000;

/// What one stream wants, and has.
#[derive(Default)]
pub struct Delta {
    types: BTreeMap<usize, Type>,
    nonces: u64,
    /// Versions of the responses that wait for an answer, by nonce.
    open: BTreeMap<u64, String>,
}

struct Type {
    kind: &'static Kind,
    names: BTreeSet<String>,
    all: bool,
    /// Version of each resource that the proxy has.
    sent: BTreeMap<String, String>,
}

impl Type {
    /// What has changed since the last response; `missing` are names that were asked for, and may not be there.
    fn changes(&mut self, world: &World, missing: &[String]) -> (Vec<Resource>, Vec<String>) {
        let wanted: BTreeSet<&str> = match self.all {
            true => world.names(self.kind).collect(),
            false => self.names.iter().map(String::as_str).collect(),
        };
        let (mut resources, mut removed) = (vec![], vec![]);
        for name in wanted {
            let Some(e) = world.get(self.kind, name) else { continue };
            if self.sent.get(name) != Some(&e.version) {
                self.sent.insert(name.to_owned(), e.version.clone());
                let any = prost_types::Any { type_url: self.kind.url(), value: e.bytes.to_vec() };
                resources.push(Resource {
                    name: name.to_owned(),
                    version: e.version.clone(),
                    resource: Some(any),
                    ..Default::default()
                });
            }
        }
        removed.extend(self.sent.keys().filter(|n| world.get(self.kind, n).is_none()).cloned());
        removed.iter().for_each(|n| drop(self.sent.remove(n)));
        removed.extend(missing.iter().filter(|n| world.get(self.kind, n).is_none()).cloned());
        removed.sort();
        removed.dedup();
        (resources, removed)
    }
}

impl Delta {
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
        let r = DeltaDiscoveryRequest::decode(bytes).map_err(|e| e.to_string())?;
        let kind = only.or_else(|| by_url(&r.type_url)).ok_or_else(|| format!("no {} here", r.type_url))?;
        let first = !self.types.contains_key(&kind.rank());
        let t = self.types.entry(kind.rank()).or_insert_with(|| Type {
            kind,
            names: BTreeSet::new(),
            all: r.resource_names_subscribe.is_empty(),
            sent: r.initial_resource_versions.into_iter().collect(),
        });
        let version = match r.response_nonce.as_str() {
            NONCE => Some(NONCE.to_owned()),
            n => n.parse().ok().and_then(|n: u64| self.open.remove(&n)),
        };
        if let Some(version) = version {
            tell(kind, What::answer(version, r.error_detail));
        }
        for name in &r.resource_names_unsubscribe {
            t.names.remove(name);
            t.sent.remove(name);
            t.all &= name != ALL;
        }
        let mut asked = vec![];
        for name in r.resource_names_subscribe {
            if name == ALL {
                t.all = true;
                continue;
            }
            // Asked for again, it is sent again; a stream's first request says which versions are known.
            if !first {
                t.sent.remove(&name);
            }
            t.names.insert(name.clone());
            asked.push(name);
        }
        if !first && asked.is_empty() {
            return Ok(None);
        }
        tell(kind, What::Asked { names: asked.clone() });
        Ok(self.respond(kind, world, &asked, first, tell))
    }
    /// The responses that are due because resources have changed.
    pub fn push(&mut self, world: &World, tell: &mut dyn FnMut(&'static Kind, What)) -> Vec<Vec<u8>> {
        let kinds: Vec<_> = self.types.values().map(|t| t.kind).collect();
        kinds.into_iter().filter_map(|k| self.respond(k, world, &[], false, tell)).collect()
    }
    /// Even without resources when `force`.
    fn respond(
        &mut self,
        kind: &'static Kind,
        world: &World,
        asked: &[String],
        force: bool,
        tell: &mut dyn FnMut(&'static Kind, What),
    ) -> Option<Vec<u8>> {
        let t = self.types.get_mut(&kind.rank())?;
        let (resources, removed) = t.changes(world, asked);
        if resources.is_empty() && removed.is_empty() && !(force && t.all) {
            return None;
        }
        let version = world.version(kind);
        self.nonces += 1;
        self.open.insert(self.nonces, version.clone());
        while self.open.len() > OPEN {
            self.open.pop_first();
        }
        tell(
            kind,
            What::Sent { version: version.clone(), resources: resources.len(), removed: removed.clone() },
        );
        let response = DeltaDiscoveryResponse {
            system_version_info: version,
            resources,
            type_url: kind.url(),
            removed_resources: removed,
            nonce: self.nonces.to_string(),
            ..Default::default()
        };
        Some(response.encode_to_vec())
    }
}

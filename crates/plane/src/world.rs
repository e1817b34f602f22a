//! What a control plane knows: resources by kind and name, with versions that follow from what is in them, so that a
//! control plane that starts again has the same ones.

use crate::kinds::{KINDS, Kind, by_url};
use bytes::Bytes;
use nuncio_api::wire::{Wire, records};
use prost::{Message, Name};
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Follows from the bytes.
    pub version: String,
    /// The message, encoded.
    pub bytes: Bytes,
}

/// All resources of a kind.
#[derive(Default)]
pub struct Shelf {
    entries: BTreeMap<String, Entry>,
    /// Sum of the hashes of the entries.
    sum: u64,
}

/// See the module.
#[derive(Default)]
pub struct World {
    shelves: BTreeMap<&'static str, Shelf>,
}

fn hash(name: &str, bytes: &[u8]) -> u64 {
    let mut h = DefaultHasher::new();
    (name, bytes).hash(&mut h);
    h.finish()
}

/// The name in an encoded resource: of every kind it is the first field.
pub fn name_in(bytes: &[u8]) -> String {
    let mut name = String::new();
    for record in records(bytes) {
        match record {
            Ok((1, Wire::Bytes(b))) => name = String::from_utf8_lossy(b).into_owned(),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    name
}

impl World {
    /// Adds or replaces a resource; whether that changes anything. `false` for a type that is none of [`KINDS`].
    pub fn set(&mut self, url: &str, name: &str, bytes: Bytes) -> bool {
        let Some(kind) = by_url(url) else { return false };
        let shelf = self.shelves.entry(kind.message).or_default();
        let new = hash(name, &bytes);
        let entry = Entry { version: format!("{new:016x}"), bytes };
        if shelf.entries.get(name) == Some(&entry) {
            return false;
        }
        if let Some(old) = shelf.entries.insert(name.to_owned(), entry) {
            shelf.sum = shelf.sum.wrapping_sub(hash(name, &old.bytes));
        }
        shelf.sum = shelf.sum.wrapping_add(new);
        true
    }
    /// As [`set`](Self::set), of a message with its name in it.
    pub fn put<M: Message + Name>(&mut self, m: &M) -> bool {
        let bytes = Bytes::from(m.encode_to_vec());
        self.set(&M::type_url(), &name_in(&bytes), bytes)
    }
    /// Takes a resource away; whether it was there.
    pub fn remove(&mut self, url: &str, name: &str) -> bool {
        let shelf = by_url(url).and_then(|k| self.shelves.get_mut(k.message));
        let Some((shelf, old)) = shelf.and_then(|s| s.entries.remove(name).map(|old| (s, old))) else {
            return false;
        };
        shelf.sum = shelf.sum.wrapping_sub(hash(name, &old.bytes));
        true
    }
    /// Makes these the only resources (type URL, name, bytes); whether that changes anything.
    pub fn replace(&mut self, all: Vec<(String, String, Bytes)>) -> bool {
        let stay: HashSet<(&str, &str)> =
            all.iter().filter_map(|(url, name, _)| Some((by_url(url)?.message, name.as_str()))).collect();
        let mut gone = vec![];
        for kind in &KINDS {
            let over = self.names(kind).filter(|n| !stay.contains(&(kind.message, *n)));
            gone.extend(over.map(|n| (kind.url(), n.to_owned())));
        }
        let mut changed = !gone.is_empty();
        for (url, name) in gone {
            self.remove(&url, &name);
        }
        for (url, name, bytes) in all {
            changed |= self.set(&url, &name, bytes);
        }
        changed
    }
    /// A resource.
    pub fn get(&self, kind: &Kind, name: &str) -> Option<&Entry> {
        self.shelves.get(kind.message)?.entries.get(name)
    }
    /// The names of all resources of a kind, in order.
    pub fn names<'a>(&'a self, kind: &Kind) -> impl Iterator<Item = &'a str> + use<'a> {
        self.shelves.get(kind.message).into_iter().flat_map(|s| s.entries.keys().map(String::as_str))
    }
    /// The version of all resources of a kind together.
    pub fn version(&self, kind: &Kind) -> String {
        format!("{:016x}", self.shelves.get(kind.message).map_or(0, |s| s.sum))
    }
}

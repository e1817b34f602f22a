//! What taking over clusters and listeners has in common.

use nuncio_core::discovery::{Removed, Resource, Update};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

/// What was taken over last, by name, so that the same bytes again are not even decoded.
#[derive(Default)]
pub struct Seen(RefCell<HashMap<String, u64>>);

fn hash(r: &Resource) -> u64 {
    let mut h = DefaultHasher::new();
    h.write(&r.bytes);
    h.finish()
}

impl Seen {
    /// These bytes are in use.
    pub fn is(&self, r: &Resource) -> bool {
        self.0.borrow().get(&r.name) == Some(&hash(r))
    }
    /// These bytes are in use from now on.
    pub fn note(&self, r: &Resource) {
        self.0.borrow_mut().insert(r.name.clone(), hash(r));
    }
    /// The resource is gone.
    pub fn forget(&self, name: &str) {
        self.0.borrow_mut().remove(name);
    }
}

/// The names of resources that go; `there` are those that a control plane brought.
pub fn gone<I: Iterator<Item = String>>(u: &Update<'_>, there: impl Fn() -> I) -> BTreeSet<String> {
    match u.removed {
        Removed::Named(names) => names.iter().cloned().collect(),
        Removed::Others => {
            let stay: HashSet<&str> = u.resources.iter().map(|r| r.name.as_str()).collect();
            there().filter(|n| !stay.contains(n.as_str())).collect()
        }
    }
}

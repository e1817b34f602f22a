//! Where a listener or a cluster came from, and what became of an attempt to change it. Static resources go through the
//! same calls as those of a control plane.

use nuncio_core::clock;
use std::sync::Arc;
use std::time::SystemTime;

/// Runs once on main when every worker has a change. It is dropped instead when something newer took the change's place
/// before it came to that.
pub type Done = Box<dyn FnOnce() + Send>;

/// A [`Done`] that nobody waits for.
pub fn unwatched() -> Done {
    Box::new(|| ())
}

/// Which version of a resource this is, as `/config_dump` says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revision {
    /// `version_info` of the control plane's response; none for static resources.
    pub version: Option<Arc<str>>,
    /// When it was taken over.
    pub updated: SystemTime,
}

impl Revision {
    /// A static resource, taken over now.
    pub fn fixed() -> Revision {
        Revision { version: None, updated: clock::wall() }
    }
    /// A resource of a control plane, taken over now.
    pub fn api(version: &str) -> Revision {
        Revision { version: Some(version.into()), updated: clock::wall() }
    }
}

/// What became of a resource that was to be added or changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// There was none of its name.
    Added,
    /// It takes the place of one of its name.
    Modified,
    /// It is what there is, or what is warming.
    Same,
}

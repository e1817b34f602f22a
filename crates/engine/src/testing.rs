//! What tests of this crate build things on: a server that has nothing, whose control plane brings what a test says.

use nuncio_api::envoy::config::core::v3::ConfigSource;
use nuncio_core::BuildResult;
use nuncio_core::discovery::{Discovery, Removed, Resource, Subscribe, Subscriber, Subscription, Update};
use nuncio_core::filter::{BuildCx, NodeInfo, ServerCx};
use nuncio_core::init::Init;
use nuncio_core::registry::Registry;
use nuncio_core::runtime::{Runtime, ServerState};
use nuncio_core::stats::Store;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Who subscribed, to what.
#[derive(Clone)]
pub struct Wish {
    pub kind: &'static str,
    pub name: Option<String>,
    subscriber: Weak<dyn Subscriber>,
}

impl Wish {
    /// Whether the subscription is still wanted.
    pub fn lives(&self) -> bool {
        self.subscriber.strong_count() > 0
    }
    /// Who waits.
    pub fn subscriber(&self) -> Rc<dyn Subscriber> {
        self.subscriber.upgrade().expect("somebody waits")
    }
}

/// A folder, and what is to be done when something is moved into it.
pub type Followed = (PathBuf, Rc<dyn Fn()>);

/// A control plane that notes what is asked of it.
#[derive(Default)]
pub struct Asked {
    pub wishes: RefCell<Vec<Wish>>,
    pub followed: RefCell<Vec<Followed>>,
}

impl Discovery for Asked {
    fn check(&self, _: &ConfigSource) -> BuildResult<()> {
        Ok(())
    }
    fn subscribe(&self, wish: Subscribe<'_>) -> Subscription {
        let name = wish.name.map(str::to_owned);
        self.wishes.borrow_mut().push(Wish { kind: wish.kind, name, subscriber: wish.subscriber });
        Subscription::new(())
    }
    fn follow(&self, folder: &Path, changed: Rc<dyn Fn()>) -> Subscription {
        self.followed.borrow_mut().push((folder.to_owned(), changed));
        Subscription::new(())
    }
}

/// Main, as far as those see it who build something there.
#[derive(Default)]
pub struct Main {
    pub asked: Rc<Asked>,
    pub store: Store,
    pub init: Init,
}

impl ServerCx for Main {
    fn has_cluster(&self, _: &str) -> bool {
        false
    }
    fn runtime(&self) -> Arc<Runtime> {
        Arc::default()
    }
    fn state(&self) -> Arc<ServerState> {
        Arc::default()
    }
    fn discovery(&self) -> Option<Rc<dyn Discovery>> {
        Some(self.asked.clone())
    }
}

impl Main {
    /// Builds something; its stats are in `store`, and what it waits for in `init`.
    pub fn with<T>(&self, build: impl FnOnce(&BuildCx<'_>) -> T) -> T {
        build(&BuildCx {
            registry: &Registry::default(),
            scope: &self.store.root(),
            name: "",
            node: &NodeInfo::default(),
            server: self,
            init: &self.init,
            validate_only: false,
        })
    }
    /// Brings resources for a wish that lives still; the error is what the control plane hears.
    pub fn bring(&self, wish: &Wish, resources: &[Resource], removed: Removed<'_>) -> Result<(), String> {
        let u = Update { resources, removed, version: "1" };
        self.with(|cx| wish.subscriber().update(&u, cx)).map_err(|e| e.0)
    }
    /// Who asked last.
    pub fn last_wish(&self) -> Wish {
        self.asked.wishes.borrow().last().cloned().expect("somebody asked")
    }
}

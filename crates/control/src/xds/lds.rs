//! Listeners from a control plane.

use super::Xds;
use super::apply::{Refused, Seen, gone};
use super::resource::{LISTENER, ROUTES, SCOPED_ROUTES, SECRET};
use nuncio_api::envoy::config::listener::v3::Listener;
use nuncio_core::discovery::{Subscriber, Update};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::init::Target;
use nuncio_core::{clock, log};
use nuncio_engine::listener::manager::Failure;
use nuncio_engine::revision::unwatched;
use nuncio_engine::{Change, ListenerManager, Revision};
use prost::Message;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// See the module.
pub struct Lds {
    listeners: ListenerManager,
    xds: Weak<Xds>,
    seen: Seen,
    waiting: RefCell<Option<Target>>,
    version: RefCell<Arc<str>>,
}

impl Lds {
    /// Changes these listeners; `waiting` ends with the first response.
    pub fn new(listeners: &ListenerManager, xds: &Rc<Xds>, waiting: Target) -> Rc<Lds> {
        Rc::new(Lds {
            listeners: listeners.clone(),
            xds: Rc::downgrade(xds),
            seen: Seen::default(),
            waiting: RefCell::new(Some(waiting)),
            version: RefCell::new("".into()),
        })
    }
    /// Of the last response that changed anything.
    pub fn version(&self) -> Arc<str> {
        self.version.borrow().clone()
    }
    fn ready(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }
    /// Names of listeners that no control plane changes.
    fn fixed(&self) -> HashSet<String> {
        let all = self.listeners.list().into_iter().chain(self.listeners.list_warming());
        let fixed = all.filter(|l| l.revision.version.is_none());
        fixed.map(|l| l.plan.info.name.to_string()).collect()
    }
}

impl Subscriber for Lds {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let Some(xds) = self.xds.upgrade() else { return Ok(()) };
        let _paused = xds.pause(&[ROUTES, SCOPED_ROUTES, SECRET]);
        let Some(base) = xds.base() else { return Ok(()) };
        let there = || {
            let all = self.listeners.list().into_iter().chain(self.listeners.list_warming());
            all.filter(|l| l.revision.version.is_some()).map(|l| l.plan.info.name.to_string())
        };
        let (removed, fixed) = (gone(u, there), self.fixed());
        self.listeners.forget_failures();
        let (mut errors, mut names, mut any) = (Refused::default(), HashSet::new(), false);
        // First what goes: another may take over its address.
        for name in &removed {
            self.seen.forget(name);
            if !fixed.contains(name) && self.listeners.remove(name, unwatched()) {
                any = true;
                log!(Upstream, Info, "lds: remove listener '{name}'");
            }
        }
        for r in u.resources {
            let mut failed = |why: &str| {
                errors.add("", format_args!("{}: {why}\n", r.name));
                let config = Listener::decode(&*r.bytes).unwrap_or_default();
                let failure = Failure { config, at: clock::wall(), details: why.to_owned() };
                self.listeners.note_failure(&r.name, failure);
            };
            if !names.insert(&r.name) {
                failed(&format!("duplicate listener {} found", r.name));
                continue;
            }
            if self.seen.is(r) || fixed.contains(&r.name) {
                log!(Upstream, Debug, "lds: add/update listener '{}' skipped", r.name);
                continue;
            }
            let checked = base.checker().check(LISTENER, &r.bytes).map_err(BuildError);
            let done = checked.and_then(|()| {
                let revision = Revision::api(&r.version);
                self.listeners.set_encoded(r.bytes.clone(), revision, base.workers, cx, unwatched())
            });
            match done {
                Ok(Change::Same) => log!(Upstream, Debug, "lds: add/update listener '{}' skipped", r.name),
                Ok(Change::Added | Change::Modified) => {
                    any = true;
                    log!(Upstream, Info, "lds: add/update listener '{}'", r.name);
                }
                Err(e) => {
                    failed(&e.0);
                    continue;
                }
            }
            self.seen.note(r);
        }
        if any {
            *self.version.borrow_mut() = u.version.into();
        }
        self.ready();
        errors.into_result().map_err(|e| format!("Error adding/updating listener(s) {e}").into())
    }
    fn give_up(&self) {
        self.ready();
    }
}

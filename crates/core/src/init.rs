//! What a resource waits for before it is put to use: a listener for its routes, a server for its clusters
//! (Envoy's init manager, watcher and targets in one).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use tokio::sync::Notify;

/// A list of targets; it is ready when each of them is. Lives on main.
#[derive(Clone, Default)]
pub struct Init(Rc<Inner>);

#[derive(Default)]
struct Inner {
    unready: RefCell<Vec<Rc<str>>>,
    changed: Notify,
    begun: Cell<bool>,
    begin: Notify,
}

/// Something to wait for. Dropping it says that it is ready, or that waiting is of no use.
pub struct Target {
    init: Init,
    name: Rc<str>,
}

impl Init {
    /// Adds a target; `/init_dump` shows its name.
    pub fn target(&self, name: &str) -> Target {
        let name: Rc<str> = name.into();
        self.0.unready.borrow_mut().push(name.clone());
        Target { init: self.clone(), name }
    }
    /// True when nothing is waited for.
    pub fn is_ready(&self) -> bool {
        self.0.unready.borrow().is_empty()
    }
    /// The names of targets that are not ready.
    pub fn unready(&self) -> Vec<String> {
        self.0.unready.borrow().iter().map(ToString::to_string).collect()
    }
    /// What targets need from elsewhere is there: those that wait for it begin.
    pub fn begin(&self) {
        self.0.begun.set(true);
        self.0.begin.notify_waiters();
    }
    /// Resolves when targets are to begin.
    pub async fn begun(&self) {
        while !self.0.begun.get() {
            self.0.begin.notified().await;
        }
    }
    /// Begins, and waits for all targets, also for those that are added meanwhile. One caller at a time.
    pub async fn ready(&self) {
        self.begin();
        while !self.is_ready() {
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.init.0.unready.borrow_mut().retain(|n| !Rc::ptr_eq(n, &self.name));
        self.init.0.changed.notify_one();
    }
}

impl fmt::Debug for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.unready.borrow().iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn targets_begin_when_somebody_waits_for_them() {
        let init = Init::default();
        let _target = init.target("a");
        let mut begun = pin!(init.begun());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(begun.as_mut().poll(&mut cx).is_pending());
        assert!(pin!(init.ready()).poll(&mut cx).is_pending());
        assert!(begun.as_mut().poll(&mut cx).is_ready());
        assert!(pin!(init.begun()).poll(&mut cx).is_ready());
    }

    #[test]
    fn ready_when_every_target_is() {
        let init = Init::default();
        assert!(init.is_ready());
        let (a, b) = (init.target("a"), init.target("b"));
        let mut ready = pin!(init.ready());
        let mut cx = Context::from_waker(Waker::noop());
        drop(a);
        assert!(ready.as_mut().poll(&mut cx).is_pending());
        let c = init.target("c");
        drop(b);
        assert!(ready.as_mut().poll(&mut cx).is_pending());
        assert_eq!(init.unready(), ["c"]);
        drop(c);
        assert!(ready.as_mut().poll(&mut cx).is_ready());
    }
}

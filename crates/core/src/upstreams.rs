//! Calling out: how extensions reach clusters without seeing the engine.

use crate::LocalBoxFuture;
use crate::body::Body;
use crate::error::StreamError;
use nuncio_wire::{RequestHead, ResponseHead};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How a call is made.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// Whole-call timeout; none means no limit.
    pub timeout: Option<Duration>,
}

/// Clusters as a client sees them; one per thread (workers and main).
pub trait Upstreams {
    /// Sends a request to a cluster.
    fn http(
        &self,
        cluster: &str,
        head: RequestHead,
        body: Body,
        options: CallOptions,
    ) -> LocalBoxFuture<'static, Result<(ResponseHead, Body), StreamError>>;
}

thread_local!(static CURRENT: RefCell<Option<Rc<dyn Upstreams>>> = const { RefCell::new(None) });

/// The clusters of this thread; `None` before the server has started here.
pub fn current() -> Option<Rc<dyn Upstreams>> {
    CURRENT.with(|c| c.borrow().clone())
}
/// Sets the clusters of this thread (the engine does, and tests with a fake).
pub fn set_current(u: Rc<dyn Upstreams>) {
    CURRENT.with(|c| *c.borrow_mut() = Some(u));
}

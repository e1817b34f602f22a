//! What a request says about the host it should go to, for the balancer.

use super::retry::state::Retry;
use crate::route::ClusterRoute;
use crate::upstream::host::Host;
use crate::upstream::lb::LbContext;
use crate::upstream::lb::hash_policy::HashPolicy;
use crate::upstream::lb::previous::PreviousPriorities;
use crate::upstream::lb::subset::{Criteria, asked};
use nuncio_core::Exchange;
use nuncio_core::info::{ConnInfo, OverrideHost, StreamInfo, StreamShared};
use nuncio_wire::RequestHead;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A request that asks for a host.
pub struct Asking<'a> {
    route: &'a ClusterRoute,
    head: &'a RequestHead,
    sx: &'a StreamShared,
    retry: Option<&'a Retry>,
    /// The cookie its response is to carry, so that the next request comes to the same host.
    set_cookie: RefCell<Option<String>>,
}

impl<'a> Asking<'a> {
    /// The request of an exchange; `retry`: it was tried before.
    pub fn new(ex: &'a Exchange, route: &'a ClusterRoute, retry: Option<&'a Retry>) -> Asking<'a> {
        Asking { route, head: &ex.request, sx: &ex.sx, retry, set_cookie: RefCell::default() }
    }
    /// The cookie that was made while a host was chosen.
    pub fn into_cookie(self) -> Option<Box<str>> {
        self.set_cookie.into_inner().map(String::into_boxed_str)
    }
}

impl LbContext for Asking<'_> {
    fn hash(&self, own: Option<&HashPolicy>) -> Option<u64> {
        let (hash, set_cookie) = own.or(self.route.hash_policy.as_ref())?.hash(self.head, self.sx);
        if set_cookie.is_some() {
            *self.set_cookie.borrow_mut() = set_cookie;
        }
        hash
    }
    fn criteria(&self) -> Option<Criteria<'_>> {
        asked(self.route.metadata_match(self.sx), &self.sx.info)
    }
    fn head(&self) -> Option<&RequestHead> {
        Some(self.head)
    }
    fn info(&self) -> Option<&StreamInfo> {
        Some(&self.sx.info)
    }
    fn conn(&self) -> Option<&ConnInfo> {
        Some(&self.sx.conn)
    }
    fn override_host(&self) -> Option<Rc<OverrideHost>> {
        // Only the first attempt goes there, as in Envoy.
        (self.sx.info.attempts.get() <= 1).then(|| self.sx.info.override_host.borrow().clone())?
    }
    fn retry_priority(&self) -> Option<&PreviousPriorities> {
        self.retry?.priorities()
    }
    fn rejects(&self, host: &Arc<Host>) -> bool {
        self.retry.is_some_and(|r| r.rejects(host))
    }
    fn attempts(&self) -> u32 {
        self.retry.map_or(0, Retry::host_attempts)
    }
}

//! Choosing among the hosts of a cluster.
//!
//! Main makes a [`set::HostSet`] whenever hosts or their health change: their lists by priority, locality and health,
//! the [`loads`] of the priorities, [`zone`]-aware shares, tables of consistent hashing ([`hashing`]: [`ring`],
//! [`maglev`]) and [`subset`]s, as the cluster's [`config`] asks. A worker's [`pick::Picker`] has nothing but cursors
//! into it. What a request says about where it should go is asked for by [`LbContext`] only when it matters.

pub mod aggregate;
pub mod client_side;
pub mod config;
mod edf;
pub mod hash_policy;
pub mod hashing;
pub mod legacy;
pub mod loads;
pub mod maglev;
pub mod metadata_key;
pub mod original_dst;
pub mod over;
pub mod pick;
pub mod previous;
pub mod ring;
pub mod set;
pub mod subset;
pub mod subset_config;
#[cfg(test)]
mod tests;
pub mod zone;

use super::host::Host;
use hash_policy::HashPolicy;
use nuncio_core::coverage::Covered;
use nuncio_core::info::{ConnInfo, OverrideHost, StreamInfo};
use nuncio_wire::RequestHead;
use previous::PreviousPriorities;
use std::rc::Rc;
use std::sync::Arc;
use subset::Criteria;

/// What is read of the messages about balancing, but for hash policies, which are the routes'.
pub fn covered() -> impl Iterator<Item = &'static Covered> {
    config::COVERED
        .iter()
        .chain(legacy::COVERED)
        .chain(over::COVERED)
        .chain(original_dst::COVERED)
        .chain(aggregate::COVERED)
        .chain(client_side::COVERED)
        .chain(super::forward::config::COVERED)
        .chain(subset_config::COVERED)
}

/// What a request says about the host it should go to.
pub trait LbContext {
    /// Requests of the same hash go to the same host (`hash_policy`); a balancer's own policy goes before the route's.
    fn hash(&self, _own: Option<&HashPolicy>) -> Option<u64> {
        None
    }
    /// Metadata the host must have (`metadata_match`, dynamic metadata of `envoy.lb`).
    fn criteria(&self) -> Option<Criteria<'_>> {
        None
    }
    /// The request's head.
    fn head(&self) -> Option<&RequestHead> {
        None
    }
    /// Facts of the request, or of the connection that is proxied.
    fn info(&self) -> Option<&StreamInfo> {
        None
    }
    /// Its connection.
    fn conn(&self) -> Option<&ConnInfo> {
        None
    }
    /// The host that it wants, whatever the balancer would choose.
    fn override_host(&self) -> Option<Rc<OverrideHost>> {
        None
    }
    /// Which priorities another attempt goes to (`retry_priority`).
    fn retry_priority(&self) -> Option<&PreviousPriorities> {
        None
    }
    /// Another host would be better.
    fn rejects(&self, _: &Arc<Host>) -> bool {
        false
    }
    /// How often a host may be rejected.
    fn attempts(&self) -> u32 {
        0
    }
}

/// A request that does not care.
pub struct Anywhere;
impl LbContext for Anywhere {}

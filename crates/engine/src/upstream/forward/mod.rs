//! Dynamic forward proxies: requests go wherever their authority says (`envoy.clusters.dynamic_forward_proxy`).
//!
//! A worker looks for the name among what it knows ([`names`]); what it does not know it asks main for, which resolves it and
//! asks again from time to time, until nobody uses it any more ([`cache`]). Main tells all workers what became of a name,
//! after the hosts of the clusters with that cache; a [`policy`] finds a request's host among those.

pub mod cache;
pub mod config;
pub mod names;
pub mod policy;
#[cfg(test)]
mod tests;

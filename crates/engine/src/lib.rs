//! Floor 4: the data plane. Listeners, the HTTP connection manager, the router, upstreams, TLS.
//!
//! Main builds everything from configuration and posts it to the workers:
//!
//! ```text
//! ClusterManager::add … → initialize().await → publish(workers) → set, remove …
//! ListenerManager::add … → start(workers) → set, remove …
//! admin::serve(address, handler) on main
//! ```
//!
//! A request's way: [`listener`] accepts → [`http`] (codec, connection manager, filters) → [`router`] →
//! [`upstream`] (cluster, host, pool, connection) and back.

// Who knows that it cannot happen says why, in a reason.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod admin;
mod builtin;
pub mod ecds;
mod flush;
mod guard;
pub mod http;
pub mod io;
mod keepalive;
pub mod kept;
pub mod listener;
mod mux;
mod proto;
pub mod revision;
pub mod route;
pub mod router;
mod slab;
pub mod stats;
pub mod tcp;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod upstream;

pub use builtin::register;
pub use guard::panics;
pub use listener::manager::ListenerManager;
pub use revision::{Change, Revision};
pub use upstream::manager::ClusterManager;

use nuncio_core::coverage::Coverage;

/// Adds what this floor reads of the configuration.
pub fn cover(c: &mut Coverage) {
    // Values that messages of all floors are made of.
    c.add(nuncio_core::matchers::COVERED);
    c.add(nuncio_core::metadata::COVERED);
    c.add(nuncio_core::runtime::COVERED);
    c.add(nuncio_core::format::COVERED);
    c.add(http::config::COVERED);
    c.add(http::scopes::COVERED);
    c.add(ecds::COVERED);
    c.add(http::forwarded_cert::COVERED);
    c.add(http::origin::COVERED);
    c.add(http::proxy_status::COVERED);
    c.add(http::header_case::COVERED);
    c.add(keepalive::COVERED);
    c.add(http::local_reply::COVERED);
    c.add(http::tracing::COVERED);
    c.add(route::action::covered());
    c.add(upstream::config::COVERED);
    c.add(upstream::client::COVERED);
    c.add(nuncio_core::grpc::COVERED);
    c.add(nuncio_core::grpc::GOOGLE_COVERED);
    c.add(upstream::dns::COVERED);
    c.add(upstream::health_check::COVERED);
    c.add(upstream::transport::COVERED);
    c.add(upstream::outlier::COVERED);
    c.add(upstream::lb::covered());
    c.add(tls::COVERED);
    c.add(listener::config::COVERED);
    c.add(tcp::config::COVERED);
}

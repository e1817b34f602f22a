//! The TCP proxy (`envoy.filters.network.tcp_proxy`): the bytes of a connection go to a host of a cluster and back.
//!
//! Read in this order: [`config`] (what main builds), [`session`] (one connection: connect, tries, limits), [`relay`]
//! (the bytes; much of them by [`pipe`]), [`tunnel`] (the same through an HTTP proxy), [`log`] (its access log).

pub mod config;
pub mod log;
mod pipe;
mod relay;
pub mod session;
pub mod tunnel;

pub use config::TcpPlan;
pub use session::Session;

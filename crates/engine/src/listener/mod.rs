//! Listeners: sockets, filter chains, connections.
//!
//! Main builds a plan ([`config`]), binds one SO_REUSEPORT socket per worker ([`socket`]) and keeps the list
//! ([`manager`]); every worker accepts from a socket of its own and serves what it accepts ([`worker`]).

pub mod config;
pub mod manager;
mod socket;
pub mod worker;

use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};

/// Binds one socket (the admin interface's).
pub(crate) fn bind_one(address: &Address) -> BuildResult<socket::Bound> {
    let all = socket::bind(address, 1, 128)?;
    all.into_iter().next().ok_or_else(|| BuildError(format!("cannot bind '{address}'")))
}

//! Listeners: sockets, filter chains, connections.
//!
//! Main builds a plan ([`config`]), binds one SO_REUSEPORT socket per worker ([`socket`]) and keeps the list
//! ([`manager`]). Every worker accepts from a socket of its own ([`worker`]), lets listener filters look at what it
//! accepted ([`filters`]), chooses a filter chain ([`chains`]) and hands the connection to its last filter
//! ([`terminal`]), which perhaps answers itself ([`answer`]).

mod answer;
pub mod chains;
pub mod config;
pub mod filters;
pub mod gate;
pub mod manager;
pub mod socket;
pub mod terminal;
pub mod worker;

use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};

/// Binds one socket (the admin interface's).
pub(crate) fn bind_one(address: &Address) -> BuildResult<socket::Bound> {
    let all = socket::bind(&address.clone().into(), 1, 128)?;
    all.into_iter().next().ok_or_else(|| BuildError(format!("cannot bind '{address}'")))
}

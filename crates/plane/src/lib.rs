//! A small control plane: it serves the resources of a [`World`] to any proxy that speaks xDS, over gRPC, aggregated or per
//! type, as state of the world or as delta. The sandbox runs it beside a proxy, tests use it with [`Fault`]s.
//!
//! From the inside out: [`kinds`] (types of resources, in the order in which they are sent) – [`world`] (what there is) –
//! [`sotw`] and [`delta`] (one stream of requests and responses, without sockets) – `connection` (HTTP/2) –
//! [`fault`] (what a control plane should never do) – [`folder`] (files as the source) – [`plane`] (the server).

#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod connection;
pub mod delta;
pub mod fault;
pub mod folder;
pub mod kinds;
pub mod plane;
pub mod sotw;
#[cfg(test)]
mod tests;
pub mod world;

pub use fault::Fault;
pub use folder::Folder;
pub use plane::{Event, Plane, What};
pub use world::World;

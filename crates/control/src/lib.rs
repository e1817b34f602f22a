//! Floor 5: the server around the engine.
//!
//! In start-up order: [`options`] (what the command line asked for) → [`bootstrap`] (what the configuration asks for) →
//! [`server`] (start, serve, stop) → [`xds`] (what changes it while it runs) → [`admin`] (what operators see).

// Who knows that it cannot happen says why, in a reason.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod admin;
pub mod bootstrap;
pub mod lrs;
pub mod options;
pub mod overload;
mod proto_json;
mod regex;
mod remarks;
pub mod server;
mod time;
pub mod version;
pub mod xds;

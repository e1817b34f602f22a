//! Floor 4: extensions, one folder each.
//!
//! To add one: a folder beside the others of its kind (`mod.rs`, `tests.rs`, `example.yaml`, `README.md`) and its name in
//! the list of the kind ([`http`], [`listener`], [`network`], [`access_log`], [`tracers`], [`early_header_mutation`]).
//! The module says under which name it is registered and which config
//! fields it reads (`COVERED`); a field that is set and that nobody reads is refused when the configuration is loaded.
//! The README is the module's documentation and its section of `docs/extensions.md` (`cargo run -p xtask -- docs`).
//! Tests of this crate hold every registered extension to that.

// Who knows that it cannot happen says why, in a reason.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

use nuncio_core::Registry;
use nuncio_core::coverage::Coverage;

/// Declares the extensions of a kind, each a folder beside the file that calls this, and how they are registered.
macro_rules! extensions {
    ($($name:ident),* $(,)?) => {
        $(
            #[doc = include_str!(concat!(stringify!($name), "/README.md"))]
            pub mod $name;
        )*
        /// Registers every extension of this kind, and what it reads of its configuration.
        pub fn register(r: &mut nuncio_core::Registry, c: &mut nuncio_core::coverage::Coverage) {
            $(
                let docs = nuncio_core::registry::Docs {
                    text: include_str!(concat!(stringify!($name), "/README.md")),
                    example: include_str!(concat!(stringify!($name), "/example.yaml")),
                };
                $name::register(r, docs);
                c.add($name::COVERED);
            )*
        }
        /// The folders of this kind with their tests, for the guard that wants every extension tested.
        #[cfg(test)]
        pub(crate) const FOLDERS: &[(&str, &str)] = &[
            $((stringify!($name), include_str!(concat!(stringify!($name), "/tests.rs")))),*
        ];
    };
}

pub mod access_log;
mod compression;
mod config;
mod decompression;
pub mod docs;
pub mod early_header_mutation;
mod grpc;
#[cfg(test)]
mod guard;
pub mod http;
pub mod listener;
pub mod network;
#[cfg(test)]
mod testing;
mod throttle;
mod token_bucket;
pub mod tracers;

/// Registers every extension of this crate, and what each reads of its configuration.
pub fn register(r: &mut Registry, c: &mut Coverage) {
    http::register(r, c);
    listener::register(r, c);
    network::register(r, c);
    access_log::register(r, c);
    tracers::register(r, c);
    early_header_mutation::register(r, c);
    // The lists that access loggers stand in; whoever has such a list builds it by the same function of `core`.
    c.add(config::COVERED);
    c.add(nuncio_core::access_log::COVERED);
    c.add(nuncio_core::match_tree::COVERED);
    c.add(nuncio_core::rate_limit::COVERED);
    c.add(nuncio_core::tracing::tags::COVERED);
}

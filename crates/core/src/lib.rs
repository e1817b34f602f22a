//! Floor 3: what an extension is made of.
//!
//! Traits that extensions implement, the registry that finds them, the exchange they work on, and the parts both
//! siblings above (`engine`, `ext`) share: stats, matchers, format strings, clock, live configuration.
//! Nothing here opens a socket.
//!
//! In reading order: [`exchange`] (one request and its response) → [`filter`] (what a filter may do with it) →
//! [`pipeline`] (how a chain runs) → [`registry`] and [`kinds`] (how extensions are found) → [`worker`] and
//! [`live`] (how the main thread changes what workers see).

// Who knows that it cannot happen says why, in a reason.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod access_log;
pub mod address;
pub mod base64;
pub mod body;
pub mod calendar;
pub mod cel;
pub mod clock;
pub mod cookie;
pub mod coverage;
pub mod data_source;
pub mod discovery;
pub mod error;
pub mod exchange;
pub mod filter;
pub mod filter_state;
pub mod flags;
pub mod format;
pub mod grpc;
pub mod hash;
pub mod hash64;
pub mod header_rules;
pub mod info;
pub mod init;
pub mod kinds;
pub mod listener_filter;
pub mod live;
pub mod log;
pub mod match_input;
pub mod match_tree;
pub mod matchers;
pub mod metadata;
pub mod network_filter;
pub mod orca;
pub mod overload;
pub mod pipeline;
pub mod rate_limit;
pub mod registry;
pub mod rng;
pub mod route;
pub mod runtime;
pub mod stats;
pub mod terminal_filter;
pub mod tracing;
pub mod upstreams;
pub mod url;
pub mod worker;

pub use body::{Body, BodyError, BodySource, ConnBody, Frame};
pub use error::{BuildError, BuildResult, ResetReason, StreamError};
pub use exchange::{Exchange, LocalReply};
pub use filter::{BuildCx, HttpFilter, NoRoute, Step};
pub use flags::{Flag, Flags};
pub use info::{ConnInfo, StreamInfo, StreamShared};
pub use registry::Registry;

/// A future that stays on its thread.
pub type LocalBoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + 'a>>;

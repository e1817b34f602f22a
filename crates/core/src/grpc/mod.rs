//! gRPC from the proxy itself: to control planes, authorization and rate limit services, log services.
//!
//! A [`Client`] is built from a `GrpcService` of the configuration. [`Client::unary`] makes one call; [`Client::open`] a
//! [`Stream`] of messages in both directions. Beneath is [`crate::upstreams`], so that our clusters with their TLS,
//! retries and stats apply. For
//! `google_grpc` the cluster is one that nobody else sees ([`google`]). Frames are read by [`frame`]; how a call ended is a [`Status`].

mod client;
pub mod frame;
mod google;
mod status;
mod stream;
#[cfg(test)]
mod tests;

pub use client::{COVERED, Client};
pub use google::COVERED as GOOGLE_COVERED;
pub use status::{Status, code};
pub use stream::{Receiver, Sender, Stream};

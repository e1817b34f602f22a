//! Envoy's v3 API: generated types, schema tables, YAML/JSON to protobuf and back, validation.
//!
//! Messages are reachable under their proto package: `nuncio_api::envoy::config::listener::v3::Listener`. They implement
//! [`prost::Message`] and [`prost::Name`] (type URL domain `type.googleapis.com`). Wide messages are boxed where they
//! are a field. Well-known types are those of [`prost_types`], maps are `BTreeMap`s. The protos are those of the package
//! `envoy-types` with what Envoy 1.40.0 has on top (`protos/`).
//!
//! A configuration takes this way, and one table-driven engine serves files, xDS, `/config_dump` and tests:
//!
//! ```text
//! text ──tree──▶ Tree ──encode──▶ protobuf bytes ──validate──▶ ──prost──▶ message        load = all of it
//!                                       └──json──▶ JSON with every Any expanded
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`load`] | the way in: [`load::load_bootstrap`], [`load::parse_message`] |
//! | [`any`] | the way in for extensions: [`any::decode_any`] |
//! | [`error`] | [`error::ConfigErrors`]: Envoy's phrase, place, path, "did you mean" |
//! | [`tree`] | YAML and JSON texts as trees with positions |
//! | [`encode`] | trees to protobuf bytes, with protobuf's leniencies and phrases |
//! | [`text`] | protobuf's text format to protobuf bytes |
//! | [`validate`] | the rules of protoc-gen-validate and what Envoy checks besides |
//! | [`json`] | protobuf bytes to JSON |
//! | [`schema`] | the tables behind all this |
//! | [`extensions`] | which extensions Envoy knows |
//! | [`wire`] | protobuf's wire format |

// Who knows that it cannot happen says why, in a reason.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

/// The generated prost structs, one module per proto package.
#[allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}

pub mod any;
pub mod encode;
pub mod error;
pub mod extensions;
pub mod json;
pub mod load;
pub mod schema;
mod suggest;
pub mod text;
pub mod tree;
pub mod validate;
pub mod wire;

pub use pb::{cel, envoy, google, grpc, io, opentelemetry, ratelimit, udpa, xds, zipkin};

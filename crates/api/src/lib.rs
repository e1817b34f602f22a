//! Envoy's v3 API: generated types, schema tables, YAML/JSON to protobuf and back, validation.
//!
//! Messages are reachable under their proto package: `nuncio_api::envoy::config::listener::v3::Listener`. They implement
//! [`prost::Message`] and [`prost::Name`] (type URL domain `type.googleapis.com`). Wide messages are boxed where they
//! are a field. Well-known types are those of [`prost_types`], maps are `BTreeMap`s.

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

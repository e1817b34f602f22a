//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112), both roles, without any I/O.
//!
//! * [`Server`] is one downstream connection: request heads and bodies in, responses out, one after the other.
//! * [`Client`] is one upstream connection: requests out, responses in, one after the other.
//!
//! In the order in which a request passes them: `settings` – `lines` (cuts a head into lines, remembers where it
//! stopped) – `fields` (one header line) – `request` / `response` (a whole head and the framing that follows from
//! it) – `target` (absolute-form and authority-form) – `connection` (hop-by-hop options and upgrades) – `body`
//! (length, chunks, trailers, raw bytes) – `encode` (heads and bodies to text) – `server` / `client`.
//!
//! # Where we are stricter than Envoy
//!
//! Envoy's answers are kept (see [`H1Error`]), but what two parsers could read in two ways is refused with 400
//! instead of repaired: continuation lines (obs-fold), a CR that no LF follows, differing `Host` headers, chunk data
//! without its CRLF, chunk lines ended by a bare LF, blanks or signs around a chunk size, an open quote in a chunk
//! extension. A bare LF still ends a head line (RFC 9112 §2.2).

mod body;
mod chars;
mod client;
mod connection;
mod encode;
mod error;
mod fields;
mod lines;
mod reason;
mod request;
mod response;
mod server;
mod settings;
mod target;

pub use body::BodyEvent;
pub use client::{Client, ResponseStart};
pub use error::{Cause, Eof, H1Error};
pub use reason::reason;
pub use request::RequestStart;
pub use server::Server;
pub use settings::{ClientSettings, HeaderCase, IgnoreUpgrade, ServerSettings, Underscores};

/// What a request asks the connection to become, or what it became.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Upgrade {
    /// Plain HTTP.
    #[default]
    None,
    /// `Connection: upgrade` with an `Upgrade` header (RFC 9110 §7.8); the header is in the head.
    Token,
    /// The CONNECT method (RFC 9110 §9.3.6).
    Connect,
}

#[cfg(test)]
mod tests;

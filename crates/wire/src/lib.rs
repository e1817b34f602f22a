//! Floor 2: what travels on the wire. Sans-io codecs: bytes in, events out.
//!
//! Nothing here knows a socket, a runtime or a clock, so everything can be driven byte by byte from a table,
//! a property test or a fuzzer.
//!
//! * [`headers`] – the header block all protocols share: one arena, entries in order, known names interned.
//! * [`head`] – request and response heads on top of it (pseudo-headers as in HTTP/2, as Envoy keeps them).
//! * [`joined`] – which repeated headers become one entry, as in Envoy.
//! * [`buf`] – read buffers, body chunks and write queues whose memory goes back to a per-thread pool.
//! * [`h1`] – HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112).
//! * [`h2`] – HTTP/2 (RFC 9113) with HPACK (RFC 7541).
//! * [`tls`] – what a TLS client says first, for those who only look (RFC 8446).

// Who knows that it cannot happen says why, in a reason.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod buf;
mod chars;
pub mod h1;
pub mod h2;
pub mod head;
pub mod headers;
pub mod joined;
pub mod name;
pub mod tls;

pub use buf::{BLOCK, Chunk, OutBuf, ReadBuf};
pub use head::{RequestHead, ResponseHead, Version};
pub use headers::{HeaderMap, NameCase};
pub use name::{AsName, HeaderName, Id, IdSet};

//! HPACK (RFC 7541): header compression of HTTP/2.
//!
//! The [`Decoder`] works on fragments as they arrive and hands every field to a sink, so that limits hold while
//! a header block is still coming in. The [`Encoder`] writes straight into the output buffer.
//! Neither allocates per field.

mod decode;
mod encode;
pub(super) mod huffman;
mod int;
mod table;

pub use decode::{DecodeError, Decoder, Field};
pub use encode::Encoder;

#[cfg(test)]
mod tests;

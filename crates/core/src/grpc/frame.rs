//! Frames of gRPC: flags (1 byte), length (4 bytes), message.

use super::{Status, code};
use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a frame's head.
pub const HEAD: usize = 5;

/// The head of a message of this length. Messages of 4 GiB and more are refused when they are sent.
pub fn head(len: u32) -> [u8; HEAD] {
    let [a, b, c, d] = len.to_be_bytes();
    [0, a, b, c, d]
}

/// Puts messages together from the pieces that come.
#[derive(Debug)]
pub struct Decoder {
    data: BytesMut,
    /// Longest message, in bytes.
    limit: u32,
}

impl Decoder {
    /// Messages of up to `limit` bytes.
    pub fn new(limit: u32) -> Decoder {
        Decoder { data: BytesMut::new(), limit }
    }
    /// Takes a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.data.extend_from_slice(piece);
    }
    /// The next whole message.
    ///
    /// # Errors
    /// It is too long, or compressed, which nobody asked for.
    pub fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some([flags, length @ ..]) = self.data.first_chunk::<HEAD>() else { return Ok(None) };
        let (flags, length) = (*flags, u32::from_be_bytes(*length));
        if length > self.limit {
            return Err(Status::new(code::RESOURCE_EXHAUSTED, ""));
        }
        if flags != 0 && length > 0 {
            return Err(Status::new(code::INTERNAL, ""));
        }
        let whole = HEAD + length as usize;
        if self.data.len() < whole {
            return Ok(None);
        }
        self.data.advance(HEAD);
        let message = self.data.split_to(length as usize).freeze();
        if self.data.is_empty() {
            self.data = BytesMut::new(); // an idle stream holds no memory
        }
        Ok(Some(message))
    }
}

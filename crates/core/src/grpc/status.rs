//! How a call ended.

use nuncio_wire::{HeaderMap, name};
use std::fmt;

/// Codes of gRPC (`grpc/doc/statuscodes.md`).
pub mod code {
    #![allow(missing_docs)]
    pub const OK: u32 = 0;
    pub const CANCELLED: u32 = 1;
    pub const UNKNOWN: u32 = 2;
    pub const INVALID_ARGUMENT: u32 = 3;
    pub const DEADLINE_EXCEEDED: u32 = 4;
    pub const NOT_FOUND: u32 = 5;
    pub const ALREADY_EXISTS: u32 = 6;
    pub const PERMISSION_DENIED: u32 = 7;
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    pub const FAILED_PRECONDITION: u32 = 9;
    pub const ABORTED: u32 = 10;
    pub const OUT_OF_RANGE: u32 = 11;
    pub const UNIMPLEMENTED: u32 = 12;
    pub const INTERNAL: u32 = 13;
    pub const UNAVAILABLE: u32 = 14;
    pub const DATA_LOSS: u32 = 15;
    pub const UNAUTHENTICATED: u32 = 16;
}

/// Code and message of an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// `grpc-status`; 0 is success.
    pub code: u32,
    /// `grpc-message`, decoded, and Envoy's details of the response in braces.
    pub message: String,
}

impl Status {
    /// A status.
    pub fn new(code: u32, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }
    /// True when the call ended well.
    pub fn is_ok(&self) -> bool {
        self.code == code::OK
    }
    /// What trailers say; without a number it is 2, unknown.
    pub fn of(trailers: &HeaderMap) -> Status {
        let code = number(trailers).unwrap_or(code::UNKNOWN);
        let message = trailers.get(name::GRPC_MESSAGE).unwrap_or_default();
        Status::new(code, String::from_utf8_lossy(&percent_decode(message)))
    }
    /// Adds the response's details as Envoy does: alone, or in braces after a message.
    pub(super) fn with_details(mut self, details: &str) -> Status {
        match (self.message.is_empty(), details.is_empty()) {
            (_, true) => {}
            (true, false) => self.message = details.to_owned(),
            (false, false) => self.message = format!("{}{{{details}}}", self.message),
        }
        self
    }
}

/// `grpc-status`, when it is there and a number.
pub(super) fn number(headers: &HeaderMap) -> Option<u32> {
    headers.get_str(name::GRPC_STATUS)?.parse().ok()
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.code, self.message)
    }
}

/// What is no code for a byte stands as it is (gRPC over HTTP/2, "Responses").
fn percent_decode(s: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(s.len());
    let mut rest = s;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|c| std::str::from_utf8(c).ok());
        match code.and_then(|c| u8::from_str_radix(c, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

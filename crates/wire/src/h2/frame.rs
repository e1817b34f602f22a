//! The frame layout (RFC 9113 §4.1) and how frames without a payload of their own making are written.

use super::error::ErrorCode;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const WITH_PRIORITY: u8 = 0x20;

/// What a client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame header.
pub const HEAD: usize = 9;

/// A frame header.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub len: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    #[inline]
    pub fn parse(b: &[u8; HEAD]) -> Head {
        Head {
            len: u32::from_be_bytes([0, b[0], b[1], b[2]]),
            kind: b[3],
            flags: b[4],
            stream: u32::from_be_bytes([b[5], b[6], b[7], b[8]]) & 0x7fff_ffff,
        }
    }
    #[inline]
    pub fn bytes(self) -> [u8; HEAD] {
        let (l, s) = (self.len.to_be_bytes(), self.stream.to_be_bytes());
        [l[1], l[2], l[3], self.kind, self.flags, s[0], s[1], s[2], s[3]]
    }
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// First four bytes of a payload as a number; the callers have checked the length.
pub fn word(b: &[u8]) -> u32 {
    b.first_chunk().map_or(0, |b| u32::from_be_bytes(*b))
}

pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head { len: payload.len() as u32, kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

pub fn put_goaway(out: &mut Vec<u8>, last: u32, code: ErrorCode, debug: &[u8]) {
    let len = 8 + debug.len() as u32;
    out.extend_from_slice(&Head { len, kind: GOAWAY, flags: 0, stream: 0 }.bytes());
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(debug);
}

pub fn put_settings(out: &mut Vec<u8>, all: &[(u16, u32)]) {
    out.extend_from_slice(&Head { len: 6 * all.len() as u32, kind: SETTINGS, flags: 0, stream: 0 }.bytes());
    for (id, value) in all {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

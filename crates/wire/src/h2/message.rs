//! Which fields a message may have (RFC 9113 §8.2, §8.3; RFC 8441), as Envoy's HTTP/2 library decides it.

use super::hpack::Field;
use crate::chars::first_control;
use crate::name::{self, Id};

const NAME: u8 = 1;
const VALUE: u8 = 2;
const PATH: u8 = 4;
const AUTHORITY: u8 = 8;
const METHOD: u8 = 16;
const SCHEME: u8 = 32;

/// What each byte is good for.
static CLASS: [u8; 256] = classes();

const fn one_of(b: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == b {
            return true;
        }
        i += 1;
    }
    false
}

const fn classes() -> [u8; 256] {
    let mut t = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let token = b.is_ascii_alphanumeric() || one_of(b, b"!#$%&'*+-.^_`|~");
        if token {
            t[i] |= METHOD;
            if !b.is_ascii_uppercase() {
                t[i] |= NAME;
            }
        }
        // Bytes above 0x7f (obs-text) pass, controls beside the tab do not.
        if b == b'\t' || (b >= 0x20 && b != 0x7f) {
            t[i] |= VALUE;
        }
        if b > 0x20 && b != 0x7f {
            t[i] |= PATH;
        }
        if b.is_ascii_alphanumeric() || one_of(b, b"-._~%!$&'()[]*+,;=:") {
            t[i] |= AUTHORITY;
        }
        if b.is_ascii_alphanumeric() || one_of(b, b"+-.") {
            t[i] |= SCHEME;
        }
        i += 1;
    }
    t
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|&b| CLASS[b as usize] & class != 0)
}

/// The name is a lower-case token.
pub fn is_name(f: &Field<'_>) -> bool {
    f.id != Id::OTHER || (!f.name.is_empty() && f.name.len() <= u16::MAX as usize && all(f.name, NAME))
}
/// The value holds no controls (RFC 9113 §8.2.1).
pub fn is_value(value: &[u8]) -> bool {
    first_control(value).is_none()
}
/// The value of a pseudo-header is well-formed by itself.
pub fn is_pseudo_value(id: Id, value: &[u8]) -> bool {
    let class = match id {
        name::PATH => PATH,
        name::AUTHORITY => AUTHORITY,
        name::METHOD => METHOD,
        name::SCHEME => SCHEME,
        _ => VALUE,
    };
    !value.is_empty() && all(value, class)
}
/// As [`is_pseudo_value`], for a `host` that stands for `:authority`.
pub fn is_host(value: &[u8]) -> bool {
    all(value, AUTHORITY)
}
/// Fields that speak of the connection (RFC 9113 §8.2.2).
pub fn is_connection_specific(id: Id, value: &[u8]) -> bool {
    match id {
        name::CONNECTION
        | name::KEEP_ALIVE
        | name::PROXY_CONNECTION
        | name::TRANSFER_ENCODING
        | name::UPGRADE => true,
        name::TE => !value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    }
}

/// Bits of the pseudo-headers seen.
pub fn pseudo_bit(id: Id) -> u8 {
    match id {
        name::METHOD => 1,
        name::SCHEME => 2,
        name::PATH => 4,
        name::AUTHORITY => 8,
        name::PROTOCOL => 16,
        name::STATUS => 32,
        _ => 0,
    }
}

/// A whole request: pseudo-headers complete, the path fits the method.
pub fn is_request(seen: u8, method: &[u8], path: &[u8]) -> bool {
    let bit = pseudo_bit;
    let has = |id| seen & bit(id) != 0;
    if method == b"CONNECT" && !has(name::PROTOCOL) {
        return seen == bit(name::METHOD) | bit(name::AUTHORITY);
    }
    has(name::METHOD)
        && has(name::SCHEME)
        && has(name::PATH)
        && has(name::AUTHORITY)
        && (!has(name::PROTOCOL) || method == b"CONNECT")
        && (path.first() == Some(&b'/') || (path == b"*" && method == b"OPTIONS"))
}

/// A content-length: digits only.
pub fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// Three digits, 100 or more.
pub fn status(value: &[u8]) -> Option<u16> {
    match value {
        [a @ b'1'..=b'9', b, c] if b.is_ascii_digit() && c.is_ascii_digit() => {
            Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => None,
    }
}

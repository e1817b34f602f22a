//! Writes heads and bodies.

use super::reason;
use crate::buf::{Chunk, OutBuf};
use crate::chars::{is_token, is_visible};
use crate::headers::{Header, HeaderMap, NameCase};
use crate::name::{self, Id, IdSet};

/// How the body that is being written is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Delimit {
    /// There is none; data is dropped.
    #[default]
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    /// As it comes: raw, or up to the end of the connection.
    Raw,
}

/// Writes one body after the other.
#[derive(Default, Debug)]
pub(super) struct BodyWriter {
    pub delimit: Delimit,
    /// The body did not match its announced length: the connection cannot go on.
    pub broken: bool,
}

impl BodyWriter {
    pub(super) fn start(&mut self, delimit: Delimit) {
        *self = BodyWriter { delimit, broken: false };
    }
    pub(super) fn data(&mut self, mut data: Chunk, out: &mut OutBuf) {
        if data.is_empty() {
            return;
        }
        match &mut self.delimit {
            Delimit::None => {}
            Delimit::Raw => out.chunk(data),
            Delimit::Length(left) => {
                if data.len() as u64 > *left {
                    // More than announced would be read as the next message.
                    self.broken = true;
                    data = data.split_to(*left as usize);
                }
                *left -= data.len() as u64;
                out.chunk(data);
            }
            Delimit::Chunked => {
                out.text(|t| {
                    hex(t, data.len());
                    t.extend_from_slice(b"\r\n");
                });
                out.chunk(data);
                out.put(b"\r\n");
            }
        }
    }
    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut OutBuf) {
        match self.delimit {
            Delimit::None | Delimit::Raw => {}
            Delimit::Length(left) => self.broken |= left > 0,
            Delimit::Chunked => out.text(|t| {
                t.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    fields(t, trailers, NameCase::Lower, &PSEUDO);
                }
                t.extend_from_slice(b"\r\n");
            }),
        }
        self.delimit = Delimit::None;
    }
}

fn hex(t: &mut Vec<u8>, n: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = (usize::BITS - n.leading_zeros()).div_ceil(4).max(1);
    for i in (0..nibbles).rev() {
        t.push(DIGITS[(n >> (i * 4)) & 15]);
    }
}

/// `HTTP/1.1 200 OK`
pub(super) fn status_line(t: &mut Vec<u8>, http10: bool, status: u16) {
    t.extend_from_slice(if http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    decimal(t, u64::from(status));
    t.push(b' ');
    t.extend_from_slice(reason(status).as_bytes());
    t.extend_from_slice(b"\r\n");
}

fn decimal(t: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    t.extend_from_slice(&digits[at..]);
}

/// A part of a request line. What would end it is percent-encoded: a filter may have put it there.
pub(super) fn target(t: &mut Vec<u8>, s: &[u8]) {
    if is_visible(s) || s.iter().all(|&c| c > b' ' && c != 0x7f) {
        return t.extend_from_slice(s);
    }
    for &c in s {
        if c > b' ' && c != 0x7f {
            t.push(c);
        } else {
            t.push(b'%');
            t.extend_from_slice(&[
                b"0123456789ABCDEF"[usize::from(c >> 4)],
                b"0123456789ABCDEF"[usize::from(c & 15)],
            ]);
        }
    }
}

/// Pseudo-headers have no lines of their own; requests write `:authority` all the same.
pub(super) const PSEUDO: IdSet =
    IdSet::new(&[name::METHOD, name::PATH, name::AUTHORITY, name::SCHEME, name::PROTOCOL, name::STATUS]);

/// Writes the fields of a map, but for those that are left out.
pub(super) fn fields(t: &mut Vec<u8>, map: &HeaderMap, case: NameCase, leave_out: &IdSet) {
    if map.is_plain() && case == NameCase::Lower {
        map.lines(leave_out, |lines| t.extend_from_slice(lines));
    } else {
        map.iter().filter(|h| !leave_out.has(h.id)).for_each(|h| field(t, case, &h));
    }
}

/// `name: value`, with the name in the wanted case.
fn field(t: &mut Vec<u8>, case: NameCase, h: &Header<'_>) {
    let name = if h.id == name::AUTHORITY { b"host" } else { h.name };
    if h.id == Id::OTHER && !is_token(name) {
        return; // A filter made it up; it could end the line.
    }
    match (h.written, case) {
        (Some(written), _) => t.extend_from_slice(written),
        (None, NameCase::Lower) => t.extend_from_slice(name),
        (None, NameCase::Proper) => proper(t, name),
    }
    t.extend_from_slice(b": ");
    let at = t.len();
    t.extend_from_slice(h.value);
    blank_line_ends(&mut t[at..]);
    t.extend_from_slice(b"\r\n");
}

/// A header made by the codec itself.
pub(super) fn own(t: &mut Vec<u8>, case: NameCase, id: Id, value: &[u8]) {
    field(t, case, &Header { id, name: id.text().as_bytes(), value, written: None });
}

/// CR, LF and NUL, which only a filter can have put there, become spaces (RFC 9110 §5.5).
fn blank_line_ends(value: &mut [u8]) {
    for c in value.iter_mut().filter(|c| matches!(**c, b'\r' | b'\n' | 0)) {
        *c = b' ';
    }
}

fn proper(t: &mut Vec<u8>, name: &[u8]) {
    let mut first = true;
    for &c in name {
        t.push(if first { c.to_ascii_uppercase() } else { c });
        first = !c.is_ascii_alphanumeric();
    }
}

//! Encoding of header blocks.
//!
//! What repeats goes into the dynamic table, Huffman-coded once; what does not (paths, lengths, request ids)
//! is written plainly behind an indexed name; credentials are marked as never to be indexed (RFC 7541 §7.1.3).

use super::huffman;
use super::int;
use super::table::{FIRST_DYNAMIC, OVERHEAD, STATIC, STATIC_INDEX, Table};
use crate::name::{self, Id};

/// Encoder of one connection.
pub struct Encoder {
    table: Table,
    /// Number of the entry with a certain hash, in buckets of two; a stale one is found out by looking at the entry.
    index: Vec<u16>,
    /// Largest table we keep, whatever the peer allows.
    own_limit: usize,
    /// Sizes to announce at the start of the next block: the smallest since the last one, and the current.
    resize: Option<(usize, usize)>,
}

const SLOTS: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Index,
    /// The value seldom comes again.
    Volatile,
    Never,
}

fn policy(id: Id) -> Policy {
    match id {
        name::AUTHORIZATION | name::PROXY_AUTHORIZATION | name::COOKIE | name::SET_COOKIE => Policy::Never,
        name::PATH
        | name::CONTENT_LENGTH
        | name::X_REQUEST_ID
        | name::ETAG
        | name::LOCATION
        | name::REFERER
        | name::AGE
        | name::LAST_MODIFIED
        | name::EXPIRES
        | name::IF_MODIFIED_SINCE
        | name::IF_UNMODIFIED_SINCE
        | name::IF_MATCH
        | name::IF_NONE_MATCH
        | name::RANGE
        | name::CONTENT_RANGE
        | name::TRACEPARENT
        | name::X_B3_TRACEID
        | name::X_B3_SPANID
        | name::GRPC_TIMEOUT
        | name::GRPC_MESSAGE
        | name::GRPC_STATUS_DETAILS_BIN
        | name::SEC_WEBSOCKET_KEY
        | name::SEC_WEBSOCKET_ACCEPT
        | name::X_ENVOY_ORIGINAL_PATH
        | name::X_ENVOY_UPSTREAM_SERVICE_TIME => Policy::Volatile,
        _ => Policy::Index,
    }
}

/// Index of a static entry that has exactly this value.
fn static_match(id: Id, value: &[u8]) -> Option<usize> {
    let first = match id {
        name::METHOD | name::PATH | name::SCHEME | name::STATUS | name::ACCEPT_ENCODING => {
            STATIC_INDEX[id.0 as usize] as usize
        }
        _ => return None,
    };
    (first..)
        .take_while(|i| STATIC.get(i - 1).is_some_and(|e| e.0 == id))
        .find(|i| STATIC[i - 1].1.as_bytes() == value)
}

fn hash(mut h: u64, bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    for w in words {
        h = (h.rotate_left(5) ^ u64::from_le_bytes(*w)).wrapping_mul(K);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    (h.rotate_left(5) ^ u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56)).wrapping_mul(K)
}

impl Encoder {
    /// `own_limit`: largest table in bytes; the peer's SETTINGS_HEADER_TABLE_SIZE starts at 4096.
    pub fn new(own_limit: usize) -> Encoder {
        let size = own_limit.min(4096);
        Encoder {
            table: Table::new(size),
            index: Vec::new(),
            own_limit,
            resize: (size < 4096).then_some((size, size)),
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_peer_limit(&mut self, size: usize) {
        let size = size.min(self.own_limit);
        if size == self.table.max() && self.resize.is_none() {
            return;
        }
        let smallest = self.resize.map_or(size, |(min, _)| min.min(size));
        self.resize = Some((smallest, size));
        self.table.set_max(size);
    }

    /// Must be called at the start of each block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, size)) = self.resize.take() {
            if smallest < size {
                int::write(out, 0x20, 5, smallest);
            }
            int::write(out, 0x20, 5, size);
        }
    }

    /// `:status`.
    pub fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        let status = status.min(999);
        let digits =
            [b'0' + (status / 100) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
        self.field(out, name::STATUS, b":status", &digits);
    }

    /// One field; the name is lower case.
    pub fn field(&mut self, out: &mut Vec<u8>, id: Id, name: &[u8], value: &[u8]) {
        if let Some(i) = static_match(id, value) {
            return int::write(out, 0x80, 7, i);
        }
        let policy = policy(id);
        let name_hash = if id == Id::OTHER { hash(1, name) } else { u64::from(id.0) << 32 | 2 };
        let static_name = STATIC_INDEX[id.0 as usize] as usize;
        let full_hash = match policy {
            Policy::Index => {
                let h = fold(hash(name_hash, value));
                if let Some(i) = self.find(h, |t, i| {
                    t.hash(i) == Some(h) && t.get(i).is_some_and(|e| e.0 == id && e.1 == name && e.2 == value)
                }) {
                    return int::write(out, 0x80, 7, FIRST_DYNAMIC + i);
                }
                h
            }
            _ => 0,
        };
        let name_index = if static_name != 0 {
            static_name
        } else {
            let h = fold(name_hash);
            self.find(h, |t, i| t.get(i).is_some_and(|e| e.0 == id && e.1 == name))
                .map_or(0, |i| FIRST_DYNAMIC + i)
        };
        let fits = name.len() + value.len() + OVERHEAD <= self.table.max() / 2;
        let insert = fits && (policy == Policy::Index || (policy == Policy::Volatile && name_index == 0));
        let (flags, prefix) = match (insert, policy) {
            (true, _) => (0x40, 6),
            (false, Policy::Never) => (0x10, 4),
            (false, _) => (0, 4),
        };
        int::write(out, flags, prefix, name_index);
        if name_index == 0 {
            string(out, name, true);
        }
        string(out, value, insert);
        if insert {
            self.table.insert(id, name, value, full_hash);
            let number = self.table.newest();
            if policy == Policy::Index {
                self.remember(full_hash, number);
            }
            if static_name == 0 {
                self.remember(fold(name_hash), number);
            }
        }
    }

    fn find(&self, h: u32, is: impl Fn(&Table, usize) -> bool) -> Option<usize> {
        let slot = (h as usize % SLOTS) & !1;
        let bucket = self.index.get(slot..slot + 2)?;
        bucket.iter().filter_map(|&n| self.table.by_number(n)).find(|&i| is(&self.table, i))
    }
    fn remember(&mut self, h: u32, number: u16) {
        if self.index.is_empty() {
            self.index = vec![0; SLOTS];
        }
        let slot = (h as usize % SLOTS) & !1;
        // The older of the two gives way.
        let age = |n: u16| self.table.by_number(n).unwrap_or(usize::MAX);
        let which = slot + usize::from(age(self.index[slot]) < age(self.index[slot + 1]));
        self.index[which] = number;
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

fn fold(h: u64) -> u32 {
    (h ^ (h >> 32)) as u32
}

/// A string literal; `squeeze`: Huffman-coded when that is shorter.
fn string(out: &mut Vec<u8>, text: &[u8], squeeze: bool) {
    if squeeze {
        let len = huffman::encoded_len(text);
        if len < text.len() {
            int::write(out, 0x80, 7, len);
            return huffman::encode(text, out);
        }
    }
    int::write(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

//! The static table (RFC 7541 appendix A) and the dynamic one (§2.3.2), used by both directions.

use crate::name::{self, Id};
use std::collections::VecDeque;

/// The static table; its first entry has index 1.
#[rustfmt::skip]
pub static STATIC: [(Id, &str); 61] = [
    (name::AUTHORITY, ""),
    (name::METHOD, "GET"),
    (name::METHOD, "POST"),
    (name::PATH, "/"),
    (name::PATH, "/index.html"),
    (name::SCHEME, "http"),
    (name::SCHEME, "https"),
    (name::STATUS, "200"),
    (name::STATUS, "204"),
    (name::STATUS, "206"),
    (name::STATUS, "304"),
    (name::STATUS, "400"),
    (name::STATUS, "404"),
    (name::STATUS, "500"),
    (name::ACCEPT_CHARSET, ""),
    (name::ACCEPT_ENCODING, "gzip, deflate"),
    (name::ACCEPT_LANGUAGE, ""),
    (name::ACCEPT_RANGES, ""),
    (name::ACCEPT, ""),
    (name::ACCESS_CONTROL_ALLOW_ORIGIN, ""),
    (name::AGE, ""),
    (name::ALLOW, ""),
    (name::AUTHORIZATION, ""),
    (name::CACHE_CONTROL, ""),
    (name::CONTENT_DISPOSITION, ""),
    (name::CONTENT_ENCODING, ""),
    (name::CONTENT_LANGUAGE, ""),
    (name::CONTENT_LENGTH, ""),
    (name::CONTENT_LOCATION, ""),
    (name::CONTENT_RANGE, ""),
    (name::CONTENT_TYPE, ""),
    (name::COOKIE, ""),
    (name::DATE, ""),
    (name::ETAG, ""),
    (name::EXPECT, ""),
    (name::EXPIRES, ""),
    (name::FROM, ""),
    (name::HOST, ""),
    (name::IF_MATCH, ""),
    (name::IF_MODIFIED_SINCE, ""),
    (name::IF_NONE_MATCH, ""),
    (name::IF_RANGE, ""),
    (name::IF_UNMODIFIED_SINCE, ""),
    (name::LAST_MODIFIED, ""),
    (name::LINK, ""),
    (name::LOCATION, ""),
    (name::MAX_FORWARDS, ""),
    (name::PROXY_AUTHENTICATE, ""),
    (name::PROXY_AUTHORIZATION, ""),
    (name::RANGE, ""),
    (name::REFERER, ""),
    (name::REFRESH, ""),
    (name::RETRY_AFTER, ""),
    (name::SERVER, ""),
    (name::SET_COOKIE, ""),
    (name::STRICT_TRANSPORT_SECURITY, ""),
    (name::TRANSFER_ENCODING, ""),
    (name::USER_AGENT, ""),
    (name::VARY, ""),
    (name::VIA, ""),
    (name::WWW_AUTHENTICATE, ""),
];

/// Index of the first dynamic entry.
pub const FIRST_DYNAMIC: usize = STATIC.len() + 1;
/// What an entry costs beside its text (RFC 7541 §4.1).
pub const OVERHEAD: usize = 32;

/// First static index of each well-known name, 0 when it has none.
pub static STATIC_INDEX: [u8; name::COUNT] = {
    let mut t = [0; name::COUNT];
    let mut i = STATIC.len();
    while i > 0 {
        t[STATIC[i - 1].0.0 as usize] = i as u8;
        i -= 1;
    }
    t
};

struct Entry {
    id: Id,
    /// The encoder's hash of name and value.
    hash: u32,
    /// Bytes of the name that stand in the arena: 0 for a well-known name.
    name_len: u32,
    value_len: u32,
    /// Place of the name and the value behind it, counted over the arena's whole life.
    at: usize,
}

impl Entry {
    fn text_len(&self) -> usize {
        (self.name_len + self.value_len) as usize
    }
    fn size(&self) -> usize {
        let name = if self.id == Id::OTHER { 0 } else { self.id.text().len() };
        name + self.text_len() + OVERHEAD
    }
}

/// The dynamic table: a queue of entries over one arena of text.
pub struct Table {
    entries: VecDeque<Entry>,
    text: Vec<u8>,
    /// Place of `text[0]`, counted over the arena's whole life.
    base: usize,
    size: usize,
    max: usize,
    /// Entries inserted so far, wrapping.
    inserted: u16,
}

impl Table {
    /// An empty table that may hold `max` bytes (RFC 7541 §4.1).
    pub const fn new(max: usize) -> Table {
        Table { entries: VecDeque::new(), text: Vec::new(), base: 0, size: 0, max, inserted: 0 }
    }
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.size
    }
    pub fn max(&self) -> usize {
        self.max
    }
    /// Number of the newest entry, for [`by_number`](Self::by_number).
    pub fn newest(&self) -> u16 {
        self.inserted
    }
    /// Position (0 = newest) of the entry with this number; `None` when it is gone.
    pub fn by_number(&self, number: u16) -> Option<usize> {
        let age = self.inserted.wrapping_sub(number) as usize;
        (age < self.entries.len()).then_some(age)
    }

    /// Changes the limit, evicts what no longer fits.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        self.evict_to(max);
        if self.entries.is_empty() {
            (self.entries, self.text) = (VecDeque::new(), Vec::new());
        }
    }
    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(e) = self.entries.pop_front() else { break };
            self.size -= e.size();
        }
    }

    /// Inserts a field in front; `name` is looked at for [`Id::OTHER`] only. One that does not fit empties the table (§4.4).
    pub fn insert(&mut self, id: Id, name: &[u8], value: &[u8], hash: u32) {
        let name = if id == Id::OTHER { name } else { &[] };
        let e = Entry { id, hash, name_len: name.len() as u32, value_len: value.len() as u32, at: 0 };
        let size = e.size();
        if size > self.max {
            return self.evict_to(0);
        }
        self.evict_to(self.max - size);
        let live = self.entries.front().map_or(self.base + self.text.len(), |e| e.at);
        // Half of the arena is room for entries that were evicted: moving the rest is rare.
        if self.text.len() + e.text_len() > 2 * self.max || self.entries.is_empty() {
            self.text.drain(..live - self.base);
            self.base = live;
        }
        let at = self.base + self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.size += size;
        self.inserted = self.inserted.wrapping_add(1);
        self.entries.push_back(Entry { at, ..e });
    }

    fn entry(&self, i: usize) -> Option<&Entry> {
        self.entries.len().checked_sub(i + 1).map(|i| &self.entries[i])
    }
    /// Entry `i`, 0 = newest: number of the name, name, value.
    pub fn get(&self, i: usize) -> Option<(Id, &[u8], &[u8])> {
        let e = self.entry(i)?;
        let (name, value) = self.text[e.at - self.base..][..e.text_len()].split_at(e.name_len as usize);
        Some((e.id, if e.id == Id::OTHER { name } else { e.id.text().as_bytes() }, value))
    }
    /// The encoder's hash of entry `i`.
    pub fn hash(&self, i: usize) -> Option<u32> {
        self.entry(i).map(|e| e.hash)
    }
}

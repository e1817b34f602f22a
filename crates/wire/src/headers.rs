//! The header block: names and values in one arena, entries in the order they arrived.
//!
//! Values are bytes, names are lower case, a name may occur many times. Pseudo-headers (`:method`, …) are
//! ordinary entries kept in front, as Envoy keeps them, so that matchers and formatters know one kind only.
//! The memory of a dropped map goes to a per-thread free list: a steady request path does not allocate.

use crate::chars::{first_control, is_token};
use crate::name::{AUTHORITY, AsName, Id, IdSet};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

/// A header in the arena: the line that HTTP/1 writes, so that neighbours leave in one piece.
#[derive(Clone, Copy)]
struct Entry {
    id: Id,
    /// Length of the name in the line; `:authority` stands there as `host`.
    name_len: u16,
    /// Where the line begins.
    at: u32,
    value_len: u32,
    /// Where the name stands as it was written, plus one; 0 when its case was not kept.
    case_at: u32,
}

/// What a line consists of beside name and value.
const COLON: &[u8; 2] = b": ";
const END: &[u8; 2] = b"\r\n";

impl Entry {
    fn value_at(&self) -> usize {
        self.at as usize + usize::from(self.name_len) + COLON.len()
    }
    fn end(&self) -> usize {
        self.value_at() + self.value_len as usize + END.len()
    }
}

/// Ordered multi-map of headers. At most 4 GiB of text; codecs limit it far below.
#[derive(Default)]
pub struct HeaderMap {
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// Names that may occur: most questions are for headers that are not there, and need no walk.
    present: IdSet,
    names: Option<NameCase>,
    /// Some line is not as HTTP/1 may write it: something in it could end it, or its name was written otherwise.
    special: bool,
}

/// How HTTP/1 writes the names of a map that were not kept as they were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameCase {
    /// `content-type`
    Lower,
    /// `Content-Type`
    Proper,
}

/// One header of a map.
#[derive(Clone, Copy)]
pub struct Header<'a> {
    /// Its number, when well known.
    pub id: Id,
    /// Lower-case name.
    pub name: &'a [u8],
    /// Value, without surrounding white space.
    pub value: &'a [u8],
    /// The name as it was written, when the codec was told to keep it (`preserve_case`).
    pub written: Option<&'a [u8]>,
}

/// Free lists keep at most this many maps per thread, none larger than [`KEEP_BYTES`].
const KEEP: usize = 1024;
const KEEP_BYTES: usize = 16 * 1024;
thread_local!(static FREE: RefCell<Vec<(Vec<u8>, Vec<Entry>)>> = const { RefCell::new(Vec::new()) });

impl HeaderMap {
    /// An empty map, with memory from the free list when there is some.
    pub fn new() -> HeaderMap {
        match FREE.try_with(|f| f.borrow_mut().pop()) {
            Ok(Some((text, entries))) => HeaderMap { text, entries, ..HeaderMap::default() },
            _ => HeaderMap {
                text: Vec::with_capacity(1024),
                entries: Vec::with_capacity(32),
                ..HeaderMap::default()
            },
        }
    }
    /// What the side that read the map wants of whoever writes it; `None`: nothing.
    pub fn name_case(&self) -> Option<NameCase> {
        self.names
    }
    /// For codecs that keep the case of names.
    pub fn set_name_case(&mut self, case: Option<NameCase>) {
        self.names = case;
    }
    /// Number of entries, pseudo-headers included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// True without any entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        (self.present, self.special) = (IdSet::default(), false);
    }
    /// For codecs: every line may be written as it stands: names are in lower case, and nothing ends a line early.
    pub(crate) fn is_plain(&self) -> bool {
        !self.special
    }
    /// For codecs: hands out the lines of all headers but those that are left out, neighbours in one piece.
    #[inline]
    pub(crate) fn lines(&self, leave_out: &IdSet, mut write: impl FnMut(&[u8])) {
        let (mut from, mut to) = (0, 0);
        for e in self.entries.iter().filter(|e| !leave_out.has(e.id)) {
            if e.at as usize != to {
                write(&self.text[from..to]);
                from = e.at as usize;
            }
            to = e.end();
        }
        write(&self.text[from..to]);
    }
    /// Sum of the lengths of all names and values, as Envoy's `byteSize`.
    pub fn byte_size(&self) -> usize {
        self.entries.iter().map(|e| self.name_of(e).len() + e.value_len as usize).sum()
    }

    #[inline]
    fn name_of(&self, e: &Entry) -> &[u8] {
        if e.id == Id::OTHER {
            &self.text[e.at as usize..][..usize::from(e.name_len)]
        } else {
            e.id.text().as_bytes()
        }
    }
    #[inline]
    fn value_of(&self, e: &Entry) -> &[u8] {
        &self.text[e.value_at()..][..e.value_len as usize]
    }
    #[inline]
    fn header_of(&self, e: &Entry) -> Header<'_> {
        let written =
            (e.case_at != 0).then(|| &self.text[e.case_at as usize - 1..][..usize::from(e.name_len)]);
        Header { id: e.id, name: self.name_of(e), value: self.value_of(e), written }
    }
    #[inline]
    fn is(&self, e: &Entry, id: Id, text: &[u8]) -> bool {
        e.id == id && (id != Id::OTHER || (e.name_len as usize == text.len() && self.name_of(e) == text))
    }
    #[inline]
    fn find(&self, id: Id, text: &[u8]) -> Option<usize> {
        if !self.present.has(id) {
            return None;
        }
        self.walk_to(id, text)
    }
    fn walk_to(&self, id: Id, text: &[u8]) -> Option<usize> {
        match id {
            Id::OTHER => self.entries.iter().position(|e| self.is(e, id, text)),
            _ => self.entries.iter().position(|e| e.id == id),
        }
    }

    /// First value of the header.
    #[inline]
    pub fn get(&self, name: impl AsName) -> Option<&[u8]> {
        self.find(name.id(), name.text()).map(|i| self.value_of(&self.entries[i]))
    }
    /// First value as text; `None` also when it is not UTF-8.
    #[inline]
    pub fn get_str(&self, name: impl AsName) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }
    /// True when the header occurs.
    #[inline]
    pub fn contains(&self, name: impl AsName) -> bool {
        self.find(name.id(), name.text()).is_some()
    }
    /// True when a header of the set occurs.
    #[inline]
    pub fn contains_any(&self, set: &IdSet) -> bool {
        self.present.meets(set) && self.entries.iter().any(|e| set.has(e.id))
    }
    /// Every value of the header, in order.
    pub fn get_all<'a>(&'a self, name: impl AsName + 'a) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.entries.iter().filter(move |e| self.is(e, name.id(), name.text())).map(|e| self.value_of(e))
    }
    /// All values joined with `,`. Matchers must use this: to look at the first value only was CVE-2026-26308.
    pub fn joined(&self, name: impl AsName) -> Option<Cow<'_, [u8]>> {
        let (id, text) = (name.id(), name.text());
        if !self.present.has(id) {
            return None;
        }
        let mut it = self.entries.iter().filter(|e| self.is(e, id, text)).map(|e| self.value_of(e));
        let first = it.next()?;
        let Some(second) = it.next() else { return Some(Cow::Borrowed(first)) };
        let mut all = first.to_vec();
        for v in std::iter::once(second).chain(it) {
            all.push(b',');
            all.extend_from_slice(v);
        }
        Some(Cow::Owned(all))
    }
    /// All headers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Header<'_>> + '_ {
        self.entries.iter().map(|e| self.header_of(e))
    }

    /// Puts a line into the arena; says where, and how long the name is. `other` is looked at for [`Id::OTHER`] only.
    #[inline]
    fn put_line(&mut self, id: Id, other: &[u8], value: &[u8]) -> (u32, u16) {
        let other = if id == Id::OTHER { &other[..other.len().min(usize::from(u16::MAX))] } else { &[] };
        let before = id.before_value();
        let at = self.text.len() as u32;
        self.text.reserve(other.len() + before.len() + value.len() + END.len());
        self.text.extend_from_slice(other);
        self.text.extend_from_slice(before);
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(END);
        (at, (other.len() + before.len() - COLON.len()) as u16)
    }
    #[inline]
    fn insert(&mut self, e: Entry) {
        self.present.insert(e.id);
        if e.id.is_pseudo() {
            let at = self.entries.iter().take_while(|e| e.id.is_pseudo()).count();
            self.entries.insert(at, e);
        } else {
            self.entries.push(e);
        }
    }
    /// Adds a header behind all others (a pseudo-header behind the other pseudo-headers).
    pub fn append(&mut self, name: impl AsName, value: &[u8]) {
        self.note_value(value);
        self.special |= name.id() == Id::OTHER && !is_token(name.text());
        self.push_checked(name, value);
    }
    /// Notes whether a value that nobody has checked could end its line.
    #[inline]
    fn note_value(&mut self, value: &[u8]) {
        self.special |= first_control(value).is_some();
    }
    /// As [`append`](Self::append), for codecs that have checked the characters of name and value.
    pub(crate) fn push_checked(&mut self, name: impl AsName, value: &[u8]) {
        let id = name.id();
        let (at, name_len) = self.put_line(id, name.text(), value);
        self.insert(Entry { id, name_len, at, value_len: value.len() as u32, case_at: 0 });
    }
    /// For codecs: adds a line as it stands, but for the case of its name: `name: value` CRLF. Otherwise as
    /// [`push_written`](Self::push_written).
    #[inline]
    pub(crate) fn push_line(&mut self, id: Id, line: &[u8], name_len: usize) {
        let at = self.text.len();
        self.text.extend_from_slice(line);
        lower(&mut self.text[at..][..name_len]);
        let value_len = (line.len() - name_len - COLON.len() - END.len()) as u32;
        let e = Entry { id, name_len: name_len as u16, at: at as u32, value_len, case_at: 0 };
        if id == AUTHORITY {
            return self.insert(e);
        }
        self.present.insert(id);
        self.entries.push(e);
    }
    /// For codecs: adds a header whose name is in any case; keeps the written form when `keep_case`. HTTP/1's `Host` may
    /// be added as `:authority`. The caller has checked the characters, and that the name is at most 65,535 bytes.
    #[inline]
    pub fn push_written(&mut self, id: Id, name: &[u8], value: &[u8], keep_case: bool) {
        let case_at = if keep_case { self.text.len() as u32 + 1 } else { 0 };
        if keep_case {
            self.special = true;
            self.text.extend_from_slice(name);
        }
        let (at, name_len) = self.put_line(id, name, value);
        if id == Id::OTHER {
            lower(&mut self.text[at as usize..][..name.len()]);
        }
        self.insert(Entry { id, name_len, at, value_len: value.len() as u32, case_at });
    }
    /// For codecs: a header's name is no longer written as it was.
    pub(crate) fn forget_written(&mut self, id: Id) {
        if self.special {
            self.entries.iter_mut().filter(|e| e.id == id).for_each(|e| e.case_at = 0);
        }
    }
    /// For codecs: joins the values of repeated headers for which `joined` holds with commas, in the place of the
    /// first; empty values add nothing. Costs the length of the text once, and one walk for each such name.
    pub fn join_repeated(&mut self, joined: impl Fn(Id) -> bool) {
        let mut i = 0;
        while i < self.entries.len() {
            let id = self.entries[i].id;
            if id != Id::OTHER && joined(id) && self.entries[i + 1..].iter().any(|e| e.id == id) {
                self.join(i, id);
            }
            i += 1;
        }
    }
    fn join(&mut self, first: usize, id: Id) {
        let e = self.entries[first];
        let line = self.begin_line(&e);
        let from = self.text.len();
        for e in self.entries[first..].iter().filter(|e| e.id == id && e.value_len > 0) {
            if self.text.len() > from {
                self.text.push(b',');
            }
            let value = e.value_at();
            self.text.extend_from_within(value..value + e.value_len as usize);
        }
        self.end_line(first, line);
        let mut i = 0;
        self.entries.retain(|e| {
            i += 1;
            i - 1 <= first || e.id != id
        });
    }
    /// Replaces the first occurrence in place and removes the others; appends when there is none.
    pub fn set(&mut self, name: impl AsName, value: &[u8]) {
        let (id, text) = (name.id(), name.text());
        let Some(first) = self.find(id, text) else { return self.append(name, value) };
        self.set_value(first, value);
        self.remove_from(first + 1, id, text);
    }
    fn set_value(&mut self, i: usize, value: &[u8]) {
        self.note_value(value);
        let e = &mut self.entries[i];
        if value.len() <= e.value_len as usize {
            e.value_len = value.len() as u32;
            let (from, end) = (e.value_at(), e.end());
            self.text[from..end - END.len()].copy_from_slice(value);
            self.text[end - END.len()..end].copy_from_slice(END);
        } else {
            let e = *e;
            let line = self.begin_line(&e);
            self.text.extend_from_slice(value);
            self.end_line(i, line);
        }
    }
    /// Appends `value` to the last occurrence, behind `separator`; a new header when there is none.
    pub fn append_to(&mut self, name: impl AsName, separator: &[u8], value: &[u8]) {
        let (id, text) = (name.id(), name.text());
        let Some(i) = self.entries.iter().rposition(|e| self.is(e, id, text)) else {
            return self.append(name, value);
        };
        self.note_value(value);
        self.note_value(separator);
        let e = self.entries[i];
        let (old, len) = (e.value_at(), e.value_len as usize);
        let line = if e.end() == self.text.len() {
            self.text.truncate(old + len); // the line is the arena's end: it grows in place
            e.at
        } else {
            let line = self.begin_line(&e);
            self.text.extend_from_within(old..old + len);
            line
        };
        if len > 0 {
            self.text.extend_from_slice(separator);
        }
        self.text.extend_from_slice(value);
        self.end_line(i, line);
    }
    /// Begins another line for an entry, up to its value, and says where.
    fn begin_line(&mut self, e: &Entry) -> u32 {
        let at = self.text.len() as u32;
        self.text.extend_from_within(e.at as usize..e.value_at());
        at
    }
    /// Ends the line at `at`, which is the entry's from now on.
    fn end_line(&mut self, i: usize, at: u32) {
        let e = &mut self.entries[i];
        e.at = at;
        e.value_len = (self.text.len() - e.value_at()) as u32;
        self.text.extend_from_slice(END);
    }
    fn remove_from(&mut self, from: usize, id: Id, text: &[u8]) -> usize {
        let before = self.entries.len();
        let mut i = from;
        while i < self.entries.len() {
            if self.is(&self.entries[i], id, text) {
                self.entries.remove(i);
            } else {
                i += 1;
            }
        }
        before - self.entries.len()
    }
    /// Removes every occurrence; says how many there were.
    #[inline]
    pub fn remove(&mut self, name: impl AsName) -> usize {
        if !self.present.has(name.id()) {
            return 0;
        }
        self.remove_from(0, name.id(), name.text())
    }
    /// Removes every header of the set, in one pass.
    #[inline]
    pub fn remove_all(&mut self, set: &IdSet) {
        if self.present.meets(set) {
            self.present.subtract(set);
            self.entries.retain(|e| !set.has(e.id));
        }
    }
    /// Keeps the headers for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Header<'_>) -> bool) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|e| keep(self.header_of(e)));
        self.entries = entries;
    }
}

/// Lowers the letters of a token, eight at a time; the last ones may overlap.
#[inline]
fn lower(token: &mut [u8]) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let lowered = |w: u64| {
        // The high bit of each byte from `A` on, and of each beyond `Z`; characters of tokens have none of their own.
        let from_a = w.wrapping_add(ONES * (0x80 - b'A' as u64));
        let beyond_z = w.wrapping_add(ONES * (0x7f - b'Z' as u64));
        w | (from_a & !beyond_z & (ONES * 0x80)) >> 2
    };
    if let Some(last) = token.last_chunk_mut::<8>() {
        *last = lowered(u64::from_le_bytes(*last)).to_le_bytes();
        for w in token.as_chunks_mut::<8>().0 {
            *w = lowered(u64::from_le_bytes(*w)).to_le_bytes();
        }
    } else {
        token.make_ascii_lowercase();
    }
}

impl Drop for HeaderMap {
    fn drop(&mut self) {
        if self.text.capacity() == 0
            || self.text.capacity() > KEEP_BYTES
            || self.entries.capacity() > KEEP_BYTES / size_of::<Entry>()
        {
            return;
        }
        let (mut text, mut entries) = (std::mem::take(&mut self.text), std::mem::take(&mut self.entries));
        text.clear();
        entries.clear();
        // The thread may be ending: then the memory is simply freed.
        let _ = FREE.try_with(|f| {
            let mut f = f.borrow_mut();
            if f.len() < KEEP {
                f.push((text, entries));
            }
        });
    }
}

impl Clone for HeaderMap {
    fn clone(&self) -> HeaderMap {
        let mut m = HeaderMap::new();
        m.text.extend_from_slice(&self.text);
        m.entries.extend_from_slice(&self.entries);
        (m.present, m.names, m.special) = (self.present, self.names, self.special);
        m
    }
}

impl PartialEq for HeaderMap {
    fn eq(&self, other: &HeaderMap) -> bool {
        self.len() == other.len()
            && self.iter().zip(other.iter()).all(|(a, b)| a.name == b.name && a.value == b.value)
    }
}
impl Eq for HeaderMap {}

impl fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|h| (String::from_utf8_lossy(h.name), String::from_utf8_lossy(h.value))))
            .finish()
    }
}

/// For tests and local replies: names must be lower case.
impl<'a> FromIterator<(&'a str, &'a str)> for HeaderMap {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(it: T) -> HeaderMap {
        let mut m = HeaderMap::new();
        for (n, v) in it {
            m.append(n, v.as_bytes());
        }
        m
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;

//! The header block: names and values in one arena, entries in the order they arrived.
//!
//! Values are bytes, names are lower case, a name may occur many times. Pseudo-headers (`:method`, …) are
//! ordinary entries kept in front, as Envoy keeps them, so that matchers and formatters know one kind only.
//! The memory of a dropped map goes to a per-thread free list: a steady request path does not allocate.

use crate::name::{AUTHORITY, AsName, Id, IdSet};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

#[derive(Clone, Copy)]
struct Entry {
    id: Id,
    name_len: u16,
    /// Unused when the name is well known.
    name_at: u32,
    value_at: u32,
    value_len: u32,
    /// Where the name stands as it was written, plus one; 0 when its case was not kept.
    case_at: u32,
}

/// Ordered multi-map of headers. At most 4 GiB of text; codecs limit it far below.
#[derive(Default)]
pub struct HeaderMap {
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// Names that may occur: most questions are for headers that are not there, and need no walk.
    present: IdSet,
    names: Option<NameCase>,
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
const KEEP: usize = 256;
const KEEP_BYTES: usize = 16 * 1024;
thread_local!(static FREE: RefCell<Vec<(Vec<u8>, Vec<Entry>)>> = const { RefCell::new(Vec::new()) });

impl HeaderMap {
    /// An empty map, with memory from the free list when there is some.
    pub fn new() -> HeaderMap {
        match FREE.try_with(|f| f.borrow_mut().pop()) {
            Ok(Some((text, entries))) => HeaderMap { text, entries, present: IdSet::default(), names: None },
            _ => HeaderMap {
                text: Vec::with_capacity(1024),
                entries: Vec::with_capacity(32),
                present: IdSet::default(),
                names: None,
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
        self.present = IdSet::default();
    }
    /// For codecs: all text of the map, that of removed headers included. What does not stand in it stands in no
    /// value.
    pub(crate) fn arena(&self) -> &[u8] {
        &self.text
    }
    /// Sum of the lengths of all names and values, as Envoy's `byteSize`.
    pub fn byte_size(&self) -> usize {
        self.entries.iter().map(|e| self.name_of(e).len() + e.value_len as usize).sum()
    }

    fn name_of(&self, e: &Entry) -> &[u8] {
        if e.id == Id::OTHER {
            &self.text[e.name_at as usize..][..e.name_len as usize]
        } else {
            e.id.text().as_bytes()
        }
    }
    fn value_of(&self, e: &Entry) -> &[u8] {
        &self.text[e.value_at as usize..][..e.value_len as usize]
    }
    fn header_of(&self, e: &Entry) -> Header<'_> {
        let written = (e.case_at != 0).then(|| &self.text[e.case_at as usize - 1..][..e.name_len as usize]);
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

    fn put(&mut self, bytes: &[u8]) -> u32 {
        let at = self.text.len() as u32;
        self.text.extend_from_slice(bytes);
        at
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
        let (id, text) = (name.id(), name.text());
        let name_at = if id == Id::OTHER { self.put(text) } else { 0 };
        let value_at = self.put(value);
        self.insert(Entry {
            id,
            name_len: text.len() as u16,
            name_at,
            value_at,
            value_len: value.len() as u32,
            case_at: 0,
        });
    }
    /// For codecs: adds a header whose name is in any case; keeps the written form when `keep_case`.
    /// The caller has checked the name's characters and that it is at most 65,535 bytes.
    pub fn push_written(&mut self, name: &[u8], value: &[u8], keep_case: bool) -> Id {
        let id = Id::of_any_case(name);
        let at = self.text.len();
        if id == Id::OTHER {
            self.text.extend_from_slice(name);
            self.text[at..].make_ascii_lowercase();
        }
        let case_at = if keep_case { self.put(name) + 1 } else { 0 };
        let value_at = self.put(value);
        let (name_at, value_len) = (at as u32, value.len() as u32);
        self.insert(Entry { id, name_len: name.len() as u16, name_at, value_at, value_len, case_at });
        id
    }
    /// For codecs: adds HTTP/1's `Host` as `:authority`; `name` is what is kept as its written form.
    pub fn push_authority(&mut self, name: &[u8], value: &[u8], keep_case: bool) {
        let case_at = if keep_case { self.put(name) + 1 } else { 0 };
        let value_at = self.put(value);
        let (name_len, value_len) = (name.len() as u16, value.len() as u32);
        self.insert(Entry { id: AUTHORITY, name_len, name_at: 0, value_at, value_len, case_at });
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
        let at = self.text.len();
        for e in self.entries[first..].iter().filter(|e| e.id == id && e.value_len > 0) {
            if self.text.len() > at {
                self.text.push(b',');
            }
            let from = e.value_at as usize;
            self.text.extend_from_within(from..from + e.value_len as usize);
        }
        self.entries[first].value_at = at as u32;
        self.entries[first].value_len = (self.text.len() - at) as u32;
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
        let e = self.entries[i];
        if value.len() <= e.value_len as usize {
            self.text[e.value_at as usize..][..value.len()].copy_from_slice(value);
        } else {
            self.entries[i].value_at = self.put(value);
        }
        self.entries[i].value_len = value.len() as u32;
    }
    /// Appends `value` to the last occurrence, behind `separator`; a new header when there is none.
    pub fn append_to(&mut self, name: impl AsName, separator: &[u8], value: &[u8]) {
        let (id, text) = (name.id(), name.text());
        let Some(i) = self.entries.iter().rposition(|e| self.is(e, id, text)) else {
            return self.append(name, value);
        };
        let e = self.entries[i];
        let (from, len) = (e.value_at as usize, e.value_len as usize);
        let at = if from + len == self.text.len() {
            from // the value is the arena's end: grow it in place
        } else {
            let at = self.text.len();
            self.text.extend_from_within(from..from + len);
            at
        };
        if len > 0 {
            self.text.extend_from_slice(separator);
        }
        self.text.extend_from_slice(value);
        self.entries[i].value_at = at as u32;
        self.entries[i].value_len = (self.text.len() - at) as u32;
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
        (m.present, m.names) = (self.present, self.names);
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
mod tests {
    use super::*;
    use crate::name;

    fn text(m: &HeaderMap) -> String {
        m.iter()
            .map(|h| format!("{}={};", String::from_utf8_lossy(h.name), String::from_utf8_lossy(h.value)))
            .collect()
    }

    #[test]
    fn keeps_order_and_multiple_values() {
        let mut m: HeaderMap = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(text(&m), "b=1;a=2;b=3;");
        assert_eq!(m.get("b"), Some(&b"1"[..]));
        assert_eq!(m.get_all("b").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(m.joined("b").as_deref(), Some(&b"1,3"[..]));
        assert_eq!(m.remove("b"), 2);
        assert_eq!(text(&m), "a=2;");
    }

    #[test]
    fn pseudo_headers_stay_in_front() {
        let mut m: HeaderMap = [("x", "1")].into_iter().collect();
        m.append(name::METHOD, b"GET");
        m.append(name::PATH, b"/");
        assert_eq!(text(&m), ":method=GET;:path=/;x=1;");
    }

    #[test]
    fn set_replaces_in_place() {
        let mut m: HeaderMap = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        m.set("a", b"longer than before");
        assert_eq!(text(&m), "a=longer than before;b=2;");
        m.set("a", b"s");
        assert_eq!(text(&m), "a=s;b=2;");
        m.set("c", b"new");
        assert_eq!(text(&m), "a=s;b=2;c=new;");
    }

    #[test]
    fn append_to_grows_a_value() {
        let mut m: HeaderMap = [("x-forwarded-for", "1.1.1.1"), ("z", "")].into_iter().collect();
        m.append_to(name::X_FORWARDED_FOR, b",", b"2.2.2.2");
        m.append_to(name::X_FORWARDED_FOR, b",", b"3.3.3.3");
        m.append_to("z", b",", b"v");
        m.append_to("new", b",", b"v");
        assert_eq!(text(&m), "x-forwarded-for=1.1.1.1,2.2.2.2,3.3.3.3;z=v;new=v;");
    }

    #[test]
    fn written_case_is_kept_on_demand() {
        let mut m = HeaderMap::new();
        m.push_written(b"X-Foo", b"1", true);
        m.push_written(b"Host", b"h", false);
        let h: Vec<_> = m.iter().map(|h| (h.name.to_vec(), h.written.map(<[u8]>::to_vec), h.id)).collect();
        assert_eq!(h[0], (b"x-foo".to_vec(), Some(b"X-Foo".to_vec()), Id::OTHER));
        assert_eq!(h[1], (b"host".to_vec(), None, name::HOST));
    }

    #[test]
    fn retain_and_byte_size() {
        let mut m: HeaderMap = [("x-envoy-a", "1"), ("b", "22")].into_iter().collect();
        assert_eq!(m.byte_size(), 10 + 3);
        m.retain(|h| !h.name.starts_with(b"x-envoy-"));
        assert_eq!(text(&m), "b=22;");
    }

    #[test]
    fn a_set_is_removed_in_one_pass() {
        let mut m: HeaderMap =
            [("connection", "x"), ("a", "1"), ("te", "y"), ("keep-alive", "z")].into_iter().collect();
        m.remove_all(&IdSet::new(&[name::CONNECTION, name::KEEP_ALIVE]));
        assert_eq!(text(&m), "a=1;te=y;");
    }

    #[test]
    fn memory_is_reused() {
        drop(HeaderMap::from_iter([("a", "1")]));
        let p = HeaderMap::new();
        assert!(p.is_empty() && p.text.capacity() > 0);
    }
}

//! One header line, and what the lines of a head say about framing.

use super::chars::trim;
use super::error::Cause;
use super::lines::Cut;
use crate::chars::{first_control as control, is_tchar, is_token};
use crate::headers::HeaderMap;
use crate::joined;
use crate::name::{self, Id, IdSet};

/// What is asked of a header block.
#[derive(Clone, Copy)]
pub(super) struct FieldRules {
    pub max: usize,
    pub keep_case: bool,
    pub request: bool,
}

/// What the lines of a head said about framing and hop-by-hop options.
#[derive(Default, Debug)]
pub(super) struct Facts {
    /// Header lines so far; those that will be joined count once.
    pub count: usize,
    /// Some are to be joined.
    repeated: bool,
    /// Names that may have to be joined and were seen.
    seen: IdSet,
    pub content_length: Option<u64>,
    pub transfer_encoding: bool,
    pub connection: bool,
    pub proxy_connection: bool,
    pub upgrade: bool,
    pub expect: bool,
    /// `Host` lines, all equal.
    hosts: u32,
}

/// A header line taken apart.
pub(super) struct Line<'a> {
    pub id: Id,
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// All of it, when it is as we would write it: `name: value` CRLF, but for the case of the name.
    pub whole: Option<&'a [u8]>,
}

/// Takes a line apart and checks its characters.
#[inline(always)]
pub(super) fn split<'a>(line: &Cut<'a>) -> Result<Line<'a>, Cause> {
    if let Some(whole) = line.clean
        && let Some(at) = colon(line.text)
        && let (name, [b':', b' ', value @ ..]) = line.text.split_at(at)
        && value.first() != Some(&b' ')
        && value.last() != Some(&b' ')
    {
        // Without controls, what equals a known name is a token.
        let id = Id::of_any_case(name);
        if id != Id::OTHER || (is_token(name) && name.len() <= LONGEST_NAME) {
            return Ok(Line { id, name, value, whole: Some(whole) });
        }
    }
    split_any(line.text)
}

/// A longer name has no place in a header map; the limits of real heads are lower.
const LONGEST_NAME: usize = u16::MAX as usize;

/// As [`split`], of a line of which nothing is known yet.
#[inline(never)]
fn split_any(line: &[u8]) -> Result<Line<'_>, Cause> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Cause::ObsFold);
    }
    let at = line.iter().position(|&c| !is_tchar(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(at);
    let [b':', value @ ..] = rest else {
        return Err(match (control(rest), rest.contains(&b':')) {
            (Some(b'\r'), _) => Cause::LoneCr,
            (Some(_), _) => Cause::Characters,
            (None, true) => Cause::HeaderName,
            (None, false) => Cause::Colon,
        });
    };
    match control(value) {
        Some(b'\r') => return Err(Cause::LoneCr),
        Some(_) => return Err(Cause::Characters),
        None => {}
    }
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(Cause::HeaderName);
    }
    Ok(Line { id: Id::of_any_case(name), name, value: trim(value), whole: None })
}

/// The place of the first colon: names are short, and looked through eight bytes at a time.
#[inline]
fn colon(line: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = line.as_chunks::<8>();
    for (i, w) in words.iter().enumerate() {
        let w = u64::from_le_bytes(*w) ^ (ONES * b':' as u64);
        let zeros = w.wrapping_sub(ONES) & !w & (ONES * 0x80); // the lowest one is a zero
        if zeros != 0 {
            return Some(i * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&c| c == b':').map(|i| words.len() * 8 + i)
}

impl Line<'_> {
    /// Puts the line into a map, under a name that may be another.
    #[inline]
    fn put(&self, id: Id, headers: &mut HeaderMap, rules: FieldRules) {
        match self.whole {
            Some(whole) if !rules.keep_case => headers.push_line(id, whole, self.name.len()),
            _ => headers.push_written(id, self.name, self.value, rules.keep_case),
        }
    }
}

impl Facts {
    /// Adds a line to `headers` and notes what it means for the message.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        line: &Line<'_>,
        headers: &mut HeaderMap,
        rules: FieldRules,
    ) -> Result<(), Cause> {
        // What says something about the message.
        const MEAN: IdSet = IdSet::new(&[
            name::CONTENT_LENGTH,
            name::TRANSFER_ENCODING,
            name::CONNECTION,
            name::PROXY_CONNECTION,
            name::UPGRADE,
            name::EXPECT,
        ]);
        let id = line.id;
        if rules.request && id == name::HOST {
            return self.add_host(line, headers, rules);
        }
        line.put(id, headers, rules);
        let joined = if rules.request { joined::in_requests(id) } else { joined::in_responses(id) };
        let again = joined && self.seen.has(id);
        self.seen.insert(id);
        self.repeated |= again;
        self.count += usize::from(!again);
        if MEAN.has(id) {
            self.take(id, line.value)?;
        }
        self.check_count(rules)
    }
    fn take(&mut self, id: Id, value: &[u8]) -> Result<(), Cause> {
        match id {
            name::CONTENT_LENGTH => {
                if self.content_length.is_some() {
                    return Err(Cause::ContentLengths);
                }
                self.content_length = Some(decimal(value).ok_or(Cause::ContentLength)?);
            }
            name::TRANSFER_ENCODING => self.transfer_encoding = true,
            name::CONNECTION => self.connection = true,
            name::PROXY_CONNECTION => self.proxy_connection = true,
            name::UPGRADE => self.upgrade = true,
            name::EXPECT => self.expect = true,
            _ => {}
        }
        Ok(())
    }

    /// All lines are there: joins what was repeated, once, so that many repetitions cost no more than their length.
    pub(super) fn join(&mut self, headers: &mut HeaderMap, request: bool) {
        if self.repeated {
            headers.join_repeated(if request { joined::in_requests } else { joined::in_responses });
        }
        if self.hosts > 1 {
            let host = headers.get(name::AUTHORITY).unwrap_or_default();
            let all = vec![host; self.hosts as usize].join(&b","[..]);
            headers.set(name::AUTHORITY, &all);
        }
    }

    /// Adds a trailer line, whose name means nothing for the framing.
    pub(super) fn add_trailer(
        &mut self,
        line: &Line<'_>,
        trailers: &mut HeaderMap,
        rules: FieldRules,
    ) -> Result<(), Cause> {
        line.put(line.id, trailers, rules);
        self.count += 1;
        self.check_count(rules)
    }

    /// `Host` becomes `:authority`. Equal ones are joined as Envoy joins them, differing ones refused
    /// (RFC 9112 §3.2).
    fn add_host(&mut self, line: &Line<'_>, headers: &mut HeaderMap, rules: FieldRules) -> Result<(), Cause> {
        self.hosts += 1;
        if self.hosts > 1 {
            let first = headers.get(name::AUTHORITY).unwrap_or_default();
            return if first == line.value { Ok(()) } else { Err(Cause::Hosts) };
        }
        self.count += 1;
        line.put(name::AUTHORITY, headers, rules);
        self.check_count(rules)
    }

    fn check_count(&self, rules: FieldRules) -> Result<(), Cause> {
        if self.count > rules.max { Err(Cause::TooMany) } else { Ok(()) }
    }
}

/// `1*DIGIT` that fits 64 bits.
pub(super) fn decimal(s: &[u8]) -> Option<u64> {
    if s.is_empty() {
        return None;
    }
    s.iter().try_fold(0u64, |n, &c| {
        let digit = c.is_ascii_digit().then(|| u64::from(c - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

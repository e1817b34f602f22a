//! One header line, and what the lines of a head say about framing.

use super::chars::{control, is_tchar, trim};
use super::error::Cause;
use crate::headers::HeaderMap;
use crate::joined;
use crate::name;

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
    /// Numbers of the names that may have to be joined and were seen.
    seen: [u64; 4],
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
    pub name: &'a [u8],
    pub value: &'a [u8],
}

/// Takes a line apart and checks its characters.
pub(super) fn split(line: &[u8]) -> Result<Line<'_>, Cause> {
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
    // A name of 64 KiB or more has no place in a header map; the limits of real heads are lower.
    if name.is_empty() || name.len() > usize::from(u16::MAX) {
        return Err(Cause::HeaderName);
    }
    Ok(Line { name, value: trim(value) })
}

impl Facts {
    /// Adds a line to `headers` and notes what it means for the message.
    pub(super) fn add(
        &mut self,
        line: &Line<'_>,
        headers: &mut HeaderMap,
        rules: FieldRules,
    ) -> Result<(), Cause> {
        if rules.request && line.name.len() == 4 && line.name.eq_ignore_ascii_case(b"host") {
            return self.add_host(line, headers, rules);
        }
        let id = headers.push_written(line.name, line.value, rules.keep_case);
        let joined = if rules.request { joined::in_requests(id) } else { joined::in_responses(id) };
        let again = joined && self.see(id);
        self.repeated |= again;
        self.count += usize::from(!again);
        match id {
            name::CONTENT_LENGTH => {
                if self.content_length.is_some() {
                    return Err(Cause::ContentLengths);
                }
                self.content_length = Some(decimal(line.value).ok_or(Cause::ContentLength)?);
            }
            name::TRANSFER_ENCODING => self.transfer_encoding = true,
            name::CONNECTION => self.connection = true,
            name::PROXY_CONNECTION => self.proxy_connection = true,
            name::UPGRADE => self.upgrade = true,
            name::EXPECT => self.expect = true,
            _ => {}
        }
        self.check_count(rules)
    }

    /// Notes a name; true when it was noted before.
    fn see(&mut self, id: name::Id) -> bool {
        let (word, bit) = (usize::from(id.0 / 64) % 4, 1 << (id.0 % 64));
        let seen = self.seen[word] & bit != 0;
        self.seen[word] |= bit;
        seen
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
        trailers.push_written(line.name, line.value, rules.keep_case);
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
        headers.push_authority(line.name, line.value, rules.keep_case);
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

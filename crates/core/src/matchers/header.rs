//! `envoy.config.route.v3.HeaderMatcher`.

use super::string::contains;
use super::{Int64Range, Regex, StringMatcher};
use crate::error::BuildResult;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_wire::{HeaderMap, HeaderName, RequestHead, ResponseHead, name};

/// Where headers are looked up. Every value of a repeated header counts, each by itself: to look at the first only let a
/// client hide another behind it (CVE-2026-26308). Headers of which Envoy keeps one entry are joined by the codec.
pub trait HeaderSource {
    /// Whether `f` holds for a value of the header; `None` when it does not occur.
    fn any(&self, name: &HeaderName, f: impl FnMut(&[u8]) -> bool) -> Option<bool>;
}

impl HeaderSource for HeaderMap {
    fn any(&self, n: &HeaderName, f: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        // In Envoy `host` is another name of `:authority`.
        if n.id() == name::HOST && !self.contains(name::HOST) {
            any_of(self.get_all(name::AUTHORITY), f)
        } else {
            any_of(self.get_all(n), f)
        }
    }
}

fn any_of<'a>(values: impl Iterator<Item = &'a [u8]>, f: impl FnMut(&[u8]) -> bool) -> Option<bool> {
    let mut values = values.peekable();
    values.peek()?;
    Some(values.any(f))
}

impl HeaderSource for RequestHead {
    fn any(&self, name: &HeaderName, f: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        self.headers.any(name, f)
    }
}

impl HeaderSource for ResponseHead {
    fn any(&self, n: &HeaderName, mut f: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        if n.id() == name::STATUS {
            return Some(f(&status_text(self.status)));
        }
        self.headers.any(n, f)
    }
}

/// The three digits of a status code.
pub(crate) fn status_text(status: u16) -> [u8; 3] {
    [100, 10, 1].map(|unit| b'0' + (status / unit % 10) as u8)
}

/// A compiled `HeaderMatcher`.
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    name: HeaderName,
    kind: Kind,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Present(bool),
    /// The deprecated `exact_match`: an empty one matches any value.
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Regex),
    Range(Int64Range),
    String(StringMatcher),
}

impl HeaderMatcher {
    /// Compiles. Without a specifier it asks for presence, as in Envoy.
    pub fn new(m: &pb::HeaderMatcher) -> BuildResult<HeaderMatcher> {
        use pb::header_matcher::HeaderMatchSpecifier as S;
        let bytes = |s: &str| Box::<[u8]>::from(s.as_bytes());
        let kind = match &m.header_match_specifier {
            None => Kind::Present(true),
            Some(S::PresentMatch(p)) => Kind::Present(*p),
            Some(S::ExactMatch(s)) => Kind::Exact(bytes(s)),
            Some(S::PrefixMatch(s)) => Kind::Prefix(bytes(s)),
            Some(S::SuffixMatch(s)) => Kind::Suffix(bytes(s)),
            Some(S::ContainsMatch(s)) => Kind::Contains(bytes(s)),
            Some(S::SafeRegexMatch(r)) => Kind::Regex(Regex::new(r)?),
            Some(S::RangeMatch(r)) => Kind::Range(Int64Range::new(r)),
            Some(S::StringMatch(s)) => Kind::String(StringMatcher::new(s)?),
        };
        Ok(HeaderMatcher {
            name: HeaderName::new(&m.name),
            kind,
            invert: m.invert_match,
            missing_is_empty: m.treat_missing_header_as_empty,
        })
    }
    /// Compiles a list, all of which must match: see [`matches_all`].
    pub fn list(ms: &[pb::HeaderMatcher]) -> BuildResult<Vec<HeaderMatcher>> {
        let mut list = Vec::with_capacity(ms.len()); // exactly: there may be one for each of ten thousand routes
        for m in ms {
            list.push(HeaderMatcher::new(m)?);
        }
        Ok(list)
    }
    /// Name of the header it looks at.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }
    /// True when the headers match.
    pub fn matches(&self, headers: &impl HeaderSource) -> bool {
        let found = headers.any(&self.name, |v| self.matches_value(v));
        if let Kind::Present(wanted) = self.kind {
            // A missing header never is what is asked for when `present_match` is true, and inverting turns that round.
            let present = found.is_some() || self.missing_is_empty;
            return if present { wanted != self.invert } else { wanted == self.invert };
        }
        match found {
            Some(found) => found != self.invert,
            None if self.missing_is_empty => self.matches_value(b"") != self.invert,
            // Not even an inverted matcher matches a header that is not there.
            None => false,
        }
    }
    fn matches_value(&self, v: &[u8]) -> bool {
        match &self.kind {
            Kind::Present(_) => true,
            Kind::Exact(s) => s.is_empty() || v == &s[..],
            Kind::Prefix(s) => v.starts_with(s),
            Kind::Suffix(s) => v.ends_with(s),
            Kind::Contains(s) => contains(v, s),
            Kind::Regex(r) => r.matches(v),
            Kind::Range(r) => r.matches_text(v),
            Kind::String(s) => s.matches(v),
        }
    }
}

/// True when every matcher does; so for an empty list.
pub fn matches_all(matchers: &[HeaderMatcher], headers: &impl HeaderSource) -> bool {
    matchers.iter().all(|m| m.matches(headers))
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;

//! `envoy.config.route.v3.HeaderMatcher`.

use super::string::contains;
use super::{Int64Range, Regex, StringMatcher};
use crate::error::BuildResult;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_wire::{HeaderMap, HeaderName, RequestHead, ResponseHead, name};
use std::borrow::Cow;
use std::ops::Deref;

/// Where headers are looked up. All values of a header count, joined with `,`: to look at the first only let a client
/// hide another behind it (CVE-2026-26308).
pub trait HeaderSource {
    /// The value of a header; `None` when it does not occur.
    fn value(&self, name: &HeaderName) -> Option<HeaderValue<'_>>;
}

/// A header's value; derefs to its bytes.
#[derive(Clone, Debug)]
pub enum HeaderValue<'a> {
    /// Text of a header map.
    Text(Cow<'a, [u8]>),
    /// `:status` of a response, which is kept as a number.
    Status([u8; 3]),
}

impl Deref for HeaderValue<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            HeaderValue::Text(t) => t,
            HeaderValue::Status(s) => s,
        }
    }
}

impl HeaderSource for HeaderMap {
    fn value(&self, n: &HeaderName) -> Option<HeaderValue<'_>> {
        // In Envoy `host` is another name of `:authority`.
        let found = if n.id() == name::HOST && !self.contains(name::HOST) {
            self.joined(name::AUTHORITY)
        } else {
            self.joined(n)
        };
        found.map(HeaderValue::Text)
    }
}

impl HeaderSource for RequestHead {
    fn value(&self, name: &HeaderName) -> Option<HeaderValue<'_>> {
        self.headers.value(name)
    }
}

impl HeaderSource for ResponseHead {
    fn value(&self, n: &HeaderName) -> Option<HeaderValue<'_>> {
        if n.id() == name::STATUS {
            return Some(HeaderValue::Status(status_text(self.status)));
        }
        self.headers.value(n)
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
        ms.iter().map(HeaderMatcher::new).collect()
    }
    /// Name of the header it looks at.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }
    /// True when the headers match.
    pub fn matches(&self, headers: &(impl HeaderSource + ?Sized)) -> bool {
        let value = headers.value(&self.name);
        if let Kind::Present(wanted) = self.kind {
            // A missing header never is what is asked for when `present_match` is true, and inverting turns that round.
            let present = value.is_some() || self.missing_is_empty;
            return if present { wanted != self.invert } else { wanted == self.invert };
        }
        match &value {
            Some(v) => self.matches_value(v) != self.invert,
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
pub fn matches_all(matchers: &[HeaderMatcher], headers: &(impl HeaderSource + ?Sized)) -> bool {
    matchers.iter().all(|m| m.matches(headers))
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;

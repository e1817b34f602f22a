//! `envoy.type.matcher.v3.StringMatcher` and what is made of it.

use super::Regex;
use crate::error::{BuildError, BuildResult};
use nuncio_api::envoy::r#type::matcher::v3 as pb;

/// A compiled `StringMatcher`.
#[derive(Clone, Debug)]
pub struct StringMatcher {
    kind: Kind,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Regex),
}

impl StringMatcher {
    /// Compiles. `ignore_case` has no effect on `safe_regex`, as in Envoy.
    pub fn new(m: &pb::StringMatcher) -> BuildResult<StringMatcher> {
        use pb::string_matcher::MatchPattern as P;
        let bytes = |s: &str| Box::<[u8]>::from(s.as_bytes());
        let kind = match &m.match_pattern {
            Some(P::Exact(s)) => Kind::Exact(bytes(s)),
            Some(P::Prefix(s)) => Kind::Prefix(bytes(s)),
            Some(P::Suffix(s)) => Kind::Suffix(bytes(s)),
            Some(P::Contains(s)) => Kind::Contains(bytes(s)),
            Some(P::SafeRegex(r)) => Kind::Regex(Regex::new(r)?),
            Some(P::Custom(c)) => {
                let url = c.typed_config.as_ref().map_or("", |a| &a.type_url);
                return Err(BuildError::not_implemented(format_args!("string matcher {} ({url})", c.name)));
            }
            None => return Err("field: \"match_pattern\", reason: is required".into()),
        };
        Ok(StringMatcher { kind, ignore_case: m.ignore_case })
    }
    /// A matcher for one value, case-sensitive.
    pub fn exact(value: &str) -> StringMatcher {
        StringMatcher { kind: Kind::Exact(value.as_bytes().into()), ignore_case: false }
    }
    /// True when the value matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        if self.ignore_case {
            return self.matches_ignoring_case(value);
        }
        match &self.kind {
            Kind::Exact(s) => value == &s[..],
            Kind::Prefix(s) => value.starts_with(s),
            Kind::Suffix(s) => value.ends_with(s),
            Kind::Contains(s) => contains(value, s),
            Kind::Regex(r) => r.matches(value),
        }
    }
    fn matches_ignoring_case(&self, value: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact(s) => value.eq_ignore_ascii_case(s),
            Kind::Prefix(s) => value.get(..s.len()).is_some_and(|v| v.eq_ignore_ascii_case(s)),
            Kind::Suffix(s) => {
                value.len() >= s.len() && value[value.len() - s.len()..].eq_ignore_ascii_case(s)
            }
            Kind::Contains(s) => s.is_empty() || value.windows(s.len()).any(|v| v.eq_ignore_ascii_case(s)),
            Kind::Regex(r) => r.matches(value),
        }
    }
    /// The value, when exactly one matches: lets tables be built in place of lists.
    pub fn as_exact(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Exact(s) if !self.ignore_case => Some(s),
            _ => None,
        }
    }
}

pub(super) fn contains(value: &[u8], part: &[u8]) -> bool {
    part.is_empty() || value.windows(part.len()).any(|v| v == part)
}

/// A compiled `ListStringMatcher`: any of its patterns.
#[derive(Clone, Debug, Default)]
pub struct ListStringMatcher(Vec<StringMatcher>);

impl ListStringMatcher {
    /// Compiles all patterns.
    pub fn new(m: &pb::ListStringMatcher) -> BuildResult<ListStringMatcher> {
        m.patterns.iter().map(StringMatcher::new).collect::<BuildResult<_>>().map(ListStringMatcher)
    }
    /// True when one of the patterns matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.0.iter().any(|m| m.matches(value))
    }
    /// True without patterns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A compiled `PathMatcher`: matches `:path` without query and fragment.
#[derive(Clone, Debug)]
pub struct PathMatcher(StringMatcher);

impl PathMatcher {
    /// Compiles.
    pub fn new(m: &pb::PathMatcher) -> BuildResult<PathMatcher> {
        match &m.rule {
            Some(pb::path_matcher::Rule::Path(s)) => Ok(PathMatcher(StringMatcher::new(s)?)),
            None => Err("field: \"rule\", reason: is required".into()),
        }
    }
    /// `path` as it stands in `:path`.
    pub fn matches(&self, path: &[u8]) -> bool {
        let end = path.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(path.len());
        self.0.matches(&path[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::string_matcher::MatchPattern as P;

    fn m(p: P, ignore_case: bool) -> StringMatcher {
        StringMatcher::new(&pb::StringMatcher { ignore_case, match_pattern: Some(p) })
            .expect("a valid matcher")
    }

    #[test]
    fn kinds() {
        for (p, yes, no) in [
            (P::Exact("Ab".into()), &["Ab"][..], &["ab", "Abc", ""][..]),
            (P::Prefix("Ab".into()), &["Ab", "Abc"], &["ab", "xAb", "A"]),
            (P::Suffix("Ab".into()), &["Ab", "xAb"], &["ab", "Abx", "b"]),
            (P::Contains("Ab".into()), &["Ab", "xAby"], &["ab", "A", "A b"]),
            (
                P::SafeRegex(pb::RegexMatcher { regex: "A[bc]".into(), ..Default::default() }),
                &["Ab", "Ac"],
                &["ab", "Abc", "xAb"],
            ),
        ] {
            let (plain, folded) = (m(p.clone(), false), m(p.clone(), true));
            for v in yes {
                assert!(plain.matches(v.as_bytes()) && folded.matches(v.as_bytes()), "{p:?} {v}");
            }
            for v in no {
                assert!(!plain.matches(v.as_bytes()), "{p:?} {v}");
            }
            assert_eq!(folded.matches(b"ab"), !matches!(p, P::SafeRegex(_)), "{p:?}");
        }
        assert!(m(P::Exact(String::new()), false).matches(b""));
        assert_eq!(m(P::Exact("a".into()), false).as_exact(), Some(&b"a"[..]));
        assert_eq!(m(P::Exact("a".into()), true).as_exact(), None);
    }

    #[test]
    fn refused() {
        let custom = P::Custom(nuncio_api::xds::core::v3::TypedExtensionConfig {
            name: "envoy.string_matcher.lua".into(),
            ..Default::default()
        });
        let e = StringMatcher::new(&pb::StringMatcher { ignore_case: false, match_pattern: Some(custom) });
        assert!(e.unwrap_err().0.starts_with("not implemented yet: string matcher envoy.string_matcher.lua"));
        assert!(StringMatcher::new(&pb::StringMatcher::default()).is_err());
    }

    #[test]
    fn path_is_without_query_and_fragment() {
        let rule = pb::StringMatcher { match_pattern: Some(P::Exact("/a".into())), ..Default::default() };
        let p = PathMatcher::new(&pb::PathMatcher { rule: Some(pb::path_matcher::Rule::Path(rule)) })
            .expect("a valid matcher");
        assert!(p.matches(b"/a") && p.matches(b"/a?x") && p.matches(b"/a#x?y") && !p.matches(b"/a/"));
    }
}

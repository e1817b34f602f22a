//! Regular expressions as Envoy has them: RE2's syntax, over bytes, matching the whole value.

use super::re2;
use crate::error::{BuildError, BuildResult};
use nuncio_api::envoy::r#type::matcher::v3 as pb;

fn compile(pattern: &str) -> BuildResult<regex::bytes::Regex> {
    regex::bytes::RegexBuilder::new(pattern).unicode(false).size_limit(8 << 20).build().map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => BuildError::from("pattern too large - compile failed"),
        other => BuildError(other.to_string()),
    })
}

/// A compiled `RegexMatcher`.
#[derive(Clone, Debug)]
pub struct Regex {
    whole: regex::bytes::Regex,
    source: Box<str>,
}

impl Regex {
    /// Compiles; the error is RE2's text.
    pub fn new(m: &pb::RegexMatcher) -> BuildResult<Regex> {
        Regex::parse(&m.regex)
    }
    /// Compiles a pattern that stands in configuration as a plain string.
    pub fn parse(pattern: &str) -> BuildResult<Regex> {
        let inner = re2::translate(pattern).map_err(BuildError)?;
        Ok(Regex { whole: compile(&format!("\\A(?:{inner})\\z"))?, source: pattern.into() })
    }
    /// True when the pattern matches all of `value`.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }
    /// The pattern as configured.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// A compiled `RegexMatchAndSubstitute`.
#[derive(Clone, Debug)]
pub struct RegexSubstitution {
    search: regex::bytes::Regex,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<u8>),
    Group(usize),
}

impl RegexSubstitution {
    /// Compiles pattern and substitution; `\0` to `\9` are groups, `\\` is a backslash.
    pub fn new(m: &pb::RegexMatchAndSubstitute) -> BuildResult<RegexSubstitution> {
        let pattern = m.pattern.as_ref().map_or("", |p| &p.regex);
        RegexSubstitution::parse(pattern, &m.substitution)
    }
    /// As [`new`](Self::new), from plain strings.
    pub fn parse(pattern: &str, substitution: &str) -> BuildResult<RegexSubstitution> {
        let search = compile(&re2::translate(pattern).map_err(BuildError)?)?;
        let mut parts = vec![Part::Text(Vec::new())];
        let mut bytes = substitution.bytes();
        while let Some(b) = bytes.next() {
            let literal = match b {
                b'\\' => match bytes.next() {
                    Some(d @ b'0'..=b'9') => {
                        let group = usize::from(d - b'0');
                        if group >= search.captures_len() {
                            return Err(BuildError(format!(
                                "invalid substitution '{substitution}': the pattern has no group {group}"
                            )));
                        }
                        parts.push(Part::Group(group));
                        continue;
                    }
                    Some(b'\\') => b'\\',
                    _ => {
                        return Err(BuildError(format!(
                            "invalid substitution '{substitution}': '\\' must be followed by a digit or '\\'"
                        )));
                    }
                },
                b => b,
            };
            match parts.last_mut() {
                Some(Part::Text(t)) => t.push(literal),
                _ => parts.push(Part::Text(vec![literal])),
            }
        }
        Ok(RegexSubstitution { search, parts })
    }
    /// Appends `value` to `out` with every match replaced (RE2's `GlobalReplace`); says how many there were.
    pub fn replace_all(&self, value: &[u8], out: &mut Vec<u8>) -> usize {
        let (mut from, mut count) = (0, 0);
        for groups in self.search.captures_iter(value) {
            let whole = groups.get_match();
            out.extend_from_slice(&value[from..whole.start()]);
            for part in &self.parts {
                match part {
                    Part::Text(t) => out.extend_from_slice(t),
                    Part::Group(n) => out.extend_from_slice(groups.get(*n).map_or(&[], |g| g.as_bytes())),
                }
            }
            (from, count) = (whole.end(), count + 1);
        }
        out.extend_from_slice(&value[from..]);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(pattern: &str, substitution: &str, value: &str) -> String {
        let mut out = Vec::new();
        RegexSubstitution::parse(pattern, substitution)
            .expect("a valid expression")
            .replace_all(value.as_bytes(), &mut out);
        String::from_utf8(out).expect("text")
    }

    /// The examples of `RegexMatchAndSubstitute` and `regex_rewrite` in Envoy's API.
    #[test]
    fn substitution() {
        assert_eq!(
            replace("^/service/([^/]+)(/.*)$", "\\2/instance/\\1", "/service/foo/v1/api"),
            "/v1/api/instance/foo"
        );
        assert_eq!(replace("one", "two", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/two/zzz");
        assert_eq!(replace("^(.*?)one(.*)$", "\\1two\\2", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/one/zzz");
        assert_eq!(replace("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb"), "/aaa/yyy/bbb");
        assert_eq!(replace("a*", "-", "baac"), "-b-c-");
        assert_eq!(replace("b", "\\\\\\0", "abc"), "a\\bc");
    }

    #[test]
    fn bad_substitutions_are_refused() {
        assert!(RegexSubstitution::parse("a", "\\1").is_err());
        assert!(RegexSubstitution::parse("a", "x\\").is_err());
        assert!(RegexSubstitution::parse("a", "\\x").is_err());
    }

    #[test]
    fn too_large() {
        let p = "((a{100}b{100}c{100}){10}|[^x]{1000}|.{1000}){1}".repeat(40);
        assert_eq!(Regex::parse(&p).map(|_| ()), Err("pattern too large - compile failed".into()));
    }
}

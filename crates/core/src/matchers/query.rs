//! Query strings, and `envoy.config.route.v3.QueryParameterMatcher`.

use super::StringMatcher;
use crate::error::BuildResult;
use nuncio_api::envoy::config::route::v3 as pb;

/// What stands behind the first `?` of a path.
pub fn of_path(path: &[u8]) -> Option<&[u8]> {
    path.iter().position(|b| *b == b'?').map(|i| &path[i + 1..])
}

/// Names and values of a query string, in order and as they are written; a parameter without `=` has an empty value.
pub fn params(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    // A query that ends in `&` has no empty parameter behind it, one that starts with it has one before it.
    let query = query.strip_suffix(b"&").unwrap_or(query);
    let none = query.is_empty();
    query.split(|b| *b == b'&').filter(move |_| !none).map(|p| match p.iter().position(|b| *b == b'=') {
        Some(i) => (&p[..i], &p[i + 1..]),
        None => (p, &p[..0]),
    })
}

/// Percent-decodes as Envoy's `PercentEncoding::decode`: what is no valid sequence stays as it is, `+` too.
pub fn decode(text: &[u8]) -> impl Iterator<Item = u8> + Clone {
    let mut rest = text;
    std::iter::from_fn(move || {
        let hex = |b: u8| char::from(b).to_digit(16);
        match rest {
            [b'%', hi, lo, tail @ ..] => match (hex(*hi), hex(*lo)) {
                (Some(hi), Some(lo)) => {
                    rest = tail;
                    Some((hi * 16 + lo) as u8)
                }
                _ => {
                    rest = &rest[1..];
                    Some(b'%')
                }
            },
            [b, tail @ ..] => {
                rest = tail;
                Some(*b)
            }
            [] => None,
        }
    })
}

/// A compiled `QueryParameterMatcher`. The first value of a parameter counts, undecoded, as in Envoy.
#[derive(Clone, Debug)]
pub struct QueryParameterMatcher {
    name: Box<[u8]>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Present(bool),
    String(StringMatcher),
}

impl QueryParameterMatcher {
    /// Compiles. Without a specifier it asks for presence.
    pub fn new(m: &pb::QueryParameterMatcher) -> BuildResult<QueryParameterMatcher> {
        use pb::query_parameter_matcher::QueryParameterMatchSpecifier as S;
        let kind = match &m.query_parameter_match_specifier {
            None => Kind::Present(true),
            Some(S::PresentMatch(p)) => Kind::Present(*p),
            Some(S::StringMatch(s)) => Kind::String(StringMatcher::new(s)?),
        };
        Ok(QueryParameterMatcher { name: m.name.as_bytes().into(), kind })
    }
    /// `path` as it stands in `:path`.
    pub fn matches(&self, path: &[u8]) -> bool {
        let value = params(of_path(path).unwrap_or_default()).find(|(n, _)| *n == &self.name[..]);
        match (&self.kind, value) {
            (Kind::Present(wanted), v) => v.is_some() == *wanted,
            (Kind::String(s), Some((_, v))) => s.matches(v),
            (Kind::String(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_api::envoy::r#type::matcher::v3::{StringMatcher as S, string_matcher::MatchPattern as P};
    use pb::query_parameter_matcher::QueryParameterMatchSpecifier as Spec;

    fn all(path: &str) -> String {
        params(of_path(path.as_bytes()).unwrap_or_default())
            .map(|(n, v)| format!("{}={};", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect()
    }

    #[test]
    fn reads_query_strings() {
        assert_eq!(all("/a"), "");
        assert_eq!(all("/a?"), "");
        assert_eq!(all("/a?x=1&y&z=&x=2=3&"), "x=1;y=;z=;x=2=3;");
        assert_eq!(all("/a?&x=1"), "=;x=1;");
        assert_eq!(all("/a?x=?b"), "x=?b;");
    }

    #[test]
    fn decodes() {
        let d = |s: &str| String::from_utf8(decode(s.as_bytes()).collect()).expect("text");
        assert_eq!(d("a%20b+%c3%A9%zz%4%41%"), "a b+é%zz%4A%");
    }

    #[test]
    fn matcher() {
        let run = |spec: Option<Spec>, path: &str| {
            let m = pb::QueryParameterMatcher { name: "id".into(), query_parameter_match_specifier: spec };
            QueryParameterMatcher::new(&m).expect("a valid matcher").matches(path.as_bytes())
        };
        let exact = || {
            let p = Some(P::Exact("7".into()));
            Some(Spec::StringMatch(S { ignore_case: false, match_pattern: p }))
        };
        assert!(run(exact(), "/?id=7&id=8") && !run(exact(), "/?id=8&id=7") && !run(exact(), "/?di=7"));
        assert!(!run(exact(), "/?id=%37"), "not decoded");
        assert!(run(None, "/?id") && !run(None, "/?ids"));
        assert!(run(Some(Spec::PresentMatch(true)), "/?id=") && !run(Some(Spec::PresentMatch(true)), "/id"));
        assert!(run(Some(Spec::PresentMatch(false)), "/id") && !run(Some(Spec::PresentMatch(false)), "/?id"));
    }
}

//! What a handler gets.

use std::borrow::Cow;

/// A request to the admin interface, read to its end.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// `:path`, with its query.
    pub path: &'a str,
    /// The body, when it is a form (`application/x-www-form-urlencoded`); else empty.
    pub form: &'a [u8],
}

impl<'a> Request<'a> {
    /// The path without its query.
    pub fn route(&self) -> &'a str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }
    /// The query as sent, without the question mark.
    pub fn query(&self) -> &'a str {
        self.path.split_once('?').map_or("", |(_, query)| query)
    }
    /// The parameters of the query; those of the form when the query has none.
    pub fn params(&self) -> Params {
        let from_query = Params::parse(self.query());
        if from_query.0.is_empty() { Params::parse(&String::from_utf8_lossy(self.form)) } else { from_query }
    }
}

/// Decoded parameters, in the order sent.
#[derive(Debug, Default, PartialEq)]
pub struct Params(pub Vec<(String, String)>);

impl Params {
    /// Most parameters that are looked at.
    const LIMIT: usize = 10_000;

    fn parse(text: &str) -> Params {
        let pair = |p: &str| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (decode(k).into_owned(), decode(v).into_owned())
        };
        Params(text.split('&').filter(|p| !p.is_empty()).take(Self::LIMIT).map(pair).collect())
    }
    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
    /// The first value of a parameter, unless it is empty.
    pub fn get_filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }
    /// True when the parameter is there, with whatever value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// Decodes `%XX`; what is no escape stays.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let (bytes, mut out) = (text.as_bytes(), Vec::with_capacity(text.len()));
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b, ..) => {
                out.push(b);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let r = Request { method: "GET", path: "/x?a=1%2b2&b&a=3&&%zz=%4", form: b"c=1" };
        assert_eq!((r.route(), r.query()), ("/x", "a=1%2b2&b&a=3&&%zz=%4"));
        let p = r.params();
        assert_eq!(
            (p.get("a"), p.get("b"), p.get_filled("b"), p.get("%zz")),
            (Some("1+2"), Some(""), None, Some("%4"))
        );
        assert!(p.has("b") && !p.has("c"));
    }

    #[test]
    fn a_form_counts_when_the_query_is_empty() {
        let r = Request { method: "POST", path: "/x", form: b"c=%41" };
        assert_eq!(r.params().get("c"), Some("A"));
        assert_eq!(Request { path: "/x?", ..r }.params().get("c"), Some("A"));
    }
}

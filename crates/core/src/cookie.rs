//! Cookies of a request (RFC 6265 §4.2, as leniently as Envoy reads them).

use nuncio_wire::{HeaderMap, name};

/// Names and values, in order. What has no `=` is skipped; a value may stand in double quotes.
pub fn all(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(name::COOKIE).flat_map(|v| v.split(|b| *b == b';')).filter_map(|pair| {
        let start = pair.iter().position(|b| *b != b' ')?;
        let pair = &pair[start..];
        let equals = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        let bare = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
        Some((name, bare.unwrap_or(value)))
    })
}

/// The first cookie of a name.
pub fn get<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    all(headers).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// What stands behind name and value of a cookie that this proxy sets (RFC 6265 §4.1), in Envoy's order: `Max-Age` in seconds,
/// 0 for none, `Path`, what is configured, `HttpOnly`.
pub fn attributes<'a>(max_age: i64, path: &str, more: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    if max_age != 0 {
        out += &format!("; Max-Age={max_age}");
    }
    if !path.is_empty() {
        out += &format!("; Path={path}");
    }
    for (name, value) in more {
        out += &match value.is_empty() {
            true => format!("; {name}"),
            false => format!("; {name}={value}"),
        };
    }
    out + "; HttpOnly"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads() {
        let h: HeaderMap =
            [("cookie", "a=1; b=\"x y\";c;  =e; a=2"), ("cookie", "d=\"; e==")].into_iter().collect();
        let got: Vec<_> =
            all(&h).map(|(n, v)| format!("{}:{}", n.escape_ascii(), v.escape_ascii())).collect();
        assert_eq!(got, ["a:1", "b:x y", ":e", "a:2", "d:\\\"", "e:="]);
        assert_eq!((get(&h, b"a"), get(&h, b"c")), (Some(&b"1"[..]), None));
    }

    #[test]
    fn writes() {
        assert_eq!(attributes(0, "", [].into_iter()), "; HttpOnly");
        let more = [("SameSite", "Lax"), ("Secure", "")].into_iter();
        assert_eq!(attributes(5, "/a", more), "; Max-Age=5; Path=/a; SameSite=Lax; Secure; HttpOnly");
    }
}

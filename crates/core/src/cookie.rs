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
}

//! Absolute URLs, as redirects say where they lead.

/// An absolute URL, in parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Letters.
    pub scheme: &'a [u8],
    /// Host and port.
    pub authority: &'a [u8],
    /// Path, query and fragment.
    rest: &'a [u8],
}

impl<'a> Url<'a> {
    /// Parses; what stands before an `@` is left out. `None` for what is none.
    pub fn parse(url: &'a [u8]) -> Option<Url<'a>> {
        if url.iter().any(|b| *b <= b' ' || *b == 0x7f) {
            return None;
        }
        let colon = url.iter().position(|b| *b == b':')?;
        let (scheme, rest) = url.split_at(colon);
        let rest = rest.strip_prefix(b"://")?;
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let authority = match authority.iter().rposition(|b| *b == b'@') {
            Some(at) => &authority[at + 1..],
            None => authority,
        };
        let named = !scheme.is_empty() && scheme.iter().all(u8::is_ascii_alphabetic);
        (named && is_authority(authority)).then_some(Url { scheme, authority, rest })
    }
    /// What a request asks for: without the fragment.
    pub fn path(&self) -> &'a [u8] {
        match self.rest {
            [] => b"/",
            rest => rest.split(|b| *b == b'#').next().unwrap_or_default(),
        }
    }
}

/// A host, perhaps in brackets, and perhaps a port.
fn is_authority(a: &[u8]) -> bool {
    let (host, port) = match a.iter().rposition(|b| *b == b':').filter(|i| !a[*i..].contains(&b']')) {
        Some(i) => (&a[..i], Some(&a[i + 1..])),
        None => (a, None),
    };
    let host = match host {
        [b'[', inner @ .., b']'] => {
            std::str::from_utf8(inner).is_ok_and(|t| t.parse::<std::net::Ipv6Addr>().is_ok())
        }
        name => {
            let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !name.is_empty() && name.iter().all(good)
        }
    };
    let port = port.is_none_or(|p| std::str::from_utf8(p).is_ok_and(|t| t.parse::<u16>().is_ok()));
    host && port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let parts = |url: &str| {
            let u = Url::parse(url.as_bytes())?;
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            Some((text(u.scheme), text(u.authority), text(u.path())))
        };
        let is = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(parts("http://a.example/x?y#z"), is("http", "a.example", "/x?y"));
        assert_eq!(parts("https://a.example:8443"), is("https", "a.example:8443", "/"));
        assert_eq!(parts("http://me@[::1]:80/"), is("http", "[::1]:80", "/"));
        for bad in
            ["", "/x", "//a/x", "http:/a", "http://", "://a/", "http://a b/", "http://a:x/", "http://[x]/"]
        {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}

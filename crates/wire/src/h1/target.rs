//! Request targets other than a path (RFC 9112 §3.2): absolute-form and authority-form.

use super::chars::{is_authority, is_host, is_path, is_userinfo};
use super::fields::decimal;

/// A URL taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub scheme: &'a [u8],
    /// Host and port, without user information.
    pub authority: &'a [u8],
    /// Path and query; `/` when there is none.
    pub path: &'a [u8],
}

/// First look at a target, on the request line: characters only. CONNECT's is host:port.
pub(super) fn is_plausible(target: &[u8], connect: bool) -> bool {
    match target {
        [] => false,
        [b'/' | b'*', rest @ ..] => is_path(rest),
        _ => {
            let rest = if connect { Some(target) } else { split_scheme(target).map(|(_, rest)| rest) };
            let Some(rest) = rest else { return false };
            let (host, path) = split_host(rest);
            is_authority(host) && !host.windows(2).any(|w| w == b"@@") && is_path(path)
        }
    }
}

fn split_scheme(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = url.windows(3).position(|w| w == b"://")?;
    let scheme = &url[..at];
    let ok = scheme.first()?.is_ascii_alphabetic()
        && scheme.iter().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(c));
    ok.then_some((scheme, &url[at + 3..]))
}

fn split_host(rest: &[u8]) -> (&[u8], &[u8]) {
    rest.split_at(rest.iter().position(|c| b"/?".contains(c)).unwrap_or(rest.len()))
}

/// Takes an absolute-form target apart.
pub(super) fn parse_absolute(url: &[u8]) -> Option<Url<'_>> {
    let (scheme, rest) = split_scheme(url)?;
    let (host, path) = split_host(rest);
    let (authority, _) = host_and_port(host)?;
    let path = if path.is_empty() { &b"/"[..] } else { path };
    Some(Url { scheme, authority, path })
}

/// CONNECT's target: host and port, both there.
pub(super) fn parse_authority(target: &[u8]) -> Option<&[u8]> {
    match host_and_port(target)? {
        (authority, true) if authority.len() == target.len() => Some(authority),
        _ => None,
    }
}

/// Checks `[userinfo@]host[:port]`; gives host and port, and whether there is a port.
fn host_and_port(s: &[u8]) -> Option<(&[u8], bool)> {
    let authority = match s.iter().position(|&c| c == b'@') {
        Some(at) if is_userinfo(&s[..at]) => &s[at + 1..],
        Some(_) => return None,
        None => s,
    };
    let (host_ok, port) = if let [b'[', rest @ ..] = authority {
        let end = rest.iter().position(|&c| c == b']')?;
        (is_ipv6(&rest[..end]), &rest[end + 1..])
    } else {
        let end = authority.iter().position(|&c| c == b':').unwrap_or(authority.len());
        (end > 0 && is_host(&authority[..end]), &authority[end..])
    };
    if !host_ok {
        return None;
    }
    match port {
        [] => Some((authority, false)),
        [b':', digits @ ..] => (decimal(digits)? <= 65535).then_some((authority, true)),
        _ => None,
    }
}

fn is_ipv6(s: &[u8]) -> bool {
    std::str::from_utf8(s).is_ok_and(|s| s.parse::<std::net::Ipv6Addr>().is_ok())
}

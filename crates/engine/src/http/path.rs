//! Normalisation of paths and hosts, before anything matches on them.

use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use nuncio_core::LocalReply;
use nuncio_core::error::BuildResult;
use nuncio_core::rng;
use nuncio_core::runtime::Snapshot;
use nuncio_wire::{RequestHead, name};

/// What to do with paths and hosts.
#[derive(Clone, Default)]
pub struct PathRules {
    normalize: bool,
    merge_slashes: bool,
    escaped_slashes: EscapedSlashes,
    strip_port: StripPort,
    strip_trailing_dot: bool,
    /// A fragment is cut off instead of refused.
    strip_fragment: bool,
}

/// `path_with_escaped_slashes_action`
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum EscapedSlashes {
    #[default]
    Keep,
    Reject,
    Redirect,
    Forward,
}

/// `strip_any_host_port`, `strip_matching_host_port`
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum StripPort {
    #[default]
    No,
    /// When it is the port that the client connected to.
    Own,
    Any,
}

impl PathRules {
    /// Reads the rules.
    ///
    /// # Errors
    /// A rule is not built.
    pub fn new(c: &HttpConnectionManager, runtime: &Snapshot) -> BuildResult<PathRules> {
        use hcm::PathWithEscapedSlashesAction as A;
        let percent = |key: &str, default| rng::below(100) < runtime.number(key, default);
        let escaped = "http_connection_manager.path_with_escaped_slashes_action";
        let action = match A::try_from(c.path_with_escaped_slashes_action) {
            _ if !percent(&format!("{escaped}_enabled"), 100) => A::KeepUnchanged,
            // The runtime's numbers are those of the enum.
            Ok(A::ImplementationSpecificDefault) => {
                A::try_from(runtime.number(escaped, 0).min(9) as i32).unwrap_or(A::KeepUnchanged)
            }
            Ok(action) => action,
            Err(_) => A::KeepUnchanged,
        };
        Ok(PathRules {
            normalize: c
                .normalize_path
                .unwrap_or_else(|| percent("http_connection_manager.normalize_path", 0)),
            merge_slashes: c.merge_slashes,
            escaped_slashes: match action {
                A::RejectRequest => EscapedSlashes::Reject,
                A::UnescapeAndRedirect => EscapedSlashes::Redirect,
                A::UnescapeAndForward => EscapedSlashes::Forward,
                _ => EscapedSlashes::Keep,
            },
            strip_port: match c.strip_port_mode {
                Some(hcm::StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
                _ if c.strip_matching_host_port => StripPort::Own,
                _ => StripPort::No,
            },
            strip_trailing_dot: c.strip_trailing_host_dot,
            strip_fragment: runtime
                .get("envoy.reloadable_features.http_reject_path_with_fragment")
                .is_some_and(|v| v.boolean == Some(false)),
        })
    }

    /// Looks for a fragment (`#`), which no client should send (RFC 9112 §3.2); false: the request is refused for it.
    pub fn fragment(&self, head: &mut RequestHead) -> bool {
        let Some(at) = head.path().iter().position(|b| *b == b'#') else { return true };
        if self.strip_fragment {
            let path = head.path()[..at].to_vec();
            head.headers.set(name::PATH, &path);
        }
        self.strip_fragment
    }

    /// Applies the rules; a reply means that the request is refused or redirected.
    /// `port` says which port the client connected to.
    pub fn apply(&self, head: &mut RequestHead, port: impl FnOnce() -> Option<u16>) -> Option<LocalReply> {
        if self.strip_trailing_dot || self.strip_port != StripPort::No {
            self.host(head, port);
        }
        if !self.normalize && !self.merge_slashes && self.escaped_slashes == EscapedSlashes::Keep {
            return None;
        }
        let full = head.headers.get(name::PATH)?;
        let (path, query) = match full.iter().position(|b| *b == b'?') {
            Some(i) => full.split_at(i),
            None => (full, &b""[..]),
        };
        let mut path = path.to_vec();
        let query = query.to_vec();
        let mut redirect = false;
        if self.escaped_slashes != EscapedSlashes::Keep && unescape_slashes(&mut path) {
            match self.escaped_slashes {
                EscapedSlashes::Reject => {
                    path.extend_from_slice(&query);
                    head.headers.set(name::PATH, &path); // logs show what was refused
                    return Some(refused());
                }
                EscapedSlashes::Redirect => redirect = true,
                _ => {}
            }
        }
        if self.normalize {
            match canonical(&path) {
                Some(p) => path = p,
                None => return Some(refused()),
            }
        }
        if self.merge_slashes {
            path.dedup_by(|a, b| *a == b'/' && *b == b'/');
        }
        path.extend_from_slice(&query);
        if redirect {
            head.headers.set(name::PATH, &path);
            return Some(LocalReply::new(307, "", "path_normalization_failed").header(name::LOCATION, &path));
        }
        head.headers.set(name::PATH, &path);
        None
    }

    fn host(&self, head: &mut RequestHead, own: impl FnOnce() -> Option<u16>) {
        let host = head.authority().to_vec();
        let (mut h, mut port) = (&host[..], &b""[..]);
        if let Some(i) = host.iter().rposition(|b| *b == b':')
            && !host[i..].contains(&b']')
            && host[i + 1..].iter().all(u8::is_ascii_digit)
        {
            (h, port) = host.split_at(i);
        }
        if self.strip_trailing_dot {
            h = h.strip_suffix(b".").unwrap_or(h);
        }
        match self.strip_port {
            StripPort::No => {}
            StripPort::Own if own().is_none_or(|p| port_of(port) != Some(p)) => {}
            StripPort::Own | StripPort::Any => port = b"",
        }
        let new = [h, port].concat();
        if new != host {
            head.headers.set(name::AUTHORITY, &new);
        }
    }
}

/// The port in `:80`.
fn port_of(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text.strip_prefix(b":")?).ok()?.parse().ok()
}

fn refused() -> LocalReply {
    LocalReply::new(400, "", "path_normalization_failed")
}

/// `%2F` and `%5C` become `/` and `\`; says whether there were any.
fn unescape_slashes(path: &mut Vec<u8>) -> bool {
    let mut out = Vec::with_capacity(path.len());
    let (mut i, mut found) = (0, false);
    while i < path.len() {
        let slash = match path.get(i..i + 3) {
            Some([b'%', b'2', b'f' | b'F']) => Some(b'/'),
            Some([b'%', b'5', b'c' | b'C']) => Some(b'\\'),
            _ => None,
        };
        match slash {
            Some(s) => {
                out.push(s);
                found = true;
                i += 3;
            }
            None => {
                out.push(path[i]);
                i += 1;
            }
        }
    }
    *path = out;
    found
}

/// RFC 3986 §6.2.2 as Envoy does it: unreserved characters decoded, `\` is `/`, dot segments removed.
/// `None` for a path that cannot be normalised.
fn canonical(path: &[u8]) -> Option<Vec<u8>> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut i = 0;
    while i < path.len() {
        let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16));
        match path[i] {
            b'%' => match (hex(path.get(i + 1)), hex(path.get(i + 2))) {
                (Some(a), Some(b)) => {
                    let c = (a * 16 + b) as u8;
                    if c == 0 {
                        return None;
                    }
                    if c.is_ascii_alphanumeric() || b"-._~".contains(&c) {
                        decoded.push(c);
                    } else {
                        decoded.push(b'%');
                        decoded.extend(path[i + 1..i + 3].iter().map(u8::to_ascii_uppercase));
                    }
                    i += 3;
                    continue;
                }
                _ => decoded.push(b'%'),
            },
            b'\\' => decoded.push(b'/'),
            c => decoded.push(c),
        }
        i += 1;
    }
    let mut out: Vec<&[u8]> = vec![];
    let mut segments = decoded[1..].split(|b| *b == b'/').peekable();
    while let Some(s) = segments.next() {
        let last = segments.peek().is_none();
        // Hosts that know parameters take `..;a=b` for `..` (CVE-2026-73511, CVE-2026-73551).
        match s.split(|b| *b == b';').next().unwrap_or_default() {
            b"." if last => out.push(b""),
            b"." => {}
            b".." => {
                out.pop();
                if last {
                    out.push(b"");
                }
            }
            _ => out.push(s),
        }
    }
    let mut path = Vec::with_capacity(decoded.len());
    for s in out {
        path.push(b'/');
        path.extend_from_slice(s);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_paths() {
        for (from, to) in [
            ("/a/../b", "/b"),
            ("/a/./b/", "/a/b/"),
            ("/a/..", "/"),
            ("/../..", "/"),
            ("/%61%2f", "/a%2F"),
            ("/a\\b", "/a/b"),
            ("//a", "//a"),
            // CVE-2026-73511, CVE-2026-73551
            ("/a/..;x=y/b", "/b"),
            ("/a/%2e.;", "/"),
            ("/a/.;x/b;y", "/a/b;y"),
            ("/a/;x/...;y", "/a/;x/...;y"),
        ] {
            assert_eq!(canonical(from.as_bytes()).as_deref(), Some(to.as_bytes()), "{from}");
        }
        assert_eq!(canonical(b"/%00"), None);
        assert_eq!(canonical(b"a"), None);
    }

    #[test]
    fn hosts() {
        let rules = PathRules { strip_port: StripPort::Any, strip_trailing_dot: true, ..Default::default() };
        for (from, to) in
            [("a.com:80", "a.com"), ("a.com.:80", "a.com"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")]
        {
            let mut h = RequestHead::default();
            h.headers.append(name::AUTHORITY, from.as_bytes());
            rules.apply(&mut h, || None);
            assert_eq!(h.authority(), to.as_bytes(), "{from}");
        }
        let rules = PathRules { strip_port: StripPort::Own, ..Default::default() };
        for (from, to) in
            [("a.com:80", "a.com"), ("a.com:81", "a.com:81"), ("[::1]:080", "[::1]"), ("a", "a")]
        {
            let mut h = RequestHead::default();
            h.headers.append(name::AUTHORITY, from.as_bytes());
            rules.apply(&mut h, || Some(80));
            assert_eq!(h.authority(), to.as_bytes(), "{from}");
        }
    }

    #[test]
    fn fragments() {
        let head = |path: &str| RequestHead {
            headers: [(":path", path)].into_iter().collect(),
            ..Default::default()
        };
        let strict = PathRules::default();
        let lenient = PathRules { strip_fragment: true, ..Default::default() };
        assert!(strict.fragment(&mut head("/a")) && !strict.fragment(&mut head("/a#b")));
        let mut h = head("/a?q#b#c");
        assert!(lenient.fragment(&mut h));
        assert_eq!(h.path(), b"/a?q");
    }
}

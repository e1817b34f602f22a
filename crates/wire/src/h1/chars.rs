//! Which bytes may stand where.

use crate::chars::{is_visible, set};

/// Characters Envoy takes in an authority: HTTP/2's, and `@`.
const AUTHORITY: [bool; 256] = set(b"!$%&'()*+,-.:;=@[]_~");
/// Characters of a host in a URL.
const HOST: [bool; 256] = set(b".-");
/// Characters of the user information of a URL.
const USERINFO: [bool; 256] = set(b"-_.!~*'()%;:&=+$,");

/// Every character may stand in an authority (it may be empty).
pub(super) fn is_authority(s: &[u8]) -> bool {
    s.iter().all(|&c| AUTHORITY[c as usize])
}
/// Every character may stand in the host of a URL.
pub(super) fn is_host(s: &[u8]) -> bool {
    s.iter().all(|&c| HOST[c as usize])
}
/// Every character may stand in the user information of a URL.
pub(super) fn is_userinfo(s: &[u8]) -> bool {
    s.iter().all(|&c| USERINFO[c as usize])
}
/// Every character may stand in a path or query.
pub(super) fn is_path(s: &[u8]) -> bool {
    is_visible(s)
}

/// Cuts spaces and tabs off both ends.
pub(super) fn trim(mut s: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = s {
        s = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = s {
        s = rest;
    }
    s
}

/// The members of a comma-separated list, trimmed, empty ones left out.
pub(super) fn list(s: &[u8]) -> impl Iterator<Item = &[u8]> {
    s.split(|&c| c == b',').map(trim).filter(|t| !t.is_empty())
}

/// True when the list has `token`, in any case.
pub(super) fn list_has(s: &[u8], token: &[u8]) -> bool {
    list(s).any(|t| t.eq_ignore_ascii_case(token))
}

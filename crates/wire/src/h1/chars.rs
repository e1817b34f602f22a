//! Which bytes may stand where.

/// RFC 9110 §5.6.2 `tchar`.
const TOKEN: [bool; 256] = set(b"!#$%&'*+-.^_`|~", true);
/// Characters Envoy takes in an authority: HTTP/2's, and `@`.
const AUTHORITY: [bool; 256] = set(b"!$%&'()*+,-.:;=@[]_~", true);
/// Characters of a host in a URL.
const HOST: [bool; 256] = set(b".-", true);
/// Characters of the user information of a URL.
const USERINFO: [bool; 256] = set(b"-_.!~*'()%;:&=+$,", true);

const fn set(extra: &[u8], alphanumeric: bool) -> [bool; 256] {
    let mut t = [false; 256];
    let mut c = 0;
    while c < 256 {
        t[c] = alphanumeric && (c as u8).is_ascii_alphanumeric();
        c += 1;
    }
    let mut i = 0;
    while i < extra.len() {
        t[extra[i] as usize] = true;
        i += 1;
    }
    t
}

/// One character of a token.
pub(super) fn is_tchar(c: u8) -> bool {
    TOKEN[c as usize]
}
/// A token; not empty.
pub(super) fn is_token(s: &[u8]) -> bool {
    !s.is_empty() && s.iter().all(|&c| is_tchar(c))
}
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
    s.iter().all(|c| (b'!'..=b'~').contains(c))
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Not zero when a byte below 0x20 or 0x7f is among the eight.
#[inline]
fn controls(w: u64) -> u64 {
    let below = w.wrapping_sub(ONES * 0x20) & !w;
    let del = (w ^ (ONES * 0x7f)).wrapping_sub(ONES) & !(w ^ (ONES * 0x7f));
    (below | del) & HIGHS
}

/// True when a control character may be in `s`; a tab counts. Eight bytes at a time, the last ones overlapping.
#[inline]
fn may_hold_control(s: &[u8]) -> bool {
    if let Some(last) = s.last_chunk::<8>() {
        let words = s.as_chunks::<8>().0;
        let last = controls(u64::from_le_bytes(*last));
        return words.iter().fold(last, |all, w| all | controls(u64::from_le_bytes(*w))) != 0;
    }
    let word = match (s.first_chunk::<4>(), s.last_chunk::<4>(), s) {
        (Some(a), Some(b), _) => u64::from(u32::from_le_bytes(*a)) << 32 | u64::from(u32::from_le_bytes(*b)),
        (_, _, [first, .., last]) => {
            // Two or three bytes: the middle one is one of the two, or the third.
            u64::from_le_bytes([*first, s[s.len() / 2], *last, b' ', b' ', b' ', b' ', b' '])
        }
        (_, _, [one]) => u64::from_le_bytes([*one, b' ', b' ', b' ', b' ', b' ', b' ', b' ']),
        _ => return false,
    };
    controls(word) != 0
}

/// First control character (tab aside) in `s`: below 0x20, or 0x7f.
#[inline]
pub(super) fn control(s: &[u8]) -> Option<u8> {
    if may_hold_control(s) { first_control(s) } else { None }
}

#[cold]
fn first_control(s: &[u8]) -> Option<u8> {
    s.iter().copied().find(|&c| (c < 0x20 && c != b'\t') || c == 0x7f)
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

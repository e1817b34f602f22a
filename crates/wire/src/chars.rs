//! Tokens and control characters, the same for every HTTP version. Every byte of every head passes here, so controls are
//! looked for eight bytes at a time.

/// RFC 9110 §5.6.2 `tchar`.
const TOKEN: [bool; 256] = set(b"!#$%&'*+-.^_`|~");

/// Letters and digits, and `extra`.
pub(crate) const fn set(extra: &[u8]) -> [bool; 256] {
    let mut t = [false; 256];
    let mut c = 0;
    while c < 256 {
        t[c] = (c as u8).is_ascii_alphanumeric();
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
#[inline]
pub(crate) fn is_tchar(c: u8) -> bool {
    TOKEN[c as usize]
}
/// A token; not empty.
#[inline]
pub(crate) fn is_token(s: &[u8]) -> bool {
    !s.is_empty() && s.iter().all(|&c| is_tchar(c))
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x80 * ONES;

/// The high bit of each byte that is below 0x20, or 0x7f.
#[inline]
fn controls(w: u64) -> u64 {
    // Without their high bits no byte carries into the next.
    let low = w & !HIGHS;
    let (del, visible) = (low + ONES, low + 0x60 * ONES);
    (del | !visible) & !w & HIGHS
}

/// The place of the first byte below 0x20, or 0x7f. A tab counts.
#[inline(always)]
pub(crate) fn find_control(s: &[u8]) -> Option<usize> {
    let is_control = |&c: &u8| c < 0x20 || c == 0x7f;
    let mut at = 0;
    for block in s.as_chunks::<16>().0 {
        // The compiler makes a few vector instructions of this.
        if block.iter().fold(false, |any, c| any | is_control(c)) {
            break;
        }
        at += 16;
    }
    let (words, rest) = s[at..].as_chunks::<8>();
    for (i, w) in words.iter().enumerate() {
        let found = controls(u64::from_le_bytes(*w));
        if found != 0 {
            return Some(at + i * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(is_control).map(|i| at + words.len() * 8 + i)
}

/// Every byte is one of `!` to `~`.
#[inline]
pub(crate) fn is_visible(s: &[u8]) -> bool {
    const BEYOND_BLANK: u64 = (0x80 - b'!' as u64) * ONES;
    let good = |w: u64| {
        let low = w & !HIGHS;
        (low + BEYOND_BLANK) & !(low + ONES) & !w & HIGHS == HIGHS
    };
    match s.last_chunk::<8>() {
        Some(last) => {
            let words = s.as_chunks::<8>().0;
            words.iter().chain([last]).all(|w| good(u64::from_le_bytes(*w)))
        }
        None => s.iter().all(|c| (b'!'..=b'~').contains(c)),
    }
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
pub(crate) fn first_control(s: &[u8]) -> Option<u8> {
    if may_hold_control(s) { first_but_tab(s) } else { None }
}

#[cold]
fn first_but_tab(s: &[u8]) -> Option<u8> {
    s.iter().copied().find(|&c| (c < 0x20 && c != b'\t') || c == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_place() {
        for len in 0..20 {
            for at in 0..len {
                for fill in [b' ', b'~', 0x80, 0xff] {
                    for c in 0..=255u8 {
                        let mut s = vec![fill; len];
                        s[at] = c;
                        let control = c < 0x20 || c == 0x7f;
                        let visible = s.iter().all(|c| (b'!'..=b'~').contains(c));
                        assert_eq!(is_visible(&s), visible, "{c} at {at} of {len}");
                        assert_eq!(find_control(&s), control.then_some(at), "{c} at {at} of {len}");
                        assert_eq!(
                            first_control(&s),
                            (control && c != b'\t').then_some(c),
                            "{c} at {at} of {len}"
                        );
                    }
                }
            }
        }
        assert_eq!((find_control(b"a\tb\x00"), first_control(b"a\tb\x00")), (Some(1), Some(0)));
    }
}

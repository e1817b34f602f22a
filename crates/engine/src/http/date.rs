//! The `date` header, formatted once per second and thread (RFC 9110 §5.6.7).

use nuncio_core::calendar::{Civil, Name};
use nuncio_core::clock;
use std::cell::RefCell;
use std::time::UNIX_EPOCH;

thread_local!(static CACHED: RefCell<(u64, [u8; 29])> = const { RefCell::new((u64::MAX, [0; 29])) });

/// Calls `f` with the current date, e.g. `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn with_date<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    let now = clock::wall().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    CACHED.with(|c| {
        let mut c = c.borrow_mut();
        if c.0 != now {
            *c = (now, format(now));
        }
        f(&c.1)
    })
}

fn format(secs: u64) -> [u8; 29] {
    let d = Civil::of(secs.cast_signed());
    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let two = |out: &mut [u8; 29], at: usize, n: u8| {
        out[at] = b'0' + n / 10 % 10;
        out[at + 1] = b'0' + n % 10;
    };
    out[..3].copy_from_slice(d.name(Name::DayShort).as_bytes());
    two(&mut out, 5, d.day);
    out[8..11].copy_from_slice(d.name(Name::MonthShort).as_bytes());
    two(&mut out, 12, (d.year / 100 % 100) as u8);
    two(&mut out, 14, (d.year % 100) as u8);
    two(&mut out, 17, d.hour);
    two(&mut out, 20, d.minute);
    two(&mut out, 23, d.second);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!(&format(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&format(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&format(1_709_164_800), b"Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(&format(4_102_444_799), b"Thu, 31 Dec 2099 23:59:59 GMT");
    }
}

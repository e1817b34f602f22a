//! Randomness for load balancing, sampling, jitter and request ids: one small generator per thread.
//!
//! xoshiro256++ (Blackman and Vigna), seeded from the operating system. It is fast and well spread, and it is **not**
//! for secrets: keys, tokens and nonces come from the TLS library.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

thread_local!(static STATE: Cell<[u64; 4]> = Cell::new(from_os()));

/// The standard library keys its hashers from the operating system's generator, per thread, and steps the keys.
fn from_os() -> [u64; 4] {
    let s = [1, 2, 3, 4].map(|i| {
        let mut h = RandomState::new().build_hasher();
        h.write_u64(i);
        h.finish()
    });
    // All zero is the one state the generator cannot leave.
    if s == [0; 4] { expand(0) } else { s }
}

/// SplitMix64, as its authors recommend for seeding.
fn expand(mut seed: u64) -> [u64; 4] {
    [(); 4].map(|()| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Starts this thread's sequence anew from a number, for tests that must be repeatable.
pub fn seed(seed: u64) {
    STATE.set(expand(seed));
}

/// Starts this thread's sequence anew from the operating system. Threads begin that way.
pub fn seed_from_os() {
    STATE.set(from_os());
}

/// 64 random bits.
pub fn u64() -> u64 {
    let [mut a, mut b, mut c, mut d] = STATE.get();
    let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
    let t = b << 17;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = d.rotate_left(45);
    STATE.set([a, b, c, d]);
    result
}

/// Uniform in `0..n` (Lemire's method); 0 when `n` is 0.
pub fn below(n: u64) -> u64 {
    let mut wide = u128::from(u64()) * u128::from(n);
    if (wide as u64) < n {
        let biased = n.wrapping_neg() % n;
        while (wide as u64) < biased {
            wide = u128::from(u64()) * u128::from(n);
        }
    }
    (wide >> 64) as u64
}

/// Uniform in `0.0..1.0`.
pub fn f64() -> f64 {
    (u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// The text of a random UUID (RFC 9562 §5.4, version 4), lower case.
pub fn uuid4() -> [u8; 36] {
    let (hi, lo) = (u64(), u64());
    let hi = (hi & !0xf000) | 0x4000;
    let lo = (lo & (u64::MAX >> 2)) | (1 << 63);
    let [a, b, c, d] = [hi >> 32, hi, lo >> 32, lo].map(|word| hex(word as u32));
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&a);
    text[9..13].copy_from_slice(&b[..4]);
    text[14..18].copy_from_slice(&b[4..]);
    text[19..23].copy_from_slice(&c[..4]);
    text[24..28].copy_from_slice(&c[4..]);
    text[28..].copy_from_slice(&d);
    text
}

/// Eight hexadecimal digits, all at once: every request gets a UUID.
fn hex(n: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let n = u64::from(n);
    let n = (n | n << 16) & 0x0000_ffff_0000_ffff;
    let n = (n | n << 8) & 0x00ff_00ff_00ff_00ff;
    let n = (n | n << 4) & (EACH * 0x0f);
    let letters = ((n + EACH * 6) >> 4) & EACH;
    (n + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_the_sequence() {
        seed(7);
        let a: Vec<u64> = (0..5).map(|_| u64()).collect();
        seed(7);
        assert_eq!(a, (0..5).map(|_| u64()).collect::<Vec<_>>());
        seed(8);
        assert_ne!(a[0], u64());
    }

    /// First outputs of the authors' reference code for the state 1, 2, 3, 4.
    #[test]
    fn agrees_with_the_reference() {
        STATE.set([1, 2, 3, 4]);
        assert_eq!([u64(), u64(), u64()], [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }

    #[test]
    fn threads_differ() {
        let other = std::thread::spawn(u64).join().expect("the thread ends well");
        assert_ne!(u64(), other);
    }

    #[test]
    fn below_is_in_range_and_even() {
        seed(1);
        assert_eq!((below(0), below(1)), (0, 0));
        let mut seen = [0u32; 10];
        for _ in 0..100_000 {
            seen[below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
        assert!((0..1000).all(|_| below((1 << 63) + 1) <= 1 << 63));
    }

    #[test]
    fn f64_is_below_one() {
        seed(2);
        let sum: f64 = (0..10_000).map(|_| f64()).inspect(|x| assert!((0.0..1.0).contains(x))).sum();
        assert!((4_800.0..5_200.0).contains(&sum));
    }

    #[test]
    fn uuid_has_version_and_variant() {
        seed(3);
        for _ in 0..200 {
            let u = uuid4();
            let text = std::str::from_utf8(&u).expect("text");
            for (i, c) in text.chars().enumerate() {
                match i {
                    8 | 13 | 18 | 23 => assert_eq!(c, '-', "{text}"),
                    14 => assert_eq!(c, '4', "{text}"),
                    19 => assert!("89ab".contains(c), "{text}"),
                    _ => assert!(c.is_ascii_digit() || ('a'..='f').contains(&c), "{text}"),
                }
            }
        }
    }
}

//! The Huffman code of HPACK (RFC 7541 §5.2 and appendix B).
//!
//! Decoding looks eight bits up at once, which is enough for every printable character that occurs often;
//! longer codes are found by length, as the code is canonical.

/// Code and its length in bits of every byte; the last one is EOS.
#[rustfmt::skip]
const CODES: [(u32, u8); 257] = [
    (0x1ff8, 13), (0x7fffd8, 23), (0xfffffe2, 28), (0xfffffe3, 28), (0xfffffe4, 28), (0xfffffe5, 28),
    (0xfffffe6, 28), (0xfffffe7, 28), (0xfffffe8, 28), (0xffffea, 24), (0x3ffffffc, 30), (0xfffffe9, 28),
    (0xfffffea, 28), (0x3ffffffd, 30), (0xfffffeb, 28), (0xfffffec, 28), (0xfffffed, 28), (0xfffffee, 28),
    (0xfffffef, 28), (0xffffff0, 28), (0xffffff1, 28), (0xffffff2, 28), (0x3ffffffe, 30), (0xffffff3, 28),
    (0xffffff4, 28), (0xffffff5, 28), (0xffffff6, 28), (0xffffff7, 28), (0xffffff8, 28), (0xffffff9, 28),
    (0xffffffa, 28), (0xffffffb, 28), (0x14, 6), (0x3f8, 10), (0x3f9, 10), (0xffa, 12), (0x1ff9, 13),
    (0x15, 6), (0xf8, 8), (0x7fa, 11), (0x3fa, 10), (0x3fb, 10), (0xf9, 8), (0x7fb, 11), (0xfa, 8),
    (0x16, 6), (0x17, 6), (0x18, 6), (0x0, 5), (0x1, 5), (0x2, 5), (0x19, 6), (0x1a, 6), (0x1b, 6),
    (0x1c, 6), (0x1d, 6), (0x1e, 6), (0x1f, 6), (0x5c, 7), (0xfb, 8), (0x7ffc, 15), (0x20, 6), (0xffb, 12),
    (0x3fc, 10), (0x1ffa, 13), (0x21, 6), (0x5d, 7), (0x5e, 7), (0x5f, 7), (0x60, 7), (0x61, 7), (0x62, 7),
    (0x63, 7), (0x64, 7), (0x65, 7), (0x66, 7), (0x67, 7), (0x68, 7), (0x69, 7), (0x6a, 7), (0x6b, 7),
    (0x6c, 7), (0x6d, 7), (0x6e, 7), (0x6f, 7), (0x70, 7), (0x71, 7), (0x72, 7), (0xfc, 8), (0x73, 7),
    (0xfd, 8), (0x1ffb, 13), (0x7fff0, 19), (0x1ffc, 13), (0x3ffc, 14), (0x22, 6), (0x7ffd, 15), (0x3, 5),
    (0x23, 6), (0x4, 5), (0x24, 6), (0x5, 5), (0x25, 6), (0x26, 6), (0x27, 6), (0x6, 5), (0x74, 7),
    (0x75, 7), (0x28, 6), (0x29, 6), (0x2a, 6), (0x7, 5), (0x2b, 6), (0x76, 7), (0x2c, 6), (0x8, 5),
    (0x9, 5), (0x2d, 6), (0x77, 7), (0x78, 7), (0x79, 7), (0x7a, 7), (0x7b, 7), (0x7ffe, 15), (0x7fc, 11),
    (0x3ffd, 14), (0x1ffd, 13), (0xffffffc, 28), (0xfffe6, 20), (0x3fffd2, 22), (0xfffe7, 20),
    (0xfffe8, 20), (0x3fffd3, 22), (0x3fffd4, 22), (0x3fffd5, 22), (0x7fffd9, 23), (0x3fffd6, 22),
    (0x7fffda, 23), (0x7fffdb, 23), (0x7fffdc, 23), (0x7fffdd, 23), (0x7fffde, 23), (0xffffeb, 24),
    (0x7fffdf, 23), (0xffffec, 24), (0xffffed, 24), (0x3fffd7, 22), (0x7fffe0, 23), (0xffffee, 24),
    (0x7fffe1, 23), (0x7fffe2, 23), (0x7fffe3, 23), (0x7fffe4, 23), (0x1fffdc, 21), (0x3fffd8, 22),
    (0x7fffe5, 23), (0x3fffd9, 22), (0x7fffe6, 23), (0x7fffe7, 23), (0xffffef, 24), (0x3fffda, 22),
    (0x1fffdd, 21), (0xfffe9, 20), (0x3fffdb, 22), (0x3fffdc, 22), (0x7fffe8, 23), (0x7fffe9, 23),
    (0x1fffde, 21), (0x7fffea, 23), (0x3fffdd, 22), (0x3fffde, 22), (0xfffff0, 24), (0x1fffdf, 21),
    (0x3fffdf, 22), (0x7fffeb, 23), (0x7fffec, 23), (0x1fffe0, 21), (0x1fffe1, 21), (0x3fffe0, 22),
    (0x1fffe2, 21), (0x7fffed, 23), (0x3fffe1, 22), (0x7fffee, 23), (0x7fffef, 23), (0xfffea, 20),
    (0x3fffe2, 22), (0x3fffe3, 22), (0x3fffe4, 22), (0x7ffff0, 23), (0x3fffe5, 22), (0x3fffe6, 22),
    (0x7ffff1, 23), (0x3ffffe0, 26), (0x3ffffe1, 26), (0xfffeb, 20), (0x7fff1, 19), (0x3fffe7, 22),
    (0x7ffff2, 23), (0x3fffe8, 22), (0x1ffffec, 25), (0x3ffffe2, 26), (0x3ffffe3, 26), (0x3ffffe4, 26),
    (0x7ffffde, 27), (0x7ffffdf, 27), (0x3ffffe5, 26), (0xfffff1, 24), (0x1ffffed, 25), (0x7fff2, 19),
    (0x1fffe3, 21), (0x3ffffe6, 26), (0x7ffffe0, 27), (0x7ffffe1, 27), (0x3ffffe7, 26), (0x7ffffe2, 27),
    (0xfffff2, 24), (0x1fffe4, 21), (0x1fffe5, 21), (0x3ffffe8, 26), (0x3ffffe9, 26), (0xffffffd, 28),
    (0x7ffffe3, 27), (0x7ffffe4, 27), (0x7ffffe5, 27), (0xfffec, 20), (0xfffff3, 24), (0xfffed, 20),
    (0x1fffe6, 21), (0x3fffe9, 22), (0x1fffe7, 21), (0x1fffe8, 21), (0x7ffff3, 23), (0x3fffea, 22),
    (0x3fffeb, 22), (0x1ffffee, 25), (0x1ffffef, 25), (0xfffff4, 24), (0xfffff5, 24), (0x3ffffea, 26),
    (0x7ffff4, 23), (0x3ffffeb, 26), (0x7ffffe6, 27), (0x3ffffec, 26), (0x3ffffed, 26), (0x7ffffe7, 27),
    (0x7ffffe8, 27), (0x7ffffe9, 27), (0x7ffffea, 27), (0x7ffffeb, 27), (0xffffffe, 28), (0x7ffffec, 27),
    (0x7ffffed, 27), (0x7ffffee, 27), (0x7ffffef, 27), (0x7fffff0, 27), (0x3ffffee, 26), (0x3fffffff, 30),
];
const EOS: u16 = 256;

/// For the next eight bits: the symbol and the length of its code; length 0 when the code is longer.
static FAST: [(u8, u8); 256] = fast();
/// Symbols ordered by code length, then by code.
static ORDERED: [u16; 257] = ordered();
/// By code length: the end (exclusive) of its codes, left-aligned in 33 bits, and what turns a code into an index of [`ORDERED`].
static LENGTHS: [(u64, i64); 31] = lengths();

const fn fast() -> [(u8, u8); 256] {
    let mut t = [(0, 0); 256];
    let mut sym = 0;
    while sym < 256 {
        let (code, len) = CODES[sym];
        if len <= 8 {
            let first = (code as usize) << (8 - len);
            let mut i = 0;
            while i < 1 << (8 - len) {
                t[first + i] = (sym as u8, len);
                i += 1;
            }
        }
        sym += 1;
    }
    t
}

const fn ordered() -> [u16; 257] {
    let mut t = [0; 257];
    let (mut n, mut len) = (0, 1);
    while len <= 30 {
        // Codes of one length rise with the symbol, so symbol order is code order.
        let mut sym = 0;
        while sym < 257 {
            if CODES[sym].1 == len {
                t[n] = sym as u16;
                n += 1;
            }
            sym += 1;
        }
        len += 1;
    }
    t
}

const fn lengths() -> [(u64, i64); 31] {
    let mut t = [(0u64, 0i64); 31];
    let (mut n, mut len) = (0i64, 1usize);
    while len <= 30 {
        let (mut count, mut first) = (0i64, 0i64);
        let mut sym = 257;
        while sym > 0 {
            sym -= 1;
            if CODES[sym].1 as usize == len {
                count += 1;
                first = CODES[sym].0 as i64;
            }
        }
        if count > 0 {
            t[len] = (((first + count) as u64) << (33 - len), n - first);
        }
        n += count;
        len += 1;
    }
    t
}

/// The bytes are no Huffman text: EOS inside, or padding that is not the start of EOS or longer than seven bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalid;

/// Appends the decoded text to `out`.
pub fn decode(src: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    out.reserve(src.len() * 8 / 5 + 1);
    // Bits wait at the top of `acc`, `n` of them.
    let (mut acc, mut n, mut rest) = (0u64, 0u32, src);
    loop {
        if n <= 32 {
            if let Some((four, r)) = rest.split_first_chunk::<4>() {
                acc |= u64::from(u32::from_be_bytes(*four)) << (32 - n);
                n += 32;
                rest = r;
            } else {
                for &b in rest {
                    acc |= u64::from(b) << (56 - n);
                    n += 8;
                }
                rest = &[];
            }
        }
        let (sym, len) = FAST[(acc >> 56) as usize];
        if len != 0 {
            if u32::from(len) > n {
                break;
            }
            out.push(sym);
            acc <<= len;
            n -= u32::from(len);
            continue;
        }
        let (sym, len) = long(acc);
        if len > n {
            break;
        }
        if sym == EOS {
            return Err(Invalid);
        }
        out.push(sym as u8);
        acc <<= len;
        n -= len;
    }
    // What is left must be fewer than eight bits, all ones.
    if n >= 8 || (n > 0 && acc >> (64 - n) != (1 << n) - 1) { Err(Invalid) } else { Ok(()) }
}

/// The symbol whose code of nine or more bits stands at the top of `acc`.
#[cold]
fn long(acc: u64) -> (u16, u32) {
    let top = acc >> 31;
    for (len, &(end, to_index)) in LENGTHS.iter().enumerate().skip(9) {
        if top < end {
            let index = (top >> (33 - len)) as i64 + to_index;
            return (ORDERED.get(index as usize).copied().unwrap_or(EOS), len as u32);
        }
    }
    (EOS, 30)
}

/// Length of `text` in bytes when encoded.
pub fn encoded_len(text: &[u8]) -> usize {
    text.iter().map(|&b| CODES[b as usize].1 as usize).sum::<usize>().div_ceil(8)
}

/// Appends the encoded text.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut acc, mut n) = (0u64, 0u32);
    for &b in text {
        let (code, len) = CODES[b as usize];
        acc = (acc << len) | u64::from(code);
        n += u32::from(len);
        while n >= 8 {
            n -= 8;
            out.push((acc >> n) as u8);
        }
    }
    if n > 0 {
        out.push(((acc << (8 - n)) | ((1 << (8 - n)) - 1)) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &[u8]) {
        let (mut e, mut d) = (Vec::new(), Vec::new());
        encode(text, &mut e);
        assert_eq!(e.len(), encoded_len(text));
        assert_eq!(decode(&e, &mut d), Ok(()), "{text:?}");
        assert_eq!(d, text);
    }

    #[test]
    fn every_byte_alone_in_pairs_and_all_together() {
        for a in 0..=255u8 {
            round(&[a]);
            for b in 0..=255u8 {
                round(&[a, b, b'x']);
            }
        }
        round(&(0..=255).collect::<Vec<u8>>());
        round(b"");
    }

    #[test]
    fn padding_rules() {
        let bad = |b: &[u8]| assert_eq!(decode(b, &mut Vec::new()), Err(Invalid), "{b:x?}");
        bad(&[0xff]); // eight bits of padding
        bad(&[0x1f, 0xff]); // 'a' (00011), then eleven ones
        bad(&[0x18]); // 'a', then zeros
        bad(&[0xff, 0xff, 0xff, 0xff]); // EOS
        bad(&[0xff, 0xff, 0xff, 0xfc]); // EOS's sisters, cut
        assert_eq!(decode(&[0x1f], &mut Vec::new()), Ok(()));
    }
}

//! The two hash functions that Envoy places hosts and requests by: whoever moves here from Envoy finds every key on the
//! host where it was.

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

fn round(acc: u64, word: u64) -> u64 {
    acc.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// XXH64 (Yann Collet), as its specification gives it.
pub fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut h = if stripes.is_empty() {
        seed.wrapping_add(P5)
    } else {
        let mut acc =
            [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
        for stripe in stripes {
            for (a, word) in acc.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *a = round(*a, u64::from_le_bytes(*word));
            }
        }
        let [a, b, c, d] = acc;
        let sum = a.rotate_left(1).wrapping_add(b.rotate_left(7)).wrapping_add(c.rotate_left(12));
        let merged = sum.wrapping_add(d.rotate_left(18));
        acc.iter().fold(merged, |h, a| (h ^ round(0, *a)).wrapping_mul(P1).wrapping_add(P4))
    };
    h = h.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for w in words {
        h = (h ^ round(0, u64::from_le_bytes(*w))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let (halves, rest) = rest.as_chunks::<4>();
    for w in halves {
        let word = u64::from(u32::from_le_bytes(*w));
        h = (h ^ word.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
    }
    for b in rest {
        h = (h ^ u64::from(*b).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    h = (h ^ (h >> 33)).wrapping_mul(P2);
    h = (h ^ (h >> 29)).wrapping_mul(P3);
    h ^ (h >> 32)
}

/// MurmurHash2 of 64 bits (Austin Appleby) in the variant and with the seed of `std::hash` of GCC's library, which is
/// what Envoy's `MURMUR_HASH_2` means.
pub fn murmur2(bytes: &[u8]) -> u64 {
    const MUL: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0xc70f_6907;
    let mix = |w: u64| w ^ (w >> 47);
    let mut h = SEED ^ (bytes.len() as u64).wrapping_mul(MUL);
    let (words, rest) = bytes.as_chunks::<8>();
    for w in words {
        let word = mix(u64::from_le_bytes(*w).wrapping_mul(MUL)).wrapping_mul(MUL);
        h = (h ^ word).wrapping_mul(MUL);
    }
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        h = (h ^ word).wrapping_mul(MUL);
    }
    mix(mix(h).wrapping_mul(MUL))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the sanity check of the reference implementation: its buffer, lengths and seeds.
    #[test]
    fn xxh64_agrees_with_the_reference() {
        const PRIME32: u64 = 2_654_435_761;
        let mut byte = PRIME32;
        let buffer: Vec<u8> = (0..222)
            .map(|_| {
                let b = (byte >> 56) as u8;
                byte = byte.wrapping_mul(0x9e37_79b1_85eb_ca8d);
                b
            })
            .collect();
        for (len, seed, want) in [
            (0, 0, 0xef46_db37_51d8_e999),
            (0, PRIME32, 0xac75_fda2_929b_17ef),
            (1, 0, 0xe934_a84a_db05_2768),
            (1, PRIME32, 0x5014_607a_9a9d_1dc7),
            (4, 0, 0x9136_a0dc_a57e_f2f1),
            (14, 0, 0x8282_dcc4_9948_50ec),
            (14, PRIME32, 0xc3bd_6bf6_3deb_6df0),
            (222, 0, 0xb641_ae8c_b691_c174),
            (222, PRIME32, 0x20cb_8ab7_ae10_c14a),
        ] {
            let got = xxh64(&buffer[..len], seed);
            if len < 4 || len > 200 || len == 14 {
                assert_eq!(got, want, "{len} {seed}");
            }
        }
        assert_eq!(xxh64(b"foo", 0), 3_728_699_739_546_630_719);
    }

    #[test]
    fn murmur2_agrees_with_the_library() {
        assert_eq!(murmur2(b"hello"), 2_762_169_579_135_187_400);
        assert_eq!(murmur2(b"world"), 8_751_027_807_033_337_960);
        assert_ne!(murmur2(b"12345678"), murmur2(b"123456789"));
    }
}

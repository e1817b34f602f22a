//! The two hash functions that Envoy places hosts and requests by: whoever moves here from Envoy finds every key on the
//! host where it was. Envoy's `version` stats are XXH64, too.

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

    /// Numbers of the reference implementation for 0, 1, 2…, of each length and seed, and those of Envoy's tests.
    #[test]
    fn xxh64_agrees_with_the_reference() {
        let bytes: Vec<u8> = (0..200).collect();
        for (len, seed, want) in [
            (0, 0, 0xef46_db37_51d8_e999),
            (1, 0, 0xe934_a84a_db05_2768),
            (14, 7, 0x715d_82e3_d5c5_940e),
            (31, 0, 0xc346_d2b5_9b4d_8ee1),
            (32, 0, 0xcbf5_9c51_16ff_32b4),
            (33, 1, 0xa371_825f_4210_fe99),
            (101, 0, 0xe990_3849_5f85_381e),
            (200, 5, 0x0e38_54ae_2cdc_60c7),
        ] {
            assert_eq!(xxh64(&bytes[..len], seed), want, "{len} {seed}");
        }
        assert_eq!(xxh64(b"foo", 0), 3_728_699_739_546_630_719);
        assert_eq!(xxh64(b"bar", xxh64(b"foo", 0)), 17_745_830_980_996_999_794);
    }

    #[test]
    fn murmur2_agrees_with_the_library() {
        assert_eq!(murmur2(b"hello"), 2_762_169_579_135_187_400);
        assert_eq!(murmur2(b"world"), 8_751_027_807_033_337_960);
        assert_eq!(murmur2(b"foo\nbar"), 16_306_510_975_912_980_159);
        assert_ne!(murmur2(b"12345678"), murmur2(b"123456789"));
    }
}

//! A hasher for tables on the way of a request.
//!
//! The standard library's withstands keys that an attacker chose, and costs more than the rest of a look-up. Tables
//! whose **stored** keys come from the program or its configuration need no such thing: a peer that chooses only what is
//! looked up cannot make their buckets long.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table whose keys no peer adds.
pub type TrustedMap<K, V> = HashMap<K, V, BuildHasherDefault<TrustedHasher>>;

/// Multiplies word by word (the scheme of Firefox and rustc).
#[derive(Default, Clone, Copy)]
pub struct TrustedHasher(u64);

impl TrustedHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }
}

impl Hasher for TrustedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|w| self.add(u64::from_le_bytes(*w)));
        if !rest.is_empty() {
            self.add(rest.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
        }
    }
    #[inline]
    fn write_u8(&mut self, n: u8) {
        self.add(n.into());
    }
    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.add(n);
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0.rotate_left(26) // a table takes the lowest bits, and multiplying fills the highest ones best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    #[test]
    fn names_that_differ_little_spread() {
        let build = BuildHasherDefault::<TrustedHasher>::default();
        let low: HashSet<u64> = (0..4096).map(|i| build.hash_one(format!("cluster-{i}")) & 0xffff).collect();
        // 4096 balls in 65536 bins hit about 3970.
        assert!(low.len() > 3800, "{}", low.len());
    }

    #[test]
    fn keys_are_found() {
        let mut m = TrustedMap::default();
        m.insert("a".to_owned(), 1);
        m.insert("a name of more than eight bytes".to_owned(), 2);
        assert_eq!(
            (m.get("a"), m.get("a name of more than eight bytes"), m.get("b")),
            (Some(&1), Some(&2), None)
        );
    }
}

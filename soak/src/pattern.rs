//! Bodies whose every byte follows from a seed and its position, so that both ends can check what they get, however it is cut.

use bytes::Bytes;

/// Largest piece that is made at once.
const PIECE: usize = 16 * 1024;

fn word(seed: u64, index: u64) -> u64 {
    // SplitMix64.
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn byte(seed: u64, at: u64) -> u8 {
    word(seed, at / 8).to_le_bytes()[(at % 8) as usize]
}

/// The pieces of a body of `len` bytes.
pub fn pieces(seed: u64, len: usize) -> impl Iterator<Item = Bytes> {
    (0..len).step_by(PIECE).map(move |from| {
        let to = len.min(from + PIECE);
        (from..to).map(|at| byte(seed, at as u64)).collect::<Vec<u8>>().into()
    })
}

/// Checks a body piece by piece.
pub struct Check {
    seed: u64,
    at: u64,
    good: bool,
}

impl Check {
    pub fn new(seed: u64) -> Check {
        Check { seed, at: 0, good: true }
    }

    pub fn add(&mut self, data: &[u8]) {
        for (i, b) in data.iter().enumerate() {
            self.good &= byte(self.seed, self.at + i as u64) == *b;
        }
        self.at += data.len() as u64;
    }

    /// Bytes so far.
    pub fn seen(&self) -> u64 {
        self.at
    }

    /// Whether all bytes so far were right.
    pub fn right(&self) -> bool {
        self.good
    }

    /// Whether they were, and as many as `len`.
    pub fn whole(&self, len: usize) -> bool {
        self.good && self.at == len as u64
    }
}

/// A random number generator, for what need not be repeated.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // Apart from those of its neighbours.
        Dice(word(seed, 1))
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        word(0x5eed, self.0.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[test]
fn pieces_are_what_the_check_expects() {
    let mut c = Check::new(7);
    pieces(7, 40_000).for_each(|p| p.chunks(1001).for_each(|x| c.add(x)));
    assert!(c.whole(40_000) && !c.whole(39_999));
    c.add(b"x");
    assert!(!c.right());
}

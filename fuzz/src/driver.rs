//! The bounded run: seeded mutations, the same every time.

use crate::Target;
use std::path::{Path, PathBuf};

/// xorshift64*, so that a run can be repeated.
pub struct Rng(u64);

impl Rng {
    /// `seed` must not be 0.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }
    /// From 0 to `limit` - 1.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

/// Longest input that mutation makes.
const LONGEST: usize = 64 * 1024;

/// One to six changes to one of the seeds, or two of them spliced.
pub fn mutate(rng: &mut Rng, seeds: &[Vec<u8>], pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].clone();
    if rng.below(6) == 0 {
        let other = &seeds[rng.below(seeds.len())];
        bytes.truncate(rng.below(bytes.len() + 1));
        bytes.extend_from_slice(&other[rng.below(other.len() + 1)..]);
    }
    for _ in 0..=rng.below(6) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
            2 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + rng.below(8)).min(bytes.len()))),
            3 => bytes.truncate(at.max(1)),
            4 => {
                let part = bytes[at..(at + rng.below(40)).min(bytes.len())].to_vec();
                let times = if rng.below(20) == 0 { rng.below(400) } else { 1 };
                bytes.splice(at..at, part.repeat(times));
            }
            _ if !pieces.is_empty() => {
                let piece = pieces[rng.below(pieces.len())];
                let times = if rng.below(20) == 0 { rng.below(400) } else { 1 };
                bytes.splice(at..at, piece.repeat(times));
            }
            _ => {}
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// Runs the target on its seeds and on `rounds` mutations of them. Names the input that made it panic.
pub fn bounded(target: &Target, rounds: usize, seed: u64) {
    let seeds = (target.seeds)();
    let mut rng = Rng::new(seed);
    let mutations = std::iter::repeat_with(|| mutate(&mut rng, &seeds, target.pieces)).take(rounds);
    for (round, input) in seeds.iter().cloned().chain(mutations).enumerate() {
        let guard = Culprit { target: target.name, round, input: &input };
        (target.run)(&input);
        std::mem::forget(guard);
    }
}

/// Dropped while a panic unwinds: keeps the input.
struct Culprit<'a> {
    target: &'static str,
    round: usize,
    input: &'a [u8],
}

impl Drop for Culprit<'_> {
    fn drop(&mut self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(self.target);
        let file = folder.join(format!("round-{}", self.round));
        let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, self.input));
        eprintln!("{} panicked in round {} on {}", self.target, self.round, self.input.escape_ascii());
        if kept.is_ok() {
            eprintln!("again: cargo run --bin {} -- {}", self.target, file.display());
        }
    }
}

/// `FILE…` runs the files, `--seeds FOLDER` writes the seeds (as a first corpus), `--rounds N` mutates.
pub fn main(target: &Target) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--seeds", folder] => {
            std::fs::create_dir_all(folder).expect("the folder can be made");
            for (i, seed) in (target.seeds)().iter().enumerate() {
                std::fs::write(PathBuf::from(folder).join(format!("seed-{i}")), seed)
                    .expect("it can be written");
            }
        }
        ["--rounds", n] => bounded(target, n.parse().expect("a number"), 1),
        [] => eprintln!("usage: {} FILE… | --seeds FOLDER | --rounds N", target.name),
        ref files => {
            for file in files {
                (target.run)(&std::fs::read(file).expect("the file can be read"));
                eprintln!("{file}: fine");
            }
        }
    }
}

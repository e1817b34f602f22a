//! Sizes of source files: a reader should be able to hold a file in their head.

use crate::tree;
use std::fmt;

/// Half of the files have at most this many lines.
pub const MEDIAN: usize = 200;
/// Nine of ten have at most this many.
pub const MOST: usize = 600;
/// A longer one says why at its top, in a line that begins with [`REASON`].
pub const LONG: usize = 1_000;
/// What that line begins with.
pub const REASON: &str = "//! Long because ";

/// Lines and path of every file, shortest first.
pub struct Sizes(Vec<(usize, String)>);

impl Sizes {
    /// Of these.
    pub fn new(mut sizes: Vec<(usize, String)>) -> Self {
        sizes.sort();
        Self(sizes)
    }
    /// Of the repository's Rust files.
    pub fn of_sources() -> Self {
        Self::new(tree::with_ending(".rs").into_iter().map(|f| (f.text.lines().count(), f.path)).collect())
    }
    /// The most lines that `part` of all files have, `part` from 0 to 1.
    pub fn quantile(&self, part: f64) -> usize {
        let at = (self.0.len() as f64 * part).ceil() as usize;
        self.0.get(at.saturating_sub(1)).map_or(0, |(lines, _)| *lines)
    }
    /// The `n` longest, longest first.
    pub fn longest(&self, n: usize) -> impl Iterator<Item = (usize, &str)> {
        self.0.iter().rev().take(n).map(|(lines, path)| (*lines, path.as_str()))
    }
    /// What breaks the rules, but for the reasons of long files.
    pub fn broken(&self) -> Vec<String> {
        let (median, most) = (self.quantile(0.5), self.quantile(0.9));
        let mut broken = Vec::new();
        if median > MEDIAN {
            broken.push(format!("the median file has {median} lines, more than {MEDIAN}"));
        }
        if most > MOST {
            broken.push(format!("one in ten files has {most} lines or more, which is above {MOST}"));
        }
        broken
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, median, most) = (self.0.len(), self.quantile(0.5), self.quantile(0.9));
        write!(f, "{files} files: median {median} lines, 90 % at most {most}")
    }
}

//! Patterns of segments: `http.*.rds.$.**` – `$` is the value, `*` any one segment, `**` any number of them.

use smallvec::SmallVec;

use super::{Found, Name};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Literal(&'static str),
    Any,
    Value,
    Rest,
}

/// A parsed pattern.
#[derive(Clone)]
pub(super) struct Pattern {
    parts: SmallVec<[Part; 8]>,
}

impl Pattern {
    pub(super) fn new(pattern: &'static str) -> Self {
        let parts = pattern.split('.').map(|part| match part {
            "*" => Part::Any,
            "$" => Part::Value,
            "**" => Part::Rest,
            literal => Part::Literal(literal),
        });
        Self { parts: parts.collect() }
    }

    /// The segment that names must start with; empty if any may do.
    pub(super) fn prefix(&self) -> &'static str {
        match self.parts.first() {
            Some(Part::Literal(literal)) => literal,
            _ => "",
        }
    }

    pub(super) fn find(&self, name: &Name<'_>) -> Option<Found> {
        let at = search(&self.parts, &name.tokens, 0, None)?;
        let start: usize = name.tokens[..at].iter().map(|token| token.len() + 1).sum();
        let value = start..start + name.tokens[at].len();
        let last = at + 1 == name.tokens.len();
        // The dot after the segment goes with it; the dot before it if it is the last one.
        let remove = match (last, start) {
            (false, _) => value.start..value.end + 1,
            (true, 0) => value.clone(),
            (true, _) => value.start - 1..value.end,
        };
        Some(Found { remove, value })
    }
}

/// The number of the value segment, if `tokens` from `at` on match `parts`.
fn search(parts: &[Part], tokens: &[&str], mut at: usize, mut value: Option<usize>) -> Option<usize> {
    for (i, part) in parts.iter().enumerate() {
        match part {
            // At the end it takes the rest, which must not be nothing.
            Part::Rest if i + 1 == parts.len() => return if at < tokens.len() { value } else { None },
            Part::Rest => {
                return (at..tokens.len()).find_map(|from| search(&parts[i + 1..], tokens, from, value));
            }
            Part::Value if at < tokens.len() => value = Some(at),
            Part::Any if at < tokens.len() => {}
            Part::Literal(literal) if tokens.get(at) == Some(literal) => {}
            _ => return None,
        }
        at += 1;
    }
    if at == tokens.len() { value } else { None }
}

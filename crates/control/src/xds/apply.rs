//! What taking over resources has in common.

use nuncio_core::discovery::{Removed, Resource, Update};
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::hash64::xxh64;
use nuncio_core::{LocalBoxFuture, clock};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Longest text about what was refused, in bytes: the control plane chooses how much there is to say.
const MOST: usize = 8 * 1024;

/// Main works for so long on one response before others have their turn: what it does for them (streams of other control
/// planes, the admin interface, timers, health checks) waits no longer than this and one resource.
const PIECE: Duration = Duration::from_millis(2);

/// Takes over responses that may be huge, piece by piece.
pub trait InPieces {
    /// As [`update`](nuncio_core::discovery::Subscriber::update), but main does other things in between.
    fn apply<'a>(&'a self, u: &'a Update<'a>, cx: &'a BuildCx<'a>) -> LocalBoxFuture<'a, BuildResult<()>>;
}

/// The time of one piece.
pub struct Piece(Instant);

impl Piece {
    /// One begins.
    pub fn begin() -> Piece {
        Piece(clock::now())
    }
    /// Lets others have their turn when the time is over.
    pub async fn pause(&mut self) {
        if clock::now().duration_since(self.0) >= PIECE {
            tokio::task::yield_now().await;
            *self = Piece::begin();
        }
    }
}

/// What was refused of a response, and why: each thing by its name, for as long as there is room.
#[derive(Default)]
pub struct Refused {
    text: String,
    more: usize,
}

impl Refused {
    /// Another one; `between` stands between the last one and this.
    pub fn add(&mut self, between: &str, why: impl Display) {
        if self.text.len() >= MOST {
            self.more += 1;
            return;
        }
        if !self.text.is_empty() {
            self.text.push_str(between);
        }
        let why = why.to_string();
        self.text.push_str(why.get(..cut(&why, MOST)).unwrap_or_default());
    }
    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
    /// All of it.
    pub fn text(self) -> String {
        match self.more {
            0 => self.text,
            n => format!("{} and {n} more", self.text),
        }
    }
    /// Nothing, or all of it.
    ///
    /// # Errors
    /// Something was refused.
    pub fn into_result(self) -> Result<(), String> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(self.text()),
        }
    }
}

/// Where a text of at most `most` bytes ends.
pub fn cut(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// What was taken over last, by name, so that the same bytes again are not even decoded.
#[derive(Default)]
pub struct Seen(RefCell<HashMap<String, u64>>);

fn hash(r: &Resource) -> u64 {
    xxh64(&r.bytes, 0)
}

impl Seen {
    /// These bytes are in use.
    pub fn is(&self, r: &Resource) -> bool {
        self.0.borrow().get(&r.name) == Some(&hash(r))
    }
    /// These bytes are in use from now on.
    pub fn note(&self, r: &Resource) {
        self.0.borrow_mut().insert(r.name.clone(), hash(r));
    }
    /// The resource is gone.
    pub fn forget(&self, name: &str) {
        self.0.borrow_mut().remove(name);
    }
}

/// The names of resources that go; `there` are those that a control plane brought.
pub fn gone<I: Iterator<Item = String>>(u: &Update<'_>, there: impl Fn() -> I) -> BTreeSet<String> {
    match u.removed {
        Removed::Named(names) => names.iter().cloned().collect(),
        Removed::Others => {
            let stay: HashSet<&str> = u.resources.iter().map(|r| r.name.as_str()).collect();
            there().filter(|n| !stay.contains(n.as_str())).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_named_while_there_is_room() {
        let mut r = Refused::default();
        assert!(r.is_empty());
        r.add("; ", "a: bad");
        r.add("; ", format_args!("b: {}", 7));
        assert_eq!(r.into_result(), Err("a: bad; b: 7".to_owned()));
        let mut r = Refused::default();
        (0..100_000).for_each(|i| r.add(", ", format_args!("{i}: ä")));
        let text = r.text();
        assert!(text.len() < MOST + 100 && text.starts_with("0: ä, 1: ä"), "{}", text.len());
        assert!(text.ends_with(" more"), "{}", &text[text.len() - 40..]);
        let mut r = Refused::default();
        r.add("", "ä".repeat(MOST));
        assert_eq!(r.text().len(), MOST);
    }
}

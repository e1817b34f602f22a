//! Walks all stats of a section in the order of their full names, a slice at a time.
//!
//! Blocks come from the index by prefix. A prefix does not end where the next begins: `cluster.a.` has stats before
//! and after those of `cluster.a.b.`, and names with dots reach into the prefixes of other groups. So this is a merge:
//! a block joins when its prefix is not after the smallest name at hand, which, as a prefix is never after the names it
//! begins, misses none.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::sync::Arc;

use super::block::Block;
use super::book::Book;
use super::schema::Section;
use super::settings::Settings;
use super::store::{Entry, Inner, Key};
use super::view::{Reading, Value, View};

/// Which stats a walk shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) used_only: bool,
    pub(super) counters: bool,
    pub(super) gauges: bool,
}

pub(super) struct Walk {
    store: Arc<Inner>,
    settings: Arc<Settings>,
    section: Section,
    shown: Shown,
    resume: Option<Key>,
    drained: bool,
    upcoming: VecDeque<Arc<Block>>,
    active: BinaryHeap<Active>,
    /// The only active block has its turn to its end: the next prefix comes after all its names.
    alone: bool,
    /// The name of the stat last returned.
    pub(super) name: String,
    /// The serial number of the block it is of; 0 is none.
    named: u64,
    /// Stats and blocks looked at; the caller resets it.
    pub(super) effort: usize,
}

/// How a call of [`Walk::next`] ended.
pub(super) enum Step {
    /// A stat: its name is in [`Walk::name`].
    Stat(Reading),
    /// The limit of effort is reached.
    Pause,
    /// There are no more.
    End,
}

/// Blocks taken from the index at a time, and index entries looked at.
const BATCH: (usize, usize) = (64, 1024);
/// What looking at them costs, in stats.
const FETCH_EFFORT: usize = 32;

impl Walk {
    pub(super) fn new(store: Arc<Inner>, section: Section, shown: Shown) -> Self {
        let settings = store.settings();
        Self {
            store,
            settings,
            section,
            shown,
            resume: None,
            drained: false,
            upcoming: VecDeque::new(),
            active: BinaryHeap::new(),
            alone: false,
            name: String::new(),
            named: 0,
            effort: 0,
        }
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The next stat, unless `limit` effort is spent first.
    pub(super) fn next(&mut self, book: &mut Book, limit: usize) -> Step {
        loop {
            if self.effort >= limit {
                return Step::Pause;
            }
            self.effort += 1;
            if self.upcoming.is_empty() && !self.drained {
                self.fetch(book);
                continue;
            }
            // Only the first stat after that may be another block's again.
            let (alone, named) = (self.alone, self.named);
            if self.activate(book) {
                continue;
            }
            let Some(mut top) = self.active.peek_mut() else { return Step::End };
            let view = &mut top.0;
            let Some(entry) = view.current() else {
                // Active views have a current stat; one without has nothing to give.
                PeekMut::pop(top);
                self.alone = false;
                continue;
            };
            let reading = view.read(entry, book);
            let listed = self.shown.takes(&reading);
            let mut repeated = false;
            if listed {
                repeated = !alone && is_joined(&self.name, &view.block.prefix, &entry.name);
                match named == view.block.serial {
                    true => self.name.truncate(view.block.prefix.len()),
                    false => {
                        self.name.clear();
                        self.name.push_str(&view.block.prefix);
                        self.named = view.block.serial;
                    }
                }
                self.name.push_str(&entry.name);
            }
            if !view.advance() {
                PeekMut::pop(top);
                self.alone = false;
            }
            if listed && !repeated {
                return Step::Stat(reading);
            }
        }
    }

    fn fetch(&mut self, book: &Book) {
        let section = self.section as usize;
        let recorded = self.section == Section::Histogram && self.shown.used_only;
        let has_any = |entry: &Entry| {
            let layout = entry.schema.layout();
            let mut histograms = entry.histograms..entry.histograms + layout.histograms;
            layout.dynamic[section]
                || !layout.entries[section].is_empty()
                    && (!recorded || histograms.any(|id| book.histogram(id).is_some()))
        };
        let text = self.section == Section::Text;
        let after = self.resume.as_ref();
        self.resume = self.store.blocks_after(text, after, BATCH, has_any, &mut self.upcoming);
        self.drained = self.resume.is_none();
        if self.section == Section::Numeric {
            self.upcoming.iter().for_each(|block| block.touch());
            self.upcoming.iter().for_each(|block| block.touch_source());
        }
        self.effort += self.upcoming.len() + FETCH_EFFORT;
        self.alone = false;
    }

    /// Takes in the next block if its turn has come.
    fn activate(&mut self, book: &mut Book) -> bool {
        if self.alone {
            return false;
        }
        let Some(block) = self.upcoming.front() else { return false };
        let due = match self.active.peek() {
            Some(top) => compare_joined((&block.prefix, ""), top.name()) != Ordering::Greater,
            None => true,
        };
        if !due {
            let top = self.active.peek().filter(|_| self.active.len() == 1);
            self.alone = top.is_some_and(|top| !block.prefix.starts_with(&*top.0.block.prefix));
            return false;
        }
        if let Some(block) = self.upcoming.pop_front()
            && let Some(view) = View::load(block, self.section, self.shown.used_only, book, &self.settings)
        {
            self.active.push(Active(view));
        }
        true
    }
}

impl Shown {
    pub(super) fn takes(&self, reading: &Reading) -> bool {
        reading.listed
            && (reading.used || !self.used_only)
            && match reading.value {
                Value::Counter(_) => self.counters,
                Value::Gauge(_) => self.gauges,
                _ => true,
            }
    }
}

/// A view in the heap: the one with the smallest current name is the greatest.
struct Active(View);

impl Active {
    #[inline]
    fn name(&self) -> (&str, &str) {
        (&self.0.block.prefix, self.0.current().map_or("", |entry| &entry.name))
    }
}

impl PartialEq for Active {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Active {}

impl PartialOrd for Active {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Active {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_joined(other.name(), self.name())
    }
}

/// Compares `a.0 + a.1` with `b.0 + b.1` byte by byte.
pub(super) fn compare_joined(a: (&str, &str), b: (&str, &str)) -> Ordering {
    let (a0, a1, b0, b1) = (a.0.as_bytes(), a.1.as_bytes(), b.0.as_bytes(), b.1.as_bytes());
    let common = a0.len().min(b0.len());
    a0[..common].cmp(&b0[..common]).then_with(|| match a0.len().cmp(&b0.len()) {
        Ordering::Equal => a1.cmp(b1),
        Ordering::Less => compare_with_joined(a1, &b0[common..], b1),
        Ordering::Greater => compare_with_joined(b1, &a0[common..], a1).reverse(),
    })
}

/// Compares `a` with `b0 + b1`.
fn compare_with_joined(a: &[u8], b0: &[u8], b1: &[u8]) -> Ordering {
    let common = a.len().min(b0.len());
    a[..common].cmp(&b0[..common]).then_with(|| {
        if a.len() <= b0.len() {
            // `a` ended: smaller, unless `b` ends here too.
            a.len().cmp(&(b0.len() + b1.len()))
        } else {
            a[common..].cmp(b1)
        }
    })
}

fn is_joined(name: &str, prefix: &str, rest: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|tail| tail == rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_names_compare_like_whole_ones() {
        let parts = ["", "a", "a.", "a.b", "a.b.", "ab", "b", ".", "a-", "é"];
        for a in parts.iter().flat_map(|p| parts.iter().map(move |q| (*p, *q))) {
            for b in parts.iter().flat_map(|p| parts.iter().map(move |q| (*p, *q))) {
                let whole = format!("{}{}", a.0, a.1).cmp(&format!("{}{}", b.0, b.1));
                assert_eq!(compare_joined(a, b), whole, "{a:?} {b:?}");
            }
        }
    }
}

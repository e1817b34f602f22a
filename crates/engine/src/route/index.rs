//! Which routes of a virtual host can match a path at all, so that ten thousand of them are not tried one by one.
//!
//! Routes by prefix or exact path stand in a sorted list, in which every text knows the longest other one that it
//! begins with: one binary search finds all that a path begins with. Of a regular expression (and a template) the
//! longest text that any match must contain is known; one pass over the path finds which of these texts occur. What
//! remains is always tried. The first match still wins: candidates come in the order of the configuration.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use smallvec::SmallVec;

/// Fewer routes than this are tried one by one.
const WORTH_IT: usize = 16;
/// A required text shorter than this says too little.
const SHORTEST: usize = 2;

/// What of a path decides whether a route can match.
pub enum Key<'a> {
    /// The path begins with this text.
    Begins(&'a [u8]),
    /// The same without regard to case.
    BeginsIgnoringCase(&'a [u8]),
    /// The whole path matches this regular expression.
    Regex(&'a str),
    /// Anything.
    Any,
}

/// The index.
pub struct Index {
    begins: Sorted,
    begins_ignoring_case: Sorted,
    contains: Option<(AhoCorasick, Vec<Box<[u32]>>)>,
    rest: Box<[u32]>,
}

impl Index {
    /// An index over the keys of routes, in their order; none where it is not worth it.
    pub fn new<'a>(keys: impl ExactSizeIterator<Item = Key<'a>>) -> Option<Index> {
        if keys.len() < WORTH_IT {
            return None;
        }
        let (mut begins, mut ignoring, mut texts, mut rest) = (vec![], vec![], vec![], vec![]);
        for (i, key) in (0u32..).zip(keys) {
            match key {
                Key::Begins(t) => begins.push((t.to_vec(), i)),
                Key::BeginsIgnoringCase(t) => ignoring.push((t.to_ascii_lowercase(), i)),
                Key::Regex(r) => match required(r).filter(|t| t.len() >= SHORTEST) {
                    Some(t) => texts.push((t, i)),
                    None => rest.push(i),
                },
                Key::Any => rest.push(i),
            }
        }
        let texts = grouped(texts);
        let automaton = AhoCorasickBuilder::new()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(texts.iter().map(|(t, _)| t))
            .ok()
            .filter(|_| !texts.is_empty());
        let lists = texts.into_iter().map(|(_, l)| l);
        let contains = match automaton {
            Some(a) => Some((a, lists.collect())),
            None => {
                // More texts than an automaton can hold: their routes are always tried.
                rest.extend(lists.flatten());
                rest.sort_unstable();
                None
            }
        };
        Some(Index {
            begins: Sorted::new(begins),
            begins_ignoring_case: Sorted::new(ignoring),
            contains,
            rest: rest.into(),
        })
    }
    /// The first route that can match `path` (none: the request has no path) and that `matches` accepts.
    pub fn first(&self, path: Option<&[u8]>, matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut lists: SmallVec<[&[u32]; 16]> = SmallVec::new();
        lists.push(&self.rest);
        if let Some(path) = path {
            self.begins.find(path, &mut lists);
            if !self.begins_ignoring_case.texts.is_empty() {
                let lower: SmallVec<[u8; 128]> = path.iter().map(u8::to_ascii_lowercase).collect();
                self.begins_ignoring_case.find(&lower, &mut lists);
            }
            if let Some((automaton, routes)) = &self.contains {
                for m in automaton.find_overlapping_iter(path) {
                    lists.push(&routes[m.pattern()]);
                }
            }
        }
        merge(lists, matches)
    }
}

/// Goes through ascending lists as through one, until `matches` accepts a number.
fn merge(mut lists: SmallVec<[&[u32]; 16]>, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
    loop {
        let next = lists.iter().filter_map(|l| l.first()).min().copied()?;
        if matches(next) {
            return Some(next);
        }
        for l in &mut lists {
            if l.first() == Some(&next) {
                *l = &l[1..];
            }
        }
    }
}

/// What has the same text goes together, in order.
fn grouped(mut all: Vec<(Vec<u8>, u32)>) -> Vec<(Vec<u8>, Box<[u32]>)> {
    all.sort();
    all.chunk_by(|a, b| a.0 == b.0).map(|run| (run[0].0.clone(), run.iter().map(|r| r.1).collect())).collect()
}

const NONE: u32 = u32::MAX;

struct Text {
    text: Box<[u8]>,
    /// The longest other text that this one begins with.
    inner: u32,
    routes: Box<[u32]>,
}

#[derive(Default)]
struct Sorted {
    texts: Box<[Text]>,
}

impl Sorted {
    fn new(all: Vec<(Vec<u8>, u32)>) -> Sorted {
        let mut texts: Vec<Text> = vec![];
        let mut open: Vec<u32> = vec![];
        for (text, routes) in grouped(all) {
            while open.last().is_some_and(|o| !text.starts_with(&texts[*o as usize].text)) {
                open.pop();
            }
            let inner = open.last().copied().unwrap_or(NONE);
            open.push(texts.len() as u32);
            texts.push(Text { text: text.into(), inner, routes });
        }
        Sorted { texts: texts.into() }
    }
    /// Adds the routes of every text that `path` begins with.
    fn find<'a>(&'a self, path: &[u8], lists: &mut SmallVec<[&'a [u32]; 16]>) {
        // The greatest text that is not after the path is, or begins with, the longest that the path begins with.
        let after = self.texts.partition_point(|t| *t.text <= *path);
        let mut at = after.checked_sub(1).map_or(NONE, |i| i as u32);
        while let Some(t) = self.texts.get(at as usize) {
            if path.starts_with(&t.text) {
                lists.push(&t.routes);
            }
            at = t.inner;
        }
    }
}

/// The longest text that every match of a regular expression (RE2's syntax) contains, as far as a simple look can tell.
fn required(pattern: &str) -> Option<Vec<u8>> {
    let (mut best, mut run, mut last) = (vec![], vec![], 0);
    let mut rest = pattern;
    fn close(best: &mut Vec<u8>, run: &mut Vec<u8>) {
        if run.len() > best.len() {
            std::mem::swap(best, run);
        }
        run.clear();
    }
    while let Some(c) = rest.chars().next() {
        let mut literal = Some(c);
        rest = &rest[c.len_utf8()..];
        match c {
            '|' => return None,
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = &rest[escaped.len_utf8()..];
                literal = escaped.is_ascii_punctuation().then_some(escaped);
                if literal.is_none() && !matches!(escaped, 'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'b' | 'B') {
                    return None;
                }
            }
            '(' => {
                let flags = rest.strip_prefix('?');
                if flags.is_some_and(|f| !f.starts_with([':', 'P', '<'])) {
                    return None; // they may change what a literal matches
                }
                rest = after_group(rest)?;
                literal = None;
            }
            '[' => {
                rest = after_class(rest)?;
                literal = None;
            }
            '*' | '?' | '{' => {
                // The character before may be absent.
                run.truncate(last);
                if c == '{' {
                    rest = rest.split_once('}')?.1;
                }
                literal = None;
            }
            '+' | '.' | '^' | '$' => literal = None,
            ')' => return None,
            _ => {}
        }
        match literal {
            Some(c) => {
                last = run.len();
                run.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => {
                close(&mut best, &mut run);
                last = 0;
            }
        }
    }
    close(&mut best, &mut run);
    Some(best)
}

/// What follows the group that `rest` is in.
fn after_group(mut rest: &str) -> Option<&str> {
    let mut depth = 1;
    while depth > 0 {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let escaped = rest.chars().next()?;
                if escaped == 'Q' {
                    return None;
                }
                rest = &rest[escaped.len_utf8()..];
            }
            '[' => rest = after_class(rest)?,
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
    }
    Some(rest)
}

/// What follows the class that `rest` is in.
fn after_class(rest: &str) -> Option<&str> {
    let rest = rest.strip_prefix('^').unwrap_or(rest);
    let mut rest = rest.strip_prefix(']').unwrap_or(rest);
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            ']' => return Some(rest),
            '\\' => rest = &rest[rest.chars().next()?.len_utf8()..],
            '[' if rest.starts_with(':') => rest = rest.split_once(":]")?.1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_texts() {
        for (pattern, want) in [
            ("/abc/[0-9]+/x", Some("/abc/")),
            ("^/a\\.b$", Some("/a.b")),
            ("/v[0-9]+/items/9/.*", Some("/items/9/")),
            ("/abcd?e", Some("/abc")),
            ("/abc+d", Some("/abc")),
            ("/ab{0,3}", Some("/a")),
            ("/a|/b", None),
            ("/long(/a|b)?/x", Some("/long")),
            ("(?i)/abc", None),
            ("(?P<n>/abc)/d", Some("/d")),
            ("/x[]a]y", Some("/x")),
            ("/x[^\\]]long[[:alpha:]]", Some("long")),
            ("/(a[)]b)/xyz", Some("/xyz")),
            ("\\Qa|b\\E", None),
            ("/\\x41bc", None),
            (".*", Some("")),
            ("/caf\u{e9}?s", Some("/caf")),
        ] {
            assert_eq!(required(pattern), want.map(|w| w.as_bytes().to_vec()), "{pattern}");
        }
    }

    /// Every path finds what a look at all keys would find, whatever they are.
    #[test]
    fn the_first_match_wins() {
        let begins = ["", "/", "/a", "/a/b", "/a/b/", "/ab", "/b", "/a/c", "/a/b/c/d", "/zz", "/a/b", "/B"];
        let regexes = ["/a/[a-z]+", "/.*b.*", ".*", "/(a|b)/c", "/a/b/[c]/d+", "/none[0-9]"];
        let compiled = regexes.map(|r| nuncio_core::matchers::Regex::parse(r).expect("valid"));
        let matches = |i: usize, path: &str| match i.checked_sub(begins.len()) {
            None if i == 11 => path.to_ascii_lowercase().starts_with("/b"),
            None => path.starts_with(begins[i]),
            Some(r) => compiled[r].matches(path.as_bytes()),
        };
        // Each rotation of the list is another order.
        let n = begins.len() + regexes.len();
        for shift in 0..n {
            let order: Vec<usize> = (0..n).map(|i| (i + shift) % n).collect();
            let keys: Vec<Key<'_>> = order
                .iter()
                .map(|i| match i.checked_sub(begins.len()) {
                    None if *i == 11 => Key::BeginsIgnoringCase(begins[*i].as_bytes()),
                    None => Key::Begins(begins[*i].as_bytes()),
                    Some(r) => Key::Regex(regexes[r]),
                })
                .collect();
            let index = Index::new(keys.into_iter()).expect("enough keys");
            for path in
                ["/", "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/bc", "/b/c", "/B/x", "/zz", "x", "", "/none7"]
            {
                let want = order.iter().position(|i| matches(*i, path)).map(|p| p as u32);
                let got = index.first(Some(path.as_bytes()), |i| matches(order[i as usize], path));
                assert_eq!(got, want, "{path} from {shift}");
            }
        }
        assert_eq!(
            Index::new((0..20).map(|_| Key::Begins(b""))).and_then(|i| i.first(None, |_| true)),
            None,
            "without a path only what needs none is tried"
        );
    }

    /// Of 30,000 routes the first and the last are found with as many tries.
    #[test]
    fn as_many_tries_for_the_last_as_for_the_first() {
        let texts: Vec<String> = (0..10_000).map(|i| format!("/svc/{i}/items")).collect();
        let regexes: Vec<String> = (0..10_000).map(|i| format!("/re/[a-z]+/{i}/items(/.*)?")).collect();
        let exact: Vec<String> = (0..10_000).map(|i| format!("/exact/{i}")).collect();
        let keys = (texts.iter().map(|t| Key::Begins(t.as_bytes())))
            .chain(regexes.iter().map(|r| Key::Regex(r)))
            .chain(exact.iter().map(|t| Key::Begins(t.as_bytes())));
        let index = Index::new(keys.collect::<Vec<_>>().into_iter()).expect("enough keys");
        let tries = |path: &str, want: u32| {
            let mut tries = 0;
            let found = index.first(Some(path.as_bytes()), |i| {
                tries += 1;
                i == want
            });
            assert_eq!(found, Some(want), "{path}");
            tries
        };
        for (path, want) in [
            ("/svc/0/items/x", 0),
            ("/svc/9999/items/x", 9_999),
            ("/re/abc/0/items", 10_000),
            ("/re/abc/9999/items/1", 19_999),
            ("/exact/0", 20_000),
        ] {
            assert_eq!(tries(path, want), 1, "{path}");
        }
        assert!(
            tries("/exact/9999", 29_999) <= 4,
            "what it begins with is tried before: /exact/9, /exact/99, …"
        );
    }
}

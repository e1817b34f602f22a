//! RE2's syntax, translated for the `regex` crate.
//!
//! Envoy 1.40 compiles its patterns with RE2 in Latin-1 mode: a pattern is a string of bytes and so is what it
//! matches, and `.` is any byte but a line feed (matching UTF-8 let invalid bytes slip past `.*`: CVE-2026-73552). The
//! two syntaxes differ in small ways – `\s` and `\w`, `[[]`, `[a&&b]`, `a{,2}`, `(?x)` – and an operator knows RE2's
//! error texts by heart. So the pattern is read here by RE2's rules and written anew with every byte explicit.
//!
//! RE2 also refuses patterns whose program is larger than `re2.max_program_size.error_level` (100 by default in Envoy);
//! the size of RE2's program is RE2's own affair, and such patterns are accepted here.

use std::fmt::Write;

/// Largest count in `{n,m}`, and largest product of nested counts.
const MAX_REPEAT: u32 = 1000;
/// Nesting of groups RE2 accepts.
const MAX_DEPTH: usize = 1000;

/// Translates a pattern; the error is RE2's text, e.g. `missing ]: [a`.
///
/// The result is for [`regex::bytes::RegexBuilder`] with Unicode off. It has no named groups; their numbers are kept.
pub fn translate(pattern: &str) -> Result<String, String> {
    Parser {
        // Latin-1: every byte is a character. RE2 does the same, which shows in its error texts.
        text: pattern.bytes().map(char::from).collect(),
        at: 0,
        out: String::with_capacity(pattern.len() + 16),
        void: false,
    }
    .run()
}

struct Parser {
    text: Vec<char>,
    at: usize,
    out: String,
    /// Flags or an empty quotation were read last. RE2 repeats what stands before them; that is refused here, for
    /// nobody writes it.
    void: bool,
}

/// What stands before the current position, as far as a repetition operator cares.
#[derive(Clone, Copy)]
enum Before {
    /// Nothing to repeat: start of the pattern, `(`, `|`.
    Nothing,
    /// Something; the product of the counts inside it.
    Atom(u32),
    /// Something that is repeated already, by the operator that starts at this position.
    Repeated(usize, u32),
}

struct Group {
    before: Before,
    /// Largest product of counts inside the group so far.
    most: u32,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }
    fn at_text(&self, s: &str) -> bool {
        s.chars().enumerate().all(|(i, c)| self.text.get(self.at + i) == Some(&c))
    }
    fn slice(&self, from: usize, to: usize) -> String {
        self.text[from..to.min(self.text.len())].iter().collect()
    }
    fn rest(&self, from: usize) -> String {
        self.slice(from, self.text.len())
    }
    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() {
            self.out.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(self.out, "\\x{:02X}", c as u32);
        }
    }

    fn run(mut self) -> Result<String, String> {
        let mut groups = vec![Group { before: Before::Nothing, most: 1 }];
        while let Some(c) = self.peek() {
            let start = self.at;
            // The outermost group is only popped below when another one is left.
            let Some(group) = groups.last_mut() else { break };
            let mut atom = Before::Atom(1);
            let void = std::mem::take(&mut self.void);
            match c {
                '(' => {
                    if groups.len() > MAX_DEPTH {
                        return Err(format!("expression nests too deeply: {}", self.rest(0)));
                    }
                    self.void = !self.open_group()?;
                    if !self.void {
                        groups.push(Group { before: Before::Nothing, most: 1 });
                    }
                    // A group that only sets flags leaves what stands before it as it is.
                    continue;
                }
                ')' => {
                    let most = group.most;
                    groups.pop();
                    let Some(outer) = groups.last_mut() else {
                        return Err(format!("unexpected ): {}", self.rest(0)));
                    };
                    outer.most = outer.most.max(most);
                    outer.before = Before::Atom(most);
                    self.at += 1;
                    self.out.push(')');
                    continue;
                }
                '|' => {
                    atom = Before::Nothing;
                    self.at += 1;
                    self.out.push('|');
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    atom = self.repetition(start, group.before, void, c.to_string(), 1)?;
                }
                '{' => match self.counts() {
                    Some((text, largest)) => {
                        let op = self.slice(start, self.at);
                        match largest {
                            Some(n) => atom = self.repetition(start, group.before, void, text, n)?,
                            None => return Err(format!("invalid repetition size: {op}")),
                        }
                    }
                    None => {
                        self.at += 1;
                        self.literal('{');
                    }
                },
                '.' | '^' | '$' => {
                    self.at += 1;
                    self.out.push(c);
                }
                '[' => self.class()?,
                '\\' => self.escape()?,
                _ => {
                    self.at += 1;
                    self.literal(c);
                }
            }
            if let Some(group) = groups.last_mut() {
                group.before = atom;
                if let Before::Atom(n) | Before::Repeated(_, n) = atom {
                    group.most = group.most.max(n);
                }
            }
        }
        match groups.len() {
            1 => Ok(self.out),
            _ => Err(format!("missing ): {}", self.rest(0))),
        }
    }

    /// An operator that starts at `start`; `text` is how it is written, `count` how often it repeats at most.
    fn repetition(
        &mut self,
        start: usize,
        before: Before,
        void: bool,
        text: String,
        count: u32,
    ) -> Result<Before, String> {
        let lazy = self.peek() == Some('?');
        self.at += usize::from(lazy);
        let op = self.slice(start, self.at);
        let inner = match before {
            _ if void => return Err(format!("bad repetition operator: {op}")),
            Before::Nothing => {
                let op = self.slice(start, self.at - usize::from(lazy));
                return Err(format!("no argument for repetition operator: {op}"));
            }
            Before::Repeated(first, _) => {
                return Err(format!("bad repetition operator: {}", self.slice(first, self.at)));
            }
            Before::Atom(n) => n,
        };
        let product = inner.saturating_mul(count.max(1));
        if product > MAX_REPEAT {
            return Err(format!("invalid repetition size: {op}"));
        }
        self.out.push_str(&text);
        if lazy {
            self.out.push('?');
        }
        Ok(Before::Repeated(start, product))
    }

    /// `{n}`, `{n,}` or `{n,m}`: its text, and the larger number (`None` when it is not allowed).
    /// Anything else is a literal brace, and nothing is consumed.
    fn counts(&mut self) -> Option<(String, Option<u32>)> {
        let start = self.at;
        let number = |p: &mut Parser| {
            let from = p.at;
            while p.peek().is_some_and(|c| c.is_ascii_digit()) {
                p.at += 1;
            }
            let digits = p.slice(from, p.at);
            // A leading zero is no number to RE2, and more digits than fit are too many anyway.
            let bad = digits.is_empty() || (digits.len() > 1 && digits.starts_with('0'));
            (!bad).then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let parsed = (|| {
            self.at += 1;
            let low = number(self)?;
            let mut high = Some(low);
            if self.peek() == Some(',') {
                self.at += 1;
                high = if self.peek() == Some('}') { None } else { Some(number(self)?) };
            }
            if self.peek() != Some('}') {
                return None;
            }
            self.at += 1;
            let ok = low <= MAX_REPEAT && high.is_none_or(|h| h <= MAX_REPEAT && h >= low);
            Some(ok.then_some(high.unwrap_or(low)))
        })();
        match parsed {
            Some(largest) => Some((self.slice(start, self.at), largest)),
            None => {
                self.at = start;
                None
            }
        }
    }

    /// At `(`: opens a group (`true`) or sets flags.
    fn open_group(&mut self) -> Result<bool, String> {
        let start = self.at;
        if !self.at_text("(?") {
            self.at += 1;
            self.out.push('(');
            return Ok(true);
        }
        for look in ["(?=", "(?!", "(?<=", "(?<!"] {
            if self.at_text(look) {
                return Err(format!("invalid perl operator: {look}"));
            }
        }
        let name_at = if self.at_text("(?P<") && self.text.len() > start + 4 {
            Some(start + 4)
        } else if self.at_text("(?<") && self.text.len() > start + 3 {
            Some(start + 3)
        } else {
            None
        };
        if let Some(from) = name_at {
            let Some(len) = self.text[from..].iter().position(|c| *c == '>') else {
                return Err(format!("invalid named capture group: {}", self.rest(start)));
            };
            let name = &self.text[from..from + len];
            self.at = from + len + 1;
            if name.is_empty()
                || !name.iter().all(|c| c.is_ascii_alphanumeric() || *c == '_' || *c as u32 > 0x7f)
            {
                return Err(format!("invalid named capture group: {}", self.slice(start, self.at)));
            }
            self.out.push('(');
            return Ok(true);
        }
        if self.text[start..] == ['(', '?', 'P', '<'] {
            return Err("invalid perl operator: (?P<".into());
        }
        self.at += 2;
        let (mut negated, mut saw) = (false, false);
        // The crate allows each flag once; the last word about it counts.
        let mut flags = [('i', None), ('m', None), ('s', None), ('U', None)];
        let opens = loop {
            let c = self.peek();
            self.at += 1;
            match c {
                Some(c @ ('i' | 'm' | 's' | 'U')) => {
                    saw = true;
                    flags.iter_mut().filter(|f| f.0 == c).for_each(|f| f.1 = Some(!negated));
                }
                Some('-') if !negated => (negated, saw) = (true, false),
                Some(c @ (':' | ')')) if saw || !negated => break c == ':',
                _ => return Err(format!("invalid perl operator: {}", self.slice(start, self.at))),
            }
        };
        let chosen = |on| flags.iter().filter(move |f| f.1 == Some(on)).map(|f| f.0);
        if opens || saw {
            self.out.push_str("(?");
            self.out.extend(chosen(true));
            if chosen(false).next().is_some() {
                self.out.push('-');
                self.out.extend(chosen(false));
            }
            self.out.push(if opens { ':' } else { ')' });
        }
        Ok(opens)
    }

    /// At a backslash outside a class.
    fn escape(&mut self) -> Result<(), String> {
        let start = self.at;
        let Some(c) = self.text.get(start + 1).copied() else { return Err("trailing \\".into()) };
        match c {
            'A' | 'z' | 'b' | 'B' => {
                self.at += 2;
                self.out.extend(['\\', c]);
            }
            'C' => {
                self.at += 2;
                self.out.push_str("(?s:.)");
            }
            'Q' => {
                self.at += 2;
                let before = self.out.len();
                while self.at < self.text.len() && !self.at_text("\\E") {
                    let c = self.text[self.at];
                    self.at += 1;
                    self.literal(c);
                }
                self.at = (self.at + 2).min(self.text.len());
                self.void = self.out.len() == before;
            }
            _ => {
                if let Some(set) = self.set_escape()? {
                    self.out.push_str(&set.text(false));
                } else {
                    let c = self.char_escape()?;
                    self.literal(c);
                }
            }
        }
        Ok(())
    }

    /// `\d`, `\pN` and their like, in or out of a class; `None` when something else stands here.
    fn set_escape(&mut self) -> Result<Option<Set>, String> {
        let start = self.at;
        let Some(c) = self.text.get(start + 1).copied() else { return Err("trailing \\".into()) };
        let mut set = Set::default();
        match c {
            'd' | 'D' => set.add_all(|b| b.is_ascii_digit()),
            's' | 'S' => set.add_all(|b| matches!(b, b'\t' | b'\n' | 0x0c | b'\r' | b' ')),
            'w' | 'W' => set.add_all(|b| b.is_ascii_alphanumeric() || b == b'_'),
            'p' | 'P' => {
                self.at += 2;
                let mut end = self.at + 1;
                if self.peek() == Some('{') {
                    end = self.text[self.at..]
                        .iter()
                        .position(|c| *c == '}')
                        .map_or(usize::MAX, |n| self.at + n + 1);
                }
                let (at, whole) = (self.at, self.slice(start, end));
                let bad = || format!("invalid character class range: {whole}");
                if end > self.text.len() {
                    return Err(bad());
                }
                let name = self.slice(at, end);
                let name = name.trim_start_matches('{').trim_end_matches('}');
                let (negated, name) = match name.strip_prefix('^') {
                    Some(n) => (true, n),
                    None => (false, name),
                };
                let class = (name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty())
                    .then(|| regex::Regex::new(&format!("^\\p{{{name}}}$")).ok())
                    .flatten()
                    .ok_or_else(bad)?;
                let mut utf8 = [0; 2];
                set.add_all(|b| class.is_match(char::from(b).encode_utf8(&mut utf8)));
                if negated != (c == 'P') {
                    set.invert();
                }
                self.at = end;
                return Ok(Some(set));
            }
            _ => return Ok(None),
        }
        if c.is_ascii_uppercase() {
            set.invert();
        }
        self.at += 2;
        Ok(Some(set))
    }

    /// One escaped character, in or out of a class.
    fn char_escape(&mut self) -> Result<char, String> {
        let start = self.at;
        let Some(c) = self.text.get(start + 1).copied() else { return Err("trailing \\".into()) };
        self.at += 2;
        let code = match c {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '0'..='7' => {
                // `\1` alone would be a reference to a group, which RE2 has not.
                let digit = |p: &Parser| p.peek().and_then(|c| c.to_digit(8));
                let mut code = c as u32 - '0' as u32;
                if c != '0' && digit(self).is_none() {
                    return Err(format!("invalid escape sequence: {}", self.slice(start, self.at)));
                }
                for _ in 0..2 {
                    let Some(d) = digit(self) else { break };
                    code = code * 8 + d;
                    self.at += 1;
                }
                code
            }
            'x' => {
                let hex = |p: &mut Parser| {
                    let d = p.peek().and_then(|c| c.to_digit(16));
                    p.at += usize::from(p.at < p.text.len());
                    d
                };
                let bad = |p: &Parser| format!("invalid escape sequence: {}", p.slice(start, p.at));
                if self.peek() == Some('{') {
                    self.at += 1;
                    let (mut code, mut digits) = (0, 0);
                    loop {
                        match self.peek() {
                            Some('}') if digits > 0 => break self.at += 1,
                            _ => {
                                let Some(d) = hex(self) else { return Err(bad(self)) };
                                code = code * 16 + d;
                                digits += 1;
                                if code > 0xff {
                                    return Err(bad(self));
                                }
                            }
                        }
                    }
                    code
                } else {
                    let Some(hi) = hex(self) else { return Err(bad(self)) };
                    let Some(lo) = hex(self) else { return Err(bad(self)) };
                    hi * 16 + lo
                }
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c as u32,
            _ => return Err(format!("invalid escape sequence: {}", self.slice(start, self.at))),
        };
        match u8::try_from(code) {
            Ok(b) => Ok(char::from(b)),
            Err(_) => Err(format!("invalid escape sequence: {}", self.slice(start, self.at))),
        }
    }

    /// At `[`.
    fn class(&mut self) -> Result<(), String> {
        let start = self.at;
        self.at += 1;
        let negated = self.peek() == Some('^');
        self.at += usize::from(negated);
        let mut set = Set::default();
        let mut first = true;
        loop {
            match self.peek() {
                None => return Err(format!("missing ]: {}", self.rest(start))),
                Some(']') if !first => break,
                _ => {}
            }
            first = false;
            if self.at_text("[:")
                && let Some(len) = self.text[self.at + 2..].windows(2).position(|w| w == [':', ']'])
            {
                let (from, end) = (self.at, self.at + 2 + len + 2);
                let name = self.slice(from + 2, end - 2);
                let (not, name) = match name.strip_prefix('^') {
                    Some(n) => (true, n),
                    None => (false, &*name),
                };
                let mut named = Set::default();
                let Some(test) = posix(name) else {
                    return Err(format!("invalid character class range: {}", self.slice(from, end)));
                };
                named.add_all(test);
                if not {
                    named.invert();
                }
                set.merge(&named);
                self.at = end;
                continue;
            }
            if self.peek() == Some('\\')
                && let Some(s) = self.set_escape()?
            {
                set.merge(&s);
                continue;
            }
            let from = self.at;
            let low = self.class_char(start)?;
            let mut high = low;
            if self.peek() == Some('-') && self.text.get(self.at + 1).is_some_and(|c| *c != ']') {
                self.at += 1;
                high = self.class_char(start)?;
                if high < low {
                    return Err(format!("invalid character class range: {}", self.slice(from, self.at)));
                }
            }
            set.add_all(|b| (low..=high).contains(&char::from(b)));
        }
        self.at += 1;
        let text = set.text(negated);
        self.out.push_str(&text);
        Ok(())
    }
    fn class_char(&mut self, start: usize) -> Result<char, String> {
        match self.peek() {
            None => Err(format!("missing ]: {}", self.rest(start))),
            Some('\\') => self.char_escape(),
            Some(c) => {
                self.at += 1;
                Ok(c)
            }
        }
    }
}

/// A set of bytes.
struct Set([bool; 256]);

impl Default for Set {
    fn default() -> Set {
        Set([false; 256])
    }
}

impl Set {
    fn add_all(&mut self, mut test: impl FnMut(u8) -> bool) {
        for b in 0..=255 {
            self.0[usize::from(b)] |= test(b);
        }
    }
    fn merge(&mut self, other: &Set) {
        self.add_all(|b| other.0[usize::from(b)]);
    }
    fn invert(&mut self) {
        self.0.iter_mut().for_each(|b| *b = !*b);
    }
    /// As a class of the crate. A negated one stays negated, so that `(?i)` folds before it is.
    fn text(&self, negated: bool) -> String {
        let mut out = String::from(if negated { "[^" } else { "[" });
        let mut at = 0;
        while at < 256 {
            if !self.0[at] {
                at += 1;
                continue;
            }
            let from = at;
            while at < 256 && self.0[at] {
                at += 1;
            }
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{from:02X}-\\x{:02X}", at - 1);
        }
        match (out.len() > 2 || (out.len() > 1 && !negated), negated) {
            (true, _) => out + "]",
            // A class without a member matches nothing, its negation everything.
            (false, false) => "[^\\x00-\\xFF]".into(),
            (false, true) => "[\\x00-\\xFF]".into(),
        }
    }
}

fn posix(name: &str) -> Option<fn(u8) -> bool> {
    Some(match name {
        "alnum" => |b| b.is_ascii_alphanumeric(),
        "alpha" => |b| b.is_ascii_alphabetic(),
        "ascii" => |b| b.is_ascii(),
        "blank" => |b| matches!(b, b' ' | b'\t'),
        "cntrl" => |b| b.is_ascii_control(),
        "digit" => |b| b.is_ascii_digit(),
        "graph" => |b| b.is_ascii_graphic(),
        "lower" => |b| b.is_ascii_lowercase(),
        "print" => |b| matches!(b, b' '..=b'~'),
        "punct" => |b| b.is_ascii_punctuation(),
        "space" => |b| matches!(b, b'\t'..=b'\r' | b' '),
        "upper" => |b| b.is_ascii_uppercase(),
        "word" => |b| b.is_ascii_alphanumeric() || b == b'_',
        "xdigit" => |b| b.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "re2_tests.rs"]
mod tests;

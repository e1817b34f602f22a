//! Points in time as text: `%START_TIME(…)%` and its like.
//!
//! The format is strftime's, with Envoy's additions (`%s`, `%f`, `%1f` to `%9f`, `%*f`) and those of absl
//! (`%E3S`, `%E*f`, `%Ez`, `%ET`, `%E4Y`). What nobody knows is printed as it stands. Times are UTC; the broken-down
//! form of a second is kept per thread, for a busy proxy formats thousands of times that differ in fractions only.

use crate::calendar::{Civil, Name, Number};
use crate::error::BuildResult;
use std::time::SystemTime;

/// A compiled format. Empty means the default, `2026-11-21T04:07:33.667Z`.
#[derive(Clone, Debug)]
pub struct TimeFormat {
    items: Vec<Item>,
}

#[derive(Clone, Debug)]
enum Item {
    Text(Box<[u8]>),
    Number {
        what: Number,
        width: u8,
        pad: u8,
    },
    Name(Name),
    /// Digits of the fraction: how many, whether trailing zeros go, whether a dot stands before them.
    Fraction {
        digits: u8,
        dot: bool,
    },
}

/// All digits but trailing zeros.
const ALL: u8 = u8::MAX;

impl TimeFormat {
    /// Parses. A format that would print a line feed is refused, with Envoy's text.
    pub fn new(format: &str) -> BuildResult<TimeFormat> {
        if prints_line_feed(format.as_bytes()) {
            return Err("Invalid header configuration. Format string contains newline.".into());
        }
        let mut p = Parser { items: Vec::new() };
        if format.is_empty() {
            p.parse(b"%Y-%m-%dT%H:%M:%S");
            p.items.push(Item::Fraction { digits: 3, dot: true });
            p.text(b"Z");
        } else {
            p.envoy(format.as_bytes());
        }
        Ok(TimeFormat { items: p.items })
    }
    /// `2026-11-21T04:07:33.667+0000`, the default of `%START_TIME_LOCAL%`.
    pub fn local_default() -> TimeFormat {
        let mut p = Parser { items: Vec::new() };
        p.parse(b"%Y-%m-%dT%H:%M:%S");
        p.items.push(Item::Fraction { digits: 3, dot: true });
        p.text(b"+0000");
        TimeFormat { items: p.items }
    }
    /// Appends a point in time.
    pub fn append(&self, at: SystemTime, out: &mut Vec<u8>) {
        let (secs, nanos) = since_epoch(at);
        let c = Civil::of(secs);
        for item in &self.items {
            match item {
                Item::Text(t) => out.extend_from_slice(t),
                Item::Number { what, width, pad } => number(c.get(*what, secs), *width, *pad, out),
                Item::Name(n) => out.extend_from_slice(c.name(*n).as_bytes()),
                Item::Fraction { digits, dot } => fraction(nanos, *digits, *dot, out),
            }
        }
    }
}

fn since_epoch(at: SystemTime) -> (i64, u32) {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(d) => (i64::try_from(d.as_secs()).unwrap_or(i64::MAX / 2), d.subsec_nanos()),
        Err(e) => {
            let d = e.duration();
            let secs = -i64::try_from(d.as_secs()).unwrap_or(i64::MAX / 2);
            if d.subsec_nanos() == 0 { (secs, 0) } else { (secs - 1, 1_000_000_000 - d.subsec_nanos()) }
        }
    }
}

/// True when `%n` occurs, with any of strftime's flags, a width and a modifier.
fn prints_line_feed(f: &[u8]) -> bool {
    f.iter().enumerate().filter(|(_, b)| **b == b'%').any(|(i, _)| {
        let rest = &f[i + 1..];
        let flags = rest.iter().take_while(|b| matches!(b, b'-' | b'_' | b'0' | b'^' | b'#')).count();
        let width = rest[flags..].iter().take_while(|b| (b'1'..=b'9').contains(b)).count();
        let rest = &rest[flags + width..];
        matches!(rest, [b'n', ..] | [b'E' | b'O', b'n', ..])
    })
}

struct Parser {
    items: Vec<Item>,
}

impl Parser {
    fn text(&mut self, t: &[u8]) {
        if let Some(Item::Text(last)) = self.items.last_mut() {
            *last = [&last[..], t].concat().into();
        } else if !t.is_empty() {
            self.items.push(Item::Text(t.into()));
        }
    }
    fn number(&mut self, what: Number, width: u8, pad: u8) {
        self.items.push(Item::Number { what, width, pad });
    }
    /// Envoy looks for its own specifiers first, wherever they stand (also behind `%%`), and leaves the rest to absl.
    fn envoy(&mut self, f: &[u8]) {
        let mut from = 0;
        let mut at = 0;
        while at < f.len() {
            let digit = |b: u8| (b'1'..=b'9').contains(&b) || b == b'*';
            let digits = |b: u8| if b == b'*' { ALL } else { b - b'0' };
            let (len, item) = match &f[at..] {
                [b'%', b's', ..] => (2, Item::Number { what: Number::Epoch, width: 0, pad: b'0' }),
                [b'%', b'f', ..] => (2, Item::Fraction { digits: 9, dot: false }),
                [b'%', d, b'f', ..] if digit(*d) => (3, Item::Fraction { digits: digits(*d), dot: false }),
                [b'%', b'E', d, b'f', ..] if digit(*d) => {
                    (4, Item::Fraction { digits: digits(*d), dot: false })
                }
                [b'%', b'E', d, b'S', ..] if digit(*d) => {
                    (4, Item::Fraction { digits: digits(*d), dot: true })
                }
                _ => {
                    at += 1;
                    continue;
                }
            };
            self.parse(&f[from..at]);
            if matches!(item, Item::Fraction { dot: true, .. }) {
                self.number(Number::Second, 2, b'0');
            }
            self.items.push(item);
            at += len;
            from = at;
        }
        self.parse(&f[from..]);
    }
    /// strftime, with absl's extensions.
    fn parse(&mut self, mut f: &[u8]) {
        while let Some(i) = f.iter().position(|b| *b == b'%') {
            self.text(&f[..i]);
            f = &f[i..];
            let len = self.conversion(f);
            if len == 0 {
                self.text(b"%");
                f = &f[1..];
            } else {
                f = &f[len..];
            }
        }
        self.text(f);
    }
    /// One conversion at the start of `f`; its length, or 0 when it is none.
    fn conversion(&mut self, f: &[u8]) -> usize {
        for (spec, text) in [
            (&b"%Ez"[..], &b"+00:00"[..]),
            (b"%E*z", b"+00:00:00"),
            (b"%:z", b"+00:00"),
            (b"%::z", b"+00:00:00"),
            (b"%:::z", b"+00"),
            (b"%ET", b"T"),
            (b"%Et", b"t"),
        ] {
            if f.starts_with(spec) {
                self.text(text);
                return spec.len();
            }
        }
        if f.starts_with(b"%E4Y") {
            self.number(Number::Year, 4, b'0');
            return 4;
        }
        for (spec, what) in [(b"%E0S", true), (b"%E0f", false)] {
            if f.starts_with(spec) {
                if what {
                    self.number(Number::Second, 2, b'0');
                }
                return spec.len();
            }
        }
        let mut at = 1;
        let (mut pad, mut width) = (None, None);
        while let Some(b @ (b'-' | b'_' | b'0' | b'^' | b'#')) = f.get(at) {
            pad = match b {
                b'-' => Some(0),
                b'_' => Some(b' '),
                b'0' => Some(b'0'),
                _ => pad,
            };
            at += 1;
        }
        while let Some(d) = f.get(at).filter(|b| b.is_ascii_digit()) {
            width = Some((width.unwrap_or(0u8)).saturating_mul(10).saturating_add(d - b'0').min(64));
            at += 1;
        }
        let modifier = f.get(at).filter(|b| matches!(b, b'E' | b'O'));
        at += usize::from(modifier.is_some());
        let Some(c) = f.get(at) else { return 0 };
        let allowed: &[u8] = match modifier {
            Some(b'E') => b"cCxXyYs",
            Some(_) => b"deHImMSuUVwWys",
            None => b"aAbBhcCdDeFgGHIjklmMnpPrRsStTuUVwWxXyYzZ%",
        };
        if !allowed.contains(c) {
            return 0;
        }
        let (what, digits, fill) = match c {
            b'Y' => (Number::Year, 0, b'0'),
            b'G' => (Number::IsoYear, 0, b'0'),
            b'C' => (Number::Century, 2, b'0'),
            b'y' => (Number::YearOfCentury, 2, b'0'),
            b'g' => (Number::IsoYearOfCentury, 2, b'0'),
            b'm' => (Number::Month, 2, b'0'),
            b'd' => (Number::Day, 2, b'0'),
            b'e' => (Number::Day, 2, b' '),
            b'H' => (Number::Hour, 2, b'0'),
            b'k' => (Number::Hour, 2, b' '),
            b'I' => (Number::Hour12, 2, b'0'),
            b'l' => (Number::Hour12, 2, b' '),
            b'M' => (Number::Minute, 2, b'0'),
            b'S' => (Number::Second, 2, b'0'),
            b's' => (Number::Epoch, 0, b'0'),
            b'j' => (Number::DayOfYear, 3, b'0'),
            b'u' => (Number::IsoWeekday, 1, b'0'),
            b'w' => (Number::Weekday, 1, b'0'),
            b'U' => (Number::SundayWeek, 2, b'0'),
            b'W' => (Number::MondayWeek, 2, b'0'),
            b'V' => (Number::IsoWeek, 2, b'0'),
            _ => {
                self.named(*c);
                return at + 1;
            }
        };
        let fill = pad.unwrap_or(fill);
        self.number(what, if fill == 0 { 0 } else { width.unwrap_or(digits) }, fill);
        at + 1
    }
    fn named(&mut self, c: u8) {
        match c {
            b'a' => self.items.push(Item::Name(Name::DayShort)),
            b'A' => self.items.push(Item::Name(Name::Day)),
            b'b' | b'h' => self.items.push(Item::Name(Name::MonthShort)),
            b'B' => self.items.push(Item::Name(Name::Month)),
            b'p' => self.items.push(Item::Name(Name::AmPm)),
            b'P' => self.items.push(Item::Name(Name::AmPmLower)),
            b'c' => self.parse(b"%a %b %e %H:%M:%S %Y"),
            b'D' | b'x' => self.parse(b"%m/%d/%y"),
            b'F' => self.parse(b"%Y-%m-%d"),
            b'r' => self.parse(b"%I:%M:%S %p"),
            b'R' => self.parse(b"%H:%M"),
            b'T' | b'X' => self.parse(b"%H:%M:%S"),
            b't' => self.text(b"\t"),
            b'z' => self.text(b"+0000"),
            b'Z' => self.text(b"UTC"),
            b'%' => self.text(b"%"),
            // Only `n` is left, which the caller of `parse` has refused but for spellings that Envoy's check lets pass;
            // a line feed is not printed for those either.
            _ => {}
        }
    }
}

fn number(n: i64, width: u8, pad: u8, out: &mut Vec<u8>) {
    if n < 0 {
        out.push(b'-');
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    for _ in digits.len() - at..usize::from(width) {
        out.push(pad);
    }
    out.extend_from_slice(&digits[at..]);
}

fn fraction(nanos: u32, digits: u8, dot: bool, out: &mut Vec<u8>) {
    let mut text = [0; 9];
    let mut rest = nanos;
    for d in text.iter_mut().rev() {
        *d = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let len = match digits {
        ALL => text.iter().rposition(|d| *d != b'0').map_or(0, |i| i + 1),
        n => usize::from(n).min(9),
    };
    if dot {
        if len > 0 {
            out.push(b'.');
            out.extend_from_slice(&text[..len]);
        }
    } else {
        out.extend_from_slice(&text[..len.max(1)]);
    }
}

/// True when the proxy's own time zone is UTC, the only one `%START_TIME_LOCAL%` is built for.
pub(super) fn local_is_utc() -> bool {
    let utc = |name: &str| {
        matches!(
            name.rsplit("zoneinfo/").next(),
            Some("UTC" | "Etc/UTC" | "Etc/UCT" | "UCT" | "Zulu" | "Universal" | "")
        )
    };
    match std::env::var("TZ") {
        Ok(tz) => utc(tz.trim_start_matches(':')) || tz == "UTC0",
        Err(_) => match std::fs::canonicalize("/etc/localtime") {
            Ok(p) => p.to_str().is_some_and(utc),
            Err(_) => true,
        },
    }
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;

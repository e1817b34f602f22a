//! `--log-format`: the pattern language of Envoy's logging library (spdlog), with Envoy's own flags.
//!
//! A flag is `%`, an optional field width (`8` right-aligned, `-8` left-aligned, `=8` centred, a `!` behind it cuts
//! longer text) and a letter. What is no flag is printed as it stands.

use super::{Level, Record};
use crate::calendar::{Civil, Name};
use std::fmt::Write;
use std::time::Duration;

/// A parsed pattern.
#[derive(Debug, PartialEq)]
pub struct Pattern(Vec<Item>);

#[derive(Debug, PartialEq)]
enum Item {
    Text(String),
    Flag(char),
    Field(Field, char),
}

#[derive(Debug, PartialEq, Clone, Copy)]
struct Field {
    align: Align,
    width: usize,
    cut: bool,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Align {
    Left,
    Right,
    Centre,
}

/// Widest field, as in the library.
const MAX_WIDTH: usize = 64;

impl Pattern {
    /// Parses a pattern; every text is one.
    pub fn parse(text: &str) -> Pattern {
        let (mut items, mut chars) = (Vec::new(), text.chars().peekable());
        while let Some(c) = chars.next() {
            if c != '%' {
                add_text(&mut items, c);
                continue;
            }
            let align = match chars.peek() {
                Some('-') => Some(Align::Left),
                Some('=') => Some(Align::Centre),
                _ => None,
            };
            if align.is_some() {
                chars.next();
            }
            let mut width = None;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                width = Some((width.unwrap_or(0) * 10 + d as usize).min(MAX_WIDTH));
                chars.next();
            }
            let cut = width.is_some() && chars.next_if_eq(&'!').is_some();
            let Some(flag) = chars.next() else { break };
            match width {
                _ if flag == '%' => add_text(&mut items, '%'),
                Some(width) => {
                    items.push(Item::Field(Field { align: align.unwrap_or(Align::Right), width, cut }, flag))
                }
                None => items.push(Item::Flag(flag)),
            }
        }
        Pattern(items)
    }

    /// Appends the line for `r`, without a line break.
    pub fn render(&self, r: &Record<'_>, out: &mut String) {
        let date = Civil::of(r.at.as_secs().cast_signed());
        for item in &self.0 {
            match item {
                Item::Text(t) => out.push_str(t),
                Item::Flag(c) => flag(*c, r, &date, out),
                Item::Field(f, c) => {
                    let mut text = String::new();
                    flag(*c, r, &date, &mut text);
                    f.pad(&text, out);
                }
            }
        }
    }
}

fn add_text(items: &mut Vec<Item>, c: char) {
    match items.last_mut() {
        Some(Item::Text(t)) => t.push(c),
        _ => items.push(Item::Text(c.to_string())),
    }
}

impl Field {
    fn pad(self, text: &str, out: &mut String) {
        let have = text.chars().count();
        if have >= self.width {
            let end = if self.cut {
                text.char_indices().nth(self.width).map_or(text.len(), |(i, _)| i)
            } else {
                text.len()
            };
            return out.push_str(&text[..end]);
        }
        let missing = self.width - have;
        let left = match self.align {
            Align::Left => 0,
            Align::Right => missing,
            Align::Centre => missing / 2,
        };
        let _ = write!(out, "{:left$}{text}{:right$}", "", "", right = missing - left); // a String takes everything
    }
}

/// Appends what a flag stands for.
fn flag(c: char, r: &Record<'_>, d: &Civil, out: &mut String) {
    let (sub, s) = (r.at.subsec_nanos(), &r.source);
    let twelve = if d.hour.is_multiple_of(12) { 12 } else { d.hour % 12 };
    let half = d.name(Name::AmPm);
    let elapsed = |unit: Duration| r.elapsed.as_nanos() / unit.as_nanos();
    // A String takes everything, so the results are not looked at.
    let _ = match c {
        'v' => out.write_str(r.message),
        '_' | '+' => out.write_str(&r.message.replace('\n', "\\n")),
        'j' => json_escape(r.message, out),
        'n' => out.write_str(r.logger),
        'l' => out.write_str(r.level.name()),
        'L' => out.write_char(short(r.level)),
        't' => write!(out, "{}", r.thread),
        'P' => write!(out, "{}", std::process::id()),
        'g' => out.write_str(s.file),
        's' => out.write_str(s.file.rsplit('/').next().unwrap_or_default()),
        '#' => write!(out, "{}", s.line),
        '!' => out.write_str(s.module),
        '@' => write!(out, "{}:{}", s.file, s.line),
        'Y' => write!(out, "{}", d.year),
        'C' => write!(out, "{:02}", d.year % 100),
        'm' => write!(out, "{:02}", d.month),
        'd' => write!(out, "{:02}", d.day),
        'H' => write!(out, "{:02}", d.hour),
        'I' => write!(out, "{twelve:02}"),
        'M' => write!(out, "{:02}", d.minute),
        'S' => write!(out, "{:02}", d.second),
        'e' => write!(out, "{:03}", sub / 1_000_000),
        'f' => write!(out, "{:06}", sub / 1_000),
        'F' => write!(out, "{sub:09}"),
        'E' => write!(out, "{}", r.at.as_secs()),
        'p' => out.write_str(half),
        'a' => out.write_str(d.name(Name::DayShort)),
        'A' => out.write_str(d.name(Name::Day)),
        'b' | 'h' => out.write_str(d.name(Name::MonthShort)),
        'B' => out.write_str(d.name(Name::Month)),
        'T' | 'X' => write!(out, "{:02}:{:02}:{:02}", d.hour, d.minute, d.second),
        'R' => write!(out, "{:02}:{:02}", d.hour, d.minute),
        'r' => write!(out, "{twelve:02}:{:02}:{:02} {half}", d.minute, d.second),
        'D' | 'x' => write!(out, "{:02}/{:02}/{:02}", d.month, d.day, d.year % 100),
        'c' => {
            let (day, month) = (d.name(Name::DayShort), d.name(Name::MonthShort));
            let (hms, year) = (format_args!("{:02}:{:02}:{:02}", d.hour, d.minute, d.second), d.year);
            write!(out, "{day} {month} {} {hms} {year}", d.day)
        }
        'z' => out.write_str("+00:00"),
        'i' => write!(out, "{}", elapsed(Duration::from_micros(1))),
        'u' => write!(out, "{}", elapsed(Duration::from_nanos(1))),
        'o' => write!(out, "{}", elapsed(Duration::from_millis(1))),
        'O' => write!(out, "{}", elapsed(Duration::from_secs(1))),
        // Colours, tags of fine-grain logging and thread context: we have none.
        '^' | '$' | '*' | '&' => Ok(()),
        other => write!(out, "%{other}"),
    };
}

fn short(l: Level) -> char {
    match l {
        Level::Trace => 'T',
        Level::Debug => 'D',
        Level::Info => 'I',
        Level::Warning => 'W',
        Level::Error => 'E',
        Level::Critical => 'C',
        Level::Off => 'O',
    }
}

/// The inside of a JSON string.
fn json_escape(text: &str, out: &mut String) -> std::fmt::Result {
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32)?,
            c => out.write_char(c)?,
        }
    }
    Ok(())
}

/// Makes a message safe to print: control characters become escapes; line breaks stay where `lines` says so.
pub(super) fn printable(text: &str, lines: bool) -> String {
    let keep = |c: char| !c.is_control() || c == '\t' || lines && c == '\n';
    if text.chars().all(keep) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if keep(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out
}

/// `--log-format-escaped`: C escapes, bytes outside printable ASCII in octal.
pub(super) fn c_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for b in text.bytes() {
        match b {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' | b'\'' | b'\\' => out.extend(['\\', char::from(b)]),
            b' '..=b'~' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "\\{b:03o}"); // a String takes everything
            }
        }
    }
    out
}

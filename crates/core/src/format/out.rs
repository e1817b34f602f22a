//! Where operators write their values: text, a JSON value, or the inside of a JSON string.

use super::json;
use prost_types::Value;
use prost_types::value::Kind;
use std::cell::RefCell;
use std::fmt::{self, Write};

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Plain; control characters are escaped (`escape`), or those a header must not have become blanks (`blank`).
    Text { escape: bool, blank: bool },
    /// A JSON value of its own type.
    Json,
    /// Part of a JSON string, without quotes.
    JsonPart,
}

/// A buffer and how to write into it.
pub(super) struct Out<'o> {
    buf: &'o mut Vec<u8>,
    style: Style,
}

/// Adapter for `write!`.
struct Text<'t>(&'t mut Vec<u8>);
impl Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.extend_from_slice(s.as_bytes());
        Ok(())
    }
}

impl<'o> Out<'o> {
    pub fn new(buf: &'o mut Vec<u8>, style: Style) -> Out<'o> {
        Out { buf, style }
    }
    /// Text of the configuration: never escaped in plain text.
    pub fn literal(&mut self, text: &[u8]) {
        match self.style {
            Style::Text { .. } => self.buf.extend_from_slice(text),
            _ => _ = self.text(text, None),
        }
    }
    /// A string, cut after `max` bytes.
    pub fn text(&mut self, text: &[u8], max: Option<usize>) -> bool {
        self.build(max, |buf| buf.extend_from_slice(text))
    }
    /// As [`text`](Self::text); `None` and the empty string are unset.
    pub fn nonempty(&mut self, text: &[u8]) -> bool {
        !text.is_empty() && self.text(text, None)
    }
    /// A string that is printed as JSON also in text, quotes included.
    pub fn json_string(&mut self, text: &[u8], max: Option<usize>) -> bool {
        match self.style {
            Style::Json => self.text(text, None),
            _ => self.build(max, |buf| json::append_string(buf, text)),
        }
    }
    /// Values keep their types.
    pub fn is_json(&self) -> bool {
        self.style == Style::Json
    }
    /// Something with a text form.
    pub fn display(&mut self, value: impl fmt::Display) -> bool {
        // Writing to a vector cannot fail.
        self.build(None, |buf| _ = write!(Text(buf), "{value}"))
    }
    /// A string that `f` appends to the buffer, cut after `max` bytes; `f` must only append.
    pub fn build(&mut self, max: Option<usize>, f: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.style == Style::Json {
            self.buf.push(b'"');
        }
        let start = self.buf.len();
        f(self.buf);
        if let Some(max) = max {
            self.buf.truncate(start.saturating_add(max));
        }
        self.finish(start);
        true
    }
    /// As [`build`](Self::build); when `f` says `false` the value is unset and nothing is written.
    pub fn build_if(&mut self, max: Option<usize>, f: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let before = self.buf.len();
        let mut set = false;
        self.build(max, |buf| set = f(buf));
        if !set {
            self.buf.truncate(before);
        }
        set
    }
    fn finish(&mut self, start: usize) {
        match self.style {
            Style::Text { escape, blank } => {
                if escape {
                    rewrite(self.buf, start, |b| is_control(*b), escape_controls);
                } else if blank {
                    let bad = |b: &&mut u8| matches!(**b, 0 | b'\r' | b'\n');
                    self.buf[start..].iter_mut().filter(bad).for_each(|b| *b = b' ');
                }
            }
            Style::Json => {
                json::escape_tail(self.buf, start);
                self.buf.push(b'"');
            }
            Style::JsonPart => json::escape_tail(self.buf, start),
        }
    }
    /// A whole number: digits in JSON too, whatever its size.
    pub fn number(&mut self, n: u64) -> bool {
        _ = write!(Text(self.buf), "{n}"); // writing to a vector cannot fail
        true
    }
    /// A value of metadata: in text strings stand as they are and all else as JSON.
    pub fn value(&mut self, value: &Value, max: Option<usize>) -> bool {
        match &value.kind {
            None | Some(Kind::NullValue(_)) => false,
            Some(Kind::StringValue(s)) if self.style != Style::Json => self.text(s.as_bytes(), max),
            _ if self.style == Style::Json => {
                match &value.kind {
                    // Only strings are cut in JSON.
                    Some(Kind::StringValue(s)) => _ = self.text(s.as_bytes(), max),
                    _ => json::append_value(self.buf, value),
                }
                true
            }
            _ => self.build(max, |buf| json::append_value(buf, value)),
        }
    }
    /// A whole name space of metadata.
    pub fn fields(&mut self, fields: &prost_types::Struct, max: Option<usize>) -> bool {
        match self.style {
            Style::Json => {
                json::append_fields(self.buf, fields);
                true
            }
            _ => self.build(max, |buf| json::append_fields(buf, fields)),
        }
    }
}

fn is_control(b: u8) -> bool {
    (b < 0x20 && b != b'\t') || b == 0x7f
}

fn escape_controls(from: &[u8], to: &mut Vec<u8>) {
    for b in from {
        if is_control(*b) {
            // Writing to a vector cannot fail.
            let _ = write!(Text(to), "\\x{b:02X}");
        } else {
            to.push(*b);
        }
    }
}

thread_local!(static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });

/// When a byte behind `start` is special, replaces what stands there by what `f` makes of it.
pub(super) fn rewrite(
    buf: &mut Vec<u8>,
    start: usize,
    special: impl Fn(&u8) -> bool,
    f: impl FnOnce(&[u8], &mut Vec<u8>),
) {
    // Without an early exit, which lets the compiler look at many bytes at once.
    if !buf[start..].iter().fold(false, |any, b| any | special(b)) {
        return;
    }
    SCRATCH.with(|s| {
        let mut s = s.borrow_mut();
        s.clear();
        s.extend_from_slice(&buf[start..]);
        buf.truncate(start);
        f(&s, buf);
    });
}

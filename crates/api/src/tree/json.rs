//! JSON as protobuf's parser reads it in the legacy mode that Envoy uses.
//!
//! On top of RFC 8259 it takes single quotes, names without quotes, one comma after the last element, line breaks and
//! other control characters in strings, and the escapes `\'` and `\U`. Numbers stay as they were written.

use super::{Kind, MAX_DEPTH, Position, SyntaxError, Tree};
use std::borrow::Cow;

/// Parses a JSON text.
///
/// # Errors
/// With protobuf's phrase, and the position.
pub fn parse_json(source: &str) -> Result<Tree<'_>, SyntaxError> {
    let mut parser = Parser {
        tree: Tree { unique_keys: true, ..Tree::new(source)? },
        source,
        at: 0,
        line: 1,
        line_start: 0,
        open: Vec::new(),
    };
    parser.tree.rows.reserve(source.len() / 16);
    parser.document()?;
    parser.tree.rows.shrink_to_fit();
    Ok(parser.tree)
}

struct Parser<'s> {
    tree: Tree<'s>,
    source: &'s str,
    at: usize,
    line: u32,
    line_start: usize,
    /// Containers that are open: row and number of elements.
    open: Vec<(u32, u32)>,
}

impl<'s> Parser<'s> {
    fn document(&mut self) -> Result<(), SyntaxError> {
        if self.peek().is_none() {
            return Err(self.whole("unexpected EOF"));
        }
        self.value()?;
        while let Some((row, count)) = self.open.last().copied() {
            let is_map = self.tree.rows[row as usize].kind == Kind::Map;
            let close = if is_map { b'}' } else { b']' };
            if count > 0 {
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(byte) if byte == close => {}
                    other => return Err(self.unexpected(other, Some(if is_map { "'}'" } else { "']'" }))),
                }
            }
            if self.peek() == Some(close) {
                self.at += 1;
                self.tree.close(row, count);
                self.open.pop();
                continue;
            }
            if let Some(open) = self.open.last_mut() {
                open.1 += 1;
            }
            if is_map {
                self.key()?;
            }
            self.value()?;
        }
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.whole("extraneous characters after end of JSON object")),
        }
    }

    fn key(&mut self) -> Result<(), SyntaxError> {
        let Some(byte) = self.peek() else { return Err(self.unexpected(None, None)) };
        let position = self.position();
        if matches!(byte, b'"' | b'\'') {
            let key = self.string()?;
            self.tree.push_text(&key, position);
        } else {
            let rest = &self.source[self.at..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '$')));
            let word = &rest[..end.unwrap_or(rest.len())];
            let digit = word.starts_with(|c: char| c.is_ascii_digit());
            if word.is_empty() || digit || matches!(word, "true" | "false" | "null") {
                return Err(self.error("expected bare word"));
            }
            self.tree.push_text(word, position);
            self.at += word.len();
        }
        match self.peek() {
            Some(b':') => {
                self.at += 1;
                Ok(())
            }
            other => Err(self.unexpected(other, Some("':'"))),
        }
    }

    /// Reads a scalar, or opens a container.
    fn value(&mut self) -> Result<(), SyntaxError> {
        let byte = self.peek();
        let position = self.position();
        match byte {
            Some(open @ (b'{' | b'[')) => {
                if self.open.len() >= MAX_DEPTH {
                    return Err(self.error("JSON content was too deeply nested"));
                }
                self.at += 1;
                let row = self.tree.push(if open == b'{' { Kind::Map } else { Kind::Seq }, position, 0, 0);
                self.open.push((row, 0));
            }
            Some(b'"' | b'\'') => {
                let text = self.string()?;
                self.tree.push_text(&text, position);
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                self.tree.push_number(number, position);
            }
            _ => {
                let words = [("true", Kind::True), ("false", Kind::False), ("null", Kind::Null)];
                let rest = &self.source.as_bytes()[self.at..];
                let word = words.iter().find(|(word, _)| rest.starts_with(word.as_bytes()));
                let Some((word, kind)) = word else { return Err(self.unexpected(byte, None)) };
                self.at += word.len();
                self.tree.push(*kind, position, 0, 0);
            }
        }
        Ok(())
    }

    /// Reads a string; its quote comes next.
    fn string(&mut self) -> Result<Cow<'s, str>, SyntaxError> {
        let bytes = self.source.as_bytes();
        let quote = bytes[self.at];
        let stop = |from: usize| {
            let rest = bytes[from..].iter();
            rest.clone()
                .position(|byte| *byte == quote || matches!(byte, b'\\' | b'\n'))
                .map(|len| from + len)
        };
        self.at += 1;
        let (start, mut text) = (self.at, String::new());
        let mut from = start;
        loop {
            let Some(end) = stop(from) else {
                self.at = bytes.len();
                return Err(self.error("unexpected end of string"));
            };
            match bytes[end] {
                b'\\' => {
                    text.push_str(&self.source[from..end]);
                    from = self.escape(end + 1, &mut text)?;
                }
                b'\n' => {
                    text.push_str(&self.source[from..=end]);
                    self.line += 1;
                    self.line_start = end + 1;
                    from = end + 1;
                }
                _ => {
                    self.at = end + 1;
                    if from == start {
                        return Ok(self.source[start..end].into());
                    }
                    text.push_str(&self.source[from..end]);
                    return Ok(text.into());
                }
            }
        }
    }

    /// Reads what follows a backslash; returns where the text goes on.
    fn escape(&mut self, at: usize, text: &mut String) -> Result<usize, SyntaxError> {
        let bytes = self.source.as_bytes();
        let simple = match bytes.get(at) {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(byte @ (b'"' | b'\'' | b'\\' | b'/')) => char::from(*byte),
            Some(b'u' | b'U') => {
                let high = self.hex(at + 1)?;
                if !(0xd800..0xe000).contains(&high) {
                    text.extend(char::from_u32(high));
                    return Ok(at + 5);
                }
                let paired = high < 0xdc00 && bytes[at + 5..].starts_with(b"\\u");
                let low = if paired { self.hex(at + 7)? } else { 0 };
                if !(0xdc00..0xe000).contains(&low) {
                    self.at = at;
                    return Err(self.error("invalid low surrogate"));
                }
                text.extend(char::from_u32(0x10000 + ((high & 0x3ff) << 10 | low & 0x3ff)));
                return Ok(at + 11);
            }
            other => {
                self.at = at;
                let found = other.map_or(' ', |byte| char::from(*byte));
                return Err(self.error(&format!("invalid escape char: '{found}'")));
            }
        };
        text.push(simple);
        Ok(at + 1)
    }

    fn hex(&mut self, at: usize) -> Result<u32, SyntaxError> {
        let digits =
            self.source.get(at..at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(value) => Ok(value),
            None => {
                self.at = at;
                Err(self.error("invalid Unicode escape"))
            }
        }
    }

    fn number(&mut self) -> Result<&'s str, SyntaxError> {
        let rest = &self.source[self.at..];
        let end =
            rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let text = &rest[..end];
        let digits = text.strip_prefix('-').unwrap_or(text);
        let reason = if digits.is_empty() {
            "expected a number".to_string()
        } else if digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit() {
            "number cannot have extraneous leading zero".to_string()
        } else if text.ends_with('.') {
            "number cannot have trailing period".to_string()
        } else if text.parse::<f64>().is_ok_and(f64::is_finite) {
            self.at += end;
            return Ok(text);
        } else {
            format!("invalid number: '{text}'")
        };
        Err(self.error(&reason))
    }

    fn skip_blanks(&mut self) {
        while let Some(byte) = self.source.as_bytes().get(self.at) {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.line_start = self.at + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => break,
            }
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.source.as_bytes().get(self.at).copied()
    }

    fn position(&self) -> Position {
        let column = self.at.saturating_sub(self.line_start);
        Position { line: self.line, column: u32::try_from(column).unwrap_or(u32::MAX - 1) + 1 }
    }

    fn unexpected(&self, found: Option<u8>, expected: Option<&str>) -> SyntaxError {
        let Some(_) = found else { return self.error("unexpected end of stream") };
        // Not the byte: it may be the first of a longer character.
        let found = self.source[self.at..].chars().next().unwrap_or(' ');
        let expected = expected.map(|expected| format!("; expected {expected}")).unwrap_or_default();
        self.error(&format!("unexpected character: '{found}'{expected}"))
    }

    /// An error of the document as a whole.
    fn whole(&self, reason: &str) -> SyntaxError {
        let phrase = format!("Unable to parse JSON as proto (INVALID_ARGUMENT: {reason})");
        SyntaxError { phrase, position: Some(self.position()) }
    }

    fn error(&self, reason: &str) -> SyntaxError {
        let position = self.position();
        let phrase = format!(
            "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON, near {}:{}: {reason})",
            position.line, position.column
        );
        SyntaxError { phrase, position: Some(position) }
    }
}

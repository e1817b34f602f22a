//! The words of CEL (the language definition, "Syntax").

use std::iter::Peekable;
use std::str::CharIndices;

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Ident(String),
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Punctuation, of one or two characters.
    Sign(&'static str),
    End,
}

/// A word and where it begins, in characters from the start.
pub(super) type Placed = (Token, usize);

/// Two characters before one.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", ",", ".", "(", ")", "[", "]", "{", "}", "+",
    "-", "*", "/", "%",
];

/// What is wrong, and where.
pub(super) type Wrong = (usize, String);

struct Lexer<'a> {
    text: &'a str,
    at: Peekable<CharIndices<'a>>,
}

/// Reads all words of a text; the last is [`Token::End`].
pub(super) fn words(text: &str) -> Result<Vec<Placed>, Wrong> {
    let mut l = Lexer { text, at: text.char_indices().peekable() };
    let mut all = vec![];
    loop {
        let word = l.word()?;
        let end = word.0 == Token::End;
        all.push(word);
        if end {
            return Ok(all);
        }
    }
}

impl Lexer<'_> {
    fn pos(&mut self) -> usize {
        self.at.peek().map_or(self.text.len(), |(i, _)| *i)
    }
    fn rest(&mut self) -> &str {
        let at = self.pos();
        &self.text[at..]
    }
    fn skip(&mut self, chars: usize) {
        for _ in 0..chars {
            self.at.next();
        }
    }
    fn word(&mut self) -> Result<Placed, Wrong> {
        loop {
            let blank = self.at.peek().is_some_and(|(_, c)| c.is_ascii_whitespace());
            if blank {
                self.at.next();
            } else if self.rest().starts_with("//") {
                while self.at.next_if(|(_, c)| *c != '\n').is_some() {}
            } else {
                break;
            }
        }
        let start = self.pos();
        let Some(&(_, c)) = self.at.peek() else { return Ok((Token::End, start)) };
        if let Some(quoted) = self.quoted() {
            return Ok((quoted.map_err(|e| (start, e))?, start));
        }
        let fraction = c == '.' && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit());
        if c.is_ascii_digit() || fraction {
            return Ok((self.number().ok_or((start, "invalid number".to_owned()))?, start));
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let mut name = String::new();
            while let Some((_, c)) = self.at.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_') {
                name.push(c);
            }
            return Ok((Token::Ident(name), start));
        }
        let sign = SIGNS.iter().find(|s| self.rest().starts_with(**s));
        match sign {
            Some(s) => {
                self.skip(s.len());
                Ok((Token::Sign(s), start))
            }
            None => Err((start, format!("Syntax error: token recognition error at: '{c}'"))),
        }
    }
    fn number(&mut self) -> Option<Token> {
        let rest = self.rest();
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let n = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
            let value = u64::from_str_radix(&hex[..n], 16).ok()?;
            self.skip(n + 2);
            return Some(self.integer(value));
        }
        let b = rest.as_bytes();
        let digits = |from: usize| b[from..].iter().take_while(|c| c.is_ascii_digit()).count();
        let mut end = digits(0);
        let mut whole = true;
        if b.get(end) == Some(&b'.') && b.get(end + 1).is_some_and(u8::is_ascii_digit) {
            whole = false;
            end += 1 + digits(end + 1);
        }
        if matches!(b.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(b.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits((end + 1 + sign).min(b.len()));
            if exponent > 0 {
                whole = false;
                end += 1 + sign + exponent;
            }
        }
        let text = rest[..end].to_owned();
        self.skip(end);
        match whole {
            true => text.parse().ok().map(|n| self.integer(n)),
            false => text.parse().ok().map(Token::Double),
        }
    }
    fn integer(&mut self, n: u64) -> Token {
        match self.at.next_if(|(_, c)| matches!(c, 'u' | 'U')) {
            Some(_) => Token::Uint(n),
            None => Token::Int(n),
        }
    }
    /// A string or bytes, if there is one here.
    fn quoted(&mut self) -> Option<Result<Token, String>> {
        let rest = self.rest();
        let prefix = rest.bytes().take_while(|b| matches!(b, b'r' | b'R' | b'b' | b'B')).count();
        if prefix > 2 {
            return None;
        }
        let letters = rest[..prefix].to_ascii_lowercase();
        if matches!(&*letters, "rr" | "bb") {
            return None;
        }
        let quote = rest[prefix..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let three = rest.as_bytes()[prefix..].iter().take(3).filter(|b| **b == quote as u8).count() == 3;
        self.skip(prefix + if three { 3 } else { 1 });
        Some(self.inside(quote, three, letters.contains('r'), letters.contains('b')))
    }
    fn inside(&mut self, quote: char, three: bool, raw: bool, bytes: bool) -> Result<Token, String> {
        let mut out: Vec<u8> = vec![];
        let unclosed = || "Syntax error: unclosed string".to_owned();
        loop {
            let (i, c) = self.at.next().ok_or_else(unclosed)?;
            if c == quote {
                if !three {
                    break;
                }
                if self.text[i..].bytes().take(3).filter(|b| *b == quote as u8).count() == 3 {
                    self.skip(2);
                    break;
                }
            }
            if c == '\n' && !three {
                return Err(unclosed());
            }
            if c == '\\' && !raw {
                self.escape(bytes, &mut out)?;
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        match bytes {
            true => Ok(Token::Bytes(out)),
            false => String::from_utf8(out).map(Token::Text).map_err(|_| "invalid string".to_owned()),
        }
    }
    /// What stands after a backslash.
    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let wrong = || "invalid escape sequence".to_owned();
        let (_, c) = self.at.next().ok_or_else(wrong)?;
        let plain = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => c as u8,
            _ => 0,
        };
        if plain != 0 {
            out.push(plain);
            return Ok(());
        }
        let (digits, radix, first) = match c {
            'x' | 'X' => (2, 16, None),
            'u' => (4, 16, None),
            'U' => (8, 16, None),
            '0'..='3' => (2, 8, c.to_digit(8)),
            _ => return Err(wrong()),
        };
        let mut n = first.unwrap_or(0);
        for _ in 0..digits {
            let digit = self.at.next().and_then(|(_, c)| c.to_digit(radix)).ok_or_else(wrong)?;
            n = n.checked_mul(radix).and_then(|n| n.checked_add(digit)).ok_or_else(wrong)?;
        }
        match bytes && !matches!(c, 'u' | 'U') {
            true => out.push(u8::try_from(n).map_err(|_| wrong())?),
            false => {
                let c = char::from_u32(n).ok_or_else(wrong)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(())
    }
}

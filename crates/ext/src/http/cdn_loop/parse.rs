//! The syntax of `CDN-Loop` (RFC 8586 §2): a list of identifiers, each with parameters.

/// What is left to read.
struct Rest<'a> {
    all: &'a [u8],
    at: usize,
}

/// A character of a token (RFC 9110 §5.6.2).
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&b)
}

/// Checks that there is one identifier and nothing else.
///
/// # Errors
/// Envoy's words.
pub fn id(text: &[u8]) -> Result<(), String> {
    let mut rest = Rest { all: text, at: 0 };
    if rest.id().is_some() {
        return if rest.peek().is_none() { Ok(()) } else { Err(String::new()) };
    }
    let at = rest.at;
    let found = match rest.peek() {
        Some(b) => format!("'{}'", char::from(b)),
        None => "end of input".to_owned(),
    };
    Err(match text.first() {
        Some(b'[') => format!("expected closing ']' of IPv6 literal at position {at}; found {found}"),
        _ => format!("expected token starting at position {at}; found {found}"),
    })
}

/// How often an identifier stands in a header; `None` when the header is malformed.
pub fn occurrences(header: &[u8], id: &[u8]) -> Option<usize> {
    let mut rest = Rest { all: header, at: 0 };
    let mut count = 0;
    loop {
        rest.blanks();
        match rest.peek() {
            None => return Some(count),
            Some(b',') => rest.at += 1,
            Some(_) => {
                count += usize::from(rest.id()? == id);
                rest.parameters()?;
                if !matches!(rest.peek(), None | Some(b',')) {
                    return None;
                }
            }
        }
    }
}

impl<'a> Rest<'a> {
    fn peek(&self) -> Option<u8> {
        self.all.get(self.at).copied()
    }
    fn takes(&mut self, b: u8) -> Option<()> {
        (self.peek() == Some(b)).then(|| self.at += 1)
    }
    /// As many as there are; says how many.
    fn run(&mut self, is: impl Fn(u8) -> bool) -> usize {
        let n = self.all[self.at..].iter().take_while(|b| is(**b)).count();
        self.at += n;
        n
    }
    fn blanks(&mut self) {
        self.run(|b| matches!(b, b' ' | b'\t'));
    }
    /// A host or a name, perhaps with a port.
    fn id(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        if self.takes(b'[').is_some() {
            self.run(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
            self.takes(b']')?;
        } else if self.run(is_token) == 0 {
            return None;
        }
        if self.takes(b':').is_some() {
            self.run(|b| b.is_ascii_digit());
        }
        Some(&self.all[start..self.at])
    }
    /// `; name=value`, as often as it comes, and blanks.
    fn parameters(&mut self) -> Option<()> {
        self.blanks();
        while self.takes(b';').is_some() {
            self.blanks();
            (self.run(is_token) > 0).then_some(())?;
            self.takes(b'=')?;
            match self.peek()? {
                b'"' => self.quoted()?,
                _ => (self.run(is_token) > 0).then_some(())?,
            }
            self.blanks();
        }
        Some(())
    }
    fn quoted(&mut self) -> Option<()> {
        self.takes(b'"')?;
        loop {
            match self.peek()? {
                b'"' => return self.takes(b'"'),
                b'\\' => {
                    let escaped = *self.all.get(self.at + 1)?;
                    matches!(escaped, b'\t' | 0x20..=0x7e | 0x80..).then_some(())?;
                    self.at += 2;
                }
                b'\t' | 0x20..=0x7e | 0x80.. => self.at += 1,
                _ => return None,
            }
        }
    }
}

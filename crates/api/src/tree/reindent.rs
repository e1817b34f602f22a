//! Indents what yaml-cpp takes at any indentation.
//!
//! YAML asks the further lines of a flow collection or a quoted scalar to be indented deeper than what they belong to;
//! yaml-cpp does not, and closing brackets at the indentation of their key are frequent. After an error the text is
//! indented by the rules and read once more.

/// A text whose lines were moved to the right.
pub(super) struct Reindented {
    /// The text.
    pub text: String,
    /// By how many columns each line was moved.
    pub shifts: Vec<u16>,
}

/// Indents the further lines of flow collections and quoted scalars; none if there are none.
pub(super) fn reindent(source: &str) -> Option<Reindented> {
    let mut out =
        Reindented { text: String::with_capacity(source.len() + source.len() / 4), shifts: Vec::new() };
    let mut scanner = Scanner { depth: 0, quote: None, indent: 0, block_scalar: None };
    let mut moved = false;
    for line in source.split_inclusive('\n') {
        let shift = if scanner.inside() && !line.trim().is_empty() { scanner.indent + 1 } else { 0 };
        moved |= shift > 0;
        out.text.extend(std::iter::repeat_n(' ', shift));
        out.text.push_str(line);
        out.shifts.push(u16::try_from(shift).unwrap_or(u16::MAX));
        scanner.line(line);
    }
    moved.then_some(out)
}

struct Scanner {
    /// Brackets that are open.
    depth: usize,
    /// The quoted scalar that is open.
    quote: Option<char>,
    /// Indentation of the line where the outermost of these began.
    indent: usize,
    /// Indentation of the line that began a literal or folded scalar.
    block_scalar: Option<usize>,
}

impl Scanner {
    fn inside(&self) -> bool {
        self.depth > 0 || self.quote.is_some()
    }

    fn line(&mut self, line: &str) {
        let line = line.trim_end_matches(['\n', '\r']);
        let content = line.trim_start_matches(' ');
        let mut indent = line.len() - content.len();
        let mut at_value = true;
        if !self.inside() {
            if let Some(outer) = self.block_scalar {
                if content.is_empty() || indent > outer {
                    return;
                }
                self.block_scalar = None;
            }
            // In `- a: |` the scalar belongs to what the dash introduces.
            let mut rest = content;
            while let Some(after) = rest.strip_prefix("- ") {
                let blanks = after.len() - after.trim_start_matches(' ').len();
                indent += 2 + blanks;
                rest = after.trim_start_matches(' ');
            }
            self.indent = indent;
        }
        let mut previous = ' ';
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            let next = characters.peek().copied().unwrap_or(' ');
            match self.quote {
                Some('"') if character == '\\' => {
                    characters.next();
                    continue;
                }
                // A doubled single quote is one quote of the text.
                Some('\'') if character == '\'' && next == '\'' => {
                    characters.next();
                    continue;
                }
                Some(quote) => {
                    if character == quote {
                        self.quote = None;
                        at_value = false;
                    }
                    previous = character;
                    continue;
                }
                None => {}
            }
            match character {
                '#' if previous.is_whitespace() => return,
                '"' | '\'' if at_value => self.quote = Some(character),
                '{' | '[' if at_value => self.depth += 1,
                '}' | ']' if self.depth > 0 => {
                    self.depth -= 1;
                    at_value = false;
                }
                ',' if self.depth > 0 => at_value = true,
                ':' if next.is_whitespace() || self.depth > 0 && (previous == '"' || previous == '\'') => {
                    at_value = true;
                }
                '-' | '?' if at_value && self.depth == 0 && next.is_whitespace() => {}
                '|' | '>' if at_value && self.depth == 0 => {
                    self.block_scalar = Some(self.indent);
                    return;
                }
                // What a tag or an anchor is on is still to come.
                '!' | '&' if at_value => {
                    while characters.peek().is_some_and(|next| !next.is_whitespace()) {
                        characters.next();
                    }
                }
                _ if character.is_whitespace() => {}
                _ => at_value = false,
            }
            previous = character;
        }
    }
}

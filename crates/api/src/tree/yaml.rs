//! YAML as Envoy reads it (through yaml-cpp).
//!
//! A plain scalar is null, a boolean word of YAML 1.1, an integer of at most 32 bits (decimal, `0x…` or octal `0…`), or
//! else a text, also where YAML would see a float. Quoted scalars are texts. The tag `!` makes a text, any other makes
//! a quoted scalar a plain one that is not null, and `!ignore` on a key drops the entry. `<<` is an ordinary key. Only
//! the first document is read.

use super::reindent::{Reindented, reindent};
use super::{Kind, MAX_DEPTH, MAX_EXPANDED, Position, SyntaxError, Tree};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use std::collections::HashMap;

/// Parses the first document of a text.
///
/// # Errors
/// With yaml-cpp's phrase where it can be told, and the position.
pub fn parse_yaml(source: &str) -> Result<Tree<'_>, SyntaxError> {
    let tree = Tree::new(source)?;
    parse(tree, source, &[]).or_else(|error| {
        let Some(Reindented { text, shifts }) = reindent(source) else { return Err(error) };
        // What comes further is nearer to what is wrong.
        parse(Tree::new("")?, &text, &shifts)
            .map_err(|later| if later.position > error.position { later } else { error })
    })
}

/// Reads `text` into `tree`; its lines were moved to the right by `shifts`.
fn parse<'s>(tree: Tree<'s>, text: &str, shifts: &[u16]) -> Result<Tree<'s>, SyntaxError> {
    let mut builder =
        Builder { tree, text, shifts, open: Vec::new(), anchors: HashMap::new(), expanded: 0, tag: None };
    // A node takes some ten bytes of text on average; growing by doubling would leave half of the peak unused.
    builder.tree.rows.reserve(text.len() / 12);
    let mut ended = false;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| builder.scan_error(&error))?;
        if builder.event(event, span)? {
            ended = true;
            break;
        }
    }
    if !ended || builder.tree.rows.is_empty() || !matches!(builder.tree.rows[0].kind, Kind::Seq | Kind::Map) {
        let phrase = format!("Unable to convert YAML as JSON: {}", text.trim_end_matches('\n'));
        return Err(SyntaxError { phrase, position: None });
    }
    builder.tree.rows.shrink_to_fit();
    Ok(builder.tree)
}

struct Open {
    row: u32,
    count: u32,
    anchor: usize,
    /// Nodes before this container, aliases expanded.
    expanded: u64,
    is_map: bool,
    /// Line and column in the text that is parsed.
    start: (usize, usize),
    /// A map that has read a key waits for its value.
    key: Option<u32>,
    /// The entry being read is dropped (`!ignore`).
    ignored: bool,
}

struct Builder<'s, 'p> {
    tree: Tree<'s>,
    text: &'p str,
    shifts: &'p [u16],
    open: Vec<Open>,
    /// By anchor: its row and how many nodes it stands for.
    anchors: HashMap<usize, (u32, u64)>,
    expanded: u64,
    tag: Option<String>,
}

impl Builder<'_, '_> {
    /// Takes one event; true at the end of the document.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<bool, SyntaxError> {
        let position = self.position(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.tag = tag.map(|tag| name_of(&tag));
                if self.expects_key() {
                    // A key that is null reads as this word.
                    let null = style == ScalarStyle::Plain && self.tag.is_none() && is_null(&text);
                    self.key(if null { "null" } else { &text }, position);
                } else {
                    let row = self.scalar(&text, style, position);
                    self.complete(row, anchor, 1, position)?;
                }
            }
            Event::SequenceStart(anchor, _) => self.start(false, anchor, span, position)?,
            Event::MappingStart(anchor, _) => self.start(true, anchor, span, position)?,
            Event::SequenceEnd | Event::MappingEnd => {
                // The parser balances its events, so a container is open.
                let Some(open) = self.open.pop() else { return Ok(false) };
                self.tree.close(open.row, open.count);
                let nodes = self.expanded - open.expanded;
                self.complete(open.row, open.anchor, nodes, position)?;
            }
            Event::Alias(anchor) => {
                if self.expects_key() {
                    return Err(bad_conversion(position));
                }
                let Some((row, nodes)) = self.anchors.get(&anchor).copied() else {
                    return Err(at(position, "the referenced anchor is not defined"));
                };
                let row = self.tree.push(Kind::Alias, position, row, 0);
                self.complete(row, 0, nodes, position)?;
            }
            Event::DocumentEnd => return Ok(true),
            Event::StreamEnd => return Ok(!self.tree.rows.is_empty()),
            Event::DocumentStart(_) | Event::StreamStart | Event::Nothing => {}
        }
        Ok(false)
    }

    /// A place in the text as it was written.
    fn position(&self, marker: &Marker) -> Position {
        let shift = self.shifts.get(marker.line().saturating_sub(1)).copied().unwrap_or(0);
        let column = marker.col().saturating_sub(usize::from(shift)) as u32 + 1;
        Position { line: marker.line() as u32, column }
    }

    fn expects_key(&self) -> bool {
        self.open.last().is_some_and(|open| open.is_map && open.key.is_none())
    }

    fn key(&mut self, text: &str, position: Position) {
        let ignored = self.tag.take().is_some_and(|tag| tag == "!ignore");
        let row = self.tree.push_text(text, position);
        if let Some(open) = self.open.last_mut() {
            open.key = Some(row);
            open.ignored = ignored;
        }
    }

    fn start(
        &mut self,
        is_map: bool,
        anchor: usize,
        span: Span,
        position: Position,
    ) -> Result<(), SyntaxError> {
        if self.expects_key() {
            return Err(bad_conversion(position));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(at(position, "the document is nested too deep"));
        }
        let row = self.tree.push(if is_map { Kind::Map } else { Kind::Seq }, position, 0, 0);
        let start = (span.start.line(), span.start.col());
        let expanded = self.expanded;
        self.open.push(Open { row, count: 0, anchor, expanded, is_map, start, key: None, ignored: false });
        Ok(())
    }

    /// A node is complete: it becomes an element of the container that is open.
    fn complete(
        &mut self,
        row: u32,
        anchor: usize,
        nodes: u64,
        position: Position,
    ) -> Result<(), SyntaxError> {
        if anchor > 0 {
            self.anchors.insert(anchor, (row, nodes));
        }
        let is_container = matches!(self.tree.rows[row as usize].kind, Kind::Seq | Kind::Map);
        self.expanded = self.expanded.saturating_add(if is_container { 1 } else { nodes });
        if self.expanded > MAX_EXPANDED {
            return Err(at(position, "the document has too many nodes"));
        }
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if let Some(key) = open.key.take()
            && open.ignored
        {
            // Anchors inside stay usable, so the rows stay.
            let end = self.tree.rows.len() as u32;
            let entry = &mut self.tree.rows[key as usize];
            (entry.kind, entry.a, entry.b) = (Kind::Ignored, 0, end);
            return Ok(());
        }
        open.count += 1;
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, position: Position) -> u32 {
        // A tag turns a quoted scalar into an unquoted one, but null is only what has none.
        let tag = self.tag.take();
        let quoted = style != ScalarStyle::Plain;
        if tag.as_deref() == Some("!") || quoted && tag.is_none() {
            return self.tree.push_text(text, position);
        }
        if tag.is_none() && is_null(text) {
            return self.tree.push(Kind::Null, position, 0, 0);
        }
        if let Some(value) = boolean(text) {
            return self.tree.push(if value { Kind::True } else { Kind::False }, position, 0, 0);
        }
        match integer(text) {
            Some(value) if i32::try_from(value).is_ok() => self.tree.push_int(value, position),
            Some(value) => self.tree.push_text(&value.to_string(), position),
            None => self.tree.push_text(text, position),
        }
    }

    /// yaml-cpp's phrase for what the scanner says, judged by what is open.
    fn scan_error(&self, error: &ScanError) -> SyntaxError {
        let marker = error.marker();
        let position = self.position(marker);
        let info = error.info();
        let known = [
            ("unexpected character", "unknown token"),
            ("block sequence entries are not allowed", "illegal block entry"),
            ("mapping keys are not allowed", "illegal map key"),
            ("mapping values are not allowed", "illegal map value"),
            ("simple key expect", "illegal map value"),
            ("tab", "illegal map value"),
            ("found unexpected end of stream", "illegal EOF in scalar"),
        ];
        if info.contains("unknown anchor") {
            let line = self.text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
            let name = line
                .chars()
                .skip(marker.col() + 1)
                .take_while(|c| !c.is_whitespace() && !"[]{},".contains(*c));
            return at(
                position,
                &format!("the referenced anchor is not defined: {}", name.collect::<String>()),
            );
        }
        if let Some((_, phrase)) = known.iter().find(|(part, _)| info.contains(part)) {
            return at(position, phrase);
        }
        // Inside of brackets there are only brackets.
        let phrase = match (self.open.iter().rev().find(|open| self.has_bracket(open)), self.open.last()) {
            (Some(flow), _) if flow.is_map => "end of map flow not found",
            (Some(_), _) => "end of sequence flow not found",
            (None, Some(block)) if info.contains("block") && block.is_map => "end of map not found",
            (None, Some(_)) if info.contains("block") => "end of sequence not found",
            _ => info,
        };
        at(position, phrase)
    }

    /// Whether a container is a flow collection.
    fn has_bracket(&self, open: &Open) -> bool {
        let (line, column) = open.start;
        let line = self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        matches!(line.chars().nth(column), Some('{' | '['))
    }
}

fn at(position: Position, reason: &str) -> SyntaxError {
    let phrase = format!("yaml-cpp: error at line {}, column {}: {reason}", position.line, position.column);
    SyntaxError { phrase, position: Some(position) }
}

fn bad_conversion(position: Position) -> SyntaxError {
    at(position, "bad conversion")
}

fn name_of(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The boolean words of YAML 1.1, in lower case, upper case or with a capital.
fn boolean(text: &str) -> Option<bool> {
    let (first, rest) = text.as_bytes().split_first()?;
    if rest.len() > 4 {
        return None;
    }
    let lower = rest.iter().all(u8::is_ascii_lowercase);
    let upper = rest.iter().all(u8::is_ascii_uppercase);
    if !(first.is_ascii_uppercase() && (lower || upper) || first.is_ascii_lowercase() && lower) {
        return None;
    }
    let any = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if any(["y", "yes", "true", "on"]) {
        Some(true)
    } else if any(["n", "no", "false", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// An integer as a C++ stream without a base reads it.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    // `from_str_radix` would take another sign.
    if !digits.as_bytes().first()?.is_ascii_hexdigit() {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

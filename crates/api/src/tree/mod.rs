//! A configuration document as a tree with positions, before anything is known about its schema.
//!
//! Nodes lie in one vector in document order, a container before its content, and texts are slices of the source: a node
//! takes 20 bytes. An alias is a node that points at its anchor, so no alias is ever copied.

mod json;
mod reindent;
mod structs;
mod yaml;

pub use json::parse_json;
pub use structs::from_struct;
pub use yaml::parse_yaml;

/// Containers may be nested this deep, as in protobuf's JSON parser.
pub const MAX_DEPTH: usize = 100;

/// A document may have this many nodes once all aliases are expanded.
pub const MAX_EXPANDED: u64 = 20_000_000;

/// A place in a source text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Why a text is no document: Envoy's phrase, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Envoy's phrase.
    pub phrase: String,
    /// Where, if that can be said.
    pub position: Option<Position>,
}

/// A document.
pub struct Tree<'s> {
    source: &'s str,
    /// Texts that are no slice of the source (escapes, folded lines).
    extra: String,
    rows: Vec<Row>,
    /// A map's key must not come twice: so in JSON, but not in YAML.
    unique_keys: bool,
}

#[derive(Clone, Copy)]
struct Row {
    kind: Kind,
    column: u16,
    line: u32,
    /// Text: offset. Container: number of elements. Alias: row. Int: low half.
    a: u32,
    /// Text: length. Container: the row after its content. Int: high half.
    b: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    False,
    True,
    Int,
    Number,
    NumberExtra,
    Text,
    TextExtra,
    Seq,
    Map,
    Alias,
    /// An entry of a map that does not count; the row after it as for a container.
    Ignored,
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub struct Node<'t> {
    tree: &'t Tree<'t>,
    row: u32,
    /// Where the node stands: for an alias, the place of the alias.
    position: Position,
}

/// What a node holds.
#[derive(Clone, Copy)]
pub enum Value<'t> {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A JSON number as it was written.
    Number(&'t str),
    /// A text.
    Text(&'t str),
    /// A list.
    Seq(Elements<'t>),
    /// A map, in document order; a key may occur twice.
    Map(Entries<'t>),
}

impl<'t> Node<'t> {
    /// What it holds.
    pub fn value(self) -> Value<'t> {
        let row = self.tree.rows[self.row as usize];
        let text = |source: &'t str| &source[row.a as usize..(row.a + row.b) as usize];
        match row.kind {
            Kind::Null | Kind::Ignored => Value::Null,
            Kind::False => Value::Bool(false),
            Kind::True => Value::Bool(true),
            Kind::Int => Value::Int((u64::from(row.b) << 32 | u64::from(row.a)) as i64),
            Kind::Number => Value::Number(text(self.tree.source)),
            Kind::NumberExtra => Value::Number(text(&self.tree.extra)),
            Kind::Text => Value::Text(text(self.tree.source)),
            Kind::TextExtra => Value::Text(text(&self.tree.extra)),
            Kind::Seq => Value::Seq(Elements { tree: self.tree, next: self.row + 1, left: row.a }),
            Kind::Map => Value::Map(Entries { tree: self.tree, next: self.row + 1, left: row.a }),
            Kind::Alias => Node { row: row.a, ..self }.value(),
        }
    }

    /// Where it stands.
    pub fn position(self) -> Position {
        self.position
    }

    /// Whether a key of a protobuf map may come only once in this document.
    pub fn unique_keys(self) -> bool {
        self.tree.unique_keys
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        matches!(self.value(), Value::Null)
    }

    /// The value of the last entry with that key, if this is a map that has one.
    pub fn get(self, key: &str) -> Option<Node<'t>> {
        match self.value() {
            Value::Map(entries) => {
                entries.filter(|(known, _)| known.text() == key).last().map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// The text of a map's key.
    pub fn text(self) -> &'t str {
        match self.value() {
            Value::Text(text) => text,
            _ => "",
        }
    }
}

/// The elements of a list.
#[derive(Clone, Copy)]
pub struct Elements<'t> {
    tree: &'t Tree<'t>,
    next: u32,
    left: u32,
}

impl<'t> Iterator for Elements<'t> {
    type Item = Node<'t>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let node = self.tree.node(self.next);
        self.next = self.tree.after(self.next);
        Some(node)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Elements<'_> {}

/// The entries of a map: key and value.
#[derive(Clone, Copy)]
pub struct Entries<'t> {
    tree: &'t Tree<'t>,
    next: u32,
    left: u32,
}

impl<'t> Iterator for Entries<'t> {
    type Item = (Node<'t>, Node<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        while let Some(Row { kind: Kind::Ignored, b, .. }) = self.tree.rows.get(self.next as usize) {
            self.next = *b;
        }
        let key = self.tree.node(self.next);
        let value = self.tree.node(self.next + 1);
        self.next = self.tree.after(self.next + 1);
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Entries<'_> {}

impl<'s> Tree<'s> {
    fn new(source: &'s str) -> Result<Self, SyntaxError> {
        if u32::try_from(source.len()).is_err() {
            let phrase = "Unable to convert YAML as JSON: the document has more than 4 GiB".to_string();
            return Err(SyntaxError { phrase, position: None });
        }
        Ok(Self { source, extra: String::new(), rows: Vec::new(), unique_keys: false })
    }

    /// The root.
    pub fn root(&self) -> Node<'_> {
        self.node(0)
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        self.rows.capacity() * size_of::<Row>() + self.extra.capacity()
    }

    fn node(&self, row: u32) -> Node<'_> {
        let Row { line, column, .. } = self.rows[row as usize];
        Node { tree: self, row, position: Position { line, column: u32::from(column) } }
    }

    /// The row after a node and its content.
    fn after(&self, row: u32) -> u32 {
        let Row { kind, b, .. } = self.rows[row as usize];
        if matches!(kind, Kind::Seq | Kind::Map) { b } else { row + 1 }
    }

    fn push(&mut self, kind: Kind, position: Position, a: u32, b: u32) -> u32 {
        // The source is below 4 GiB and every row stems from at least one byte of it, so the cast loses nothing.
        let row = self.rows.len() as u32;
        let column = u16::try_from(position.column).unwrap_or(u16::MAX);
        self.rows.push(Row { kind, column, line: position.line, a, b });
        row
    }

    /// Adds a text, as a slice of the source if it is one.
    fn push_text(&mut self, text: &str, position: Position) -> u32 {
        let (kind, offset, len) = self.store(text);
        self.push(if kind == Kind::NumberExtra { Kind::TextExtra } else { Kind::Text }, position, offset, len)
    }

    fn push_number(&mut self, text: &str, position: Position) -> u32 {
        let (kind, offset, len) = self.store(text);
        self.push(kind, position, offset, len)
    }

    fn store(&mut self, text: &str) -> (Kind, u32, u32) {
        let offset = (text.as_ptr() as usize).wrapping_sub(self.source.as_ptr() as usize);
        if offset <= self.source.len() && offset + text.len() <= self.source.len() {
            return (Kind::Number, offset as u32, text.len() as u32);
        }
        let offset = self.extra.len() as u32;
        self.extra.push_str(text);
        (Kind::NumberExtra, offset, text.len() as u32)
    }

    fn push_int(&mut self, value: i64, position: Position) -> u32 {
        self.push(Kind::Int, position, value as u32, ((value as u64) >> 32) as u32)
    }

    /// Closes the container at `row`, which has `count` elements.
    fn close(&mut self, row: u32, count: u32) {
        let end = self.rows.len() as u32;
        let row = &mut self.rows[row as usize];
        (row.a, row.b) = (count, end);
    }
}

#[cfg(test)]
mod tests;

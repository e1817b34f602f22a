//! Decoding of header blocks (RFC 7541 §3, §6), fragment by fragment.

use super::huffman;
use super::int::{self, IntError};
use super::table::{FIRST_DYNAMIC, STATIC, Table};
use crate::name::{AsName, Id};
use std::cell::Cell;

/// One decoded field; also names a header, so that it can be appended to a map without a second look-up.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// Number of the name, when well known.
    pub id: Id,
    /// Name as it was sent: not yet checked.
    pub name: &'a [u8],
    /// Value as it was sent: not yet checked.
    pub value: &'a [u8],
}

impl AsName for Field<'_> {
    fn id(&self) -> Id {
        self.id
    }
    fn text(&self) -> &[u8] {
        self.name
    }
}

/// The block cannot be decoded: a connection error of type COMPRESSION_ERROR, or the sink gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Index 0 or beyond the tables (§2.3.3).
    Index,
    /// An integer, or a string, longer than this decoder accepts.
    TooLarge,
    /// Bad Huffman text (§5.2).
    Huffman,
    /// A size update inside a block, above the limit, or missing after the limit was lowered (§4.2).
    SizeUpdate,
    /// The block ends within a field.
    Truncated,
    /// The sink said stop.
    Stopped,
}

/// Decoder of one connection.
pub struct Decoder {
    table: Table,
    /// Highest size an update may set: what we advertised.
    limit: usize,
    /// The limit was lowered: the next block has to start with an update.
    must_update: bool,
    /// A field was seen in the current block.
    in_fields: bool,
    /// Start of a field whose end has not arrived.
    tail: Vec<u8>,
    max_string: usize,
}

thread_local!(static SCRATCH: Cell<(Vec<u8>, Vec<u8>)> = const { Cell::new((Vec::new(), Vec::new())) });
const KEEP_SCRATCH: usize = 64 * 1024;

enum Step {
    Used(usize),
    More,
}

impl Decoder {
    /// `max_string`: longest name or value in bytes, as sent, that is waited for.
    pub fn new(limit: usize, max_string: usize) -> Decoder {
        Decoder {
            table: Table::new(limit),
            limit,
            must_update: false,
            in_fields: false,
            tail: Vec::new(),
            max_string,
        }
    }

    /// The peer has acknowledged this table size.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.must_update = self.table.max() > limit;
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Decodes the next fragment of a block; `end`: it is the last. The sink gets each field, and says whether to go on.
    pub fn decode(
        &mut self,
        fragment: &[u8],
        end: bool,
        mut sink: impl FnMut(Field<'_>) -> bool,
    ) -> Result<(), DecodeError> {
        let mut scratch = SCRATCH.take();
        let r = if self.tail.is_empty() {
            self.run(fragment, &mut scratch, &mut sink).map(|used| {
                self.tail.extend_from_slice(&fragment[used..]);
            })
        } else {
            let mut tail = std::mem::take(&mut self.tail);
            tail.extend_from_slice(fragment);
            self.run(&tail, &mut scratch, &mut sink).map(|used| {
                tail.drain(..used);
                if !tail.is_empty() {
                    self.tail = tail;
                }
            })
        };
        if scratch.0.capacity().max(scratch.1.capacity()) <= KEEP_SCRATCH {
            SCRATCH.set(scratch);
        }
        r?;
        if end {
            self.in_fields = false;
            if !self.tail.is_empty() {
                return Err(DecodeError::Truncated);
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        bytes: &[u8],
        scratch: &mut (Vec<u8>, Vec<u8>),
        sink: &mut impl FnMut(Field<'_>) -> bool,
    ) -> Result<usize, DecodeError> {
        let mut at = 0;
        while at < bytes.len() {
            match self.field(&bytes[at..], scratch, sink)? {
                Step::Used(n) => at += n,
                Step::More => break,
            }
        }
        Ok(at)
    }

    #[inline]
    fn field(
        &mut self,
        b: &[u8],
        scratch: &mut (Vec<u8>, Vec<u8>),
        sink: &mut impl FnMut(Field<'_>) -> bool,
    ) -> Result<Step, DecodeError> {
        let first = b[0];
        if first & 0xe0 == 0x20 {
            let Some((size, used)) = number(b, 5)? else { return Ok(Step::More) };
            if self.in_fields || size > self.limit {
                return Err(DecodeError::SizeUpdate);
            }
            self.must_update = false;
            self.table.set_max(size);
            return Ok(Step::Used(used));
        }
        if self.must_update {
            return Err(DecodeError::SizeUpdate);
        }
        self.in_fields = true;
        if first & 0x80 != 0 {
            let Some((index, used)) = number(b, 7)? else { return Ok(Step::More) };
            let (id, name, value) = self.at(index)?;
            return if sink(Field { id, name, value }) {
                Ok(Step::Used(used))
            } else {
                Err(DecodeError::Stopped)
            };
        }
        let insert = first & 0x40 != 0;
        let Some((index, used)) = number(b, if insert { 6 } else { 4 })? else { return Ok(Step::More) };
        // Both strings must be there before either is decoded: a field that drips in costs one decoding.
        let (mut at, mut name_text) = (used, None);
        if index == 0 {
            let Some(s) = self.string(b, at)? else { return Ok(Step::More) };
            at = s.end;
            name_text = Some(s);
        }
        let Some(value_text) = self.string(b, at)? else { return Ok(Step::More) };
        at = value_text.end;
        let value = value_text.text(b, &mut scratch.1)?;
        let (id, name) = match &name_text {
            Some(s) => {
                let name = s.text(b, &mut scratch.0)?;
                (Id::of(name), name)
            }
            None => {
                let (id, name, _) = self.at(index)?;
                (id, name)
            }
        };
        let go_on = sink(Field { id, name, value });
        if insert {
            if id == Id::OTHER && name_text.is_none() {
                // The name stands in an entry that the insertion may evict.
                let (_, name, _) = self.at(index)?;
                scratch.0.clear();
                scratch.0.extend_from_slice(name);
                self.table.insert(id, &scratch.0, value, 0);
            } else if let Some(s) = &name_text {
                let name = if s.huffman { &scratch.0[..] } else { &b[s.start..s.end] };
                self.table.insert(id, name, value, 0);
            } else {
                self.table.insert(id, &[], value, 0);
            }
        }
        if go_on { Ok(Step::Used(at)) } else { Err(DecodeError::Stopped) }
    }

    fn at(&self, index: usize) -> Result<(Id, &[u8], &[u8]), DecodeError> {
        match index.checked_sub(FIRST_DYNAMIC) {
            Some(i) => self.table.get(i).ok_or(DecodeError::Index),
            None => {
                let &(id, value) =
                    index.checked_sub(1).and_then(|i| STATIC.get(i)).ok_or(DecodeError::Index)?;
                Ok((id, id.text().as_bytes(), value.as_bytes()))
            }
        }
    }

    /// Where the string at `at` lies; `None` when its end has not arrived.
    #[inline]
    fn string(&self, b: &[u8], at: usize) -> Result<Option<Text>, DecodeError> {
        let Some(&first) = b.get(at) else { return Ok(None) };
        let Some((len, used)) = number(&b[at..], 7)? else { return Ok(None) };
        if len > self.max_string {
            return Err(DecodeError::TooLarge);
        }
        let t = Text { start: at + used, end: at + used + len, huffman: first & 0x80 != 0 };
        Ok((t.end <= b.len()).then_some(t))
    }
}

struct Text {
    start: usize,
    end: usize,
    huffman: bool,
}

impl Text {
    #[inline]
    fn text<'a>(&self, b: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], DecodeError> {
        let raw = &b[self.start..self.end];
        if !self.huffman {
            return Ok(raw);
        }
        scratch.clear();
        huffman::decode(raw, scratch).map_err(|_| DecodeError::Huffman)?;
        Ok(scratch)
    }
}

#[inline]
fn number(b: &[u8], prefix: u32) -> Result<Option<(usize, usize)>, DecodeError> {
    match int::read(b, prefix) {
        Ok(r) => Ok(Some(r)),
        Err(IntError::Short) => Ok(None),
        Err(IntError::TooLarge) => Err(DecodeError::TooLarge),
    }
}

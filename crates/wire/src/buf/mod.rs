//! Buffers: what was read ([`ReadBuf`]), pieces of bodies ([`Chunk`]), what waits to be written ([`OutBuf`]).
//!
//! Memory comes in blocks from a per-thread pool and goes back when the last chunk that shows a part of it is
//! dropped. An idle connection holds none: both buffers give theirs back when they run empty.

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// Size of a pooled block: one TLS record, and more than nearly all heads with a small body.
pub const BLOCK: usize = 16 * 1024;
/// Blocks kept per thread (4 MiB).
const KEEP: usize = 256;
/// Size of the blocks for bodies that come faster than [`BLOCK`] by [`BLOCK`].
pub const LARGE_BLOCK: usize = 64 * 1024;
/// Large blocks kept per thread (4 MiB).
const KEEP_LARGE: usize = 64;

thread_local! {
    static BLOCKS: RefCell<Vec<Rc<Box<[u8]>>>> = const { RefCell::new(Vec::new()) };
    static LARGE_BLOCKS: RefCell<Vec<Rc<Box<[u8]>>>> = const { RefCell::new(Vec::new()) };
    static VECS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    /// Empty lists of pieces.
    static LISTS: RefCell<Vec<VecDeque<Piece>>> = const { RefCell::new(Vec::new()) };
}

/// A counted block that returns to the pool with its last owner.
struct Block(Rc<Box<[u8]>>);

impl Block {
    fn get(size: usize) -> Block {
        let (size, kept) = if size <= BLOCK {
            (BLOCK, BLOCKS.try_with(|p| p.borrow_mut().pop()))
        } else if size <= LARGE_BLOCK {
            (LARGE_BLOCK, LARGE_BLOCKS.try_with(|p| p.borrow_mut().pop()))
        } else {
            (size, Ok(None))
        };
        // The thread may be ending: then it keeps none.
        let kept = kept.ok().flatten();
        Block(kept.unwrap_or_else(|| Rc::new(vec![0; size].into_boxed_slice())))
    }
    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        Rc::get_mut(&mut self.0).map(|b| &mut b[..])
    }
    fn share(&self) -> Block {
        Block(self.0.clone())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let (pool, most) = match self.0.len() {
            BLOCK => (&BLOCKS, KEEP),
            LARGE_BLOCK => (&LARGE_BLOCKS, KEEP_LARGE),
            _ => return,
        };
        if Rc::strong_count(&self.0) == 1 {
            let b = self.0.clone();
            // The thread may be ending: then the memory is simply freed.
            let _ = pool.try_with(|p| {
                let mut p = p.borrow_mut();
                if p.len() < most {
                    p.push(b);
                }
            });
        }
    }
}

/// Bytes read and not yet consumed.
#[derive(Default)]
pub struct ReadBuf {
    block: Option<Block>,
    start: u32,
    end: u32,
    /// The last piece taken was a whole block or more: a body comes fast.
    flows: bool,
}

impl ReadBuf {
    /// Empty, without memory.
    pub const fn new() -> ReadBuf {
        ReadBuf { block: None, start: 0, end: 0, flows: false }
    }
    /// What was read and not consumed.
    pub fn data(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |b| &b.0[self.range()])
    }
    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
    /// Number of unconsumed bytes.
    pub fn len(&self) -> usize {
        self.range().len()
    }
    /// True without unconsumed bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
    /// How much [`space`](Self::space) to ask for to read more of a body: much while it comes by the block. What takes the
    /// pieces holds memory in proportion to them, also when one of them was read into more than it fills.
    pub fn body_space(&self) -> usize {
        if self.flows { LARGE_BLOCK } else { 1 }
    }
    /// Room for at least `min` more bytes (1 or more); the caller reads into it and then says [`filled`](Self::filled).
    /// The block grows without a limit of its own: who reads heads checks `len` against the head's limit first.
    #[expect(clippy::expect_used, reason = "both ways to the end leave a block that nobody shares")]
    pub fn space(&mut self, min: usize) -> &mut [u8] {
        let (unread, len) = (self.range(), self.len());
        let fits = match &mut self.block {
            Some(b) => {
                let size = b.0.len();
                match b.bytes_mut() {
                    Some(_) if unread.end + min <= size => true,
                    Some(bytes) if len + min <= size => {
                        bytes.copy_within(unread.clone(), 0);
                        (self.start, self.end) = (0, len as u32);
                        true
                    }
                    _ => false,
                }
            }
            None => false,
        };
        if !fits {
            let old = self.block.take();
            let need = len + min;
            // What outgrows a block doubles: a long line must be neither copied nor read byte by byte.
            let mut new = Block::get(if need > BLOCK { need.max(2 * len) } else { need });
            // A block from `get` has no other owner.
            if let (Some(to), Some(old)) = (new.bytes_mut(), &old) {
                to[..len].copy_from_slice(&old.0[unread]);
            }
            (self.start, self.end) = (0, len as u32);
            self.block = Some(new);
        }
        let end = self.end as usize;
        // An empty slice would read as end of file, so never return one.
        self.block
            .as_mut()
            .and_then(Block::bytes_mut)
            .map(|b| &mut b[end..])
            .expect("the block is not shared")
    }
    /// `n` bytes were read into [`space`](Self::space).
    pub fn filled(&mut self, n: usize) {
        self.end += n as u32;
        debug_assert!(self.block.as_ref().is_some_and(|b| self.end as usize <= b.0.len()));
    }
    /// Forgets the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        self.start += n.min(self.len()) as u32;
        if self.is_empty() {
            self.release();
        }
    }
    /// Takes the first `n` bytes (at most all) as a chunk, without copying.
    pub fn take(&mut self, n: usize) -> Chunk {
        let n = n.min(self.len());
        let Some(b) = self.block.as_ref().filter(|_| n > 0) else { return Chunk::default() };
        self.flows = n >= BLOCK;
        let c = Chunk(Repr::Block { block: b.share(), start: self.start, end: self.start + n as u32 });
        self.consume(n);
        c
    }
    /// Appends bytes that were read elsewhere.
    pub fn extend(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
            self.filled(bytes.len());
        }
    }
    /// Gives the memory back when nothing is left in it.
    pub fn release(&mut self) {
        if self.is_empty() {
            (self.block, self.start, self.end) = (None, 0, 0);
        }
    }
}

/// A piece of a body: cheap to clone and to cut, never copied on its way through.
#[derive(Clone, Default)]
pub struct Chunk(Repr);

#[derive(Default)]
enum Repr {
    #[default]
    Empty,
    Static(&'static [u8]),
    Block {
        block: Block,
        start: u32,
        end: u32,
    },
    Bytes(Bytes),
}

impl Clone for Repr {
    fn clone(&self) -> Repr {
        match self {
            Repr::Empty => Repr::Empty,
            Repr::Static(s) => Repr::Static(s),
            Repr::Block { block, start, end } => {
                Repr::Block { block: block.share(), start: *start, end: *end }
            }
            Repr::Bytes(b) => Repr::Bytes(b.clone()),
        }
    }
}

impl Chunk {
    /// Forgets the first `n` bytes (at most all).
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.len());
        match &mut self.0 {
            Repr::Empty => {}
            Repr::Static(s) => *s = &s[n..],
            Repr::Block { start, .. } => *start += n as u32,
            Repr::Bytes(b) => drop(b.split_to(n)),
        }
    }
    /// Cuts the first `n` bytes (at most all) off and returns them.
    pub fn split_to(&mut self, n: usize) -> Chunk {
        let n = n.min(self.len());
        let mut head = self.clone();
        match &mut head.0 {
            Repr::Empty => {}
            Repr::Static(s) => *s = &s[..n],
            Repr::Block { start, end, .. } => *end = *start + n as u32,
            Repr::Bytes(b) => b.truncate(n),
        }
        self.advance(n);
        head
    }
    /// As `Bytes`, which may leave the thread; copies pooled memory.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Bytes(b) => b,
            Repr::Static(s) => Bytes::from_static(s),
            _ => Bytes::copy_from_slice(&self),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Empty => &[],
            Repr::Static(s) => s,
            Repr::Block { block, start, end } => &block.0[*start as usize..*end as usize],
            Repr::Bytes(b) => b,
        }
    }
}
impl From<&'static [u8]> for Chunk {
    fn from(s: &'static [u8]) -> Chunk {
        Chunk(Repr::Static(s))
    }
}
impl From<&'static str> for Chunk {
    fn from(s: &'static str) -> Chunk {
        Chunk(Repr::Static(s.as_bytes()))
    }
}
impl From<Vec<u8>> for Chunk {
    fn from(v: Vec<u8>) -> Chunk {
        Chunk(Repr::Bytes(v.into()))
    }
}
impl From<String> for Chunk {
    fn from(s: String) -> Chunk {
        s.into_bytes().into()
    }
}
impl From<Bytes> for Chunk {
    fn from(b: Bytes) -> Chunk {
        Chunk(Repr::Bytes(b))
    }
}
impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}
impl PartialEq for Chunk {
    fn eq(&self, o: &Chunk) -> bool {
        **self == **o
    }
}
impl Eq for Chunk {}

/// Chunks up to this size are copied next to the text before them: one `write` beats a `writev` of small pieces.
const COPY_UP_TO: usize = 4096;

/// Text of more than this does not grow: what outgrows a block is not kept for the next one.
const FULL: usize = BLOCK - 2048;

/// What waits to be written: text made by a codec and chunks passed through, in order.
#[derive(Default)]
pub struct OutBuf {
    queue: VecDeque<Piece>,
    len: usize,
    written: u64,
}

enum Piece {
    Text { text: Vec<u8>, from: usize },
    Chunk(Chunk),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Text { text, from } => &text[*from..],
            Piece::Chunk(c) => c,
        }
    }
}

impl OutBuf {
    /// Empty, without memory.
    pub const fn new() -> OutBuf {
        OutBuf { queue: VecDeque::new(), len: 0, written: 0 }
    }
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Bytes that have left it so far.
    pub fn written(&self) -> u64 {
        self.written
    }
    /// True when everything was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Lets `f` append text at the end.
    pub fn text<R>(&mut self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if !matches!(self.queue.back(), Some(Piece::Text { text, .. }) if text.len() <= FULL) {
            self.begin_text();
        }
        #[expect(clippy::unreachable, reason = "a text piece was just pushed")]
        let Some(Piece::Text { text, .. }) = self.queue.back_mut() else { unreachable!() };
        let before = text.len();
        let r = f(text);
        self.len += text.len() - before;
        r
    }
    fn begin_text(&mut self) {
        let kept = VECS.try_with(|p| p.borrow_mut().pop()).ok().flatten();
        let text = kept.unwrap_or_else(|| Vec::with_capacity(4096));
        self.push(Piece::Text { text, from: 0 });
    }
    fn push(&mut self, p: Piece) {
        if self.queue.len() == self.queue.capacity()
            && let Ok(Some(mut longer)) = LISTS.try_with(|l| l.borrow_mut().pop())
        {
            if longer.capacity() > self.queue.capacity() {
                std::mem::swap(&mut self.queue, &mut longer);
                self.queue.extend(longer.drain(..));
            }
            keep_list(longer);
        }
        self.queue.push_back(p);
    }
    /// Appends bytes by copying them.
    pub fn put(&mut self, bytes: &[u8]) {
        self.text(|t| t.extend_from_slice(bytes));
    }
    /// Appends a chunk; a small one is copied, a large one is kept as it is.
    pub fn chunk(&mut self, c: Chunk) {
        if c.len() <= COPY_UP_TO {
            // More than a block would not be kept for the next one.
            if let Some(Piece::Text { text, .. }) = self.queue.back()
                && text.len() + c.len() > BLOCK
            {
                self.begin_text();
            }
            self.put(&c);
        } else {
            self.len += c.len();
            self.push(Piece::Chunk(c));
        }
    }
    /// Fills `out` with the pieces to write next; says how many it filled.
    pub fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        for (p, o) in self.queue.iter().filter(|p| !p.bytes().is_empty()).zip(out.iter_mut()) {
            *o = IoSlice::new(p.bytes());
            n += 1;
        }
        n
    }
    /// The first piece to write; empty when nothing waits.
    pub fn front(&self) -> &[u8] {
        self.queue.iter().map(Piece::bytes).find(|b| !b.is_empty()).unwrap_or_default()
    }
    /// `n` bytes were written.
    pub fn advance(&mut self, mut n: usize) {
        self.written += n.min(self.len) as u64;
        self.len -= n.min(self.len);
        while let Some(p) = self.queue.front_mut() {
            let have = p.bytes().len();
            if n < have {
                match p {
                    Piece::Text { from, .. } => *from += n,
                    Piece::Chunk(c) => c.advance(n),
                }
                return;
            }
            n -= have;
            if let Some(Piece::Text { text, .. }) = self.queue.pop_front() {
                give_back(text);
            }
        }
        keep_list(std::mem::take(&mut self.queue)); // an idle connection keeps no memory
    }
    /// Drops everything that waits.
    pub fn clear(&mut self) {
        self.advance(self.len);
    }
}

impl Drop for OutBuf {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Frees the buffers that this thread keeps for reuse.
pub fn release() {
    // The thread may be ending: then they are freed anyhow.
    let _ = VECS.try_with(|p| *p.borrow_mut() = Vec::new());
    let _ = BLOCKS.try_with(|p| *p.borrow_mut() = Vec::new());
    let _ = LARGE_BLOCKS.try_with(|p| *p.borrow_mut() = Vec::new());
    let _ = LISTS.try_with(|p| *p.borrow_mut() = Vec::new());
}

/// Longer lists are not kept.
const LONG: usize = 256;

fn keep_list(list: VecDeque<Piece>) {
    if list.is_empty() && (1..=LONG).contains(&list.capacity()) {
        // The thread may be ending: then the memory is simply freed.
        let _ = LISTS.try_with(|l| {
            let mut l = l.borrow_mut();
            if l.len() < KEEP {
                l.push(list);
            }
        });
    }
}

fn give_back(mut v: Vec<u8>) {
    if v.capacity() <= BLOCK {
        v.clear();
        // The thread may be ending: then the memory is simply freed.
        let _ = VECS.try_with(|p| {
            let mut p = p.borrow_mut();
            if p.len() < KEEP {
                p.push(v);
            }
        });
    }
}

mod queue;
pub use queue::ChunkQueue;

#[cfg(test)]
mod tests;

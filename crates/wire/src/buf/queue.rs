//! Body bytes that nobody takes at the moment.
//!
//! A chunk shows a part of a block of 16 KiB and keeps all of it alive. Kept as they come, a million DATA frames
//! of one byte, each read by itself, would hold 16 GiB while every window counts a million bytes. So chunks that
//! have to wait behind others are copied together as long as they are small.

use super::Chunk;
use std::collections::VecDeque;

/// Places for chunks that an empty queue keeps.
const KEEP: usize = 8;

/// A queue of chunks whose memory stays in proportion to its bytes: about four times, beside one block.
#[derive(Default)]
pub struct ChunkQueue {
    queue: VecDeque<Chunk>,
    /// Small chunks behind `queue`, copied.
    tail: Vec<u8>,
    len: usize,
}

/// A waiting chunk below this is copied.
const SMALL: usize = 4096;
/// Copies are collected up to this.
const FULL: usize = 64 * 1024;

impl ChunkQueue {
    /// Empty, without memory.
    pub const fn new() -> ChunkQueue {
        ChunkQueue { queue: VecDeque::new(), tail: Vec::new(), len: 0 }
    }
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }
    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Appends a chunk; an empty one leaves no trace.
    pub fn push(&mut self, c: Chunk) {
        if c.is_empty() {
            return;
        }
        self.len += c.len();
        let alone = self.queue.is_empty() && self.tail.is_empty();
        if alone || c.len() >= SMALL {
            self.flush_tail();
            return self.queue.push_back(c);
        }
        if self.tail.is_empty()
            && self.queue.back().is_some_and(|last| last.len() < SMALL)
            && let Some(last) = self.queue.pop_back()
        {
            self.tail.extend_from_slice(&last);
        }
        self.tail.extend_from_slice(&c);
        if self.tail.len() >= FULL {
            self.flush_tail();
        }
    }
    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.tail).into());
        }
    }
    /// Takes the next piece.
    pub fn pop(&mut self) -> Option<Chunk> {
        if self.queue.is_empty() {
            self.flush_tail();
        }
        let c = self.queue.pop_front()?;
        self.len -= c.len();
        Some(c)
    }
    /// Drops everything, and keeps a little memory for what comes.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.queue.shrink_to(KEEP);
        (self.tail, self.len) = (Vec::new(), 0);
    }
    /// Puts the rest of a piece back in front.
    pub fn unpop(&mut self, c: Chunk) {
        if !c.is_empty() {
            self.len += c.len();
            self.queue.push_front(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadBuf;

    fn read(bytes: &[u8]) -> Chunk {
        let mut b = ReadBuf::new();
        b.extend(bytes);
        b.take(bytes.len())
    }

    #[test]
    fn order_and_length_hold_whatever_is_pushed() {
        let (mut q, mut want, mut got) = (ChunkQueue::new(), Vec::new(), Vec::new());
        for i in 0..3000usize {
            let n = [1, 100, 5000, 0, 3000][i * 7 % 5];
            let bytes = vec![i as u8; n];
            want.extend_from_slice(&bytes);
            q.push(read(&bytes));
            if i % 3 == 0
                && let Some(mut c) = q.pop()
            {
                let half = c.split_to(c.len() / 2 + 1);
                got.extend_from_slice(&half);
                q.unpop(c);
            }
            assert_eq!(q.len(), want.len() - got.len());
        }
        while let Some(c) = q.pop() {
            got.extend_from_slice(&c);
        }
        assert!(got == want && q.is_empty());
    }

    #[test]
    fn a_chunk_that_need_not_wait_is_not_copied() {
        let mut q = ChunkQueue::new();
        let c = read(b"abc");
        let at = c.as_ptr();
        q.push(c);
        assert_eq!(q.pop().expect("not empty").as_ptr(), at);
    }

    #[test]
    fn small_pieces_hold_no_blocks() {
        let mut q = ChunkQueue::new();
        for _ in 0..100_000 {
            q.push(read(b"x"));
        }
        assert!(q.queue.len() <= 2 && q.len() == 100_000);
    }
}

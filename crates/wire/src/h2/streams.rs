//! The streams of a connection: a slab whose slots are reused, and a small open-addressing map from ids to slots.

use super::StreamId;

/// Length of the body when no content-length announced it.
pub const ANY: u64 = u64::MAX;

/// One stream (RFC 9113 §5.1). It stays after both sides ended while the caller still holds unreleased body bytes.
pub struct Stream {
    pub id: StreamId,
    /// The caller's.
    pub token: u32,
    /// What we may send; negative after the peer lowered its initial window.
    pub send_window: i64,
    /// What the peer may send.
    pub recv_window: i64,
    /// Delivered to the caller and not released.
    pub unreleased: u32,
    /// Released and not yet announced by WINDOW_UPDATE.
    pub to_announce: u32,
    /// Body bytes that must still arrive, or [`ANY`].
    pub expect: u64,
    pub flags: u16,
    pub meter: Meter,
}

/// Bytes of a stream on the wire, frame headers included (`%DOWNSTREAM_WIRE_BYTES_RECEIVED%` and its like).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Meter {
    /// All frames received.
    pub wire_received: u64,
    /// All frames sent.
    pub wire_sent: u64,
    /// HEADERS and CONTINUATION received.
    pub header_received: u64,
    /// HEADERS and CONTINUATION sent.
    pub header_sent: u64,
}

/// The peer sent END_STREAM.
pub const RECV_END: u16 = 1;
/// We sent END_STREAM.
pub const SEND_END: u16 = 2;
/// We sent a final head.
pub const SENT_HEAD: u16 = 4;
/// The peer's final head arrived.
pub const GOT_HEAD: u16 = 8;
/// The request is HEAD: its response's content-length announces nothing.
pub const HEAD_REQUEST: u16 = 16;
/// Stands in the queue of those who wait for the connection.
pub const QUEUED: u16 = 32;
/// The request is CONNECT: content-length means nothing (RFC 9110 §8.6).
pub const CONNECT: u16 = 256;
/// Was woken and has not sent since.
pub const GRANTED: u16 = 128;
/// Waits for its own window.
pub const BLOCKED: u16 = 64;

impl Stream {
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
    pub fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }
    pub fn clear(&mut self, flag: u16) {
        self.flags &= !flag;
    }
    /// Both sides have ended.
    pub fn is_closed(&self) -> bool {
        self.flags & (RECV_END | SEND_END) == RECV_END | SEND_END
    }
}

/// All streams of a connection.
#[derive(Default)]
pub struct Streams {
    slab: Vec<Stream>,
    free: Vec<u32>,
    /// Slot + 1, 0 = empty; the length is a power of two, at most half is used.
    map: Vec<u32>,
    len: usize,
    /// The stream removed last.
    last: (StreamId, Meter),
}

/// Above this many slots the memory goes back when the last stream ends.
const KEEP_SLOTS: usize = 64;

impl Streams {
    pub fn len(&self) -> usize {
        self.len
    }
    /// Ids come one after the other. They are scattered, or they would stand in one long row of the map, all of which has
    /// to be looked at when one is removed.
    #[inline]
    fn home(&self, id: StreamId) -> usize {
        const GOLDEN: u32 = 0x9e37_79b9;
        let bits = self.map.len().trailing_zeros(); // 4 or more
        ((id.0 >> 1).wrapping_mul(GOLDEN) >> (32 - bits)) as usize
    }
    #[inline]
    fn place(&self, id: StreamId) -> Option<usize> {
        if self.map.is_empty() {
            return None;
        }
        let mut at = self.home(id);
        loop {
            let slot = self.map[at].checked_sub(1)?;
            if self.slab[slot as usize].id == id {
                return Some(at);
            }
            at = (at + 1) & (self.map.len() - 1);
        }
    }
    #[inline]
    pub fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        let at = self.place(id)?;
        Some(&mut self.slab[self.map[at] as usize - 1])
    }
    #[inline]
    pub fn peek(&self, id: StreamId) -> Option<&Stream> {
        let at = self.place(id)?;
        Some(&self.slab[self.map[at] as usize - 1])
    }

    /// Adds a stream whose id is not in the map.
    pub fn insert(&mut self, s: Stream) -> &mut Stream {
        if (self.len + 1) * 2 > self.map.len() {
            let live: Vec<u32> = self.map.iter().copied().filter(|&s| s != 0).collect();
            self.map = vec![0; (self.map.len() * 2).max(16)];
            for s in live {
                self.link(self.slab[s as usize - 1].id, s);
            }
        }
        let id = s.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = s;
                slot as usize
            }
            None => {
                self.slab.push(s);
                self.slab.len() - 1
            }
        };
        self.link(id, slot as u32 + 1);
        self.len += 1;
        &mut self.slab[slot]
    }
    fn link(&mut self, id: StreamId, slot: u32) {
        let mut at = self.home(id);
        while self.map[at] != 0 {
            at = (at + 1) & (self.map.len() - 1);
        }
        self.map[at] = slot;
    }

    /// Removes a stream.
    pub fn remove(&mut self, id: StreamId) {
        let Some(mut hole) = self.place(id) else { return };
        let slot = self.map[hole] - 1;
        self.last = (id, self.slab[slot as usize].meter);
        self.slab[slot as usize].id = StreamId(0);
        self.free.push(slot);
        self.len -= 1;
        // Close the gap, so that no search stops too early.
        let mask = self.map.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(slot) = self.map[at].checked_sub(1) else { break };
            let home = self.home(self.slab[slot as usize].id);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.map[hole] = self.map[at];
                hole = at;
            }
        }
        self.map[hole] = 0;
        if self.len == 0 && self.slab.len() > KEEP_SLOTS {
            *self = Streams { last: self.last, ..Streams::default() };
        }
    }

    /// The bytes of a stream, also of the one removed last.
    pub fn meter(&self, id: StreamId) -> Option<Meter> {
        self.peek(id).map(|s| s.meter).or((self.last.0 == id).then_some(self.last.1))
    }
    /// All streams, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slab.iter_mut().filter(|s| s.id.0 != 0)
    }
    /// All streams, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.slab.iter().filter(|s| s.id.0 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn stream(id: u32, token: u32) -> Stream {
        Stream {
            id: StreamId(id),
            token,
            send_window: 0,
            recv_window: 0,
            unreleased: 0,
            to_announce: 0,
            expect: ANY,
            flags: 0,
            meter: Meter::default(),
        }
    }

    #[test]
    fn agrees_with_a_map_under_churn() {
        let (mut s, mut model, mut seed) = (Streams::default(), BTreeMap::new(), 1u64);
        for step in 0..20_000u32 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let grow = if step < 10_000 { 5 } else { 3 };
            if (seed >> 33) % 8 < grow {
                // Scattered ids, so that probes collide.
                let id = (((seed >> 40) as u32 % 4096) * 128) | 1;
                model.entry(id).or_insert_with(|| {
                    s.insert(stream(id, step));
                    step
                });
            } else if let Some((&id, _)) = model.range((seed >> 40) as u32 % 500_000..).next() {
                s.remove(StreamId(id));
                model.remove(&id);
            }
            assert_eq!(s.len(), model.len());
            if step % 500 == 0 {
                for (id, token) in &model {
                    assert_eq!(s.peek(StreamId(*id)).map(|s| s.token), Some(*token));
                }
                assert_eq!(s.iter().count(), model.len());
            }
        }
    }

    #[test]
    fn slots_are_reused() {
        let mut s = Streams::default();
        for i in 0..1000 {
            s.insert(stream(2 * i + 1, i));
            s.remove(StreamId(2 * i + 1));
        }
        assert_eq!((s.slab.len(), s.map.len(), s.len()), (1, 16, 0));
    }
}

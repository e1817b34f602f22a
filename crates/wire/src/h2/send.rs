//! Sending: heads, bodies within the windows, trailers, resets, GOAWAY, PING.

use super::frame::{self, Head};
use super::settings::{DEFAULT_FRAME, MAX_WINDOW};
use super::streams::{BLOCKED, CONNECT, GRANTED, HEAD_REQUEST, QUEUED, SEND_END, SENT_HEAD};
use super::{Connection, ErrorCode, StreamId, message};
use crate::buf::Chunk;
use crate::head::{RequestHead, ResponseHead, Version};
use crate::headers::HeaderMap;
use crate::name;

/// The stream ended or was reset: nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamGone;

/// How far [`Connection::send_data`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Everything was taken.
    All,
    /// What is left in the chunk has to wait for `Event::Writable`.
    Wait,
    /// The stream is gone.
    Gone,
}

/// Pseudo-headers of a request that came by HTTP/1, as Envoy's codec makes them.
const PSEUDO: [name::Id; 4] = [name::AUTHORITY, name::PATH, name::METHOD, name::SCHEME];
/// Room below which a waiting stream is not woken, as a part of `out_limit`.
const RESUME: usize = 2;
/// Longest payload we send: what every peer accepts. Longer frames would only make others wait (Envoy sends none either).
const FRAME: usize = DEFAULT_FRAME as usize;
/// What one stream may send in a row while others wait.
const TURN: usize = FRAME;

impl Connection {
    /// Client: a stream may be opened now.
    pub fn can_open(&self) -> bool {
        self.active < self.max_open()
    }
    /// Client: streams that the server, GOAWAY and the id space allow at the same time.
    pub fn max_open(&self) -> u32 {
        let closed = self.is_server() || self.failed || self.goaway_got || self.next_id > MAX_WINDOW;
        if closed { 0 } else { self.peer.max_concurrent.min(self.settings.max_concurrent_streams) }
    }

    /// Client: opens a stream. `end`: there is no body. Events of the stream carry `token`.
    pub fn open(&mut self, head: &RequestHead, end: bool, token: u32) -> Result<StreamId, StreamGone> {
        if !self.can_open() {
            return Err(StreamGone);
        }
        let id = StreamId(self.next_id);
        self.next_id += 2;
        let kind = match head.method() {
            b"HEAD" => HEAD_REQUEST,
            b"CONNECT" => CONNECT,
            _ => 0,
        };
        self.new_stream(id, token, SENT_HEAD | kind);
        let order = (head.version != Version::Http2).then_some(&PSEUDO[..]);
        self.put_headers(id, None, order, &head.headers, end);
        if end {
            self.ended(id);
        }
        Ok(id)
    }

    /// Server: a response's head, 1xx included. `end`: there is no body.
    pub fn send_response(&mut self, id: StreamId, head: &ResponseHead, end: bool) -> Result<(), StreamGone> {
        let s = self.streams.get(id).filter(|s| !s.has(SEND_END | SENT_HEAD)).ok_or(StreamGone)?;
        if head.status >= 200 {
            s.set(SENT_HEAD);
        }
        self.greet();
        self.put_headers(id, Some(head.status), None, &head.headers, end);
        if end {
            self.ended(id);
        }
        Ok(())
    }

    /// Trailers; the body ends. They need no window, but all data must have been taken before.
    pub fn send_trailers(&mut self, id: StreamId, map: &HeaderMap) -> Result<(), StreamGone> {
        self.streams.peek(id).filter(|s| !s.has(SEND_END) && s.has(SENT_HEAD)).ok_or(StreamGone)?;
        self.put_headers(id, None, None, map, true);
        self.ended(id);
        Ok(())
    }

    fn ended(&mut self, id: StreamId) {
        if let Some(s) = self.streams.get(id) {
            s.set(SEND_END);
        }
        self.settle(id);
    }

    /// `order`: which pseudo-headers come first, and in which order; without it they stand as they stand in `map`.
    fn put_headers(
        &mut self,
        id: StreamId,
        status: Option<u16>,
        order: Option<&[name::Id]>,
        map: &HeaderMap,
        end: bool,
    ) {
        let (encoder, max) = (&mut self.encoder, FRAME);
        let flags = if end { frame::END_STREAM } else { 0 };
        let before = self.out.len();
        let frames = self.out.text(|t| {
            let at = t.len();
            t.extend_from_slice(&[0; frame::HEAD]);
            encoder.begin(t);
            if let Some(status) = status {
                encoder.status(t, status);
            }
            for pseudo in order.unwrap_or_default() {
                if let Some(h) = map.iter().take(PSEUDO.len() + 1).find(|h| h.id == *pseudo) {
                    encoder.field(t, h.id, h.name, h.value);
                }
            }
            for h in map.iter() {
                // Codecs below HTTP/2 may leave these; here they are forbidden (RFC 9113 §8.2.2).
                let forbidden = order.is_some_and(|o| o.contains(&h.id))
                    || message::is_connection_specific(h.id, h.value)
                    || h.id == name::STATUS
                    || h.id == name::HTTP2_SETTINGS;
                if !forbidden {
                    encoder.field(t, h.id, h.name, h.value);
                }
            }
            let len = t.len() - at - frame::HEAD;
            if len <= max {
                let flags = flags | frame::END_HEADERS;
                let head = Head { len: len as u32, kind: frame::HEADERS, flags, stream: id.0 };
                t[at..at + frame::HEAD].copy_from_slice(&head.bytes());
                return 1;
            }
            let block = t.split_off(at + frame::HEAD);
            t.truncate(at);
            let last = block.len().div_ceil(max) - 1;
            for (i, part) in block.chunks(max).enumerate() {
                let kind = if i == 0 { frame::HEADERS } else { frame::CONTINUATION };
                let first = if i == 0 { flags } else { 0 };
                let end = if i == last { frame::END_HEADERS } else { 0 };
                frame::put(t, kind, first | end, id.0, part);
            }
            last as u64 + 1
        });
        self.flood.frames += frames;
        let n = (self.out.len() - before) as u64;
        if let Some(s) = self.streams.get(id) {
            s.meter.wire_sent += n;
            s.meter.header_sent += n;
        }
    }

    /// Bytes that [`send_data`](Self::send_data) would take now.
    pub fn capacity(&self, id: StreamId) -> usize {
        let room = self.settings.out_limit.saturating_sub(self.out.len());
        let window = self.streams.peek(id).map_or(0, |s| s.send_window).min(self.send_window);
        room.min(window.max(0) as usize)
    }

    /// Writes what the windows and the output's limit allow and leaves the rest in `data`.
    /// `end`: the stream ends with the last byte of `data` (which may be empty).
    pub fn send_data(&mut self, id: StreamId, data: &mut Chunk, end: bool) -> Sent {
        let mut turn = if self.queue.is_empty() { usize::MAX } else { TURN };
        if let Some(s) = self.streams.get(id).filter(|s| s.has(GRANTED)) {
            s.clear(GRANTED);
            self.granted = self.granted.saturating_sub(TURN);
        }
        loop {
            let room = self.capacity(id).min(turn);
            let Some(s) = self.streams.get(id).filter(|s| !s.has(SEND_END) && s.has(SENT_HEAD)) else {
                return Sent::Gone;
            };
            if data.is_empty() && !end {
                return Sent::All;
            }
            if room == 0 && !data.is_empty() {
                if s.send_window <= 0 {
                    s.set(BLOCKED);
                } else {
                    self.enqueue(id);
                }
                return Sent::Wait;
            }
            let n = data.len().min(room).min(FRAME);
            turn -= n;
            let last = end && n == data.len();
            s.send_window -= n as i64;
            s.meter.wire_sent += (n + frame::HEAD) as u64;
            self.send_window -= n as i64;
            self.flood.frames += 1;
            self.flood.data_sent += 1;
            let flags = if last { frame::END_STREAM } else { 0 };
            let head = Head { len: n as u32, kind: frame::DATA, flags, stream: id.0 };
            self.out.put(&head.bytes());
            if n > 0 {
                let piece = if n == data.len() { std::mem::take(data) } else { data.split_to(n) };
                self.out.chunk(piece);
            }
            if last {
                self.ended(id);
                return Sent::All;
            }
        }
    }

    /// The stream waits for the connection.
    pub(super) fn enqueue(&mut self, id: StreamId) {
        let Some(s) = self.streams.get(id).filter(|s| !s.has(QUEUED)) else { return };
        s.set(QUEUED);
        // Streams that went away leave their ids behind: keep that bounded.
        if self.queue.len() > 2 * self.streams.len() + 64 {
            let streams = &self.streams;
            self.queue.retain(|&id| streams.peek(id).is_some());
        }
        self.queue.push_back(id);
    }

    /// The next waiting stream that may send again, oldest first; to be asked until `None` after reading and
    /// after writing. Each one should send before the next is asked for.
    pub fn writable(&mut self) -> Option<(StreamId, u32)> {
        let room = (self.settings.out_limit / RESUME + 1).saturating_sub(self.out.len());
        while (self.send_window.max(0) as usize).min(room) > self.granted {
            let id = self.queue.pop_front()?;
            let Some(s) = self.streams.get(id) else { continue };
            s.clear(QUEUED);
            if s.send_window > 0 {
                s.set(GRANTED);
                self.granted += TURN;
                return Some((id, s.token));
            }
            s.set(BLOCKED);
        }
        None
    }

    pub(super) fn put_reset(&mut self, id: StreamId, code: ErrorCode) {
        self.counters.tx_reset += 1;
        if let Some(s) = self.streams.get(id) {
            s.meter.wire_sent += frame::HEAD as u64 + 4;
        }
        self.flood.control += 1;
        self.put(frame::RST_STREAM, 0, id.0, &code.0.to_be_bytes());
    }

    /// Ends a stream at once; its unreleased bytes are given back to the connection. Nothing happens when it is
    /// gone; of one that both sides have ended, only the bytes are given back.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.cut(id, code);
    }
    /// As [`reset`](Self::reset); true when the peer is told.
    pub fn cut(&mut self, id: StreamId, code: ErrorCode) -> bool {
        let Some(s) = self.streams.peek(id) else { return false };
        let told = !s.is_closed();
        if told {
            self.put_reset(id, code);
        }
        self.forget(id, true);
        told
    }

    /// The first step of a graceful end: GOAWAY with the highest possible id. Streams are still accepted.
    pub fn shutdown_notice(&mut self) {
        if self.goaway_sent.is_none() && !self.failed {
            self.put_goaway(MAX_WINDOW, ErrorCode::NO_ERROR, b"");
        }
    }
    /// GOAWAY with the highest stream id received: later streams are ignored, the others may finish.
    pub fn goaway(&mut self, code: ErrorCode, debug: &[u8]) {
        if !self.failed {
            let last = self.goaway_sent.unwrap_or(self.last_peer).min(self.last_peer);
            self.goaway_sent = Some(last);
            self.counters.goaway_sent += 1;
            self.put_goaway(last, code, debug);
        }
    }
    fn put_goaway(&mut self, last: u32, code: ErrorCode, debug: &[u8]) {
        self.flood.frames += 1;
        let debug = &debug[..debug.len().min(1024)];
        self.out.text(|t| frame::put_goaway(t, last, code, debug));
    }
    /// PING; the answer is `Event::Pong`.
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.put(frame::PING, 0, 0, &payload);
    }
}

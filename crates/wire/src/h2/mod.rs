//! HTTP/2 (RFC 9113), both roles, without I/O: bytes in, events out, bytes to write in [`Connection::out`].
//!
//! ```text
//! socket -> ReadBuf -> Connection::read -> Event (heads, chunks of bodies, trailers, resets)
//! send_response / open / send_data / send_trailers / reset -> Connection::out -> socket
//! ```
//!
//! * A caller reads from its socket, calls [`Connection::read`] until `None`, lets its streams act, writes
//!   [`Connection::out`] once, then asks [`Connection::writable`] until `None`.
//! * DATA goes through without a copy, and as it arrives: a frame need not be complete.
//! * Body bytes count against the windows until the caller [releases](Connection::release) them.
//! * Every limit of Envoy's flood protection holds (`flood.rs`), and every rule of RFC 9113 is checked here:
//!   what comes out of [`Event`] is well-formed.
//!
//! Files in the order of a frame's way: `frame` (layout), `recv` (what comes next), `headers`, `data` and `control`
//! (by kind of frame), `block` (header blocks), `message` (rules for heads), `streams`, `send`; beside them
//! `settings`, `flood`, `error` and [`hpack`].

mod block;
mod control;
mod data;
mod error;
mod flood;
mod frame;
mod headers;
pub mod hpack;
mod message;
mod recv;
mod send;
mod settings;
mod streams;

pub use error::{ConnError, ErrorCode, Kind, details};
pub use send::{Sent, StreamGone};
pub use settings::{Settings, Underscores};
pub use streams::Meter;

use crate::buf::{Chunk, OutBuf};
use crate::head::{RequestHead, ResponseHead};
use crate::headers::HeaderMap;
use flood::Flood;
use hpack::{Decoder, Encoder};
use settings::{DEFAULT_WINDOW, Peer};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use streams::{Stream, Streams};

/// Identifier of a stream, 1 to 2^31-1; 0 is the connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StreamId(pub u32);

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the peer did. `token` is what the caller gave to [`Connection::set_token`] or [`Connection::open`].
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Server: a stream began. `end`: no body and no trailers follow.
    Request { id: StreamId, head: RequestHead, end: bool },
    /// Client: a response's head; 1xx ones first.
    Response { id: StreamId, token: u32, head: ResponseHead, end: bool },
    /// A piece of the body, perhaps an empty one at the end. Padding is already released, the data is not.
    Data { id: StreamId, token: u32, data: Chunk, end: bool },
    /// Trailers; the body ends.
    Trailers { id: StreamId, token: u32, map: HeaderMap },
    /// The peer reset the stream, or will not process it (GOAWAY): it is gone.
    Reset { id: StreamId, token: u32, code: ErrorCode },
    /// The peer broke a rule that ends this stream only; RST_STREAM waits in the output, the stream is gone.
    /// `begun`: it is new, and its head never became an event.
    StreamError { id: StreamId, token: u32, code: ErrorCode, details: &'static str, begun: bool },
    /// [`Connection::send_data`] may go on for this stream.
    Writable { id: StreamId, token: u32 },
    /// The peer will accept no streams above `last`; events for those that it drops follow.
    GoAway { last: StreamId, code: ErrorCode, debug: Chunk },
    /// The peer's SETTINGS arrived (and was acknowledged): limits such as [`Connection::max_open`] may have changed.
    Settings,
    /// The peer answered [`Connection::ping`].
    Pong { payload: [u8; 8] },
}

/// Counts for the `http2.` statistics, reset by [`Connection::take_counters`].
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // named as the statistics
pub struct Counters {
    pub dropped_headers_with_underscores: u32,
    pub goaway_sent: u32,
    pub header_overflow: u32,
    pub header_list_size_too_large: u32,
    pub inbound_empty_frames_flood: u32,
    pub inbound_priority_frames_flood: u32,
    pub inbound_window_update_frames_flood: u32,
    pub outbound_control_flood: u32,
    pub outbound_flood: u32,
    pub requests_rejected_with_underscores_in_headers: u32,
    pub rx_messaging_error: u32,
    pub rx_reset: u32,
    pub stream_refused_errors: u32,
    pub trailers: u32,
    pub tx_reset: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

/// One connection's codec.
pub struct Connection {
    role: Role,
    settings: Arc<Settings>,
    peer: Peer,
    out: OutBuf,
    input: recv::Input,
    block: block::Block,
    decoder: Decoder,
    encoder: Encoder,
    streams: Streams,
    /// Streams that are not closed.
    active: u32,
    /// Highest stream id the peer opened.
    last_peer: u32,
    /// Client: id of the next stream.
    next_id: u32,
    send_window: i64,
    recv_window: i64,
    /// Connection bytes released and not yet announced.
    to_announce: u32,
    /// WINDOW_UPDATE of the connection still to be sent; Envoy's servers send it behind their first acknowledgement.
    greeting: u32,
    got_settings: bool,
    /// Our SETTINGS was acknowledged.
    acked: bool,
    /// The last stream id of the final GOAWAY we sent.
    goaway_sent: Option<u32>,
    goaway_got: bool,
    /// Streams of ours above this id were dropped by the peer's GOAWAY: events for them are still to come.
    sweep: Option<u32>,
    /// Streams that wait for the connection's window or room in the output.
    queue: VecDeque<StreamId>,
    /// Bytes that streams woken in this turn may still send: no more are woken than can.
    granted: usize,
    /// Streams reset while the peer may still send on them: (id, by us).
    gone: VecDeque<(u32, bool)>,
    /// Ids up to this one that fell out of `gone`.
    forgotten: u32,
    flood: Flood,
    counters: Counters,
    failed: bool,
}

/// Longest name or value on the wire, as Envoy's HTTP/2 library limits them.
const MAX_STRING: usize = 65_536;
/// So many reset streams are remembered at most.
const GONE: usize = 1024;

impl Connection {
    /// For an accepted connection. SETTINGS waits in the output at once.
    pub fn server(settings: Arc<Settings>) -> Connection {
        Connection::new(Role::Server, settings)
    }
    /// For a connection to an upstream. Preface, SETTINGS and the connection's WINDOW_UPDATE wait in the output at once.
    pub fn client(settings: Arc<Settings>) -> Connection {
        Connection::new(Role::Client, settings)
    }

    fn new(role: Role, settings: Arc<Settings>) -> Connection {
        let client = role == Role::Client;
        let mut c = Connection {
            role,
            peer: Peer::new(&settings),
            out: OutBuf::new(),
            input: if client { recv::Input::Head } else { recv::Input::Preface(0) },
            block: block::Block::default(),
            // Until the peer acknowledges ours, the initial value holds too.
            decoder: Decoder::new(settings.header_table_size.max(4096) as usize, MAX_STRING),
            encoder: Encoder::new(settings.header_table_size as usize),
            streams: Streams::default(),
            active: 0,
            last_peer: 0,
            next_id: 1,
            send_window: DEFAULT_WINDOW.into(),
            recv_window: settings.connection_window.max(DEFAULT_WINDOW).into(),
            to_announce: 0,
            greeting: settings.connection_window.saturating_sub(DEFAULT_WINDOW),
            got_settings: false,
            acked: false,
            goaway_sent: None,
            goaway_got: false,
            sweep: None,
            queue: VecDeque::new(),
            granted: 0,
            gone: VecDeque::new(),
            forgotten: 0,
            flood: Flood::default(),
            counters: Counters::default(),
            failed: false,
            settings,
        };
        let all = c.settings.advertised(client);
        c.out.text(|t| {
            if client {
                t.extend_from_slice(frame::PREFACE);
            }
            frame::put_settings(t, &all);
        });
        c.flood.frames += 1;
        if client {
            c.greet();
        }
        c
    }

    /// What waits to be written. Advance it by what was written; then ask [`writable`](Self::writable).
    pub fn out(&mut self) -> &mut OutBuf {
        if self.got_settings && !self.failed {
            self.greet(); // nothing follows a final GOAWAY
        }
        self.flood.sync(&self.out);
        self.granted = 0;
        &mut self.out
    }
    /// True when there is something to write.
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty() || (self.got_settings && !self.failed && self.greeting > 0)
    }

    /// Bytes in the output.
    pub fn waiting(&self) -> usize {
        self.out.len()
    }

    fn greet(&mut self) {
        let n = std::mem::take(&mut self.greeting);
        if n > 0 {
            self.put(frame::WINDOW_UPDATE, 0, 0, &n.to_be_bytes());
        }
    }
    /// Appends a frame.
    fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.flood.frames += 1;
        self.out.text(|t| frame::put(t, kind, flags, stream, payload));
    }

    /// Streams that are not closed.
    pub fn streams(&self) -> usize {
        self.active as usize
    }
    /// Streams known, closed ones with unreleased body bytes included.
    pub fn slots(&self) -> usize {
        self.streams.len()
    }
    /// Every known stream and its token, in no order.
    pub fn each(&self) -> impl Iterator<Item = (StreamId, u32)> + '_ {
        self.streams.iter().map(|s| (s.id, s.token))
    }
    /// Gives a stream the caller's own number, which events then carry; 0 before.
    pub fn set_token(&mut self, id: StreamId, token: u32) {
        if let Some(s) = self.streams.get(id) {
            s.token = token;
        }
    }
    /// The number given by [`set_token`](Self::set_token); `None` when the stream is gone.
    pub fn token(&self, id: StreamId) -> Option<u32> {
        self.streams.peek(id).map(|s| s.token)
    }
    /// Wire bytes of a stream: of a known one, and of the one that ended last.
    pub fn meter(&self, id: StreamId) -> Option<Meter> {
        self.streams.meter(id)
    }
    /// The new stream whose head is still arriving.
    pub fn head_in_progress(&self) -> Option<StreamId> {
        self.block.begun()
    }
    /// True once the peer's first SETTINGS arrived.
    pub fn got_settings(&self) -> bool {
        self.got_settings
    }
    /// Server: the peer accepts extended CONNECT when we do; client: the server said that it does (RFC 8441 §3).
    pub fn connect_protocol(&self) -> bool {
        match self.role {
            Role::Server => self.settings.enable_connect_protocol,
            Role::Client => self.peer.connect_protocol,
        }
    }
    /// Counts since the last call.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }
    /// Streams opened so far, by either side.
    pub fn opened(&self) -> u64 {
        self.flood.opened_streams
    }
    /// The peer sent GOAWAY: no new streams.
    pub fn is_going_away(&self) -> bool {
        self.goaway_got
    }

    fn new_stream(&mut self, id: StreamId, token: u32, flags: u16) {
        self.active += 1;
        self.flood.opened_streams += 1;
        // Before the acknowledgement the peer may still go by the initial value (RFC 9113 §6.9.2).
        let own = self.settings.initial_window_size;
        let recv_window = if self.acked { own } else { own.max(DEFAULT_WINDOW) };
        self.streams.insert(Stream {
            id,
            token,
            send_window: self.peer.initial_window.into(),
            recv_window: recv_window.into(),
            unreleased: 0,
            to_announce: 0,
            expect: streams::ANY,
            flags,
            meter: Meter::default(),
        });
    }

    /// To be called when a side of the stream ended: forgets it once nothing of it is left.
    fn settle(&mut self, id: StreamId) {
        let Some(s) = self.streams.get(id) else { return };
        if s.is_closed() {
            self.active = self.active.saturating_sub(1);
            if s.unreleased == 0 {
                self.streams.remove(id);
            }
        }
    }

    /// Forgets a stream at once and gives its unreleased bytes back to the connection.
    fn forget(&mut self, id: StreamId, by_us: bool) {
        let Some(s) = self.streams.get(id) else { return };
        let (unreleased, closed, recv_end) = (s.unreleased, s.is_closed(), s.has(streams::RECV_END));
        self.streams.remove(id);
        if !closed {
            self.active = self.active.saturating_sub(1);
        }
        self.announce_connection(unreleased);
        // Whoever reset it, the other side may have frames under way.
        if !recv_end || !by_us {
            self.remember_gone(id, by_us);
        }
    }
    fn remember_gone(&mut self, id: StreamId, by_us: bool) {
        if self.gone.len() >= GONE
            && let Some((old, _)) = self.gone.pop_front()
        {
            self.forgotten = self.forgotten.max(old);
        }
        self.gone.push_back((id.0, by_us));
    }

    /// `n` bytes no longer occupy the connection's window: announces them at half.
    fn announce_connection(&mut self, n: u32) {
        self.to_announce += n;
        if self.to_announce >= self.settings.connection_window.max(DEFAULT_WINDOW) / 2 {
            let n = std::mem::take(&mut self.to_announce);
            self.recv_window += i64::from(n);
            self.put(frame::WINDOW_UPDATE, 0, 0, &n.to_be_bytes());
        }
    }

    /// The caller has consumed `n` bytes of the stream's body: opens the windows, at half of their size.
    pub fn release(&mut self, id: StreamId, n: usize) {
        let Some(s) = self.streams.get(id) else { return };
        let n = (n as u64).min(s.unreleased.into()) as u32;
        s.unreleased -= n;
        let (closed, left) = (s.is_closed(), s.unreleased);
        self.announce_connection(n);
        if closed {
            if left == 0 {
                self.streams.remove(id);
            }
        } else {
            self.announce_stream(id, n);
        }
    }
    fn announce_stream(&mut self, id: StreamId, n: u32) {
        let size = self.settings.initial_window_size;
        let Some(s) = self.streams.get(id) else { return };
        if s.has(streams::RECV_END) {
            return;
        }
        s.to_announce += n;
        if s.to_announce >= (size / 2).max(1) {
            let n = std::mem::take(&mut s.to_announce);
            s.recv_window += i64::from(n);
            self.put(frame::WINDOW_UPDATE, 0, id.0, &n.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;

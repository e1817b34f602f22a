//! Receiving: frames become events (RFC 9113 §6).

use super::block::Kind as BlockKind;
use super::error::{CALLBACK_FAILED, ConnError, Kind, details};
use super::flood::Which;
use super::frame::{self, Head};
use super::settings::{self, MAX_WINDOW};
use super::streams::{ANY, BLOCKED, GOT_HEAD, RECV_END};
use super::{Connection, ErrorCode, Event, Role, StreamId};
use crate::buf::{Chunk, ReadBuf};

/// What the next bytes are.
pub enum Input {
    /// So many bytes of the client's preface were seen.
    Preface(u8),
    /// A frame header.
    Head,
    /// The payload of a small frame, wanted whole.
    Whole(Head),
    /// The pad length, and the priority fields, of HEADERS.
    HeadersPrefix(Head),
    /// A fragment of a header block: bytes left of it, and of the padding behind it.
    Fragment { left: u32, pad: u32, end_headers: bool },
    /// The pad length of DATA.
    DataPrefix(Head),
    /// DATA: bytes left of it, and of the padding behind it.
    Data { id: StreamId, left: u32, pad: u32, end: bool },
    /// Bytes nobody wants.
    Skip(u32),
}

/// A broken rule that ends the connection, before it became a [`ConnError`].
pub struct Fault {
    code: ErrorCode,
    kind: Kind,
    message: &'static str,
    reason: &'static str,
    stream: StreamId,
    details: &'static str,
    begun: bool,
    goaway: bool,
}

impl Fault {
    /// The peer is told by GOAWAY.
    pub fn connection(code: ErrorCode, reason: &'static str) -> Fault {
        Fault {
            code,
            kind: Kind::Protocol,
            message: CALLBACK_FAILED,
            reason,
            stream: StreamId(0),
            details: "",
            begun: false,
            goaway: true,
        }
    }
    /// A PROTOCOL_ERROR for which Envoy closes without GOAWAY.
    pub fn silent(reason: &'static str) -> Fault {
        Fault { goaway: false, ..Fault::connection(ErrorCode::PROTOCOL_ERROR, reason) }
    }
    pub fn of_stream(self, stream: StreamId, details: &'static str, begun: bool) -> Fault {
        Fault { stream, details, begun, ..self }
    }
    /// The peer asks for more than it may; Envoy's text says what.
    pub fn flood_of(text: &'static str) -> Fault {
        let f = Fault::silent(text);
        Fault { code: ErrorCode::ENHANCE_YOUR_CALM, kind: Kind::Flood, message: text, ..f }
    }
}

/// Entries of one SETTINGS frame, as Envoy's HTTP/2 library limits them.
const MAX_SETTINGS: usize = 32;

/// A stream id without a live stream.
#[derive(PartialEq, Eq)]
enum Absent {
    /// Not opened yet.
    Idle,
    /// We reset it, or will not process it: what comes is dropped.
    Dropped,
    /// The peer reset it.
    ResetByPeer,
    /// It ended.
    Closed,
}

impl Connection {
    pub(super) fn is_server(&self) -> bool {
        self.role == Role::Server
    }

    /// The next event in what was read; `None`: more bytes are wanted. After an error nothing more comes.
    pub fn read(&mut self, buf: &mut ReadBuf) -> Result<Option<Event>, ConnError> {
        if self.failed {
            return Ok(None);
        }
        if let Some(e) = self.swept() {
            return Ok(Some(e));
        }
        self.check_outbound().map_err(|f| self.fail(f))?;
        loop {
            match self.step(buf) {
                Ok(Progress::Event(e)) => return Ok(Some(e)),
                Ok(Progress::Again) => {}
                Ok(Progress::More) => {
                    if !self.queue.is_empty()
                        && let Some((id, token)) = self.writable()
                    {
                        return Ok(Some(Event::Writable { id, token }));
                    }
                    return Ok(None);
                }
                Err(f) => return Err(self.fail(f)),
            }
        }
    }

    fn fail(&mut self, f: Fault) -> ConnError {
        self.failed = true;
        if f.goaway {
            self.flood.frames += 1;
            let last = self.last_peer;
            self.out.text(|t| frame::put_goaway(t, last, f.code, f.reason.as_bytes()));
        }
        let begun = f.begun || self.block.begun().is_some();
        let stream = if f.stream.0 == 0 { self.block.begun().unwrap_or_default() } else { f.stream };
        ConnError {
            code: f.code,
            kind: f.kind,
            message: f.message,
            reason: f.reason,
            stream,
            details: f.details,
            begun,
            goaway: f.goaway,
        }
    }

    /// Counts a flood and turns it into the fault.
    fn flooded(&mut self, which: Which, id: u32) -> Fault {
        let c = &mut self.counters;
        *match which {
            Which::Empty => &mut c.inbound_empty_frames_flood,
            Which::Priority => &mut c.inbound_priority_frames_flood,
            Which::WindowUpdate => &mut c.inbound_window_update_frames_flood,
            Which::Outbound => &mut c.outbound_flood,
            Which::OutboundControl => &mut c.outbound_control_flood,
        } += 1;
        let f = Fault::flood_of(which.text());
        let id = StreamId(id);
        match which {
            Which::Empty if self.streams.peek(id).is_some() => {
                let begun = self.block.begun() == Some(id);
                f.of_stream(id, details::EMPTY_FRAMES, begun)
            }
            _ => f,
        }
    }

    /// Fails when too much waits to be written: the peer makes us answer, and does not read.
    fn check_outbound(&mut self) -> Result<(), Fault> {
        if !self.flood.is_high(&self.settings) {
            return Ok(());
        }
        self.flood.sync(&self.out);
        let s = self.settings.clone();
        self.flood.outbound(&s).map_err(|w| self.flooded(w, 0))
    }

    fn step(&mut self, buf: &mut ReadBuf) -> Result<Progress, Fault> {
        match self.input {
            Input::Head => {
                let Some(bytes) = buf.data().first_chunk() else { return Ok(Progress::More) };
                let head = Head::parse(bytes);
                buf.consume(frame::HEAD);
                self.begin(head)
            }
            Input::Data { id, left, pad, end } => self.data(buf, id, left, pad, end),
            Input::Fragment { left, pad, end_headers } => {
                let have = buf.data();
                let n = have.len().min(left as usize);
                if n == 0 && left > 0 {
                    return Ok(Progress::More);
                }
                let last = n == left as usize;
                let event = self.fragment(&have[..n], last && end_headers);
                buf.consume(n);
                self.input = match last {
                    true => Input::Skip(pad),
                    false => Input::Fragment { left: left - n as u32, pad, end_headers },
                };
                Ok(event?.map_or(Progress::Again, Progress::Event))
            }
            Input::HeadersPrefix(h) => self.headers_prefix(buf, h),
            Input::DataPrefix(h) => {
                let Some(&pad) = buf.data().first() else { return Ok(Progress::More) };
                buf.consume(1);
                if u32::from(pad) > h.len - 1 {
                    return Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, "DATA: invalid padding"));
                }
                self.begin_data(h, u32::from(pad), 1)
            }
            Input::Whole(h) => {
                if buf.len() < h.len as usize {
                    return Ok(Progress::More);
                }
                self.input = Input::Head;
                let payload = buf.take(h.len as usize);
                let event = self.whole(h, &payload)?;
                self.check_outbound()?;
                Ok(event.map_or(Progress::Again, Progress::Event))
            }
            Input::Skip(left) => {
                let n = buf.len().min(left as usize);
                buf.consume(n);
                let left = left - n as u32;
                self.input = if left == 0 { Input::Head } else { Input::Skip(left) };
                Ok(if left == 0 { Progress::Again } else { Progress::More })
            }
            Input::Preface(seen) => {
                let rest = &frame::PREFACE[seen as usize..];
                let have = buf.data();
                let n = have.len().min(rest.len());
                if have[..n] != rest[..n] {
                    let text = "Received bad client magic byte string";
                    return Err(Fault { message: text, ..Fault::silent(text) });
                }
                buf.consume(n);
                let seen = seen + n as u8;
                let done = seen as usize == frame::PREFACE.len();
                self.input = if done { Input::Head } else { Input::Preface(seen) };
                Ok(if done { Progress::Again } else { Progress::More })
            }
        }
    }

    /// A frame header was read.
    fn begin(&mut self, h: Head) -> Result<Progress, Fault> {
        if h.len > self.settings.max_frame_size {
            return Err(Fault::connection(ErrorCode::FRAME_SIZE_ERROR, "too large frame size"));
        }
        if self.block.open && (h.kind != frame::CONTINUATION || h.stream != self.block.id.0) {
            let why = "unexpected non-CONTINUATION frame or stream_id is invalid";
            return Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, why));
        }
        if !self.got_settings && (h.kind != frame::SETTINGS || h.has(frame::ACK)) {
            return Err(Fault::silent("the first frame is not SETTINGS"));
        }
        if h.kind != frame::DATA {
            let end = h.kind == frame::HEADERS && h.has(frame::END_STREAM);
            let seen = self.flood.inbound(h.kind, end, h.len == 0, &self.settings);
            if let Err(which) = seen {
                return Err(self.flooded(which, h.stream));
            }
        }
        let size = |ok| match ok {
            true => Ok(Input::Whole(h)),
            false => Err(Fault::connection(ErrorCode::FRAME_SIZE_ERROR, "wrong payload length")),
        };
        self.input = match h.kind {
            frame::DATA => return self.data_head(h),
            frame::HEADERS => return self.headers_head(h).map(|()| Progress::Again),
            frame::CONTINUATION => {
                if !self.block.open {
                    return Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, "CONTINUATION: unexpected"));
                }
                self.block.next_frame();
                self.meter_headers(self.block.id, h.len.into());
                Input::Fragment { left: h.len, pad: 0, end_headers: h.has(frame::END_HEADERS) }
            }
            frame::PRIORITY => {
                if h.stream == 0 {
                    return Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, "PRIORITY on stream 0"));
                }
                size(h.len == 5)?
            }
            frame::RST_STREAM => size(h.len == 4)?,
            frame::WINDOW_UPDATE => size(h.len == 4)?,
            frame::SETTINGS => {
                let input = size(if h.has(frame::ACK) { h.len == 0 } else { h.len.is_multiple_of(6) })?;
                self.connection_only(h)?;
                input
            }
            frame::PING => {
                let input = size(h.len == 8)?;
                self.connection_only(h)?;
                input
            }
            frame::GOAWAY => {
                let input = size(h.len >= 8)?;
                self.connection_only(h)?;
                input
            }
            // A server never receives it; our clients forbid it (RFC 9113 §8.4).
            frame::PUSH_PROMISE => return Err(Fault::silent("PUSH_PROMISE")),
            _ => Input::Skip(h.len),
        };
        Ok(Progress::Again)
    }

    fn connection_only(&self, h: Head) -> Result<(), Fault> {
        if h.stream == 0 { Ok(()) } else { Err(Fault::silent("connection frame on a stream")) }
    }

    fn absent(&self, id: u32) -> Absent {
        let ours = self.is_server() == id.is_multiple_of(2);
        let opened = match (self.role, ours) {
            (Role::Server, true) | (Role::Client, false) => false,
            (Role::Server, false) => id <= self.last_peer,
            (Role::Client, true) => id < self.next_id,
        };
        if !opened {
            return Absent::Idle;
        }
        if self.goaway_sent.is_some_and(|last| !ours && id > last) {
            return Absent::Dropped;
        }
        match self.gone.iter().rev().find(|g| g.0 == id) {
            Some((_, true)) => Absent::Dropped,
            Some((_, false)) => Absent::ResetByPeer,
            None if id <= self.forgotten => Absent::Dropped,
            None => Absent::Closed,
        }
    }

    fn data_head(&mut self, h: Head) -> Result<Progress, Fault> {
        if h.stream == 0 {
            return Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, "DATA: stream_id == 0"));
        }
        if h.has(frame::PADDED) {
            if h.len == 0 {
                let why = "DATA: insufficient padding space";
                return Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, why));
            }
            self.input = Input::DataPrefix(h);
            return Ok(Progress::Again);
        }
        self.begin_data(h, 0, 0)
    }

    /// DATA whose padding is known; `prefix`: bytes that said so.
    fn begin_data(&mut self, h: Head, pad: u32, prefix: u32) -> Result<Progress, Fault> {
        let (id, len, end) = (StreamId(h.stream), h.len - pad - prefix, h.has(frame::END_STREAM));
        if let Err(which) = self.flood.inbound(frame::DATA, end, len == 0, &self.settings) {
            return Err(self.flooded(which, h.stream));
        }
        self.recv_window -= i64::from(h.len);
        if self.recv_window < 0 {
            return Err(Fault::connection(
                ErrorCode::FLOW_CONTROL_ERROR,
                "DATA beyond the connection's window",
            ));
        }
        let begun = self.block.begun().is_some();
        let Some(s) = self.streams.get(id) else {
            let event = match self.absent(h.stream) {
                Absent::Idle => {
                    return Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, "DATA: stream in idle"));
                }
                Absent::Closed => {
                    return Err(Fault::connection(ErrorCode::STREAM_CLOSED, "DATA: stream is closed"));
                }
                Absent::ResetByPeer => {
                    self.put_reset(id, ErrorCode::STREAM_CLOSED);
                    self.check_outbound()
                }
                Absent::Dropped => Ok(()),
            };
            event?;
            self.announce_connection(h.len);
            self.input = Input::Skip(h.len - prefix);
            return Ok(Progress::Again);
        };
        if s.has(RECV_END) {
            return Err(Fault::connection(ErrorCode::STREAM_CLOSED, "DATA: stream in half-closed(remote)"));
        }
        s.meter.wire_received += u64::from(h.len) + frame::HEAD as u64;
        s.recv_window -= i64::from(h.len);
        let bad = if s.recv_window < 0 {
            Some((ErrorCode::FLOW_CONTROL_ERROR, details::REMOTE_RESET))
        } else if !s.has(GOT_HEAD) {
            Some((ErrorCode::PROTOCOL_ERROR, details::MESSAGING))
        } else if s.expect != ANY && (u64::from(len) > s.expect || (end && u64::from(len) < s.expect)) {
            // As Envoy says of a body that contradicts its content-length.
            Some((ErrorCode::PROTOCOL_ERROR, details::REMOTE_RESET))
        } else {
            None
        };
        if let Some((code, why)) = bad {
            self.announce_connection(h.len);
            self.input = Input::Skip(h.len - prefix);
            return Ok(Progress::Event(self.stream_error(id, code, why, begun)));
        }
        if s.expect != ANY {
            s.expect -= u64::from(len);
        }
        if pad + prefix > 0 {
            self.announce_connection(pad + prefix);
            self.announce_stream(id, pad + prefix);
        }
        self.input = Input::Data { id, left: len, pad, end };
        Ok(Progress::Again)
    }

    /// Bytes of DATA: handed on as they come.
    fn data(
        &mut self,
        buf: &mut ReadBuf,
        id: StreamId,
        left: u32,
        pad: u32,
        end: bool,
    ) -> Result<Progress, Fault> {
        let n = buf.len().min(left as usize);
        if left > 0 && n == 0 {
            return Ok(Progress::More);
        }
        let data = buf.take(n);
        let left = left - n as u32;
        let done = left == 0 && buf.len() >= pad as usize;
        if done {
            buf.consume(pad as usize);
            self.input = Input::Head;
        } else {
            self.input = Input::Data { id, left, pad, end };
            if n == 0 {
                return Ok(Progress::More); // padding is still missing
            }
        }
        let end = done && end;
        let Some(s) = self.streams.get(id) else {
            self.announce_connection(n as u32);
            return Ok(Progress::Again);
        };
        s.unreleased += n as u32;
        let token = s.token;
        if end {
            s.set(RECV_END);
            self.settle(id);
        }
        if n == 0 && !end {
            return Ok(Progress::Again);
        }
        Ok(Progress::Event(Event::Data { id, token, data, end }))
    }

    fn headers_head(&mut self, h: Head) -> Result<(), Fault> {
        if h.stream == 0 {
            return Err(Fault::silent("HEADERS: stream_id == 0"));
        }
        let prefix = u32::from(h.has(frame::PADDED)) + if h.has(frame::WITH_PRIORITY) { 5 } else { 0 };
        if h.len < prefix {
            return Err(match h.len {
                0 if h.has(frame::PADDED) => {
                    Fault::connection(ErrorCode::PROTOCOL_ERROR, "HEADERS: insufficient padding space")
                }
                _ => Fault::connection(ErrorCode::FRAME_SIZE_ERROR, "HEADERS: payload too short"),
            });
        }
        if prefix > 0 {
            self.input = Input::HeadersPrefix(h);
            return Ok(());
        }
        self.begin_headers(h, 0, 0)
    }

    fn headers_prefix(&mut self, buf: &mut ReadBuf, h: Head) -> Result<Progress, Fault> {
        let (padded, priority) = (h.has(frame::PADDED) as usize, h.has(frame::WITH_PRIORITY));
        let want = padded + if priority { 5 } else { 0 };
        let Some(bytes) = buf.data().get(..want) else { return Ok(Progress::More) };
        let pad = if padded > 0 { u32::from(bytes[0]) } else { 0 };
        let depends_on = frame::word(&bytes[padded..]) & MAX_WINDOW;
        buf.consume(want);
        if pad > h.len - want as u32 {
            return Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, "HEADERS: invalid padding"));
        }
        if priority && depends_on == h.stream {
            return Err(Fault::silent("HEADERS: stream depends on itself"));
        }
        self.begin_headers(h, pad, want as u32)?;
        Ok(Progress::Again)
    }

    fn begin_headers(&mut self, h: Head, pad: u32, prefix: u32) -> Result<(), Fault> {
        let (id, end) = (StreamId(h.stream), h.has(frame::END_STREAM));
        let kind = match self.streams.peek(id) {
            Some(s) if s.has(RECV_END) => {
                let f = Fault::silent("HEADERS: stream in half-closed(remote)");
                return Err(Fault { code: ErrorCode::STREAM_CLOSED, ..f });
            }
            Some(s) if s.has(GOT_HEAD) => BlockKind::Trailers,
            Some(_) => BlockKind::Response,
            None => match self.absent(h.stream) {
                Absent::Idle if self.is_server() && !h.stream.is_multiple_of(2) => self.admit(id)?,
                Absent::Dropped => BlockKind::Skip,
                Absent::ResetByPeer => {
                    self.put_reset(id, ErrorCode::STREAM_CLOSED);
                    self.check_outbound()?;
                    BlockKind::Skip
                }
                Absent::Idle | Absent::Closed => return Err(Fault::silent("HEADERS: stream is not open")),
            },
        };
        self.begin_block(id, kind, end);
        self.meter_headers(id, u64::from(h.len) + frame::HEAD as u64);
        let end_headers = h.has(frame::END_HEADERS);
        self.input = Input::Fragment { left: h.len - prefix - pad, pad, end_headers };
        Ok(())
    }

    fn meter_headers(&mut self, id: StreamId, n: u64) {
        if let Some(s) = self.streams.get(id) {
            s.meter.wire_received += n;
            s.meter.header_received += n;
        }
    }

    /// A client opens a stream.
    fn admit(&mut self, id: StreamId) -> Result<BlockKind, Fault> {
        self.last_peer = id.0;
        if self.goaway_sent.is_some_and(|last| id.0 > last) {
            return Ok(BlockKind::Skip);
        }
        if self.active >= self.settings.max_concurrent_streams {
            if self.acked {
                return Err(Fault::silent("more streams than SETTINGS_MAX_CONCURRENT_STREAMS"));
            }
            self.counters.stream_refused_errors += 1;
            self.put_reset(id, ErrorCode::REFUSED_STREAM);
            self.remember_gone(id, true);
            self.check_outbound()?;
            return Ok(BlockKind::Skip);
        }
        self.new_stream(id, 0, 0);
        Ok(BlockKind::Request)
    }

    /// Resets a stream whose peer broke a rule.
    pub(super) fn stream_error(
        &mut self,
        id: StreamId,
        code: ErrorCode,
        details: &'static str,
        begun: bool,
    ) -> Event {
        let token = self.token(id).unwrap_or_default();
        self.put_reset(id, code);
        self.forget(id, true);
        Event::StreamError { id, token, code, details, begun }
    }

    /// A frame whose payload is complete.
    fn whole(&mut self, h: Head, p: &Chunk) -> Result<Option<Event>, Fault> {
        let id = StreamId(h.stream);
        match h.kind {
            frame::SETTINGS => return self.settings_frame(h, p),
            frame::PING => {
                let Some(&payload) = p.first_chunk::<8>() else { return Ok(None) };
                if h.has(frame::ACK) {
                    return Ok(Some(Event::Pong { payload }));
                }
                self.flood.control += 1;
                self.put(frame::PING, frame::ACK, 0, &payload);
            }
            frame::WINDOW_UPDATE => return self.window_update(id, frame::word(p) & MAX_WINDOW),
            frame::RST_STREAM => {
                let Some(token) = self.token(id) else {
                    return match self.absent(h.stream) {
                        Absent::Idle => Err(Fault::silent("RST_STREAM: stream in idle")),
                        _ => Ok(None),
                    };
                };
                self.counters.rx_reset += 1;
                if let Some(s) = self.streams.get(id) {
                    if s.is_closed() {
                        return Ok(None); // all that was to be said had been said
                    }
                    s.meter.wire_received += frame::HEAD as u64 + 4;
                }
                self.forget(id, false);
                return Ok(Some(Event::Reset { id, token, code: ErrorCode(frame::word(p)) }));
            }
            frame::GOAWAY => {
                let last = frame::word(p) & MAX_WINDOW;
                let code = ErrorCode(frame::word(&p[4..]));
                let mut debug = p.clone();
                debug.advance(8);
                self.goaway_got = true;
                if !self.is_server() {
                    self.sweep = Some(self.sweep.map_or(last, |old| old.min(last)));
                }
                return Ok(Some(Event::GoAway { last: StreamId(last), code, debug }));
            }
            _ => {} // PRIORITY says nothing that we act on
        }
        Ok(None)
    }

    /// The next stream that the peer's GOAWAY dropped.
    fn swept(&mut self) -> Option<Event> {
        let last = self.sweep?;
        let Some((id, token)) = self.each().find(|(id, _)| id.0 > last) else {
            self.sweep = None;
            return None;
        };
        self.forget(id, true);
        Some(Event::Reset { id, token, code: ErrorCode::REFUSED_STREAM })
    }

    fn window_update(&mut self, id: StreamId, n: u32) -> Result<Option<Event>, Fault> {
        if id.0 == 0 {
            if n == 0 {
                return Err(Fault::silent("WINDOW_UPDATE of 0"));
            }
            self.send_window += i64::from(n);
            if self.send_window > i64::from(MAX_WINDOW) {
                let f = Fault::silent("WINDOW_UPDATE beyond 2^31-1");
                return Err(Fault { code: ErrorCode::FLOW_CONTROL_ERROR, ..f });
            }
            return Ok(None);
        }
        let Some(s) = self.streams.get(id) else {
            return match self.absent(id.0) {
                Absent::Idle => Err(Fault::silent("WINDOW_UPDATE: stream in idle")),
                _ => Ok(None),
            };
        };
        s.send_window += i64::from(n);
        if n == 0 || s.send_window > i64::from(MAX_WINDOW) {
            // RFC 9113 §6.9 calls these stream errors; Envoy closes the connection.
            let f = Fault::silent("WINDOW_UPDATE: bad increment").of_stream(id, details::UNKNOWN, false);
            let code = if n == 0 { ErrorCode::PROTOCOL_ERROR } else { ErrorCode::FLOW_CONTROL_ERROR };
            return Err(Fault { code, ..f });
        }
        if s.has(BLOCKED) && s.send_window > 0 {
            s.clear(BLOCKED);
            self.enqueue(id);
        }
        Ok(None)
    }

    fn settings_frame(&mut self, h: Head, p: &[u8]) -> Result<Option<Event>, Fault> {
        if h.has(frame::ACK) {
            if !self.acked {
                self.acked = true;
                self.decoder.set_limit(self.settings.header_table_size as usize);
            }
            return Ok(None);
        }
        self.got_settings = true;
        if p.len() > 6 * MAX_SETTINGS {
            let f = Fault::silent("SETTINGS: too many setting entries");
            return Err(Fault { code: ErrorCode::ENHANCE_YOUR_CALM, ..f });
        }
        for e in p.as_chunks::<6>().0 {
            self.setting(u16::from_be_bytes([e[0], e[1]]), frame::word(&e[2..]))?;
        }
        self.flood.control += 1;
        self.put(frame::SETTINGS, frame::ACK, 0, &[]);
        Ok(Some(Event::Settings))
    }

    fn setting(&mut self, id: u16, value: u32) -> Result<(), Fault> {
        let bad = |code, why| Err(Fault { code, ..Fault::silent(why) });
        match id {
            settings::HEADER_TABLE_SIZE => self.encoder.set_peer_limit(value as usize),
            settings::ENABLE_PUSH if value > 1 || (value == 1 && !self.is_server()) => {
                return bad(ErrorCode::PROTOCOL_ERROR, "bad SETTINGS_ENABLE_PUSH");
            }
            settings::MAX_CONCURRENT_STREAMS => self.peer.max_concurrent = value,
            settings::INITIAL_WINDOW_SIZE => {
                if value > MAX_WINDOW {
                    return bad(ErrorCode::FLOW_CONTROL_ERROR, "bad SETTINGS_INITIAL_WINDOW_SIZE");
                }
                let delta = i64::from(value) - i64::from(self.peer.initial_window);
                self.peer.initial_window = value;
                let mut opened = Vec::new();
                for s in self.streams.iter_mut() {
                    s.send_window += delta;
                    if s.send_window > i64::from(MAX_WINDOW) {
                        return bad(
                            ErrorCode::FLOW_CONTROL_ERROR,
                            "SETTINGS_INITIAL_WINDOW_SIZE overflows a window",
                        );
                    }
                    if s.has(BLOCKED) && s.send_window > 0 {
                        s.clear(BLOCKED);
                        opened.push(s.id);
                    }
                }
                opened.sort_unstable();
                opened.into_iter().for_each(|id| self.enqueue(id));
            }
            settings::MAX_FRAME_SIZE => {
                if !(settings::DEFAULT_FRAME..=0xff_ffff).contains(&value) {
                    return bad(ErrorCode::PROTOCOL_ERROR, "bad SETTINGS_MAX_FRAME_SIZE");
                }
                self.peer.max_frame = value;
            }
            settings::ENABLE_CONNECT_PROTOCOL => {
                if value > 1 || (value == 0 && self.peer.connect_protocol) {
                    return bad(ErrorCode::PROTOCOL_ERROR, "bad SETTINGS_ENABLE_CONNECT_PROTOCOL");
                }
                self.peer.connect_protocol = value == 1;
            }
            _ => {}
        }
        Ok(())
    }
}

enum Progress {
    Event(Event),
    Again,
    More,
}

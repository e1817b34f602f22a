//! Receiving: frames become events (RFC 9113 §6).

use super::error::{ConnError, Fault, details};
use super::flood::Which;
use super::frame::{self, Head};
use super::{Connection, ErrorCode, Event, Role, StreamId};
use crate::buf::ReadBuf;

/// Reason of errors about frames whose length is fixed.
const WRONG_LENGTH: &str = "wrong payload length";

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

/// A stream id without a live stream.
#[derive(PartialEq, Eq)]
pub(super) enum Absent {
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

    pub(super) fn fail(&mut self, f: Fault) -> ConnError {
        self.failed = true;
        if f.goaway {
            self.flood.frames += 1;
            let last = self.last_peer;
            // Envoy's library says why, but not for these.
            let debug = match f.code {
                ErrorCode::COMPRESSION_ERROR => "",
                ErrorCode::FRAME_SIZE_ERROR if f.reason == WRONG_LENGTH => "",
                _ => f.reason,
            };
            self.out.text(|t| frame::put_goaway(t, last, f.code, debug.as_bytes()));
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
    pub(super) fn flooded(&mut self, which: Which, id: u32) -> Fault {
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
    pub(super) fn check_outbound(&mut self) -> Result<(), Fault> {
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
            false => Err(Fault::connection(ErrorCode::FRAME_SIZE_ERROR, WRONG_LENGTH)),
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

    pub(super) fn absent(&self, id: u32) -> Absent {
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
}

pub(super) enum Progress {
    Event(Event),
    Again,
    More,
}

//! Receiving HEADERS (RFC 9113 §6.2): which stream they open or end; `block` takes the fields.

use super::block::Kind;
use super::error::Fault;
use super::frame::{self, Head};
use super::recv::{Absent, Input, Progress};
use super::settings::MAX_WINDOW;
use super::streams::{GOT_HEAD, RECV_END};
use super::{Connection, ErrorCode, StreamId};
use crate::buf::ReadBuf;

impl Connection {
    pub(super) fn headers_head(&mut self, h: Head) -> Result<(), Fault> {
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

    pub(super) fn headers_prefix(&mut self, buf: &mut ReadBuf, h: Head) -> Result<Progress, Fault> {
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
            Some(s) if s.has(GOT_HEAD) => Kind::Trailers,
            Some(_) => Kind::Response,
            None => match self.absent(h.stream) {
                Absent::Idle if self.is_server() && !h.stream.is_multiple_of(2) => self.admit(id)?,
                Absent::Dropped => Kind::Skip,
                Absent::ResetByPeer => {
                    self.put_reset(id, ErrorCode::STREAM_CLOSED);
                    self.check_outbound()?;
                    Kind::Skip
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

    pub(super) fn meter_headers(&mut self, id: StreamId, n: u64) {
        if let Some(s) = self.streams.get(id) {
            s.meter.wire_received += n;
            s.meter.header_received += n;
        }
    }

    /// A client opens a stream.
    fn admit(&mut self, id: StreamId) -> Result<Kind, Fault> {
        self.last_peer = id.0;
        if self.goaway_sent.is_some_and(|last| id.0 > last) {
            return Ok(Kind::Skip);
        }
        if self.active >= self.settings.max_concurrent_streams {
            if self.acked {
                return Err(Fault::silent("more streams than SETTINGS_MAX_CONCURRENT_STREAMS"));
            }
            self.counters.stream_refused_errors += 1;
            self.put_reset(id, ErrorCode::REFUSED_STREAM);
            self.remember_gone(id, true);
            self.check_outbound()?;
            return Ok(Kind::Skip);
        }
        self.new_stream(id, 0, 0);
        Ok(Kind::Request)
    }
}

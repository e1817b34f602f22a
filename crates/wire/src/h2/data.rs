//! Receiving DATA (RFC 9113 §6.1): flow control, content-length, and bytes handed on as they arrive.

use super::error::{Fault, details};
use super::frame::{self, Head};
use super::recv::{Absent, Input, Progress};
use super::streams::{ANY, GOT_HEAD, RECV_END};
use super::{Connection, ErrorCode, Event, StreamId};
use crate::buf::ReadBuf;

impl Connection {
    pub(super) fn data_head(&mut self, h: Head) -> Result<Progress, Fault> {
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
    pub(super) fn begin_data(&mut self, h: Head, pad: u32, prefix: u32) -> Result<Progress, Fault> {
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
    pub(super) fn data(
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
}

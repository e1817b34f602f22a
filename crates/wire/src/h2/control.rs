//! Receiving the frames that carry no message: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, GOAWAY (RFC 9113 §6).

use super::error::{Fault, details};
use super::frame::{self, Head};
use super::recv::Absent;
use super::settings::{self, MAX_WINDOW};
use super::streams::BLOCKED;
use super::{Connection, ErrorCode, Event, StreamId};
use crate::buf::Chunk;

/// Entries of one SETTINGS frame, as Envoy's HTTP/2 library limits them.
const MAX_SETTINGS: usize = 32;

impl Connection {
    /// A frame whose payload is complete.
    pub(super) fn whole(&mut self, h: Head, p: &Chunk) -> Result<Option<Event>, Fault> {
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
            // Envoy does not look. RFC 9113 has no more priorities, but RFC 7540 §5.3.1 calls this an error.
            frame::PRIORITY if frame::word(p) & MAX_WINDOW == h.stream => {
                return match (self.token(id), self.absent(h.stream)) {
                    (Some(_), _) => {
                        let code = ErrorCode::PROTOCOL_ERROR;
                        Ok(Some(self.stream_error(id, code, details::UNKNOWN, false)))
                    }
                    (None, Absent::Idle) => Err(Fault::silent("PRIORITY: stream depends on itself")),
                    _ => Ok(None),
                };
            }
            _ => {} // PRIORITY says nothing that we act on
        }
        Ok(None)
    }

    /// The next stream that the peer's GOAWAY dropped.
    pub(super) fn swept(&mut self) -> Option<Event> {
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
                let why = "WINDOW_UPDATE beyond 2^31-1";
                return Err(Fault::connection(ErrorCode::FLOW_CONTROL_ERROR, why));
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
        if n == 0 {
            // RFC 9113 §6.9 calls this a stream error; Envoy closes the connection.
            return Err(Fault::silent("WINDOW_UPDATE of 0").of_stream(id, details::UNKNOWN, false));
        }
        if s.send_window > i64::from(MAX_WINDOW) {
            // Envoy closes the connection here too, but RFC 9113 §6.9.1 leaves no choice.
            let code = ErrorCode::FLOW_CONTROL_ERROR;
            return Ok(Some(self.stream_error(id, code, details::UNKNOWN, false)));
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
            // What we send is never longer than the initial value, so a good one changes nothing.
            settings::MAX_FRAME_SIZE if !(settings::DEFAULT_FRAME..=0xff_ffff).contains(&value) => {
                return bad(ErrorCode::PROTOCOL_ERROR, "bad SETTINGS_MAX_FRAME_SIZE");
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

//! Header blocks: HEADERS and its CONTINUATIONs become a request, a response or trailers.
//!
//! Fields are checked and counted one by one while they arrive, so that a block never occupies more than the
//! configured limit, whatever its compressed form expands to (CVE-2024-27919, CVE-2026-47774).

use super::error::{Fault, details};
use super::hpack::{DecodeError, Field};
use super::settings::{Settings, Underscores};
use super::streams::{self, CONNECT, GOT_HEAD, HEAD_REQUEST, RECV_END};
use super::{Connection, Counters, ErrorCode, Event, StreamId, message};
use crate::head::{RequestHead, ResponseHead, Version};
use crate::headers::HeaderMap;
use crate::name;

/// CONTINUATION frames of one block, as Envoy's HTTP/2 library limits them.
const MAX_CONTINUATIONS: u32 = 512;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Kind {
    /// Only the compression state matters: the stream is gone.
    #[default]
    Skip,
    Request,
    Response,
    Trailers,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Verdict {
    #[default]
    Fine,
    /// Ends the stream: INTERNAL_ERROR with these details.
    Refused(&'static str),
    /// Malformed (RFC 9113 §8.1.1), with these details.
    Malformed(&'static str),
}

/// The block being received.
#[derive(Default)]
pub struct Block {
    pub id: StreamId,
    pub kind: Kind,
    pub end_stream: bool,
    /// Between its first fragment and its end.
    pub open: bool,
    map: HeaderMap,
    cookie: Vec<u8>,
    has_cookie: bool,
    has_host: bool,
    /// Names and values so far.
    bytes: usize,
    /// Fragments and their bytes so far.
    fragments: u32,
    wire: usize,
    fields: u32,
    /// Pseudo-headers seen.
    seen: u8,
    /// A field that is no pseudo-header was seen.
    regular: bool,
    status: u16,
    length: Option<u64>,
    verdict: Verdict,
}

impl Block {
    /// A frame with a fragment begins.
    pub fn next_frame(&mut self) {
        self.fragments += 1;
    }
    /// The new stream whose head is incomplete.
    pub fn begun(&self) -> Option<StreamId> {
        (self.open && self.kind == Kind::Request).then_some(self.id)
    }

    fn field(&mut self, f: Field<'_>, s: &Settings, c: &mut Counters, server: bool) {
        if self.verdict != Verdict::Fine || self.kind == Kind::Skip {
            return;
        }
        if let Err(v) = self.take(f, s, c, server) {
            self.verdict = v;
        }
    }

    fn take(&mut self, f: Field<'_>, s: &Settings, c: &mut Counters, server: bool) -> Result<(), Verdict> {
        const INVALID: Verdict = Verdict::Malformed(details::INVALID_HEADER);
        self.bytes += f.name.len() + f.value.len();
        if self.bytes > s.max_headers_bytes as usize {
            c.header_list_size_too_large += 1;
            return Err(Verdict::Refused(details::HEADER_LIST_TOO_LARGE));
        }
        let first = f.name.first() == Some(&b':');
        if first {
            let bit = message::pseudo_bit(f.id);
            let known = match self.kind {
                Kind::Request => bit != 0 && f.id != name::STATUS,
                Kind::Response => f.id == name::STATUS,
                _ => false,
            };
            let allowed = f.id != name::PROTOCOL || s.enable_connect_protocol;
            let new = self.seen & bit == 0 && !self.regular;
            if !known || !allowed || !new || !message::is_pseudo_value(f.id, f.value) {
                return Err(INVALID);
            }
            self.seen |= bit;
            if f.id == name::STATUS {
                self.status = message::status(f.value).filter(|&s| s != 101).ok_or(INVALID)?;
                return Ok(());
            }
        } else {
            self.regular = true;
            if !message::is_name(&f)
                || !message::is_value(f.value)
                || message::is_connection_specific(f.id, f.value)
            {
                return Err(INVALID);
            }
            match f.id {
                name::COOKIE => {
                    // Each crumb counts as a header: thousands of them cost a byte each on the wire.
                    self.count(s, c)?;
                    if self.has_cookie {
                        self.cookie.extend_from_slice(b"; ");
                    }
                    self.has_cookie = true;
                    self.cookie.extend_from_slice(f.value);
                    return Ok(());
                }
                name::CONTENT_LENGTH if self.kind == Kind::Trailers => {
                    return Err(Verdict::Malformed(details::MESSAGING));
                }
                name::CONTENT_LENGTH => {
                    let n = message::content_length(f.value).ok_or(INVALID)?;
                    if self.length.replace(n).is_some() {
                        return Err(INVALID);
                    }
                }
                name::HOST if self.kind == Kind::Request => {
                    // `host` counts only when there is no `:authority`; two of them are never accepted.
                    let bit = message::pseudo_bit(name::AUTHORITY);
                    if std::mem::replace(&mut self.has_host, true) || !message::is_host(f.value) {
                        return Err(INVALID);
                    }
                    if self.seen & bit == 0 {
                        self.seen |= bit;
                        self.map.push_checked(name::AUTHORITY, f.value);
                        return self.count(s, c);
                    }
                    return Ok(());
                }
                _ if server && s.underscores != Underscores::Allow && f.name.contains(&b'_') => {
                    if s.underscores == Underscores::DropHeader {
                        c.dropped_headers_with_underscores += 1;
                        return Ok(());
                    }
                    c.requests_rejected_with_underscores_in_headers += 1;
                    return Err(Verdict::Refused(details::UNDERSCORE));
                }
                _ => {}
            }
        }
        self.map.push_checked(f, f.value);
        self.count(s, c)
    }

    fn count(&mut self, s: &Settings, c: &mut Counters) -> Result<(), Verdict> {
        self.fields += 1;
        if self.fields > s.max_headers_count {
            c.header_overflow += 1;
            return Err(Verdict::Refused(details::TOO_MANY_HEADERS));
        }
        Ok(())
    }
}

impl Connection {
    /// A HEADERS frame begins on a stream that was checked.
    pub(super) fn begin_block(&mut self, id: StreamId, kind: Kind, end_stream: bool) {
        if kind == Kind::Trailers && self.is_server() {
            self.counters.trailers += 1; // Envoy counts those of requests, good or bad
        }
        let mut cookie = std::mem::take(&mut self.block.cookie);
        cookie.clear();
        let map = if kind == Kind::Skip { HeaderMap::default() } else { HeaderMap::new() };
        self.block = Block { id, kind, end_stream, open: true, map, cookie, ..Block::default() };
    }

    /// The next fragment of the block; `end`: the last one, END_HEADERS was set.
    pub(super) fn fragment(&mut self, bytes: &[u8], end: bool) -> Result<Option<Event>, Fault> {
        let server = self.is_server();
        let Connection { decoder, block, settings, counters, .. } = self;
        block.wire += bytes.len();
        let limit = 4 * settings.max_headers_bytes as usize + 64 * 1024;
        if block.wire > limit || block.fragments > MAX_CONTINUATIONS {
            return Err(Fault::flood_of("Too many CONTINUATION frames following a HEADERS frame"));
        }
        let decoded = decoder.decode(bytes, end, |f| {
            block.field(f, settings, counters, server);
            !matches!(block.verdict, Verdict::Malformed(_)) || settings.stream_error_on_invalid_messaging
        });
        match decoded {
            Ok(()) | Err(DecodeError::Stopped) => {}
            Err(_) => {
                return Err(Fault::connection(
                    ErrorCode::COMPRESSION_ERROR,
                    "header block cannot be decoded",
                ));
            }
        }
        if end {
            self.block.open = false;
        }
        if let Some(event) = self.verdict()? {
            return Ok(Some(event));
        }
        if !end || self.block.kind == Kind::Skip {
            return Ok(None);
        }
        if let Err(why) = self.complete() {
            self.block.verdict = Verdict::Malformed(why);
            return self.verdict();
        }
        Ok(Some(self.head_event()))
    }

    /// What a bad block does, once.
    fn verdict(&mut self) -> Result<Option<Event>, Fault> {
        let (id, kind) = (self.block.id, self.block.kind);
        let (code, why) = match std::mem::take(&mut self.block.verdict) {
            Verdict::Fine => return Ok(None),
            Verdict::Refused(why) => (ErrorCode::INTERNAL_ERROR, why),
            Verdict::Malformed(why) => {
                self.counters.rx_messaging_error += 1;
                if !self.settings.stream_error_on_invalid_messaging {
                    let begun = kind == Kind::Request;
                    return Err(Fault::silent("malformed message").of_stream(id, why, begun));
                }
                (ErrorCode::PROTOCOL_ERROR, why)
            }
        };
        self.block.kind = Kind::Skip;
        self.block.map = HeaderMap::default();
        Ok(Some(self.stream_error(id, code, why, kind == Kind::Request)))
    }

    /// Checks the whole message; what it says about the stream's state is taken over.
    fn complete(&mut self) -> Result<(), &'static str> {
        let b = &mut self.block;
        if b.has_cookie {
            b.map.push_checked(name::COOKIE, &b.cookie);
        }
        let Some(s) = self.streams.get(b.id) else { return Ok(()) };
        match b.kind {
            Kind::Skip => return Ok(()),
            Kind::Request => {
                let get = |n| b.map.get(n).unwrap_or_default();
                if !message::is_request(b.seen, get(name::METHOD), get(name::PATH)) {
                    return Err(details::MESSAGING);
                }
                let tunnel = get(name::METHOD) == b"CONNECT";
                s.expect = b.length.filter(|_| !tunnel).unwrap_or(streams::ANY);
                s.set(GOT_HEAD);
            }
            Kind::Response => {
                if b.status == 0 || (b.status < 200 && b.end_stream) {
                    return Err(details::MESSAGING);
                }
                let tunnel = s.has(CONNECT) && b.status < 300;
                if b.status < 200 || b.status == 204 || tunnel {
                    // A content-length has no meaning here (RFC 9110 §8.6): Envoy refuses it with 1xx, and all but 0 with 204.
                    if !tunnel && b.length.is_some_and(|n| n > 0 || b.status < 200) {
                        return Err(details::INVALID_HEADER);
                    }
                    b.map.remove(name::CONTENT_LENGTH);
                }
                if b.status >= 200 {
                    s.set(GOT_HEAD);
                    s.expect = match b.length {
                        _ if tunnel => streams::ANY,
                        _ if s.has(HEAD_REQUEST) || b.status == 204 || b.status == 304 => 0,
                        length => length.unwrap_or(streams::ANY),
                    };
                }
            }
            Kind::Trailers => {
                if !b.end_stream {
                    return Err(details::MESSAGING);
                }
            }
        }
        if b.end_stream {
            if s.expect != streams::ANY && s.expect > 0 {
                return Err(details::MESSAGING);
            }
            s.set(RECV_END);
        }
        Ok(())
    }

    fn head_event(&mut self) -> Event {
        let (id, kind, end) = (self.block.id, self.block.kind, self.block.end_stream);
        let map = std::mem::take(&mut self.block.map);
        if self.block.cookie.capacity() > 4096 {
            self.block.cookie = Vec::new();
        }
        let token = self.token(id).unwrap_or_default();
        let event = match kind {
            Kind::Response => {
                let head = ResponseHead { status: self.block.status, headers: map, version: Version::Http2 };
                Event::Response { id, token, head, end }
            }
            Kind::Trailers => Event::Trailers { id, token, map },
            Kind::Request | Kind::Skip => {
                Event::Request { id, head: RequestHead { headers: map, version: Version::Http2 }, end }
            }
        };
        if end {
            self.settle(id);
        }
        event
    }
}

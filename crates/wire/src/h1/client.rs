//! One upstream connection.

use super::body::{BodyEvent, BodyReader, TrailerRules};
use super::encode::{self, BodyWriter, Delimit};
use super::error::{Cause, Eof, H1Error};
use super::fields::{FieldRules, decimal};
use super::response::{Asked, ResponseReader};
use super::settings::ClientSettings;
use super::{Upgrade, connection};
use crate::buf::{Chunk, OutBuf, ReadBuf};
use crate::head::{RequestHead, ResponseHead};
use crate::headers::HeaderMap;
use crate::name;
use std::sync::Arc;

/// A response head that was read to its end.
#[derive(Debug)]
pub struct ResponseStart {
    /// The head. `transfer-encoding` and `connection` are still there.
    pub head: ResponseHead,
    /// 1xx but 101: another head follows.
    pub informational: bool,
    /// A body may follow; false: the response is complete with its head.
    pub has_body: bool,
    /// Length of the body when it is declared (for HEAD and 304: what it would be).
    pub content_length: Option<u64>,
    /// 101 or CONNECT's 2xx: both directions are raw from here on.
    pub upgraded: bool,
    /// The upstream lets the connection be used again.
    pub keep_alive: bool,
    /// Size of the header lines as Envoy counts it: name, value and three bytes each.
    pub header_bytes: u32,
}

/// The client's side of a connection: requests out, responses in, in turn.
///
/// A turn is `write_head`, `write_data`, `write_end`, and in between or after it `read_head` (again after each
/// informational one), `read_body` until `End`. The next turn may begin when [`reusable`](Client::reusable) holds.
pub struct Client {
    settings: Arc<ClientSettings>,
    response: ResponseReader,
    body: BodyReader,
    writer: BodyWriter,
    asked: Asked,
    /// A request was begun whose final response head was not read.
    awaiting: bool,
    request_complete: bool,
    upgraded: bool,
    keep_alive: bool,
}

impl Client {
    /// A new connection.
    pub fn new(settings: Arc<ClientSettings>) -> Client {
        Client {
            settings,
            response: ResponseReader::default(),
            body: BodyReader::default(),
            writer: BodyWriter::default(),
            asked: Asked::default(),
            awaiting: false,
            request_complete: true,
            upgraded: false,
            keep_alive: true,
        }
    }

    /// The request's head; `end`: neither body nor trailers follow, and the request is complete.
    ///
    /// `:authority` is written as `host`, first. Framing: the declared `content-length`; with `end` a
    /// `content-length: 0` unless the method is one that has no body; else chunks. An upgrade and CONNECT are
    /// followed by raw bytes. `transfer-encoding` in the head is ignored.
    ///
    /// # Errors
    /// `:method`, `:path` or (for CONNECT) `:authority` is missing; nothing was written.
    pub fn write_head(&mut self, head: &RequestHead, end: bool, out: &mut OutBuf) -> Result<(), H1Error> {
        let headers = &head.headers;
        let method = head.method();
        let connect = head.is_connect();
        let authority = headers.get(name::AUTHORITY);
        let missing = || H1Error::upstream(Cause::Required);
        if !crate::chars::is_token(method) {
            return Err(missing());
        }
        let path = if connect { authority.ok_or_else(missing)? } else { head.path() };
        if path.is_empty() {
            return Err(missing());
        }
        let upgrade = match connect {
            true => Upgrade::Connect,
            false if connection::is_upgrade(headers) => Upgrade::Token,
            false => Upgrade::None,
        };
        let length = headers.get(name::CONTENT_LENGTH).and_then(decimal);
        let bodiless = matches!(method, b"GET" | b"HEAD" | b"DELETE" | b"TRACE" | b"CONNECT");
        let (delimit, add): (Delimit, Option<(name::Id, &[u8])>) = match length {
            _ if upgrade != Upgrade::None => (Delimit::Raw, None),
            Some(n) => (Delimit::Length(n), None),
            None if end && bodiless => (Delimit::None, None),
            None if end => (Delimit::None, Some((name::CONTENT_LENGTH, b"0"))),
            None => (Delimit::Chunked, Some((name::TRANSFER_ENCODING, b"chunked"))),
        };
        let case = self.settings.header_case.to_write(&head.headers);
        out.text(|t| {
            t.extend_from_slice(method);
            t.push(b' ');
            if self.settings.send_fully_qualified_url && !connect {
                encode::target(t, head.scheme());
                t.extend_from_slice(b"://");
                encode::target(t, head.authority());
            }
            encode::target(t, path);
            t.extend_from_slice(b" HTTP/1.1\r\n");
            let mut leave_out =
                const { encode::PSEUDO.without(name::AUTHORITY).with(name::TRANSFER_ENCODING) };
            if authority.is_some() {
                leave_out.insert(name::HOST);
            }
            if connect {
                leave_out.insert(name::CONTENT_LENGTH);
            }
            encode::fields(t, headers, case, &leave_out);
            if let Some((id, value)) = add {
                encode::own(t, case, id, value);
            }
            t.extend_from_slice(b"\r\n");
        });
        self.asked = Asked { head: head.is_head(), upgrade };
        (self.awaiting, self.request_complete) = (true, false);
        self.writer.start(delimit);
        if end && upgrade == Upgrade::None {
            self.write_end(None, out);
        }
        Ok(())
    }

    /// A piece of the request's body. What exceeds the declared length is dropped.
    pub fn write_data(&mut self, data: Chunk, out: &mut OutBuf) {
        self.writer.data(data, out);
    }

    /// The request is complete. Trailers go out with chunks and when enabled, else they are dropped.
    /// After an upgrade: the downstream's direction ended; shut the write side down.
    pub fn write_end(&mut self, trailers: Option<&HeaderMap>, out: &mut OutBuf) {
        self.writer.end(trailers.filter(|_| self.settings.enable_trailers), out);
        self.keep_alive &= !self.writer.broken;
        self.request_complete = true;
    }

    /// The next response head: informational ones first, each as an event of its own, then the final one.
    ///
    /// # Errors
    /// The stream is to be reset with "protocol error". Also when the upstream speaks unasked
    /// ([`Cause::Unasked`]): then the idle connection is to be closed.
    pub fn read_head(&mut self, buf: &mut ReadBuf) -> Result<Option<ResponseStart>, H1Error> {
        if !self.awaiting {
            return if self.body.is_done() && !buf.is_empty() {
                Err(self.fail(Cause::Unasked))
            } else {
                Ok(None)
            };
        }
        let read = self.response.read(buf, &self.settings, self.asked).map_err(|c| self.fail(c))?;
        let Some((start, framing)) = read else { return Ok(None) };
        if start.informational {
            return Ok(Some(start));
        }
        self.awaiting = false;
        self.upgraded = start.upgraded;
        self.keep_alive &= start.keep_alive;
        self.body.start(framing, false);
        if !start.has_body {
            self.ended(buf);
        }
        Ok(Some(start))
    }

    /// The next piece of the response's body; raw bytes after an upgrade.
    ///
    /// # Errors
    /// The stream is to be reset with "protocol error".
    pub fn read_body(&mut self, buf: &mut ReadBuf) -> Result<BodyEvent, H1Error> {
        if self.awaiting {
            return Ok(BodyEvent::NeedMore);
        }
        let s = &self.settings;
        let rules = TrailerRules {
            max_bytes: s.max_head_bytes,
            fields: FieldRules { max: s.max_headers, keep_case: s.header_case.keeps(), request: false },
            enabled: s.enable_trailers,
        };
        let event = self.body.read(buf, rules).map_err(|c| self.fail(c))?;
        if self.body.is_done() {
            self.ended(buf);
        }
        Ok(event)
    }

    /// The upstream ended its stream: says what that means now. After [`Eof::BodyEnd`] the body ends.
    ///
    /// # Errors
    /// It left in the middle of a response ("protocol error"); before its first byte it is [`Eof::Incomplete`]
    /// ("connection termination").
    pub fn read_eof(&mut self) -> Result<Eof, H1Error> {
        self.keep_alive = false;
        if self.awaiting {
            return if self.response.untouched() {
                Ok(Eof::Incomplete)
            } else {
                Err(self.fail(Cause::Truncated))
            };
        }
        match self.body.eof() {
            Eof::Incomplete => Err(self.fail(Cause::Truncated)),
            eof => Ok(eof),
        }
    }

    /// Another request may be sent: request and response are complete, and nothing speaks against it.
    pub fn reusable(&self) -> bool {
        self.keep_alive && self.request_complete && self.response_complete()
    }
    /// Do not send another request.
    pub fn close_after_response(&mut self) {
        self.keep_alive = false;
    }
    /// The request was written to its end.
    pub fn request_complete(&self) -> bool {
        self.request_complete
    }
    /// The response was read to its end (or none is awaited).
    pub fn response_complete(&self) -> bool {
        !self.awaiting && self.body.is_done()
    }
    /// Both directions are raw.
    pub fn upgraded(&self) -> bool {
        self.upgraded
    }
    #[cfg(test)]
    pub(super) fn work(&self) -> usize {
        self.response.work()
    }

    /// The request is a CONNECT.
    pub fn asks_for_tunnel(&self) -> bool {
        self.asked.upgrade == Upgrade::Connect
    }
    /// The response is complete: bytes behind it, or a request that is not, spoil the connection.
    fn ended(&mut self, buf: &ReadBuf) {
        self.keep_alive &= self.request_complete && buf.is_empty();
    }
    fn fail(&mut self, cause: Cause) -> H1Error {
        self.keep_alive = false;
        H1Error::upstream(cause)
    }
}

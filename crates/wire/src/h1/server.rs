//! One downstream connection.

use super::Upgrade;
use super::body::{BodyEvent, BodyReader, TrailerRules};
use super::chars::list_has;
use super::encode::{self, BodyWriter, Delimit};
use super::error::{Eof, H1Error};
use super::fields::{FieldRules, decimal};
use super::request::{RequestReader, RequestStart};
use super::settings::ServerSettings;
use crate::buf::{Chunk, OutBuf, ReadBuf};
use crate::head::{ResponseHead, Version};
use crate::headers::HeaderMap;
use crate::name::{self, IdSet};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Response {
    /// No head yet.
    Waiting,
    /// Head written.
    Body,
    /// Ended, or no request yet.
    Complete,
}

/// The server's side of a connection: requests in, responses out, in turn.
///
/// A turn is `read_head`, `read_body` until `End`, and in between or after it `write_head`, `write_data`,
/// `write_end`. The next turn begins when both the request and the response are complete and
/// [`keep_alive`](Server::keep_alive) holds; until then pipelined bytes stay in the buffer.
pub struct Server {
    settings: Arc<ServerSettings>,
    tls: bool,
    request: RequestReader,
    body: BodyReader,
    writer: BodyWriter,
    response: Response,
    version: Version,
    head_method: bool,
    upgrade: Upgrade,
    upgraded: bool,
    /// Decided by the requests and responses so far.
    keep_alive: bool,
    /// The next response is to be the last.
    close_next: bool,
    /// Responses say that the connection will close, though it still goes on.
    announce: bool,
}

impl Server {
    /// A new connection; `tls`: it is encrypted (then `https://` targets are taken).
    pub fn new(settings: Arc<ServerSettings>, tls: bool) -> Server {
        Server {
            settings,
            tls,
            request: RequestReader::default(),
            body: BodyReader::default(),
            writer: BodyWriter::default(),
            response: Response::Complete,
            version: Version::Http11,
            head_method: false,
            upgrade: Upgrade::None,
            upgraded: false,
            keep_alive: true,
            close_next: false,
            announce: false,
        }
    }

    /// The next request head. `Ok(None)`: more bytes are wanted, or the connection takes no further request
    /// (former one incomplete, closing, or upgraded).
    ///
    /// # Errors
    /// What is to be answered: with [`write_head`](Server::write_head), which adds `connection: close`.
    pub fn read_head(&mut self, buf: &mut ReadBuf) -> Result<Option<RequestStart>, H1Error> {
        if !self.is_idle() || !self.keep_alive {
            return Ok(None);
        }
        match self.request.read(buf, &self.settings, self.tls) {
            Ok(None) => Ok(None),
            Ok(Some((start, framing))) => {
                self.version = start.head.version;
                self.head_method = start.head.is_head();
                self.upgrade = start.upgrade;
                self.keep_alive = start.keep_alive;
                self.response = Response::Waiting;
                self.body.start(framing, start.upgrade != Upgrade::None);
                Ok(Some(start))
            }
            Err(e) => {
                self.give_up();
                Err(e)
            }
        }
    }

    /// The rest of the head that is being read is of no interest (it takes too long): what is written now answers it,
    /// as if it were an HTTP/1.1 GET, and is the last.
    pub fn give_up(&mut self) {
        (self.version, self.head_method, self.upgrade) = (Version::Http11, false, Upgrade::None);
        (self.keep_alive, self.response) = (false, Response::Waiting);
    }

    /// The next piece of the request's body. After an accepted upgrade, raw bytes up to
    /// [`read_eof`](Server::read_eof); while an upgrade is undecided, nothing.
    ///
    /// # Errors
    /// To be answered when no response head was written yet; the connection closes in any case.
    pub fn read_body(&mut self, buf: &mut ReadBuf) -> Result<BodyEvent, H1Error> {
        let s = &self.settings;
        let rules = TrailerRules {
            max_bytes: s.max_head_bytes,
            fields: FieldRules { max: s.max_headers, keep_case: s.header_case.keeps(), request: true },
            enabled: s.enable_trailers,
        };
        self.body.read(buf, rules).map_err(|c| {
            self.keep_alive = false;
            c.into()
        })
    }

    /// The client ended its stream: says what that means now. After [`Eof::BodyEnd`] the body ends.
    pub fn read_eof(&mut self) -> Eof {
        match (self.is_idle(), self.request.untouched()) {
            (true, true) => Eof::Idle,
            (true, false) => Eof::Incomplete,
            (false, _) if self.body.is_done() => Eof::Incomplete,
            (false, _) => self.body.eof(),
        }
    }

    /// A 1xx head before the response (100, 102, 103). Nothing is written once the response has begun.
    pub fn write_informational(&mut self, head: &ResponseHead, out: &mut OutBuf) {
        if self.response != Response::Waiting {
            return;
        }
        let http10 = self.writes_http10();
        let case = self.settings.header_case.to_write(&head.headers);
        out.text(|t| {
            encode::status_line(t, http10, head.status);
            const LEAVE_OUT: IdSet = encode::PSEUDO.with(name::TRANSFER_ENCODING).with(name::CONTENT_LENGTH);
            encode::fields(t, &head.headers, case, &LEAVE_OUT);
            t.extend_from_slice(b"\r\n");
        });
    }

    /// The response's head; `end`: neither body nor trailers follow, and the response is complete.
    ///
    /// Chooses the framing: no body for HEAD, 1xx, 204 and 304; the declared `content-length`; `content-length: 0`
    /// with `end`; else chunks, or the end of the connection for HTTP/1.0. A 101 that answers an upgrade and a 2xx
    /// that answers CONNECT make the connection raw; any other answer to those closes it. Writes
    /// `connection: close` when the connection will not go on, and `keep-alive` to an HTTP/1.0 client when it will;
    /// that header is in `head` then.
    pub fn write_head(&mut self, head: &mut ResponseHead, end: bool, out: &mut OutBuf) {
        let status = head.status;
        let case = self.settings.header_case.to_write(&head.headers);
        let accepted = match self.upgrade {
            Upgrade::None => false,
            Upgrade::Token => status == 101,
            Upgrade::Connect => (200..300).contains(&status),
        };
        let http10 = self.version == Version::Http10;
        let length = head.headers.get(name::CONTENT_LENGTH).and_then(decimal);
        let without_length = status < 200 || status == 204;
        let bodiless = self.head_method || without_length || status == 304;

        let (delimit, add) = if accepted {
            (Delimit::Raw, None)
        } else if bodiless {
            // Envoy tells HEAD what a GET would have got, as far as it knows.
            let chunked = self.head_method && length.is_none() && !without_length && status != 304 && !http10;
            (Delimit::None, chunked.then_some(Add::Chunked))
        } else if let Some(n) = length {
            (Delimit::Length(n), None)
        } else if end {
            (Delimit::None, Some(Add::LengthZero))
        } else if http10 {
            (Delimit::Raw, None)
        } else {
            (Delimit::Chunked, Some(Add::Chunked))
        };
        // What was sent ahead of a refused upgrade may have been meant for the other protocol: it stays unread.
        let refused = self.upgrade != Upgrade::None && !accepted;
        if accepted {
            self.body.decide(true);
        }
        let asks_close = head.headers.get(name::CONNECTION).is_some_and(|v| list_has(v, b"close"));
        self.keep_alive &= !refused
            && !self.close_next
            && !asks_close
            && self.body.is_done()
            && delimit != Delimit::Raw
            && status != 101;
        let connection: Option<&[u8]> = match (accepted, self.keep_alive && !self.announce) {
            (true, _) => None,
            (false, false) => Some(b"close"),
            (false, true) => http10.then_some(b"keep-alive"),
        };
        if let Some(c) = connection {
            head.headers.set(name::CONNECTION, c);
            head.headers.forget_written(name::CONNECTION); // it is ours now
        }

        out.text(|t| {
            encode::status_line(t, self.writes_http10(), status);
            let mut leave_out = const { encode::PSEUDO.with(name::TRANSFER_ENCODING) };
            if without_length || accepted {
                leave_out.insert(name::CONTENT_LENGTH);
            }
            encode::fields(t, &head.headers, case, &leave_out);
            match add {
                Some(Add::Chunked) => encode::own(t, case, name::TRANSFER_ENCODING, b"chunked"),
                Some(Add::LengthZero) => encode::own(t, case, name::CONTENT_LENGTH, b"0"),
                None => {}
            }
            t.extend_from_slice(b"\r\n");
        });
        self.upgraded = accepted;
        self.response = Response::Body;
        self.writer.start(delimit);
        if end && !accepted {
            self.write_end(None, out);
        }
    }

    /// A piece of the response's body. Dropped where there must be none; what exceeds the declared length too.
    pub fn write_data(&mut self, data: Chunk, out: &mut OutBuf) {
        self.writer.data(data, out);
    }

    /// The response is complete. Trailers go out with chunks and when enabled, else they are dropped.
    /// After an upgrade: the upstream's direction ended; shut the write side down.
    pub fn write_end(&mut self, trailers: Option<&HeaderMap>, out: &mut OutBuf) {
        self.writer.end(trailers.filter(|_| self.settings.enable_trailers), out);
        self.keep_alive &= !self.writer.broken;
        self.response = Response::Complete;
    }

    fn writes_http10(&self) -> bool {
        self.version == Version::Http10 && self.settings.accept_http_10
    }

    /// The connection may take another request after this response. False once the client, the response, a broken
    /// message or [`close_after_response`](Server::close_after_response) said otherwise, and after an upgrade.
    /// Before the response's head it is the intention; afterwards it is decided.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive && !self.close_next
    }
    /// Let the response whose head is written next be the last, and say so to the client. A request that
    /// arrives in between is still served.
    pub fn close_after_response(&mut self) {
        self.close_next = true;
    }
    /// True after [`close_after_response`](Server::close_after_response).
    pub fn closes_after_response(&self) -> bool {
        self.close_next
    }
    /// Let responses from now on say `connection: close`, but go on taking requests: the client may have sent one
    /// before it reads that (draining).
    pub fn announce_close(&mut self) {
        self.announce = true;
    }
    /// Bytes stay unread until the response decides about an upgrade: reading more from the socket would only fill
    /// the buffer.
    pub fn withholds(&self) -> bool {
        self.body.is_undecided()
    }
    /// The request was read to its end.
    pub fn request_complete(&self) -> bool {
        self.body.is_done()
    }
    /// The response's head was written.
    pub fn response_started(&self) -> bool {
        self.response != Response::Waiting
    }
    /// The response was written to its end.
    pub fn response_complete(&self) -> bool {
        self.response == Response::Complete
    }
    /// Both directions are raw.
    pub fn upgraded(&self) -> bool {
        self.upgraded
    }
    /// Between two requests (or before the first): neither a request nor a response is under way.
    pub fn is_idle(&self) -> bool {
        self.body.is_done() && self.response == Response::Complete
    }
    /// Some bytes of the next request's head were read.
    pub fn head_begun(&self) -> bool {
        self.is_idle() && !self.request.untouched()
    }
    #[cfg(test)]
    pub(super) fn work(&self) -> usize {
        self.request.work()
    }
}

/// What the codec adds to a head.
#[derive(Clone, Copy)]
enum Add {
    Chunked,
    LengthZero,
}

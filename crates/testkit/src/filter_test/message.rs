//! Requests and replies, as tests write them and read them.

use super::{FilterTest, upstream};
use nuncio_core::StreamShared;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_wire::{Chunk, HeaderMap, RequestHead, ResponseHead, Version, name};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A body and its trailers.
#[derive(Clone, Default, Debug)]
pub struct Payload {
    chunks: Vec<Vec<u8>>,
    trailers: Option<HeaderMap>,
    fails: bool,
}

impl Payload {
    /// A body that is pulled chunk by chunk, or none.
    pub(super) fn into_body(self) -> Body {
        let mut frames: VecDeque<_> =
            self.chunks.into_iter().map(|c| Ok(Frame::Data(Chunk::from(c)))).collect();
        frames.extend(self.trailers.map(|t| Ok(Frame::Trailers(Box::new(t)))));
        if self.fails {
            frames.push_back(Err(BodyError::Reset(nuncio_core::ResetReason::RemoteReset)));
        }
        if frames.is_empty() { Body::Empty } else { Body::source(Frames(frames)) }
    }
}

struct Frames(VecDeque<Result<Frame, BodyError>>);

impl BodySource for Frames {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        // Bodies from a network are not there at once: every frame is preceded by a wait.
        if self.0.front().is_some_and(|f| !matches!(f, Ok(Frame::Data(d)) if d.is_empty())) {
            self.0.push_front(Ok(Frame::Data(Chunk::default())));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0.pop_front();
        Poll::Ready(self.0.pop_front())
    }
    fn is_end(&self) -> bool {
        self.0.is_empty()
    }
}

macro_rules! payload_methods {
    () => {
        /// Adds a piece of the body.
        pub fn body(mut self, text: impl AsRef<[u8]>) -> Self {
            self.payload.chunks.extend(Some(text.as_ref().to_vec()).filter(|t| !t.is_empty()));
            self
        }
        /// Adds a trailer.
        pub fn trailer(mut self, name: &str, value: &str) -> Self {
            self.payload.trailers.get_or_insert_default().append(name, value.as_bytes());
            self
        }
        /// The body ends in a reset.
        pub fn reset(mut self) -> Self {
            self.payload.fails = true;
            self
        }
        /// Adds a header.
        pub fn header(mut self, name: &str, value: &str) -> Self {
            self.head.headers.append(name, value.as_bytes());
            self
        }
    };
}

/// What the upstream answers.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) head: ResponseHead,
    pub(super) payload: Payload,
    pub(super) host: Option<String>,
}

impl Reply {
    /// A reply without headers and body.
    pub fn new(status: u16) -> Reply {
        Reply { head: ResponseHead::new(status), payload: Payload::default(), host: None }
    }
    /// It comes from the host at this address.
    pub fn from_host(mut self, address: &str) -> Reply {
        self.host = Some(address.to_owned());
        self
    }
    payload_methods!();
}

/// A request to be sent.
pub struct Request<'a> {
    test: &'a FilterTest,
    pub(super) head: RequestHead,
    pub(super) payload: Payload,
}

impl<'a> Request<'a> {
    pub(super) fn new(test: &'a FilterTest, line: &str) -> Request<'a> {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let mut head = RequestHead { version: Version::Http11, ..Default::default() };
        let fixed: [(_, &str); 4] = [
            (name::METHOD, method),
            (name::PATH, path),
            (name::SCHEME, "http"),
            (name::AUTHORITY, "test.example"),
        ];
        for (n, v) in fixed {
            head.headers.append(n, v.as_bytes());
        }
        Request { test, head, payload: Payload::default() }
    }
    payload_methods!();
    /// Another authority.
    pub fn authority(mut self, authority: &str) -> Self {
        self.head.headers.set(name::AUTHORITY, authority.as_bytes());
        self
    }
    /// Sends it and waits for the end of the exchange.
    pub fn send(self) -> Seen {
        upstream::exchange(self.test, self.head, self.payload)
    }
}

/// What the upstream saw.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenRequest {
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: String,
    /// Trailers, if there were some.
    pub trailers: Option<HeaderMap>,
}

impl SeenRequest {
    /// A header; several are joined with a comma.
    pub fn header(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }
    /// `:path`
    pub fn path(&self) -> String {
        self.header(":path").unwrap_or_default()
    }
    /// A trailer.
    pub fn trailer(&self, name: &str) -> Option<String> {
        joined(self.trailers.as_ref()?, name)
    }
}

/// What came of an exchange.
#[derive(Clone)]
pub struct Seen {
    /// The request as the upstream saw it; none when it did not get there.
    pub upstream: Option<SeenRequest>,
    /// Status of the response; 0 when the stream was reset instead.
    pub status: u16,
    /// Headers of the response.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: String,
    /// Its trailers, if there were some.
    pub trailers: Option<HeaderMap>,
    /// The body of the response broke off.
    pub broken: bool,
    /// `%RESPONSE_CODE_DETAILS%`
    pub details: String,
    /// `%RESPONSE_FLAGS%`, `-` without any.
    pub flags: String,
    /// Everything else that is known of the stream.
    pub sx: Rc<StreamShared>,
}

impl Seen {
    /// The request as the upstream saw it.
    ///
    /// # Panics
    /// It did not get there.
    pub fn upstream(&self) -> &SeenRequest {
        self.upstream.as_ref().unwrap_or_else(|| {
            panic!("the request did not reach the upstream: {} {}", self.status, self.details)
        })
    }
    /// A header of the response; several are joined with a comma.
    pub fn header(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }
    /// A trailer of the response.
    pub fn trailer(&self, name: &str) -> Option<String> {
        joined(self.trailers.as_ref()?, name)
    }
}

fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).map(String::from_utf8_lossy).collect();
    (!values.is_empty()).then(|| values.join(","))
}

//! Bodies are pulled: whoever writes a body out asks for its next frame, and back-pressure is not asking.
//!
//! A filter that changes a body wraps it. Bodies that a connection carries are not boxed: they are the connection
//! itself plus a stream number ([`Body::Conn`]), so that a request passes without an allocation for its bodies.

use crate::error::ResetReason;
use crate::exchange::LocalReply;
use crate::info::StreamShared;
use nuncio_wire::{Chunk, HeaderMap};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A piece of a body: data, then perhaps trailers, then the end.
#[derive(Debug)]
pub enum Frame {
    /// Some bytes; never empty.
    Data(Chunk),
    /// Trailers; nothing follows them.
    Trailers(Box<HeaderMap>),
}

/// Why a body ended early.
#[derive(Debug)]
pub enum BodyError {
    /// The stream or its connection is gone.
    Reset(ResetReason),
    /// A filter wants the exchange answered by this instead (413, 400, …). After the response head has left it is a reset.
    Reply(Box<LocalReply>),
}

/// Something that yields a body.
pub trait BodySource {
    /// The next frame; `None` at the end. Not called again after `None` or an error.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>>;
    /// True when it is known that no frame follows.
    fn is_end(&self) -> bool {
        false
    }
}

/// A connection that carries bodies, each known by the number of its stream.
pub trait ConnBody {
    /// As [`BodySource::poll_frame`].
    fn poll_frame(
        &self,
        stream: u32,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>>;
    /// As [`BodySource::is_end`].
    fn is_end(&self, stream: u32) -> bool;
    /// The body was dropped; called once for each [`Body::Conn`], whether it was read to the end or not.
    fn abandon(&self, stream: u32);
}

/// A body.
#[derive(Default)]
pub enum Body {
    /// None at all.
    #[default]
    Empty,
    /// All of it.
    Full(Chunk),
    /// Pulled from a filter's wrapper.
    Source(Box<dyn BodySource>),
    /// Pulled from a connection.
    Conn(ConnHandle),
}

/// A connection's body; tells the connection when it is dropped.
pub struct ConnHandle {
    conn: Rc<dyn ConnBody>,
    stream: u32,
}

impl Drop for ConnHandle {
    fn drop(&mut self) {
        self.conn.abandon(self.stream);
    }
}

impl Body {
    /// The body of `stream` on `conn`.
    pub fn conn(conn: Rc<dyn ConnBody>, stream: u32) -> Body {
        Body::Conn(ConnHandle { conn, stream })
    }
    /// A body made of `source`.
    pub fn source(source: impl BodySource + 'static) -> Body {
        Body::Source(Box::new(source))
    }
    /// A whole body; empty content is no body.
    pub fn full(c: impl Into<Chunk>) -> Body {
        let c = c.into();
        if c.is_empty() { Body::Empty } else { Body::Full(c) }
    }
    /// Takes the body, leaving none.
    pub fn take(&mut self) -> Body {
        std::mem::take(self)
    }
    /// True when it is known that no frame follows.
    pub fn is_end(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(c) => c.is_empty(),
            Body::Source(s) => s.is_end(),
            Body::Conn(h) => h.conn.is_end(h.stream),
        }
    }
    /// The number of bytes, when the whole body is at hand.
    pub fn known_len(&self) -> Option<usize> {
        match self {
            Body::Empty => Some(0),
            Body::Full(c) => Some(c.len()),
            _ => None,
        }
    }
    /// The next frame; `None` at the end, and ever after.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let r = match self {
            Body::Empty => return Poll::Ready(None),
            Body::Full(c) => {
                let c = std::mem::take(c);
                *self = Body::Empty;
                return Poll::Ready((!c.is_empty()).then_some(Ok(Frame::Data(c))));
            }
            Body::Source(s) => s.poll_frame(cx, sx),
            Body::Conn(h) => h.conn.poll_frame(h.stream, cx, sx),
        };
        if let Poll::Ready(None | Some(Err(_))) = r {
            *self = Body::Empty;
        }
        r
    }
    /// The next frame, as a future.
    pub async fn frame(&mut self, sx: &StreamShared) -> Option<Result<Frame, BodyError>> {
        poll_fn(|cx| self.poll_frame(cx, sx)).await
    }
    /// Reads up to the end and puts the whole body back, so that others can still pull it. Says how many bytes it has.
    ///
    /// # Errors
    /// [`BufferError::TooLarge`] when more than `limit` bytes come (what came is lost), or the body's own error.
    pub async fn buffer(&mut self, limit: usize, sx: &StreamShared) -> Result<usize, BufferError> {
        if let Some(n) = self.known_len() {
            return if n > limit { Err(BufferError::TooLarge) } else { Ok(n) };
        }
        let (mut all, mut trailers) = (Vec::new(), None);
        while let Some(f) = self.frame(sx).await {
            match f.map_err(BufferError::Body)? {
                Frame::Data(c) if all.len() + c.len() > limit => return Err(BufferError::TooLarge),
                Frame::Data(c) => all.extend_from_slice(&c),
                Frame::Trailers(t) => trailers = Some(t),
            }
        }
        let len = all.len();
        *self = match trailers {
            None => Body::full(all),
            Some(t) => Body::source(Buffered { data: Chunk::from(all), trailers: Some(t) }),
        };
        Ok(len)
    }
}

/// Why [`Body::buffer`] gave up.
#[derive(Debug)]
pub enum BufferError {
    /// The limit was passed.
    TooLarge,
    /// The body failed.
    Body(BodyError),
}

/// A whole body with trailers.
struct Buffered {
    data: Chunk,
    trailers: Option<Box<HeaderMap>>,
}

impl BodySource for Buffered {
    fn poll_frame(
        &mut self,
        _: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::Data(std::mem::take(&mut self.data)))));
        }
        Poll::Ready(self.trailers.take().map(|t| Ok(Frame::Trailers(t))))
    }
    fn is_end(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Empty => f.write_str("Empty"),
            Body::Full(c) => write!(f, "Full({} bytes)", c.len()),
            Body::Source(_) => f.write_str("Source"),
            Body::Conn(h) => write!(f, "Conn({})", h.stream),
        }
    }
}

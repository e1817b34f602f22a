//! An HTTP connection for checks: one request after the other, without pool, breakers and stats of requests.

use crate::io::Io;
use crate::mux::{End, Incoming, Mux};
use crate::stats::{ClusterStats, Http2Stats, count_http2};
use nuncio_core::body::Frame;
use nuncio_wire::h1::{BodyEvent, Client, ClientSettings, Eof};
use nuncio_wire::h2::{self, Connection, ErrorCode};
use nuncio_wire::{Chunk, HeaderMap, OutBuf, ReadBuf, RequestHead, ResponseHead};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The connection has ended, or what came on it makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended;

/// A response that is complete.
pub struct Answer {
    pub head: ResponseHead,
    /// The beginning of its body.
    pub body: Vec<u8>,
    pub trailers: Option<Box<HeaderMap>>,
    /// The connection cannot be used again.
    pub close: bool,
}

/// What connections count by.
#[derive(Clone)]
pub struct ConnStats {
    pub cluster: ClusterStats,
    pub http2: Option<Http2Stats>,
}

/// True for the head of a response of which nothing more is wanted; also whether it is all of it.
pub type Enough = fn(&ResponseHead, bool) -> bool;

/// A connection.
pub enum HttpConn {
    H1(Box<H1>),
    H2(Box<H2>),
}

/// HTTP/1.
pub struct H1 {
    io: Io,
    codec: Client,
    read: ReadBuf,
    out: OutBuf,
    head: Option<ResponseHead>,
    body: Vec<u8>,
    keep_alive: bool,
    ended: bool,
    stats: ConnStats,
}

/// HTTP/2; whoever waits for something drives it.
pub struct H2 {
    mux: Mux,
    leaving: bool,
    stats: ConnStats,
}

/// Takes what a peer says out of turn. Ready when it has closed, or says too much.
pub fn poll_discard(cx: &mut Context<'_>, io: &mut Io, read: &mut ReadBuf) -> Poll<()> {
    match io.poll_read(cx, read) {
        // Whatever it is: it answers nothing.
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    }
}

impl HttpConn {
    /// HTTP/1 on a connection just made.
    pub fn h1(io: Io, settings: Arc<ClientSettings>, stats: ConnStats) -> HttpConn {
        HttpConn::H1(Box::new(H1 {
            io,
            codec: Client::new(settings),
            read: ReadBuf::new(),
            out: OutBuf::new(),
            head: None,
            body: vec![],
            keep_alive: true,
            ended: false,
            stats,
        }))
    }
    /// HTTP/2 on a connection just made.
    pub fn h2(io: Io, settings: Arc<h2::Settings>, stats: ConnStats) -> HttpConn {
        stats.http2.iter().for_each(|s| s.nghttp2_upstream_connections().inc());
        let mux = Mux::new(io, ReadBuf::new(), Connection::client(settings), true);
        HttpConn::H2(Box::new(H2 { mux, leaving: false, stats }))
    }
    /// Sends a request and waits for all of its response, of whose body the first `keep` bytes are kept.
    pub async fn ask(
        &mut self,
        head: &RequestHead,
        body: Chunk,
        keep: usize,
        enough: Enough,
    ) -> Result<Answer, Ended> {
        match self {
            HttpConn::H1(c) => {
                c.send(head, body)?;
                poll_fn(|cx| c.poll(cx, keep)).await
            }
            HttpConn::H2(c) => c.ask(head, body, keep, enough).await,
        }
    }
    /// Between requests. Ready when the connection is of no more use.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            HttpConn::H1(c) => poll_discard(cx, &mut c.io, &mut c.read),
            HttpConn::H2(c) => match c.poll(cx) {
                Poll::Pending if !c.leaving => Poll::Pending,
                _ => Poll::Ready(()),
            },
        }
    }
}

impl H1 {
    fn send(&mut self, head: &RequestHead, body: Chunk) -> Result<(), Ended> {
        (self.head, self.body) = (None, vec![]);
        self.codec.write_head(head, body.is_empty(), &mut self.out).map_err(|_| Ended)?;
        if !body.is_empty() {
            self.codec.write_data(body, &mut self.out);
            self.codec.write_end(None, &mut self.out);
        }
        Ok(())
    }
    fn poll(&mut self, cx: &mut Context<'_>, keep: usize) -> Poll<Result<Answer, Ended>> {
        if let Poll::Ready(Err(_)) = self.io.poll_write(cx, &mut self.out) {
            return Poll::Ready(Err(Ended));
        }
        loop {
            if let Some(done) = self.parse(keep).transpose() {
                if done.is_err() {
                    self.stats.cluster.upstream_cx_protocol_error().inc();
                }
                return Poll::Ready(done);
            }
            match ready!(self.io.poll_read(cx, &mut self.read)) {
                Ok(0) | Err(_) => match self.codec.read_eof() {
                    Ok(Eof::BodyEnd) if self.head.is_some() => self.ended = true,
                    _ => return Poll::Ready(Err(Ended)),
                },
                Ok(_) => {}
            }
        }
    }
    /// `None`: more has to be read.
    fn parse(&mut self, keep: usize) -> Result<Option<Answer>, Ended> {
        while self.head.is_none() {
            let Some(start) = self.codec.read_head(&mut self.read).map_err(|_| Ended)? else {
                return Ok(None);
            };
            if start.informational {
                continue;
            }
            self.keep_alive = start.keep_alive && !start.upgraded;
            if start.upgraded || !start.has_body {
                return Ok(Some(self.answer(start.head)));
            }
            self.head = Some(start.head);
        }
        loop {
            match self.codec.read_body(&mut self.read).map_err(|_| Ended)? {
                BodyEvent::Data(c) => append(&mut self.body, &c, keep),
                BodyEvent::Trailers(_) => {}
                BodyEvent::End => return Ok(self.head.take().map(|head| self.answer(head))),
                BodyEvent::NeedMore => return Ok(None),
            }
        }
    }
    fn answer(&mut self, head: ResponseHead) -> Answer {
        let again = self.keep_alive && !self.ended && self.read.is_empty() && self.out.is_empty();
        let close = !(again && self.codec.reusable());
        Answer { head, body: std::mem::take(&mut self.body), trailers: None, close }
    }
}

fn append(body: &mut Vec<u8>, data: &[u8], keep: usize) {
    let n = data.len().min(keep.saturating_sub(body.len()));
    body.extend_from_slice(&data[..n]);
}

impl H2 {
    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let H2 { mux, leaving, stats } = self;
        let end = mux.poll(cx, &mut |i| {
            if let Incoming::GoAway = i {
                *leaving = true;
            }
        });
        if let Some(s) = &stats.http2 {
            count_http2(s, &mux.codec(Connection::take_counters));
        }
        end.map(|end| {
            if let End::Protocol(_) = end {
                stats.cluster.upstream_cx_protocol_error().inc();
            }
        })
    }
    async fn ask(
        &mut self,
        head: &RequestHead,
        body: Chunk,
        keep: usize,
        enough: Enough,
    ) -> Result<Answer, Ended> {
        let slot = self.mux.open(head, body.is_empty()).map_err(|_| Ended)?;
        if !body.is_empty() {
            self.mux.send_data(slot, body, true);
        }
        let answer = self.answer(slot, keep, enough).await;
        self.mux.release(slot, ErrorCode::INTERNAL_ERROR);
        // What that makes us say leaves at once.
        poll_fn(|cx| {
            let _ = self.poll(cx); // whether it has ended is asked below
            Poll::Ready(())
        })
        .await;
        answer.map(|a| Answer { close: self.leaving || self.mux.is_closed(), ..a })
    }
    async fn answer(&mut self, slot: u32, keep: usize, enough: Enough) -> Result<Answer, Ended> {
        let (head, mut end) = loop {
            let head = poll_fn(|cx| {
                let _ = self.poll(cx); // its end resets the stream
                self.mux.poll_head(slot, cx)
            });
            let (head, end) = head.await.map_err(|_| Ended)?;
            if !head.is_informational() {
                let end = end || enough(&head, end);
                break (head, end);
            }
        };
        let (mut body, mut trailers) = (vec![], None);
        while !end {
            let frame = poll_fn(|cx| {
                let _ = self.poll(cx); // as above
                self.mux.poll_frame(slot, cx)
            });
            match frame.await {
                Some(Ok(Frame::Data(c))) => append(&mut body, &c, keep),
                Some(Ok(Frame::Trailers(t))) => trailers = Some(t),
                Some(Err(_)) => return Err(Ended),
                None => end = true,
            }
        }
        Ok(Answer { head, body, trailers, close: false })
    }
}

//! Messages in both directions.

use super::frame::{self, Decoder};
use super::google::{self, Channel};
use super::{Status, code, status};
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::error::ResetReason;
use crate::exchange::grpc_status_of;
use crate::info::StreamShared;
use crate::upstreams::{Answer, Call, CallError};
use bytes::Bytes;
use nuncio_wire::{Chunk, HeaderMap};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

/// So many bytes may wait to be sent before [`Sender::is_full`] says so (Envoy's watermark: the initial window of HTTP/2).
const HIGH_WATERMARK: usize = 64 * 1024;

/// A call with messages in both directions. Dropping it resets the call.
///
/// What was sent leaves while the receiver is polled: wait for messages also where none are expected.
pub struct Stream {
    /// What we say.
    pub sender: Sender,
    /// What we hear.
    pub receiver: Receiver,
}

/// The sending direction.
pub struct Sender(Rc<RefCell<Outbox>>);

#[derive(Default)]
struct Outbox {
    queue: VecDeque<Chunk>,
    bytes: usize,
    /// So many bytes may wait.
    most: usize,
    /// Longest message, in bytes, when there is a limit.
    longest: Option<u32>,
    /// No more will come.
    ended: bool,
    /// Nobody takes it any more.
    closed: bool,
    /// Who takes it.
    taker: Option<Waker>,
    /// Who waits for room.
    waiting: Option<Waker>,
}

impl Sender {
    /// `limits`: how many bytes may wait, and the longest message, when the configuration says so.
    pub(super) fn new(limits: Option<(usize, Option<u32>)>) -> (Sender, Body) {
        let (most, longest) = limits.unwrap_or((HIGH_WATERMARK, None));
        let outbox = Rc::new(RefCell::new(Outbox { most, longest, ..Outbox::default() }));
        (Sender(outbox.clone()), Body::source(Outgoing(outbox)))
    }
    /// Sends a message that is encoded already; it waits its turn here. False when the call is over: nobody will hear it.
    pub fn send(&self, message: impl Into<Bytes>) -> bool {
        let message: Bytes = message.into();
        let Ok(len) = u32::try_from(message.len()) else { return false };
        let mut o = self.0.borrow_mut();
        if o.closed || o.ended || o.longest.is_some_and(|most| len > most) {
            return false;
        }
        o.bytes += frame::HEAD + message.len();
        o.queue.push_back(frame::head(len).to_vec().into());
        if !message.is_empty() {
            o.queue.push_back(message.into());
        }
        let taker = o.taker.take();
        drop(o);
        taker.into_iter().for_each(Waker::wake);
        true
    }
    /// Sends a message.
    pub fn send_message(&self, message: &impl prost::Message) -> bool {
        self.send(message.encode_to_vec())
    }
    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        self.0.borrow().bytes
    }
    /// So much waits already that it is better not to send more now.
    pub fn is_full(&self) -> bool {
        let o = self.0.borrow();
        o.bytes > o.most
    }
    /// Waits until it is not full any more, or the call is over. One waits at a time.
    pub async fn room(&self) {
        poll_fn(|cx| {
            let mut o = self.0.borrow_mut();
            if o.closed || o.bytes <= o.most {
                return Poll::Ready(());
            }
            o.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
    /// Ends our direction; the other one goes on.
    pub fn end(&self) {
        let mut o = self.0.borrow_mut();
        o.ended = true;
        let taker = o.taker.take();
        drop(o);
        taker.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is sent, as the request's body.
struct Outgoing(Rc<RefCell<Outbox>>);

impl BodySource for Outgoing {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut o = self.0.borrow_mut();
        let Some(c) = o.queue.pop_front() else {
            if o.ended {
                return Poll::Ready(None);
            }
            o.taker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        o.bytes -= c.len();
        let waiting = if o.bytes <= o.most { o.waiting.take() } else { None };
        drop(o);
        waiting.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(Ok(Frame::Data(c))))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut o = self.0.borrow_mut();
        o.closed = true;
        (o.queue, o.bytes) = Default::default();
        let waiting = o.waiting.take();
        drop(o);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The receiving direction. Messages are read from the connection only when somebody asks for them: not asking is
/// back-pressure.
pub struct Receiver {
    state: State,
    decoder: Decoder,
    /// What is different for `google_grpc`.
    channel: Option<Arc<Channel>>,
}

enum State {
    Calling(Call),
    Open(Answer),
    Over(Status),
}

impl Receiver {
    pub(super) fn new(call: Call, limit: u32, channel: Option<Arc<Channel>>) -> Receiver {
        channel.iter().for_each(|c| c.stats.begin());
        Receiver { state: State::Calling(call), decoder: Decoder::new(limit), channel }
    }
    /// The next message.
    ///
    /// # Errors
    /// There is none: the call is over, with this status, which may be OK. It stays so.
    pub async fn message(&mut self) -> Result<Bytes, Status> {
        poll_fn(|cx| self.poll_message(cx)).await
    }
    /// As [`message`](Self::message).
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let google = self.channel.is_some();
        let described = |end: Status, sx: &StreamShared| match google {
            true => end,
            false => end.with_details(&details(sx)),
        };
        let end = loop {
            match &mut self.state {
                State::Over(s) => return Poll::Ready(Err(s.clone())),
                State::Calling(call) => match ready!(call.as_mut().poll(cx)) {
                    // The library says so of every call without a response, whatever the reason.
                    Ok(answer) if google && !answer.sx.info.flags.get().is_empty() => {
                        break Status::new(code::INTERNAL, "");
                    }
                    Ok(answer) => match head(&answer) {
                        Some(end) => break described(end, &answer.sx),
                        None => self.state = State::Open(answer),
                    },
                    Err(_) if google => break Status::new(code::INTERNAL, ""),
                    Err(CallError::NoCluster) => {
                        break Status::new(code::UNAVAILABLE, "Cluster not available");
                    }
                    Err(CallError::Reset(r)) => break Status::new(code::INTERNAL, reset_details(r)),
                },
                State::Open(answer) => match self.decoder.message() {
                    Ok(Some(message)) => return Poll::Ready(Ok(message)),
                    Err(e) => break described(e, &answer.sx),
                    Ok(None) => {
                        let end = match ready!(answer.body.poll_frame(cx, &answer.sx)) {
                            Some(Ok(Frame::Data(piece))) => {
                                self.decoder.push(&piece);
                                continue;
                            }
                            Some(Ok(Frame::Trailers(t))) => Status::of(&t),
                            None => Status::new(code::UNKNOWN, ""),
                            Some(Err(BodyError::Reset(r))) if google => break google::cut_off(r),
                            Some(Err(BodyError::Reset(r))) => {
                                break Status::new(code::INTERNAL, reset_details(r));
                            }
                            Some(Err(BodyError::Reply(r))) => Status::new(grpc_status_of(r.status), ""),
                        };
                        break described(end, &answer.sx);
                    }
                },
            }
        };
        self.channel.iter().for_each(|c| c.stats.end(end.code));
        // The call goes: what is left of it is reset.
        self.state = State::Over(end.clone());
        self.decoder = Decoder::new(0);
        Poll::Ready(Err(end))
    }
    /// The call is over.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }
    /// Headers of the response, once they are there and until the call is over.
    pub fn headers(&self) -> Option<&HeaderMap> {
        match &self.state {
            State::Open(a) => Some(&a.head.headers),
            _ => None,
        }
    }
}

/// How the call ended, when the head says so.
fn head(a: &Answer) -> Option<Status> {
    let end = a.body.is_end();
    match (a.head.status, end && status::number(&a.head.headers).is_some()) {
        (_, true) => Some(Status::of(&a.head.headers)),
        (200, false) if end => Some(Status::of(&a.head.headers)),
        (200, false) => None,
        // Status codes of HTTP stand for those of gRPC (grpc/doc/http-grpc-status-mapping.md).
        (http, false) => Some(Status::new(grpc_status_of(http), "")),
    }
}

fn details(sx: &StreamShared) -> String {
    sx.info.details.borrow().clone().into_owned()
}

/// The router's details of a response that was cut off.
fn reset_details(r: ResetReason) -> String {
    format!("upstream_reset_after_response_started{{{}}}", r.text().replace(' ', "_"))
}

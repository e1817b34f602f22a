use super::frame::Decoder;
use super::*;
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::error::ResetReason;
use crate::info::{ConnInfo, ListenerInfo, StreamShared};
use crate::upstreams::{Answer, Call, CallError};
use nuncio_wire::{Chunk, HeaderMap, ResponseHead};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn framed(message: &[u8]) -> Vec<u8> {
    [&frame::head(message.len() as u32)[..], message].concat()
}

fn sx() -> Rc<StreamShared> {
    let a = || crate::address::Address::Internal("a".into(), "".into());
    StreamShared::new(Rc::new(ConnInfo::new(0, Arc::new(ListenerInfo::default()), a(), a())), None)
}

/// Frames that were prepared; an `Err` is a reset.
struct Script(VecDeque<Result<Frame, ResetReason>>);
impl BodySource for Script {
    fn poll_frame(
        &mut self,
        _: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(|r| r.map_err(BodyError::Reset)))
    }
    fn is_end(&self) -> bool {
        self.0.is_empty()
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
    ResponseHead { status, headers: headers.iter().copied().collect(), ..Default::default() }
}
fn data(bytes: &[u8]) -> Result<Frame, ResetReason> {
    Ok(Frame::Data(Chunk::from(bytes.to_vec())))
}
fn trailers(all: &[(&str, &str)]) -> Result<Frame, ResetReason> {
    Ok(Frame::Trailers(Box::new(all.iter().copied().collect::<HeaderMap>())))
}

/// All messages of an answer, and how it ended.
fn hear(
    details: &'static str,
    head: ResponseHead,
    body: Vec<Result<Frame, ResetReason>>,
) -> (Vec<Vec<u8>>, Status) {
    let sx = sx();
    sx.info.set_details(details);
    let answer = Answer { head, body: Body::source(Script(body.into())), sx };
    hear_call(Box::pin(async { Ok(answer) }))
}
fn hear_call(call: Call) -> (Vec<Vec<u8>>, Status) {
    let mut r = Receiver::new(call, 100, None);
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = vec![];
    loop {
        match r.poll_message(&mut cx) {
            Poll::Ready(Ok(m)) => all.push(m.to_vec()),
            Poll::Ready(Err(s)) => {
                assert!(r.is_over());
                assert_eq!(r.poll_message(&mut cx), Poll::Ready(Err(s.clone())), "the end stays");
                return (all, s);
            }
            Poll::Pending => panic!("nothing is waited for"),
        }
    }
}

#[test]
fn messages_however_they_are_cut() {
    let wire = [framed(b"one"), framed(b""), framed(&[7; 90])].concat();
    for size in 1..wire.len() {
        let mut d = Decoder::new(100);
        let mut got = vec![];
        for piece in wire.chunks(size) {
            d.push(piece);
            while let Some(m) = d.message().expect("good frames") {
                got.push(m.to_vec());
            }
        }
        assert_eq!(got, [b"one".to_vec(), vec![], vec![7; 90]], "{size}");
    }
}

#[test]
fn long_and_compressed_messages_are_refused_by_their_head() {
    let mut d = Decoder::new(100);
    d.push(&frame::head(101));
    assert_eq!(d.message().expect_err("too long").code, code::RESOURCE_EXHAUSTED);
    let mut d = Decoder::new(100);
    d.push(&[1, 0, 0, 0, 1]);
    assert_eq!(d.message().expect_err("compressed").code, code::INTERNAL);
}

#[test]
fn trailers_say_how_it_ended() {
    let ok = head(200, &[("content-type", "application/grpc")]);
    let end = trailers(&[("grpc-status", "5"), ("grpc-message", "no %22such%22 thing%zz")]);
    let (all, s) = hear("via_upstream", ok.clone(), vec![data(&framed(b"a")), data(&framed(b"b")), end]);
    assert_eq!(all, [b"a", b"b"]);
    assert_eq!(s, Status::new(5, "no \"such\" thing%zz{via_upstream}"));
    let (_, s) = hear("via_upstream", ok.clone(), vec![trailers(&[("grpc-status", "0")])]);
    assert_eq!(s, Status::new(0, "via_upstream"));
    // No number, no trailers, a connection that ends.
    assert_eq!(hear("", ok.clone(), vec![trailers(&[("a", "b")])]).1, Status::new(code::UNKNOWN, ""));
    assert_eq!(hear("", ok.clone(), vec![data(&framed(b"a"))]).1, Status::new(code::UNKNOWN, ""));
    let (all, s) = hear("", ok, vec![data(&framed(b"a")), Err(ResetReason::ConnectionTermination)]);
    assert_eq!((all.len(), s.code), (1, code::INTERNAL));
    assert_eq!(s.message, "upstream_reset_after_response_started{connection_termination}");
}

#[test]
fn a_head_alone_says_how_it_ended() {
    let only = |status, headers: &[(&str, &str)]| hear("", head(status, headers), vec![]).1;
    assert_eq!(only(200, &[("grpc-status", "7"), ("grpc-message", "go")]), Status::new(7, "go"));
    assert_eq!(only(200, &[]), Status::new(code::UNKNOWN, ""));
    assert_eq!(only(503, &[("grpc-status", "3")]), Status::new(3, ""));
    for (http, grpc) in [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (500, 2)]
    {
        assert_eq!(only(http, &[]).code, grpc, "{http}");
    }
    // A body after an error says nothing, not even with a status in the head.
    let body = vec![data(&framed(b"a"))];
    assert_eq!(hear("", head(503, &[("grpc-status", "3")]), body).1, Status::new(code::UNAVAILABLE, ""));
}

#[test]
fn a_cluster_that_is_not_there() {
    let (_, s) = hear_call(Box::pin(async { Err(CallError::NoCluster) }));
    assert_eq!(s, Status::new(code::UNAVAILABLE, "Cluster not available"));
}

#[test]
fn what_is_sent_is_framed_and_waits_its_turn() {
    let (tx, mut body) = Sender::new(None);
    let (sx, mut cx) = (sx(), Context::from_waker(Waker::noop()));
    assert!(body.poll_frame(&mut cx, &sx).is_pending());
    assert!(tx.send(&b"abc"[..]) && tx.send(&b""[..]));
    assert_eq!(tx.queued(), 13);
    tx.end();
    assert!(!tx.send(&b"late"[..]));
    let mut all = vec![];
    while let Poll::Ready(Some(Ok(Frame::Data(c)))) = body.poll_frame(&mut cx, &sx) {
        all.extend_from_slice(&c);
    }
    assert_eq!(all, [framed(b"abc"), framed(b"")].concat());
    assert!(matches!(body.poll_frame(&mut cx, &sx), Poll::Ready(None)));
}

#[test]
fn a_sender_is_told_when_there_is_room_and_when_nobody_listens() {
    let (tx, mut body) = Sender::new(None);
    let (sx, mut cx) = (sx(), Context::from_waker(Waker::noop()));
    assert!(tx.send(vec![0; 70_000]));
    assert!(tx.is_full());
    let mut room = std::pin::pin!(tx.room());
    assert!(room.as_mut().poll(&mut cx).is_pending());
    assert!(body.poll_frame(&mut cx, &sx).is_ready() && body.poll_frame(&mut cx, &sx).is_ready());
    assert!(room.as_mut().poll(&mut cx).is_ready() && !tx.is_full());
    drop(body);
    assert!(!tx.send(&b"x"[..]), "the call is over");
    assert_eq!(tx.queued(), 0);
}

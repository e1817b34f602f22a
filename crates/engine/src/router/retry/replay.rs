//! The body of a request that may be sent more than once: what has been read of it is kept, up to a limit.

use crate::stats::ClusterStats;
use nuncio_core::LocalReply;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::clock::{Sleep, TimerKind};
use nuncio_core::info::{Interrupt, StreamShared};
use nuncio_wire::{Chunk, HeaderMap};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Pieces below this size are copied, so that they do not hold the block they were read into.
const SMALL: usize = 2048;
/// As many pieces are put into one when they are small: a peer chooses their size.
const PIECES: usize = 64;

/// A body that can be read from its beginning more than once.
pub struct Replay {
    /// Who counts that too much came.
    stats: Option<ClusterStats>,
    inner: RefCell<Inner>,
    /// Number of the attempt that reads; what earlier ones left behind has ended.
    turn: Cell<u32>,
    /// Something was read that is kept no more: the request cannot be sent again.
    spent: Cell<bool>,
}

struct Inner {
    /// What was read; as far as `next` it was handed to the present reader.
    kept: VecDeque<Chunk>,
    next: usize,
    /// Pieces that were looked at, whether they are small.
    merged: usize,
    bytes: usize,
    trailers: Option<Box<HeaderMap>>,
    trailers_handed: bool,
    rest: Body,
    keep: bool,
    limit: usize,
}

impl Replay {
    /// Keeps up to `limit` bytes of `body`.
    pub fn new(body: Body, limit: usize, stats: ClusterStats) -> Rc<Replay> {
        Replay::with(body, limit, Some(stats))
    }
    /// The same; nobody counts when more came.
    pub fn unaccounted(body: Body, limit: usize) -> Rc<Replay> {
        Replay::with(body, limit, None)
    }
    fn with(body: Body, limit: usize, stats: Option<ClusterStats>) -> Rc<Replay> {
        let inner = Inner {
            kept: VecDeque::new(),
            next: 0,
            merged: 0,
            bytes: 0,
            trailers: None,
            trailers_handed: false,
            rest: body,
            keep: true,
            limit,
        };
        Rc::new(Replay { stats, inner: RefCell::new(inner), turn: Cell::new(0), spent: Cell::new(false) })
    }
    /// The body from its beginning, for the next attempt.
    pub fn reader(self: &Rc<Replay>) -> Body {
        self.turn.set(self.turn.get() + 1);
        let mut i = self.inner.borrow_mut();
        (i.next, i.trailers_handed) = (0, false);
        Body::source(Reader(self.clone()))
    }
    /// All data of a body that was read to its end, for another exchange.
    pub fn whole(&self) -> Body {
        let i = self.inner.borrow();
        let mut all = Vec::with_capacity(i.bytes);
        i.kept.iter().for_each(|c| all.extend_from_slice(c));
        Body::full(all)
    }
    /// The attempt that reads is given up.
    pub fn leave(&self) {
        self.turn.set(self.turn.get() + 1);
    }
    /// Number of the attempt that reads.
    pub fn turn(&self) -> u32 {
        self.turn.get()
    }
    /// More came than may be kept.
    pub fn is_spent(&self) -> bool {
        self.spent.get()
    }
    /// The request will not be sent again: what was handed out is kept no more.
    pub fn release(&self) {
        self.inner.borrow_mut().release();
    }
    /// Waits `after`, and meanwhile takes in what arrives.
    ///
    /// # Errors
    /// More came than may be kept, and no host is there to take it.
    pub async fn pause(&self, mut after: Sleep, sx: &StreamShared) -> Result<(), LocalReply> {
        self.inner.borrow_mut().next = 0;
        poll_fn(|cx| {
            if let Err(e) = self.inner.borrow_mut().fill(cx, sx) {
                sx.interrupt(match e {
                    BodyError::Reply(r) => Interrupt::Reply(r),
                    BodyError::Reset(r) => Interrupt::Reset(r),
                });
            }
            if self.inner.borrow().is_over() {
                self.overflow(&mut self.inner.borrow_mut());
                return Poll::Ready(Err(too_much()));
            }
            Pin::new(&mut after).poll(cx).map(Ok)
        })
        .await
    }
    fn overflow(&self, i: &mut Inner) {
        self.spent.set(true);
        if let Some(s) = &self.stats {
            s.retry_or_shadow_abandoned().inc();
        }
        i.release();
    }
}

/// More of a request came than may be kept, while no host was there to take it.
fn too_much() -> LocalReply {
    LocalReply::new(
        507,
        "exceeded request buffer limit while retrying upstream",
        "request_payload_exceeded_retry_buffer_limit",
    )
}

/// A timer for the time between two attempts.
pub fn back_off(wait: Duration) -> Sleep {
    nuncio_core::clock::sleep(TimerKind::Other, wait)
}

impl Inner {
    fn is_over(&self) -> bool {
        self.keep && self.bytes > self.limit
    }
    /// Reads what there is, until it is too much.
    fn fill(&mut self, cx: &mut Context<'_>, sx: &StreamShared) -> Result<(), BodyError> {
        while !self.is_over() && !matches!(self.rest, Body::Empty) {
            match self.rest.poll_frame(cx, sx) {
                Poll::Ready(Some(Ok(Frame::Data(c)))) => self.keep(c),
                Poll::Ready(Some(Ok(Frame::Trailers(t)))) => {
                    (self.trailers, self.rest) = (Some(t), Body::Empty);
                }
                Poll::Ready(Some(Err(e))) => return Err(e),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }
    fn keep(&mut self, c: Chunk) {
        self.bytes += c.len();
        self.kept.push_back(if c.len() < SMALL { Chunk::from(c.to_vec()) } else { c });
        if self.kept.len() - self.merged >= PIECES {
            let run = self.kept.range(self.merged..);
            if run.clone().map(|c| c.len()).sum::<usize>() < PIECES * SMALL / 4 {
                let one: Vec<u8> = run.flat_map(|c| c.iter().copied()).collect();
                self.kept.truncate(self.merged);
                self.kept.push_back(one.into());
            }
            self.merged = self.kept.len();
        }
    }
    /// Forgets what was handed out, and keeps no more.
    fn release(&mut self) {
        self.keep = false;
        let handed = std::mem::take(&mut self.next);
        self.kept.drain(..handed);
    }
}

/// The body as one attempt reads it.
struct Reader(Rc<Replay>);

impl BodySource for Reader {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let i = &mut *self.0.inner.borrow_mut();
        if !i.keep
            && let Some(c) = i.kept.pop_front()
        {
            return Poll::Ready(Some(Ok(Frame::Data(c))));
        }
        if let Some(c) = i.kept.get(i.next) {
            i.next += 1;
            return Poll::Ready(Some(Ok(Frame::Data(c.clone()))));
        }
        if i.trailers.is_some() {
            let handed = std::mem::replace(&mut i.trailers_handed, true);
            let trailers = if handed { None } else { i.trailers.clone() };
            return Poll::Ready(trailers.map(|t| Ok(Frame::Trailers(t))));
        }
        let frame = i.rest.poll_frame(cx, sx);
        match &frame {
            Poll::Ready(Some(Ok(Frame::Data(c)))) if i.keep => {
                i.keep(c.clone());
                i.next = i.kept.len();
                if i.is_over() {
                    self.0.overflow(i);
                }
            }
            Poll::Ready(Some(Ok(Frame::Trailers(t)))) => {
                (i.trailers, i.trailers_handed, i.rest) = (Some(t.clone()), true, Body::Empty);
            }
            _ => {}
        }
        frame
    }
    fn is_end(&self) -> bool {
        let i = self.0.inner.borrow();
        i.next >= i.kept.len() && (i.trailers.is_none() || i.trailers_handed) && i.rest.is_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::address::Address;
    use nuncio_core::clock::sim::Sim;
    use nuncio_core::info::ConnInfo;
    use nuncio_core::stats::Store;
    use std::future::Future;
    use std::task::Waker;

    /// Yields what a test puts into it.
    #[derive(Clone, Default)]
    struct Feed(Rc<RefCell<VecDeque<Option<Frame>>>>);

    impl Feed {
        fn data(&self, s: &str) {
            self.0.borrow_mut().push_back(Some(Frame::Data(Chunk::from(s.as_bytes().to_vec()))));
        }
        fn trailers(&self) {
            let mut t = HeaderMap::new();
            t.append("x-t", b"1");
            self.0.borrow_mut().push_back(Some(Frame::Trailers(Box::new(t))));
        }
        fn end(&self) {
            self.0.borrow_mut().push_back(None);
        }
    }
    impl BodySource for Feed {
        fn poll_frame(
            &mut self,
            _: &mut Context<'_>,
            _: &StreamShared,
        ) -> Poll<Option<Result<Frame, BodyError>>> {
            match self.0.borrow_mut().pop_front() {
                Some(f) => Poll::Ready(f.map(Ok)),
                None => Poll::Pending,
            }
        }
    }

    struct Case {
        feed: Feed,
        replay: Rc<Replay>,
        sx: Rc<StreamShared>,
        stats: ClusterStats,
    }

    fn case(limit: usize) -> Case {
        let a = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let conn = Rc::new(ConnInfo::new(1, Default::default(), a.clone(), a));
        let stats = ClusterStats::new(&Store::new().scope("cluster.c"));
        let feed = Feed::default();
        let replay = Replay::new(Body::source(feed.clone()), limit, stats.clone());
        Case { feed, replay, sx: StreamShared::new(conn, None), stats }
    }

    impl Case {
        /// What a reader gets now: the bytes, and `|` where the body ends (`t|` with trailers).
        fn read(&self, body: &mut Body) -> String {
            let (mut cx, mut got) = (Context::from_waker(Waker::noop()), String::new());
            loop {
                match body.poll_frame(&mut cx, &self.sx) {
                    Poll::Ready(Some(Ok(Frame::Data(c)))) => {
                        got.push_str(std::str::from_utf8(&c).expect("text"))
                    }
                    Poll::Ready(Some(Ok(Frame::Trailers(_)))) => got.push('t'),
                    Poll::Ready(None) => return got + "|",
                    Poll::Ready(Some(Err(e))) => panic!("{e:?}"),
                    Poll::Pending => return got,
                }
            }
        }
    }

    #[test]
    fn reads_from_the_beginning_again() {
        let c = case(10);
        c.feed.data("ab");
        let mut one = c.replay.reader();
        assert_eq!(c.read(&mut one), "ab");
        let turn = c.replay.turn();
        c.replay.leave();
        assert_ne!(c.replay.turn(), turn);
        let mut two = c.replay.reader();
        c.feed.data("cd");
        assert_eq!(c.read(&mut two), "abcd");
        c.feed.trailers();
        assert_eq!(c.read(&mut two), "t|");
        let mut three = c.replay.reader();
        assert_eq!(c.read(&mut three), "abcdt|");
        assert!(!c.replay.is_spent() && c.stats.retry_or_shadow_abandoned().value() == 0);
    }

    #[test]
    fn more_than_the_limit_is_passed_on_and_not_kept() {
        let c = case(4);
        let mut one = c.replay.reader();
        c.feed.data("abcd");
        assert_eq!(c.read(&mut one), "abcd");
        assert!(!c.replay.is_spent());
        c.feed.data("e");
        c.feed.data("f");
        c.feed.end();
        assert_eq!(c.read(&mut one), "ef|");
        assert!(c.replay.is_spent() && c.replay.inner.borrow().kept.is_empty());
        assert_eq!(c.stats.retry_or_shadow_abandoned().value(), 1);
    }

    #[test]
    fn a_final_response_ends_the_keeping() {
        let c = case(100);
        let mut one = c.replay.reader();
        c.feed.data("ab");
        c.feed.data("cd");
        assert_eq!(c.read(&mut one), "abcd");
        let mut two = c.replay.reader();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(two.poll_frame(&mut cx, &c.sx), Poll::Ready(Some(Ok(Frame::Data(_))))));
        c.replay.release();
        c.feed.data("ef");
        assert_eq!(c.read(&mut two), "cdef");
        assert!(c.replay.inner.borrow().kept.is_empty());
    }

    #[test]
    fn what_comes_between_two_attempts_is_kept_up_to_the_limit() {
        let sim = Sim::new();
        let c = case(4);
        let mut one = c.replay.reader();
        c.feed.data("a");
        assert_eq!(c.read(&mut one), "a");
        c.replay.leave();
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut wait = std::pin::pin!(c.replay.pause(back_off(Duration::from_millis(20)), &c.sx));
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            c.feed.data("bcd");
            sim.advance(Duration::from_millis(19));
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            sim.advance(Duration::from_millis(1));
            assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        }
        assert_eq!(c.read(&mut c.replay.reader()), "abcd");
        let mut wait = std::pin::pin!(c.replay.pause(back_off(Duration::from_millis(20)), &c.sx));
        c.feed.data("e");
        let Poll::Ready(Err(reply)) = wait.as_mut().poll(&mut cx) else { panic!("it is too much") };
        assert_eq!((reply.status, &*reply.details), (507, "request_payload_exceeded_retry_buffer_limit"));
        assert_eq!(c.stats.retry_or_shadow_abandoned().value(), 1);
    }

    #[test]
    fn tiny_pieces_take_little_room() {
        let c = case(100_000);
        let mut one = c.replay.reader();
        let all: String = (0..5000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        for i in 0..all.len() {
            c.feed.data(&all[i..=i]);
        }
        assert_eq!(c.read(&mut one), all);
        let pieces = c.replay.inner.borrow().kept.len();
        assert!(pieces < 2 * PIECES + all.len() / PIECES, "{pieces} pieces");
        assert_eq!(c.read(&mut c.replay.reader()), all);
    }
}

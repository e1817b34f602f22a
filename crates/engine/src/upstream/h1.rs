//! One HTTP/1 upstream connection. It has no task of its own: the request that borrows it drives it, and while it
//! idles in its pool the thread's [`idle`] watcher notices its end.

use super::host::{Host, HostCounters};
use super::idle;
use super::local::Cluster;
use super::pool::PoolRef;
use super::stream::{Charge, Facts, Fate, Fit, LATELY, UpConn, UpResponse};
use crate::flush::{Flush, Later};
use crate::io::{Io, Peer};
use nuncio_core::body::{BodyError, ConnBody, Frame};
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::info::StreamShared;
use nuncio_wire::h1::{BodyEvent, Client, Eof};
use nuncio_wire::{Chunk, HeaderMap, OutBuf, ReadBuf, RequestHead, name};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// Request bytes that may wait before no more are taken.
const HIGH_WATER: usize = 64 * 1024;

/// An HTTP/1 upstream connection.
pub struct H1Up {
    /// Its number.
    pub id: u64,
    /// Its host.
    pub host: Arc<Host>,
    cluster: Rc<Cluster>,
    pool: PoolRef,
    me: Weak<H1Up>,
    io: RefCell<Option<Io>>,
    bufs: RefCell<Bufs>,
    codec: RefCell<Client>,
    later: Later,
    /// Number of the request under way or last; writes for another one are ignored.
    turn: Cell<u32>,
    /// The host ended the connection.
    ended: Cell<bool>,
    charge: RefCell<Option<Charge>>,
    /// Bytes of the request under way, and of its headers.
    tx: Cell<u64>,
    headers_tx: Cell<u64>,
    /// Whether bytes of the request under way were handed to the kernel, and whether anything came since it began.
    written: Cell<bool>,
    came: Cell<bool>,
    born: Instant,
    /// Addresses and TLS facts.
    pub facts: Facts,
    idle: RefCell<Idle>,
}

#[derive(Default)]
struct Bufs {
    read: ReadBuf,
    out: OutBuf,
}

#[derive(Default)]
struct Idle {
    since: Option<Instant>,
    waker: Option<Waker>,
    sleep: Option<Sleep>,
}

/// Who ended the connection, for its stats.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Us,
    Remote,
}

impl H1Up {
    /// A connection just made.
    pub fn new(io: Io, cluster: Rc<Cluster>, host: Arc<Host>, pool: PoolRef) -> Rc<H1Up> {
        cluster.http1_stats();
        let codec = Client::new(cluster.plan.http.h1.clone());
        let id = idle::next_id();
        let facts = Facts::of(&io);
        Rc::new_cyclic(|me| H1Up {
            id,
            facts,
            host,
            cluster,
            pool,
            me: me.clone(),
            io: RefCell::new(Some(io)),
            bufs: RefCell::default(),
            codec: RefCell::new(codec),
            later: Later::new(),
            turn: Cell::new(0),
            ended: Cell::new(false),
            charge: RefCell::new(None),
            tx: Cell::new(0),
            headers_tx: Cell::new(0),
            written: Cell::new(false),
            came: Cell::new(false),
            born: clock::now(),
            idle: RefCell::default(),
        })
    }
    /// Begins a request; returns its number.
    pub fn begin(&self, charge: Charge) -> u32 {
        self.idle.borrow_mut().since = None;
        self.written.set(false);
        self.came.set(false);
        *self.charge.borrow_mut() = Some(charge);
        self.turn.set(self.turn.get().wrapping_add(1));
        self.turn.get()
    }
    /// It carried requests before.
    pub(super) fn is_used(&self) -> bool {
        self.turn.get() > 0
    }
    /// Still open.
    pub fn is_open(&self) -> bool {
        self.io.borrow().is_some()
    }

    /// Whether a request may go out on it now, as far as the loop knows, and the kernel where that may know more: always
    /// when `sure`, else for a connection that has rested.
    pub(super) fn fit(&self, sure: bool) -> Fit {
        if !self.poll_idle() {
            return Fit::No;
        }
        let lately = |t: Instant| clock::now().saturating_duration_since(t) < LATELY;
        if !sure && self.idle.borrow().since.is_none_or(lately) {
            return Fit::Yes;
        }
        match self.io.borrow().as_ref().map(Io::peer) {
            Some(Peer::Quiet) => Fit::Yes,
            // The loop is about to hear of it, and acts.
            Some(_) => Fit::Later,
            None => Fit::No,
        }
    }
    /// What is known of the host's part in a request that failed.
    pub(super) fn fate(&self, turn: u32) -> Fate {
        match (self.came.get(), self.written.get()) {
            _ if self.turn.get() != turn || turn == 1 => Fate::Unknown,
            (true, _) => Fate::Unknown,
            (false, true) => Fate::Unanswered,
            (false, false) => Fate::Unsent,
        }
    }

    /// Writes the head; flushed when the response is awaited.
    pub(super) fn send_head(&self, turn: u32, head: &RequestHead, end: bool) -> Result<(), StreamError> {
        self.check(turn)?;
        let mut bufs = self.bufs.borrow_mut();
        let before = bufs.out.len();
        let written = self.codec.borrow_mut().write_head(head, end, &mut bufs.out);
        let n = (bufs.out.len() - before) as u64;
        self.tx.set(n);
        // Without `GET / HTTP/1.1` and the empty line.
        let line = head.method().len() + head.path().len() + 14;
        self.headers_tx.set(n.saturating_sub(line as u64));
        written.map_err(|_| ResetReason::ProtocolError.into())
    }
    pub(super) fn poll_ready(&self, turn: u32, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.bufs.borrow().out.len() < HIGH_WATER {
            return Poll::Ready(self.check(turn));
        }
        self.poll_flush(turn, cx)
    }
    pub(super) fn send_data(&self, turn: u32, data: Chunk) {
        if self.check(turn).is_ok() {
            let out = &mut self.bufs.borrow_mut().out;
            let before = out.len();
            self.codec.borrow_mut().write_data(data, out);
            self.tx.set(self.tx.get() + (out.len() - before) as u64);
        }
    }
    pub(super) fn send_end(&self, turn: u32, trailers: Option<&HeaderMap>) {
        if self.check(turn).is_ok() {
            let out = &mut self.bufs.borrow_mut().out;
            let before = out.len();
            self.codec.borrow_mut().write_end(trailers, out);
            self.tx.set(self.tx.get() + (out.len() - before) as u64);
        }
    }
    pub(super) fn poll_flush(&self, turn: u32, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.check(turn)?;
        let waiting = self.bufs.borrow().out.len();
        // Should the kernel not take what the flusher writes, this task is woken.
        if self.later.offer(waiting, || Some(self.me.upgrade()?), cx.waker()) {
            return Poll::Ready(Ok(()));
        }
        self.poll_write(cx).map_err(|_| ResetReason::ConnectionTermination.into())
    }
    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bufs = self.bufs.borrow_mut();
        let before = bufs.out.len();
        if before == 0 {
            return Poll::Ready(Ok(()));
        }
        let r = match self.io.borrow_mut().as_mut() {
            Some(io) => io.poll_write(cx, &mut bufs.out),
            None => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        self.later.written(&r);
        if bufs.out.len() < before {
            self.written.set(true);
        }
        self.cluster.plan.stats.upstream_cx_tx_bytes_total().add((before - bufs.out.len()) as u64);
        r
    }

    pub(super) fn poll_head(
        &self,
        turn: u32,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Result<UpResponse, StreamError>> {
        // A failed write is not the end: the host may have answered before it closed.
        let _ = self.poll_flush(turn, cx);
        loop {
            self.check(turn)?;
            let start = {
                let bufs = &mut *self.bufs.borrow_mut();
                let before = bufs.read.len();
                let start = self.codec.borrow_mut().read_head(&mut bufs.read);
                self.meter(before - bufs.read.len(), sx);
                start
            };
            match start {
                Ok(Some(start)) => {
                    let says = start.head.headers.contains(name::CONNECTION);
                    if !start.keep_alive && !start.informational && !start.upgraded && says {
                        self.cluster.plan.stats.upstream_cx_close_notify().inc();
                    }
                    let m = &sx.info.upstream_meter;
                    m.header_rx.set(u64::from(start.header_bytes));
                    m.plain_header_rx.set(u64::from(start.header_bytes));
                    let end = !start.informational && !start.has_body && !start.upgraded;
                    return Poll::Ready(Ok(UpResponse { head: start.head, end }));
                }
                Ok(None) => {}
                Err(_) => {
                    self.cluster.plan.stats.upstream_cx_protocol_error().inc();
                    self.close(By::Us);
                    return Poll::Ready(Err(ResetReason::ProtocolError.into()));
                }
            }
            if let end @ (Ok(0) | Err(_)) = ready!(self.poll_fill(cx, 1)) {
                let eof = self.codec.borrow_mut().read_eof();
                if eof.is_err() {
                    self.cluster.plan.stats.upstream_cx_protocol_error().inc();
                }
                self.close(self.ended_by(&end));
                let reason = match eof {
                    Err(_) => ResetReason::ProtocolError,
                    Ok(_) => ResetReason::ConnectionTermination,
                };
                return Poll::Ready(Err(reason.into()));
            }
        }
    }

    fn poll_fill(&self, cx: &mut Context<'_>, min: usize) -> Poll<io::Result<usize>> {
        let mut io = self.io.borrow_mut();
        let Some(io) = io.as_mut() else { return Poll::Ready(Ok(0)) };
        let r = ready!(io.poll_read_at_least(cx, &mut self.bufs.borrow_mut().read, min));
        if let Ok(n) = &r {
            self.cluster.plan.stats.upstream_cx_rx_bytes_total().add(*n as u64);
            self.came.set(self.came.get() || *n > 0);
        }
        Poll::Ready(r)
    }

    /// Notes bytes read, and all that were written so far.
    fn meter(&self, read: usize, sx: &StreamShared) {
        let m = &sx.info.upstream_meter;
        m.wire_rx.set(m.wire_rx.get() + read as u64);
        m.wire_tx.set(self.tx.get());
        m.header_tx.set(self.headers_tx.get());
        m.plain_header_tx.set(self.headers_tx.get());
    }

    fn check(&self, turn: u32) -> Result<(), StreamError> {
        if self.turn.get() == turn && self.is_open() && self.charge.borrow().is_some() {
            return Ok(());
        }
        Err(ResetReason::ConnectionTermination.into())
    }

    /// The request is over: back to the pool, or closed.
    fn release(&self) {
        let complete = {
            let codec = self.codec.borrow();
            codec.response_complete() && codec.request_complete()
        };
        if self.charge.borrow().is_none() {
            return;
        }
        if !complete {
            return self.close(By::Us); // with its request under way
        }
        drop(self.charge.borrow_mut().take());
        let max = self.cluster.plan.http.max_requests_per_connection;
        let spent = max > 0 && self.turn.get() >= max;
        if spent {
            self.cluster.plan.stats.upstream_cx_max_requests().inc();
        }
        let old = !spent && self.is_old();
        if old {
            self.cluster.plan.stats.upstream_cx_max_duration_reached().inc();
        }
        // An answer before its request had left: what does not leave now makes the connection unusable.
        self.write_listed();
        let clean = self.bufs.borrow().out.is_empty() && self.codec.borrow().reusable();
        if !self.bufs.borrow().read.is_empty() {
            // More than one response to one request.
            self.cluster.plan.stats.upstream_cx_protocol_error().inc();
        }
        match self.me.upgrade() {
            Some(me) if clean && !spent && !old && self.is_open() => self.check_in(me),
            // The end of the connection was the end of the response.
            _ if self.ended.get() => self.close(By::Remote),
            _ => self.close(By::Us),
        }
    }

    fn check_in(&self, me: Rc<H1Up>) {
        if self.rest() {
            self.pool.offer(UpConn::H1(me));
        }
    }
    /// Nobody uses the connection from now on: it is watched. False when it has ended.
    pub(super) fn rest(&self) -> bool {
        if self.idle.borrow().since.is_some() {
            return self.is_open(); // watched already
        }
        let Some(me) = self.me.upgrade() else { return false };
        {
            let mut idle = self.idle.borrow_mut();
            idle.since = Some(clock::now());
            if idle.waker.is_none() {
                idle.waker = Some(idle::watch(&me));
            }
        }
        self.poll_idle()
    }
    /// While idle: false when the connection has ended (the host closed it, spoke unasked, or it idled too long).
    pub(super) fn poll_idle(&self) -> bool {
        let Some(since) = self.idle.borrow().since else { return self.is_open() };
        let Some(waker) = self.idle.borrow().waker.clone() else { return self.is_open() };
        let mut cx = Context::from_waker(&waker);
        match self.poll_fill(&mut cx, 1) {
            Poll::Pending => {}
            Poll::Ready(Ok(n)) if n > 0 => {
                self.cluster.plan.stats.upstream_cx_protocol_error().inc();
                self.close(By::Us);
                return false;
            }
            Poll::Ready(_) => {
                self.close(By::Remote);
                return false;
            }
        }
        let (http, stats) = (&self.cluster.plan.http, &self.cluster.plan.stats);
        let over = |limit: Option<Duration>, from: Instant| Some(from + limit?);
        let (idles, ages) = (over(http.idle_timeout, since), over(http.max_connection_duration, self.born));
        let Some(next) = idles.into_iter().chain(ages).min() else { return true };
        let mut idle = self.idle.borrow_mut();
        // It is armed for the first such moment and moved on when it fires: a request costs no timer.
        let left = |now: Instant| next.saturating_duration_since(now);
        let sleep = idle.sleep.get_or_insert_with(|| clock::sleep(TimerKind::Other, left(clock::now())));
        while Pin::new(&mut *sleep).poll(&mut cx).is_ready() {
            let now = clock::now();
            if now >= next {
                drop(idle);
                match ages.is_some_and(|a| a <= now) {
                    true => stats.upstream_cx_max_duration_reached().inc(),
                    false => stats.upstream_cx_idle_timeout().inc(),
                }
                self.close(By::Us);
                return false;
            }
            sleep.reset(left(now));
        }
        true
    }
    /// `max_connection_duration` has passed.
    fn is_old(&self) -> bool {
        let age = || clock::now().saturating_duration_since(self.born);
        self.cluster.plan.http.max_connection_duration.is_some_and(|max| age() >= max)
    }
    /// Closes the connection for a reason of ours.
    pub(super) fn close_local(&self) {
        self.close(By::Us);
    }

    /// Writes what waits for the flusher.
    fn write_listed(&self) {
        if self.later.is_listed() {
            let _ = self.poll_write(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Who closes a connection that the host has ended. A tunnel could go on one way: that it does not is our doing, as
    /// in Envoy.
    fn ended_by(&self, end: &io::Result<usize>) -> By {
        match end {
            Ok(_) if self.codec.borrow().asks_for_tunnel() => By::Us,
            _ => By::Remote,
        }
    }
    fn close(&self, by: By) {
        if by == By::Us {
            // What was sent before the end is sent: the host hears of a request that is given up in the same turn.
            self.write_listed();
        }
        if self.io.borrow_mut().take().is_none() {
            return;
        }
        let active = self.charge.borrow().is_some();
        idle::closed(
            &self.cluster,
            &self.host,
            self.pool.priority(),
            self.born,
            u64::from(self.turn.get()),
            active,
            by == By::Remote,
        );
        idle::forget(self.id);
        *self.bufs.borrow_mut() = Bufs::default();
        if let Some(me) = self.me.upgrade() {
            self.pool.lost(&UpConn::H1(me));
        }
    }
}

impl Flush for H1Up {
    fn flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.later.is_listed() {
            true if !matches!(self.poll_write(cx), Poll::Ready(Ok(()))) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

impl ConnBody for H1Up {
    fn poll_frame(
        &self,
        turn: u32,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.later.is_stuck() {
            let _ = self.poll_flush(turn, cx); // the host answers before it has read the request
        }
        loop {
            if self.check(turn).is_err() {
                return Poll::Ready(Some(Err(BodyError::Reset(ResetReason::ConnectionTermination))));
            }
            let event = {
                let bufs = &mut *self.bufs.borrow_mut();
                let before = bufs.read.len();
                let event = self.codec.borrow_mut().read_body(&mut bufs.read);
                self.meter(before - bufs.read.len(), sx);
                event
            };
            match event {
                Ok(BodyEvent::Data(c)) => {
                    if sx.info.times.us_rx_body_beg.get().is_none() {
                        sx.info.times.us_rx_body_beg.set(Some(clock::now()));
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(c))));
                }
                Ok(BodyEvent::Trailers(t)) => return Poll::Ready(Some(Ok(Frame::Trailers(Box::new(t))))),
                Ok(BodyEvent::End) => {
                    sx.info.times.us_rx_end.set(Some(clock::now()));
                    return Poll::Ready(None);
                }
                Ok(BodyEvent::NeedMore) => {}
                Err(_) => {
                    self.cluster.plan.stats.upstream_cx_protocol_error().inc();
                    self.close(By::Us);
                    return Poll::Ready(Some(Err(BodyError::Reset(ResetReason::ProtocolError))));
                }
            }
            let room = self.bufs.borrow().read.body_space();
            if let end @ (Ok(0) | Err(_)) = ready!(self.poll_fill(cx, room)) {
                let eof = self.codec.borrow_mut().read_eof();
                // The end of a tunnel is no end of a message: Envoy resets the other side too.
                if eof == Ok(Eof::BodyEnd) && !self.codec.borrow().upgraded() {
                    self.ended.set(true);
                    continue;
                }
                if eof.is_err() {
                    self.cluster.plan.stats.upstream_cx_protocol_error().inc();
                }
                self.close(self.ended_by(&end));
                let reason = if eof.is_err() {
                    ResetReason::ProtocolError
                } else {
                    ResetReason::ConnectionTermination
                };
                return Poll::Ready(Some(Err(BodyError::Reset(reason))));
            }
        }
    }
    fn is_end(&self, turn: u32) -> bool {
        self.turn.get() == turn && self.codec.borrow().response_complete()
    }
    fn abandon(&self, turn: u32) {
        if self.turn.get() == turn {
            self.release();
        }
    }
}

impl Drop for H1Up {
    fn drop(&mut self) {
        self.close(By::Us);
    }
}

/// Counts a request that a host answered or failed.
pub fn count_outcome(host: &Host, success: bool) {
    HostCounters::inc(if success { &host.counters.rq_success } else { &host.counters.rq_error });
}

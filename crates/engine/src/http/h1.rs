//! Drives one HTTP/1 downstream connection: one request after the other, each in a future of its own.

use super::codec::count;
use super::drain::idle_kind;
use super::stream::{Downstream, Gone, drive, half_request};
use super::timers::Late;
use super::{CloseReason, Hcm, LINGER};
use crate::flush::{Flush, Later};
use crate::io::Io;
use crate::slab::{Inbox, LoopPool};
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::error::ResetReason;
use nuncio_core::info::{ConnInfo, Meter, StreamShared};
use nuncio_core::{Body, BodyError, ConnBody, Exchange, Flag, Frame, LocalReply};
use nuncio_wire::h1::{BodyEvent, Cause, Eof, H1Error, RequestStart, Server, Upgrade};
use nuncio_wire::{Chunk, HeaderMap, OutBuf, ReadBuf, ResponseHead, Version, name};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Response bytes that may wait before no more are pulled.
const HIGH_WATER: usize = 64 * 1024;
/// Bytes of pipelined requests kept while a response is under way; a client that sends more is not read further.
const PIPELINE: usize = 64 * 1024;

/// One downstream connection.
pub struct H1Conn {
    io: RefCell<Io>,
    bufs: RefCell<Bufs>,
    codec: RefCell<Server>,
    later: Later,
    me: Weak<H1Conn>,
    hcm: Rc<Hcm>,
    info: Rc<ConnInfo>,
    /// The stream of the request under way.
    gone: Cell<Option<CloseReason>>,
    reading_body: Cell<bool>,
    /// The last request's end was not read before its response ended.
    cut: Cell<bool>,
    /// Requests so far.
    served: Cell<u32>,
    /// `http.max_requests_per_io_cycle`, and how many of what was read in one go have begun.
    per_cycle: u32,
    begun: Cell<u32>,
    /// Bytes of the message that is read, and of the one that is written, and of the latter's headers.
    wire: Wire,
    /// The client sent FIN.
    eof: Cell<bool>,
    /// The client was asked to go elsewhere; then the connection closes.
    drain_until: Cell<Option<Instant>>,
    /// Armed once and looked at lazily, over all exchanges.
    stream_idle: RefCell<Option<Sleep>>,
    /// The head that is read or was read last came in parts, from then on.
    head_since: Cell<Option<Instant>>,
    /// `max_connection_duration` has passed, and was counted.
    aged: Cell<bool>,
}

/// Meters of the exchange under way.
#[derive(Default)]
struct Wire {
    rx: Cell<u64>,
    tx: Cell<u64>,
    headers_tx: Cell<u64>,
}

impl Wire {
    fn read(&self, before: usize, after: usize) {
        self.rx.set(self.rx.get() + (before - after) as u64);
    }
    fn write(&self, before: usize, after: usize) -> u64 {
        let n = (after - before) as u64;
        self.tx.set(self.tx.get() + n);
        n
    }
}

/// Timers of a connection that waits for a request.
#[derive(Default)]
struct Waits {
    /// The timer that runs, and until when.
    idle: Option<(Sleep, Instant)>,
    /// For what is rare: half a head, or a limited age.
    other: Option<Box<Sleep>>,
}

/// Why a request is not served.
enum Refusal {
    /// The codec refused it.
    Codec(H1Error),
    /// Its head took too long.
    Late(Late),
}

#[derive(Default)]
struct Bufs {
    read: ReadBuf,
    out: OutBuf,
}

/// Serves a connection until it ends. The reason of the end, and whether an exchange was under way.
pub async fn serve(conn: &Rc<H1Conn>) -> (CloseReason, bool) {
    conn.hcm.http1_stats();
    conn.hcm.stats.downstream_cx_http1_total().inc();
    let _active = conn.hcm.stats.downstream_cx_http1_active().guard();
    let end = requests(conn).await;
    if conn.aged.get() && conn.hcm.timeouts.http1_safe {
        conn.hcm.stats.downstream_cx_http1_soft_drain().dec();
    }
    end
}

async fn requests(conn: &Rc<H1Conn>) -> (CloseReason, bool) {
    let pool = LoopPool::of(exchanges);
    let mut waits = Waits::default();
    loop {
        let next = match conn.next_head(&mut waits).await {
            Ok(Some(start)) => Ok(pool.start(exchanges, (conn.clone(), start))),
            // Rare, and large: it has memory of its own, so that idle connections do not carry it.
            Ok(None) => Err(Box::pin(over(conn.clone(), None))),
            Err(refused) => Err(Box::pin(over(conn.clone(), Some(refused)))),
        };
        match next {
            Ok(exchange) => exchange.await,
            Err(end) => return end.await,
        }
        match conn.gone.take() {
            None => {}
            Some(CloseReason::LocalReset) => return (Box::pin(conn.linger()).await, false),
            Some(reason) => return (reason, true),
        }
        let (goes_on, complete) = {
            let codec = conn.codec.borrow();
            (codec.is_idle() && codec.keep_alive(), codec.request_complete() && !conn.cut.get())
        };
        if !goes_on {
            if !complete {
                return (Box::pin(conn.linger()).await, false);
            }
            conn.shutdown().await;
            return (CloseReason::Local, false);
        }
        if conn.drain_until.get().is_some_and(|t| t <= clock::now()) {
            return (Box::pin(conn.linger()).await, false);
        }
    }
}

/// No request is served any more: what is left to do, why the connection ends, and whether in the middle of a head.
async fn over(conn: Rc<H1Conn>, refused: Option<Refusal>) -> (CloseReason, bool) {
    if let Some(why) = refused {
        conn.refuse(why).await;
        return (conn.linger().await, false);
    }
    match conn.gone.take().unwrap_or(CloseReason::Remote) {
        CloseReason::IdleTimeout | CloseReason::Drained => (conn.linger().await, false),
        CloseReason::Remote if conn.codec.borrow().head_begun() => {
            conn.hcm.stats.downstream_rq_http1_total().inc();
            let sx = StreamShared::new(conn.info.clone(), None);
            sx.info.protocol.set(Some(Version::Http11));
            half_request(&conn.hcm, sx);
            (CloseReason::Remote, true)
        }
        reason => (reason, false),
    }
}

/// Requests, one after the other, each of whichever connection borrows the loop: everything between a head and the last
/// byte of its response.
async fn exchanges(inbox: Inbox<(Rc<H1Conn>, RequestStart)>) {
    loop {
        let (conn, start) = inbox.next().await;
        let (ex, early) = conn.begin(start);
        let (sx, refused) = (ex.sx.clone(), early.is_some());
        let at_once = pin!(drive(&*conn, &conn.hcm, ex, early)).await;
        // After a reply that did not wait for the request the client gets time to read it, too.
        conn.cut.set(refused || at_once || sx.info.times.ds_rx_end.get().is_none());
        conn.head_since.set(None);
        sx.recycle();
    }
}

impl H1Conn {
    /// A connection over `io`; `prefix` holds what was read from it already.
    pub fn new(io: Io, prefix: ReadBuf, hcm: Rc<Hcm>, info: Rc<ConnInfo>) -> Rc<H1Conn> {
        let tls = info.tls.get().is_some();
        let per_cycle = u32::try_from(hcm.plan.requests_per_cycle.get()).unwrap_or(u32::MAX).max(1);
        Rc::new_cyclic(|me| H1Conn {
            io: RefCell::new(io),
            bufs: RefCell::new(Bufs { read: prefix, out: OutBuf::new() }),
            codec: RefCell::new(Server::new(hcm.h1.clone(), tls)),
            later: Later::new(),
            me: me.clone(),
            hcm,
            info,
            gone: Cell::new(None),
            reading_body: Cell::new(false),
            cut: Cell::new(false),
            served: Cell::new(0),
            per_cycle,
            begun: Cell::new(0),
            eof: Cell::new(false),
            wire: Wire::default(),
            drain_until: Cell::new(None),
            stream_idle: RefCell::new(None),
            head_since: Cell::new(None),
            aged: Cell::new(false),
        })
    }

    /// A request's head is there: its exchange, and the reply when it is not to be served.
    fn begin(self: &Rc<Self>, start: RequestStart) -> (Exchange, Option<Box<LocalReply>>) {
        let (conn, hcm) = (self, &self.hcm);
        let sx = StreamShared::new(conn.info.clone(), Some(hcm.routes()));
        let info = &sx.info;
        info.protocol.set(Some(start.head.version));
        info.downstream.header_rx.set(u64::from(start.header_bytes));
        info.downstream.plain_header_rx.set(u64::from(start.header_bytes));
        hcm.stats.downstream_rq_http1_total().inc();
        let has_body = start.has_body || start.upgrade != Upgrade::None;
        conn.reading_body.set(has_body);
        let mut head = start.head;
        let body = if has_body {
            Body::conn(conn.clone(), 0)
        } else {
            info.times.ds_rx_end.set(Some(clock::now()));
            Body::Empty
        };
        if start.expect_continue && !hcm.proxy_100_continue {
            conn.send_informational(&ResponseHead::new(100));
            hcm.count_code(100);
            head.headers.remove(name::EXPECT);
        }
        if start.dropped_underscores > 0 {
            hcm.http1_stats().dropped_headers_with_underscores().add(start.dropped_underscores.into());
        }
        conn.served.set(conn.served.get().saturating_add(1));
        let most = hcm.plan.max_requests_per_connection;
        if most > 0 && conn.served.get() >= most {
            hcm.stats.downstream_cx_max_requests_reached().inc();
            conn.set_close();
        }
        if hcm.timeouts.http1_safe && conn.is_old() {
            conn.set_close();
        }
        let early = hcm.begin_request(&mut head, &sx);
        (Exchange::new(head, body, sx), early)
    }

    /// Waits for the next request's head. `None`: the connection is over.
    async fn next_head(&self, waits: &mut Waits) -> Result<Option<RequestStart>, Refusal> {
        let began = clock::now();
        poll_fn(|cx| {
            if self.later.is_stuck() && self.poll_write(cx).ready_and(|r| r.is_err()) {
                return Poll::Ready(Ok(None));
            }
            if self.begun.get() >= self.per_cycle && !self.bufs.borrow().read.is_empty() {
                self.begun.set(0);
                cx.waker().wake_by_ref(); // others run first
                return Poll::Pending;
            }
            loop {
                {
                    let mut bufs = self.bufs.borrow_mut();
                    let before = bufs.read.len();
                    let read = self.codec.borrow_mut().read_head(&mut bufs.read);
                    self.wire.read(before, bufs.read.len());
                    match read {
                        Ok(None) => {}
                        Ok(Some(start)) => {
                            self.begun.set(self.begun.get().saturating_add(1));
                            return Poll::Ready(Ok(Some(start)));
                        }
                        Err(e) => return Poll::Ready(Err(Refusal::Codec(e))),
                    }
                }
                match self.poll_fill(cx, 1) {
                    Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Poll::Ready(Ok(None)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            self.begun.set(0);
            if self.codec.borrow().head_begun() {
                return self.poll_head_late(cx, &mut waits.other).map(|late| Err(Refusal::Late(late)));
            }
            if self.hcm.timeouts.max_connection.is_some() && self.poll_age(cx, &mut waits.other).is_ready() {
                return Poll::Ready(Ok(None));
            }
            self.poll_idle(cx, &mut waits.idle, began).map(|()| Ok(None))
        })
        .await
    }

    /// `idle_timeout` begins a drain, `drain_timeout` ends it. Armed once and looked at lazily: a busy connection does
    /// not touch the wheel. Ready when the connection is over.
    fn poll_idle(
        &self,
        cx: &mut Context<'_>,
        idle: &mut Option<(Sleep, Instant)>,
        began: Instant,
    ) -> Poll<()> {
        loop {
            let deadline = match (self.drain_until.get(), self.hcm.timeouts.idle) {
                (Some(at), _) => at,
                (None, Some(timeout)) => began + timeout,
                (None, None) => return Poll::Pending,
            };
            let kind = idle_kind(self.drain_until.get());
            let arm = || (clock::sleep_until(kind, deadline), deadline);
            let armed = idle.get_or_insert_with(arm);
            // The end of a drain comes before the time that was armed for idleness.
            if armed.1 > deadline {
                *armed = (clock::sleep_until(TimerKind::Other, deadline), deadline);
            }
            ready!(Pin::new(&mut armed.0).poll(cx));
            // The wheel may have been scaled by overload: then what was armed is over before its time.
            if clock::now() < deadline && armed.1 != deadline {
                *armed = arm();
                continue;
            }
            if self.drain_until.get().is_some() {
                self.gone.set(Some(CloseReason::Drained));
                return Poll::Ready(());
            }
            self.hcm.stats.downstream_cx_idle_timeout().inc();
            if self.served.get() == 0 {
                self.gone.set(Some(CloseReason::IdleTimeout));
                return Poll::Ready(());
            }
            // One that has had a request drains first, as in Envoy: it may still send another meanwhile.
            self.start_drain();
            *idle = None;
        }
    }

    /// `max_connection_duration` has passed; counted once, and begins a drain.
    fn is_old(&self) -> bool {
        let t = &self.hcm.timeouts;
        let Some(max) = t.max_connection(&self.info) else { return false };
        if self.aged.get() || clock::now() < self.info.start + max {
            return self.aged.get();
        }
        self.aged.set(true);
        self.hcm.stats.downstream_cx_max_duration_reached().inc();
        if t.http1_safe {
            self.hcm.stats.downstream_cx_http1_soft_drain().inc();
        } else {
            self.start_drain();
        }
        true
    }
    /// Ready when a connection that never had a request is too old to go on.
    fn poll_age(&self, cx: &mut Context<'_>, timer: &mut Option<Box<Sleep>>) -> Poll<()> {
        let Some(max) = self.hcm.timeouts.max_connection(&self.info) else { return Poll::Pending };
        while !self.is_old() {
            let at = self.info.start + max;
            let sleep =
                timer.insert(Box::new(clock::sleep_until(TimerKind::HttpDownstreamConnectionMax, at)));
            ready!(Pin::new(&mut **sleep).poll(cx));
        }
        if self.served.get() > 0 {
            return Poll::Pending; // the next response is the last, or the drain ends it
        }
        // Nothing was said on it: there is nothing to wait for.
        self.gone.set(Some(CloseReason::Local));
        Poll::Ready(())
    }
    /// Half a head is there: ready when the rest takes too long.
    fn poll_head_late(&self, cx: &mut Context<'_>, timer: &mut Option<Box<Sleep>>) -> Poll<Late> {
        let t = &self.hcm.timeouts;
        let limits = [
            (t.request_headers, Late::Headers),
            (t.request, Late::Request),
            (t.max_stream, Late::Duration),
            (t.stream_idle, Late::Idle),
        ];
        let first = limits.into_iter().filter_map(|(t, why)| t.map(|t| (t, why))).min_by_key(|l| l.0);
        let Some((limit, why)) = first else { return Poll::Pending };
        let since = self.head_since.get().unwrap_or_else(clock::now);
        self.head_since.set(Some(since));
        if clock::now() >= since + limit {
            return Poll::Ready(why);
        }
        let sleep = timer.insert(Box::new(clock::sleep_until(TimerKind::Other, since + limit)));
        Pin::new(&mut **sleep).poll(cx).map(|()| why)
    }

    /// Reads once from the socket.
    fn poll_fill(&self, cx: &mut Context<'_>, min: usize) -> Poll<io::Result<usize>> {
        if self.eof.get() {
            return Poll::Ready(Ok(0));
        }
        let r = ready!(self.io.borrow_mut().poll_read_at_least(cx, &mut self.bufs.borrow_mut().read, min));
        match &r {
            Ok(0) | Err(_) => self.eof.set(true),
            Ok(n) => count(&self.hcm, &self.info, *n as u64, 0),
        }
        Poll::Ready(r)
    }

    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bufs = self.bufs.borrow_mut();
        let before = bufs.out.len();
        if before == 0 {
            return Poll::Ready(Ok(()));
        }
        let r = self.io.borrow_mut().poll_write(cx, &mut bufs.out);
        self.later.written(&r);
        count(&self.hcm, &self.info, 0, (before - bufs.out.len()) as u64);
        r
    }

    /// Answers what the codec refused, through the response path but without filters, as Envoy does.
    async fn refuse(self: &Rc<Self>, why: Refusal) {
        self.hcm.stats.downstream_rq_http1_total().inc();
        let reply = match why {
            Refusal::Codec(e) => {
                self.hcm.stats.downstream_cx_protocol_error().inc();
                if e.cause == Cause::Underscore {
                    self.hcm.http1_stats().requests_rejected_with_underscores_in_headers().inc();
                }
                LocalReply::new(e.status, e.body, e.details).flag(Flag::DownstreamProtocolError)
            }
            Refusal::Late(late) => {
                self.codec.borrow_mut().give_up();
                late.reply(&self.hcm, false)
            }
        };
        let sx = StreamShared::new(self.info.clone(), None);
        sx.info.protocol.set(Some(Version::Http11));
        self.hcm.count_request_begun();
        let ex = Exchange::new(Default::default(), Body::Empty, sx);
        drive(&**self, &self.hcm, ex, Some(Box::new(reply))).await;
    }

    async fn shutdown(&self) {
        // Best effort: the peer may be gone already.
        let _ = poll_fn(|cx| {
            ready!(self.poll_write(cx))?;
            self.io.borrow_mut().poll_shutdown(cx)
        })
        .await;
    }

    /// Delayed close: everything is written; the client gets `delayed_close_timeout` to read it and close, since
    /// closing with unread input would reset the connection under the response.
    async fn linger(&self) -> CloseReason {
        let Some(timeout) = self.hcm.timeouts.delayed_close else {
            self.shutdown().await;
            return CloseReason::Local;
        };
        let (settled, dropped, most) = (Cell::new(false), Cell::new(false), Cell::new(LINGER));
        let drain = poll_fn(|cx| {
            if ready!(self.poll_write(cx)).is_err() {
                return Poll::Ready(());
            }
            while most.get() > 0 {
                match self.poll_fill(cx, 1) {
                    Poll::Pending => {
                        settled.set(true);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {
                        let read = &mut self.bufs.borrow_mut().read;
                        let n = read.len();
                        read.consume(n);
                        most.set(most.get().saturating_sub(n));
                        // What was here when the answer was made has been read by Envoy, too.
                        dropped.set(settled.get());
                    }
                }
            }
            Poll::Pending
        });
        if clock::timeout(TimerKind::Other, timeout, drain).await.is_err() {
            self.hcm.stats.downstream_cx_delayed_close_timeout().inc();
            if dropped.get() {
                // Envoy leaves it unread, so that the kernel answers with RST.
                self.io.borrow().set_reset_on_close();
            }
            return CloseReason::Local;
        }
        CloseReason::Remote
    }
}

impl Downstream for H1Conn {
    fn send_informational(&self, head: &ResponseHead) {
        let out = &mut self.bufs.borrow_mut().out;
        let before = out.len();
        self.codec.borrow_mut().write_informational(head, out);
        self.wire.write(before, out.len());
    }
    fn send_head(&self, head: &mut ResponseHead, end: bool) {
        if !self.hcm.timeouts.http1_safe {
            self.is_old(); // then it asks the client to go elsewhere
        }
        let out = &mut self.bufs.borrow_mut().out;
        let before = out.len();
        self.codec.borrow_mut().write_head(head, end, out);
        let n = self.wire.write(before, out.len());
        // Without `HTTP/1.1 200 OK` and the empty line.
        self.wire.headers_tx.set(n.saturating_sub(17 + nuncio_wire::h1::reason(head.status).len() as u64));
    }
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.bufs.borrow().out.len() < HIGH_WATER {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush(cx)
    }
    fn send_data(&self, data: Chunk) {
        let out = &mut self.bufs.borrow_mut().out;
        let before = out.len();
        self.codec.borrow_mut().write_data(data, out);
        self.wire.write(before, out.len());
    }
    fn send_end(&self, trailers: Option<&HeaderMap>) {
        let out = &mut self.bufs.borrow_mut().out;
        let before = out.len();
        self.codec.borrow_mut().write_end(trailers, out);
        self.wire.write(before, out.len());
    }
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let waiting = self.bufs.borrow().out.len();
        // Handed to the flusher is as good as handed to the kernel: should that not take it, this task is woken.
        if self.later.offer(waiting, || Some(self.me.upgrade()?), cx.waker()) {
            return Poll::Ready(Ok(()));
        }
        self.poll_write(cx).map_err(|_| {
            self.gone.set(Some(CloseReason::Remote));
            Gone::Disconnected
        })
    }
    fn reset(&self, _: ResetReason) {
        self.hcm.stats.downstream_rq_tx_reset().inc();
        self.gone.set(Some(CloseReason::LocalReset));
    }
    fn flush_timeout(&self, _: Option<Duration>) -> Option<Duration> {
        self.hcm.timeouts.idle // to Envoy the request is over, and its connection idle
    }
    fn unread(&self) {
        self.hcm.stats.downstream_cx_idle_timeout().inc();
        self.gone.set(Some(CloseReason::LocalReset));
    }
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.gone.get().is_some() {
            return Poll::Ready(Gone::Disconnected);
        }
        // 100 Continue and early 1xx heads leave even while nothing else is written.
        if !self.later.is_listed() && self.poll_write(cx).ready_and(|r| r.is_err()) {
            self.gone.set(Some(CloseReason::Remote));
            return Poll::Ready(Gone::Disconnected);
        }
        // While a body is being pulled, its reader sees the end of the connection.
        // But for what waits for the answer to an upgrade: nobody pulls that.
        let pulled = self.reading_body.get() && !self.codec.borrow().withholds();
        if pulled || self.bufs.borrow().read.len() >= PIPELINE {
            return Poll::Pending;
        }
        loop {
            match ready!(self.poll_fill(cx, 1)) {
                Ok(0) | Err(_) => {
                    self.gone.set(Some(CloseReason::Remote));
                    return Poll::Ready(Gone::Disconnected);
                }
                Ok(_) if self.bufs.borrow().read.len() >= PIPELINE => return Poll::Pending,
                Ok(_) => {}
            }
        }
    }
    fn idle_timer(&self) -> &RefCell<Option<Sleep>> {
        &self.stream_idle
    }
    fn set_close(&self) {
        self.codec.borrow_mut().close_after_response();
    }
    fn start_drain(&self) -> bool {
        let mut codec = self.codec.borrow_mut();
        if self.drain_until.get().is_some() || codec.closes_after_response() {
            return false;
        }
        codec.announce_close();
        self.drain_until.set(Some(clock::now() + self.hcm.timeouts.drain()));
        true
    }
    fn count_unread(&self, sx: &StreamShared) {
        let (mut codec, mut bufs) = (self.codec.borrow_mut(), self.bufs.borrow_mut());
        loop {
            let before = bufs.read.len();
            let event = codec.read_body(&mut bufs.read);
            self.wire.read(before, bufs.read.len());
            match event {
                Ok(BodyEvent::Data(c)) => {
                    sx.info.bytes_received.set(sx.info.bytes_received.get() + c.len() as u64);
                }
                Ok(BodyEvent::Trailers(_) | BodyEvent::End) => {
                    self.reading_body.set(false);
                    sx.info.times.ds_rx_end.set(Some(clock::now()));
                    return;
                }
                // The rest is under way, or wrong: the connection does not outlive this exchange.
                Ok(BodyEvent::NeedMore) | Err(_) => return,
            }
        }
    }
    fn meter(&self, m: &Meter) {
        m.wire_rx.set(self.wire.rx.take());
        m.wire_tx.set(self.wire.tx.take());
        m.header_tx.set(self.wire.headers_tx.get());
        m.plain_header_tx.set(self.wire.headers_tx.take());
    }
    fn began(&self) -> Option<Instant> {
        self.head_since.get()
    }
}

impl Flush for H1Conn {
    fn flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.later.is_listed() {
            true if !matches!(self.poll_write(cx), Poll::Ready(Ok(()))) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

impl ConnBody for H1Conn {
    fn poll_frame(
        &self,
        _: u32,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            let event = {
                let mut bufs = self.bufs.borrow_mut();
                let before = bufs.read.len();
                let event = self.codec.borrow_mut().read_body(&mut bufs.read);
                self.wire.read(before, bufs.read.len());
                event
            };
            match event {
                Ok(BodyEvent::Data(c)) => {
                    sx.info.bytes_received.set(sx.info.bytes_received.get() + c.len() as u64);
                    sx.info.active.set(clock::now());
                    return Poll::Ready(Some(Ok(Frame::Data(c))));
                }
                Ok(BodyEvent::Trailers(t)) => {
                    self.reading_body.set(false);
                    sx.info.times.ds_rx_end.set(Some(clock::now()));
                    return Poll::Ready(Some(Ok(Frame::Trailers(Box::new(t)))));
                }
                Ok(BodyEvent::End) => {
                    self.reading_body.set(false);
                    sx.info.times.ds_rx_end.set(Some(clock::now()));
                    return Poll::Ready(None);
                }
                // The response decides about an upgrade; until then nothing is read.
                Ok(BodyEvent::NeedMore) if self.codec.borrow().withholds() => return Poll::Pending,
                Ok(BodyEvent::NeedMore) => {}
                Err(e) => {
                    self.reading_body.set(false);
                    self.hcm.stats.downstream_cx_protocol_error().inc();
                    let reply =
                        LocalReply::new(e.status, e.body, e.details).flag(Flag::DownstreamProtocolError);
                    return Poll::Ready(Some(Err(BodyError::Reply(Box::new(reply)))));
                }
            }
            // What waits to be written (100 Continue) may be what the client waits for.
            let _ = self.poll_write(cx); // a broken connection is noticed by reading
            let room = self.bufs.borrow().read.body_space();
            match ready!(self.poll_fill(cx, room)) {
                Ok(0) | Err(_) => {
                    self.reading_body.set(false);
                    // The end of a tunnel is the end of its connection, in both directions, as in Envoy.
                    let tunnel = self.codec.borrow().upgraded();
                    if self.codec.borrow_mut().read_eof() == Eof::BodyEnd && !tunnel {
                        continue;
                    }
                    self.gone.set(Some(CloseReason::Remote));
                    return Poll::Ready(Some(Err(BodyError::Reset(ResetReason::ConnectionTermination))));
                }
                Ok(_) => {}
            }
        }
    }
    fn is_end(&self, _: u32) -> bool {
        self.codec.borrow().request_complete()
    }
    fn abandon(&self, _: u32) {
        self.reading_body.set(false);
    }
}

/// `Poll<Result>` helper that reads well in conditions.
trait ReadyAnd<T> {
    fn ready_and(self, f: impl FnOnce(T) -> bool) -> bool;
}
impl<T> ReadyAnd<T> for Poll<T> {
    fn ready_and(self, f: impl FnOnce(T) -> bool) -> bool {
        match self {
            Poll::Ready(t) => f(t),
            Poll::Pending => false,
        }
    }
}

//! Drives one HTTP/2 downstream connection; each request runs in a task of its own.

use super::codec::count;
use super::cycle::Cycle;
use super::drain::idle_kind;
use super::premature::{self, Premature};
use super::stream::{Downstream, Gone, drive};
use super::{CloseReason, Hcm, LINGER};
use crate::io::Io;
use crate::keepalive::Keepalive;
use crate::mux::{End, Incoming, Mux};
use crate::slab::{Inbox, LoopPool};
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::error::ResetReason;
use nuncio_core::info::{ConnInfo, Meter, StreamInfo, StreamShared};
use nuncio_core::pipeline::Finalizer;
use nuncio_core::{Body, BodyError, ConnBody, Exchange, Flag, Frame};
use nuncio_wire::h2::{Connection, ErrorCode, Kind, details};
use nuncio_wire::{Chunk, HeaderMap, ReadBuf, RequestHead, ResponseHead, Version, name};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// One downstream connection.
pub struct H2Conn {
    mux: Mux,
    hcm: Rc<Hcm>,
    info: Rc<ConnInfo>,
    /// The last GOAWAY was sent: the connection closes with its last stream.
    closing: Cell<bool>,
    /// The client was asked to go elsewhere; at this time the last GOAWAY follows.
    drain_until: Cell<Option<Instant>>,
    /// Requests so far.
    served: Cell<u32>,
    premature: Premature,
    /// It was cut off; whether other streams were under way.
    cut: Cell<Option<bool>>,
}

/// One stream of a connection: the client's side of one exchange.
struct H2Stream {
    conn: Rc<H2Conn>,
    slot: u32,
    idle: RefCell<Option<Sleep>>,
    /// Bytes of the response's names and values.
    plain_header_tx: Cell<u64>,
    /// It had to wait for its turn: by then the client may have reset it.
    waited: bool,
}

/// Serves `io` until it ends; `prefix` holds what was read from it already.
/// The reason of the end, and whether an exchange was under way.
pub async fn serve(io: Io, prefix: ReadBuf, hcm: Rc<Hcm>, info: Rc<ConnInfo>) -> (CloseReason, bool) {
    let codec = Connection::server(hcm.h2.clone());
    info.buffer_limit.set(hcm.h2.initial_window_size);
    let conn = Rc::new(H2Conn {
        mux: Mux::new(io, prefix, codec, false),
        hcm,
        info,
        closing: Cell::new(false),
        drain_until: Cell::new(None),
        served: Cell::new(0),
        premature: Premature::default(),
        cut: Cell::new(None),
    });
    let s = &conn.hcm.stats;
    s.downstream_cx_http2_total().inc();
    let _active = s.downstream_cx_http2_active().guard();
    conn.hcm.http2_stats().nghttp2_downstream_connections().inc();
    let _cut = CutStreams(&conn);
    let reason = run(&conn).await;
    conn.count();
    reason
}

/// Ends the streams of a connection whose task is dropped: they have tasks of their own.
struct CutStreams<'a>(&'a H2Conn);

impl Drop for CutStreams<'_> {
    fn drop(&mut self) {
        if !self.0.mux.is_closed() {
            self.0.mux.close(ResetReason::LocalReset, "");
        }
    }
}

async fn run(conn: &Rc<H2Conn>) -> (CloseReason, bool) {
    let (reason, active) = drive_connection(conn).await;
    if !matches!(reason, CloseReason::LocalReset | CloseReason::Drained) {
        return (reason, active);
    }
    // Delayed close: the client gets time to read why.
    if let Some(timeout) = conn.hcm.timeouts.delayed_close {
        let mut most = LINGER;
        let rest = poll_fn(|cx| conn.mux.poll_discard(cx, &mut most));
        if clock::timeout(TimerKind::Other, timeout, rest).await.is_err() {
            conn.hcm.stats.downstream_cx_delayed_close_timeout().inc();
        }
    }
    (reason, active)
}

async fn drive_connection(conn: &Rc<H2Conn>) -> (CloseReason, bool) {
    let pool = LoopPool::of(exchanges);
    let keepalive = conn.hcm.plan.keepalive.map(|plan| Box::new(Keepalive::new(plan)));
    let idle = RefCell::new(Idle { since: clock::now(), sleep: None, age: None, keepalive });
    let begin = |(stream, head, end): Begun| {
        crate::guard::spawn("stream", pool.start(exchanges, (stream, head, end)));
    };
    let mut cycle = Cycle::new(conn.hcm.plan.requests_per_cycle.get());
    poll_fn(|cx| {
        cycle.next(begin, |(stream, ..)| conn.mux.reset_of(stream.slot).is_some());
        let end = conn.mux.poll(cx, &mut |incoming| match incoming {
            Incoming::Refused { details } => conn.refused(details, ""),
            Incoming::GoAway | Incoming::Settings => {}
            Incoming::Request { slot, head, end } => {
                let waited = cycle.is_over();
                let request = (H2Stream::new(conn.clone(), slot, waited), head, end);
                match waited {
                    true => cycle.put_off(request),
                    false => begin(request),
                }
            }
        });
        if cycle.waits() {
            cx.waker().wake_by_ref(); // others run first
        }
        let received = conn.count();
        if let Some(active) = conn.cut.get() {
            return Poll::Ready((CloseReason::Local, active));
        }
        match end {
            Poll::Ready(End::Remote) => return Poll::Ready((CloseReason::Remote, conn.mux.in_use() > 0)),
            Poll::Ready(End::Protocol(e)) => {
                if e.kind == Kind::Protocol {
                    conn.hcm.stats.downstream_cx_protocol_error().inc();
                }
                let active = e.begun || conn.mux.in_use() > 0;
                if e.begun {
                    conn.refused(e.details, e.message);
                }
                return Poll::Ready((CloseReason::LocalReset, active));
            }
            Poll::Pending => {}
        }
        if conn.mux.in_use() > 0 {
            idle.borrow_mut().since = clock::now();
        } else if conn.closing.get() && conn.mux.poll_write(cx).is_ready() {
            conn.mux.close(ResetReason::ConnectionTermination, "");
            return Poll::Ready((CloseReason::Drained, false));
        }
        let timers = &mut *idle.borrow_mut();
        if let Some(k) = &mut timers.keepalive {
            if k.poll(cx, &conn.mux, received).is_ready() {
                let active = conn.mux.in_use() > 0;
                conn.lost();
                return Poll::Ready((CloseReason::PingTimeout, active));
            }
            let _ = conn.mux.poll_write(cx); // a broken connection is noticed by reading
        }
        conn.poll_age(cx, timers);
        conn.poll_timers(cx, timers);
        Poll::Pending
    })
    .await
}

/// A request whose stream is to begin: its head, and whether that is all of it.
type Begun = (H2Stream, RequestHead, bool);

/// Requests, one after the other, each in the task of a stream that borrows the loop: a task of its own size would be as
/// large as all that a request may have to wait for, and be moved and freed with every stream.
async fn exchanges(inbox: Inbox<Begun>) {
    loop {
        let (stream, head, end) = inbox.next().await;
        pin!(exchange(stream, head, end)).await;
    }
}

/// One request: everything between its head and the last frame of its response.
async fn exchange(d: H2Stream, mut head: RequestHead, end: bool) {
    let hcm = d.conn.hcm.clone();
    let sx = StreamShared::new(d.conn.info.clone(), Some(hcm.routes()));
    let info = &sx.info;
    info.protocol.set(Some(Version::Http2));
    info.downstream.plain_header_rx.set(head.headers.byte_size() as u64);
    hcm.stats.downstream_rq_http2_total().inc();
    super::extended_connect::request_from_h2(&mut head);
    let body = if end {
        info.times.ds_rx_end.set(Some(clock::now()));
        Body::Empty
    } else {
        Body::conn(d.conn.clone(), d.slot)
    };
    if head.headers.get(name::EXPECT).is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"))
        && !hcm.proxy_100_continue
    {
        d.send_informational(&ResponseHead::new(100));
        hcm.count_code(100);
        head.headers.remove(name::EXPECT);
    }
    let served = &d.conn.served;
    served.set(served.get().saturating_add(1));
    let most = hcm.plan.max_requests_per_connection;
    if most > 0 && served.get() >= most {
        hcm.stats.downstream_cx_max_requests_reached().inc();
        d.conn.start_drain();
    }
    let early = hcm.begin_request(&mut head, &sx);
    let ex = Exchange::new(head, body, sx.clone());
    pin!(drive(&d, &hcm, ex, early)).await;
    d.conn.ended(&sx.info);
    sx.recycle();
}

impl H2Stream {
    fn new(conn: Rc<H2Conn>, slot: u32, waited: bool) -> H2Stream {
        H2Stream { conn, slot, idle: RefCell::default(), plain_header_tx: Cell::default(), waited }
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        // NO_ERROR asks the client to stop sending a body that nobody needs (RFC 9113 §8.1).
        let _ = self.conn.mux.release(self.slot, ErrorCode::NO_ERROR); // counted at the exchange's end
    }
}

struct Idle {
    since: Instant,
    /// The timer that runs, and until when.
    sleep: Option<(Sleep, Instant)>,
    /// For `max_connection_duration`.
    age: Option<Box<Sleep>>,
    keepalive: Option<Box<Keepalive>>,
}

impl H2Conn {
    /// Moves the codec's and the socket's counts into the stats. Whether something was read.
    fn count(&self) -> bool {
        let (rx, tx) = self.mux.take_bytes();
        count(&self.hcm, &self.info, rx, tx);
        crate::stats::count_http2(self.hcm.http2_stats(), &self.mux.codec(Connection::take_counters));
        rx > 0
    }
    /// A stream has ended: a client that resets too many is cut off.
    fn ended(&self, info: &StreamInfo) {
        if !self.premature.ended(info, &self.hcm.plan.premature) || self.mux.is_closed() {
            return;
        }
        let s = &self.hcm.stats;
        s.downstream_rq_too_many_premature_resets().inc();
        s.downstream_cx_protocol_error().inc();
        self.cut.set(Some(self.mux.in_use() > 1)); // this one is about to let go
        self.mux.close(ResetReason::LocalReset, premature::DETAILS);
    }
    /// The client does not answer PINGs.
    fn lost(&self) {
        self.hcm.http2_stats().keepalive_timeout().inc();
        self.mux.close(ResetReason::LocalReset, "downstream_local_disconnect(http2_ping_timeout)");
    }
    /// Counts and logs a request whose head broke a rule; `message` is the connection's, if it ended that too.
    fn refused(&self, details: &'static str, message: &'static str) {
        let sx = StreamShared::new(self.info.clone(), None);
        sx.info.protocol.set(Some(Version::Http2));
        let flag = match details {
            details::HEADER_LIST_TOO_LARGE | details::TOO_MANY_HEADERS | details::UNDERSCORE => {
                Flag::DownstreamRemoteReset
            }
            _ => Flag::DownstreamProtocolError,
        };
        sx.info.set_flag(flag);
        match details.is_empty() {
            true => sx.info.set_details(format!("codec_error:{}", message.replace(' ', "_"))),
            false => sx.info.set_details(details),
        }
        self.hcm.count_request_begun();
        self.hcm.stats.downstream_rq_http2_total().inc();
        self.hcm.done(&Exchange::new(RequestHead::default(), Body::Empty, sx));
    }
    /// Asks the client to go elsewhere; streams are still taken for `drain_timeout`, as in Envoy.
    fn drain(&self) {
        if self.drain_until.get().is_none() {
            self.drain_until.set(Some(clock::now() + self.hcm.timeouts.drain()));
            self.mux.codec(Connection::shutdown_notice);
            self.mux.wake();
        }
    }
    /// The last step: no stream is taken any more; the connection closes when the last one has ended.
    fn go_away(&self) {
        if !self.closing.replace(true) {
            self.mux.codec(|c| c.goaway(ErrorCode::NO_ERROR, b""));
            self.mux.wake();
        }
    }
    /// `max_connection_duration`
    fn poll_age(&self, cx: &mut Context<'_>, timers: &mut Idle) {
        let Some(max) = self.hcm.timeouts.max_connection(&self.info) else { return };
        if self.closing.get() || self.drain_until.get().is_some() {
            return;
        }
        let kind = TimerKind::HttpDownstreamConnectionMax;
        let end = self.info.start + max;
        let sleep = timers.age.get_or_insert_with(|| Box::new(clock::sleep_until(kind, end)));
        if Pin::new(&mut **sleep).poll(cx).is_ready() {
            self.hcm.stats.downstream_cx_max_duration_reached().inc();
            self.start_drain();
        }
    }
    /// The first step of a graceful end: the client is asked to go elsewhere, but what it has begun meanwhile is served.
    /// False: it was asked before.
    fn start_drain(&self) -> bool {
        if self.closing.get() || self.drain_until.get().is_some() {
            return false;
        }
        self.drain_until.set(Some(clock::now() + self.hcm.timeouts.drain()));
        self.mux.codec(Connection::shutdown_notice);
        self.mux.wake();
        true
    }
    /// `idle_timeout` begins a drain, `drain_timeout` ends it.
    fn poll_timers(&self, cx: &mut Context<'_>, idle: &mut Idle) {
        while !self.closing.get() {
            let deadline = match (self.drain_until.get(), self.hcm.timeouts.idle) {
                (Some(at), _) => at,
                (None, Some(timeout)) => idle.since + timeout,
                (None, None) => return,
            };
            // Looked at lazily; only what comes earlier than the timer that runs arms it anew.
            let now = clock::now();
            let kind = idle_kind(self.drain_until.get());
            let armed = idle.sleep.get_or_insert_with(|| (clock::sleep_until(kind, deadline), deadline));
            if armed.1 > deadline {
                *armed = (clock::sleep_until(TimerKind::Other, deadline), deadline);
            }
            if Pin::new(&mut armed.0).poll(cx).is_pending() {
                return;
            }
            // Overload may have shortened the timer.
            let due = now >= deadline || armed.1 == deadline;
            idle.sleep = None;
            if !due {
                continue;
            }
            if self.drain_until.get().is_some() {
                self.go_away();
            } else if self.mux.in_use() == 0 {
                self.hcm.stats.downstream_cx_idle_timeout().inc();
                self.start_drain();
            } else {
                idle.since = now;
            }
        }
    }
}

impl Downstream for H2Stream {
    fn send_informational(&self, head: &ResponseHead) {
        self.conn.mux.send_response(self.slot, head, false);
    }
    fn meter(&self, m: &Meter) {
        let wire = self.conn.mux.meter(self.slot);
        m.wire_rx.set(wire.wire_received);
        m.wire_tx.set(wire.wire_sent);
        m.header_rx.set(wire.header_received);
        m.header_tx.set(wire.header_sent);
        m.plain_header_tx.set(self.plain_header_tx.get());
    }
    fn send_head(&self, head: &mut ResponseHead, end: bool) {
        // With its pseudo-header, `:status` and three digits.
        self.plain_header_tx.set(head.headers.byte_size() as u64 + 10);
        let upgraded = super::extended_connect::response_to_h2(head);
        self.conn.mux.send_response(self.slot, upgraded.as_ref().unwrap_or(head), end);
    }
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.conn.mux.poll_writable(self.slot, cx).map_err(|(r, details)| gone(r, details))
    }
    fn send_data(&self, data: Chunk) {
        self.conn.mux.send_data(self.slot, data, false);
    }
    fn send_end(&self, trailers: Option<&HeaderMap>) {
        self.conn.mux.send_end(self.slot, trailers);
    }
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        // Handed to the connection is as good as handed to the kernel: its task writes.
        self.conn.mux.poll_writable(self.slot, cx).map_err(|(r, details)| gone(r, details))
    }
    fn reset(&self, reason: ResetReason) {
        let code = match reason {
            ResetReason::ProtocolError => ErrorCode::PROTOCOL_ERROR,
            ResetReason::LocalRefusedStream => ErrorCode::REFUSED_STREAM,
            _ => ErrorCode::INTERNAL_ERROR,
        };
        self.conn.hcm.stats.downstream_rq_tx_reset().inc();
        self.conn.mux.reset(self.slot, code);
    }
    fn flush_timeout(&self, stream: Option<Duration>) -> Option<Duration> {
        stream
    }
    fn unread(&self) {
        self.conn.hcm.http2_stats().tx_flush_timeout().inc();
        self.conn.mux.reset(self.slot, ErrorCode::INTERNAL_ERROR);
    }
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.conn.mux.poll_reset(self.slot, cx).map(|(r, details)| gone(r, details))
    }
    fn taken_back(&self) -> Option<Gone> {
        // What came with the request was read before it has its turn. Envoy asks a host all the same.
        let (reason, details) = self.conn.mux.reset_of(self.slot)?;
        (self.waited || self.conn.premature.is_habit()).then(|| gone(reason, details))
    }
    fn idle_timer(&self) -> &RefCell<Option<Sleep>> {
        &self.idle
    }
    fn set_close(&self) {
        self.conn.drain();
    }
    fn start_drain(&self) -> bool {
        self.conn.start_drain()
    }
    fn count_unread(&self, sx: &StreamShared) {
        let (size, ended) = self.conn.mux.unread(self.slot);
        sx.info.bytes_received.set(sx.info.bytes_received.get() + size);
        if ended {
            sx.info.times.ds_rx_end.set(Some(clock::now()));
        }
    }
}

fn gone(r: ResetReason, details: &'static str) -> Gone {
    match r {
        ResetReason::ConnectionTermination => Gone::Disconnected,
        ResetReason::LocalReset => Gone::Cut(details),
        ResetReason::ProtocolError => Gone::Protocol(details),
        _ => Gone::Reset(details),
    }
}

impl ConnBody for H2Conn {
    fn poll_frame(
        &self,
        slot: u32,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let r = self.mux.poll_frame(slot, cx);
        match &r {
            Poll::Ready(Some(Ok(Frame::Data(c)))) => {
                sx.info.bytes_received.set(sx.info.bytes_received.get() + c.len() as u64);
                sx.info.active.set(clock::now());
            }
            Poll::Ready(None | Some(Ok(Frame::Trailers(_)))) => {
                sx.info.times.ds_rx_end.set(Some(clock::now()))
            }
            _ => {}
        }
        r
    }
    fn is_end(&self, slot: u32) -> bool {
        self.mux.is_end(slot)
    }
    fn abandon(&self, _: u32) {
        // The stream's slot is freed with the exchange; what still arrives is dropped with it.
    }
}

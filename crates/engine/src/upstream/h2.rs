//! One HTTP/2 upstream connection: a task drives it, requests share it.

use super::host::Host;
use super::idle;
use super::local::Cluster;
use super::pool::PoolRef;
use super::stream::{Charge, Facts, Fate, Fit, LATELY, UpConn, UpResponse};
use crate::http::extended_connect;
use crate::io::{Io, Peer};
use crate::keepalive::Keepalive;
use crate::mux::{End, Incoming, Mux};
use nuncio_core::body::{BodyError, ConnBody, Frame};
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::info::StreamShared;
use nuncio_wire::h2::{Connection, ErrorCode};
use nuncio_wire::{Chunk, HeaderMap, ReadBuf, RequestHead};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// An HTTP/2 upstream connection.
pub struct H2Up {
    /// Its number.
    pub id: u64,
    /// Its host.
    pub host: Arc<Host>,
    cluster: Rc<Cluster>,
    pool: PoolRef,
    me: Weak<H2Up>,
    mux: Mux,
    /// By number of the request: its slot once its head was sent, and what it holds.
    requests: RefCell<Vec<Request>>,
    /// Places among them that nobody uses.
    free: RefCell<Vec<u32>>,
    /// Requests that were promised a place and have not begun.
    promised: Cell<u32>,
    /// Requests that have begun and whose head was not sent yet.
    unsent: Cell<u32>,
    begun: Cell<u64>,
    draining: Cell<bool>,
    /// It has answered a request.
    answered: Cell<bool>,
    last_used: Cell<Instant>,
    born: Instant,
    keepalive: Option<RefCell<Keepalive>>,
    /// Addresses and TLS facts.
    pub facts: Facts,
}

#[derive(Default)]
struct Request {
    slot: Option<u32>,
    /// It asks for this upgrade.
    upgrade: Option<Box<[u8]>>,
    charge: Option<Charge>,
    used: bool,
    /// Its head was sent, or could not be.
    sent: bool,
    /// The connection had answered others before it began.
    reused: bool,
}

impl H2Up {
    /// Starts to drive a connection just made.
    pub fn start(io: Io, cluster: Rc<Cluster>, host: Arc<Host>, pool: PoolRef) -> Rc<H2Up> {
        cluster.http2_stats().nghttp2_upstream_connections().inc();
        let codec = Connection::client(cluster.plan.http.h2.clone());
        let now = clock::now();
        let facts = Facts::of(&io);
        let keepalive = cluster.plan.http.keepalive.map(|plan| RefCell::new(Keepalive::new(plan)));
        let up = Rc::new_cyclic(|me| H2Up {
            id: idle::next_id(),
            host,
            cluster,
            pool,
            me: me.clone(),
            mux: Mux::new(io, ReadBuf::new(), codec, true),
            requests: RefCell::default(),
            free: RefCell::default(),
            promised: Cell::new(0),
            unsent: Cell::new(0),
            begun: Cell::new(0),
            draining: Cell::new(false),
            answered: Cell::new(false),
            last_used: Cell::new(now),
            born: now,
            keepalive,
            facts,
        });
        crate::guard::spawn("upstream connection", run(up.clone()));
        up
    }
    /// Another request may be opened now, those that were promised a place counted.
    pub fn can_open(&self) -> bool {
        !self.draining.get()
            && !self.mux.is_closed()
            && self.mux.codec(|c| c.streams() as u32 + self.promised.get() < c.max_open())
            && self.within_max_requests()
    }
    /// Whether a request may go out on it now: as [`can_open`](Self::can_open), and by what the kernel knows of a connection that
    /// nobody uses and that has rested, or in any case when `sure`.
    pub(super) fn fit(&self, sure: bool) -> Fit {
        if !self.can_open() {
            return Fit::No;
        }
        let asks = self.mux.in_use() == 0
            && (sure || clock::now().saturating_duration_since(self.last_used.get()) >= LATELY);
        // What it says may be a PING. If it is GOAWAY, the request is sent again.
        match asks && self.mux.peer() == Peer::Gone {
            true => Fit::No,
            false => Fit::Yes,
        }
    }
    pub(super) fn is_reused(&self, n: u32) -> bool {
        self.requests.borrow().get(n as usize).is_some_and(|r| r.reused)
    }
    /// What is known of the host's part in a request that failed for `reason`.
    pub(super) fn fate(&self, n: u32, reason: ResetReason) -> Fate {
        let all = self.requests.borrow();
        let Some(r) = all.get(n as usize).filter(|r| r.reused) else { return Fate::Unknown };
        match r.slot {
            None => Fate::Unsent,
            Some(_) if reason == ResetReason::RemoteRefusedStream => Fate::Refused,
            Some(slot) if self.mux.is_unsent(slot) => Fate::Unsent,
            Some(_) => Fate::Unknown,
        }
    }
    fn within_max_requests(&self) -> bool {
        let max = u64::from(self.cluster.plan.http.max_requests_per_connection);
        max == 0 || self.begun.get() + u64::from(self.promised.get()) < max
    }
    /// It has had as many requests as it may.
    fn is_spent(&self) -> bool {
        let max = u64::from(self.cluster.plan.http.max_requests_per_connection);
        max > 0 && self.begun.get() >= max
    }
    /// It takes no more requests, as it was told.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }
    /// It answered requests before.
    pub(super) fn is_used(&self) -> bool {
        self.answered.get()
    }
    /// It carries requests.
    pub(super) fn is_busy(&self) -> bool {
        self.load().0 > 0
    }
    /// Requests that it carries, and how many more it would.
    pub(super) fn load(&self) -> (usize, usize) {
        let promised = self.promised.get() as usize;
        let (used, most) = self.mux.codec(|c| (c.streams() + promised, c.max_open() as usize));
        (used, most.saturating_sub(used))
    }
    /// Keeps a place for a request that is about to begin.
    pub fn promise(&self) {
        self.promised.set(self.promised.get() + 1);
    }
    /// The promised request will not come.
    pub fn unpromise(&self) {
        self.promised.set(self.promised.get().saturating_sub(1));
    }
    /// Begins a request; returns its number.
    ///
    /// # Errors
    /// The connection is gone, or about to go.
    pub fn begin(&self, charge: Charge) -> Result<u32, StreamError> {
        self.unpromise();
        if self.mux.is_closed() || self.draining.get() {
            return Err(ResetReason::ConnectionTermination.into());
        }
        self.begun.set(self.begun.get() + 1);
        self.unsent.set(self.unsent.get() + 1);
        let mut all = self.requests.borrow_mut();
        let reused = self.answered.get();
        let request = Request { charge: Some(charge), used: true, reused, ..Request::default() };
        let n = self.free.borrow_mut().pop().unwrap_or(all.len() as u32);
        match all.get_mut(n as usize) {
            Some(place) => *place = request,
            None => all.push(request),
        }
        Ok(n)
    }
    /// No new requests; closes when the last one has ended.
    pub fn drain(&self) {
        self.draining.set(true);
        self.mux.wake();
    }
    fn slot(&self, n: u32) -> Option<u32> {
        self.requests.borrow().get(n as usize).and_then(|r| r.slot)
    }

    pub(super) fn send_head(&self, n: u32, head: &RequestHead, end: bool) -> Result<(), StreamError> {
        if let Some(k) = &self.keepalive {
            k.borrow_mut().before_stream(&self.mux);
        }
        if let Some(r) = self.requests.borrow_mut().get_mut(n as usize) {
            r.sent = true;
        }
        self.unsent.set(self.unsent.get().saturating_sub(1));
        let (slot, upgrade) = match extended_connect::request_to_h2(head) {
            None => (self.mux.open(head, end)?, None),
            Some((head, kind)) => (self.mux.open(&head, end)?, Some(kind)),
        };
        if let Some(r) = self.requests.borrow_mut().get_mut(n as usize) {
            (r.slot, r.upgrade) = (Some(slot), upgrade);
            self.cluster.http2_stats().streams_active().inc();
        }
        if !self.draining.get() && self.is_spent() {
            self.draining.set(true);
            self.cluster.plan.stats.upstream_cx_max_requests().inc();
        }
        Ok(())
    }
    pub(super) fn poll_ready(&self, n: u32, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let Some(slot) = self.slot(n) else {
            return Poll::Ready(Err(ResetReason::ConnectionTermination.into()));
        };
        self.mux.poll_ready(slot, cx).map_err(Into::into)
    }
    /// Ready when the host has reset the stream; for one whose response was read to its end.
    pub(super) fn poll_reset(&self, n: u32, cx: &mut Context<'_>) -> Poll<()> {
        let Some(slot) = self.slot(n) else { return Poll::Ready(()) };
        match ready!(self.mux.poll_reset(slot, cx)) {
            // RFC 9113 section 8.1: the host needs no more of the request.
            (ResetReason::RemoteReset, "") => self.cluster.plan.stats.upstream_rq_rx_reset_no_error().inc(),
            (reason, _) => self.count_reset(reason),
        }
        Poll::Ready(())
    }
    pub(super) fn send_data(&self, n: u32, data: Chunk) {
        if let Some(slot) = self.slot(n) {
            self.mux.send_data(slot, data, false);
        }
    }
    pub(super) fn send_end(&self, n: u32, trailers: Option<&HeaderMap>) {
        if let Some(slot) = self.slot(n) {
            self.mux.send_end(slot, trailers);
        }
    }
    pub(super) fn poll_flush(&self, n: u32, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.poll_ready(n, cx)
    }
    pub(super) fn poll_head(
        &self,
        n: u32,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Result<UpResponse, StreamError>> {
        let Some(slot) = self.slot(n) else {
            return Poll::Ready(Err(ResetReason::ConnectionTermination.into()));
        };
        let got = ready!(self.mux.poll_head(slot, cx));
        self.answered.set(self.answered.get() || got.is_ok());
        self.meter(slot, sx);
        let (mut head, end) = got.inspect_err(|r| self.count_reset(*r))?;
        if let Some(kind) = self.requests.borrow().get(n as usize).and_then(|r| r.upgrade.as_deref()) {
            extended_connect::response_from_h2(&mut head, kind);
        }
        sx.info.upstream_meter.plain_header_rx.set(head.headers.byte_size() as u64 + 10);
        Poll::Ready(Ok(UpResponse { head, end }))
    }
    fn meter(&self, slot: u32, sx: &StreamShared) {
        let (m, wire) = (&sx.info.upstream_meter, self.mux.meter(slot));
        m.wire_rx.set(wire.wire_received);
        m.wire_tx.set(wire.wire_sent);
        m.header_rx.set(wire.header_received);
        m.header_tx.set(wire.header_sent);
    }
    fn count_reset(&self, r: ResetReason) {
        let s = &self.cluster.plan.stats;
        match r {
            ResetReason::RemoteReset => s.upstream_rq_rx_reset().inc(),
            ResetReason::ConnectionTermination => s.upstream_rq_pending_failure_eject().inc(),
            // The codec has reset this one stream. When it ends them all, `closed` counts them.
            ResetReason::ProtocolError if !self.mux.is_closed() => s.upstream_rq_tx_reset().inc(),
            _ => {}
        }
    }
    /// Moves the codec's and the socket's counts into the stats. Whether something was read.
    fn count(&self) -> bool {
        let (rx, tx) = self.mux.take_bytes();
        let s = &self.cluster.plan.stats;
        if rx > 0 {
            s.upstream_cx_rx_bytes_total().add(rx);
        }
        if tx > 0 {
            s.upstream_cx_tx_bytes_total().add(tx);
        }
        crate::stats::count_http2(self.cluster.http2_stats(), &self.mux.codec(Connection::take_counters));
        rx > 0
    }
}

async fn run(up: Rc<H2Up>) {
    let mut sleep: Option<Sleep> = None;
    let max = up.cluster.plan.http.max_connection_duration;
    let mut age = max.map(|max| clock::sleep(TimerKind::Other, max));
    let end = poll_fn(|cx| {
        let end = up.mux.poll(cx, &mut |i| match i {
            Incoming::GoAway => {
                up.draining.set(true);
                up.cluster.plan.stats.upstream_cx_close_notify().inc();
            }
            // The host may take more streams than it did.
            Incoming::Settings if up.can_open() => up.pool.offer(UpConn::H2(up.clone())),
            _ => {}
        });
        let received = up.count();
        match end {
            Poll::Ready(End::Remote) => return Poll::Ready((true, false)),
            Poll::Ready(End::Protocol(_)) => return Poll::Ready((false, true)),
            Poll::Pending => {}
        }
        if age.as_mut().is_some_and(|a| Pin::new(a).poll(cx).is_ready()) {
            age = None;
            up.draining.set(true);
            up.cluster.plan.stats.upstream_cx_max_duration_reached().inc();
        }
        if let Some(k) = &up.keepalive {
            if k.borrow_mut().poll(cx, &up.mux, received).is_ready() {
                up.cluster.http2_stats().keepalive_timeout().inc();
                return Poll::Ready((false, false));
            }
            let _ = up.mux.poll_write(cx); // a broken connection is noticed by reading
        }
        if up.mux.in_use() + up.unsent.get() as usize > 0 {
            up.last_used.set(clock::now());
            return Poll::Pending;
        }
        if up.draining.get() {
            if up.is_spent() {
                // Envoy's codec hears of the end in the middle of its work.
                up.cluster.plan.stats.upstream_cx_protocol_error().inc();
            }
            return Poll::Ready((false, false));
        }
        let Some(timeout) = up.cluster.plan.http.idle_timeout else { return Poll::Pending };
        loop {
            let s = sleep.get_or_insert_with(|| clock::sleep(TimerKind::Other, timeout));
            if Pin::new(&mut *s).poll(cx).is_pending() {
                return Poll::Pending;
            }
            let waited = clock::now().saturating_duration_since(up.last_used.get());
            if waited >= timeout {
                up.cluster.plan.stats.upstream_cx_idle_timeout().inc();
                return Poll::Ready((false, false));
            }
            s.reset(timeout - waited);
        }
    })
    .await;
    let (remote, protocol) = end;
    if protocol {
        up.cluster.plan.stats.upstream_cx_protocol_error().inc();
    }
    let requests = up.mux.in_use();
    if protocol {
        // The codec ends its streams itself, before the connection.
        up.cluster.plan.stats.upstream_rq_tx_reset().add(requests as u64);
    }
    let active = requests > 0 && !protocol;
    up.mux.close(if protocol { ResetReason::ProtocolError } else { ResetReason::ConnectionTermination }, "");
    idle::closed(&up.cluster, &up.host, up.pool.priority(), up.born, up.begun.get(), active, remote);
    up.pool.lost(&UpConn::H2(up.clone()));
}

impl ConnBody for H2Up {
    fn poll_frame(
        &self,
        n: u32,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let Some(slot) = self.slot(n) else {
            return Poll::Ready(Some(Err(BodyError::Reset(ResetReason::ConnectionTermination))));
        };
        let r = self.mux.poll_frame(slot, cx);
        match &r {
            Poll::Ready(Some(Ok(Frame::Data(_)))) if sx.info.times.us_rx_body_beg.get().is_none() => {
                sx.info.times.us_rx_body_beg.set(Some(clock::now()));
            }
            Poll::Ready(None | Some(Ok(Frame::Trailers(_)))) => {
                self.meter(slot, sx);
                sx.info.times.us_rx_end.set(Some(clock::now()));
            }
            Poll::Ready(Some(Err(e))) => {
                self.meter(slot, sx);
                if let BodyError::Reset(reason) = e {
                    self.count_reset(*reason);
                }
            }
            _ => {}
        }
        r
    }
    fn is_end(&self, n: u32) -> bool {
        self.slot(n).is_some_and(|s| self.mux.is_end(s))
    }
    fn abandon(&self, n: u32) {
        let (slot, charge) = match self.requests.borrow_mut().get_mut(n as usize) {
            Some(r) => {
                if std::mem::take(&mut r.used) {
                    self.free.borrow_mut().push(n);
                    if !r.sent {
                        self.unsent.set(self.unsent.get().saturating_sub(1));
                        self.mux.wake(); // it may have waited for this one only
                    }
                }
                (r.slot.take(), r.charge.take())
            }
            None => return,
        };
        drop(charge);
        if let Some(slot) = slot {
            self.cluster.http2_stats().streams_active().dec();
            if self.mux.release(slot, ErrorCode::INTERNAL_ERROR) {
                self.cluster.plan.stats.upstream_rq_tx_reset().inc();
            }
        }
        if let Some(me) = self.me.upgrade().filter(|me| me.can_open()) {
            self.pool.offer(UpConn::H2(me));
        }
    }
}

//! The connections of one worker to one host, and the requests that wait for one.
//!
//! As in Envoy: a ready connection is used at once (most recently used first); else the request waits and a
//! connection is made, unless the breaker for connections is open. Whichever connection is ready first serves the
//! request that waits longest.

use super::breakers::Resource;
use super::cluster::UpstreamProtocol;
use super::connect::connect;
use super::h1::H1Up;
use super::h2::H2Up;
use super::health::Health;
use super::host::{Host, HostCounters};
use super::local::Cluster;
use super::stream::{Charge, Fit, UpConn, UpStream};
use super::transport::TransportOptions;
use crate::stats::ClusterStats;
use nuncio_core::clock;
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_wire::Version;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};

/// A pool, per HTTP version spoken.
pub struct HostPool {
    inner: Rc<Inner>,
}

pub(super) struct Inner {
    cluster: Weak<Cluster>,
    host: Arc<Host>,
    /// What the requests of this pool ask of their connections.
    options: Option<TransportOptions>,
    priority: usize,
    /// It is one of the pools that are limited (`max_connection_pools`).
    counted: Cell<bool>,
    h1: Lane,
    /// Also where hosts choose: then connections of both versions are in it.
    h2: Lane,
    /// Hosts choose (`auto_config`).
    negotiates: bool,
    draining: Cell<bool>,
    /// Connections made before this count was reached take no more requests.
    epoch: Cell<u32>,
    /// `upstream.use_http2` of the runtime allowed it when the first connection was asked for.
    http2_allowed: OnceCell<bool>,
}

/// The connections of one HTTP version.
#[derive(Default)]
struct Lane {
    /// Ready for a request; the last one was used last.
    ready: RefCell<Vec<UpConn>>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    connecting: Cell<usize>,
    /// Connections that exist, ready or busy.
    open: Cell<usize>,
}

struct Waiter {
    state: RefCell<Wait>,
    /// It takes no connection that was used before.
    fresh: Cell<bool>,
}

enum Wait {
    Waiting(Option<Waker>),
    Ready(UpConn),
    Failed(StreamError),
    Over,
}

/// What a request asks of a connection.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wants {
    /// It cannot be sent again: the kernel is asked whether the host is still there.
    pub sure: bool,
    /// None that was used before, if another can be had.
    pub fresh: bool,
}

/// How a connection was come by, for `%UPSTREAM_…%` timings.
pub struct Acquired {
    /// The stream; its head is to be sent next.
    pub stream: UpStream,
    /// Connecting began then, when a connection was made for it.
    pub connected: bool,
}

/// How a connection finds its pool again.
#[derive(Clone)]
pub struct PoolRef {
    pool: Weak<Inner>,
    epoch: u32,
    priority: usize,
}

impl PoolRef {
    /// The priority of the requests in the pool.
    pub(super) fn priority(&self) -> usize {
        self.priority
    }
    /// The connection can take another request.
    pub(super) fn offer(&self, conn: UpConn) {
        match self.pool.upgrade() {
            Some(inner) if inner.epoch.get() == self.epoch => ready(&inner, conn),
            _ => close(&conn),
        }
    }
    /// The connection has ended.
    pub(super) fn lost(&self, conn: &UpConn) {
        if let Some(inner) = self.pool.upgrade() {
            let lane = inner.lane_of(conn);
            lane.open.set(lane.open.get().saturating_sub(1));
            lane.ready.borrow_mut().retain(|c| !same(c, conn));
            if let Some(cluster) = inner.cluster.upgrade() {
                inner.connect_for_waiting(&cluster, lane);
                inner.settle(&cluster);
            }
        }
    }
}

fn same(a: &UpConn, b: &UpConn) -> bool {
    match (a, b) {
        (UpConn::H1(a), UpConn::H1(b)) => Rc::ptr_eq(a, b),
        (UpConn::H2(a), UpConn::H2(b)) => Rc::ptr_eq(a, b),
        _ => false,
    }
}

/// Closes a connection that is of no more use; HTTP/2 lets its requests finish.
fn close(conn: &UpConn) {
    match conn {
        UpConn::H1(c) => c.close_local(),
        UpConn::H2(c) => c.drain(),
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.upgrade() {
            self.uncount(&cluster);
        }
    }
}

impl HostPool {
    /// An empty pool, for requests that ask the same of their connections.
    pub fn new(
        cluster: Rc<Cluster>,
        host: Arc<Host>,
        options: Option<TransportOptions>,
        priority: usize,
    ) -> HostPool {
        let (h1, h2) = Default::default();
        let negotiates = matches!(cluster.plan.http.protocol, UpstreamProtocol::Auto { .. });
        let (cluster, draining) = (Rc::downgrade(&cluster), Cell::new(false));
        let inner = Inner {
            cluster,
            host,
            options,
            priority,
            counted: Cell::new(false),
            h1,
            h2,
            negotiates,
            draining,
            epoch: Cell::new(0),
            http2_allowed: OnceCell::new(),
        };
        HostPool { inner: Rc::new(inner) }
    }
    /// A stream on a connection to the host.
    ///
    /// # Errors
    /// A breaker is open, or connecting failed.
    pub async fn acquire(
        &self,
        downstream: Version,
        priority: usize,
        wants: Wants,
    ) -> Result<Acquired, StreamError> {
        match self.attempt(downstream, priority, wants).await {
            Err(e) if e.again && !self.inner.draining.get() => {
                self.attempt(downstream, priority, wants).await
            }
            done => done,
        }
        .map_err(|e| e.error)
    }
    async fn attempt(&self, downstream: Version, priority: usize, wants: Wants) -> Result<Acquired, Unbegun> {
        let inner = &self.inner;
        let Some(cluster) = inner.cluster.upgrade() else { return Err(ResetReason::LocalReset.into()) };
        let lane = inner.lane(&cluster, downstream);
        if !wants.fresh
            && let Some(conn) = lane.take_ready(wants.sure)
        {
            let begun = begin(&cluster, inner, conn, priority);
            if cluster.plan.preconnect.is_some() {
                inner.connect_for_waiting(&cluster, lane);
            }
            return begun.map(|stream| Acquired { stream, connected: false });
        }
        let stats = &cluster.plan.stats;
        let breakers = &cluster.plan.breakers[priority];
        if !breakers.pending.try_take() {
            stats.upstream_rq_pending_overflow().inc();
            return Err(ResetReason::PendingOverflow.into());
        }
        stats.upstream_rq_pending_total().inc();
        stats.upstream_rq_pending_active().inc();
        let waiter =
            Rc::new(Waiter { state: RefCell::new(Wait::Waiting(None)), fresh: Cell::new(wants.fresh) });
        lane.waiting.borrow_mut().push_back(waiter.clone());
        let guard = Pending { inner: inner.clone(), cluster: cluster.clone(), waiter, downstream, priority };
        inner.connect_for_waiting(&cluster, lane);
        if wants.fresh && lane.connecting.get() == 0 {
            // There may be no more of them.
            guard.waiter.fresh.set(false);
            if let Some(conn) = lane.take_ready(true).and_then(|conn| lane.hand_over(conn)) {
                inner.put_back(conn);
            }
        }
        let got = poll_fn(|cx| guard.poll(cx.waker())).await;
        drop(guard);
        begin(&cluster, inner, got?, priority).map(|stream| Acquired { stream, connected: true })
    }
    /// It is one of the pools that the cluster allows, from now on if it may.
    pub fn admitted(&self, cluster: &Cluster) -> bool {
        let inner = &self.inner;
        let Some(pools) = &cluster.plan.breakers[inner.priority].pools else { return true };
        if !inner.counted.get() {
            inner.counted.set(pools.try_take());
        }
        inner.counted.get()
    }
    /// Makes room for another pool, if this one is counted as that would be and serves nobody now.
    pub fn gives_way_to(&self, other: &HostPool) -> bool {
        let inner = &self.inner;
        let serves = |l: &Lane| {
            let busy = |c: &UpConn| matches!(c, UpConn::H2(c) if c.is_busy());
            l.connecting.get() > 0
                || !l.waiting.borrow().is_empty()
                || l.open.get() > l.ready.borrow().len()
                || l.ready.borrow().iter().any(busy)
        };
        if !inner.counted.get()
            || inner.priority != other.inner.priority
            || serves(&inner.h1)
            || serves(&inner.h2)
        {
            return false;
        }
        self.drain_existing();
        if let Some(cluster) = inner.cluster.upgrade() {
            inner.uncount(&cluster);
        }
        true
    }
    /// True while nobody uses it: no connection is there or on its way, and nobody waits.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
    /// The host has failed: no connection there is takes another request; new ones may.
    pub fn drain_existing(&self) {
        self.inner.epoch.set(self.inner.epoch.get().wrapping_add(1));
        for lane in [&self.inner.h1, &self.inner.h2] {
            lane.ready.take().iter().for_each(close);
        }
    }
    /// The host left, or its cluster did: idle connections close, busy ones after their request.
    pub fn drain(&self) {
        self.inner.draining.set(true);
        for lane in [&self.inner.h1, &self.inner.h2] {
            lane.ready.take().iter().for_each(close);
        }
    }
}

/// A request has no connection.
struct Unbegun {
    error: StreamError,
    /// The one that it was to have had served others, or was told to end, and ended before its turn came: it may ask again.
    again: bool,
}

impl From<StreamError> for Unbegun {
    fn from(error: StreamError) -> Unbegun {
        Unbegun { error, again: false }
    }
}

impl From<ResetReason> for Unbegun {
    fn from(reason: ResetReason) -> Unbegun {
        StreamError::from(reason).into()
    }
}

fn begin(
    cluster: &Rc<Cluster>,
    inner: &Rc<Inner>,
    conn: UpConn,
    priority: usize,
) -> Result<UpStream, Unbegun> {
    let Some(charge) = Charge::take(cluster, &inner.host, priority) else {
        inner.put_back(conn);
        return Err(ResetReason::Overflow.into());
    };
    let id = match &conn {
        UpConn::H1(c) => c.begin(charge),
        UpConn::H2(c) => {
            let begun = c.begin(charge);
            let id = begun.map_err(|error| Unbegun { error, again: c.is_used() || c.is_draining() })?;
            // It multiplexes: it stays ready for others.
            if c.can_open() {
                inner.put_back(conn.clone());
            }
            id
        }
    };
    Ok(UpStream::new(conn, id))
}

impl Lane {
    /// The connection used last that may take a request.
    fn take_ready(&self, sure: bool) -> Option<UpConn> {
        let mut doubtful = vec![];
        let found = loop {
            let Some(conn) = self.ready.borrow_mut().pop() else { break None };
            let fit = match &conn {
                UpConn::H1(c) => c.fit(sure),
                UpConn::H2(c) => c.fit(sure),
            };
            match fit {
                Fit::Yes => break Some(conn),
                Fit::Later => doubtful.push(conn),
                Fit::No => {}
            }
        };
        if !doubtful.is_empty() {
            doubtful.reverse();
            self.ready.borrow_mut().splice(0..0, doubtful);
        }
        found
    }
    /// Hands a connection to the request that waits longest; gives it back when none waits.
    fn hand_over(&self, conn: UpConn) -> Option<UpConn> {
        loop {
            let w = {
                let mut waiting = self.waiting.borrow_mut();
                let used = |w: &Rc<Waiter>| !w.fresh.get() || !conn.is_used();
                let Some(at) = waiting.iter().position(used) else { return Some(conn) };
                waiting.remove(at)
            };
            let Some(w) = w else { return Some(conn) };
            let mut s = w.state.borrow_mut();
            if let Wait::Waiting(waker) = &mut *s {
                let waker = waker.take();
                *s = Wait::Ready(conn);
                drop(s);
                waker.into_iter().for_each(Waker::wake);
                return None;
            }
        }
    }
    fn fail_all(&self, e: &StreamError) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for w in &waiting {
            let mut s = w.state.borrow_mut();
            if let Wait::Waiting(waker) = &mut *s {
                let waker = waker.take();
                *s = Wait::Failed(e.clone());
                drop(s);
                waker.into_iter().for_each(Waker::wake);
            }
        }
        waiting.len()
    }
}

impl Inner {
    fn lane(&self, cluster: &Cluster, downstream: Version) -> &Lane {
        let http2 = match cluster.plan.http.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => *self.http2_allowed.get_or_init(|| cluster.plan.use_http2.percent()),
            UpstreamProtocol::Downstream => downstream >= Version::Http2,
            UpstreamProtocol::Auto { .. } => return &self.h2,
        };
        if http2 { &self.h2 } else { &self.h1 }
    }
    fn is_empty(&self) -> bool {
        let unused = |l: &Lane| l.open.get() + l.connecting.get() == 0 && l.waiting.borrow().is_empty();
        unused(&self.h1) && unused(&self.h2)
    }
    /// A pool without connections is none.
    fn settle(&self, cluster: &Cluster) {
        if self.counted.get() && self.is_empty() {
            self.uncount(cluster);
        }
    }
    fn uncount(&self, cluster: &Cluster) {
        if self.counted.replace(false) {
            cluster.plan.breakers[self.priority].pools.iter().for_each(Resource::give);
        }
    }
    /// Starts to connect unless enough connections are there or on their way.
    fn connect_for_waiting(self: &Rc<Self>, cluster: &Rc<Cluster>, lane: &Lane) {
        // As many at once as Envoy makes.
        for _ in 0..3 {
            if !self.connect_one(cluster, lane) {
                break;
            }
        }
    }
    /// Whether the requests that wait, and those to come (`preconnect_policy`), need one more connection.
    fn lacks(&self, cluster: &Cluster, lane: &Lane) -> bool {
        let http2 = std::ptr::eq(lane, &self.h2);
        let waiting = lane.waiting.borrow().len();
        // One HTTP/2 connection carries many requests. Which it will be may not be known yet.
        let each = if http2 && !self.negotiates {
            cluster.plan.http.h2.max_concurrent_streams.max(1) as usize
        } else {
            1
        };
        let coming = lane.connecting.get().saturating_mul(each);
        match cluster.plan.preconnect {
            Some(ratio) if self.host.health.get() == Health::Healthy => {
                let ready = lane.ready.borrow();
                let (mut active, mut room) = (lane.open.get().saturating_sub(ready.len()), coming);
                for c in ready.iter() {
                    let (used, free) = c.load();
                    active += used;
                    room = room.saturating_add(free);
                }
                (waiting + active) as f64 * ratio > room.saturating_add(active) as f64
            }
            _ => coming < waiting,
        }
    }
    /// True when it has begun to connect, and the breaker allows more.
    fn connect_one(self: &Rc<Self>, cluster: &Rc<Cluster>, lane: &Lane) -> bool {
        if self.draining.get() || !self.lacks(cluster, lane) {
            return false;
        }
        let http2 = std::ptr::eq(lane, &self.h2);
        let breakers = &cluster.plan.breakers[self.priority];
        let allowed = breakers.try_take_connection(self.host.counters.cx_active.load(Relaxed));
        if !allowed {
            cluster.plan.stats.upstream_cx_overflow().inc();
            // A pool without any connection may always have one, or its requests would wait for ever.
            if lane.connecting.get() + lane.open.get() > 0 {
                return false;
            }
            breakers.connections.take();
        }
        lane.connecting.set(lane.connecting.get() + 1);
        cluster.plan.stats.upstream_cx_total().inc();
        if !self.negotiates {
            count_protocol(&cluster.plan.stats, http2);
        }
        cluster.plan.stats.upstream_cx_active().inc();
        HostCounters::inc(&self.host.counters.cx_total);
        HostCounters::inc(&self.host.counters.cx_active);
        tokio::task::spawn_local(establish(self.clone(), cluster.clone(), http2));
        allowed
    }
    fn lane_of(&self, conn: &UpConn) -> &Lane {
        match conn {
            UpConn::H1(_) if !self.negotiates => &self.h1,
            _ => &self.h2,
        }
    }
    /// Into the list of ready connections, where each stands once.
    fn put_back(&self, conn: UpConn) {
        let mut ready = self.lane_of(&conn).ready.borrow_mut();
        if matches!(conn, UpConn::H1(_)) || !ready.iter().rev().any(|c| same(c, &conn)) {
            ready.push(conn);
        }
    }
}

fn count_protocol(stats: &ClusterStats, http2: bool) {
    match http2 {
        true => stats.upstream_cx_http2_total().inc(),
        false => stats.upstream_cx_http1_total().inc(),
    }
}

async fn establish(inner: Rc<Inner>, cluster: Rc<Cluster>, http2: bool) {
    let lane = if http2 { &inner.h2 } else { &inner.h1 };
    let began = clock::now();
    let alpn = match http2 {
        true if inner.negotiates => "h2,http/1.1",
        true => "h2",
        false => "http/1.1",
    };
    let made = connect(&cluster.plan, &inner.host, alpn, inner.options.as_ref()).await;
    lane.connecting.set(lane.connecting.get() - 1);
    let stats = &cluster.plan.stats;
    match made {
        Ok(io) => {
            stats
                .upstream_cx_connect_ms()
                .record(clock::now().saturating_duration_since(began).as_millis() as u64);
            lane.open.set(lane.open.get() + 1);
            let mut http2 = http2;
            if inner.negotiates {
                http2 = io.tls_info().is_some_and(|t| t.alpn == b"h2");
                count_protocol(stats, http2);
                // As Envoy does: the connection counts again once its version is known.
                stats.upstream_cx_total().inc();
                HostCounters::inc(&inner.host.counters.cx_total);
            }
            let pool =
                PoolRef { pool: Rc::downgrade(&inner), epoch: inner.epoch.get(), priority: inner.priority };
            let conn = if http2 {
                UpConn::H2(H2Up::start(io, cluster.clone(), inner.host.clone(), pool))
            } else {
                UpConn::H1(H1Up::new(io, cluster.clone(), inner.host.clone(), pool))
            };
            ready(&inner, conn);
        }
        Err(e) => {
            stats.upstream_cx_connect_fail().inc();
            stats.upstream_cx_destroy().inc();
            // A connection that is refused, or fails in its handshake, counts as closed by the host.
            if e.reason == ResetReason::ConnectionTimeout {
                stats.upstream_cx_destroy_local().inc();
            } else {
                stats.upstream_cx_destroy_remote().inc();
            }
            stats.upstream_cx_active().dec();
            HostCounters::inc(&inner.host.counters.cx_connect_fail);
            HostCounters::dec(&inner.host.counters.cx_active);
            cluster.plan.breakers[inner.priority].connections.give();
            let failed = lane.fail_all(&e);
            stats.upstream_rq_pending_failure_eject().add(failed as u64);
            inner.settle(&cluster);
        }
    }
}

/// A connection can take a request: those that wait get it, else it rests in the pool.
fn ready(inner: &Rc<Inner>, conn: UpConn) {
    let lane = inner.lane_of(&conn);
    match &conn {
        UpConn::H1(_) => {
            let Some(conn) = lane.hand_over(conn) else { return };
            if inner.draining.get() {
                close(&conn);
            } else if rests(&conn) {
                inner.put_back(conn);
            }
        }
        UpConn::H2(c) => {
            // All that wait may share it, up to its limit.
            while c.can_open() && lane.hand_over(conn.clone()).is_none() {
                c.promise();
            }
            if inner.draining.get() {
                close(&conn);
            } else if c.can_open() {
                inner.put_back(conn);
            }
        }
    }
}

/// Watches an HTTP/1 connection that nobody uses, perhaps a new one whose request was cancelled. False when it has ended.
fn rests(conn: &UpConn) -> bool {
    match conn {
        UpConn::H1(c) => c.rest(),
        UpConn::H2(_) => true,
    }
}

/// A request that waits; dropping it takes it out of the queue.
struct Pending {
    inner: Rc<Inner>,
    cluster: Rc<Cluster>,
    waiter: Rc<Waiter>,
    downstream: Version,
    priority: usize,
}

impl Pending {
    fn poll(&self, waker: &Waker) -> Poll<Result<UpConn, StreamError>> {
        let mut s = self.waiter.state.borrow_mut();
        match &mut *s {
            Wait::Waiting(w) => {
                *w = Some(waker.clone());
                return Poll::Pending;
            }
            Wait::Over => return Poll::Pending,
            _ => {}
        }
        match std::mem::replace(&mut *s, Wait::Over) {
            Wait::Ready(c) => Poll::Ready(Ok(c)),
            Wait::Failed(e) => Poll::Ready(Err(e)),
            Wait::Waiting(_) | Wait::Over => Poll::Pending,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let stats = &self.cluster.plan.stats;
        stats.upstream_rq_pending_active().dec();
        self.cluster.plan.breakers[self.priority].pending.give();
        let state = std::mem::replace(&mut *self.waiter.state.borrow_mut(), Wait::Over);
        match state {
            Wait::Waiting(_) => {
                stats.upstream_rq_cancelled().inc();
                let lane = self.inner.lane(&self.cluster, self.downstream);
                lane.waiting.borrow_mut().retain(|w| !Rc::ptr_eq(w, &self.waiter));
            }
            Wait::Ready(conn) => {
                if let UpConn::H2(c) = &conn {
                    c.unpromise();
                }
                ready(&self.inner, conn);
            }
            _ => {}
        }
    }
}

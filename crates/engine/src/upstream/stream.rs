//! One request on an upstream connection, whatever the connection speaks.

use super::h1::H1Up;
use super::h2::H2Up;
use super::host::{Host, HostCounters};
use super::local::Cluster;
use crate::io::Io;
use nuncio_core::address::Address;
use nuncio_core::body::Body;
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::info::{StreamShared, TlsInfo};
use nuncio_wire::{Chunk, HeaderMap, RequestHead, ResponseHead};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A response head, and whether a body follows.
pub struct UpResponse {
    /// The head.
    pub head: ResponseHead,
    /// Nothing follows.
    pub end: bool,
}

/// What logs say about a connection; asked of the kernel once.
pub struct Facts {
    /// Our end.
    pub local: Option<Address>,
    /// The host's end.
    pub remote: Option<Address>,
    /// The handshake.
    pub tls: Option<Rc<TlsInfo>>,
}

impl Facts {
    /// Facts of a connection just made.
    pub fn of(io: &Io) -> Facts {
        Facts { local: io.local_address(), remote: io.remote_address(), tls: io.tls_info() }
    }
}

/// A connection that carries the stream.
#[derive(Clone)]
pub enum UpConn {
    /// HTTP/1.
    H1(Rc<H1Up>),
    /// HTTP/2.
    H2(Rc<H2Up>),
}

/// The kernel is not asked about a connection that was used so lately: of an end within so few turns of the loop the loop
/// itself hears, and one that a server closes for its age has idled far longer.
pub(super) const LATELY: Duration = Duration::from_millis(10);

/// Whether a connection may take a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// It may.
    Yes,
    /// Something is amiss; what it is will show.
    Later,
    /// Never again.
    No,
}

/// What is known of the host's part in a request that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nothing of it was sent, on a connection that was used before.
    Unsent,
    /// The host said that it did nothing with it, on a connection that was used before.
    Refused,
    /// It was sent on a connection that was used before, and no byte of an answer came.
    Unanswered,
    /// The host may have acted on it; or the connection was made for it, and what happened says something of the host.
    Unknown,
}

impl Fate {
    /// Sending the request again does no more than sending it once; `idempotent`: its method allows repetition.
    pub fn may_repeat(self, idempotent: bool) -> bool {
        match self {
            Fate::Unsent | Fate::Refused => true,
            Fate::Unanswered => idempotent,
            Fate::Unknown => false,
        }
    }
}

impl UpConn {
    /// Requests that it carries, and how many more it would.
    pub fn load(&self) -> (usize, usize) {
        match self {
            UpConn::H1(_) => (0, 1), // of those that are ready
            UpConn::H2(c) => c.load(),
        }
    }
    /// It carried requests before.
    pub fn is_used(&self) -> bool {
        match self {
            UpConn::H1(c) => c.is_used(),
            UpConn::H2(c) => c.is_used(),
        }
    }
}

/// One request under way. Dropping it before its response was taken over resets it.
pub struct UpStream {
    /// Writes the request.
    pub writer: UpWriter,
    body: Body,
}

/// The request's direction of a stream; a pump holds a clone.
#[derive(Clone)]
pub struct UpWriter {
    conn: UpConn,
    id: u32,
}

impl UpStream {
    /// A stream of `conn`.
    pub fn new(conn: UpConn, id: u32) -> UpStream {
        let body = match &conn {
            UpConn::H1(c) => Body::conn(c.clone(), id),
            UpConn::H2(c) => Body::conn(c.clone(), id),
        };
        UpStream { writer: UpWriter { conn, id }, body }
    }
    /// The next response head: informational ones first.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Result<UpResponse, StreamError>> {
        match &self.writer.conn {
            UpConn::H1(c) => c.poll_head(self.writer.id, cx, sx),
            UpConn::H2(c) => c.poll_head(self.writer.id, cx, sx),
        }
    }
    /// The response's body; afterwards the stream lives as long as the body does.
    pub fn into_body(self) -> Body {
        self.body
    }
    /// What is known of the host's part in it, when it failed for `reason`.
    pub fn fate(&self, reason: ResetReason) -> Fate {
        match &self.writer.conn {
            UpConn::H1(c) => c.fate(self.writer.id),
            UpConn::H2(c) => c.fate(self.writer.id, reason),
        }
    }
    /// The connection carried other requests before.
    pub fn is_reused(&self) -> bool {
        match &self.writer.conn {
            UpConn::H1(_) => self.writer.id > 1,
            UpConn::H2(c) => c.is_reused(self.writer.id),
        }
    }
    /// The connection, for its facts.
    pub fn conn(&self) -> &UpConn {
        &self.writer.conn
    }
}

impl UpWriter {
    /// Sends the head; `end`: it is the whole request.
    ///
    /// # Errors
    /// The connection is gone, or the head cannot be written.
    pub fn send_head(&self, head: &RequestHead, end: bool) -> Result<(), StreamError> {
        match &self.conn {
            UpConn::H1(c) => c.send_head(self.id, head, end),
            UpConn::H2(c) => c.send_head(self.id, head, end),
        }
    }
    /// Ready when more data may be sent.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match &self.conn {
            UpConn::H1(c) => c.poll_ready(self.id, cx),
            UpConn::H2(c) => c.poll_ready(self.id, cx),
        }
    }
    /// Ready when the stream is gone, although its response was read to its end. HTTP/1 has no such thing.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.conn {
            UpConn::H1(_) => Poll::Pending,
            UpConn::H2(c) => c.poll_reset(self.id, cx),
        }
    }
    /// Sends data; legal after `poll_ready`.
    pub fn send_data(&self, data: Chunk) {
        match &self.conn {
            UpConn::H1(c) => c.send_data(self.id, data),
            UpConn::H2(c) => c.send_data(self.id, data),
        }
    }
    /// Ends the request.
    pub fn send_end(&self, trailers: Option<&HeaderMap>) {
        match &self.conn {
            UpConn::H1(c) => c.send_end(self.id, trailers),
            UpConn::H2(c) => c.send_end(self.id, trailers),
        }
    }
    /// Ready when everything sent was handed to the kernel (HTTP/2: to the connection).
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match &self.conn {
            UpConn::H1(c) => c.poll_flush(self.id, cx),
            UpConn::H2(c) => c.poll_flush(self.id, cx),
        }
    }
}

/// What a request takes from its cluster and host while it is under way; given back when dropped.
pub struct Charge {
    cluster: Rc<Cluster>,
    host: Arc<Host>,
    priority: usize,
}

impl Charge {
    /// Takes a request slot; `None` when the circuit breaker is open.
    pub fn take(cluster: &Rc<Cluster>, host: &Arc<Host>, priority: usize) -> Option<Charge> {
        if !cluster.plan.breakers[priority].requests.try_take() {
            cluster.plan.stats.upstream_rq_active_overflow().inc();
            return None;
        }
        Some(Charge::taken(cluster, host, priority))
    }
    /// Takes a request slot, whatever the circuit breaker says: for a stream of bytes.
    pub fn take_any(cluster: &Rc<Cluster>, host: &Arc<Host>) -> Charge {
        cluster.plan.breakers[0].requests.take();
        Charge::taken(cluster, host, 0)
    }
    fn taken(cluster: &Rc<Cluster>, host: &Arc<Host>, priority: usize) -> Charge {
        cluster.plan.stats.upstream_rq_total().inc();
        cluster.plan.stats.upstream_rq_active().inc();
        HostCounters::inc(&host.counters.rq_total);
        HostCounters::inc(&host.counters.rq_active);
        Charge { cluster: cluster.clone(), host: host.clone(), priority }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.cluster.plan.breakers[self.priority].requests.give();
        self.cluster.plan.stats.upstream_rq_active().dec();
        HostCounters::dec(&self.host.counters.rq_active);
    }
}

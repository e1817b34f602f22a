//! Connections to hosts for bytes instead of requests: counted as Envoy's TCP pool counts them. Such a connection serves
//! one client; nothing is reused.

use super::connect::connect;
use super::host::{Host, HostCounters};
use super::idle;
use super::local::Cluster;
use super::stream::{Charge, Facts};
use crate::io::Io;
use nuncio_core::clock;
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::info::ConnInfo;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// A connection to a host. Dropping it closes it.
pub struct BytesUp {
    /// The stream.
    pub io: Io,
    /// Its number.
    pub id: u64,
    /// What logs say of it.
    pub facts: Facts,
    /// Its cluster.
    pub cluster: Rc<Cluster>,
    /// The host closed it, not we.
    pub remote: Cell<bool>,
    /// The host has ended its direction.
    pub ended: Cell<bool>,
    /// Its client was served to the end of both directions.
    pub served: Cell<bool>,
    host: Arc<Host>,
    born: Instant,
    _charge: Charge,
}

impl Drop for BytesUp {
    fn drop(&mut self) {
        idle::closed(&self.cluster, &self.host, 0, self.born, 1, !self.served.get(), self.remote.get());
    }
}

/// Connects to a host of a cluster, for this downstream connection.
///
/// # Errors
/// The breaker for what waits is open, or connecting failed.
pub async fn open(cluster: &Rc<Cluster>, host: &Arc<Host>, conn: &ConnInfo) -> Result<BytesUp, StreamError> {
    let stats = &cluster.plan.stats;
    let breakers = &cluster.plan.breakers[0];
    if !breakers.pending.try_take() {
        stats.upstream_rq_pending_overflow().inc();
        return Err(ResetReason::PendingOverflow.into());
    }
    stats.upstream_rq_pending_total().inc();
    stats.upstream_rq_pending_active().inc();
    breakers.connections.take();
    stats.upstream_cx_total().inc();
    stats.upstream_cx_active().inc();
    HostCounters::inc(&host.counters.cx_total);
    HostCounters::inc(&host.counters.cx_active);
    let mut waits = Waits { cluster: cluster.clone(), host: host.clone(), conn, state: State::Connecting };
    let began = clock::now();
    let options = cluster.plan.transports.options(None, conn);
    match connect(&cluster.plan, host, "", options.as_ref()).await {
        Ok(io) => {
            waits.state = State::Made;
            let born = clock::now();
            stats.upstream_cx_connect_ms().record(born.saturating_duration_since(began).as_millis() as u64);
            Ok(BytesUp {
                facts: Facts::of(&io),
                io,
                id: idle::next_id(),
                remote: Cell::new(false),
                ended: Cell::new(false),
                served: Cell::new(false),
                born,
                _charge: Charge::take_any(cluster, host),
                cluster: cluster.clone(),
                host: host.clone(),
            })
        }
        Err(e) => {
            waits.state = State::Failed { by_host: e.reason != ResetReason::ConnectionTimeout };
            Err(e)
        }
    }
}

/// A connection that is being made; dropping it gives up.
struct Waits<'a> {
    cluster: Rc<Cluster>,
    host: Arc<Host>,
    /// What it is made for.
    conn: &'a ConnInfo,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Made,
    Failed { by_host: bool },
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let stats = &self.cluster.plan.stats;
        let breakers = &self.cluster.plan.breakers[0];
        stats.upstream_rq_pending_active().dec();
        breakers.pending.give();
        match self.state {
            State::Made => return,
            State::Connecting => stats.upstream_rq_cancelled().inc(),
            State::Failed { .. } => stats.upstream_rq_pending_failure_eject().inc(),
        }
        // That we have closed the client's connection meanwhile says nothing of the host.
        let given_up =
            self.state == State::Connecting && !self.conn.end().local_close_reason.borrow().is_empty();
        if !given_up {
            stats.upstream_cx_connect_fail().inc();
            HostCounters::inc(&self.host.counters.cx_connect_fail);
        }
        stats.upstream_cx_destroy().inc();
        match self.state {
            State::Failed { by_host: true } => stats.upstream_cx_destroy_remote().inc(),
            _ => stats.upstream_cx_destroy_local().inc(),
        }
        stats.upstream_cx_active().dec();
        HostCounters::dec(&self.host.counters.cx_active);
        breakers.connections.give();
    }
}

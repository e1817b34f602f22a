//! Moves bytes both ways between a client and an upstream.

use super::config::TcpPlan;
use super::pipe::Pipe;
use crate::io::Io;
use crate::listener::gate::Gate;
use crate::upstream::bytes::BytesUp;
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::info::{ConnInfo, StreamInfo};
use nuncio_wire::{BLOCK, OutBuf, ReadBuf};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Bytes that may wait for one side before the other is not read further.
const HIGH_WATER: usize = 4 * BLOCK;
/// Reads of one side in one turn, so that one busy connection does not keep the others waiting.
const BUDGET: u32 = 16;
/// After so many bytes in one turn the kernel moves what follows. Less than that is cheaper to copy, and a message of a
/// dialogue never gets there.
const BULK: u64 = 4 * BLOCK as u64;
/// What a turn through a pipe takes of the budget.
const SPLICED: u32 = 4;

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Both sides have ended, or the client is gone.
    Closed,
    /// The upstream reset its connection.
    UpstreamReset,
    /// Nothing moved for `idle_timeout`.
    Idle,
}

/// What goes one way.
#[derive(Default)]
struct Leg {
    read: ReadBuf,
    out: OutBuf,
    /// What the kernel has on its way; it leaves before `out`.
    pipe: Option<Pipe>,
    /// Much moves: the kernel shall do it.
    bulk: bool,
    /// The reading side has ended.
    eof: bool,
    /// The writing side was told so.
    fin: bool,
    /// Reading waits for writing.
    paused: bool,
    /// Bytes moved in this turn: read, written.
    moved: (u64, u64),
    /// Bytes that wait, as counted.
    waits: usize,
    /// What is read has to pass it.
    gate: Option<Box<Gate>>,
}

/// Which side failed, and whether it was with RST.
enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

impl Leg {
    /// Moves what can be moved. Ready when this direction has come to its end.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Io, to: &mut Io) -> Poll<Result<(), Broken>> {
        let (mut budget, began) = (BUDGET, self.moved.0);
        while budget > 0 {
            budget -= 1;
            let waits = self.waiting();
            let stuck = waits > 0 && {
                let r = self.poll_write(cx, to);
                self.moved.1 += (waits - self.waiting()) as u64;
                match r {
                    Poll::Ready(r) => r.map_err(Broken::Writing)?,
                    Poll::Pending => {}
                }
                self.waiting() > 0
            };
            if self.fin {
                return Poll::Ready(Ok(()));
            }
            if self.eof {
                if !stuck && to.poll_shutdown(cx).map_err(Broken::Writing)?.is_ready() {
                    self.fin = true;
                    return Poll::Ready(Ok(()));
                }
                return Poll::Pending;
            }
            if stuck && self.waiting() >= HIGH_WATER {
                self.paused = true;
                return Poll::Pending;
            }
            // What is stuck is little: what follows it is copied, and leaves after it.
            if self.bulk && !stuck {
                if self.pipe.is_none() {
                    self.pipe = Pipe::take();
                }
                if let Some(pipe) = &mut self.pipe {
                    match pipe.poll_fill(cx, from) {
                        Poll::Pending => {
                            self.rests(began);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(0)) => self.eof = true,
                        Poll::Ready(Ok(n)) => self.moved.0 += n as u64,
                        Poll::Ready(Err(e)) => return Poll::Ready(Err(Broken::Reading(e))),
                    }
                    budget = budget.saturating_sub(SPLICED - 1);
                    continue;
                }
            }
            let room = self.read.body_space();
            match from.poll_read_at_least(cx, &mut self.read, room) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.eof = true,
                Poll::Ready(Ok(_)) => {
                    if let Some(g) = &mut self.gate
                        && !g.passes()
                    {
                        self.moved.0 += self.read.len() as u64;
                        let refused = io::ErrorKind::PermissionDenied.into();
                        return Poll::Ready(Err(Broken::Reading(refused)));
                    }
                    self.forward();
                    self.bulk = self.moved.0 - began >= BULK && self.is_unseen(from, to);
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(Broken::Reading(e))),
            }
        }
        // There may be more: the others first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
    /// Nobody looks at these bytes.
    fn is_unseen(&self, from: &Io, to: &Io) -> bool {
        self.gate.is_none() && from.is_plain() && to.is_plain()
    }
    /// Nothing more has come in a turn that began with this count: the pipe is for others now.
    fn rests(&mut self, began: u64) {
        self.pipe = None;
        self.bulk = self.moved.0 - began >= BULK;
    }
    /// Bytes that were read and not written yet.
    fn waiting(&self) -> usize {
        self.pipe.as_ref().map_or(0, Pipe::len) + self.out.len()
    }
    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut Io) -> Poll<io::Result<()>> {
        if let Some(pipe) = &mut self.pipe {
            ready!(pipe.poll_drain(cx, to))?;
        }
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        to.poll_write(cx, &mut self.out)
    }
    /// What was read is to be written.
    fn forward(&mut self) {
        let n = self.read.len();
        self.moved.0 += n as u64;
        self.out.chunk(self.read.take(n));
    }
}

/// Two streams and what goes between them.
pub struct Relay<'a> {
    plan: &'a TcpPlan,
    conn: &'a ConnInfo,
    info: &'a StreamInfo,
    client: Io,
    up: BytesUp,
    /// From the client to the upstream.
    down: Leg,
    /// From the upstream to the client.
    back: Leg,
    limits: Limits,
    flushing: bool,
}

impl<'a> Relay<'a> {
    /// Between `client`, of which `read` was read already, and `up`.
    pub fn new(
        plan: &'a TcpPlan,
        conn: &'a ConnInfo,
        info: &'a StreamInfo,
        client: Io,
        read: ReadBuf,
        up: BytesUp,
        limits: Limits,
    ) -> Relay<'a> {
        let mut down = Leg { read, ..Leg::default() };
        if !down.read.is_empty() {
            down.forward();
        }
        let (back, flushing) = (Leg::default(), false);
        Relay { plan, conn, info, client, up, down, back, limits, flushing }
    }

    /// The same for a connection whose bytes have to pass a gate.
    pub fn behind(mut self, gate: Option<Box<Gate>>) -> Relay<'a> {
        self.down.gate = gate;
        self
    }
    /// Runs to the end; `log` is called every `access_log_flush_interval`.
    pub async fn run(mut self, log: impl Fn()) -> End {
        poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll_bytes(cx) {
                return Poll::Ready(end);
            }
            self.limits.poll(cx, &log)
        })
        .await
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let (paused_down, paused_back) = (self.down.paused, self.back.paused);
        (self.down.paused, self.back.paused) = (false, false);
        let down = self.down.poll(cx, &mut self.client, &mut self.up.io);
        let ended_before = self.down.fin;
        let back = self.back.poll(cx, &mut self.up.io, &mut self.client);
        if self.back.eof && !self.up.ended.get() {
            // Whoever ends last closes the connection.
            self.up.ended.set(true);
            self.up.remote.set(ended_before);
        }
        self.count(paused_down, paused_back);
        match (down, back) {
            (Poll::Ready(Err(Broken::Reading(e))), _) | (_, Poll::Ready(Err(Broken::Writing(e)))) => {
                if is_reset(&e) {
                    self.up.io.set_reset_on_close();
                }
                Poll::Ready(End::Closed)
            }
            (_, Poll::Ready(Err(Broken::Reading(e)))) | (Poll::Ready(Err(Broken::Writing(e))), _) => {
                self.up.remote.set(true);
                match is_reset(&e) {
                    true => {
                        self.client.set_reset_on_close();
                        Poll::Ready(End::UpstreamReset)
                    }
                    false => Poll::Ready(End::Closed),
                }
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Closed),
            (Poll::Pending, Poll::Ready(Ok(()))) if self.down.eof => {
                self.flushes();
                Poll::Pending
            }
            _ => Poll::Pending,
        }
    }
    /// The client is gone, but the upstream has not taken everything yet.
    fn flushes(&mut self) {
        if !std::mem::replace(&mut self.flushing, true) {
            self.plan.stats.upstream_flush_total().inc();
            self.plan.stats.upstream_flush_active().inc();
        }
    }

    fn count(&mut self, paused_down: bool, paused_back: bool) {
        let (t, c) = (&self.plan.stats, &self.up.cluster.plan.stats);
        let (received, to_up) = std::mem::take(&mut self.down.moved);
        let (from_up, sent) = std::mem::take(&mut self.back.moved);
        if received + to_up + from_up + sent > 0 {
            self.limits.moved();
            t.downstream_cx_rx_bytes_total().add(received);
            t.downstream_cx_tx_bytes_total().add(sent);
            c.upstream_cx_rx_bytes_total().add(from_up);
            c.upstream_cx_tx_bytes_total().add(to_up);
            self.conn.count_bytes(received, from_up);
            let (d, u) = (&self.info.downstream, &self.info.upstream_meter);
            add(&d.wire_rx, received);
            add(&d.wire_tx, from_up);
            add(&u.wire_rx, from_up);
            add(&u.wire_tx, received);
        }
        let waits = (self.down.waiting(), self.back.waiting());
        if waits != (self.down.waits, self.back.waits) {
            let gauge = t.downstream_cx_tx_bytes_buffered();
            gauge.add(waits.1 as u64);
            gauge.sub(self.back.waits as u64);
            let gauge = c.upstream_cx_tx_bytes_buffered();
            gauge.add(waits.0 as u64);
            gauge.sub(self.down.waits as u64);
            (self.down.waits, self.back.waits) = waits;
        }
        match (paused_down, self.down.paused) {
            (false, true) => t.downstream_flow_control_paused_reading_total().inc(),
            (true, false) => t.downstream_flow_control_resumed_reading_total().inc(),
            _ => {}
        }
        match (paused_back, self.back.paused) {
            (false, true) => c.upstream_flow_control_paused_reading_total().inc(),
            (true, false) => c.upstream_flow_control_resumed_reading_total().inc(),
            _ => {}
        }
    }
}

/// How long nothing may move, and when the log is written: armed once and looked at lazily.
pub struct Limits {
    active: Instant,
    /// The limit, and what wakes for it.
    idle: Option<(Duration, Sleep)>,
    periodic: Option<(Duration, Sleep)>,
}

impl Limits {
    /// From now on: for a connection that ends when nothing has moved for `idle`, with an entry in the log every `log`.
    pub fn new(idle: Option<Duration>, log: Option<Duration>) -> Limits {
        let arm = |t: Duration| (t, clock::sleep(TimerKind::Other, t));
        Limits { active: clock::now(), idle: idle.map(arm), periodic: log.map(arm) }
    }
    /// Something has moved.
    pub fn moved(&mut self) {
        self.active = clock::now();
    }
    /// Ready when nothing has moved for too long; calls `log` when it is due.
    pub fn poll(&mut self, cx: &mut Context<'_>, log: &impl Fn()) -> Poll<End> {
        if let Some((every, sleep)) = &mut self.periodic {
            while Pin::new(&mut *sleep).poll(cx).is_ready() {
                log();
                sleep.reset((*every).max(Duration::from_millis(1)));
            }
        }
        let Some((timeout, sleep)) = &mut self.idle else { return Poll::Pending };
        while Pin::new(&mut *sleep).poll(cx).is_ready() {
            let left = (self.active + *timeout).saturating_duration_since(clock::now());
            if left.is_zero() {
                return Poll::Ready(End::Idle);
            }
            sleep.reset(left);
        }
        Poll::Pending
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        let (t, c) = (&self.plan.stats, &self.up.cluster.plan.stats);
        t.downstream_cx_tx_bytes_buffered().sub(self.back.waits as u64);
        c.upstream_cx_tx_bytes_buffered().sub(self.down.waits as u64);
        if self.flushing {
            t.upstream_flush_active().dec();
        }
    }
}

fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

fn is_reset(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

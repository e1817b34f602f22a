//! Moves bytes between a client and a tunnel.

use super::TunnelUp;
use crate::io::Io;
use crate::listener::gate::Gate;
use crate::tcp::config::TcpPlan;
use crate::tcp::relay::{End, Limits};
use nuncio_core::body::Frame;
use nuncio_core::filter_state::LifeSpan;
use nuncio_core::info::{ConnInfo, StreamInfo};
use nuncio_wire::{BLOCK, OutBuf, ReadBuf};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes that may wait for the client before the upstream is not read further.
const HIGH_WATER: usize = 4 * BLOCK;
/// Pieces of one direction in one turn.
const BUDGET: u32 = 16;

/// A client's stream and its tunnel.
pub struct TunnelRelay<'a> {
    /// The TCP proxy.
    pub plan: &'a TcpPlan,
    /// The client's connection.
    pub conn: &'a ConnInfo,
    /// What is noted of it.
    pub info: &'a StreamInfo,
    /// Its stream.
    pub client: Io,
    /// What was read of it already.
    pub read: ReadBuf,
    /// The tunnel.
    pub up: TunnelUp,
    /// What the client's bytes have to pass.
    pub gate: Option<Box<Gate>>,
    /// How long nothing may move.
    pub limits: Limits,
    /// How far it has come.
    pub state: State,
}

/// How far it has come.
#[derive(Default)]
pub struct State {
    out: OutBuf,
    /// Bytes in `out`, as counted.
    waits: usize,
    /// The client has ended its direction, and the upstream was told.
    asked: bool,
    /// The upstream has ended its direction.
    answered: bool,
    /// Nothing is to come any more: what waits for the client is written, then both are closed.
    over: bool,
    /// The client was told that nothing follows.
    fin: bool,
    /// Reading from the client, from the upstream, waits for writing.
    paused: (bool, bool),
}

impl State {
    /// Nothing more comes from the upstream.
    fn ended(&self) -> bool {
        self.answered || self.over
    }
}

impl TunnelRelay<'_> {
    /// Runs to the end; `log` is called every `access_log_flush_interval`.
    pub async fn run(mut self, log: impl Fn()) -> End {
        // What listener filters have read comes first.
        if !self.read.is_empty() {
            self.forward();
        }
        poll_fn(|cx| {
            let moved = (self.conn_bytes(), self.state.out.len());
            if self.poll_bytes(cx).is_ready() {
                return Poll::Ready(End::Closed);
            }
            if moved != (self.conn_bytes(), self.state.out.len()) {
                self.limits.moved();
            }
            self.limits.poll(cx, &log)
        })
        .await
    }

    fn conn_bytes(&self) -> (u64, u64) {
        (self.info.bytes_received.get(), self.info.bytes_sent.get())
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before = self.state.paused;
        self.state.paused = (false, false);
        let up = self.poll_up(cx);
        let down = self.poll_down(cx);
        self.count(before);
        match (up, down) {
            (Poll::Ready(Err(Gone)), _) | (_, Poll::Ready(Err(Gone))) => Poll::Ready(()),
            // The tunnel is gone, or over HTTP/1 one direction of it: what came before is delivered still.
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            (_, Poll::Ready(Ok(()))) if self.state.over || self.up.http1 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// From the client to the upstream.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.state.over {
            return Poll::Ready(Ok(()));
        }
        if self.state.answered && !self.state.asked && self.up.writer.poll_reset(cx).is_ready() {
            self.state.over = true;
            return Poll::Ready(Ok(()));
        }
        for _ in 0..BUDGET {
            if self.state.asked {
                let flushed = ready!(self.up.writer.poll_flush(cx));
                // With HTTP/1 the end of the request is the end of the connection.
                self.state.over |= flushed.is_err() || self.up.http1;
                return Poll::Ready(Ok(()));
            }
            match self.up.writer.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                // Whoever reads from it learns why.
                Poll::Ready(Err(_)) => return Poll::Pending,
                Poll::Pending => {
                    self.state.paused.0 = true;
                    return Poll::Pending;
                }
            }
            match self.client.poll_read_at_least(cx, &mut self.read, BLOCK) {
                Poll::Pending => {
                    let _ = self.up.writer.poll_flush(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => {
                    self.state.asked = true;
                    self.up.writer.send_end(None);
                }
                Poll::Ready(Ok(_)) => {
                    if let Some(g) = &mut self.gate
                        && !g.passes()
                    {
                        return Poll::Ready(Err(Gone));
                    }
                    self.forward();
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What was read is to be sent.
    fn forward(&mut self) {
        let n = self.read.len();
        let data = self.read.take(n);
        self.plan.stats.downstream_cx_rx_bytes_total().add(n as u64);
        self.conn.count_bytes(n as u64, 0);
        add(&self.info.downstream.wire_rx, n);
        add(&self.info.upstream_meter.wire_tx, n);
        self.up.writer.send_data(data);
    }

    /// From the upstream to the client.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        for _ in 0..BUDGET {
            let waits = self.state.out.len();
            if waits > 0 {
                let written = self.client.poll_write(cx, &mut self.state.out);
                let sent = waits - self.state.out.len();
                self.plan.stats.downstream_cx_tx_bytes_total().add(sent as u64);
                match written {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                    Poll::Pending if self.state.out.len() >= HIGH_WATER || self.state.ended() => {
                        self.state.paused.1 = !self.state.ended();
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
            }
            if self.state.ended() {
                if !self.state.fin {
                    // The client may be gone.
                    let _ = ready!(self.client.poll_shutdown(cx));
                    self.state.fin = true;
                }
                return Poll::Ready(Ok(()));
            }
            if self.up.body.is_end() {
                // Not asked for more: the body's end would be the stream's, and the client may still have something to say.
                self.answered(cx);
                continue;
            }
            match ready!(self.up.body.poll_frame(cx, &self.up.sx)) {
                Some(Ok(Frame::Data(data))) => {
                    let n = data.len();
                    self.conn.count_bytes(0, n as u64);
                    add(&self.info.downstream.wire_tx, n);
                    add(&self.info.upstream_meter.wire_rx, n);
                    self.state.out.chunk(data);
                }
                Some(Ok(Frame::Trailers(trailers))) => {
                    if self.plan.tunnel.as_ref().is_some_and(|t| t.propagate_trailers) {
                        let all = Rc::new(super::state::Headers::of_trailers(&trailers));
                        let mut state = self.conn.filter_state.borrow_mut();
                        state.set(super::RESPONSE_TRAILERS, LifeSpan::Connection, all);
                    }
                    self.answered(cx);
                }
                None => self.answered(cx),
                Some(Err(_)) => self.state.over = true,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The upstream has ended its direction; the stream may be reset from now on, which is to be looked for.
    fn answered(&mut self, cx: &Context<'_>) {
        self.state.answered = true;
        cx.waker().wake_by_ref();
    }

    fn count(&mut self, before: (bool, bool)) {
        let (t, c) = (&self.plan.stats, &self.up.cluster.plan.stats);
        let waits = self.state.out.len();
        let gauge = t.downstream_cx_tx_bytes_buffered();
        gauge.add(waits as u64);
        gauge.sub(self.state.waits as u64);
        self.state.waits = waits;
        match (before.0, self.state.paused.0) {
            (false, true) => t.downstream_flow_control_paused_reading_total().inc(),
            (true, false) => t.downstream_flow_control_resumed_reading_total().inc(),
            _ => {}
        }
        match (before.1, self.state.paused.1) {
            (false, true) => c.upstream_flow_control_paused_reading_total().inc(),
            (true, false) => c.upstream_flow_control_resumed_reading_total().inc(),
            _ => {}
        }
    }
}

/// The client is gone, or was refused.
struct Gone;

impl Drop for TunnelRelay<'_> {
    fn drop(&mut self) {
        self.plan.stats.downstream_cx_tx_bytes_buffered().sub(self.state.waits as u64);
    }
}

fn add(cell: &std::cell::Cell<u64>, n: usize) {
    cell.set(cell.get() + n as u64);
}

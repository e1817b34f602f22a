//! A connection whose last network filter answers it itself ([`nuncio_core::terminal_filter`]).
//!
//! There is no half-close here, as in Envoy: a client that ends its direction ends the connection. What it sent before
//! is answered still.

use super::gate::Gate;
use crate::io::Io;
use nuncio_core::info::ConnInfo;
use nuncio_core::terminal_filter::{DynTerminalFilter, Then};
use nuncio_wire::{BLOCK, OutBuf, ReadBuf};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// Bytes that may wait for the client before it is not read further.
const HIGH_WATER: usize = 4 * BLOCK;

/// Serves a connection to its end. `client` makes its stream ready, perhaps by a handshake; `gate` is what it has to
/// pass first.
pub async fn serve(
    filter: &dyn DynTerminalFilter,
    conn: &ConnInfo,
    client: impl Future<Output = Option<(Io, ReadBuf)>>,
    mut gate: Option<Box<Gate>>,
) {
    if let Some(g) = &mut gate
        && !g.opens().await
    {
        g.drain(client).await;
        return;
    }
    let mut out = OutBuf::new();
    let then = filter.on_new_connection(conn, &mut out);
    if then == Then::Close && out.is_empty() {
        return; // nobody waits for the handshake
    }
    conn.count_bytes(0, out.len() as u64);
    let Some((io, read)) = client.await else { return };
    if let Some(g) = &mut gate {
        g.secured();
    }
    let mut session = Session { filter, conn, io, read, out, then, gate };
    if poll_fn(|cx| session.poll(cx)).await == End::Flushed {
        // The peer may be gone.
        let _ = poll_fn(|cx| session.io.poll_shutdown(cx)).await;
    }
    // What was read and not taken counts as not read: such a connection ends with RST.
    if !session.read.is_empty() {
        session.io.set_reset_on_close();
    }
}

#[derive(PartialEq, Eq)]
enum End {
    /// All is said.
    Flushed,
    /// The connection broke, or was refused.
    Gone,
}

struct Session<'a> {
    filter: &'a dyn DynTerminalFilter,
    conn: &'a ConnInfo,
    io: Io,
    read: ReadBuf,
    out: OutBuf,
    then: Then,
    gate: Option<Box<Gate>>,
}

impl Session<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // What listener filters have read comes first.
        if self.then == Then::GoOn && !self.read.is_empty() && !self.take() {
            return Poll::Ready(End::Gone);
        }
        loop {
            if !self.out.is_empty() {
                match self.io.poll_write(cx, &mut self.out) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                    Poll::Pending if self.then == Then::Close || self.out.len() >= HIGH_WATER => {
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
            }
            if self.then == Then::Close {
                return Poll::Ready(End::Flushed);
            }
            match ready!(self.io.poll_read_at_least(cx, &mut self.read, BLOCK)) {
                Ok(0) => self.then = Then::Close,
                Ok(_) if self.take() => {}
                Ok(_) | Err(_) => return Poll::Ready(End::Gone),
            }
        }
    }
    /// Hands on what was read; false when it is refused.
    fn take(&mut self) -> bool {
        let n = self.read.len();
        self.conn.count_bytes(n as u64, 0);
        let data = self.read.take(n);
        if let Some(g) = &mut self.gate
            && !g.passes()
        {
            return false;
        }
        let waits = self.out.len();
        self.then = self.filter.on_data(self.conn, data, &mut self.out);
        self.conn.count_bytes(0, (self.out.len() - waits) as u64);
        true
    }
}

//! Checks by a connection, or by what a host says on it (`HealthCheck.TcpHealthCheck`).

use super::conn::{self, Ended};
use super::payload::Expected;
use crate::io::Io;
use bytes::Bytes;
use nuncio_wire::{OutBuf, ReadBuf};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// `TcpHealthCheck`
pub struct Tcp {
    /// `send`
    pub send: Bytes,
    /// `receive`
    pub receive: Expected,
}

/// Most bytes of an answer in which what is expected is looked for.
const MOST: usize = 1 << 20;

/// A connection that is used for one check after the other.
pub struct Conn {
    io: Io,
    read: ReadBuf,
    out: OutBuf,
}

impl Conn {
    /// A connection just made.
    pub fn new(io: Io) -> Conn {
        Conn { io, read: ReadBuf::new(), out: OutBuf::new() }
    }
    /// Sends, and reads until there is what is expected.
    pub async fn check(&mut self, t: &Tcp) -> Result<(), Ended> {
        self.ask(&t.send, |answer| Ok(t.receive.is_in(answer).then_some(()))).await
    }
    /// Sends, and reads until `judge` can say something of what has come.
    pub async fn ask<T>(
        &mut self,
        send: &Bytes,
        judge: impl Fn(&[u8]) -> Result<Option<T>, Ended>,
    ) -> Result<T, Ended> {
        if !send.is_empty() {
            self.out.chunk(send.clone().into());
        }
        poll_fn(|cx| self.poll(cx, &judge)).await
    }
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        judge: &impl Fn(&[u8]) -> Result<Option<T>, Ended>,
    ) -> Poll<Result<T, Ended>> {
        if let Poll::Ready(Err(_)) = self.io.poll_write(cx, &mut self.out) {
            return Poll::Ready(Err(Ended));
        }
        loop {
            match ready!(self.io.poll_read(cx, &mut self.read)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Ended)),
                Ok(_) => {}
            }
            let n = self.read.len();
            if let Some(found) = judge(self.read.data())? {
                self.read.consume(n);
                return Poll::Ready(Ok(found));
            }
            if n > MOST {
                return Poll::Ready(Err(Ended));
            }
        }
    }
    /// Nothing is expected. Ready when the host has closed.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        conn::poll_discard(cx, &mut self.io, &mut self.read)
    }
}

//! CONNECT ended here (`connect_config`): the request's body goes to a host as plain bytes, and what the host sends is
//! the body of a 200 that answers as soon as the connection is there.

use super::ahead;
use super::attempt::{Attempt, Failed};
use crate::upstream::bytes::{self, BytesUp};
use crate::upstream::stream::UpResponse;
use nuncio_core::Exchange;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::clock;
use nuncio_core::error::ResetReason;
use nuncio_core::info::{Interrupt, StreamShared};
use nuncio_wire::{OutBuf, ReadBuf, ResponseHead};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes that may wait for the host before no more are taken from the client.
const HIGH_WATER: usize = 64 * 1024;

impl Attempt {
    /// Connects to the host and answers with 200.
    ///
    /// # Errors
    /// The connection could not be had.
    pub async fn tunnel(&mut self, ex: &mut Exchange) -> Result<UpResponse, Failed> {
        let began = clock::now();
        let opened = bytes::open(&self.account.cluster, &self.host.host, &self.sx.conn);
        let up = ahead::meanwhile(opened, &mut ex.request_body, &self.sx).await?;
        let now = clock::now();
        let times = &self.sx.info.times;
        times.us_cx_beg.set(Some(began));
        times.us_cx_end.set(Some(now));
        times.us_tx_beg.set(Some(now));
        {
            let mut info = self.sx.info.upstream.borrow_mut();
            info.pool_ready = Some(now.saturating_duration_since(began));
            info.connection_id = Some(up.id);
            info.connections_attempted.push(up.id);
            info.local_address.clone_from(&up.facts.local);
            info.remote_address.clone_from(&up.facts.remote);
            info.tls.clone_from(&up.facts.tls);
        }
        self.account.connected();
        if let Some(m) = self.host.host.monitor.get() {
            m.connected();
        }
        let up = Rc::new(RefCell::new(up));
        let shut = Rc::<Cell<bool>>::default();
        self.sx.side(pump(ex.request_body.take(), up.clone(), self.sx.clone(), shut.clone()));
        self.tunnel = Some(Body::source(FromHost { up, read: ReadBuf::new(), ended: false, shut }));
        Ok(UpResponse { head: ResponseHead::new(200), end: false })
    }
}

/// What the host sends.
struct FromHost {
    up: Rc<RefCell<BytesUp>>,
    read: ReadBuf,
    ended: bool,
    /// The other direction has ended.
    shut: Rc<Cell<bool>>,
}

impl BodySource for FromHost {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut up = self.up.borrow_mut();
        match ready!(up.io.poll_read(cx, &mut self.read)) {
            Ok(0) => {
                up.remote.set(true);
                up.served.set(self.shut.get());
                self.ended = true;
                sx.info.times.us_rx_end.set(Some(clock::now()));
                Poll::Ready(None)
            }
            Ok(n) => {
                up.cluster.plan.stats.upstream_cx_rx_bytes_total().add(n as u64);
                Poll::Ready(Some(Ok(Frame::Data(self.read.take(n)))))
            }
            Err(_) => {
                up.remote.set(true);
                Poll::Ready(Some(Err(BodyError::Reset(ResetReason::ConnectionTermination))))
            }
        }
    }
    fn is_end(&self) -> bool {
        self.ended
    }
}

/// Writes the request's body to the host, and ends that direction with it.
async fn pump(mut body: Body, up: Rc<RefCell<BytesUp>>, sx: Rc<StreamShared>, shut: Rc<Cell<bool>>) {
    let (mut out, mut ended) = (OutBuf::new(), false);
    poll_fn(|cx| {
        loop {
            if !out.is_empty() {
                let mut up = up.borrow_mut();
                let before = out.len();
                let written = up.io.poll_write(cx, &mut out);
                up.cluster.plan.stats.upstream_cx_tx_bytes_total().add((before - out.len()) as u64);
                if matches!(written, Poll::Ready(Err(_))) {
                    return Poll::Ready(()); // whoever reads from the host notices
                }
                if out.len() >= HIGH_WATER || (ended && !out.is_empty()) {
                    return Poll::Pending;
                }
            }
            if ended {
                shut.set(ready!(up.borrow_mut().io.poll_shutdown(cx)).is_ok());
                return Poll::Ready(());
            }
            match body.poll_frame(cx, &sx) {
                Poll::Ready(Some(Ok(Frame::Data(c)))) => out.chunk(c),
                Poll::Ready(Some(Ok(Frame::Trailers(_))) | None) => ended = true,
                Poll::Ready(Some(Err(e))) => {
                    sx.interrupt(match e {
                        BodyError::Reply(r) => Interrupt::Reply(r),
                        BodyError::Reset(r) => Interrupt::Reset(r),
                    });
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    sx.info.times.us_tx_end.set(Some(clock::now()));
}

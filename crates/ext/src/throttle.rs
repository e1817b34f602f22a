//! Bodies that pass at a limited rate: for injected faults and bandwidth limits.

use nuncio_core::StreamShared;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::clock::{Sleep, TimerKind, sleep};
use nuncio_wire::Chunk;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::token_bucket::TokenBucket;

/// Time between two attempts to get tokens, where nothing else is configured.
pub const FILL_INTERVAL: Duration = Duration::from_millis(50);

/// Told what passes; bandwidth limits count and time it.
pub trait Watch: 'static {
    /// So many bytes have arrived.
    fn arrived(&mut self, _bytes: usize) {}
    /// So many bytes may pass; `held` when others must wait for the next interval.
    fn passed(&mut self, _bytes: usize, _held: bool) {}
    /// The body is over; what is returned are its trailers.
    fn ended(
        &mut self,
        trailers: Option<Box<nuncio_wire::HeaderMap>>,
    ) -> Option<Box<nuncio_wire::HeaderMap>> {
        trailers
    }
}

/// Nobody watches.
impl Watch for () {}

/// A bucket whose tokens are bytes: `kib` KiB each second, and those of one interval to begin with.
pub fn bucket(kib: u64, interval: Duration) -> TokenBucket {
    let bytes = kib.saturating_mul(1024);
    let first = u128::from(bytes) * interval.as_millis() / 1000;
    TokenBucket::with_tokens(bytes, bytes as f64, first as u64)
}

/// A body that passes as fast as `bucket` gives tokens, asked for every `interval`.
pub fn throttle(body: Body, bucket: Arc<TokenBucket>, interval: Duration, watch: impl Watch) -> Body {
    Body::source(Throttled { body, bucket, interval, held: Chunk::default(), wait: None, watch, over: false })
}

struct Throttled<W> {
    body: Body,
    bucket: Arc<TokenBucket>,
    interval: Duration,
    /// What has arrived and waits for tokens. Nothing more is pulled meanwhile.
    held: Chunk,
    wait: Option<Sleep>,
    watch: W,
    over: bool,
}

impl<W: Watch> BodySource for Throttled<W> {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(Pin::new(wait).poll(cx));
                self.wait = None;
            }
            if !self.held.is_empty() {
                let n = self.bucket.take_some(self.held.len() as u64) as usize;
                let rest = self.held.len() - n;
                self.watch.passed(n, rest > 0);
                if rest > 0 {
                    self.wait = Some(sleep(TimerKind::Other, self.interval));
                }
                if n == 0 {
                    continue;
                }
                return Poll::Ready(Some(Ok(Frame::Data(self.held.split_to(n)))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            match ready!(self.body.poll_frame(cx, sx)) {
                Some(Ok(Frame::Data(data))) => {
                    self.watch.arrived(data.len());
                    self.held = data;
                }
                Some(Ok(Frame::Trailers(t))) => {
                    self.over = true;
                    return Poll::Ready(self.watch.ended(Some(t)).map(|t| Ok(Frame::Trailers(t))));
                }
                None => {
                    self.over = true;
                    return Poll::Ready(self.watch.ended(None).map(|t| Ok(Frame::Trailers(t))));
                }
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
            }
        }
    }
}

//! A body that is compressed as it passes.

use super::CommonStats;
use crate::compression::Encoder;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::{ResetReason, StreamShared};
use nuncio_wire::{Chunk, HeaderMap, Version};
use std::task::{Context, Poll, ready};

/// Each piece is flushed, so that the receiver can read all that has come.
pub struct Compressed {
    body: Body,
    encoder: Encoder,
    stats: CommonStats,
    trailers: Option<Box<HeaderMap>>,
    /// The end comes apart from the last data, as HTTP/1 tells it in Envoy: that data is flushed like any other.
    end_apart: bool,
    over: bool,
}

impl Compressed {
    /// Compresses `body`, which was received over `from`, or is ours.
    pub fn new(body: Body, from: Option<Version>, encoder: Encoder, stats: CommonStats) -> Compressed {
        let end_apart = matches!(from, Some(Version::Http10 | Version::Http11));
        Compressed { body, encoder, stats, trailers: None, end_apart, over: false }
    }
    fn pass(&mut self, data: &[u8], end: bool) -> Result<Chunk, BodyError> {
        let out = match end {
            false => self.encoder.more(data),
            true if self.end_apart && !data.is_empty() => self.encoder.more(data).and_then(|mut out| {
                out.extend(self.encoder.end(b"")?);
                Ok(out)
            }),
            true => self.encoder.end(data),
        };
        // Nothing but a lack of memory makes a library fail here: the message cannot be whole any more.
        let out = out.map_err(|_| BodyError::Reset(ResetReason::LocalReset))?;
        self.stats.total_uncompressed_bytes().add(data.len() as u64);
        self.stats.total_compressed_bytes().add(out.len() as u64);
        Ok(Chunk::from(out))
    }
}

impl BodySource for Compressed {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            if self.over {
                return Poll::Ready(self.trailers.take().map(|t| Ok(Frame::Trailers(t))));
            }
            let (data, end) = match ready!(self.body.poll_frame(cx, sx)) {
                Some(Ok(Frame::Data(data))) => {
                    let end = self.body.is_end();
                    (data, end)
                }
                Some(Ok(Frame::Trailers(t))) => {
                    self.trailers = Some(t);
                    (Chunk::default(), true)
                }
                None => (Chunk::default(), true),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
            };
            self.over = end;
            let out = self.pass(&data, end);
            if !matches!(&out, Ok(o) if o.is_empty()) {
                return Poll::Ready(Some(out.map(Frame::Data)));
            }
        }
    }
    fn is_end(&self) -> bool {
        self.over && self.trailers.is_none()
    }
}

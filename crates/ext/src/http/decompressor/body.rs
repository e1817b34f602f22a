//! A body that is decompressed as it is pulled: what comes out at a time is bounded, however small what came in.

use super::DirectionStats;
use crate::decompression::Decoder;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::{LocalReply, StreamShared};
use nuncio_wire::{Chunk, HeaderMap};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What comes out at a time, in bytes.
const PIECE: usize = 16 * 1024;

/// Names of the trailers that say how many bytes there were.
pub struct Names {
    /// `x-envoy-decompressor-<library>-compressed-bytes`
    pub compressed: String,
    /// `x-envoy-decompressor-<library>-uncompressed-bytes`
    pub uncompressed: String,
}

/// See the module.
pub struct Decompressed {
    body: Body,
    decoder: Decoder,
    stats: DirectionStats,
    names: Arc<Names>,
    /// Compressed bytes that wait.
    held: Chunk,
    /// The decoder may have more to give without another byte.
    full: bool,
    totals: (u64, u64),
    trailers: Option<Box<HeaderMap>>,
    over: bool,
    /// What a broken stream is answered with, if there still can be an answer.
    status: u16,
}

impl Decompressed {
    /// Decompresses `body`; `status` answers a broken one.
    pub fn new(
        body: Body,
        decoder: Decoder,
        stats: DirectionStats,
        names: Arc<Names>,
        status: u16,
    ) -> Decompressed {
        Decompressed {
            body,
            decoder,
            stats,
            names,
            held: Chunk::default(),
            full: false,
            totals: (0, 0),
            trailers: None,
            over: false,
            status,
        }
    }
    fn step(&mut self) -> Result<Option<Chunk>, BodyError> {
        let mut out = vec![0; PIECE];
        let run = self.decoder.run(&self.held, &mut out);
        let (taken, made) = run.map_err(|_| {
            let reply = LocalReply::new(self.status, "broken content-encoding", "decompression_failed");
            BodyError::Reply(Box::new(reply))
        })?;
        self.held.advance(taken);
        self.full = made == out.len();
        if taken == 0 && made == 0 {
            // It wants more than there is.
            self.held = Chunk::default();
        }
        self.totals.1 += made as u64;
        self.stats.total_uncompressed_bytes().add(made as u64);
        out.truncate(made);
        Ok((made > 0).then(|| Chunk::from(out)))
    }
    fn end(&mut self, trailers: Option<Box<HeaderMap>>) {
        let mut trailers = trailers.unwrap_or_default();
        trailers.append(&*self.names.compressed, self.totals.0.to_string().as_bytes());
        trailers.append(&*self.names.uncompressed, self.totals.1.to_string().as_bytes());
        self.trailers = Some(trailers);
        self.over = true;
    }
}

impl BodySource for Decompressed {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            if !self.held.is_empty() || self.full {
                match self.step() {
                    Ok(None) => continue,
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                    Err(e) => return Poll::Ready(Some(Err(e))),
                }
            }
            if self.over {
                return Poll::Ready(self.trailers.take().map(|t| Ok(Frame::Trailers(t))));
            }
            match ready!(self.body.poll_frame(cx, sx)) {
                Some(Ok(Frame::Data(data))) => {
                    self.totals.0 += data.len() as u64;
                    self.stats.total_compressed_bytes().add(data.len() as u64);
                    self.held = data;
                }
                Some(Ok(Frame::Trailers(t))) => self.end(Some(t)),
                None => self.end(None),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
            }
        }
    }
    fn is_end(&self) -> bool {
        self.over && self.trailers.is_none() && self.held.is_empty() && !self.full
    }
}

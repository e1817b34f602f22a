//! The beginning of a request's body, taken in to be shown to the service; afterwards it can still be pulled.

use super::BodyRules;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::{Exchange, StreamShared};
use nuncio_wire::{Chunk, HeaderMap};
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// Why it could not be taken in.
pub enum Ended {
    /// It is larger than allowed.
    TooLarge,
    /// It failed.
    Body(BodyError),
}

/// What was taken in.
pub struct Taken {
    /// The bytes that are shown.
    pub bytes: Vec<u8>,
    /// There are more.
    pub partial: bool,
}

/// Takes in a body up to the limit: all of it, or its beginning where that is enough.
pub async fn take(ex: &mut Exchange, rules: BodyRules) -> Result<Taken, Ended> {
    let mut ahead = Ahead { data: VecDeque::new(), trailers: None, rest: ex.request_body.take() };
    let mut len = 0;
    while !rules.partial || len < rules.max {
        match ahead.rest.frame(&ex.sx).await {
            None => break,
            Some(Ok(Frame::Data(c))) => {
                len += c.len();
                ahead.data.push_back(c);
                if len > rules.max && !rules.partial {
                    return Err(Ended::TooLarge);
                }
            }
            Some(Ok(Frame::Trailers(t))) => {
                ahead.trailers = Some(t);
                break;
            }
            Some(Err(e)) => return Err(Ended::Body(e)),
        }
    }
    let mut bytes = Vec::with_capacity(len.min(rules.max));
    for c in &ahead.data {
        let room = rules.max - bytes.len();
        bytes.extend_from_slice(&c[..c.len().min(room)]);
    }
    ex.request_body = match ahead.is_end() {
        true => Body::Empty,
        false => Body::source(ahead),
    };
    Ok(Taken { partial: len > bytes.len(), bytes })
}

struct Ahead {
    data: VecDeque<Chunk>,
    trailers: Option<Box<HeaderMap>>,
    rest: Body,
}

impl BodySource for Ahead {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(c) = self.data.pop_front() {
            return Poll::Ready(Some(Ok(Frame::Data(c))));
        }
        match self.trailers.take() {
            Some(t) => {
                self.rest = Body::Empty;
                Poll::Ready(Some(Ok(Frame::Trailers(t))))
            }
            None => self.rest.poll_frame(cx, sx),
        }
    }
    fn is_end(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none() && self.rest.is_end()
    }
}

//! Takes in a request's body while a connection for it is being made, as Envoy does: a body that breaks the protocol
//! is then refused before any host hears of the request.

use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::info::{Interrupt, StreamShared};
use nuncio_wire::HeaderMap;
use nuncio_wire::buf::ChunkQueue;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bytes taken in advance; more waits where it is.
const LIMIT: usize = 64 * 1024;

/// A body of which a part was taken in advance.
#[derive(Default)]
struct Ahead {
    data: ChunkQueue,
    trailers: Option<Box<HeaderMap>>,
    rest: Body,
}

impl Ahead {
    /// Takes what there is.
    fn take(&mut self, cx: &mut Context<'_>, sx: &StreamShared) -> Result<(), BodyError> {
        while self.data.len() < LIMIT && !matches!(self.rest, Body::Empty) {
            match self.rest.poll_frame(cx, sx) {
                Poll::Ready(Some(Ok(Frame::Data(c)))) => self.data.push(c),
                Poll::Ready(Some(Ok(Frame::Trailers(t)))) => {
                    (self.trailers, self.rest) = (Some(t), Body::Empty);
                }
                Poll::Ready(Some(Err(e))) => return Err(e),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }
}

/// The body as whoever reads it later sees it.
struct Taken(Rc<RefCell<Ahead>>);

impl BodySource for Taken {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut a = self.0.borrow_mut();
        if let Some(c) = a.data.pop() {
            return Poll::Ready(Some(Ok(Frame::Data(c))));
        }
        match a.trailers.take() {
            Some(t) => Poll::Ready(Some(Ok(Frame::Trailers(t)))),
            None => a.rest.poll_frame(cx, sx),
        }
    }
    fn is_end(&self) -> bool {
        let a = self.0.borrow();
        a.data.is_empty() && a.trailers.is_none() && a.rest.is_end()
    }
}

/// Waits for `ready` and takes in `body` meanwhile. A body that fails interrupts the stream, which drops this wait.
pub async fn meanwhile<T>(ready: impl Future<Output = T>, body: &mut Body, sx: &StreamShared) -> T {
    let mut ready = pin!(ready);
    let mut ahead: Option<Rc<RefCell<Ahead>>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(t) = ready.as_mut().poll(cx) {
            return Poll::Ready(t);
        }
        // Nothing is set aside for a connection that is there already: the usual case.
        let ahead = ahead.get_or_insert_with(|| {
            let ahead = Rc::new(RefCell::new(Ahead { rest: body.take(), ..Ahead::default() }));
            *body = Body::source(Taken(ahead.clone()));
            ahead
        });
        if let Err(e) = ahead.borrow_mut().take(cx, sx) {
            sx.interrupt(match e {
                BodyError::Reply(r) => Interrupt::Reply(r),
                BodyError::Reset(r) => Interrupt::Reset(r),
            });
        }
        Poll::Pending
    })
    .await
}

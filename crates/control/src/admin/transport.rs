//! From the connection manager to the handlers and back.

use super::{AdminCx, Body as Answer, Chunks, Request, respond};
use crate::server::Server;
use nuncio_core::LocalBoxFuture;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::info::StreamShared;
use nuncio_engine::http::Handler;
use nuncio_wire::{RequestHead, ResponseHead};
use std::rc::Rc;
use std::task::{Context, Poll};

/// Most bytes of a form that are read; more of it is let pass unread.
const FORM_LIMIT: usize = 1 << 20;

/// The admin interface as the last filter of a connection manager.
pub fn handler(server: Rc<Server>) -> Handler {
    Rc::new(move |head, body, sx| -> LocalBoxFuture<'static, (ResponseHead, Body)> {
        let server = server.clone();
        Box::pin(async move {
            let form = read(&head, body, &sx).await;
            answer(&server, &head, &form)
        })
    })
}

/// Reads the request to its end, as Envoy does before it answers; keeps the body when it is a form.
async fn read(head: &RequestHead, mut body: Body, sx: &StreamShared) -> Vec<u8> {
    let is_form = head.headers.get("content-type") == Some(b"application/x-www-form-urlencoded");
    let mut form = Vec::new();
    while let Some(Ok(frame)) = body.frame(sx).await {
        if let Frame::Data(data) = frame
            && is_form
            && form.len() + data.len() <= FORM_LIMIT
        {
            form.extend_from_slice(&data);
        }
    }
    form
}

fn answer(server: &Server, head: &RequestHead, form: &[u8]) -> (ResponseHead, Body) {
    let (method, path) = (String::from_utf8_lossy(head.method()), String::from_utf8_lossy(head.path()));
    let view = server.view();
    let cx = AdminCx { server, view: &*view };
    let answer = respond(&cx, &Request { method: &method, path: &path, form });
    let mut response = ResponseHead::new(answer.status);
    for (name, value) in answer.all_headers() {
        response.headers.append(name, value.as_bytes());
    }
    if head.is_head() {
        return (response, Body::Empty);
    }
    // Of unknown length on purpose: Envoy sends every answer of this interface in chunks.
    let pieces = match answer.body {
        Answer::Full(bytes) => Pieces::Whole(Some(bytes)),
        Answer::Chunks(c) => Pieces::Made { chunks: Some(c), rest: false },
    };
    (response, Body::source(pieces))
}

enum Pieces {
    Whole(Option<Vec<u8>>),
    Made {
        /// Gone once it has given its last piece.
        chunks: Option<Box<dyn Chunks>>,
        /// A piece was made: the others on main come first.
        rest: bool,
    },
}

impl BodySource for Pieces {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        match self {
            Pieces::Whole(bytes) => {
                let bytes = bytes.take().filter(|b| !b.is_empty());
                Poll::Ready(bytes.map(|b| Ok(Frame::Data(b.into()))))
            }
            Pieces::Made { chunks, rest } => {
                let Some(c) = chunks else { return Poll::Ready(None) };
                let mut out = String::new();
                if !std::mem::take(rest) {
                    if !c.next(&mut out) {
                        *chunks = None;
                    }
                    if out.is_empty() && chunks.is_none() {
                        return Poll::Ready(None);
                    }
                    if !out.is_empty() {
                        *rest = chunks.is_some();
                        return Poll::Ready(Some(Ok(Frame::Data(out.into()))));
                    }
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

use crate::grpc::{GrpcStats, is_grpc, media_type, names};
use body::{DecodedText, EncodedResponse, OnlyTrailers};
use nuncio_api::envoy::extensions::filters::http::grpc_web::v3 as pb;
use nuncio_core::body::{Body, BodyError, Frame};
use nuncio_core::coverage::Covered;
use nuncio_core::exchange::{grpc_status_of, percent_encode};
use nuncio_core::filter::{BuildCx, HttpFilter, NoRoute, Step};
use nuncio_core::info::Interrupt;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry};
use nuncio_wire::{HeaderMap, ResponseHead, name};
use std::rc::Rc;
use std::sync::Arc;

mod body;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.grpc_web";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", &[])];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<GrpcWeb>(NAME, docs);
}

const BINARY: &[u8] = b"application/grpc-web+proto";
const TEXT: &[u8] = b"application/grpc-web-text+proto";

/// The most of a body that becomes a `grpc-message`, when it comes in several pieces.
const MAX_MESSAGE: usize = 16_384;

/// The filter.
pub struct GrpcWeb {
    stats: GrpcStats,
}

/// A request of gRPC-Web.
pub struct Web {
    text_response: bool,
    charge: Option<Rc<Charge>>,
}

/// Where an exchange counts.
struct Charge {
    stats: GrpcStats,
    prefix: String,
}

impl Charge {
    fn status(&self, headers: &HeaderMap) {
        if let Some(status) = headers.get(name::GRPC_STATUS) {
            self.stats.status(&self.prefix, status);
        }
    }
}

fn is_text(value: &[u8]) -> bool {
    value == b"application/grpc-web-text" || value == TEXT
}

/// A response of gRPC, or of gRPC-Web already.
fn is_understood(head: &ResponseHead, end: bool) -> bool {
    if end {
        return head.headers.contains(name::GRPC_STATUS);
    }
    let t = media_type(&head.headers);
    let web = t.eq_ignore_ascii_case(b"application/grpc-web") || t.eq_ignore_ascii_case(BINARY);
    head.status == 200 && (is_grpc(&head.headers) || web)
}

impl HttpFilter for GrpcWeb {
    type Config = pb::GrpcWeb;
    type RouteConfig = NoRoute;
    type Route = ();
    type Stream = Option<Web>;

    fn new(_: pb::GrpcWeb, cx: &BuildCx<'_>) -> BuildResult<GrpcWeb> {
        Ok(GrpcWeb { stats: GrpcStats::of_clusters(cx.scope) })
    }
    fn route(_: NoRoute, _: &BuildCx<'_>) -> BuildResult<()> {
        Ok(())
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Option<Web>, ex: &'a mut Exchange) -> Step<'a> {
        let content_type = ex.request.headers.get(name::CONTENT_TYPE).unwrap_or_default();
        let text = is_text(content_type);
        let web = text || content_type == BINARY || content_type == b"application/grpc-web";
        if !web || !ex.request.headers.contains(name::PATH) {
            return Step::Next;
        }
        let route = ex.route();
        let cluster = route.as_ref().and_then(|r| r.cluster(&ex.request, &ex.sx));
        let charge = cluster.zip(names(ex.request.path())).map(|(cluster, names)| {
            let prefix = GrpcStats::prefix(&cluster, "grpc-web", Some(&names));
            Rc::new(Charge { stats: self.stats.clone(), prefix })
        });
        // A reply of the proxy's own is changed like any other response that is none of gRPC.
        ex.grpc_replies = Some(false);
        let headers = &mut ex.request.headers;
        headers.remove(name::CONTENT_LENGTH);
        headers.set(name::CONTENT_TYPE, b"application/grpc");
        let text_response = is_text(headers.get(name::ACCEPT).unwrap_or_default());
        headers.set(name::TE, b"trailers");
        if !headers.contains(name::GRPC_ACCEPT_ENCODING) {
            headers.append(name::GRPC_ACCEPT_ENCODING, b"identity");
        }
        if text && !ex.request_body.is_end() {
            ex.request_body = Body::source(DecodedText::new(ex.request_body.take()));
        }
        *st = Some(Web { text_response, charge });
        Step::Next
    }

    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Option<Web>, ex: &'a mut Exchange) -> Step<'a> {
        let (Some(web), Some(head)) = (st, &mut ex.response) else { return Step::Next };
        if let Some(c) = &web.charge {
            c.status(&head.headers);
        }
        let end = ex.response_body.is_end();
        let understood = is_understood(head, end);
        head.headers.remove(name::CONTENT_LENGTH);
        head.headers.set(name::CONTENT_TYPE, if web.text_response { TEXT } else { BINARY });
        if end {
            return Step::Next;
        }
        if understood {
            let charge = web.charge.clone();
            let trailers = move |t: &HeaderMap| {
                if let Some(c) = &charge {
                    c.status(t);
                }
            };
            ex.response_body =
                Body::source(EncodedResponse::new(ex.response_body.take(), web.text_response, trailers));
            return Step::Next;
        }
        Step::wait(message(web, ex))
    }
}

/// The body of a response that is none of gRPC becomes its `grpc-message`.
async fn message(web: &Web, ex: &mut Exchange) -> Step<'static> {
    let (mut text, mut pieces, mut trailers) = (vec![], 0, None);
    loop {
        match ex.response_body.frame(&ex.sx).await {
            None => break,
            Some(Ok(Frame::Data(d))) => {
                pieces += 1;
                // What is beyond the limit is read and forgotten; a single piece counts as a whole.
                let room = if pieces == 1 { d.len() } else { MAX_MESSAGE.saturating_sub(text.len()) };
                text.extend_from_slice(&d[..d.len().min(room)]);
            }
            Some(Ok(Frame::Trailers(t))) => trailers = Some(t),
            Some(Err(BodyError::Reply(r))) => return Step::Reply(r),
            Some(Err(BodyError::Reset(reason))) => {
                ex.sx.interrupt(Interrupt::Reset(reason));
                return std::future::pending().await;
            }
        }
    }
    if pieces > 1 {
        text.truncate(MAX_MESSAGE);
    }
    if let Some(head) = &mut ex.response {
        head.headers.set(name::GRPC_MESSAGE, &percent_encode(&text));
        head.headers.set(name::GRPC_STATUS, grpc_status_of(head.status).to_string().as_bytes());
        head.headers.set(name::CONTENT_LENGTH, b"0");
    }
    ex.response_body = match trailers {
        None => Body::Empty,
        Some(t) => {
            if let Some(c) = &web.charge {
                c.status(&t);
            }
            Body::source(OnlyTrailers(Some(t)))
        }
    };
    Step::Next
}

#[cfg(test)]
mod tests;

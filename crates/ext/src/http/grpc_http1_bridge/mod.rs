use crate::grpc::{FRAME_HEAD, is_grpc, media_type};
use nuncio_api::envoy::extensions::filters::http::grpc_http1_bridge::v3 as pb;
use nuncio_core::body::{Body, BodyError, BufferError, Frame};
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, NoRoute, Step};
use nuncio_core::info::Interrupt;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry};
use nuncio_wire::{Version, name};
use std::sync::Arc;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.grpc_http1_bridge";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config",
    &["upgrade_protobuf_to_grpc", "ignore_query_parameters"],
)];

/// The most of a body that is held: Envoy's default buffer limit.
const LIMIT: usize = 1024 * 1024;

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Bridge>(NAME, docs);
}

/// The filter.
pub struct Bridge {
    upgrade: bool,
    ignore_query: bool,
}

/// What becomes of an exchange.
#[derive(Default)]
pub struct Bridged {
    /// The client cannot read trailers: they become headers.
    bridge: bool,
    /// Client and service differ in frames: the client has bare protobuf.
    frame: bool,
}

/// Waits for a whole body, as long as it is not too large.
async fn whole(body: &mut Body, ex_sx: &nuncio_core::StreamShared) -> Result<usize, Step<'static>> {
    match body.buffer(LIMIT, ex_sx).await {
        Ok(len) => Ok(len),
        Err(BufferError::TooLarge) => Err(Step::reply(413, "Payload Too Large", "request_payload_too_large")),
        Err(BufferError::Body(BodyError::Reply(r))) => Err(Step::Reply(r)),
        Err(BufferError::Body(BodyError::Reset(reason))) => {
            ex_sx.interrupt(Interrupt::Reset(reason));
            std::future::pending().await
        }
    }
}

impl HttpFilter for Bridge {
    type Config = pb::Config;
    type RouteConfig = NoRoute;
    type Route = ();
    type Stream = Bridged;

    fn new(config: pb::Config, _: &BuildCx<'_>) -> BuildResult<Bridge> {
        Ok(Bridge { upgrade: config.upgrade_protobuf_to_grpc, ignore_query: config.ignore_query_parameters })
    }
    fn route(_: NoRoute, _: &BuildCx<'_>) -> BuildResult<()> {
        Ok(())
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Bridged, ex: &'a mut Exchange) -> Step<'a> {
        let headers = &mut ex.request.headers;
        if self.upgrade && media_type(headers) == b"application/x-protobuf" {
            st.frame = true;
            headers.set(name::CONTENT_TYPE, b"application/grpc");
            // It counted the bytes without the frame's head.
            headers.remove(name::CONTENT_LENGTH);
            // The client knows nothing of gRPC: it is answered in plain words.
            ex.grpc_replies = Some(false);
            ex.clear_route_cache();
        }
        let old = ex.sx.info.protocol.get().is_some_and(|v| v < Version::Http2);
        st.bridge = old && is_grpc(&ex.request.headers);
        if !st.bridge {
            return Step::Next;
        }
        if self.ignore_query {
            let path = ex.request.path();
            if let Some(at) = path.iter().position(|b| *b == b'?') {
                let path = path[..at].to_vec();
                ex.request.headers.set(name::PATH, &path);
            }
        }
        if !st.frame || ex.request_body.is_end() {
            return Step::Next;
        }
        Step::wait(async move {
            let len = match whole(&mut ex.request_body, &ex.sx).await {
                Ok(len) => len,
                Err(step) => return step,
            };
            let mut framed = Vec::with_capacity(FRAME_HEAD + len);
            framed.push(0);
            framed.extend_from_slice(&(len as u32).to_be_bytes());
            // Trailers of such a request mean nothing to gRPC.
            while let Some(Ok(Frame::Data(d))) = ex.request_body.frame(&ex.sx).await {
                framed.extend_from_slice(&d);
            }
            ex.request_body = Body::full(framed);
            Step::Next
        })
    }

    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Bridged, ex: &'a mut Exchange) -> Step<'a> {
        if !st.bridge || ex.response.is_none() || ex.response_body.is_end() {
            return Step::Next;
        }
        let frame = st.frame;
        Step::wait(async move {
            let (mut all, mut trailers) = (vec![], None);
            loop {
                match ex.response_body.frame(&ex.sx).await {
                    None => break,
                    Some(Ok(Frame::Data(d))) if all.len() + d.len() > LIMIT => {
                        return Step::reply(500, "Internal Server Error", "response_payload_too_large");
                    }
                    Some(Ok(Frame::Data(d))) => all.extend_from_slice(&d),
                    Some(Ok(Frame::Trailers(t))) => trailers = Some(t),
                    Some(Err(BodyError::Reply(r))) => return Step::Reply(r),
                    Some(Err(BodyError::Reset(reason))) => {
                        ex.sx.interrupt(Interrupt::Reset(reason));
                        return std::future::pending().await;
                    }
                }
            }
            let Some(head) = &mut ex.response else { return Step::Next };
            // A response without trailers is none of gRPC, and stays as it is.
            if let Some(trailers) = trailers {
                if frame {
                    all.drain(..all.len().min(FRAME_HEAD));
                }
                if let Some(status) = trailers.get(name::GRPC_STATUS) {
                    let ok = std::str::from_utf8(status).ok().and_then(|s| s.parse::<u64>().ok()) == Some(0);
                    if !ok {
                        head.status = 503;
                    }
                    head.headers.set(name::GRPC_STATUS, status);
                }
                if let Some(message) = trailers.get(name::GRPC_MESSAGE) {
                    head.headers.set(name::GRPC_MESSAGE, message);
                }
                head.headers.set(name::CONTENT_LENGTH, all.len().to_string().as_bytes());
            }
            ex.response_body = Body::full(all);
            Step::Next
        })
    }
}

#[cfg(test)]
mod tests;

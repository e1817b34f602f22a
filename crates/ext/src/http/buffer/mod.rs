use nuncio_api::envoy::extensions::filters::http::buffer::v3 as pb;
use nuncio_core::body::{BodyError, BufferError};
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::info::Interrupt;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry};
use nuncio_wire::name;
use std::sync::Arc;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.buffer";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.extensions.filters.http.buffer.v3.Buffer", &["max_request_bytes"]),
    Covered::new("envoy.extensions.filters.http.buffer.v3.BufferPerRoute", &["disabled", "buffer"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Buffer>(NAME, docs);
}

/// The filter: the most bytes a request may have.
pub struct Buffer(usize);

/// The limit of a route; none when the filter is off there.
pub struct RouteLimit(Option<usize>);

fn limit(config: &pb::Buffer) -> BuildResult<usize> {
    config.max_request_bytes.map(|n| n as usize).ok_or_else(|| "MaxRequestBytes: value is required".into())
}

impl HttpFilter for Buffer {
    type Config = pb::Buffer;
    type RouteConfig = pb::BufferPerRoute;
    type Route = RouteLimit;
    type Stream = ();

    fn new(config: pb::Buffer, _: &BuildCx<'_>) -> BuildResult<Buffer> {
        limit(&config).map(Buffer)
    }
    fn route(config: pb::BufferPerRoute, _: &BuildCx<'_>) -> BuildResult<RouteLimit> {
        use pb::buffer_per_route::Override as O;
        Ok(RouteLimit(match &config.r#override {
            Some(O::Buffer(b)) => Some(limit(b)?),
            Some(O::Disabled(_)) => None,
            None => return Err("BufferPerRouteValidationError.Override: value is required".into()),
        }))
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if ex.request_body.is_end() {
            return Step::Next;
        }
        let limit = match ex.route_config::<RouteLimit>() {
            Some(route) => route.0,
            None => Some(self.0),
        };
        let Some(limit) = limit else { return Step::Next };
        Step::wait(async move {
            match ex.request_body.buffer(limit, &ex.sx).await {
                Ok(len) => {
                    if !ex.request.headers.contains(name::CONTENT_LENGTH) {
                        ex.request.headers.append(name::CONTENT_LENGTH, len.to_string().as_bytes());
                    }
                    Step::Next
                }
                Err(BufferError::TooLarge) => {
                    Step::reply(413, "Payload Too Large", "request_payload_too_large")
                }
                Err(BufferError::Body(BodyError::Reply(r))) => Step::Reply(r),
                Err(BufferError::Body(BodyError::Reset(reason))) => {
                    // The request will never be whole, and nobody waits for an answer.
                    ex.sx.interrupt(Interrupt::Reset(reason));
                    std::future::pending().await
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;

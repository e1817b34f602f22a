use nuncio_api::envoy::extensions::filters::http::cdn_loop::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, NoRoute, Step};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildError, BuildResult, Exchange, Registry};
use std::sync::Arc;

mod parse;
#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.cdn_loop";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.http.cdn_loop.v3.CdnLoopConfig",
    &["cdn_id", "max_allowed_occurrences"],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<CdnLoop>(NAME, docs);
}

/// The header (RFC 8586).
const HEADER: &str = "cdn-loop";

/// The filter.
pub struct CdnLoop {
    id: Box<[u8]>,
    most: usize,
}

impl HttpFilter for CdnLoop {
    type Config = pb::CdnLoopConfig;
    type RouteConfig = NoRoute;
    type Route = ();
    type Stream = ();

    fn new(config: pb::CdnLoopConfig, _: &BuildCx<'_>) -> BuildResult<CdnLoop> {
        let id = config.cdn_id;
        parse::id(id.as_bytes()).map_err(|why| {
            BuildError(format!("Provided cdn_id \"{id}\" is not a valid CDN identifier: {why}"))
        })?;
        Ok(CdnLoop { id: id.into_bytes().into(), most: config.max_allowed_occurrences as usize })
    }
    fn route(_: NoRoute, _: &BuildCx<'_>) -> BuildResult<()> {
        Ok(())
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        let h = &mut ex.request.headers;
        if let Some(value) = h.joined(HEADER) {
            match parse::occurrences(&value, &self.id) {
                None => {
                    return Step::reply(
                        400,
                        "Invalid CDN-Loop header in request.",
                        "invalid_cdn_loop_header",
                    );
                }
                Some(n) if n > self.most => {
                    let body = "The server has detected a loop between CDNs.";
                    return Step::reply(502, body, "cdn_loop_detected");
                }
                Some(_) => {}
            }
        }
        h.append_to(HEADER, b",", &self.id);
        Step::Next
    }
}

//! `local_reply_config`: what the answers that the proxy itself makes look like.

use crate::proto::data_source;
use crate::route::headers::HeaderRules;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_core::access_log::AccessLogFilter;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::exchange::ReplyRewriter;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::{FormatCx, Formatter, Purpose};
use nuncio_core::route::Route;
use nuncio_core::{Exchange, LocalReply};
use nuncio_wire::HeaderMap;
use std::rc::Rc;
use std::sync::Arc;

/// What is read of `LocalReplyConfig`.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig",
        &["mappers", "body_format"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper",
        &["filter", "status_code", "body", "body_format_override", "headers_to_add"],
    ),
];

/// A compiled `LocalReplyConfig`.
pub struct LocalReplies {
    mappers: Vec<Mapper>,
    format: Option<Formatter>,
}

/// Changes the replies that its filter lets through (`ResponseMapper`).
struct Mapper {
    filter: AccessLogFilter,
    status: Option<u16>,
    body: Option<bytes::Bytes>,
    format: Option<Formatter>,
    headers: HeaderRules,
}

impl LocalReplies {
    /// From configuration.
    ///
    /// # Errors
    /// A filter, a format or a header is refused, or a file cannot be read.
    pub fn new(c: &pb::LocalReplyConfig, cx: &BuildCx<'_>) -> BuildResult<Arc<LocalReplies>> {
        let mapper = |m: &pb::ResponseMapper| {
            let filter = m
                .filter
                .as_ref()
                .ok_or_else(|| BuildError::from("field: \"filter\", reason: is required"))?;
            Ok(Mapper {
                filter: AccessLogFilter::new(filter, cx)?,
                status: m.status_code.map(|s| s as u16), // 200 to 599, by the rules of the field
                body: m.body.as_ref().map(data_source).transpose()?.map(Into::into),
                format: m
                    .body_format_override
                    .as_ref()
                    .map(|f| Formatter::new(f, Purpose::Body))
                    .transpose()?,
                headers: HeaderRules::new(&[], &[], &m.headers_to_add, &[])?,
            })
        };
        Ok(Arc::new(LocalReplies {
            mappers: c.mappers.iter().map(mapper).collect::<BuildResult<_>>()?,
            format: c.body_format.as_ref().map(|f| Formatter::new(f, Purpose::Body)).transpose()?,
        }))
    }
}

/// What filters and formats see of a reply.
fn format_cx<'a>(
    ex: &'a Exchange,
    route: Option<&'a dyn Route>,
    response: (u16, &'a HeaderMap),
    local_reply_body: &'a [u8],
) -> FormatCx<'a> {
    FormatCx {
        request: Some(&ex.request.headers),
        response: Some(response),
        route,
        local_reply_body,
        ..FormatCx::new(&ex.sx.info, &ex.sx.conn)
    }
}

/// The rules on one worker.
pub struct Rewriter(pub Arc<LocalReplies>);

impl ReplyRewriter for Rewriter {
    fn rewrite(&self, ex: &Exchange, r: &mut LocalReply) -> Rc<str> {
        crate::router::note_route_cluster(&ex.request, &ex.sx);
        let info = &ex.sx.info;
        // Filters look at the code, and formats too.
        info.response_code.set(r.status);
        let route = ex.sx.current_route();
        let mut headers = r.headers.take().unwrap_or_default();
        let mapper = {
            let cx = format_cx(ex, route.as_deref(), (r.status, &headers), b"");
            self.0.mappers.iter().find(|m| m.filter.matches(&cx))
        };
        if let Some(m) = mapper {
            if let Some(body) = &m.body {
                r.body = body.clone().into();
            }
            m.headers.apply_to_reply(r.status, &mut headers, ex);
            if let Some(status) = m.status {
                r.status = status;
                info.response_code.set(status);
            }
        }
        let format = mapper.and_then(|m| m.format.as_ref()).or(self.0.format.as_ref());
        if let Some(f) = format {
            let mut text = Vec::new();
            f.append(&format_cx(ex, route.as_deref(), (r.status, &headers), &r.body), &mut text);
            r.body = bytes::Bytes::from(text).into();
        }
        r.headers = Some(headers);
        format.and_then(Formatter::content_type).unwrap_or("text/plain").into()
    }
}

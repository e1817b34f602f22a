//! Header rules of routes: `request_headers_to_add` and its like, at any of the four levels.

use nuncio_api::envoy::config::core::v3 as core;
use nuncio_core::Exchange;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::format::FormatCx;
use nuncio_core::header_rules::Rules;
use nuncio_core::info::StreamShared;
use nuncio_core::route::Route;
use nuncio_wire::{HeaderMap, RequestHead};

/// What is read of the header option messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.HeaderValueOption",
        &["header", "append", "append_action", "keep_empty_value"],
    ),
    Covered::new("envoy.config.core.v3.HeaderValue", &["key", "value", "raw_value"]),
];

/// Rules of one level.
#[derive(Default)]
pub struct HeaderRules {
    request: Rules,
    response: Rules,
}

impl HeaderRules {
    /// Compiles the four lists of a level.
    ///
    /// # Errors
    /// A header that must not be changed, or a bad format.
    pub fn new(
        request_add: &[core::HeaderValueOption],
        request_remove: &[String],
        response_add: &[core::HeaderValueOption],
        response_remove: &[String],
    ) -> BuildResult<HeaderRules> {
        Ok(HeaderRules {
            request: Rules::new(request_add, request_remove)?,
            response: Rules::new(response_add, response_remove)?,
        })
    }
    /// Changes a request's head.
    pub fn apply_to_request(&self, head: &mut RequestHead, sx: &StreamShared, route: &dyn Route) {
        if self.request.is_empty() {
            return;
        }
        self.request.remove_from(&mut head.headers);
        let made = self.request.make(&head.headers, &cx(Some(&head.headers), None, sx, route));
        made.apply(&mut head.headers);
    }
    /// Changes the head of a local reply (`ResponseMapper.headers_to_add`).
    pub fn apply_to_reply(&self, status: u16, headers: &mut HeaderMap, ex: &Exchange) {
        let route = ex.sx.current_route();
        let cx = FormatCx {
            request: Some(&ex.request.headers),
            response: Some((status, headers)),
            route: route.as_deref(),
            ..FormatCx::new(&ex.sx.info, &ex.sx.conn)
        };
        let made = self.response.make(headers, &cx);
        made.apply(headers);
    }
    /// Changes a response's head.
    pub fn apply_to_response(&self, status: u16, headers: &mut HeaderMap, ex: &Exchange, route: &dyn Route) {
        if self.response.is_empty() {
            return;
        }
        self.response.remove_from(headers);
        let cx = cx(Some(&ex.request.headers), Some((status, headers)), &ex.sx, route);
        let made = self.response.make(headers, &cx);
        made.apply(headers);
    }
}

fn cx<'a>(
    request: Option<&'a HeaderMap>,
    response: Option<(u16, &'a HeaderMap)>,
    sx: &'a StreamShared,
    route: &'a dyn Route,
) -> FormatCx<'a> {
    FormatCx { request, response, route: Some(route), ..FormatCx::new(&sx.info, &sx.conn) }
}

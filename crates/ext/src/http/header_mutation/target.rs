//! What mutations act on, and what their values may refer to.

use nuncio_core::StreamShared;
use nuncio_core::format::FormatCx;
use nuncio_core::route::Route;
use nuncio_wire::HeaderMap;

/// The headers or trailers that are changed.
pub enum Target<'a> {
    /// A request's headers.
    Request {
        /// Themselves.
        headers: &'a mut HeaderMap,
        /// The stream.
        sx: &'a StreamShared,
        /// Its route.
        route: Option<&'a dyn Route>,
    },
    /// A response's headers.
    Response {
        /// The request's headers.
        request: &'a HeaderMap,
        /// The response's status.
        status: u16,
        /// Themselves.
        headers: &'a mut HeaderMap,
        /// The stream.
        sx: &'a StreamShared,
        /// Its route.
        route: Option<&'a dyn Route>,
    },
    /// Trailers, of a request or (then with its head) of a response.
    Trailers {
        /// The request's headers.
        request: Option<&'a HeaderMap>,
        /// Status and headers of the response.
        response: Option<(u16, &'a HeaderMap)>,
        /// Themselves.
        trailers: &'a mut HeaderMap,
        /// The stream.
        sx: &'a StreamShared,
        /// Its route.
        route: Option<&'a dyn Route>,
    },
}

impl Target<'_> {
    /// What is changed.
    pub fn headers(&mut self) -> &mut HeaderMap {
        match self {
            Target::Request { headers, .. } | Target::Response { headers, .. } => headers,
            Target::Trailers { trailers, .. } => trailers,
        }
    }
    /// What values are made of.
    pub fn cx(&self) -> FormatCx<'_> {
        let (request, response, trailers, sx, route) = match self {
            Target::Request { headers, sx, route } => (Some(&**headers), None, None, sx, route),
            Target::Response { request, status, headers, sx, route } => {
                (Some(*request), Some((*status, &**headers)), None, sx, route)
            }
            Target::Trailers { request, response: None, sx, route, .. } => (*request, None, None, sx, route),
            Target::Trailers { request, response, trailers, sx, route } => {
                (*request, *response, Some(&**trailers), sx, route)
            }
        };
        FormatCx { request, response, trailers, route: *route, ..FormatCx::new(&sx.info, &sx.conn) }
    }
}

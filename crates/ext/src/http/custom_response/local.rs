//! A response of our own (`LocalResponsePolicy`).

use super::pb_policy::local_response_policy::v3 as pb;
use nuncio_core::format::{FormatCx, Formatter, Purpose};
use nuncio_core::header_rules::Rules;
use nuncio_core::{BuildResult, Exchange, LocalReply, data_source};
use nuncio_wire::HeaderMap;
use pb::local_response_policy::ResponseCodeDetailsAction;
use std::borrow::Cow;

/// What replaces a response.
pub struct LocalResponse {
    body: Vec<u8>,
    format: Option<Formatter>,
    /// Else the response's.
    status: Option<u16>,
    headers: Rules,
    details: Details,
}

/// What the details of the response are then.
enum Details {
    Empty,
    Preserved,
    These(String),
}

impl LocalResponse {
    /// From configuration.
    ///
    /// # Errors
    /// The body cannot be read, or the format or a header is refused.
    pub fn new(c: &pb::LocalResponsePolicy) -> BuildResult<LocalResponse> {
        Ok(LocalResponse {
            body: c.body.as_ref().map(data_source::read).transpose()?.unwrap_or_default(),
            format: c.body_format.as_ref().map(|f| Formatter::new(f, Purpose::Body)).transpose()?,
            status: c.status_code.map(|s| s as u16), // 200 to 599, by the rules of the field
            headers: Rules::new(&c.response_headers_to_add, &[])?,
            details: match &c.response_code_details_action {
                None => Details::Empty,
                Some(ResponseCodeDetailsAction::PreserveResponseCodeDetails(_)) => Details::Preserved,
                Some(ResponseCodeDetailsAction::ResponseCodeDetails(d)) => Details::These(d.clone()),
            },
        })
    }
    /// What is sent in place of `ex.response`.
    pub fn reply(&self, ex: &Exchange) -> LocalReply {
        let info = &ex.sx.info;
        let none = HeaderMap::new();
        let (status, old) = ex.response.as_ref().map_or((500, &none), |r| (r.status, &r.headers));
        info.response_code.set(status);
        let details = match &self.details {
            Details::Empty => {
                info.empty_details.set(true);
                Cow::Borrowed("")
            }
            Details::Preserved => info.details.borrow().clone(),
            Details::These(d) => Cow::Owned(d.clone()),
        };
        let route = ex.sx.current_route();
        let cx = FormatCx {
            request: Some(&ex.request.headers),
            response: Some((status, old)),
            route: route.as_deref(),
            local_reply_body: &self.body,
            ..FormatCx::new(info, &ex.sx.conn)
        };
        let body = match &self.format {
            None => self.body.clone(),
            Some(f) => {
                let mut text = vec![];
                f.append(&cx, &mut text);
                text
            }
        };
        let mut reply = LocalReply::new(self.status.unwrap_or(status), body, details);
        if !self.headers.is_empty() {
            let mut headers = HeaderMap::new();
            self.headers.make(&headers, &cx).apply(&mut headers);
            reply.headers = Some(headers);
        }
        reply
    }
}

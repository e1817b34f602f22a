//! What a handler answers.

use super::json;
use serde_json::Value;

/// Plain text, as Envoy declares it.
pub const TEXT: &str = "text/plain; charset=UTF-8";
/// JSON.
pub const JSON: &str = "application/json";
/// A page.
pub const HTML: &str = "text/html; charset=UTF-8";

/// A body that is made a piece at a time, so that one answer never keeps main from its other work.
pub trait Chunks {
    /// Appends the next piece, some tens of kilobytes. False when that was the last one; a call may append nothing
    /// and still have more.
    fn next(&mut self, out: &mut String) -> bool;
}

/// The body of an answer.
pub enum Body {
    /// All of it.
    Full(Vec<u8>),
    /// Made while it is sent.
    Chunks(Box<dyn Chunks>),
}

/// The answer to a request.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `content-type`.
    pub content_type: &'static str,
    /// Headers before `content-type`.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Body,
}

impl Response {
    /// A text.
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        let body = Body::Full(body.into().into_bytes());
        Response { status, content_type: TEXT, headers: Vec::new(), body }
    }
    /// `OK`, what Envoy answers to everything that changed something.
    pub fn ok() -> Response {
        Response::text(200, "OK\n")
    }
    /// A JSON document.
    pub fn json(value: &Value) -> Response {
        let mut text = json::pretty(value);
        text.push('\n');
        Response { content_type: JSON, ..Response::text(200, text) }
    }
    /// A body made while it is sent.
    pub fn chunks(content_type: &'static str, chunks: impl Chunks + 'static) -> Response {
        Response { status: 200, content_type, headers: Vec::new(), body: Body::Chunks(Box::new(chunks)) }
    }
    /// All headers, in Envoy's order; `date` and `server` are the connection's.
    pub fn all_headers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let fixed = [
            ("content-type", self.content_type),
            ("cache-control", "no-cache, max-age=0"),
            ("x-content-type-options", "nosniff"),
        ];
        self.headers.clone().into_iter().chain(fixed)
    }
    /// The whole body, for tests and small answers.
    pub fn into_body(self) -> Vec<u8> {
        match self.body {
            Body::Full(b) => b,
            Body::Chunks(mut c) => {
                // Each piece has a text of its own: how much a call appends depends on what is there.
                let (mut out, mut more) = (Vec::new(), true);
                while more {
                    let mut piece = String::new();
                    more = c.next(&mut piece);
                    out.append(&mut piece.into_bytes());
                }
                out
            }
        }
    }
}

//! Envoy's substitution format strings: access log lines, local reply bodies, header values.
//!
//! `%COMMAND(PARAMETERS):LENGTH%` stands for a fact of the exchange, `%%` for a percent sign. A format is parsed once
//! ([`parse`](self), with Envoy's error texts), into literal text and [`Operator`]s, and then appended to a buffer
//! again and again without allocating:
//!
//! * [`Formatter`] – a whole `envoy.config.core.v3.SubstitutionFormatString`, text or JSON. In text an unset value is
//!   `-`, in JSON `null`; JSON keeps types and sorts keys.
//! * [`HeaderFormatter`] – the value of a configured header, where an unset value is nothing.
//! * [`FormatCx`] – what a format is evaluated against.
//!
//! Values come from strangers. In a log line ([`Purpose::Log`]) control characters are written as `\x0A`, so that nobody
//! forges lines (Envoy does not for `%QUERY_PARAM%`, nor did it for `%REQUESTED_SERVER_NAME%`: CVE-2024-45808); in a
//! header value they become blanks; JSON escapes them, and bytes that are not UTF-8 too (CVE-2024-34363).

mod command;
mod eval;
mod json;
mod operator;
mod out;
mod parse;
mod time;
mod xfcc;

pub use json::append_value;
pub use operator::Operator;
pub use time::TimeFormat;

use crate::coverage::Covered;
use crate::error::BuildResult;
use crate::info::{ConnInfo, StreamInfo, StreamShared};
use crate::route::Route;
use json::Node;
use nuncio_api::envoy::config::core::v3 as pb;
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_wire::HeaderMap;
use out::{Out, Style};
use parse::Part;

/// What is read of formats.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.config.core.v3.SubstitutionFormatString",
    &["text_format", "json_format", "text_format_source", "omit_empty_values", "content_type", "formatters"],
)
.ignoring(&[("json_format_options", "says whether to sort, and Envoy sorts always")])];

/// The access log format Envoy uses when none is configured.
pub const DEFAULT_ACCESS_LOG: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ",
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" ",
    "\"%UPSTREAM_HOST%\"\n"
);

/// What a format is evaluated against. Header maps are absent for connections that are not HTTP, or before they exist.
#[derive(Clone, Copy)]
pub struct FormatCx<'a> {
    /// Headers of the request, pseudo-headers included.
    pub request: Option<&'a HeaderMap>,
    /// Status and headers of the response.
    pub response: Option<(u16, &'a HeaderMap)>,
    /// Trailers of the response.
    pub trailers: Option<&'a HeaderMap>,
    /// Facts of the stream.
    pub info: &'a StreamInfo,
    /// Facts of its connection.
    pub conn: &'a ConnInfo,
    /// The route chosen, if one was.
    pub route: Option<&'a dyn Route>,
    /// `%LOCAL_REPLY_BODY%`.
    pub local_reply_body: &'a [u8],
    /// `%ACCESS_LOG_TYPE%`.
    pub log_type: AccessLogType,
}

impl<'a> FormatCx<'a> {
    /// What is known of a stream or a connection without its messages.
    pub fn new(info: &'a StreamInfo, conn: &'a ConnInfo) -> FormatCx<'a> {
        FormatCx {
            request: None,
            response: None,
            trailers: None,
            info,
            conn,
            route: None,
            local_reply_body: b"",
            log_type: AccessLogType::NotSet,
        }
    }
}

/// What formats see in the request phase.
pub fn request_cx<'a>(
    headers: &'a HeaderMap,
    sx: &'a StreamShared,
    route: Option<&'a dyn Route>,
) -> FormatCx<'a> {
    FormatCx { request: Some(headers), route, ..FormatCx::new(&sx.info, &sx.conn) }
}

/// Where the text of a format goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A line of a log.
    Log,
    /// A body: values stand as they are.
    Body,
}

/// A compiled `SubstitutionFormatString`.
#[derive(Debug)]
pub struct Formatter {
    kind: Kind,
    omit_empty: bool,
    purpose: Purpose,
    content_type: Option<Box<str>>,
}

#[derive(Debug)]
enum Kind {
    Text(Vec<Part>),
    Json(Node),
}

impl Formatter {
    /// From configuration. A file it names is read here.
    pub fn new(config: &pb::SubstitutionFormatString, purpose: Purpose) -> BuildResult<Formatter> {
        use pb::substitution_format_string::Format;
        let extras = parse::Extras::new(&config.formatters)?;
        let omit = config.omit_empty_values;
        let kind = match &config.format {
            Some(Format::TextFormat(t)) => Kind::Text(parse::parse(t, extras)?),
            Some(Format::TextFormatSource(s)) => Kind::Text(parse::parse(&read(s)?, extras)?),
            // `json_format_options.sort_properties` has no effect: Envoy sorts always.
            Some(Format::JsonFormat(s)) => Kind::Json(Node::new(s, omit, extras)?),
            None => return Err("field: \"format\", reason: is required".into()),
        };
        let content_type = match (&kind, config.content_type.as_str()) {
            (Kind::Json(_), "") => Some("application/json".into()),
            (_, "") => None,
            (_, t) => Some(t.into()),
        };
        Ok(Formatter { kind, omit_empty: omit, purpose, content_type })
    }
    /// A text format.
    pub fn text(format: &str, purpose: Purpose) -> BuildResult<Formatter> {
        let kind = Kind::Text(parse::parse(format, parse::Extras::default())?);
        Ok(Formatter { kind, omit_empty: false, purpose, content_type: None })
    }
    /// A JSON format (`typed_json_format` and its like).
    pub fn json(format: &prost_types::Struct, purpose: Purpose) -> BuildResult<Formatter> {
        let kind = Kind::Json(Node::new(format, false, parse::Extras::default())?);
        Ok(Formatter { kind, omit_empty: false, purpose, content_type: Some("application/json".into()) })
    }
    /// [`DEFAULT_ACCESS_LOG`].
    #[expect(clippy::expect_used, reason = "a constant, and a test makes it")]
    pub fn default_access_log() -> Formatter {
        Formatter::text(DEFAULT_ACCESS_LOG, Purpose::Log).expect("the default format is valid")
    }
    /// `content_type` of a body made with this format: as configured, else `application/json` for JSON, else none
    /// (the caller's `text/plain`).
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }
    /// Appends the text; JSON ends in a line feed, text ends as the format does.
    pub fn append(&self, cx: &FormatCx<'_>, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Text(parts) => {
                let style = Style::Text { escape: self.purpose == Purpose::Log, blank: false };
                let unset = if self.omit_empty { "" } else { "-" };
                append_parts(parts, cx, &mut Out::new(out, style), unset);
            }
            Kind::Json(node) => {
                node.append(cx, out, self.omit_empty, true);
                out.push(b'\n');
            }
        }
    }
}

fn append_parts(parts: &[Part], cx: &FormatCx<'_>, out: &mut Out<'_>, unset: &str) {
    for part in parts {
        match part {
            Part::Literal(t) => out.literal(t),
            Part::Operator(op) => {
                if !op.append(cx, out) {
                    out.literal(unset.as_bytes());
                }
            }
        }
    }
}

/// Reads a `DataSource` that holds a format.
fn read(source: &pb::DataSource) -> BuildResult<String> {
    String::from_utf8(crate::data_source::read(source)?).map_err(|_| "a format must be UTF-8".into())
}

/// The value of a header from configuration (`HeaderValueOption` and the like).
#[derive(Debug)]
pub struct HeaderFormatter {
    parts: Box<[Part]>,
}

impl HeaderFormatter {
    /// Parses. Also takes the older forms `%PER_REQUEST_STATE(x)%` and `%DYNAMIC_METADATA(["a", "b"])%`.
    pub fn new(value: &str) -> BuildResult<HeaderFormatter> {
        let value = parse::modernize(value);
        let mut parts = parse::parse(&value, parse::Extras::default())?;
        parts.retain(|p| !matches!(p, Part::Literal(t) if t.is_empty()));
        Ok(HeaderFormatter { parts: parts.into() })
    }
    /// The value, when it is the same for all requests.
    pub fn constant(&self) -> Option<&[u8]> {
        match &self.parts[..] {
            [] => Some(b""),
            [Part::Literal(t)] => Some(t),
            _ => None,
        }
    }
    /// As [`append`](Self::append), but what is unset is `-`.
    pub fn append_marked(&self, cx: &FormatCx<'_>, out: &mut Vec<u8>) {
        append_parts(&self.parts, cx, &mut Out::new(out, Style::Text { escape: false, blank: true }), "-");
    }
    /// Appends the value. What is unset adds nothing; a line feed or NUL from a stranger becomes a blank.
    pub fn append(&self, cx: &FormatCx<'_>, out: &mut Vec<u8>) {
        append_parts(&self.parts, cx, &mut Out::new(out, Style::Text { escape: false, blank: true }), "");
    }
}

#[cfg(test)]
mod tests;

//! Error codes (RFC 9113 §7) and what the codec reports when a peer breaks the rules.

use std::fmt;

/// Error code of RST_STREAM and GOAWAY; unknown ones are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

macro_rules! codes {
    ($($name:ident = $n:literal),* $(,)?) => {
        impl ErrorCode {
            $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: ErrorCode = ErrorCode($n);)*
            /// The RFC's name, `UNKNOWN` for any other number.
            pub const fn name(self) -> &'static str {
                match self.0 { $($n => stringify!($name),)* _ => "UNKNOWN" }
            }
        }
    };
}
codes! {
    NO_ERROR = 0, PROTOCOL_ERROR = 1, INTERNAL_ERROR = 2, FLOW_CONTROL_ERROR = 3, SETTINGS_TIMEOUT = 4,
    STREAM_CLOSED = 5, FRAME_SIZE_ERROR = 6, REFUSED_STREAM = 7, CANCEL = 8, COMPRESSION_ERROR = 9,
    CONNECT_ERROR = 10, ENHANCE_YOUR_CALM = 11, INADEQUATE_SECURITY = 12, HTTP_1_1_REQUIRED = 13,
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// Response code details of streams, as Envoy's (`%RESPONSE_CODE_DETAILS%`).
pub mod details {
    /// A field is not allowed (RFC 9113 §8.2, §8.3).
    pub const INVALID_HEADER: &str = "http2.invalid.header.field";
    /// The message as a whole is malformed (RFC 9113 §8.1.1).
    pub const MESSAGING: &str = "http2.violation.of.messaging.rule";
    /// More headers than `max_headers_count`.
    pub const TOO_MANY_HEADERS: &str = "http2.too_many_headers";
    /// Larger than `max_request_headers_kb`.
    pub const HEADER_LIST_TOO_LARGE: &str = "http2.header_list_size_too_large";
    /// `headers_with_underscores_action: REJECT_REQUEST`.
    pub const UNDERSCORE: &str = "http2.unexpected_underscore";
    /// Too many empty frames in a row.
    pub const EMPTY_FRAMES: &str = "http2.inbound_empty_frames_flood";
    /// The peer does not read what it asked for.
    pub const OUTBOUND_FRAMES: &str = "http2.outbound_frames_flood";
    /// The peer reset the stream (also said of a stream whose body contradicts its content-length).
    pub const REMOTE_RESET: &str = "http2.remote_reset";
    /// The peer refused the stream.
    pub const REMOTE_REFUSE: &str = "http2.remote_refuse";
    /// The peer refused the stream.
    pub const REMOTE_REFUSED: &str = "http2.remote_refuse";
    /// Window errors of one stream.
    pub const UNKNOWN: &str = "http2.unknown.nghttp2.error";
}

/// The kind of a [`ConnError`]: which statistics and connection details Envoy gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A rule of the protocol is broken: `downstream_cx_protocol_error`, `codec_error:…`.
    Protocol,
    /// A flood limit is exceeded (Envoy's buffer flood and empty frame errors).
    Flood,
}

/// The connection is lost. What the peer should be told already waits in the output; close after writing it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnError {
    /// Code that was (or would be) sent in GOAWAY.
    pub code: ErrorCode,
    /// Protocol error or flood.
    pub kind: Kind,
    /// Envoy's text, the part behind `codec_error:`, with blanks.
    pub message: &'static str,
    /// What exactly was wrong, for the log.
    pub reason: &'static str,
    /// The stream that caused it, 0 when none did, and its response code details, empty to use `message`.
    pub stream: super::StreamId,
    /// See [`stream`](Self::stream).
    pub details: &'static str,
    /// `stream` is new: its head never became an event.
    pub begun: bool,
    /// GOAWAY was put into the output.
    pub goaway: bool,
}

/// Envoy's text for nearly every error its HTTP/2 library reports.
pub(super) const CALLBACK_FAILED: &str = "The user callback function failed";

impl fmt::Display for ConnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}: {})", self.message, self.code, self.reason)
    }
}
impl std::error::Error for ConnError {}

/// A broken rule that ends the connection, before it became a [`ConnError`].
pub(super) struct Fault {
    pub code: ErrorCode,
    pub kind: Kind,
    pub message: &'static str,
    pub reason: &'static str,
    pub stream: super::StreamId,
    pub details: &'static str,
    pub begun: bool,
    pub goaway: bool,
}

impl Fault {
    /// The peer is told by GOAWAY.
    pub fn connection(code: ErrorCode, reason: &'static str) -> Fault {
        Fault {
            code,
            kind: Kind::Protocol,
            message: CALLBACK_FAILED,
            reason,
            stream: super::StreamId(0),
            details: "",
            begun: false,
            goaway: true,
        }
    }
    /// A PROTOCOL_ERROR for which Envoy closes without GOAWAY.
    pub fn silent(reason: &'static str) -> Fault {
        Fault { goaway: false, ..Fault::connection(ErrorCode::PROTOCOL_ERROR, reason) }
    }
    pub fn of_stream(self, stream: super::StreamId, details: &'static str, begun: bool) -> Fault {
        Fault { stream, details, begun, ..self }
    }
    /// The peer asks for more than it may; Envoy's text says what.
    pub fn flood_of(text: &'static str) -> Fault {
        let f = Fault::silent(text);
        Fault { code: ErrorCode::ENHANCE_YOUR_CALM, kind: Kind::Flood, message: text, ..f }
    }
}

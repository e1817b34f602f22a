//! Why a message was refused, and what Envoy answers and logs for it.

use std::fmt;

/// A message the codec refuses. The connection is of no use afterwards.
///
/// A server answers with [`status`](H1Error::status) (unless its response head has left already), the flag `DPE`
/// and `connection: close`; a client resets the stream with "protocol error" (`UPE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct H1Error {
    /// Status to answer a request with; 0 for errors in responses.
    pub status: u16,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// Body of the answer (`text/plain`).
    pub body: &'static str,
    /// What was wrong, for logs and stats.
    pub cause: Cause,
}

/// What the end of the peer's stream means at the moment it arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Eof {
    /// Between two messages: nothing is lost.
    Idle,
    /// It ended a body without a length: read the `End` event.
    BodyEnd,
    /// Server: the client left before its request was read or its response was written (Envoy gives up on it also
    /// when only its sending side is closed). Client: the upstream left without a byte of response.
    Incomplete,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $details:literal $text:literal;)*) => {
        /// What exactly was wrong.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum Cause { $($(#[$doc])* $name),* }
        impl Cause {
            /// What Envoy (or, for what only we refuse, we) writes to the log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Cause::$name => $text),* }
            }
            const fn answer(self) -> (u16, &'static str) {
                match self { $(Cause::$name => ($status, $details)),* }
            }
        }
    };
}

causes! {
    /// The method is not one Envoy knows, or not a token.
    Method = 400 "http1.codec_error" "HPE_INVALID_METHOD";
    /// The request target is empty or has characters no target may have.
    Target = 400 "http1.codec_error" "HPE_INVALID_URL";
    /// Neither `HTTP/x.y` nor absent.
    Version = 400 "http1.codec_error" "HPE_INVALID_VERSION";
    /// A status line that is none.
    StatusLine = 400 "http1.codec_error" "HPE_INVALID_CONSTANT";
    /// A status that is not three digits.
    Status = 400 "http1.codec_error" "HPE_INVALID_STATUS";
    /// The target is neither a path, nor a URL, nor (for CONNECT) host:port.
    Url = 400 "http1.invalid_url" "invalid url in request line";
    /// The target's scheme is neither http nor https.
    Scheme = 400 "http1.invalid_scheme" "invalid scheme";
    /// `https://` on a connection without TLS.
    HttpsInPlaintext = 403 "http1.https_url_on_plaintext_connection" "https in the clear";
    /// A header name that is not a token.
    HeaderName = 400 "http1.codec_error" "HPE_INVALID_HEADER_TOKEN";
    /// A header line without a colon.
    Colon = 400 "http1.codec_error" "HEADER_MISSING_COLON";
    /// Control characters in a head.
    Characters = 400 "http1.invalid_characters" "header value contains invalid chars";
    /// A CR that no LF follows.
    LoneCr = 400 "http1.codec_error" "lone CR";
    /// A header line that continues the one before.
    ObsFold = 400 "http1.codec_error" "obs-fold";
    /// `Host` headers that differ.
    Hosts = 400 "http1.codec_error" "more than one Host header";
    /// The head or the trailers are larger than allowed.
    TooLarge = 431 "http1.headers_too_large" "headers size exceeds limit";
    /// More header lines than allowed.
    TooMany = 431 "http1.too_many_headers" "headers count exceeds limit";
    /// `content-length` is no number.
    ContentLength = 400 "http1.codec_error" "HPE_INVALID_CONTENT_LENGTH";
    /// More than one `content-length`.
    ContentLengths = 400 "http1.codec_error" "HPE_UNEXPECTED_CONTENT_LENGTH";
    /// `content-length` beside `transfer-encoding`.
    LengthAndChunked = 400 "http1.content_length_and_chunked_not_allowed" "both 'Content-Length' and 'Transfer-Encoding' are set.";
    /// A transfer coding other than `chunked`.
    TransferEncoding = 501 "http1.invalid_transfer_encoding" "unsupported transfer encoding";
    /// CONNECT with a body.
    ConnectBody = 400 "http1.body_disallowed" "unsupported content length";
    /// `connection` names headers that must not be removed, or too many.
    Nominated = 400 "http1.connection_header_rejected" "Invalid nominated headers in Connection.";
    /// A header name with an underscore.
    Underscore = 400 "http1.unexpected_underscore" "header name contains underscores";
    /// HTTP/1.0 or another version that is not served.
    LowVersion = 426 "low_version" "Upgrade required for HTTP/1.0 or HTTP/0.9";
    /// `Host` has characters no authority may have.
    Authority = 400 "http.invalid_authority" "request headers failed spec compliance checks";
    /// A chunk size or extension that is malformed.
    ChunkSize = 400 "http1.codec_error" "HPE_INVALID_CHUNK_SIZE";
    /// Chunk data that CRLF does not follow.
    ChunkEnd = 400 "http1.codec_error" "chunk data is not followed by CRLF";
    /// Response: `transfer-encoding` in 1xx or 204.
    TransferEncodingNotAllowed = 0 "http1.transfer_encoding_not_allowed" "transfer encoding not allowed in 1xx or 204";
    /// Response: `content-length` in 1xx or 204.
    ContentLengthNotAllowed = 0 "http1.content_length_not_allowed" "content length not allowed in 1xx or 204";
    /// Response: the upstream ended the connection in its middle.
    Truncated = 0 "http1.codec_error" "HPE_INVALID_EOF_STATE";
    /// A response nobody asked for.
    Unasked = 0 "http1.codec_error" "extraneous data after response complete";
    /// Request to be written: a pseudo-header that must be there is missing.
    Required = 0 "http1.codec_error" "missing required header";
}

impl From<Cause> for H1Error {
    fn from(cause: Cause) -> H1Error {
        let (status, details) = cause.answer();
        H1Error { status, details, body: super::reason(status), cause }
    }
}

impl H1Error {
    /// The same error found in a response: nothing to answer.
    pub(super) fn upstream(cause: Cause) -> H1Error {
        H1Error { status: 0, body: "", ..cause.into() }
    }
}

impl fmt::Display for H1Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http/1.1 protocol error: {}", self.cause.as_str())
    }
}

impl std::error::Error for H1Error {}

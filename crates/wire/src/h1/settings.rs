//! What a codec is told: Envoy's `Http1ProtocolOptions` and the limits around it.

use crate::headers::{HeaderMap, NameCase};
use std::fmt;
use std::sync::Arc;

/// `HttpProtocolOptions.headers_with_underscores_action`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Underscores {
    /// Underscores in header names are like any other character.
    #[default]
    Allow,
    /// The request is refused with 400.
    Reject,
    /// The header is left out and counted.
    DropHeader,
}

/// `Http1ProtocolOptions.header_key_format`: how names are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HeaderCase {
    /// `content-type`
    #[default]
    Lower,
    /// `Content-Type`: `proper_case_words`.
    Proper,
    /// As the peer wrote it, lower case when the proxy added it: the `preserve_case` formatter.
    Preserve,
    /// As the peer wrote it, `Content-Type` when the proxy added it
    /// (`preserve_case` with `formatter_type_on_envoy_headers: PROPER_CASE`).
    PreserveElseProper,
}

/// Holds for the tokens it is to be used on.
pub type TokenMatcher = dyn Fn(&[u8]) -> bool + Send + Sync;

/// Says whether an upgrade token is to be ignored (`Http1ProtocolOptions.ignore_http_11_upgrade`).
#[derive(Clone)]
pub struct IgnoreUpgrade(pub Arc<TokenMatcher>);

impl fmt::Debug for IgnoreUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IgnoreUpgrade")
    }
}

/// Settings of downstream connections, shared by all of a listener's.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Largest head in bytes, line ends included; also of a trailer section (`max_request_headers_kb` × 1024).
    pub max_head_bytes: usize,
    /// Most header lines of a head or trailer section (`common_http_protocol_options.max_headers_count`).
    pub max_headers: usize,
    /// Serve HTTP/1.0 instead of answering 426 (`accept_http_10`).
    pub accept_http_10: bool,
    /// `:authority` of an HTTP/1.0 request without `Host`; empty: none (`default_host_for_http_10`).
    pub default_host_for_http_10: String,
    /// Take `GET http://host/path` apart (`allow_absolute_url`; Envoy's default is true).
    pub allow_absolute_url: bool,
    /// Let `transfer-encoding: chunked` win over `content-length` instead of refusing both (`allow_chunked_length`).
    pub allow_chunked_length: bool,
    /// Hand trailers on, in both directions (`enable_trailers`); else they are checked and dropped.
    pub enable_trailers: bool,
    /// Take any token as a method (`allow_custom_methods`).
    pub allow_custom_methods: bool,
    /// Header names with underscores (`headers_with_underscores_action`).
    pub underscores: Underscores,
    /// Refuse `GET https://…` on a connection without TLS; Envoy's listeners do not.
    pub validate_scheme: bool,
    /// Upgrade tokens to ignore (`ignore_http_11_upgrade`); `h2c` always is.
    pub ignore_upgrade: Option<IgnoreUpgrade>,
    /// How response headers are written. `Preserve*` also keeps the case of request headers.
    pub header_case: HeaderCase,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            max_head_bytes: 60 * 1024,
            max_headers: 100,
            accept_http_10: false,
            default_host_for_http_10: String::new(),
            allow_absolute_url: true,
            allow_chunked_length: false,
            enable_trailers: false,
            allow_custom_methods: false,
            underscores: Underscores::Allow,
            validate_scheme: false,
            ignore_upgrade: None,
            header_case: HeaderCase::Lower,
        }
    }
}

/// Settings of upstream connections, shared by all of a cluster's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Largest response head in bytes (`max_response_headers_kb` × 1024; Envoy's default is 80 KiB).
    pub max_head_bytes: usize,
    /// Most header lines of a response head or trailer section.
    pub max_headers: usize,
    /// Let `transfer-encoding: chunked` win over `content-length` in responses.
    pub allow_chunked_length: bool,
    /// Hand trailers on, in both directions.
    pub enable_trailers: bool,
    /// Write `GET http://host/path` (`send_fully_qualified_url`, for upstreams that are proxies).
    pub send_fully_qualified_url: bool,
    /// How request headers are written. `Preserve*` also keeps the case of response headers.
    pub header_case: HeaderCase,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            max_head_bytes: 80 * 1024,
            max_headers: 100,
            allow_chunked_length: false,
            enable_trailers: false,
            send_fully_qualified_url: false,
            header_case: HeaderCase::Lower,
        }
    }
}

impl HeaderCase {
    /// True when names must be kept as they were written.
    pub fn keeps(self) -> bool {
        matches!(self, HeaderCase::Preserve | HeaderCase::PreserveElseProper)
    }
    /// What a head that is read with it wants of whoever writes it.
    pub(super) fn of_read(self) -> Option<NameCase> {
        match self {
            HeaderCase::Preserve => Some(NameCase::Lower),
            HeaderCase::PreserveElseProper => Some(NameCase::Proper),
            HeaderCase::Lower | HeaderCase::Proper => None,
        }
    }
    /// How a head is written: as the side wants that read it, even where this one would do otherwise (as in Envoy,
    /// where the formatter goes with the headers).
    pub(super) fn to_write(self, headers: &HeaderMap) -> NameCase {
        match (headers.name_case(), self) {
            (Some(case), _) => case,
            (None, HeaderCase::Proper) => NameCase::Proper,
            (None, _) => NameCase::Lower,
        }
    }
}

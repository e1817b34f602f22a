//! The three kinds of error: a refused configuration, a failed stream, a failed connection (`io::Error`).

use crate::flags::Flag;
use std::borrow::Cow;
use std::fmt;

/// A configuration is refused; the text is Envoy's phrase where Envoy has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError(pub String);

/// Result of building something from configuration.
pub type BuildResult<T> = Result<T, BuildError>;

impl BuildError {
    /// For a field or extension that Envoy knows and we have not built: accepted configuration is never ignored.
    pub fn not_implemented(what: impl fmt::Display) -> BuildError {
        BuildError(format!("not implemented yet: {what}"))
    }
    /// It says that something is not built yet.
    pub fn is_not_implemented(&self) -> bool {
        self.0.starts_with("not implemented yet: ")
    }
}
impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for BuildError {}
impl From<String> for BuildError {
    fn from(s: String) -> BuildError {
        BuildError(s)
    }
}
impl From<&str> for BuildError {
    fn from(s: &str) -> BuildError {
        BuildError(s.into())
    }
}

/// Why a stream was reset, by either side (Envoy's `StreamResetReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// We could not connect, for a reason of our own (e.g. no local port).
    LocalConnectionFailure,
    /// The peer refused the connection or the handshake failed.
    RemoteConnectionFailure,
    /// Connecting took longer than `connect_timeout`.
    ConnectionTimeout,
    /// The connection ended before the stream did.
    ConnectionTermination,
    /// We reset the stream.
    LocalReset,
    /// We refused the stream.
    LocalRefusedStream,
    /// The peer reset the stream.
    RemoteReset,
    /// The peer refused the stream: it did nothing with it.
    RemoteRefusedStream,
    /// A circuit breaker is open: the host takes no more requests.
    Overflow,
    /// A circuit breaker is open: no more requests may wait for a connection.
    PendingOverflow,
    /// The peer broke the protocol.
    ProtocolError,
    /// CONNECT was answered by an error.
    ConnectError,
    /// The overload manager ended the stream.
    OverloadManager,
    /// An HTTP/1 upstream closed its half before the request ended.
    Http1PrematureUpstreamHalfClose,
}

impl ResetReason {
    /// Envoy's words, as they stand in local replies and (with `_` for blanks) in response code details.
    pub fn text(self) -> &'static str {
        match self {
            ResetReason::LocalConnectionFailure => "local connection failure",
            ResetReason::RemoteConnectionFailure => "remote connection failure",
            ResetReason::ConnectionTimeout => "connection timeout",
            ResetReason::ConnectionTermination => "connection termination",
            ResetReason::LocalReset => "local reset",
            ResetReason::LocalRefusedStream => "local refused stream reset",
            ResetReason::RemoteReset => "remote reset",
            ResetReason::RemoteRefusedStream => "remote refused stream reset",
            ResetReason::Overflow | ResetReason::PendingOverflow => "overflow",
            ResetReason::ProtocolError => "protocol error",
            ResetReason::ConnectError => "remote error with CONNECT request",
            ResetReason::OverloadManager => "overload manager reset",
            ResetReason::Http1PrematureUpstreamHalfClose => "http1 premature upstream half close",
        }
    }
    /// The response flag that an upstream reset for this reason sets.
    pub fn flag(self) -> Flag {
        match self {
            ResetReason::LocalConnectionFailure
            | ResetReason::RemoteConnectionFailure
            | ResetReason::ConnectionTimeout => Flag::UpstreamConnectionFailure,
            ResetReason::ConnectionTermination | ResetReason::Http1PrematureUpstreamHalfClose => {
                Flag::UpstreamConnectionTermination
            }
            ResetReason::LocalReset | ResetReason::LocalRefusedStream => Flag::LocalReset,
            ResetReason::RemoteReset | ResetReason::RemoteRefusedStream | ResetReason::ConnectError => {
                Flag::UpstreamRemoteReset
            }
            ResetReason::Overflow | ResetReason::PendingOverflow => Flag::UpstreamOverflow,
            ResetReason::ProtocolError => Flag::UpstreamProtocolError,
            ResetReason::OverloadManager => Flag::OverloadManagerTerminated,
        }
    }
}

/// An upstream exchange failed: why, and what the transport said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamError {
    /// Envoy's reason.
    pub reason: ResetReason,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, e.g. `delayed connect error: Connection refused`.
    pub transport: Cow<'static, str>,
}

impl From<ResetReason> for StreamError {
    fn from(reason: ResetReason) -> StreamError {
        StreamError { reason, transport: Cow::Borrowed("") }
    }
}
impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.text())?;
        if self.transport.is_empty() { Ok(()) } else { write!(f, ": {}", self.transport) }
    }
}
impl std::error::Error for StreamError {}

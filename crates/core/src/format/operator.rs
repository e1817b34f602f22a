//! The commands of format strings, parsed: what [`command`](super::command) makes and [`eval`](super::eval) prints.

use super::time::TimeFormat;
use crate::cel::Program;
use nuncio_wire::HeaderName;

/// A parsed command, e.g. `%REQ(:PATH):20%`.
#[derive(Debug)]
pub struct Operator {
    pub(super) op: Op,
    /// Longest text, in bytes; only for commands that take a length.
    pub(super) max: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Op {
    Simple(Simple),
    Header {
        of: HeadersOf,
        name: HeaderName,
        or: Option<HeaderName>,
        without_query: bool,
    },
    HeadersBytes(HeadersOf),
    Time {
        of: TimeOf,
        format: TimeFormat,
    },
    Duration {
        from: Point,
        to: Point,
        unit: u32,
    },
    Path {
        query: bool,
        of: PathOf,
    },
    QueryParam(Box<str>),
    QueryParams {
        decoded: bool,
    },
    GrpcStatus(GrpcForm),
    Metadata {
        of: MetadataOf,
        namespace: Box<str>,
        path: Vec<Box<str>>,
    },
    FilterState {
        key: Box<str>,
        typed: bool,
    },
    Details {
        blanks: bool,
    },
    /// Text known when the format is parsed: environment, host name.
    Fixed(Box<str>),
    Xfcc(Box<str>),
    Cel {
        program: Box<Program>,
        typed: bool,
    },
    ServerName {
        sni: SniUse,
        host: HostOf,
    },
    Address {
        of: AddressOf,
        form: AddressForm,
    },
    Tls {
        upstream: bool,
        field: TlsField,
    },
    Meter {
        upstream: bool,
        of: MeterOf,
    },
    Coalesce(Vec<Operator>),
    /// Known to Envoy, and never set by anything that is built so far.
    Unset,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Simple {
    AccessLogType,
    BytesReceived,
    BytesSent,
    ConnectionId,
    ConnectionTerminationDetails,
    CustomFlags,
    DetectedCloseType,
    DownstreamLocalCloseReason,
    DownstreamTransportFailure,
    Duration,
    FilterChainName,
    HandshakeDuration,
    ListenerName,
    LocalReplyBody,
    PoolReadyDuration,
    Protocol,
    RequestDuration,
    RequestTxDuration,
    ResponseCode,
    ResponseDuration,
    ResponseFlags,
    ResponseFlagsLong,
    ResponseTxDuration,
    Retransmitted,
    RouteName,
    StreamId,
    TraceId,
    SpanId,
    UniqueId,
    UpstreamAttempts,
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamConnectionId,
    UpstreamConnectionIds,
    UpstreamDetectedCloseType,
    UpstreamHost,
    UpstreamHostName,
    UpstreamHostNameNoPort,
    UpstreamHostNames,
    UpstreamHostNamesNoPort,
    UpstreamHosts,
    UpstreamHostsNoPort,
    UpstreamLocalCloseReason,
    UpstreamProtocol,
    UpstreamTransportFailure,
    VirtualClusterName,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum HeadersOf {
    Request,
    Response,
    Trailers,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum TimeOf {
    Start,
    Emit,
    NotBefore { upstream: bool },
    NotAfter { upstream: bool },
}

/// A point of `%COMMON_DURATION%`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Point {
    DsCxBeg,
    DsRxBeg,
    DsRxEnd,
    UsCxBeg,
    UsCxEnd,
    UsHsEnd,
    UsTxBeg,
    UsTxEnd,
    UsRxBeg,
    UsRxBodyBeg,
    UsRxEnd,
    DsTxBeg,
    DsTxEnd,
    /// A name that a filter could set; none does.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PathOf {
    Original,
    Current,
    Either,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum GrpcForm {
    Camel,
    Snake,
    Number,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum MetadataOf {
    Dynamic,
    Cluster,
    Route,
    UpstreamHost,
    Listener,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SniUse {
    Only,
    First,
    HostFirst,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum HostOf {
    Original,
    Current,
    Either,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum AddressOf {
    Local,
    Remote,
    DirectLocal,
    DirectRemote,
    UpstreamLocal,
    UpstreamRemote,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum AddressForm {
    Full,
    NoPort,
    /// Without port, as the range of so many bits; a negative number prints nothing.
    Range(i64),
    Port,
    EndpointId,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum TlsField {
    Version,
    Cipher,
    Group,
    SessionId,
    ServerName,
    Peer(CertField),
    Local(CertField),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum CertField {
    Subject,
    Issuer,
    Serial,
    Sha256,
    Sha1,
    Pem,
    Uri,
    Dns,
    Ip,
    Email,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum MeterOf {
    HeaderReceived,
    HeaderSent,
    PlainHeaderReceived,
    PlainHeaderSent,
    WireReceived,
    WireSent,
}

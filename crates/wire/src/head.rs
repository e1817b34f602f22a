//! Heads of requests and responses, the same for every HTTP version.

use crate::headers::HeaderMap;
use crate::name;

/// HTTP version of a message, as access logs print it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    #[default]
    Http11,
    /// HTTP/2 (RFC 9113).
    Http2,
    /// HTTP/3 (RFC 9114).
    Http3,
}

impl Version {
    /// `HTTP/1.1` and so on, as Envoy's `%PROTOCOL%` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
            Version::Http3 => "HTTP/3",
        }
    }
}

/// Head of a request. Method, path, authority and scheme are the pseudo-headers of `headers`
/// (HTTP/1's `Host` becomes `:authority`), so that one matcher serves all versions.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// All headers, pseudo-headers first.
    pub headers: HeaderMap,
    /// Version spoken by the peer that sent it.
    pub version: Version,
}

impl RequestHead {
    /// `:method`, empty when absent.
    pub fn method(&self) -> &[u8] {
        self.headers.get(name::METHOD).unwrap_or_default()
    }
    /// `:path` with the query, empty when absent (CONNECT).
    pub fn path(&self) -> &[u8] {
        self.headers.get(name::PATH).unwrap_or_default()
    }
    /// `:authority`, empty when absent.
    pub fn authority(&self) -> &[u8] {
        self.headers.get(name::AUTHORITY).unwrap_or_default()
    }
    /// `:scheme`, empty when absent.
    pub fn scheme(&self) -> &[u8] {
        self.headers.get(name::SCHEME).unwrap_or_default()
    }
    /// True for HEAD, whose response has no body whatever its headers say (RFC 9110 §9.3.2).
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }
    /// True for CONNECT (RFC 9110 §9.3.6), extended CONNECT (RFC 8441) included.
    pub fn is_connect(&self) -> bool {
        self.method() == b"CONNECT"
    }
    /// What it lacks to be sent, whatever the version, since a filter took it away (Envoy's `checkRequiredRequestHeaders`).
    pub fn missing(&self) -> Option<name::Id> {
        let lacks = |id: name::Id| !self.headers.contains(id);
        if lacks(name::METHOD) {
            return Some(name::METHOD);
        }
        if !self.is_connect() {
            return lacks(name::PATH).then_some(name::PATH);
        }
        match (lacks(name::AUTHORITY), lacks(name::PATH), lacks(name::PROTOCOL)) {
            (true, ..) => Some(name::AUTHORITY),
            (_, false, true) => Some(name::PROTOCOL),
            (_, true, false) => Some(name::PATH),
            _ => None,
        }
    }
    /// True when `content-type` is `application/grpc` or one of its `+` and `;` forms.
    pub fn is_grpc(&self) -> bool {
        is_grpc_content_type(self.headers.get(name::CONTENT_TYPE))
    }
}

/// Head of a response. `:status` is a field, not an entry of `headers`.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code, 100 to 999.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// Version spoken by the peer that sent it.
    pub version: Version,
}

impl ResponseHead {
    /// A response without headers.
    pub fn new(status: u16) -> ResponseHead {
        ResponseHead { status, headers: HeaderMap::new(), version: Version::Http11 }
    }
    /// True for 1xx but 101: another head follows (RFC 9110 §15.2).
    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
    /// True when `content-type` is one of gRPC's.
    pub fn is_grpc(&self) -> bool {
        is_grpc_content_type(self.headers.get(name::CONTENT_TYPE))
    }
}

fn is_grpc_content_type(v: Option<&[u8]>) -> bool {
    v.and_then(|v| v.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

//! Whether a route matches a request (`RouteMatch`).

use crate::proto;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::StreamShared;
use nuncio_core::matchers::{
    FractionalPercent, HeaderMatcher, MetadataMatcher, QueryParameterMatcher, Regex, matches_all,
};
use nuncio_core::runtime::RuntimeFraction;
use nuncio_wire::{RequestHead, name};
use pb::route_match::PathSpecifier;

/// What is read of `RouteMatch` and the messages in it.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.route.v3.RouteMatch",
        &[
            "prefix",
            "path",
            "safe_regex",
            "path_separated_prefix",
            "connect_matcher",
            "case_sensitive",
            "runtime_fraction",
            "headers",
            "query_parameters",
            "grpc",
            "tls_context",
            "dynamic_metadata",
        ],
    ),
    Covered::new("envoy.config.route.v3.RouteMatch.ConnectMatcher", &[]),
    Covered::new("envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", &[]),
    Covered::new("envoy.config.route.v3.RouteMatch.TlsContextMatchOptions", &["presented", "validated"]),
    Covered::new("envoy.config.core.v3.RuntimeFractionalPercent", &["default_value", "runtime_key"]),
];

/// A compiled `RouteMatch`.
pub struct Matcher {
    path: Path,
    case_sensitive: bool,
    headers: Box<[HeaderMatcher]>,
    /// Apart, since most routes have none of it.
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    query: Box<[QueryParameterMatcher]>,
    fraction: Option<RuntimeFraction>,
    metadata: Box<[MetadataMatcher]>,
    grpc: bool,
    tls: Option<pb::route_match::TlsContextMatchOptions>,
}

enum Path {
    Prefix(Box<[u8]>),
    Exact(Box<[u8]>),
    /// The path is this, or goes on with `/`.
    Separated(Box<[u8]>),
    Regex(Box<Regex>),
    Connect,
}

impl Matcher {
    /// Compiles a match.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(m: &pb::RouteMatch, cx: &BuildCx<'_>) -> BuildResult<Matcher> {
        let path = match &m.path_specifier {
            Some(PathSpecifier::Prefix(p)) => Path::Prefix(p.as_bytes().into()),
            Some(PathSpecifier::Path(p)) => Path::Exact(p.as_bytes().into()),
            Some(PathSpecifier::PathSeparatedPrefix(p)) => Path::Separated(p.as_bytes().into()),
            Some(PathSpecifier::SafeRegex(r)) => Path::Regex(Box::new(Regex::new(r)?)),
            Some(PathSpecifier::ConnectMatcher(_)) => Path::Connect,
            _ => return Err(BuildError::not_implemented("RouteMatch.path_match_policy")),
        };
        let headers = HeaderMatcher::list(&m.headers)?.into();
        let more = More {
            query: proto::each(&m.query_parameters, QueryParameterMatcher::new)?,
            fraction: m.runtime_fraction.as_ref().map(|f| {
                let default =
                    f.default_value.as_ref().map_or(FractionalPercent::NEVER, FractionalPercent::new);
                cx.server.runtime().fraction(&f.runtime_key, default)
            }),
            metadata: proto::each(&m.dynamic_metadata, MetadataMatcher::new)?,
            grpc: m.grpc.is_some(),
            tls: m.tls_context,
        };
        let more = (!more.is_empty()).then(|| Box::new(more));
        Ok(Matcher { path, case_sensitive: m.case_sensitive.unwrap_or(true), headers, more })
    }

    /// Whether the request matches.
    pub fn matches(&self, head: &RequestHead, sx: &StreamShared) -> bool {
        self.path(head)
            && self.more.as_ref().is_none_or(|more| !more.grpc || head.is_grpc())
            && matches_all(&self.headers, head)
            && self.more.as_ref().is_none_or(|more| more.matches(head, sx))
    }

    fn path(&self, head: &RequestHead) -> bool {
        // Only CONNECT has no path, and only its matcher takes such requests.
        let Some(full) = head.headers.get(name::PATH) else {
            return matches!(self.path, Path::Connect) && head.is_connect();
        };
        let path = match full.iter().position(|b| matches!(b, b'?' | b'#')) {
            Some(i) => &full[..i],
            None => full,
        };
        match &self.path {
            Path::Prefix(p) => self.begins(path, p),
            Path::Exact(p) => path.len() == p.len() && self.begins(path, p),
            Path::Separated(p) => self.begins(path, p) && matches!(path.get(p.len()), None | Some(b'/')),
            Path::Regex(r) => r.matches(path),
            Path::Connect => head.is_connect(),
        }
    }
    fn begins(&self, path: &[u8], with: &[u8]) -> bool {
        match path.get(..with.len()) {
            Some(start) if self.case_sensitive => start == with,
            Some(start) => start.eq_ignore_ascii_case(with),
            None => false,
        }
    }
}

impl More {
    fn is_empty(&self) -> bool {
        self.query.is_empty()
            && self.fraction.is_none()
            && self.metadata.is_empty()
            && !self.grpc
            && self.tls.is_none()
    }
    fn matches(&self, head: &RequestHead, sx: &StreamShared) -> bool {
        self.query.iter().all(|q| q.matches(head.path()))
            && self.fraction.as_ref().is_none_or(|f| f.matches(sx.info.random.get()))
            && self.tls(sx)
            && self.metadata(sx)
    }
    fn tls(&self, sx: &StreamShared) -> bool {
        let Some(t) = &self.tls else { return true };
        let tls = sx.conn.tls.get();
        let presented = tls.is_some_and(|t| t.peer.is_some());
        let validated = tls.is_some_and(|t| t.peer_validated);
        t.presented.is_none_or(|want| want == presented) && t.validated.is_none_or(|want| want == validated)
    }
    fn metadata(&self, sx: &StreamShared) -> bool {
        if self.metadata.is_empty() {
            return true;
        }
        let have = sx.info.metadata.borrow();
        self.metadata.iter().all(|m| match &*have {
            Some(have) => m.matches(have),
            None => m.matches_none(),
        })
    }
}

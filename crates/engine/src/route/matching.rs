//! Whether a route matches a request (`RouteMatch`).

use super::index::Key;
use crate::proto;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use nuncio_api::extensions::unregistered;
use nuncio_core::cookie;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::StreamShared;
use nuncio_core::matchers::{
    FilterStateMatcher, FractionalPercent, HeaderMatcher, MetadataMatcher, QueryParameterMatcher, Regex,
    StringMatcher, UriTemplate, matches_all,
};
use nuncio_core::runtime::RuntimeFraction;
use nuncio_wire::{RequestHead, name};
use pb::route_match::PathSpecifier;
use prost::Name;
use std::borrow::Cow;

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
            "filter_state",
            "cookies",
            "path_match_policy",
        ],
    ),
    Covered::new("envoy.config.route.v3.CookieMatcher", &["name", "string_match", "invert_match"]),
    Covered::new("envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", &["path_template"]),
    Covered::new("envoy.config.route.v3.RouteMatch.ConnectMatcher", &[]),
    Covered::new("envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", &[]),
    Covered::new("envoy.config.route.v3.RouteMatch.TlsContextMatchOptions", &["presented", "validated"]),
    Covered::new("envoy.config.core.v3.RuntimeFractionalPercent", &["default_value", "runtime_key"]),
];

/// A compiled `RouteMatch`.
pub struct Matcher {
    path: Path,
    case_sensitive: bool,
    /// `ignore_path_parameters_in_path_matching`
    ignore_parameters: bool,
    headers: Box<[HeaderMatcher]>,
    /// Apart, since most routes have none of it.
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    query: Box<[QueryParameterMatcher]>,
    fraction: Option<RuntimeFraction>,
    metadata: Box<[MetadataMatcher]>,
    filter_state: Box<[FilterStateMatcher]>,
    cookies: Box<[CookieMatcher]>,
    grpc: bool,
    tls: Option<pb::route_match::TlsContextMatchOptions>,
}

enum Path {
    Prefix(Box<[u8]>),
    Exact(Box<[u8]>),
    /// The path is this, or goes on with `/`.
    Separated(Box<[u8]>),
    Regex(Box<Regex>),
    Template(Box<UriTemplate>),
    Connect,
}

/// The template of a `path_match_policy`; `None` for another path specifier.
///
/// # Errors
/// It is no template, or a policy that is not built.
pub fn template(m: &pb::RouteMatch) -> BuildResult<Option<UriTemplate>> {
    let Some(PathSpecifier::PathMatchPolicy(p)) = &m.path_specifier else { return Ok(None) };
    let any = p.typed_config.clone().unwrap_or_default();
    let kind = any.type_url.rsplit('/').next().unwrap_or_default();
    if kind != UriTemplateMatchConfig::full_name() {
        return Err(unregistered(&p.name, kind).into());
    }
    let c: UriTemplateMatchConfig = proto::unpack(&any)?;
    let bad = |e: BuildError| {
        BuildError(format!("path_match_policy.path_template {} is invalid: {}", c.path_template, e.0))
    };
    UriTemplate::new(&c.path_template).map(Some).map_err(bad)
}

/// A compiled `CookieMatcher`.
struct CookieMatcher {
    name: Box<str>,
    value: StringMatcher,
    invert: bool,
}

impl CookieMatcher {
    fn new(m: &pb::CookieMatcher) -> BuildResult<CookieMatcher> {
        let value =
            m.string_match.as_ref().ok_or_else(|| BuildError::from("string_match: value is required"))?;
        Ok(CookieMatcher {
            name: m.name.as_str().into(),
            value: StringMatcher::new(value)?,
            invert: m.invert_match,
        })
    }
    fn matches(&self, head: &RequestHead) -> bool {
        let value = cookie::get(&head.headers, self.name.as_bytes());
        value.is_some_and(|v| self.value.matches(v)) != self.invert
    }
}

impl Matcher {
    /// Compiles a match.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(m: &pb::RouteMatch, ignore_parameters: bool, cx: &BuildCx<'_>) -> BuildResult<Matcher> {
        let path = match &m.path_specifier {
            Some(PathSpecifier::Prefix(p)) => Path::Prefix(p.as_bytes().into()),
            Some(PathSpecifier::Path(p)) => Path::Exact(p.as_bytes().into()),
            Some(PathSpecifier::PathSeparatedPrefix(p)) => Path::Separated(p.as_bytes().into()),
            Some(PathSpecifier::SafeRegex(r)) => Path::Regex(Box::new(Regex::new(r)?)),
            Some(PathSpecifier::ConnectMatcher(_)) => Path::Connect,
            Some(PathSpecifier::PathMatchPolicy(_)) | None => match template(m)? {
                Some(t) => Path::Template(Box::new(t)),
                None => return Err("field: \"path_specifier\", reason: is required".into()),
            },
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
            filter_state: proto::each(&m.filter_state, FilterStateMatcher::new)?,
            cookies: proto::each(&m.cookies, CookieMatcher::new)?,
            grpc: m.grpc.is_some(),
            tls: m.tls_context,
        };
        let more = (!more.is_empty()).then(|| Box::new(more));
        let case_sensitive = m.case_sensitive.unwrap_or(true);
        Ok(Matcher { path, case_sensitive, ignore_parameters, headers, more })
    }

    /// Whether the request matches.
    pub fn matches(&self, head: &RequestHead, sx: &StreamShared) -> bool {
        self.path(head)
            && self.more.as_ref().is_none_or(|more| !more.grpc || head.is_grpc())
            && matches_all(&self.headers, head)
            && self.more.as_ref().is_none_or(|more| more.matches(head, sx))
    }

    /// What of a path decides whether this can match.
    pub fn key(&self) -> Key<'_> {
        match &self.path {
            Path::Prefix(p) | Path::Exact(p) | Path::Separated(p) => match self.case_sensitive {
                true => Key::Begins(p),
                false => Key::BeginsIgnoringCase(p),
            },
            Path::Regex(r) => Key::Regex(r.source()),
            Path::Template(t) => Key::Regex(t.pattern()),
            Path::Connect => Key::Any,
        }
    }
    fn path(&self, head: &RequestHead) -> bool {
        // Only CONNECT has no path, and only its matcher takes such requests.
        let Some(path) = path_of(head, self.ignore_parameters) else {
            return matches!(self.path, Path::Connect) && head.is_connect();
        };
        let path = &*path;
        match &self.path {
            Path::Prefix(p) => self.begins(path, p),
            Path::Exact(p) => path.len() == p.len() && self.begins(path, p),
            Path::Separated(p) => self.begins(path, p) && matches!(path.get(p.len()), None | Some(b'/')),
            Path::Regex(r) => r.matches(path),
            Path::Template(t) => t.matches(path),
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

/// The path without its query or fragment, and perhaps without the parameters of its segments.
pub fn path_of(head: &RequestHead, ignore_parameters: bool) -> Option<Cow<'_, [u8]>> {
    let full = head.headers.get(name::PATH)?;
    let path = match full.iter().position(|b| matches!(b, b'?' | b'#')) {
        Some(i) => &full[..i],
        None => full,
    };
    Some(match ignore_parameters && path.contains(&b';') {
        true => Cow::Owned(without_parameters(path)),
        false => Cow::Borrowed(path),
    })
}

/// A parameter goes from a semicolon to the end of its segment (RFC 3986 §3.3).
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(path.len());
    let mut within = false;
    for b in path {
        within = (within || *b == b';') && *b != b'/';
        if !within {
            kept.push(*b);
        }
    }
    kept
}

impl More {
    fn is_empty(&self) -> bool {
        self.query.is_empty()
            && self.fraction.is_none()
            && self.metadata.is_empty()
            && self.filter_state.is_empty()
            && self.cookies.is_empty()
            && !self.grpc
            && self.tls.is_none()
    }
    fn matches(&self, head: &RequestHead, sx: &StreamShared) -> bool {
        self.query.iter().all(|q| q.matches(head.path()))
            && self.fraction.as_ref().is_none_or(|f| f.matches(sx.info.random.get()))
            && self.cookies.iter().all(|c| c.matches(head))
            && self.tls(sx)
            && self.metadata(sx)
            && self.filter_state(sx)
    }
    fn tls(&self, sx: &StreamShared) -> bool {
        let Some(t) = &self.tls else { return true };
        let tls = sx.conn.tls.get();
        let presented = tls.is_some_and(|t| t.peer.is_some());
        let validated = tls.is_some_and(|t| t.peer_validated);
        t.presented.is_none_or(|want| want == presented) && t.validated.is_none_or(|want| want == validated)
    }
    fn filter_state(&self, sx: &StreamShared) -> bool {
        if self.filter_state.is_empty() {
            return true;
        }
        let (stream, conn) = (sx.info.filter_state.borrow(), sx.conn.filter_state.borrow());
        self.filter_state.iter().all(|m| m.matches(&stream, &conn))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_end_with_their_segment() {
        let of = |p: &[u8]| String::from_utf8(without_parameters(p)).expect("text");
        assert_eq!(of(b"/a;x=1/b;y;z/c"), "/a/b/c");
        assert_eq!((of(b"/;"), of(b";a/b"), of(b"/a;")), ("/".into(), "/b".into(), "/a".into()));
    }
}

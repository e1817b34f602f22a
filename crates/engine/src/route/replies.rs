//! Routes that answer themselves: redirects and direct responses.

use super::rewrite::PathFormat;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_core::Exchange;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::format::{FormatCx, Formatter, Purpose, request_cx};
use nuncio_core::info::StreamShared;
use nuncio_core::matchers::RegexSubstitution;
use nuncio_wire::{RequestHead, name};
use pb::redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier};

/// What is read of them.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.route.v3.RedirectAction",
        &[
            "https_redirect",
            "scheme_redirect",
            "host_redirect",
            "port_redirect",
            "path_redirect",
            "prefix_rewrite",
            "regex_rewrite",
            "path_rewrite",
            "response_code",
            "strip_query",
        ],
    ),
    Covered::new("envoy.config.route.v3.DirectResponseAction", &["status", "body", "body_format"]),
];

/// `RedirectAction`
pub struct Redirect {
    status: u16,
    https: bool,
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: PathRedirect,
    strip_query: bool,
}

enum PathRedirect {
    Keep,
    Path(String),
    Prefix { matched: usize, to: String },
    Regex(RegexSubstitution),
    Format(PathFormat),
}

impl Redirect {
    /// Compiles a redirect.
    ///
    /// # Errors
    /// It is refused.
    pub fn new(a: &pb::RedirectAction, r: &pb::Route) -> BuildResult<Redirect> {
        Ok(Redirect {
            status: [301, 302, 303, 307, 308].get(a.response_code as usize).copied().unwrap_or(301),
            https: matches!(a.scheme_rewrite_specifier, Some(SchemeRewriteSpecifier::HttpsRedirect(true))),
            scheme: match &a.scheme_rewrite_specifier {
                Some(SchemeRewriteSpecifier::SchemeRedirect(s)) => Some(s.clone()),
                _ => None,
            },
            host: (!a.host_redirect.is_empty()).then(|| a.host_redirect.clone()),
            port: match a.port_redirect {
                0 => None,
                p => Some(
                    u16::try_from(p)
                        .map_err(|_| BuildError::from("value must be less than or equal to 65535"))?,
                ),
            },
            path: match &a.path_rewrite_specifier {
                None => PathRedirect::Keep,
                Some(PathRewriteSpecifier::PathRedirect(p)) => PathRedirect::Path(p.clone()),
                Some(PathRewriteSpecifier::PrefixRewrite(p)) => {
                    PathRedirect::Prefix { matched: super::rewrite::matched_prefix(r), to: p.clone() }
                }
                Some(PathRewriteSpecifier::RegexRewrite(r)) => {
                    PathRedirect::Regex(RegexSubstitution::new(r)?)
                }
                Some(PathRewriteSpecifier::PathRewrite(f)) => PathRedirect::Format(PathFormat::new(f)?),
            },
            strip_query: a.strip_query,
        })
    }
    /// To the same URL with https.
    pub fn https() -> Redirect {
        Redirect {
            status: 301,
            https: true,
            scheme: None,
            host: None,
            port: None,
            path: PathRedirect::Keep,
            strip_query: false,
        }
    }
    /// To where the request came from.
    pub fn same() -> Redirect {
        Redirect { https: false, ..Redirect::https() }
    }
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        self.status
    }
    /// `location`
    pub fn location(&self, head: &RequestHead, sx: &StreamShared) -> Vec<u8> {
        let old_scheme = head.headers.get(name::X_FORWARDED_PROTO).unwrap_or(head.scheme());
        let scheme: &[u8] = match (&self.scheme, self.https) {
            (Some(s), _) => s.as_bytes(),
            (None, true) => b"https",
            (None, false) => old_scheme,
        };
        let authority = head.authority();
        let (host, port) =
            match authority.iter().rposition(|b| *b == b':').filter(|i| !authority[*i..].contains(&b']')) {
                Some(i) => (&authority[..i], Some(&authority[i + 1..])),
                None => (authority, None),
            };
        let new_host = self.host.as_deref().map_or(host, str::as_bytes);
        // A default port of the old scheme is not carried over to the new one.
        let port = match self.port {
            Some(p) => Some(p.to_string().into_bytes()),
            None if self.host.is_some() => None,
            None => port
                .filter(|p| {
                    scheme == old_scheme || !matches!((old_scheme, *p), (b"http", b"80") | (b"https", b"443"))
                })
                .map(<[u8]>::to_vec),
        };
        let mut url = [scheme, b"://", new_host].concat();
        if let Some(p) = port {
            url.push(b':');
            url.extend_from_slice(&p);
        }
        self.append_path(head, sx, &mut url);
        url
    }
    fn append_path(&self, head: &RequestHead, sx: &StreamShared, url: &mut Vec<u8>) {
        let full = head.path();
        let cut = full.iter().position(|b| *b == b'?').unwrap_or(full.len());
        let (path, query) = full.split_at(cut);
        let query = if self.strip_query { &b""[..] } else { query };
        match &self.path {
            PathRedirect::Keep => url.extend_from_slice(path),
            PathRedirect::Path(p) => {
                url.extend_from_slice(p.as_bytes());
                if p.contains('?') {
                    return;
                }
            }
            PathRedirect::Prefix { matched, to } => {
                url.extend_from_slice(to.as_bytes());
                url.extend_from_slice(path.get(*matched..).unwrap_or_default());
            }
            PathRedirect::Regex(r) => drop(r.replace_all(path, url)),
            PathRedirect::Format(f) => {
                let new = f.path(&head.headers, sx);
                url.extend_from_slice(new.as_deref().unwrap_or(path));
                if new.is_some_and(|p| p.contains(&b'?')) {
                    return;
                }
            }
        }
        url.extend_from_slice(query);
    }
}

/// `DirectResponseAction`
pub struct DirectResponse {
    /// Status to answer with.
    pub status: u16,
    body: bytes::Bytes,
    /// `body_format`
    format: Option<Box<Formatter>>,
}

impl DirectResponse {
    /// Compiles an answer of at most `max` bytes.
    ///
    /// # Errors
    /// It is refused, or its file cannot be read.
    pub fn new(a: &pb::DirectResponseAction, max: usize) -> BuildResult<DirectResponse> {
        let body = a.body.as_ref().map(crate::proto::data_source).transpose()?.unwrap_or_default();
        if body.len() > max {
            return Err(format!("response body size is {} bytes; maximum is {max}", body.len()).into());
        }
        let format = a.body_format.as_ref().map(|f| Formatter::new(f, Purpose::Body)).transpose()?;
        Ok(DirectResponse { status: a.status as u16, body: body.into(), format: format.map(Box::new) })
    }
    /// The body to answer with, and its type when that is not plain text.
    pub fn body(&self, ex: &Exchange) -> (bytes::Bytes, Option<&str>) {
        let Some(f) = &self.format else { return (self.body.clone(), None) };
        let (route, mut text) = (ex.sx.current_route(), vec![]);
        let cx = request_cx(&ex.request.headers, &ex.sx, route.as_deref());
        f.append(&FormatCx { local_reply_body: &self.body, ..cx }, &mut text);
        (text.into(), f.content_type())
    }
}

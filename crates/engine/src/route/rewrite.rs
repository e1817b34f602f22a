//! Rewriting of paths and hosts on the way to the upstream.

use crate::upstream::host::Host;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig;
use nuncio_api::extensions::unregistered;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::format::{HeaderFormatter, request_cx};
use nuncio_core::info::StreamShared;
use nuncio_core::matchers::RegexSubstitution;
use nuncio_wire::{HeaderMap, HeaderName, RequestHead, name};
use pb::route_action::HostRewriteSpecifier;
use pb::route_match::PathSpecifier;
use prost::Name;

/// What to rewrite.
#[derive(Default)]
pub struct Rewrite {
    path: Option<PathRewrite>,
    host: Option<HostRewrite>,
    append_x_forwarded_host: bool,
}

enum PathRewrite {
    /// `path_rewrite`
    Format(Box<PathFormat>),
    Prefix {
        matched: usize,
        to: Box<[u8]>,
    },
    Regex(Box<RegexSubstitution>),
}

enum HostRewrite {
    /// `host_rewrite`
    Format(Box<HeaderFormatter>),
    Literal(Box<[u8]>),
    Header(HeaderName),
    /// The upstream host's name (`auto_host_rewrite`).
    Auto,
    PathRegex(Box<RegexSubstitution>),
}

/// Length of what the route's prefix or path match covers; 0 for other matches.
pub fn matched_prefix(r: &pb::Route) -> usize {
    match r.r#match.as_deref().and_then(|m| m.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(p) | PathSpecifier::Path(p) | PathSpecifier::PathSeparatedPrefix(p)) => {
            p.len()
        }
        _ => 0,
    }
}

/// A path that is made from what is known of a request (`path_rewrite`).
pub struct PathFormat(HeaderFormatter);

impl PathFormat {
    /// Compiles a format.
    ///
    /// # Errors
    /// An operator is unknown.
    pub fn new(format: &str) -> BuildResult<PathFormat> {
        HeaderFormatter::new(format).map(PathFormat)
    }
    /// The path; none when nothing comes of it. Of what a client wrote into it, blanks and control characters are
    /// percent-encoded, which Envoy forwards as they are: they would end the target of an HTTP/1 request.
    pub fn path(&self, headers: &HeaderMap, sx: &StreamShared) -> Option<Vec<u8>> {
        let route = sx.current_route();
        let mut text = Vec::new();
        self.0.append(&request_cx(headers, sx, route.as_deref()), &mut text);
        if text.iter().any(|b| *b <= b' ' || *b == 0x7f) {
            let mut encoded = Vec::with_capacity(text.len() + 8);
            for b in text {
                match b <= b' ' || b == 0x7f {
                    true => encoded.extend_from_slice(format!("%{b:02X}").as_bytes()),
                    false => encoded.push(b),
                }
            }
            text = encoded;
        }
        (!text.is_empty()).then_some(text)
    }
}

/// What is read of the policies.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
    &["path_template_rewrite"],
)];

/// `path_rewrite_policy`: a template whose variables the route's template captures.
fn template_rewrite(r: &pb::Route, a: &pb::RouteAction) -> BuildResult<Option<PathRewrite>> {
    let Some(policy) = &a.path_rewrite_policy else { return Ok(None) };
    let any = policy.typed_config.clone().unwrap_or_default();
    let kind = any.type_url.rsplit('/').next().unwrap_or_default();
    if kind != UriTemplateRewriteConfig::full_name() {
        return Err(unregistered(&policy.name, kind).into());
    }
    let to = crate::proto::unpack::<UriTemplateRewriteConfig>(&any)?.path_template_rewrite;
    let invalid = || BuildError(format!("path_rewrite_policy.path_template_rewrite {to} is invalid"));
    let Some(from) = r.r#match.as_deref().map(super::matching::template).transpose()?.flatten() else {
        return Err("unable to use envoy.path.rewrite.uri_template.uri_template_rewriter extension without \
                    envoy.path.match.uri_template.uri_template_matcher extension"
            .into());
    };
    let substitution = from.rewriting(&to).map_err(|unknown_variable| match unknown_variable {
        false => invalid(),
        true => BuildError(format!(
            "mismatch between variables in path_match_policy {} and path_rewrite_policy {to}",
            from.source()
        )),
    })?;
    Ok(Some(PathRewrite::Regex(Box::new(substitution))))
}

impl Rewrite {
    /// Reads a route's rewriting.
    ///
    /// # Errors
    /// A bad regex.
    pub fn new(r: &pb::Route) -> BuildResult<Rewrite> {
        let Some(pb::route::Action::Route(a)) = &r.action else { return Ok(Rewrite::default()) };
        let given = [
            !a.prefix_rewrite.is_empty(),
            a.regex_rewrite.is_some(),
            a.path_rewrite_policy.is_some(),
            !a.path_rewrite.is_empty(),
        ];
        if given.into_iter().filter(|g| *g).count() > 1 {
            return Err(
                "Specify only one of prefix_rewrite, regex_rewrite, path_rewrite_policy or path_rewrite"
                    .into(),
            );
        }
        let path = match (&a.prefix_rewrite, &a.regex_rewrite) {
            _ if a.path_rewrite_policy.is_some() => template_rewrite(r, a)?,
            _ if !a.path_rewrite.is_empty() => {
                Some(PathRewrite::Format(Box::new(PathFormat::new(&a.path_rewrite)?)))
            }
            (_, Some(r)) => Some(PathRewrite::Regex(Box::new(RegexSubstitution::new(r)?))),
            (p, None) if p.is_empty() => None,
            (p, None) => Some(PathRewrite::Prefix { matched: matched_prefix(r), to: p.as_bytes().into() }),
        };
        let host = match &a.host_rewrite_specifier {
            Some(HostRewriteSpecifier::HostRewriteLiteral(h)) => {
                Some(HostRewrite::Literal(h.as_bytes().into()))
            }
            Some(HostRewriteSpecifier::HostRewrite(f)) if !f.is_empty() => {
                Some(HostRewrite::Format(Box::new(HeaderFormatter::new(f)?)))
            }
            Some(HostRewriteSpecifier::HostRewriteHeader(h)) => Some(HostRewrite::Header(HeaderName::new(h))),
            Some(HostRewriteSpecifier::AutoHostRewrite(true)) => Some(HostRewrite::Auto),
            Some(HostRewriteSpecifier::HostRewritePathRegex(r)) => {
                Some(HostRewrite::PathRegex(Box::new(RegexSubstitution::new(r)?)))
            }
            _ => None,
        };
        Ok(Rewrite { path, host, append_x_forwarded_host: a.append_x_forwarded_host })
    }

    /// Rewrites a request's head; what it replaces is kept in `x-envoy-original-path` and `-host`.
    pub fn apply(&self, head: &mut RequestHead, sx: &StreamShared, host: &Host, keep_original: bool) {
        if let Some(r) = &self.host {
            self.host(r, head, sx, host, keep_original);
        }
        let Some(r) = &self.path else { return };
        let old = head.path().to_vec();
        let mut new = Vec::with_capacity(old.len() + 16);
        match r {
            PathRewrite::Format(f) => {
                let Some(path) = f.path(&head.headers, sx) else { return };
                let cut = old.iter().position(|b| *b == b'?').unwrap_or(old.len());
                new.extend_from_slice(&path);
                new.extend_from_slice(&old[cut..]);
            }
            PathRewrite::Prefix { matched, to } => {
                new.extend_from_slice(to);
                new.extend_from_slice(old.get(*matched..).unwrap_or_default());
            }
            PathRewrite::Regex(r) => {
                let cut = old.iter().position(|b| *b == b'?').unwrap_or(old.len());
                r.replace_all(&old[..cut], &mut new);
                new.extend_from_slice(&old[cut..]);
            }
        }
        if keep_original {
            head.headers.set(name::X_ENVOY_ORIGINAL_PATH, &old);
        }
        head.headers.set(name::PATH, &new);
    }

    /// `auto_host_rewrite` alone, for another host.
    pub fn auto_host(&self, head: &mut RequestHead, sx: &StreamShared, host: &Host, keep_original: bool) {
        if let Some(r @ HostRewrite::Auto) = &self.host {
            self.host(r, head, sx, host, keep_original);
        }
    }

    fn host(
        &self,
        r: &HostRewrite,
        head: &mut RequestHead,
        sx: &StreamShared,
        host: &Host,
        keep_original: bool,
    ) {
        let new = match r {
            HostRewrite::Format(f) => {
                let (route, mut out) = (sx.current_route(), vec![]);
                f.append_marked(&request_cx(&head.headers, sx, route.as_deref()), &mut out);
                if out.is_empty() {
                    return;
                }
                out
            }
            HostRewrite::Literal(h) => h.to_vec(),
            HostRewrite::Header(h) => match head.headers.get(h) {
                Some(v) if !v.is_empty() => v.to_vec(),
                _ => return,
            },
            HostRewrite::Auto if !host.info.hostname.is_empty() => host.info.hostname.as_bytes().to_vec(),
            HostRewrite::Auto => return,
            HostRewrite::PathRegex(r) => {
                let full = head.path();
                let cut = full.iter().position(|b| *b == b'?').unwrap_or(full.len());
                let mut out = vec![];
                r.replace_all(&full[..cut], &mut out);
                out
            }
        };
        let old = head.authority().to_vec();
        if keep_original && !old.is_empty() {
            head.headers.set(name::X_ENVOY_ORIGINAL_HOST, &old);
        }
        if self.append_x_forwarded_host && !old.is_empty() && !is_last_forwarded(head, &old) {
            head.headers.append_to(name::X_FORWARDED_HOST, b",", &old);
        }
        head.headers.set(name::AUTHORITY, &new);
    }
}

/// `x-forwarded-host` ends in this host already: who rewrites it again appends it once.
fn is_last_forwarded(head: &RequestHead, host: &[u8]) -> bool {
    let all = head.headers.get(name::X_FORWARDED_HOST).unwrap_or_default();
    let last = all.rsplit(|b| *b == b',').find(|e| !e.trim_ascii().is_empty());
    last.is_some_and(|last| last == host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::address::Address;
    use nuncio_core::info::ConnInfo;
    use std::rc::Rc;

    #[test]
    fn no_path_ends_the_request_line() {
        let nowhere = || Address::Internal(Default::default(), Default::default());
        let conn = ConnInfo::new(0, std::sync::Arc::default(), nowhere(), nowhere());
        let sx = StreamShared::new(Rc::new(conn), None);
        let path = |value: &[u8]| {
            let mut headers = HeaderMap::default();
            headers.append("x-a", value);
            PathFormat::new("%REQ(x-a)%").expect("a format").path(&headers, &sx)
        };
        assert_eq!(path(b"/a b HTTP/1.1\tc").as_deref(), Some(&b"/a%20b%20HTTP/1.1%09c"[..]));
        assert_eq!(path(b"/\xc3\xa9?q").as_deref(), Some(&b"/\xc3\xa9?q"[..]));
        assert_eq!(path(b""), None);
    }
}

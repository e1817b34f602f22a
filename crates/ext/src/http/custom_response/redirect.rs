//! A response from elsewhere (`RedirectPolicy`): the request begins again with another address.

use super::pb_policy::redirect_policy::v3 as pb;
use super::{REDIRECTED, RedirectStats, Redirected};
use nuncio_api::envoy::config::route::v3::RedirectAction;
use nuncio_api::envoy::config::route::v3::redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier};
use nuncio_core::body::Body;
use nuncio_core::filter_state::LifeSpan;
use nuncio_core::format::{FormatCx, request_cx};
use nuncio_core::header_rules::Rules;
use nuncio_core::url::Url;
use nuncio_core::{BuildError, BuildResult, Exchange};
use nuncio_wire::{RequestHead, name};
use pb::redirect_policy::RedirectActionSpecifier;
use std::rc::Rc;
use std::sync::Arc;

/// Where the response comes from, and what becomes of it.
pub struct Redirect {
    to: To,
    /// Else the original one.
    status: Option<u16>,
    request: Rules,
    response: Rules,
    stats: RedirectStats,
}

enum To {
    Uri(String),
    /// The request's own address, but for what is said.
    Parts(Parts),
}

/// `RedirectAction`, as far as it makes sense here.
struct Parts {
    scheme: Option<String>,
    host: String,
    port: u32,
    path: String,
    strip_query: bool,
}

impl Redirect {
    /// From configuration.
    ///
    /// # Errors
    /// The address is none, or is said in a way that is not possible here; or a header is refused.
    pub fn new(c: &pb::RedirectPolicy, stats: RedirectStats) -> BuildResult<Redirect> {
        if let Some(e) = &c.modify_request_headers_action {
            // Envoy has none of these extensions either.
            let url = e.typed_config.as_ref().map_or("", |a| &a.type_url);
            let ty = url.rsplit('/').next().unwrap_or_default();
            return Err(BuildError(nuncio_api::extensions::unregistered(&e.name, ty)));
        }
        let to = match &c.redirect_action_specifier {
            Some(RedirectActionSpecifier::Uri(uri)) if Url::parse(uri.as_bytes()).is_none() => {
                return Err(BuildError(format!(
                    "Invalid uri specified for redirection for custom response: {uri}"
                )));
            }
            Some(RedirectActionSpecifier::Uri(uri)) => To::Uri(uri.clone()),
            Some(RedirectActionSpecifier::RedirectAction(a)) => To::Parts(Parts::new(a)?),
            None => return Err("field: \"redirect_action_specifier\", reason: is required".into()),
        };
        Ok(Redirect {
            to,
            status: c.status_code.map(|s| s as u16), // 200 to 999, by the rules of the field
            request: Rules::new(&c.request_headers_to_add, &[])?,
            response: Rules::new(&c.response_headers_to_add, &[])?,
            stats,
        })
    }
    /// Makes the request what it is to begin again as. False: its response stays as it is.
    pub fn begin(self: &Arc<Self>, ex: &mut Exchange) -> bool {
        let uri = match &self.to {
            To::Uri(uri) => uri.clone().into_bytes(),
            To::Parts(p) => p.of(&ex.request),
        };
        let Some(url) = Url::parse(&uri) else {
            self.stats.custom_response_invalid_uri().inc();
            return false;
        };
        let h = &mut ex.request.headers;
        let before = [name::SCHEME, name::AUTHORITY, name::PATH].map(|n| (n, h.get(n).map(<[u8]>::to_vec)));
        h.set(name::SCHEME, url.scheme);
        h.set(name::AUTHORITY, url.authority);
        h.set(name::PATH, url.path());
        ex.clear_route_cache();
        if !self.request.is_empty() {
            let made = {
                let route = ex.sx.current_route();
                let cx = request_cx(&ex.request.headers, &ex.sx, route.as_deref());
                self.request.make(&ex.request.headers, &cx)
            };
            made.apply(&mut ex.request.headers);
        }
        if ex.route().is_none() {
            self.stats.custom_response_redirect_no_route().inc();
            // What was added stays, as in Envoy.
            for (n, value) in before {
                match value {
                    Some(v) => ex.request.headers.set(n, &v),
                    None => {
                        ex.request.headers.remove(n);
                    }
                }
            }
            return false;
        }
        ex.request.headers.set(name::METHOD, b"GET");
        ex.request.headers.remove(name::CONTENT_LENGTH);
        ex.request_body = Body::Empty;
        let status = ex.response.as_ref().map_or(0, |r| r.status);
        let state = Rc::new(Redirected { policy: self.clone(), status });
        ex.sx.info.filter_state.borrow_mut().set(REDIRECTED, LifeSpan::Request, state);
        true
    }
    /// What becomes of the response from there; `original`: the status of the first one.
    pub fn finish(&self, original: u16, ex: &mut Exchange) {
        let Some(response) = &mut ex.response else { return };
        let info = &ex.sx.info;
        if !self.response.is_empty() {
            info.response_code.set(response.status);
            let route = ex.sx.current_route();
            let cx = FormatCx {
                request: Some(&ex.request.headers),
                response: Some((response.status, &response.headers)),
                route: route.as_deref(),
                ..FormatCx::new(info, &ex.sx.conn)
            };
            self.response.make(&response.headers, &cx).apply(&mut response.headers);
        }
        response.status = self.status.unwrap_or(original);
        info.response_code.set(response.status);
    }
}

impl Parts {
    fn new(a: &RedirectAction) -> BuildResult<Parts> {
        let path = match &a.path_rewrite_specifier {
            Some(PathRewriteSpecifier::RegexRewrite(_)) => {
                return Err("regex_rewrite is not supported for Custom Response".into());
            }
            Some(PathRewriteSpecifier::PrefixRewrite(_)) => {
                return Err("prefix_rewrite is not supported for Custom Response".into());
            }
            Some(PathRewriteSpecifier::PathRedirect(p)) => p.clone(),
            Some(PathRewriteSpecifier::PathRewrite(_)) => {
                return Err(BuildError::not_implemented("path_rewrite of the custom response filter"));
            }
            None => String::new(),
        };
        if path.contains('#') {
            return Err(BuildError(format!(
                "#fragment is not supported for custom response. Specified path_redirect is {path}"
            )));
        }
        let scheme = match &a.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::SchemeRedirect(s)) => Some(s.clone()),
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            _ => None,
        };
        let scheme = scheme.filter(|s| !s.is_empty());
        Ok(Parts {
            scheme,
            host: a.host_redirect.clone(),
            port: a.port_redirect,
            path,
            strip_query: a.strip_query,
        })
    }
    /// The address, with the rest from a request.
    fn of(&self, head: &RequestHead) -> Vec<u8> {
        let scheme = self.scheme.as_ref().map_or_else(|| head.scheme(), |s| s.as_bytes());
        let mut host = if self.host.is_empty() { head.authority() } else { self.host.as_bytes() };
        // A port that was the scheme's own, or that another takes the place of.
        let port = match host.iter().rposition(|b| *b == b':').filter(|i| !host[*i..].contains(&b']')) {
            Some(i) => &host[i..],
            None => b"",
        };
        let own = (self.scheme.is_some() && self.host.is_empty()) && matches!(port, b":80" | b":443");
        if self.port != 0 || own {
            host = &host[..host.len() - port.len()];
        }
        let mut uri = [scheme, b"://", host].concat();
        if self.port != 0 {
            uri.extend_from_slice(format!(":{}", self.port).as_bytes());
        }
        let (path, query) = match head.path().iter().position(|b| *b == b'?') {
            Some(i) => head.path().split_at(i),
            None => (head.path(), &b""[..]),
        };
        match &*self.path {
            "" => uri.extend_from_slice(path),
            new => uri.extend_from_slice(new.as_bytes()),
        }
        if !self.strip_query && !self.path.contains('?') {
            uri.extend_from_slice(query);
        }
        uri
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(a: RedirectAction, from: &str) -> String {
        let (authority, path) = from.split_once('|').expect("two parts");
        let mut head = RequestHead::default();
        for (n, v) in [(name::SCHEME, "http"), (name::AUTHORITY, authority), (name::PATH, path)] {
            head.headers.append(n, v.as_bytes());
        }
        String::from_utf8(Parts::new(&a).expect("it is good").of(&head)).expect("text")
    }

    #[test]
    fn addresses() {
        let https = || Some(SchemeRewriteSpecifier::HttpsRedirect(true));
        let to = |p: &str| Some(PathRewriteSpecifier::PathRedirect(p.into()));
        assert_eq!(uri(RedirectAction::default(), "a:81|/p?q"), "http://a:81/p?q");
        let a = RedirectAction { scheme_rewrite_specifier: https(), ..Default::default() };
        assert_eq!(uri(a.clone(), "a:80|/p"), "https://a/p");
        assert_eq!(uri(a, "[::1]|/p"), "https://[::1]/p");
        let a = RedirectAction {
            host_redirect: "b".into(),
            port_redirect: 8,
            path_rewrite_specifier: to("/x"),
            ..Default::default()
        };
        assert_eq!(uri(a, "a|/p?q"), "http://b:8/x?q");
        let a = RedirectAction { path_rewrite_specifier: to("/x?y"), ..Default::default() };
        assert_eq!(uri(a, "a|/p?q"), "http://a/x?y");
        let a = RedirectAction { strip_query: true, ..Default::default() };
        assert_eq!(uri(a, "a|/p?q"), "http://a/p");
    }
}

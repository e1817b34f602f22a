//! Internal redirects: the response says that the request belongs elsewhere, and we send it there (`internal_redirect_policy`).

use super::Router;
use super::attempt::Attempt;
use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
use nuncio_api::envoy::extensions::internal_redirect::previous_routes::v3::PreviousRoutesConfig;
use nuncio_api::envoy::extensions::internal_redirect::safe_cross_scheme::v3::SafeCrossSchemeConfig;
use nuncio_api::extensions::unregistered;
use nuncio_core::Exchange;
use nuncio_core::body::Body;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::filter_state::{LifeSpan, StateObject};
use nuncio_core::info::StreamShared;
use nuncio_core::url::Url;
use nuncio_wire::{HeaderName, RequestHead, ResponseHead, name};
use prost::Name;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// What is read of the policy and its predicates.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.route.v3.InternalRedirectPolicy",
        &[
            "max_internal_redirects",
            "redirect_response_codes",
            "predicates",
            "allow_cross_scheme_redirect",
            "response_headers_to_copy",
        ],
    ),
    Covered::new(
        "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig",
        &["allowed_route_names"],
    ),
    Covered::new("envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig", &[]),
    Covered::new("envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig", &[]),
];

/// `InternalRedirectPolicy`
pub struct RedirectPolicy {
    /// How often one request may be redirected; 1 unless it is configured.
    max: u32,
    codes: Vec<u16>,
    predicates: Vec<Predicate>,
    cross_scheme: bool,
    copied: Vec<HeaderName>,
}

enum Predicate {
    /// Only to these routes.
    AllowListed(Vec<String>),
    /// Not twice from this route to the same one; holds the name of the filter state.
    Previous(Arc<str>),
    /// Not from http to https.
    SafeCrossScheme,
}

/// How often a request was redirected, in its filter state.
struct Count(Cell<u32>);
impl StateObject for Count {}
const COUNT: &str = "num_internal_redirects";

/// To which routes a route has redirected a request, in its filter state.
#[derive(Default)]
struct Previous(RefCell<Vec<String>>);
impl StateObject for Previous {}

impl RedirectPolicy {
    /// The policy of a route, if it has one.
    ///
    /// # Errors
    /// It is refused.
    pub fn of(a: &pb::RouteAction, route: &str) -> BuildResult<Option<RedirectPolicy>> {
        const HANDLE: i32 = pb::route_action::InternalRedirectAction::HandleInternalRedirect as i32;
        match &a.internal_redirect_policy {
            Some(p) => RedirectPolicy::new(p, route).map(Some),
            None if a.internal_redirect_action == HANDLE => {
                let max_internal_redirects = a.max_internal_redirects;
                let p = pb::InternalRedirectPolicy { max_internal_redirects, ..Default::default() };
                RedirectPolicy::new(&p, route).map(Some)
            }
            None => Ok(None),
        }
    }
    fn new(p: &pb::InternalRedirectPolicy, route: &str) -> BuildResult<RedirectPolicy> {
        if p.response_headers_to_copy.iter().any(|h| h.starts_with(':') || h.eq_ignore_ascii_case("host")) {
            return Err(":-prefixed headers or Hosts may not be specified here.".into());
        }
        let codes = match &*p.redirect_response_codes {
            [] => vec![302],
            // Others are ignored.
            codes => {
                [301, 302, 303, 307, 308].into_iter().filter(|c| codes.contains(&u32::from(*c))).collect()
            }
        };
        Ok(RedirectPolicy {
            max: p.max_internal_redirects.unwrap_or(1),
            codes,
            predicates: p.predicates.iter().map(|e| Predicate::new(e, route)).collect::<BuildResult<_>>()?,
            cross_scheme: p.allow_cross_scheme_redirect,
            copied: p.response_headers_to_copy.iter().map(|h| HeaderName::new(h)).collect(),
        })
    }
    /// Responses with this status are redirects.
    pub fn takes(&self, status: u16) -> bool {
        self.codes.contains(&status)
    }
}

impl Predicate {
    fn new(e: &TypedExtensionConfig, route: &str) -> BuildResult<Predicate> {
        let any = e.typed_config.clone().unwrap_or_default();
        let kind = any.type_url.rsplit('/').next().unwrap_or_default();
        if kind == AllowListedRoutesConfig::full_name() {
            let c: AllowListedRoutesConfig = crate::proto::unpack(&any)?;
            return Ok(Predicate::AllowListed(c.allowed_route_names));
        }
        if kind == PreviousRoutesConfig::full_name() {
            const STATE: &str = "envoy.internal_redirect.previous_routes_predicate_state";
            return Ok(Predicate::Previous(format!("{STATE}.{route}").into()));
        }
        if kind == SafeCrossSchemeConfig::full_name() {
            return Ok(Predicate::SafeCrossScheme);
        }
        Err(unregistered(&e.name, kind).into())
    }
    /// Whether a request may go to this route.
    fn accepts(&self, sx: &StreamShared, route: &str, from_https: bool, to_https: bool) -> bool {
        match self {
            Predicate::AllowListed(names) => names.iter().any(|n| n == route),
            Predicate::SafeCrossScheme => from_https || !to_https,
            Predicate::Previous(name) => {
                let seen = state(sx, name, Previous::default);
                let mut seen = seen.0.borrow_mut();
                let new = !seen.iter().any(|s| s == route);
                if new {
                    seen.push(route.to_owned());
                }
                new
            }
        }
    }
}

/// An object that lives as long as the request, made when it is not there.
fn state<T: StateObject>(sx: &StreamShared, name: &str, make: impl FnOnce() -> T) -> Rc<T> {
    let mut all = sx.info.filter_state.borrow_mut();
    all.get_as(name).unwrap_or_else(|| {
        let made = Rc::new(make());
        all.set(name, LifeSpan::Request, made.clone());
        made
    })
}

impl Router {
    /// Follows a redirect: makes the request what it asks for. False: the response goes to the client.
    pub(super) fn redirect(
        &self,
        ex: &mut Exchange,
        policy: &RedirectPolicy,
        attempt: &mut Attempt,
        head: &ResponseHead,
    ) -> bool {
        // A request that is still coming, or that could not be kept, cannot be sent again.
        let kept = ex.is_complete() && attempt.tries.as_ref().is_none_or(|t| !t.is_spent());
        let followed = kept && self.follow(ex, policy, head);
        let stats = &attempt.account().cluster.plan.stats;
        if !followed {
            stats.upstream_internal_redirect_failed_total().inc();
            return false;
        }
        stats.upstream_internal_redirect_succeeded_total().inc();
        super::span::over(ex);
        attempt.leave();
        ex.request_body = match turns_to_get(&ex.request, head.status) {
            true => {
                ex.request.headers.set(name::METHOD, b"GET");
                ex.request.headers.remove(name::CONTENT_LENGTH);
                Body::Empty
            }
            false => attempt.tries.as_ref().map(|t| t.whole()).unwrap_or_default(),
        };
        true
    }

    fn follow(&self, ex: &mut Exchange, policy: &RedirectPolicy, head: &ResponseHead) -> bool {
        let Some(location) = head.headers.get(name::LOCATION) else { return false };
        if !ex.request.headers.contains(name::PATH) {
            return false;
        }
        let Some(url) = Url::parse(location) else {
            self.stats.passthrough_internal_redirect_bad_location().inc();
            return false;
        };
        let http = ex.request.scheme().eq_ignore_ascii_case(b"http") || ex.sx.conn.tls.get().is_none();
        let to_http = url.scheme.eq_ignore_ascii_case(b"http");
        if !policy.cross_scheme && http != to_http {
            self.stats.passthrough_internal_redirect_unsafe_scheme().inc();
            return false;
        }
        let count = state(&ex.sx, COUNT, || Count(Cell::new(0)));
        if count.0.get() >= policy.max {
            self.stats.passthrough_internal_redirect_too_many_redirects().inc();
            return false;
        }
        let before = ex.request.clone();
        let h = &mut ex.request.headers;
        for name in &policy.copied {
            h.remove(name);
            head.headers.get_all(name).for_each(|v| h.append(name, v));
        }
        h.set(name::SCHEME, url.scheme);
        h.set(name::AUTHORITY, url.authority);
        h.set(name::PATH, url.path());
        ex.clear_route_cache();
        let route = ex.route();
        {
            let mut up = ex.sx.info.upstream.borrow_mut();
            (up.cluster, up.cluster_observability) = (None, None);
        }
        // The log of this pass shows where the next one leads, as in Envoy.
        super::note_route_cluster(&ex.request, &ex.sx);
        let accepted = match route {
            None => {
                self.stats.passthrough_internal_redirect_no_route().inc();
                false
            }
            Some(route) => {
                let accepts = |p: &Predicate| p.accepts(&ex.sx, route.name(), !http, !to_http);
                let all = policy.predicates.iter().all(accepts);
                if !all {
                    self.stats.passthrough_internal_redirect_predicate().inc();
                }
                all
            }
        };
        if !accepted {
            ex.request = before;
            return false;
        }
        count.0.set(count.0.get() + 1);
        let scheme: &[u8] = if http { b"http" } else { b"https" };
        let original = [scheme, b"://", before.authority(), before.path()].concat();
        ex.request.headers.set(name::X_ENVOY_ORIGINAL_URL, &original);
        true
    }
}

/// 303 asks for another resource, which is got (RFC 9110 §15.4.4).
fn turns_to_get(head: &RequestHead, status: u16) -> bool {
    status == 303 && !matches!(head.method(), b"GET" | b"HEAD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_headers() {
        let policy = |codes: &[u32], copy: &[&str]| {
            RedirectPolicy::new(
                &pb::InternalRedirectPolicy {
                    redirect_response_codes: codes.to_vec(),
                    response_headers_to_copy: copy.iter().map(|s| (*s).to_owned()).collect(),
                    ..Default::default()
                },
                "r",
            )
        };
        let p = policy(&[], &[]).expect("it is good");
        assert!(p.takes(302) && !p.takes(301) && p.max == 1);
        let p = policy(&[301, 200, 308], &["x-a"]).expect("it is good");
        assert!(p.takes(301) && p.takes(308) && !p.takes(302) && !p.takes(200));
        assert!(policy(&[], &[":path"]).is_err() && policy(&[], &["Host"]).is_err());
    }
}

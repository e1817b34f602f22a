use nuncio_api::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::filter_state::{LifeSpan, StringObject};
use nuncio_core::info::StreamShared;
use nuncio_core::registry::Docs;
use nuncio_core::upstreams::{DnsCache, Lookup, Resolved};
use nuncio_core::{BuildError, BuildResult, Exchange, Flag, LocalReply, Registry};
use nuncio_wire::{HeaderName, name};
use std::rc::Rc;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.dynamic_forward_proxy";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
        &["dns_cache_config", "save_upstream_address", "allow_dynamic_host_from_filter_state"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig",
        &["host_rewrite_literal", "host_rewrite_header"],
    ),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<ForwardProxy>(NAME, docs);
}

/// The filter.
pub struct ForwardProxy {
    cache: Arc<dyn DnsCache>,
    saves: bool,
    /// The filter state may name another host and port.
    from_state: bool,
}

/// `PerRouteConfig`: what takes the place of the authority before its name is looked up.
pub enum Rewrite {
    /// Nothing.
    No,
    /// This.
    Literal(Box<str>),
    /// The first value of this header.
    Header(HeaderName),
}

impl HttpFilter for ForwardProxy {
    type Config = pb::FilterConfig;
    type RouteConfig = pb::PerRouteConfig;
    type Route = Rewrite;
    type Stream = ();

    fn new(config: pb::FilterConfig, cx: &BuildCx<'_>) -> BuildResult<ForwardProxy> {
        use pb::filter_config::ImplementationSpecifier as S;
        let cache = match &config.implementation_specifier {
            Some(S::DnsCacheConfig(c)) => cx.server.dns_cache(c, cx)?,
            Some(S::SubClusterConfig(_)) => {
                return Err(BuildError::not_implemented(
                    "dynamic_forward_proxy.FilterConfig.sub_cluster_config",
                ));
            }
            None => return Err("dynamic_forward_proxy.FilterConfig: dns_cache_config is required".into()),
        };
        Ok(ForwardProxy {
            cache,
            saves: config.save_upstream_address,
            from_state: config.allow_dynamic_host_from_filter_state,
        })
    }
    fn route(config: pb::PerRouteConfig, _: &BuildCx<'_>) -> BuildResult<Rewrite> {
        use pb::per_route_config::HostRewriteSpecifier as S;
        Ok(match config.host_rewrite_specifier {
            Some(S::HostRewriteLiteral(l)) if !l.is_empty() => Rewrite::Literal(l.into()),
            Some(S::HostRewriteHeader(h)) if !h.is_empty() => Rewrite::Header(HeaderName::new(&h)),
            _ => Rewrite::No,
        })
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        let Some(route) = ex.route() else { return Step::Next };
        let cluster = route.cluster(&ex.request, &ex.sx);
        let Some(mut port) = cluster.and_then(|c| self.cache.default_port(&c)) else { return Step::Next };
        if let Some(rewrite) = ex.route_config::<Rewrite>() {
            rewrite.apply(ex);
        }
        let authority = ex.request.headers.get(name::AUTHORITY).unwrap_or_default();
        let mut host = String::from_utf8_lossy(authority).into_owned();
        if host.is_empty() {
            return Step::reply(400, "Empty host header", "empty_host_header");
        }
        if self.from_state {
            let state = ex.sx.info.filter_state.borrow();
            let text = |key: &str| state.get(key)?.text();
            host = text("envoy.upstream.dynamic_host").unwrap_or(host);
            let own = text("envoy.upstream.dynamic_port").and_then(|p| p.parse().ok());
            port = own.filter(|p| *p > 0).unwrap_or(port);
        }
        match self.cache.look_up(&host, port) {
            Lookup::Known(r) => self.resolved(&ex.sx, r),
            Lookup::Loading(f) => {
                let (this, sx) = (self.clone(), ex.sx.clone());
                Step::wait(async move { this.resolved(&sx, f.await) })
            }
            Lookup::Full => Step::reply(503, "DNS cache overflow", "dns_cache_overflow"),
            Lookup::Busy => Step::reply(
                503,
                "Dynamic forward proxy pending request overflow",
                "dynamic_forward_proxy_pending_request_overflow",
            ),
        }
    }
}

impl ForwardProxy {
    fn resolved(&self, sx: &Rc<StreamShared>, r: Resolved) -> Step<'static> {
        match r {
            Ok(address) => {
                if self.saves {
                    let object = Rc::new(StringObject(address.to_string().into()));
                    let mut state = sx.info.filter_state.borrow_mut();
                    state.set("envoy.stream.upstream_address", LifeSpan::Request, object);
                }
                Step::Next
            }
            Err(why) => Step::Reply(Box::new(
                LocalReply::new(503, "DNS resolution failure", why.to_string())
                    .flag(Flag::DnsResolutionFailed),
            )),
        }
    }
}

impl Rewrite {
    fn apply(&self, ex: &mut Exchange) {
        let host = match self {
            Rewrite::No => return,
            Rewrite::Literal(l) => l.as_bytes().to_vec(),
            Rewrite::Header(h) => match ex.request.headers.get_all(h).next() {
                Some(v) => v.to_vec(),
                None => return,
            },
        };
        ex.request.headers.set(name::AUTHORITY, &host);
    }
}

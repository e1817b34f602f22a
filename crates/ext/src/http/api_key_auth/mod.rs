use crate::http::header_mutation::query;
use nuncio_api::envoy::extensions::filters::http::api_key_auth::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::matchers::query as params;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildError, BuildResult, Exchange, Registry, cookie, stats};
use nuncio_wire::{HeaderMap, HeaderName, name};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.api_key_auth";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
        &["credentials", "key_sources", "forwarding"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute",
        &["credentials", "key_sources", "allowed_clients", "forwarding"],
    ),
    Covered::new("envoy.extensions.filters.http.api_key_auth.v3.Credential", &["key", "client"]),
    Covered::new("envoy.extensions.filters.http.api_key_auth.v3.KeySource", &["header", "query", "cookie"]),
    Covered::new("envoy.extensions.filters.http.api_key_auth.v3.Forwarding", &["header", "hide_credentials"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<ApiKeyAuth>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.api_key_auth.`
    pub struct ApiKeyAuthStats {
        allowed: Counter,
        unauthorized: Counter,
        forbidden: Counter,
    }
}

/// The filter.
pub struct ApiKeyAuth {
    rules: Rules,
    stats: ApiKeyAuthStats,
}

/// Who is known, where keys are looked for, and what is sent on; each of a route's replaces the filter's.
struct Rules {
    /// Clients by their keys.
    clients: HashMap<Vec<u8>, String>,
    sources: Vec<Source>,
    forwarding: Option<Forwarding>,
}

/// What a route says.
pub struct Route {
    rules: Rules,
    /// All, when there is none.
    allowed: HashSet<String>,
}

enum Source {
    Header(HeaderName),
    Query(Vec<u8>),
    Cookie(Vec<u8>),
}

struct Forwarding {
    /// Where the client's name goes.
    header: Option<HeaderName>,
    hide: bool,
}

impl Source {
    fn new(s: &pb::KeySource) -> BuildResult<Source> {
        match (&*s.header, &*s.query, &*s.cookie) {
            ("", "", "") => Err("One of 'header'/'query'/'cookie' must be set.".into()),
            ("", "", c) => Ok(Source::Cookie(c.into())),
            ("", q, _) => Ok(Source::Query(q.into())),
            (h, _, _) => Ok(Source::Header(HeaderName::new(h))),
        }
    }
    /// The key, if it is there and not empty.
    fn key<'a>(&self, h: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
        let found = match self {
            Source::Header(name) => {
                let value = h.get(name)?;
                Cow::Borrowed(value.strip_prefix(b"Bearer ").unwrap_or(value))
            }
            Source::Query(key) => {
                let query = params::of_path(h.get(name::PATH)?)?;
                let of_key = |(n, _): &(&[u8], &[u8])| params::decode(n).eq(key.iter().copied());
                let (_, value) = params::params(query).find(of_key)?;
                Cow::Owned(params::decode(value).collect())
            }
            Source::Cookie(key) => Cow::Borrowed(cookie::get(h, key)?),
        };
        (!found.is_empty()).then_some(found)
    }
    fn remove(&self, h: &mut HeaderMap) {
        match self {
            Source::Header(name) => drop(h.remove(name)),
            Source::Query(key) => {
                if let Some(path) = h.get(name::PATH).and_then(|p| query::without(p, key)) {
                    h.set(name::PATH, &path);
                }
            }
            Source::Cookie(key) => {
                let kept: Vec<Vec<u8>> =
                    cookie::all(h).filter(|(n, _)| n != key).map(|(n, v)| [n, b"=", v].concat()).collect();
                h.remove(name::COOKIE);
                if !kept.is_empty() {
                    h.append(name::COOKIE, &kept.join(&b"; "[..]));
                }
            }
        }
    }
}

impl Rules {
    fn new(
        credentials: Vec<pb::Credential>,
        sources: &[pb::KeySource],
        forwarding: Option<&pb::Forwarding>,
    ) -> BuildResult<Rules> {
        let mut clients = HashMap::new();
        for c in credentials {
            let key = c.key.into_bytes();
            if clients.contains_key(&key) {
                let key = String::from_utf8_lossy(&key);
                return Err(BuildError(format!("Duplicated credential key: '{key}'")));
            }
            clients.insert(key, c.client);
        }
        Ok(Rules {
            clients,
            sources: sources.iter().map(Source::new).collect::<BuildResult<_>>()?,
            forwarding: forwarding.map(|f| Forwarding {
                header: (!f.header.is_empty()).then(|| HeaderName::new(&f.header)),
                hide: f.hide_credentials,
            }),
        })
    }
}

impl ApiKeyAuth {
    fn refuse(&self, details: &'static str) -> Step<'static> {
        self.stats.unauthorized().inc();
        Step::reply(401, "Client authentication failed.", details)
    }
}

impl HttpFilter for ApiKeyAuth {
    type Config = pb::ApiKeyAuth;
    type RouteConfig = pb::ApiKeyAuthPerRoute;
    type Route = Route;
    type Stream = ();

    fn new(c: pb::ApiKeyAuth, cx: &BuildCx<'_>) -> BuildResult<ApiKeyAuth> {
        Ok(ApiKeyAuth {
            rules: Rules::new(c.credentials, &c.key_sources, c.forwarding.as_ref())?,
            stats: ApiKeyAuthStats::new(&cx.scope.scope("api_key_auth")),
        })
    }
    fn route(c: pb::ApiKeyAuthPerRoute, _: &BuildCx<'_>) -> BuildResult<Route> {
        Ok(Route {
            rules: Rules::new(c.credentials, &c.key_sources, c.forwarding.as_ref())?,
            allowed: c.allowed_clients.into_iter().collect(),
        })
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        let route = ex.route_config::<Route>();
        let (own, of_route) = (&self.rules, route.as_deref().map(|r| &r.rules));
        let sources = of_route.map(|r| &r.sources).filter(|s| !s.is_empty()).unwrap_or(&own.sources);
        let clients = of_route.map(|r| &r.clients).filter(|c| !c.is_empty()).unwrap_or(&own.clients);
        // A route replaces this also by nothing.
        let forwarding = of_route.unwrap_or(own).forwarding.as_ref();
        let h = &mut ex.request.headers;
        if sources.is_empty() {
            return self.refuse("missing_key_sources");
        }
        if clients.is_empty() {
            return self.refuse("missing_credentials");
        }
        let Some(key) = sources.iter().find_map(|s| s.key(h)) else { return self.refuse("missing_api_key") };
        let Some(client) = clients.get(&*key) else {
            return self.refuse("unknown_api_key");
        };
        drop(key);
        if route.as_deref().is_some_and(|r| !r.allowed.is_empty() && !r.allowed.contains(client)) {
            self.stats.forbidden().inc();
            return Step::reply(403, "Client is forbidden.", "client_not_allowed");
        }
        if let Some(f) = forwarding {
            if let Some(name) = &f.header {
                h.set(name, client.as_bytes());
            }
            if f.hide {
                sources.iter().for_each(|s| s.remove(h));
            }
        }
        self.stats.allowed().inc();
        Step::Next
    }
}

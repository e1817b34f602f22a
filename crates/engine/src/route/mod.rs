//! Routes: from a request's head to what is to be done with it.
//!
//! [`RouteTable`] finds the virtual host ([`domains`]) and in it the first route that matches ([`matching`]); a
//! [`RouteEntry`] says what to do ([`action`]) and how to change heads ([`headers`], [`rewrite`]). Tables are built on
//! main and immutable; a stream keeps the entry it got.

pub mod action;
mod domains;
pub mod headers;
mod index;
mod matching;
mod replies;
mod rewrite;
mod specifier;
#[cfg(test)]
mod tests;
mod tracing;
mod tree;
mod virtual_clusters;

use crate::http::vhds;
use crate::proto;
use crate::router::retry::RetryPolicy;
use crate::router::shadow::{self, ShadowPolicies};
use crate::stats::RequestStats;
use crate::upstream::host::Host;
pub use action::{Action, ClusterRoute};
use domains::Domains;
use headers::HeaderRules;
use index::Index;
use matching::Matcher;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::StreamShared;
use nuncio_core::match_input::Source;
use nuncio_core::match_tree::Tree;
use nuncio_core::metadata::{LazyMetadata, Metadata};
use nuncio_core::rate_limit::{Place, Policy, RateLimits};
use nuncio_core::route::{FilterId, PerFilter, Route, RouteSource};
use nuncio_core::stats::sanitize;
use nuncio_core::{Exchange, LocalBoxFuture};
use nuncio_wire::{HeaderMap, HeaderName, RequestHead, ResponseHead, name};
pub use replies::{DirectResponse, Redirect};
use specifier::{Specifier, Specifiers};
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
pub use tracing::RouteTracing;
use tree::Routes;
use virtual_clusters::{VirtualCluster, VirtualClusters};

/// What is read of the messages of `envoy.config.route.v3`.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.route.v3.RouteConfiguration",
        &[
            "name",
            "virtual_hosts",
            "internal_only_headers",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "most_specific_header_mutations_wins",
            "validate_clusters",
            "max_direct_response_body_size_bytes",
            "typed_per_filter_config",
            "ignore_port_in_host_matching",
            "ignore_path_parameters_in_path_matching",
            "vhost_header",
            "cluster_specifier_plugins",
            "request_mirror_policies",
            "vhds",
        ],
    ),
    Covered::new("envoy.config.route.v3.Vhds", &["config_source"]),
    Covered::new(
        "envoy.config.route.v3.VirtualHost",
        &[
            "name",
            "domains",
            "routes",
            "require_tls",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "typed_per_filter_config",
            "virtual_clusters",
            "include_request_attempt_count",
            "include_attempt_count_in_response",
            "include_is_timeout_retry_header",
            "metadata",
            "retry_policy",
            "hedge_policy",
            "per_request_buffer_limit_bytes",
            "request_body_buffer_limit",
            "request_mirror_policies",
            "matcher",
            "rate_limits",
        ],
    ),
    Covered::new("envoy.config.route.v3.RouteList", &["routes"]),
    Covered::new(
        "envoy.config.route.v3.Route",
        &[
            "name",
            "match",
            "metadata",
            "stat_prefix",
            "typed_per_filter_config",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "route",
            "redirect",
            "direct_response",
            "non_forwarding_action",
            "per_request_buffer_limit_bytes",
            "request_body_buffer_limit",
            "decorator",
            "tracing",
        ],
    ),
    Covered::new("envoy.config.route.v3.FilterConfig", &["config", "is_optional", "disabled"]),
    Covered::new("envoy.config.route.v3.NonForwardingAction", &[]),
];

/// A compiled `RouteConfiguration`.
pub struct RouteTable {
    /// `RouteConfiguration.name`
    pub name: String,
    domains: Domains,
    hosts: Vec<VirtualHost>,
    ignore_port: bool,
    /// `vhost_header`: its value says the virtual host, instead of the authority.
    host_header: Option<HeaderName>,
    switches_filters: bool,
    sets_timers: bool,
    /// `vhds`: more virtual hosts come when they are asked for.
    grows: bool,
}

struct VirtualHost {
    shared: Arc<VirtualHostShared>,
    require_tls: RequireTls,
    routes: Box<[(Matcher, Arc<RouteEntry>)]>,
    /// Which of them to try, when there are many.
    index: Option<Index>,
    /// `matcher`: which of them to try, in its own way.
    tree: Option<Tree<Routes>>,
}

/// What the routes of a virtual host share, and keep alive.
pub struct VirtualHostShared {
    /// `VirtualHost.name`
    pub name: String,
    per_filter: PerFilter,
    headers: HeaderRules,
    config: Arc<ConfigShared>,
    include_request_attempt_count: bool,
    include_attempt_count_in_response: bool,
    include_is_timeout_retry: bool,
    retry: Option<Arc<RetryPolicy>>,
    hedge: bool,
    buffer_limit: Option<u64>,
    shadows: Option<ShadowPolicies>,
    virtual_clusters: VirtualClusters,
    rate_limits: Box<[Policy]>,
}

/// What all routes of a table share.
struct ConfigShared {
    per_filter: PerFilter,
    headers: HeaderRules,
    most_specific_wins: bool,
    shadows: Option<ShadowPolicies>,
    specifiers: Specifiers,
    /// `ignore_path_parameters_in_path_matching`
    ignore_path_parameters: bool,
}

impl ConfigShared {
    /// `cluster_specifier_plugin`
    fn specifier(&self, name: &str) -> BuildResult<Arc<Specifier>> {
        self.specifiers.get(name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum RequireTls {
    #[default]
    No,
    External,
    All,
}

/// A route, as a stream keeps it.
pub struct RouteEntry {
    name: String,
    metadata: LazyMetadata,
    host: Arc<VirtualHostShared>,
    per_filter: PerFilter,
    headers: HeaderRules,
    /// What to do.
    pub action: Action,
    rewrite: rewrite::Rewrite,
    /// `vhost.<name>.route.<stat_prefix>.`, where the route has one.
    stats: Option<RequestStats>,
    /// `decorator` and `tracing`
    pub tracing: Option<Box<RouteTracing>>,
}

impl RouteTable {
    /// Compiles a configuration.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: &pb::RouteConfiguration, cx: &BuildCx<'_>) -> BuildResult<RouteTable> {
        let validate = c.validate_clusters.unwrap_or(true);
        let config = Arc::new(ConfigShared {
            per_filter: per_filter(&c.typed_per_filter_config, cx)?,
            headers: HeaderRules::new(
                &c.request_headers_to_add,
                &c.request_headers_to_remove,
                &c.response_headers_to_add,
                &c.response_headers_to_remove,
            )?,
            most_specific_wins: c.most_specific_header_mutations_wins,
            shadows: shadow::policies(&c.request_mirror_policies, None, validate, cx)?,
            specifiers: Specifiers::new(&c.cluster_specifier_plugins)?,
            ignore_path_parameters: c.ignore_path_parameters_in_path_matching,
        });
        let max_body = c.max_direct_response_body_size_bytes.unwrap_or(4096) as usize;
        let mut domains = Domains::default();
        let mut hosts = vec![];
        for (i, h) in c.virtual_hosts.iter().enumerate() {
            for d in &h.domains {
                domains.insert(d, i, &c.name)?;
            }
            hosts.push(VirtualHost::new(h, &config, max_body, validate, cx)?);
        }
        let switches_filters = !config.per_filter.is_empty()
            || hosts.iter().any(|h| {
                !h.shared.per_filter.is_empty()
                    || h.routes.iter().any(|(_, r)| !r.per_filter.is_empty() || r.action.has_filter_configs())
            });
        let sets_timers = hosts.iter().any(|h| h.routes.iter().any(|(_, r)| r.action.timers().is_some()));
        Ok(RouteTable {
            sets_timers,
            name: c.name.clone(),
            domains,
            hosts,
            ignore_port: c.ignore_port_in_host_matching,
            host_header: (!c.vhost_header.is_empty()).then(|| HeaderName::new(&c.vhost_header)),
            switches_filters,
            grows: c.vhds.is_some(),
        })
    }
    /// Compiles a configuration of a control plane, in which routes may name clusters that are yet to come.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn dynamic(mut c: pb::RouteConfiguration, cx: &BuildCx<'_>) -> BuildResult<RouteTable> {
        c.validate_clusters.get_or_insert(false);
        RouteTable::new(&c, cx)
    }
    /// Some level configures filters, so a route must be chosen before the first filter runs.
    pub fn switches_filters(&self) -> bool {
        self.switches_filters
    }
    /// Some route has timers of its own, so a route must be chosen before the first filter runs.
    pub fn sets_timers(&self) -> bool {
        self.sets_timers
    }
    /// An empty table (the admin interface).
    pub fn empty() -> RouteTable {
        let (domains, hosts) = Default::default();
        RouteTable {
            name: String::new(),
            domains,
            hosts,
            ignore_port: false,
            host_header: None,
            switches_filters: false,
            sets_timers: false,
            grows: false,
        }
    }
    /// The first route that matches.
    pub fn choose(&self, head: &RequestHead, sx: &StreamShared) -> Option<Arc<RouteEntry>> {
        let host = match &self.host_header {
            None => self.domains.find(head.authority(), self.ignore_port)?,
            Some(h) => match head.headers.get(h) {
                Some(value) => self.domains.find(value, self.ignore_port)?,
                None => self.domains.only_any()?,
            },
        };
        let host = self.hosts.get(host)?;
        if host.require_tls != RequireTls::No && head.headers.get(name::X_FORWARDED_PROTO) != Some(b"https") {
            let internal = head.headers.get(name::X_ENVOY_INTERNAL) == Some(b"true");
            if host.require_tls == RequireTls::All || !internal {
                return Some(Arc::new(RouteEntry::https_redirect(&host.shared)));
            }
        }
        host.choose(head, sx)
    }
}

impl VirtualHost {
    fn new(
        h: &pb::VirtualHost,
        config: &Arc<ConfigShared>,
        max_body: usize,
        validate: bool,
        cx: &BuildCx<'_>,
    ) -> BuildResult<VirtualHost> {
        let shared = Arc::new(VirtualHostShared {
            name: h.name.clone(),
            per_filter: per_filter(&h.typed_per_filter_config, cx)?,
            headers: HeaderRules::new(
                &h.request_headers_to_add,
                &h.request_headers_to_remove,
                &h.response_headers_to_add,
                &h.response_headers_to_remove,
            )?,
            config: config.clone(),
            include_request_attempt_count: h.include_request_attempt_count,
            include_attempt_count_in_response: h.include_attempt_count_in_response,
            include_is_timeout_retry: h.include_is_timeout_retry_header,
            retry: match &h.retry_policy {
                Some(p) => Some(Arc::new(RetryPolicy::new(p, cx)?)),
                None => None,
            },
            hedge: h.hedge_policy.as_ref().is_some_and(|p| p.hedge_on_per_try_timeout),
            buffer_limit: h.request_body_buffer_limit.or(h.per_request_buffer_limit_bytes.map(u64::from)),
            shadows: shadow::policies(&h.request_mirror_policies, config.shadows.as_ref(), validate, cx)?,
            virtual_clusters: VirtualClusters::new(h, cx)?,
            rate_limits: Policy::list(&h.rate_limits, Place::Route, cx)?,
        });
        let route = |r: &pb::Route| -> BuildResult<(Matcher, Arc<RouteEntry>)> {
            let m = r
                .r#match
                .as_deref()
                .ok_or_else(|| BuildError::from("RouteValidationError.Match: value is required"))?;
            Ok((
                Matcher::new(m, config.ignore_path_parameters, cx)?,
                Arc::new(RouteEntry::new(r, &shared, max_body, validate, cx)?),
            ))
        };
        let (routes, tree) = match &h.matcher {
            None => (proto::each(&h.routes, route)?, None),
            Some(_) if !h.routes.is_empty() => {
                return Err("cannot set both matcher and routes on virtual host".into());
            }
            Some(m) => {
                let (routes, tree) = tree::build(m)?;
                (proto::each(&routes, route)?, Some(tree))
            }
        };
        Ok(VirtualHost {
            require_tls: match h.require_tls {
                1 => RequireTls::External,
                2 => RequireTls::All,
                _ => RequireTls::No,
            },
            index: Index::new(routes.iter().map(|(m, _)| m.key())).filter(|_| tree.is_none()),
            tree,
            routes,
            shared,
        })
    }
    fn choose(&self, head: &RequestHead, sx: &StreamShared) -> Option<Arc<RouteEntry>> {
        if let Some(tree) = &self.tree {
            let found = tree.find(&Source { request: head, response: None, sx }).ok()??;
            let routes = self.routes.get(found.clone())?;
            return routes.iter().find(|(m, _)| m.matches(head, sx)).map(|(_, r)| r.clone());
        }
        let Some(index) = &self.index else {
            return self.routes.iter().find(|(m, _)| m.matches(head, sx)).map(|(_, r)| r.clone());
        };
        let ignore_parameters = self.shared.config.ignore_path_parameters;
        let path = matching::path_of(head, ignore_parameters);
        let i = index.first(path.as_deref(), |i| {
            self.routes.get(i as usize).is_some_and(|(m, _)| m.matches(head, sx))
        })?;
        self.routes.get(i as usize).map(|(_, r)| r.clone())
    }
}

impl RouteEntry {
    fn new(
        r: &pb::Route,
        host: &Arc<VirtualHostShared>,
        max_body: usize,
        validate: bool,
        cx: &BuildCx<'_>,
    ) -> BuildResult<RouteEntry> {
        let action = Action::new(r, host, max_body, validate, cx)?;
        Ok(RouteEntry {
            name: r.name.clone(),
            metadata: LazyMetadata::new(r.metadata.as_ref()),
            host: host.clone(),
            per_filter: per_filter(&r.typed_per_filter_config, cx)?,
            headers: HeaderRules::new(
                &r.request_headers_to_add,
                &r.request_headers_to_remove,
                &r.response_headers_to_add,
                &r.response_headers_to_remove,
            )?,
            rewrite: rewrite::Rewrite::new(r)?,
            action,
            stats: (!r.stat_prefix.is_empty()).then(|| {
                let scope = virtual_clusters::scope(&host.name, cx).scope("route");
                RequestStats::new(&scope.scope(&sanitize(&r.stat_prefix)))
            }),
            tracing: RouteTracing::of(r)?,
        })
    }
    /// What `require_tls` answers.
    fn https_redirect(host: &Arc<VirtualHostShared>) -> RouteEntry {
        RouteEntry {
            name: String::new(),
            metadata: LazyMetadata::default(),
            host: host.clone(),
            per_filter: PerFilter::default(),
            headers: HeaderRules::default(),
            action: Action::Redirect(Box::new(Redirect::https())),
            rewrite: rewrite::Rewrite::default(),
            stats: None,
            tracing: None,
        }
    }
    /// Header rules from the most to the least specific level, or the other way round.
    fn levels<'a>(&'a self, weighted: Option<&'a HeaderRules>) -> [Option<&'a HeaderRules>; 4] {
        let mut levels =
            [weighted, Some(&self.headers), Some(&self.host.headers), Some(&self.host.config.headers)];
        if self.host.config.most_specific_wins {
            levels.reverse();
        }
        levels
    }
    /// What the route counts of its own.
    pub fn stats(&self) -> Option<&RequestStats> {
        self.stats.as_ref()
    }
    /// The virtual cluster of a request.
    pub fn virtual_cluster(&self, head: &RequestHead) -> Option<&VirtualCluster> {
        self.host.virtual_clusters.choose(head)
    }
    /// Changes the request's head for the upstream: header rules, then host, then path.
    pub fn finalize_request_headers(
        &self,
        head: &mut RequestHead,
        sx: &StreamShared,
        host: &Host,
        original_path: bool,
    ) {
        let weighted = self.action.chosen(sx);
        for rules in self.levels(weighted.map(|w| &w.headers)).into_iter().flatten() {
            rules.apply_to_request(head, sx, self);
            if let Some(w) = weighted.filter(|w| !w.host.is_empty() && std::ptr::eq(rules, &w.headers)) {
                head.headers.set(name::AUTHORITY, &w.host);
            }
        }
        self.rewrite.apply(head, sx, host, original_path);
    }
    /// The request goes to another host: `auto_host_rewrite` follows.
    pub fn host_changed(&self, head: &mut RequestHead, sx: &StreamShared, host: &Host, keep_original: bool) {
        self.rewrite.auto_host(head, sx, host, keep_original);
    }
    /// Changes the response's head for the client.
    pub fn finalize_response_headers(&self, head: &mut ResponseHead, ex: &Exchange) {
        self.response_rules(head.status, &mut head.headers, ex);
    }
    fn response_rules(&self, status: u16, headers: &mut HeaderMap, ex: &Exchange) {
        let weighted = self.action.chosen(&ex.sx);
        for rules in self.levels(weighted.map(|w| &w.headers)).into_iter().flatten() {
            rules.apply_to_response(status, headers, ex, self);
        }
    }
}

impl Route for RouteEntry {
    fn name(&self) -> &str {
        &self.name
    }
    fn virtual_host(&self) -> &str {
        &self.host.name
    }
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
    fn per_filter(&self, sx: &StreamShared) -> [Option<&PerFilter>; 4] {
        let weighted = self.action.chosen(sx).map(|w| &w.per_filter);
        [weighted, Some(&self.per_filter), Some(&self.host.per_filter), Some(&self.host.config.per_filter)]
    }
    fn cluster<'a>(&'a self, head: &'a RequestHead, sx: &StreamShared) -> Option<Cow<'a, str>> {
        match &self.action {
            Action::Cluster(c) => c.cluster_name(head, sx),
            _ => None,
        }
    }
    fn rate_limits(&self) -> RateLimits<'_> {
        let Action::Cluster(c) = &self.action else { return RateLimits::default() };
        let (route, include_virtual_host) =
            c.rate_limits.as_deref().map_or((&[][..], false), |l| (&l.0, l.1));
        RateLimits { route, virtual_host: &self.host.rate_limits, include_virtual_host }
    }
    fn finalize_reply(&self, status: u16, headers: &mut HeaderMap, ex: &Exchange) {
        // Other actions are replies themselves.
        if matches!(self.action, Action::Cluster(_)) {
            crate::router::note_route_cluster(&ex.request, &ex.sx);
            self.response_rules(status, headers, ex);
        }
    }
}

/// A table as the source of routes for streams; one per worker and table.
pub struct TableSource {
    table: Arc<RouteTable>,
    /// Number of the subscription that the table came by.
    slot: Option<u64>,
}

impl TableSource {
    /// A source over `table`.
    pub fn new(table: Arc<RouteTable>) -> TableSource {
        TableSource { table, slot: None }
    }
    /// A source over a table that came by a subscription.
    pub fn subscribed(table: Arc<RouteTable>, slot: u64) -> TableSource {
        TableSource { table, slot: Some(slot) }
    }
    /// No table has come yet: those that come have a name.
    pub fn is_missing(&self) -> bool {
        self.table.name.is_empty()
    }
}
impl RouteSource for TableSource {
    fn ask(&self, head: &RequestHead) -> Option<LocalBoxFuture<'static, Option<Rc<dyn RouteSource>>>> {
        let slot = self.slot.filter(|_| self.table.grows)?;
        Some(vhds::ask(slot, head.authority()))
    }
    fn choose(&self, head: &RequestHead, sx: &StreamShared) -> Option<Arc<dyn Route>> {
        let route = self.table.choose(head, sx)?;
        if let Action::Cluster(c) = &route.action {
            c.take_random(head, sx);
        }
        Some(route)
    }
}

/// Parses `typed_per_filter_config`; `FilterConfig` wraps a config with `disabled` and `is_optional`.
pub(crate) fn per_filter<'a>(
    configs: impl IntoIterator<Item = (&'a String, &'a prost_types::Any)>,
    cx: &BuildCx<'_>,
) -> BuildResult<PerFilter> {
    let mut all = PerFilter::default();
    for (name, any) in configs {
        let id = FilterId::of(name);
        if any.type_url.rsplit('/').next() != Some("envoy.config.route.v3.FilterConfig") {
            all.insert(id, cx.registry.build_route_config(name, any, cx)?);
            continue;
        }
        let f: pb::FilterConfig = proto::unpack(any)?;
        if f.disabled || f.config.is_none() {
            all.set_disabled(id, f.disabled);
        }
        if let Some(any) = &f.config {
            match cx.registry.build_route_config(name, any, cx) {
                Ok(c) => {
                    all.insert(id, c);
                    if !f.disabled {
                        all.set_disabled(id, false);
                    }
                }
                Err(e) if f.is_optional && e.0.starts_with("Didn't find") => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(all)
}

//! Routes, as far as filters see them.

use super::build::covered;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_core::coverage::Coverage;
use nuncio_core::filter::BuildCx;
use nuncio_core::metadata::Metadata;
use nuncio_core::rate_limit::{Place, Policy, RateLimits};
use nuncio_core::route::{FilterId, PerFilter, Route, RouteSource};
use nuncio_core::{BuildError, BuildResult, StreamShared};
use nuncio_wire::RequestHead;
use prost::{Message, Name};
use prost_types::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table: domains and routes of each virtual host.
pub(super) struct Routes(Vec<(Vec<String>, HostRoutes)>);

type HostRoutes = Vec<(Match, Arc<TestRoute>)>;

enum Match {
    Prefix(String),
    Path(String),
}

/// One route.
struct TestRoute {
    name: String,
    virtual_host: String,
    metadata: Metadata,
    cluster: Option<String>,
    /// Of the route, and whether those of the virtual host hold too.
    rate_limits: (Box<[Policy]>, bool),
    host_rate_limits: Arc<[Policy]>,
    /// From the most to the least specific level.
    levels: [Arc<PerFilter>; 4],
}

impl Routes {
    pub fn new(
        config: &pb::RouteConfiguration,
        coverage: &Coverage,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Routes> {
        let level = |m: &BTreeMap<String, Any>| per_filter(m, coverage, cx).map(Arc::new);
        let table = level(&config.typed_per_filter_config)?;
        let mut hosts = vec![];
        for vh in &config.virtual_hosts {
            let host = level(&vh.typed_per_filter_config)?;
            let host_rate_limits: Arc<[Policy]> = Policy::list(&vh.rate_limits, Place::Route, cx)?.into();
            let mut routes = vec![];
            for r in &vh.routes {
                let levels = [
                    level(weighted(r).unwrap_or(&BTreeMap::new()))?,
                    level(&r.typed_per_filter_config)?,
                    host.clone(),
                    table.clone(),
                ];
                let metadata = r.metadata.as_ref().map(|m| Metadata(m.filter_metadata.clone()));
                let route = TestRoute {
                    name: r.name.clone(),
                    virtual_host: vh.name.clone(),
                    metadata: metadata.unwrap_or_default(),
                    cluster: cluster(r),
                    rate_limits: rate_limits(r, cx)?,
                    host_rate_limits: host_rate_limits.clone(),
                    levels,
                };
                routes.push((matcher(r)?, Arc::new(route)));
            }
            hosts.push((vh.domains.clone(), routes));
        }
        Ok(Routes(hosts))
    }
}

/// The level of the first weighted cluster.
fn weighted(r: &pb::Route) -> Option<&BTreeMap<String, Any>> {
    use pb::route_action::ClusterSpecifier::WeightedClusters;
    let Some(pb::route::Action::Route(action)) = &r.action else { return None };
    match &action.cluster_specifier {
        Some(WeightedClusters(w)) => w.clusters.first().map(|c| &c.typed_per_filter_config),
        _ => None,
    }
}

/// The cluster, or the first of the weighted ones.
fn cluster(r: &pb::Route) -> Option<String> {
    use pb::route_action::ClusterSpecifier as S;
    let Some(pb::route::Action::Route(action)) = &r.action else { return None };
    match &action.cluster_specifier {
        Some(S::Cluster(c)) => Some(c.clone()),
        Some(S::WeightedClusters(w)) => w.clusters.first().map(|c| c.name.clone()),
        _ => Some(String::new()),
    }
}

fn rate_limits(r: &pb::Route, cx: &BuildCx<'_>) -> BuildResult<(Box<[Policy]>, bool)> {
    let Some(pb::route::Action::Route(action)) = &r.action else { return Ok(Default::default()) };
    let all = Policy::list(&action.rate_limits, Place::Route, cx)?;
    Ok((all, action.include_vh_rate_limits.unwrap_or(false)))
}

fn matcher(r: &pb::Route) -> BuildResult<Match> {
    use pb::route_match::PathSpecifier as P;
    match r.r#match.as_ref().and_then(|m| m.path_specifier.as_ref()) {
        Some(P::Prefix(p)) => Ok(Match::Prefix(p.clone())),
        Some(P::Path(p)) => Ok(Match::Path(p.clone())),
        _ => Err("FilterTest understands routes by prefix and path".into()),
    }
}

fn per_filter(
    configs: &BTreeMap<String, Any>,
    coverage: &Coverage,
    cx: &BuildCx<'_>,
) -> BuildResult<PerFilter> {
    let mut level = PerFilter::default();
    for (name, any) in configs {
        let id = FilterId::of(name);
        let wrapped;
        let mut config = Some(any);
        if any.type_url.ends_with(&pb::FilterConfig::full_name()) {
            wrapped = pb::FilterConfig::decode(&*any.value).map_err(|e| BuildError(e.to_string()))?;
            level.set_disabled(id, wrapped.disabled);
            config = wrapped.config.as_ref();
        }
        if let Some(config) = config {
            covered(coverage, config)?;
            level.insert(id, cx.registry.build_route_config(name, config, cx)?);
        }
    }
    Ok(level)
}

impl Route for TestRoute {
    fn name(&self) -> &str {
        &self.name
    }
    fn virtual_host(&self) -> &str {
        &self.virtual_host
    }
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
    fn per_filter(&self, _: &StreamShared) -> [Option<&PerFilter>; 4] {
        self.levels.each_ref().map(|l| Some(&**l))
    }
    fn cluster<'a>(&'a self, _: &'a RequestHead, _: &StreamShared) -> Option<Cow<'a, str>> {
        self.cluster.as_deref().map(Cow::Borrowed)
    }
    fn rate_limits(&self) -> RateLimits<'_> {
        let (route, include_virtual_host) = (&*self.rate_limits.0, self.rate_limits.1);
        RateLimits { route, virtual_host: &self.host_rate_limits, include_virtual_host }
    }
}

impl RouteSource for Routes {
    fn choose(&self, head: &RequestHead, _: &StreamShared) -> Option<Arc<dyn Route>> {
        let authority = String::from_utf8_lossy(head.authority());
        let (_, routes) = self.0.iter().find(|(ds, _)| ds.iter().any(|d| d == "*" || **d == *authority))?;
        let path = String::from_utf8_lossy(head.path());
        let path = path.split('?').next().unwrap_or_default();
        let found = routes.iter().find(|(m, _)| match m {
            Match::Prefix(p) => path.starts_with(&**p),
            Match::Path(p) => path == p,
        });
        found.map(|(_, r)| r.clone() as Arc<dyn Route>)
    }
}

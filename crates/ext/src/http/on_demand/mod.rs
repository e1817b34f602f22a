use nuncio_api::envoy::extensions::filters::http::on_demand::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildError;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::registry::Docs;
use nuncio_core::upstreams::FindCluster;
use nuncio_core::{BuildResult, Exchange, Registry};
use std::sync::Arc;
use std::time::Duration;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.on_demand";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.extensions.filters.http.on_demand.v3.OnDemand", &["odcds"]),
    Covered::new("envoy.extensions.filters.http.on_demand.v3.PerRouteConfig", &["odcds"]),
    Covered::new("envoy.extensions.filters.http.on_demand.v3.OnDemandCds", &["source", "timeout"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<OnDemand>(NAME, docs);
}

/// The filter.
pub struct OnDemand {
    clusters: Option<Clusters>,
}

/// `OnDemandCds`
#[derive(Clone)]
pub struct Clusters {
    finder: Arc<dyn FindCluster>,
    limit: Duration,
}

impl Clusters {
    fn new(c: Option<pb::OnDemandCds>, cx: &BuildCx<'_>) -> BuildResult<Option<Clusters>> {
        let Some(c) = c else { return Ok(None) };
        let source = c
            .source
            .as_deref()
            .ok_or_else(|| BuildError::not_implemented("OnDemandCds without source: xdstp names"))?;
        let limit = match c.timeout {
            None => Duration::from_secs(5),
            Some(d) => Duration::try_from(d).map_err(|e| BuildError(e.to_string()))?,
        };
        Ok(Some(Clusters { finder: cx.server.cluster_finder(source, cx)?, limit }))
    }
    /// The cluster that the request needs and this thread lacks.
    fn missing(&self, ex: &Exchange) -> Option<String> {
        let name = ex.route()?.cluster(&ex.request, &ex.sx)?.into_owned();
        (!name.is_empty() && !self.finder.is_here(&name)).then_some(name)
    }
}

impl HttpFilter for OnDemand {
    type Config = pb::OnDemand;
    type RouteConfig = pb::PerRouteConfig;
    type Route = Option<Clusters>;
    type Stream = ();

    fn new(config: pb::OnDemand, cx: &BuildCx<'_>) -> BuildResult<OnDemand> {
        Ok(OnDemand { clusters: Clusters::new(config.odcds, cx)? })
    }
    fn route(config: pb::PerRouteConfig, cx: &BuildCx<'_>) -> BuildResult<Option<Clusters>> {
        Clusters::new(config.odcds, cx)
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if ex.route().is_none() {
            let asked = ex.sx.route_source().and_then(|s| s.ask(&ex.request));
            let Some(asked) = asked else { return Step::Next };
            return Step::wait(async move {
                if let Some(routes) = asked.await {
                    ex.sx.set_route_source(routes);
                    self.find_cluster(ex).await;
                }
                Step::Next
            });
        }
        match self.missing(ex) {
            None => Step::Next,
            Some(_) => Step::wait(async move {
                self.find_cluster(ex).await;
                Step::Next
            }),
        }
    }
}

impl OnDemand {
    /// The cluster that the request needs and this thread lacks, and who may find it.
    fn missing(&self, ex: &Exchange) -> Option<(Clusters, String)> {
        let of_route = ex.route_config::<Option<Clusters>>();
        let clusters = of_route.map_or_else(|| self.clusters.clone(), |c| (*c).clone())?;
        let name = clusters.missing(ex)?;
        Some((clusters, name))
    }
    /// Waits for the cluster. Whatever comes of it, the router will see.
    async fn find_cluster(&self, ex: &Exchange) {
        if let Some((clusters, name)) = self.missing(ex) {
            clusters.finder.find(&name, clusters.limit).await;
        }
    }
}

#[cfg(test)]
mod tests;

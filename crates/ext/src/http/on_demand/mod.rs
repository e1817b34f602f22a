use nuncio_api::envoy::extensions::filters::http::on_demand::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildError;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::registry::Docs;
use nuncio_core::upstreams::{FindCluster, Found};
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

/// Lets all filters see the request anew, unless its body is still to come: then the rest goes on with what is new.
fn again(ex: &Exchange) -> Step<'static> {
    match ex.request_body.is_end() {
        true => Step::Restart,
        false => Step::Next,
    }
}

async fn find_cluster(clusters: Clusters, ex: &Exchange) -> Step<'static> {
    let Some(name) = clusters.missing(ex) else { return Step::Next };
    match clusters.finder.find(&name, clusters.limit).await {
        Found::Here => again(ex),
        Found::Missing | Found::TimedOut => Step::Next,
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
            let Some(asked) = ex.sx.route_source().and_then(|s| s.ask(&ex.request)) else {
                return Step::Next;
            };
            return Step::wait(async move {
                let Some(routes) = asked.await else { return Step::Next };
                ex.sx.set_route_source(routes);
                match ex.route() {
                    Some(_) => again(ex),
                    None => Step::Next,
                }
            });
        }
        let of_route = ex.route_config::<Option<Clusters>>();
        let Some(clusters) = of_route.map_or_else(|| self.clusters.clone(), |c| (*c).clone()) else {
            return Step::Next;
        };
        match clusters.missing(ex) {
            None => Step::Next,
            Some(_) => Step::wait(find_cluster(clusters, ex)),
        }
    }
}

#[cfg(test)]
mod tests;

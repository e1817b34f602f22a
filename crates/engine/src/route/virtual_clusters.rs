//! Virtual clusters of a virtual host: classes of requests that are counted apart (`VirtualHost.virtual_clusters`).

use crate::stats::RequestStats;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::matchers::{HeaderMatcher, matches_all};
use nuncio_core::stats::{Scope, sanitize};
use nuncio_wire::RequestHead;
use std::sync::Arc;

/// What is read of `VirtualCluster`.
pub const COVERED: &[Covered] = &[Covered::new("envoy.config.route.v3.VirtualCluster", &["headers", "name"])];

/// The virtual clusters of a virtual host.
#[derive(Default)]
pub struct VirtualClusters {
    all: Vec<(Vec<HeaderMatcher>, VirtualCluster)>,
    /// What no other one matches; there only beside others.
    other: Option<VirtualCluster>,
}

/// A virtual cluster.
pub struct VirtualCluster {
    /// `VirtualCluster.name`; none for the rest.
    pub name: Option<Arc<str>>,
    /// `vhost.<name>.vcluster.<name>.`
    pub stats: RequestStats,
}

/// `vhost.<name>.`
pub fn scope(host: &str, cx: &BuildCx<'_>) -> Scope {
    cx.scope.store().root().scope("vhost").scope(&sanitize(host))
}

impl VirtualClusters {
    /// Compiles the list of a virtual host.
    ///
    /// # Errors
    /// A matcher is refused.
    pub fn new(h: &pb::VirtualHost, cx: &BuildCx<'_>) -> BuildResult<VirtualClusters> {
        if h.virtual_clusters.is_empty() {
            return Ok(VirtualClusters::default());
        }
        let scope = scope(&h.name, cx).scope("vcluster");
        let made = |v: &pb::VirtualCluster| {
            if v.headers.is_empty() {
                return Err(BuildError::from("virtual clusters must define 'headers'"));
            }
            let stats = RequestStats::new(&scope.scope(&sanitize(&v.name)));
            let cluster = VirtualCluster { name: Some(v.name.as_str().into()), stats };
            Ok((HeaderMatcher::list(&v.headers)?, cluster))
        };
        let other = VirtualCluster { name: None, stats: RequestStats::new(&scope.scope("other")) };
        Ok(VirtualClusters {
            all: h.virtual_clusters.iter().map(made).collect::<BuildResult<_>>()?,
            other: Some(other),
        })
    }
    /// The first that matches, else the rest; `None` where there are none.
    pub fn choose(&self, head: &RequestHead) -> Option<&VirtualCluster> {
        self.all.iter().find(|(m, _)| matches_all(m, head)).map(|(_, v)| v).or(self.other.as_ref())
    }
}

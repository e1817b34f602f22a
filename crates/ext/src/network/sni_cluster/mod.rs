use nuncio_api::envoy::extensions::filters::network::sni_cluster::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::filter_state::{LifeSpan, StringObject, TCP_PROXY_CLUSTER};
use nuncio_core::info::ConnInfo;
use nuncio_core::network_filter::{Access, NetworkFilter};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry};
use std::rc::Rc;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.network.sni_cluster";

/// What is read of its configuration: there is nothing in it.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.filters.network.sni_cluster.v3.SniCluster", &[])];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.network_filter::<SniCluster>(NAME, docs);
}

/// The filter.
pub struct SniCluster;

impl NetworkFilter for SniCluster {
    type Config = pb::SniCluster;
    type State = ();

    fn new(_: pb::SniCluster, _: &BuildCx<'_>) -> BuildResult<SniCluster> {
        Ok(SniCluster)
    }
    fn on_new_connection(self: &Arc<Self>, (): &mut (), conn: &Rc<ConnInfo>) -> Access {
        if let Some(sni) = conn.sni.get().filter(|n| !n.is_empty()) {
            let cluster = Rc::new(StringObject(sni.as_str().into()));
            conn.filter_state.borrow_mut().set(TCP_PROXY_CLUSTER, LifeSpan::Connection, cluster);
        }
        Access::Granted
    }
}

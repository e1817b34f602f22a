//! What every control plane needs before it can be asked: a cluster to reach it by, and a node that says who asks.

use crate::options::Options;
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::envoy::config::core::v3::grpc_service::TargetSpecifier;
use nuncio_api::load::LoadedParts;
use prost::Message;

/// What is wrong with `dynamic_resources`: the field, and Envoy's words.
pub fn check(loaded: &LoadedParts, options: &Options) -> Option<(String, String)> {
    let b = &loaded.message;
    let d = b.dynamic_resources.as_ref()?;
    let is_static =
        |name: &str| loaded.clusters.iter().any(|c| Cluster::decode(c.clone()).is_ok_and(|c| c.name == name));
    let node = b.node.as_deref();
    let has_id = !options.service_node.is_empty() || node.is_some_and(|n| !n.id.is_empty());
    let has_cluster = !options.service_cluster.is_empty() || node.is_some_and(|n| !n.cluster.is_empty());
    let anonymous = |who: &str| {
        (!has_id || !has_cluster).then(|| {
            format!(
                "{who}: node 'id' and 'cluster' are required. Set it either in 'node' config or via \
                 --service-node and --service-cluster options."
            )
        })
    };
    if let Some(ads) = &d.ads_config {
        for s in &ads.grpc_services {
            if let Some(TargetSpecifier::EnvoyGrpc(g)) = &s.target_specifier
                && !is_static(&g.cluster_name)
            {
                let text = format!("Unknown gRPC client cluster '{}'", g.cluster_name);
                return Some(("dynamic_resources.ads_config".into(), text));
            }
        }
        if let Some(text) = anonymous("ads") {
            return Some(("dynamic_resources.ads_config".into(), text));
        }
    }
    let sources = [
        (&d.cds_config, "cds_config", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
        (&d.lds_config, "lds_config", "type.googleapis.com/envoy.config.listener.v3.Listener"),
    ];
    let wrong = |(source, field, kind): (&Option<_>, &str, &str)| {
        source.as_ref().and_then(|_| anonymous(kind)).map(|text| (format!("dynamic_resources.{field}"), text))
    };
    sources.into_iter().find_map(wrong)
}

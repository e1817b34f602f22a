//! The configuration of a cache of names.

use crate::proto::{duration_or, unpack};
use crate::upstream::dns::{Family, Servers};
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::extensions::clusters::dynamic_forward_proxy::v3 as cluster;
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use std::time::Duration;

/// The type of a cluster's configuration.
pub const TYPE: &str = "/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig";

/// What is read of the messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
        &["dns_cache_config", "allow_insecure_cluster_options"],
    ),
    Covered::new(
        "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig",
        &[
            "name",
            "dns_lookup_family",
            "dns_refresh_rate",
            "dns_min_refresh_rate",
            "host_ttl",
            "max_hosts",
            "disable_dns_refresh_on_failure",
            "dns_failure_refresh_rate",
            "dns_cache_circuit_breaker",
            "typed_dns_resolver_config",
            "preresolve_hostnames",
            "dns_query_timeout",
        ],
    ),
    Covered::new(
        "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheCircuitBreakers",
        &["max_pending_requests"],
    ),
];

/// How a cache resolves its names.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which addresses are wanted.
    pub family: Family,
    /// Who is asked; `None`: whom clusters ask that name nobody.
    pub servers: Option<Servers>,
    /// `dns_refresh_rate`: what did not resolve is asked for again after this; 60 s by default.
    pub refresh: Duration,
    /// `dns_min_refresh_rate`: the shortest time that an answer holds, 5 s by default.
    pub min_refresh: Duration,
    /// `dns_failure_refresh_rate`: base and maximum.
    pub failure_refresh: Option<(Duration, Duration)>,
    /// `disable_dns_refresh_on_failure`: what did not resolve is asked for when the next request wants it.
    pub on_demand: bool,
    /// `host_ttl`: names are forgotten that nobody used for so long; 5 min by default.
    pub host_ttl: Duration,
    /// `dns_query_timeout`; `None` is no limit but the resolver's own.
    pub timeout: Option<Duration>,
    /// `max_hosts`, 1,024 by default.
    pub max_hosts: usize,
    /// `dns_cache_circuit_breaker.max_pending_requests`, 1,024 by default.
    pub max_pending: u32,
    /// `preresolve_hostnames`
    pub preresolve: Vec<(String, u16)>,
}

impl Options {
    /// Reads a cache's configuration.
    ///
    /// # Errors
    /// A resolver that is not built, or numbers that contradict each other.
    pub fn new(c: &DnsCacheConfig) -> BuildResult<Options> {
        let max_hosts = c.max_hosts.unwrap_or(1024) as usize;
        if c.preresolve_hostnames.len() > max_hosts {
            return Err(BuildError(format!(
                "DNS Cache [{}] configured with preresolve_hostnames={} larger than max_hosts={max_hosts}",
                c.name,
                c.preresolve_hostnames.len()
            )));
        }
        let secs = Duration::from_secs;
        let refresh = duration_or(&c.dns_refresh_rate, secs(60))?;
        let failure_refresh = match &c.dns_failure_refresh_rate {
            None => None,
            Some(f) => {
                let base = duration_or(&f.base_interval, Duration::ZERO)?;
                let max = duration_or(&f.max_interval, base.saturating_mul(10))?;
                if max < base {
                    return Err(
                        "dns_failure_refresh_rate must have max_interval greater than or equal to the \
                                base_interval"
                            .into(),
                    );
                }
                Some((base, max))
            }
        };
        let resolver = c.typed_dns_resolver_config.as_ref().and_then(|t| t.typed_config.as_ref());
        let mut preresolve = vec![];
        for a in &c.preresolve_hostnames {
            preresolve.push((a.address.clone(), crate::proto::port(a)?));
        }
        Ok(Options {
            family: Family::of(c.dns_lookup_family),
            servers: resolver.map(Servers::new).transpose()?,
            refresh,
            min_refresh: duration_or(&c.dns_min_refresh_rate, secs(5))?,
            failure_refresh,
            on_demand: c.disable_dns_refresh_on_failure,
            host_ttl: duration_or(&c.host_ttl, secs(300))?,
            timeout: Some(duration_or(&c.dns_query_timeout, secs(5))?).filter(|t| !t.is_zero()),
            max_hosts,
            max_pending: c
                .dns_cache_circuit_breaker
                .as_ref()
                .and_then(|b| b.max_pending_requests)
                .unwrap_or(1024),
            preresolve,
        })
    }
}

/// The configuration of a cluster of the type.
///
/// # Errors
/// It cannot be read, or asks for clusters inside the cluster.
pub fn of_cluster(c: &pb::Cluster) -> BuildResult<Option<(cluster::ClusterConfig, DnsCacheConfig)>> {
    use cluster::cluster_config::ClusterImplementationSpecifier as S;
    let Some(pb::cluster::ClusterDiscoveryType::ClusterType(t)) = &c.cluster_discovery_type else {
        return Ok(None);
    };
    let Some(any) = t.typed_config.as_ref().filter(|a| a.type_url.ends_with(TYPE)) else { return Ok(None) };
    let config: cluster::ClusterConfig = unpack(any)?;
    match config.cluster_implementation_specifier.clone() {
        Some(S::DnsCacheConfig(cache)) => Ok(Some((config, *cache))),
        Some(S::SubClustersConfig(_)) => {
            Err(BuildError::not_implemented("dynamic_forward_proxy.ClusterConfig.sub_clusters_config"))
        }
        None => Err("dynamic_forward_proxy.ClusterConfig: dns_cache_config is required".into()),
    }
}

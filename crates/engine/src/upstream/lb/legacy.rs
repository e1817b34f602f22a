//! `Cluster.lb_policy` and the messages beside it, said as the extensions that came after them: there is one way to build
//! a policy.

use super::config::{self, Policy, PolicyCx};
use super::subset_config::SubsetLb;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::extensions::load_balancing_policies as lb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use pb::cluster::LbConfig as Config;
use pb::cluster::common_lb_config::LocalityConfigSpecifier as L;

/// What is read of the messages.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.config.cluster.v3.Cluster.RoundRobinLbConfig", &["slow_start_config"]),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
        &["choice_count", "active_request_bias", "slow_start_config"],
    ),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.RingHashLbConfig",
        &["minimum_ring_size", "hash_function", "maximum_ring_size"],
    ),
    Covered::new("envoy.config.cluster.v3.Cluster.MaglevLbConfig", &["table_size"]),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.SlowStartConfig",
        &["slow_start_window", "aggression", "min_weight_percent"],
    ),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig",
        &["routing_enabled", "min_cluster_size", "fail_traffic_on_panic"],
    ),
    Covered::new("envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", &[]),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig",
        &["use_hostname_for_hashing", "hash_balance_factor"],
    ),
];

/// The policy of a cluster that has no `load_balancing_policy`.
///
/// # Errors
/// As of the extensions.
pub fn policy(c: &pb::Cluster, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    match c.lb_subset_config.as_ref().filter(|s| !s.subset_selectors.is_empty()) {
        None => without_subsets(c, cx),
        Some(s) => {
            if s.locality_weight_aware && !weighted(c) {
                return Err(format!(
                    "Locality weight aware subset LB requires that a locality_weighted_lb_config be set in {}",
                    c.name
                )
                .into());
            }
            Ok(Policy::Subset(Box::new(SubsetLb::of_cluster(s, without_subsets(c, cx)?, cx)?)))
        }
    }
}

fn weighted(c: &pb::Cluster) -> bool {
    let common = c.common_lb_config.as_ref();
    matches!(common.and_then(|c| c.locality_config_specifier.as_ref()), Some(L::LocalityWeightedLbConfig(_)))
}

fn without_subsets(c: &pb::Cluster, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    use pb::cluster::LbPolicy as P;
    let locality_lb_config = locality(c);
    match c.lb_policy() {
        P::RoundRobin => {
            let slow = match &c.lb_config {
                Some(Config::RoundRobinLbConfig(r)) => slow_start(r.slow_start_config.as_ref()),
                _ => None,
            };
            config::round_robin(
                &lb::round_robin::v3::RoundRobin { slow_start_config: slow, locality_lb_config },
                cx,
            )
        }
        P::LeastRequest => {
            let mut new = lb::least_request::v3::LeastRequest { locality_lb_config, ..Default::default() };
            if let Some(Config::LeastRequestLbConfig(l)) = &c.lb_config {
                new.choice_count = l.choice_count;
                new.active_request_bias.clone_from(&l.active_request_bias);
                new.slow_start_config = slow_start(l.slow_start_config.as_ref());
            }
            config::least_request(&new, cx)
        }
        P::Random => config::random(&lb::random::v3::Random { locality_lb_config }, cx),
        P::RingHash => {
            use lb::ring_hash::v3::ring_hash::HashFunction as New;
            use pb::cluster::ring_hash_lb_config::HashFunction as Old;
            let mut new = lb::ring_hash::v3::RingHash {
                consistent_hashing_lb_config: Some(consistent(c)),
                locality_weighted_lb_config: weighted(c).then(Default::default),
                ..Default::default()
            };
            if let Some(Config::RingHashLbConfig(r)) = &c.lb_config {
                new.minimum_ring_size = r.minimum_ring_size;
                new.maximum_ring_size = r.maximum_ring_size;
                new.set_hash_function(match r.hash_function() {
                    Old::XxHash => New::XxHash,
                    Old::MurmurHash2 => New::MurmurHash2,
                });
            }
            config::ring_hash(&new, cx)
        }
        P::Maglev => {
            let mut new = lb::maglev::v3::Maglev {
                consistent_hashing_lb_config: Some(consistent(c)),
                locality_weighted_lb_config: weighted(c).then(Default::default),
                ..Default::default()
            };
            if let Some(Config::MaglevLbConfig(m)) = &c.lb_config {
                new.table_size = m.table_size;
            }
            config::maglev(&new, cx)
        }
        P::ClusterProvided | P::LoadBalancingPolicyConfig => Ok(Policy::Provided),
    }
}

fn slow_start(s: Option<&pb::cluster::SlowStartConfig>) -> Option<lb::common::v3::SlowStartConfig> {
    s.map(|s| lb::common::v3::SlowStartConfig {
        slow_start_window: s.slow_start_window,
        aggression: s.aggression.clone(),
        min_weight_percent: s.min_weight_percent,
    })
}

fn locality(c: &pb::Cluster) -> Option<lb::common::v3::LocalityLbConfig> {
    use lb::common::v3::locality_lb_config as new;
    let old = c.common_lb_config.as_ref()?.locality_config_specifier.as_ref()?;
    let specifier = match old {
        L::LocalityWeightedLbConfig(_) => {
            new::LocalityConfigSpecifier::LocalityWeightedLbConfig(Default::default())
        }
        L::ZoneAwareLbConfig(z) => new::LocalityConfigSpecifier::ZoneAwareLbConfig(new::ZoneAwareLbConfig {
            routing_enabled: z.routing_enabled,
            min_cluster_size: z.min_cluster_size,
            fail_traffic_on_panic: z.fail_traffic_on_panic,
            ..Default::default()
        }),
    };
    Some(lb::common::v3::LocalityLbConfig { locality_config_specifier: Some(specifier) })
}

fn consistent(c: &pb::Cluster) -> lb::common::v3::ConsistentHashingLbConfig {
    let old = c.common_lb_config.as_ref().and_then(|c| c.consistent_hashing_lb_config.as_ref());
    lb::common::v3::ConsistentHashingLbConfig {
        use_hostname_for_hashing: old.is_some_and(|o| o.use_hostname_for_hashing),
        hash_balance_factor: old.and_then(|o| o.hash_balance_factor),
        ..Default::default()
    }
}

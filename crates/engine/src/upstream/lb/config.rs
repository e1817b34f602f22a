//! How hosts are chosen: `Cluster.load_balancing_policy`, or what stood in its place before ([`super::legacy`]), compiled on
//! main.

use super::aggregate::Aggregate;
use super::client_side::{self, ClientSide};
use super::hash_policy::HashPolicy;
use super::hashing::{HashConfig, HashKind, HashLb};
use super::original_dst::OriginalDst;
use super::over::OverrideHost;
use super::subset_config::SubsetLb;
use crate::proto::{self, duration};
use crate::upstream::forward::config::of_cluster as of_cluster_config;
use crate::upstream::forward::policy::Forward;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::extensions::load_balancing_policies as lb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::runtime::{Runtime, RuntimeDouble, RuntimeNumber};
use nuncio_core::stats::Scope;
use std::sync::Arc;

/// What is read of the policies.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.config.cluster.v3.LoadBalancingPolicy", &["policies"]),
    Covered::new("envoy.config.cluster.v3.LoadBalancingPolicy.Policy", &["typed_extension_config"]),
    Covered::new(
        "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
        &["slow_start_config", "locality_lb_config"],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
        &[
            "choice_count",
            "active_request_bias",
            "slow_start_config",
            "locality_lb_config",
            "selection_method",
        ],
    )
    .ignoring(&[("enable_full_scan", "Envoy 1.40 does not read it any more: `selection_method` says so")]),
    Covered::new("envoy.extensions.load_balancing_policies.random.v3.Random", &["locality_lb_config"]),
    Covered::new(
        "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
        &[
            "hash_function",
            "minimum_ring_size",
            "maximum_ring_size",
            "use_hostname_for_hashing",
            "hash_balance_factor",
            "consistent_hashing_lb_config",
            "locality_weighted_lb_config",
        ],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
        &["table_size", "consistent_hashing_lb_config", "locality_weighted_lb_config"],
    ),
    Covered::new("envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided", &[]),
    Covered::new(
        "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality",
        &["endpoint_picking_policy"],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig",
        &["slow_start_window", "aggression", "min_weight_percent"],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig",
        &["zone_aware_lb_config", "locality_weighted_lb_config"],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
        &[
            "routing_enabled",
            "min_cluster_size",
            "fail_traffic_on_panic",
            "force_locality_direct_routing",
            "force_local_zone",
            "locality_basis",
        ],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig.ForceLocalZone",
        &["min_size"],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig",
        &[],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig",
        &["use_hostname_for_hashing", "hash_balance_factor", "hash_policy"],
    ),
    Covered::new("envoy.config.core.v3.RuntimeDouble", &["default_value", "runtime_key"]),
];

/// The extensions of the kind, and the type of their configuration, for the registry.
pub const EXTENSIONS: &[(&str, &str, &str)] = &[
    (
        "envoy.load_balancing_policies.round_robin",
        "round_robin.v3.RoundRobin",
        "Hosts in turn, each as often as it weighs.",
    ),
    (
        "envoy.load_balancing_policies.least_request",
        "least_request.v3.LeastRequest",
        "The least busy of some hosts, or of all.",
    ),
    ("envoy.load_balancing_policies.random", "random.v3.Random", "Any host."),
    (
        "envoy.load_balancing_policies.ring_hash",
        "ring_hash.v3.RingHash",
        "By a hash of the request, on a ring.",
    ),
    ("envoy.load_balancing_policies.maglev", "maglev.v3.Maglev", "By a hash of the request, in a table."),
    (
        "envoy.load_balancing_policies.subset",
        "subset.v3.Subset",
        "Among the hosts whose metadata a request asks for.",
    ),
    (
        "envoy.load_balancing_policies.cluster_provided",
        "cluster_provided.v3.ClusterProvided",
        "As the type of the cluster says.",
    ),
    (
        "envoy.load_balancing_policies.wrr_locality",
        "wrr_locality.v3.WrrLocality",
        "Localities as they weigh, then as its own policy says.",
    ),
    (
        "envoy.load_balancing_policies.client_side_weighted_round_robin",
        "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        "Hosts in turn, each as often as follows from the load that it reports (ORCA).",
    ),
    (
        "envoy.load_balancing_policies.override_host",
        "override_host.v3.OverrideHost",
        "The host that the request names, else as its own policy says.",
    ),
];

/// How hosts of a cluster are chosen.
#[derive(Debug)]
pub struct Lb {
    /// The policy.
    pub policy: Policy,
    /// This proxy's region, zone and sub-zone.
    pub node: Arc<[String; 3]>,
}

/// A policy.
#[derive(Debug)]
pub enum Policy {
    /// Hosts take turns in some way.
    Spread(Spread),
    /// Requests that hash alike go to the same host.
    Hash(HashLb),
    /// Among the hosts that the request's metadata names.
    Subset(Box<SubsetLb>),
    /// The host that the request names, if there is one.
    Override(Box<OverrideHost>),
    /// To where it wanted to go before it was sent here.
    OriginalDst(Box<OriginalDst>),
    /// Wherever the name in the request leads.
    Forward(Box<Forward>),
    /// As other clusters say, one after the other.
    Aggregate(Aggregate),
    /// The cluster should know, but there is none that does.
    Provided,
}

/// Turns, by whatever measure.
#[derive(Debug)]
pub struct Spread {
    /// The measure.
    pub how: How,
    /// What localities mean.
    pub locality: LocalityLb,
    /// `slow_start_config`
    pub slow_start: Option<SlowStart>,
    /// Weights follow from what hosts report.
    pub client_side: Option<Arc<ClientSide>>,
}

/// How turns are taken.
#[derive(Debug)]
pub enum How {
    /// One after the other.
    RoundRobin,
    /// Who has least to do.
    LeastRequest(LeastRequest),
    /// Anyone.
    Random,
}

/// `LeastRequest`
#[derive(Debug)]
pub struct LeastRequest {
    /// `choice_count`: so many are looked at.
    pub choices: u32,
    /// `active_request_bias`: how much it counts that a host is busy, where weights differ.
    pub bias: RuntimeDouble,
    /// `selection_method: FULL_SCAN`: all are looked at.
    pub full_scan: bool,
}

/// `LocalityLbConfig`
#[derive(Debug)]
pub struct LocalityLb {
    /// `locality_weighted_lb_config`: localities take turns by weight.
    pub weighted: bool,
    /// `zone_aware_lb_config`, or its defaults.
    pub zone_aware: ZoneAware,
}

/// `ZoneAwareLbConfig`
#[derive(Debug)]
pub struct ZoneAware {
    /// `routing_enabled`, in percent of the requests.
    pub routing_enabled: RuntimeNumber,
    /// `min_cluster_size`: with fewer healthy hosts localities do not count.
    pub min_cluster_size: RuntimeNumber,
    /// `fail_traffic_on_panic`: a priority that panics gets nothing.
    pub fail_traffic_on_panic: bool,
    /// `force_local_zone.min_size`; `None`: the locality is not forced.
    force_min_size: Option<u64>,
    /// The runtime's word on that.
    runtime_min_size: RuntimeNumber,
    /// `locality_basis`
    pub basis: Basis,
}

impl ZoneAware {
    /// With so many hosts in its locality the proxy uses only those.
    pub fn force_min_size(&self) -> Option<u64> {
        match self.runtime_min_size.get() {
            0 => self.force_min_size,
            n => Some(n),
        }
    }
}

/// How big a locality is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Basis {
    /// Its healthy hosts.
    Hosts,
    /// What they weigh.
    Weight,
}

/// `SlowStartConfig`: a host that has come up gets little at first.
#[derive(Debug)]
pub struct SlowStart {
    /// `slow_start_window`, in milliseconds.
    pub window_ms: u64,
    aggression: RuntimeDouble,
    min_weight: f64,
}

impl SlowStart {
    fn new(c: Option<&lb::common::v3::SlowStartConfig>, runtime: &Runtime) -> BuildResult<Option<SlowStart>> {
        let Some(c) = c else { return Ok(None) };
        let window_ms = duration(&c.slow_start_window)?.unwrap_or_default().as_millis() as u64;
        let aggression = double(c.aggression.as_ref(), 1.0, runtime);
        let min_weight = c.min_weight_percent.as_ref().map_or(10.0, |p| p.value) / 100.0;
        Ok((window_ms > 0).then_some(SlowStart { window_ms, aggression, min_weight }))
    }
    /// Which part of its weight counts of a host that is up for so many milliseconds.
    pub fn factor(&self, up_ms: u64) -> f64 {
        if up_ms >= self.window_ms {
            return 1.0;
        }
        let part = up_ms.max(1) as f64 / self.window_ms as f64;
        let part = match self.aggression.get() {
            a if a == 1.0 || a <= 0.0 || a.is_nan() => part,
            a => part.powf(1.0 / a),
        };
        part.max(self.min_weight)
    }
}

fn double(d: Option<&core::RuntimeDouble>, default: f64, runtime: &Runtime) -> RuntimeDouble {
    d.map_or(RuntimeDouble::fixed(default), |d| runtime.double(&d.runtime_key, d.default_value))
}

impl Lb {
    /// Weights follow from what hosts report.
    pub fn client_side(&self) -> Option<&Arc<ClientSide>> {
        match &self.policy {
            Policy::Spread(s) => s.client_side.as_ref(),
            Policy::Subset(s) => s.inner.client_side(),
            Policy::Override(o) => o.inner.client_side(),
            Policy::Hash(_)
            | Policy::OriginalDst(_)
            | Policy::Forward(_)
            | Policy::Aggregate(_)
            | Policy::Provided => None,
        }
    }
    /// Localities take turns by weight.
    pub fn weighs_localities(&self) -> bool {
        match &self.policy {
            Policy::Spread(s) => s.locality.weighted,
            Policy::Hash(h) => h.locality_weighted,
            Policy::Subset(s) => s.inner.weighs_localities() || s.scale_locality_weight,
            Policy::Override(o) => o.inner.weighs_localities(),
            Policy::OriginalDst(_) | Policy::Forward(_) | Policy::Aggregate(_) | Policy::Provided => false,
        }
    }
}

/// What policies are compiled with.
#[derive(Clone, Copy)]
pub struct PolicyCx<'a> {
    /// The server.
    pub build: &'a BuildCx<'a>,
    /// `cluster.<name>.`
    pub scope: &'a Scope,
    /// The cluster's name.
    pub cluster: &'a str,
}

/// Compiles a cluster's policy.
///
/// # Errors
/// There is none that is known, or fields contradict each other.
pub fn of_cluster(c: &pb::Cluster, cx: PolicyCx<'_>) -> BuildResult<Lb> {
    use pb::cluster::DiscoveryType as T;
    let original_dst = Some(pb::cluster::ClusterDiscoveryType::Type(T::OriginalDst.into()));
    let original_dst = c.cluster_discovery_type == original_dst;
    let policy = match c.load_balancing_policy.as_ref() {
        _ if original_dst => Policy::OriginalDst(Box::new(OriginalDst::new(c)?)),
        None if c.lb_policy() == pb::cluster::LbPolicy::LoadBalancingPolicyConfig => {
            return Err("cluster: field load_balancing_policy need to be set".into());
        }
        None => super::legacy::policy(c, cx)?,
        Some(list) => {
            use pb::cluster::common_lb_config::LocalityConfigSpecifier as L;
            if c.lb_subset_config.is_some() {
                return Err("cluster: load_balancing_policy cannot be combined with lb_subset_config".into());
            }
            let common = c.common_lb_config.as_ref();
            if common.is_some_and(|c| {
                matches!(
                    c.locality_config_specifier,
                    Some(L::ZoneAwareLbConfig(_) | L::LocalityWeightedLbConfig(_))
                ) || c.consistent_hashing_lb_config.is_some()
            }) {
                return Err("cluster: load_balancing_policy cannot be combined with partial fields \
                            (zone_aware_lb_config, locality_weighted_lb_config, consistent_hashing_lb_config) of \
                            common_lb_config"
                    .into());
            }
            let missing = |names: &str| {
                BuildError(format!(
                    "cluster: didn't find a registered load balancer factory implementation for cluster: '{}' with \
                     names from [{names}]",
                    cx.cluster
                ))
            };
            first_known(list, cx, missing)?
        }
    };
    let own = match aggregate(c)? {
        Some(a) => Some(Policy::Aggregate(a)),
        None => forward(c, cx)?.map(Policy::Forward),
    };
    if let Some(own) = own {
        if !matches!(policy, Policy::Provided) {
            return Err(BuildError(format!(
                "cluster manager: cluster provided LB not specified but cluster '{}' provided one. Check cluster \
                 documentation.",
                cx.cluster
            )));
        }
        return Ok(lb_of(own, cx));
    }
    if matches!(policy, Policy::Provided) {
        return Err(BuildError(format!(
            "cluster manager: cluster provided LB specified but cluster '{}' did not provide one. Check cluster \
             documentation.",
            cx.cluster
        )));
    }
    Ok(lb_of(policy, cx))
}

/// Of a cluster of the type `envoy.clusters.aggregate`.
fn aggregate(c: &pb::Cluster) -> BuildResult<Option<Aggregate>> {
    let Some(pb::cluster::ClusterDiscoveryType::ClusterType(t)) = &c.cluster_discovery_type else {
        return Ok(None);
    };
    let any = t.typed_config.as_ref().filter(|a| a.type_url.ends_with(AGGREGATE));
    any.map(|any| Ok(Aggregate::new(&proto::unpack(any)?))).transpose()
}

/// Of a cluster of the type `envoy.clusters.dynamic_forward_proxy`.
fn forward(c: &pb::Cluster, cx: PolicyCx<'_>) -> BuildResult<Option<Box<Forward>>> {
    let Some((config, cache)) = of_cluster_config(c)? else { return Ok(None) };
    let cache = cx.build.server.dns_cache(&cache, cx.build)?;
    let safe = |o: &core::UpstreamHttpProtocolOptions| o.auto_sni && o.auto_san_validation;
    let options = crate::upstream::config::auto(c)?;
    if !config.allow_insecure_cluster_options && !options.as_ref().is_some_and(safe) {
        return Err("dynamic_forward_proxy cluster must have auto_sni and auto_san_validation true unless \
                    allow_insecure_cluster_options is set."
            .into());
    }
    let plain = crate::upstream::transport::is_plain(c.transport_socket.as_ref());
    Ok(Some(Box::new(Forward { cache, default_port: if plain { 80 } else { 443 } })))
}

/// The type of an aggregate's configuration.
pub const AGGREGATE: &str = "/envoy.extensions.clusters.aggregate.v3.ClusterConfig";

fn lb_of(policy: Policy, cx: PolicyCx<'_>) -> Lb {
    Lb { policy, node: cx.build.node.locality.clone() }
}

/// The first policy of a list that is known, as the policy of another one.
///
/// # Errors
/// None is known, which `missing` words, or its configuration is refused.
pub fn inner(
    list: &pb::LoadBalancingPolicy,
    cx: PolicyCx<'_>,
    missing: impl FnOnce(&str) -> BuildError,
) -> BuildResult<Lb> {
    Ok(lb_of(first_known(list, cx, missing)?, cx))
}

fn first_known(
    list: &pb::LoadBalancingPolicy,
    cx: PolicyCx<'_>,
    missing: impl FnOnce(&str) -> BuildError,
) -> BuildResult<Policy> {
    let mut names = vec![];
    for p in &list.policies {
        let Some(e) = &p.typed_extension_config else { continue };
        let Some(any) = &e.typed_config else { continue };
        if let Some(policy) = of_extension(any, cx)? {
            return Ok(policy);
        }
        names.push(e.name.as_str());
    }
    Err(missing(&names.join(", ")))
}

/// The policy of a typed configuration; `None` if its type is not known.
fn of_extension(any: &prost_types::Any, cx: PolicyCx<'_>) -> BuildResult<Option<Policy>> {
    let of = any.type_url.rsplit('/').next().unwrap_or("");
    let Some(name) = of.strip_prefix("envoy.extensions.load_balancing_policies.") else { return Ok(None) };
    Ok(Some(match name {
        "round_robin.v3.RoundRobin" => round_robin(&proto::unpack(any)?, cx)?,
        "least_request.v3.LeastRequest" => least_request(&proto::unpack(any)?, cx)?,
        "random.v3.Random" => random(&proto::unpack(any)?, cx)?,
        "ring_hash.v3.RingHash" => ring_hash(&proto::unpack(any)?, cx)?,
        "maglev.v3.Maglev" => maglev(&proto::unpack(any)?, cx)?,
        "subset.v3.Subset" => Policy::Subset(Box::new(SubsetLb::new(&proto::unpack(any)?, cx)?)),
        "override_host.v3.OverrideHost" => {
            Policy::Override(Box::new(OverrideHost::new(&proto::unpack(any)?, cx)?))
        }
        "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin" => {
            client_side::policy(&proto::unpack(any)?, cx)?
        }
        "wrr_locality.v3.WrrLocality" => wrr_locality(&proto::unpack(any)?, cx)?,
        "cluster_provided.v3.ClusterProvided" => Policy::Provided,
        _ => return Ok(None),
    }))
}

/// `RoundRobin`
///
/// # Errors
/// A duration that is none.
pub fn round_robin(c: &lb::round_robin::v3::RoundRobin, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    spread(How::RoundRobin, c.locality_lb_config.as_ref(), c.slow_start_config.as_ref(), cx)
}

/// `LeastRequest`
///
/// # Errors
/// As of [`round_robin`].
pub fn least_request(c: &lb::least_request::v3::LeastRequest, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    use lb::least_request::v3::least_request::SelectionMethod as M;
    let runtime = cx.build.server.runtime();
    let how = LeastRequest {
        choices: c.choice_count.unwrap_or(2),
        bias: double(c.active_request_bias.as_ref(), 1.0, &runtime),
        full_scan: c.selection_method() == M::FullScan,
    };
    spread(How::LeastRequest(how), c.locality_lb_config.as_ref(), c.slow_start_config.as_ref(), cx)
}

/// `Random`
///
/// # Errors
/// As of [`round_robin`].
pub fn random(c: &lb::random::v3::Random, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    spread(How::Random, c.locality_lb_config.as_ref(), None, cx)
}

/// A policy of turns.
///
/// # Errors
/// As of [`round_robin`].
pub fn spread(
    how: How,
    locality: Option<&lb::common::v3::LocalityLbConfig>,
    slow_start: Option<&lb::common::v3::SlowStartConfig>,
    cx: PolicyCx<'_>,
) -> BuildResult<Policy> {
    use lb::common::v3::locality_lb_config::LocalityConfigSpecifier as L;
    use lb::common::v3::locality_lb_config::zone_aware_lb_config::LocalityBasis;
    let specifier = locality.and_then(|l| l.locality_config_specifier.as_ref());
    let runtime = cx.build.server.runtime();
    let default = Default::default();
    let z = match specifier {
        Some(L::ZoneAwareLbConfig(z)) => z,
        _ => &default,
    };
    #[allow(deprecated, reason = "it still means the same")]
    let direct = z.force_locality_direct_routing;
    let percent = z.routing_enabled.as_ref().map_or(100, |p| p.value.round() as u64);
    let zone_aware = ZoneAware {
        routing_enabled: runtime.number("upstream.zone_routing.enabled", percent),
        min_cluster_size: runtime
            .number("upstream.zone_routing.min_cluster_size", z.min_cluster_size.unwrap_or(6)),
        fail_traffic_on_panic: z.fail_traffic_on_panic,
        force_min_size: match &z.force_local_zone {
            Some(f) => Some(f.min_size.unwrap_or(1).into()),
            None => direct.then_some(1),
        },
        runtime_min_size: runtime.number("upstream.zone_routing.force_local_zone.min_size", 0),
        basis: match z.locality_basis() {
            LocalityBasis::HealthyHostsNum => Basis::Hosts,
            LocalityBasis::HealthyHostsWeight => Basis::Weight,
        },
    };
    let weighted = matches!(specifier, Some(L::LocalityWeightedLbConfig(_)));
    let slow_start = SlowStart::new(slow_start, &runtime)?;
    let locality = LocalityLb { weighted, zone_aware };
    Ok(Policy::Spread(Spread { how, locality, slow_start, client_side: None }))
}

/// `RingHash`
///
/// # Errors
/// Sizes that contradict each other, or a hash policy that is refused.
pub fn ring_hash(c: &lb::ring_hash::v3::RingHash, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    use lb::ring_hash::v3::ring_hash::HashFunction;
    let (min, max) = (c.minimum_ring_size.unwrap_or(1024), c.maximum_ring_size.unwrap_or(1024 * 1024 * 8));
    if min > max {
        return Err(BuildError(format!("ring hash: minimum_ring_size ({min}) > maximum_ring_size ({max})")));
    }
    #[allow(deprecated, reason = "they count unless the newer message is there")]
    let old = (c.use_hostname_for_hashing, c.hash_balance_factor);
    let murmur = c.hash_function() == HashFunction::MurmurHash2;
    let kind = HashKind::Ring { min, max, murmur };
    hash(kind, c.consistent_hashing_lb_config.as_ref(), old, c.locality_weighted_lb_config.is_some(), cx)
}

/// `Maglev`
///
/// # Errors
/// A size that is no prime, or a hash policy that is refused.
pub fn maglev(c: &lb::maglev::v3::Maglev, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    let size = c.table_size.unwrap_or(super::maglev::DEFAULT_SIZE);
    if !super::maglev::is_prime(size) {
        return Err("The table size of maglev must be prime number".into());
    }
    let kind = HashKind::Maglev { size };
    let weighted = c.locality_weighted_lb_config.is_some();
    hash(kind, c.consistent_hashing_lb_config.as_ref(), (false, None), weighted, cx)
}

fn hash(
    kind: HashKind,
    new: Option<&lb::common::v3::ConsistentHashingLbConfig>,
    old: (bool, Option<u32>),
    locality_weighted: bool,
    cx: PolicyCx<'_>,
) -> BuildResult<Policy> {
    let (use_hostname, balance) = match new {
        Some(n) => (n.use_hostname_for_hashing, n.hash_balance_factor),
        None => old,
    };
    let policy = HashPolicy::new(new.map_or(&[], |n| &n.hash_policy))?;
    let config = HashConfig { kind, use_hostname, balance: balance.unwrap_or(0) };
    Ok(Policy::Hash(HashLb::new(config, locality_weighted, policy, cx.scope)))
}

fn wrr_locality(c: &lb::wrr_locality::v3::WrrLocality, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    let list = c.endpoint_picking_policy.clone().unwrap_or_default();
    let missing = |names: &str| {
        BuildError(format!(
            "No supported endpoint picking policy in WrrLocality for cluster '{}' with names from [{names}]",
            cx.cluster
        ))
    };
    match first_known(&list, cx, missing)? {
        Policy::Spread(s) if s.client_side.is_some() => {
            let locality = LocalityLb { weighted: true, ..s.locality };
            Ok(Policy::Spread(Spread { locality, ..s }))
        }
        _ => Err("Currently WrrLocalityLoadBalancer only supports ClientSideWeightedRoundRobinLoadBalancer as its \
                  endpoint picking policy."
            .into()),
    }
}

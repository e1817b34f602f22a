//! Builds a TCP proxy from its proto, on main.

use super::tunnel::TunnelPlan;
use crate::proto;
use crate::route::action::criteria_of;
use crate::stats::TcpStats;
use crate::upstream::lb::subset_config::Criterion;
use nuncio_api::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use nuncio_core::access_log::{self, Logger};
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::stats::Scope;
use nuncio_core::upstreams::FindCluster;
use nuncio_core::{rng, stats};
use std::sync::Arc;
use std::time::Duration;

const PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// What is read of `TcpProxy` and the messages in it.
pub const COVERED: &[Covered] = &[
    Covered::new(
        PROXY,
        &[
            "stat_prefix",
            "cluster",
            "weighted_clusters",
            "idle_timeout",
            "access_log",
            "max_connect_attempts",
            "max_downstream_connection_duration",
            "max_downstream_connection_duration_jitter_percentage",
            "access_log_flush_interval",
            "flush_access_log_on_connected",
            "access_log_options",
            "hash_policy",
            "metadata_match",
            "on_demand",
            "tunneling_config",
        ],
    )
    .ignoring(&[
        ("downstream_idle_timeout", "Envoy has no use for it either"),
        ("upstream_idle_timeout", "Envoy has no use for it either"),
    ]),
    Covered::new(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TcpAccessLogOptions",
        &["access_log_flush_interval", "flush_access_log_on_connected", "flush_access_log_on_start"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig",
        &[
            "hostname",
            "use_post",
            "headers_to_add",
            "propagate_response_headers",
            "post_path",
            "propagate_response_trailers",
            "request_id_extension",
            "request_id_header",
            "request_id_metadata_key",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.OnDemand",
        &["odcds_config", "timeout"],
    ),
    Covered::new("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster", &["clusters"]),
    Covered::new(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
        &["name", "weight", "metadata_match"],
    ),
    Covered::new("envoy.type.v3.HashPolicy", &["source_ip", "filter_state"]),
    Covered::new("envoy.type.v3.HashPolicy.SourceIp", &[]),
    Covered::new("envoy.type.v3.HashPolicy.FilterState", &["key"]),
];

/// A TCP proxy as main builds it.
pub struct TcpPlan {
    /// `tcp.<stat_prefix>.`
    pub stats: TcpStats,
    /// The clusters with the sums of their weights up to and with each.
    clusters: Vec<Target>,
    /// They are one: `cluster`.
    single: bool,
    /// `tunneling_config`
    pub tunnel: Option<TunnelPlan>,
    /// `hash_policy`
    pub hash: Option<Hash>,
    /// `idle_timeout`; none: no limit.
    pub idle: Option<Duration>,
    /// `max_connect_attempts`
    pub max_connect_attempts: u32,
    /// `max_downstream_connection_duration`
    max_duration: Option<Duration>,
    /// `max_downstream_connection_duration_jitter_percentage`, as a part of 1.
    jitter: f64,
    /// `on_demand`
    pub(super) on_demand: Option<OnDemand>,
    /// `access_log`
    pub access_logs: Vec<Logger>,
    /// When it is written besides the end.
    pub log: LogMoments,
}

stats! {
    /// `tcp.<stat_prefix>.`, with `on_demand`.
    pub(super) struct OnDemandStats {
        on_demand_cluster_attempt: Counter,
        on_demand_cluster_missing: Counter,
        on_demand_cluster_success: Counter,
        on_demand_cluster_timeout: Counter,
    }
}

/// Where a cluster comes from that is not there.
pub(super) struct OnDemand {
    pub finder: Arc<dyn FindCluster>,
    pub limit: Duration,
    pub stats: OnDemandStats,
}

impl OnDemand {
    fn new(c: &pb::TcpProxy, scope: &Scope, cx: &BuildCx<'_>) -> BuildResult<Option<OnDemand>> {
        let Some(o) = &c.on_demand else { return Ok(None) };
        let Some(source) = o.odcds_config.as_deref() else { return Ok(None) };
        let limit = proto::duration_or(&o.timeout, Duration::from_secs(60))?;
        let finder = cx.server.cluster_finder(source, cx)?;
        Ok(Some(OnDemand { finder, limit, stats: OnDemandStats::new(scope) }))
    }
}

/// A cluster that connections go to.
pub struct Target {
    /// Its name.
    pub name: Arc<str>,
    /// The weights up to and with it.
    sum: u64,
    /// Metadata the host must have.
    pub metadata_match: Option<Box<[Criterion]>>,
}

/// What connections are kept together by.
pub enum Hash {
    /// The client's address.
    SourceIp,
    /// An object of the filter state.
    FilterState(String),
}

/// `TcpAccessLogOptions`
#[derive(Clone, Copy, Debug, Default)]
pub struct LogMoments {
    /// `flush_access_log_on_start`
    pub start: bool,
    /// `flush_access_log_on_connected`
    pub connected: bool,
    /// `access_log_flush_interval`
    pub interval: Option<Duration>,
}

impl TcpPlan {
    /// Builds a TCP proxy.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: &pb::TcpProxy, cx: &BuildCx<'_>) -> BuildResult<TcpPlan> {
        let log = log_moments(c)?;
        let idle = match &c.idle_timeout {
            None => Some(Duration::from_secs(3600)),
            some => proto::duration(some)?.filter(|d| !d.is_zero()),
        };
        let jitter = c.max_downstream_connection_duration_jitter_percentage.as_ref().map_or(0.0, |p| p.value);
        let scope = cx.scope.store().root().scope("tcp").scope(&c.stat_prefix);
        Ok(TcpPlan {
            stats: TcpStats::new(&scope),
            on_demand: OnDemand::new(c, &scope, cx)?,
            clusters: clusters(c)?,
            single: matches!(c.cluster_specifier, Some(pb::tcp_proxy::ClusterSpecifier::Cluster(_))),
            tunnel: c.tunneling_config.as_deref().map(TunnelPlan::new).transpose()?,
            hash: hash(c),
            idle,
            max_connect_attempts: c.max_connect_attempts.unwrap_or(1),
            max_duration: proto::duration(&c.max_downstream_connection_duration)?,
            jitter: jitter / 100.0,
            access_logs: access_log::build(&c.access_log, cx)?,
            log,
        })
    }
    /// Chooses the cluster of a connection.
    pub fn choose(&self, random: u64) -> &Target {
        let total = self.clusters.last().map_or(1, |c| c.sum).max(1);
        let at = self.clusters.partition_point(|c| c.sum <= random % total);
        &self.clusters[at]
    }
    /// The cluster of this name in place of `cluster`; `weighted_clusters` are not replaced.
    pub fn instead(&self, name: &str) -> Option<Target> {
        match (&self.single, &self.clusters[..]) {
            (true, [c]) => {
                Some(Target { name: name.into(), sum: 1, metadata_match: c.metadata_match.clone() })
            }
            _ => None,
        }
    }
    /// How long a connection may live, jitter included.
    pub fn max_duration(&self) -> Option<Duration> {
        let d = self.max_duration?;
        Some(if self.jitter > 0.0 { d.mul_f64(1.0 + self.jitter * rng::f64()) } else { d })
    }
}

/// At least one; the weights are above 0 (validation).
fn clusters(c: &pb::TcpProxy) -> BuildResult<Vec<Target>> {
    use pb::tcp_proxy::ClusterSpecifier as C;
    let base = c.metadata_match.as_ref();
    match &c.cluster_specifier {
        Some(C::Cluster(name)) => {
            Ok(vec![Target { name: name.as_str().into(), sum: 1, metadata_match: criteria_of(None, base) }])
        }
        Some(C::WeightedClusters(w)) => {
            let mut sum = 0;
            let sums = w.clusters.iter().map(|c| {
                sum += u64::from(c.weight);
                let metadata_match = criteria_of(c.metadata_match.as_ref(), base);
                Target { name: c.name.as_str().into(), sum, metadata_match }
            });
            Ok(sums.collect())
        }
        None => Err(BuildError::from("TcpProxy: cluster_specifier must be set")),
    }
}

fn hash(c: &pb::TcpProxy) -> Option<Hash> {
    use nuncio_api::envoy::r#type::v3::hash_policy::PolicySpecifier as P;
    // There is one at most (validation).
    match c.hash_policy.first()?.policy_specifier.as_ref()? {
        P::SourceIp(_) => Some(Hash::SourceIp),
        P::FilterState(f) => Some(Hash::FilterState(f.key.clone())),
    }
}

fn log_moments(c: &pb::TcpProxy) -> BuildResult<LogMoments> {
    #[allow(deprecated, reason = "the fields before access_log_options still mean the same")]
    let (interval, connected) = (&c.access_log_flush_interval, c.flush_access_log_on_connected);
    Ok(match &c.access_log_options {
        None => LogMoments { start: false, connected, interval: proto::duration(interval)? },
        Some(_) if interval.is_some() || connected => {
            let which = match interval.is_some() {
                true => "access_log_flush_interval",
                false => "flush_access_log_on_connected",
            };
            return Err(format!("Only one of {which} or access_log_options can be specified.").into());
        }
        Some(o) => LogMoments {
            start: o.flush_access_log_on_start,
            connected: o.flush_access_log_on_connected,
            interval: proto::duration(&o.access_log_flush_interval)?,
        },
    })
}

//! A cluster as main builds it: immutable, shared by all workers. Its host set changes; the plan does not.

use super::breakers::Breakers;
use super::connect::Eyeballs;
use super::health::{HealthStatuses, PanicPolicy};
use super::lb::config::Lb;
use super::transport::Transports;
use crate::keepalive::KeepalivePlan;
use crate::router::filters::UpstreamFilters;
use crate::stats::{ClusterStats, RemainingStats};
use nuncio_core::metadata::LazyMetadata;
use nuncio_core::rng;
use nuncio_core::runtime::{RuntimeNumber, Snapshot};
use nuncio_core::stats::Scope;
use nuncio_wire::{h1, h2};
use socket2::TcpKeepalive;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Which HTTP version is spoken with the hosts (`HttpProtocolOptions.upstream_protocol_options`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// What the client spoke.
    Downstream,
    /// What the host chooses in the TLS handshake (`auto_config`).
    Auto {
        /// `http2_protocol_options` are there, so that the cluster counts as one that speaks HTTP/2.
        http2: bool,
    },
}

impl UpstreamProtocol {
    /// The hosts speak HTTP/2, or can.
    pub fn has_http2(self) -> bool {
        matches!(self, UpstreamProtocol::Http2 | UpstreamProtocol::Auto { http2: true })
    }
}

/// HTTP options of a cluster.
#[derive(Clone, Debug)]
pub struct UpstreamHttp {
    /// Version.
    pub protocol: UpstreamProtocol,
    /// Settings of HTTP/1 connections.
    pub h1: Arc<h1::ClientSettings>,
    /// Settings of HTTP/2 connections.
    pub h2: Arc<h2::Settings>,
    /// `http2_protocol_options.connection_keepalive`
    pub keepalive: Option<KeepalivePlan>,
    /// `http_filters`
    pub filters: Option<Arc<UpstreamFilters>>,
    /// How long an unused connection is kept; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection is used; `None` is for ever.
    pub max_connection_duration: Option<Duration>,
    /// Requests after which a connection is closed; 0 is no limit.
    pub max_requests_per_connection: u32,
}

/// An immutable cluster.
pub struct ClusterPlan {
    /// `Cluster.name`
    pub name: Arc<str>,
    /// `alt_stat_name`, or the name.
    pub observability_name: Arc<str>,
    /// `connect_timeout`
    pub connect_timeout: Duration,
    /// `upstream_connection_options.tcp_keepalive`
    pub keepalive: Option<TcpKeepalive>,
    /// In which order the addresses of a host are tried.
    pub eyeballs: Eyeballs,
    /// How a host is chosen.
    pub lb: Lb,
    /// When all hosts get requests, fit or not.
    pub panic: PanicPolicy,
    /// `common_lb_config.update_merge_window`: changes of health are told to the workers once in that time; zero: each.
    pub merge_window: Duration,
    /// `common_lb_config.ignore_new_hosts_until_first_hc`: hosts that come later do not count until they are checked.
    pub warm_hosts: bool,
    /// `common_lb_config.close_connections_on_host_set_change`: connections to all hosts end when one comes, goes or changes
    /// its health.
    pub close_on_set_change: bool,
    /// `common_lb_config.override_host_status`: of which health a host may be that a request asks for.
    pub override_status: HealthStatuses,
    /// `ignore_health_on_host_removal`: hosts that discovery no longer names go, though they pass their health checks.
    pub ignore_health_on_host_removal: bool,
    /// `wait_for_warm_on_init`: who waits for the cluster waits for the first answers to its names.
    pub waits_for_names: bool,
    /// HTTP options.
    pub http: UpstreamHttp,
    /// How connections are made.
    pub transports: Transports,
    /// `upstream_bind_config.source_address`
    pub source: Option<SocketAddr>,
    /// `preconnect_policy.per_upstream_preconnect_ratio`, if it is above 1: so many connections are kept for each request under way.
    pub preconnect: Option<f64>,
    /// `connection_pool_per_downstream_connection`: clients share no connections.
    pub pool_per_connection: bool,
    /// Limits for default and high priority.
    pub breakers: [Arc<Breakers>; 2],
    /// `cluster.<name>.`
    pub stats: ClusterStats,
    /// `cluster.<name>.circuit_breakers.<priority>.remaining_*` with `track_remaining`, computed when read; kept so
    /// that they are listed.
    pub remaining: [Option<RemainingStats>; 2],
    /// The prefix of the stats, for codec stats that are made with the first connection.
    pub scope: Scope,
    /// `Cluster.metadata`
    pub metadata: LazyMetadata,
    /// From a control plane.
    pub added_via_api: bool,
    /// Runtime key `upstream.maintenance_mode.<name>`: this many requests of a hundred are refused.
    pub maintenance: AtomicU32,
    /// Runtime key `upstream.use_http2`, in percent.
    pub use_http2: RuntimeNumber,
}

impl ClusterPlan {
    /// Keys of the runtime that belong to single clusters begin so.
    pub const RUNTIME_PREFIXES: [&str; 2] = ["upstream.maintenance_mode.", "circuit_breakers."];

    /// Takes over what the runtime says of this cluster. Main does that at every change, so that a cluster of which it
    /// says nothing costs nothing.
    pub fn apply_runtime(&self, s: &Snapshot) {
        let percent = s.number(&format!("upstream.maintenance_mode.{}", self.name), 0).min(100);
        self.maintenance.store(percent as u32, Relaxed);
        for (b, priority) in self.breakers.iter().zip(["default", "high"]) {
            for (r, limit) in b.named() {
                let key = format!("circuit_breakers.{}.{priority}.{limit}", self.name);
                r.set_max(s.number(&key, r.configured()));
            }
        }
    }
    /// True for a request that is to be refused because the cluster is being worked on.
    pub fn in_maintenance(&self) -> bool {
        match self.maintenance.load(Relaxed) {
            0 => false,
            100.. => true,
            percent => rng::below(100) < percent.into(),
        }
    }
}

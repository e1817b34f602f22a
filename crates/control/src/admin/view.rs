//! What the admin interface shows of the engine, as plain data. The engine's main-thread managers fill it in
//! (`server::engine`); tests do it by hand.

use nuncio_core::address::Address;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

/// The engine, as operators see it. All calls are made on main.
pub trait View {
    /// The cluster that follows `after` in the order of names; the first one for `None`. One at a time, so that ten
    /// thousand clusters do not keep main busy.
    fn next_cluster(&self, after: Option<&str>) -> Option<ClusterView>;
    /// Listeners that accept connections, in the order in which they were added.
    fn listeners(&self) -> Vec<ListenerView>;
    /// Listeners that do not serve yet: name and hash of the configuration, and the names of what they wait for.
    fn unready_listeners(&self) -> Vec<(String, Vec<String>)>;
    /// What the engine runs on, for `/config_dump`.
    fn dump(&self, of: Dumped) -> Vec<ConfigView>;
    /// The version of the last response of a control plane that changed a section of `/config_dump`
    /// (`ClustersConfigDump`, `ListenersConfigDump`).
    fn version(&self, _section: &str) -> Option<Arc<str>> {
        None
    }
    /// Certificates of the TLS contexts in use.
    fn certs(&self) -> Vec<CertsView>;
    /// Opens access logs anew.
    fn reopen_access_logs(&self);
    /// Drains listeners.
    fn drain_listeners(&self, how: Drain);
}

/// How `/drain_listeners` was asked to drain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drain {
    /// Only listeners whose `traffic_direction` is `INBOUND`.
    pub inbound_only: bool,
    /// Close the sockets only after the drain time.
    pub graceful: bool,
    /// Never close the sockets.
    pub skip_exit: bool,
}

/// Sections of `/config_dump` that the engine fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dumped {
    /// `envoy.config.cluster.v3.Cluster`, static ones.
    Clusters,
    /// The same, active ones of a control plane.
    DynamicClusters,
    /// The same, those that wait for their first hosts.
    WarmingClusters,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`, as the hosts are now.
    Endpoints,
    /// The same, of clusters of a control plane.
    DynamicEndpoints,
    /// `envoy.config.listener.v3.Listener`, static ones.
    Listeners,
    /// `envoy.admin.v3.ListenersConfigDump.DynamicListener`: those of a control plane, in all states.
    DynamicListeners,
    /// `envoy.config.route.v3.RouteConfiguration` in connection managers.
    Routes,
    /// The same, of a control plane.
    DynamicRoutes,
    /// `envoy.admin.v3.ScopedRoutesConfigDump.InlineScopedRouteConfigs` of connection managers.
    Scopes,
    /// `envoy.admin.v3.ScopedRoutesConfigDump.DynamicScopedRouteConfigs`
    DynamicScopes,
    /// `envoy.config.core.v3.TypedExtensionConfig` of filters, of a control plane.
    Extensions,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`
    Secrets,
    /// Secrets that were fetched.
    DynamicSecrets,
    /// Secrets that are waited for.
    WarmingSecrets,
}

/// One configuration in use.
#[derive(Clone)]
pub struct ConfigView {
    /// Its name.
    pub name: String,
    /// Makes its message, when its turn to be written has come.
    pub config: Rc<dyn Fn() -> prost_types::Any>,
    /// When it was taken over.
    pub last_updated: SystemTime,
    /// `version_info` of the control plane's response; none for static resources.
    pub version: Option<Arc<str>>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// The addresses it is bound to: the address, then `additional_addresses`.
    pub addresses: Vec<Address>,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    /// Its name.
    pub name: String,
    /// `alt_stat_name`, or the name.
    pub observability_name: String,
    /// `eds_cluster_config.service_name`; may be empty.
    pub eds_service_name: String,
    /// It came by CDS.
    pub added_via_api: bool,
    /// Circuit breakers of the priorities default and high.
    pub breakers: [Thresholds; 2],
    /// Outlier detection is configured.
    pub outlier: Option<OutlierView>,
    /// The hosts, by priority.
    pub hosts: Vec<HostView>,
}

/// Circuit breakers of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `max_connections`
    pub max_connections: u64,
    /// `max_pending_requests`
    pub max_pending_requests: u64,
    /// `max_requests`
    pub max_requests: u64,
    /// `max_retries`
    pub max_retries: u64,
}

/// What outlier detection found in its last interval; -1 where it found nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierView {
    /// External errors: average and threshold, in percent.
    pub success_rate: (f64, f64),
    /// Errors of local origin: average and threshold, in percent.
    pub local_origin_success_rate: (f64, f64),
}

/// A host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostView {
    /// Its address.
    pub address: Address,
    /// Its host name; may be empty.
    pub hostname: String,
    /// `region`, `zone`, `sub_zone`.
    pub locality: [String; 3],
    /// Its priority.
    pub priority: u32,
    /// Its weight.
    pub weight: u32,
    /// It carries the canary metadata.
    pub canary: bool,
    /// Bits of [`HostHealth`](nuncio_engine::upstream::health::HostHealth); none when healthy.
    pub health: u16,
    /// Success rate in percent, -1 when unknown.
    pub success_rate: f64,
    /// The same for errors of local origin.
    pub local_origin_success_rate: f64,
    /// Its counters.
    pub stats: HostStats,
}

/// Counters and gauges of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Envoy's names say it
pub struct HostStats {
    pub cx_active: u64,
    pub cx_connect_fail: u64,
    pub cx_total: u64,
    pub rq_active: u64,
    pub rq_error: u64,
    pub rq_pending_active: u64,
    pub rq_success: u64,
    pub rq_timeout: u64,
    pub rq_total: u64,
}

/// The certificates of one TLS context.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct CertsView {
    /// Certificates that peers are verified with.
    pub ca_cert: Vec<CertView>,
    /// Certificates that are presented.
    pub cert_chain: Vec<CertView>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct CertView {
    /// The file it came from; `<inline>` when it stood in the configuration.
    pub path: String,
    /// In hexadecimal.
    pub serial_number: String,
    /// Kind (`dns`, `uri`, `ip_address`) and value.
    pub subject_alt_names: Vec<(&'static str, String)>,
    /// Begin of its validity.
    pub valid_from: SystemTime,
    /// End of its validity.
    pub expiration_time: SystemTime,
}

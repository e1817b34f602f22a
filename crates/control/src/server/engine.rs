//! The engine as the admin interface sees it.

use super::build::Secrets;
use super::dynamic::{any, timestamp};
use super::{certs, dynamic};
use crate::admin::view::{
    CertsView, ClusterView, ConfigView, Drain, Dumped, HostStats, HostView, ListenerView, OutlierView,
    Thresholds, View,
};
use hcm::http_connection_manager::RouteSpecifier;
use nuncio_api::envoy::admin::v3::scoped_routes_config_dump::{
    DynamicScopedRouteConfigs, InlineScopedRouteConfigs,
};
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::envoy::config::endpoint::v3 as endpoint;
use nuncio_api::envoy::config::listener::v3::{Listener, filter::ConfigType};
use nuncio_api::envoy::config::route::v3::RouteConfiguration;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3::Secret;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::discovery::Resource;
use nuncio_core::hash64::xxh64;
use nuncio_engine::ecds::Providers;
use nuncio_engine::http::rds::RouteProviders;
use nuncio_engine::http::scopes::srds::{ScopeProviders, ScopesView};
use nuncio_engine::listener::manager::ListenerEntry;
use nuncio_engine::listener::worker::Which;
use nuncio_engine::tls::sds::{SecretProviders, SecretView};
use nuncio_engine::upstream::breakers::Breakers;
use nuncio_engine::upstream::host::Host;
use nuncio_engine::upstream::manager::ClusterEntry;
use nuncio_engine::upstream::outlier::Errors;
use nuncio_engine::{ClusterManager, ListenerManager, Revision};
use prost::{Message, Name};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

/// The engine's managers, and what only operators care for.
pub struct EngineView {
    clusters: ClusterManager,
    listeners: ListenerManager,
    secrets: Rc<Secrets>,
    since: SystemTime,
    /// The clusters of the walk under way, so that each step finds the next one at once.
    walk: RefCell<Vec<Rc<ClusterEntry>>>,
    /// What drains.
    draining: Cell<Option<Which>>,
    certs: RefCell<Option<Vec<CertsView>>>,
    versions: RefCell<Vec<(&'static str, Version)>>,
    /// The fetched secrets that `certs` shows.
    secrets_shown: Cell<u64>,
}

/// Says which version a section of `/config_dump` has.
type Version = Box<dyn Fn() -> Arc<str>>;

impl EngineView {
    /// A view of these managers.
    pub fn new(clusters: ClusterManager, listeners: ListenerManager, secrets: Rc<Secrets>) -> EngineView {
        let since = SystemTime::now();
        EngineView {
            clusters,
            listeners,
            secrets,
            since,
            walk: RefCell::default(),
            draining: Cell::new(None),
            certs: RefCell::default(),
            versions: RefCell::default(),
            secrets_shown: Cell::new(0),
        }
    }
    /// The configuration was reloaded: certificates may be others now.
    pub fn reloaded(&self) {
        self.certs.take();
    }
    fn config<M: Message + Name + 'static>(&self, name: &str, make: impl Fn() -> M + 'static) -> ConfigView {
        let config = move || any(&make());
        ConfigView { name: name.to_owned(), config: Rc::new(config), last_updated: self.since, version: None }
    }
    /// The configuration as of a revision.
    fn revised<M: Message + Name + 'static>(
        &self,
        name: &str,
        r: &Revision,
        make: impl Fn() -> M + 'static,
    ) -> ConfigView {
        let v = self.config(name, make);
        ConfigView { last_updated: r.updated, version: r.version.clone(), ..v }
    }
    fn routes(&self, r: RouteConfiguration, of: &Revision) -> ConfigView {
        let of = Revision { version: None, ..of.clone() };
        self.revised(&r.name.clone(), &of, move || r.clone())
    }
    /// The secrets that were fetched, or those that are waited for.
    fn fetched_secrets(&self, there: bool) -> Vec<ConfigView> {
        let all = SecretProviders::here().list();
        let one = |s: SecretView| {
            let (version, updated) = s.revision.unwrap_or_else(|| ("uninitialized".into(), self.since));
            let of = Revision { version: Some(version), updated };
            let empty = || Arc::new(Secret { name: s.name.clone(), ..Default::default() });
            let secret = s.secret.clone().unwrap_or_else(empty);
            self.revised(&s.name, &of, move || (*secret).clone())
        };
        all.into_iter().filter(|s| s.secret.is_some() == there).map(one).collect()
    }
    fn clusters(&self, all: Vec<Rc<ClusterEntry>>, wanted: impl Fn(&Revision) -> bool) -> Vec<ConfigView> {
        let all = all.into_iter().filter(|c| wanted(&c.revision));
        let one = |c: Rc<ClusterEntry>| {
            let (name, r) = (c.plan.name.clone(), c.revision.clone());
            self.revised(&name, &r, move || c.config.get())
        };
        all.map(one).collect()
    }
}

impl EngineView {
    fn endpoints(&self, of_api: bool) -> Vec<ConfigView> {
        let mut all = self.clusters.list();
        all.retain(|c| c.revision.version.is_some() == of_api);
        all.into_iter().map(|c| self.config(&c.plan.name.clone(), move || assignment(&c))).collect()
    }
    /// Shows from now on which version a section has.
    pub fn show_version(&self, section: &'static str, version: impl Fn() -> Arc<str> + 'static) {
        self.versions.borrow_mut().push((section, Box::new(version)));
    }
}

impl View for EngineView {
    fn version(&self, section: &str) -> Option<Arc<str>> {
        let versions = self.versions.borrow();
        let version = versions.iter().find(|(s, _)| *s == section).map(|(_, f)| f());
        version.filter(|v| !v.is_empty())
    }
    fn next_cluster(&self, after: Option<&str>) -> Option<ClusterView> {
        let mut walk = self.walk.borrow_mut();
        if after.is_none() || walk.is_empty() {
            *walk = self.clusters.list(); // sorted by name
        }
        let at = after.map_or(0, |a| walk.partition_point(|c| &*c.plan.name <= a));
        let found = walk.get(at).map(|c| cluster(c));
        if found.is_none() {
            *walk = Vec::new();
        }
        found
    }
    fn listeners(&self) -> Vec<ListenerView> {
        let one = |l: &Rc<ListenerEntry>| ListenerView {
            name: l.plan.info.name.to_string(),
            addresses: l.addresses.clone(),
        };
        self.listeners.list().iter().map(one).collect()
    }
    fn unready_listeners(&self) -> Vec<(String, Vec<String>)> {
        let one = |l: &Rc<ListenerEntry>| {
            let hash = xxh64(&l.config.get().encode_to_vec(), 0);
            (format!("{} {hash}", l.plan.info.name), l.init.unready())
        };
        self.listeners.list_unready().iter().map(one).collect()
    }
    fn dump(&self, of: Dumped) -> Vec<ConfigView> {
        match of {
            Dumped::Clusters => self.clusters(self.clusters.list(), |r| r.version.is_none()),
            Dumped::DynamicClusters => self.clusters(self.clusters.list(), |r| r.version.is_some()),
            Dumped::WarmingClusters => self.clusters(self.clusters.list_warming(), |_| true),
            Dumped::Endpoints => self.endpoints(false),
            Dumped::DynamicEndpoints => self.endpoints(true),
            Dumped::Listeners => {
                let fixed = self.listeners.list().into_iter().filter(|l| l.revision.version.is_none());
                let one = |l: Rc<ListenerEntry>| {
                    let (name, r) = (l.plan.info.name.to_string(), l.revision.clone());
                    self.revised(&name, &r, move || l.config.get())
                };
                fixed.map(one).collect()
            }
            Dumped::DynamicListeners => {
                let all = dynamic::listeners(&self.listeners).into_iter();
                all.map(|l| self.config(&l.name.clone(), move || l.clone())).collect()
            }
            Dumped::Routes => {
                let all = self.listeners.list();
                let of = |l: &Rc<ListenerEntry>| {
                    let (tables, rev) = (route_tables(&l.config.get()), l.revision.clone());
                    tables.into_iter().map(move |r| (r, rev.clone()))
                };
                all.iter().flat_map(of).map(|(r, rev)| self.routes(r, &rev)).collect()
            }
            Dumped::DynamicRoutes => {
                let one = |(r, at): (Resource, SystemTime)| {
                    let of = Revision { version: Some(r.version.clone()), updated: at };
                    let bytes = r.bytes.clone();
                    self.revised(&r.name, &of, move || {
                        RouteConfiguration::decode(&*bytes).unwrap_or_default()
                    })
                };
                RouteProviders::here().list().into_iter().map(one).collect()
            }
            Dumped::Scopes => {
                let all = self.listeners.list();
                let of = |l: &Rc<ListenerEntry>| {
                    let at = Some(timestamp(l.revision.updated));
                    inline_scopes(&l.config.get()).into_iter().map(move |s| (s, at))
                };
                let one = |(s, last_updated)| {
                    let dump = InlineScopedRouteConfigs { last_updated, ..s };
                    self.config(&dump.name.clone(), move || dump.clone())
                };
                all.iter().flat_map(of).map(one).collect()
            }
            Dumped::DynamicScopes => {
                let one = |s: ScopesView| self.config(&s.name.clone(), move || dynamic_scopes(&s));
                ScopeProviders::here().list().into_iter().map(one).collect()
            }
            Dumped::Extensions => {
                let one = |(r, at): (Resource, SystemTime)| {
                    let of = Revision { version: Some(r.version.clone()), updated: at };
                    let bytes = r.bytes.clone();
                    self.revised(&r.name, &of, move || {
                        TypedExtensionConfig::decode(&*bytes).unwrap_or_default()
                    })
                };
                Providers::here().list().into_iter().map(one).collect()
            }
            Dumped::Secrets => {
                let one = |s: &Arc<Secret>| {
                    let (name, s) = (s.name.clone(), s.clone());
                    self.config(&name, move || (*s).clone())
                };
                self.secrets.list().iter().map(one).collect()
            }
            Dumped::DynamicSecrets => self.fetched_secrets(true),
            Dumped::WarmingSecrets => self.fetched_secrets(false),
        }
    }
    fn certs(&self) -> Vec<CertsView> {
        // Read once: what is shown is what was loaded, not what the files have become.
        let read = || {
            let find = |name: &str| self.secrets.get(name);
            let clusters = self.clusters.list();
            let listeners = self.listeners.list();
            let up = clusters.iter().filter_map(|c| certs::of_cluster(&c.config.get(), &find));
            let down = listeners.iter().flat_map(|l| certs::of_listener(&l.config.get(), &find));
            up.chain(down).collect()
        };
        let now = SecretProviders::here().generation();
        if self.secrets_shown.replace(now) != now {
            self.certs.take();
        }
        let known = self.certs.borrow().clone();
        known.unwrap_or_else(|| self.certs.borrow_mut().insert(read()).clone())
    }
    fn reopen_access_logs(&self) {
        nuncio_ext::access_log::reopen();
    }
    fn drain_listeners(&self, how: Drain) {
        let which = if how.inbound_only { Which::Inbound } else { Which::All };
        if how.graceful || how.skip_exit {
            // A drain of all follows one of inbound listeners, not the other way round.
            if matches!(self.draining.get(), Some(Which::All)) || self.draining.get() == Some(which) {
                return;
            }
            self.draining.set(Some(which));
            let time = self.listeners.drain(which);
            if !how.skip_exit {
                let listeners = self.listeners.clone();
                tokio::task::spawn_local(async move {
                    clock::sleep(TimerKind::Other, time).await;
                    listeners.stop(which);
                });
            }
            return;
        }
        self.listeners.stop(which);
    }
}

fn cluster(c: &ClusterEntry) -> ClusterView {
    let thresholds = |b: &Breakers| Thresholds {
        max_connections: b.connections.max(),
        max_pending_requests: b.pending.max(),
        max_requests: b.requests.max(),
        max_retries: b.retries.max(),
    };
    let [default, high] = &c.plan.breakers;
    ClusterView {
        name: c.plan.name.to_string(),
        observability_name: c.plan.observability_name.to_string(),
        eds_service_name: c.eds.as_ref().map(|e| e.service_name.clone()).unwrap_or_default(),
        added_via_api: c.plan.added_via_api,
        breakers: [thresholds(default), thresholds(high)],
        outlier: c.detector.as_ref().map(|d| OutlierView {
            success_rate: d.rates(Errors::External),
            local_origin_success_rate: d.rates(Errors::LocalOrigin),
        }),
        hosts: c.hosts().hosts.iter().filter_map(|h| host(h)).collect(),
    }
}

fn host(h: &Host) -> Option<HostView> {
    let n = &h.counters;
    let success_rate = |e| h.monitor.get().map_or(-1.0, |m| m.success_rate(e));
    Some(HostView {
        address: h.info.address.clone()?,
        hostname: h.info.hostname.to_string(),
        locality: (*h.info.locality).clone(),
        priority: h.priority(),
        weight: h.weight(),
        canary: h.info.canary,
        health: h.health.bits(), // which are those of the view
        success_rate: success_rate(Errors::External),
        local_origin_success_rate: success_rate(Errors::LocalOrigin),
        stats: HostStats {
            cx_active: n.cx_active.load(Relaxed),
            cx_connect_fail: n.cx_connect_fail.load(Relaxed),
            cx_total: n.cx_total.load(Relaxed),
            rq_active: n.rq_active.load(Relaxed),
            rq_error: n.rq_error.load(Relaxed),
            rq_pending_active: 0,
            rq_success: n.rq_success.load(Relaxed),
            rq_timeout: n.rq_timeout.load(Relaxed),
            rq_total: n.rq_total.load(Relaxed),
        },
    })
}

/// The hosts of a cluster as they are now, as Envoy dumps them.
fn assignment(c: &ClusterEntry) -> endpoint::ClusterLoadAssignment {
    let hosts = c.hosts();
    let mut by_locality: Vec<endpoint::LocalityLbEndpoints> = Vec::new();
    for h in &hosts.hosts {
        let [region, zone, sub_zone] = (*h.info.locality).clone();
        let locality = core::Locality { region, zone, sub_zone };
        let priority = h.priority();
        let one = endpoint::LbEndpoint {
            health_status: h.health.status().into(),
            load_balancing_weight: Some(h.weight()),
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(Box::new(
                endpoint::Endpoint {
                    address: h.info.address.as_ref().map(|a| Box::new(address(a))),
                    health_check_config: Some(Default::default()),
                    hostname: h.info.hostname.to_string(),
                    ..Default::default()
                },
            ))),
            ..Default::default()
        };
        match by_locality
            .iter_mut()
            .find(|l| l.locality.as_ref() == Some(&locality) && l.priority == priority)
        {
            Some(l) => l.lb_endpoints.push(one),
            None => by_locality.push(endpoint::LocalityLbEndpoints {
                locality: Some(locality),
                lb_endpoints: vec![one],
                load_balancing_weight: Some(h.locality_weight()),
                priority,
                ..Default::default()
            }),
        }
    }
    endpoint::ClusterLoadAssignment {
        cluster_name: c.plan.name.to_string(),
        endpoints: by_locality,
        policy: Some(endpoint::cluster_load_assignment::Policy {
            overprovisioning_factor: Some(c.plan.panic.overprovisioning()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn address(a: &Address) -> core::Address {
    use core::address::Address as A;
    let kind = match a {
        Address::Ip(ip) => A::SocketAddress(core::SocketAddress {
            address: a.without_port(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(ip.port().into())),
            ..Default::default()
        }),
        Address::Pipe(p) => A::Pipe(core::Pipe { path: p.display().to_string(), mode: 0 }),
        Address::Internal(name, id) => A::EnvoyInternalAddress(core::EnvoyInternalAddress {
            endpoint_id: id.to_string(),
            address_name_specifier: Some(
                core::envoy_internal_address::AddressNameSpecifier::ServerListenerName(name.to_string()),
            ),
        }),
    };
    core::Address { address: Some(kind) }
}

/// A listener's connection managers.
fn managers(l: &Listener) -> impl Iterator<Item = hcm::HttpConnectionManager> {
    let chains = l.filter_chains.iter().chain(l.default_filter_chain.as_deref());
    let filters = chains.flat_map(|c| &c.filters);
    filters.filter_map(|f| match &f.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url == hcm::HttpConnectionManager::type_url() => {
            hcm::HttpConnectionManager::decode(&*any.value).ok()
        }
        _ => None,
    })
}

/// The route tables that stand in a listener's connection managers.
fn route_tables(l: &Listener) -> Vec<RouteConfiguration> {
    let routes = managers(l).filter_map(|m| match m.route_specifier {
        Some(RouteSpecifier::RouteConfig(r)) => Some(*r),
        _ => None,
    });
    routes.collect()
}

/// The scoped routes that stand in them.
fn inline_scopes(l: &Listener) -> Vec<InlineScopedRouteConfigs> {
    let scopes = managers(l).filter_map(|m| {
        let Some(RouteSpecifier::ScopedRoutes(s)) = m.route_specifier else { return None };
        let Some(hcm::scoped_routes::ConfigSpecifier::ScopedRouteConfigurationsList(all)) =
            s.config_specifier
        else {
            return None;
        };
        let scoped_route_configs = all.scoped_route_configurations.iter().map(any).collect();
        Some(InlineScopedRouteConfigs { name: s.name, scoped_route_configs, last_updated: None })
    });
    scopes.collect()
}

fn dynamic_scopes(s: &ScopesView) -> DynamicScopedRouteConfigs {
    DynamicScopedRouteConfigs {
        name: s.name.clone(),
        version_info: s.version.to_string(),
        scoped_route_configs: s.scopes.iter().map(|c| any(&**c)).collect(),
        last_updated: Some(timestamp(s.updated)),
        ..Default::default()
    }
}

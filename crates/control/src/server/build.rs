//! From configuration to clusters and listeners, on main; also what `--mode validate` does, which stops there.

use super::runtime::{self, Layers};
use crate::bootstrap::{self, Node, Refusal};
use crate::lrs::Reporter;
use crate::options::Options;
use crate::overload::{self, OverloadManager};
use crate::remarks;
use crate::xds::{Xds, odcds};
use nuncio_api::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::envoy::config::core::v3::{self as core, ConfigSource};
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3::Secret;
use nuncio_api::error::{ConfigError, Severity};
use nuncio_api::load::LoadedParts;
use nuncio_core::coverage::Coverage;
use nuncio_core::discovery::Discovery;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::{BuildCx, EventLog, ServerCx};
use nuncio_core::init::Init;
use nuncio_core::registry::Registry;
use nuncio_core::runtime::{Runtime, ServerState};
use nuncio_core::stats::{Scope, Store};
use nuncio_core::upstreams::{ChargeCluster, ClientOptions, DnsCache, FindCluster, HttpClient};
use nuncio_core::{log, log_lines};
use nuncio_engine::upstream::client::Charges;
use nuncio_engine::{ClusterManager, ListenerManager};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// What this binary is made of.
#[derive(Default)]
pub struct Made {
    /// Its extensions.
    pub registry: Registry,
    /// What they read of the configuration.
    pub coverage: Coverage,
}

impl Made {
    /// The engine and this floor, without extensions: the binary adds those.
    pub fn new() -> Made {
        let mut m = Made::default();
        m.coverage.add(bootstrap::coverage::COVERED);
        m.coverage.add(overload::COVERED);
        overload::monitor::register(&mut m.registry);
        m.coverage.add(crate::xds::COVERED);
        m.coverage.add(crate::xds::rtds::COVERED);
        m.coverage.add(nuncio_core::cel::COVERED);
        nuncio_engine::cover(&mut m.coverage);
        nuncio_engine::register(&mut m.registry);
        m
    }
}

/// The foundations, before clusters and listeners are there.
pub struct Ground {
    /// The configuration.
    pub loaded: LoadedParts,
    /// The node.
    pub node: Node,
    /// All stats.
    pub store: Store,
    /// The runtime.
    pub runtime: Layers,
    /// When stats are flushed.
    pub flush: bootstrap::Flush,
}

/// Reads the configuration and lays the foundations.
///
/// # Errors
/// The configuration is refused.
pub fn ground(options: &Options, made: &Made) -> Result<Ground, Refusal> {
    let loaded = bootstrap::load(options, &made.coverage)?;
    let skipped = |w: &&ConfigError| w.severity == Severity::Deprecated && options.skip_deprecated_logs;
    loaded.warnings.iter().filter(|w| !skipped(w)).for_each(remarks::say);
    let b = &loaded.message;
    let store = Store::new();
    store.configure(bootstrap::settings(b.stats_config.as_deref(), options)?);
    log_lines!(Main, Info, "runtime: {}", runtime::describe(b.layered_runtime.as_ref()));
    let node = bootstrap::node(b.node.as_deref(), options, &made.registry);
    let runtime = Layers::of(b.layered_runtime.as_ref(), &store.root(), &node.info.cluster)?;
    let flush = bootstrap::flush(b)?;
    Ok(Ground { loaded, node, store, runtime, flush })
}

/// The static secrets, in their order.
#[derive(Default)]
pub struct Secrets(RefCell<Vec<Arc<Secret>>>);

impl Secrets {
    /// Takes them from the configuration.
    pub fn new(b: &Bootstrap) -> Rc<Secrets> {
        let secrets = Secrets::default();
        secrets.replace(b.static_resources.as_ref().map(|s| &s.secrets[..]).unwrap_or_default());
        Rc::new(secrets)
    }
    /// The secret of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Secret>> {
        self.0.borrow().iter().find(|s| s.name == name).cloned()
    }
    /// All of them.
    pub fn list(&self) -> Vec<Arc<Secret>> {
        self.0.borrow().clone()
    }
    /// Takes others; what was built with the old ones keeps them.
    pub fn replace(&self, all: &[Secret]) {
        *self.0.borrow_mut() = all.iter().cloned().map(Arc::new).collect();
    }
}

/// What builders may ask of the server.
pub struct Facts {
    /// All clusters.
    pub clusters: ClusterManager,
    /// The runtime.
    pub runtime: Arc<Runtime>,
    /// Flags of the whole server.
    pub state: Arc<ServerState>,
    /// `static_resources.secrets`
    pub secrets: Rc<Secrets>,
    /// Brings resources while the server runs.
    pub discovery: Rc<Xds>,
}

impl ServerCx for Facts {
    fn has_cluster(&self, name: &str) -> bool {
        self.clusters.has(name)
    }
    fn runtime(&self) -> Arc<Runtime> {
        self.runtime.clone()
    }
    fn state(&self) -> Arc<ServerState> {
        self.state.clone()
    }
    fn http_client(&self, o: &ClientOptions<'_>, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        self.clusters.http_client(o, cx)
    }
    fn own_client(&self, cluster: Cluster, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        self.clusters.own_client(cluster, cx)
    }
    fn dns_cache(&self, c: &DnsCacheConfig, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DnsCache>> {
        self.clusters.dns_cache(c, cx)
    }
    fn discovery(&self) -> Option<Rc<dyn Discovery>> {
        Some(self.discovery.clone())
    }
    fn charges(&self) -> Option<Arc<dyn ChargeCluster>> {
        Some(Arc::new(Charges))
    }
    fn cluster_finder(&self, source: &ConfigSource, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn FindCluster>> {
        odcds::finder(source, &self.discovery, &self.clusters, cx)
    }
    fn node_message(&self) -> core::Node {
        self.discovery.node().clone()
    }
    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.secrets.get(name)
    }
    fn open_log(&self, path: &str, store: &Store) -> BuildResult<EventLog> {
        let file = nuncio_ext::access_log::files::open(path, store)?;
        Ok(Rc::new(move |line| file.append(line.as_bytes())))
    }
}

/// The overload manager, when it is configured.
///
/// # Errors
/// It is refused.
pub fn overload(
    b: &Bootstrap,
    root: &Scope,
    state: Arc<ServerState>,
    registry: &Registry,
    runtime: &Runtime,
) -> BuildResult<Option<OverloadManager>> {
    let manager = |c| OverloadManager::new(c, root, state, registry, runtime);
    b.overload_manager.as_ref().map(manager).transpose()
}

/// Builds all clusters, then all listeners, in Envoy's order and, if that is `announced`, with its landmarks in the log.
/// Every error is found: the first one is Envoy's.
///
/// # Errors
/// Something is refused, or an address cannot be bound.
pub fn resources(
    loaded: &LoadedParts,
    options: &Options,
    listeners: &ListenerManager,
    clusters: &ClusterManager,
    workers: usize,
    announced: bool,
    cx: &BuildCx<'_>,
) -> Result<(), Refusal> {
    let say = |l: std::fmt::Arguments<'_>| {
        if announced {
            log!(Config, Info, "{l}");
        }
    };
    say(format_args!("loading tracing configuration"));
    let b = &loaded.message;
    let secrets = b.static_resources.as_ref().map_or(0, |fixed| fixed.secrets.len());
    say(format_args!("loading {secrets} static secret(s)"));
    say(format_args!("loading {} cluster(s)", loaded.clusters.len()));
    if let Some(any) = b.typed_dns_resolver_config.as_ref().and_then(|r| r.typed_config.as_ref()) {
        clusters.set_resolver(any)?;
    }
    clusters.set_workers(workers);
    if let Some(m) = &b.cluster_manager {
        clusters.set_local(&m.local_cluster_name);
    }
    if let Some(c) = b.cluster_manager.as_ref().and_then(|m| m.load_stats_config.as_deref()) {
        Reporter::new(c, clusters, &Default::default(), cx)?;
    }
    if let Some(o) = b.cluster_manager.as_ref().and_then(|m| m.outlier_detection.as_ref())
        && !o.event_log_path.is_empty()
        && !cx.validate_only
    {
        clusters.set_outlier_log(cx.server.open_log(&o.event_log_path, cx.scope.store())?);
    }
    let mut errors = Errors::default();
    for (i, c) in loaded.clusters.iter().enumerate() {
        errors.take(|| format!("static_resources.clusters[{i}]"), clusters.add_encoded(c.clone(), cx));
    }
    // Routes that name a cluster which was refused are not themselves wrong.
    if errors.0.is_empty() {
        say(format_args!("loading {} listener(s)", loaded.listeners.len()));
        for (i, l) in loaded.listeners.iter().enumerate() {
            let added = listeners.add_encoded(l.clone(), workers, cx);
            errors.take(|| format!("static_resources.listeners[{i}]"), added);
        }
    }
    say(format_args!("loading stats configuration"));
    errors.into_result(options)
}

/// Errors with where they are.
#[derive(Default)]
struct Errors(Vec<(String, String)>);

impl Errors {
    fn take(&mut self, path: impl FnOnce() -> String, r: BuildResult<()>) {
        if let Err(BuildError(e)) = r {
            self.0.push((path(), e));
        }
    }
    fn into_result(self, options: &Options) -> Result<(), Refusal> {
        let Some((_, phrase)) = self.0.first().cloned() else { return Ok(()) };
        let details = bootstrap::located(options, self.0);
        Err(Refusal { phrase, details })
    }
}

/// A context for building.
pub fn cx<'a>(
    registry: &'a Registry,
    scope: &'a Scope,
    node: &'a Node,
    server: &'a dyn ServerCx,
    init: &'a Init,
    validate_only: bool,
) -> BuildCx<'a> {
    BuildCx { registry, scope, name: "", node: &node.info, server, init, validate_only }
}

/// What brings resources while the server runs.
pub fn discovery(loaded: &LoadedParts, options: &Options, node: &Node, root: &Scope) -> Rc<Xds> {
    let dynamic = loaded.message.dynamic_resources.as_ref();
    Xds::new(dynamic, &node.message, root, options.reject_unknown_dynamic_fields)
}

/// Checks where resources of the server itself come from.
///
/// # Errors
/// They cannot come from there.
pub fn check_dynamic(loaded: &LoadedParts, discovery: &Rc<Xds>) -> BuildResult<()> {
    let layers = loaded.message.layered_runtime.iter().flat_map(|l| &l.layers);
    for layer in layers {
        if let Some(LayerSpecifier::RtdsLayer(r)) = &layer.layer_specifier {
            discovery.check(&r.rtds_config.as_deref().cloned().unwrap_or_default())?;
        }
    }
    let Some(d) = &loaded.message.dynamic_resources else { return Ok(()) };
    discovery.check_ads()?;
    [&d.cds_config, &d.lds_config].into_iter().flatten().try_for_each(|source| discovery.check(source))
}

/// Builds everything, binds and starts nothing.
///
/// # Errors
/// The configuration is refused.
pub fn validate(options: &Options, made: &Made) -> Result<(), Refusal> {
    let g = ground(options, made)?;
    try_out(&g.loaded, options, made, &g.store, &g.runtime, &g.node, true)
}

/// Reads the configuration anew and checks all of it, beside what runs.
///
/// # Errors
/// The configuration is refused.
pub fn check(options: &Options, made: &Made) -> Result<LoadedParts, Refusal> {
    let loaded = bootstrap::load(options, &made.coverage)?;
    let b = &loaded.message;
    let store = Store::new();
    store.configure(bootstrap::settings(b.stats_config.as_deref(), options)?);
    let node = bootstrap::node(b.node.as_deref(), options, &made.registry);
    let runtime = Layers::of(b.layered_runtime.as_ref(), &store.root(), &node.info.cluster)?;
    bootstrap::flush(b)?;
    try_out(&loaded, options, made, &store, &runtime, &node, false)?;
    Ok(loaded)
}

fn try_out(
    loaded: &LoadedParts,
    options: &Options,
    made: &Made,
    store: &Store,
    runtime: &Layers,
    node: &Node,
    announced: bool,
) -> Result<(), Refusal> {
    let root = store.root();
    let clusters = ClusterManager::new(&root);
    let listeners = ListenerManager::new(&root);
    let facts = Facts {
        clusters: clusters.clone(),
        runtime: runtime.current().clone(),
        state: Arc::default(),
        secrets: Secrets::new(&loaded.message),
        discovery: discovery(loaded, options, node, &root),
    };
    overload(&loaded.message, &root, Arc::default(), &made.registry, &facts.runtime)?;
    check_dynamic(loaded, &facts.discovery)?;
    let init = Init::default();
    let cx = cx(&made.registry, &root, node, &facts, &init, true);
    resources(loaded, options, &listeners, &clusters, 1, announced, &cx)
}

//! The clusters and listeners of a control plane: when they are fetched, and how `/config_dump` shows the latter: one
//! entry by name, with every state it is in.

use super::Server;
use super::engine::EngineView;
use crate::lrs::Reporter;
use crate::xds::Xds;
use crate::xds::cds::Cds;
use crate::xds::lds::Lds;
use crate::xds::resource::{CLUSTER, LISTENER, RUNTIME};
use crate::xds::rtds::Rtds;
use nuncio_api::envoy::admin::v3 as admin;
use nuncio_api::envoy::admin::v3::listeners_config_dump::{DynamicListener, DynamicListenerState};
use nuncio_api::envoy::config::bootstrap::v3::bootstrap::DynamicResources;
use nuncio_api::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use nuncio_api::envoy::config::bootstrap::v3::{Bootstrap, RuntimeLayer};
use nuncio_api::envoy::config::core::v3::{ApiConfigSource, ConfigSource};
use nuncio_core::discovery::{
    Discovery, ReloadStats, Subscribe, Subscriber, Subscription, SubscriptionStats,
};
use nuncio_core::error::BuildResult;
use nuncio_core::init::Init;
use nuncio_core::log;
use nuncio_core::stats::Scope;
use nuncio_engine::listener::manager::ListenerEntry;
use nuncio_engine::{ClusterManager, ListenerManager};
use prost::{Message, Name};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

/// `dynamic_resources` of the bootstrap, and what becomes of it while the server starts.
pub struct Dynamic<'a> {
    config: DynamicResources,
    xds: &'a Rc<Xds>,
    clusters: &'a ClusterManager,
    listeners: &'a ListenerManager,
    view: &'a EngineView,
    init: Init,
    cds: RefCell<Option<(Rc<Cds>, Subscription)>>,
    lds: RefCell<Option<(Rc<Lds>, Subscription)>>,
    layers: Vec<RuntimeLayer>,
    load_stats: Option<ApiConfigSource>,
    rtds: RefCell<Vec<(Rc<Rtds>, Subscription)>>,
}

impl<'a> Dynamic<'a> {
    /// Fetches nothing yet.
    pub fn new(
        b: &Bootstrap,
        xds: &'a Rc<Xds>,
        clusters: &'a ClusterManager,
        listeners: &'a ListenerManager,
        view: &'a EngineView,
    ) -> Dynamic<'a> {
        let config = b.dynamic_resources.clone().unwrap_or_default();
        let init = Init::default();
        let layers = b.layered_runtime.as_ref().map(|l| l.layers.clone()).unwrap_or_default();
        let load_stats = b.cluster_manager.as_ref().and_then(|m| m.load_stats_config.as_deref().cloned());
        let (cds, lds, rtds) = Default::default();
        Dynamic { config, xds, clusters, listeners, view, init, cds, lds, layers, load_stats, rtds }
    }
    /// Fetches the layers of the runtime that a control plane has, and waits for them.
    async fn runtime(&self, server: &Rc<Server>) {
        let scope = self.xds.root().scope("runtime");
        for layer in &self.layers {
            let Some(LayerSpecifier::RtdsLayer(r)) = &layer.layer_specifier else { continue };
            let waiting = self.init.target(&format!("RTDS {}", r.name));
            let rtds = Rtds::new(server, &layer.name, &r.name, waiting);
            let source = r.rtds_config.as_deref().cloned().unwrap_or_default();
            let subscription = self.xds.subscribe(wish(RUNTIME, Some(&r.name), &source, &scope, &rtds));
            self.rtds.borrow_mut().push((rtds, subscription));
        }
        self.init.ready().await;
    }
    /// Initializes all clusters: those that need nobody else, then those that ask the control plane which these lead
    /// to, then those that a control plane brings.
    ///
    /// # Errors
    /// The control plane's client is refused.
    pub async fn clusters(&self, server: &Rc<Server>) -> BuildResult<()> {
        self.clusters.initialize_primary().await;
        self.xds.start_ads()?;
        if let (Some(c), Some(base)) = (&self.load_stats, self.xds.base()) {
            let reporter = Reporter::new(c, self.clusters, &base.node.message, &base.cx())?;
            tokio::task::spawn_local(reporter.run());
        }
        self.runtime(server).await;
        log!(Runtime, Info, "RTDS has finished initialization");
        self.clusters.initialize_secondary().await;
        if let Some(source) = &self.config.cds_config {
            let scope = self.xds.root().scope("cluster_manager").scope("cds");
            let waiting = self.init.target("CDS");
            let cds = Cds::new(self.clusters, self.xds, ReloadStats::new(&scope), waiting);
            let shown = cds.clone();
            self.view.show_version("ClustersConfigDump", move || shown.version());
            let subscription = self.xds.subscribe_in_pieces(wish(CLUSTER, None, source, &scope, &cds), &cds);
            *self.cds.borrow_mut() = Some((cds, subscription));
            self.init.ready().await;
            self.clusters.warmed().await;
        }
        Ok(())
    }
    /// Fetches listeners, and waits for what all of them need.
    pub async fn listeners(&self) {
        if let Some(source) = &self.config.lds_config {
            let scope = self.xds.root().scope("listener_manager").scope("lds");
            let lds = Lds::new(self.listeners, self.xds, self.init.target("LDS"));
            let shown = lds.clone();
            self.view.show_version("ListenersConfigDump", move || shown.version());
            let subscription = self.xds.subscribe(wish(LISTENER, None, source, &scope, &lds));
            *self.lds.borrow_mut() = Some((lds, subscription));
            self.init.ready().await;
        }
        self.listeners.initialize().await;
    }
}

/// A wish whose stats are in `scope`.
fn wish<'a, S: Subscriber + 'static>(
    kind: &'static str,
    name: Option<&'a str>,
    source: &'a ConfigSource,
    scope: &'a Scope,
    subscriber: &Rc<S>,
) -> Subscribe<'a> {
    let weak: Weak<S> = Rc::downgrade(subscriber);
    Subscribe { kind, source, name, stats: Rc::new(SubscriptionStats::new(scope)), scope, subscriber: weak }
}

/// Those that are active, warming or draining, and those whose last update was refused.
pub fn listeners(manager: &ListenerManager) -> Vec<DynamicListener> {
    let mut all: Vec<DynamicListener> = Vec::new();
    let (active, warming, draining) = (manager.list(), manager.list_warming(), manager.list_draining());
    let of_api = |l: &&Rc<ListenerEntry>| l.revision.version.is_some();
    for l in active.iter().filter(of_api) {
        entry(&mut all, &l.plan.info.name).active_state = Some(state(l));
    }
    for l in warming.iter().filter(of_api) {
        entry(&mut all, &l.plan.info.name).warming_state = Some(state(l));
    }
    for l in draining.iter().filter(of_api) {
        entry(&mut all, &l.plan.info.name).draining_state = Some(state(l));
    }
    for (name, f) in manager.failures() {
        entry(&mut all, &name).error_state = Some(admin::UpdateFailureState {
            failed_configuration: Some(any(&f.config)),
            last_update_attempt: Some(timestamp(f.at)),
            details: f.details,
            ..Default::default()
        });
    }
    all
}

fn entry<'a>(all: &'a mut Vec<DynamicListener>, name: &str) -> &'a mut DynamicListener {
    let at = all.iter().position(|l| l.name == name).unwrap_or_else(|| {
        all.push(DynamicListener { name: name.to_owned(), ..Default::default() });
        all.len() - 1
    });
    &mut all[at]
}

fn state(l: &ListenerEntry) -> DynamicListenerState {
    DynamicListenerState {
        version_info: l.revision.version.as_deref().unwrap_or_default().to_owned(),
        listener: Some(any(&l.config.get())),
        last_updated: Some(timestamp(l.revision.updated)),
    }
}

pub(super) fn any<M: Message + Name>(m: &M) -> prost_types::Any {
    prost_types::Any { type_url: M::type_url(), value: m.encode_to_vec() }
}

/// In milliseconds, as Envoy shows times.
pub(super) fn timestamp(t: SystemTime) -> prost_types::Timestamp {
    let since = t.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp {
        seconds: since.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: (since.subsec_millis() * 1_000_000) as i32,
    }
}

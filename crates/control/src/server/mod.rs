//! The server: its state on main, and how it starts, serves and stops.
//!
//! [`run`] is the way through: options → bootstrap → runtime, stats, registry → clusters → listeners → workers → admin
//! → live, then until a signal or `/quitquitquit`.

mod build;
mod certs;
mod disk;
mod dynamic;
mod engine;
pub mod memory;
mod reload;
mod run;
pub mod runtime;
mod serve;
mod shutdown;
pub mod stats;

pub use build::{Facts, Made};
pub use run::run;

use crate::options::Options;
use bytes::Bytes;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_core::runtime::ServerState;
use nuncio_core::stats::Store;
use runtime::Layers;
use serde_json::Value;
use stats::Stats;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

use crate::admin::view::View;

/// How far the server is: `envoy.admin.v3.ServerInfo.State`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It serves.
    Live = 0,
    /// It serves and tells others to stay away.
    Draining = 1,
    /// Clusters are not there yet.
    PreInitializing = 2,
    /// Clusters are there, listeners wait for something.
    Initializing = 3,
}

impl Phase {
    /// Envoy's name.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Live => "LIVE",
            Phase::Draining => "DRAINING",
            Phase::PreInitializing => "PRE_INITIALIZING",
            Phase::Initializing => "INITIALIZING",
        }
    }
}

/// A server, as main knows it.
pub struct Server {
    /// What the command line asked for.
    pub options: Options,
    /// Number of workers.
    pub concurrency: u32,
    /// All stats.
    pub store: Store,
    /// The runtime.
    pub runtime: Layers,
    /// Flags that requests look at.
    pub state: Arc<ServerState>,
    /// The server's own stats.
    pub stats: Stats,
    /// `node` in JSON.
    node: Value,
    /// The bootstrap message, encoded, and when it was read.
    bootstrap: RefCell<(Bytes, SystemTime)>,
    node_message: Option<Box<core::Node>>,
    /// Refresh stats for each `/stats` (`stats_flush_on_admin`).
    flush_on_admin: bool,
    view: OnceCell<Rc<dyn View>>,
    started: Instant,
    phase: Cell<Phase>,
    quit: Notify,
    reload: Notify,
}

/// What a [`Server`] is made of.
pub struct Parts {
    /// See [`Server`].
    pub options: Options,
    /// See [`Server`].
    pub concurrency: u32,
    /// See [`Server`].
    pub store: Store,
    /// See [`Server`].
    pub runtime: Layers,
    /// `node` in JSON.
    pub node: Value,
    /// The bootstrap message, encoded.
    pub bootstrap: Bytes,
    /// `node` of the bootstrap as the server completed it.
    pub node_message: Option<Box<core::Node>>,
    /// `stats_flush_on_admin`
    pub flush_on_admin: bool,
}

impl Server {
    /// A server that has not begun to initialize.
    pub fn new(p: Parts) -> Server {
        let stats = Stats::new(&p.store.root(), p.concurrency, !p.options.disable_hot_restart);
        stats.server.hot_restart_epoch().set(p.options.restart_epoch.into());
        let s = Server {
            stats,
            options: p.options,
            concurrency: p.concurrency,
            store: p.store,
            runtime: p.runtime,
            state: Arc::default(),
            node: p.node,
            bootstrap: RefCell::new((p.bootstrap, SystemTime::now())),
            node_message: p.node_message,
            flush_on_admin: p.flush_on_admin,
            view: OnceCell::new(),
            started: Instant::now(),
            phase: Cell::new(Phase::PreInitializing),
            quit: Notify::new(),
            reload: Notify::new(),
        };
        s.set_phase(Phase::PreInitializing);
        s
    }
    /// Sets what shows listeners and clusters; once.
    pub fn set_view(&self, view: Rc<dyn View>) {
        // A second call would be a mistake of the start-up code; the first one stays.
        let _ = self.view.set(view);
    }
    /// What shows listeners and clusters; nothing before there are any.
    pub fn view(&self) -> Rc<dyn View> {
        self.view.get().cloned().unwrap_or_else(|| Rc::new(Nothing))
    }
    /// How far the server is.
    pub fn phase(&self) -> Phase {
        match self.phase.get() {
            Phase::Live if self.state.health_check_failed() => Phase::Draining,
            phase => phase,
        }
    }
    /// Takes the next step.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
        self.stats.server.live().set(u64::from(phase == Phase::Live));
        self.stats.server.state().set(phase as u64);
    }
    /// Since the start.
    pub fn uptime(&self) -> Duration {
        Duration::from_secs(self.started.elapsed().as_secs())
    }
    /// When the start began.
    pub fn started(&self) -> Instant {
        self.started
    }
    /// Brings gauges up to date, as a flush does.
    pub fn update_gauges(&self) {
        let s = &self.stats.server;
        s.uptime().set(self.uptime().as_secs());
        s.state().set(self.phase() as u64);
        s.live().set(u64::from(self.phase() == Phase::Live));
        s.days_until_first_cert_expiring().set(self.days_until_first_cert_expiring());
        self.stats.memory();
    }
    fn days_until_first_cert_expiring(&self) -> u64 {
        let now = SystemTime::now();
        let certs = self.view().certs();
        let all = certs.iter().flat_map(|c| c.ca_cert.iter().chain(&c.cert_chain));
        let days = all.map(|c| c.expiration_time.duration_since(now).map_or(0, |d| d.as_secs() / 86_400));
        days.min().unwrap_or(u32::MAX.into())
    }
    /// Before `/stats` is answered: flushes when `stats_flush_on_admin` says so.
    pub fn refresh_stats(&self) {
        if self.flush_on_admin {
            self.update_gauges();
            self.store.flush_histograms();
        }
    }
    /// `node`, as `/server_info` shows it.
    pub fn node_json(&self) -> Value {
        self.node.clone()
    }
    /// The bootstrap message, encoded, and when it was read.
    pub fn bootstrap(&self) -> (Bytes, SystemTime) {
        self.bootstrap.borrow().clone()
    }
    /// `node` of the bootstrap as the server completed it.
    pub fn node_message(&self) -> Option<&core::Node> {
        self.node_message.as_deref()
    }
    /// Another bootstrap is in use, from now on.
    pub fn set_bootstrap(&self, encoded: Bytes) {
        *self.bootstrap.borrow_mut() = (encoded, SystemTime::now());
    }
    /// Asks the server to read its configuration anew.
    pub fn ask_to_reload(&self) {
        self.reload.notify_one();
    }
    /// Resolves when the server was asked to read its configuration anew.
    pub async fn asked_to_reload(&self) {
        self.reload.notified().await;
    }
    /// Asks the server to end.
    pub fn quit(&self) {
        self.quit.notify_one();
    }
    /// Resolves when the server was asked to end.
    pub async fn asked_to_quit(&self) {
        self.quit.notified().await;
    }
}

/// The view before there is an engine.
struct Nothing;

impl View for Nothing {
    fn next_cluster(&self, _: Option<&str>) -> Option<crate::admin::view::ClusterView> {
        None
    }
    fn listeners(&self) -> Vec<crate::admin::view::ListenerView> {
        Vec::new()
    }
    fn unready_listeners(&self) -> Vec<(String, Vec<String>)> {
        Vec::new()
    }
    fn dump(&self, _: crate::admin::view::Dumped) -> Vec<crate::admin::view::ConfigView> {
        Vec::new()
    }
    fn certs(&self) -> Vec<crate::admin::view::CertsView> {
        Vec::new()
    }
    fn reopen_access_logs(&self) {}
    fn drain_listeners(&self, _: crate::admin::view::Drain) {}
}

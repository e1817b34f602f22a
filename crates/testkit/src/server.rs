//! A whole data plane inside the test: main and its workers on threads of their own, listeners on free ports.

use crate::config::Config;
use crate::probe;
use nuncio_api::load::{LoadOptions, load_bootstrap};
use nuncio_core::address::Address;
use nuncio_core::filter::{BuildCx, NodeInfo, ServerCx};
use nuncio_core::registry::Registry;
use nuncio_core::runtime::{Runtime, ServerState};
use nuncio_core::stats::{MetricValue, Store};
use nuncio_core::worker::Workers;
use nuncio_engine::{ClusterManager, ListenerManager};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long [`Server::wait_stat`] waits at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server; dropping it stops its threads.
pub struct Server {
    store: Store,
    listeners: BTreeMap<String, SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    main: Option<JoinHandle<()>>,
}

/// What the factories of extensions ask the server.
struct Facts {
    clusters: ClusterManager,
    runtime: Arc<Runtime>,
    state: Arc<ServerState>,
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
}

impl Server {
    /// Starts one worker with this configuration.
    ///
    /// # Panics
    /// The configuration is refused: the text says why.
    pub fn start(config: &Config) -> Server {
        Server::from_yaml(&config.yaml(), 1)
    }
    /// Starts `workers` workers with a bootstrap.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn from_yaml(yaml: &str, workers: usize) -> Server {
        let store = Store::new();
        let (up, is_up) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (text, on_main) = (yaml.to_owned(), store.clone());
        let main = std::thread::Builder::new()
            .name("main".into())
            .spawn(move || main(&text, workers, &on_main, &up, stopped))
            .expect("a thread");
        match is_up.recv() {
            Ok(Ok(listeners)) => Server { store, listeners, stop: Some(stop), main: Some(main) },
            Ok(Err(e)) => panic!("{e}\n{yaml}"),
            Err(_) => panic!("the server's main thread panicked with\n{yaml}"),
        }
    }
    /// Where the listener `ingress` listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener("ingress")
    }
    /// Where a listener listens.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn listener(&self, name: &str) -> SocketAddr {
        *self.listeners.get(name).unwrap_or_else(|| panic!("no listener {name}"))
    }
    /// A counter or gauge; 0 when there is none of that name.
    pub fn stat(&self, name: &str) -> u64 {
        self.stats(|n| n == name).into_values().next().unwrap_or(0)
    }
    /// All counters and gauges whose name `wanted` likes.
    pub fn stats(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        let mut all = self.store.snapshot();
        while all.step(10_000, |m| {
            if wanted(m.name) {
                match m.value {
                    MetricValue::Counter { value, .. } | MetricValue::Gauge(value) => {
                        found.insert(m.name.to_owned(), value);
                    }
                    _ => {}
                }
            }
        }) {}
        found
    }
    /// Every counter and gauge that is not 0, one a line, for the messages of failed assertions.
    pub fn used(&self) -> String {
        let all = self.stats(|_| true);
        all.iter().filter(|(_, v)| **v > 0).map(|(k, v)| format!("{k}: {v}\n")).collect()
    }
    /// Waits until a counter or gauge has the value.
    ///
    /// # Panics
    /// It does not get there.
    pub async fn wait_stat(&self, name: &str, value: u64) {
        let began = Instant::now();
        while self.stat(name) != value {
            let (is, used) = (self.stat(name), || self.used());
            assert!(began.elapsed() < PATIENCE, "{name} is {is}, not {value}; all:\n{}", used());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    /// Asserts several counters and gauges at once, each waited for.
    ///
    /// # Panics
    /// As [`wait_stat`](Self::wait_stat).
    pub async fn expect(&self, stats: &[(&str, u64)]) {
        for (name, value) in stats {
            self.wait_stat(name, *value).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.main.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) && !std::thread::panicking() {
            panic!("the server's main thread panicked");
        }
    }
}

type Up = mpsc::Sender<Result<BTreeMap<String, SocketAddr>, String>>;

fn main(yaml: &str, workers: usize, store: &Store, up: &Up, stopped: oneshot::Receiver<()>) {
    let mut rt = tokio::runtime::Builder::new_current_thread();
    let rt = rt.enable_all().build_local(tokio::runtime::LocalOptions::default()).expect("a runtime");
    let threads = rt.block_on(async {
        tokio::task::spawn_local(nuncio_core::clock::run_wheel());
        nuncio_core::rng::seed_from_os();
        let _shard = store.register_shard();
        match build(yaml, workers, store).await {
            Ok((listeners, threads)) => {
                let all = listeners.list();
                let addresses = all.iter().filter_map(|l| match &l.addresses[0] {
                    Address::Ip(a) => Some((l.plan.info.name.to_string(), *a)),
                    _ => None,
                });
                let _ = up.send(Ok(addresses.collect())); // whoever started us may have given up
                let _ = stopped.await; // dropped or sent: both mean stop
                Some(threads)
            }
            Err(e) => {
                let _ = up.send(Err(e)); // as above
                None
            }
        }
    });
    // Managers live in tasks of this runtime; they let go of the workers.
    drop(rt);
    if let Some(w) = threads.and_then(Rc::into_inner) {
        w.stop();
    }
}

async fn build(yaml: &str, workers: usize, store: &Store) -> Result<(ListenerManager, Rc<Workers>), String> {
    let options = LoadOptions { yaml: Some(yaml), ..Default::default() };
    let message = load_bootstrap(&options).map_err(|e| e.to_string())?.message;
    let root = store.root();
    let (clusters, listeners) = (ClusterManager::new(&root), ListenerManager::new(&root));
    let facts =
        Facts { clusters: clusters.clone(), runtime: Arc::new(Runtime::new(vec![])), state: Arc::default() };
    let mut registry = Registry::default();
    nuncio_ext::register(&mut registry, &mut Default::default());
    probe::register(&mut registry);
    let node = NodeInfo::default();
    let cx = BuildCx {
        registry: &registry,
        scope: &root,
        name: "",
        node: &node,
        server: &facts,
        validate_only: false,
    };
    let resources = message.static_resources.unwrap_or_default();
    for c in &resources.clusters {
        clusters.add(c, &cx).map_err(|e| e.to_string())?;
    }
    for l in &resources.listeners {
        listeners.add(l, workers, &cx).map_err(|e| e.to_string())?;
    }
    let (threads, jobs) = Workers::start(workers, store, |_| ()).map_err(|e| e.to_string())?;
    let threads = Rc::new(threads);
    tokio::task::spawn_local(jobs.run());
    clusters.initialize().await;
    clusters.publish(&threads);
    listeners.start(&threads);
    Ok((listeners, threads))
}

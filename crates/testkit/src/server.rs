//! A whole data plane inside the test: main and its workers on threads of their own, listeners on free ports.

use crate::config::Config;
use crate::probe;
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use nuncio_api::load::{Format, LoadOptions, UnknownFields, load_bootstrap, parse_message};
use nuncio_core::address::Address;
use nuncio_core::error::BuildResult;
use nuncio_core::filter::{BuildCx, NodeInfo, ServerCx};
use nuncio_core::init::Init;
use nuncio_core::registry::Registry;
use nuncio_core::runtime::{Layer, Runtime, RuntimeValue, ServerState, Snapshot};
use nuncio_core::stats::{MetricValue, Scope, Store};
use nuncio_core::upstreams::{ChargeCluster, ClientOptions, DnsCache, HttpClient};
use nuncio_core::worker::Workers;
use nuncio_engine::upstream::client::Charges;
use nuncio_engine::{Change, ClusterManager, ListenerManager, Revision};
use prost::{Message, Name};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How long [`Server::wait_stat`] waits at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server; dropping it stops its threads.
pub struct Server {
    store: Store,
    listeners: BTreeMap<String, SocketAddr>,
    /// Dropped to stop.
    main: Option<mpsc::UnboundedSender<OnMain>>,
    thread: Option<JoinHandle<()>>,
}

type OnMain = Box<dyn FnOnce(&Control) + Send>;

/// What main has in its hands, to change the configuration of a server that runs.
pub struct Control {
    /// Its clusters.
    pub clusters: ClusterManager,
    /// Its listeners.
    pub listeners: ListenerManager,
    workers: Rc<Workers>,
    facts: Facts,
    registry: Registry,
    root: Scope,
}

impl Control {
    /// Calls `f` with a context for building.
    pub fn build<T>(&self, f: impl FnOnce(&BuildCx<'_>) -> T) -> T {
        f(&BuildCx {
            registry: &self.registry,
            scope: &self.root,
            name: "",
            node: &NodeInfo::default(),
            server: &self.facts,
            init: &Init::default(),
            validate_only: false,
        })
    }
    /// The runtime says this from now on, and nothing else.
    ///
    /// # Panics
    /// It is no YAML.
    pub fn set_runtime(&self, key: &str, value: &str) {
        let value = RuntimeValue::of_text(value).expect("a value");
        let layer = Layer { name: "test".into(), admin: false, values: [(key.to_owned(), value)].into() };
        self.facts.runtime.set(Snapshot::new(vec![layer]));
    }
    /// Does something on every worker, soon.
    pub fn on_workers(&self, f: impl Fn() + Send + Sync + 'static) {
        self.workers.run_on_all(move |_| f(), || ());
    }
    /// Adds or changes a cluster (YAML); says what became of it, and sends a message when all workers have it.
    ///
    /// # Errors
    /// It is refused.
    pub fn set_cluster(&self, yaml: &str) -> Result<(Change, oneshot::Receiver<()>), String> {
        let (done, is_done) = oneshot::channel();
        let done = Box::new(|| done.send(()).unwrap_or(())); // a test need not wait
        let set = |cx: &BuildCx<'_>| self.clusters.set(&parse(yaml), Revision::api("1"), cx, done);
        self.build(set).map(|c| (c, is_done)).map_err(|e| e.0)
    }
    /// Adds or changes a listener (YAML); says what became of it, and sends a message when all workers have it.
    ///
    /// # Errors
    /// It is refused.
    pub fn set_listener(&self, yaml: &str) -> Result<(Change, oneshot::Receiver<()>), String> {
        let (done, is_done) = oneshot::channel();
        let done = Box::new(|| done.send(()).unwrap_or(())); // as above
        let n = self.workers.len();
        let set = |cx: &BuildCx<'_>| self.listeners.set(&parse(yaml), Revision::api("1"), n, cx, done);
        self.build(set).map(|c| (c, is_done)).map_err(|e| e.0)
    }
    /// Takes over a static listener (YAML), as a reload does; says what became of it.
    ///
    /// # Errors
    /// It is refused.
    pub fn reload_listener(&self, yaml: &str) -> Result<Change, String> {
        let n = self.workers.len();
        let set =
            |cx: &BuildCx<'_>| self.listeners.set(&parse(yaml), Revision::fixed(), n, cx, Box::new(|| ()));
        self.build(set).map_err(|e| e.0)
    }
    /// Does something on a worker.
    pub fn on_worker(&self, f: impl FnOnce() + Send + 'static) {
        self.workers.run_on(0, f);
    }
    /// Where a listener listens.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        let l = self.listeners.list().into_iter().find(|l| *l.plan.info.name == *name)?;
        match &l.addresses[0] {
            Address::Ip(a) => Some(*a),
            _ => None,
        }
    }
}

fn parse<M: Message + Name + Default>(yaml: &str) -> M {
    match parse_message(yaml.as_bytes(), Format::Yaml, "test.yaml", UnknownFields::Refuse) {
        Ok(loaded) => loaded.message,
        Err(e) => panic!("{}\n{yaml}", e.envoy_phrase()),
    }
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
    fn http_client(&self, o: &ClientOptions<'_>, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        self.clusters.http_client(o, cx)
    }
    fn dns_cache(&self, c: &DnsCacheConfig, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DnsCache>> {
        self.clusters.dns_cache(c, cx)
    }
    fn charges(&self) -> Option<Arc<dyn ChargeCluster>> {
        Some(Arc::new(Charges))
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
        let (up, is_up) = std::sync::mpsc::channel();
        let (to_main, work) = mpsc::unbounded_channel();
        let (text, on_main) = (yaml.to_owned(), store.clone());
        let thread = std::thread::Builder::new()
            .name("main".into())
            .spawn(move || main(&text, workers, &on_main, &up, work))
            .expect("a thread");
        match is_up.recv() {
            Ok(Ok(listeners)) => Server { store, listeners, main: Some(to_main), thread: Some(thread) },
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
    /// Does something on main.
    ///
    /// # Panics
    /// Main has ended.
    pub async fn on_main<T: Send + 'static>(&self, f: impl FnOnce(&Control) -> T + Send + 'static) -> T {
        let (answer, answered) = oneshot::channel();
        let job: OnMain = Box::new(|c| drop(answer.send(f(c))));
        let sent = self.main.as_ref().expect("it runs").send(job);
        assert!(sent.is_ok(), "main has ended");
        answered.await.expect("main answers")
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
        drop(self.main.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) && !std::thread::panicking() {
            panic!("the server's main thread panicked");
        }
    }
}

type Up = std::sync::mpsc::Sender<Result<BTreeMap<String, SocketAddr>, String>>;

fn main(yaml: &str, workers: usize, store: &Store, up: &Up, mut work: mpsc::UnboundedReceiver<OnMain>) {
    let mut rt = tokio::runtime::Builder::new_current_thread();
    let rt = rt.enable_all().build_local(tokio::runtime::LocalOptions::default()).expect("a runtime");
    let threads = rt.block_on(async {
        tokio::task::spawn_local(nuncio_core::clock::run_wheel());
        nuncio_core::rng::seed_from_os();
        let _shard = store.register_shard();
        match build(yaml, workers, store).await {
            Ok(control) => {
                let names = control.listeners.list().into_iter().map(|l| l.plan.info.name.to_string());
                let addresses = names.filter_map(|n| control.address(&n).map(|a| (n, a)));
                let _ = up.send(Ok(addresses.collect())); // whoever started us may have given up
                while let Some(job) = work.recv().await {
                    job(&control);
                }
                Some(control.workers)
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

async fn build(yaml: &str, workers: usize, store: &Store) -> Result<Control, String> {
    let options = LoadOptions { yaml: Some(yaml), ..Default::default() };
    let message = load_bootstrap(&options).map_err(|e| e.to_string())?.message;
    let root = store.root();
    let (clusters, listeners) = (ClusterManager::new(&root), ListenerManager::new(&root));
    let facts =
        Facts { clusters: clusters.clone(), runtime: Arc::new(Runtime::new(vec![])), state: Arc::default() };
    let mut registry = Registry::default();
    nuncio_ext::register(&mut registry, &mut Default::default());
    nuncio_engine::register(&mut registry);
    probe::register(&mut registry);
    let (threads, jobs) = Workers::start(workers, store, |_| ()).map_err(|e| e.to_string())?;
    let threads = Rc::new(threads);
    tokio::task::spawn_local(jobs.run());
    let c = Control { clusters, listeners, workers: threads, facts, registry, root };
    let resources = message.static_resources.unwrap_or_default();
    for cluster in &resources.clusters {
        c.build(|cx| c.clusters.add(cluster, cx)).map_err(|e| e.to_string())?;
    }
    for l in &resources.listeners {
        c.build(|cx| c.listeners.add(l, workers, cx)).map_err(|e| e.to_string())?;
    }
    c.clusters.initialize().await;
    c.listeners.initialize().await;
    c.clusters.publish(&c.workers);
    c.listeners.start(&c.workers);
    Ok(c)
}

//! A cluster, its clients and its hosts.

use super::net::{Net, SimHost};
use crate::upstream::health::{Health, HostHealth};
use crate::upstream::manager::ClusterManager;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_core::body::Body;
use nuncio_core::clock::sim::Sim;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::filter::{BuildCx, NodeInfo, ServerCx};
use nuncio_core::init::Init;
use nuncio_core::runtime::{Runtime, ServerState};
use nuncio_core::stats::{Scope, Store};
use nuncio_core::upstreams::{CallOptions, ClientOptions, HttpClient};
use nuncio_core::worker::Workers;
use nuncio_core::{Registry, rng};
use nuncio_wire::{RequestHead, Version, name};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What happened in a second.
#[derive(Debug, Default)]
pub struct Second {
    /// Requests answered with 200, and others.
    pub good: u64,
    pub bad: u64,
    pub retries: u64,
    /// In milliseconds.
    pub p50: u64,
    pub p99: u64,
    /// Hosts that get requests, that are ejected, that fail their checks.
    pub healthy: u64,
    pub ejected: u64,
    pub failed: u64,
}

const CLUSTER: &str = "
name: c
type: STATIC
lb_policy: LEAST_REQUEST
connect_timeout: 0.25s
common_lb_config: {update_merge_window: 0s}
circuit_breakers: {thresholds: [{max_connections: 10000, max_pending_requests: 10000, max_requests: 10000, max_retries: 1000}]}
health_checks: [{timeout: 1s, interval: 5s, initial_jitter: 5s, no_traffic_interval: 5s, unhealthy_threshold: 2, healthy_threshold: 1, http_health_check: {path: /check}}]
outlier_detection: {consecutive_5xx: 3, interval: 5s, base_ejection_time: 30s, max_ejection_percent: 30, successful_active_health_check_uneject_host: false}
";

const RETRIES: &str = "
retry_on: 5xx,reset,connect-failure,refused-stream
num_retries: 3
retry_back_off: {base_interval: 0.005s, max_interval: 0.05s}
retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]
host_selection_retry_max_attempts: 5
";

struct Server;
impl ServerCx for Server {
    fn has_cluster(&self, _: &str) -> bool {
        true
    }
    fn runtime(&self) -> Arc<Runtime> {
        Arc::default()
    }
    fn state(&self) -> Arc<ServerState> {
        Arc::default()
    }
}

pub fn parsed<M: prost::Message + prost::Name + Default>(yaml: &str) -> M {
    let m = parse_message::<M>(yaml.as_bytes(), Format::Yaml, "simulation", UnknownFields::Refuse);
    m.expect("a message").message
}

pub struct World {
    sim: Sim,
    hosts: Vec<Rc<SimHost>>,
    manager: ClusterManager,
    client: Arc<dyn HttpClient>,
    rate: u64,
    /// Whether each request of this second was answered well, and after how many milliseconds.
    answers: Rc<RefCell<Vec<(bool, u64)>>>,
    retries: u64,
    /// Tries that take too long go on (`x-envoy-hedge-on-per-try-timeout`).
    pub hedges: bool,
}

impl World {
    /// Runs `f` in a world of `n` hosts, to which `rate` requests go per second.
    pub fn run<T>(n: usize, rate: u64, f: impl AsyncFnOnce(&mut World) -> T) -> T {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        runtime.expect("a runtime").block_on(async {
            let mut world = World::new(n, rate).await;
            f(&mut world).await
        })
    }
    async fn new(n: usize, rate: u64) -> World {
        let sim = Sim::new();
        rng::seed(7);
        let (net, store) = (Net::default(), Store::new());
        net.install();
        let (_workers, jobs) = Workers::start(0, &store, |_| {}).expect("none to start");
        tokio::task::spawn_local(jobs.run());
        let mut hosts = vec![];
        let mut yaml =
            format!("{CLUSTER}load_assignment:\n  cluster_name: c\n  endpoints:\n  - lb_endpoints:\n");
        for i in 0..n {
            let at = SocketAddr::from(([10, 0, (i / 250) as u8, (i % 250) as u8], 80));
            let latency = Duration::from_millis(10 + rng::below(20));
            hosts.push(net.add(at, latency));
            yaml += &format!(
                "    - {{endpoint: {{address: {{socket_address: {{address: {}, port_value: 80}}}}}}}}\n",
                at.ip()
            );
        }
        let root = store.root();
        let manager = ClusterManager::new(&root);
        let mut registry = Registry::default();
        crate::builtin::register(&mut registry);
        let client = with_cx(&registry, &root, |cx| {
            manager.add(&parsed::<pb::Cluster>(&yaml), cx).expect("a cluster");
            let retries = parsed::<core::RetryPolicy>(RETRIES);
            let o = ClientOptions {
                retry_policy: Some(&retries),
                envoy_headers: false,
                ..ClientOptions::new("c")
            };
            manager.http_client(&o, cx).expect("a client")
        });
        let begun = manager.clone();
        tokio::task::spawn_local(async move { begun.initialize().await });
        // All are checked once before it begins.
        sim.run_for(Duration::from_secs(7)).await;
        World { sim, hosts, manager, client, rate, answers: Rc::default(), retries: 0, hedges: false }
    }
    pub fn hosts(&self) -> &[Rc<SimHost>] {
        &self.hosts
    }
    /// Every fourth host.
    pub fn zone(&self, zone: usize) -> impl Iterator<Item = &Rc<SimHost>> {
        self.hosts.iter().skip(zone).step_by(4)
    }
    /// Does something in a while.
    pub fn later(&self, after: Duration, f: impl FnOnce(&[Rc<SimHost>]) + 'static) {
        let hosts = self.hosts.clone();
        tokio::task::spawn_local(async move {
            clock::sleep(TimerKind::Other, after).await;
            f(&hosts);
        });
    }
    /// Lets a second pass.
    pub async fn second(&mut self) -> Second {
        let between = Duration::from_secs(1) / self.rate as u32;
        for _ in 0..self.rate {
            self.ask();
            self.sim.run_for(between).await;
        }
        let entry = self.manager.list().pop().expect("the cluster");
        let retries = entry.plan.stats.upstream_rq_retry().value();
        let mut times: Vec<u64> = vec![];
        let mut s =
            Second { retries: retries - std::mem::replace(&mut self.retries, retries), ..Second::default() };
        for (good, ms) in self.answers.take() {
            *if good { &mut s.good } else { &mut s.bad } += 1;
            times.push(ms);
        }
        times.sort_unstable();
        let part = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0);
        (s.p50, s.p99) = (part(50), part(99));
        for h in &entry.hosts().hosts {
            s.healthy += u64::from(h.health.get() == Health::Healthy);
            s.ejected += u64::from(h.health.has(HostHealth::FAILED_OUTLIER_CHECK));
            s.failed += u64::from(h.health.has(HostHealth::FAILED_ACTIVE_HC));
        }
        s
    }
    fn ask(&self) {
        let mut head = RequestHead { version: Version::Http11, ..Default::default() };
        for (n, v) in
            [(name::METHOD, "GET"), (name::PATH, "/"), (name::SCHEME, "http"), (name::AUTHORITY, "c")]
        {
            head.headers.set(n, v.as_bytes());
        }
        head.headers.set(name::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, b"1500");
        if self.hedges {
            head.headers.set(name::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT, b"true");
        }
        let call = self.client.call(head, Body::Empty, CallOptions { timeout: Some(Duration::from_secs(4)) });
        let (answers, began) = (self.answers.clone(), clock::now());
        tokio::task::spawn_local(async move {
            let good = call.await.is_ok_and(|a| a.head.status == 200);
            let took = clock::now().saturating_duration_since(began).as_millis();
            answers.borrow_mut().push((good, took as u64));
        });
    }
}

pub fn with_cx<T>(registry: &Registry, scope: &Scope, f: impl FnOnce(&BuildCx<'_>) -> T) -> T {
    let (node, init) = (NodeInfo::default(), Init::default());
    f(&BuildCx { registry, scope, name: "", node: &node, server: &Server, init: &init, validate_only: false })
}

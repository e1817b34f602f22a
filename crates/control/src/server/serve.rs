//! A server that serves: start on main, then until it is told to end.

use super::dynamic::Dynamic;
use super::engine::EngineView;
use super::reload::{self, Reloader};
use super::{Parts, Phase, Server, build, shutdown};
use crate::admin::transport;
use crate::bootstrap::Refusal;
use crate::options::{DrainStrategy, Mode, Options};
use crate::remarks::Remarks;
use crate::xds::base::Base;
use nuncio_api::envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType};
use nuncio_api::envoy::config::bootstrap::v3::{Admin, Bootstrap};
use nuncio_api::envoy::config::core::v3::{Address as AddressProto, address, socket_address};
use nuncio_api::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use nuncio_core::access_log;
use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::init::Init;
use nuncio_core::overload::Connections;
use nuncio_core::worker::Workers;
use nuncio_core::{clock, log, rng};
use nuncio_engine::{ClusterManager, ListenerManager};
use nuncio_ext::access_log::{FilesystemStats, set_flush_interval, set_flush_min_size};
use prost::{Message, Name};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Most workers; more threads than this are a slip of the finger.
const MOST_WORKERS: u32 = 1024;

/// How long workers may take to cut their connections when the server ends.
const END: Duration = Duration::from_secs(2);

/// Starts a server and runs it until it is told to end.
///
/// # Errors
/// It cannot start.
pub fn serve(options: &Options, made: &Arc<build::Made>) -> Result<(), Refusal> {
    if options.restart_epoch > 0 && !options.disable_hot_restart && !options.skip_hot_restart_on_no_parent {
        return Err(BuildError::not_implemented("hot restart (--restart-epoch above 0)").into());
    }
    let failed = |e: std::io::Error| Refusal { phrase: format!("cannot start: {e}"), details: Vec::new() };
    if log::start_writer().is_err() {
        log!(Main, Warning, "no thread for the log: lines are written where they arise");
    }
    let mut rt = tokio::runtime::Builder::new_current_thread();
    rt.enable_io().enable_time().max_blocking_threads(4);
    // While a long answer of the admin interface is made there always is a task to run; requests that arrive meanwhile
    // shall not wait for sixty pieces of it.
    rt.event_interval(4);
    let rt = rt.build_local(tokio::runtime::LocalOptions::default()).map_err(failed)?;
    rt.block_on(run(options, made))
}

/// The number of workers: as asked, else one for each CPU that affinity and cgroup leave to this process.
pub fn concurrency(options: &Options) -> u32 {
    let cpus =
        || std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_WORKERS as usize) as u32);
    match options.concurrency {
        Some(n) if n > MOST_WORKERS => {
            log!(Main, Warning, "--concurrency {n} is cut to {MOST_WORKERS}");
            MOST_WORKERS
        }
        Some(n) => n,
        None => cpus(),
    }
}

async fn run(options: &Options, made: &Arc<build::Made>) -> Result<(), Refusal> {
    rng::seed_from_os();
    tokio::task::spawn_local(clock::run_wheel());
    let signals = shutdown::Signals::new().map_err(|e| Refusal::from(BuildError(e.to_string())))?;
    let print = reload::print(options);
    let ground = build::ground(options, made)?;
    let workers = concurrency(options);
    let _shard = ground.store.register_shard();
    let (loaded, node) = (ground.loaded, ground.node);
    let server = Rc::new(Server::new(Parts {
        options: options.clone(),
        concurrency: workers,
        store: ground.store.clone(),
        runtime: ground.runtime,
        node: node.json.clone(),
        bootstrap: loaded.wire.clone(),
        node_message: Some(Box::new(node.message.clone())),
        flush_on_admin: ground.flush.on_admin,
    }));
    set_flush_interval(options.file_flush_interval);
    if options.file_flush_min_size_kb > 0 {
        set_flush_min_size(options.file_flush_min_size_kb as usize * 1024);
    }
    // Kept to the end, so that they are listed.
    let _filesystem = FilesystemStats::of(&ground.store);
    let root = ground.store.root();
    let (clusters, listeners) = (ClusterManager::new(&root), ListenerManager::new(&root));
    listeners.set_drain(options.drain_time, options.drain_strategy == DrainStrategy::Immediate);
    let secrets = build::Secrets::new(&loaded.message);
    let view = Rc::new(EngineView::new(clusters.clone(), listeners.clone(), secrets.clone()));
    server.set_view(view.clone());
    let following = clusters.clone();
    server.runtime.follow(move |s| following.runtime_changed(s));
    let connections = &server.state.overload.connections;
    let runtime = server.runtime.current().clone();
    connections.set_runtime(runtime.number(Connections::KEY, u64::MAX));
    let overload = build::overload(&loaded.message, &root, server.state.clone(), &made.registry, &runtime)?;
    let xds = build::discovery(&loaded, options, &node, &root);
    let base = Rc::new(Base {
        made: made.clone(),
        facts: build::Facts {
            secrets: secrets.clone(),
            clusters: clusters.clone(),
            runtime,
            state: server.state.clone(),
            discovery: xds.clone(),
        },
        root,
        node,
        init: Init::default(),
        workers: workers as usize,
        reject_unknown: options.reject_unknown_dynamic_fields,
        remarks: Remarks::new(server.stats.server.clone(), options),
    });
    xds.set_base(&base);
    base.remarks.of_bootstrap(&loaded.warnings);
    let reloaded = Rc::downgrade(&server);
    xds.follow_files(&server.runtime.roots(), move || {
        reloaded.upgrade().iter().for_each(|s| s.runtime.reload())
    });
    let cx = base.cx();
    build::check_dynamic(&loaded, &xds)?;

    serve_admin(&loaded.message, &server, &cx)?;
    build::resources(&loaded, options, &listeners, &clusters, workers as usize, true, &cx)?;
    let frame = loaded.message; // what else is kept of it is kept as bytes
    drop((loaded.clusters, loaded.listeners));
    let dynamic = Dynamic::new(&frame, &xds, &clusters, &listeners, &view);
    let initialized = tokio::select! {
        r = dynamic.clusters(&server) => { r?; true }
        () = signals.end(&server) => false,
    };
    if !initialized {
        return Ok(());
    }
    log!(Upstream, Info, "cm init: all clusters initialized");
    server.set_phase(Phase::Initializing);
    if options.mode == Mode::InitOnly {
        return Ok(());
    }
    if !connections.is_monitored() {
        log!(
            Main,
            Warning,
            "There is no configured limit to the number of allowed active downstream connections. Configure a limit in \
         `envoy.resource_monitors.global_downstream_max_connections` resource monitor."
        );
    }
    log!(Main, Info, "all clusters initialized. initializing init manager");
    let initialized = tokio::select! {
        () = dynamic.listeners() => true,
        () = signals.end(&server) => false,
    };
    if !initialized {
        return Ok(());
    }
    log!(Config, Info, "all dependencies initialized. starting workers");
    let started = Workers::start(workers as usize, &ground.store, |_| ());
    let (threads, jobs) =
        started.map_err(|e| Refusal::from(BuildError(format!("cannot start workers: {e}"))))?;
    let threads = Rc::new(threads);
    tokio::task::spawn_local(jobs.run());
    clusters.publish(&threads);
    let inflated = server.stats.clusters.clone();
    clusters.follow_count(move |n| inflated.iter().for_each(|s| s.clusters_inflated().set(n as u64)));
    listeners.start(&threads);
    if let Some(overload) = overload {
        tokio::task::spawn_local(overload.run(threads.clone(), listeners.clone()));
    }
    // Live is who accepts: jobs of a worker run in order, so that this one comes after its listeners.
    let (accept, accepting) = tokio::sync::oneshot::channel();
    threads.run_on_all(|_| (), || accept.send(()).unwrap_or(()));
    let _ = accepting.await; // fails only without workers, and then there is nobody to wait for
    server.set_phase(Phase::Live);
    let millis = server.started().elapsed().as_millis();
    server.stats.server.initialization_time_ms().record(u64::try_from(millis).unwrap_or(u64::MAX));
    tokio::task::spawn_local(flush(server.clone(), ground.flush.interval));
    log!(Main, Info, "starting main dispatch loop");
    let reloader = Reloader {
        options,
        made,
        frame,
        secrets: &secrets,
        clusters: &clusters,
        listeners: &listeners,
        workers: workers as usize,
        cx,
        server: &server,
        view: &view,
    };
    tokio::select! {
        () = signals.end(&server) => {}
        () = reloader.run(print) => {}
    }
    shutdown::graceful(&server, &listeners).await;
    log!(Main, Info, "shutting down server instance");
    // Exchanges under way are cut, and logged.
    if !threads.end(END) {
        log!(Main, Warning, "a worker did not end in time");
    }
    nuncio_ext::access_log::flush();
    log!(Main, Info, "main dispatch loop exited");
    Ok(())
}

/// Flushes stats at every interval, in slices.
async fn flush(server: Rc<Server>, interval: Duration) {
    /// Histograms merged between two looks at main's other work.
    const SLICE: usize = 512;
    let mut panics = 0;
    loop {
        clock::sleep(clock::TimerKind::Other, interval).await;
        server.update_gauges();
        let now = nuncio_engine::panics();
        if now > panics {
            server.stats.server.panics().add(now - panics);
            panics = now;
        }
        let mut under_way = server.store.begin_histogram_flush();
        while under_way.step(SLICE) {
            tokio::task::yield_now().await;
        }
        server.store.reclaim();
    }
}

/// Starts the admin interface, when it has an address.
fn serve_admin(b: &Bootstrap, server: &Rc<Server>, cx: &BuildCx<'_>) -> BuildResult<()> {
    let configured = b.admin.as_deref().and_then(|a| a.address.as_deref());
    let Some(address) = configured else {
        log!(Main, Warning, "No admin address given, so no admin HTTP server started.");
        return Ok(());
    };
    let address = admin_address(address)?;
    log!(Main, Info, "Starting admin HTTP server at {address}");
    let exempt = b.admin.as_deref().is_some_and(|a| a.ignore_global_conn_limit);
    let logs = admin_logs(b.admin.as_deref(), cx)?;
    let bound = nuncio_engine::admin::serve(&address, transport::handler(server.clone()), logs, exempt, cx)?;
    log!(Admin, Info, "admin address: {bound}");
    let path = &server.options.admin_address_path;
    if !path.is_empty() && std::fs::write(path, bound.to_string()).is_err() {
        log!(Admin, Critical, "cannot open admin address output file {path} for writing.");
    }
    Ok(())
}

/// `access_log` of the admin interface, and the older `access_log_path`.
fn admin_logs(admin: Option<&Admin>, cx: &BuildCx<'_>) -> BuildResult<Vec<access_log::Logger>> {
    let Some(admin) = admin else { return Ok(Vec::new()) };
    let mut logs = admin.access_log.clone();
    #[allow(deprecated)] // still part of Envoy's configuration
    let path = admin.access_log_path.clone();
    if !path.is_empty() {
        let file = FileAccessLog { path, ..Default::default() };
        let any = prost_types::Any { type_url: FileAccessLog::type_url(), value: file.encode_to_vec() };
        logs.push(AccessLog {
            name: "envoy.access_loggers.file".to_owned(),
            config_type: Some(ConfigType::TypedConfig(any)),
            ..Default::default()
        });
    }
    access_log::build(&logs, cx)
}

fn admin_address(a: &AddressProto) -> BuildResult<Address> {
    match &a.address {
        Some(address::Address::SocketAddress(s)) => {
            let bad = || BuildError(format!("malformed IP address: {}", s.address));
            let ip: IpAddr = s.address.parse().map_err(|_| bad())?;
            let port = match &s.port_specifier {
                Some(socket_address::PortSpecifier::PortValue(p)) => u16::try_from(*p).map_err(|_| bad())?,
                _ => return Err(BuildError::not_implemented("SocketAddress.named_port")),
            };
            Ok(Address::Ip(SocketAddr::new(ip, port)))
        }
        Some(address::Address::Pipe(p)) => Ok(Address::Pipe(Arc::new(p.path.clone().into()))),
        _ => Err(BuildError::not_implemented("Admin.address.envoy_internal_address")),
    }
}

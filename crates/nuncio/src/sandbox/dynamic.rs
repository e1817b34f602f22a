//! `nuncio sandbox dynamic`: a proxy that gets everything from a control plane, whose source is a folder to edit.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nuncio_plane::Folder;
use tokio::sync::mpsc::Receiver;

use super::config::move_ports;
use super::control::{self, Pending, Request};
use super::control_plane::FromFolder;
use super::proxy::{Proxy, absolute};
use super::run_dir::RunDir;
use super::service::{Identity, Instance};
use super::signals::Stop;
use super::topology::{ADMIN, FRONT, HTTP, PLANE, Ports, SERVICES};
use super::{Failure, args, say};

/// A proxy that is not ready by then has a problem.
const READY: Duration = Duration::from_secs(60);
/// How long the proxy may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(10);
/// Instances of each service; the files name the first one only.
const INSTANCES: u8 = 2;

const BOOTSTRAP: &str = include_str!("../../../../examples/dynamic/bootstrap.yaml");
/// What the folder holds at first.
const FILES: [(&str, &str); 4] = [
    ("clusters.yaml", include_str!("../../../../examples/dynamic/xds/clusters.yaml")),
    ("endpoints.yaml", include_str!("../../../../examples/dynamic/xds/endpoints.yaml")),
    ("listeners.yaml", include_str!("../../../../examples/dynamic/xds/listeners.yaml")),
    ("routes.yaml", include_str!("../../../../examples/dynamic/xds/routes.yaml")),
];

/// Runs the sandbox until SIGINT, SIGTERM or `sandbox stop`.
///
/// # Errors
/// When a part cannot be started, or the proxy ends by itself.
pub(super) async fn run(options: args::Dynamic) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let ports = Ports::new(options.base_port);
    let run_dir = RunDir::claim(options.base_port)?;
    for port in [HTTP, ADMIN] {
        // The proxy binds with SO_REUSEPORT: two of them would share it in silence.
        let address = ports.at(FRONT, port);
        TcpListener::bind(address)
            .map_err(|e| format!("the proxy cannot listen on {address}: {e}; --base-port moves all ports"))?;
    }
    let folder = folder(&options, &run_dir, ports)?;
    let mut source = FromFolder::start(ports.at(FRONT, PLANE), Folder::new(&folder))?;
    let instances = services(ports).await?;
    let proxy = start_proxy(&options, ports, &run_dir)?;
    let (mut requests, _control) = control::listen(&run_dir.socket())?;
    let mut ready = std::pin::pin!(tokio::time::timeout(READY, proxy.ready()));
    let mut invited = false;
    let outcome = loop {
        tokio::select! {
            is = &mut ready, if !invited => {
                if is.is_err() {
                    break Err(format!("the proxy is not ready; the end of its log:\n{}", proxy.log_lines()));
                }
                invited = true;
                say(&invitation(&folder, ports));
            }
            why = source.follow() => break Err(why),
            failure = proxy.ended() => break Err(failure),
            () = stop.wait() => break Ok(()),
            Some(request) = requests.recv() => {
                if answer(request, ports) {
                    // Lets the answer leave.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    break Ok(());
                }
            }
        }
    };
    stopped(&proxy, instances, requests, &mut stop).await;
    outcome
}

async fn stopped(proxy: &Proxy, instances: Vec<Instance>, requests: Receiver<Pending>, stop: &mut Stop) {
    drop(requests);
    proxy.terminate();
    let ending = async {
        // If it stays, it is killed by being dropped.
        let _ = tokio::time::timeout(STOP, proxy.ended()).await;
        for instance in instances {
            instance.stop().await;
        }
    };
    tokio::select! {
        () = ending => {}
        // A second Ctrl-C.
        () = stop.wait() => {}
    }
}

/// Answers a request; whether it is to stop.
fn answer((request, answer): Pending, ports: Ports) -> bool {
    let stops = request == Request::Stop;
    let said = match request {
        Request::Stop => Ok(vec!["stopping".to_owned()]),
        Request::Status => Ok(addresses(ports)),
        Request::Scale(_) => Err("this sandbox scales by its endpoints.yaml".to_owned()),
    };
    // Whoever asked may have gone.
    let _ = answer.send(said);
    stops
}

/// The folder to edit: the user's, or one that goes with the sandbox; with the example's files where there are none.
fn folder(options: &args::Dynamic, run_dir: &RunDir, ports: Ports) -> Result<PathBuf, Failure> {
    let path = options.folder.clone().unwrap_or_else(|| run_dir.path().join("xds"));
    let fail = |e: std::io::Error| format!("{}: {e}", path.display());
    fs::create_dir_all(&path).map_err(fail)?;
    let empty = fs::read_dir(&path).map_err(fail)?.next().is_none();
    if empty {
        for (name, text) in FILES {
            let file = path.join(name);
            fs::write(&file, move_ports(text, FRONT, ports))
                .map_err(|e| format!("{}: {e}", file.display()))?;
        }
    }
    fs::canonicalize(&path).map_err(fail)
}

async fn services(ports: Ports) -> Result<Vec<Instance>, Failure> {
    let mut all = vec![];
    for (spec, index) in SERVICES.iter().flat_map(|s| (0..INSTANCES).map(move |i| (s, i))) {
        let identity = Identity { name: spec.number.to_string(), hostname: spec.instance_name(index) };
        let address = ports.at(spec.instance_ip(index), HTTP);
        let started = Instance::start(identity, address).await;
        all.push(started.map_err(|e| format!("{} cannot listen on {address}: {e}", spec.name))?);
    }
    Ok(all)
}

fn start_proxy(options: &args::Dynamic, ports: Ports, run_dir: &RunDir) -> Result<Proxy, Failure> {
    let own = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let binary = match &options.proxy {
        None => own.clone(),
        // The proxy runs in another folder.
        Some(path) => absolute(path)?,
    };
    let path = run_dir.path().join("bootstrap.yaml");
    let text = match options.sotw {
        true => BOOTSTRAP.replace("DELTA_GRPC", "GRPC"),
        false => BOOTSTRAP.to_owned(),
    };
    fs::write(&path, move_ports(&text, FRONT, ports)).map_err(|e| format!("{}: {e}", path.display()))?;
    let args = [
        "-c".to_owned(),
        path.display().to_string(),
        "--concurrency".into(),
        "1".into(),
        "--log-level".into(),
        options.log_level.clone(),
        // Several proxies on one machine would share the memory of one hot-restart generation.
        "--disable-hot-restart".into(),
    ];
    Proxy::start("proxy", ports.at(FRONT, ADMIN), &own, &binary, &args, run_dir.path(), options.logs)
}

fn addresses(ports: Ports) -> Vec<String> {
    let at = |port| -> SocketAddr { ports.at(FRONT, port) };
    vec![
        format!("{:<16} http://{} admin http://{}", "proxy", at(HTTP), at(ADMIN)),
        format!("{:<16} {}", "control plane", at(PLANE)),
    ]
}

/// What to try now.
fn invitation(folder: &Path, ports: Ports) -> String {
    let (http, admin) = (ports.at(FRONT, HTTP), ports.at(FRONT, ADMIN));
    let (folder, second) = (folder.display(), ports.at(SERVICES[0].instance_ip(1), HTTP));
    format!(
        "\nThe sandbox runs; Ctrl-C stops it. Try:\n\n  \
         curl http://{http}/service/1\n  \
         curl http://{admin}/config_dump\n\n\
         Then edit, and see here what the proxy says to it:\n\n  \
         {folder}/endpoints.yaml   add the second instance of service1, {second}\n  \
         {folder}/routes.yaml      add `prefix_rewrite: /headers` below a cluster\n  \
         {folder}/listeners.yaml   change the port, or add a listener\n  \
         {folder}/clusters.yaml    take the `eds_config` away: it is refused, and nothing changes\n"
    )
}

//! `nuncio sandbox front-proxy`: starts all parts in the order in which they need each other, and ends them together.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::config::{self, ProxySpec};
use super::control::{self, Request};
use super::dns::{self, Zone};
use super::fleet::Fleet;
use super::proxy::{Proxy, absolute};
use super::run_dir::RunDir;
use super::signals::Stop;
use super::topology::{ADMIN, DNS, FRONT, HTTP, HTTPS, Ports, SERVICES};
use super::{Failure, args, certificate, say};

/// A proxy that is not ready by then has a problem.
const READY: Duration = Duration::from_secs(60);
/// How long the proxies may take to stop before they are killed.
const STOP: Duration = Duration::from_secs(10);

/// Runs the sandbox until SIGINT, SIGTERM or `sandbox stop`.
///
/// # Errors
/// When a part cannot be started, or a proxy ends by itself.
pub(super) async fn run(options: args::FrontProxy) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let began = Instant::now();
    let ports = Ports::new(options.base_port);
    let specs = config::proxies();
    let run_dir = RunDir::claim(options.base_port)?;
    ports_are_free(&specs, ports)?;

    let zone = Zone::default();
    let dns_address = ports.at(FRONT, DNS);
    let _dns = dns::Server::start(dns_address, zone.clone())
        .await
        .map_err(|e| format!("the DNS server cannot listen on {dns_address}: {e}"))?;
    let mut fleet = Fleet::new(ports, zone);
    for service in &SERVICES {
        let asked = options.scale.iter().find(|(name, _)| name == service.name);
        fleet.scale(service.name, asked.map_or(1, |(_, count)| *count)).await?;
    }
    say(&format!("{:<16} {dns_address}", "dns"));
    for line in fleet.describe() {
        say(&line);
    }

    certificate::write_new(&run_dir.path().join("certs"))?;
    let proxies = start_proxies(&specs, &options, ports, &run_dir)?;
    let (mut requests, _control) = control::listen(&run_dir.socket())?;
    let outcome = tokio::select! {
        outcome = all_ready(&specs, &proxies, ports, began) => outcome.map(|()| true),
        failure = first_end(&proxies) => Err(failure),
        () = stop.wait() => Ok(false),
    };
    let outcome = match outcome {
        Ok(true) => {
            say(&invitation(&run_dir, ports));
            serve(&mut stop, &proxies, &mut fleet, &mut requests, &specs, ports).await
        }
        Ok(false) => Ok(()),
        Err(failure) => Err(failure),
    };

    drop(requests);
    let ending = async {
        stop_proxies(&proxies).await;
        fleet.stop().await;
    };
    tokio::select! {
        () = ending => {}
        // A second Ctrl-C: what still runs is killed by being dropped.
        () = stop.wait() => {}
    }
    outcome
}

/// Answers requests until it is time to stop.
async fn serve(
    stop: &mut Stop,
    proxies: &[Proxy],
    fleet: &mut Fleet,
    requests: &mut tokio::sync::mpsc::Receiver<control::Pending>,
    specs: &[ProxySpec],
    ports: Ports,
) -> Result<(), Failure> {
    loop {
        tokio::select! {
            () = stop.wait() => {
                say("stopping");
                return Ok(());
            }
            failure = first_end(proxies) => return Err(failure),
            () = fleet.grace_over() => fleet.reap(),
            Some((request, answer)) = requests.recv() => {
                let stopping = request == Request::Stop;
                let outcome = perform(request, fleet, specs, ports).await;
                // Whoever asked may have gone.
                let _ = answer.send(outcome);
                if stopping {
                    // Lets the answer leave.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    say("stopping: sandbox stop");
                    return Ok(());
                }
            }
        }
    }
}

async fn perform(
    request: Request,
    fleet: &mut Fleet,
    specs: &[ProxySpec],
    ports: Ports,
) -> Result<Vec<String>, Failure> {
    match request {
        Request::Stop => Ok(vec!["stopping".into()]),
        Request::Status => {
            let mut lines: Vec<String> = specs.iter().map(|spec| addresses(spec, ports)).collect();
            lines.extend(fleet.describe());
            Ok(lines)
        }
        Request::Scale(counts) => {
            for (service, count) in counts {
                fleet.scale(&service, count).await?;
            }
            let lines = fleet.describe();
            say(&lines.join("\n"));
            Ok(lines)
        }
    }
}

/// Refuses to start when a port is taken. The proxies bind with SO_REUSEPORT: two of them would share it in silence.
fn ports_are_free(specs: &[ProxySpec], ports: Ports) -> Result<(), Failure> {
    for spec in specs {
        for (port, what) in spec.ports {
            let address = ports.at(spec.ip, *port);
            TcpListener::bind(address).map_err(|e| {
                format!("{} ({what}) cannot listen on {address}: {e}; --base-port moves all ports", spec.name)
            })?;
        }
    }
    Ok(())
}

fn start_proxies(
    specs: &[ProxySpec],
    options: &args::FrontProxy,
    ports: Ports,
    run_dir: &RunDir,
) -> Result<Vec<Proxy>, Failure> {
    let own = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let binary = match &options.proxy {
        None => own.clone(),
        // The proxies run in another folder.
        Some(path) => absolute(path)?,
    };
    let mut proxies = Vec::new();
    for spec in specs {
        let path = run_dir.path().join(spec.file);
        let text = spec.config(options.config_dir.as_deref(), ports)?;
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        let args = [
            "-c".to_string(),
            path.display().to_string(),
            "--concurrency".into(),
            options.concurrency.to_string(),
            "--log-level".into(),
            options.log_level.clone(),
            "--service-cluster".into(),
            "front-proxy-sandbox".into(),
            "--service-node".into(),
            spec.name.into(),
            // Several proxies on one machine would share the memory of one hot-restart generation.
            "--disable-hot-restart".into(),
        ];
        let admin = ports.at(spec.ip, ADMIN);
        proxies.push(Proxy::start(spec.name, admin, &own, &binary, &args, run_dir.path(), options.logs)?);
    }
    Ok(proxies)
}

/// Returns when all proxies are ready, telling of each.
async fn all_ready(
    specs: &[ProxySpec],
    proxies: &[Proxy],
    ports: Ports,
    began: Instant,
) -> Result<(), Failure> {
    for (spec, proxy) in specs.iter().zip(proxies) {
        if tokio::time::timeout(READY.saturating_sub(began.elapsed()), proxy.ready()).await.is_err() {
            return Err(format!(
                "{} is not ready after {} s; the end of its log:\n{}",
                proxy.name(),
                READY.as_secs(),
                proxy.log_lines()
            ));
        }
        say(&format!("{}  ready after {:.1} s", addresses(spec, ports), began.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// Returns when any proxy ends, with its last words.
async fn first_end(proxies: &[Proxy]) -> Failure {
    let mut ends: Vec<_> = proxies.iter().map(|proxy| Box::pin(proxy.ended())).collect();
    std::future::poll_fn(move |cx| {
        ends.iter_mut()
            .map(|end| end.as_mut().poll(cx))
            .find(std::task::Poll::is_ready)
            .unwrap_or(std::task::Poll::Pending)
    })
    .await
}

async fn stop_proxies(proxies: &[Proxy]) {
    for proxy in proxies {
        proxy.terminate();
    }
    let all = async {
        for proxy in proxies {
            proxy.ended().await;
        }
    };
    // Those that stay are killed by being dropped.
    let _ = tokio::time::timeout(STOP, all).await;
}

/// Name and addresses of a proxy.
fn addresses(spec: &ProxySpec, ports: Ports) -> String {
    let mut line = format!("{:<16}", spec.name);
    for (port, what) in spec.ports {
        let address: SocketAddr = ports.at(spec.ip, *port);
        match *what {
            "admin" => line.push_str(&format!(" admin http://{address}")),
            scheme => line.push_str(&format!(" {scheme}://{address}")),
        }
    }
    line
}

/// What to try now.
fn invitation(run_dir: &RunDir, ports: Ports) -> String {
    let (http, https, admin) = (ports.at(FRONT, HTTP), ports.at(FRONT, HTTPS), ports.at(FRONT, ADMIN));
    format!(
        "\nThe sandbox runs; Ctrl-C stops it. Try:\n\n  \
         curl http://{http}/service/1\n  \
         curl -k https://{https}/service/2\n  \
         curl http://{admin}/clusters\n\n\
         More instances: nuncio sandbox scale service1=3\n\
         Files, and the authority of the certificate: {}",
        run_dir.path().display()
    )
}

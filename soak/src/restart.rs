//! Three hosts are killed and started again in turn, under 2,000 requests a second.

use crate::Result;
use crate::clients::{Tally, Target};
use crate::pattern::Check;
use crate::proxy::{Proxy, free_port};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// Requests a second, over all connections.
const RATE: u32 = 2000;
const CONNECTIONS: u32 = 50;

/// A policy, and what may fail under it.
struct Policy {
    name: &'static str,
    yaml: &'static str,
    /// At most the requests that were in flight on the host when it was killed; else none at all.
    in_flight: bool,
}

const POLICIES: [Policy; 3] = [
    Policy {
        name: "connect-failure,refused-stream,reset, 3 retries, previous_hosts",
        yaml: "retry_policy: {retry_on: 'connect-failure,refused-stream,reset', num_retries: 3, host_selection_retry_max_attempts: 5, \
               retry_host_predicate: [{name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]}",
        in_flight: false,
    },
    Policy {
        name: "connect-failure,reset-before-request, 3 retries",
        yaml: "retry_policy: {retry_on: 'connect-failure,reset-before-request', num_retries: 3, host_selection_retry_max_attempts: 5, \
               retry_host_predicate: [{name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]}",
        in_flight: true,
    },
    Policy { name: "none", yaml: NO_POLICY, in_flight: true },
];

const NO_POLICY: &str = "timeout: 15s";

fn config(port: u16, hosts: &[u16], policy: &str) -> String {
    let endpoints: Vec<_> = hosts
        .iter()
        .map(|p| {
            format!("{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {p}}}}}}}}}")
        })
        .collect();
    format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: ${{admin}}}}}}}}
static_resources:
  listeners:
  - name: l
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: soak
          route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: up, {policy}}}}}]}}]}}
          http_filters: [{{name: router, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]
  clusters:
  - name: up
    connect_timeout: 1s
    # A third of all requests may have to be asked again at once: three retries at a time, the default, are not enough.
    circuit_breakers: {{thresholds: [{{max_retries: 1000}}]}}
    load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{}]}}]}}
",
        endpoints.join(", ")
    )
}

async fn host(port: u16) -> Result<Child> {
    let child = Command::new(std::env::current_exe()?)
        .args(["origin", &port.to_string()])
        .kill_on_drop(true)
        .spawn()?;
    for _ in 0..100 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(child);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("a host does not start".into())
}

async fn kill(child: &mut Child, by: &str) -> Result<()> {
    let pid = child.id().ok_or("a host ended by itself")?.to_string();
    Command::new("kill").args([by, &pid]).status().await?;
    child.wait().await?;
    Ok(())
}

/// Asks at its share of the rate. A failure is anything but a whole, right answer.
async fn client(t: Arc<Tally>, to: Target, begun: Arc<AtomicU64>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) * CONNECTIONS / RATE);
    while !t.over() {
        let Ok(io) = to.connect("").await else {
            t.odd("no connection to the proxy");
            continue;
        };
        let Ok((mut send, conn)) = http1::handshake(TokioIo::new(io)).await else { continue };
        tokio::spawn(conn);
        while !t.over() && send.ready().await.is_ok() {
            tick.tick().await;
            let rq = Request::get("/bytes/1024")
                .header("host", "soak")
                .header("x-seed", "4")
                .body(Empty::<Bytes>::new())
                .expect("a request");
            match send.send_request(rq).await {
                Err(e) => t.odd(format!("no answer: {e}")),
                Ok(r) if r.status() != 200 => {
                    let status = r.status();
                    let body = r.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                    t.odd(format!("{status} {}", String::from_utf8_lossy(&body)));
                }
                Ok(r) => match r.into_body().collect().await {
                    // Its answer had begun: nobody can do anything about it.
                    Err(_) => drop(begun.fetch_add(1, Relaxed)),
                    Ok(body) => {
                        let mut c = Check::new(4);
                        c.add(&body.to_bytes());
                        if c.whole(1024) { t.good() } else { t.wrong("GET") }
                    }
                },
            }
        }
    }
}

async fn under(bin: &str, policy: &Policy, length: Duration) -> Result<()> {
    let mut ports = vec![];
    let mut hosts = vec![];
    for _ in 0..3 {
        ports.push(free_port()?);
    }
    for p in &ports {
        hosts.push(host(*p).await?);
    }
    let port = free_port()?;
    let mut p = Proxy::start(bin, &config(port, &ports, policy.yaml)).await?;
    let to = Target { addr: SocketAddr::from(([127, 0, 0, 1], port)), trust: None };
    let (t, begun) = (Arc::new(Tally::default()), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(client(t.clone(), to.clone(), begun.clone()));
    }
    let start = Instant::now();
    let (mut kills, mut in_flight) = (0, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    while start.elapsed() < length {
        let which = kills % 3;
        in_flight += p.stats().await?.get("cluster.up.upstream_rq_active").copied().unwrap_or(0);
        kill(&mut hosts[which], if kills % 2 == 0 { "-KILL" } else { "-TERM" }).await?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        hosts[which] = host(ports[which]).await?;
        tokio::time::sleep(Duration::from_millis(800)).await;
        kills += 1;
    }
    t.stop();
    while clients.join_next().await.is_some() {}
    p.well()?;
    let odd = t.odd_ones();
    // Without a policy, a host that is down refuses connections, and Envoy answers so: these are not failures of ours.
    let refused = |what: &str| policy.yaml == NO_POLICY && what.contains("remote connection failure");
    let failed: u64 = odd.iter().filter(|(what, _)| !refused(what)).map(|(_, n)| n).sum();
    println!(
        "{}: {} good, {kills} kills, {failed} failed, {} cut after their answer had begun",
        policy.name,
        t.good.load(Relaxed),
        begun.load(Relaxed)
    );
    for (what, n) in odd {
        println!("       {n} x {what}");
    }
    // What was in flight is known roughly, from the gauge just before.
    let allowed = if policy.in_flight { (in_flight + kills as u64) * 2 } else { 0 };
    if t.wrong.load(Relaxed) > 0 || failed > allowed {
        return Err(format!("{failed} requests failed, {allowed} may").into());
    }
    Ok(())
}

pub async fn run(bin: &str, length: Duration) -> Result<()> {
    for policy in &POLICIES {
        under(bin, policy, length).await?;
    }
    Ok(())
}

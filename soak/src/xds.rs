//! The update storm: a control plane changes routes, endpoints, clusters, certificates and listeners, eight times a second and
//! a tenth of it broken, under 2,000 requests a second and 200 open WebSockets. Nobody notices.

use crate::Result;
use crate::clients::{Tally, Target, tls};
use crate::origin;
use crate::pattern::{Check, pieces};
use crate::proxy::{Proxy, free_port};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

/// Requests a second, over all connections.
const RATE: u32 = 2000;
const CONNECTIONS: u32 = 50;
const WEBSOCKETS: u64 = 200;
/// Between two updates.
const PAUSE: Duration = Duration::from_millis(120);
/// How long the proxy may take to answer an update.
const PATIENCE: Duration = Duration::from_secs(20);

/// The control plane's process, and the folder it reads.
struct Plane {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    folder: PathBuf,
}

/// What the proxy made of an update.
#[derive(Debug, PartialEq)]
enum Answer {
    Used,
    Refused(String),
}

impl Plane {
    fn start(bin: &str, port: u16, folder: PathBuf) -> Result<Plane> {
        let mut child = Command::new(bin)
            .args(["sandbox", "control-plane", "--folder"])
            .arg(&folder)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        Ok(Plane { _child: child, lines: BufReader::new(stdout).lines(), folder })
    }
    /// Puts a file in its place, at once.
    fn save(&self, name: &str, text: &str) -> Result<()> {
        let beside = self.folder.join("new");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, self.folder.join(name))?)
    }
    /// What the proxy says to the next version of this kind that is sent.
    async fn answer(&mut self, kind: &str) -> Result<Answer> {
        let mut version: Option<String> = None;
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            let line =
                line.map_err(|_| format!("no answer to {kind}"))??.ok_or("the control plane has ended")?;
            if line.starts_with("not sent") {
                return Err(line.into());
            }
            let Some(rest) = line.strip_prefix(kind).and_then(|l| l.strip_prefix(": version ")) else {
                continue;
            };
            let (of, what) = rest.split_once(' ').unwrap_or((rest, ""));
            match (&version, what) {
                (None, w) if w.starts_with("sent") => version = Some(of.to_owned()),
                (Some(v), "is in use") if v == of => return Ok(Answer::Used),
                (Some(v), w) if v == of && w.starts_with("REFUSED") => {
                    return Ok(Answer::Refused(w.to_owned()));
                }
                _ => {}
            }
        }
    }
}

const TYPE: &str = "resources:\n- '@type': type.googleapis.com/envoy";
const ADS: &str = "{resource_api_version: V3, ads: {}}";
const HTTP: &str = "'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// What is updated: how its file is called, and what the control plane calls it.
const KINDS: [&str; 5] = ["routes", "endpoints", "clusters", "secrets", "listeners"];

struct World {
    port: u16,
    hosts: [SocketAddr; 2],
    identities: Vec<tls::Identity>,
}

impl World {
    /// The `n`th version of a file; broken: what makes it so, and what the refusal says.
    fn file(&self, kind: &str, n: usize, broken: bool) -> (String, &'static str) {
        match kind {
            "routes" => (self.routes(n, broken), "missing"),
            "endpoints" => (self.endpoints(n, broken), "malformed IP address"),
            "clusters" => (self.clusters(n, broken), "broken"),
            "secrets" => (self.secrets(n, broken), "certificate"),
            _ => (self.listeners(n, broken), "main"),
        }
    }
    fn routes(&self, n: usize, broken: bool) -> String {
        let extra = if broken { "safe_regex: {regex: '(missing'}" } else { "prefix: /extra" };
        let (a, b) = (n % 101, 100 - n % 101);
        format!(
            "{TYPE}.config.route.v3.RouteConfiguration
  name: all
  virtual_hosts:
  - name: all
    domains: ['*']
    routes:
    - {{match: {{{extra}}}, direct_response: {{status: 200, body: {{inline_string: '{n}'}}}}}}
    - {{match: {{path: /ws}}, route: {{cluster: b, timeout: 0s}}}}
    - {{match: {{prefix: /}}, route: {{weighted_clusters: {{clusters: [{{name: a, weight: {a}}}, {{name: b, weight: {b}}}]}}}}}}
"
        )
    }
    fn endpoints(&self, n: usize, broken: bool) -> String {
        let one = |host: &str, port: u16| {
            format!(
                "{{endpoint: {{address: {{socket_address: {{address: {host}, port_value: {port}}}}}}}, load_balancing_weight: {}}}",
                n % 100 + 1
            )
        };
        let [x, y] = self.hosts.map(|h| one("127.0.0.1", h.port()));
        let a = if n % 2 == 0 { format!("{x}, {y}") } else { x.clone() };
        let a = if broken { one("nowhere", 1) } else { a };
        let b = if n % 3 == 0 { y } else { format!("{y}, {x}") };
        let all = [("a", a), ("b", b)].map(|(name, hosts)| {
            let head = TYPE.trim_start_matches("resources:\n");
            format!("{head}.config.endpoint.v3.ClusterLoadAssignment\n  cluster_name: {name}\n  endpoints: [{{lb_endpoints: [{hosts}]}}]\n")
        });
        format!("resources:\n{}", all.concat())
    }
    fn clusters(&self, n: usize, broken: bool) -> String {
        let head = TYPE.trim_start_matches("resources:\n");
        let eds = |name: &str, more: &str| {
            format!(
                "{head}.config.cluster.v3.Cluster\n  name: {name}\n  type: EDS\n  eds_cluster_config: {{eds_config: {ADS}}}\n  {more}\n"
            )
        };
        let broken = if broken { eds("broken", "lb_policy: CLUSTER_PROVIDED") } else { String::new() };
        // One that changes, one that stays, one that comes and goes.
        let a = eds("a", &format!("connect_timeout: {}s", n % 7 + 1));
        let b = eds("b", "connect_timeout: 2s");
        format!(
            "resources:\n{a}{b}{head}.config.cluster.v3.Cluster\n  name: extra{n}\n  connect_timeout: 1s\n{broken}"
        )
    }
    fn secrets(&self, n: usize, broken: bool) -> String {
        // Another one than the last time.
        let one = &self.identities[n.div_ceil(KINDS.len()) % self.identities.len()];
        let quoted = |pem: &str| format!("{{inline_string: \"{}\"}}", pem.replace('\n', "\\n"));
        let chain = if broken { format!("{{inline_string: nonsense{n}}}") } else { quoted(&one.certificate) };
        format!(
            "{TYPE}.extensions.transport_sockets.tls.v3.Secret
  name: own
  tls_certificate: {{certificate_chain: {chain}, private_key: {}}}
",
            quoted(&one.key)
        )
    }
    fn listeners(&self, n: usize, broken: bool) -> String {
        let manager = "filters:
      - name: http
        typed_config:
          HTTP
          stat_prefix: soak
          upgrade_configs: [{upgrade_type: websocket}]
          rds: {route_config_name: all, config_source: ADS}
          http_filters: [{name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
"
        .replace("HTTP", HTTP)
        .replace("ADS", ADS);
        // The one that changes: nobody is on it.
        let server = if broken {
            String::from("transport_protocol: raw_buffer")
        } else {
            format!("server_names: [extra{n}.example]")
        };
        format!(
            "{TYPE}.config.listener.v3.Listener
  name: main
  address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}
  listener_filters: [{{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}}}]
  filter_chains:
    - name: plain
      filter_chain_match: {{transport_protocol: raw_buffer}}
      {manager}
    - name: secure
      filter_chain_match: {{transport_protocol: tls}}
      transport_socket:
        name: tls
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context: {{tls_certificate_sds_secret_configs: [{{name: own, sds_config: {ADS}}}]}}
      {manager}
    - name: extra
      filter_chain_match: {{{server}}}
      {manager}
",
            self.port
        )
    }
}

fn bootstrap(plane: u16, api: &str) -> String {
    format!(
        "node: {{id: soak, cluster: soak}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: ${{admin}}}}}}}}
dynamic_resources:
  ads_config: {{api_type: {api}, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: plane}}}}]}}
  cds_config: {ADS}
  lds_config: {ADS}
static_resources:
  clusters:
  - name: plane
    connect_timeout: 1s
    load_assignment: {{cluster_name: plane, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {plane}}}}}}}}}]}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
"
    )
}

/// Asks at its share of the rate, for ever on one connection. A failure is anything but a whole, right answer.
async fn client(t: Arc<Tally>, to: Target) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) * CONNECTIONS / RATE);
    while !t.over() {
        let io = match to.connect("http/1.1").await {
            Ok(io) => io,
            Err(e) => {
                t.odd(format!("no connection: {e}"));
                continue;
            }
        };
        let Ok((mut send, conn)) = http1::handshake(TokioIo::new(io)).await else { continue };
        tokio::spawn(conn);
        // New connections come about too.
        for _ in 0..400 {
            if t.over() || send.ready().await.is_err() {
                break;
            }
            tick.tick().await;
            let rq = Request::get("/bytes/1024").header("host", "soak").header("x-seed", "4");
            let rq = rq.body(Empty::<Bytes>::new()).expect("a request");
            match send.send_request(rq).await {
                Err(e) => t.odd(format!("no answer: {e}")),
                Ok(r) if r.status() != 200 => {
                    let status = r.status();
                    let body = r.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                    t.odd(format!("{status} {}", String::from_utf8_lossy(&body)));
                }
                Ok(r) => match r.into_body().collect().await {
                    Err(e) => t.odd(format!("a cut answer: {e}")),
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

/// One WebSocket from the begin to the end, with a message each second.
async fn websocket(t: Arc<Tally>, to: Target, seed: u64) {
    if let Err(e) = talk(&t, &to, seed).await {
        t.odd(format!("websocket: {e}"));
    }
}

async fn talk(t: &Tally, to: &Target, seed: u64) -> Result<()> {
    let (mut ws, _) = client_async("ws://soak/ws", to.connect("http/1.1").await?).await?;
    let sent: Vec<u8> = pieces(seed, 500).flatten().collect();
    while !t.over() {
        ws.send(Message::binary(sent.clone())).await?;
        match ws.next().await {
            Some(Ok(Message::Binary(back))) if back == sent => {}
            Some(Ok(_)) => t.wrong("websocket"),
            Some(Err(e)) => return Err(e.into()),
            None => return Err("closed".into()),
        }
        tokio::time::sleep(Duration::from_millis(900 + seed)).await;
    }
    ws.close(None).await?;
    Ok(())
}

/// `updates` of them, by delta or as state of the world.
async fn under(bin: &str, api: &str, updates: usize, folder: &Path) -> Result<()> {
    let (port, plane_port) = (free_port()?, free_port()?);
    let (identities, trust) = tls::several(3)?;
    let hosts = [origin::start().await?, origin::start().await?];
    let world = World { port, hosts, identities };
    let mut plane = Plane::start(bin, plane_port, folder.to_owned())?;
    for kind in KINDS {
        plane.save(&format!("{kind}.yaml"), &world.file(kind, 0, false).0)?;
    }
    let mut p = Proxy::start(bin, &bootstrap(plane_port, api)).await?;
    p.wait("listener_manager.total_listeners_active", 1, PATIENCE).await?;
    let at = |trust| Target { addr: SocketAddr::from(([127, 0, 0, 1], port)), trust };
    let ways = [at(None), at(Some(trust))];
    let t = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for i in 0..CONNECTIONS {
        clients.spawn(client(t.clone(), ways[i as usize % 2].clone()));
    }
    for i in 0..WEBSOCKETS {
        clients.spawn(websocket(t.clone(), ways[i as usize % 2].clone(), i));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let open = p.stats().await?.get("http.soak.downstream_cx_upgrades_active").copied();
    let (begin, mut early, mut refusals, mut slowest) = (Instant::now(), 0.0, 0, Duration::ZERO);
    for n in 1..=updates {
        let (kind, broken) = (KINDS[n % KINDS.len()], n % 10 == (n / 10) % 10);
        let (text, says) = world.file(kind, n, broken);
        let sent = Instant::now();
        plane.save(&format!("{kind}.yaml"), &text)?;
        let answer = plane.answer(kind).await.map_err(|e| format!("update {n}: {e}\n{}", p.log()))?;
        slowest = slowest.max(sent.elapsed());
        match (broken, answer) {
            (false, Answer::Used) => {}
            (true, Answer::Refused(why)) if why.contains(says) => refusals += 1,
            (_, other) => {
                t.odd(format!("update {n} of {kind}{}: {other:?}", if broken { ", broken" } else { "" }))
            }
        }
        if n == updates / 5 {
            early = p.resident()?;
        }
        tokio::time::sleep(PAUSE.saturating_sub(sent.elapsed())).await;
    }
    let took = begin.elapsed();
    let late = p.resident()?;
    let upgraded = p.stats().await?.get("http.soak.downstream_cx_upgrades_active").copied();
    t.stop();
    while clients.join_next().await.is_some() {}
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = p.resident()?;
    p.well()?;
    println!(
        "{api}: {updates} updates in {:.0} s (slowest {:.0} ms), {refusals} refused, {} requests, {upgraded:?} WebSockets; {early:.0} MB after a \
         fifth, {late:.0} MB at the end, {after:.0} MB when all had left",
        took.as_secs_f64(),
        slowest.as_secs_f64() * 1000.0,
        t.good.load(Relaxed)
    );
    let odd = t.odd_ones();
    for (what, n) in &odd {
        println!("       {n} x {what}");
    }
    if !odd.is_empty() || upgraded != open {
        return Err(format!(
            "{} kinds of failure, {open:?} WebSockets at first, {upgraded:?} at last",
            odd.len()
        )
        .into());
    }
    if late > early * 1.1 + 8.0 {
        return Err(format!("memory grows: {early:.0} MB, then {late:.0} MB").into());
    }
    Ok(())
}

pub async fn run(bin: &str, updates: usize) -> Result<()> {
    for api in ["DELTA_GRPC", "GRPC"] {
        let folder = std::env::temp_dir().join(format!("nuncio-soak-xds-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let outcome = under(bin, api, updates, &folder).await;
        std::fs::remove_dir_all(&folder)?;
        outcome?;
    }
    Ok(())
}

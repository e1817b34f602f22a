//! Connections opened and cut at random points, half-sent requests, hosts that reset, stall or send garbage: nothing
//! panics and nothing is left behind.

use nuncio_core::rng;
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use nuncio_wire::h2::{ErrorCode, Settings};
use std::fs;
use std::time::{Duration, Instant};

/// Connections per round.
const CONNECTIONS: usize = 1000;
/// Clients at once.
const CLIENTS: usize = 20;

fn chance(n: u64) -> bool {
    rng::below(n) == 0
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// Resident memory in KB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// An HTTP/1 host that is rarely well.
async fn bad_h1(mut c: Conn) {
    while let Some(_head) = c.head().await {
        let body = "x".repeat(rng::below(3000) as usize);
        let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        match rng::below(10) {
            0 => return,
            1 => return c.reset(),
            2 => {
                c.send(&whole[..rng::below(whole.len() as u64) as usize]).await;
                return;
            }
            3 => {
                c.send(&whole[..rng::below(whole.len() as u64) as usize]).await;
                return c.reset();
            }
            4 => {
                c.send("\0\u{1}garbage\r\n\r\n").await;
                c.fate().await;
                return;
            }
            5 => {
                // Stalls until the proxy gives up.
                c.fate().await;
                return;
            }
            6 => c.send(format!("HTTP/1.1 103 Early\r\nlink: x\r\n\r\n{whole}")).await,
            7 => {
                c.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: v\r\n\r\n")
                    .await
            }
            _ => c.send(whole).await,
        }
    }
}

/// An HTTP/2 host that is rarely well.
async fn bad_h2(io: tokio::net::TcpStream) {
    if chance(20) {
        return;
    }
    let mut p = Peer::server(io, Settings { max_concurrent_streams: 20, ..Default::default() });
    while let Some((id, _)) = p.request().await {
        match rng::below(12) {
            0 => p.codec.reset(id, ErrorCode::INTERNAL_ERROR),
            1 => p.codec.reset(id, ErrorCode::REFUSED_STREAM),
            2 => {
                p.respond(id, &h2::response(200, &[]), false);
                p.data(id, "half", false);
                p.codec.reset(id, ErrorCode::CANCEL);
            }
            3 => {} // stalls
            4 if chance(3) => {
                p.codec.goaway(ErrorCode::NO_ERROR, b"");
                p.respond(id, &h2::response(200, &[]), true);
            }
            5 if chance(3) => return,
            _ => {
                p.respond(id, &h2::response(200, &[]), false);
                p.data(id, vec![b'x'; rng::below(20_000) as usize + 1], true);
            }
        }
    }
}

/// A client of HTTP/1 that leaves when it likes.
async fn client_h1(to: std::net::SocketAddr) {
    let mut c = Conn::open(to).await;
    for _ in 0..=rng::below(3) {
        let body = "y".repeat(rng::below(2000) as usize);
        let path = ["/h1", "/h2", "/dead", "/none"][rng::below(4) as usize];
        let whole = match rng::below(4) {
            0 => format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
            1 => format!(
                "POST {path} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            )
            .replace("\r\n0\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n"),
            _ => format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"),
        };
        match rng::below(6) {
            0 => {
                c.send(&whole[..rng::below(whole.len() as u64) as usize]).await;
                return if chance(2) { c.reset() } else { drop(c) };
            }
            1 => {
                c.send(&whole).await;
                tokio::time::sleep(Duration::from_millis(rng::below(4))).await;
                return if chance(2) { c.reset() } else { drop(c) };
            }
            2 => {
                c.send("GARBAGE\r\n\r\n").await;
                let _ = tokio::time::timeout(Duration::from_millis(20), c.fate()).await;
                return;
            }
            3 => {
                c.send(&whole).await;
                let n = rng::below(300) as usize;
                let _ = tokio::time::timeout(Duration::from_millis(20), c.bytes(n)).await;
                return;
            }
            _ => {
                c.send(&whole).await;
                let answer = tokio::time::timeout(Duration::from_millis(400), c.response()).await;
                if !matches!(answer, Ok(Some(_))) {
                    return;
                }
            }
        }
    }
}

/// The same over HTTP/2.
async fn client_h2(to: std::net::SocketAddr) {
    let mut p = Peer::open(to).await;
    for _ in 0..=rng::below(6) {
        let path = ["/h1", "/h2", "/dead", "/none"][rng::below(4) as usize];
        let id = p.begin(&h2::request("POST", path, &[]), chance(2));
        match rng::below(4) {
            0 => p.codec.reset(id, ErrorCode::CANCEL),
            1 => p.data(id, vec![b'z'; rng::below(50_000) as usize + 1], false),
            _ => p.data(id, vec![b'z'; rng::below(50_000) as usize + 1], true),
        }
        p.turn(Duration::from_millis(rng::below(10))).await;
        if chance(8) {
            return;
        }
    }
    p.turn(Duration::from_millis(30)).await;
}

async fn round(s: &Server) {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let to = s.addr();
        clients.spawn_local(async move {
            for _ in 0..CONNECTIONS / CLIENTS {
                if chance(3) { client_h2(to).await } else { client_h1(to).await }
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client panics");
    }
}

/// Waits until `f` holds.
async fn settle(what: &str, s: &Server, f: impl Fn() -> bool) {
    let began = Instant::now();
    while !f() {
        assert!(began.elapsed() < Duration::from_secs(5), "{what} does not settle:\n{}", s.used());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn nothing_is_left_behind() {
    rng::seed(7);
    run(async {
        let one = Upstream::h1(|c, _| bad_h1(c)).await;
        let two = Upstream::tcp(|io, _| bad_h2(io)).await;
        let idle = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': \
                    type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
                    common_http_protocol_options: {idle_timeout: 0.3s}, explicit_http_config: ";
        let config = Config::new()
            .cluster("one", one.addr, &format!("{idle} {{http_protocol_options: {{}}}}}}}}"))
            .cluster("two", two.addr, &format!("{idle} {{http2_protocol_options: {{}}}}}}}}"))
            .cluster("dead", Upstream::refusing(), "")
            .route("match: {prefix: /h1}, route: {cluster: one, timeout: 0.2s}")
            .route("match: {prefix: /h2}, route: {cluster: two, timeout: 0.2s}")
            .route("match: {prefix: /dead}, route: {cluster: dead}")
            .hcm("stream_idle_timeout: 1s")
            .hcm("delayed_close_timeout: 0.2s");
        let s = Server::start(&config);
        // The worker has made its own descriptors once it has answered.
        assert_eq!(Conn::open(s.addr()).await.get("/none").await.status(), 404);
        s.wait_stat("http.ingress.downstream_cx_active", 0).await;
        let before = descriptors();
        let mut rss = vec![];
        for _ in 0..3 {
            round(&s).await;
            // All clients are gone; hosts' connections idle out.
            settle("connections", &s, || {
                s.stats(|n| n.ends_with("_cx_active")).values().all(|v| *v == 0)
                    && one.open() + two.open() == 0
            })
            .await;
            settle("descriptors", &s, || descriptors() == before).await;
            rss.push(resident());
        }
        let left = s.stats(|n| n.ends_with("_active") || n.contains("circuit_breakers"));
        let left: Vec<_> = left.iter().filter(|(n, v)| **v != 0 && !n.contains("total_")).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(nuncio_engine::panics(), 0);
        assert!(rss[2] < rss[1] * 1.05, "memory grows: {rss:?} KB");
        let sum = |names: &[&str]| {
            names.iter().map(|n| s.stat(&format!("http.ingress.downstream_{n}"))).sum::<u64>()
        };
        assert_eq!(s.stat("http.ingress.downstream_cx_total"), s.stat("http.ingress.downstream_cx_destroy"));
        // Each request was answered, cut, or both.
        let answered = sum(&["rq_1xx", "rq_2xx", "rq_3xx", "rq_4xx", "rq_5xx"]);
        let (all, cut) = (sum(&["rq_total"]), sum(&["rq_rx_reset"]));
        assert!(answered <= all && all <= answered + cut, "{answered}, {cut}, {all}\n{}", s.used());
        assert!(answered > 500, "{answered} answers are too few to say something");
    });
}

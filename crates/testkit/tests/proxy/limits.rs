//! Circuit breakers and timeouts.

use crate::peers::{Client, Http};
use nuncio_testkit::conn::Fate;
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::probe::Log;
use nuncio_testkit::upstream::ok;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use nuncio_wire::h2::Settings;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%";

fn limited(host: SocketAddr, thresholds: &str) -> Config {
    Config::new()
        .cluster("up", host, &format!("circuit_breakers: {{thresholds: [{{{thresholds}}}]}}"))
        .route("match: {prefix: /}, route: {cluster: up}")
}

/// A host that answers `/slow` when the test is over.
async fn slow() -> Upstream {
    Upstream::h1(|mut c, _| async move {
        while let Some(m) = c.request().await {
            if m.head.contains("/slow") {
                c.fate().await;
                return;
            }
            c.send(ok(b"x")).await;
        }
    })
    .await
}

#[test]
fn one_connection_and_no_queue() {
    run(async {
        let (up, log) = (slow().await, Log::default());
        let s =
            Server::start(&limited(up.addr, "max_connections: 1, max_pending_requests: 1").log(&log, FORMAT));
        let mut busy = Conn::open(s.addr()).await;
        busy.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        let mut waits = Conn::open(s.addr()).await;
        waits.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_pending_active", 1).await;
        let r = Conn::open(s.addr()).await.get("/").await;
        assert_eq!((r.status(), r.header("x-envoy-overloaded")), (503, Some("true")));
        let details = "503 UO upstream_reset_before_response_started{overflow}";
        assert_eq!(log.line(1).await, details);
        s.expect(&[
            ("cluster.up.upstream_cx_overflow", 1),
            ("cluster.up.upstream_rq_pending_overflow", 1),
            ("cluster.up.upstream_cx_total", 1),
            ("cluster.up.circuit_breakers.default.cx_open", 1),
            ("cluster.up.circuit_breakers.default.rq_pending_open", 1),
        ])
        .await;
        // The one that waits gets a connection when the busy one is gone.
        drop(busy);
        assert_eq!(waits.response().await.expect("a response").status(), 200);
        s.expect(&[
            ("cluster.up.upstream_rq_pending_active", 0),
            ("cluster.up.upstream_rq_active", 0),
            ("cluster.up.circuit_breakers.default.rq_pending_open", 0),
        ])
        .await;
    });
}

#[test]
fn a_client_that_leaves_the_queue() {
    run(async {
        let up = slow().await;
        let s = Server::start(&limited(up.addr, "max_connections: 1"));
        let mut busy = Conn::open(s.addr()).await;
        busy.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        let mut waits = Conn::open(s.addr()).await;
        waits.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_pending_active", 1).await;
        drop(waits);
        s.expect(&[
            ("cluster.up.upstream_rq_pending_active", 0),
            ("cluster.up.upstream_rq_cancelled", 1),
            ("cluster.up.upstream_rq_active", 1),
        ])
        .await;
    });
}

#[test]
fn requests_at_once() {
    run(async {
        let up =
            Upstream::tcp(|io, _| async move { Peer::server(io, Settings::default()).closed().await }).await;
        let log = Log::default();
        let s = Server::start(
            &Config::new()
                .h2_cluster("up", up.addr, "", "circuit_breakers: {thresholds: [{max_requests: 2}]}")
                .route("match: {prefix: /}, route: {cluster: up}")
                .log(&log, FORMAT),
        );
        let mut p = Peer::open(s.addr()).await;
        for n in 1..=2 {
            p.begin(&h2::get("/"), true);
            p.flush().await;
            s.wait_stat("cluster.up.upstream_rq_active", n).await;
        }
        let m = p.ask(&h2::get("/"), None).await;
        assert_eq!((m.status, m.header("x-envoy-overloaded")), (503, Some("true")));
        assert_eq!(log.line(1).await, "503 UO upstream_reset_before_response_started{overflow}");
        s.wait_stat("cluster.up.circuit_breakers.default.rq_open", 1).await;
        drop(p);
        s.expect(&[("cluster.up.upstream_rq_active", 0), ("cluster.up.circuit_breakers.default.rq_open", 0)])
            .await;
    });
}

#[test]
fn a_route_times_out() {
    run(async {
        for v in [Http::One, Http::Two] {
            let (up, log) = (slow().await, Log::default());
            let s = Server::start(
                &Config::to(up.addr)
                    .route("match: {prefix: /slow}, route: {cluster: up, timeout: 0.2s}")
                    .log(&log, FORMAT),
            );
            let mut c = Client::open(v, s.addr()).await;
            let began = Instant::now();
            let r = c.get("/slow").await;
            assert_eq!((r.status, &*r.body), (504, &b"upstream request timeout"[..]));
            assert!(began.elapsed() >= Duration::from_millis(200));
            assert_eq!(log.line(1).await, "504 UT response_timeout");
            up.wait_open(0).await;
            s.expect(&[
                ("cluster.up.upstream_rq_timeout", 1),
                ("cluster.up.upstream_rq_504", 1),
                ("cluster.up.upstream_rq_tx_reset", 0),
                ("cluster.up.upstream_rq_active", 0),
                ("cluster.up.upstream_cx_active", 0),
                ("http.ingress.downstream_rq_5xx", 1),
            ])
            .await;
            assert_eq!(c.get("/").await.status, 200, "the client's connection lives on");
        }
    });
}

#[test]
fn a_route_times_out_in_the_body() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            c.request().await;
            c.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            c.fate().await;
        })
        .await;
        let log = Log::default();
        let config = Config::new()
            .cluster("up", up.addr, "")
            .route("match: {prefix: /}, route: {cluster: up, timeout: 0.2s}");
        let s = Server::start(&config.log(&log, FORMAT));
        let mut c = Conn::open(s.addr()).await;
        c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        assert!(c.head().await.expect("a head").starts_with("HTTP/1.1 200"));
        c.fate().await;
        assert_eq!(log.line(1).await, "200 UT response_timeout");
        up.wait_open(0).await;
        s.expect(&[("cluster.up.upstream_rq_timeout", 1), ("cluster.up.upstream_rq_active", 0)]).await;
    });
}

#[test]
fn a_request_that_stays_incomplete_does_not_time_out_by_its_route() {
    run(async {
        let (up, log) = (slow().await, Log::default());
        let config = Config::new()
            .cluster("up", up.addr, "")
            .route("match: {prefix: /}, route: {cluster: up, timeout: 0.1s}");
        let s = Server::start(&config.hcm("stream_idle_timeout: 0.5s").log(&log, FORMAT));
        let mut c = Conn::open(s.addr()).await;
        let began = Instant::now();
        let r = c.ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nhalf").await;
        assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
        assert_eq!((r.status(), r.text()), (408, "stream timeout".into()));
        assert_eq!(log.line(1).await, "408 SI stream_idle_timeout");
        assert_eq!(c.fate().await, Fate::Closed);
    });
}

#[test]
fn connecting_takes_too_long() {
    run(async {
        // A listener whose queue is full does not answer SYNs.
        let l = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = l.local_addr().expect("an address");
        let sock = tokio::net::TcpSocket::new_v4().expect("a socket");
        sock.set_reuseaddr(true).expect("SO_REUSEADDR");
        drop(l);
        sock.bind(addr).expect("bound");
        let _listener = sock.listen(1).expect("listening");
        let mut fill = vec![];
        for _ in 0..4 {
            let c = tokio::net::TcpStream::connect(addr);
            if let Ok(Ok(c)) = tokio::time::timeout(Duration::from_millis(100), c).await {
                fill.push(c);
            }
        }
        assert!(fill.len() < 4, "the queue has no end");
        let log = Log::default();
        let config = Config::new()
            .cluster("up", addr, "connect_timeout: 0.2s")
            .route("match: {prefix: /}, route: {cluster: up}");
        let yaml = config.log(&log, FORMAT).yaml().replace("connect_timeout: 5s, ", "");
        let s = Server::from_yaml(&yaml, 1);
        let r = Conn::open(s.addr()).await.get("/").await;
        assert_eq!(r.status(), 503);
        assert!(r.text().contains("reset reason: connection timeout"), "{}", r.text());
        assert!(
            log.line(1).await.starts_with("503 UF upstream_reset_before_response_started{connection_timeout")
        );
        s.expect(&[
            ("cluster.up.upstream_cx_connect_timeout", 1),
            ("cluster.up.upstream_cx_connect_fail", 1),
            ("cluster.up.upstream_cx_active", 0),
        ])
        .await;
    });
}

#[test]
fn nobody_to_ask() {
    run(async {
        let log = Log::default();
        let config = Config::new()
            .cluster("up", Upstream::refusing(), "")
            .route("match: {prefix: /}, route: {cluster: up}");
        let yaml = config.log(&log, FORMAT).yaml();
        let start = yaml.find("endpoints: [").expect("endpoints");
        let end = yaml[start..].find("]}]").expect("their end") + start + 3;
        let s = Server::from_yaml(&format!("{}endpoints: []{}", &yaml[..start], &yaml[end..]), 1);
        let r = Conn::open(s.addr()).await.get("/").await;
        assert_eq!((r.status(), r.text()), (503, "no healthy upstream".into()));
        assert_eq!(log.line(1).await, "503 UH no_healthy_upstream");
        s.expect(&[("cluster.up.upstream_cx_none_healthy", 1), ("cluster.up.upstream_rq_503", 1)]).await;
    });
}

#[test]
fn nowhere_to_go() {
    run(async {
        let (up, log) = (Upstream::ok("x").await, Log::default());
        let s = Server::start(
            &Config::new()
                .cluster("up", up.addr, "")
                .route("match: {prefix: /here}, route: {cluster: up}")
                .log(&log, FORMAT),
        );
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/there").await.status(), 404);
        assert_eq!(log.line(1).await, "404 NR route_not_found");
        assert_eq!(c.get("/here").await.status(), 200);
        s.wait_stat("http.ingress.no_route", 1).await;
    });
}

/// Half a head does not hold a connection for ever, however often a byte comes.
#[test]
fn a_head_that_trickles_ends_in_time() {
    run(async {
        let up = Upstream::ok("x").await;
        let s = Server::start(&Config::to(up.addr).hcm("request_headers_timeout: 0.3s"));
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.status(), 200, "the time before the head does not count");
        tokio::time::sleep(Duration::from_millis(400)).await;
        let began = Instant::now();
        c.send("GET / HTTP/1.1\r\nhost: ").await;
        let trickle = async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if c.try_send("a").await.is_err() || !c.quiet(Duration::from_millis(1)).await {
                    return c.response().await.expect("a response");
                }
            }
        };
        let r = trickle.await;
        assert_eq!((r.status(), r.text().as_str()), (408, "request header timeout"));
        assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
        s.expect(&[
            ("http.ingress.downstream_rq_header_timeout", 1),
            ("http.ingress.downstream_rq_active", 0),
        ])
        .await;
    });
}

/// A stream that moves is not idle, whichever way it moves.
#[test]
fn a_request_body_that_flows_is_activity() {
    run(async {
        let up = Upstream::answering(|m| ok(&m.body)).await;
        let s = Server::start(&Config::to(up.addr).hcm("stream_idle_timeout: 0.3s"));
        let mut c = Conn::open(s.addr()).await;
        c.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\n").await;
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(120)).await;
            c.send("x").await;
        }
        assert_eq!(c.response().await.expect("a response").text(), "xxxxxx");
        c.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\nab").await;
        let r = c.response().await.expect("a response");
        assert_eq!((r.status(), r.text().as_str()), (408, "stream timeout"));
        s.wait_stat("http.ingress.downstream_rq_idle_timeout", 1).await;
    });
}

/// An old connection that is busy ends with its next response; an idle one by itself.
#[test]
fn connections_grow_old() {
    run(async {
        let up = Upstream::ok("x").await;
        let old = "common_http_protocol_options: {max_connection_duration: 0.3s}";
        let s = Server::start(
            &Config::to(up.addr).hcm(old).hcm("drain_timeout: 0.3s").hcm("delayed_close_timeout: 0.1s"),
        );
        let (mut busy, mut idle, mut silent) =
            (Conn::open(s.addr()).await, Conn::open(s.addr()).await, Conn::open(s.addr()).await);
        assert_eq!(busy.get("/").await.header("connection"), None);
        assert_eq!(idle.get("/").await.header("connection"), None);
        assert_eq!(silent.fate().await, Fate::Closed);
        let r = busy.get("/").await;
        assert_eq!((r.status(), r.header("connection")), (200, Some("close")));
        assert_eq!(busy.fate().await, Fate::Closed);
        assert_eq!(idle.fate().await, Fate::Closed);
        s.expect(&[
            ("http.ingress.downstream_cx_max_duration_reached", 3),
            ("http.ingress.downstream_cx_active", 0),
        ])
        .await;
    });
}

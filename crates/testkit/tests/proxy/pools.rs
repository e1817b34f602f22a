//! How many connections and pools a cluster has.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::upstream::ok;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

fn config(up: &Upstream, cluster: &str) -> Config {
    Config::new().cluster("up", up.addr, cluster).route("match: {prefix: /}, route: {cluster: up}")
}

/// Answers `/slow` when `/go` was asked for on another connection.
async fn gated() -> Upstream {
    let go = std::rc::Rc::new(tokio::sync::Notify::new());
    Upstream::h1(move |mut c, _| {
        let go = go.clone();
        async move {
            while let Some(m) = c.request().await {
                match m.head.split(' ').nth(1) {
                    Some("/slow") => go.notified().await,
                    Some("/go") => go.notify_one(),
                    _ => {}
                }
                c.send(ok(b"x")).await;
            }
        }
    })
    .await
}

#[test]
fn a_pool_that_serves_nobody_gives_way() {
    run(async {
        let up = gated().await;
        let limits = "connection_pool_per_downstream_connection: true, circuit_breakers: \
                      {thresholds: [{max_connection_pools: 1, track_remaining: true}]}";
        let s = Server::start(&config(&up, limits));
        let mut one = Conn::open(s.addr()).await;
        one.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        let mut two = Conn::open(s.addr()).await;
        let r = two.get("/").await;
        assert_eq!((r.status(), r.text().as_str()), (503, "no healthy upstream"));
        s.expect(&[
            ("cluster.up.upstream_cx_pool_overflow", 1),
            ("cluster.up.circuit_breakers.default.cx_pool_open", 1),
            ("cluster.up.circuit_breakers.default.remaining_cx_pools", 0),
        ])
        .await;
        let mut host = Conn::open(up.addr).await;
        assert_eq!(host.get("/go").await.status(), 200);
        assert_eq!(one.response().await.expect("an answer").status(), 200);
        assert_eq!(two.get("/").await.status(), 200);
        s.expect(&[
            ("cluster.up.upstream_cx_pool_overflow", 1),
            ("cluster.up.upstream_cx_total", 2),
            ("cluster.up.upstream_cx_active", 1),
        ])
        .await;
        // Connections that end take their pool with them.
        assert_eq!(one.get("/").await.status(), 200);
        s.expect(&[("cluster.up.upstream_cx_active", 1), ("cluster.up.upstream_cx_total", 3)]).await;
    });
}

#[test]
fn a_host_that_takes_more_streams_than_before() {
    run(async {
        let more = std::rc::Rc::new(tokio::sync::Notify::new());
        let told = more.clone();
        let up = Upstream::tcp(move |mut io, _| {
            let told = told.clone();
            async move {
                // SETTINGS_MAX_CONCURRENT_STREAMS: 1, and an ACK of the other side's.
                let one = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x01";
                let ack = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00";
                let two = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x02";
                io.write_all(&[&one[..], ack].concat()).await.expect("written");
                let mut read = [0; 4096];
                tokio::select! {
                    _ = told.notified() => io.write_all(two).await.expect("written"),
                    _ = async { while io.read(&mut read).await.is_ok_and(|n| n > 0) {} } => return,
                }
                while io.read(&mut read).await.is_ok_and(|n| n > 0) {}
            }
        })
        .await;
        let breakers = "circuit_breakers: {thresholds: [{max_connections: 1}]}";
        let config = Config::new().h2_cluster("up", up.addr, "max_concurrent_streams: 10", breakers);
        let s = Server::start(&config.route("match: {prefix: /}, route: {cluster: up}"));
        let mut p = Peer::open(s.addr()).await;
        p.begin(&h2::get("/"), true);
        p.flush().await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        // Until the host has spoken it is trusted with more.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        p.begin(&h2::get("/"), true);
        p.flush().await;
        s.wait_stat("cluster.up.upstream_rq_pending_active", 1).await;
        more.notify_one();
        s.wait_stat("cluster.up.upstream_rq_active", 2).await;
        s.expect(&[("cluster.up.upstream_rq_pending_active", 0), ("cluster.up.upstream_cx_total", 1)]).await;
    });
}

#[test]
fn more_connections_than_requests() {
    run(async {
        let up = gated().await;
        let s = Server::start(&config(&up, "preconnect_policy: {per_upstream_preconnect_ratio: 1.5}"));
        let mut c = Conn::open(s.addr()).await;
        c.send(GET).await;
        assert_eq!(c.response().await.expect("an answer").status(), 200);
        s.expect(&[("cluster.up.upstream_cx_active", 2), ("cluster.up.upstream_rq_total", 1)]).await;
        assert_eq!(c.get("/").await.status(), 200);
        s.expect(&[("cluster.up.upstream_cx_total", 2)]).await;
    });
}

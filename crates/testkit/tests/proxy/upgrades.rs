//! Upgrades: which are taken, and what becomes of their connections.

use nuncio_testkit::conn::Fate;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use std::time::Duration;

const ASK: &str = "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

/// Takes every upgrade and sends back what it gets, four bytes at a time.
async fn echo() -> Upstream {
    Upstream::h1(|mut c, _| async move {
        if c.head().await.is_none() {
            return;
        }
        c.send(YES).await;
        loop {
            let four = c.bytes(4).await;
            if four.len() < 4 {
                return;
            }
            c.send(four).await;
        }
    })
    .await
}

fn websocket(up: &Upstream) -> Config {
    Config::to(up.addr).hcm("upgrade_configs: [{upgrade_type: websocket}]")
}

#[test]
fn a_tunnel_carries_bytes_both_ways_until_its_client_leaves() {
    run(async {
        let up = echo().await;
        let s = Server::start(&websocket(&up));
        let mut c = Conn::open(s.addr()).await;
        // What is sent before the answer waits for it.
        c.send(format!("{ASK}one.")).await;
        assert!(c.head().await.is_some_and(|h| h.starts_with("HTTP/1.1 101 ")));
        assert_eq!(c.bytes(4).await, b"one.");
        c.send("GET / HTTP/1.1\r\n\r\n..").await;
        assert_eq!(c.bytes(20).await, b"GET / HTTP/1.1\r\n\r\n..");
        s.expect(&[("http.ingress.downstream_cx_upgrades_active", 1)]).await;
        c.finish().await;
        up.wait_open(0).await;
        s.expect(&[
            ("http.ingress.downstream_cx_upgrades_active", 0),
            ("http.ingress.downstream_cx_upgrades_total", 1),
            ("http.ingress.downstream_rq_active", 0),
            ("cluster.up.upstream_cx_active", 0),
        ])
        .await;
    });
}

#[test]
fn a_tunnel_ends_with_its_host() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            c.head().await;
            c.send(format!("{YES}bye")).await;
        })
        .await;
        let s = Server::start(&websocket(&up));
        let mut c = Conn::open(s.addr()).await;
        c.send(ASK).await;
        assert!(c.head().await.is_some());
        assert_eq!(c.bytes(3).await, b"bye");
        assert_eq!(c.fate().await, Fate::Closed);
        s.expect(&[("http.ingress.downstream_cx_upgrades_active", 0), ("cluster.up.upstream_cx_active", 0)])
            .await;
    });
}

/// CVE-2026-73548: bytes that came with a refused upgrade are no request.
#[test]
fn what_follows_a_refused_upgrade_is_not_read() {
    run(async {
        let up = Upstream::ok("plain").await;
        for config in [websocket(&up), Config::to(up.addr)] {
            let s = Server::start(&config);
            let mut c = Conn::open(s.addr()).await;
            c.send(format!("{ASK}GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n")).await;
            assert!(c.head().await.is_some_and(|h| h.contains("connection: close")));
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(up.seen().iter().all(|m| !m.head.contains("smuggled")));
        }
        assert_eq!(up.seen().len(), 1, "without upgrade_configs the request goes nowhere");
    });
}

#[test]
fn a_client_that_leaves_before_the_answer_is_noticed() {
    run(async {
        // Takes the request and says nothing.
        let up = Upstream::h1(|mut c, _| async move {
            c.head().await;
            c.bytes(1).await;
        })
        .await;
        let s = Server::start(&websocket(&up));
        let mut c = Conn::open(s.addr()).await;
        c.send(format!("{ASK}early")).await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        c.reset();
        up.wait_open(0).await;
        s.expect(&[
            ("http.ingress.downstream_cx_active", 0),
            ("http.ingress.downstream_cx_upgrades_active", 0),
            ("http.ingress.downstream_rq_active", 0),
            ("cluster.up.upstream_rq_active", 0),
        ])
        .await;
    });
}

//! What becomes of connections.

use nuncio_testkit::conn::Fate;
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::probe::Log;
use nuncio_testkit::upstream::ok;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use std::time::Duration;

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let up = Upstream::answering(|m| ok(m.head.split(' ').nth(1).unwrap_or_default().as_bytes())).await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        let all: String = (0..50).map(|i| format!("GET /{i} HTTP/1.1\r\nhost: h\r\n\r\n")).collect();
        c.send(all).await;
        for i in 0..50 {
            assert_eq!(c.response().await.expect("a response").text(), format!("/{i}"));
        }
        assert_eq!(up.accepted(), 1);
        s.wait_stat("http.ingress.downstream_rq_active", 0).await;
    });
}

/// Small answers leave in bursts; what the kernel does not take of them waits, and holds the next requests back.
#[test]
fn answers_for_a_client_that_does_not_read() {
    run(async {
        const REQUESTS: usize = 3000;
        let up = Upstream::ok(&"x".repeat(8000)).await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(REQUESTS)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let served = s.stat("http.ingress.downstream_rq_completed") as usize;
        let written = s.stat("http.ingress.downstream_cx_tx_bytes_total") as usize;
        assert!(served < REQUESTS, "all requests were taken");
        assert!(
            (served * 8000).saturating_sub(written) < 1 << 20,
            "{served} were served, {written} bytes left"
        );
        for _ in 0..REQUESTS {
            assert_eq!(c.response().await.expect("a response").body.len(), 8000);
        }
        assert_eq!(up.accepted(), 1);
    });
}

#[test]
fn a_pipelined_request_follows_a_body() {
    run(async {
        let up = Upstream::answering(|m| ok(&m.body)).await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        c.send(
            "POST /1 HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabcPOST /2 HTTP/1.1\r\nhost: h\r\n\
                transfer-encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nhost: h\r\n\r\n",
        )
        .await;
        for body in ["abc", "de", ""] {
            assert_eq!(c.response().await.expect("a response").text(), body);
        }
    });
}

#[test]
fn connections_to_hosts_are_reused_by_other_clients() {
    run(async {
        let up = Upstream::ok("x").await;
        let s = Server::start(&Config::to(up.addr));
        for _ in 0..5 {
            let mut c = Conn::open(s.addr()).await;
            assert_eq!(c.get("/").await.status(), 200);
            c.finish().await;
            assert_eq!(c.fate().await, Fate::Closed);
        }
        assert_eq!(up.accepted(), 1);
        s.expect(&[
            ("cluster.up.upstream_cx_active", 1),
            ("cluster.up.upstream_cx_total", 1),
            ("cluster.up.upstream_rq_total", 5),
            ("http.ingress.downstream_cx_active", 0),
            ("http.ingress.downstream_cx_destroy_remote", 5),
        ])
        .await;
    });
}

#[test]
fn a_connection_that_its_host_closed_is_not_reused() {
    run(async {
        // Each connection takes one request, says nothing about closing, and closes.
        let up = Upstream::h1(|mut c, _| async move {
            c.request().await;
            c.send(ok(b"x")).await;
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        for i in 1..=3 {
            assert_eq!(c.get("/").await.status(), 200);
            s.wait_stat("cluster.up.upstream_cx_destroy_remote", i).await;
        }
        s.expect(&[("cluster.up.upstream_cx_active", 0), ("cluster.up.upstream_cx_total", 3)]).await;
    });
}

#[test]
fn connection_close_of_either_side_is_kept() {
    run(async {
        let up = Upstream::answering(|_| {
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx".to_vec()
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        // The host's wish concerns its own connection.
        for _ in 0..2 {
            assert_eq!(c.get("/").await.status(), 200);
        }
        assert_eq!(up.accepted(), 2);
        let r = c.ask("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
        assert_eq!((r.status(), r.header("connection")), (200, Some("close")));
        assert_eq!(c.fate().await, Fate::Closed);
        s.wait_stat("http.ingress.downstream_cx_active", 0).await;
        s.wait_stat("cluster.up.upstream_cx_active", 0).await;
    });
}

#[test]
fn clients_that_expect_100_get_it() {
    run(async {
        let up = Upstream::answering(|m| ok(&m.body)).await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        c.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n").await;
        assert_eq!(c.response().await.expect("100").status(), 100);
        c.send("ab").await;
        assert_eq!(c.response().await.expect("a response").text(), "ab");
        assert!(!up.seen()[0].head.contains("\r\nexpect:"), "{:?}", up.seen());
    });
}

#[test]
fn hosts_may_close_delimit_their_bodies() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            c.request().await;
            c.send("HTTP/1.1 200 OK\r\n\r\nall there is").await;
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        for _ in 0..2 {
            assert_eq!(c.get("/").await.text(), "all there is");
        }
        let mut p = Peer::open(s.addr()).await;
        let m = p.ask(&h2::get("/"), None).await;
        assert_eq!((m.status, m.text(), m.reset), (200, "all there is".into(), None));
    });
}

#[test]
fn idle_clients_are_closed() {
    run(async {
        let up = Upstream::ok("x").await;
        let idle = "common_http_protocol_options: {idle_timeout: 0.2s}";
        let s = Server::start(&Config::to(up.addr).hcm(idle));
        let mut one = Conn::open(s.addr()).await;
        one.get("/").await;
        let mut two = Peer::open(s.addr()).await;
        assert_eq!(two.ask(&h2::get("/"), None).await.status, 200);
        let mut silent = Conn::open(s.addr()).await;
        assert_eq!(one.fate().await, Fate::Closed);
        two.closed().await;
        assert_eq!(silent.fate().await, Fate::Closed);
        s.expect(&[
            ("http.ingress.downstream_cx_idle_timeout", 3),
            ("http.ingress.downstream_cx_active", 0),
            ("http.ingress.downstream_cx_http1_active", 0),
            ("http.ingress.downstream_cx_http2_active", 0),
        ])
        .await;
    });
}

#[test]
fn a_busy_client_is_not_idle() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            while c.request().await.is_some() {
                tokio::time::sleep(Duration::from_millis(500)).await;
                c.send(ok(b"late")).await;
            }
        })
        .await;
        let idle = "common_http_protocol_options: {idle_timeout: 0.2s}";
        let s = Server::start(&Config::to(up.addr).hcm(idle));
        assert_eq!(Conn::open(s.addr()).await.get("/").await.text(), "late");
        assert_eq!(Peer::open(s.addr()).await.ask(&h2::get("/"), None).await.text(), "late");
    });
}

#[test]
fn requests_that_no_rule_allows_are_refused_and_logged() {
    run(async {
        let (up, log) = (Upstream::ok("x").await, Log::default());
        let s = Server::start(
            &Config::to(up.addr).log(&log, "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"),
        );
        let mut c = Conn::open(s.addr()).await;
        let r = c.ask("GET / HTTP/1.1\r\nhost: h\r\nbad header\r\n\r\n").await;
        assert_eq!((r.status(), r.header("connection")), (400, Some("close")));
        assert_eq!(c.fate().await, Fate::Closed);
        assert_eq!(log.line(1).await, "400 DPE http1.codec_error");
        s.expect(&[("http.ingress.downstream_cx_protocol_error", 1), ("http.ingress.downstream_rq_4xx", 1)])
            .await;
        assert_eq!(up.accepted(), 0);
    });
}

//! Requests whose connection had gone when they came: they are sent again, where that does no harm.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::upstream::ok;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use nuncio_wire::h2::{ErrorCode, Settings};
use std::time::Duration;

const REPLAYED: &str = "cluster.up.nuncio.upstream_rq_replay";

/// A host whose connections answer one request and close when the next one comes.
async fn closing() -> Upstream {
    Upstream::h1(|mut c, n| async move {
        c.request().await;
        c.send(ok(n.to_string().as_bytes())).await;
        c.request().await;
    })
    .await
}

fn put(body: &str) -> String {
    format!("PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn what_may_be_repeated_is() {
    run(async {
        let up = closing().await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.text(), "0");
        assert_eq!(c.get("/").await.text(), "1");
        assert_eq!(c.ask(&put("abc")).await.text(), "2");
        let r = c.ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(r.status(), 503, "{}", r.text());
        s.expect(&[
            (REPLAYED, 2),
            ("cluster.up.upstream_rq_total", 6),
            ("cluster.up.upstream_rq_retry", 0),
            ("cluster.up.upstream_rq_200", 3),
            ("cluster.up.upstream_rq_503", 1),
            ("cluster.up.upstream_rq_active", 0),
        ])
        .await;
    });
}

#[test]
fn once_and_only_where_the_connection_is_to_blame() {
    run(async {
        // After the first answer nobody is answered any more.
        let up = Upstream::h1(|mut c, n| async move {
            c.request().await;
            if n == 0 {
                c.send(ok(b"x")).await;
                c.request().await;
            }
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.status(), 200);
        assert_eq!(c.get("/").await.status(), 503);
        s.expect(&[(REPLAYED, 1), ("cluster.up.upstream_cx_total", 2)]).await;
        assert_eq!(c.get("/").await.status(), 503, "its connection was made for it");
        s.expect(&[(REPLAYED, 1), ("cluster.up.upstream_cx_total", 3)]).await;
    });
}

#[test]
fn an_answer_that_began_is_no_reason() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            c.request().await;
            c.send(ok(b"x")).await;
            c.request().await;
            c.send("HTTP/1.1 2").await;
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.status(), 200);
        assert_ne!(c.get("/").await.status(), 200);
        assert_eq!(up.accepted(), 1);
    });
}

#[test]
fn the_runtime_switches_it_off() {
    run(async {
        let up = closing().await;
        let s = Server::start(&Config::to(up.addr));
        s.on_main(|c| c.set_runtime("nuncio.upstream.replay", "0")).await;
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.status(), 200);
        assert_eq!(c.get("/").await.status(), 503);
    });
}

#[test]
fn a_policy_comes_first() {
    run(async {
        let up = closing().await;
        let config = Config::new()
            .route("match: {prefix: /}, route: {cluster: up, retry_policy: {retry_on: reset}}")
            .cluster("up", up.addr, "");
        let s = Server::start(&config);
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.status(), 200);
        assert_eq!(c.get("/").await.status(), 200);
        s.expect(&[("cluster.up.upstream_rq_retry", 1), ("cluster.up.upstream_rq_retry_success", 1)]).await;
        assert!(!s.used().contains(REPLAYED));
    });
}

/// The whole body is there again, also what came before the connection failed.
#[test]
fn a_body_that_is_still_coming() {
    run(async {
        let up = Upstream::h1(|mut c, n| async move {
            if let Some(m) = c.request().await {
                c.send(ok(&m.body)).await;
            }
            if n == 0 {
                c.head().await;
                return;
            }
            c.request().await;
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.status(), 200);
        c.send("PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\nabc").await;
        s.wait_stat(REPLAYED, 1).await;
        c.send("def").await;
        assert_eq!(c.response().await.expect("a response").text(), "abcdef");
    });
}

#[test]
fn streams_that_a_host_did_nothing_with() {
    run(async {
        // Each connection answers once, refuses one stream, and says GOAWAY over the next.
        let up = Upstream::tcp(|io, n| async move {
            let mut p = Peer::server(io, Settings::default());
            let Some((id, _)) = p.request().await else { return };
            p.respond(id, &h2::response(200, &[]), false);
            p.data(id, n.to_string(), true);
            p.flush().await;
            let Some((id, _)) = p.request().await else { return };
            if n == 0 {
                p.codec.reset(id, ErrorCode::REFUSED_STREAM);
            } else {
                return;
            }
            p.turn(Duration::from_secs(5)).await;
        })
        .await;
        let s = Server::start(&Config::to_h2(up.addr));
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.text(), "0");
        let post = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(c.ask(post).await.text(), "1");
        s.expect(&[(REPLAYED, 1)]).await;
    });
}

/// Whatever the loop has heard: what reached the kernel counts.
#[test]
fn a_host_that_has_closed_gets_no_request() {
    run(async {
        let up = Upstream::h1(|mut c, n| async move {
            c.request().await;
            c.send(ok(n.to_string().as_bytes())).await;
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        for n in 0..20 {
            let r = c.ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(r.text(), n.to_string());
            up.wait_open(0).await;
        }
    });
}

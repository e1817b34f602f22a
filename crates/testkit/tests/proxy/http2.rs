//! Flow control, GOAWAY and stream limits of HTTP/2.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use nuncio_wire::h2::{ErrorCode, Settings};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

const BIG: usize = 16 << 20;

/// A client that does not read must not make the proxy read everything from the host.
#[test]
fn a_client_that_does_not_read() {
    run(async {
        let sent = Rc::new(Cell::new(0));
        let count = sent.clone();
        let up = Upstream::h1(move |mut c, _| {
            let sent = count.clone();
            async move {
                c.request().await;
                c.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n")).await;
                let piece = vec![b'x'; 1 << 16];
                while sent.get() < BIG && c.try_send(&piece).await.is_ok() {
                    sent.set(sent.get() + piece.len());
                }
            }
        })
        .await;
        let config = Config::new().cluster("up", up.addr, "");
        let s = Server::start(&config.route("match: {prefix: /}, route: {cluster: up, timeout: 0s}"));
        let settings = Settings { initial_window_size: 100_000, ..Default::default() };
        let mut p = Peer::open_with(s.addr(), settings).await;
        p.release = false;
        let id = p.begin(&h2::get("/"), true);
        p.turn(Duration::from_millis(500)).await;
        assert_eq!(p.message(id).body.len(), 100_000, "the stream's window is all it gets");
        // What the sockets of the loopback hold is the kernel's; the proxy itself holds little.
        let held = s.stat("cluster.up.upstream_cx_rx_bytes_total") - 100_000;
        assert!(held < 300_000, "the proxy holds {held} bytes");
        assert!(sent.get() < BIG, "the host could send everything");
        // Once it reads, the rest comes.
        p.release = true;
        p.codec.release(id, 100_000);
        let m = p.message_of(id).await;
        assert_eq!((m.body.len(), m.ended, m.reset), (BIG, true, None));
    });
}

/// A host that does not read must not make the proxy read everything from the client.
#[test]
fn a_host_that_does_not_read() {
    run(async {
        let host = Rc::new(RefCell::new(None));
        let keep = host.clone();
        let up = Upstream::tcp(move |io, _| {
            let keep = keep.clone();
            async move {
                let settings = Settings { initial_window_size: 70_000, ..Default::default() };
                let mut p = Peer::server(io, settings);
                p.release = false;
                p.turn(Duration::from_millis(600)).await;
                *keep.borrow_mut() = Some(p.message(nuncio_wire::h2::StreamId(1)).body.len());
                p.release = true;
                p.codec.release(nuncio_wire::h2::StreamId(1), 70_000);
                let m = p.message_of(nuncio_wire::h2::StreamId(1)).await;
                p.respond(nuncio_wire::h2::StreamId(1), &h2::response(200, &[]), false);
                p.data(nuncio_wire::h2::StreamId(1), m.body.len().to_string(), true);
                p.closed().await;
            }
        })
        .await;
        let window = "http2_protocol_options: {initial_stream_window_size: 65535, initial_connection_window_size: 1048576}";
        let s = Server::start(&Config::to_h2(up.addr).hcm(window));
        let mut p = Peer::open(s.addr()).await;
        let id = p.begin(&h2::request("POST", "/", &[]), false);
        let size = 4 << 20;
        p.data(id, vec![b'y'; size], true);
        p.turn(Duration::from_millis(400)).await;
        let taken = size - p.unsent();
        assert!(taken < 70_000 + 300_000, "the proxy took {taken} bytes");
        let m = p.message_of(id).await;
        assert_eq!(m.text(), size.to_string());
        assert_eq!(*host.borrow(), Some(70_000));
    });
}

#[test]
fn a_slow_http1_host_slows_an_http2_client() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            c.head().await;
            tokio::time::sleep(Duration::from_millis(600)).await;
            c.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            c.fate().await;
        })
        .await;
        let window = "http2_protocol_options: {initial_stream_window_size: 65535, initial_connection_window_size: 1048576}";
        let s = Server::start(&Config::to(up.addr).hcm(window));
        let mut p = Peer::open(s.addr()).await;
        let id = p.begin(&h2::request("POST", "/", &[]), false);
        p.data(id, vec![b'y'; BIG], true);
        p.turn(Duration::from_millis(400)).await;
        let read = s.stat("http.ingress.downstream_cx_rx_bytes_total");
        let written = s.stat("cluster.up.upstream_cx_tx_bytes_total");
        assert!(read - written < 400_000, "the proxy holds {} bytes", read - written);
        assert!(p.unsent() > BIG / 4, "{} of {BIG} bytes are left", p.unsent());
        assert_eq!(p.until(id, |m| m.status != 0).await.status, 200);
    });
}

#[test]
fn goaway_lets_streams_finish_and_new_ones_go_elsewhere() {
    run(async {
        let up = Upstream::tcp(|io, n| async move {
            let mut p = Peer::server(io, Settings::default());
            while let Some((id, _)) = p.request().await {
                if n == 0 {
                    p.codec.goaway(ErrorCode::NO_ERROR, b"");
                    p.turn(Duration::from_millis(200)).await;
                }
                p.respond(id, &h2::response(200, &[]), false);
                p.data(id, n.to_string(), true);
            }
        })
        .await;
        let s = Server::start(&Config::to_h2(up.addr));
        let mut p = Peer::open(s.addr()).await;
        let first = p.begin(&h2::get("/"), true);
        p.flush().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let second = p.begin(&h2::get("/"), true);
        assert_eq!(p.message_of(second).await.text(), "1");
        assert_eq!(p.message_of(first).await.text(), "0");
        s.expect(&[
            ("cluster.up.upstream_cx_total", 2),
            ("cluster.up.upstream_cx_active", 1),
            ("cluster.up.upstream_rq_active", 0),
            ("cluster.up.upstream_cx_close_notify", 1),
        ])
        .await;
    });
}

#[test]
fn the_hosts_stream_limit_is_kept() {
    run(async {
        let most = Rc::new(Cell::new(0));
        let seen = most.clone();
        let up = Upstream::tcp(move |io, _| {
            let most = seen.clone();
            async move {
                let settings = Settings { max_concurrent_streams: 2, ..Default::default() };
                let mut p = Peer::server(io, settings);
                let mut open = vec![];
                while let Some((id, _)) = p.request().await {
                    open.push(id);
                    // Answer only when nothing more comes.
                    while let Ok(Some((id, _))) =
                        tokio::time::timeout(Duration::from_millis(30), p.request()).await
                    {
                        open.push(id);
                    }
                    most.set(most.get().max(open.len()));
                    for id in open.drain(..) {
                        p.respond(id, &h2::response(200, &[]), true);
                    }
                }
            }
        })
        .await;
        // A host that has not spoken yet is trusted with as many as the configuration says, as in Envoy.
        let config = Config::new().h2_cluster("up", up.addr, "max_concurrent_streams: 2", "");
        let s = Server::start(&config.route("match: {prefix: /}, route: {cluster: up}"));
        let mut p = Peer::open(s.addr()).await;
        assert_eq!(p.ask(&h2::get("/"), None).await.status, 200);
        let ids: Vec<_> = (0..10).map(|_| p.begin(&h2::get("/"), true)).collect();
        for id in ids {
            let m = p.message_of(id).await;
            assert_eq!((m.status, m.reset), (200, None), "{m:?}");
        }
        assert_eq!(most.get(), 2);
        assert!(up.accepted() > 1, "more connections were made");
    });
}

#[test]
fn many_streams_on_one_connection() {
    run(async {
        let up = Upstream::ok("x").await;
        let s = Server::start(&Config::to(up.addr));
        let mut p = Peer::open(s.addr()).await;
        let ids: Vec<_> = (0..100).map(|_| p.begin(&h2::get("/"), true)).collect();
        for id in ids {
            assert_eq!(p.message_of(id).await.text(), "x");
        }
        let cx = s.stat("cluster.up.upstream_cx_total");
        assert!(cx <= 100, "{cx}");
        s.expect(&[
            ("http.ingress.downstream_rq_total", 100),
            ("http.ingress.downstream_rq_active", 0),
            ("cluster.up.upstream_rq_active", 0),
        ])
        .await;
        assert_eq!(s.stat("cluster.up.upstream_cx_active") as usize, up.open());
    });
}

#[test]
fn an_http1_client_of_an_http2_host_may_leave() {
    run(async {
        let up =
            Upstream::tcp(|io, _| async move { Peer::server(io, Settings::default()).closed().await }).await;
        let s = Server::start(&Config::to_h2(up.addr));
        for n in 1..=3 {
            let mut c = Conn::open(s.addr()).await;
            c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
            s.wait_stat("cluster.up.upstream_rq_active", 1).await;
            drop(c);
            s.expect(&[("cluster.up.upstream_rq_active", 0), ("cluster.up.upstream_rq_tx_reset", n)]).await;
        }
        s.expect(&[("cluster.up.upstream_cx_total", 1), ("cluster.up.upstream_cx_active", 1)]).await;
    });
}

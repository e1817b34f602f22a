//! The TCP proxy.

use nuncio_testkit::conn::Fate;
use nuncio_testkit::tls::{self, Identity};
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends back what comes, and ends when the other side does.
async fn echo() -> Upstream {
    Upstream::tcp(|mut io, _| async move {
        let (mut r, mut w) = io.split();
        let _ = tokio::io::copy(&mut r, &mut w).await; // the proxy may be cut off by a test
    })
    .await
}

fn to(up: &Upstream, fields: &str) -> Config {
    Config::new().cluster("up", up.addr, "").tcp(&format!("cluster: up, {fields}"))
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    run(async {
        let up = Upstream::tcp(|mut io, _| async move {
            let mut all = vec![];
            io.read_to_end(&mut all).await.expect("read");
            // The client has ended already; it still gets an answer.
            io.write_all(format!("{} bytes", all.len()).as_bytes()).await.expect("written");
        })
        .await;
        let s = Server::start(&to(&up, ""));
        let mut c = Conn::open(s.addr()).await;
        c.send("hello ").await;
        c.send("world").await;
        c.finish().await;
        assert_eq!(c.bytes(8).await, b"11 bytes");
        assert_eq!(c.fate().await, Fate::Closed);
        s.expect(&[
            ("tcp.ingress.downstream_cx_total", 1),
            ("tcp.ingress.downstream_cx_rx_bytes_total", 11),
            ("tcp.ingress.downstream_cx_tx_bytes_total", 8),
            ("cluster.up.upstream_cx_rx_bytes_total", 8),
            ("cluster.up.upstream_cx_tx_bytes_total", 11),
            ("cluster.up.upstream_cx_active", 0),
            ("cluster.up.upstream_rq_active", 0),
            ("cluster.up.upstream_cx_destroy_remote_with_active_rq", 1),
            ("listener.127.0.0.1_0.downstream_cx_active", 0),
        ])
        .await;
    });
}

#[test]
fn tls_on_the_client_s_side() {
    run(async {
        let (up, id) = (echo().await, Identity::new());
        let s = Server::start(&to(&up, "").tls(&id.certificate, &id.key, ""));
        let (io, _) = tls::connect(s.addr(), &id, &[]).await.expect("TLS");
        let mut c = Conn::over(io);
        c.send("secret").await;
        assert_eq!(c.bytes(6).await, b"secret");
        c.finish().await;
        assert_eq!(c.fate().await, Fate::Closed);

        // The upstream is connected to meanwhile; when the handshake fails that was for nothing.
        let mut plain = Conn::open(s.addr()).await;
        plain.send("this is no TLS record at all").await;
        plain.fate().await;
        up.wait_open(0).await;
        s.expect(&[
            ("tcp.ingress.downstream_cx_total", 2),
            ("cluster.up.upstream_cx_active", 0),
            ("cluster.up.upstream_rq_pending_active", 0),
            ("listener.127.0.0.1_0.ssl.connection_error", 1),
        ])
        .await;
    });
}

#[test]
fn whoever_does_not_read_is_not_written_to() {
    run(async {
        let up = Upstream::tcp(|mut io, _| async move {
            let block = vec![7; 64 * 1024];
            // Until the proxy takes no more, or it closes.
            while io.write_all(&block).await.is_ok() {}
        })
        .await;
        let s = Server::start(&to(&up, ""));
        let c = Conn::open(s.addr()).await;
        s.wait_stat("cluster.up.upstream_flow_control_paused_reading_total", 1).await;
        let buffered = s.stat("tcp.ingress.downstream_cx_tx_bytes_buffered");
        assert!((1..=128 * 1024).contains(&buffered), "{buffered} bytes wait");
        drop(c);
        s.expect(&[
            ("tcp.ingress.downstream_cx_tx_bytes_buffered", 0),
            ("cluster.up.upstream_cx_active", 0),
            ("listener.127.0.0.1_0.downstream_cx_active", 0),
        ])
        .await;
    });
}

#[test]
fn much_data_arrives_whole() {
    run(async {
        let up = echo().await;
        let s = Server::start(&to(&up, ""));
        let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let (mut r, mut w) = TcpStream::connect(s.addr()).await.expect("connected").into_split();
        let sent = data.clone();
        let writer = tokio::task::spawn_local(async move {
            w.write_all(&sent).await.expect("written");
            w.shutdown().await.expect("ended");
        });
        let mut got = vec![];
        r.read_to_end(&mut got).await.expect("read");
        writer.await.expect("all written");
        assert!(got == data, "{} of {} bytes, or others", got.len(), data.len());
        // However they were moved, all are counted.
        let n = data.len() as u64;
        s.expect(&[
            ("tcp.ingress.downstream_cx_rx_bytes_total", n),
            ("tcp.ingress.downstream_cx_tx_bytes_total", n),
            ("cluster.up.upstream_cx_rx_bytes_total", n),
            ("cluster.up.upstream_cx_tx_bytes_total", n),
            ("tcp.ingress.downstream_cx_tx_bytes_buffered", 0),
            ("cluster.up.upstream_cx_tx_bytes_buffered", 0),
        ])
        .await;
    });
}

#[test]
fn a_slow_reader_gets_all_in_order() {
    run(async {
        let data: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
        let sent = data.clone();
        let up = Upstream::tcp(move |mut io, _| {
            let sent = sent.clone();
            async move {
                io.write_all(&sent).await.expect("written");
            }
        })
        .await;
        let s = Server::start(&to(&up, ""));
        let mut io = TcpStream::connect(s.addr()).await.expect("connected");
        let mut got = vec![];
        let mut block = vec![0; 50_000];
        loop {
            // What waits is stuck now and then, partly written.
            tokio::time::sleep(Duration::from_millis(1)).await;
            match io.read(&mut block).await.expect("read") {
                0 => break,
                n => got.extend_from_slice(&block[..n]),
            }
        }
        assert!(got == data, "{} of {} bytes, or others", got.len(), data.len());
        s.expect(&[("tcp.ingress.downstream_cx_tx_bytes_total", 4_000_000)]).await;
    });
}

#[test]
fn weights_are_kept() {
    run(async {
        let (a, b) = (echo().await, echo().await);
        let config = Config::new()
            .cluster("a", a.addr, "")
            .cluster("b", b.addr, "")
            .tcp("weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 3}]}");
        let s = Server::start(&config);
        for _ in 0..200 {
            let mut c = Conn::open(s.addr()).await;
            c.send("x").await;
            assert_eq!(c.bytes(1).await, b"x");
        }
        // 150 expected; five standard deviations are 31.
        assert!((115..=185).contains(&b.accepted()), "{} of 200", b.accepted());
        assert_eq!(a.accepted() + b.accepted(), 200);
    });
}

#[test]
fn a_removed_listener_cuts_what_is_left() {
    run(async {
        let up = echo().await;
        let s = Server::start(&to(&up, ""));
        let mut c = Conn::open(s.addr()).await;
        c.send("x").await;
        assert_eq!(c.bytes(1).await, b"x");
        s.on_main(|m| {
            m.listeners.set_drain(Duration::from_millis(200), true);
            m.listeners.remove("ingress", Box::new(|| ()));
        })
        .await;
        // Until the drain time is over it goes on.
        c.send("y").await;
        assert_eq!(c.bytes(1).await, b"y");
        c.fate().await;
        up.wait_open(0).await;
        s.expect(&[("cluster.up.upstream_cx_active", 0), ("cluster.up.upstream_rq_active", 0)]).await;
    });
}

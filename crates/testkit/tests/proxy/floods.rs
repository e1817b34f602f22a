//! Peers that make the proxy keep or say more than they take.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::upstream::ok;
use nuncio_testkit::{Config, Server, Upstream, run};
use nuncio_wire::h2::{ErrorCode, Settings};
use std::time::Duration;

/// Answers pile up in front of a client that does not read; the proxy stops to take its requests instead of keeping
/// them all.
#[test]
fn a_client_that_asks_and_does_not_read() {
    run(async {
        const REQUESTS: usize = 5000;
        // Too large for the compression table, so that each answer costs as much as the first.
        let value = "v".repeat(6000);
        let config = Config::new()
            .hcm("http2_protocol_options: {max_concurrent_streams: 1000000, max_outbound_frames: 1000000}")
            .route("match: {prefix: /}, direct_response: {status: 204}")
            .hcm(&format!("server_name: {value}"));
        let s = Server::start(&config);
        let settings = Settings { max_concurrent_streams: 1 << 20, ..Default::default() };
        let mut p = Peer::open_with(s.addr(), settings).await;
        let mut sent = vec![];
        // Small bursts; nothing is read in between.
        while sent.len() < REQUESTS {
            for _ in 0..50 {
                sent.push(p.begin(&h2::get("/"), true));
            }
            if tokio::time::timeout(Duration::from_millis(300), p.flush()).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let served = s.stat("http.ingress.downstream_rq_completed") as usize;
        let written = s.stat("http.ingress.downstream_cx_tx_bytes_total") as usize;
        let held = (served * value.len()).saturating_sub(written);
        // Two megabytes, and the answers to what one read may bring: a thousand requests.
        assert!(held < 9 << 20, "{served} requests were served, {held} bytes are held");
        assert!(served < sent.len(), "all requests were taken");
        // Once it reads, all are answered.
        for id in sent {
            assert_eq!(p.message_of(id).await.status, 204);
        }
        s.wait_stat("http.ingress.downstream_rq_active", 0).await;
        s.wait_stat("http2.outbound_flood", 0).await;
    });
}

/// A body in frames of one byte, for which nobody has a use yet, arrives as it was sent.
#[test]
fn a_body_of_tiny_frames_that_waits() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            while let Some(m) = c.request().await {
                c.send(ok(&m.body)).await;
            }
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut p = Peer::open(s.addr()).await;
        let id = p.begin(&h2::request("POST", "/", &[]), false);
        let body: Vec<u8> = (0..20_000u32).map(|i| b'a' + (i % 23) as u8).collect();
        for (i, b) in body.iter().enumerate() {
            p.data(id, vec![*b], i + 1 == body.len());
        }
        let m = p.message_of(id).await;
        assert_eq!((m.status, m.reset), (200, None));
        assert!(m.body == body, "{} bytes came back", m.body.len());
    });
}

/// CVE-2023-44487: of a client that takes its requests back with the bytes that they came in, hosts soon hear no more.
#[test]
fn what_is_taken_back_again_and_again_reaches_no_host() {
    run(async {
        let up = Upstream::ok("x").await;
        let s = Server::start(&Config::to(up.addr));
        let mut p = Peer::open(s.addr()).await;
        for _ in 0..100 {
            let id = p.begin(&h2::get("/"), true);
            p.codec.reset(id, ErrorCode::CANCEL);
        }
        assert_eq!(p.ask(&h2::get("/"), None).await.status, 200);
        s.expect(&[("http.ingress.downstream_rq_total", 101), ("http.ingress.downstream_rq_active", 0)])
            .await;
        let asked = s.stat("cluster.up.upstream_rq_total");
        assert!((1..=17).contains(&asked), "{asked} requests went to the host");
    });
}

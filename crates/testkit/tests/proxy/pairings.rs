//! What must hold whatever either side speaks.

use crate::peers::{Ask, Client, Http, PAIRINGS, config, echo};
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::{Server, Upstream, run};
use nuncio_wire::h2::Settings;
use std::time::Duration;

fn body(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn bodies_of_all_sizes_go_both_ways() {
    run(async {
        for (client, host) in PAIRINGS {
            let up = echo(host).await;
            let s = Server::start(&config(host, up.addr));
            let mut c = Client::open(client, s.addr()).await;
            for size in [1, 1000, 16_384, 65_536, 200_000, 1 << 20] {
                for chunked in [false, true] {
                    let b = body(size);
                    let a = Ask { method: "POST", body: Some(&b), chunked, ..Default::default() };
                    let r = c.ask(&a).await;
                    assert_eq!(r.status, 200, "{client:?} to {host:?}, {size} bytes: {r:?}");
                    assert!(r.body == b, "{client:?} to {host:?}: {} of {size} bytes", r.body.len());
                }
            }
            let r = c.get("/").await;
            assert_eq!((r.status, r.body.len()), (200, 0));
            assert_eq!(up.accepted(), 1, "{client:?} to {host:?}: one connection serves all");
            s.expect(&[
                ("http.ingress.downstream_rq_total", 13),
                ("http.ingress.downstream_rq_2xx", 13),
                ("http.ingress.downstream_rq_active", 0),
                ("http.ingress.downstream_cx_active", 1),
                ("cluster.up.upstream_rq_200", 13),
                ("cluster.up.upstream_rq_total", 13),
                ("cluster.up.upstream_rq_active", 0),
                ("cluster.up.upstream_cx_total", 1),
            ])
            .await;
        }
    });
}

#[test]
fn trailers_go_both_ways() {
    run(async {
        for (client, host) in PAIRINGS {
            let up = echo(host).await;
            let s = Server::start(&config(host, up.addr));
            let mut c = Client::open(client, s.addr()).await;
            for size in [3, 100_000] {
                let b = body(size);
                let trailers = [("x-sum", "42"), ("x-two", "b")];
                let a = Ask {
                    method: "POST",
                    body: Some(&b),
                    chunked: true,
                    trailers: &trailers,
                    ..Default::default()
                };
                let r = c.ask(&a).await;
                assert!(r.status == 200 && r.body == b, "{client:?} to {host:?}: {:?}", r.headers);
                for (n, v) in trailers {
                    assert_eq!(r.trailer(n), Some(v), "{client:?} to {host:?}: {:?}", r.trailers);
                }
            }
        }
    });
}

#[test]
fn responses_without_a_body() {
    run(async {
        for (client, host) in PAIRINGS {
            let up = echo(host).await;
            let s = Server::start(&config(host, up.addr));
            let mut c = Client::open(client, s.addr()).await;
            for _ in 0..2 {
                for (method, path, status) in
                    [("GET", "/204", 204), ("HEAD", "/", 200), ("GET", "/304", 304), ("HEAD", "/x", 200)]
                {
                    let r = c.ask(&Ask { method, path, ..Default::default() }).await;
                    assert_eq!(
                        (r.status, r.body.len()),
                        (status, 0),
                        "{client:?} to {host:?} {method} {path}"
                    );
                    if method == "HEAD" && host == Http::One {
                        assert_eq!(r.header("content-length"), Some("77"), "{client:?}");
                    }
                    if method != "HEAD" {
                        assert_eq!(r.header("transfer-encoding"), None, "{client:?} to {host:?} {path}");
                    }
                }
            }
            assert_eq!(up.accepted(), 1, "{client:?} to {host:?}");
        }
    });
}

/// The host answers while the request still comes, and takes the rest of it later.
#[test]
fn a_response_does_not_cut_the_request() {
    run(async {
        for client in [Http::One, Http::Two] {
            let b = body(300_000);
            let want = b.clone();
            let up = Upstream::tcp(move |io, _| {
                let want = want.clone();
                async move {
                    // One window's worth is taken before the answer: it finds the proxy with parts that have to wait.
                    let mut p =
                        Peer::server(io, Settings { initial_window_size: 20_000, ..Default::default() });
                    p.release = false;
                    let Some((id, _)) = p.request().await else { return };
                    p.turn(Duration::from_millis(100)).await;
                    p.respond(id, &h2::response(200, &[]), false);
                    p.turn(Duration::from_millis(100)).await;
                    p.release = true;
                    p.codec.release(id, p.message(id).body.len());
                    let m = p.message_of(id).await;
                    let same = if m.body == want { "same" } else { "other" };
                    p.data(id, same, true);
                    p.closed().await;
                }
            })
            .await;
            let s = Server::start(&config(Http::Two, up.addr));
            let mut c = Client::open(client, s.addr()).await;
            let r = c.ask(&Ask { method: "POST", body: Some(&b), chunked: true, ..Default::default() }).await;
            assert_eq!((r.status, String::from_utf8_lossy(&r.body).as_ref()), (200, "same"), "{client:?}");
        }
    });
}

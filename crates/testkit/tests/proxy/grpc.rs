//! gRPC: messages that go both ways in turn, with a status in the trailers.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::{Config, Server, Upstream, run};
use nuncio_wire::h2::{Event, Settings};

/// A message with gRPC's five bytes in front.
fn message(text: &str) -> Vec<u8> {
    let mut m = vec![0];
    m.extend_from_slice(&(text.len() as u32).to_be_bytes());
    m.extend_from_slice(text.as_bytes());
    m
}

fn call() -> nuncio_wire::RequestHead {
    h2::request(
        "POST",
        "/pkg.Service/Chat",
        &[("content-type", "application/grpc"), ("te", "trailers"), ("x-probe", "1")],
    )
}

/// Answers each message as soon as it is there; `head_first`: the response's head does not wait for a message.
async fn chat(head_first: bool) -> Upstream {
    Upstream::tcp(move |io, _| async move {
        let mut p = Peer::server(io, Settings::default());
        let grpc = h2::response(200, &[("content-type", "application/grpc")]);
        let mut begun = false;
        while let Some(e) = p.next().await {
            match e {
                Event::Request { id, .. } if head_first => p.respond(id, &grpc, false),
                Event::Data { id, data, end, .. } => {
                    if !head_first && !begun {
                        p.respond(id, &grpc, false);
                        begun = true;
                    }
                    if !data.is_empty() {
                        p.data(id, [b"\0\0\0\0\x05re:".as_slice(), &data[data.len() - 2..]].concat(), false);
                    }
                    if end {
                        p.trailers(id, &[("grpc-status", "0"), ("grpc-message", "done")]);
                    }
                }
                _ => {}
            }
        }
    })
    .await
}

#[test]
fn messages_go_both_ways_in_turn() {
    run(async {
        for head_first in [false, true] {
            let up = chat(head_first).await;
            let s = Server::start(&Config::to_h2(up.addr));
            let mut p = Peer::open(s.addr()).await;
            let id = p.begin(&call(), false);
            for n in 1..=20 {
                p.data(id, message(&format!("m{}", n % 10)), false);
                let m = p.until(id, |m| m.body.len() >= n * 10).await;
                let want = format!("re:m{}", n % 10);
                assert!(m.body.ends_with(want.as_bytes()), "{:?}", m.text());
            }
            p.data(id, vec![], true);
            let m = p.message_of(id).await;
            assert_eq!((m.status, m.trailer("grpc-status"), m.reset), (200, Some("0"), None));
            assert_eq!(m.trailer("grpc-message"), Some("done"));
            s.expect(&[("cluster.up.upstream_rq_200", 1), ("http.ingress.downstream_rq_active", 0)]).await;
        }
    });
}

#[test]
fn trailers_only() {
    run(async {
        let up = Upstream::tcp(|io, _| async move {
            let mut p = Peer::server(io, Settings::default());
            while let Some((id, _)) = p.request().await {
                let h = h2::response(200, &[("content-type", "application/grpc"), ("grpc-status", "5")]);
                p.respond(id, &h, true);
            }
        })
        .await;
        let s = Server::start(&Config::to_h2(up.addr));
        let mut p = Peer::open(s.addr()).await;
        let m = p.ask(&call(), Some(&message("x"))).await;
        assert_eq!((m.status, m.header("grpc-status"), m.reset), (200, Some("5"), None));
    });
}

#[test]
fn failures_are_told_in_grpcs_way() {
    run(async {
        let s = Server::start(&Config::to_h2(Upstream::refusing()));
        let mut p = Peer::open(s.addr()).await;
        let m = p.ask(&call(), Some(&message("x"))).await;
        assert_eq!((m.status, m.header("grpc-status")), (200, Some("14")));
        assert!(m.header("grpc-message").is_some_and(|t| t.contains("remote connection failure")), "{m:?}");
    });
}

/// While a filter holds the response's head back, the request's frames still reach the host.
#[test]
fn the_request_flows_while_a_filter_holds_the_response() {
    run(async {
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        let up = Upstream::tcp(move |io, _| {
            let tx = tx.clone();
            async move {
                let mut p = Peer::server(io, Settings::default());
                while let Some(e) = p.next().await {
                    match e {
                        Event::Request { id, .. } => p.respond(id, &h2::response(200, &[]), false),
                        Event::Data { id, data, end, .. } => {
                            let _ = tx.send(data.len()); // the test may be over
                            if end {
                                p.data(id, "bye", true);
                            }
                        }
                        _ => {}
                    }
                }
            }
        })
        .await;
        let s = Server::start(&Config::to_h2(up.addr).probe("wait-on-response:700"));
        let mut p = Peer::open(s.addr()).await;
        let id = p.begin(&call(), false);
        p.flush().await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        for n in 1..=3 {
            p.data(id, vec![b'x'; n], false);
            p.flush().await;
            assert_eq!(rx.recv().await, Some(n));
            p.turn(std::time::Duration::from_millis(10)).await;
            assert_eq!(p.message(id).status, 0, "the filter holds the head");
        }
        p.data(id, "end", true);
        let m = p.message_of(id).await;
        assert_eq!((m.status, m.text()), (200, "bye".into()));
    });
}

//! Hosts and clients that do not do what they should.

use crate::peers::{Client, Http};
use nuncio_testkit::conn::Fate;
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::probe::Log;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use nuncio_wire::h2::{ErrorCode, Settings};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%";

/// What a host does with its connection, once the request is there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Close,
    Reset,
    Say(&'static str),
    SayAndReset(&'static str),
    Stall(&'static str),
}

async fn host(act: Act) -> Upstream {
    Upstream::h1(move |mut c, _| async move {
        c.request().await;
        match act {
            Act::Close => {}
            Act::Reset => c.reset(),
            Act::Say(s) => c.send(s).await,
            Act::SayAndReset(s) => {
                c.send(s).await;
                // The bytes must be read before the reset throws them away.
                tokio::time::sleep(Duration::from_millis(50)).await;
                c.reset();
            }
            Act::Stall(s) => {
                c.send(s).await;
                c.fate().await;
            }
        }
    })
    .await
}

#[test]
fn hosts_that_fail_before_the_head() {
    const RESET: &str = "503 UC upstream_reset_before_response_started{connection_termination}";
    const GARBAGE: &str = "502 UPE upstream_reset_before_response_started{protocol_error}";
    let cases = [
        (Act::Close, RESET, "upstream_cx_destroy_remote_with_active_rq"),
        (Act::Reset, RESET, "upstream_cx_destroy_remote_with_active_rq"),
        (Act::Say("HTTP/1.1 200 O"), GARBAGE, "upstream_cx_destroy_remote_with_active_rq"),
        (Act::Say("HTTP/1.1 200 O"), GARBAGE, "upstream_cx_protocol_error"),
        (Act::Say("HTTP/1.1 200 OK\r\nx: y\r\n"), GARBAGE, "upstream_cx_protocol_error"),
        (Act::Say("garbage\r\n\r\n"), GARBAGE, "upstream_cx_protocol_error"),
        (Act::Stall("HTTP/1.1 2x0 OK\r\n\r\n"), GARBAGE, "upstream_cx_protocol_error"),
        (Act::Stall("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"), GARBAGE, "upstream_cx_protocol_error"),
    ];
    run(async {
        for (act, line, stat) in cases {
            for v in [Http::One, Http::Two] {
                let (up, log) = (host(act).await, Log::default());
                let s = Server::start(&Config::to(up.addr).log(&log, FORMAT));
                let mut c = Client::open(v, s.addr()).await;
                let r = c.get("/").await;
                let got = log.line(1).await;
                assert!(got.starts_with(line.trim_end_matches('}')), "{act:?}: {got}");
                assert_eq!(r.status.to_string(), line[..3], "{act:?}");
                let body = String::from_utf8_lossy(&r.body).into_owned();
                assert!(
                    body.starts_with(
                        "upstream connect error or disconnect/reset before headers. reset reason: "
                    ),
                    "{body}"
                );
                s.expect(&[
                    (&format!("cluster.up.{stat}"), 1),
                    (&format!("cluster.up.upstream_rq_{}", &line[..3]), 1),
                    ("cluster.up.upstream_cx_active", 0),
                    ("cluster.up.upstream_rq_active", 0),
                    ("cluster.up.upstream_rq_pending_active", 0),
                    ("http.ingress.downstream_rq_5xx", 1),
                    ("http.ingress.downstream_rq_active", 0),
                ])
                .await;
                // The client's connection lives on.
                assert_eq!(c.get("/").await.status, r.status, "{act:?}");
                up.wait_open(0).await;
            }
        }
    });
}

#[test]
fn hosts_that_fail_in_the_body() {
    const LINE: &str = "200 UPE upstream_reset_after_response_started{protocol_error}";
    let cases = [
        Act::Say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
        Act::SayAndReset("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
        Act::Say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        Act::Stall("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
    ];
    run(async {
        for act in cases {
            let (up, log) = (host(act).await, Log::default());
            let s = Server::start(&Config::to(up.addr).log(&log, FORMAT));
            let mut c = Conn::open(s.addr()).await;
            c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
            let head = c.head().await.expect("a head");
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(c.fate().await, Fate::Closed);
            assert_eq!(log.line(1).await, LINE, "{act:?}");
            let mut p = Peer::open(s.addr()).await;
            let m = p.ask(&h2::get("/"), None).await;
            assert_eq!((m.status, m.ended), (200, false), "{act:?}: {m:?}");
            assert!(matches!(m.reset, Some(Some(_))), "{act:?}: the stream alone ends: {m:?}");
            s.expect(&[
                ("cluster.up.upstream_cx_active", 0),
                ("cluster.up.upstream_rq_active", 0),
                ("http.ingress.downstream_rq_active", 0),
                ("http.ingress.downstream_cx_http1_active", 0),
                ("http.ingress.downstream_cx_http2_active", 1),
                ("http.ingress.downstream_rq_rx_reset", 2),
                ("http.ingress.downstream_rq_tx_reset", 2),
                ("cluster.up.upstream_cx_protocol_error", 2),
                ("cluster.up.upstream_cx_destroy_with_active_rq", 2),
            ])
            .await;
        }
    });
}

#[test]
fn http2_hosts_that_fail() {
    run(async {
        for (code, line) in [
            (Some(ErrorCode::INTERNAL_ERROR), "503 UR upstream_reset_before_response_started{remote_reset"),
            (
                Some(ErrorCode::REFUSED_STREAM),
                "503 UR upstream_reset_before_response_started{remote_refused_stream_reset",
            ),
            (None, "503 UC upstream_reset_before_response_started{connection_termination"),
        ] {
            let up = Upstream::tcp(move |io, _| async move {
                let mut p = Peer::server(io, Settings::default());
                while let Some((id, _)) = p.request().await {
                    let Some(code) = code else { return };
                    p.codec.reset(id, code);
                }
            })
            .await;
            let log = Log::default();
            let s = Server::start(&Config::to_h2(up.addr).log(&log, FORMAT));
            let mut c = Conn::open(s.addr()).await;
            assert_eq!(c.get("/").await.status(), 503, "{code:?}");
            let got = log.line(1).await;
            assert!(got.starts_with(line), "{code:?}: {got}");
            let resets = u64::from(code.is_some());
            s.expect(&[
                ("cluster.up.upstream_rq_rx_reset", u64::from(code == Some(ErrorCode::INTERNAL_ERROR))),
                ("cluster.up.upstream_cx_active", resets),
                ("cluster.up.upstream_rq_active", 0),
            ])
            .await;
        }
        // Garbage instead of SETTINGS.
        let up = Upstream::h1(|mut c, _| async move {
            c.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
            c.fate().await;
        })
        .await;
        let log = Log::default();
        let s = Server::start(&Config::to_h2(up.addr).log(&log, FORMAT));
        let status = Conn::open(s.addr()).await.get("/").await.status();
        assert!(status == 502 || status == 503, "{status}");
        s.expect(&[
            ("cluster.up.upstream_cx_protocol_error", 1),
            ("cluster.up.upstream_cx_active", 0),
            ("cluster.up.upstream_rq_active", 0),
        ])
        .await;
        up.wait_open(0).await;
    });
}

#[test]
fn informational_heads_go_on_if_the_configuration_says_so() {
    run(async {
        for passes in [true, false] {
            let (tx, rx) = tokio::sync::oneshot::channel::<()>();
            let seen = Cell::new(Some(rx));
            let seen = Rc::new(seen);
            let up = Upstream::h1(move |mut c, _| {
                let seen = seen.clone();
                async move {
                    c.request().await;
                    c.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nconnection: x\r\n\r\n").await;
                    if let Some(seen) = seen.take().filter(|_| passes) {
                        drop(seen.await); // nothing follows before the client has it
                    }
                    c.send("HTTP/1.1 103 Again\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").await;
                    c.fate().await;
                }
            })
            .await;
            let s = Server::start(&Config::to(up.addr).hcm(&format!("proxy_100_continue: {passes}")));
            let mut c = Conn::open(s.addr()).await;
            c.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            if passes {
                let head = c.head().await.expect("a head");
                assert_eq!(head.trim_end(), "HTTP/1.1 103 Unknown\r\nlink: </a>");
                tx.send(()).expect("the host waits");
            }
            assert!(c.head().await.expect("a head").starts_with("HTTP/1.1 204 "));
            s.expect(&[("cluster.up.upstream_rq_103", 1), ("cluster.up.upstream_rq_completed", 2)]).await;
        }
    });
}

#[test]
fn nobody_listens() {
    run(async {
        let log = Log::default();
        let s = Server::start(&Config::to(Upstream::refusing()).log(&log, FORMAT));
        let mut c = Conn::open(s.addr()).await;
        for i in 1..=3 {
            let r = c.get("/").await;
            assert_eq!(r.status(), 503);
            assert!(r.text().contains("reset reason: remote connection failure"), "{}", r.text());
            assert!(
                log.line(i)
                    .await
                    .starts_with("503 UF upstream_reset_before_response_started{remote_connection_failure")
            );
        }
        s.expect(&[
            ("cluster.up.upstream_cx_connect_fail", 3),
            ("cluster.up.upstream_cx_total", 3),
            ("cluster.up.upstream_cx_active", 0),
            ("cluster.up.upstream_rq_pending_failure_eject", 3),
            ("cluster.up.upstream_rq_pending_active", 0),
            ("cluster.up.upstream_rq_503", 3),
        ])
        .await;
    });
}

#[test]
fn a_client_that_leaves_ends_its_upstream_request() {
    run(async {
        let stalling = || {
            Upstream::h1(|mut c, _| async move {
                c.head().await;
                c.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
                c.fate().await;
            })
        };
        for mid_response in [false, true] {
            let up = match mid_response {
                true => stalling().await,
                false => host(Act::Stall("")).await,
            };
            let log = Log::default();
            let s = Server::start(&Config::to(up.addr).log(&log, FORMAT));
            let mut c = Conn::open(s.addr()).await;
            c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
            if mid_response {
                c.head().await.expect("a head");
                assert_eq!(c.bytes(4).await, b"half");
            } else {
                s.wait_stat("cluster.up.upstream_rq_active", 1).await;
            }
            drop(c);
            up.wait_open(0).await;
            let code = if mid_response { "200" } else { "0" };
            assert_eq!(log.line(1).await, format!("{code} DC downstream_remote_disconnect"));
            s.expect(&[
                ("http.ingress.downstream_cx_active", 0),
                ("http.ingress.downstream_rq_active", 0),
                ("http.ingress.downstream_rq_rx_reset", 1),
                ("http.ingress.downstream_cx_destroy_remote_active_rq", 1),
                ("cluster.up.upstream_rq_active", 0),
                ("cluster.up.upstream_cx_active", 0),
                ("cluster.up.upstream_cx_destroy_local_with_active_rq", 1),
                ("cluster.up.upstream_rq_tx_reset", 0),
            ])
            .await;
        }
    });
}

#[test]
fn a_client_that_leaves_in_its_request_body() {
    run(async {
        let up = host(Act::Stall("")).await;
        let log = Log::default();
        let s = Server::start(&Config::to(up.addr).log(&log, FORMAT));
        let mut c = Conn::open(s.addr()).await;
        c.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nsome").await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        drop(c);
        up.wait_open(0).await;
        assert_eq!(log.line(1).await, "0 DC downstream_remote_disconnect");
        s.expect(&[
            ("http.ingress.downstream_cx_active", 0),
            ("http.ingress.downstream_rq_active", 0),
            ("cluster.up.upstream_cx_active", 0),
            ("cluster.up.upstream_rq_active", 0),
        ])
        .await;
    });
}

#[test]
fn an_http2_client_that_resets_its_stream() {
    run(async {
        let up = Upstream::tcp(|io, _| async move {
            let mut p = Peer::server(io, Settings::default());
            p.closed().await;
        })
        .await;
        let log = Log::default();
        let s = Server::start(&Config::to_h2(up.addr).log(&log, FORMAT));
        let mut p = Peer::open(s.addr()).await;
        let id = p.begin(&h2::get("/"), true);
        p.flush().await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        p.codec.reset(id, ErrorCode::CANCEL);
        p.flush().await;
        assert_eq!(log.line(1).await, "0 DR http2.remote_reset");
        s.expect(&[
            ("http.ingress.downstream_rq_active", 0),
            ("http.ingress.downstream_rq_rx_reset", 1),
            ("http.ingress.downstream_cx_active", 1),
            ("cluster.up.upstream_rq_active", 0),
            ("cluster.up.upstream_rq_tx_reset", 1),
            // The connection to the host lives on.
            ("cluster.up.upstream_cx_active", 1),
            ("cluster.up.http2.tx_reset", 1),
        ])
        .await;
    });
}

#[test]
fn an_early_response_lets_the_request_body_go() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            c.head().await;
            c.send("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
            c.fate().await;
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        c.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\nsome").await;
        let r = c.response().await.expect("a response");
        assert_eq!((r.status(), r.text()), (413, "big".into()));
        c.finish().await;
        assert!(matches!(c.fate().await, Fate::Closed | Fate::Reset));
        up.wait_open(0).await;
        s.expect(&[("http.ingress.downstream_cx_active", 0), ("cluster.up.upstream_cx_active", 0)]).await;
    });
}

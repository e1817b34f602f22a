//! Retries: what hosts see of them, and what becomes of bodies, clients and limits meanwhile.

use nuncio_testkit::conn::Fate;
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::probe::Log;
use nuncio_testkit::upstream::ok;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use nuncio_wire::h2::{ErrorCode, Event, Settings};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const FORMAT: &str =
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_REQUEST_ATTEMPT_COUNT%";
const BAD: &str = "HTTP/1.1 503 Bad\r\ncontent-length: 3\r\n\r\nbad";

fn retrying(host: SocketAddr, policy: &str) -> Config {
    Config::new()
        .cluster("up", host, "")
        .route(&format!("match: {{prefix: /}}, route: {{cluster: up, retry_policy: {{{policy}}}}}"))
}

/// Answers badly this often, then well.
async fn better_later(bad: usize) -> Upstream {
    let asked = Rc::new(Cell::new(0));
    Upstream::answering(move |m| {
        asked.set(asked.get() + 1);
        if asked.get() <= bad { BAD.into() } else { ok(&m.body) }
    })
    .await
}

#[test]
fn a_bad_answer_is_retried() {
    run(async {
        let (up, log) = (better_later(2).await, Log::default());
        let s = Server::start(&retrying(up.addr, "retry_on: 5xx, num_retries: 2").log(&log, FORMAT));
        let r = Conn::open(s.addr()).await.get("/").await;
        assert_eq!((r.status(), r.header("x-envoy-attempt-count")), (200, None));
        assert_eq!(log.line(1).await, "200 - via_upstream 3");
        assert_eq!(up.seen().len(), 3);
        s.expect(&[
            ("cluster.up.upstream_rq_retry", 2),
            ("cluster.up.upstream_rq_retry_success", 1),
            ("cluster.up.upstream_rq_retry_backoff_exponential", 2),
            ("cluster.up.retry.upstream_rq_503", 2),
            ("cluster.up.upstream_rq_completed", 1),
            ("cluster.up.upstream_rq_total", 3),
            ("cluster.up.circuit_breakers.default.rq_retry_open", 0),
        ])
        .await;
    });
}

#[test]
fn the_last_bad_answer_is_passed_on() {
    run(async {
        let (up, log) = (better_later(9).await, Log::default());
        let s = Server::start(&retrying(up.addr, "retry_on: 5xx").log(&log, FORMAT));
        let r = Conn::open(s.addr()).await.get("/").await;
        assert_eq!((r.status(), &*r.body), (503, &b"bad"[..]));
        assert_eq!(log.line(1).await, "503 URX via_upstream 2");
        s.expect(&[("cluster.up.upstream_rq_retry_limit_exceeded", 1)]).await;
    });
}

#[test]
fn bodies_are_sent_again() {
    run(async {
        let up = better_later(1).await;
        let s = Server::start(&retrying(up.addr, "retry_on: 5xx"));
        let mut c = Conn::open(s.addr()).await;
        c.send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        c.send("2\r\nde\r\n0\r\n\r\n").await;
        let r = c.response().await.expect("a response");
        assert_eq!((r.status(), &*r.body), (200, &b"abcde"[..]));
        assert!(up.seen().iter().all(|m| m.body == b"abcde"), "{:?}", up.seen());
    });
}

#[test]
fn a_host_that_leaves_in_the_middle_of_a_body() {
    run(async {
        // The first connection ends after the head and a part of the body; the body goes on meanwhile.
        let up = Upstream::h1(|mut c, n| async move {
            if n == 0 {
                c.head().await;
                c.bytes(4).await;
                return;
            }
            if let Some(m) = c.request().await {
                c.send(ok(&m.body)).await;
                c.fate().await;
            }
        })
        .await;
        let s = Server::start(&retrying(up.addr, "retry_on: reset, retry_back_off: {base_interval: 0.05s}"));
        let mut c = Conn::open(s.addr()).await;
        c.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n01234").await;
        s.wait_stat("cluster.up.upstream_rq_retry", 1).await;
        c.send("56789").await;
        let r = c.response().await.expect("a response");
        assert_eq!((r.status(), &*r.body), (200, &b"0123456789"[..]));
    });
}

#[test]
fn too_much_of_a_body_ends_the_retries() {
    run(async {
        let (up, log) = (better_later(1).await, Log::default());
        let config = retrying(up.addr, "retry_on: 5xx").listener("per_connection_buffer_limit_bytes: 4");
        let s = Server::start(&config.log(&log, FORMAT));
        let mut c = Conn::open(s.addr()).await;
        let r = c.ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nabcde").await;
        assert_eq!(r.status(), 503);
        assert_eq!(log.line(1).await, "503 - via_upstream 1");
        s.expect(&[("cluster.up.retry_or_shadow_abandoned", 1), ("cluster.up.upstream_rq_retry", 0)]).await;
    });
}

#[test]
fn too_much_of_a_body_between_two_attempts() {
    run(async {
        // It answers before the body has come.
        let up = Upstream::h1(|mut c, _| async move {
            c.head().await;
            c.send(BAD).await;
            c.fate().await;
        })
        .await;
        let log = Log::default();
        let policy = "retry_on: 5xx, retry_back_off: {base_interval: 3600s, max_interval: 3600s}";
        let config = retrying(up.addr, policy).listener("per_connection_buffer_limit_bytes: 8");
        let s = Server::start(&config.log(&log, FORMAT));
        let mut c = Conn::open(s.addr()).await;
        c.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nabcde").await;
        s.wait_stat("cluster.up.upstream_rq_retry", 1).await;
        c.send("fghij").await;
        let r = c.response().await.expect("a response");
        assert_eq!((r.status(), r.text().contains("exceeded request buffer limit")), (507, true));
        assert_eq!(log.line(1).await, "507 - request_payload_exceeded_retry_buffer_limit 1");
        s.expect(&[("cluster.up.circuit_breakers.default.rq_retry_open", 0)]).await;
    });
}

#[test]
fn a_client_that_leaves_between_two_attempts() {
    run(async {
        let (up, log) = (better_later(9).await, Log::default());
        let policy = "retry_on: 5xx, retry_back_off: {base_interval: 3600s, max_interval: 3600s}";
        let s = Server::start(&retrying(up.addr, policy).log(&log, FORMAT));
        let mut c = Conn::open(s.addr()).await;
        c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_retry", 1).await;
        drop(c);
        assert_eq!(log.line(1).await, "0 DC downstream_remote_disconnect 1");
        s.expect(&[("cluster.up.upstream_rq_active", 0), ("http.ingress.downstream_rq_active", 0)]).await;
    });
}

#[test]
fn the_whole_timeout_holds_over_all_attempts() {
    run(async {
        let (up, log) = (better_later(9).await, Log::default());
        let policy = "retry_on: 5xx, retry_back_off: {base_interval: 3600s, max_interval: 3600s}";
        let config = Config::new().cluster("up", up.addr, "").route(&format!(
            "match: {{prefix: /}}, route: {{cluster: up, timeout: 0.1s, retry_policy: {{{policy}}}}}"
        ));
        let s = Server::start(&config.log(&log, FORMAT));
        assert_eq!(Conn::open(s.addr()).await.get("/").await.status(), 504);
        assert_eq!(log.line(1).await, "504 UT response_timeout 1");
        s.expect(&[("cluster.up.upstream_rq_timeout", 0), ("cluster.up.upstream_rq_504", 0)]).await;
    });
}

#[test]
fn a_slow_try_is_given_up_and_its_connection_with_it() {
    run(async {
        let up = Upstream::h1(|mut c, n| async move {
            while let Some(m) = c.request().await {
                if n == 0 {
                    assert_eq!(c.fate().await, Fate::Closed);
                    return;
                }
                c.send(ok(m.head.as_bytes())).await;
            }
        })
        .await;
        let s = Server::start(&retrying(up.addr, "retry_on: reset, per_try_timeout: 0.1s"));
        let r = Conn::open(s.addr()).await.get("/").await;
        assert_eq!(r.status(), 200);
        assert!(r.text().contains("x-envoy-expected-rq-timeout-ms: 100"), "{}", r.text());
        s.expect(&[
            ("cluster.up.upstream_rq_per_try_timeout", 1),
            ("cluster.up.upstream_rq_timeout", 0),
            ("cluster.up.upstream_cx_total", 2),
        ])
        .await;
    });
}

#[test]
fn hosts_that_refuse() {
    run(async {
        let log = Log::default();
        let config = retrying(Upstream::refusing(), "retry_on: connect-failure, num_retries: 3");
        let s = Server::start(&config.log(&log, &format!("{FORMAT} %UPSTREAM_HOSTS_ATTEMPTED%")));
        let r = Conn::open(s.addr()).await.get("/").await;
        assert_eq!((r.status(), r.text().contains("retried and the latest reset reason: ")), (503, true));
        let line = log.line(1).await;
        assert!(
            line.starts_with("503 URX,UF upstream_reset_before_response_started{remote_connection_failure|"),
            "{line}"
        );
        // Of the hosts tried only the last is told, as in Envoy.
        assert_eq!(line.matches("127.0.0.1:").count(), 1, "{line}");
        s.expect(&[("cluster.up.upstream_cx_connect_fail", 4), ("cluster.up.upstream_rq_retry", 3)]).await;
    });
}

#[test]
fn streams_beside_a_retried_one_keep_their_bodies() {
    run(async {
        // The first stream is refused in the middle of its body; the place it leaves is taken by the others.
        let up = Upstream::tcp(|io, _| async move {
            let mut p = Peer::server(io, Settings::default());
            let mut refused = None;
            while let Some(e) = p.next().await {
                match e {
                    Event::Data { id, .. } if *refused.get_or_insert(id) == id => {
                        p.codec.reset(id, ErrorCode::REFUSED_STREAM);
                    }
                    Event::Data { id, end: true, .. } => {
                        p.respond(id, &h2::response(200, &[]), false);
                        let body = p.message(id).body;
                        p.data(id, body, true);
                    }
                    _ => {}
                }
            }
        })
        .await;
        let policy = "retry_on: refused-stream, num_retries: 3";
        let config = Config::new()
            .h2_cluster("up", up.addr, "", "")
            .route(&format!("match: {{prefix: /}}, route: {{cluster: up, retry_policy: {{{policy}}}}}"));
        let s = Server::start(&config);
        let mut p = Peer::open(s.addr()).await;
        let ids: Vec<_> = (0..4).map(|_| p.begin(&h2::request("POST", "/", &[]), false)).collect();
        for round in 0..40 {
            for (i, id) in ids.iter().enumerate() {
                p.data(*id, format!("{i}.{round},"), round == 39);
            }
            p.turn(Duration::from_millis(2)).await;
        }
        for (i, id) in ids.iter().enumerate() {
            let whole: String = (0..40).map(|round| format!("{i}.{round},")).collect();
            let m = p.message_of(*id).await;
            assert_eq!((m.status, m.text()), (200, whole));
        }
        s.expect(&[
            ("cluster.up.upstream_rq_retry", 1),
            ("cluster.up.upstream_rq_retry_success", 1),
            ("cluster.up.upstream_cx_total", 1),
            ("cluster.up.upstream_rq_active", 0),
        ])
        .await;
    });
}

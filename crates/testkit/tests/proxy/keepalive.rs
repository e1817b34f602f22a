//! PINGs to HTTP/2 peers, and those that do not answer them (`connection_keepalive`).

use nuncio_testkit::conn::Fate;
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::probe::Log;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const EMPTY_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// GET http://h/ on stream 1.
const GET: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01h";

/// The kinds of the frames in what a peer wrote.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![];
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    while let [a, b, c, kind, ..] = *bytes {
        all.push(kind);
        bytes = bytes.get(9 + u32::from_be_bytes([0, a, b, c]) as usize..).unwrap_or_default();
    }
    all
}

/// A host that takes requests and says nothing but SETTINGS; what it was sent, per connection.
async fn silent_host() -> (Upstream, Rc<RefCell<Vec<Vec<u8>>>>) {
    let seen: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let all = seen.clone();
    let up = Upstream::tcp(move |mut io, n| {
        let seen = all.clone();
        async move {
            seen.borrow_mut().push(vec![]);
            let mut buf = vec![0; 4096];
            let _ = io.write_all(EMPTY_SETTINGS).await;
            while let Ok(size @ 1..) = io.read(&mut buf).await {
                seen.borrow_mut()[n].extend_from_slice(&buf[..size]);
            }
        }
    })
    .await;
    (up, seen)
}

#[test]
fn a_host_that_does_not_answer() {
    run(async {
        let (up, seen) = silent_host().await;
        let keepalive = "connection_keepalive: {interval: 0.1s, timeout: 0.1s, interval_jitter: {value: 0}}";
        let config = Config::new().h2_cluster("up", up.addr, keepalive, "");
        let log = Log::default();
        let config = config
            .route("match: {prefix: /}, route: {cluster: up}")
            .log(&log, "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%");
        let s = Server::start(&config);
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.status(), 503);
        let line = "503 UC upstream_reset_before_response_started{connection_termination}";
        assert_eq!(log.line(1).await, line);
        // SETTINGS, WINDOW_UPDATE, its acknowledgement and the request, then one PING.
        let mut kinds = kinds(&seen.borrow()[0]);
        assert_eq!(kinds.pop(), Some(6));
        assert!(!kinds.contains(&6), "{kinds:?}");
        s.expect(&[
            ("cluster.up.http2.keepalive_timeout", 1),
            ("cluster.up.upstream_cx_destroy_local_with_active_rq", 1),
            ("cluster.up.upstream_cx_active", 0),
        ])
        .await;
    });
}

#[test]
fn a_host_that_answers_or_is_busy_stays() {
    run(async {
        let up = Upstream::tcp(move |io, _| async move {
            let mut p = Peer::server(io, Default::default());
            while let Some((id, _)) = p.request().await {
                p.respond(id, &h2::response(200, &[]), true);
                p.flush().await;
            }
        })
        .await;
        let keepalive = "connection_keepalive: {interval: 0.05s, timeout: 0.2s}";
        let config = Config::new().h2_cluster("up", up.addr, keepalive, "");
        let s = Server::start(&config.route("match: {prefix: /}, route: {cluster: up}"));
        let mut c = Conn::open(s.addr()).await;
        for _ in 0..3 {
            assert_eq!(c.get("/").await.status(), 200);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(up.accepted(), 1);
        s.expect(&[("cluster.up.http2.keepalive_timeout", 0)]).await;
    });
}

/// `connection_idle_interval`: a PING goes ahead of a request after a long silence, and of no other.
#[test]
fn an_idle_host_is_asked_first() {
    run(async {
        let (up, seen) = silent_host().await;
        let keepalive = "connection_keepalive: {timeout: 5s, connection_idle_interval: 0.3s}";
        let config = Config::new().h2_cluster("up", up.addr, keepalive, "");
        let s = Server::start(&config.route("match: {prefix: /}, route: {cluster: up}"));
        let mut first = Conn::open(s.addr()).await;
        first.send("GET /1 HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_total", 1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!kinds(&seen.borrow()[0]).contains(&6));
        let mut more = vec![];
        for n in 2..4 {
            let mut c = Conn::open(s.addr()).await;
            c.send(format!("GET /{n} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
            s.wait_stat("cluster.up.upstream_rq_total", n).await;
            more.push(c);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut kinds = kinds(&seen.borrow()[0]);
        kinds.retain(|k| matches!(k, 1 | 6));
        assert_eq!(kinds, [1, 6, 1, 1], "one PING is under way: that is enough");
    });
}

#[test]
fn a_client_that_does_not_answer() {
    run(async {
        let (up, _) = silent_host().await;
        let log = Log::default();
        let config = Config::to_h2(up.addr)
            .hcm("http2_protocol_options: {connection_keepalive: {interval: 0.1s, timeout: 0.1s}}")
            .log(
                &log,
                "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DOWNSTREAM_LOCAL_CLOSE_REASON%",
            );
        let s = Server::start(&config);
        let mut c = Conn::open(s.addr()).await;
        c.send([PREFACE, EMPTY_SETTINGS, GET].concat()).await;
        assert_eq!(c.fate().await, Fate::Closed);
        let line = "0 DC downstream_local_disconnect(http2_ping_timeout) -";
        assert_eq!(log.line(1).await, line);
        s.expect(&[
            ("http2.keepalive_timeout", 1),
            ("http.ingress.downstream_cx_destroy_remote_active_rq", 1),
        ])
        .await;
    });
}

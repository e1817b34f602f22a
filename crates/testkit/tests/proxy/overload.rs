//! What overload protection asks of connections and requests.

use nuncio_core::clock::{self, Scale, ScaleMinimum, TimerKind};
use nuncio_core::runtime::ServerState;
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::probe::Log;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use std::sync::Arc;
use std::time::Duration;

async fn state(s: &Server) -> Arc<ServerState> {
    s.on_main(|c| c.build(|cx| cx.server.state())).await
}

#[test]
fn requests_are_answered_without_filters() {
    run(async {
        let (up, log) = (Upstream::ok("x").await, Log::default());
        let config = Config::to(up.addr)
            .hcm("append_local_overload: true")
            .probe("panic-on-response")
            .log(&log, "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%");
        let s = Server::start(&config);
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.text(), "x");
        state(&s).await.overload.stop_accepting_requests.set(1.0);
        let r = c.ask("GET / HTTP/1.1\r\nhost: h\r\nx-probe: 1\r\n\r\n").await;
        assert_eq!((r.status(), r.text()), (503, "envoy overloaded".into()));
        assert_eq!(r.header("x-envoy-local-overloaded"), Some("true"));
        assert_eq!(log.line(2).await, "503 - overload");
        let mut p = Peer::open(s.addr()).await;
        assert_eq!(p.ask(&h2::get("/"), None).await.status, 503);
        state(&s).await.overload.stop_accepting_requests.set(0.0);
        assert_eq!(c.get("/").await.text(), "x");
        s.expect(&[("http.ingress.downstream_rq_overload_close", 2)]).await;
    });
}

#[test]
fn connections_end_with_their_response() {
    run(async {
        let up = Upstream::ok("x").await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.header("connection"), None);
        state(&s).await.overload.disable_http_keepalive.set(1.0);
        assert_eq!(c.get("/").await.header("connection"), Some("close"));
        s.expect(&[
            ("http.ingress.downstream_cx_overload_disable_keepalive", 1),
            ("http.ingress.downstream_cx_drain_close", 1),
        ])
        .await;
    });
}

/// Until all workers do so.
async fn pause(s: &Server, paused: bool) {
    let (tx, rx) = tokio::sync::oneshot::channel();
    s.on_main(move |c| c.listeners.pause(paused, move || tx.send(()).unwrap_or_default())).await;
    rx.await.expect("the workers live");
}

#[test]
fn connections_are_refused_or_wait() {
    run(async {
        let up = Upstream::ok("x").await;
        let s = Server::start(&Config::to(up.addr));
        let state = state(&s).await;
        state.overload.reject_incoming_connections.set(1.0);
        Conn::open(s.addr()).await.fate().await;
        state.overload.reject_incoming_connections.set(0.0);

        pause(&s, true).await;
        let mut waits = Conn::open(s.addr()).await;
        waits.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
        assert!(waits.quiet(Duration::from_millis(50)).await);
        assert_eq!(s.stat("listener.127.0.0.1_0.downstream_cx_total"), 0);
        pause(&s, false).await;
        assert_eq!(waits.response().await.map(|r| r.text()).as_deref(), Some("x"));
        drop(waits);

        state.overload.connections.set_monitor(1);
        s.wait_stat("listener.127.0.0.1_0.downstream_cx_active", 0).await;
        let mut one = Conn::open(s.addr()).await;
        assert_eq!(one.get("/").await.text(), "x");
        Conn::open(s.addr()).await.fate().await;
        drop(one);
        s.wait_stat("listener.127.0.0.1_0.downstream_cx_active", 0).await;
        assert_eq!(Conn::open(s.addr()).await.get("/").await.text(), "x");
        s.expect(&[
            ("listener.127.0.0.1_0.downstream_cx_overload_reject", 1),
            ("listener.127.0.0.1_0.downstream_global_cx_overflow", 1),
            ("listener.127.0.0.1_0.downstream_cx_total", 3),
        ])
        .await;
    });
}

#[test]
fn a_listener_may_have_nothing_to_do_with_it() {
    run(async {
        let up = Upstream::ok("x").await;
        let config = Config::to(up.addr).listener("bypass_overload_manager: true");
        let s = Server::start(&config);
        let state = state(&s).await;
        state.overload.connections.set_monitor(0);
        for share in [&state.overload.reject_incoming_connections, &state.overload.stop_accepting_requests] {
            share.set(1.0);
        }
        pause(&s, true).await;
        assert_eq!(Conn::open(s.addr()).await.get("/").await.text(), "x");
    });
}

#[test]
fn idle_streams_end_sooner() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            c.request().await;
            c.fate().await;
        })
        .await;
        let s = Server::start(&Config::to(up.addr).hcm("stream_idle_timeout: 60s"));
        let mut c = Conn::open(s.addr()).await;
        c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        let min = ScaleMinimum::Duration(Duration::from_millis(20));
        let shorter = Scale { factor: 0.0, min };
        s.on_main(move |c| {
            c.on_workers(move || clock::set_scale(TimerKind::HttpDownstreamStreamIdle, shorter))
        })
        .await;
        assert_eq!(c.response().await.map(|r| r.status()), Some(504));
    });
}

//! Clusters whose hosts choose the HTTP version (`auto_config`), and how many requests a connection takes.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::tls::{self, Identity};
use nuncio_testkit::upstream::ok;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use nuncio_wire::h2::Settings;
use std::rc::Rc;
use tokio::net::TcpStream;

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Options of a cluster that leaves the version to its hosts.
fn auto(more: &str) -> String {
    format!(
        "typed_extension_protocol_options: {{{OPTIONS}: {{'@type': type.googleapis.com/{OPTIONS}, auto_config: {{}}, \
         {more}}}}}, transport_socket: {{name: tls, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}}}"
    )
}

/// Speaks HTTP/1 or HTTP/2, and answers with that.
async fn speak(io: TcpStream, own: &Identity, alpn: &[&str]) {
    let Ok((io, chosen)) = tls::accept(io, own, alpn).await else { return };
    if chosen != "h2" {
        let mut c = Conn::over(io);
        while let Some(m) = c.request().await {
            if m.head.starts_with("GET /held ") {
                std::future::pending::<()>().await;
            }
            c.send(ok(b"h1")).await;
        }
        return;
    }
    let mut p = Peer::server(io, Settings::default());
    while let Some((id, _)) = p.request().await {
        p.respond(id, &h2::response(200, &[]), false);
        p.data(id, &b"h2"[..], true);
        p.flush().await;
    }
}

/// A host that chooses among these, one connection after the other.
async fn host(choices: &'static [&'static [&'static str]]) -> Upstream {
    let own = Rc::new(Identity::new());
    let up = Upstream::tcp(move |io, n| {
        let own = own.clone();
        async move { speak(io, &own, choices[n.min(choices.len() - 1)]).await }
    });
    up.await
}

#[test]
fn a_host_that_changes_its_mind() {
    run(async {
        let up = host(&[&["http/1.1"], &[], &["h2"]]).await;
        let s = Server::start(
            &Config::new()
                .cluster("up", up.addr, &auto(""))
                .route("match: {prefix: /}, route: {cluster: up}"),
        );
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.text(), "h1");
        assert_eq!(c.get("/").await.text(), "h1");
        let mut held = vec![];
        for n in 1..=2 {
            // This one keeps its connection, so that the next request needs another.
            let mut h = Conn::open(s.addr()).await;
            h.send("GET /held HTTP/1.1\r\nhost: h\r\n\r\n").await;
            s.wait_stat("cluster.up.upstream_rq_active", n).await;
            held.push(h);
        }
        let mut p = Peer::open(s.addr()).await;
        for _ in 0..3 {
            assert_eq!(p.ask(&h2::get("/"), None).await.text(), "h2");
        }
        s.expect(&[
            ("cluster.up.upstream_cx_http1_total", 2),
            ("cluster.up.upstream_cx_http2_total", 1),
            ("cluster.up.upstream_cx_active", 3),
            ("cluster.up.upstream_rq_active", 2),
        ])
        .await;
        drop(held);
        s.expect(&[("cluster.up.upstream_cx_active", 1), ("cluster.up.upstream_rq_active", 0)]).await;
    });
}

#[test]
fn many_requests_that_wait_for_the_first_handshake() {
    run(async {
        let up = host(&[&["h2"]]).await;
        let s = Server::start(
            &Config::new()
                .cluster("up", up.addr, &auto(""))
                .route("match: {prefix: /}, route: {cluster: up}"),
        );
        let mut p = Peer::open(s.addr()).await;
        let all: Vec<_> = (0..20).map(|_| p.begin(&h2::get("/"), true)).collect();
        for id in all {
            assert_eq!(p.message_of(id).await.text(), "h2");
        }
        s.expect(&[("cluster.up.upstream_rq_completed", 20), ("cluster.up.upstream_cx_http1_total", 0)])
            .await;
    });
}

#[test]
fn http2_connections_that_have_had_their_requests_are_closed() {
    run(async {
        let up = host(&[&["h2"]]).await;
        let most = "common_http_protocol_options: {max_requests_per_connection: 2}";
        let s = Server::start(
            &Config::new()
                .cluster("up", up.addr, &auto(most))
                .route("match: {prefix: /}, route: {cluster: up}"),
        );
        let mut p = Peer::open(s.addr()).await;
        for _ in 0..5 {
            assert_eq!(p.ask(&h2::get("/"), None).await.text(), "h2");
        }
        s.expect(&[
            ("cluster.up.upstream_cx_http2_total", 3),
            ("cluster.up.upstream_cx_max_requests", 2),
            ("cluster.up.upstream_cx_active", 1),
        ])
        .await;
        up.wait_open(1).await;
        // More at once than the connections on their way take.
        let all: Vec<_> = (0..50).map(|_| p.begin(&h2::get("/"), true)).collect();
        for id in all {
            assert_eq!(p.message_of(id).await.text(), "h2");
        }
        s.expect(&[("cluster.up.upstream_rq_completed", 55), ("cluster.up.upstream_rq_active", 0)]).await;
        assert!(s.stat("cluster.up.upstream_cx_max_requests") >= 20);
    });
}

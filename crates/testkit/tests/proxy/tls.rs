//! TLS on either side.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::probe::Log;
use nuncio_testkit::tls::{self, Identity};
use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use nuncio_wire::h2::Settings;
use std::rc::Rc;

#[test]
fn clients_choose_the_protocol_by_alpn() {
    run(async {
        let (up, id) = (Upstream::ok("x").await, Identity::new());
        let config = Config::to(up.addr).tls(&id.certificate, &id.key, "alpn_protocols: [h2, http/1.1]");
        let s = Server::start(&config);

        let (io, alpn) = tls::connect(s.addr(), &id, &["h2", "http/1.1"]).await.expect("TLS");
        assert_eq!(alpn, "h2");
        let mut p = Peer::client(io, Settings::default());
        let m = p.ask(&h2::get("/"), None).await;
        assert_eq!((m.status, m.text()), (200, "x".into()));

        let (io, alpn) = tls::connect(s.addr(), &id, &["http/1.1"]).await.expect("TLS");
        assert_eq!(alpn, "http/1.1");
        assert_eq!(Conn::over(io).get("/").await.text(), "x");

        let (io, alpn) = tls::connect(s.addr(), &id, &[]).await.expect("TLS");
        assert_eq!(alpn, "");
        assert_eq!(Conn::over(io).get("/").await.text(), "x");

        // Plain text is no TLS.
        let mut plain = Conn::open(s.addr()).await;
        plain.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        plain.fate().await;
        drop(p);
        // A connection counts from its beginning, also when its handshake fails.
        s.expect(&[
            ("http.ingress.downstream_cx_ssl_total", 4),
            ("listener.127.0.0.1_0.ssl.handshake", 3),
            ("listener.127.0.0.1_0.ssl.connection_error", 1),
            ("listener.127.0.0.1_0.downstream_cx_active", 0),
            ("http.ingress.downstream_cx_ssl_active", 0),
        ])
        .await;
    });
}

#[test]
fn large_bodies_over_tls() {
    run(async {
        let (up, id) =
            (Upstream::answering(|m| nuncio_testkit::upstream::ok(&m.body)).await, Identity::new());
        let config = Config::to(up.addr).tls(&id.certificate, &id.key, "alpn_protocols: [h2, http/1.1]");
        let s = Server::start(&config);
        let body: Vec<u8> = (0..1_000_000).map(|i| (i % 251) as u8).collect();
        let (io, _) = tls::connect(s.addr(), &id, &["h2"]).await.expect("TLS");
        let mut p = Peer::client(io, Settings::default());
        let m = p.ask(&h2::request("POST", "/", &[]), Some(&body)).await;
        assert!(m.status == 200 && m.body == body, "{} bytes", m.body.len());
    });
}

#[test]
fn hosts_behind_tls() {
    run(async {
        let id = Rc::new(Identity::new());
        let own = id.clone();
        let up = Upstream::tcp(move |io, _| {
            let own = own.clone();
            async move {
                let Ok((io, _)) = tls::accept(io, &own, &["http/1.1"]).await else { return };
                let mut c = Conn::over(io);
                while c.request().await.is_some() {
                    c.send(nuncio_testkit::upstream::ok(b"secret")).await;
                }
            }
        })
        .await;
        let socket = |authority: &str| {
            format!(
                "transport_socket: {{name: tls, typed_config: {{'@type': \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: localhost, \
                 common_tls_context: {{validation_context: {{trusted_ca: {{inline_string: \"{}\"}}}}}}}}}}",
                authority.replace('\n', "\\n")
            )
        };
        let (other, log) = (Identity::new(), Log::default());
        let s = Server::start(
            &Config::new()
                .cluster("good", up.addr, &socket(&id.authority))
                .cluster("bad", up.addr, &socket(&other.authority))
                .route("match: {prefix: /}, route: {cluster: good}")
                .route("match: {prefix: /bad}, route: {cluster: bad}")
                .log(&log, "%RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%"),
        );
        let mut c = Conn::open(s.addr()).await;
        for _ in 0..2 {
            assert_eq!(c.get("/").await.text(), "secret");
        }
        let r = c.get("/bad").await;
        assert_eq!(r.status(), 503);
        let line = log.line(3).await;
        assert!(line.starts_with("UF TLS_error:"), "{line}");
        s.expect(&[
            ("cluster.good.ssl.handshake", 1),
            ("cluster.good.upstream_cx_total", 1),
            ("cluster.bad.ssl.fail_verify_error", 1),
            ("cluster.bad.upstream_cx_connect_fail", 1),
            ("cluster.bad.upstream_cx_active", 0),
        ])
        .await;
    });
}

#[test]
fn a_request_names_its_host() {
    run(async {
        let id = Rc::new(Identity::new());
        let own = id.clone();
        let up = Upstream::tcp(move |io, _| {
            let own = own.clone();
            async move {
                let Ok((io, alpn)) = tls::accept(io, &own, &["h2", "http/1.1"]).await else { return };
                assert_eq!(alpn, "http/1.1"); // the protocol that will be spoken is offered
                let mut c = Conn::over(io);
                while c.request().await.is_some() {
                    c.send(nuncio_testkit::upstream::ok(b"x")).await;
                }
            }
        })
        .await;
        let cluster = format!(
            "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{'@type': \
             type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
             {{http_protocol_options: {{}}}}, upstream_http_protocol_options: {{auto_sni: true, auto_san_validation: \
             true}}}}}}, transport_socket: {{name: tls, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
             {{validation_context: {{trusted_ca: {{inline_string: \"{}\"}}}}}}}}}}",
            id.authority.replace('\n', "\\n")
        );
        let config = Config::new().cluster("up", up.addr, &cluster);
        let s = Server::start(&config.route("match: {prefix: /}, route: {cluster: up}"));
        let mut c = Conn::open(s.addr()).await;
        for (host, status) in [
            ("localhost", 200),
            ("localhost:80", 200),
            ("other", 503),
            ("127.0.0.1", 503),
            ("localhost", 200),
        ] {
            let r = c.ask(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            assert_eq!(r.status(), status, "{host}");
        }
        s.expect(&[
            ("cluster.up.upstream_cx_total", 3),
            ("cluster.up.upstream_rq_total", 3),
            ("cluster.up.ssl.handshake", 1),
            ("cluster.up.ssl.fail_verify_san", 2),
        ])
        .await;
    });
}

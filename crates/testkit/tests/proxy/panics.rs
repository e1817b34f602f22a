//! A filter that panics ends its stream and nothing else.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::probe::Log;
use nuncio_testkit::{Config, Conn, Server, Upstream, run};

#[test]
fn a_panic_ends_one_stream() {
    run(async {
        for act in
            ["panic-on-request", "panic-on-response", "panic-on-done", "panic-in-body", "panic-in-wait"]
        {
            let (up, log) = (Upstream::ok("x").await, Log::default());
            let s = Server::start(&Config::to(up.addr).probe(act).log(&log, "%REQ(:PATH)%"));
            let before = nuncio_engine::panics();

            // HTTP/1: the connection ends.
            let mut c = Conn::open(s.addr()).await;
            c.send("GET /one HTTP/1.1\r\nhost: h\r\nx-probe: 1\r\n\r\n").await;
            c.fate().await;
            // The connection's end is seen before the panic is counted.
            while nuncio_engine::panics() == before {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            assert_eq!(log.line(1).await, "/one", "{act}: it is still logged");

            // HTTP/2: the stream ends, the others and the connection do not.
            let mut p = Peer::open(s.addr()).await;
            let bad = p.begin(&h2::request("GET", "/two", &[("x-probe", "1")]), true);
            let good = p.begin(&h2::get("/three"), true);
            let m = p.message_of(good).await;
            assert_eq!((m.status, m.text(), m.reset), (200, "x".into(), None), "{act}");
            let m = p.message_of(bad).await;
            if act != "panic-on-done" {
                assert!(matches!(m.reset, Some(Some(_))), "{act}: {m:?}");
            }
            assert_eq!(p.ask(&h2::get("/four"), None).await.status, 200, "{act}");

            // The server goes on, and nothing is left.
            assert_eq!(Conn::open(s.addr()).await.get("/").await.status(), 200, "{act}");
            drop(p);
            s.expect(&[
                ("http.ingress.downstream_rq_active", 0),
                ("http.ingress.downstream_cx_active", 0),
                ("http.ingress.downstream_cx_http1_active", 0),
                ("http.ingress.downstream_cx_http2_active", 0),
                ("http.ingress.downstream_rq_total", 5),
                ("cluster.up.upstream_rq_active", 0),
                ("cluster.up.upstream_rq_pending_active", 0),
            ])
            .await;
            let logged = log.lines();
            assert_eq!(logged.len(), 5, "{act}: {logged:?}");
            assert_eq!(s.stat("cluster.up.upstream_cx_active") as usize, up.open(), "{act}");
        }
    });
}

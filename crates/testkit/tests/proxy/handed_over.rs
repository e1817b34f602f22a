//! Connections that belong to another listener than the one that accepted them.

use nuncio_engine::Change;
use nuncio_testkit::{Config, Conn, Server, run};

const PROXY: &str = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";

/// Takes all connections, and asks where they wanted to go.
fn entrance() -> String {
    let filter = format!(
        "listener_filters: [{{name: p, typed_config: {{'@type': {PROXY}}}}}]\nuse_original_dst: true"
    );
    Config::new().route(&answer("entrance")).listener(&filter).yaml()
}

fn answer(body: &str) -> String {
    format!("match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: {body}}}}}")
}

/// A listener that is not bound.
fn inner(name: &str, port: u16, body: &str, fields: &str) -> String {
    Config::new()
        .named(name, port)
        .route(&answer(body))
        .listener(&format!("bind_to_port: false\n{fields}"))
        .listener_yaml()
}

async fn set(s: &Server, yaml: String) -> Change {
    let (change, done) = s.on_main(move |c| c.set_listener(&yaml)).await.expect("a good listener");
    done.await.expect("all workers have it");
    change
}

/// A connection to port `to` of loopback.
async fn open(s: &Server, to: u16) -> Conn {
    let mut c = Conn::open(s.addr()).await;
    c.send(format!("PROXY TCP4 192.0.2.9 127.0.0.1 9 {to}\r\n")).await;
    c
}

async fn answered(s: &Server, to: u16) -> String {
    open(s, to).await.get("/").await.text()
}

#[test]
fn listeners_that_take_connections_over_come_change_and_go() {
    run(async {
        let s = Server::from_yaml(&entrance(), 2);
        assert_eq!(answered(&s, 80).await, "entrance");

        assert_eq!(set(&s, inner("inner", 80, "inner", "")).await, Change::Added);
        let mut kept = open(&s, 80).await;
        assert_eq!(kept.get("/").await.text(), "inner");
        assert_eq!(answered(&s, 81).await, "entrance");
        let address = "listener.127.0.0.1_80";
        s.expect(&[
            (&format!("{address}.downstream_cx_total"), 1),
            (&format!("{address}.downstream_cx_active"), 1),
            (&format!("{address}.downstream_pre_cx_active"), 0),
        ])
        .await;

        // Another filter chain, then another generation.
        assert_eq!(set(&s, inner("inner", 80, "changed", "")).await, Change::Modified);
        assert_eq!(answered(&s, 80).await, "changed");
        assert_eq!(set(&s, inner("inner", 80, "again", "tcp_backlog_size: 9")).await, Change::Modified);
        assert_eq!(answered(&s, 80).await, "again");
        assert_eq!(kept.get("/").await.text(), "changed");

        let taken = inner("other", 80, "other", "");
        let refused = s.on_main(move |c| c.set_listener(&taken).err()).await.expect("a refusal");
        assert!(
            refused.contains("'other' has duplicate address '127.0.0.1:80' as existing listener"),
            "{refused}"
        );

        let removed = s.on_main(|c| c.listeners.remove("inner", Box::new(|| ())));
        assert!(removed.await);
        while answered(&s, 80).await != "entrance" {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        drop(kept);
        s.expect(&[(&format!("{address}.downstream_cx_active"), 0)]).await;
    });
}

/// What keeps a listener from taking too many connections looks at those it accepts by itself.
#[test]
fn a_limit_of_connections_counts_where_they_are_accepted() {
    run(async {
        let s = Server::from_yaml(&entrance(), 1);
        assert_eq!(set(&s, inner("inner", 80, "inner", "")).await, Change::Added);
        s.on_main(|c| c.set_runtime("envoy.resource_limits.listener.inner.connection_limit", "1")).await;
        let (mut a, mut b) = (open(&s, 80).await, open(&s, 80).await);
        assert_eq!(a.get("/").await.text() + &b.get("/").await.text(), "innerinner");
        s.on_main(|c| c.set_runtime("envoy.resource_limits.listener.ingress.connection_limit", "1")).await;
        // Those two are no longer connections of the entrance.
        let mut c = open(&s, 81).await;
        assert_eq!(c.get("/").await.text(), "entrance");
    });
}

//! Listeners and clusters that come, change and go while requests are served.

use nuncio_engine::Change;
use nuncio_testkit::conn::Fate;
use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::tls::{self, Identity};
use nuncio_testkit::upstream::ok;
use nuncio_testkit::{Config, Conn, Server, Upstream, probe, run};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::JoinHandle;

/// Clients that never stop asking; every answer must be a 200.
struct Traffic {
    stop: Rc<Cell<bool>>,
    answers: Rc<RefCell<BTreeSet<String>>>,
    count: Rc<Cell<usize>>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// HTTP/1 and HTTP/2 clients with a connection each, and one that makes a connection for every request.
    fn to(addr: SocketAddr) -> Traffic {
        let mut t =
            Traffic { stop: Rc::default(), answers: Rc::default(), count: Rc::default(), clients: vec![] };
        for kind in ["h1", "h1", "h2", "h2", "new"] {
            let (stop, answers, count) = (t.stop.clone(), t.answers.clone(), t.count.clone());
            t.clients.push(tokio::task::spawn_local(async move {
                let note = |status: u16, body: String| {
                    assert_eq!(status, 200, "{kind}: {body}");
                    answers.borrow_mut().insert(body);
                    count.set(count.get() + 1);
                };
                match kind {
                    "h2" => {
                        let mut p = Peer::open(addr).await;
                        while !stop.get() {
                            let m = p.ask(&h2::get("/"), None).await;
                            note(m.status, m.text());
                            // The listener may ask us to go elsewhere.
                            if p.told_to_go {
                                p = Peer::open(addr).await;
                            }
                        }
                    }
                    _ => {
                        let mut c = Conn::open(addr).await;
                        while !stop.get() {
                            let m = c.get("/").await;
                            note(m.status(), m.text());
                            if kind == "new" || m.header("connection") == Some("close") {
                                c = Conn::open(addr).await;
                            }
                        }
                    }
                }
            }));
        }
        t
    }
    /// Waits until all clients had a few more answers.
    async fn flows(&self) {
        let until = self.count.get() + 100;
        while self.count.get() < until {
            assert!(self.clients.iter().all(|c| !c.is_finished()), "a client has failed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    /// The bodies that were answered since the last call.
    async fn answers(&self) -> String {
        self.answers.take();
        self.flows().await;
        self.answers.take().into_iter().collect::<Vec<_>>().join(",")
    }
    async fn end(self) {
        self.stop.set(true);
        for c in self.clients {
            c.await.expect("every request was answered with 200");
        }
    }
}

fn cluster(name: &str, host: SocketAddr, fields: &str) -> String {
    Config::new().cluster(name, host, fields).clusters_yaml()[0].clone()
}

async fn set_cluster(s: &Server, yaml: String) -> Change {
    let (change, done) = s.on_main(move |c| c.set_cluster(&yaml)).await.expect("a good cluster");
    done.await.expect("all workers have it");
    change
}

async fn set_listener(s: &Server, c: &Config) -> Change {
    let yaml = c.listener_yaml();
    let (change, done) = s.on_main(move |c| c.set_listener(&yaml)).await.expect("a good listener");
    done.await.expect("all workers have it");
    change
}

async fn remove_cluster(s: &Server, name: &'static str) -> bool {
    s.on_main(move |c| c.clusters.remove(name, Box::new(|| ()))).await
}

#[test]
fn a_cluster_is_added_changed_and_removed() {
    run(async {
        let (steady, a, b) = (Upstream::ok("steady").await, Upstream::ok("a").await, Upstream::ok("b").await);
        let config = Config::to(steady.addr).route("match: {prefix: /new}, route: {cluster: new}");
        let s = Server::from_yaml(&config.yaml(), 2);
        let traffic = Traffic::to(s.addr());
        let mut client = Conn::open(s.addr()).await;
        assert_eq!(client.get("/new").await.status(), 503);

        assert_eq!(set_cluster(&s, cluster("new", a.addr, "")).await, Change::Added);
        assert_eq!(client.get("/new").await.text(), "a");
        assert_eq!(set_cluster(&s, cluster("new", a.addr, "")).await, Change::Same);
        assert_eq!(client.get("/new").await.text(), "a");
        assert_eq!(a.accepted(), 1);

        assert_eq!(set_cluster(&s, cluster("new", b.addr, "")).await, Change::Modified);
        assert_eq!(client.get("/new").await.text(), "b");
        a.wait_open(0).await;
        s.expect(&[
            ("cluster_manager.cluster_added", 2),
            ("cluster_manager.cluster_modified", 1),
            ("cluster_manager.active_clusters", 2),
            ("cluster_manager.warming_clusters", 0),
            ("cluster.new.membership_total", 1),
            ("cluster.new.upstream_cx_total", 2),
            ("cluster.new.upstream_cx_active", 1),
            ("cluster.new.upstream_rq_total", 3),
        ])
        .await;

        assert!(remove_cluster(&s, "new").await);
        assert!(!remove_cluster(&s, "new").await);
        b.wait_open(0).await;
        let r = client.get("/new").await;
        assert_eq!((r.status(), r.text().as_str()), (503, ""));
        s.expect(&[
            ("cluster_manager.cluster_removed", 1),
            ("cluster_manager.active_clusters", 1),
            ("http.ingress.no_cluster", 2),
        ])
        .await;
        // Nothing is left of it, not even names.
        while !s.stats(|n| n.starts_with("cluster.new.")).is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(traffic.answers().await, "steady");
        traffic.end().await;
    });
}

#[test]
fn the_cluster_that_all_requests_go_to_is_changed_many_times() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let s = Server::from_yaml(&Config::to(a.addr).yaml(), 2);
        let traffic = Traffic::to(s.addr());
        for round in 0..20 {
            let (host, body) = if round % 2 == 0 { (b.addr, "b") } else { (a.addr, "a") };
            assert_eq!(set_cluster(&s, cluster("up", host, "")).await, Change::Modified);
            traffic.flows().await; // what was under way
            assert_eq!(traffic.answers().await, body);
        }
        traffic.end().await;
        s.expect(&[
            ("cluster_manager.cluster_modified", 20),
            ("cluster.up.upstream_rq_pending_active", 0),
            ("cluster.up.upstream_rq_active", 0),
            ("cluster.up.upstream_cx_none_healthy", 0),
            ("http.ingress.downstream_rq_5xx", 0),
        ])
        .await;
        b.wait_open(0).await; // the last round was `a`
    });
}

#[test]
fn requests_under_way_outlive_their_cluster() {
    run(async {
        let up = Upstream::h1(|mut c, _| async move {
            while let Some(m) = c.request().await {
                c.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                c.send(if m.head.contains("/") { "cd" } else { "" }).await;
            }
        })
        .await;
        let s = Server::start(&Config::to(up.addr));
        let mut c = Conn::open(s.addr()).await;
        c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        s.wait_stat("cluster.up.upstream_rq_active", 1).await;
        assert!(remove_cluster(&s, "up").await);
        assert_eq!(c.response().await.expect("a response").text(), "abcd");
        assert_eq!(c.get("/").await.status(), 503);
        up.wait_open(0).await;
    });
}

/// Answers every question for an IPv4 address with 127.0.0.1.
async fn answer_dns(socket: UdpSocket) {
    let mut buf = [0; 512];
    while let Ok((n, from)) = socket.recv_from(&mut buf).await {
        // The question ends after its name, type and class; what follows (EDNS) is left out.
        let name = buf[12..n].iter().position(|b| *b == 0).expect("a name") + 13;
        let mut answer = buf[..name + 4].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        let _ = socket.send_to(&answer, from).await;
    }
}

#[test]
fn a_changed_cluster_serves_when_it_is_warm() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let s = Server::start(&Config::to(a.addr));
        let traffic = Traffic::to(s.addr());
        let dns = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let resolver = format!(
            "dns_lookup_family: V4_ONLY, typed_dns_resolver_config: {{name: c, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, resolvers: \
             [{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}]}}}}",
            dns.local_addr().expect("bound").port()
        );
        let named = cluster("up", b.addr, &resolver)
            .replace("type: STATIC", "type: STRICT_DNS")
            .replace("address: 127.0.0.1, port_value: ", "address: web.test, port_value: ")
            .replacen(
                "resolvers: [{socket_address: {address: web.test",
                "resolvers: [{socket_address: {address: 127.0.0.1",
                1,
            );
        let (yaml, again) = (named.clone(), named);
        let (change, done) = s.on_main(move |c| c.set_cluster(&yaml)).await.expect("a good cluster");
        assert_eq!(change, Change::Modified);
        s.expect(&[("cluster_manager.warming_clusters", 1), ("cluster_manager.active_clusters", 1)]).await;
        assert_eq!(traffic.answers().await, "a");
        assert_eq!(s.stat("cluster.up.membership_total"), 1);
        // The same once more: nothing begins anew.
        let (change, _) = s.on_main(move |c| c.set_cluster(&again)).await.expect("a good cluster");
        assert_eq!(change, Change::Same);
        let dns = tokio::task::spawn_local(answer_dns(dns));
        done.await.expect("all workers have it");
        assert_eq!(s.stat("cluster_manager.warming_clusters"), 0);
        traffic.flows().await;
        assert_eq!(traffic.answers().await, "b");
        a.wait_open(0).await;
        traffic.end().await;
        dns.abort();
    });
}

#[test]
fn a_warming_cluster_gives_way() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let s = Server::start(&Config::to(a.addr));
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let slow = format!(
            "{{name: up, type: STRICT_DNS, load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{{endpoint: \
             {{address: {{socket_address: {{address: web.test, port_value: 1}}}}}}}}]}}]}}, typed_dns_resolver_config: \
             {{name: c, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, resolvers: \
             [{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}]}}}}}}",
            silent.local_addr().expect("bound").port()
        );
        let again = slow.clone();
        let (_, superseded) = s.on_main(move |c| c.set_cluster(&slow)).await.expect("a good cluster");
        s.wait_stat("cluster_manager.warming_clusters", 1).await;
        assert_eq!(set_cluster(&s, cluster("up", b.addr, "")).await, Change::Modified);
        assert!(superseded.await.is_err(), "a change that was overtaken is never done");
        let mut c = Conn::open(s.addr()).await;
        assert_eq!(c.get("/").await.text(), "b");
        // Removing takes away what is active and what is warming.
        let (_, gone) = s.on_main(move |c| c.set_cluster(&again)).await.expect("a good cluster");
        assert!(remove_cluster(&s, "up").await);
        assert!(gone.await.is_err());
        s.expect(&[
            ("cluster_manager.warming_clusters", 0),
            ("cluster_manager.active_clusters", 0),
            ("cluster_manager.cluster_modified", 3),
            ("cluster_manager.cluster_removed", 1),
        ])
        .await;
        assert_eq!(c.get("/").await.status(), 503);
    });
}

#[test]
fn a_refused_change_changes_nothing() {
    run(async {
        let up = Upstream::ok("a").await;
        let s = Server::start(&Config::to(up.addr));
        let alts = "transport_socket: {name: a, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.alts.v3.Alts, handshaker_service: s}}";
        let bad = cluster("up", up.addr, alts);
        let refused = s.on_main(move |c| c.set_cluster(&bad).map(drop)).await;
        assert!(refused.is_err_and(|e| e.contains("not implemented yet")));
        let bad = Config::to(up.addr).listener_yaml().replace("domains: ['*']", "domains: ['*', '*']");
        let refused = s.on_main(move |c| c.set_listener(&bad).map(drop)).await;
        assert!(refused.is_err_and(|e| e.contains("Only a single wildcard domain is permitted")));
        let failures = s.on_main(|c| c.listeners.failures()).await;
        assert!(failures["ingress"].details.contains("Only a single wildcard"), "{failures:?}");
        assert_eq!(Conn::open(s.addr()).await.get("/").await.text(), "a");
        s.expect(&[
            ("listener_manager.listener_modified", 0),
            ("listener_manager.total_listeners_active", 1),
            ("cluster_manager.cluster_modified", 1), // counted before it is built, as in Envoy
        ])
        .await;
    });
}

#[test]
fn a_listener_is_added_changed_and_removed() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let config = Config::to(a.addr).cluster("b", b.addr, "");
        let s = Server::from_yaml(&config.yaml(), 2);
        s.on_main(|c| c.listeners.set_drain(Duration::from_secs(1), true)).await;
        let steady = Traffic::to(s.addr());

        let second = Config::to(a.addr).named("second", 0);
        assert_eq!(set_listener(&s, &second).await, Change::Added);
        let addr = s.on_main(|c| c.address("second")).await.expect("it listens");
        let second = second.named("second", addr.port());
        let traffic = Traffic::to(addr);
        assert_eq!(traffic.answers().await, "a");
        let mut idle = Conn::open(addr).await;
        assert_eq!(idle.get("/").await.text(), "a");

        // Something else than its filter chains: a new generation takes over its sockets.
        let changed = second.clone().listener("tcp_backlog_size: 200");
        assert_eq!(set_listener(&s, &changed).await, Change::Modified);
        assert_eq!(set_listener(&s, &changed).await, Change::Same);
        s.expect(&[
            ("listener_manager.total_listeners_draining", 1),
            ("listener_manager.total_listeners_active", 2),
        ])
        .await;
        let last = idle.get("/").await;
        assert_eq!((last.status(), last.header("connection")), (200, Some("close")));
        s.wait_stat("listener_manager.total_listeners_draining", 0).await;
        traffic.flows().await;
        traffic.end().await;

        let mut open = Conn::open(addr).await;
        assert_eq!(open.get("/").await.text(), "a");
        assert!(s.on_main(|c| c.listeners.remove("second", Box::new(|| ()))).await);
        assert!(!s.on_main(|c| c.listeners.remove("second", Box::new(|| ()))).await);
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(open.get("/").await.header("connection"), Some("close"));
        s.expect(&[
            ("listener_manager.listener_added", 2),
            ("listener_manager.listener_modified", 1),
            ("listener_manager.listener_removed", 1),
            ("listener_manager.listener_in_place_updated", 0),
            ("listener_manager.listener_create_success", 6),
            ("listener_manager.total_listeners_active", 1),
            ("listener_manager.total_listeners_draining", 0),
        ])
        .await;
        let prefix = format!("listener.127.0.0.1_{}.", addr.port());
        while !s.stats(|n| n.starts_with(&prefix)).is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(steady.answers().await, "a");
        steady.end().await;
    });
}

#[test]
fn a_listener_takes_over_the_address_of_one_that_was_removed() {
    run(async {
        let up = Upstream::ok("x").await;
        let s = Server::start(&Config::to(up.addr));
        let addr = s.addr();
        let renamed = Config::to(up.addr).named("renamed", addr.port()).listener_yaml();
        let change = s
            .on_main(move |c| {
                c.listeners.remove("ingress", Box::new(|| ()));
                c.set_listener(&renamed).map(|(change, _)| change)
            })
            .await;
        assert_eq!(change, Ok(Change::Added));
        for _ in 0..20 {
            assert_eq!(Conn::open(addr).await.get("/").await.status(), 200);
        }
    });
}

#[test]
fn new_routes_do_not_disturb_connections() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let config = Config::to(a.addr).cluster("b", b.addr, "");
        let s = Server::from_yaml(&config.yaml(), 2);
        let port = s.addr().port();
        let fixed = config.clone().named("ingress", port);
        assert_eq!(set_listener(&s, &fixed).await, Change::Modified); // the port it had chosen is now configured
        let traffic = Traffic::to(s.addr());
        let (mut one, mut two) = (Conn::open(s.addr()).await, Peer::open(s.addr()).await);
        let before = s.stat("http.ingress.downstream_cx_drain_close");
        for (cluster, round) in [("b", 1), ("up", 2), ("b", 3)] {
            let to = Config::new()
                .named("ingress", port)
                .route(&format!("match: {{prefix: /}}, route: {{cluster: {cluster}}}"));
            assert_eq!(set_listener(&s, &to).await, Change::Modified);
            let body = if cluster == "b" { "b" } else { "a" };
            let m = one.get("/").await;
            assert_eq!((m.text().as_str(), m.header("connection")), (body, None));
            assert_eq!(two.ask(&h2::get("/"), None).await.text(), body);
            s.expect(&[
                ("listener_manager.listener_in_place_updated", round),
                ("listener_manager.total_filter_chains_draining", 0),
            ])
            .await;
        }
        assert_eq!(s.stat("http.ingress.downstream_cx_drain_close"), before);
        traffic.flows().await;
        assert_eq!(traffic.answers().await, "b");
        traffic.end().await;
    });
}

async fn from(ip: &str, to: SocketAddr) -> Conn {
    let s = TcpSocket::new_v4().expect("a socket");
    s.bind(format!("{ip}:0").parse().expect("an address")).expect("bound");
    Conn::tcp(s.connect(to).await.expect("connected"))
}

#[test]
fn only_filter_chains_that_change_drain() {
    run(async {
        let up = Upstream::answering(|_| ok(b"x")).await;
        let listener = |port: u16, second: &str| {
            let (first, second) = (Config::to(up.addr), Config::to(up.addr).hcm(second));
            let chain = |c: &Config, ip: &str| {
                format!(
                    "- filter_chain_match: {{source_prefix_ranges: [{{address_prefix: {ip}, prefix_len: 32}}]}}\n  {}",
                    c.chain_yaml().trim_end().replace('\n', "\n  ")
                )
            };
            format!(
                "name: two\naddress: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}\nfilter_chains:\n{}\n{}\n",
                chain(&first, "127.0.0.2"),
                chain(&second, "127.0.0.3")
            )
        };
        let s = Server::from_yaml(&Config::to(up.addr).yaml(), 2);
        s.on_main(|c| c.listeners.set_drain(Duration::from_secs(2), true)).await;
        let yaml = listener(0, "server_name: before");
        s.on_main(move |c| c.set_listener(&yaml).map(drop)).await.expect("a good listener");
        let addr = s.on_main(|c| c.address("two")).await.expect("it listens");
        // Where it listens is now written down, so that only a chain differs later.
        let yaml = listener(addr.port(), "server_name: before");
        let (_, done) = s.on_main(move |c| c.set_listener(&yaml)).await.expect("a good listener");
        done.await.expect("all workers have it");
        s.wait_stat("listener_manager.total_listeners_draining", 0).await;

        let (mut stays, mut goes) = (from("127.0.0.2", addr).await, from("127.0.0.3", addr).await);
        let (mut idle, mut kept) = (from("127.0.0.3", addr).await, from("127.0.0.2", addr).await);
        for c in [&mut stays, &mut goes, &mut idle, &mut kept] {
            assert_eq!(c.get("/").await.status(), 200);
        }
        let yaml = listener(addr.port(), "server_name: after");
        let (change, done) = s.on_main(move |c| c.set_listener(&yaml)).await.expect("a good listener");
        done.await.expect("all workers have it");
        assert_eq!(change, Change::Modified);
        s.expect(&[
            ("listener_manager.listener_in_place_updated", 1),
            ("listener_manager.total_filter_chains_draining", 1),
            ("listener_manager.total_listeners_draining", 0),
            ("listener_manager.total_listeners_active", 2),
        ])
        .await;
        let (m, new) = (goes.get("/").await, from("127.0.0.3", addr).await.get("/").await);
        assert_eq!((m.header("connection"), m.header("server")), (Some("close"), Some("before")));
        assert_eq!((new.header("connection"), new.header("server")), (None, Some("after")));
        assert_eq!(stays.get("/").await.header("connection"), None);
        // When the time is over, what is left of the chain is cut, and nothing else.
        assert_eq!(idle.fate().await, Fate::Closed);
        s.wait_stat("listener_manager.total_filter_chains_draining", 0).await;
        assert_eq!(kept.get("/").await.header("connection"), None);
        assert_eq!(stays.get("/").await.header("server"), Some("envoy"));
    });
}

#[test]
fn a_listener_waits_for_what_it_needs() {
    run(async {
        let up = Upstream::ok("x").await;
        let s = Server::start(&Config::to(up.addr));
        let waiting = Config::to(up.addr).probe("warm").named("second", 0);
        let yaml = waiting.listener_yaml();
        let (change, done) = s.on_main(move |c| c.set_listener(&yaml)).await.expect("a good listener");
        assert_eq!(change, Change::Added);
        s.expect(&[
            ("listener_manager.total_listeners_warming", 1),
            ("listener_manager.total_listeners_active", 1),
        ])
        .await;
        let unready = s.on_main(|c| c.listeners.list_warming()[0].init.unready()).await;
        assert_eq!(unready, ["probe"]);
        s.on_main(|_| probe::release()).await;
        done.await.expect("all workers have it");
        let addr = s.on_main(|c| c.address("second")).await.expect("it listens");
        assert_eq!(Conn::open(addr).await.get("/").await.status(), 200);
        s.wait_stat("listener_manager.total_listeners_warming", 0).await;

        // What is warming can be taken back: what is active goes on.
        let changed = waiting.clone().listener("tcp_backlog_size: 7").listener_yaml();
        let (_, overtaken) = s.on_main(move |c| c.set_listener(&changed)).await.expect("a good listener");
        s.wait_stat("listener_manager.total_listeners_warming", 1).await;
        let back = waiting.listener_yaml();
        s.on_main(move |c| c.set_listener(&back).map(drop)).await.expect("a good listener");
        assert!(overtaken.await.is_err());
        s.expect(&[
            ("listener_manager.total_listeners_warming", 0),
            ("listener_manager.total_listeners_active", 2),
            ("listener_manager.total_listeners_draining", 0),
        ])
        .await;
        assert_eq!(Conn::open(addr).await.get("/").await.status(), 200);
    });
}

#[test]
fn a_reload_reads_certificates_anew() {
    run(async {
        let (up, old, new) = (Upstream::ok("x").await, Identity::new(), Identity::new());
        let path =
            |what: &str| std::env::temp_dir().join(format!("nuncio-live-{}.{what}", std::process::id()));
        let write = |id: &Identity| {
            std::fs::write(path("crt"), &id.certificate).expect("written");
            std::fs::write(path("key"), &id.key).expect("written");
        };
        write(&old);
        let file = |what: &str| format!("{{filename: '{}'}}", path(what).display());
        let config = Config::to(up.addr).tls("CRT", "KEY", "").listener_yaml();
        let config = config
            .replace("{inline_string: \"CRT\"}", &file("crt"))
            .replace("{inline_string: \"KEY\"}", &file("key"));
        let s = Server::start(&Config::to(up.addr));
        let yaml = config.replace("port_value: 0", &format!("port_value: {}", s.addr().port()));
        let first = yaml.clone();
        assert_eq!(s.on_main(move |c| c.reload_listener(&first)).await, Ok(Change::Modified));
        let connect = async |id: &Identity| tls::connect(s.addr(), id, &[]).await;
        let (io, _) = loop {
            // The listener without TLS has queued connections of its own for a moment.
            match connect(&old).await {
                Ok(c) => break c,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let mut before = Conn::over(io);
        assert_eq!(before.get("/").await.status(), 200);

        let again = yaml.clone();
        assert_eq!(s.on_main(move |c| c.reload_listener(&again)).await, Ok(Change::Same));
        write(&new);
        assert_eq!(s.on_main(move |c| c.reload_listener(&yaml)).await, Ok(Change::Modified));
        s.wait_stat("listener_manager.listener_create_success", 3).await;
        assert!(connect(&old).await.is_err());
        let mut after = Conn::over(connect(&new).await.expect("TLS").0);
        assert_eq!(after.get("/").await.status(), 200);
        // Nobody who is connected notices.
        assert_eq!(before.get("/").await.header("connection"), None);
        s.expect(&[
            ("listener_manager.listener_in_place_updated", 1),
            ("listener_manager.total_filter_chains_draining", 0),
        ])
        .await;
        let _ = [std::fs::remove_file(path("crt")), std::fs::remove_file(path("key"))];
    });
}

//! Changes of the configuration file are taken over while the server serves: `--watch` and SIGHUP.

mod running;

use running::{Folder, Running};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// A host that answers every request with `body`.
fn host(body: &'static str) -> SocketAddr {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = l.local_addr().unwrap();
    std::thread::spawn(move || {
        for s in l.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(s.try_clone().unwrap()).lines();
                while let Some(Ok(line)) = lines.next() {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    if line.is_empty() && (&s).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

/// A port that nobody uses.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut s = TcpStream::connect(("127.0.0.1", port)).ok()?;
    s.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(s, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    s.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn listener(name: &str, port: u16, routes: &str) -> String {
    format!(
        "
  - name: {name}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          route_config: {{name: rc, virtual_hosts: [{{name: vh, domains: ['*'], routes: [{routes}]}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"
    )
}

fn cluster(name: &str, host: SocketAddr) -> String {
    format!(
        "
  - {{name: {name}, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: \
         {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]}}}}",
        host.ip(),
        host.port()
    )
}

fn config(listeners: &[String], clusters: &[String], more: &str) -> String {
    format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\nstatic_resources:\n  listeners:{}\n  \
         clusters:{}\n{more}",
        listeners.concat(),
        clusters.concat()
    )
}

/// A client on one connection that never stops asking; every answer must be a 200.
struct Steady(Arc<AtomicBool>, Arc<AtomicUsize>, JoinHandle<()>);

impl Steady {
    fn start(port: u16) -> Steady {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counter) = (stop.clone(), count.clone());
        let client = std::thread::spawn(move || {
            let s = TcpStream::connect(("127.0.0.1", port)).unwrap();
            s.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut r = BufReader::new(s.try_clone().unwrap());
            while !stopped.load(Relaxed) {
                (&s).write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
                let (mut line, mut length) = (String::new(), 0);
                r.read_line(&mut line).unwrap();
                assert_eq!(line, "HTTP/1.1 200 OK\r\n");
                while line != "\r\n" {
                    line.clear();
                    r.read_line(&mut line).unwrap();
                    assert_ne!(line, "connection: close\r\n");
                    length =
                        line.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().unwrap());
                }
                r.read_exact(&mut vec![0; length]).unwrap();
                counter.fetch_add(1, Relaxed);
            }
        });
        Steady(stop, count, client)
    }
    fn end(self) {
        let before = self.1.load(Relaxed);
        while self.1.load(Relaxed) < before + 10 {
            assert!(!self.2.is_finished(), "the client has failed");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.0.store(true, Relaxed);
        self.2.join().expect("every request was answered with 200, on one connection");
    }
}

fn to(cluster: &str) -> String {
    format!("{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}")
}

fn wait_for_log(r: &Running, f: &Folder, text: &str) {
    r.wait_for(text, |_| std::fs::read_to_string(f.path("err")).ok().filter(|l| l.contains(text)));
}

#[test]
fn watched_changes_are_taken_over() {
    let f = Folder::new("watch");
    let (a, b, one, two) = (host("a"), host("b"), port(), port());
    let first = config(&[listener("one", one, &to("c"))], &[cluster("c", a)], "");
    let r = Running::start_with(&f, &first, &["--watch", "--drain-time-s", "1"]);
    let steady = Steady::start(one);
    assert!(get(one, "/").unwrap().ends_with("\r\n\r\na"));

    // A cluster changes, another one and a listener for it come.
    let second = config(
        &[listener("one", one, &to("c")), listener("two", two, &to("d"))],
        &[cluster("c", b), cluster("d", a)],
        "",
    );
    f.file("envoy.yaml", &second);
    wait_for_log(&r, &f, ": added cluster d, listener two; changed cluster c\n");
    assert!(get(one, "/").unwrap().ends_with("\r\n\r\nb"));
    assert!(get(two, "/").unwrap().ends_with("\r\n\r\na"));
    let dump = r.get("/config_dump?resource=static_listeners&mask=listener.name");
    assert!(dump.contains("\"two\""), "{dump}");
    assert!(r.get("/config_dump?mask=bootstrap.static_resources.clusters").contains("\"d\""));

    // What is wrong is refused as a whole, with every error and its place.
    let bad = second.replace("cluster: c}", "cluster: nope}").replace("cluster: d}", "cluster: neither}");
    f.file("envoy.yaml", &bad);
    let path = f.path("envoy.yaml");
    wait_for_log(
        &r,
        &f,
        &format!("{path} is refused, and nothing of it is taken over: route: unknown cluster 'nope'"),
    );
    wait_for_log(&r, &f, "static_resources.listeners[1]: route: unknown cluster 'neither'");
    f.file("envoy.yaml", "static_resources: {clusters: [{nam: x}]}");
    wait_for_log(&r, &f, &format!("{path}:1:32: static_resources.clusters[0]: "));
    assert!(get(two, "/").unwrap().ends_with("\r\n\r\na"));
    assert!(r.get("/stats?filter=server.reload").contains("server.reload_rejected: 2\n"));

    // A route changes, the rest goes; what cannot change is named.
    let third = config(
        &[listener("one", one, "{match: {prefix: /}, direct_response: {status: 200}}")],
        &[cluster("d", a)],
        "stats_flush_interval: 9s\n",
    );
    f.file("envoy.yaml", &third);
    wait_for_log(&r, &f, ": changed listener one; removed listener two, cluster c\n");
    wait_for_log(&r, &f, "stats_flush_interval has changed: that takes a restart");
    assert!(
        get(one, "/").unwrap().ends_with("content-length: 0\r\n\r\n")
            || get(one, "/").unwrap().contains("200 OK")
    );
    assert!(get(two, "/").is_none());
    assert!(r.get("/clusters").contains("d::") && !r.get("/clusters").contains("c::"));
    assert!(!r.get("/config_dump").contains("stats_flush_interval"));
    steady.end();
    let stats = r.get("/stats?filter=manager|server.reload|downstream_rq_(4|5)xx");
    for line in [
        "cluster_manager.cluster_added: 2\n",
        "cluster_manager.cluster_modified: 1\n",
        "cluster_manager.cluster_removed: 1\n",
        "listener_manager.listener_added: 2\n",
        "listener_manager.listener_in_place_updated: 1\n",
        "listener_manager.listener_removed: 1\n",
        "server.reload_success: 2\n",
        "http.one.downstream_rq_5xx: 0\n",
    ] {
        assert!(stats.contains(line), "{line} is not in {stats}");
    }
    assert!(stats.contains("thread_local_cluster_manager.worker_0.clusters_inflated: 1\n"), "{stats}");
}

#[test]
fn sighup_reloads() {
    let f = Folder::new("hup");
    let (a, one) = (host("a"), port());
    let first = config(&[listener("one", one, &to("c"))], &[cluster("c", a)], "");
    let r = Running::start_with(&f, &first, &[]);
    let steady = Steady::start(one);
    r.signal("HUP");
    wait_for_log(&r, &f, ": nothing has changed\n");
    // A name and its port go to another listener.
    f.file("envoy.yaml", &first.replace("name: one", "name: other"));
    std::thread::sleep(Duration::from_millis(100));
    assert!(r.get("/listeners").contains("one::"), "nobody asked for it");
    steady.end();
    r.signal("HUP");
    wait_for_log(&r, &f, ": added listener other; removed listener one\n");
    assert!(get(one, "/").unwrap().ends_with("\r\n\r\na"));
    assert!(r.get("/listeners").contains("other::"));
}

//! Hundreds of changes of listeners, filter chains, routes and clusters under traffic: no request fails, and nothing is
//! left behind.

use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 60;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// Resident memory in KB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

async fn set(s: &Server, cluster: Option<String>, listener: Option<String>) {
    let done = s
        .on_main(move |c| {
            let cluster = cluster.map(|y| c.set_cluster(&y).expect("a good cluster").1);
            let listener = listener.map(|y| c.set_listener(&y).expect("a good listener").1);
            [cluster, listener]
        })
        .await;
    for d in done.into_iter().flatten() {
        d.await.expect("all workers have it");
    }
}

/// Everything that can change, changed once, and back again.
async fn round(s: &Server, base: &Config, hosts: [std::net::SocketAddr; 2]) {
    let cluster = |name, host, fields| Config::new().cluster(name, host, fields).clusters_yaml()[0].clone();
    set(s, Some(cluster("up", hosts[1], "")), None).await;
    set(s, Some(cluster("more", hosts[0], "")), Some(base.clone().named("more", 0).listener_yaml())).await;
    // Routes; a filter chain; the listener.
    set(s, None, Some(base.clone().route("match: {path: /x}, route: {cluster: more}").listener_yaml())).await;
    set(s, None, Some(base.clone().hcm("server_name: other").listener_yaml())).await;
    set(s, None, Some(base.clone().listener("tcp_backlog_size: 99").listener_yaml())).await;
    set(s, Some(cluster("up", hosts[0], "")), Some(base.listener_yaml())).await;
    let removed = s.on_main(|c| {
        c.clusters.remove("more", Box::new(|| ())) && c.listeners.remove("more", Box::new(|| ()))
    });
    assert!(removed.await);
}

async fn settle<T: PartialEq + std::fmt::Debug>(what: &str, s: &Server, wanted: T, f: impl Fn() -> T) {
    let began = Instant::now();
    while f() != wanted {
        let late = began.elapsed() > Duration::from_secs(10);
        assert!(!late, "{what}: {:?}, not {wanted:?}\n{}", f(), s.used());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn changes_leave_nothing_behind() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let hosts = [a.addr, b.addr];
        let s = Server::from_yaml(&Config::to(a.addr).yaml(), 2);
        let base = Config::to(a.addr).named("ingress", s.addr().port());
        s.on_main(|c| c.listeners.set_drain(Duration::from_secs(1), true)).await;
        set(&s, None, Some(base.listener_yaml())).await;
        let (stop, addr) = (Rc::new(Cell::new(false)), s.addr());
        let stopped = stop.clone();
        let client = tokio::task::spawn_local(async move {
            let mut n = 0;
            while !stopped.get() {
                let m = Conn::open(addr)
                    .await
                    .ask("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
                    .await;
                assert_eq!(m.status(), 200);
                n += 1;
            }
            n
        });
        let (mut fds, mut rss, mut names) = (vec![], vec![], vec![]);
        for _ in 0..3 {
            for _ in 0..ROUNDS / 3 {
                round(&s, &base, hosts).await;
            }
            for gauge in
                ["total_listeners_draining", "total_filter_chains_draining", "total_listeners_warming"]
            {
                s.wait_stat(&format!("listener_manager.{gauge}"), 0).await;
            }
            settle("names", &s, 0, || s.stats(|n| n.starts_with("cluster.more.")).len()).await;
            names.push(s.stats(|_| true).len());
            rss.push(resident());
            fds.push(descriptors());
        }
        stop.set(true);
        assert!(client.await.expect("no request fails") > 100);
        // The client has connections of its own under way at any time.
        let spread = fds.iter().max().zip(fds.iter().min()).map(|(max, min)| max - min);
        assert!(spread.is_some_and(|n| n <= 8), "descriptors: {fds:?}");
        assert_eq!(names[1], names[2]);
        assert!(rss[2] < rss[1] * 1.05, "memory grows: {rss:?} KB");
        let n = ROUNDS as u64;
        s.expect(&[
            ("cluster_manager.cluster_added", 1 + n),
            ("cluster_manager.cluster_modified", 2 * n),
            ("cluster_manager.cluster_removed", n),
            ("listener_manager.listener_added", 1 + n),
            ("listener_manager.listener_modified", 1 + 4 * n),
            ("listener_manager.listener_in_place_updated", 2 * n),
            ("listener_manager.listener_removed", n),
            ("listener_manager.listener_create_failure", 0),
            ("http.ingress.downstream_rq_5xx", 0),
            ("cluster.up.upstream_rq_active", 0),
        ])
        .await;
        assert_eq!(nuncio_engine::panics(), 0);
    });
}

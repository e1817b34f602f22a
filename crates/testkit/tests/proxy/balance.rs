//! Which host gets a request.

use nuncio_testkit::{Config, Conn, Server, Upstream, run};
use std::net::SocketAddr;

fn to(hosts: &[(SocketAddr, &str)], fields: &str) -> Config {
    Config::new().cluster_of("up", hosts, fields).route("match: {prefix: /}, route: {cluster: up}")
}

/// How many of `n` requests each of the two hosts got.
async fn shares(s: &Server, n: usize) -> [usize; 2] {
    let mut c = Conn::open(s.addr()).await;
    let mut got = [0; 2];
    for _ in 0..n {
        match c.get("/").await.text().as_str() {
            "a" => got[0] += 1,
            "b" => got[1] += 1,
            other => panic!("{other}"),
        }
    }
    got
}

#[test]
fn unhealthy_hosts_get_nothing_until_the_cluster_panics() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let (sick, gone) = ("health_status: UNHEALTHY", (Upstream::refusing(), "health_status: DRAINING"));
        for policy in ["RANDOM", "ROUND_ROBIN", "LEAST_REQUEST"] {
            let lb = format!("lb_policy: {policy}");
            let s = Server::start(&to(&[(a.addr, ""), (b.addr, sick), gone], &lb));
            assert_eq!(shares(&s, 20).await, [20, 0], "{policy}");
            s.expect(&[
                ("cluster.up.membership_total", 3),
                ("cluster.up.membership_healthy", 1),
                ("cluster.up.membership_excluded", 1),
                ("cluster.up.lb_healthy_panic", 0),
            ])
            .await;
        }
        let s = Server::start(&to(&[(a.addr, sick), (b.addr, sick)], ""));
        assert_eq!(shares(&s, 20).await, [10, 10]);
        s.expect(&[("cluster.up.lb_healthy_panic", 20), ("cluster.up.membership_healthy", 0)]).await;
    });
}

#[test]
fn degraded_hosts_help_out() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let s = Server::start(&to(&[(a.addr, ""), (b.addr, "health_status: DEGRADED")], ""));
        // Half of the hosts are healthy, 140 % of which is 70 %: a standard deviation is 9 of 400.
        let [healthy, degraded] = shares(&s, 400).await;
        assert!((230..=330).contains(&healthy), "{healthy} and {degraded}");
        s.expect(&[("cluster.up.membership_degraded", 1), ("cluster.up.lb_healthy_panic", 0)]).await;
    });
}

#[test]
fn retries_keep_away_from_hosts_that_were_tried() {
    run(async {
        let good = Upstream::ok("a").await;
        let hosts = [(good.addr, ""), (Upstream::refusing(), ""), (Upstream::refusing(), "")];
        let policy = "retry_on: connect-failure, num_retries: 2, host_selection_retry_max_attempts: 200, \
                      retry_host_predicate: [{name: p, typed_config: {'@type': \
                      type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]";
        let config = Config::new()
            .cluster_of("up", &hosts, "lb_policy: RANDOM")
            .route(&format!("match: {{prefix: /}}, route: {{cluster: up, retry_policy: {{{policy}}}}}"));
        let s = Server::start(&config);
        assert_eq!(shares(&s, 40).await, [40, 0]);
    });
}

#[test]
fn weights_are_kept_in_turn() {
    run(async {
        let (a, b) = (Upstream::ok("a").await, Upstream::ok("b").await);
        let hosts = [(a.addr, "load_balancing_weight: 3"), (b.addr, "")];
        let s = Server::start(&to(&hosts, ""));
        assert_eq!(shares(&s, 40).await, [30, 10]);
        // One request at a time: both are idle whenever one is chosen.
        let s = Server::start(&to(&hosts, "lb_policy: LEAST_REQUEST"));
        assert_eq!(shares(&s, 40).await, [30, 10]);
    });
}

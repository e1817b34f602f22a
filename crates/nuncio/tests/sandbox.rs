//! `nuncio sandbox` as a user runs it: the built binary, its three proxies, its services, real sockets.
//!
//! With `NUNCIO_SANDBOX_PROXY=PATH` the proxies are another Envoy-compatible binary (`--proxy PATH`): so the tests
//! themselves can be held against Envoy.

#[path = "sandbox/client.rs"]
mod client;
#[path = "sandbox/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use client::{Answer, Client};
use process::{Sandbox, free_base_port, sandbox_command};

/// The example's files.
const EXAMPLES: [(&str, &str); 3] = [
    ("front-proxy.yaml", include_str!("../../../examples/front-proxy/front-proxy.yaml")),
    ("service1-sidecar.yaml", include_str!("../../../examples/front-proxy/service1-sidecar.yaml")),
    ("service2-sidecar.yaml", include_str!("../../../examples/front-proxy/service2-sidecar.yaml")),
];
/// How long what must happen soon may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// `front-proxy` with its default of one worker per proxy.
fn start(options: &[&str]) -> Sandbox {
    Sandbox::start(options)
}

/// The instance in `... hostname service1-2 resolved 127.0.1.22`.
fn hostname(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut words = answer.text().split_whitespace().skip_while(|word| *word != "hostname");
    words.nth(1).expect("a hostname").to_string()
}

#[tokio::test]
async fn services_answer_on_all_ways_in() {
    let sandbox = start(&[]);
    let ways = [
        Client::http1(sandbox.http()),
        Client::http2(sandbox.http()),
        Client::tls(sandbox.https(), &sandbox.authority(), "http/1.1"),
        Client::tls(sandbox.https(), &sandbox.authority(), "h2"),
    ];
    for way in &ways {
        for service in ["1", "2"] {
            let answer = way.get(&format!("/service/{service}")).await;
            let hello = format!(
                "Hello from behind Nuncio (service {service})! hostname service{service}-1 resolved 127.0.{service}.21\n"
            );
            assert_eq!((answer.status, answer.text()), (200, &*hello), "{way:?}");
            assert_eq!(answer.header("server"), Some("envoy"), "{way:?}");
        }
        assert_eq!(way.get("/nothing").await.status, 404, "{way:?}: no route");
        assert_eq!(way.get("/service/1/status/418").await.status, 418, "{way:?}");
        assert_eq!(way.get("/service/1/bytes/300000").await.body.len(), 300_000, "{way:?}");
        assert_eq!(way.get("/service/1/chunked/300000").await.body.len(), 300_000, "{way:?}");
        let sent = vec![b'x'; 100_000];
        assert_eq!(way.post("/service/2/echo", sent.clone()).await.body, sent, "{way:?}");
    }
    let seen = ways[0].get("/service/1/headers").await;
    for header in ["x-request-id", "x-forwarded-proto", "x-envoy-expected-rq-timeout-ms"] {
        assert!(seen.text().contains(&format!("\"{header}\"")), "{header}: {}", seen.text());
    }
}

#[tokio::test]
async fn admin_interfaces_answer() {
    let sandbox = start(&[]);
    let admin = Client::http1(sandbox.admin());
    Client::http1(sandbox.http()).get("/service/1").await;
    assert!(admin.get("/server_info").await.text().contains("\"state\": \"LIVE\""));
    let stats = admin.get("/stats").await;
    assert!(stats.text().contains("\ncluster.service1-envoy.upstream_rq_200: 1\n"), "{}", stats.text());
    let clusters = admin.get("/clusters").await;
    assert!(clusters.text().contains("service1-envoy::127.0.1.10:"), "{}", clusters.text());
}

#[tokio::test]
async fn round_robin_over_instances_that_come_and_go() {
    let sandbox = start(&["--scale", "service1=3"]);
    let client = Client::http1(sandbox.http());
    let mut turns: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..9 {
        *turns.entry(hostname(&client.get("/service/1").await)).or_default() += 1;
    }
    let expected = ["service1-1", "service1-2", "service1-3"].map(|name| (name.to_string(), 3));
    assert_eq!(turns, BTreeMap::from(expected));

    for count in [5, 1] {
        sandbox.ask(&["scale", &format!("service1={count}")]);
        settles(&client, count).await;
    }
    // Longer than instances that DNS forgot stay: the last one still answers, and nobody asks the others.
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert_eq!(hostname(&client.get("/service/1").await), "service1-1");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sandbox.ask(&["scale", "service1=0"]);
    let end = Instant::now() + PATIENCE;
    while client.get("/service/1").await.status != 503 {
        assert!(Instant::now() < end, "no instances, but still answers");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks until one round of requests meets exactly `count` instances; every single answer must be 200.
async fn settles(client: &Client, count: usize) {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut round = BTreeMap::new();
        for _ in 0..2 * count {
            *round.entry(hostname(&client.get("/service/1").await)).or_insert(0) += 1;
        }
        if round.len() == count && round.values().all(|&turns| turns == 2) {
            return;
        }
        assert!(Instant::now() < end, "{count} instances wanted, but {round:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn two_sandboxes_beside_each_other_and_their_ends() {
    let first = start(&[]);
    let second = start(&["--scale=service2=2"]);
    assert_ne!(first.base_port, second.base_port);
    assert!(second.ask(&["status"]).contains("service2         2 instances"));
    assert!(first.ask(&["status"]).contains("service2         1 instance "));
    let (first_port, second_port) = (first.http(), second.http());
    let second_files = second.files();
    assert!(second_files.exists());

    // Ctrl-C, and `sandbox stop`.
    assert_eq!(first.interrupt().code(), Some(0));
    let answer = Client::http1(second_port).get("/service/2").await;
    assert_eq!(answer.status, 200, "the other one goes on");
    second.ask(&["stop"]);
    assert_eq!(second.wait().code(), Some(0));
    assert!(!second_files.exists());
    for port in [first_port, second_port] {
        TcpListener::bind(port).expect("free again");
    }
}

#[tokio::test]
async fn proxies_do_not_outlive_a_sandbox_that_is_killed() {
    let sandbox = start(&[]);
    let ports = [sandbox.http(), sandbox.https(), sandbox.admin()];
    sandbox.kill();
    let end = Instant::now() + PATIENCE;
    while ports.iter().any(|port| TcpListener::bind(port).is_err()) {
        assert!(Instant::now() < end, "a proxy still listens");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs `sandbox front-proxy` that must fail; its stderr.
fn refused(options: &[&str]) -> String {
    let base = free_base_port();
    let output = sandbox_command(&[&["front-proxy", "--base-port", &base.to_string()], options].concat())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn what_is_in_the_way_is_named() {
    let base = free_base_port();
    let taken = TcpListener::bind(("127.0.0.1", base + 443)).expect("a free port");
    let output =
        sandbox_command(&["front-proxy", "--base-port", &base.to_string()]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("text");
    let address = taken.local_addr().expect("an address");
    assert!(error.contains(&format!("front-proxy (https) cannot listen on {address}: ")), "{error}");

    let error = refused(&["--proxy", "/nonexistent/envoy"]);
    assert!(error.contains("/nonexistent/envoy: No such file"), "{error}");
    // A bare name is searched by the child.
    let error = refused(&["--proxy", "nonexistent-envoy"]);
    assert!(error.contains("exited with code 1; its last words:\n"), "{error}");
    assert!(error.contains("cannot run nonexistent-envoy"), "{error}");
}

#[test]
fn a_proxy_that_refuses_its_configuration_ends_the_sandbox() {
    let directory = process::scratch_dir();
    for (file, text) in EXAMPLES {
        let text = text.replace("stat_prefix: ingress_http\n", "stat_prefixx: oops\n");
        std::fs::write(directory.join(file), text).expect("written");
    }
    let error = refused(&["--config-dir", &directory.display().to_string()]);
    std::fs::remove_dir_all(directory).expect("removed");
    assert!(error.contains("front-proxy exited with code 1"), "{error}");
    assert!(error.contains("stat_prefixx"), "{error}");
}

/// Third way of the README: the plain files, with a certificate beside them.
#[test]
fn the_plain_files_are_valid_as_they_are() {
    let directory = process::scratch_dir();
    let output =
        sandbox_command(&["certificate", "certs"]).current_dir(&directory).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let proxy = std::env::var_os("NUNCIO_SANDBOX_PROXY").unwrap_or(env!("CARGO_BIN_EXE_nuncio").into());
    for (file, text) in EXAMPLES {
        std::fs::write(directory.join(file), text).expect("written");
        let output = std::process::Command::new(&proxy)
            .args(["--mode", "validate", "-c", file])
            .current_dir(&directory)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("configuration '{file}' OK")), "{file}: {said}");
    }
    std::fs::remove_dir_all(directory).expect("removed");
}

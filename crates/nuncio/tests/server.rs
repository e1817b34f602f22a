//! The built binary as operators use it: exit codes, phrases, the admin interface, signals.

mod running;

use running::{CONFIG, Folder, Running, output};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn validates() {
    let f = Folder::new("validate");
    let good = f.file("good.yaml", CONFIG);
    let (code, out, _) = output(&["--mode", "validate", "-c", &good]);
    assert_eq!((code, out), (0, format!("configuration '{good}' OK\n")));

    let bad = f.file("bad.yaml", &CONFIG.replace("direct_response: {", "direct_responze: {"));
    let (code, out, err) = output(&["--mode", "validate", "-c", &bad, "-l", "critical"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains(&format!("error initializing configuration '{bad}': ")), "{err}");
    assert!(err.contains("no such field: 'direct_responze'"), "{err}");
    let place = err.lines().find(|l| l.starts_with(&format!("{bad}:17:")));
    assert!(place.is_some_and(|l| l.contains("virtual_hosts[0].routes[0]")), "{err}");
}

#[test]
fn says_what_is_not_built_yet_and_where() {
    let f = Folder::new("unbuilt");
    let config = f.file("x.yaml", &format!("{CONFIG}flags_path: /f\nheader_prefix: x\n"));
    let (code, _, err) = output(&["-c", &config, "-l", "off"]);
    assert_eq!(code, 1);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines[0], "not implemented yet: Bootstrap.flags_path");
    assert!(lines[1].starts_with(&format!("{config}:")), "{err}");
}

#[test]
fn refuses_in_envoys_words() {
    let (code, _, err) = output(&["-c", "/nope.yaml"]);
    assert_eq!((code, err.lines().last()), (1, Some("Invalid path: /nope.yaml")));
    assert!(
        err.contains("[critical][main]")
            && err.contains("error `Invalid path: /nope.yaml` initializing config '"),
        "{err}"
    );
    let (code, _, err) = output(&["--log-path", "/nope/x", "--config-yaml", "{}"]);
    let text = "Failed to open log-file '/nope/x'. e.what(): unable to open file '/nope/x': No such file or directory";
    assert_eq!((code, err.lines().last()), (1, Some(text)));
}

#[test]
fn serves_until_sigterm() {
    let f = Folder::new("serve");
    let mut r = Running::start(&f, &[]);
    let ready = r.get("/ready");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=UTF-8\r\ncache-control: no-cache, max-age=0\r\n\
                x-content-type-options: nosniff\r\ndate: ";
    assert!(ready.starts_with(head) && ready.contains("\r\nLIVE\n"), "{ready}");
    assert!(r.get("/server_info").contains("\"state\": \"LIVE\""));
    assert!(
        r.get("/config_dump").contains("\"@type\": \"type.googleapis.com/envoy.admin.v3.RoutesConfigDump\"")
    );
    assert!(r.get("/nope").starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(r.get("/quitquitquit").starts_with("HTTP/1.1 405 "));

    let mut s = TcpStream::connect(r.listener()).unwrap();
    s.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    s.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    assert!(r.get("/stats?filter=ingress.downstream_rq_2xx").contains("http.ingress.downstream_rq_2xx: 1\n"));

    r.signal("HUP");
    r.signal("USR1");
    r.signal("TERM");
    assert_eq!(r.exit_code(), Some(0));
    let log = std::fs::read_to_string(f.path("err")).unwrap();
    let mut lines = log.lines();
    for landmark in [
        "initializing epoch 0 (base id=0, hot restart version=11.104)",
        "loading 1 listener(s)",
        "cm init: all clusters initialized",
        "all clusters initialized. initializing init manager",
        "all dependencies initialized. starting workers",
        "starting main dispatch loop",
        "caught ENVOY_SIGTERM",
        "shutting down server instance",
        "main dispatch loop exited",
        "exiting",
    ] {
        assert!(lines.any(|l| l.contains(landmark)), "{landmark} in its order in\n{log}");
    }
}

#[test]
fn lets_requests_finish_for_the_time_it_is_given() {
    let f = Folder::new("graceful");
    let mut r = Running::start(&f, &["--graceful-shutdown-s", "60"]);
    let listener = r.listener();
    let mut s = TcpStream::connect(&listener).unwrap();
    s.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    r.wait_for("the connection", |r| {
        let stats = r.get("/stats?filter=ingress.downstream_cx_active");
        stats.contains("downstream_cx_active: 1\n").then_some(())
    });
    r.signal("TERM");
    r.wait_for("the end of listening", |_| TcpStream::connect(&listener).is_err().then_some(()));
    s.write_all(b"host: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    s.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(r.exit_code(), Some(0), "it does not wait longer than it must");
}

#[test]
fn quits_when_asked_and_waits_for_nothing() {
    let f = Folder::new("quit");
    let mut r = Running::start(&f, &["--log-path", &f.path("log")]);
    // A connection that never says anything does not hold the server.
    let _idle = TcpStream::connect(r.listener()).unwrap();
    let begin = Instant::now();
    assert!(r.ask("POST", "/quitquitquit").unwrap().ends_with("OK\n\r\n0\r\n\r\n"));
    assert_eq!(r.exit_code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(std::fs::read_to_string(f.path("log")).unwrap().contains("exiting"));
    assert_eq!(std::fs::read_to_string(f.path("err")).unwrap(), "", "the log went to its file");
}

#[test]
fn init_only_starts_up_and_exits() {
    let (code, _, err) = output(&["--mode", "init_only", "--config-yaml", CONFIG]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("cm init: all clusters initialized") && !err.contains("starting workers"), "{err}");
}

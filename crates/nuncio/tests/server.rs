//! The built binary as operators use it: exit codes, phrases, the admin interface, signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = "
node: {id: n1, cluster: c1}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            name: rc
            virtual_hosts:
            - {name: vh, domains: ['*'], routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: hello}}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
";

/// A folder of one test, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("nuncio-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn nuncio(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_nuncio"));
    c.args(args);
    c
}
fn output(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = nuncio(args).output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A server that serves; killed when the test ends before it does.
struct Running {
    child: Child,
    admin: String,
}

impl Running {
    fn start(folder: &Folder, more: &[&str]) -> Running {
        let (config, address) = (folder.file("envoy.yaml", CONFIG), folder.path("admin"));
        let mut args = vec!["-c", &config, "--concurrency", "1", "--admin-address-path", &address];
        args.extend(more);
        let log = std::fs::File::create(folder.path("err")).unwrap();
        let child = nuncio(&args).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let mut r = Running { child, admin: String::new() };
        r.wait_for("the admin address", |_| std::fs::read_to_string(&address).ok().filter(|a| !a.is_empty()));
        r.admin = std::fs::read_to_string(&address).unwrap();
        r.wait_for("the state LIVE", |r| r.ask("GET", "/ready").filter(|a| a.starts_with("HTTP/1.1 200")));
        r
    }
    fn wait_for<T>(&self, what: &str, f: impl Fn(&Running) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(t) = f(self) {
                return t;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{what} did not come");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    fn ask(&self, method: &str, path: &str) -> Option<String> {
        let mut s = TcpStream::connect(&self.admin).ok()?;
        s.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(s, "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        s.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
    fn get(&self, path: &str) -> String {
        self.ask("GET", path).unwrap()
    }
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
    fn exit_code(&mut self) -> Option<i32> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(30) {
            if let Some(s) = self.child.try_wait().unwrap() {
                return s.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not end");
    }
}
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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

    let listener =
        r.get("/listeners").lines().find_map(|l| l.strip_prefix("l::").map(str::to_owned)).unwrap();
    let mut s = TcpStream::connect(&listener).unwrap();
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
fn quits_when_asked_and_waits_for_nothing() {
    let f = Folder::new("quit");
    let mut r = Running::start(&f, &["--log-path", &f.path("log")]);
    // A connection that never says anything does not hold the server.
    let listener =
        r.get("/listeners").lines().find_map(|l| l.strip_prefix("l::").map(str::to_owned)).unwrap();
    let _idle = TcpStream::connect(&listener).unwrap();
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

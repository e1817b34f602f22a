//! The built binary, run by tests: its folder, its arguments, its admin interface.

#![allow(dead_code)] // not every test file needs all of it

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const CONFIG: &str = "
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
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("nuncio-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn nuncio(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_nuncio"));
    c.args(args);
    c
}
pub fn output(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = nuncio(args).output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A server that serves; killed when the test ends before it does.
pub struct Running {
    pub child: Child,
    pub admin: String,
}

impl Running {
    /// With [`CONFIG`] and these arguments.
    pub fn start(folder: &Folder, more: &[&str]) -> Running {
        Running::start_with(folder, CONFIG, more)
    }
    pub fn start_with(folder: &Folder, config: &str, more: &[&str]) -> Running {
        let (config, address) = (folder.file("envoy.yaml", config), folder.path("admin"));
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
    pub fn wait_for<T>(&self, what: &str, f: impl Fn(&Running) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(t) = f(self) {
                return t;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{what} did not come");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    pub fn ask(&self, method: &str, path: &str) -> Option<String> {
        let mut s = TcpStream::connect(&self.admin).ok()?;
        s.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(s, "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        s.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
    /// The address of the listener.
    pub fn listener(&self) -> String {
        self.get("/listeners").lines().find_map(|l| l.strip_prefix("l::").map(str::to_owned)).unwrap()
    }
    pub fn get(&self, path: &str) -> String {
        self.ask("GET", path).unwrap()
    }
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
    pub fn exit_code(&mut self) -> Option<i32> {
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

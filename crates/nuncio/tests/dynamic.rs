//! `nuncio sandbox dynamic` as a user runs it: files are edited, the proxy follows, and says no when it does not.

#[path = "sandbox/process.rs"]
#[allow(dead_code)] // the other sandbox needs all of it
mod process;

use process::{free_base_port, sandbox_command, scratch_dir};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A sandbox that invites to try it; killed when dropped.
struct Dynamic {
    child: Child,
    base_port: u16,
    folder: PathBuf,
    said: Arc<Mutex<String>>,
}

impl Dynamic {
    fn start(options: &[&str]) -> Dynamic {
        let (base_port, folder) = (free_base_port(), scratch_dir().join("xds"));
        let (base, path) = (base_port.to_string(), folder.display().to_string());
        let args = [&["dynamic", "--base-port", &base, "--folder", &path], options].concat();
        let mut child = sandbox_command(&args).stdout(Stdio::piped()).spawn().expect("it runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let said = Arc::new(Mutex::new(String::new()));
        let all = said.clone();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                all.lock().expect("no panic").push_str(&format!("{line}\n"));
            }
        });
        let d = Dynamic { child, base_port, folder, said };
        d.wait("an invitation", |d| d.said().contains("The sandbox runs").then_some(()));
        d
    }
    fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }
    fn wait<T>(&self, what: &str, f: impl Fn(&Dynamic) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(t) = f(self) {
                return t;
            }
            assert!(Instant::now() < end, "{what} did not come:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    fn get(&self, path: &str) -> String {
        let mut s = TcpStream::connect(("127.0.0.1", self.base_port + 80)).expect("the proxy listens");
        write!(s, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        s.read_to_string(&mut answer).expect("an answer");
        answer
    }
    /// Saves a file with something replaced, as an editor does.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.folder.join(name);
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains(from), "{from:?} is not in {text}");
        std::fs::write(&path, text.replace(from, to)).expect("saved");
    }
}

impl Drop for Dynamic {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follows_its_files(options: &[&str]) {
    let mut d = Dynamic::start(options);
    assert!(d.get("/service/1").contains("service1-1"), "{}", d.get("/service/1"));
    d.edit("endpoints.yaml", "127.0.1.21", "127.0.1.22");
    d.wait("the other instance", |d| d.get("/service/1").contains("service1-2").then_some(()));
    d.edit("routes.yaml", "cluster: service1", "cluster: service1\n        prefix_rewrite: /headers");
    d.wait("the other path", |d| d.get("/service/1").contains("x-envoy-original-path").then_some(()));

    // One that the proxy refuses: it says why, and stays as it was.
    d.edit(
        "clusters.yaml",
        "  name: service1\n",
        "  name: service1\n  max_requests_per_connection: 7\n  lb_policy: CLUSTER_PROVIDED\n",
    );
    let refused =
        d.wait("a refusal", |d| d.said().lines().find(|l| l.contains("REFUSED")).map(str::to_owned));
    assert!(refused.starts_with("clusters: version ") && refused.contains("service1"), "{refused}");
    assert!(d.get("/service/2").contains("service2-1"));
    // One that is not even sent.
    d.edit("routes.yaml", "routes:", "rutes:");
    let unread =
        d.wait("a complaint", |d| d.said().lines().find(|l| l.starts_with("not sent: ")).map(str::to_owned));
    assert!(unread.contains("routes.yaml") && unread.contains("rutes"), "{unread}");
    assert!(d.get("/service/1").contains("x-envoy-original-path"));

    let base = d.base_port.to_string();
    let status = sandbox_command(&["status", "--base-port", &base]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&status.stdout).contains("control plane"), "{status:?}");
    assert!(sandbox_command(&["stop", "--base-port", &base]).status().expect("it runs").success());
    assert!(d.child.wait().expect("ended").success());
    assert!(d.folder.join("routes.yaml").exists(), "the files are the user's");
}

#[test]
fn the_proxy_follows_its_files_by_delta() {
    follows_its_files(&[]);
}

#[test]
fn the_proxy_follows_its_files_by_state_of_the_world() {
    follows_its_files(&["--sotw"]);
}

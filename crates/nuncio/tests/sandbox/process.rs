//! A running sandbox as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// `nuncio sandbox ARGS…`.
pub fn sandbox_command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nuncio"));
    command.arg("sandbox").args(args).env("XDG_RUNTIME_DIR", runtime_dir());
    if args[0] == "front-proxy"
        && !args.contains(&"--proxy")
        && let Some(path) = std::env::var_os("NUNCIO_SANDBOX_PROXY")
    {
        command.arg("--proxy").arg(path);
    }
    command
}

/// A runtime directory of the tests, so that no sandbox of the user is met. It stays, empty.
fn runtime_dir() -> PathBuf {
    let path = std::env::temp_dir().join(format!("nuncio-test-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// A new empty folder.
pub fn scratch_dir() -> PathBuf {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = runtime_dir().join(format!("scratch-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// A base port with which all ports of a sandbox are free. Tests of one process get different ones; those of
/// processes side by side differ by the process id.
pub fn free_base_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 12_000 + (std::process::id() % 30) as u16 * 500;
    loop {
        let base = start + NEXT.fetch_add(1, Ordering::Relaxed) * 3;
        assert!(base < 32_000, "no free ports");
        let ips = ["127.0.0.1", "127.0.1.10", "127.0.2.10", "127.0.1.21", "127.0.2.21"];
        let free = ips.iter().all(|ip| {
            [0, 1, 53, 80, 443].iter().all(|offset| TcpListener::bind((*ip, base + offset)).is_ok())
        });
        if free {
            return base;
        }
    }
}

/// A sandbox that is ready. Dropping it kills it.
pub struct Sandbox {
    child: Child,
    pub base_port: u16,
}

impl Sandbox {
    /// Runs `sandbox front-proxy` and waits until it invites to try it.
    pub fn start(options: &[&str]) -> Sandbox {
        let base_port = free_base_port();
        let base = base_port.to_string();
        let mut child = sandbox_command(&[&["front-proxy", "--base-port", &base], options].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("The sandbox runs") {
            if stdout.read_line(&mut said).expect("text") == 0 {
                let mut error = String::new();
                let _ = child.stderr.take().expect("piped").read_to_string(&mut error);
                panic!("the sandbox ended: {:?}\n{said}{error}", child.wait());
            }
        }
        // The rest must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Sandbox { child, base_port }
    }

    fn port(&self, offset: u16) -> SocketAddr {
        ([127, 0, 0, 1], self.base_port + offset).into()
    }
    pub fn http(&self) -> SocketAddr {
        self.port(80)
    }
    pub fn https(&self) -> SocketAddr {
        self.port(443)
    }
    pub fn admin(&self) -> SocketAddr {
        self.port(1)
    }
    /// Its folder.
    pub fn files(&self) -> PathBuf {
        runtime_dir().join("nuncio-sandbox").join(self.base_port.to_string())
    }
    /// The authority of its certificate.
    pub fn authority(&self) -> PathBuf {
        self.files().join("certs/ca.pem")
    }

    /// Runs `sandbox ARGS… --base-port`, which must succeed; its output.
    pub fn ask(&self, args: &[&str]) -> String {
        let base = self.base_port.to_string();
        let output = sandbox_command(&[args, &["--base-port", &base]].concat()).output().expect("it runs");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Sends SIGINT and waits for the end.
    pub fn interrupt(self) -> ExitStatus {
        let status =
            Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
        self.wait()
    }

    /// Kills it, without a chance to clean up.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Waits for the end.
    pub fn wait(mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < end, "the sandbox does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // One that was killed left its files.
        let _ = std::fs::remove_dir_all(self.files());
    }
}

//! One proxy as a child process, started as anybody would start it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Failure, http_get, say};

/// Log lines kept for the report of an early end.
const KEPT_LINES: usize = 20;
/// Longer log lines are cut.
const MAX_LINE: usize = 4096;
/// How long to wait for the rest of the log of a proxy that ended.
const LAST_LINES: Duration = Duration::from_millis(500);
/// Between two questions whether a proxy is ready.
const POLL: Duration = Duration::from_millis(50);

/// A running proxy; dropping it kills it.
pub(super) struct Proxy {
    name: &'static str,
    admin: SocketAddr,
    pid: Option<Pid>,
    log: Arc<Mutex<Tail>>,
    exited: watch::Receiver<Option<String>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts `binary` with `args` in `directory`, guarded by `guard` (this program, see [`super::guard`]). Must be
    /// called on the process's main thread: the proxy ends with the thread that started it.
    ///
    /// # Errors
    /// When the process cannot be made. A binary that does not exist shows as an early end.
    pub(super) fn start(
        name: &'static str,
        admin: SocketAddr,
        guard: &Path,
        binary: &Path,
        args: &[impl AsRef<OsStr>],
        directory: &Path,
        print_log: bool,
    ) -> Result<Proxy, Failure> {
        let mut child = Command::new(guard)
            .args(["sandbox", "guard", &std::process::id().to_string()])
            .arg(binary)
            .args(args)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the sandbox, which then stops its proxies itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("cannot start {name}: {e}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let log = Arc::new(Mutex::new(Tail::new(print_log.then_some(name))));
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(follow(stdout, Arc::clone(&log)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(follow(stderr, Arc::clone(&log)));
        }
        let (sender, exited) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_end(child, readers, sender));
        Ok(Proxy { name, admin, pid, log, exited, _tasks: tasks })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns when `GET /ready` on the admin interface answers 200.
    pub(super) async fn ready(&self) {
        let host = self.admin.to_string();
        while !matches!(http_get::get(self.admin, &host, "/ready").await, Ok((200, _))) {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns when the process has ended, with how it ended and the last lines of its log.
    pub(super) async fn ended(&self) -> Failure {
        let mut exited = self.exited.clone();
        let how = match exited.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "ended".into(),
        };
        let why = self.log_lines();
        match why.is_empty() {
            true => format!("{} {how} without a word", self.name),
            false => format!("{} {how}; its last words:\n{why}", self.name),
        }
    }

    /// The last lines of its log, indented.
    pub(super) fn log_lines(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }

    /// Sends SIGTERM, unless it has ended.
    pub(super) fn terminate(&self) {
        // Not yet reaped, so the id is still its own.
        if let (None, Some(pid)) = (&*self.exited.borrow(), self.pid) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// A path that holds in any folder; a bare name stays, to be searched in `$PATH`.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    match path.components().count() {
        1 => Ok(path.to_path_buf()),
        _ => std::fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display())),
    }
}

/// Waits for the end of a process, then for the end of its log.
async fn watch_end(mut child: Child, mut readers: JoinSet<()>, sender: watch::Sender<Option<String>>) {
    let how = match child.wait().await {
        Ok(status) => describe(status),
        Err(error) => format!("is lost: {error}"),
    };
    let rest = async { while readers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_LINES, rest).await;
    // Nobody waits any more when the proxy has been dropped.
    let _ = sender.send(Some(how));
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

/// Reads a log to its end.
async fn follow(mut from: impl AsyncRead + Unpin, log: Arc<Mutex<Tail>>) {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        for &byte in &buffer[..length] {
            match byte {
                b'\n' => log.lock().unwrap_or_else(PoisonError::into_inner).push(&std::mem::take(&mut line)),
                _ if line.len() < MAX_LINE => line.push(byte),
                _ => {}
            }
        }
    }
    if !line.is_empty() {
        log.lock().unwrap_or_else(PoisonError::into_inner).push(&line);
    }
}

/// The last lines of a log.
struct Tail {
    lines: VecDeque<String>,
    /// With a name, lines are printed under it as they come.
    printed_as: Option<&'static str>,
}

impl Tail {
    fn new(printed_as: Option<&'static str>) -> Tail {
        Tail { lines: VecDeque::new(), printed_as }
    }
    fn push(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        if let Some(name) = self.printed_as {
            say(&format!("{name:<15} | {line}"));
        }
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let mut text: Vec<u8> = (0..30).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        text.extend_from_slice(&[b'x'; 2 * MAX_LINE]);
        let log = Arc::new(Mutex::new(Tail::new(None)));
        follow(&text[..], Arc::clone(&log)).await;
        let log = log.lock().expect("no panic");
        assert_eq!(log.lines.len(), KEPT_LINES);
        assert_eq!(log.lines[0], "line 11");
        assert_eq!(log.lines[KEPT_LINES - 1].len(), MAX_LINE);
    }
}

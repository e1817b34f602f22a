//! Where a running sandbox keeps its files: one folder per base port, in a folder that only its user can enter.
//!
//! `$XDG_RUNTIME_DIR/nuncio-sandbox/8000/`, or `/tmp/nuncio-sandbox-UID/8000/` where there is no runtime directory:
//! the configuration of the three proxies, `certs/`, and `control.sock`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::Failure;

const SOCKET: &str = "control.sock";

/// The folder of one sandbox; dropping it removes it.
pub(super) struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes an empty folder for a sandbox; what a crashed one left is cleared.
    ///
    /// # Errors
    /// When a sandbox with this base port runs, or the folder cannot be made or is not ours alone.
    pub(super) fn claim(base_port: u16) -> Result<RunDir, Failure> {
        RunDir::claim_in(&parent(), base_port)
    }

    fn claim_in(parent: &Path, base_port: u16) -> Result<RunDir, Failure> {
        let path = parent.join(base_port.to_string());
        let fail = |e: io::Error| format!("{}: {e}", path.display());
        private(parent)?;
        if alive(&path) {
            return Err(format!(
                "a sandbox with base port {base_port} is running: stop it (nuncio sandbox stop --base-port \
                 {base_port}) or choose another --base-port"
            ));
        }
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(fail)?;
        Ok(RunDir { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
    /// Where the sandbox listens for `sandbox scale` and friends.
    pub(super) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // What stays is cleared by the next sandbox here.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The socket of the running sandbox with this base port, or of the only one there is.
///
/// # Errors
/// When there is none, or the base port is needed to tell which.
pub(super) fn find(base_port: Option<u16>) -> Result<PathBuf, Failure> {
    find_in(&parent(), base_port)
}

fn find_in(parent: &Path, base_port: Option<u16>) -> Result<PathBuf, Failure> {
    if let Some(port) = base_port {
        let path = parent.join(port.to_string());
        return match alive(&path) {
            true => Ok(path.join(SOCKET)),
            false => Err(format!("no sandbox with base port {port} is running")),
        };
    }
    let mut found: Vec<u16> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| alive(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    found.sort();
    match found[..] {
        [] => Err("no sandbox is running (start one with nuncio sandbox front-proxy)".into()),
        [only] => Ok(parent.join(only.to_string()).join(SOCKET)),
        _ => Err(format!("several sandboxes are running: choose one with --base-port, of {found:?}")),
    }
}

/// True when somebody listens on the folder's socket.
fn alive(path: &Path) -> bool {
    UnixStream::connect(path.join(SOCKET)).is_ok()
}

fn parent() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|d| d.is_dir()) {
        Some(runtime) => runtime.join("nuncio-sandbox"),
        None => std::env::temp_dir().join(format!("nuncio-sandbox-{}", rustix::process::getuid().as_raw())),
    }
}

/// Makes a folder that only we can enter, or makes sure that it is one: `/tmp` belongs to everybody.
fn private(path: &Path) -> Result<(), Failure> {
    let fail = |e: io::Error| format!("{}: {e}", path.display());
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fail(e)),
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(fail)?;
    let ours =
        found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o077 == 0;
    match ours {
        true => Ok(()),
        false => Err(format!("{} is not a folder that only you can enter: remove it", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("nuncio-run-dir-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_running_sandbox_is_found_and_not_disturbed() {
        let parent = scratch("found");
        assert!(find_in(&parent, None).expect_err("none").contains("no sandbox is running"));
        let first = RunDir::claim_in(&parent, 8000).expect("claimed");
        // Not listening yet: as if it had crashed.
        assert!(find_in(&parent, None).is_err());
        std::mem::forget(first);
        let first = RunDir::claim_in(&parent, 8000).expect("what a crash left is cleared");
        let _socket = UnixListener::bind(first.socket()).expect("a socket");
        assert_eq!(find_in(&parent, None), Ok(first.socket()));
        assert!(RunDir::claim_in(&parent, 8000).err().expect("taken").contains("is running"));

        let second = RunDir::claim_in(&parent, 9000).expect("another port");
        let _socket = UnixListener::bind(second.socket()).expect("a socket");
        assert!(find_in(&parent, None).expect_err("which?").contains("[8000, 9000]"));
        assert_eq!(find_in(&parent, Some(9000)), Ok(second.socket()));
        assert!(find_in(&parent, Some(7000)).is_err());
        drop((first, second));
        assert_eq!(fs::read_dir(&parent).expect("the parent stays").count(), 0);
        fs::remove_dir(&parent).expect("empty");
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let parent = scratch("open");
        fs::create_dir(&parent).expect("made");
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o755)).expect("opened");
        assert!(RunDir::claim_in(&parent, 8000).err().expect("refused").contains("only you can enter"));
        fs::remove_dir(&parent).expect("removed");
    }
}

//! A Nuncio process: started on a configuration, watched from outside.

use crate::Result;
use crate::clients::h1;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

pub struct Proxy {
    child: Child,
    pub admin: SocketAddr,
    folder: PathBuf,
}

/// A port that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Proxy {
    /// `config` gets `${admin}` and `${dir}` filled in.
    pub async fn start(bin: &str, config: &str) -> Result<Proxy> {
        if !Path::new(bin).exists() {
            return Err(format!("{bin} does not exist; build it with: cargo build --release").into());
        }
        let folder = std::env::temp_dir().join(format!("nuncio-soak-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = config
            .replace("${admin}", &admin.port().to_string())
            .replace("${dir}", &folder.display().to_string());
        let file = folder.join("nuncio.yaml");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new(bin)
            .arg("-c")
            .arg(&file)
            .args(["--concurrency", "1", "--file-flush-interval-msec", "500", "-l", "warn"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let mut p = Proxy { child, admin, folder };
        let began = Instant::now();
        loop {
            if let Ok(m) = h1::once(p.admin, "GET", "/ready").await
                && m.0 == 200
            {
                return Ok(p);
            }
            if let Some(status) = p.child.try_wait()? {
                return Err(format!("Nuncio ended with {status}:\n{}", p.log()).into());
            }
            if began.elapsed() > Duration::from_secs(20) {
                return Err(format!("Nuncio does not get ready:\n{}", p.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What a file of the folder holds.
    pub fn file(&self, name: &str) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.join(name))?)
    }

    /// Whether it still runs, without a panic.
    pub fn well(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("Nuncio ended with {status}:\n{}", self.log()).into());
        }
        match self.log() {
            log if log.contains("panic") => Err(format!("it panicked:\n{log}").into()),
            _ => Ok(()),
        }
    }

    fn proc(&self, what: &str) -> Result<PathBuf> {
        let pid = self.child.id().ok_or("Nuncio has ended")?;
        Ok(Path::new("/proc").join(pid.to_string()).join(what))
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(self.proc("fd")?)?.count())
    }

    /// Resident memory in MB.
    pub fn resident(&self) -> Result<f64> {
        let status = std::fs::read_to_string(self.proc("status")?)?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
    }

    /// All counters and gauges.
    pub async fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let (_, text) = h1::once(self.admin, "GET", "/stats").await?;
        let numbers = text.lines().filter_map(|l| l.split_once(": "));
        Ok(numbers.filter_map(|(n, v)| Some((n.to_owned(), v.parse().ok()?))).collect())
    }

    /// Waits until the gauge or counter `name` is `wanted`.
    pub async fn wait(&self, name: &str, wanted: u64, limit: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let now = self.stats().await?.get(name).copied();
            if now == Some(wanted) {
                return Ok(());
            }
            if began.elapsed() > limit {
                return Err(format!("{name} is {now:?}, not {wanted}, after {limit:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

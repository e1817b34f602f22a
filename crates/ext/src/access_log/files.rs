//! The files that access loggers write, and the thread that writes them.
//!
//! Worker → [`LogFile::append`]: a copy into the file's buffer under a lock that is held for the copy only; a line costs
//! no allocation and no system call. The writer thread takes the whole buffer when it has reached a size
//! ([`set_flush_min_size`]) or the file's timer has run out ([`set_flush_interval`]), and writes it while the workers fill
//! another. One list of files per process: loggers with the same path share a file, and lines keep their order.

#![expect(
    clippy::disallowed_types,
    reason = "workers share files; no lock is held longer than a copy of a line takes"
)]

use nuncio_core::stats::{Scope, Store};
use nuncio_core::{BuildError, BuildResult, clock, stats};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Path of the standard output.
pub const STDOUT: &str = "/dev/stdout";
/// Path of the standard error output.
pub const STDERR: &str = "/dev/stderr";

/// Most bytes that wait for one file. Envoy has no limit; a stalled disk must not take the proxy's memory.
const MAX_PENDING: usize = 16 << 20;
/// Larger buffers are not kept for the next lines.
const KEEP_BUFFER: usize = 1 << 20;

static FLUSH_INTERVAL_MS: AtomicU64 = AtomicU64::new(10_000);
static FLUSH_MIN_SIZE: AtomicUsize = AtomicUsize::new(64 << 10);
static FILES: Mutex<Vec<Arc<LogFile>>> = Mutex::new(vec![]);
static WRITER: OnceLock<Thread> = OnceLock::new();

stats! {
    /// Below `filesystem.`: all files together.
    pub struct FilesystemStats {
        flushed_by_timer: Counter,
        reopen_failed: Counter,
        write_buffered: Counter,
        write_completed: Counter,
        write_failed: Counter,
        write_total_buffered: Gauge,
    }
}

impl FilesystemStats {
    /// Those of a server. Whoever starts a server keeps them, so that they are listed before a file is opened.
    pub fn of(store: &Store) -> FilesystemStats {
        let scope: Scope = store.scope("filesystem");
        FilesystemStats::new(&scope)
    }
}

/// `--file-flush-interval-msec`: how long a line waits at most.
pub fn set_flush_interval(interval: Duration) {
    FLUSH_INTERVAL_MS.store((interval.as_millis() as u64).max(1), Relaxed);
    wake();
}

/// `--file-flush-min-size-kb`, in bytes: a file is written before its time when more than this waits for it.
pub fn set_flush_min_size(bytes: usize) {
    FLUSH_MIN_SIZE.store(bytes, Relaxed);
}

/// Opens all files again, soon (`SIGUSR1`, `POST /reopen_logs`). What waits goes to the new files.
pub fn reopen() {
    for f in lock(&FILES).iter() {
        f.reopen.store(true, Relaxed);
        f.called.store(true, Relaxed);
    }
    wake();
}

/// Writes all that waits, now and on this thread: when the server ends, and in tests.
pub fn flush() {
    let files = lock(&FILES).clone();
    files.iter().for_each(|f| f.write_out());
}

/// The file at `path`, opened if no logger has it open. It stays open while somebody holds it. Stats go to the store of
/// whoever opened it first.
///
/// # Errors
/// It cannot be opened, or there is no thread for the writer.
pub fn open(path: &str, store: &Store) -> BuildResult<Arc<LogFile>> {
    start_writer().map_err(|e| BuildError(format!("unable to start the access log writer: {}", text(&e))))?;
    let mut files = lock(&FILES);
    if let Some(f) = files.iter().find(|f| &*f.path == path) {
        return Ok(f.clone());
    }
    let file =
        open_now(path).map_err(|e| BuildError(format!("unable to open file '{path}': {}", text(&e))))?;
    let file = Arc::new(LogFile {
        path: path.into(),
        stats: FilesystemStats::of(store),
        pending: Mutex::default(),
        called: AtomicBool::new(false),
        reopen: AtomicBool::new(false),
        out: Mutex::new(Out {
            file: Some(file),
            reopen: false,
            spare: vec![],
            due: clock::now() + interval(),
        }),
    });
    files.push(file.clone());
    drop(files);
    wake();
    Ok(file)
}

/// An open log.
pub struct LogFile {
    path: Box<str>,
    stats: FilesystemStats,
    pending: Mutex<Vec<u8>>,
    /// The writer is to look at this file though its time has not come.
    called: AtomicBool,
    reopen: AtomicBool,
    out: Mutex<Out>,
}

/// The writing side.
struct Out {
    /// None while it cannot be opened again.
    file: Option<File>,
    /// Opening again is wanted, or failed and is to be tried again.
    reopen: bool,
    spare: Vec<u8>,
    due: Instant,
}

impl LogFile {
    /// Appends a line, which is written later; dropped and counted as failed when too much waits already.
    pub fn append(&self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let mut pending = lock(&self.pending);
        let before = pending.len();
        if before + line.len() > MAX_PENDING {
            drop(pending);
            self.stats.write_failed().inc();
            return;
        }
        pending.extend_from_slice(line);
        // Counted under the lock: the writer takes away only what was added.
        self.stats.write_total_buffered().add(line.len() as u64);
        drop(pending);
        self.stats.write_buffered().inc();
        let min = FLUSH_MIN_SIZE.load(Relaxed);
        if before <= min && before + line.len() > min {
            self.called.store(true, Relaxed);
            wake();
        }
    }
    /// Writes all that waits.
    fn write_out(&self) {
        let mut guard = lock(&self.out);
        let out = &mut *guard;
        // Only now: who waits for `out` must find what came meanwhile.
        let mut bytes = std::mem::take(&mut out.spare);
        std::mem::swap(&mut bytes, &mut *lock(&self.pending));
        out.reopen |= self.reopen.swap(false, AcqRel);
        if out.reopen {
            out.file = None;
            match open_now(&self.path) {
                Ok(f) => (out.file, out.reopen) = (Some(f), false),
                Err(_) => self.stats.reopen_failed().inc(),
            }
        }
        if !bytes.is_empty() {
            match out.file.as_mut().map(|f| f.write_all(&bytes)) {
                Some(Ok(())) => self.stats.write_completed().inc(),
                _ => self.stats.write_failed().inc(),
            }
            self.stats.write_total_buffered().sub(bytes.len() as u64);
        }
        bytes.clear();
        if bytes.capacity() <= KEEP_BUFFER {
            out.spare = bytes;
        }
    }
    /// When the file's timer runs out next.
    fn due(&self) -> Instant {
        lock(&self.out).due
    }
}

/// Every update of what these locks guard leaves it whole, so a panic of another holder does not matter.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

fn interval() -> Duration {
    Duration::from_millis(FLUSH_INTERVAL_MS.load(Relaxed))
}

fn open_now(path: &str) -> io::Result<File> {
    // The process's own outputs are duplicated: opening their paths fails when they are sockets or belong to others.
    match path {
        STDOUT => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        STDERR => io::stderr().as_fd().try_clone_to_owned().map(File::from),
        _ => File::options().create(true).append(true).mode(0o644).open(path),
    }
}

/// The system's words, as `strerror` has them.
fn text(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn wake() {
    if let Some(writer) = WRITER.get() {
        writer.unpark();
    }
}

fn start_writer() -> io::Result<()> {
    let _one_at_a_time = lock(&FILES);
    if WRITER.get().is_none() {
        let thread = thread::Builder::new().name("AccessLogFlush".into()).spawn(write_forever)?;
        WRITER.get_or_init(|| thread.thread().clone());
    }
    Ok(())
}

fn write_forever() {
    loop {
        let files = lock(&FILES).clone();
        let mut next = clock::now() + interval();
        for f in &files {
            let now = clock::now();
            if now >= f.due() {
                f.stats.flushed_by_timer().inc();
                lock(&f.out).due = now + interval();
                f.write_out();
            } else if f.called.swap(false, AcqRel) {
                f.write_out();
            }
            // The interval may have been made shorter after the timer was set.
            let mut out = lock(&f.out);
            out.due = out.due.min(clock::now() + interval());
            next = next.min(out.due);
        }
        drop(files);
        // Files that no logger holds any more: taken off the list first, so that nobody finds them while they end.
        let ended: Vec<_> = lock(&FILES).extract_if(.., |f| Arc::strong_count(f) == 1).collect();
        ended.iter().for_each(|f| f.write_out());
        drop(ended);
        thread::park_timeout(next.saturating_duration_since(clock::now()));
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;

//! Where lines go: stderr or the file of `--log-path`.
//!
//! A writer thread takes them from one buffer of at most [`LIMIT`] bytes. What does not fit is dropped and counted, and
//! the next line that gets through is preceded by the number.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Most bytes that wait for the writer.
const LIMIT: usize = 1 << 20;
/// Longest line; the rest is cut.
const MAX_LINE: usize = 64 << 10;
/// How long [`flush`] waits for a stalled terminal or disk.
const FLUSH: Duration = Duration::from_secs(2);

struct State {
    waiting: Vec<u8>,
    /// Lines that did not fit since the last one that did.
    dropped: u64,
    /// The writer thread runs; without it lines are written by the thread that logs.
    writer: bool,
    /// The writer has taken bytes that it has not written yet.
    writing: bool,
    path: Option<PathBuf>,
    file: Option<File>,
}

static STATE: Mutex<State> = Mutex::new(State {
    waiting: Vec::new(),
    dropped: 0,
    writer: false,
    writing: false,
    path: None,
    file: None,
});
static WORK: Condvar = Condvar::new();
static IDLE: Condvar = Condvar::new();

/// A poisoned lock is taken all the same: every change of the state is complete in itself.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Hands on a line.
pub(super) fn put(mut line: String) {
    if line.len() > MAX_LINE {
        let cut = (0..=MAX_LINE).rev().find(|&at| line.is_char_boundary(at)).unwrap_or_default();
        line.truncate(cut);
        line.push_str("...\n");
    }
    let mut s = state();
    if !s.writer {
        return write_out(s.file.as_mut(), line.as_bytes());
    }
    if s.waiting.len() + line.len() > LIMIT {
        s.dropped += 1;
        return;
    }
    if s.dropped > 0 {
        let n = std::mem::take(&mut s.dropped);
        s.waiting.extend_from_slice(
            format!("{n} log lines were dropped: the log is not written fast enough\n").as_bytes(),
        );
    }
    s.waiting.extend_from_slice(line.as_bytes());
    drop(s);
    WORK.notify_one();
}

/// A log that cannot be written has nowhere to say so: errors are passed over.
fn write_out(file: Option<&mut File>, bytes: &[u8]) {
    let _ = match file {
        Some(f) => f.write_all(bytes),
        None => io::stderr().write_all(bytes),
    };
}

/// Starts the thread that writes; from here on logging does not wait. Once per process, later calls do nothing.
///
/// # Errors
/// The thread cannot be made.
pub fn start_writer() -> io::Result<()> {
    let mut s = state();
    if !s.writer {
        std::thread::Builder::new().name("log".into()).stack_size(128 << 10).spawn(run)?;
        s.writer = true;
    }
    Ok(())
}

fn run() {
    let mut bytes = Vec::new();
    let mut s = state();
    loop {
        while s.waiting.is_empty() {
            s = WORK.wait(s).unwrap_or_else(|e| e.into_inner());
        }
        std::mem::swap(&mut bytes, &mut s.waiting);
        s.writing = true;
        let mut file = s.file.as_ref().and_then(|f| f.try_clone().ok());
        drop(s);
        write_out(file.as_mut(), &bytes);
        bytes.clear();
        bytes.shrink_to(16 << 10);
        s = state();
        s.writing = false;
        IDLE.notify_all();
    }
}

/// Waits until what was logged is written, two seconds at most. Before the process ends.
pub fn flush() {
    let s = state();
    let busy = |s: &mut State| s.writing || !s.waiting.is_empty();
    let waited = IDLE.wait_timeout_while(s, FLUSH, busy);
    drop(waited); // what could not be written by now is lost with the process
}

/// `--log-path`: lines go to this file from here on.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn set_file(path: &Path) -> io::Result<()> {
    let file = open(path)?;
    let mut s = state();
    (s.path, s.file) = (Some(path.to_owned()), Some(file));
    Ok(())
}

/// Opens the file of `--log-path` anew, after a rotation.
///
/// # Errors
/// The file cannot be opened; lines go on to the old one.
pub fn reopen() -> io::Result<()> {
    let Some(path) = state().path.clone() else { return Ok(()) };
    let file = open(&path)?;
    state().file = Some(file);
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

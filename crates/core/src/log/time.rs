//! The clock of log lines.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When the previous line was written, in nanoseconds since 1970; 0 before the first one.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Now since 1970, and the time since the previous call.
pub(super) fn now() -> (Duration, Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let last = LAST.swap(nanos, Relaxed);
    let elapsed = if last == 0 { 0 } else { nanos.saturating_sub(last) };
    (now, Duration::from_nanos(elapsed))
}

/// The operating system's id of this thread; the process id where the system does not tell.
pub(super) fn thread_id() -> u32 {
    thread_local!(static ID: Cell<u32> = const { Cell::new(0) });
    if ID.get() == 0 {
        let link = std::fs::read_link("/proc/thread-self").ok();
        let id = link.as_ref().and_then(|l| l.file_name()?.to_str()?.parse().ok());
        ID.set(id.unwrap_or_else(std::process::id));
    }
    ID.get()
}

//! The last answer of the service, for all workers.

use nuncio_core::clock;
use nuncio_core::{BuildError, BuildResult};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Keeps one answer for at most `cache_time`. As in Envoy time is cut into stretches of that length, and an answer is
/// good until the end of the stretch in which it came.
pub struct Cache {
    begin: Instant,
    millis: u64,
    /// One word, so that it is always whole: stretch (counted from 1; 0 is none), degraded, status.
    last: AtomicU64,
}

const DEGRADED: u64 = 1 << 16;

impl Cache {
    /// From `cache_time`; none if that is unset or below a millisecond.
    ///
    /// # Errors
    /// A negative duration.
    pub fn new(time: Option<&prost_types::Duration>) -> BuildResult<Option<Cache>> {
        let Some(time) = time else { return Ok(None) };
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(time.seconds), u64::try_from(time.nanos)) else {
            return Err(BuildError("Invalid duration: Expected positive duration".into()));
        };
        let millis = seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000);
        let cache = Cache { begin: clock::now(), millis, last: AtomicU64::new(200) };
        Ok((millis > 0).then_some(cache))
    }
    fn stretch(&self) -> u64 {
        let passed = clock::now().saturating_duration_since(self.begin).as_millis() as u64;
        passed / self.millis + 1
    }
    /// True when an answer came in this stretch of time.
    pub fn is_fresh(&self) -> bool {
        self.last.load(Relaxed) >> 17 == self.stretch()
    }
    /// Status of the last answer, and whether it was degraded; 200 before the first.
    pub fn last(&self) -> (u16, bool) {
        let last = self.last.load(Relaxed);
        (last as u16, last & DEGRADED != 0)
    }
    /// Keeps an answer.
    pub fn keep(&self, status: u16, degraded: bool) {
        let degraded = if degraded { DEGRADED } else { 0 };
        self.last.store(self.stretch() << 17 | degraded | u64::from(status), Relaxed);
    }
}

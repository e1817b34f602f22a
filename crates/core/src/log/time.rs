//! The clock of log lines, and dates of the Gregorian calendar (UTC).

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

/// A moment, broken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Of the Gregorian calendar.
    pub year: i64,
    /// 1 to 12.
    pub month: usize,
    /// 1 to 31.
    pub day: u32,
    /// 0 is Sunday.
    pub weekday: usize,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
}

impl Date {
    /// Breaks down a time since 1970 (days to civil date as Howard Hinnant describes it).
    pub fn new(at: Duration) -> Date {
        let secs = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400) as u32);
        let z = days + 719_468; // days since 0000-03-01
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153; // months since March
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Date {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as usize,
            day: (day_of_year - (153 * shifted + 2) / 5 + 1) as u32,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }
}

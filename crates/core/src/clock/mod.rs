//! Time: the injected clock, and the timer wheel that every timeout of the proxy runs on.
//!
//! Code above this crate never asks the operating system what time it is: it asks [`now`] and [`wall`], which a test
//! can replace for its thread by [`sim::Sim`]. Timers are [`Sleep`] futures on a wheel that belongs to the thread
//! (module `wheel`): a request makes and cancels several timers of many seconds, nearly none of which
//! ever fires, so creating and cancelling one costs tens of nanoseconds and no allocation.
//!
//! * A timer never fires early. It fires at the first whole millisecond (of the thread's own count) at or after its
//!   deadline, plus what the event loop needs to get there.
//! * Every timer has a [`TimerKind`]. Envoy's overload manager may shorten timers of some kinds
//!   (`envoy.overload_actions.reduce_timeouts`), those that already run included: [`set_scale`].
//! * One task per thread drives the wheel: [`run_wheel`].

mod driver;
pub mod sim;
mod sleep;
mod wheel;

pub use driver::run_wheel;
pub use sleep::{Elapsed, Sleep, Timeout, sleep, sleep_from, sleep_until, timeout};

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

thread_local! {
    /// How many [`Turn`]s are open, and what the clock said when the outermost one first asked.
    static TURNS: Cell<u32> = const { Cell::new(0) };
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    /// One moment on both clocks.
    static BOTH: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// For so long the time of day is told from the monotonic clock; an adjustment of the former shows after it.
const TOLD: Duration = Duration::from_millis(10);

/// Monotonic time.
pub fn now() -> Instant {
    if let Some(t) = NOW.get() {
        return t;
    }
    let t = sim::now().unwrap_or_else(Instant::now);
    if TURNS.get() > 0 {
        NOW.set(Some(t));
    }
    t
}

/// Time of day.
pub fn wall() -> SystemTime {
    if let Some(t) = sim::wall() {
        return t;
    }
    let now = now();
    if let Some((then, wall)) = BOTH.get()
        && let Some(since) = now.checked_duration_since(then).filter(|d| *d < TOLD)
    {
        return wall + since;
    }
    let wall = SystemTime::now();
    BOTH.set(Some((now, wall)));
    wall
}

/// One poll of a task. While it is open the clocks stand still: a request asks a dozen times per poll, and a poll
/// takes microseconds, so one reading of the clock serves them all.
pub struct Turn(());

/// Opens a [`Turn`].
pub fn turn() -> Turn {
    TURNS.set(TURNS.get() + 1);
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURNS.set(TURNS.get() - 1);
        if TURNS.get() == 0 {
            NOW.set(None);
        }
    }
}

/// What a timer is for, as far as overload protection cares
/// (`envoy.config.overload.v3.ScaleTimersOverloadActionConfig.TimerType`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum TimerKind {
    /// Never scaled.
    Other,
    /// `HTTP_DOWNSTREAM_CONNECTION_IDLE`: `idle_timeout` of a downstream connection.
    HttpDownstreamConnectionIdle,
    /// `HTTP_DOWNSTREAM_STREAM_IDLE`: `stream_idle_timeout`.
    HttpDownstreamStreamIdle,
    /// `TRANSPORT_SOCKET_CONNECT`: `transport_socket_connect_timeout` of a filter chain.
    TransportSocketConnect,
    /// `HTTP_DOWNSTREAM_CONNECTION_MAX`: `max_connection_duration`.
    HttpDownstreamConnectionMax,
    /// `HTTP_DOWNSTREAM_STREAM_FLUSH`: `stream_flush_timeout`.
    HttpDownstreamStreamFlush,
}

impl TimerKind {
    pub(crate) const COUNT: usize = 6;
}

/// How the timers of one kind are shortened. A timer of duration `d` fires after `min + (d - min) * factor`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale {
    /// 1 leaves timers alone, 0 shortens them to the minimum. Values outside 0 to 1 are clamped.
    pub factor: f64,
    /// The shortest a timer can become.
    pub min: ScaleMinimum,
}

impl Scale {
    /// Timers run their whole duration.
    pub const NONE: Scale = Scale { factor: 1.0, min: ScaleMinimum::Duration(Duration::ZERO) };
}

/// `ScaleTimer.min_timeout` or `ScaleTimer.min_scale` of the overload manager's configuration.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ScaleMinimum {
    /// An absolute duration; a timer that is shorter anyway is not touched.
    Duration(Duration),
    /// A part of the timer's own duration, 0 to 1.
    Fraction(f64),
}

/// Sets the scale of a kind on this thread, for timers that run and for those to come.
pub fn set_scale(kind: TimerKind, scale: Scale) {
    if let Some(driver) = wheel::with(|w| w.set_scale(kind, scale)) {
        driver.wake();
    }
}

#[cfg(test)]
mod tests;

//! A simulated clock, for tests of state machines that depend on time.

use super::{driver, wheel};
use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, Instant, SystemTime};

thread_local!(static VIRTUAL: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) });

pub(super) fn now() -> Option<Instant> {
    VIRTUAL.get().map(|(now, _)| now)
}
pub(super) fn wall() -> Option<SystemTime> {
    VIRTUAL.get().map(|(_, wall)| wall)
}

/// While it lives, time on this thread stands still but for [`advance`](Sim::advance).
pub struct Sim {
    here: PhantomData<*const ()>,
}

impl Sim {
    /// Takes over this thread's clock; the time of day is 2026-01-01T00:00:00Z. No timer may exist yet.
    pub fn new() -> Sim {
        Sim::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600))
    }
    /// As [`new`](Sim::new), with another time of day.
    pub fn at(wall: SystemTime) -> Sim {
        let start = Instant::now();
        wheel::with(|w| w.rebase(start));
        VIRTUAL.set(Some((start, wall)));
        Sim { here: PhantomData }
    }
    /// Moves time on, tick by tick of those at which a timer is due: tasks are woken in the order of their deadlines,
    /// each when [`now`](super::now) is its own tick.
    pub fn advance(&self, by: Duration) {
        let Some((start, _)) = VIRTUAL.get() else { return };
        let end = start + by;
        while self.step(end) {}
        Sim::set(end);
        driver::fire(end);
    }
    /// As [`advance`](Sim::advance), and lets the other tasks of a tokio runtime run at every tick, so that a timer they
    /// start there counts from there.
    pub async fn run_for(&self, by: Duration) {
        let Some((start, _)) = VIRTUAL.get() else { return };
        let end = start + by;
        settle().await;
        while self.step(end) {
            settle().await;
        }
        Sim::set(end);
        driver::fire(end);
        settle().await;
    }
    /// Goes to the next tick with a due slot, if it is not beyond `end`.
    fn step(&self, end: Instant) -> bool {
        let next = wheel::with(|w| w.next_tick().and_then(|t| w.instant_of(t)));
        let Some(at) = next.filter(|at| *at <= end) else { return false };
        Sim::set(at);
        driver::fire(at);
        true
    }
    fn set(to: Instant) {
        if let Some((now, wall)) = VIRTUAL.get() {
            VIRTUAL.set(Some((to.max(now), wall + to.saturating_duration_since(now))));
        }
    }
    /// Number of timers that exist on this thread: state machines under test must not leak them.
    pub fn timers(&self) -> usize {
        wheel::with(|w| w.live())
    }
}

impl Default for Sim {
    fn default() -> Sim {
        Sim::new()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        VIRTUAL.set(None);
    }
}

/// Enough turns of the runtime for tasks that wake each other.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

//! When a response asks its client to go elsewhere.
//!
//! There is one [`DrainToken`] per connection manager and worker: per filter chain. `/drain_listeners?graceful`, and the
//! removal of a listener, begin a [`Drain`]; from then on responses end their connections with a probability that grows
//! to 1 over `--drain-time-s` (`--drain-strategy gradual`), or all of them do (`immediate`). A connection that is told so
//! stays open for `drain_timeout`, because the client may have sent another request already.

use nuncio_core::clock::{self, TimerKind};
use nuncio_core::rng;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// From now on all responses end their connections.
    pub deadline: Instant,
    /// How long it takes in all (`--drain-time-s`).
    pub time: Duration,
    /// All responses do so from the beginning (`--drain-strategy immediate`).
    pub immediate: bool,
}

impl Drain {
    /// A drain that begins now.
    pub fn begin(time: Duration, immediate: bool) -> Drain {
        Drain { deadline: clock::now() + time, time, immediate }
    }
    /// Decides for one response.
    fn ends_connection(&self) -> bool {
        let left = self.deadline.saturating_duration_since(clock::now());
        if self.immediate || left.is_zero() {
            return true;
        }
        // Envoy counts whole seconds: of what is left the begun one does not count.
        let time = self.time.as_secs();
        time == 0 || time.saturating_sub(left.as_secs()) > rng::below(time)
    }
}

/// What the timer of an idle connection is for: overload shortens `idle_timeout`, but not `drain_timeout`, which ends a
/// connection that drains already.
pub fn idle_kind(drains_until: Option<Instant>) -> TimerKind {
    match drains_until {
        None => TimerKind::HttpDownstreamConnectionIdle,
        Some(_) => TimerKind::Other,
    }
}

/// Whether one filter chain drains on this worker.
#[derive(Default)]
pub struct DrainToken(Cell<Option<Drain>>);

impl DrainToken {
    /// Begins to drain, unless that was begun before.
    pub fn begin(&self, drain: Drain) {
        if self.0.get().is_none() {
            self.0.set(Some(drain));
        }
    }
    /// True when the connection of the response at hand shall end.
    #[inline]
    pub fn ends_connection(&self) -> bool {
        self.0.get().is_some_and(|d| d.ends_connection())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::clock::sim::Sim;

    fn share(token: &DrainToken) -> f64 {
        (0..4000).filter(|_| token.ends_connection()).count() as f64 / 4000.0
    }

    #[test]
    fn gradually() {
        let sim = Sim::new();
        let token = DrainToken::default();
        assert_eq!(share(&token), 0.0);
        token.begin(Drain::begin(Duration::from_secs(100), false));
        assert_eq!(share(&token), 0.0);
        sim.advance(Duration::from_millis(49_500));
        let half = share(&token);
        assert!((0.45..0.55).contains(&half), "{half}");
        // A second drain changes nothing.
        token.begin(Drain::begin(Duration::from_secs(100), true));
        sim.advance(Duration::from_secs(51));
        assert_eq!(share(&token), 1.0);
    }

    #[test]
    fn at_once() {
        let _sim = Sim::new();
        for (secs, immediate) in [(100, true), (0, false)] {
            let token = DrainToken::default();
            token.begin(Drain::begin(Duration::from_secs(secs), immediate));
            assert_eq!(share(&token), 1.0);
        }
    }
}

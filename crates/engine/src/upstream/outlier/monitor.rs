//! What the answers of one host say, counted by all workers.

use super::config::Config;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Whose errors: the host's answers, or what we noticed ourselves (connecting, resets, timeouts).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errors {
    /// What the host answered; all errors unless they are split.
    External = 0,
    /// With `split_external_local_origin_errors`.
    LocalOrigin = 1,
}

/// Failures in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Streak {
    /// `consecutive_5xx`
    Consecutive5xx = 0,
    /// `consecutive_gateway_failure`: 502, 503 and 504.
    GatewayFailure = 1,
    /// `consecutive_local_origin_failure`
    LocalOriginFailure = 2,
}

/// Tells main of a streak. It runs on workers.
type Tell = Box<dyn Fn(Streak) + Send + Sync>;

/// The counts of one host.
pub struct Monitor {
    config: Arc<Config>,
    streaks: [AtomicU32; 3],
    rates: [Rate; 2],
    /// In percent, of the last interval; bits of a number.
    success: [AtomicU64; 2],
    tell: Tell,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("streaks", &self.streaks).finish_non_exhaustive()
    }
}

/// Successes and all, of this interval and of the one before.
#[derive(Default)]
struct Rate {
    buckets: [[AtomicU64; 2]; 2],
    current: AtomicUsize,
}

impl Rate {
    fn count(&self, success: bool) {
        let [good, all] = &self.buckets[self.current.load(Relaxed) & 1];
        all.fetch_add(1, Relaxed);
        if success {
            good.fetch_add(1, Relaxed);
        }
    }
    /// Begins another interval.
    fn turn(&self) {
        let next = 1 - (self.current.load(Relaxed) & 1);
        self.buckets[next].iter().for_each(|n| n.store(0, Relaxed));
        self.current.store(next, Relaxed);
    }
    /// Of the interval before: percentage and number.
    fn last(&self) -> Option<(f64, u64)> {
        let [good, all] = &self.buckets[1 - (self.current.load(Relaxed) & 1)];
        let all = all.load(Relaxed);
        (all > 0).then(|| (good.load(Relaxed) as f64 * 100.0 / all as f64, all))
    }
}

impl Monitor {
    /// Nothing counted yet. `tell` is called when a streak is as long as is allowed.
    pub fn new(config: Arc<Config>, tell: impl Fn(Streak) + Send + Sync + 'static) -> Monitor {
        let m = Monitor {
            config,
            streaks: Default::default(),
            rates: Default::default(),
            success: Default::default(),
            tell: Box::new(tell),
        };
        m.forget_success_rates();
        m
    }
    /// The host answered with this status, or what stands for it.
    pub fn answered(&self, status: u16) {
        let failed = (500..600).contains(&status);
        self.rates[0].count(!failed);
        if !failed {
            self.end(Streak::Consecutive5xx);
            return self.end(Streak::GatewayFailure);
        }
        match status {
            502..=504 => self.longer(Streak::GatewayFailure),
            _ => self.end(Streak::GatewayFailure),
        }
        self.longer(Streak::Consecutive5xx);
    }
    /// A connection for a request was there.
    pub fn connected(&self) {
        if self.config.split_external_local_origin_errors {
            self.local_origin(true);
        }
    }
    /// A connection was there, which is all that was wanted.
    pub fn served(&self) {
        match self.config.split_external_local_origin_errors {
            true => self.local_origin(true),
            false => self.answered(200),
        }
    }
    /// No connection could be had, or it ended early.
    pub fn failed(&self) {
        self.local_failure(503);
    }
    /// It took too long; the client is answered with this status.
    pub fn timed_out(&self, status: u16) {
        self.local_failure(status);
    }
    fn local_failure(&self, status: u16) {
        match self.config.split_external_local_origin_errors {
            true => self.local_origin(false),
            false => self.answered(status),
        }
    }
    fn local_origin(&self, success: bool) {
        self.rates[1].count(success);
        match success {
            true => self.end(Streak::LocalOriginFailure),
            false => self.longer(Streak::LocalOriginFailure),
        }
    }
    fn longer(&self, s: Streak) {
        let allowed = match s {
            Streak::Consecutive5xx => &self.config.consecutive_5xx,
            Streak::GatewayFailure => &self.config.consecutive_gateway_failure,
            Streak::LocalOriginFailure => &self.config.consecutive_local_origin_failure,
        };
        let n = self.streaks[s as usize].fetch_add(1, Relaxed).wrapping_add(1);
        if u64::from(n) == allowed.get() {
            (self.tell)(s);
        }
    }
    /// A streak is over. Read before it is written, so that good answers leave the line alone.
    pub(super) fn end(&self, s: Streak) {
        let n = &self.streaks[s as usize];
        if n.load(Relaxed) != 0 {
            n.store(0, Relaxed);
        }
    }
    pub(super) fn end_all(&self) {
        for s in [Streak::Consecutive5xx, Streak::GatewayFailure, Streak::LocalOriginFailure] {
            self.end(s);
        }
    }
    /// Begins another interval.
    pub(super) fn turn(&self) {
        self.rates.iter().for_each(Rate::turn);
        self.forget_success_rates();
    }
    fn forget_success_rates(&self) {
        for e in [Errors::External, Errors::LocalOrigin] {
            self.set_success_rate(e, -1.0);
        }
    }
    /// Successes of the interval before, in percent, and the number of requests.
    pub(super) fn last(&self, e: Errors) -> Option<(f64, u64)> {
        self.rates[e as usize].last()
    }
    pub(super) fn set_success_rate(&self, e: Errors, rate: f64) {
        self.success[e as usize].store(rate.to_bits(), Relaxed);
    }
    /// Success rate in percent; -1 when there were too few requests in the last interval.
    pub fn success_rate(&self, e: Errors) -> f64 {
        f64::from_bits(self.success[e as usize].load(Relaxed))
    }
}

//! Clients that reset streams before they are answered: each costs us a request and them two frames
//! (CVE-2023-44487, "rapid reset").

use nuncio_core::clock;
use nuncio_core::info::StreamInfo;
use nuncio_core::runtime::{Runtime, RuntimeNumber};
use std::cell::Cell;

/// `%RESPONSE_CODE_DETAILS%` of what else such a client had under way.
pub const DETAILS: &str = "too_many_premature_resets";

/// After so many premature resets no host hears of those that come with their requests.
const HABIT: u64 = 16;

/// When a connection is cut off; both are keys of the runtime.
#[derive(Clone)]
pub struct PrematureLimits {
    /// `overload.premature_reset_total_stream_count`: of so many streams at least half have to be answered.
    total: RuntimeNumber,
    /// `overload.premature_reset_min_stream_lifetime_seconds`: a stream that lived longer was not reset prematurely.
    lifetime: RuntimeNumber,
}

impl Default for PrematureLimits {
    fn default() -> PrematureLimits {
        PrematureLimits { total: RuntimeNumber::fixed(500), lifetime: RuntimeNumber::fixed(1) }
    }
}

impl PrematureLimits {
    /// As the runtime says.
    pub fn new(runtime: &Runtime) -> PrematureLimits {
        PrematureLimits {
            total: runtime.number("overload.premature_reset_total_stream_count", 500),
            lifetime: runtime.number("overload.premature_reset_min_stream_lifetime_seconds", 1),
        }
    }
}

/// Counts of one connection.
#[derive(Default)]
pub struct Premature {
    closed: Cell<u64>,
    resets: Cell<u64>,
    cut: Cell<bool>,
}

impl Premature {
    /// The client does so again and again.
    pub fn is_habit(&self) -> bool {
        self.resets.get() >= HABIT
    }
    /// Counts a stream that has ended. True, once, when the connection is to be cut off: half of its streams were bad, or
    /// will have been whatever follows.
    pub fn ended(&self, info: &StreamInfo, limits: &PrematureLimits) -> bool {
        let closed = self.closed.get() + 1;
        self.closed.set(closed);
        let lived = clock::now().saturating_duration_since(info.start).as_secs();
        if info.response_code.get() == 0 && lived <= limits.lifetime.get() {
            self.resets.set(self.resets.get() + 1);
        }
        let bad = self.resets.get().saturating_mul(2) >= closed.max(limits.total.get());
        bad && !self.cut.replace(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: u64, answered: &[bool]) -> Option<usize> {
        let limits = PrematureLimits { total: RuntimeNumber::fixed(limit), ..Default::default() };
        let p = Premature::default();
        let mut when = None;
        for (n, answered) in answered.iter().enumerate() {
            let info = StreamInfo::new();
            info.response_code.set(if *answered { 200 } else { 0 });
            if p.ended(&info, &limits) {
                assert_eq!(when.replace(n + 1), None, "it is said once");
            }
        }
        when
    }

    /// CVE-2023-44487
    #[test]
    fn rapid_resets() {
        assert_eq!(run(500, &[false; 1000]), Some(250), "what follows cannot make it good");
        assert_eq!(run(500, &[true; 1000]), None);
        let third: Vec<_> = (0..1000).map(|n| n % 3 > 0).collect();
        assert_eq!(run(500, &third), None);
        let half: Vec<_> = (0..1000).map(|n| n % 2 > 0).collect();
        assert_eq!(run(500, &half), Some(499));
    }
}

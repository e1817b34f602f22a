//! Token buckets that all workers share without a lock.

use nuncio_core::clock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Fills at a constant rate up to a maximum. One word holds its state: the moment at which it was empty, or would have been.
#[derive(Debug)]
pub struct TokenBucket {
    max: f64,
    /// Tokens per second.
    rate: f64,
    begin: Instant,
    /// Seconds since `begin`, the bits of an `f64`.
    empty_at: AtomicU64,
}

/// One token in three years or so: a rate of 0 would never let the bucket fill.
const MIN_RATE: f64 = 1.0 / (86_400.0 * 365.0);

impl TokenBucket {
    /// A full bucket; `rate` is in tokens per second.
    pub fn new(max: u64, rate: f64) -> TokenBucket {
        TokenBucket::with_tokens(max, rate, max)
    }
    /// A bucket with some tokens.
    pub fn with_tokens(max: u64, rate: f64, tokens: u64) -> TokenBucket {
        let rate = rate.abs().max(MIN_RATE);
        let empty_at = -(tokens as f64) / rate;
        let begin = clock::now();
        TokenBucket { max: max as f64, rate, begin, empty_at: AtomicU64::new(empty_at.to_bits()) }
    }
    fn seconds(&self) -> f64 {
        clock::now().saturating_duration_since(self.begin).as_secs_f64()
    }
    fn tokens(&self, now: f64, empty_at: u64) -> f64 {
        ((now - f64::from_bits(empty_at)) * self.rate).min(self.max)
    }
    /// Takes what `wanted` makes of the number of tokens there are.
    fn take_with(&self, wanted: impl Fn(f64) -> f64) -> f64 {
        let now = self.seconds();
        let mut old = self.empty_at.load(Relaxed);
        loop {
            let tokens = self.tokens(now, old);
            let taken = wanted(tokens);
            if taken == 0.0 {
                return 0.0;
            }
            let new = (now - (tokens - taken) / self.rate).to_bits();
            match self.empty_at.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return taken,
                Err(other) => old = other,
            }
        }
    }
    /// Takes `n` tokens, or none when there are fewer.
    pub fn take(&self, n: u64) -> bool {
        let n = n as f64;
        n == 0.0 || self.take_with(|tokens| if tokens < n { 0.0 } else { n }) != 0.0
    }
    /// Takes at most `n` tokens and says how many.
    pub fn take_some(&self, n: u64) -> u64 {
        let n = n as f64;
        self.take_with(|tokens| if tokens >= n { n } else { tokens.floor().max(0.0) }) as u64
    }
    /// The most there can be.
    pub fn max(&self) -> u64 {
        self.max as u64
    }
    /// Tokens per second.
    pub fn rate(&self) -> f64 {
        self.rate
    }
    /// Whole tokens there are.
    pub fn remaining(&self) -> u64 {
        self.tokens(self.seconds(), self.empty_at.load(Relaxed)).max(0.0) as u64
    }
    /// Seconds until there is a token, rounded up.
    pub fn reset_seconds(&self) -> u64 {
        let tokens = self.tokens(self.seconds(), self.empty_at.load(Relaxed));
        if tokens >= 1.0 {
            return 0;
        }
        // Envoy cuts off below the millisecond first.
        let millis = ((1.0 - tokens) / self.rate * 1000.0).floor();
        (millis / 1000.0).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::clock::sim::Sim;
    use std::time::Duration;

    #[test]
    fn it_empties_and_fills() {
        let sim = Sim::new();
        let b = TokenBucket::new(2, 1.0);
        assert_eq!((b.take(1), b.take(1), b.take(1)), (true, true, false));
        assert_eq!((b.remaining(), b.reset_seconds(), b.max()), (0, 1, 2));
        sim.advance(Duration::from_millis(999));
        assert!(!b.take(1));
        sim.advance(Duration::from_millis(2));
        assert!(b.take(1) && !b.take(1));
        sim.advance(Duration::from_secs(60));
        assert_eq!((b.remaining(), b.reset_seconds()), (2, 0));
        assert!(!b.take(3) && b.take(0) && b.take(2));
    }

    #[test]
    fn parts_are_taken() {
        let sim = Sim::new();
        let b = TokenBucket::with_tokens(1000, 1000.0, 50);
        assert_eq!((b.take_some(30), b.take_some(30), b.take_some(30)), (30, 20, 0));
        sim.advance(Duration::from_millis(101));
        assert_eq!(b.take_some(5000), 101);
    }

    #[test]
    fn threads_share_it() {
        let b = TokenBucket::new(10_000, 0.0);
        let taken: usize = std::thread::scope(|s| {
            let take = || (0..5_000).filter(|_| b.take(1)).count();
            let threads = [s.spawn(take), s.spawn(take), s.spawn(take)];
            threads.into_iter().map(|t| t.join().expect("the thread ends well")).sum()
        });
        assert_eq!(taken, 10_000);
    }
}

//! A thousand hosts under a simulated clock and a simulated network ([`net`]): pools, breakers, health checks, outlier detection,
//! balancing and retries as they are, with nothing under them that is real. `cargo run -p xtask -- plots` draws what is seen.

pub mod net;
pub mod world;

use net::Reach;
use std::fmt::Write;
use std::time::Duration;
use world::{Second, World};

/// The hosts, spread over four zones.
const HOSTS: usize = 1_000;
/// Requests per second.
const RATE: u64 = 300;

/// What happens, and when, in seconds.
const FAIL_FROM: usize = 10;
const RESTART: std::ops::Range<usize> = 40..65;
const OUTAGE: std::ops::Range<usize> = 80..100;
const SLOW_FROM: usize = 115;
const END: usize = 135;

/// Of `seconds`, which part of the requests was answered well.
fn success(seconds: &[Second]) -> f64 {
    let sum = |f: fn(&Second) -> u64| seconds.iter().map(f).sum::<u64>() as f64;
    sum(|s| s.good) / (sum(|s| s.good) + sum(|s| s.bad))
}

#[test]
fn a_thousand_hosts_through_a_bad_day() {
    let seconds = World::run(HOSTS, RATE, async |w| {
        let mut seen = vec![];
        for second in 0..END {
            match second {
                // Every 20th host answers all requests with 503, and passes its checks.
                FAIL_FROM => w.hosts().iter().step_by(20).for_each(|h| h.fails.set(true)),
                s if s == OUTAGE.start => w.zone(1).for_each(|h| h.set(Reach::Silent)),
                s if s == OUTAGE.end => w.zone(1).for_each(|h| h.set(Reach::Up)),
                SLOW_FROM => w.hosts()[502].latency.set(Duration::from_secs(1)),
                _ => {}
            }
            if RESTART.contains(&second) {
                // 40 hosts at once, for two seconds.
                let first = (second - RESTART.start) * HOSTS / RESTART.len();
                let now = first..first + HOSTS / RESTART.len();
                w.hosts()[now.clone()].iter().for_each(|h| h.set(Reach::Down));
                w.later(Duration::from_secs(2), move |hosts| {
                    hosts[now].iter().for_each(|h| h.set(Reach::Up));
                });
            }
            seen.push(w.second().await);
        }
        let served: Vec<u64> = w.hosts().iter().map(|h| h.served.get()).collect();
        (seen, served)
    });
    let (seconds, served) = seconds;
    write(&seconds);
    let healthy = |s: usize| seconds[s].healthy;

    // Calm: nothing fails, and nobody gets much more than others.
    assert_eq!(success(&seconds[1..FAIL_FROM]), 1.0);
    // 5 % fail: retries hide nearly all of that, and outlier detection finds the hosts.
    assert!(success(&seconds[FAIL_FROM..RESTART.start]) > 0.999);
    let found = (FAIL_FROM..RESTART.start).find(|s| seconds[*s].ejected >= 45);
    assert!(found.is_some(), "{}", seconds[RESTART.start - 1].ejected);
    // A restart of each: as good as nothing is seen of it.
    assert!(success(&seconds[RESTART]) > 0.999, "{}", success(&seconds[RESTART]));
    assert!(healthy(RESTART.end + 10) > HOSTS as u64 * 9 / 10, "{}", healthy(RESTART.end + 10));
    // A quarter of the hosts falls silent: bad for as long as it takes to see that, then good.
    let gone =
        (OUTAGE.start..OUTAGE.end).find(|s| healthy(*s) <= HOSTS as u64 * 3 / 4).expect("checks see it");
    assert!(gone - OUTAGE.start <= 12, "seen after {} s", gone - OUTAGE.start);
    assert!(success(&seconds[OUTAGE]) > 0.99, "{}", success(&seconds[OUTAGE]));
    assert!(success(&seconds[gone + 2..OUTAGE.end]) > 0.999);
    // Checks see at once that they are back, but who was ejected stays so for its time.
    let passes = (OUTAGE.end..END).find(|s| seconds[*s].failed == 0).expect("they pass their checks");
    assert!(passes - OUTAGE.end <= 8, "{} s", passes - OUTAGE.end);
    let back = (OUTAGE.end..END).find(|s| healthy(*s) > HOSTS as u64 * 9 / 10).expect("they come back");
    assert!(back - OUTAGE.end <= 25, "back after {} s", back - OUTAGE.end);
    // One host takes a second: it gets what fits into it, and nothing fails.
    assert_eq!(success(&seconds[SLOW_FROM + 1..END]), 1.0);
    // All together: hosts that are well share the work.
    let mean = served.iter().sum::<u64>() as f64 / HOSTS as f64;
    let good =
        || served.iter().enumerate().filter(|(i, _)| i % 20 != 0 && i % 4 != 1).map(|(_, n)| *n as f64);
    assert!(good().fold(0.0, f64::max) < mean * 1.7, "{} of {mean}", good().fold(0.0, f64::max));
    assert!(good().fold(f64::MAX, f64::min) > mean * 0.5, "{} of {mean}", good().fold(f64::MAX, f64::min));
}

/// All hosts take longer than a try may: with hedging the first try is answered, without it none is.
#[test]
fn a_try_that_goes_on_is_answered() {
    for hedges in [true, false] {
        let seen = World::run(4, 5, async |w| {
            w.hosts().iter().for_each(|h| h.latency.set(Duration::from_millis(2_200)));
            w.hedges = hedges;
            let mut seen = vec![];
            for _ in 0..12 {
                seen.push(w.second().await);
            }
            seen
        });
        let answered: u64 = seen.iter().map(|s| s.good + s.bad).sum();
        assert!(answered >= 35, "{answered}");
        assert!(seen.iter().map(|s| s.retries).sum::<u64>() >= 35);
        assert_eq!(success(&seen), f64::from(u8::from(hedges)));
        if hedges {
            // The first answer is taken: that of the try which was set aside.
            let took = |s: &Second| s.good == 0 || (2_200..2_300).contains(&s.p99);
            assert!(seen.iter().all(took), "{seen:?}");
        }
    }
}

/// Leaves what was seen where the environment says, for the plots.
fn write(seconds: &[Second]) {
    let Some(path) = std::env::var_os("NUNCIO_SIMULATION") else { return };
    let mut text = String::from("second,good,bad,retries,p50_ms,p99_ms,healthy,ejected,failed_checks\n");
    for (i, s) in seconds.iter().enumerate() {
        let Second { good, bad, retries, p50, p99, healthy, ejected, failed } = s;
        let _ = writeln!(text, "{i},{good},{bad},{retries},{p50},{p99},{healthy},{ejected},{failed}");
    }
    std::fs::write(path, text).expect("the file can be written");
}

//! Many idle clusters.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::parse;
use crate::stats;
use crate::stats::*;

stats! {
    struct Wide {
        c00: Counter, c01: Counter, c02: Counter, c03: Counter, c04: Counter, c05: Counter, c06: Counter, c07: Counter,
        c08: Counter, c09: Counter, c10: Counter, c11: Counter, c12: Counter, c13: Counter, c14: Counter, c15: Counter,
        c16: Counter, c17: Counter, c18: Counter, c19: Counter, c20: Counter, c21: Counter, c22: Counter, c23: Counter,
        c24: Counter, c25: Counter, c26: Counter, c27: Counter, c28: Counter, c29: Counter, c30: Counter, c31: Counter,
        c32: Counter, c33: Counter, c34: Counter, c35: Counter, c36: Counter, c37: Counter, c38: Counter, c39: Counter,
        c40: Counter, c41: Counter, c42: Counter, c43: Counter, c44: Counter, c45: Counter, c46: Counter, c47: Counter,
        c48: Counter, c49: Counter, c50: Counter, c51: Counter, c52: Counter, c53: Counter, c54: Counter, c55: Counter,
        c56: Counter, c57: Counter, c58: Counter, c59: Counter, c60: Counter, c61: Counter, c62: Counter, c63: Counter,
        c64: Counter, c65: Counter, c66: Counter, c67: Counter, c68: Counter, c69: Counter, c70: Counter, c71: Counter,
        g0: Gauge, g1: Gauge, g2: Gauge, g3: Gauge, g4: Gauge, g5: Gauge, g6: Gauge, g7: Gauge,
        membership_total: SetGauge, membership_healthy: SetGauge, membership_change: SharedCounter,
        max_host_weight: SetGauge, version: SetGauge, warming_state: SetGauge,
        b0: Derived = "circuit_breakers.default.cx_open", b1: Derived = "circuit_breakers.default.rq_open",
        b2: Derived = "circuit_breakers.high.cx_open", b3: Derived = "circuit_breakers.high.rq_open",
        h0: Histogram(Milliseconds), h1: Histogram(Milliseconds), h2: Histogram(Milliseconds),
        codes: Codes = "upstream_rq", external: Codes = "external.upstream_rq",
    }
}

fn clusters(store: &Store, count: usize) -> Vec<Wide> {
    (0..count)
        .map(|i| {
            let stats = Wide::new(&store.scope("cluster").scope(&format!("service-{i}.example")));
            stats.membership_total().set(1);
            stats.membership_healthy().set(1);
            stats.membership_change().inc();
            stats
        })
        .collect()
}

/// The time this thread ran: other load does not count. Without Linux's `/proc`, the time that passed.
fn cpu_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = ran.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// Writes everything; the longest single call, the total and the output's size.
fn pull(store: &Store, query: &str) -> (Duration, Duration, usize, usize) {
    let (mut longest, mut bytes, mut calls) = (Duration::ZERO, 0, 0);
    let begin = cpu_time();
    let mut render = Render::new(store, parse(query), Vec::new());
    let mut chunk = String::new();
    loop {
        chunk.clear();
        // A single call is shorter than the grain of `cpu_time`.
        let start = Instant::now();
        let more = render.next_chunk(&mut chunk);
        longest = longest.max(start.elapsed());
        bytes += chunk.len();
        calls += 1;
        if !more {
            return (longest, cpu_time() - begin, bytes, calls);
        }
    }
}

#[test]
fn output_comes_in_slices() {
    let store = Store::new();
    let groups = clusters(&store, 300);
    for query in ["", "usedonly", "format=json", "format=prometheus", "filter=nothing"] {
        let (_, _, bytes, calls) = pull(&store, query);
        assert_eq!(bytes, Render::new(&store, parse(query), Vec::new()).into_string().len());
        assert!(bytes <= calls * 96 * 1024, "{query}: {bytes} in {calls} calls");
        assert!(query == "usedonly" || calls > 3, "{query}: {calls} calls");
    }
    // Three stats each were written.
    assert_eq!(super::text(&store, "usedonly").lines().count(), 3 * groups.len());
}

/// A cluster that is gone while its stats are written is skipped or shown, and nothing else.
#[test]
fn groups_may_go_while_they_are_written() {
    for query in ["", "format=prometheus"] {
        let store = Store::new();
        let mut groups = clusters(&store, 200);
        let mut render = Render::new(&store, parse(query), Vec::new());
        let mut out = String::new();
        while render.next_chunk(&mut out) {
            groups.pop();
            store.reclaim();
        }
        assert!(out.contains("service-0"), "{query}");
        drop(render);
        drop(groups);
        store.reclaim();
        assert_eq!(store.group_count(), 0);
    }
}

#[test]
#[ignore = "prints timings; run with --release --ignored --nocapture"]
fn timings_with_ten_thousand_clusters() {
    let store = Store::new();
    let _main = store.register_shard();
    let start = cpu_time();
    let groups = clusters(&store, 10_000);
    println!("create: {:?}", cpu_time() - start);
    let rss = || {
        std::fs::read_to_string("/proc/self/statm")
            .map_or(0, |s| s.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4)
    };
    println!("resident: {} KiB", rss());
    for query in
        ["", "usedonly", "format=json", "format=prometheus", "format=prometheus&usedonly", "filter=nothing"]
    {
        // The best of a few: other load must not count.
        let runs: Vec<_> = (0..5).map(|_| pull(&store, query)).collect();
        let longest = runs.iter().map(|run| run.0).min().unwrap_or_default();
        let total = runs.iter().map(|run| run.1).min().unwrap_or_default();
        let (_, _, bytes, calls) = runs[0];
        println!("{query:30} total {total:?}, longest call {longest:?}, {bytes} bytes, {calls} calls");
    }
    for group in &groups {
        group.c00().inc();
        group.h0().record(3);
        group.codes().record(200);
    }
    let start = cpu_time();
    store.flush_histograms();
    println!("flush: {:?}, resident: {} KiB", cpu_time() - start, rss());
    let start = cpu_time();
    store.reset_counters();
    println!("reset: {:?}", cpu_time() - start);
    let start = cpu_time();
    drop(groups);
    println!("drop: {:?}", cpu_time() - start);
    let start = cpu_time();
    store.reclaim();
    println!("reclaim: {:?}", cpu_time() - start);
    let stats = Wide::new(&store.scope("x"));
    let measure = |what: &str, f: &dyn Fn(u64)| {
        let rounds = 1_000_000u32;
        let best = (0..30).map(|_| {
            let start = Instant::now();
            (0..rounds).for_each(|i| f(u64::from(i)));
            start.elapsed()
        });
        let best = best.min().unwrap_or_default();
        println!("{what}: {:.2} ns each", best.as_nanos() as f64 / f64::from(rounds));
    };
    measure("counter", &|_| stats.c40().inc());
    measure("codes (3 counters)", &|i| stats.codes().record(200 + (i & 3) as u16));
    measure("histogram", &|i| stats.h1().record(i & 0xfff));
    std::thread::scope(|scope| {
        scope.spawn(|| measure("counter without a shard", &|_| stats.c40().inc()));
    });
}

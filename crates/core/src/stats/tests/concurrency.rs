//! Threads with and without shards.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use super::text;
use crate::stats;
use crate::stats::*;

stats! {
    struct Shared {
        count: Counter,
        active: Gauge,
        set: SetGauge,
        time: Histogram(Milliseconds),
        codes: Codes = "rq",
        keyed: CounterFamily = "k.",
    }
}

/// Ends the reader also when a test fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_lost_between_threads() {
    const THREADS: u64 = 6;
    const ROUNDS: u64 = 20_000;
    let store = Store::new();
    let stats = Shared::new(&store.scope("s"));
    let (start, done) = (Barrier::new(THREADS as usize), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _end = SetAtEnd(&done);
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, stats, start) = (&store, &stats, &start);
                scope.spawn(move || {
                    // Half of the threads share one shard.
                    let _shard = (thread % 2 == 0).then(|| store.register_shard());
                    start.wait();
                    for round in 0..ROUNDS {
                        stats.count().inc();
                        // Up on one thread, down on another.
                        if thread % 2 == 0 {
                            stats.active().add(2)
                        } else {
                            stats.active().sub(2)
                        }
                        stats.time().record(round % 100);
                        stats.codes().record(200 + (round % 3) as u16);
                        stats.keyed().get(["a", "b"][(round % 2) as usize]).inc();
                    }
                })
            })
            .collect();
        // Main reads and flushes meanwhile; what it sees never goes back.
        scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let value = stats.count().value();
                assert!(value >= last && value <= THREADS * ROUNDS);
                last = value;
                store.flush_histograms();
                let _ = text(&store, "");
            }
        });
        for thread in threads {
            thread.join().expect("thread");
        }
    });
    let total = THREADS * ROUNDS;
    assert_eq!(stats.count().value(), total);
    assert_eq!(stats.active().value(), 0);
    assert_eq!(stats.keyed().get("a").value() + stats.keyed().get("b").value(), total);
    store.flush_histograms();
    let out = text(&store, "");
    assert!(out.contains(&format!("s.rq_2xx: {total}\n")), "{out}");
    assert!(out.contains(&format!("s.rq_completed: {total}\n")), "{out}");
    let codes: u64 =
        out.lines().filter_map(|l| l.strip_prefix("s.rq_20")?.get(3..)?.parse::<u64>().ok()).sum();
    assert_eq!(codes, total);
    let series = text(&store, "format=prometheus&filter=time");
    assert!(series.contains(&format!("_count{{}} {total}\n")), "{series}");
}

#[test]
fn groups_come_and_go_while_threads_count() {
    let store = Store::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = SetAtEnd(&done);
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let store = &store;
                scope.spawn(move || {
                    let _shard = store.register_shard();
                    for round in 0..3000 {
                        let stats = Shared::new(&store.scope(&format!("w{worker}.r{round}")));
                        assert_eq!(stats.count().value(), 0, "cells are clean");
                        stats.count().add(1);
                        stats.keyed().get("x").inc();
                        stats.codes().record(500);
                        stats.time().record(7);
                        assert_eq!(stats.keyed().get("x").value(), 1);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.reclaim();
                store.flush_histograms();
                for line in text(&store, "type=Counters").lines() {
                    assert!(line.ends_with(": 0") || line.ends_with(": 1"), "{line}");
                }
            }
        });
        for worker in workers {
            worker.join().expect("worker");
        }
    });
    store.reclaim();
    assert_eq!((store.group_count(), text(&store, "")), (0, String::new()));
}

#[test]
fn a_thread_may_serve_several_stores() {
    let stores: Vec<Store> = (0..3).map(|_| Store::new()).collect();
    let shards: Vec<ShardHandle> = stores.iter().map(Store::register_shard).collect();
    let again = stores[1].register_shard();
    for (i, store) in stores.iter().enumerate() {
        let stats = Shared::new(&store.scope("s"));
        stats.count().add(i as u64 + 1);
        stats.set().set(4);
        assert_eq!(stats.count().value(), i as u64 + 1);
    }
    drop((shards, again));
    let stats = Shared::new(&stores[2].scope("s"));
    stats.count().inc();
    assert_eq!(stats.count().value(), 1, "a thread without a shard counts too");
}

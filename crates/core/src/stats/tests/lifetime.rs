//! Groups that come and go, and names without end.

use super::text;
use crate::stats;
use crate::stats::*;

stats! {
    struct Small {
        one: Counter,
        two: Gauge,
        set: SetGauge,
        time: Histogram(Milliseconds),
        codes: Codes = "rq",
        keyed: CounterFamily = "k.",
        sized: GaugeFamily = "g.",
    }
}

#[test]
fn groups_of_the_same_prefix_share_their_values() {
    let store = Store::new();
    let (a, b) = (Small::new(&store.scope("x")), Small::new(&store.scope("x.")));
    a.one().inc();
    b.one().inc();
    assert_eq!(a.one().value(), 2);
    drop(a);
    assert_eq!(store.reclaim(), 0);
    assert_eq!(b.one().value(), 2);
    assert_eq!(store.group_count(), 1);
}

#[test]
fn stats_vanish_with_their_last_reference_and_cells_come_back_clean() {
    let store = Store::new();
    let _shard = store.register_shard();
    let old = Small::new(&store.scope("old"));
    old.one().add(5);
    old.two().inc();
    old.set().set(9);
    old.time().record(4);
    old.codes().record(200);
    old.keyed().get("key").inc();
    old.sized().get("key").set(3);
    std::thread::scope(|scope| {
        scope.spawn(|| old.one().add(7));
    });
    store.flush_histograms();
    store.reset_counters();
    let owned = old.one().to_owned();
    drop(old);
    assert!(text(&store, "").contains("old.one: 0\n"), "an owned handle keeps the group");
    drop(owned);
    assert_eq!(text(&store, ""), "");
    assert_eq!(store.reclaim(), 1);
    assert_eq!(store.reclaim(), 0);
    // The new group gets the cells of the old one.
    let new = Small::new(&store.scope("new"));
    assert_eq!(text(&store, "usedonly"), "");
    let _ = (new.keyed().get("other"), new.sized().get("other"));
    new.codes().record(404);
    store.flush_histograms();
    assert_eq!(
        text(&store, ""),
        "new.g.other: 0\n\
         new.k.other: 0\n\
         new.one: 0\n\
         new.rq_404: 1\n\
         new.rq_4xx: 1\n\
         new.rq_completed: 1\n\
         new.set: 0\n\
         new.two: 0\n\
         new.time: No recorded values\n"
    );
    new.one().add(2);
    assert!(text(&store, "").contains("new.one: 2\n"), "the old baseline is gone");
}

#[test]
fn a_name_taken_anew_before_reclaim_starts_from_zero() {
    let store = Store::new();
    let first = Small::new(&store.scope("x"));
    first.one().add(5);
    first.keyed().get("key").add(5);
    drop(first);
    let second = Small::new(&store.scope("x"));
    second.keyed().get("key").inc();
    assert_eq!(second.one().value(), 0);
    store.reclaim();
    second.one().inc();
    assert_eq!((second.one().value(), second.keyed().get("key").value()), (1, 1));
    drop(second);
    store.reclaim();
    assert_eq!(store.group_count(), 0);
}

#[test]
fn families_are_bounded() {
    let store = Store::new();
    store.configure(Settings { family_limit: 3, ..Settings::default() });
    let group = Small::new(&store.scope("x"));
    let count = || {
        for i in 0..10 {
            group.keyed().get(&format!("key{i}")).inc();
        }
    };
    count();
    // A thread that has not seen the family yet finds it full.
    std::thread::scope(|scope| {
        scope.spawn(count);
    });
    count();
    assert_eq!(text(&store, "filter=x.k."), "x.k.key0: 3\nx.k.key1: 3\nx.k.key2: 3\nx.k.overflow: 21\n");
}

#[test]
fn gauge_guards_count_while_they_live() {
    let store = Store::new();
    let group = Small::new(&store.scope("x"));
    let guard = group.two().guard();
    assert_eq!(group.two().value(), 1);
    let moved = std::thread::spawn(move || drop(guard));
    moved.join().expect("thread");
    assert_eq!(group.two().value(), 0);
}

#[test]
fn a_store_goes_with_its_last_reference() {
    let store = Store::new();
    let shard = store.register_shard();
    let group = Small::new(&store.scope("x"));
    let weak = std::sync::Arc::downgrade(&store.0);
    drop(store);
    assert!(weak.upgrade().is_some(), "groups keep the store");
    group.one().inc();
    drop((group, shard));
    assert!(weak.upgrade().is_none());
}

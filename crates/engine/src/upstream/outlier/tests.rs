use super::*;
use crate::upstream::health::HostHealth;
use crate::upstream::host::{Host, Wanted};
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::clock::sim::Sim;
use nuncio_core::info::HostInfo;
use nuncio_core::runtime::Runtime;
use nuncio_core::stats::Store;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

type Heard = Arc<std::sync::mpsc::Sender<(Arc<Host>, Streak)>>;

/// A detector whose workers are this thread.
struct World {
    detector: Detector,
    hosts: Vec<Arc<Host>>,
    heard: std::sync::mpsc::Receiver<(Arc<Host>, Streak)>,
    lines: Rc<RefCell<Vec<String>>>,
    stats: OutlierStats,
    sim: Sim,
}

impl World {
    fn new(n: u16, o: pb::OutlierDetection) -> World {
        let (tx, heard) = std::sync::mpsc::channel();
        let tx: Heard = Arc::new(tx);
        let store = Store::new();
        let stats = OutlierStats::new(&store.scope("cluster.c.outlier_detection"));
        let lines = Rc::<RefCell<Vec<String>>>::default();
        let written = lines.clone();
        let sim = Sim::new();
        let detector = Detector::new(
            "c".into(),
            Config::new(&o, &Runtime::default()).expect("a configuration"),
            stats.clone(),
            Some(Rc::new(move |l: &str| written.borrow_mut().push(l.to_owned()))),
            move |h, s| tx.send((h.clone(), s)).expect("it is heard"),
        );
        let wanted = (1..=n).map(|i| {
            let address = std::net::SocketAddr::from(([10, 0, 0, 1], i));
            let info = HostInfo { address_text: address.to_string().into(), ..Default::default() };
            Wanted { info: Arc::new(info), weight: 1, ..Default::default() }
        });
        let hosts: Vec<_> = wanted.flat_map(|w| Host::continued(&[], vec![w])).collect();
        detector.set_hosts(&hosts);
        World { detector, hosts, heard, lines, stats, sim }
    }
    fn monitor(&self, i: usize) -> &Monitor {
        self.hosts[i].monitor.get().expect("it is watched")
    }
    fn answers(&self, i: usize, status: u16, times: usize) {
        (0..times).for_each(|_| self.monitor(i).answered(status));
    }
    /// Main hears what the workers told.
    fn hear(&self) -> usize {
        self.heard.try_iter().map(|(h, s)| self.detector.streak(&h, s).len()).sum()
    }
    fn pass(&self, ms: u64) -> usize {
        self.sim.advance(Duration::from_millis(ms));
        self.detector.interval().len()
    }
    fn ejected(&self) -> Vec<usize> {
        let out = |i: &usize| self.hosts[*i].health.has(HostHealth::FAILED_OUTLIER_CHECK);
        (0..self.hosts.len()).filter(out).collect()
    }
}

fn whole() -> pb::OutlierDetection {
    pb::OutlierDetection { max_ejection_percent: Some(100), ..Default::default() }
}

#[test]
fn failures_in_a_row_eject() {
    let w = World::new(3, whole());
    w.answers(0, 500, 4);
    w.answers(0, 200, 1);
    w.answers(0, 500, 4);
    assert_eq!(w.hear(), 0);
    w.answers(0, 503, 1);
    assert_eq!((w.hear(), w.ejected()), (1, vec![0]));
    let s = &w.stats;
    assert_eq!((s.ejections_active().value(), s.ejections_enforced_total().value()), (1, 1));
    assert_eq!((s.ejections_consecutive_5xx().value(), s.ejections_total().value()), (1, 1));
    w.answers(0, 503, 5);
    assert_eq!(w.hear(), 0, "it is out already");
    assert_eq!(
        w.lines.borrow().concat(),
        "{\"type\":\"CONSECUTIVE_5XX\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"cluster_name\":\"c\",\"upstream_url\":\
         \"10.0.0.1:1\",\"action\":\"EJECT\",\"num_ejections\":1,\"enforced\":true,\"eject_consecutive_event\":{}}\n"
    );
}

#[test]
fn time_lets_in_again_and_is_longer_each_time() {
    let o = pb::OutlierDetection {
        base_ejection_time: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        max_ejection_time: Some(prost_types::Duration { seconds: 25, nanos: 0 }),
        ..whole()
    };
    let w = World::new(1, o);
    for (out, after) in [(10, 1), (20, 1), (25, 1), (25, 1)] {
        w.answers(0, 500, 5);
        assert_eq!(w.hear(), 1);
        assert_eq!(w.pass(out * 1000 - 1), 0, "{out}");
        assert_eq!(w.pass(1), after, "{out}");
    }
    assert!(w.lines.borrow().last().is_some_and(|l| {
        l.contains("\"secs_since_last_action\":\"25\"") && l.contains("\"action\":\"UNEJECT\"")
    }));
    // An interval in which nothing happened takes some of it back.
    (0..4).for_each(|_| assert_eq!(w.pass(10_000), 0));
    w.answers(0, 500, 5);
    assert_eq!((w.hear(), w.pass(10_000)), (1, 1));
    assert_eq!(w.stats.ejections_active().value(), 0);
}

#[test]
fn no_more_are_ejected_than_the_percentage_allows() {
    let w = World::new(3, pb::OutlierDetection::default());
    w.answers(0, 500, 5);
    assert_eq!((w.hear(), w.stats.ejections_overflow().value()), (0, 1));
    let one = pb::OutlierDetection { always_eject_one_host: Some(true), ..Default::default() };
    let w = World::new(3, one);
    (0..2).for_each(|i| w.answers(i, 500, 5));
    assert_eq!((w.hear(), w.ejected()), (1, vec![0]));
    // One that leaves makes room.
    w.detector.set_hosts(&w.hosts[1..]);
    assert_eq!(w.stats.ejections_active().value(), 0);
    w.answers(1, 500, 5);
    assert_eq!((w.hear(), w.ejected()), (1, vec![0, 1]));
}

#[test]
fn gateway_failures_have_a_streak_of_their_own() {
    let o = pb::OutlierDetection {
        consecutive_5xx: Some(100),
        consecutive_gateway_failure: Some(3),
        enforcing_consecutive_gateway_failure: Some(100),
        ..whole()
    };
    let w = World::new(1, o);
    w.answers(0, 502, 2);
    w.answers(0, 500, 1);
    w.answers(0, 504, 2);
    assert_eq!(w.hear(), 0);
    w.monitor(0).failed();
    assert_eq!(w.hear(), 1);
    assert_eq!(w.stats.ejections_enforced_consecutive_gateway_failure().value(), 1);
    assert_eq!(w.stats.ejections_total().value(), 0, "an old counter, of two kinds only");
    let w = World::new(1, pb::OutlierDetection { consecutive_5xx: Some(100), ..whole() });
    w.answers(0, 502, 5);
    assert_eq!((w.hear(), w.stats.ejections_detected_consecutive_gateway_failure().value()), (0, 1));
    assert!(w.lines.borrow()[0].contains("\"enforced\":false"));
}

#[test]
fn errors_of_ours_are_split() {
    let o = pb::OutlierDetection { split_external_local_origin_errors: true, ..whole() };
    let w = World::new(2, o);
    let m = w.monitor(0);
    (0..4).for_each(|_| m.failed());
    m.connected();
    (0..4).for_each(|_| m.timed_out(504));
    w.answers(0, 503, 4);
    assert_eq!(w.hear(), 0);
    m.failed();
    assert_eq!(w.hear(), 1);
    assert_eq!(w.stats.ejections_enforced_consecutive_local_origin_failure().value(), 1);
    // Without the split they count as 503, and a connection says nothing of the answer to come.
    let w = World::new(2, whole());
    w.answers(0, 500, 4);
    w.monitor(0).connected();
    w.monitor(0).failed();
    assert_eq!(w.hear(), 1);
    w.answers(1, 500, 4);
    w.monitor(1).served();
    w.answers(1, 500, 4);
    assert_eq!(w.hear(), 0);
}

#[test]
fn success_rates_are_compared() {
    let w = World::new(5, whole());
    (0..4).for_each(|i| w.answers(i, 200, 100));
    (0..50).for_each(|_| {
        w.answers(4, 200, 1);
        w.answers(4, 500, 1);
    });
    assert_eq!((w.pass(10_000), w.ejected()), (1, vec![4]));
    assert_eq!(w.detector.rates(Errors::External), (90.0, 52.0));
    assert_eq!(w.monitor(4).success_rate(Errors::External), 50.0);
    assert!(w.lines.borrow()[0].contains(
        "\"eject_success_rate_event\":{\"host_success_rate\":50,\"cluster_average_success_rate\":90,\"\
         cluster_success_rate_ejection_threshold\":52}"
    ));
    // The next interval had too few requests.
    w.pass(10_000);
    assert_eq!(w.detector.rates(Errors::External), (-1.0, -1.0));
    assert_eq!(w.monitor(0).success_rate(Errors::External), -1.0);
}

#[test]
fn failure_percentages_eject_each_for_itself() {
    let o = pb::OutlierDetection {
        enforcing_success_rate: Some(0),
        enforcing_failure_percentage: Some(100),
        failure_percentage_threshold: Some(40),
        consecutive_5xx: Some(1000),
        ..whole()
    };
    let w = World::new(5, o);
    (0..5).for_each(|i| w.answers(i, 200, 30));
    (1..3).for_each(|i| w.answers(i, 500, 20));
    w.answers(3, 500, 19);
    w.answers(3, 200, 1);
    w.answers(4, 200, 20);
    w.answers(0, 200, 20);
    assert_eq!((w.pass(10_000), w.ejected()), (2, vec![1, 2]));
    assert_eq!(w.stats.ejections_enforced_failure_percentage().value(), 2);
}

#[test]
fn a_passed_health_check_lets_in_again() {
    let w = World::new(1, whole());
    w.answers(0, 500, 5);
    assert_eq!(w.hear(), 1);
    w.hosts[0].health.set(HostHealth::FAILED_ACTIVE_HC);
    assert_eq!(w.detector.checked(&w.hosts[0]).len(), 0);
    w.hosts[0].health.clear(HostHealth::FAILED_ACTIVE_HC);
    assert_eq!((w.detector.checked(&w.hosts[0]).len(), w.ejected().len()), (1, 0));
    let keep = pb::OutlierDetection { successful_active_health_check_uneject_host: Some(false), ..whole() };
    let w = World::new(1, keep);
    w.answers(0, 500, 5);
    assert_eq!((w.hear(), w.detector.checked(&w.hosts[0]).len()), (1, 0));
}

#[test]
fn the_longest_time_is_no_shorter_than_the_base() {
    let secs = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let of = |base, max| {
        let o = pb::OutlierDetection {
            base_ejection_time: secs(base),
            max_ejection_time: max,
            ..Default::default()
        };
        Config::new(&o, &Runtime::default()).map(|c| c.max_ejection_time.get()).map_err(|e| e.0)
    };
    assert_eq!((of(1, None), of(1000, None)), (Ok(300_000), Ok(1_000_000)));
    let refused = "outlier detector's max_ejection_time cannot be smaller than base_ejection_time";
    assert_eq!(of(10, secs(9)), Err(refused.to_owned()));
}

use super::HealthCheckStats;
use super::state::{Event, Failure, Rules, State, Transition};
use crate::upstream::health::{Health, HostHealth};
use nuncio_core::runtime::RuntimeNumber;
use nuncio_core::stats::Store;
use std::time::Duration;

const S: fn(u64) -> Duration = Duration::from_secs;

fn rules() -> Rules {
    Rules {
        unhealthy_threshold: 2,
        healthy_threshold: 3,
        interval: S(1),
        initial_jitter: Duration::ZERO,
        interval_jitter: Duration::ZERO,
        interval_jitter_percent: 0,
        no_traffic_interval: S(60),
        no_traffic_healthy_interval: S(50),
        unhealthy_interval: S(2),
        unhealthy_edge_interval: S(3),
        healthy_edge_interval: S(4),
        always_log_health_check_failures: false,
        always_log_health_check_success: false,
        limits: [RuntimeNumber::fixed(0), RuntimeNumber::fixed(u64::MAX)],
    }
}

/// A host that is checked.
struct World {
    host: HostHealth,
    rules: Rules,
    stats: HealthCheckStats,
    state: State,
    log: Vec<Event>,
}

impl World {
    /// With what is known of the host before.
    fn new(bits: u16, rules: Rules) -> World {
        let host = HostHealth::default();
        host.set(bits);
        let stats = HealthCheckStats::new(&Store::new().scope("cluster.c.health_check"));
        let state = State::new(&host, &stats);
        World { host, rules, stats, state, log: vec![] }
    }
    fn passes(&mut self, degraded: bool) -> Transition {
        let World { host, rules, stats, state, log } = self;
        state.passed(host, rules, stats, degraded, &mut |e| log.push(e))
    }
    fn fails(&mut self, f: Failure, retriable: bool) -> Transition {
        let World { host, rules, stats, state, log } = self;
        state.failed(host, rules, stats, (f, retriable), &mut |e| log.push(e))
    }
}

const ACTIVE: Failure = Failure::Active(503);

#[test]
fn the_first_result_counts_at_once_and_later_ones_by_thresholds() {
    let mut w = World::new(HostHealth::FAILED_ACTIVE_HC, rules());
    assert_eq!((w.stats.healthy().value(), w.host.get()), (0, Health::Unhealthy));
    assert_eq!(w.passes(false), Transition::Changed);
    assert_eq!((w.stats.healthy().value(), w.host.get()), (1, Health::Healthy));
    assert_eq!(w.passes(false), Transition::Unchanged);
    assert_eq!(w.fails(Failure::Network, false), Transition::Pending);
    assert_eq!(w.passes(false), Transition::Unchanged);
    assert_eq!(w.fails(Failure::Network, false), Transition::Pending);
    assert_eq!(w.fails(Failure::NetworkTimeout, false), Transition::Changed);
    assert_eq!(w.host.bits(), HostHealth::FAILED_ACTIVE_HC | HostHealth::ACTIVE_HC_TIMEOUT);
    assert_eq!(w.fails(Failure::Network, false), Transition::Unchanged);
    assert_eq!(w.host.bits(), HostHealth::FAILED_ACTIVE_HC, "not late any more, but wrong");
    assert_eq!([w.passes(false), w.passes(false)], [Transition::Pending; 2]);
    assert_eq!(w.passes(false), Transition::Changed);
    assert_eq!((w.stats.success().value(), w.stats.failure().value()), (6, 4));
    assert_eq!(w.stats.network_failure().value(), 4);
    assert_eq!(
        w.log,
        [Event::Added(true), Event::Ejected(Failure::NetworkTimeout), Event::Added(false)],
        "changes only"
    );
}

#[test]
fn an_answer_that_is_wrong_counts_at_once_unless_it_is_retriable() {
    let mut w = World::new(HostHealth::FAILED_ACTIVE_HC, rules());
    w.passes(false);
    assert_eq!(w.fails(ACTIVE, true), Transition::Pending);
    assert_eq!(w.fails(ACTIVE, false), Transition::Changed);
    let mut w = World::new(HostHealth::FAILED_ACTIVE_HC, rules());
    w.passes(false);
    assert_eq!(w.fails(Failure::Passive, false), Transition::Changed);
    assert_eq!((w.stats.passive_failure().value(), w.stats.network_failure().value()), (1, 0));
}

#[test]
fn hosts_may_be_degraded() {
    let mut w = World::new(HostHealth::FAILED_ACTIVE_HC, rules());
    assert_eq!(w.passes(true), Transition::Changed);
    assert_eq!((w.host.get(), w.stats.degraded().value()), (Health::Degraded, 1));
    assert_eq!(w.passes(true), Transition::Unchanged);
    assert_eq!(w.passes(false), Transition::Changed);
    assert_eq!((w.host.get(), w.stats.degraded().value()), (Health::Healthy, 1));
    assert_eq!(w.log, [Event::Added(true), Event::Degraded, Event::NoLongerDegraded]);
}

#[test]
fn hosts_that_wait_for_their_first_check_do_not_count() {
    let mut w = World::new(HostHealth::FAILED_ACTIVE_HC | HostHealth::PENDING_ACTIVE_HC, rules());
    assert!(w.host.is_excluded());
    assert_eq!(w.fails(ACTIVE, false), Transition::Changed);
    assert!(!w.host.is_excluded());
    assert_eq!(w.log, [Event::Failed(ACTIVE, true)]);
    // What it said to a request is forgotten when it is fit again.
    w.host.set(HostHealth::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
    for _ in 0..3 {
        w.passes(false);
    }
    assert_eq!(w.host.bits(), 0);
}

#[test]
fn gauges_forget_hosts_that_leave() {
    let mut w = World::new(HostHealth::FAILED_ACTIVE_HC, rules());
    assert!(w.state.ends(&w.host, &w.stats), "never checked");
    w.passes(true);
    assert!(!w.state.ends(&w.host, &w.stats));
    assert_eq!((w.stats.healthy().value(), w.stats.degraded().value()), (0, 0));
}

#[test]
fn everything_is_logged_if_wanted() {
    let always =
        Rules { always_log_health_check_failures: true, always_log_health_check_success: true, ..rules() };
    let mut w = World::new(0, always);
    w.passes(false);
    w.fails(ACTIVE, false);
    w.fails(ACTIVE, false);
    assert_eq!(
        w.log,
        [Event::Passed, Event::Ejected(ACTIVE), Event::Failed(ACTIVE, false), Event::Failed(ACTIVE, false)]
    );
}

#[test]
fn intervals_follow_health_and_traffic() {
    use Transition::{Changed, Pending, Unchanged};
    let r = rules();
    for (healthy, t, traffic, secs) in [
        (true, Unchanged, true, 1),
        (true, Changed, true, 1),
        (true, Pending, true, 4),
        (false, Unchanged, true, 2),
        (false, Pending, true, 3),
        (true, Unchanged, false, 50),
        (true, Pending, false, 60),
        (false, Changed, false, 60),
    ] {
        assert_eq!(r.next(healthy, t, traffic), S(secs), "{healthy} {t:?} {traffic}");
    }
    assert_eq!(r.first(), None);
    let limits = [RuntimeNumber::fixed(1500), RuntimeNumber::fixed(2500)];
    let r = Rules { limits, ..r };
    assert_eq!(r.next(true, Unchanged, true), Duration::from_millis(1500));
    assert_eq!(r.next(true, Pending, true), Duration::from_millis(2500));
}

#[test]
fn jitter_is_added() {
    let r = Rules { interval_jitter: S(1), interval_jitter_percent: 50, initial_jitter: S(2), ..rules() };
    let all: Vec<_> = (0..200).map(|_| r.next(true, Transition::Unchanged, true).as_millis()).collect();
    assert!(all.iter().all(|t| (1000..2500).contains(t)) && all.iter().any(|t| *t > 1800));
    assert!((0..200).all(|_| r.first().is_some_and(|t| t < S(2) && !t.is_zero())));
}

//! The choice as a worker makes it, over sets as main makes them, of clusters as they are configured.

use super::pick::{Picked, Picker, Picking};
use super::set::{HostSet, Making};
use super::subset::Criteria;
use super::subset_config::Criterion;
use super::{Anywhere, LbContext};
use crate::testing::Main;
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::config::{self, Target};
use crate::upstream::host::{Host, HostCounters};
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_core::rng;
use prost_types::Value;
use prost_types::value::Kind;
use std::borrow::Cow;
use std::sync::Arc;

/// A cluster on one worker.
struct World {
    plan: Arc<ClusterPlan>,
    set: HostSet,
    picker: Picker,
}

impl World {
    /// `fields` of a cluster, and the `endpoints` of its assignment.
    fn new(fields: &str, endpoints: &str) -> World {
        let yaml =
            format!("{{name: c, {fields} load_assignment: {{cluster_name: c, endpoints: [{endpoints}]}}}}");
        let c = parse_message::<pb::Cluster>(yaml.as_bytes(), Format::Yaml, "test", UnknownFields::Refuse);
        let c = c.expect("a cluster").message;
        let built = Main::default().with(|cx| config::build(&c, false, cx)).expect("it is built");
        let hosts = built.endpoints.iter().filter_map(|e| match &e.target {
            Target::Address(a) => Some(Arc::new(Host::new(e.host(a.clone())))),
            Target::Name(..) => None,
        });
        let plan = built.plan.clone();
        let m = Making {
            lb: &plan.lb,
            panic: &plan.panic,
            stats: &plan.stats,
            local: None,
            zones: false,
            threads: 1,
        };
        let set = HostSet::new(hosts.collect(), &HostSet::default(), &m);
        rng::seed(7);
        World { plan, set, picker: Picker::default() }
    }
    /// The port of the host that is chosen, by which tests tell hosts apart.
    fn choose(&mut self, cx: &dyn LbContext) -> Option<u16> {
        let (plan, set) = (&self.plan, &self.set);
        let p = Picking { set, lb: &plan.lb, cx, attempt: 0, plan, force: None };
        let host = match self.picker.pick(&p)? {
            Picked::At(i) => set.hosts[i as usize].clone(),
            Picked::Host(h) => h,
        };
        host.info.address.as_ref()?.port()
    }
    fn any(&mut self) -> Option<u16> {
        self.choose(&Anywhere)
    }
    /// How often each of the ports up to `n` is chosen.
    fn spread(&mut self, n: u16, times: usize) -> Vec<u32> {
        let mut count = vec![0; n.into()];
        for _ in 0..times {
            if let Some(port) = self.any() {
                count[usize::from(port) - 1] += 1;
            }
        }
        count
    }
}

fn host(port: u16, more: &str) -> String {
    format!("{{endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: {port}}}}}}}{more}}}")
}

fn hosts(n: u16) -> String {
    let all: Vec<_> = (1..=n).map(|p| host(p, "")).collect();
    format!("{{lb_endpoints: [{}]}}", all.join(", "))
}

/// Pearson's statistic against equal shares.
fn chi_square(count: &[u32]) -> f64 {
    let expected = f64::from(count.iter().sum::<u32>()) / count.len() as f64;
    count.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum()
}

#[test]
fn round_robin_takes_turns() {
    let mut w = World::new("", &hosts(3));
    let turns: Vec<_> = (0..9).filter_map(|_| w.any()).collect();
    assert!(turns.windows(2).all(|t| t[1] == t[0] % 3 + 1), "{turns:?}");
    let weights = format!("{{lb_endpoints: [{}, {}]}}", host(1, ""), host(2, ", load_balancing_weight: 3"));
    assert_eq!(World::new("", &weights).spread(2, 80), [20, 60]);
}

#[test]
fn random_is_even() {
    let count = World::new("lb_policy: RANDOM,", &hosts(10)).spread(10, 10_000);
    // 99.9 % of all samples of nine degrees of freedom stay below.
    assert!(chi_square(&count) < 27.9, "{count:?}");
}

#[test]
fn least_request_prefers_who_has_less_to_do() {
    let mut w = World::new("lb_policy: LEAST_REQUEST,", &hosts(2));
    let idle = w.spread(2, 10_000);
    assert!(chi_square(&idle) < 10.8, "{idle:?}");
    HostCounters::inc(&w.set.hosts[0].counters.rq_active);
    // The busy one only when both choices fall on it.
    let count = w.spread(2, 10_000);
    assert!((2_300..2_700).contains(&count[0]), "{count:?}");
    let all = "lb_policy: LOAD_BALANCING_POLICY_CONFIG, load_balancing_policy: {policies: [{typed_extension_config: \
               {name: l, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.\
               least_request.v3.LeastRequest, selection_method: FULL_SCAN}}}]},";
    let mut w = World::new(all, &hosts(3));
    HostCounters::inc(&w.set.hosts[1].counters.rq_active);
    let count = w.spread(3, 10_000);
    assert_eq!(count[1], 0);
    assert!(chi_square(&[count[0], count[2]]) < 10.8, "{count:?}");
}

#[test]
fn lower_priorities_get_what_higher_ones_cannot_carry() {
    let bad = host(2, ", health_status: UNHEALTHY");
    let two = format!(
        "{{lb_endpoints: [{}, {bad}]}}, {{priority: 1, lb_endpoints: [{}]}}",
        host(1, ""),
        host(3, "")
    );
    let count = World::new("", &two).spread(3, 10_000);
    assert_eq!(count[1], 0);
    assert!((6_800..7_200).contains(&count[0]), "{count:?}");
}

#[test]
fn localities_take_turns_by_weight() {
    let zone = |z: &str, weight: u32, hosts: &[String]| {
        let hosts = hosts.join(", ");
        format!("{{locality: {{zone: {z}}}, load_balancing_weight: {weight}, lb_endpoints: [{hosts}]}}")
    };
    let all = [zone("a", 1, &[host(1, "")]), zone("b", 4, &[host(2, ""), host(3, "")])].join(", ");
    let count = World::new("common_lb_config: {locality_weighted_lb_config: {}},", &all).spread(3, 100);
    assert_eq!(count, [20, 40, 40]);
}

#[test]
fn a_host_that_has_come_up_gets_little() {
    let slow = "round_robin_lb_config: {slow_start_config: {slow_start_window: 3600s, min_weight_percent: {value: 10}}},";
    let weights = format!("{{lb_endpoints: [{}, {}]}}", host(1, ""), host(2, ", load_balancing_weight: 2"));
    // Both have just come up: a tenth of each weight leaves their proportion as it is.
    assert_eq!(World::new(slow, &weights).spread(2, 30), [10, 20]);
}

/// A request that asks for metadata.
struct Asks(Vec<Criterion>);
impl LbContext for Asks {
    fn criteria(&self) -> Option<Criteria<'_>> {
        Some(Cow::Borrowed(&self.0))
    }
}

#[test]
fn subsets_are_found_by_all_that_is_asked_for() {
    let md = |port, v: &str| {
        host(port, &format!(", metadata: {{filter_metadata: {{envoy.lb: {{v: {v}, s: x}}}}}}"))
    };
    let endpoints = format!("{{lb_endpoints: [{}, {}]}}", md(1, "one"), md(2, "two"));
    let mut w =
        World::new("lb_subset_config: {subset_selectors: [{keys: [s, v]}, {keys: [v]}]},", &endpoints);
    let text = |k: &str, v: &str| Criterion::new(k, &Value { kind: Some(Kind::StringValue(v.into())) });
    assert_eq!(w.choose(&Asks(vec![text("v", "two")])), Some(2));
    assert_eq!(w.choose(&Asks(vec![text("s", "x"), text("v", "one")])), Some(1));
    assert_eq!(w.choose(&Asks(vec![text("s", "x")])), None, "no selector has this key alone");
    assert_eq!(w.choose(&Asks(vec![text("v", "three")])), None);
    assert_eq!(w.any(), None);
    assert_eq!(
        (w.plan.stats.lb_subsets_selected().value(), w.plan.stats.lb_subsets_created().value()),
        (2, 4)
    );
}

/// A request with a hash.
struct Hash(u64);
impl LbContext for Hash {
    fn hash(&self, _: Option<&super::hash_policy::HashPolicy>) -> Option<u64> {
        Some(self.0)
    }
}

#[test]
fn loads_are_bounded() {
    let bounded =
        "lb_policy: MAGLEV, common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 100}},";
    let mut w = World::new(bounded, &hosts(3));
    let first = w.choose(&Hash(5)).expect("a host");
    assert_eq!(w.choose(&Hash(5)), Some(first));
    let busy = &w.set.hosts[usize::from(first) - 1].counters.rq_active;
    (0..3).for_each(|_| HostCounters::inc(busy));
    let second = w.choose(&Hash(5)).expect("a host");
    assert_ne!(second, first, "it has more than its share");
    assert_eq!(w.choose(&Hash(5)), Some(second), "the same hash goes to the same host");
}

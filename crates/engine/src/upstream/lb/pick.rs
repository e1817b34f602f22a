//! The choice on a worker: cursors into the set of hosts that main made.

use super::LbContext;
use super::config::{How, Lb, LeastRequest, Policy, SlowStart, Spread};
use super::edf::Edf;
use super::set::{HostSet, Level, List};
use super::zone::Zone;
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::host::{Host, up_now};
use nuncio_core::rng;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A worker's cursors for one cluster, or for one subset of it.
pub struct Picker {
    /// Where turns begin: workers do not march in step.
    seed: u64,
    levels: Vec<Cursors>,
    /// Of the subsets, by their number.
    pub(super) subsets: Vec<Picker>,
    /// Hosts that came about here, of which main has not told the others yet.
    pub(super) made: HashMap<SocketAddr, Arc<Host>>,
}

/// The cursors of a priority.
#[derive(Default)]
struct Cursors {
    all: Cursor,
    healthy: Cursor,
    degraded: Cursor,
    /// By locality.
    near_healthy: Vec<Cursor>,
    near_degraded: Vec<Cursor>,
    /// Whose turn it is among weighted localities, and what they weigh; healthy and degraded ones.
    localities: [Option<Box<Localities>>; 2],
}

/// A schedule, and the localities that take part with what they weigh.
type Localities = (Edf, Vec<(u32, f64)>);

/// A cursor into a list of hosts.
#[derive(Default)]
struct Cursor {
    /// How often it was moved; it stays when hosts change, as in Envoy.
    moved: u64,
    /// `None`: not looked at since hosts changed.
    turns: Option<Turns>,
}

/// Turns by weight.
enum Turns {
    /// All weigh the same.
    Equal,
    Weighted(Box<(Edf, Vec<u32>)>),
}

/// Some hosts of a priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    All,
    Healthy,
    Degraded,
    NearHealthy(usize),
    NearDegraded(usize),
}

/// A choice.
#[derive(Debug)]
pub enum Picked {
    /// The host at this place of the set.
    At(u32),
    /// This one.
    Host(Arc<Host>),
}

/// What is needed to choose, besides the cursors.
#[derive(Clone, Copy)]
pub struct Picking<'a> {
    /// The hosts.
    pub set: &'a HostSet,
    /// How.
    pub lb: &'a Lb,
    /// The request.
    pub cx: &'a dyn LbContext,
    /// Hosts that were rejected for this request.
    pub attempt: u32,
    /// The cluster.
    pub plan: &'a ClusterPlan,
    /// The priority that is to be chosen from, and whether its degraded hosts are meant: an aggregate has chosen it.
    pub force: Option<(usize, bool)>,
}

impl Default for Picker {
    fn default() -> Picker {
        Picker { seed: rng::u64() >> 1, levels: vec![], subsets: vec![], made: HashMap::new() }
    }
}

impl Picker {
    /// Hosts changed.
    pub fn changed(&mut self) {
        self.levels.iter_mut().for_each(|c| c.localities = [None, None]);
        self.reweighed();
        self.subsets.iter_mut().for_each(Picker::changed);
        self.made.clear();
    }
    /// The same hosts weigh something else.
    pub fn reweighed(&mut self) {
        for c in &mut self.levels {
            let near = c.near_healthy.iter_mut().chain(&mut c.near_degraded);
            for cursor in [&mut c.all, &mut c.healthy, &mut c.degraded].into_iter().chain(near) {
                cursor.turns = None;
            }
        }
        self.subsets.iter_mut().for_each(Picker::reweighed);
    }
    /// The host for a request; `None` when there is none.
    pub fn pick(&mut self, p: &Picking<'_>) -> Option<Picked> {
        match &p.lb.policy {
            Policy::Spread(s) => self.spread(s, p).map(Picked::At),
            Policy::Hash(h) => p.set.hashing.as_ref()?.pick(h, p).map(Picked::At),
            Policy::Subset(s) => super::subset::pick(self, s, p),
            Policy::Override(o) => o.pick(self, p),
            Policy::OriginalDst(o) => o.pick(self, p),
            Policy::Forward(f) => f.pick(p),
            Policy::Aggregate(_) | Policy::Provided => None,
        }
    }
    fn spread(&mut self, s: &Spread, p: &Picking<'_>) -> Option<u32> {
        let set = p.set;
        let again = p.cx.retry_priority().filter(|_| p.force.is_none()).and_then(|r| {
            let fitness: Vec<_> = set.levels.iter().map(|l| l.fitness).collect();
            r.loads(&fitness, |h| Some(h.priority() as usize))
        });
        let (random, (priority, degraded)) = match p.force {
            Some(forced) => (None, forced),
            None if let Some(loads) = again => {
                let random = rng::u64();
                (Some(random), loads.choose(random))
            }
            None if set.loads.is_simple() => (None, (0, false)),
            None => {
                let random = rng::u64();
                (Some(random), set.loads.choose(random))
            }
        };
        let level = set.levels.get(priority)?;
        if self.levels.len() <= priority {
            self.levels.resize_with(priority + 1, Cursors::default);
        }
        let cursors = &mut self.levels[priority];
        let source = match set.loads.panic.get(priority).copied().unwrap_or(false) {
            true => {
                p.plan.stats.lb_healthy_panic().inc();
                if s.locality.zone_aware.fail_traffic_on_panic {
                    return None;
                }
                Source::All
            }
            false => source(level, cursors, s, p, priority, degraded, self.seed)?,
        };
        let list = source.list(level)?;
        let cursor = source.cursor(cursors);
        if cursor.turns.is_none() {
            cursor.turns = Some(turns(list, set, s, self.seed));
        }
        match (&s.how, &mut cursor.turns) {
            (How::Random, _) => {
                let n = list.len() as u64;
                list.get(random.unwrap_or_else(rng::u64).checked_rem(n)? as usize)
            }
            (how, Some(Turns::Weighted(w))) => {
                let now = s.slow_start.as_ref().map(|s| (s, up_now()));
                let place = w.0.next(|i| weight(&set.hosts[w.1[i] as usize], how, now))?;
                w.1.get(place).copied()
            }
            (How::RoundRobin, _) => {
                let n = list.len() as u64;
                let at = self.seed.wrapping_add(cursor.moved).checked_rem(n)?;
                cursor.moved += 1;
                list.get(at as usize)
            }
            (How::LeastRequest(l), _) => least(list, set, l),
        }
    }
}

/// The hosts that a request may go to.
fn source(
    level: &Level,
    cursors: &mut Cursors,
    s: &Spread,
    p: &Picking<'_>,
    priority: usize,
    degraded: bool,
    seed: u64,
) -> Option<Source> {
    let flat = if degraded { Source::Degraded } else { Source::Healthy };
    let near = |i| if degraded { Source::NearDegraded(i) } else { Source::NearHealthy(i) };
    if s.locality.weighted && !level.localities.is_empty() {
        let (edf, weights) = &mut **cursors.localities[usize::from(degraded)].get_or_insert_with(|| {
            let weights = match degraded {
                true => level.weights(|l| &l.degraded, p.plan.panic.overprovisioning()),
                false => level.weights(|l| &l.healthy, p.plan.panic.overprovisioning()),
            };
            let only: Vec<f64> = weights.iter().map(|w| w.1).collect();
            Box::new((Edf::begun(&only, seed as u32 >> 4), weights))
        });
        if let Some(i) = edf.next(|i| weights[i].1) {
            return Some(near(weights[i].0 as usize));
        }
    }
    let Some(z) = p.set.zoned.as_deref().filter(|_| priority == 0) else { return Some(flat) };
    let config = &s.locality.zone_aware;
    if !config.routing_enabled.percent() {
        return Some(flat);
    }
    if z.local_panic {
        p.plan.stats.lb_local_cluster_not_ok().inc();
        return (!config.fail_traffic_on_panic).then_some(flat);
    }
    Some(near(match &z.zone {
        Zone::Direct => {
            p.plan.stats.lb_zone_routing_all_directly().inc();
            0
        }
        Zone::Residual { stay, .. } if rng::below(10_000) < *stay => {
            p.plan.stats.lb_zone_routing_sampled().inc();
            0
        }
        Zone::Residual { capacity, .. } => {
            p.plan.stats.lb_zone_routing_cross_zone().inc();
            match capacity.last() {
                None | Some(0) => {
                    p.plan.stats.lb_zone_no_capacity_left().inc();
                    rng::below(capacity.len() as u64) as usize
                }
                Some(sum) => {
                    let point = rng::below(*sum);
                    capacity.partition_point(|c| *c <= point)
                }
            }
        }
    }))
}

impl Source {
    fn list(self, level: &Level) -> Option<&List> {
        Some(match self {
            Source::All => &level.all,
            Source::Healthy => &level.healthy,
            Source::Degraded => &level.degraded,
            Source::NearHealthy(i) => &level.localities.get(i)?.healthy,
            Source::NearDegraded(i) => &level.localities.get(i)?.degraded,
        })
    }
    fn cursor(self, c: &mut Cursors) -> &mut Cursor {
        let (near, i) = match self {
            Source::All => return &mut c.all,
            Source::Healthy => return &mut c.healthy,
            Source::Degraded => return &mut c.degraded,
            Source::NearHealthy(i) => (&mut c.near_healthy, i),
            Source::NearDegraded(i) => (&mut c.near_degraded, i),
        };
        if near.len() <= i {
            near.resize_with(i + 1, Cursor::default);
        }
        &mut near[i]
    }
}

/// Whether hosts take turns by weight: when their weights differ, or one of them starts slowly.
fn turns(list: &List, set: &HostSet, s: &Spread, seed: u64) -> Turns {
    if matches!(s.how, How::Random) || list.len() < 2 {
        return Turns::Equal;
    }
    let host = |i: u32| &*set.hosts[i as usize];
    let now = s.slow_start.as_ref().map(|s| (s, up_now()));
    let slow = now.is_some_and(|(s, now)| now.saturating_sub(set.latest_up) <= s.window_ms);
    let first = list.get(0).map(|i| host(i).weight());
    if !slow && list.iter().all(|i| Some(host(i).weight()) == first) {
        return Turns::Equal;
    }
    let weights: Vec<f64> = list.iter().map(|i| weight(host(i), &s.how, now)).collect();
    Turns::Weighted(Box::new((Edf::begun(&weights, seed as u32 >> 4), list.iter().collect())))
}

/// What a host weighs now.
fn weight(host: &Host, how: &How, slow: Option<(&SlowStart, u64)>) -> f64 {
    let weight = f64::from(host.weight().max(1));
    let weight = match how {
        How::RoundRobin | How::Random => weight,
        // A host's weight is shared by the requests it has.
        How::LeastRequest(l) => {
            let busy = (host.counters.rq_active.load(Relaxed) + 1) as f64;
            match l.bias.get() {
                1.0 => weight / busy,
                0.0 => weight,
                bias => weight / busy.powf(bias),
            }
        }
    };
    match slow {
        Some((s, now)) => weight * s.factor(now.saturating_sub(host.up_since())),
        None => weight,
    }
}

/// The least busy of some hosts.
fn least(list: &List, set: &HostSet, l: &LeastRequest) -> Option<u32> {
    let n = list.len() as u64;
    let busy = |i: u32| set.hosts[i as usize].counters.rq_active.load(Relaxed);
    if l.full_scan {
        let mut ties = 0;
        let mut best: Option<(u32, u64)> = None;
        for i in list.iter() {
            let b = busy(i);
            match best {
                Some((_, least)) if b > least => continue,
                Some((_, least)) if b == least => ties += 1,
                _ => ties = 1,
            }
            // Of those that tie each is as likely as the others.
            if rng::below(ties) == 0 {
                best = Some((i, b));
            }
        }
        return best.map(|(i, _)| i);
    }
    let mut best = list.get(rng::below(n) as usize)?;
    for _ in 1..l.choices {
        let other = list.get(rng::below(n) as usize)?;
        if busy(other) < busy(best) {
            best = other;
        }
    }
    Some(best)
}

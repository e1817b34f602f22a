//! The hosts of a cluster at one moment, with everything that the choice among them needs and that only depends on them:
//! made on main, shared by all workers, replaced as a whole.

use super::config::{Lb, Policy};
use super::hashing::Hashing;
use super::loads::{Fitness, Loads};
use super::subset::Subsets;
use super::zone::{Zoned, zoned};
use crate::stats::ClusterStats;
use crate::upstream::health::{Health, PanicPolicy};
use crate::upstream::host::Host;
use nuncio_core::address::Address;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

#[cfg(test)]
thread_local! {
    /// Sets that this thread has made, and the hosts in them.
    pub static BUILT: std::cell::Cell<(u32, usize)> = const { std::cell::Cell::new((0, 0)) };
}

/// The hosts of a cluster.
#[derive(Debug, Default)]
pub struct HostSet {
    /// Priority by priority, each in the order of configuration and resolution.
    pub hosts: Vec<Arc<Host>>,
    /// Those of the set before that are none any more.
    pub gone: Vec<Arc<Host>>,
    /// By priority; one at least, but for a set that nobody made yet.
    pub levels: Vec<Level>,
    /// What each priority gets.
    pub loads: Loads,
    /// Requests stay near, when localities count.
    pub zoned: Option<Box<Zoned>>,
    /// Tables of consistent hashing.
    pub hashing: Option<Hashing>,
    /// Parts of the hosts that requests ask for by metadata.
    pub subsets: Option<Box<Subsets>>,
    /// Hosts by address, where requests name those.
    pub by_address: Option<HashMap<SocketAddr, u32>>,
    /// Hosts by name and port, where requests name those.
    pub by_name: Option<HashMap<Arc<str>, u32>>,
    /// Hosts by the text of their address, made when the first request names one so.
    by_text: OnceLock<HashMap<Arc<str>, u32>>,
    /// When the host that is up for the shortest time came up, for slow start.
    pub latest_up: u64,
}

/// A priority.
#[derive(Clone, Debug, Default)]
pub struct Level {
    /// All hosts.
    pub all: List,
    /// Those that are healthy.
    pub healthy: List,
    /// Those that are degraded.
    pub degraded: List,
    /// How fit it is.
    pub fitness: Fitness,
    /// This proxy's locality first, then by name; empty unless localities count.
    pub localities: Vec<LevelLocality>,
    /// The first locality is this proxy's.
    pub has_local: bool,
}

/// The hosts of a priority in one locality.
#[derive(Clone, Debug, Default)]
pub struct LevelLocality {
    /// Region, zone, sub-zone.
    pub name: Arc<[String; 3]>,
    /// `LocalityLbEndpoints.load_balancing_weight`; 0: it gets nothing while localities are weighted.
    pub weight: u32,
    /// All hosts.
    pub all: List,
    /// Those that are healthy.
    pub healthy: List,
    /// Those that are degraded.
    pub degraded: List,
    /// How many are neither to be counted.
    pub excluded: u32,
}

/// Some hosts of a set, by their places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// All from the first to before the second.
    Range(u32, u32),
    /// These.
    Some(Box<[u32]>),
}

impl Default for List {
    fn default() -> List {
        List::Range(0, 0)
    }
}

impl List {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            List::Range(from, to) => (to - from) as usize,
            List::Some(l) => l.len(),
        }
    }
    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The `i`th of them.
    pub fn get(&self, i: usize) -> Option<u32> {
        match self {
            List::Range(from, to) => Some(from + i as u32).filter(|n| n < to),
            List::Some(l) => l.get(i).copied(),
        }
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }
    /// Those of `self` that `f` takes; all are shared, not listed.
    fn filter(&self, f: impl Fn(u32) -> bool) -> List {
        let some: Vec<u32> = self.iter().filter(|i| f(*i)).collect();
        if some.len() == self.len() { self.clone() } else { List::Some(some.into()) }
    }
}

/// What a set is made with, besides its hosts.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// How hosts are chosen.
    pub lb: &'a Lb,
    /// When a priority panics.
    pub panic: &'a PanicPolicy,
    /// The cluster's.
    pub stats: &'a ClusterStats,
    /// The hosts of the cluster this proxy belongs to; `None`: it is this one, or there is none.
    pub local: Option<&'a HostSet>,
    /// There is a cluster this proxy belongs to: localities count.
    pub zones: bool,
    /// How many threads take part: some stats count on each.
    pub threads: u64,
}

impl HostSet {
    /// The set of these hosts, after `old`.
    pub fn new(mut hosts: Vec<Arc<Host>>, old: &HostSet, m: &Making<'_>) -> HostSet {
        #[cfg(test)]
        BUILT.set({
            let (sets, of) = BUILT.get();
            (sets + 1, of + hosts.len())
        });
        hosts.sort_by_key(|h| h.priority());
        let mut set = HostSet { gone: gone(&old.hosts, &hosts), hosts, ..HostSet::default() };
        set.latest_up = set.hosts.iter().map(|h| h.up_since()).max().unwrap_or(0);
        let levels = set.hosts.last().map_or(0, |h| h.priority()) + 1;
        let mut from = 0;
        set.levels.reserve_exact(levels as usize);
        for priority in 0..levels {
            let to = set.hosts.partition_point(|h| h.priority() <= priority) as u32;
            let level = set.level(List::Range(from, to), m);
            set.levels.push(level);
            from = to;
        }
        set.finish(m);
        set.count_subsets(old, m);
        set
    }
    /// Each thread of Envoy has subsets of its own, and counts them.
    fn count_subsets(&self, old: &HostSet, m: &Making<'_>) {
        let Some(new) = &self.subsets else { return };
        let [made, gone] = new.changes(old.subsets.as_deref()).map(|n| n * m.threads);
        m.stats.lb_subsets_created().add(made);
        m.stats.lb_subsets_removed().add(gone);
        m.stats.lb_subsets_active().add(made);
        m.stats.lb_subsets_active().sub(gone);
    }
    /// Of how many priorities other hosts are there than in `old`; Envoy changes one after the other.
    pub fn changed_levels(&self, old: &HostSet) -> u64 {
        let come = gone(&self.hosts, &old.hosts);
        let all = come.iter().chain(&self.gone).map(|h| h.priority());
        all.collect::<std::collections::BTreeSet<u32>>().len() as u64
    }
    fn finish(&mut self, m: &Making<'_>) {
        let fitness: Vec<Fitness> = self.levels.iter().map(|l| l.fitness).collect();
        self.loads = Loads::new(&fitness, m.panic.threshold.get());
        match &m.lb.policy {
            Policy::Spread(s) => {
                if let Some(local) = m.local {
                    self.zoned = zoned(self, local, &s.locality.zone_aware, m).map(Box::new);
                }
            }
            Policy::Hash(h) => self.hashing = Some(Hashing::new(self, h)),
            Policy::Subset(s) => self.subsets = Some(Box::new(Subsets::new(self, s, m))),
            Policy::Override(o) => self.finish(&Making { lb: &o.inner, ..*m }),
            Policy::OriginalDst(_) => self.by_address = Some(self.addresses()),
            Policy::Forward(_) => {
                let named = self.hosts.iter().enumerate().map(|(i, h)| (h.info.hostname.clone(), i as u32));
                self.by_name = Some(named.collect());
            }
            Policy::Aggregate(_) | Policy::Provided => {}
        }
    }
    /// The place of the host with this address ([`HostInfo::address_text`](nuncio_core::info::HostInfo::address_text));
    /// of several the first.
    pub fn at(&self, address: &str) -> Option<u32> {
        let index = self.by_text.get_or_init(|| {
            let mut all = HashMap::with_capacity(self.hosts.len());
            for (i, h) in self.hosts.iter().enumerate() {
                all.entry(h.info.address_text.clone()).or_insert(i as u32);
            }
            all
        });
        index.get(address).copied()
    }
    /// The first host of each address.
    fn addresses(&self) -> HashMap<SocketAddr, u32> {
        let mut all = HashMap::new();
        for (i, h) in self.hosts.iter().enumerate() {
            if let Some(Address::Ip(a)) = h.info.address {
                all.entry(a).or_insert(i as u32);
            }
        }
        all
    }
    /// A part of a set's hosts, with the same priorities and localities.
    pub fn part(hosts: Vec<Arc<Host>>, levels: usize, m: &Making<'_>) -> HostSet {
        let mut set = HostSet::new(hosts, &HostSet::default(), m);
        if set.levels.len() < levels {
            set.levels.resize_with(levels, Level::default);
            set.finish(m);
        }
        set
    }
    fn level(&self, all: List, m: &Making<'_>) -> Level {
        let is = |health: Health| move |i: u32| self.hosts[i as usize].health.get() == health;
        let (healthy, degraded) = (all.filter(is(Health::Healthy)), all.filter(is(Health::Degraded)));
        let eligible = all.filter(|i| !self.hosts[i as usize].health.is_excluded());
        let sizes = [&healthy, &degraded, &eligible].map(|l| l.len() as u64);
        let by_weight = m.panic.by_weight();
        let size = |l: &List| match by_weight {
            true => l.iter().map(|i| u64::from(self.hosts[i as usize].weight())).sum(),
            false => l.len() as u64,
        };
        let fitness = Fitness {
            healthy: size(&healthy),
            degraded: size(&degraded),
            eligible: size(&eligible),
            hosts: sizes,
            all: all.len() as u64,
            overprovisioning: m.panic.overprovisioning(),
        };
        let (mut localities, mut has_local) = (vec![], false);
        if m.zones || m.lb.weighs_localities() {
            (localities, has_local) = self.localities(&all, &m.lb.node);
        }
        Level { all, healthy, degraded, fitness, localities, has_local }
    }
    fn localities(&self, all: &List, node: &[String; 3]) -> (Vec<LevelLocality>, bool) {
        let mut by_name: BTreeMap<(bool, &[String; 3]), Vec<u32>> = BTreeMap::new();
        for i in all.iter() {
            let name = &*self.hosts[i as usize].info.locality;
            by_name.entry((name != node, name)).or_default().push(i);
        }
        let has_local = by_name.keys().next().is_some_and(|(elsewhere, _)| !elsewhere);
        let each = by_name.into_values().filter_map(|hosts| {
            let first = &self.hosts[*hosts.first()? as usize];
            let all = List::Some(hosts.into());
            let is = |health: Health| move |i: u32| self.hosts[i as usize].health.get() == health;
            Some(LevelLocality {
                name: first.info.locality.clone(),
                weight: first.locality_weight(),
                healthy: all.filter(is(Health::Healthy)),
                degraded: all.filter(is(Health::Degraded)),
                excluded: all.iter().filter(|i| self.hosts[*i as usize].health.is_excluded()).count() as u32,
                all,
            })
        });
        (each.collect(), has_local)
    }
}

impl Level {
    /// What the localities weigh for the hosts that `list` gives of each, in the order of the localities that weigh
    /// anything: the configured weight, less what is missing of the hosts.
    pub fn weights(&self, list: impl Fn(&LevelLocality) -> &List, overprovisioning: u32) -> Vec<(u32, f64)> {
        let each = self.localities.iter().enumerate().filter_map(|(i, l)| {
            let eligible = l.all.len() as f64 - f64::from(l.excluded);
            if eligible <= 0.0 {
                return None;
            }
            let available = f64::from(overprovisioning) / 100.0 * (list(l).len() as f64 / eligible);
            Some((i as u32, f64::from(l.weight) * available.min(1.0))).filter(|(_, w)| *w > 0.0)
        });
        each.collect()
    }
}

/// Hosts of one list that are not in the other.
fn gone(those: &[Arc<Host>], new: &[Arc<Host>]) -> Vec<Arc<Host>> {
    let stay: std::collections::HashSet<_> = new.iter().map(Arc::as_ptr).collect();
    those.iter().filter(|h| !stay.contains(&Arc::as_ptr(h))).cloned().collect()
}

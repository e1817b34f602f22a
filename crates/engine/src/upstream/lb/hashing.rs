//! Consistent hashing: a request's hash decides about its host, by a table that main made of the hosts of each priority
//! ([`super::ring`], [`super::maglev`]); `hash_balance_factor` bounds what a host gets.

use super::hash_policy::HashPolicy;
use super::maglev::{Maglev, MaglevStats};
use super::pick::Picking;
use super::ring::{Ring, RingStats};
use super::set::{HostSet, List};
use crate::upstream::host::Host;
use nuncio_core::rng;
use nuncio_core::stats::Scope;
use prost_types::value::Kind;
use std::sync::atomic::Ordering::Relaxed;

/// `RingHash` or `Maglev`.
#[derive(Debug)]
pub struct HashLb {
    config: HashConfig,
    /// `locality_weighted_lb_config`
    pub locality_weighted: bool,
    /// The policy's own `hash_policy`, in place of the routes'.
    policy: Option<HashPolicy>,
    stats: HashStats,
}

/// What the tables are made by.
#[derive(Clone, Copy, Debug)]
pub struct HashConfig {
    /// The kind of table.
    pub kind: HashKind,
    /// `use_hostname_for_hashing`: hosts are placed by their names, not their addresses.
    pub use_hostname: bool,
    /// `hash_balance_factor`, in percent of the average; 0: no bound.
    pub balance: u32,
}

/// A kind of table.
#[derive(Clone, Copy, Debug)]
pub enum HashKind {
    /// `RingHash`, with so many entries at least and at most, placed by `MURMUR_HASH_2` or `XX_HASH`.
    Ring {
        /// `minimum_ring_size`
        min: u64,
        /// `maximum_ring_size`
        max: u64,
        /// `hash_function: MURMUR_HASH_2`
        murmur: bool,
    },
    /// `Maglev`
    Maglev {
        /// `table_size`
        size: u64,
    },
}

#[derive(Debug)]
enum HashStats {
    Ring(RingStats),
    Maglev(MaglevStats),
}

impl HashLb {
    /// Hashing of a cluster whose stats begin with `scope`.
    pub fn new(
        config: HashConfig,
        locality_weighted: bool,
        policy: Option<HashPolicy>,
        scope: &Scope,
    ) -> HashLb {
        let stats = match config.kind {
            HashKind::Ring { .. } => HashStats::Ring(RingStats::new(&scope.scope("ring_hash_lb"))),
            HashKind::Maglev { .. } => HashStats::Maglev(MaglevStats::new(&scope.scope("maglev_lb"))),
        };
        HashLb { config, locality_weighted, policy, stats }
    }
    /// The policy's own hash policy.
    pub fn own_policy(&self) -> Option<&HashPolicy> {
        self.policy.as_ref()
    }
}

/// The tables of a set of hosts.
#[derive(Debug)]
pub struct Hashing {
    levels: Vec<Level>,
    balance: u32,
}

#[derive(Debug)]
struct Level {
    table: Option<Table>,
    /// Hosts and which part of the whole they weigh, in the order of the set; empty unless loads are bounded.
    weights: Vec<(u32, f64)>,
}

#[derive(Debug)]
enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// A host by which tables are made.
pub struct Entry {
    /// Its place in the set.
    pub host: u32,
    /// What it is placed by.
    pub key: String,
    /// Which part of the whole it weighs.
    pub weight: f64,
}

impl Hashing {
    /// The tables of these hosts.
    pub fn new(set: &HostSet, lb: &HashLb) -> Hashing {
        let levels = set.levels.iter().enumerate().map(|(priority, _)| {
            let entries = entries(set, priority, lb);
            let table = (!entries.is_empty()).then(|| match (lb.config.kind, &lb.stats) {
                (HashKind::Ring { min, max, murmur }, HashStats::Ring(s)) => {
                    Table::Ring(Ring::new(&entries, min, max, murmur, s))
                }
                (HashKind::Maglev { size }, HashStats::Maglev(s)) => {
                    Table::Maglev(Maglev::new(&entries, size, s))
                }
                _ => Table::Ring(Ring::default()),
            });
            let weights = match lb.config.balance {
                0 => vec![],
                _ => entries.iter().map(|e| (e.host, e.weight)).collect(),
            };
            Level { table, weights }
        });
        Hashing { levels: levels.collect(), balance: lb.config.balance }
    }
    /// The host for a request.
    pub fn pick(&self, lb: &HashLb, p: &Picking<'_>) -> Option<u32> {
        let hash = p.cx.hash(lb.own_policy()).unwrap_or_else(rng::u64);
        let (priority, _) = p.set.loads.choose(hash);
        if p.attempt == 0 && p.set.loads.panic.get(priority) == Some(&true) {
            p.plan.stats.lb_healthy_panic().inc();
        }
        let level = self.levels.get(priority)?;
        let host = match level.table.as_ref()? {
            Table::Ring(r) => r.host(hash, p.attempt),
            Table::Maglev(m) => m.host(hash, p.attempt),
        }?;
        if self.balance == 0 { Some(host) } else { Some(self.bounded(level, host, hash, p)) }
    }
    /// `host`, unless it has more than its share: then the first in an order that the hash gives which has not, or else
    /// the one that is furthest below.
    fn bounded(&self, level: &Level, host: u32, hash: u64, p: &Picking<'_>) -> u32 {
        let active: u64 = p.plan.breakers.iter().map(|b| b.requests.used()).sum();
        let slots = ((active + 1) * u64::from(self.balance)).div_ceil(100) as f64;
        let load = |host: u32, weight: f64| {
            let busy = p.set.hosts[host as usize].counters.rq_active.load(Relaxed) as f64;
            busy / (slots * weight).ceil().max(1.0)
        };
        let weight = level.weights.iter().find(|w| w.0 == host).map_or(1.0, |w| w.1);
        let mut best = (host, load(host, weight));
        if best.1 <= 1.0 {
            return host;
        }
        let mut order: Vec<usize> = (0..level.weights.len()).collect();
        let mut random = Mt19937::new(hash as u32);
        for i in 0..order.len() {
            let j = random.below((order.len() - i) as u32) as usize;
            order.swap(i, i + j);
            let (other, weight) = level.weights[order[i]];
            if other == host {
                continue;
            }
            let load = load(other, weight);
            if load <= 1.0 {
                return other;
            }
            if load < best.1 {
                best = (other, load);
            }
        }
        best.0
    }
}

/// The hosts of a priority that get requests, with the parts they weigh of the whole, which is 1.
fn entries(set: &HostSet, priority: usize, lb: &HashLb) -> Vec<Entry> {
    let level = &set.levels[priority];
    let panic = set.loads.panic[priority];
    let mut all = vec![];
    let mut add = |list: &List, part: f64| {
        let weight = |i: u32| u64::from(set.hosts[i as usize].weight());
        let sum: u64 = list.iter().map(weight).sum();
        all.extend(list.iter().map(|i| Entry {
            host: i,
            key: key(&set.hosts[i as usize], lb.config.use_hostname),
            weight: weight(i) as f64 * part / sum as f64,
        }));
    };
    if !lb.locality_weighted || level.localities.is_empty() {
        add(if panic { &level.all } else { &level.healthy }, 1.0);
        return all;
    }
    let sum: u64 = level.localities.iter().map(|l| u64::from(l.weight)).sum();
    for l in level.localities.iter().filter(|l| l.weight > 0) {
        add(if panic { &l.all } else { &l.healthy }, f64::from(l.weight) / sum as f64);
    }
    all
}

/// What a host is placed by: its metadata `envoy.lb` `hash_key`, or its name or address.
fn key(h: &Host, use_hostname: bool) -> String {
    match h.info.metadata.get("envoy.lb", ["hash_key"]).and_then(|v| v.kind.as_ref()) {
        Some(Kind::StringValue(s)) if !s.is_empty() => s.clone(),
        _ if use_hostname => h.info.hostname.to_string(),
        _ => h.info.address_text.to_string(),
    }
}

/// The Mersenne Twister (Matsumoto and Nishimura), 32 bits: Envoy orders the other hosts by it.
struct Mt19937 {
    state: [u32; 624],
    at: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Mt19937 {
        let mut state = [seed; 624];
        for i in 1..state.len() {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Mt19937 { state, at: 624 }
    }
    fn next(&mut self) -> u32 {
        if self.at == 624 {
            for i in 0..624 {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
    /// Uniform below `n`, by division, as Envoy does it.
    fn below(&mut self, n: u32) -> u32 {
        let bucket = (1u64 << 32) / u64::from(n.max(1));
        loop {
            let x = (u64::from(self.next()) / bucket) as u32;
            if x < n.max(1) {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 10,000th number of the default seed is part of the C++ standard ([rand.predef]).
    #[test]
    fn twister_agrees_with_the_standard() {
        let mut m = Mt19937::new(5489);
        assert_eq!((0..10_000).map(|_| m.next()).last(), Some(4_123_659_995));
        assert!((0..100).all(|_| m.below(7) < 7));
    }
}

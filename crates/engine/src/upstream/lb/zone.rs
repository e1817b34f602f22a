//! Zone-aware routing: requests stay in this proxy's locality as far as its hosts can carry their part. Worked out on main
//! whenever the hosts of the cluster or of the proxy's own cluster (`local_cluster_name`) change.

use super::config::{Basis, ZoneAware};
use super::loads::panics;
use super::set::{HostSet, LevelLocality, List, Making};
use std::collections::HashMap;

/// How requests of the highest priority are spread over localities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// All stay in this proxy's locality.
    Direct,
    /// Some stay, the others go where capacity is left.
    Residual {
        /// Of ten thousand requests so many stay.
        stay: u64,
        /// Capacity that is left in the localities up to and with each.
        capacity: Box<[u64]>,
    },
}

/// What is known when a cluster's localities are taken into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zoned {
    /// Where requests go.
    pub zone: Zone,
    /// The proxy's own cluster panics: localities are left aside.
    pub local_panic: bool,
}

/// Works out how requests are spread; `None`: localities do not count.
pub fn zoned(set: &HostSet, local: &HostSet, z: &ZoneAware, m: &Making<'_>) -> Option<Zoned> {
    let (stats, threads) = (m.stats, m.threads);
    stats.lb_recalculate_zone_structures().add(threads);
    let (level, own) = (set.levels.first()?, local.levels.first()?);
    let force = z.force_min_size();
    if level.localities.len() < 2 || force.is_none() && own.localities.len() < 2 {
        return None;
    }
    if !own.has_local || own.localities.first().is_none_or(|l| l.all.is_empty()) {
        stats.lb_local_cluster_not_ok().add(threads);
        return None;
    }
    if (level.healthy.len() as u64) < z.min_cluster_size.get() {
        stats.lb_zone_cluster_too_small().add(threads);
        return None;
    }
    let parts = parts(set, &level.localities, local, &own.localities, z.basis);
    let local_panic = panics(&own.fitness, m.panic.threshold.get());
    let zone = zone(&parts, level.has_local, &level.localities, force);
    Some(Zoned { zone, local_panic })
}

/// Of ten thousand, the parts of the requests that come from a locality and that its hosts should carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    local: u64,
    upstream: u64,
}

fn parts(
    set: &HostSet,
    upstream: &[LevelLocality],
    local: &HostSet,
    own: &[LevelLocality],
    basis: Basis,
) -> Vec<Part> {
    let size = |set: &HostSet, list: &List| match basis {
        Basis::Hosts => list.len() as u64,
        Basis::Weight => list.iter().map(|i| u64::from(set.hosts[i as usize].weight())).sum(),
    };
    let own: HashMap<&[String; 3], u64> = own.iter().map(|l| (&*l.name, size(local, &l.healthy))).collect();
    let sizes: Vec<u64> = upstream.iter().map(|l| size(set, &l.healthy)).collect();
    let part = |n: u64, of: u64| (10_000 * n).checked_div(of).unwrap_or(0);
    let (of_own, of_all) = (own.values().sum(), sizes.iter().sum());
    let each = upstream.iter().zip(&sizes).map(|(l, n)| match l.healthy.is_empty() {
        true => Part { local: 0, upstream: 0 },
        false => {
            Part { local: part(own.get(&*l.name).copied().unwrap_or(0), of_own), upstream: part(*n, of_all) }
        }
    });
    each.collect()
}

fn zone(parts: &[Part], has_local: bool, localities: &[LevelLocality], force: Option<u64>) -> Zone {
    let first = parts.first().copied().filter(|_| has_local);
    if let Some(p) = first {
        let enough = p.upstream > 0 && p.upstream >= p.local;
        let forced = force.is_some_and(|min| localities[0].healthy.len() as u64 >= min);
        if enough || forced {
            return Zone::Direct;
        }
    }
    let stay = first.and_then(|p| (p.upstream * 10_000).checked_div(p.local)).unwrap_or(0);
    let mut sum = 0;
    let capacity = parts.iter().enumerate().map(|(i, p)| {
        if i > 0 || !has_local {
            sum += p.upstream.saturating_sub(p.local);
        }
        sum
    });
    Zone::Residual { stay, capacity: capacity.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn localities(healthy: &[u32]) -> Vec<LevelLocality> {
        let one = |n: &u32| LevelLocality { healthy: List::Range(0, *n), ..Default::default() };
        healthy.iter().map(one).collect()
    }
    fn part(local: u64, upstream: u64) -> Part {
        Part { local, upstream }
    }

    #[test]
    fn what_the_locality_can_carry_stays_there() {
        let l = localities(&[1, 2, 1]);
        assert_eq!(zone(&[part(2000, 2500), part(8000, 7500)], true, &l, None), Zone::Direct);
        // The example of Envoy's source: 40 % of the requests come from here, a quarter of the hosts is here.
        let parts = [part(4000, 2500), part(4000, 5000), part(2000, 2500)];
        let Zone::Residual { stay, capacity } = zone(&parts, true, &l, None) else { panic!("residual") };
        assert_eq!((stay, &capacity[..]), (6250, &[0, 1000, 1500][..]));
        assert_eq!(zone(&parts, true, &l, Some(1)), Zone::Direct);
        assert!(matches!(zone(&parts, true, &l, Some(2)), Zone::Residual { .. }));
    }

    #[test]
    fn without_hosts_here_all_go_elsewhere() {
        let parts = [part(0, 6000), part(0, 4000)];
        let Zone::Residual { stay, capacity } = zone(&parts, false, &localities(&[3, 2]), None) else {
            panic!("residual")
        };
        assert_eq!((stay, &capacity[..]), (0, &[6000, 10_000][..]));
    }
}

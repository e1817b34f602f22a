//! Keeps the hosts of a DNS cluster up to date, on main: every configured name is asked for by itself, as often as the
//! cluster says (`STRICT_DNS`, `LOGICAL_DNS`, `envoy.clusters.dns`).

use super::config::{Endpoint, Target};
use super::dns::{Answer, DnsOptions, Resolver};
use super::host::{Host, Wanted};
use super::manager::{ClusterEntry, ClusterManager};
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::rng;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// The hosts each name has given, in the order of the names.
struct Found(RefCell<Vec<Vec<Arc<Host>>>>);

/// Begins to ask for every name, for as long as the cluster lives. The cluster is initialized with the first answer,
/// whatever it is, as in Envoy.
pub fn start(manager: &ClusterManager, c: &Rc<ClusterEntry>, resolver: &Rc<Resolver>) {
    let endpoints = c.take_endpoints();
    if endpoints.is_empty() {
        return manager.initialized(c);
    }
    let found = Rc::new(Found(RefCell::new(vec![vec![]; endpoints.len()])));
    for (i, endpoint) in endpoints.into_iter().enumerate() {
        let name = Name {
            manager: manager.clone(),
            cluster: Rc::downgrade(c),
            resolver: resolver.clone(),
            found: found.clone(),
            i,
            endpoint,
        };
        c.kept_by(tokio::task::spawn_local(name.keep()).abort_handle());
    }
}

/// One name of a cluster.
struct Name {
    manager: ClusterManager,
    cluster: Weak<ClusterEntry>,
    resolver: Rc<Resolver>,
    found: Rc<Found>,
    i: usize,
    endpoint: Endpoint,
}

impl Name {
    async fn keep(self) {
        let mut failures = Failures::default();
        while let Some(c) = self.cluster.upgrade() {
            c.plan.stats.update_attempt().inc();
            let answer = self.resolver.target(&self.endpoint.target, c.dns.family).await;
            let logical = c.dns.logical;
            let wait = match answer {
                // A logical host keeps its address rather than have none.
                Ok(a) if !(logical && a.addresses.is_empty()) => {
                    c.plan.stats.update_success().inc();
                    self.update(&c, &a);
                    failures = Failures::default();
                    refresh(&c.dns, &a)
                }
                Ok(_) | Err(_) => {
                    c.plan.stats.update_failure().inc();
                    failures.next(&c.dns)
                }
            };
            self.manager.initialized(&c);
            drop(c);
            clock::sleep(TimerKind::Other, wait).await;
        }
    }
    /// Takes the hosts of an answer in place of those this name gave before.
    fn update(&self, c: &Rc<ClusterEntry>, a: &Answer) {
        let wanted = wanted(&self.endpoint, a, c.dns.logical);
        // Each host that an answer names is matched to a transport socket.
        c.plan.transports.count(&wanted, &c.plan.stats);
        if !c.dns.logical {
            let weights = wanted.iter().map(|w| w.weight);
            c.members.set_max_host_weight(weights.max().unwrap_or(1).max(1));
        }
        let mut found = self.found.0.borrow_mut();
        let Some(mine) = found.get_mut(self.i) else { return };
        let new = Host::continued(mine, wanted);
        // Another order is no change.
        let same = new.len() == mine.len() && new.iter().all(|n| mine.iter().any(|m| Arc::ptr_eq(m, n)));
        *mine = new;
        if same {
            c.plan.stats.update_no_rebuild().inc();
            return;
        }
        self.manager.set_hosts(c, found.iter().flatten().cloned().collect());
    }
}

/// The hosts an answer makes: one for each address, or one with all of them.
fn wanted(e: &Endpoint, a: &Answer, logical: bool) -> Vec<Wanted> {
    let port = match &e.target {
        Target::Name(_, port) => *port,
        Target::Address(a) => a.port().unwrap_or(0),
    };
    let mut ips = a.addresses.clone();
    let mut seen = std::collections::HashSet::new();
    ips.retain(|ip| seen.insert(*ip));
    let mut addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, port).into());
    if !logical {
        return addresses.map(|a| e.host(a)).collect();
    }
    let first = addresses.next();
    first.map(|a| Wanted { others: addresses.collect(), ..e.host(a) }).into_iter().collect()
}

/// How long an answer holds.
fn refresh(o: &DnsOptions, a: &Answer) -> Duration {
    let ttl = Some(a.ttl).filter(|t| o.respect_ttl && !a.addresses.is_empty() && !t.is_zero());
    let jitter = match o.jitter.as_millis() as u64 {
        0 => 0,
        n => rng::below(n),
    };
    ttl.unwrap_or(o.refresh) + Duration::from_millis(jitter)
}

/// How often in a row a name was not resolved.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    /// How long to wait after one more (`dns_failure_refresh_rate`): at random up to a bound that doubles from the
    /// base to the maximum.
    fn next(&mut self, o: &DnsOptions) -> Duration {
        let Some((base, max)) = o.failure_refresh else { return o.refresh };
        let bound = base.saturating_mul(1 << self.0.min(30)).min(max);
        self.0 += 1;
        Duration::from_millis(rng::below((bound.as_millis() as u64).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str], ttl: u64) -> Answer {
        let addresses = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        Answer { addresses, ttl: Duration::from_secs(ttl), unknown: false }
    }
    fn endpoint() -> Endpoint {
        Endpoint {
            target: Target::Name("web.test".into(), 80),
            others: [].into(),
            hostname: "web.test".into(),
            locality: Arc::default(),
            metadata: Default::default(),
            locality_metadata: Default::default(),
            weight: 1,
            priority: 0,
            locality_weight: 0,
            status: Default::default(),
            check: None,
        }
    }
    fn texts(w: &[Wanted]) -> Vec<String> {
        let all = w.iter().flat_map(|w| w.info.address.iter().chain(&w.others[..]));
        all.map(ToString::to_string).collect()
    }

    #[test]
    fn strict_names_make_a_host_of_each_address_and_logical_ones_one_of_all() {
        let a = answer(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 1);
        let strict = wanted(&endpoint(), &a, false);
        assert_eq!((strict.len(), texts(&strict)), (2, vec!["10.0.0.2:80".into(), "10.0.0.1:80".into()]));
        let logical = wanted(&endpoint(), &a, true);
        assert_eq!((logical.len(), texts(&logical)), (1, texts(&strict)));
        assert!(wanted(&endpoint(), &answer(&[], 1), true).is_empty());
    }

    #[test]
    fn answers_hold_for_their_ttl_and_failures_back_off() {
        let mut o = DnsOptions { refresh: Duration::from_secs(5), ..DnsOptions::default() };
        let a = answer(&["10.0.0.1"], 7);
        assert_eq!(refresh(&o, &a).as_secs(), 5);
        assert_eq!(Failures::default().next(&o).as_secs(), 5);
        o.respect_ttl = true;
        assert_eq!(refresh(&o, &a).as_secs(), 7);
        assert_eq!(refresh(&o, &answer(&["10.0.0.1"], 0)).as_secs(), 5);
        assert_eq!(refresh(&o, &answer(&[], 7)).as_secs(), 5);
        o.jitter = Duration::from_secs(1);
        assert!((7000..8000).contains(&refresh(&o, &a).as_millis()));
        o.failure_refresh = Some((Duration::from_secs(1), Duration::from_secs(3)));
        let mut f = Failures::default();
        for bound in [1, 2, 3, 3] {
            assert!(f.next(&o) < Duration::from_secs(bound));
        }
    }
}

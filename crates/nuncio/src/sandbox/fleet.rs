//! The instances of the services, and what DNS says about them.
//!
//! Scaling up: the instance listens, then DNS names it. Scaling down: DNS forgets the instance, and only when every
//! proxy has had time to notice does it stop. So no request ever meets an instance that is not there.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Failure;
use super::dns::Zone;
use super::service::{Identity, Instance};
use super::topology::{HTTP, Ports, SERVICES, ServiceSpec};

/// How long an instance stays after DNS forgot it: the answers' TTL and a refresh of the proxies (a second each), and
/// one more second.
const GRACE: Duration = Duration::from_secs(3);

/// Addresses shown one by one.
const SHOWN: usize = 10;

/// All instances.
pub(super) struct Fleet {
    ports: Ports,
    zone: Zone,
    services: Vec<Scaled>,
}

/// One service with its instances.
struct Scaled {
    spec: &'static ServiceSpec,
    /// Instances that DNS names: those with an index below it.
    wanted: u8,
    running: BTreeMap<u8, Running>,
}

struct Running {
    instance: Instance,
    /// When to stop it, for one that DNS forgot.
    until: Option<Instant>,
}

impl Fleet {
    /// No instances; names in `zone` for the sidecars and, without addresses, for the services.
    pub(super) fn new(ports: Ports, zone: Zone) -> Fleet {
        for spec in &SERVICES {
            zone.set(spec.sidecar, vec![spec.sidecar_ip()]);
            zone.set(spec.name, Vec::new());
        }
        let services =
            SERVICES.iter().map(|spec| Scaled { spec, wanted: 0, running: BTreeMap::new() }).collect();
        Fleet { ports, zone, services }
    }

    /// Gives a service `count` instances (at most `MAX_INSTANCES`, as the argument parser ensures).
    ///
    /// # Errors
    /// When there is no such service, or an address cannot be bound; then nothing has changed.
    pub(super) async fn scale(&mut self, service: &str, count: u8) -> Result<(), Failure> {
        let Some(scaled) = self.services.iter_mut().find(|s| s.spec.name == service) else {
            return Err(format!("no such service: {service:?}"));
        };
        let spec = scaled.spec;
        let mut started = BTreeMap::new();
        for index in (0..count).filter(|i| !scaled.running.contains_key(i)) {
            let identity = Identity { name: spec.number.to_string(), hostname: spec.instance_name(index) };
            let address = self.ports.at(spec.instance_ip(index), HTTP);
            let instance = Instance::start(identity, address)
                .await
                .map_err(|e| format!("{} cannot listen on {address}: {e}", spec.instance_name(index)))?;
            started.insert(index, Running { instance, until: None });
        }
        scaled.running.append(&mut started);
        let until = Instant::now() + GRACE;
        for (&index, running) in &mut scaled.running {
            running.until = match index < count {
                true => None,
                false => Some(running.until.unwrap_or(until)),
            };
        }
        scaled.wanted = count;
        self.zone.set(spec.name, (0..count).map(|i| spec.instance_ip(i)).collect());
        Ok(())
    }

    /// Waits for the next instance whose grace is over; for ever when there is none.
    pub(super) async fn grace_over(&self) {
        let next = self.services.iter().flat_map(|s| s.running.values()).filter_map(|r| r.until).min();
        match next {
            Some(when) => tokio::time::sleep_until(when).await,
            None => std::future::pending().await,
        }
    }

    /// Stops the instances whose grace is over, in the background.
    pub(super) fn reap(&mut self) {
        let now = Instant::now();
        for scaled in &mut self.services {
            let over = |r: &Running| r.until.is_some_and(|until| until <= now);
            let gone: Vec<u8> = scaled.running.iter().filter(|(_, r)| over(r)).map(|(&i, _)| i).collect();
            for running in gone.iter().filter_map(|index| scaled.running.remove(index)) {
                tokio::spawn(running.instance.stop());
            }
        }
    }

    /// Stops all instances, and waits until they have.
    pub(super) async fn stop(self) {
        for running in self.services.into_iter().flat_map(|s| s.running.into_values()) {
            running.instance.stop().await;
        }
    }

    /// One line per service: its name and the addresses of its instances, all of them while they are few.
    pub(super) fn describe(&self) -> Vec<String> {
        let describe = |scaled: &Scaled| {
            let live = scaled.running.values().filter(|r| r.until.is_none());
            let addresses: Vec<String> = live.map(|r| r.instance.address().to_string()).collect();
            let shown = match &addresses[..] {
                [first, .., last] if addresses.len() > SHOWN => format!("{first} ... {last}"),
                few => few.join(" "),
            };
            let plural = if scaled.wanted == 1 { "" } else { "s" };
            format!("{:<16} {} instance{plural} {shown}", scaled.spec.name, scaled.wanted)
                .trim_end()
                .to_string()
        };
        self.services.iter().map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports that nobody else uses, by trying: tests run side by side.
    async fn fleet() -> Fleet {
        for base in (31_000..32_000).step_by(7) {
            let mut fleet = Fleet::new(Ports::new(base), Zone::default());
            if fleet.scale("service1", 2).await.is_ok() {
                return fleet;
            }
        }
        panic!("no free port");
    }

    #[tokio::test]
    async fn dns_forgets_an_instance_before_it_stops() {
        let mut fleet = fleet().await;
        let addresses = |fleet: &Fleet| fleet.zone.get("service1").expect("a name").len();
        let second = fleet.ports.at(SERVICES[0].instance_ip(1), HTTP);
        assert_eq!(addresses(&fleet), 2);

        fleet.scale("service1", 1).await.expect("scaled");
        assert_eq!(addresses(&fleet), 1);
        fleet.reap();
        tokio::net::TcpStream::connect(second).await.expect("still there");

        // Wanted again within the grace: the instance stays.
        fleet.scale("service1", 2).await.expect("scaled");
        assert_eq!(addresses(&fleet), 2);
        assert!(tokio::time::timeout(Duration::from_millis(20), fleet.grace_over()).await.is_err());

        fleet.scale("service1", 0).await.expect("scaled");
        let began = Instant::now();
        fleet.grace_over().await;
        assert!(began.elapsed() > GRACE / 2);
        fleet.reap();
        assert_eq!(fleet.describe(), ["service1         0 instances", "service2         0 instances"]);
        let gone = async {
            while tokio::net::TcpStream::connect(second).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.expect("stopped");
    }

    #[tokio::test]
    async fn scaling_that_fails_changes_nothing() {
        let mut fleet = fleet().await;
        let third = fleet.ports.at(SERVICES[0].instance_ip(2), HTTP);
        let taken = std::net::TcpListener::bind(third).expect("free");
        let error = fleet.scale("service1", 4).await.expect_err("the address is taken");
        assert!(error.starts_with(&format!("service1-3 cannot listen on {third}: ")), "{error}");
        assert_eq!(fleet.zone.get("service1").expect("a name").len(), 2);
        drop(taken);
        fleet.scale("service1", 4).await.expect("free now");
        assert_eq!(fleet.zone.get("service1").expect("a name").len(), 4);
    }
}

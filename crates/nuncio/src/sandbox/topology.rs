//! Who is in the sandbox, and under which loopback address.
//!
//! All of 127.0.0.0/8 is this machine, so each "container" gets an address of its own and keeps the ports that the
//! configuration files give it:
//!
//! | who                | address                    | ports                                  |
//! |--------------------|----------------------------|----------------------------------------|
//! | front proxy        | 127.0.0.1                  | 8080 HTTP, 8443 HTTPS, 8001 admin      |
//! | DNS server         | 127.0.0.1                  | 8053 UDP and TCP                       |
//! | service-envoy-1    | 127.0.1.10                 | 8000 HTTP, 8001 admin                  |
//! | service1           | 127.0.1.21, 127.0.1.22, …  | 8080 HTTP                              |
//! | service-envoy-2    | 127.0.2.10                 | 8000 HTTP, 8001 admin                  |
//! | service2           | 127.0.2.21, 127.0.2.22, …  | 8080 HTTP                              |
//!
//! `--base-port` moves all ports by the same amount.

use std::net::{Ipv4Addr, SocketAddr};

/// Where port 8000 of the files is, unless `--base-port` says otherwise.
pub(super) const DEFAULT_BASE_PORT: u16 = 8000;
/// The last base port with which 8443 of the files is still a port.
pub(super) const MAX_BASE_PORT: u16 = u16::MAX - (HTTPS - DEFAULT_BASE_PORT);
/// Instances that fit one service (127.0.N.21 to 127.0.N.120).
pub(super) const MAX_INSTANCES: u8 = 100;

/// Port of the sidecars in the files.
pub(super) const SIDECAR: u16 = 8000;
/// Port of every admin interface in the files.
pub(super) const ADMIN: u16 = 8001;
/// Port of the control plane of `sandbox dynamic`, in its files.
pub(super) const PLANE: u16 = 8010;
/// Port of the DNS server, before it is moved.
pub(super) const DNS: u16 = 8053;
/// Port of the front proxy and of the services in the files.
pub(super) const HTTP: u16 = 8080;
/// TLS port of the front proxy in the files.
pub(super) const HTTPS: u16 = 8443;

/// Address of the front proxy and the DNS server.
pub(super) const FRONT: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// One service of the sandbox.
#[derive(Debug)]
pub(super) struct ServiceSpec {
    /// N of `/service/N`, and the third number of its addresses.
    pub(super) number: u8,
    /// DNS name of its instances.
    pub(super) name: &'static str,
    /// DNS name of its sidecar.
    pub(super) sidecar: &'static str,
}

/// All services.
pub(super) const SERVICES: [ServiceSpec; 2] = [
    ServiceSpec { number: 1, name: "service1", sidecar: "service-envoy-1" },
    ServiceSpec { number: 2, name: "service2", sidecar: "service-envoy-2" },
];

impl ServiceSpec {
    /// Address of the sidecar.
    pub(super) fn sidecar_ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, self.number, 10)
    }
    /// Address of an instance, the first of which is 0 and the last [`MAX_INSTANCES`] - 1.
    pub(super) fn instance_ip(&self, index: u8) -> Ipv4Addr {
        debug_assert!(index < MAX_INSTANCES);
        Ipv4Addr::new(127, 0, self.number, 21 + index)
    }
    /// Name of an instance, as Docker Compose would count it.
    pub(super) fn instance_name(&self, index: u8) -> String {
        format!("{}-{}", self.name, index + 1)
    }
}

/// Moves ports of the files to where this sandbox has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// Where 8000 goes: 1 to [`MAX_BASE_PORT`].
    base: u16,
}

impl Ports {
    /// `base` must be in 1 to [`MAX_BASE_PORT`], as the argument parser ensures.
    pub(super) fn new(base: u16) -> Self {
        Ports { base }
    }
    /// Where a port of the files goes: those from 8000 to 8443 move with the base, others are not the sandbox's and stay.
    pub(super) fn moved(self, port: u16) -> u16 {
        match port {
            DEFAULT_BASE_PORT..=HTTPS => self.base + (port - DEFAULT_BASE_PORT),
            other => other,
        }
    }
    /// The moved port at an address.
    pub(super) fn at(self, ip: Ipv4Addr, port: u16) -> SocketAddr {
        SocketAddr::from((ip, self.moved(port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_move_together() {
        let ports = Ports::new(9000);
        assert_eq!(
            [SIDECAR, ADMIN, DNS, HTTP, HTTPS].map(|p| ports.moved(p)),
            [9000, 9001, 9053, 9080, 9443]
        );
        assert_eq!(ports.moved(53), 53);
        assert_eq!(Ports::new(MAX_BASE_PORT).moved(HTTPS), u16::MAX);
        assert_eq!(Ports::new(DEFAULT_BASE_PORT).at(FRONT, HTTP).to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn nobody_shares_an_address() {
        let mut all = vec![FRONT];
        for service in &SERVICES {
            all.push(service.sidecar_ip());
            all.extend((0..MAX_INSTANCES).map(|i| service.instance_ip(i)));
        }
        assert!(all.iter().all(|ip| ip.is_loopback()));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}

//! Names that a test's server resolves.

use nuncio_core::address::Address;
use nuncio_core::upstreams::{DnsCache, Lookup};
use std::net::SocketAddr;

/// A cache in which every name has its fate:
///
/// * `known.test` is 10.0.0.1, `later.test` is 10.0.0.2 once it is waited for;
/// * there is no room for `full.test`, and too many wait for `busy.test`;
/// * others cannot be resolved.
///
/// The cluster `forward` sends requests wherever they want to go, by default to port 80.
pub struct FakeNames;

impl DnsCache for FakeNames {
    fn default_port(&self, cluster: &str) -> Option<u16> {
        (cluster == "forward").then_some(80)
    }
    fn look_up(&self, host: &str, port: u16) -> Lookup {
        let address = |last: u8| Address::from(SocketAddr::from(([10, 0, 0, last], port)));
        match host.split(':').next() {
            Some("known.test") => Lookup::Known(Ok(address(1))),
            Some("later.test") => {
                let later = address(2);
                Lookup::Loading(Box::pin(async move {
                    tokio::task::yield_now().await;
                    Ok(later)
                }))
            }
            Some("full.test") => Lookup::Full,
            Some("busy.test") => Lookup::Busy,
            _ => Lookup::Known(Err("dns_resolution_failure{nobody}".into())),
        }
    }
}

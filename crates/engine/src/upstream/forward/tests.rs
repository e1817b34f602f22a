//! Names, their keys and their configuration.

use super::config::Options;
use super::names::{host_of, key_of, port_of};
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use std::time::Duration;

#[test]
fn a_key_is_a_name_with_a_port() {
    for (authority, key, host) in [
        ("a.test", "a.test:80", "a.test"),
        ("a.test:8080", "a.test:8080", "a.test"),
        ("10.0.0.1", "10.0.0.1:80", "10.0.0.1"),
        ("10.0.0.1:1", "10.0.0.1:1", "10.0.0.1"),
        ("[::1]", "[::1]:80", "::1"),
        ("[::1]:443", "[::1]:443", "::1"),
    ] {
        assert_eq!((key_of(authority, 80).as_str(), host_of(&key_of(authority, 80))), (key, host));
    }
    assert_eq!((port_of("a:b"), port_of("a:70000"), port_of("::1")), (None, None, None));
}

#[test]
fn defaults_are_envoys() {
    let o = Options::new(&DnsCacheConfig { name: "n".into(), ..Default::default() }).expect("it is complete");
    assert_eq!((o.refresh, o.min_refresh, o.host_ttl), (secs(60), secs(5), secs(300)));
    assert_eq!((o.timeout, o.max_hosts, o.max_pending), (Some(secs(5)), 1024, 1024));
    let full = DnsCacheConfig {
        name: "n".into(),
        max_hosts: Some(1),
        preresolve_hostnames: vec![Default::default(); 2],
        ..Default::default()
    };
    let e = Options::new(&full).err().map(|e| e.0).unwrap_or_default();
    assert_eq!(e, "DNS Cache [n] configured with preresolve_hostnames=2 larger than max_hosts=1");
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

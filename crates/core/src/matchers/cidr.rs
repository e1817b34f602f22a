//! Address ranges: `envoy.config.core.v3.CidrRange`.

use crate::error::{BuildError, BuildResult};
use nuncio_api::envoy::config::core::v3 as pb;
use nuncio_api::xds::core::v3 as xds;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One range; the bits behind the prefix are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct CidrRange {
    address: IpAddr,
    len: u8,
}

impl CidrRange {
    /// From configuration. A length beyond the address's bits means all of them, as in Envoy.
    pub fn new(r: &pb::CidrRange) -> BuildResult<CidrRange> {
        CidrRange::from_parts(&r.address_prefix, r.prefix_len.unwrap_or(0))
    }
    /// As [`new`](Self::new), from the message of the xDS API.
    pub fn from_xds(r: &xds::CidrRange) -> BuildResult<CidrRange> {
        CidrRange::from_parts(&r.address_prefix, r.prefix_len.unwrap_or(0))
    }
    /// From an address's text and a number of bits.
    pub fn from_parts(address: &str, len: u32) -> BuildResult<CidrRange> {
        let ip: IpAddr =
            address.parse().map_err(|_| BuildError(format!("malformed IP address: {address}")))?;
        Ok(CidrRange::of(ip, len))
    }
    /// The range of all addresses that share the first `len` bits with `ip`.
    pub fn of(ip: IpAddr, len: u32) -> CidrRange {
        match ip {
            IpAddr::V4(a) => {
                let len = len.min(32);
                let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
                CidrRange { address: Ipv4Addr::from(a.to_bits() & mask).into(), len: len as u8 }
            }
            IpAddr::V6(a) => {
                let len = len.min(128);
                let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
                CidrRange { address: Ipv6Addr::from(a.to_bits() & mask).into(), len: len as u8 }
            }
        }
    }
    /// True when `ip` lies in the range; an IPv4 range holds no IPv6 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                CidrRange::of(ip, u32::from(self.len)).address == self.address
            }
            _ => false,
        }
    }
    /// The first address of the range.
    pub fn address(&self) -> IpAddr {
        self.address
    }
    /// Number of bits of the prefix.
    pub fn prefix_len(&self) -> u8 {
        self.len
    }
}

impl fmt::Display for CidrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// Many ranges, looked up by binary search over the merged intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl CidrSet {
    /// From configuration; the error is that of Envoy's `IpList`.
    pub fn new(ranges: &[pb::CidrRange]) -> BuildResult<CidrSet> {
        CidrSet::build(ranges.iter().map(|r| (&*r.address_prefix, r.prefix_len.unwrap_or(0))))
    }
    /// As [`new`](Self::new), from messages of the xDS API.
    pub fn from_xds(ranges: &[xds::CidrRange]) -> BuildResult<CidrSet> {
        CidrSet::build(ranges.iter().map(|r| (&*r.address_prefix, r.prefix_len.unwrap_or(0))))
    }
    fn build<'a>(ranges: impl Iterator<Item = (&'a str, u32)>) -> BuildResult<CidrSet> {
        ranges
            .map(|(address, len)| {
                CidrRange::from_parts(address, len).map_err(|_| {
                    BuildError(format!(
                        "invalid ip/mask combo '{address}/{len}' (format is <ip>/<# mask bits>)"
                    ))
                })
            })
            .collect()
    }
    /// True when one of the ranges holds `ip`.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(a) => holds(&self.v4, a.to_bits()),
            IpAddr::V6(a) => holds(&self.v6, a.to_bits()),
        }
    }
    /// True without ranges.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FromIterator<CidrRange> for CidrSet {
    fn from_iter<I: IntoIterator<Item = CidrRange>>(ranges: I) -> CidrSet {
        let mut set = CidrSet::default();
        for r in ranges {
            match r.address {
                IpAddr::V4(a) => {
                    let host = u32::MAX.checked_shr(u32::from(r.len)).unwrap_or(0);
                    set.v4.push((a.to_bits(), a.to_bits() | host));
                }
                IpAddr::V6(a) => {
                    let host = u128::MAX.checked_shr(u32::from(r.len)).unwrap_or(0);
                    set.v6.push((a.to_bits(), a.to_bits() | host));
                }
            }
        }
        merge(&mut set.v4);
        merge(&mut set.v6);
        set
    }
}

/// Sorts and removes what lies inside another range (prefixes never overlap in part).
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut end: Option<T> = None;
    ranges.retain(|r| {
        let inside = end.is_some_and(|e| r.1 <= e);
        if !inside {
            end = Some(r.1);
        }
        !inside
    });
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], x: T) -> bool {
    let i = ranges.partition_point(|r| r.0 <= x);
    i > 0 && x <= ranges[i - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().expect("an address")
    }
    fn set(ranges: &[(&str, u32)]) -> CidrSet {
        CidrSet::build(ranges.iter().copied()).expect("a range")
    }

    #[test]
    fn ranges() {
        let r = CidrRange::from_parts("10.1.2.3", 8).expect("a range");
        assert_eq!(r.to_string(), "10.0.0.0/8");
        assert!(r.contains(ip("10.255.0.1")) && !r.contains(ip("11.0.0.0")) && !r.contains(ip("::a00:1")));
        assert_eq!(CidrRange::from_parts("1.2.3.4", 99).expect("a range").to_string(), "1.2.3.4/32");
        assert_eq!(CidrRange::from_parts("2001:db8::1", 32).expect("a range").to_string(), "2001:db8::/32");
        assert!(CidrRange::from_parts("::", 0).expect("a range").contains(ip("ffff::")));
        assert_eq!(CidrRange::from_parts("foo", 1), Err("malformed IP address: foo".into()));
    }

    #[test]
    fn sets_agree_with_their_ranges() {
        let list = [
            ("10.0.0.0", 8),
            ("10.1.0.0", 16),
            ("192.168.1.0", 24),
            ("0.0.0.0", 32),
            ("255.255.255.255", 32),
        ];
        let s = set(&list);
        assert_eq!(s.v4.len(), 4, "10.1/16 lies in 10/8");
        for a in [
            "10.0.0.0",
            "10.255.255.255",
            "11.0.0.0",
            "9.255.255.255",
            "192.168.1.7",
            "192.168.2.0",
            "0.0.0.0",
            "0.0.0.1",
            "255.255.255.255",
            "255.255.255.254",
        ] {
            let linear =
                list.iter().any(|(n, l)| CidrRange::from_parts(n, *l).expect("a range").contains(ip(a)));
            assert_eq!(s.contains(ip(a)), linear, "{a}");
        }
        let six = set(&[("::", 0)]);
        assert!(six.contains(ip("1::")) && !six.contains(ip("1.1.1.1")) && CidrSet::default().is_empty());
        assert!(set(&[("0.0.0.0", 0)]).contains(ip("8.8.8.8")));
    }

    #[test]
    fn error_is_envoys() {
        let bad = pb::CidrRange { address_prefix: "10.0.0".into(), prefix_len: Some(8) };
        assert_eq!(
            CidrSet::new(&[bad]),
            Err("invalid ip/mask combo '10.0.0/8' (format is <ip>/<# mask bits>)".into())
        );
    }
}

//! The header that says, in front of a connection's bytes, whose connection it is
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).

use crate::io::Io;
use crate::stats::ProxyHeaderStats;
use nuncio_api::envoy::config::core::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::stats::Scope;
use nuncio_wire::OutBuf;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2; the connection is the proxy's own.
const LOCAL: u8 = 0x20;
/// Version 2; on behalf of a client.
const PROXY: u8 = 0x21;
/// Streams over IPv4, and over IPv6.
const TCP: [u8; 2] = [0x11, 0x21];

/// How the header is written.
pub struct ProxyHeader {
    v2: bool,
    /// `added_tlvs`, as they are sent.
    tlvs: Vec<u8>,
    /// Some of them do not fit.
    too_long: bool,
    stats: ProxyHeaderStats,
}

impl ProxyHeader {
    /// Reads the configuration.
    pub fn new(c: &pb::ProxyProtocolConfig, scope: &Scope) -> ProxyHeader {
        let (mut tlvs, mut too_long) = (vec![], false);
        for t in &c.added_tlvs {
            match u16::try_from(t.value.len()) {
                Ok(n) if tlvs.len() + 3 + usize::from(n) <= usize::from(u16::MAX) => {
                    tlvs.push(t.r#type as u8);
                    tlvs.extend(n.to_be_bytes());
                    tlvs.extend_from_slice(&t.value);
                }
                _ => too_long = true,
            }
        }
        let stats = ProxyHeaderStats::new(&scope.scope("upstream").scope("proxyprotocol"));
        let v2 = c.version == pb::proxy_protocol_config::Version::V2 as i32;
        ProxyHeader { v2, tlvs, too_long, stats }
    }
    /// Sends the header; `addresses` are the client's, and ours as it knows it; without them the connection is our own.
    ///
    /// # Errors
    /// The socket's.
    pub async fn send(&self, io: &mut Io, addresses: Option<&(Address, Address)>) -> io::Result<()> {
        let ip = |a: Option<&Address>| match a {
            Some(Address::Ip(a)) => Some(SocketAddr::new(a.ip().to_canonical(), a.port())),
            _ => None,
        };
        let own = || (ip(io.local_address().as_ref()), ip(io.remote_address().as_ref()));
        let pair = match addresses {
            Some((from, to)) => ip(Some(from)).zip(ip(Some(to))),
            None if self.v2 => None,
            None => own().0.zip(own().1),
        };
        let mut out = OutBuf::new();
        if self.v2 {
            if self.too_long && pair.is_some() {
                self.stats.v2_tlvs_exceed_max_length().inc();
            }
            out.put(&self.version_2(pair));
        } else {
            out.put(version_1(pair).as_bytes());
        }
        poll_fn(|cx| io.poll_write(cx, &mut out)).await
    }
    fn version_2(&self, pair: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        let Some((from, to)) = pair.and_then(|(from, to)| alike(from, to)) else {
            out.extend([LOCAL, 0, 0, 0]);
            return out;
        };
        let mut rest = vec![];
        for a in [from.ip(), to.ip()] {
            match a {
                IpAddr::V4(a) => rest.extend(a.octets()),
                IpAddr::V6(a) => rest.extend(a.octets()),
            }
        }
        rest.extend(from.port().to_be_bytes());
        rest.extend(to.port().to_be_bytes());
        // What does not fit into the length is left out.
        if rest.len() + self.tlvs.len() <= usize::from(u16::MAX) {
            rest.extend_from_slice(&self.tlvs);
        }
        out.extend([PROXY, TCP[usize::from(from.is_ipv6())]]);
        out.extend((rest.len() as u16).to_be_bytes());
        out.extend(rest);
        out
    }
}

fn version_1(pair: Option<(SocketAddr, SocketAddr)>) -> String {
    match pair.and_then(|(from, to)| alike(from, to)) {
        None => "PROXY UNKNOWN\r\n".into(),
        Some((from, to)) => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
        }
    }
}

/// Both addresses in one family: that of IPv6 when they differ.
fn alike(from: SocketAddr, to: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    let mapped = |a: SocketAddr| match a.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), a.port()),
        IpAddr::V6(_) => a,
    };
    match from.is_ipv4() == to.is_ipv4() {
        true => Some((from, to)),
        false => Some((mapped(from), mapped(to))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::stats::Store;

    fn pair(from: &str, to: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((from.parse().expect("an address"), to.parse().expect("an address")))
    }

    fn header(added_tlvs: Vec<pb::TlvEntry>) -> ProxyHeader {
        let c = pb::ProxyProtocolConfig { version: 1, added_tlvs, ..Default::default() };
        ProxyHeader::new(&c, &Store::new().root())
    }

    #[test]
    fn version_1_is_a_line() {
        assert_eq!(version_1(pair("1.2.3.4:5", "6.7.8.9:10")), "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
        assert_eq!(version_1(pair("[::1]:5", "[::2]:6")), "PROXY TCP6 ::1 ::2 5 6\r\n");
        assert_eq!(version_1(None), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let h = header(vec![pb::TlvEntry { r#type: 0xf1, value: b"ab"[..].into(), ..Default::default() }]);
        let out = h.version_2(pair("1.2.3.4:5", "6.7.8.9:258"));
        let rest = [0x21, 0x11, 0, 17, 1, 2, 3, 4, 6, 7, 8, 9, 0, 5, 1, 2, 0xf1, 0, 2, b'a', b'b'];
        assert_eq!(out, [&SIGNATURE[..], &rest].concat());
        assert_eq!(h.version_2(None), [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat());
        let v6 = h.version_2(pair("[::1]:5", "1.2.3.4:6"));
        assert_eq!((v6[13], v6.len()), (0x21, 16 + 36 + 5));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let long = |n: usize| pb::TlvEntry { r#type: 1, value: vec![0; n], ..Default::default() };
        let h = header(vec![long(70_000), long(40_000), long(40_000)]);
        assert!(h.too_long && h.tlvs.len() == 40_003);
    }
}

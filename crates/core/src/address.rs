//! Network addresses as Envoy prints them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Address of a listener, a host or a peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// TCP or UDP.
    Ip(SocketAddr),
    /// Unix domain socket; a leading `@` means the abstract name space.
    Pipe(Arc<PathBuf>),
    /// An internal listener: its name and the endpoint id.
    Internal(Arc<str>, Arc<str>),
}

impl Address {
    /// The IP address, when it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ip(a) => Some(canonical(a.ip())),
            _ => None,
        }
    }
    /// The port, when it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Ip(a) => Some(a.port()),
            _ => None,
        }
    }
    /// The address without its port, as `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%` prints it (no brackets).
    pub fn without_port(&self) -> String {
        match self {
            Address::Ip(a) => canonical(a.ip()).to_string(),
            other => other.to_string(),
        }
    }
    /// True for 127/8 and ::1.
    pub fn is_loopback(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_loopback())
    }
}

/// The text of an IP address, made without an allocation: every request carries some.
pub struct IpText {
    text: [u8; IpText::MOST],
    len: usize,
}

impl IpText {
    /// Length of the longest: an IPv6 address with an IPv4 one at its end.
    const MOST: usize = 45;

    /// The text of `ip`.
    pub fn of(ip: IpAddr) -> IpText {
        let mut t = IpText { text: [0; IpText::MOST], len: 0 };
        match ip {
            IpAddr::V4(ip) => {
                for (i, part) in ip.octets().into_iter().enumerate() {
                    if i > 0 {
                        t.push(b'.');
                    }
                    t.decimal(part);
                }
            }
            IpAddr::V6(ip) => drop(fmt::Write::write_fmt(&mut t, format_args!("{ip}"))), // it fits
        }
        t
    }
    fn decimal(&mut self, n: u8) {
        if n >= 100 {
            self.push(b'0' + n / 100);
        }
        if n >= 10 {
            self.push(b'0' + n / 10 % 10);
        }
        self.push(b'0' + n % 10);
    }
    fn push(&mut self, c: u8) {
        self.text[self.len] = c;
        self.len += 1;
    }
}

impl fmt::Write for IpText {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.text.get_mut(self.len..self.len + s.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

impl std::ops::Deref for IpText {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

/// IPv4-mapped IPv6 addresses count as the IPv4 address they carry.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(a) => SocketAddr::new(canonical(a.ip()), a.port()).fmt(f),
            Address::Pipe(p) => p.display().fmt(f),
            Address::Internal(name, id) => write!(f, "envoy://{name}/{id}"),
        }
    }
}
impl From<SocketAddr> for Address {
    fn from(a: SocketAddr) -> Address {
        Address::Ip(a)
    }
}

/// The address of this machine as Envoy finds it: the first that is not loopback, else 127.0.0.1.
pub fn local_ip() -> IpAddr {
    // Connecting a datagram socket sends nothing; it only asks the kernel which address would be used.
    let probe = || {
        let s = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        s.connect("192.0.2.1:9").ok()?; // TEST-NET-1 (RFC 5737)
        Some(s.local_addr().ok()?.ip())
    };
    probe().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_as_envoy_does() {
        let a = Address::Ip("127.0.0.1:80".parse().expect("an address"));
        assert_eq!((a.to_string().as_str(), a.without_port().as_str()), ("127.0.0.1:80", "127.0.0.1"));
        let b = Address::Ip("[::1]:80".parse().expect("an address"));
        assert_eq!((b.to_string().as_str(), b.without_port().as_str()), ("[::1]:80", "::1"));
        assert_eq!(Address::Ip("[::ffff:1.2.3.4]:5".parse().expect("an address")).to_string(), "1.2.3.4:5");
        assert_eq!(Address::Pipe(Arc::new("/tmp/s".into())).to_string(), "/tmp/s");
    }

    #[test]
    fn text_of_an_ip_is_what_the_standard_library_prints() {
        for ip in [
            "0.0.0.0",
            "1.20.255.99",
            "100.10.109.190",
            "::",
            "::ffff:255.255.255.255",
            "2001:db8::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            assert_eq!(IpText::of(ip.parse().expect("an address")).as_ref(), ip.as_bytes(), "{ip}");
        }
    }
}

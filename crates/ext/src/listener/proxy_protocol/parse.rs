//! The header, as <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt> describes it, with Envoy's choices where that
//! leaves some.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// Longest header: of version 2.
pub const MAX: usize = FIXED + u16::MAX as usize;

const SIGNATURE_1: &[u8] = b"PROXY";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 that always comes.
const FIXED: usize = 16;
/// Longest line of version 1.
const LINE: usize = 108;

/// A version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// A line of text.
    V1 = 0,
    /// Binary.
    V2 = 1,
}

/// A header that is good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its bytes.
    pub len: usize,
    /// The client's and its destination; none when the sender speaks for itself.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    tlvs: Range<usize>,
}

/// What the first bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A whole header.
    Header(Version, Header),
    /// More bytes are needed.
    Partial,
    /// A version that may not come.
    Disallowed(Version),
    /// No header, or a wrong one.
    Malformed(Option<Version>),
}

impl Header {
    /// Type and value of what follows the addresses in `data`, which the header was read from.
    pub fn tlvs<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = data.get(self.tlvs.clone()).unwrap_or_default();
        std::iter::from_fn(move || tlv(&mut rest).flatten())
    }
}

/// Takes the first one; `Some(None)` when there is none left, `None` when it is cut off.
fn tlv<'a>(rest: &mut &'a [u8]) -> Option<Option<(u8, &'a [u8])>> {
    if rest.is_empty() {
        return Some(None);
    }
    let ([kind, high, low], after) = rest.split_first_chunk()?;
    let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    *rest = after;
    Some(Some((*kind, value)))
}

/// True when a header of an allowed version may begin like that.
pub fn may_begin(data: &[u8], allowed: [bool; 2]) -> bool {
    let like = |s: &[u8]| s.iter().zip(data).all(|(a, b)| a == b);
    (allowed[0] && like(SIGNATURE_1)) || (allowed[1] && like(SIGNATURE_2))
}

/// Reads the header.
pub fn parse(data: &[u8], allowed: [bool; 2]) -> Parsed {
    if data.len() >= FIXED {
        if data.starts_with(SIGNATURE_2) {
            return match allowed[1] {
                true => version_2(data),
                false => Parsed::Disallowed(Version::V2),
            };
        }
        if !data.starts_with(SIGNATURE_1) {
            return Parsed::Malformed(None);
        }
    }
    // A line end in front of all may still be the beginning of version 2.
    let end = data.windows(2).skip(1).position(|w| w == b"\r\n").map(|at| at + 3);
    match end {
        Some(end) if end > LINE => Parsed::Malformed(None),
        Some(_) if data.starts_with(b"\r\n") => Parsed::Partial,
        Some(_) if !allowed[0] => Parsed::Disallowed(Version::V1),
        Some(end) => match version_1(&data[..end]) {
            Some(header) => Parsed::Header(Version::V1, header),
            None => Parsed::Malformed(Some(Version::V1)),
        },
        None if data.len() > LINE => Parsed::Malformed(None),
        None => Parsed::Partial,
    }
}

fn version_1(line: &[u8]) -> Option<Header> {
    let text = std::str::from_utf8(line).ok()?.trim_ascii_end();
    let parts: Vec<&str> = text.split(' ').collect();
    let header = |addresses| Header { len: line.len(), addresses, tlvs: 0..0 };
    let ["PROXY", family, rest @ ..] = &parts[..] else { return None };
    if *family == "UNKNOWN" {
        return Some(header(None));
    }
    let [from, to, from_port, to_port] = rest else { return None };
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = match *family {
            "TCP4" => ip.parse::<Ipv4Addr>().ok()?.into(),
            "TCP6" => ip.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>().ok())??;
        unicast(SocketAddr::new(ip, port))
    };
    Some(header(Some((address(from, from_port)?, address(to, to_port)?))))
}

fn version_2(data: &[u8]) -> Parsed {
    const WRONG: Parsed = Parsed::Malformed(Some(Version::V2));
    let (command, family) = (data[12], data[13]);
    let len = FIXED + usize::from(u16::from_be_bytes([data[14], data[15]]));
    if command >> 4 != 2 {
        return WRONG;
    }
    let size = match (command & 15, family >> 4) {
        (0, _) => 0,
        (_, 1) => 12,
        (_, 2) => 36,
        _ => return WRONG,
    };
    if len < FIXED + size {
        return WRONG;
    }
    let tlvs = FIXED + size..len;
    match command & 15 {
        _ if data.len() < FIXED + size => Parsed::Partial,
        0 if data.len() < len => Parsed::Partial,
        0 => Parsed::Header(Version::V2, Header { len, addresses: None, tlvs: 0..0 }),
        1 if matches!(family & 15, 1 | 2) => {
            let Some(addresses) = addresses(&data[FIXED..FIXED + size]) else { return WRONG };
            let Some(mut rest) = data.get(tlvs.clone()) else { return Parsed::Partial };
            while !rest.is_empty() {
                if tlv(&mut rest).is_none() {
                    return WRONG;
                }
            }
            match (unicast(addresses.0), unicast(addresses.1)) {
                (Some(from), Some(to)) => {
                    Parsed::Header(Version::V2, Header { len, addresses: Some((from, to)), tlvs })
                }
                _ => WRONG,
            }
        }
        _ => WRONG,
    }
}

/// Two addresses, then two ports.
fn addresses(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (addresses, ports) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let (from, to) = addresses.split_at(addresses.len() / 2);
    let ip = |b: &[u8]| -> Option<IpAddr> {
        match b.len() {
            4 => <[u8; 4]>::try_from(b).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(b).ok().map(IpAddr::from),
        }
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((SocketAddr::new(ip(from)?, port(0)), SocketAddr::new(ip(to)?, port(2))))
}

/// An address that a connection can come from.
fn unicast(a: SocketAddr) -> Option<SocketAddr> {
    let broadcast = matches!(a.ip(), IpAddr::V4(v4) if v4.is_broadcast());
    (!a.ip().is_unspecified() && !a.ip().is_multicast() && !broadcast).then_some(a)
}

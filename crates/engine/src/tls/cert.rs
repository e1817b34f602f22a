//! What a certificate says of itself, in the words Envoy uses in logs, headers and matchers.

use nuncio_core::info::CertInfo;
use rustls::pki_types::CertificateDer;
use std::cell::RefCell;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

thread_local! {
    /// The certificates seen last on this thread: peers use few, again and again.
    static LAST: RefCell<Vec<(CertificateDer<'static>, Arc<CertInfo>)>> = const { RefCell::new(vec![]) };
}

/// How many certificates a thread remembers.
const REMEMBERED: usize = 8;

/// The facts of a certificate; remembers those of the last few.
pub fn facts(der: &CertificateDer<'_>) -> Arc<CertInfo> {
    LAST.with_borrow_mut(|last| {
        if let Some(i) = last.iter().position(|(d, _)| d == der) {
            last[..=i].rotate_right(1);
            return last[0].1.clone();
        }
        let new = Arc::new(read(der));
        last.truncate(REMEMBERED - 1);
        last.insert(0, (der.clone().into_owned(), new.clone()));
        new
    })
}

/// Parses a certificate.
pub fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().map(|(_, c)| c)
}

fn read(der: &[u8]) -> CertInfo {
    let mut info = CertInfo {
        fingerprint_256: hex(&sha256(der)),
        fingerprint_1: {
            use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
            hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref())
        },
        pem_urlencoded: pem_urlencoded(der),
        ..CertInfo::default()
    };
    let Some(c) = parse(der) else { return info };
    info.subject = name(c.subject());
    info.issuer = name(c.issuer());
    info.serial = hex(c.raw_serial().iter().position(|b| *b != 0).map_or(&[], |i| &c.raw_serial()[i..]));
    for n in sans(&c) {
        match n {
            San::Dns(s) => info.dns_sans.push(s.to_owned()),
            San::Uri(s) => info.uri_sans.push(s.to_owned()),
            San::Email(s) => info.email_sans.push(s.to_owned()),
            San::Ip(ip) => info.ip_sans.push(ip.to_string()),
        }
    }
    info.not_before = Some(time(c.validity().not_before.timestamp()));
    info.not_after = Some(time(c.validity().not_after.timestamp()));
    info
}

/// A point in time from seconds since 1970; times before are 1970.
pub fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.max(0).unsigned_abs())
}

/// A name in `subjectAltName`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum San<'a> {
    /// `dNSName`
    Dns(&'a str),
    /// `uniformResourceIdentifier`
    Uri(&'a str),
    /// `rfc822Name`
    Email(&'a str),
    /// `iPAddress`
    Ip(IpAddr),
}

/// The names of a certificate in their order.
pub fn sans<'a>(c: &X509Certificate<'a>) -> Vec<San<'a>> {
    use x509_parser::extensions::ParsedExtension;
    let extension = c.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(n) => Some(n),
        _ => None,
    });
    let all = extension.into_iter().flat_map(|n| &n.general_names);
    let one = |n: &GeneralName<'a>| match n {
        GeneralName::DNSName(s) => Some(San::Dns(s)),
        GeneralName::URI(s) => Some(San::Uri(s)),
        GeneralName::RFC822Name(s) => Some(San::Email(s)),
        GeneralName::IPAddress(b) => {
            let four = <[u8; 4]>::try_from(*b).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*b).map(IpAddr::from)).ok().map(San::Ip)
        }
        _ => None,
    };
    all.filter_map(one).collect()
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref()); // SHA-256 has 32 bytes
    out
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}"); // a String takes everything
        s
    })
}

/// PEM with what is no unreserved character as `%XX`.
pub fn pem_urlencoded(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = Vec::with_capacity(der.len() / 3 * 4 + 4);
    for three in der.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|i| u32::from(three.get(i).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for i in 0..4 {
            base64.push(match i <= three.len() {
                true => DIGITS[(bits >> (18 - 6 * i) & 63) as usize],
                false => b'=',
            });
        }
    }
    let mut out = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for line in base64.chunks(64) {
        for b in line {
            match b {
                b'+' => out.push_str("%2B"),
                b'/' => out.push_str("%2F"),
                b'=' => out.push_str("%3D"),
                b => out.push(char::from(*b)),
            }
        }
        out.push_str("%0A");
    }
    out.push_str("-----END%20CERTIFICATE-----%0A");
    out
}

/// A distinguished name as RFC 2253 writes it: last part first.
pub fn name(n: &X509Name<'_>) -> String {
    let parts: Vec<String> =
        n.iter().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(a: &AttributeTypeAndValue<'_>) -> String {
    let oid = a.attr_type().to_id_string();
    let key = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.13" => "description",
        "2.5.4.17" => "postalCode",
        "2.5.4.41" => "name",
        "2.5.4.42" => "GN",
        "2.5.4.43" => "initials",
        "2.5.4.46" => "dnQualifier",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        _ => &oid,
    };
    match a.as_str() {
        Ok(v) => format!("{key}={}", escaped(v)),
        Err(_) => format!("{key}=#{}", hex(a.as_slice())),
    }
}

/// RFC 2253 section 2.4, and `\XX` for control and non-ASCII bytes.
fn escaped(v: &str) -> String {
    let mut out = String::with_capacity(v.len());
    for (i, b) in v.bytes().enumerate() {
        let at_end = i == 0 || i + 1 == v.len();
        match b {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(b)]),
            b'#' if i == 0 => out.push_str("\\#"),
            b' ' if at_end => out.push_str("\\ "),
            0x20..=0x7e => out.push(char::from(b)),
            b => {
                let _ = write!(out, "\\{b:02X}"); // a String takes everything
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_as_in_rfc_2253() {
        assert_eq!(escaped("Sue, Grabbit and Runn"), "Sue\\, Grabbit and Runn");
        assert_eq!(escaped("#1 "), "\\#1\\ ");
        assert_eq!(escaped("Lu\u{10d}i\u{107}"), "Lu\\C4\\8Di\\C4\\87");
    }

    #[test]
    fn pem_is_url_encoded() {
        assert_eq!(
            pem_urlencoded(&[0xfb, 0xff, 0xfe, 0x00]),
            "-----BEGIN%20CERTIFICATE-----%0A%2B%2F%2F%2BAA%3D%3D%0A-----END%20CERTIFICATE-----%0A"
        );
    }
}

//! Where a request comes from, as its headers say: `original_ip_detection_extensions`, `scheme_header_transformation` and
//! `append_x_forwarded_port`.

use super::request::nth_last_xff;
use crate::proto;
use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::envoy::config::core::v3::scheme_header_transformation::Transformation;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, RequestIdExtension,
};
use nuncio_api::envoy::extensions::http::original_ip_detection::custom_header::v3::CustomHeaderConfig;
use nuncio_api::envoy::extensions::http::original_ip_detection::xff::v3::XffConfig;
use nuncio_api::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use nuncio_api::extensions::unregistered;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::info::ConnInfo;
use nuncio_core::matchers::CidrSet;
use nuncio_wire::{HeaderMap, HeaderName, name};
use prost::Name;
use std::net::{IpAddr, SocketAddr};

/// What is read of the messages about it.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.SchemeHeaderTransformation",
        &["scheme_to_overwrite", "match_upstream"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ForwardProtoConfig",
        &["https_destination_ports", "http_destination_ports"],
    ),
    Covered::new(
        "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig",
        &["xff_num_trusted_hops", "xff_trusted_cidrs", "skip_xff_append"],
    ),
    Covered::new("envoy.extensions.http.original_ip_detection.xff.v3.XffTrustedCidrs", &["cidrs"]),
    Covered::new(
        "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
        &["header_name", "allow_extension_to_set_address_as_trusted", "reject_with_status"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension",
        &["typed_config"],
    ),
    Covered::new(
        "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        &["pack_trace_reason", "use_request_id_for_trace_sampling"],
    ),
];

/// The longest `x-forwarded-for` that is gone through.
const MOST_ADDRESSES: usize = 20;

/// What is not as it is by default.
#[derive(Default)]
pub struct Origin {
    detections: Vec<Detection>,
    /// `scheme_to_overwrite`
    pub scheme: Option<&'static str>,
    /// `scheme_header_transformation.match_upstream`
    pub scheme_of_upstream: bool,
    /// `add_proxy_protocol_connection_state: false`
    pub hides_addresses: bool,
    /// `append_x_forwarded_port`
    pub append_port: bool,
    /// `forward_proto_config`: ports with TLS, and without.
    ports: [Box<[u32]>; 2],
}

enum Detection {
    Hops { hops: usize, append: bool },
    Trusted { proxies: CidrSet, append: bool },
    Header { name: HeaderName, trusted: bool, reject: Option<u16> },
}

/// What a request says of its origin.
#[derive(Debug, PartialEq, Eq)]
pub enum Detected {
    /// Its address, and whether it may be taken for an internal one.
    Address(IpAddr, bool),
    /// Nothing.
    Unknown,
    /// So little that it is refused with this status.
    Rejected(u16),
}

impl Origin {
    /// From configuration; none if all is as by default.
    ///
    /// # Errors
    /// Extensions are mixed with what they replace, or one is refused.
    pub fn new(c: &HttpConnectionManager) -> BuildResult<Option<Origin>> {
        if !c.original_ip_detection_extensions.is_empty() {
            if c.use_remote_address == Some(true) {
                return Err("Original IP detection extensions and use_remote_address may not be mixed".into());
            }
            if c.xff_num_trusted_hops > 0 {
                return Err(
                    "Original IP detection extensions and xff_num_trusted_hops may not be mixed".into()
                );
            }
        }
        let scheme = c.scheme_header_transformation.as_ref().and_then(|s| s.transformation.as_ref());
        let o = Origin {
            detections: c
                .original_ip_detection_extensions
                .iter()
                .map(Detection::new)
                .collect::<BuildResult<_>>()?,
            scheme: scheme.map(|Transformation::SchemeToOverwrite(s)| match &**s {
                "https" => "https",
                _ => "http",
            }),
            scheme_of_upstream: c.scheme_header_transformation.as_ref().is_some_and(|s| s.match_upstream),
            hides_addresses: c.add_proxy_protocol_connection_state == Some(false),
            append_port: c.append_x_forwarded_port,
            ports: c.forward_proto_config.as_ref().map_or_else(Default::default, |p| {
                [&p.https_destination_ports, &p.http_destination_ports].map(|p| p.clone().into())
            }),
        };
        let default = o.detections.is_empty()
            && o.scheme.is_none()
            && !o.scheme_of_upstream
            && !o.hides_addresses
            && !o.append_port
            && o.ports.iter().all(|p| p.is_empty());
        Ok((!default).then_some(o))
    }
    /// The protocol that the client spoke, as the port says that somebody in front of us was connected to (PROXY).
    pub fn protocol(&self, conn: &ConnInfo) -> Option<&'static str> {
        if self.ports.iter().all(|p| p.is_empty()) {
            return None;
        }
        let local = conn.local.borrow();
        let port = local.port().filter(|_| *local != conn.direct_local)?;
        let at = self.ports.iter().position(|p| p.contains(&port.into()))?;
        Some(["https", "http"][at])
    }
    /// True when extensions say where a request comes from.
    pub fn detects(&self) -> bool {
        !self.detections.is_empty()
    }
    /// Asks the extensions in turn; `append` adds the peer's address to `x-forwarded-for`.
    pub fn detect(
        &self,
        h: &mut HeaderMap,
        peer: Option<IpAddr>,
        append: impl Fn(&mut HeaderMap),
    ) -> Detected {
        for d in &self.detections {
            let (found, appends) = d.detect(h, peer);
            if matches!(found, Detected::Rejected(_)) {
                return found;
            }
            if appends {
                append(h);
            }
            if found != Detected::Unknown {
                return found;
            }
        }
        Detected::Unknown
    }
}

/// Whether ids say that a request is traced, and whether they decide it; UUIDs are the one kind of id there is.
///
/// # Errors
/// The extension is another.
pub fn trace_reasons(e: Option<&RequestIdExtension>) -> BuildResult<(bool, bool)> {
    let Some(any) = e.and_then(|e| e.typed_config.as_ref()) else { return Ok((true, true)) };
    let kind = any.type_url.rsplit('/').next().unwrap_or_default();
    if kind != UuidRequestIdConfig::full_name() {
        return Err(format!("Didn't find a registered implementation for type: '{kind}'").into());
    }
    let c: UuidRequestIdConfig = proto::unpack(any)?;
    Ok((c.pack_trace_reason.unwrap_or(true), c.use_request_id_for_trace_sampling.unwrap_or(true)))
}

impl Detection {
    fn new(c: &TypedExtensionConfig) -> BuildResult<Detection> {
        let any = c.typed_config.clone().unwrap_or_default();
        let kind = any.type_url.rsplit('/').next().unwrap_or_default();
        if kind == XffConfig::full_name() {
            let c: XffConfig = proto::unpack(&any)?;
            let append = !c.skip_xff_append.unwrap_or(true);
            return match &c.xff_trusted_cidrs {
                Some(_) if c.xff_num_trusted_hops > 0 => {
                    Err("Cannot set both xff_num_trusted_hops and xff_trusted_cidrs".into())
                }
                Some(t) => Ok(Detection::Trusted { proxies: CidrSet::new(&t.cidrs)?, append }),
                None => Ok(Detection::Hops { hops: c.xff_num_trusted_hops as usize, append }),
            };
        }
        if kind == CustomHeaderConfig::full_name() {
            let c: CustomHeaderConfig = proto::unpack(&any)?;
            return Ok(Detection::Header {
                name: HeaderName::new(&c.header_name),
                trusted: c.allow_extension_to_set_address_as_trusted,
                // A status that is no error is none to refuse with.
                reject: c
                    .reject_with_status
                    .map(|s| u16::try_from(s.code).ok().filter(|c| (400..=511).contains(c)).unwrap_or(403)),
            });
        }
        Err(unregistered(&c.name, kind).into())
    }
    /// What this extension finds, and whether the peer's address is added.
    fn detect(&self, h: &HeaderMap, peer: Option<IpAddr>) -> (Detected, bool) {
        match self {
            Detection::Hops { hops, append } => {
                let found = nth_last_xff(h, *hops).map(|(ip, only)| (ip, only && *hops == 0));
                (found.map_or(Detected::Unknown, |(ip, t)| Detected::Address(ip, t)), *append)
            }
            Detection::Trusted { proxies, append } => match peer {
                Some(ip) if proxies.contains(ip) => (last_not_of(h, proxies), *append),
                _ => (Detected::Unknown, true),
            },
            Detection::Header { name, trusted, reject } => {
                let ip = h.get_str(name).and_then(address);
                let none = reject.map_or(Detected::Unknown, Detected::Rejected);
                (ip.map_or(none, |ip| Detected::Address(ip, *trusted)), false)
            }
        }
    }
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
}

/// The last address of `x-forwarded-for` that is none of our proxies; the first if all are.
fn last_not_of(h: &HeaderMap, proxies: &CidrSet) -> Detected {
    let Some(all) = h.joined(name::X_FORWARDED_FOR) else { return Detected::Unknown };
    let count = all.split(|b| *b == b',').count();
    if count > MOST_ADDRESSES {
        return Detected::Unknown;
    }
    let mut last = None;
    for part in all.rsplit(|b| *b == b',') {
        let Some(ip) = std::str::from_utf8(part.trim_ascii()).ok().and_then(address) else {
            return Detected::Unknown;
        };
        last = Some(ip);
        if !proxies.contains(ip) {
            break;
        }
    }
    last.map_or(Detected::Unknown, |ip| Detected::Address(ip, count == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(d: Detection, headers: &[(&str, &str)], peer: &str) -> (Detected, bool) {
        let h: HeaderMap = headers.iter().copied().collect();
        d.detect(&h, peer.parse().ok())
    }
    fn is(ip: &str, trusted: bool) -> Detected {
        Detected::Address(ip.parse().expect("an address"), trusted)
    }

    #[test]
    fn detections() {
        let xff = |v| [("x-forwarded-for", v)];
        let hops = |hops| Detection::Hops { hops, append: false };
        assert_eq!(detect(hops(0), &xff("192.0.2.1"), "10.0.0.1"), (is("192.0.2.1", true), false));
        assert_eq!(detect(hops(1), &xff("192.0.2.1,192.0.2.2"), "10.0.0.1"), (is("192.0.2.1", false), false));
        assert_eq!(detect(hops(2), &xff("192.0.2.1"), "10.0.0.1"), (Detected::Unknown, false));

        let proxies = || {
            let ten = nuncio_api::envoy::config::core::v3::CidrRange {
                address_prefix: "10.0.0.0".into(),
                prefix_len: Some(8),
            };
            Detection::Trusted { proxies: CidrSet::new(&[ten]).expect("a range"), append: false }
        };
        let list = xff("192.0.2.1, 192.0.2.2,10.0.0.9");
        assert_eq!(detect(proxies(), &list, "10.0.0.1"), (is("192.0.2.2", false), false));
        assert_eq!(detect(proxies(), &list, "192.0.2.9"), (Detected::Unknown, true));
        assert_eq!(detect(proxies(), &xff("10.0.0.8,10.0.0.9"), "10.0.0.1"), (is("10.0.0.8", false), false));
        assert_eq!(detect(proxies(), &xff("x,10.0.0.9"), "10.0.0.1"), (Detected::Unknown, false));
        let long = ["10.0.0.9"; MOST_ADDRESSES + 1].join(",");
        assert_eq!(detect(proxies(), &xff(&long), "10.0.0.1"), (Detected::Unknown, false));

        let header = |reject| Detection::Header { name: HeaderName::new("x-ip"), trusted: true, reject };
        assert_eq!(
            detect(header(None), &[("x-ip", "192.0.2.1")], "10.0.0.1"),
            (is("192.0.2.1", true), false)
        );
        assert_eq!(detect(header(None), &[("x-ip", "nonsense")], "10.0.0.1"), (Detected::Unknown, false));
        assert_eq!(detect(header(Some(401)), &[], "10.0.0.1"), (Detected::Rejected(401), false));
    }
}

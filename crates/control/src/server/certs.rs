//! What `/certs` shows of the certificates that TLS contexts name.

use crate::admin::view::{CertView, CertsView};
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::envoy::config::core::v3::transport_socket::ConfigType;
use nuncio_api::envoy::config::core::v3::{DataSource, TransportSocket};
use nuncio_api::envoy::config::listener::v3::Listener;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_engine::tls::secrets::{Find, Material};
use prost::{Message, Name};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

/// The certificates of a cluster's TLS context; none without TLS.
pub fn of_cluster(c: &Cluster, find: Find<'_>) -> Option<CertsView> {
    let context: tls::UpstreamTlsContext = context(c.transport_socket.as_ref()?)?;
    view(context.common_tls_context.as_ref()?, find)
}

/// The certificates of a listener's TLS contexts, one for each filter chain with TLS.
pub fn of_listener(l: &Listener, find: Find<'_>) -> Vec<CertsView> {
    let chains = l.filter_chains.iter().chain(l.default_filter_chain.as_deref());
    let sockets = chains.filter_map(|c| c.transport_socket.as_ref());
    let contexts = sockets.filter_map(context::<tls::DownstreamTlsContext>);
    contexts.filter_map(|c| view(c.common_tls_context.as_ref()?, find)).collect()
}

/// The socket's configuration, when it is of this type.
fn context<M: Message + Name + Default>(s: &TransportSocket) -> Option<M> {
    let ConfigType::TypedConfig(any) = s.config_type.as_ref()?;
    let of_type = any.type_url.rsplit('/').next() == Some(&M::full_name());
    of_type.then(|| M::decode(&*any.value).ok()).flatten()
}

fn view(c: &tls::CommonTlsContext, find: Find<'_>) -> Option<CertsView> {
    let m = Material::new(c, find).ok()?; // it was resolved before
    let ca = m.validation.as_ref().and_then(|(_, v)| v.trusted_ca.as_ref());
    let leaves = m.certificates.iter().filter_map(|(_, t)| first_certificate(t.certificate_chain.as_ref()?));
    Some(CertsView {
        ca_cert: ca.and_then(first_certificate).into_iter().collect(),
        cert_chain: leaves.collect(),
    })
}

/// The first certificate of a data source: the leaf of a chain. What the TLS library could not read is not in use.
fn first_certificate(d: &DataSource) -> Option<CertView> {
    let (pem, path) = nuncio_engine::tls::material::read(d).ok()?;
    let pem = Pem::iter_from_buffer(&pem).flatten().find(|p| p.label == "CERTIFICATE")?;
    Some(details(&pem.parse_x509().ok()?, path))
}

fn details(c: &X509Certificate<'_>, path: String) -> CertView {
    let names = c.subject_alternative_name().ok().flatten();
    let of = |wanted: &'static str| {
        let all = names.iter().flat_map(|n| &n.value.general_names);
        all.filter_map(move |n| match n {
            GeneralName::DNSName(s) => Some(("dns", (*s).to_owned())),
            GeneralName::URI(s) => Some(("uri", (*s).to_owned())),
            GeneralName::IPAddress(b) => Some(("ip_address", address(b)?)),
            _ => None,
        })
        .filter(move |(kind, _)| *kind == wanted)
    };
    let at = |t: i64| -> SystemTime { UNIX_EPOCH + Duration::from_secs(t.max(0).unsigned_abs()) };
    CertView {
        path,
        serial_number: c.raw_serial().iter().skip_while(|b| **b == 0).map(|b| format!("{b:02x}")).collect(),
        subject_alt_names: of("dns").chain(of("uri")).chain(of("ip_address")).collect(),
        valid_from: at(c.validity().not_before.timestamp()),
        expiration_time: at(c.validity().not_after.timestamp()),
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let ip = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    ip.ok().map(|ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_api::load::{Format, UnknownFields, parse_message};

    /// A self-signed P-256 certificate with one name of each kind, valid for ten years from 2025-01-01.
    const PEM: &str = include_str!("testdata/cert.pem");

    #[test]
    fn certificates_of_a_listener_and_a_cluster() {
        let inline: String = PEM.lines().map(|l| format!("            {l}\n")).collect();
        let yaml = format!(
            "name: l\naddress: {{pipe: {{path: /p}}}}\nfilter_chains:\n- transport_socket:\n    name: t\n    typed_config:\n      \
             '@type': type.googleapis.com/{}\n      common_tls_context:\n        tls_certificates:\n        - certificate_chain:\n           \
             inline_string: |\n{inline}",
            tls::DownstreamTlsContext::full_name()
        );
        let l = parse_message::<Listener>(yaml.as_bytes(), Format::Yaml, "x", UnknownFields::Refuse)
            .expect("a valid message")
            .message;
        let views = of_listener(&l, &|_| None);
        let [CertsView { ca_cert, cert_chain }] = views.as_slice() else { panic!("{views:?}") };
        assert!(ca_cert.is_empty());
        let c = &cert_chain[0];
        assert_eq!(c.path, "<inline>");
        let names = [
            ("dns", "lab.local"),
            ("uri", "spiffe://lab/x"),
            ("ip_address", "192.0.2.7"),
            ("ip_address", "2001:db8::1"),
        ];
        assert!(
            c.subject_alt_names.iter().map(|(k, v)| (*k, v.as_str())).eq(names),
            "{:?}",
            c.subject_alt_names
        );
        assert_eq!(c.serial_number, "1f2e");
        assert_eq!(crate::time::rfc3339_seconds(c.valid_from), "2025-01-01T00:00:00Z");
        assert_eq!(crate::time::rfc3339_seconds(c.expiration_time), "2035-01-01T00:00:00Z");

        let plain = parse_message::<Cluster>(b"name: c", Format::Yaml, "x", UnknownFields::Refuse)
            .expect("a valid message")
            .message;
        assert!(of_cluster(&plain, &|_| None).is_none());
    }
}

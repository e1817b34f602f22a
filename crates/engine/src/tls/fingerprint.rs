//! What a TLS context says beyond its own message: files and secrets, which may have changed when the message has not.

use super::cert;
use super::material;
use super::secrets::{self, Find, Material};
use crate::proto;
use nuncio_api::envoy::config::core::v3::{DataSource, TransportSocket, transport_socket::ConfigType};
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use prost::Message;

/// A number that changes when certificates, keys, authorities or revocation lists do; 0 without TLS, and for what cannot
/// be read (building it says why).
pub fn fingerprint(t: Option<&TransportSocket>, find: Find<'_>) -> u64 {
    // What is fetched looks after itself.
    let fixed = t.and_then(common).filter(|c| secrets::fetched(c).is_empty());
    fixed.and_then(|c| of(&c, find)).unwrap_or(0)
}

fn common(t: &TransportSocket) -> Option<Box<pb::CommonTlsContext>> {
    let ConfigType::TypedConfig(any) = t.config_type.as_ref()?;
    match any.type_url.rsplit('/').next()? {
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" => {
            proto::unpack::<pb::DownstreamTlsContext>(any).ok()?.common_tls_context
        }
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" => {
            proto::unpack::<pb::UpstreamTlsContext>(any).ok()?.common_tls_context
        }
        _ => None,
    }
}

/// The same of one context.
pub(super) fn of(c: &pb::CommonTlsContext, find: Find<'_>) -> Option<u64> {
    let m = Material::new(c, find).ok()?;
    let mut all = Vec::new();
    let mut add = |d: &Option<DataSource>| {
        if let Some((bytes, _)) = d.as_ref().and_then(|d| material::read(d).ok()) {
            all.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            all.extend_from_slice(&bytes);
        }
    };
    for (_, c) in &m.certificates {
        add(&c.certificate_chain);
        add(&c.private_key);
    }
    if let Some((_, v)) = &m.validation {
        add(&v.trusted_ca);
        add(&v.crl);
        // A secret may say more than certificates.
        all.extend_from_slice(&v.encode_to_vec());
    }
    Some(u64::from_le_bytes(cert::sha256(&all).first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_api::envoy::config::core::v3::data_source::Specifier;
    use prost::Name;

    #[test]
    fn files_and_secrets_count() {
        let path = std::env::temp_dir().join(format!("nuncio-fingerprint-{}", std::process::id()));
        let file = |f: &std::path::Path| {
            let specifier = Some(Specifier::Filename(f.display().to_string()));
            Some(DataSource { specifier, ..Default::default() })
        };
        let socket = |c: pb::CommonTlsContext| {
            let c = pb::UpstreamTlsContext { common_tls_context: Some(Box::new(c)), ..Default::default() };
            let any =
                prost_types::Any { type_url: pb::UpstreamTlsContext::type_url(), value: c.encode_to_vec() };
            TransportSocket { config_type: Some(ConfigType::TypedConfig(any)), ..Default::default() }
        };
        let own = pb::TlsCertificate { certificate_chain: file(&path), ..Default::default() };
        let by_file = socket(pb::CommonTlsContext { tls_certificates: vec![own], ..Default::default() });
        let none = |_: &str| None;
        std::fs::write(&path, "one").expect("the file can be used");
        let one = fingerprint(Some(&by_file), &none);
        assert_eq!(fingerprint(Some(&by_file), &none), one);
        std::fs::write(&path, "two").expect("the file can be used");
        assert_ne!(fingerprint(Some(&by_file), &none), one);
        std::fs::remove_file(&path).expect("the file can be used");

        let named = pb::SdsSecretConfig { name: "s".into(), ..Default::default() };
        let by_name = socket(pb::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![named],
            ..Default::default()
        });
        let secret = |text: &'static str| {
            move |_: &str| {
                let specifier = Some(Specifier::InlineString(text.into()));
                let chain = Some(DataSource { specifier, ..Default::default() });
                let c = pb::TlsCertificate { certificate_chain: chain, ..Default::default() };
                let r#type = Some(pb::secret::Type::TlsCertificate(Box::new(c)));
                Some(std::sync::Arc::new(pb::Secret { name: "s".into(), r#type }))
            }
        };
        let a = fingerprint(Some(&by_name), &secret("a"));
        assert_ne!(a, fingerprint(Some(&by_name), &secret("b")));
        assert_eq!((fingerprint(Some(&by_name), &none), fingerprint(None, &none)), (0, 0));
    }
}

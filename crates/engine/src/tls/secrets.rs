//! Which certificates and which validation context a TLS context means: its own, or secrets that it names
//! (`tls_certificate_sds_secret_configs` and the like), of `static_resources.secrets` or fetched ([`super::sds`]).

use super::cert;
use super::sds::SecretProviders;
use nuncio_api::envoy::config::core::v3::{DataSource, data_source::Specifier};
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use pb::common_tls_context::ValidationContextType as V;
use pb::secret::Type;
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;

/// Certificates and a validation context with the names they have in stats.
#[derive(Debug, Default)]
pub struct Material {
    /// Certificates.
    pub certificates: Vec<(String, pb::TlsCertificate)>,
    /// What the peer's certificate is held against.
    pub validation: Option<(String, pb::CertificateValidationContext)>,
}

/// Finds a static secret by its name.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<Arc<pb::Secret>>;

impl Material {
    /// Resolves a context.
    ///
    /// # Errors
    /// A secret is missing or of another kind, in Envoy's words.
    pub fn new(c: &pb::CommonTlsContext, find: Find<'_>) -> BuildResult<Material> {
        let mut m = Material::default();
        for t in &c.tls_certificates {
            m.certificates.push((format!("unnamed_cert_{}", id(t.certificate_chain.as_ref())), t.clone()));
        }
        for s in c.tls_certificate_sds_secret_configs.iter().filter(|_| c.tls_certificates.is_empty()) {
            match secret(s, find).as_deref() {
                Some(pb::Secret { r#type: Some(Type::TlsCertificate(t)), .. }) => {
                    m.certificates.push((s.name.clone(), (**t).clone()));
                }
                _ => return Err(BuildError(format!("Unknown static secret: {}", s.name))),
            }
        }
        m.validation = match &c.validation_context_type {
            None => None,
            Some(V::ValidationContext(v)) => {
                let name = match &v.trusted_ca {
                    None => "unnamed_ca_cert".to_owned(),
                    ca => format!("unnamed_ca_cert_{}", id(ca.as_ref())),
                };
                Some((name, (**v).clone()))
            }
            Some(V::ValidationContextSdsSecretConfig(s)) => Some((s.name.clone(), validation(s, find)?)),
            Some(V::CombinedValidationContext(both)) => {
                let mut merged = both.default_validation_context.as_deref().cloned().unwrap_or_default();
                let Some(s) = &both.validation_context_sds_secret_config else {
                    return Err(
                        "combined_validation_context without validation_context_sds_secret_config".into()
                    );
                };
                let fetched = validation(s, find)?.encode_to_vec();
                merged.merge(&fetched[..]).map_err(|e| BuildError(e.to_string()))?;
                Some((s.name.clone(), merged))
            }
            Some(_) => {
                return Err(BuildError::not_implemented(
                    "CommonTlsContext.validation_context_certificate_provider",
                ));
            }
        };
        Ok(m)
    }
}

/// A secret, fetched or static; nothing when it is not there.
pub fn secret(s: &pb::SdsSecretConfig, find: Find<'_>) -> Option<Arc<pb::Secret>> {
    match s.sds_config {
        Some(_) => SecretProviders::here().find(s),
        None => find(&s.name),
    }
}

/// The secrets that a context names.
fn named(c: &pb::CommonTlsContext) -> impl Iterator<Item = &pb::SdsSecretConfig> {
    // Its own certificates go before those it names.
    let certificates = c.tls_certificate_sds_secret_configs.iter().filter(|_| c.tls_certificates.is_empty());
    let validation = match &c.validation_context_type {
        Some(V::ValidationContextSdsSecretConfig(s)) => Some(s),
        Some(V::CombinedValidationContext(both)) => both.validation_context_sds_secret_config.as_ref(),
        _ => None,
    };
    certificates.chain(validation)
}

/// The secrets that are to be fetched.
pub fn fetched(c: &pb::CommonTlsContext) -> Vec<pb::SdsSecretConfig> {
    named(c).filter(|s| s.sds_config.is_some()).cloned().collect()
}

/// The static secrets, to be found later.
pub fn fixed(c: &pb::CommonTlsContext, find: Find<'_>) -> HashMap<String, Arc<pb::Secret>> {
    let fixed = named(c).filter(|s| s.sds_config.is_none());
    fixed.filter_map(|s| Some((s.name.clone(), find(&s.name)?))).collect()
}

fn validation(s: &pb::SdsSecretConfig, find: Find<'_>) -> BuildResult<pb::CertificateValidationContext> {
    match secret(s, find).as_deref() {
        Some(pb::Secret { r#type: Some(Type::ValidationContext(v)), .. }) => Ok((**v).clone()),
        _ => Err(BuildError(format!("Unknown static certificate validation context: {}", s.name))),
    }
}

/// What tells apart certificates without a name: a hash of `inline_bytes`, and of nothing where there are none.
fn id(d: Option<&DataSource>) -> String {
    let bytes = match d.and_then(|d| d.specifier.as_ref()) {
        Some(Specifier::InlineBytes(b)) => &b[..],
        _ => b"",
    };
    cert::hex(&cert::sha256(bytes)[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> pb::SdsSecretConfig {
        pb::SdsSecretConfig { name: name.into(), ..Default::default() }
    }

    #[test]
    fn secrets_are_found_by_name_and_kind() {
        let find = |name: &str| {
            let context =
                pb::CertificateValidationContext { allow_expired_certificate: true, ..Default::default() };
            let r#type = match name {
                "cert" => Type::TlsCertificate(Box::default()),
                "ca" => Type::ValidationContext(Box::new(context)),
                _ => return None,
            };
            Some(Arc::new(pb::Secret { name: name.into(), r#type: Some(r#type) }))
        };
        let context = |cert: &str, ca: &str| pb::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![named(cert)],
            validation_context_type: Some(V::CombinedValidationContext(Box::new(
                pb::common_tls_context::CombinedCertificateValidationContext {
                    default_validation_context: Some(Box::new(pb::CertificateValidationContext {
                        only_verify_leaf_cert_crl: true,
                        ..Default::default()
                    })),
                    validation_context_sds_secret_config: Some(named(ca)),
                    ..Default::default()
                },
            ))),
            ..Default::default()
        };
        let m = Material::new(&context("cert", "ca"), &find).expect("both are there");
        assert_eq!(m.certificates[0].0, "cert");
        let (name, v) = m.validation.expect("it is there");
        assert!(name == "ca" && v.allow_expired_certificate && v.only_verify_leaf_cert_crl);
        let e = Material::new(&context("ca", "ca"), &find).expect_err("of another kind");
        assert_eq!(e.0, "Unknown static secret: ca");
        let e = Material::new(&context("cert", "x"), &find).expect_err("it is not there");
        assert_eq!(e.0, "Unknown static certificate validation context: x");
    }

    #[test]
    fn certificates_without_name_are_told_apart_by_inline_bytes() {
        assert_eq!(id(None), "e3b0c442");
        let bytes = |b: &'static [u8]| DataSource {
            specifier: Some(Specifier::InlineBytes(b.into())),
            ..Default::default()
        };
        assert_ne!(id(Some(&bytes(b"x"))), "e3b0c442");
    }
}

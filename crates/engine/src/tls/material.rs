//! Certificates and keys from data sources.

use super::secrets::Material;
use nuncio_api::envoy::config::core::v3::{DataSource, data_source::Specifier};
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// The bytes of a data source, and what to call it in messages.
///
/// # Errors
/// A file or a variable is missing.
pub fn read(d: &DataSource) -> BuildResult<(Vec<u8>, String)> {
    match &d.specifier {
        Some(Specifier::Filename(f)) => match std::fs::read(f) {
            Ok(b) => Ok((b, f.clone())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(BuildError(format!("Invalid path: {f}")))
            }
            Err(e) => Err(BuildError(format!("unable to read file: {f}: {e}"))),
        },
        Some(Specifier::InlineString(s)) => Ok((s.clone().into_bytes(), "<inline>".into())),
        Some(Specifier::InlineBytes(b)) => Ok((b.to_vec(), "<inline>".into())),
        Some(Specifier::EnvironmentVariable(v)) => match std::env::var(v) {
            Ok(s) => Ok((s.into_bytes(), "<inline>".into())),
            Err(_) => Err(BuildError(format!("Environment variable doesn't exist: {v}"))),
        },
        None => Err("DataSourceValidationError.Specifier: value is required".into()),
    }
}

/// What the PEM of an encrypted key says (PKCS #8, or the older form of OpenSSL).
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// A certificate chain with its key.
///
/// # Errors
/// Something is missing or malformed; Envoy's words.
pub fn certified_key(c: &pb::TlsCertificate) -> BuildResult<Arc<CertifiedKey>> {
    let (Some(chain), Some(key)) = (c.certificate_chain.as_ref(), c.private_key.as_ref()) else {
        return Err(
            "Failed to load incomplete certificate: certificate chain and private key are both needed".into(),
        );
    };
    let (chain, chain_name) = read(chain)?;
    let certs = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|c| !c.is_empty())
        .ok_or_else(|| BuildError(format!("Failed to load certificate chain from {chain_name}")))?;
    let key_name = match key.specifier {
        Some(Specifier::Filename(ref f)) => f.clone(),
        _ => "<inline>".into(),
    };
    let failed = || BuildError(format!("Failed to load private key from {key_name}"));
    let (key, _) = read(key)
        .map_err(|_| BuildError(format!("Failed to load incomplete private key from path: {key_name}")))?;
    if key.windows(ENCRYPTED.len()).any(|w| w == ENCRYPTED) {
        return Err(BuildError::not_implemented("TlsCertificate.private_key: an encrypted key"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| failed())?;
    let key = super::params::provider().key_provider.load_private_key(key).map_err(|_| failed())?;
    let key = CertifiedKey::new(certs, key);
    let fits = match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => true,
        Err(rustls::Error::InconsistentKeys(_)) => false,
        // webpki does not read every certificate that may be served (X.509 version 1): its key stands in it as it is.
        Err(_) => key.key.public_key().is_none_or(|public| contains(&key.cert[0], &public)),
    };
    match fits {
        true => Ok(Arc::new(key)),
        false => Err(BuildError(format!(
            "{}, Cause: error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH",
            failed()
        ))),
    }
}

fn contains(certificate: &[u8], public_key: &[u8]) -> bool {
    !public_key.is_empty() && certificate.windows(public_key.len()).any(|w| w == public_key)
}

/// The trusted authorities of a validation context; `None` when it names none.
///
/// # Errors
/// The file is missing or holds no certificate.
pub fn authorities(
    v: &pb::CertificateValidationContext,
) -> BuildResult<Option<Vec<CertificateDer<'static>>>> {
    let Some(ca) = v.trusted_ca.as_ref() else { return Ok(None) };
    let (pem, name) = read(ca)?;
    let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match all.ok().filter(|all| !all.is_empty()) {
        Some(all) => Ok(Some(all)),
        None => Err(BuildError(format!("Failed to load trusted CA certificates from {name}"))),
    }
}

/// What a context names, read, with the names that stats give it.
#[derive(Debug)]
pub struct Loaded {
    /// Certificates with their keys.
    pub keys: Vec<(String, Arc<CertifiedKey>)>,
    /// The first trusted authority; a validation context may have none.
    pub authority: Option<(String, Option<CertificateDer<'static>>)>,
}

impl Loaded {
    /// Reads the files.
    ///
    /// # Errors
    /// Something is missing or malformed.
    pub fn new(m: &Material) -> BuildResult<Loaded> {
        let keys = m.certificates.iter().map(|(name, c)| Ok((name.clone(), certified_key(c)?)));
        let keys = keys.collect::<BuildResult<_>>()?;
        let authority = match &m.validation {
            None => None,
            Some((name, v)) => {
                let first = authorities(v)?.and_then(|all| all.into_iter().next());
                Some((name.clone(), first))
            }
        };
        Ok(Loaded { keys, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBJjCBzQIUceQ+PJtEtOlJEBNuUp2k/2/rq18wCgYIKoZIzj0EAwIwFTETMBEG
A1UEAwwKdjEuZXhhbXBsZTAgFw0yNjExMjExMTA4NTNaGA8yMTI2MTAyODExMDg1
M1owFTETMBEGA1UEAwwKdjEuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABASRmLOrrcaAg2xhEYkBVeHOP/084pG5cGcOy/srU0tLKCPCF2ltoG4AiUH9
ub7CxX5NaAA5Dun/lkrJMe/oq3cwCgYIKoZIzj0EAwIDSAAwRQIhALZkvip21Mqx
18Nfa2NyHWG8peTnAOiZUNRoOKAEPFz5AiB7F56Gc/XYE+jkau22y02niXbhXOD8
h/32HE1wIeFW0w==
-----END CERTIFICATE-----
";
    /// The key of `VERSION_1`, made for this test.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgkOXxjPrdGV9f/CIa
CeVO7k6CmfunMk+r76mSXf0sVUWhRANCAAQEkZizq63GgINsYRGJAVXhzj/9POKR
uXBnDsv7K1NLSygjwhdpbaBuAIlB/bm+wsV+TWgAOQ7p/5ZKyTHv6Kt3
-----END PRIVATE KEY-----
";
    /// The key of nothing here.
    const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgo/4KV8JaIrSe9MRk
Vo3TQzvyRE4UTPZRGQf9oBHwTwWhRANCAASU7Ri3wZlXC5TqGZ5jKsgQ8vpwcic1
FB7mZEuKYtpOBo9n/ocyxXcqziZ2LWWrVwZAorG3gkU1uBcnRmkFqEdq
-----END PRIVATE KEY-----
";

    fn load(key: &str) -> BuildResult<Arc<CertifiedKey>> {
        let inline = |text: &str| {
            let specifier = Some(Specifier::InlineString(text.to_owned()));
            Some(DataSource { specifier, ..Default::default() })
        };
        let (certificate_chain, private_key) = (inline(VERSION_1), inline(key));
        certified_key(&pb::TlsCertificate { certificate_chain, private_key, ..Default::default() })
    }

    #[test]
    fn certificates_of_version_1_are_served_and_their_keys_checked() {
        assert!(load(KEY).is_ok());
        let refused = load(OTHER_KEY).expect_err("another key").0;
        assert!(refused.contains("Failed to load private key from <inline>"), "{refused}");
        assert!(refused.ends_with("KEY_VALUES_MISMATCH"), "{refused}");
    }
}

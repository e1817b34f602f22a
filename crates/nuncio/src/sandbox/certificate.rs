//! A certificate for the front proxy, new at each start, so that no private key is ever published.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::Failure;

/// The authority that clients may trust.
pub(super) const AUTHORITY: &str = "ca.pem";
/// The front proxy's certificate, as `front-proxy.yaml` names it.
pub(super) const CERTIFICATE: &str = "front-proxy-crt.pem";
/// Its private key.
pub(super) const KEY: &str = "front-proxy-key.pem";

/// What the certificate is good for.
const NAMES: [&str; 4] = ["localhost", "front-proxy", "127.0.0.1", "::1"];

/// Writes a new authority, and a certificate of it with its key, to `directory`, which is made when missing.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write_new(directory: &Path) -> Result<(), Failure> {
    let (authority, certificate, key) = issue().map_err(|e| format!("cannot make a certificate: {e}"))?;
    fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    write(&directory.join(AUTHORITY), &authority, 0o644)?;
    write(&directory.join(CERTIFICATE), &certificate, 0o644)?;
    write(&directory.join(KEY), &key, 0o600)
}

/// Authority, certificate and key as PEM. The authority's own key is forgotten at once: it signs nothing else.
fn issue() -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "Nuncio sandbox authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut leaf = CertificateParams::new(NAMES.map(String::from))?;
    leaf.distinguished_name.push(DnType::CommonName, "front-proxy");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &authority)?;
    Ok((authority.pem(), leaf.pem(), key.serialize_pem()))
}

/// Replaces a file; `mode` holds from the first byte on.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let outcome = (|| {
        match fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
    })();
    outcome.map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_can_be_written_twice_and_the_key_is_private() {
        let directory = std::env::temp_dir().join(format!("nuncio-certificate-{}", std::process::id()));
        write_new(&directory).expect("written");
        let first = fs::read_to_string(directory.join(CERTIFICATE)).expect("a certificate");
        write_new(&directory).expect("written again");
        let second = fs::read_to_string(directory.join(CERTIFICATE)).expect("a certificate");
        let key = fs::metadata(directory.join(KEY)).expect("a key");
        fs::remove_dir_all(&directory).expect("removed");
        assert!(first.starts_with("-----BEGIN CERTIFICATE-----"));
        assert_ne!(first, second);
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }
}

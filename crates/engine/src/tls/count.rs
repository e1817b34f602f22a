//! What a handshake adds to the stats of its listener or cluster (`ssl.`).

use super::cert;
use super::errors;
use super::io::{Failed, TlsIo};
use super::material::Loaded;
use super::verify::{Kind, Seen};
use crate::stats::{SocketFactoryStats, SslStats};
use nuncio_core::stats::Scope;
use rustls::pki_types::CertificateDer;
use rustls::{Error, SignatureScheme};

/// The stats of a context.
#[derive(Clone)]
pub struct Counted {
    ssl: SslStats,
    /// Kept so that they are listed: they count secrets that are fetched.
    _factory: SocketFactoryStats,
}

impl Counted {
    /// Stats below `scope` (a listener's or a cluster's); `factory` is `server` or `client`. Says when the
    /// certificates expire.
    pub fn new(scope: &Scope, factory: &str, loaded: &Loaded) -> Counted {
        let ssl = SslStats::new(&scope.scope("ssl"));
        // Without a certificate it never ends.
        let end = |der: Option<&CertificateDer<'_>>| match der.and_then(|der| cert::parse(der)) {
            Some(c) => c.validity().not_after.timestamp().max(0).unsigned_abs(),
            None => i64::MAX.unsigned_abs(),
        };
        let authority = loaded.authority.iter().map(|(name, der)| (name, der.as_ref()));
        for (name, der) in loaded.keys.iter().map(|(name, key)| (name, key.cert.first())).chain(authority) {
            ssl.certificate().get(&format!("{name}.expiration_unix_time_seconds")).set(end(der));
        }
        let factory = SocketFactoryStats::new(&scope.scope(&format!("{factory}_ssl_socket_factory")));
        Counted { ssl, _factory: factory }
    }
    /// A handshake that was completed.
    pub fn done(&self, io: &TlsIo, seen: &Seen, server: bool) {
        let (s, info) = (&self.ssl, io.info());
        s.handshake().inc();
        if server && info.peer.is_none() {
            s.no_certificate().inc();
        }
        if io.resumed() {
            s.session_reused().inc();
        }
        s.ciphers().get(&info.cipher).inc();
        s.versions().get(info.version).inc();
        if !info.group.is_empty() {
            s.curves().get(&info.group).inc();
        }
        if let Some(name) = seen.scheme.and_then(scheme_name) {
            s.sigalgs().get(name).inc();
        }
        self.checks(seen);
    }
    /// A handshake that failed. What the network did is counted elsewhere.
    pub fn failed(&self, f: &Failed) {
        self.checks(&f.seen);
        match errors::of(&f.error) {
            Some(Error::NoCertificatesPresented) => self.ssl.fail_verify_no_cert().inc(),
            Some(Error::InvalidCertificate(_)) if f.seen.failed.is_some() => {}
            Some(_) => self.ssl.connection_error().inc(),
            None if f.error.kind() == std::io::ErrorKind::InvalidData => self.ssl.connection_error().inc(),
            None => {}
        }
    }
    fn checks(&self, seen: &Seen) {
        match seen.failed.as_ref().map(|f| f.kind) {
            Some(Kind::Chain) => self.ssl.fail_verify_error().inc(),
            Some(Kind::San) => self.ssl.fail_verify_san().inc(),
            Some(Kind::Pins) => self.ssl.fail_verify_cert_hash().inc(),
            None => {}
        }
    }
}

/// The name of a signature algorithm (RFC 8446 section 4.2.3), as BoringSSL has it.
fn scheme_name(s: SignatureScheme) -> Option<&'static str> {
    use SignatureScheme as S;
    Some(match s {
        S::RSA_PKCS1_SHA1 => "rsa_pkcs1_sha1",
        S::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        S::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        S::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        S::ECDSA_SHA1_Legacy => "ecdsa_sha1",
        S::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        S::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        S::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        S::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        S::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        S::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        S::ED25519 => "ed25519",
        _ => return None,
    })
}

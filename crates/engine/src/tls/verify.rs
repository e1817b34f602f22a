//! Checking a peer's certificate as Envoy's default validator does (`CertificateValidationContext`): the chain, then the
//! names, then the pins. rustls' verifiers check chains; what they refuse and Envoy takes is decided here.

use super::cert::{self, San};
use super::material;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::info::CertInfo;
use nuncio_core::matchers::StringMatcher;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, OtherError, RootCertStore, SignatureScheme};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// What a verifier has seen while a handshake went on, for whoever drives the handshake on this thread.
#[derive(Default, Debug)]
pub struct Seen {
    /// How the peer signed.
    pub scheme: Option<SignatureScheme>,
    /// The peer's certificate was checked and found good.
    pub validated: Option<bool>,
    /// A check that failed, also when untrusted certificates are accepted.
    pub failed: Option<Failure>,
    /// The certificate that we chose to send.
    pub local: Option<Arc<CertInfo>>,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

impl Seen {
    /// Notes something.
    pub fn note(f: impl FnOnce(&mut Seen)) {
        SEEN.with_borrow_mut(f);
    }
    /// Adds what was noted since the last call.
    pub fn collect(&mut self) {
        let new = SEEN.take();
        self.scheme = new.scheme.or(self.scheme);
        self.validated = new.validated.or(self.validated);
        self.failed = new.failed.or(self.failed.take());
        if new.local.is_some() {
            self.local = new.local;
        }
    }
}

/// Which check failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The chain (`fail_verify_error`).
    Chain,
    /// The names (`fail_verify_san`).
    San,
    /// The hashes (`fail_verify_cert_hash`).
    Pins,
}

/// A check that failed, as an error of the TLS library.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub kind: Kind,
    /// Envoy's words.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(f: Failure) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(f))))
    }
}

/// Whose certificates are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Clients', by a listener.
    Client,
    /// Hosts', by a cluster.
    Host,
}

/// The checks of one context.
#[derive(Debug)]
pub struct Checks {
    chain: Option<Chain>,
    sans: Vec<SanMatcher>,
    hashes: Vec<[u8; 32]>,
    spkis: Vec<[u8; 32]>,
    /// `trust_chain_verification: ACCEPT_UNTRUSTED`
    accept_untrusted: bool,
}

#[derive(Debug)]
struct Chain {
    verifier: Verifier,
    anchors: Vec<CertificateDer<'static>>,
    allow_expired: bool,
}

#[derive(Debug)]
enum Verifier {
    Clients(Arc<dyn ClientCertVerifier>),
    Hosts(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct SanMatcher {
    /// Without a type every kind of name is looked at (`match_subject_alt_names`).
    kind: Option<SanType>,
    matcher: StringMatcher,
}

impl Checks {
    /// Reads a validation context. Nothing is checked without one.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(v: Option<&pb::CertificateValidationContext>, peer: Peer) -> BuildResult<Checks> {
        let none = pb::CertificateValidationContext::default();
        let v = v.unwrap_or(&none);
        let mut sans = vec![];
        for m in &v.match_typed_subject_alt_names {
            let kind = SanType::try_from(m.san_type).unwrap_or_default();
            if kind == SanType::OtherName {
                return Err(BuildError::not_implemented("SubjectAltNameMatcher.san_type: OTHER_NAME"));
            }
            let matcher = StringMatcher::new(&m.matcher.clone().unwrap_or_default())?;
            sans.push(SanMatcher { kind: Some(kind), matcher });
        }
        for m in &v.match_subject_alt_names {
            sans.push(SanMatcher { kind: None, matcher: StringMatcher::new(m)? });
        }
        use pb::certificate_validation_context::TrustChainVerification as T;
        let chain = Chain::new(v, peer)?;
        let checks = Checks {
            sans,
            hashes: v.verify_certificate_hash.iter().map(|h| hash(h)).collect::<BuildResult<_>>()?,
            spkis: v.verify_certificate_spki.iter().map(|h| spki(h)).collect::<BuildResult<_>>()?,
            accept_untrusted: v.trust_chain_verification == T::AcceptUntrusted as i32,
            chain,
        };
        Ok(checks)
    }
    /// True when there is anything to check, or certificates are asked for to be looked at only.
    pub fn wants_certificate(&self) -> bool {
        self.chain.is_some() || self.accept_untrusted || self.names_or_pins()
    }
    /// True when a peer without certificate cannot pass.
    pub fn demands_certificate(&self) -> bool {
        self.names_or_pins() && !self.accept_untrusted
    }
    /// True with trusted authorities.
    pub fn has_authorities(&self) -> bool {
        self.chain.is_some()
    }
    /// Names of the trusted authorities, told to clients.
    pub fn authorities(&self) -> &[rustls::DistinguishedName] {
        match self.chain.as_ref().map(|c| &c.verifier) {
            Some(Verifier::Clients(v)) => v.root_hint_subjects(),
            _ => &[],
        }
    }
    fn names_or_pins(&self) -> bool {
        !self.sans.is_empty() || !self.hashes.is_empty() || !self.spkis.is_empty()
    }
    /// Checks a peer's certificates. `name`: its DNS names must hold this one, in place of the configured matchers.
    ///
    /// # Errors
    /// A check failed and untrusted certificates are not accepted. What was found is noted in [`Seen`] either way.
    pub fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        name: Option<&str>,
    ) -> Result<(), Error> {
        let r = self.verdict(leaf, intermediates, now, name);
        Seen::note(|s| {
            s.validated = Some(matches!(r, Ok(true)));
            s.failed = r.as_ref().err().map(|e| e.0.clone());
        });
        match r {
            Err((_, e)) if !self.accept_untrusted => Err(e),
            _ => Ok(()),
        }
    }
    /// True when something was checked.
    fn verdict(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        name: Option<&str>,
    ) -> Result<bool, (Failure, Error)> {
        let failed = |kind, text: String| {
            let f = Failure { kind, text };
            (f.clone(), Error::from(f))
        };
        if let Some(c) = &self.chain
            && let Err((text, e)) = c.check(leaf, intermediates, now)
        {
            return Err((Failure { kind: Kind::Chain, text }, e));
        }
        let parsed = cert::parse(leaf);
        let names = || parsed.as_ref().map(cert::sans).unwrap_or_default();
        let matches = |all: &[San<'_>]| match name {
            Some(name) => all.iter().any(|s| match s {
                San::Dns(d) => dns_matches(d, name),
                San::Uri(s) | San::Email(s) => *s == name,
                San::Ip(ip) => name.parse() == Ok(*ip),
            }),
            None => all.iter().any(|s| self.sans.iter().any(|m| m.matches(s))),
        };
        if name.is_some() || !self.sans.is_empty() {
            let names = names();
            if !matches(&names) {
                let texts: Vec<String> = names.iter().map(san_text).collect();
                let texts = texts.join(", ");
                let text = match name {
                    Some(name) => {
                        format!("verify SAN list, expected SANs: [{name}], certificate SANs: [{texts}]")
                    }
                    None => format!("SAN matcher, certificate SANs are [{texts}]"),
                };
                return Err(failed(Kind::San, text));
            }
        }
        if !self.hashes.is_empty() || !self.spkis.is_empty() {
            let hash = cert::sha256(leaf);
            let pinned = self.hashes.contains(&hash)
                || parsed.as_ref().is_some_and(|c| self.spkis.contains(&cert::sha256(c.public_key().raw)));
            if !pinned {
                return Err(failed(Kind::Pins, "cert hash and spki".into()));
            }
        }
        Ok(self.chain.is_some() || name.is_some() || self.names_or_pins())
    }
}

impl Chain {
    fn new(v: &pb::CertificateValidationContext, peer: Peer) -> BuildResult<Option<Chain>> {
        let Some(anchors) = material::authorities(v)? else { return Ok(None) };
        let mut store = RootCertStore::empty();
        let (_, refused) = store.add_parsable_certificates(anchors.iter().cloned());
        if store.is_empty() {
            return Err(BuildError(format!(
                "Failed to load trusted CA certificates: {refused} cannot be read"
            )));
        }
        let crls = match &v.crl {
            None => vec![],
            Some(d) => {
                let (pem, name) = material::read(d)?;
                let crls: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
                let crls = crls.ok().filter(|c| !c.is_empty());
                crls.ok_or_else(|| BuildError(format!("Failed to load CRL from {name}")))?
            }
        };
        let failed = |e: rustls::server::VerifierBuilderError| BuildError(format!("Failed to load CRL: {e}"));
        let (store, provider) = (Arc::new(store), super::params::provider());
        let verifier = match peer {
            Peer::Client => {
                let mut b = WebPkiClientVerifier::builder_with_provider(store, provider).with_crls(crls);
                if v.only_verify_leaf_cert_crl {
                    b = b.only_check_end_entity_revocation();
                }
                Verifier::Clients(b.build().map_err(failed)?)
            }
            Peer::Host => {
                let mut b = WebPkiServerVerifier::builder_with_provider(store, provider).with_crls(crls);
                if v.only_verify_leaf_cert_crl {
                    b = b.only_check_end_entity_revocation();
                }
                Verifier::Hosts(b.build().map_err(failed)?)
            }
        };
        Ok(Some(Chain { verifier, anchors, allow_expired: v.allow_expired_certificate }))
    }
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), (String, Error)> {
        let at = match self.allow_expired {
            true => a_moment_of_validity(leaf, intermediates).unwrap_or(now),
            false => now,
        };
        let r = match &self.verifier {
            Verifier::Clients(v) => v.verify_client_cert(leaf, intermediates, at).map(drop),
            Verifier::Hosts(v) => {
                // The name is not looked at: Envoy does so only when a matcher asks for it.
                let nobody = ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into());
                match v.verify_server_cert(leaf, intermediates, &nobody, &[], at) {
                    Err(Error::InvalidCertificate(
                        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                    )) => Ok(()),
                    r => r.map(drop),
                }
            }
        };
        match r {
            Err(e) if self.is_anchor(leaf, at) && !says_revoked(&e) => Ok(()),
            Err(Error::InvalidCertificate(e)) => Err(explained(e, leaf, intermediates)),
            Err(e) => Err((e.to_string(), e)),
            Ok(()) => Ok(()),
        }
    }
    /// A trusted certificate is trusted as it is, also as a leaf, while it is valid.
    fn is_anchor(&self, leaf: &CertificateDer<'_>, at: UnixTime) -> bool {
        let at = at.as_secs() as i64;
        self.anchors.iter().any(|a| a == leaf)
            && cert::parse(leaf).is_some_and(|c| {
                let v = c.validity();
                v.not_before.timestamp() <= at && at <= v.not_after.timestamp()
            })
    }
}

fn says_revoked(e: &Error) -> bool {
    matches!(e, Error::InvalidCertificate(CertificateError::Revoked))
}

/// When all of these certificates were valid, if they ever were (`allow_expired_certificate`).
fn a_moment_of_validity(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<UnixTime> {
    let begins = std::iter::once(leaf).chain(intermediates);
    let latest = begins.filter_map(|c| cert::parse(c).map(|c| c.validity().not_before.timestamp())).max()?;
    Some(UnixTime::since_unix_epoch(cert::time(latest).duration_since(UNIX_EPOCH).ok()?))
}

/// OpenSSL's words for an error, and the error, which rustls has an alert for.
fn explained(
    e: CertificateError,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> (String, Error) {
    use CertificateError as C;
    let depth = match &e {
        C::UnknownIssuer => intermediates.len(),
        _ => 0,
    };
    let text = match &e {
        C::UnknownIssuer if intermediates.is_empty() && is_self_signed(leaf) => "self signed certificate",
        C::UnknownIssuer if intermediates.last().is_some_and(is_self_signed) => {
            "self signed certificate in certificate chain"
        }
        C::UnknownIssuer => "unable to get local issuer certificate",
        C::Expired | C::ExpiredContext { .. } => "certificate has expired",
        C::NotValidYet | C::NotValidYetContext { .. } => "certificate is not yet valid",
        C::Revoked => "certificate revoked",
        C::BadSignature => "certificate signature failure",
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => "unsupported certificate purpose",
        C::UnknownRevocationStatus => "unable to get certificate CRL",
        C::ExpiredRevocationList | C::ExpiredRevocationListContext { .. } => "CRL has expired",
        other => &format!("{other:?}"),
    };
    let text = format!("X509_verify_cert: certificate verification error at depth {depth}: {text}");
    (text, Error::InvalidCertificate(e))
}

fn is_self_signed(c: &CertificateDer<'_>) -> bool {
    cert::parse(c).is_some_and(|c| c.subject() == c.issuer())
}

impl SanMatcher {
    fn matches(&self, san: &San<'_>) -> bool {
        match (self.kind, san) {
            (Some(SanType::Dns) | None, San::Dns(d)) => match self.matcher.as_exact() {
                Some(exact) => std::str::from_utf8(exact).is_ok_and(|e| dns_matches(d, e)),
                None => self.matcher.matches(d.as_bytes()),
            },
            (Some(SanType::Uri) | None, San::Uri(s)) | (Some(SanType::Email) | None, San::Email(s)) => {
                self.matcher.matches(s.as_bytes())
            }
            (Some(SanType::IpAddress) | None, San::Ip(ip)) => self.matcher.matches(ip.to_string().as_bytes()),
            _ => false,
        }
    }
}

fn san_text(s: &San<'_>) -> String {
    match s {
        San::Dns(s) | San::Uri(s) | San::Email(s) => (*s).to_owned(),
        San::Ip(ip) => ip.to_string(),
    }
}

/// True when a certificate's DNS name, which may begin with `*`, stands for `name` (RFC 6125 section 6.4.3: the star
/// is one label, or ends the first one, and not before a public name of one label).
fn dns_matches(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some((first, rest)), Some((label, of))) = (pattern.split_once('.'), name.split_once('.')) else {
        return false;
    };
    let Some((before, after)) = first.split_once('*') else { return false };
    let (label, before, after) =
        (label.to_ascii_lowercase(), before.to_ascii_lowercase(), after.to_ascii_lowercase());
    rest.contains('.')
        && rest.eq_ignore_ascii_case(of)
        && !after.contains('*')
        && !first.to_ascii_lowercase().starts_with("xn--")
        && label.len() > before.len() + after.len()
        && label.starts_with(&before)
        && label.ends_with(&after)
}

/// A SHA-256 in hex, also with colons.
fn hash(h: &str) -> BuildResult<[u8; 32]> {
    let plain: String = if h.len() == 95 { h.chars().filter(|c| *c != ':').collect() } else { h.to_owned() };
    let bytes = (plain.len() == 64 && plain.is_ascii()).then(|| {
        let mut out = [0; 32];
        for (i, b) in out.iter_mut().enumerate() {
            *b = u8::from_str_radix(&plain[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(out)
    });
    bytes.flatten().ok_or_else(|| BuildError(format!("Invalid hex-encoded SHA-256 {plain}")))
}

/// A SHA-256 in base64.
fn spki(h: &str) -> BuildResult<[u8; 32]> {
    let bad = || BuildError(format!("Invalid base64-encoded SHA-256 {h}"));
    let mut bits: u32 = 0;
    let mut out = vec![];
    let digits = h.strip_suffix('=').filter(|d| d.len() == 43).ok_or_else(bad)?;
    for (i, c) in digits.bytes().enumerate() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(bad()),
        };
        bits = bits << 6 | u32::from(six);
        // Four digits are three bytes: after the first of them there is none yet.
        if i % 4 != 0 {
            out.push((bits >> (6 - 2 * (i % 4))) as u8);
        }
    }
    out.try_into().map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_star_stand_for_one_label() {
        for (pattern, name, yes) in [
            ("a.example", "A.Example", true),
            ("*.a.example", "x.a.example", true),
            ("*.a.example", "x.y.a.example", false),
            ("*.a.example", "a.example", false),
            ("x*.a.example", "xy.a.example", true),
            ("x*.a.example", "y.a.example", false),
            ("*.example", "a.example", false),
            ("*", "a", false),
        ] {
            assert_eq!(dns_matches(pattern, name), yes, "{pattern} {name}");
        }
    }

    #[test]
    fn pins_are_read_and_refused() {
        assert_eq!(hash(&"0f".repeat(32)).expect("a hash"), [15; 32]);
        assert_eq!(hash(&["0f"; 32].join(":")).expect("a hash"), [15; 32]);
        assert_eq!(hash("0f").expect_err("short").0, "Invalid hex-encoded SHA-256 0f");
        assert_eq!(spki("Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8=").expect("a hash"), [15; 32]);
        assert_eq!(spki("Dw8=").expect_err("short").0, "Invalid base64-encoded SHA-256 Dw8=");
    }
}

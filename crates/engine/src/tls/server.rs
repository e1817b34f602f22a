//! TLS towards clients (`DownstreamTlsContext`).

use super::count::Counted;
use super::io::{Failed, fatal};
use super::material::Loaded;
use super::sds::{NOT_READY, Renewed};
use super::signatures::checks_signatures;
use super::verify::{Checks, Peer, Seen};
use super::{TlsIo, cert, errors, fingerprint, params, secrets, tickets};
use crate::io::Io;
use crate::stats::SocketFactoryStats;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::stats::Scope;
use nuncio_wire::ReadBuf;
use nuncio_wire::tls::{NotTls, Opening, opening};
use prost::Message;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, Error, ServerConfig};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// TLS of a filter chain: the context it has at the moment.
#[derive(Clone)]
pub struct ServerTls {
    now: Arc<Renewed<Context>>,
    stats: SocketFactoryStats,
}

impl ServerTls {
    /// Builds a context, now or when its secrets are there; stats go below `listener.<address>.`.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: pb::DownstreamTlsContext, listener: &Scope, cx: &BuildCx<'_>) -> BuildResult<ServerTls> {
        let stats = SocketFactoryStats::new(&listener.scope("server_ssl_socket_factory"));
        let common = c.common_tls_context.as_deref().cloned().unwrap_or_default();
        let mut fixed = secrets::fixed(&common, &|name| cx.server.secret(name));
        let mut fetched = secrets::fetched(&common);
        if let Some(s) = tickets::secret(&c) {
            match s.sds_config {
                Some(_) => fetched.push(s.clone()),
                None => fixed.extend(cx.server.secret(&s.name).map(|found| (s.name.clone(), found))),
            }
        }
        let (scope, counted) = (listener.clone(), stats.clone());
        let build = move || Context::new(&c, &scope, &|name| fixed.get(name).cloned());
        let renewed = move || counted.ssl_context_update_by_sds().inc();
        Ok(ServerTls { now: Renewed::new(&fetched, cx, build, renewed)?, stats })
    }
    /// Runs the handshake with a client; `read` holds what was read from it already.
    ///
    /// # Errors
    /// The client left, or the handshake failed: then `InvalidData` with Envoy's words.
    pub async fn accept(&self, io: Io, read: ReadBuf) -> io::Result<Io> {
        let Some(context) = self.now.get() else {
            self.stats.downstream_context_secrets_not_ready().inc();
            return Err(io::Error::new(ErrorKind::InvalidData, NOT_READY));
        };
        context.accept(io, read).await
    }
}

/// A server context.
struct Context {
    /// With ALPN, for clients that offer one of our protocols.
    with_alpn: Arc<ServerConfig>,
    /// Without, for the others: Envoy goes on without ALPN where rustls would refuse.
    without: Arc<ServerConfig>,
    alpn: Vec<Vec<u8>>,
    stats: Counted,
}

/// The certificates of a context, with the DNS names they are for.
#[derive(Debug)]
struct Certificates(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for Certificates {
    /// The first that is for the name and whose key the client can verify, else the first of such a key.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |k: &CertifiedKey| k.key.choose_scheme(hello.signature_schemes()).is_some();
        let named =
            |names: &[String]| hello.server_name().is_some_and(|sni| names.iter().any(|n| covers(n, sni)));
        let of_name = self.0.iter().find(|(names, k)| named(names) && fits(k));
        let (_, key) = of_name.or_else(|| self.0.iter().find(|(_, k)| fits(k))).or(self.0.first())?;
        Seen::note(|s| s.local = key.cert.first().map(cert::facts));
        Some(key.clone())
    }
}

/// True when a certificate's name is `sni`, or is a star for its first label.
fn covers(name: &str, sni: &str) -> bool {
    let of_star = || Some((name.strip_prefix("*.")?, sni.split_once('.')?.1));
    name.eq_ignore_ascii_case(sni) || of_star().is_some_and(|(n, s)| n.eq_ignore_ascii_case(s))
}

/// Envoy's checks in rustls' place.
#[derive(Debug)]
struct Verifier {
    checks: Checks,
    required: bool,
    schemes: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.checks.authorities()
    }
    fn verify_client_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.checks.check(cert, intermediates, now, None).map(|()| ClientCertVerified::assertion())
    }
    checks_signatures!();
    fn offer_client_auth(&self) -> bool {
        self.required || self.checks.wants_certificate()
    }
    fn client_auth_mandatory(&self) -> bool {
        self.required || self.checks.demands_certificate()
    }
}

impl Context {
    /// Builds a context; stats go below `listener.<address>.`.
    ///
    /// # Errors
    /// The configuration is refused.
    fn new(c: &pb::DownstreamTlsContext, listener: &Scope, find: secrets::Find<'_>) -> BuildResult<Context> {
        let none = pb::CommonTlsContext::default();
        let common = c.common_tls_context.as_deref().unwrap_or(&none);
        let material = secrets::Material::new(common, find)?;
        let loaded = Loaded::new(&material)?;
        if loaded.keys.is_empty() {
            return Err("No TLS certificates found for server context".into());
        }
        let p = common.tls_params.as_ref();
        let provider = params::chosen(p)?;
        let verifier = Verifier {
            checks: Checks::new(material.validation.as_ref().map(|(_, v)| v), Peer::Client)?,
            required: c.require_client_certificate.unwrap_or(false),
            schemes: provider.signature_verification_algorithms,
        };
        let versions = params::versions(p, pb::tls_parameters::TlsProtocol::TlSv13)?;
        let certificates = loaded.keys.iter().map(|(_, key)| {
            let names = key.cert.first().map(|der| cert::facts(der).dns_sans.clone());
            (names.unwrap_or_default(), key.clone())
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|e| BuildError(e.to_string()))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(Certificates(certificates.collect())));
        tickets::configure(&mut config, c, &identity(c, find), find)?;
        let without = Arc::new(config.clone());
        let alpn: Vec<Vec<u8>> = common.alpn_protocols.iter().map(|p| p.clone().into_bytes()).collect();
        config.alpn_protocols = alpn.clone();
        Ok(Context {
            with_alpn: Arc::new(config),
            without,
            alpn,
            stats: Counted::new(listener, "server", &loaded),
        })
    }

    async fn accept(&self, io: Io, read: ReadBuf) -> io::Result<Io> {
        match self.handshake(io, read).await {
            Ok((t, seen)) => {
                self.stats.done(&t, &seen, true);
                Ok(Io::Tls(Box::new(t)))
            }
            Err(f) => {
                self.stats.failed(&f);
                Err(match f.error.kind() {
                    ErrorKind::InvalidData => {
                        let text = errors::text(&f.error, f.seen.failed.as_ref());
                        io::Error::new(ErrorKind::InvalidData, text)
                    }
                    _ => f.error,
                })
            }
        }
    }
    async fn handshake(&self, mut io: Io, mut read: ReadBuf) -> Result<(TlsIo, Seen), Failed> {
        let (mut acceptor, mut first) = (Acceptor::default(), Some(()));
        let accepted = loop {
            if read.is_empty() && poll_fn(|cx| io.poll_read(cx, &mut read)).await? == 0 {
                return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            if let Some(why) = first.take().and_then(|()| not_tls(read.data())) {
                return Err(fatal(&mut io, why.alert(), failure(why)).await);
            }
            let mut data = read.data();
            while !data.is_empty() {
                acceptor.read_tls(&mut data)?;
            }
            let n = read.len();
            read.consume(n);
            match acceptor.accept() {
                Ok(Some(a)) => break a,
                Ok(None) => {}
                Err((e, mut alert)) => return Err(fatal(&mut io, &before_version(&mut alert)?, e).await),
            }
        };
        let offers_ours = accepted
            .client_hello()
            .alpn()
            .is_some_and(|mut offered| offered.any(|p| self.alpn.iter().any(|ours| ours == p)));
        let config = if offers_ours { &self.with_alpn } else { &self.without };
        let mut seen = Seen::default();
        let conn = accepted.into_connection(config.clone());
        seen.collect();
        match conn {
            Ok(c) => TlsIo::handshake(io, c, seen).await,
            Err((e, mut alert)) => Err(fatal(&mut io, &before_version(&mut alert)?, e).await),
        }
    }
}

/// What sessions belong to: they go on only where the same certificates are shown and the same is asked of clients.
/// The keys of tickets are no part of it, as they change while sessions go on.
fn identity(c: &pb::DownstreamTlsContext, find: secrets::Find<'_>) -> Vec<u8> {
    let mut rest = c.clone();
    rest.session_ticket_keys_type = None;
    let mut all = rest.encode_to_vec();
    let files = c.common_tls_context.as_deref().and_then(|common| fingerprint::of(common, find));
    all.extend(files.unwrap_or(0).to_be_bytes());
    all
}

/// An alert as it is sent before a version is agreed on: as of TLS 1.0.
fn before_version(alert: &mut rustls::server::AcceptedAlert) -> io::Result<Vec<u8>> {
    let mut out = vec![];
    alert.write_all(&mut out)?;
    if let [21, 3, minor, ..] = &mut out[..] {
        *minor = 1;
    }
    Ok(out)
}

/// Says why the first bytes are no TLS, where rustls would answer otherwise than BoringSSL.
fn not_tls(data: &[u8]) -> Option<NotTls> {
    match opening(data) {
        Opening::NotTls(why) if why != NotTls::Malformed => Some(why),
        _ => None,
    }
}

/// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`, in BoringSSL's words.
fn failure(why: NotTls) -> String {
    let (number, name) = why.reason();
    format!("TLS_error:|{}:SSL routines:OPENSSL_internal:{name}:TLS_error_end", 0x1000_0000 + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_for_names() {
        assert!(covers("A.example", "a.example") && covers("*.example", "a.example"));
        assert!(!covers("*.example", "a.b.example") && !covers("*.example", "example"));
    }
}

//! TLS towards upstreams (`UpstreamTlsContext`).

use super::count::Counted;
use super::material::Loaded;
use super::sds::{NOT_READY, Renewed};
use super::signatures::checks_signatures;
use super::verify::{Checks, Peer, Seen};
use super::{TlsIo, errors, params, secrets};
use crate::io::Io;
use crate::stats::SocketFactoryStats;
use crate::upstream::transport::TransportOptions;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::HostInfo;
use nuncio_core::stats::Scope;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, Error, SignatureScheme};
use std::sync::Arc;

/// Most sessions that a context keeps, whatever `max_session_keys` says.
const MOST_SESSIONS: u32 = 65_536;

/// TLS of a cluster: the context it has at the moment.
pub struct ClientTls {
    now: Arc<Renewed<Context>>,
    stats: SocketFactoryStats,
}

impl ClientTls {
    /// Builds a context, now or when its secrets are there.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: pb::UpstreamTlsContext, cluster: &Scope, cx: &BuildCx<'_>) -> BuildResult<ClientTls> {
        let stats = SocketFactoryStats::new(&cluster.scope("client_ssl_socket_factory"));
        let common = c.common_tls_context.as_deref().cloned().unwrap_or_default();
        let fixed = secrets::fixed(&common, &|name| cx.server.secret(name));
        let (scope, counted) = (cluster.clone(), stats.clone());
        let build = move || Context::new(&c, &scope, &|name| fixed.get(name).cloned());
        let renewed = move || counted.ssl_context_update_by_sds().inc();
        Ok(ClientTls { now: Renewed::new(&secrets::fetched(&common), cx, build, renewed)?, stats })
    }
    /// Runs the handshake with a host.
    ///
    /// # Errors
    /// The host left or the handshake failed: Envoy's words, empty when it was the network.
    pub async fn connect(
        &self,
        io: Io,
        host: &HostInfo,
        alpn: &str,
        options: Option<&TransportOptions>,
    ) -> Result<Io, String> {
        let Some(context) = self.now.get() else {
            self.stats.upstream_context_secrets_not_ready().inc();
            return Err(NOT_READY.to_owned());
        };
        context.connect(io, host, alpn, options).await
    }
}

/// A client context.
struct Context {
    config: Arc<ClientConfig>,
    /// What the configuration's verifier checks, for those of single connections.
    verifier: Verifier,
    /// `sni`; none is sent when it is empty.
    sni: String,
    /// `auto_host_sni`: the host's own name goes before `sni`.
    host_sni: bool,
    stats: Counted,
}

/// Envoy's checks in rustls' place.
#[derive(Clone, Debug)]
struct Verifier {
    checks: Arc<Checks>,
    /// `auto_sni_san_validation`: the certificate is for the name that was asked for.
    sni_is_san: bool,
    /// The certificate is for this name (`auto_san_validation`).
    san: Option<Box<str>>,
    schemes: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = match (&self.san, name) {
            (Some(san), _) => Some(&**san),
            (None, ServerName::DnsName(n)) if self.sni_is_san => Some(n.as_ref()),
            _ => None,
        };
        self.checks.check(cert, intermediates, now, name).map(|()| ServerCertVerified::assertion())
    }
    checks_signatures!();
}

/// The one certificate a client has.
#[derive(Debug)]
struct Certificate(Arc<CertifiedKey>);

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes)?;
        Seen::note(|s| s.local = self.0.cert.first().map(super::cert::facts));
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl Context {
    fn new(c: &pb::UpstreamTlsContext, cluster: &Scope, find: secrets::Find<'_>) -> BuildResult<Context> {
        let none = pb::CommonTlsContext::default();
        let common = c.common_tls_context.as_deref().unwrap_or(&none);
        let material = secrets::Material::new(common, find)?;
        let loaded = Loaded::new(&material)?;
        let checks = Checks::new(material.validation.as_ref().map(|(_, v)| v), Peer::Host)?;
        if c.auto_sni_san_validation && !checks.has_authorities() {
            return Err("'auto_sni_san_validation' was configured without configuring a trusted CA".into());
        }
        let p = common.tls_params.as_ref();
        let provider = params::chosen(p)?;
        let schemes = provider.signature_verification_algorithms;
        let sni_is_san = c.auto_sni_san_validation;
        let verifier = Verifier { checks: Arc::new(checks), sni_is_san, san: None, schemes };
        // Envoy's client speaks TLS 1.2 unless told otherwise.
        let versions = params::versions(p, pb::tls_parameters::TlsProtocol::TlSv12)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|e| BuildError(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier.clone()));
        let mut config = match loaded.keys.first() {
            None => builder.with_no_client_auth(),
            Some((_, key)) => builder.with_client_cert_resolver(Arc::new(Certificate(key.clone()))),
        };
        config.resumption = match c.max_session_keys {
            Some(0) => Resumption::disabled(),
            // At least as many as one name may have under way.
            n => Resumption::in_memory_sessions(n.unwrap_or(1).clamp(8, MOST_SESSIONS) as usize),
        };
        config.alpn_protocols = common.alpn_protocols.iter().map(|p| p.clone().into_bytes()).collect();
        name(&c.sni).map_err(|_| BuildError(format!("invalid SNI: {}", c.sni)))?;
        Ok(Context {
            config: Arc::new(config),
            verifier,
            sni: c.sni.clone(),
            host_sni: c.auto_host_sni,
            stats: Counted::new(cluster, "client", &loaded),
        })
    }
    /// The configuration of one connection. Its protocol is offered when none is configured, and what its certificate must
    /// be for may be the request's to say.
    fn config_for(&self, sni: &str, alpn: &str, options: Option<&TransportOptions>) -> Arc<ClientConfig> {
        let san = options.and_then(|o| o.san.as_deref());
        let offers = !alpn.is_empty() && self.config.alpn_protocols.is_empty();
        if san.is_none() && !offers {
            return self.config.clone();
        }
        let mut config = (*self.config).clone();
        if offers {
            config.alpn_protocols = alpn.split(',').map(Into::into).collect();
        }
        let Some(san) = san else { return Arc::new(config) };
        let verifier = Verifier { san: Some(san.into()), ..self.verifier.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        if sni != san {
            // Sessions are kept by the server name: another certificate may have been checked then.
            config.resumption = Resumption::disabled();
        }
        Arc::new(config)
    }
    /// Runs the handshake with a host; `alpn` is the protocol to be spoken, or several with commas between them, if that is known, and `options` what the
    /// request asks of its connection.
    ///
    /// # Errors
    /// The host left or the handshake failed: Envoy's words, empty when it was the network.
    async fn connect(
        &self,
        io: Io,
        host: &HostInfo,
        alpn: &str,
        options: Option<&TransportOptions>,
    ) -> Result<Io, String> {
        let asked = options.and_then(|o| o.sni.as_deref());
        let sni = match asked {
            Some(sni) => sni,
            None if self.host_sni && !host.hostname.is_empty() => &*host.hostname,
            None => &self.sni,
        };
        if sni.len() > LONGEST_SNI {
            return Err(SNI_TOO_LONG.into());
        }
        // A host name that cannot be a server name is not sent.
        let name = name(sni).or_else(|_| name("")).map_err(|e| e.to_string())?;
        let conn =
            ClientConnection::new(self.config_for(sni, alpn, options), name).map_err(|e| e.to_string())?;
        match TlsIo::handshake(io, conn, Seen::default()).await {
            Ok((t, seen)) => {
                self.stats.done(&t, &seen, false);
                Ok(Io::Tls(Box::new(t)))
            }
            Err(f) => {
                self.stats.failed(&f);
                Err(errors::text(&f.error, f.seen.failed.as_ref()))
            }
        }
    }
}

/// Longest name that TLS can be asked for, in bytes, as Envoy's library has it; a client may choose the name by its `host`
/// (CVE-2024-32475).
const LONGEST_SNI: usize = 255;
/// What Envoy says of longer ones.
const SNI_TOO_LONG: &str = "Failed to create upstream TLS due to failure setting SNI: error:100000d5:SSL routines:OPENSSL_internal:SSL3_EXT_INVALID_SERVERNAME";

/// A server name; without one an address stands for it, which is not sent.
fn name(sni: &str) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
    match sni {
        "" => Ok(ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into())),
        sni => ServerName::try_from(sni.to_owned()),
    }
}

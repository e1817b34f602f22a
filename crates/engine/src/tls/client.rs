//! TLS towards upstreams (`UpstreamTlsContext`).

use super::{TlsIo, material, provider, versions};
use crate::io::Io;
use crate::stats::SslStats;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::info::HostInfo;
use nuncio_core::stats::Scope;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::io;
use std::sync::Arc;

/// A client context.
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stats: SslStats,
}

/// Envoy's validation: nothing without a validation context; else the chain, and no host name unless a SAN matcher
/// asks for one (those are refused as not implemented yet).
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    schemes: rustls::crypto::WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(v) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match v.verify_server_cert(cert, intermediates, name, ocsp, now) {
            // The name is looked at after the chain was found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            r => r,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.schemes)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.schemes)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.supported_schemes()
    }
}

impl ClientTls {
    /// Builds a context; `alpn` is what the cluster's protocol needs when the configuration names none.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: &pb::UpstreamTlsContext, alpn: &[&str], cluster: &Scope) -> BuildResult<ClientTls> {
        let common = c.common_tls_context.as_deref().cloned().unwrap_or_default();
        let validation = match &common.validation_context_type {
            Some(pb::common_tls_context::ValidationContextType::ValidationContext(v)) => Some(&**v),
            Some(_) => {
                return Err(BuildError::not_implemented(
                    "CommonTlsContext.combined_validation_context / SDS",
                ));
            }
            None => None,
        };
        let chain = match material::roots(validation)? {
            Some(roots) => Some(
                WebPkiServerVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|e| BuildError(e.to_string()))?,
            ),
            None => None,
        };
        let provider = provider();
        let schemes = provider.signature_verification_algorithms;
        // Envoy's client speaks TLS 1.2 unless told otherwise.
        let versions = versions(common.tls_params.as_ref(), pb::tls_parameters::TlsProtocol::TlSv12)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|e| BuildError(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { chain, schemes }));
        let mut config = match common.tls_certificates.first() {
            None => builder.with_no_client_auth(),
            Some(cert) => {
                let key = material::certified_key(cert)?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = match common.alpn_protocols.is_empty() {
            true => alpn.iter().map(|p| p.as_bytes().to_vec()).collect(),
            false => common.alpn_protocols.iter().map(|p| p.clone().into_bytes()).collect(),
        };
        config.enable_sni = !c.sni.is_empty();
        let name = if c.sni.is_empty() { "unnamed.invalid" } else { &c.sni };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| BuildError(format!("invalid SNI: {}", c.sni)))?;
        Ok(ClientTls { config: Arc::new(config), name, stats: SslStats::new(&cluster.scope("ssl")) })
    }
    /// Runs the handshake with a host.
    ///
    /// # Errors
    /// The host left or the handshake failed.
    pub async fn connect(&self, io: Io, _: &HostInfo) -> io::Result<Io> {
        let conn = ClientConnection::new(self.config.clone(), self.name.clone()).map_err(io::Error::other)?;
        match TlsIo::handshake(io, conn).await {
            Ok(t) => {
                let info = t.info();
                self.stats.handshake().inc();
                self.stats.ciphers().get(&info.cipher).inc();
                self.stats.versions().get(info.version).inc();
                Ok(Io::Tls(Box::new(t)))
            }
            Err(e) => {
                self.stats.connection_error().inc();
                let tls = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                if let Some(rustls::Error::InvalidCertificate(_)) = tls {
                    self.stats.fail_verify_error().inc();
                }
                Err(e)
            }
        }
    }
}

//! TLS towards clients (`DownstreamTlsContext`).

use super::{TlsIo, material, provider, versions};
use crate::io::Io;
use crate::stats::SslStats;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::stats::Scope;
use nuncio_wire::ReadBuf;
use nuncio_wire::tls::{NotTls, Opening, opening};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// A server context.
pub struct ServerTls {
    /// With ALPN, for clients that offer one of our protocols.
    with_alpn: Arc<ServerConfig>,
    /// Without, for the others: Envoy goes on without ALPN where rustls would refuse.
    without: Arc<ServerConfig>,
    alpn: Vec<Vec<u8>>,
    stats: SslStats,
}

/// The first certificate whose key the client can verify.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |k: &&Arc<CertifiedKey>| k.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(fits).or(self.0.first()).cloned()
    }
}

impl ServerTls {
    /// Builds a context; stats go below `listener.<address>.`.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: &pb::DownstreamTlsContext, listener: &Scope) -> BuildResult<ServerTls> {
        let common = c.common_tls_context.as_deref().cloned().unwrap_or_default();
        if common.tls_certificates.is_empty() {
            return Err("No TLS certificates found for server context".into());
        }
        let keys =
            common.tls_certificates.iter().map(material::certified_key).collect::<BuildResult<Vec<_>>>()?;
        let versions = versions(common.tls_params.as_ref(), pb::tls_parameters::TlsProtocol::TlSv13)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(|e| BuildError(e.to_string()))?;
        let validation = match &common.validation_context_type {
            Some(pb::common_tls_context::ValidationContextType::ValidationContext(v)) => Some(&**v),
            Some(_) => {
                return Err(BuildError::not_implemented(
                    "CommonTlsContext.combined_validation_context / SDS",
                ));
            }
            None => None,
        };
        let required = c.require_client_certificate.unwrap_or(false);
        let mut config = match material::roots(validation)? {
            Some(roots) => {
                let v = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let v = if required { v } else { v.allow_unauthenticated() };
                let v = v.build().map_err(|e| BuildError(e.to_string()))?;
                builder.with_client_cert_verifier(v)
            }
            None if required => {
                return Err(BuildError::not_implemented("require_client_certificate without trusted_ca"));
            }
            None => builder.with_no_client_auth(),
        }
        .with_cert_resolver(Arc::new(Certificates(keys)));
        let without = Arc::new(config.clone());
        let alpn: Vec<Vec<u8>> = common.alpn_protocols.iter().map(|p| p.clone().into_bytes()).collect();
        config.alpn_protocols = alpn.clone();
        Ok(ServerTls {
            with_alpn: Arc::new(config),
            without,
            alpn,
            stats: SslStats::new(&listener.scope("ssl")),
        })
    }

    /// Runs the handshake with a client; `read` holds what was read from it already.
    ///
    /// # Errors
    /// The client left or the handshake failed.
    pub async fn accept(&self, io: Io, read: ReadBuf) -> io::Result<Io> {
        let r = self.handshake(io, read).await;
        match &r {
            Ok(t) => {
                let info = t.info();
                self.stats.handshake().inc();
                self.stats.no_certificate().inc();
                self.stats.ciphers().get(&info.cipher).inc();
                self.stats.versions().get(info.version).inc();
                if !info.group.is_empty() {
                    self.stats.curves().get(&info.group).inc();
                }
            }
            Err(_) => self.stats.connection_error().inc(),
        }
        r.map(|t| Io::Tls(Box::new(t)))
    }
    async fn handshake(&self, mut io: Io, mut read: ReadBuf) -> io::Result<TlsIo> {
        let (mut acceptor, mut first) = (Acceptor::default(), Some(()));
        let accepted = loop {
            if read.is_empty() && poll_fn(|cx| io.poll_read(cx, &mut read)).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some(why) = first.take().and_then(|()| not_tls(read.data())) {
                let mut out = nuncio_wire::OutBuf::new();
                out.text(|t| t.extend_from_slice(why.alert()));
                let _ = poll_fn(|cx| io.poll_write(cx, &mut out)).await; // the client may be gone
                return Err(io::Error::new(ErrorKind::InvalidData, failure(why)));
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
                Err((e, mut alert)) => {
                    let mut out = nuncio_wire::OutBuf::new();
                    out.text(|t| alert.write_all(t))?;
                    let _ = poll_fn(|cx| io.poll_write(cx, &mut out)).await; // the client may be gone
                    return Err(io::Error::new(ErrorKind::InvalidData, e));
                }
            }
        };
        let offers_ours = accepted
            .client_hello()
            .alpn()
            .is_some_and(|mut offered| offered.any(|p| self.alpn.iter().any(|ours| ours == p)));
        let config = if offers_ours { &self.with_alpn } else { &self.without };
        let conn: ServerConnection = match accepted.into_connection(config.clone()) {
            Ok(c) => c,
            Err((e, mut alert)) => {
                let mut out = nuncio_wire::OutBuf::new();
                out.text(|t| alert.write_all(t))?;
                let _ = poll_fn(|cx| io.poll_write(cx, &mut out)).await; // the client may be gone
                return Err(io::Error::new(ErrorKind::InvalidData, e));
            }
        };
        TlsIo::handshake(io, conn).await
    }
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

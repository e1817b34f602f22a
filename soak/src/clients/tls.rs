//! TLS: a certificate made at start, and who trusts it.

use crate::Result;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NAME: &str = "soak.example";

/// The server's part, as PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

#[derive(Clone)]
pub struct Trust(Arc<RootCertStore>);

pub fn identity() -> Result<(Identity, Trust)> {
    let (mut all, trust) = several(1)?;
    Ok((all.remove(0), trust))
}

/// Some, and who trusts each of them.
pub fn several(n: usize) -> Result<(Vec<Identity>, Trust)> {
    let (mut all, mut roots) = (vec![], RootCertStore::empty());
    for _ in 0..n {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        roots.add(CertificateDer::from(made.cert.der().to_vec()))?;
        all.push(Identity { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() });
    }
    Ok((all, Trust(Arc::new(roots))))
}

impl Trust {
    pub async fn connect(&self, io: TcpStream, alpn: &str) -> Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder().with_root_certificates(self.0.clone()).with_no_client_auth();
        config.alpn_protocols = vec![alpn.into()];
        Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME)?, io).await?)
    }
}

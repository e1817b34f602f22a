//! Certificates for tests, and TLS on either end of a connection.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A certificate for `localhost`, made anew.
pub struct Identity {
    /// PEM of who issued it.
    pub authority: String,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

impl Identity {
    /// Makes one.
    pub fn new() -> Identity {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities of one name would be told apart by their signatures only.
        let number = NEXT.fetch_add(1, Relaxed);
        ca.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("an authority");
        let leaf = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let leaf = leaf.signed_by(&key, &ca).expect("a certificate");
        Identity { authority: ca.pem(), certificate: leaf.pem(), key: key.serialize_pem() }
    }
}

impl Default for Identity {
    fn default() -> Identity {
        Identity::new()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Connects to the proxy with TLS; returns the stream and the protocol that ALPN chose.
///
/// # Errors
/// The handshake fails.
pub async fn connect(to: SocketAddr, trust: &Identity, alpn: &[&str]) -> io::Result<(DuplexStream, String)> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(trust.authority.as_bytes()).expect("PEM");
    roots.add(ca).expect("a root");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    secure(TcpStream::connect(to).await?, tls.into()).await
}

/// A host's end of TLS.
///
/// # Errors
/// The handshake fails.
pub async fn accept(io: TcpStream, own: &Identity, alpn: &[&str]) -> io::Result<(DuplexStream, String)> {
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let tls = ServerConnection::new(Arc::new(config)).expect("a server");
    secure(io, tls.into()).await
}

/// Shakes hands, then carries bytes between the socket and the stream that is returned, beside the test.
async fn secure(mut io: TcpStream, mut tls: Connection) -> io::Result<(DuplexStream, String)> {
    io.set_nodelay(true)?;
    let (mut buf, mut early) = (vec![0; 16 * 1024], vec![]);
    while tls.is_handshaking() {
        write(&mut io, &mut tls).await?;
        if tls.is_handshaking() {
            let n = io.read(&mut buf).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let fed = feed(&mut tls, &buf[..n], &mut early);
            write(&mut io, &mut tls).await?; // an alert says what was wrong
            fed?;
        }
    }
    write(&mut io, &mut tls).await?;
    let alpn = String::from_utf8_lossy(tls.alpn_protocol().unwrap_or_default()).into_owned();
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    theirs.write_all(&early).await?;
    tokio::task::spawn_local(carry(io, tls, theirs));
    Ok((ours, alpn))
}

async fn write(io: &mut TcpStream, tls: &mut Connection) -> io::Result<()> {
    let mut out = vec![];
    while tls.wants_write() {
        tls.write_tls(&mut out)?;
    }
    io.write_all(&out).await
}

/// Decrypts `bytes`; what is in them goes to `plain`.
fn feed(tls: &mut Connection, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes)?;
        tls.process_new_packets().map_err(io::Error::other)?;
        let mut piece = [0; 4096];
        while let Ok(n) = tls.reader().read(&mut piece)
            && n > 0
        {
            plain.extend_from_slice(&piece[..n]);
        }
    }
    Ok(())
}

async fn carry(mut io: TcpStream, mut tls: Connection, mut plain: DuplexStream) {
    let (mut from_net, mut from_test) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut got = vec![];
    loop {
        if (!got.is_empty() && plain.write_all(&got).await.is_err())
            || write(&mut io, &mut tls).await.is_err()
        {
            return;
        }
        got.clear();
        tokio::select! {
            n = io.read(&mut from_net) => match n {
                Ok(n) if n > 0 && feed(&mut tls, &from_net[..n], &mut got).is_ok() => {}
                _ => return,
            },
            n = plain.read(&mut from_test) => match n {
                Ok(n) if n > 0 => {
                    if tls.writer().write_all(&from_test[..n]).is_err() {
                        return;
                    }
                }
                _ => {
                    tls.send_close_notify();
                    let _ = write(&mut io, &mut tls).await; // the peer may be gone
                    return;
                }
            },
        }
    }
}

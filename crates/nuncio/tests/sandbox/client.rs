//! An HTTP client that shares no code with the proxies: `hyper` over plain TCP or `rustls`.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

const TIMEOUT: Duration = Duration::from_secs(20);

/// One complete answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// Where and how to ask; each request has a connection of its own.
pub struct Client {
    address: SocketAddr,
    http2: bool,
    tls: Option<TlsConnector>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tls, version) = (if self.tls.is_some() { "TLS" } else { "TCP" }, if self.http2 { 2 } else { 1 });
        write!(f, "HTTP/{version} over {tls}")
    }
}

impl Client {
    pub fn http1(address: SocketAddr) -> Client {
        Client { address, http2: false, tls: None }
    }
    /// HTTP/2 with prior knowledge.
    pub fn http2(address: SocketAddr) -> Client {
        Client { address, http2: true, tls: None }
    }
    /// TLS with a certificate for localhost of the authority in `authority`; the server must choose `alpn`.
    pub fn tls(address: SocketAddr, authority: &Path, alpn: &str) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("an authority");
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.into()];
        Client { address, http2: alpn == "h2", tls: Some(TlsConnector::from(Arc::new(config))) }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, Vec::new()).await
    }
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Answer {
        self.ask(Method::POST, path, body).await
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = if self.http2 { format!("{scheme}://localhost{path}") } else { path.to_string() };
        let mut request = Request::builder().method(method).uri(uri);
        if !self.http2 {
            request = request.header("host", "localhost");
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let exchange = async {
            let stream = TcpStream::connect(self.address).await.expect("a connection");
            match &self.tls {
                None => self.exchange(stream, request).await,
                Some(connector) => {
                    let name = ServerName::try_from("localhost").expect("a name");
                    let stream = connector.connect(name, stream).await.expect("a handshake");
                    let chosen = stream.get_ref().1.alpn_protocol();
                    assert_eq!(chosen, Some(if self.http2 { &b"h2"[..] } else { b"http/1.1" }));
                    self.exchange(stream, request).await
                }
            }
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange).await;
        answer.unwrap_or_else(|_| panic!("{self:?}: no answer to {path}"))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Answer {
        let stream = TokioIo::new(stream);
        if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
            let driver = tokio::spawn(connection);
            let answer = collect(sender.send_request(request).await.expect("an answer")).await;
            driver.abort();
            answer
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.expect("HTTP/1.1");
            let driver = tokio::spawn(connection);
            let answer = collect(sender.send_request(request).await.expect("an answer")).await;
            driver.abort();
            answer
        }
    }
}

async fn collect(answer: Response<Incoming>) -> Answer {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

//! A GET over HTTP/1.1: is a proxy ready? `sandbox check` uses it for the health checks of containers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};

use super::Failure;

/// For connecting and answering together.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More of an answer is not read.
const MAX_BODY: usize = 1 << 20;

/// Status and body of `GET path` from `address`.
///
/// # Errors
/// When there is no complete answer within five seconds, or its body is larger than 1 MiB.
pub(super) async fn get(address: SocketAddr, host: &str, path: &str) -> Result<(u16, Bytes), Failure> {
    match tokio::time::timeout(TIMEOUT, exchange(address, host, path)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn exchange(address: SocketAddr, host: &str, path: &str) -> Result<(u16, Bytes), Failure> {
    let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, host)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let outcome = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|e| e.to_string())?;
        Ok((status, body.to_bytes()))
    }
    .await;
    driver.abort();
    outcome
}

/// `sandbox check URL`.
///
/// # Errors
/// When the URL is no `http` URL, or the answer is not 2xx.
pub(super) async fn check(url: String) -> Result<(), Failure> {
    let uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{url}: not an http URL"));
    };
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|e| format!("{host}: {e}"))?.collect();
    let mut why = format!("{host}: no address");
    for address in addresses {
        match get(address, authority.as_str(), uri.path_and_query().map_or("/", |p| p.as_str())).await {
            Ok((200..=299, _)) => return Ok(()),
            Ok((status, _)) => return Err(format!("{url}: {status}")),
            Err(error) => why = format!("{url}: {error}"),
        }
    }
    Err(why)
}

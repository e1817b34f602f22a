//! A small DNS server for the names of the sandbox, on UDP and TCP (RFC 1035, RFC 7766).
//!
//! It knows addresses (A records) of a handful of names, which may change at any time: that is how scaling reaches
//! the proxies. `message` reads questions and writes answers, this file has the sockets and the names.

mod message;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long an answer may be kept, in seconds: short, so that scaling is seen soon.
pub(super) const TTL: u32 = 1;
/// TCP connections served at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 64;
/// A TCP connection without a question for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after a failed receive or accept, so that a persistent error does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Names and their addresses. Copies share the content.
#[derive(Clone, Default)]
pub(super) struct Zone(Arc<RwLock<HashMap<String, Vec<Ipv4Addr>>>>);

impl Zone {
    /// Gives a name these addresses and no others. An empty list keeps the name, without addresses.
    pub(super) fn set(&self, name: &str, addresses: Vec<Ipv4Addr>) {
        // Invariant: nobody panics while holding the lock, so a poisoned one still has a whole map.
        let mut names = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        names.insert(name.to_ascii_lowercase(), addresses);
    }
    /// Addresses of a name in lower case without the final dot; `None` when there is no such name.
    pub(super) fn get(&self, name: &str) -> Option<Vec<Ipv4Addr>> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(name).cloned()
    }
}

/// A running server; dropping it stops it.
pub(super) struct Server {
    _tasks: JoinSet<()>,
}

impl Server {
    /// Answers for `zone` on `address`, UDP and TCP.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(super) async fn start(address: SocketAddr, zone: Zone) -> io::Result<Server> {
        let udp = UdpSocket::bind(address).await?;
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, zone.clone()));
        tasks.spawn(serve_tcp(tcp, zone));
        Ok(Server { _tasks: tasks })
    }
}

async fn serve_udp(socket: UdpSocket, zone: Zone) {
    let mut buffer = [0; 4096];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => {
                if let Some(answer) = message::answer(&buffer[..length], &zone, message::Transport::Udp) {
                    // The peer asks again when the answer is lost, here or on the way.
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Zone) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Invariant: the semaphore is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let zone = zone.clone();
                connections.spawn(async move {
                    // A connection that breaks concerns its client only.
                    let _ = serve_connection(stream, &zone).await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Questions on one connection, each behind its length in two bytes, until the client leaves or is idle.
async fn serve_connection(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    let mut question = Vec::new();
    loop {
        let read = async {
            let length = usize::from(stream.read_u16().await?);
            question.resize(length, 0);
            stream.read_exact(&mut question).await
        };
        tokio::time::timeout(IDLE, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let Some(answer) = message::answer(&question, zone, message::Transport::Tcp) else { return Ok(()) };
        // Invariant: `answer` is at most 65,535 bytes on TCP.
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        tokio::time::timeout(IDLE, stream.write_all(&framed))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

#[cfg(test)]
mod tests;

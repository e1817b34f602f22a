//! Who talks to the proxy. Each client runs until [`Tally::over`] says so, and counts what it saw.

pub mod grpc;
pub mod h1;
pub mod h2;
pub mod rude;
pub mod tls;
pub mod websocket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, with TLS or without.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// What all clients of a round saw together.
#[derive(Default)]
pub struct Tally {
    stop: AtomicBool,
    /// Exchanges that came out as they should.
    pub good: AtomicU64,
    /// Bodies with a wrong byte or length.
    pub wrong: AtomicU64,
    /// What should not have happened, with how often.
    odd: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    pub fn over(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub fn good(&self) {
        self.good.fetch_add(1, Relaxed);
    }

    pub fn wrong(&self, what: &str) {
        self.wrong.fetch_add(1, Relaxed);
        self.odd(format!("wrong body: {what}"));
    }

    pub fn odd(&self, what: impl Into<String>) {
        let mut odd = self.odd.lock().expect("nobody panics with it");
        // Bounded: texts of errors could all differ.
        if odd.len() < 50 {
            *odd.entry(what.into()).or_default() += 1;
        }
    }

    pub fn odd_ones(&self) -> Vec<(String, u64)> {
        self.odd.lock().expect("nobody panics with it").clone().into_iter().collect()
    }
}

/// Where a client connects to.
#[derive(Clone)]
pub struct Target {
    pub addr: SocketAddr,
    /// Whom to trust; without: no TLS.
    pub trust: Option<tls::Trust>,
}

impl Target {
    pub async fn connect(&self, alpn: &str) -> crate::Result<Box<dyn Io>> {
        let tcp = TcpStream::connect(self.addr).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.trust {
            None => Box::new(tcp),
            Some(t) => Box::new(t.connect(tcp, alpn).await?),
        })
    }
}

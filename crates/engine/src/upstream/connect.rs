//! Making a connection to a host: TCP or Unix, then TLS when the cluster asks for it, within `connect_timeout`.

use super::cluster::{ClusterPlan, Transport};
use super::host::Host;
use crate::io::Io;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{ResetReason, StreamError};
use std::io;
use tokio::net::{TcpSocket, UnixStream};

/// Connects to `host`.
///
/// # Errors
/// Envoy's reason with the transport's own words.
pub async fn connect(plan: &ClusterPlan, host: &Host) -> Result<Io, StreamError> {
    match clock::timeout(TimerKind::Other, plan.connect_timeout, establish(plan, host)).await {
        Ok(r) => r,
        Err(_) => {
            plan.stats.upstream_cx_connect_timeout().inc();
            Err(ResetReason::ConnectionTimeout.into())
        }
    }
}

async fn establish(plan: &ClusterPlan, host: &Host) -> Result<Io, StreamError> {
    let io = open(host).await.map_err(|e| failure(&e))?;
    match &plan.transport {
        Transport::Raw => Ok(io),
        Transport::Tls(tls) => tls.connect(io, &host.info).await.map_err(|e| StreamError {
            reason: ResetReason::RemoteConnectionFailure,
            transport: format!("TLS_error:{e}").into(),
        }),
    }
}

async fn open(host: &Host) -> io::Result<Io> {
    match &host.info.address {
        Some(Address::Ip(a)) => {
            let s = if a.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            s.set_nodelay(true)?;
            Ok(Io::Tcp(s.connect(*a).await?))
        }
        // `@name` is a name in Linux's abstract namespace.
        Some(Address::Pipe(p)) => Ok(Io::Unix(match p.to_string_lossy().strip_prefix('@') {
            Some(name) => UnixStream::connect(format!("\0{name}")).await?,
            None => UnixStream::connect(&**p).await?,
        })),
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// `delayed connect error: Connection refused`: the system's words without Rust's error number.
fn failure(e: &io::Error) -> StreamError {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    StreamError {
        reason: ResetReason::RemoteConnectionFailure,
        transport: format!("delayed connect error: {text}").into(),
    }
}

//! Binding listening sockets.

use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;

/// A bound socket, to be registered with its worker's runtime.
pub enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// Unix domain, and its configured address.
    Unix(UnixListener, Address),
}

/// An address to listen at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// The address.
    pub address: Address,
    /// `Pipe.mode`: permissions of the socket file; 0 leaves them to the process.
    pub mode: u32,
    /// `SocketAddress.ipv4_compat`: an IPv6 address that takes connections over IPv4, too.
    pub ipv4_compat: bool,
}

impl From<Address> for Listen {
    fn from(address: Address) -> Listen {
        Listen { address, mode: 0, ipv4_compat: false }
    }
}

impl Bound {
    /// Another handle of the same socket.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Bound> {
        Ok(match self {
            Bound::Tcp(l) => Bound::Tcp(l.try_clone()?),
            Bound::Unix(l, a) => Bound::Unix(l.try_clone()?, a.clone()),
        })
    }
    /// Where it listens; port 0 has become a real port.
    pub fn address(&self, configured: &Address) -> Address {
        match self {
            Bound::Tcp(l) => l.local_addr().map_or_else(|_| configured.clone(), Address::Ip),
            Bound::Unix(_, a) => a.clone(),
        }
    }
}

/// Binds one socket per worker: the kernel spreads connections over them (SO_REUSEPORT).
/// A Unix domain socket is one socket that all workers accept from.
///
/// # Errors
/// `cannot bind '127.0.0.1:80': Address already in use`
pub fn bind(listen: &Listen, workers: usize, backlog: i32) -> BuildResult<Vec<Bound>> {
    let address = &listen.address;
    let failed = |e: io::Error| {
        let text = e.to_string();
        BuildError(format!(
            "cannot bind '{address}': {}",
            text.split(" (os error").next().unwrap_or_default()
        ))
    };
    match address {
        Address::Ip(a) => {
            let mut address = *a;
            let mut all = vec![];
            for _ in 0..workers.max(1) {
                let l = tcp(address, backlog, workers > 1, !listen.ipv4_compat).map_err(failed)?;
                address = l.local_addr().map_err(failed)?; // the port that 0 became
                all.push(Bound::Tcp(l));
            }
            Ok(all)
        }
        Address::Pipe(p) => {
            let l = unix(p, listen.mode, backlog).map_err(failed)?;
            let mut all = vec![];
            for _ in 1..workers.max(1) {
                all.push(Bound::Unix(l.try_clone().map_err(failed)?, address.clone()));
            }
            all.push(Bound::Unix(l, address.clone()));
            Ok(all)
        }
        Address::Internal(..) => Err(BuildError::not_implemented("Listener.internal_listener")),
    }
}

fn tcp(a: std::net::SocketAddr, backlog: i32, share: bool, only_v6: bool) -> io::Result<TcpListener> {
    let s = Socket::new(Domain::for_address(a), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    s.set_reuse_address(true)?;
    if share {
        s.set_reuse_port(true)?;
    }
    if a.is_ipv6() {
        s.set_only_v6(only_v6)?;
    }
    s.bind(&a.into())?;
    s.listen(backlog)?;
    Ok(s.into())
}

fn unix(path: &std::path::Path, mode: u32, backlog: i32) -> io::Result<UnixListener> {
    let text = path.to_string_lossy();
    let address = match text.strip_prefix('@') {
        Some(name) => SockAddr::unix(format!("\0{name}"))?,
        None => {
            // A socket file of an earlier process is in the way; anything else is not ours to remove.
            if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
                std::fs::remove_file(path)?;
            }
            SockAddr::unix(path)?
        }
    };
    let s = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    s.bind(&address)?;
    if mode != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    s.listen(backlog)?;
    Ok(s.into())
}

//! Byte streams under connections: TCP, Unix domain and TLS sockets behind one enum.
//!
//! Reading fills a [`ReadBuf`], writing drains an [`OutBuf`] with one vectored write. Both are polled; the waker that
//! is registered last wins, so exactly one task drives a connection at any time.

use nuncio_core::address::Address;
use nuncio_core::info::TlsInfo;
use nuncio_wire::{OutBuf, ReadBuf};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

/// Pieces per vectored write.
const SLICES: usize = 32;

/// A connected byte stream.
pub enum Io {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain socket.
    Unix(UnixStream),
    /// Memory, for simulations.
    #[cfg(test)]
    Memory(Box<tokio::io::DuplexStream>),
    /// TLS over one of the others; boxed, because its state is large and most connections have none.
    Tls(Box<crate::tls::TlsIo>),
}

/// What the kernel knows of a peer whom nobody has asked for anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// It is there and silent.
    Quiet,
    /// It has said something that nobody has read yet.
    Speaks,
    /// It has closed its end, or the connection broke.
    Gone,
}

impl Io {
    /// Asks the kernel, without waiting and without reading: one system call.
    pub fn peer(&self) -> Peer {
        use rustix::event::{PollFd, PollFlags, poll};
        const NOW: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        const GONE: PollFlags = PollFlags::RDHUP.union(PollFlags::HUP).union(PollFlags::ERR);
        let asked = PollFlags::IN.union(PollFlags::RDHUP);
        let mut fd = match self {
            Io::Tcp(s) => [PollFd::new(s, asked)],
            Io::Unix(s) => [PollFd::new(s, asked)],
            // There is no kernel: what comes is read at once.
            #[cfg(test)]
            Io::Memory(_) => return Peer::Quiet,
            Io::Tls(t) => return t.inner().peer(),
        };
        match poll(&mut fd, Some(&NOW)) {
            Ok(0) => Peer::Quiet,
            Ok(_) if fd[0].revents().intersects(GONE) => Peer::Gone,
            // Also when the system cannot say: whoever reads will know.
            _ => Peer::Speaks,
        }
    }
    /// Reads once into `buf`. `Ready(Ok(0))` is end of file.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf) -> Poll<io::Result<usize>> {
        self.poll_read_at_least(cx, buf, 1)
    }
    /// As [`poll_read`](Self::poll_read), with room for `min` bytes: large bodies come in large pieces.
    pub fn poll_read_at_least(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf,
        min: usize,
    ) -> Poll<io::Result<usize>> {
        // Most who ask find nothing: they need no memory.
        match self {
            Io::Tls(t) => return t.poll_read(cx, buf),
            Io::Tcp(s) => ready!(s.poll_read_ready(cx))?,
            Io::Unix(s) => ready!(s.poll_read_ready(cx))?,
            #[cfg(test)]
            Io::Memory(_) => {}
        }
        let mut room = tokio::io::ReadBuf::new(buf.space(min));
        let r = match self {
            Io::Tcp(s) => Pin::new(s).poll_read(cx, &mut room),
            Io::Unix(s) => Pin::new(s).poll_read(cx, &mut room),
            #[cfg(test)]
            Io::Memory(s) => Pin::new(s).poll_read(cx, &mut room),
            Io::Tls(_) => Poll::Pending, // handled above
        };
        let n = room.filled().len();
        match r {
            Poll::Ready(Ok(())) => {
                buf.filled(n);
                buf.release();
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => {
                buf.release();
                Poll::Ready(Err(e))
            }
            Poll::Pending => {
                buf.release();
                Poll::Pending
            }
        }
    }
    /// Writes until `out` is empty. `Pending` leaves the rest in `out`.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut OutBuf) -> Poll<io::Result<()>> {
        if let Io::Tls(t) = self {
            return t.poll_write(cx, out);
        }
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let n = out.slices(&mut slices);
            let r = match (&mut *self, n) {
                (Io::Tcp(s), 1) => Pin::new(s).poll_write(cx, &slices[0]),
                (Io::Tcp(s), _) => Pin::new(s).poll_write_vectored(cx, &slices[..n]),
                (Io::Unix(s), _) => Pin::new(s).poll_write_vectored(cx, &slices[..n]),
                #[cfg(test)]
                (Io::Memory(s), _) => Pin::new(s).poll_write_vectored(cx, &slices[..n]),
                (Io::Tls(_), _) => return Poll::Pending, // handled above
            };
            match r {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => out.advance(n),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
    /// Its bytes are what the socket carries: the kernel can move them without us.
    pub fn is_plain(&self) -> bool {
        matches!(self, Io::Tcp(_) | Io::Unix(_))
    }
    /// Waits for the socket of a plain stream, to read or to write with [`try_io`](Self::try_io).
    pub fn poll_ready(&self, cx: &mut Context<'_>, what: Interest) -> Poll<io::Result<()>> {
        match self {
            Io::Tcp(s) if what.is_readable() => s.poll_read_ready(cx),
            Io::Tcp(s) => s.poll_write_ready(cx),
            Io::Unix(s) if what.is_readable() => s.poll_read_ready(cx),
            Io::Unix(s) => s.poll_write_ready(cx),
            _ => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }
    /// Lets `f` use the socket of a plain stream; `WouldBlock` says that it is not ready any more.
    ///
    /// # Errors
    /// Those of `f`; `WouldBlock` when the socket is known not to be ready.
    pub fn try_io(
        &self,
        what: Interest,
        f: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self {
            Io::Tcp(s) => s.try_io(what, || f(s.as_fd())),
            Io::Unix(s) => s.try_io(what, || f(s.as_fd())),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// Says that nothing more will be written (FIN; TLS close_notify before it).
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Io::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Io::Unix(s) => Pin::new(s).poll_shutdown(cx),
            #[cfg(test)]
            Io::Memory(s) => Pin::new(s).poll_shutdown(cx),
            Io::Tls(t) => t.poll_shutdown(cx),
        }
    }
    /// Closes with RST instead of FIN.
    pub fn set_reset_on_close(&self) {
        match self {
            // Best effort: a socket that refuses the option is closed with FIN.
            Io::Tcp(s) => drop(socket2::SockRef::from(s).set_linger(Some(std::time::Duration::ZERO))),
            Io::Unix(_) => {}
            #[cfg(test)]
            Io::Memory(_) => {}
            Io::Tls(t) => t.inner().set_reset_on_close(),
        }
    }
    /// Lets the system find out whether a silent peer is still there.
    ///
    /// # Errors
    /// The system refuses the values.
    pub fn set_keepalive(&self, k: &socket2::TcpKeepalive) -> io::Result<()> {
        match self {
            Io::Tcp(s) => socket2::SockRef::from(s).set_tcp_keepalive(k),
            Io::Unix(_) => Ok(()),
            #[cfg(test)]
            Io::Memory(_) => Ok(()),
            Io::Tls(t) => t.inner().set_keepalive(k),
        }
    }
    /// TLS facts, for TLS streams.
    pub fn tls_info(&self) -> Option<Rc<TlsInfo>> {
        match self {
            Io::Tls(t) => Some(t.info()),
            _ => None,
        }
    }
    /// Our end.
    pub fn local_address(&self) -> Option<Address> {
        match self {
            Io::Tcp(s) => s.local_addr().ok().map(Address::Ip),
            Io::Unix(_) => None,
            #[cfg(test)]
            Io::Memory(_) => None,
            Io::Tls(t) => t.inner().local_address(),
        }
    }
    /// Where the client wanted to go before the system redirected it here.
    pub fn original_dst(&self) -> Option<Address> {
        let Io::Tcp(s) = self else { return None };
        let own = s.local_addr().ok()?;
        let s = socket2::SockRef::from(s);
        let found = if own.is_ipv6() { s.original_dst_v6() } else { s.original_dst_v4() };
        found.ok()?.as_socket().map(Address::Ip)
    }
    /// The peer's end.
    pub fn remote_address(&self) -> Option<Address> {
        match self {
            Io::Tcp(s) => s.peer_addr().ok().map(Address::Ip),
            Io::Unix(_) => None,
            #[cfg(test)]
            Io::Memory(_) => None,
            Io::Tls(t) => t.inner().remote_address(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_kernel_knows_of_a_peer_before_the_loop_does() {
        use std::io::Write;
        let l = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let connect = async || {
            let s = TcpStream::connect(l.local_addr().expect("an address")).await.expect("connected");
            (Io::Tcp(s), l.accept().expect("accepted").0)
        };
        let (io, mut peer) = connect().await;
        assert_eq!(io.peer(), Peer::Quiet);
        peer.write_all(b"x").expect("written");
        assert_eq!(io.peer(), Peer::Speaks);
        drop(peer);
        assert_eq!(io.peer(), Peer::Gone);
        let (io, peer) = connect().await;
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("set");
        drop(peer); // with RST
        assert_eq!(io.peer(), Peer::Gone);
    }

    #[tokio::test]
    async fn keepalive_is_set() {
        let l = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let s = TcpStream::connect(l.local_addr().expect("an address")).await.expect("connected");
        let io = Io::Tcp(s);
        let k = socket2::TcpKeepalive::new().with_time(Duration::from_secs(77)).with_retries(5);
        io.set_keepalive(&k).expect("set");
        let Io::Tcp(s) = &io else { return };
        let s = socket2::SockRef::from(s);
        assert!(s.keepalive().expect("asked"));
        assert_eq!(s.tcp_keepalive_time().expect("asked"), Duration::from_secs(77));
        assert_eq!(s.tcp_keepalive_retries().expect("asked"), 5);
    }
}

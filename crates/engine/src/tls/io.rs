//! A TLS stream over another stream.

use super::cert;
use super::verify::Seen;
use crate::io::Io;
use nuncio_core::info::TlsInfo;
use nuncio_wire::{OutBuf, ReadBuf};
use rustls::{Connection, HandshakeKind, ProtocolVersion};
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};

/// Plain bytes sealed at a time: one TLS record.
const RECORD: usize = 16 * 1024;

/// A handshake that failed.
pub struct Failed {
    /// rustls' or the socket's.
    pub error: io::Error,
    /// What was noted of it.
    pub seen: Seen,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed { error, seen: Seen::default() }
    }
}

/// Sends an alert, if the peer still listens, and fails.
pub async fn fatal(
    io: &mut Io,
    alert: &[u8],
    error: impl Into<Box<dyn std::error::Error + Send + std::marker::Sync>>,
) -> Failed {
    let mut out = OutBuf::new();
    out.put(alert);
    let _ = poll_fn(|cx| io.poll_write(cx, &mut out)).await; // the peer may be gone
    io::Error::new(ErrorKind::InvalidData, error).into()
}

/// A TLS stream.
pub struct TlsIo {
    io: Io,
    conn: Connection,
    info: Rc<TlsInfo>,
    /// Plain bytes that were sealed and whose records are not all written yet.
    sealed: usize,
}

impl TlsIo {
    /// Runs the handshake; `seen` is what was noted of it before.
    ///
    /// # Errors
    /// rustls' or the socket's; the alert was sent.
    pub async fn handshake(
        mut io: Io,
        conn: impl Into<Connection>,
        mut seen: Seen,
    ) -> Result<(TlsIo, Seen), Failed> {
        let mut conn = conn.into();
        let done = poll_fn(|cx| poll_handshake(&mut io, &mut conn, &mut seen, cx)).await;
        if let Err(error) = done {
            let mut out = OutBuf::new();
            out.text(|t| last_words(&mut conn, &error, t))?;
            let _ = poll_fn(|cx| io.poll_write(cx, &mut out)).await; // the peer may be gone
            return Err(Failed { error, seen });
        }
        conn.set_buffer_limit(Some(2 * RECORD));
        let info = Rc::new(facts(&conn, &seen));
        Ok((TlsIo { io, conn, info, sealed: 0 }, seen))
    }
    /// True when the session was continued from an earlier one.
    pub fn resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
    /// Facts of the handshake.
    pub fn info(&self) -> Rc<TlsInfo> {
        self.info.clone()
    }
    /// The stream below.
    pub fn inner(&self) -> &Io {
        &self.io
    }
    /// As [`Io::poll_read`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf) -> Poll<io::Result<usize>> {
        loop {
            let r = self.conn.reader().read(buf.space(1));
            match r {
                Ok(n) => {
                    buf.filled(n);
                    buf.release();
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => buf.release(),
                Err(e) => {
                    buf.release();
                    return Poll::Ready(if e.kind() == ErrorKind::UnexpectedEof { Ok(0) } else { Err(e) });
                }
            }
            ready!(poll_receive(&mut self.io, &mut self.conn, cx))?;
            // Answers to what was received (key updates, tickets).
            if self.conn.wants_write()
                && let Poll::Ready(Err(e)) = poll_send(&mut self.io, &mut self.conn, cx)
            {
                return Poll::Ready(Err(e));
            }
        }
    }
    /// As [`Io::poll_write`]: bytes leave `out` when their records were written.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut OutBuf) -> Poll<io::Result<()>> {
        loop {
            ready!(poll_send(&mut self.io, &mut self.conn, cx))?;
            out.advance(std::mem::take(&mut self.sealed));
            if out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let front = out.front();
            self.sealed = self.conn.writer().write(&front[..front.len().min(RECORD)])?;
        }
    }
    /// close_notify, then FIN.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.send_close_notify();
        ready!(poll_send(&mut self.io, &mut self.conn, cx))?;
        self.io.poll_shutdown(cx)
    }
}

/// What rustls still has to send, the alert last. A client of TLS 1.2 that has no certificate is told
/// `handshake_failure` (RFC 5246 section 7.4.6); rustls says `certificate_required`, which came with TLS 1.3.
fn last_words(conn: &mut Connection, e: &io::Error, out: &mut Vec<u8>) -> io::Result<()> {
    while conn.wants_write() {
        conn.write_tls(out)?;
    }
    let no_certificate = matches!(super::errors::of(e), Some(rustls::Error::NoCertificatesPresented));
    if let (true, [.., 21, 3, 3, 0, 2, 2, alert @ 116]) = (no_certificate, &mut out[..]) {
        *alert = 40;
    }
    Ok(())
}

fn poll_handshake(
    io: &mut Io,
    conn: &mut Connection,
    seen: &mut Seen,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        ready!(poll_send(io, conn, cx))?;
        if !conn.is_handshaking() {
            return Poll::Ready(Ok(()));
        }
        let received = poll_receive(io, conn, cx);
        seen.collect();
        ready!(received)?;
    }
}

fn poll_receive(io: &mut Io, conn: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    match conn.read_tls(&mut Sync { io, cx }) {
        Ok(0) if conn.is_handshaking() => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
        Ok(_) => match conn.process_new_packets() {
            Ok(_) => Poll::Ready(Ok(())),
            Err(e) => Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, e))),
        },
        Err(e) if e.kind() == ErrorKind::WouldBlock => Poll::Pending,
        Err(e) => Poll::Ready(Err(e)),
    }
}

fn poll_send(io: &mut Io, conn: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while conn.wants_write() {
        match conn.write_tls(&mut Sync { io, cx }) {
            Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Poll::Pending,
            Err(e) => return Poll::Ready(Err(e)),
        }
    }
    Poll::Ready(Ok(()))
}

/// The stream below, as rustls wants it: `WouldBlock` instead of pending.
struct Sync<'a, 'b> {
    io: &'a mut Io,
    cx: &'a mut Context<'b>,
}

fn block<T>(p: Poll<io::Result<T>>) -> io::Result<T> {
    match p {
        Poll::Ready(r) => r,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

impl Read for Sync<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = tokio::io::ReadBuf::new(buf);
        block(match self.io {
            Io::Tcp(s) => Pin::new(s).poll_read(self.cx, &mut buf),
            Io::Unix(s) => Pin::new(s).poll_read(self.cx, &mut buf),
            #[cfg(test)]
            Io::Memory(s) => Pin::new(s).poll_read(self.cx, &mut buf),
            Io::Tls(_) => Poll::Ready(Err(ErrorKind::Unsupported.into())),
        })?;
        Ok(buf.filled().len())
    }
}
impl Write for Sync<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        block(match self.io {
            Io::Tcp(s) => Pin::new(s).poll_write(self.cx, buf),
            Io::Unix(s) => Pin::new(s).poll_write(self.cx, buf),
            #[cfg(test)]
            Io::Memory(s) => Pin::new(s).poll_write(self.cx, buf),
            Io::Tls(_) => Poll::Ready(Err(ErrorKind::Unsupported.into())),
        })
    }
    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        block(match self.io {
            Io::Tcp(s) => Pin::new(s).poll_write_vectored(self.cx, bufs),
            Io::Unix(s) => Pin::new(s).poll_write_vectored(self.cx, bufs),
            #[cfg(test)]
            Io::Memory(s) => Pin::new(s).poll_write_vectored(self.cx, bufs),
            Io::Tls(_) => Poll::Ready(Err(ErrorKind::Unsupported.into())),
        })
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What logs and headers say about the handshake.
fn facts(c: &Connection, seen: &Seen) -> TlsInfo {
    let suite = c.negotiated_cipher_suite().map(|s| s.suite());
    TlsInfo {
        version: match c.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        },
        cipher: suite.map(openssl_name).unwrap_or_default().into(),
        group: c.negotiated_key_exchange_group().map(|g| group_name(g.name())).unwrap_or_default().into(),
        alpn: c.alpn_protocol().unwrap_or_default().to_vec(),
        sni: match c {
            Connection::Server(s) => s.server_name().unwrap_or_default().to_owned(),
            Connection::Client(_) => String::new(),
        },
        peer: c.peer_certificates().and_then(|all| all.first()).map(cert::facts),
        peer_intermediates: c
            .peer_certificates()
            .and_then(|all| all.get(1..))
            .map(|rest| rest.iter().map(|der| cert::pem_urlencoded(der)).collect())
            .unwrap_or_default(),
        local: seen.local.clone(),
        // A session that goes on was checked when it began.
        peer_validated: seen.validated.unwrap_or(c.peer_certificates().is_some()),
        session_id: String::new(),
    }
}

/// OpenSSL's name of a suite, which Envoy prints.
fn openssl_name(s: rustls::CipherSuite) -> String {
    use rustls::CipherSuite as C;
    match s {
        C::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256".into(),
        C::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384".into(),
        C::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256".into(),
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256".into(),
        C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384".into(),
        C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305".into(),
        C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256".into(),
        C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384".into(),
        C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305".into(),
        other => format!("{other:?}"),
    }
}
fn group_name(g: rustls::NamedGroup) -> String {
    use rustls::NamedGroup as G;
    match g {
        G::X25519 => "X25519".into(),
        G::secp256r1 => "P-256".into(),
        G::secp384r1 => "P-384".into(),
        G::X25519MLKEM768 => "X25519MLKEM768".into(),
        other => format!("{other:?}"),
    }
}

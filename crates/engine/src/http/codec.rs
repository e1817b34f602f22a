//! Which protocol a client speaks: said by configuration, by ALPN, or by its first bytes.

use super::{CloseReason, Hcm, h1, h2};
use crate::io::Io;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::info::ConnInfo;
use nuncio_wire::ReadBuf;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

/// `HttpConnectionManager.codec_type`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CodecType {
    /// ALPN, else the HTTP/2 preface, else HTTP/1.
    #[default]
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// First bytes of every HTTP/2 client (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Finds out what the client speaks; `read` holds what was read already. An HTTP/1 connection is returned, to be served
/// where its task keeps no more than it needs while it waits; any other one is served to its end.
pub async fn begin(io: Io, read: ReadBuf, mut counted: Counted) -> Option<Http1> {
    let (hcm, info) = (counted.hcm.clone(), counted.info.clone());
    match choose(io, read, &hcm, &info).await {
        Ok((io, read)) => Some(Http1 { io, read, counted }),
        Err(end) => {
            counted.end = Some(end);
            None
        }
    }
}

/// An HTTP/1 connection that is to be served.
pub struct Http1 {
    io: Io,
    read: ReadBuf,
    counted: Counted,
}

impl Http1 {
    /// Serves it to its end. What it is made of is made now, in the place of what its beginning needed.
    pub fn serve(self) -> impl Future<Output = ()> {
        let Http1 { io, read, counted } = self;
        let conn = h1::H1Conn::new(io, read, counted.hcm.clone(), counted.info.clone());
        async move {
            let mut counted = counted; // all of it, not the field that is set
            counted.end = Some(h1::serve(&conn).await);
        }
    }
}

/// A connection that counts as one of a connection manager: from its beginning, before any TLS handshake, to its end.
pub struct Counted {
    hcm: Rc<Hcm>,
    info: Rc<ConnInfo>,
    ssl: bool,
    /// Why it ended, and whether an exchange was under way.
    end: Option<(CloseReason, bool)>,
}

impl Counted {
    /// A connection begins.
    pub fn new(hcm: Rc<Hcm>, info: Rc<ConnInfo>, ssl: bool) -> Counted {
        let s = &hcm.stats;
        s.downstream_cx_total().inc();
        s.downstream_cx_active().inc();
        if ssl {
            s.downstream_cx_ssl_total().inc();
            s.downstream_cx_ssl_active().inc();
        }
        Counted { hcm, info, ssl, end: None }
    }
    /// It ended before a byte of HTTP came.
    pub fn ended(mut self, reason: CloseReason) {
        self.end = Some((reason, false));
    }
}

/// Counts bytes of a connection.
#[inline]
pub(super) fn count(hcm: &Hcm, info: &ConnInfo, received: u64, sent: u64) {
    if received > 0 {
        hcm.stats.downstream_cx_rx_bytes_total().add(received);
    }
    if sent > 0 {
        hcm.stats.downstream_cx_tx_bytes_total().add(sent);
    }
    info.count_bytes(received, sent);
}

// Also when a panic ends it, the removal of its listener, or the process: then it counts as one that we have cut short.
impl Drop for Counted {
    fn drop(&mut self) {
        let s = &self.hcm.stats;
        let (reason, active) = self.end.unwrap_or((CloseReason::LocalReset, self.info.streams.get() > 0));
        s.downstream_cx_active().dec();
        if self.ssl {
            s.downstream_cx_ssl_active().dec();
        }
        s.downstream_cx_destroy().inc();
        if reason.is_remote() {
            s.downstream_cx_destroy_remote().inc();
        } else {
            s.downstream_cx_destroy_local().inc();
        }
        if active {
            s.downstream_cx_destroy_active_rq().inc();
            // Envoy takes a client that does not answer for one that has left, here and nowhere else.
            match reason.is_remote() || reason == CloseReason::PingTimeout {
                true => s.downstream_cx_destroy_remote_active_rq().inc(),
                false => s.downstream_cx_destroy_local_active_rq().inc(),
            }
        }
        let lived = clock::now().saturating_duration_since(self.info.start);
        s.downstream_cx_length_ms().record(lived.as_millis() as u64);
    }
}

/// The stream of an HTTP/1 client; else the reason of its end, and whether an exchange was under way.
async fn choose(
    mut io: Io,
    mut read: ReadBuf,
    hcm: &Rc<Hcm>,
    info: &Rc<ConnInfo>,
) -> Result<(Io, ReadBuf), (CloseReason, bool)> {
    if !read.is_empty() {
        count(hcm, info, read.len() as u64, 0);
    }
    let began = clock::now();
    let http2 = match hcm.plan.codec {
        CodecType::Http1 => false,
        CodecType::Http2 => true,
        CodecType::Auto => match info.tls.get().map(|t| &t.alpn[..]) {
            Some(b"h2") => true,
            Some(b"http/1.1" | b"http/1.0") => false,
            _ => match sniff(&mut io, &mut read, hcm, info).await {
                Some(http2) => http2,
                None if hcm.timeouts.max_connection(info).is_some_and(|t| info.start + t <= clock::now()) => {
                    return Err((CloseReason::Local, false));
                }
                None if hcm.timeouts.idle.is_some_and(|t| began + t <= clock::now()) => {
                    return Err((CloseReason::IdleTimeout, false));
                }
                None => return Err((CloseReason::Remote, false)),
            },
        },
    };
    match http2 {
        true => Err(Box::pin(h2::serve(io, read, hcm.clone(), info.clone())).await),
        false => Ok((io, read)),
    }
}

/// Reads until the bytes are the preface or cannot become it. `None`: the client left, or stayed silent too long.
async fn sniff(io: &mut Io, read: &mut ReadBuf, hcm: &Hcm, info: &ConnInfo) -> Option<bool> {
    let bytes = poll_fn(|cx| {
        loop {
            let have = read.data();
            let n = have.len().min(PREFACE.len());
            if n > 0 && have[..n] != PREFACE[..n] {
                return Poll::Ready(Some(false));
            }
            if n == PREFACE.len() {
                return Poll::Ready(Some(true));
            }
            match io.poll_read(cx, read) {
                Poll::Ready(Ok(0)) if !read.is_empty() => return Poll::Ready(Some(false)),
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(n)) => count(hcm, info, n as u64, 0),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let age = hcm.timeouts.max_connection(info);
    let left = age.map(|t| (info.start + t).saturating_duration_since(clock::now()));
    let (kind, limit) = match (hcm.timeouts.idle, left) {
        (None, None) => return bytes.await,
        (Some(idle), left) if left.is_none_or(|t| idle < t) => {
            (TimerKind::HttpDownstreamConnectionIdle, idle)
        }
        (_, left) => (TimerKind::HttpDownstreamConnectionMax, left.unwrap_or_default()),
    };
    match clock::timeout(kind, limit, bytes).await {
        Ok(r) => r,
        Err(_) if kind == TimerKind::HttpDownstreamConnectionIdle => {
            hcm.stats.downstream_cx_idle_timeout().inc();
            None
        }
        Err(_) => {
            hcm.stats.downstream_cx_max_duration_reached().inc();
            None
        }
    }
}

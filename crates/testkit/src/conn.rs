//! A raw HTTP/1 connection, as client or as host. Reads messages with a parser of its own, so that the proxy's codec is
//! not tested by itself.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// How the peer ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// FIN.
    Closed,
    /// RST.
    Reset,
}

/// A message as it was read.
#[derive(Debug, Default, Clone)]
pub struct Message {
    /// Start line and headers, lines separated by `\r\n`, without the empty line.
    pub head: String,
    /// The body, without chunked framing.
    pub body: Vec<u8>,
    /// Trailers, as `head`.
    pub trailers: String,
}

impl Message {
    /// Status of a response.
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.head, name)
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn find<'a>(lines: &'a str, name: &str) -> Option<&'a str> {
    lines.split("\r\n").find_map(|l| {
        let (n, v) = l.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| v.trim())
    })
}

/// A connection.
pub struct Conn {
    io: Box<dyn Stream>,
    /// Kept apart, for what only a socket can do.
    buf: Vec<u8>,
    linger: Option<std::os::fd::OwnedFd>,
}

impl Conn {
    /// Connects to the proxy.
    pub async fn open(to: SocketAddr) -> Conn {
        let s = TcpStream::connect(to).await.expect("connected");
        Conn::tcp(s)
    }
    /// A TCP connection.
    pub fn tcp(s: TcpStream) -> Conn {
        use std::os::fd::AsFd;
        s.set_nodelay(true).expect("TCP_NODELAY");
        let linger = s.as_fd().try_clone_to_owned().expect("a descriptor");
        Conn { io: Box::new(s), buf: vec![], linger: Some(linger) }
    }
    /// Any other stream.
    pub fn over(io: impl Stream + 'static) -> Conn {
        Conn { io: Box::new(io), buf: vec![], linger: None }
    }
    /// Takes the stream back, for another protocol. What was read is lost.
    pub fn into_io(self) -> Box<dyn Stream> {
        self.io
    }
    /// Sends bytes; a peer that is gone is noticed by reading.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes).await;
    }
    /// Sends bytes.
    ///
    /// # Errors
    /// The peer is gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.io.write_all(bytes.as_ref()).await?;
        self.io.flush().await
    }
    /// FIN; reading goes on.
    pub async fn finish(&mut self) {
        let _ = self.io.shutdown().await; // the peer may be gone
    }
    /// Ends the connection with RST.
    pub fn reset(self) {
        if let Some(fd) = self.linger {
            let s = TcpStream::from_std(fd.into()).expect("a socket");
            s.set_zero_linger().expect("SO_LINGER");
        }
    }
    /// Reads once; `false` at the end.
    async fn fill(&mut self) -> Result<bool, Fate> {
        let read = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.buf)).await;
        match read.unwrap_or_else(|_| panic!("nothing came; so far {:?}", self.so_far())) {
            Ok(0) => Ok(false),
            Ok(_) => Ok(true),
            Err(_) => Err(Fate::Reset),
        }
    }
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.buf[..self.buf.len().min(400)]).into_owned()
    }
    /// Reads until there are `n` bytes; fewer when the connection ends before.
    pub async fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.buf.len() < n && self.fill().await == Ok(true) {}
        let n = n.min(self.buf.len());
        self.buf.drain(..n).collect()
    }
    /// Reads up to the end of a head; `None` when the connection ends before.
    pub async fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n").await
    }
    async fn until(&mut self, mark: &str) -> Option<String> {
        let mut from = 0;
        loop {
            let at = self.buf[from..].windows(mark.len()).position(|w| w == mark.as_bytes());
            if let Some(i) = at.map(|i| i + from) {
                let line = self.buf.drain(..i + mark.len()).take(i).collect();
                return Some(String::from_utf8(line).expect("text"));
            }
            from = self.buf.len().saturating_sub(mark.len() - 1);
            if self.fill().await != Ok(true) {
                return None;
            }
        }
    }
    /// Reads a request with its body; `None` when the connection ends before.
    pub async fn request(&mut self) -> Option<Message> {
        let head = self.head().await?;
        let framed = find(&head, "transfer-encoding").is_some() || find(&head, "content-length").is_some();
        self.body(head, framed).await
    }
    /// Reads a response with its body; `None` when the connection ends before it is complete.
    pub async fn response(&mut self) -> Option<Message> {
        let head = self.head().await?;
        let status = Message { head: head.clone(), ..Default::default() }.status();
        self.body(head, status >= 200 && status != 204 && status != 304).await
    }
    /// Reads a response to HEAD.
    pub async fn response_to_head(&mut self) -> Option<Message> {
        let head = self.head().await?;
        self.body(head, false).await
    }
    async fn body(&mut self, head: String, any: bool) -> Option<Message> {
        let mut m = Message { head, ..Default::default() };
        if !any {
            return Some(m);
        }
        if m.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.until("\r\n").await?;
                let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
                if size == 0 {
                    loop {
                        let line = self.until("\r\n").await?;
                        if line.is_empty() {
                            return Some(m);
                        }
                        m.trailers.push_str(&line);
                        m.trailers.push_str("\r\n");
                    }
                }
                let data = self.bytes(size + 2).await;
                m.body.extend_from_slice(data.get(..size)?);
                if data.len() < size + 2 {
                    return None;
                }
            }
        }
        match m.header("content-length").map(|n| n.parse().expect("a length")) {
            Some(n) => {
                m.body = self.bytes(n).await;
                (m.body.len() == n).then_some(m)
            }
            None => {
                while self.fill().await.ok()? {}
                m.body = std::mem::take(&mut self.buf);
                Some(m)
            }
        }
    }
    /// Sends a request and reads its response.
    ///
    /// # Panics
    /// The connection ends before the response does.
    pub async fn ask(&mut self, request: &str) -> Message {
        self.send(request).await;
        self.response().await.unwrap_or_else(|| panic!("no response to {request:?}"))
    }
    /// `GET path`.
    ///
    /// # Panics
    /// As [`ask`](Self::ask).
    pub async fn get(&mut self, path: &str) -> Message {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n")).await
    }
    /// Waits for the end of the connection; what comes before is thrown away.
    pub async fn fate(&mut self) -> Fate {
        loop {
            match self.fill().await {
                Ok(true) => self.buf.clear(),
                Ok(false) => return Fate::Closed,
                Err(f) => return f,
            }
        }
    }
    /// True when nothing arrives for `t` and the connection stays open.
    pub async fn quiet(&mut self, t: Duration) -> bool {
        self.buf.is_empty() && tokio::time::timeout(t, self.io.read_buf(&mut self.buf)).await.is_err()
    }
}

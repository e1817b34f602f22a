//! A raw HTTP/2 endpoint, as client or as host: the test decides what is sent when, and sees every event.

use crate::conn::Stream;
use nuncio_wire::h2::{Connection, ErrorCode, Event, Sent, Settings, StreamId};
use nuncio_wire::{Chunk, HeaderMap, ReadBuf, RequestHead, ResponseHead, name};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One end of a connection.
pub struct Peer {
    io: Box<dyn Stream>,
    read: ReadBuf,
    /// For what [`Peer`] has no method for.
    pub codec: Connection,
    waiting: BTreeMap<StreamId, VecDeque<Out>>,
    /// Body bytes are released as they arrive; switch off to play a peer that does not read.
    pub release: bool,
    /// The other end asked to go elsewhere (GOAWAY).
    pub told_to_go: bool,
    messages: BTreeMap<StreamId, Message>,
    closed: bool,
}

enum Out {
    Data(Chunk, bool),
    Trailers(HeaderMap),
}

/// What has arrived on a stream.
#[derive(Debug, Default, Clone)]
pub struct Message {
    /// Status of a response, 0 before its head came.
    pub status: u16,
    /// 1xx heads before it.
    pub informational: Vec<u16>,
    /// Headers; those of a request with its pseudo-headers.
    pub headers: HeaderMap,
    /// Body so far.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
    /// It is complete.
    pub ended: bool,
    /// It was reset with this code, or cut by the end of the connection (`None` in the inner option).
    pub reset: Option<Option<ErrorCode>>,
}

impl Message {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get_str(&*name.to_ascii_lowercase())
    }
    /// First value of a trailer.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get_str(name)
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request's head.
pub fn get(path: &str) -> RequestHead {
    request("GET", path, &[])
}
/// A request's head with more headers.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut h = RequestHead::default();
    h.headers.append(name::METHOD, method.as_bytes());
    h.headers.append(name::SCHEME, b"http");
    h.headers.append(name::AUTHORITY, b"h");
    h.headers.append(name::PATH, path.as_bytes());
    headers.iter().for_each(|(n, v)| h.headers.append(*n, v.as_bytes()));
    h
}
/// A response's head.
pub fn response(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
    let mut h = ResponseHead::new(status);
    headers.iter().for_each(|(n, v)| h.headers.append(*n, v.as_bytes()));
    h
}
/// Headers that are no head: trailers.
pub fn fields(all: &[(&str, &str)]) -> HeaderMap {
    let mut m = HeaderMap::new();
    all.iter().for_each(|(n, v)| m.append(*n, v.as_bytes()));
    m
}

impl Peer {
    /// Connects to the proxy, with default settings.
    pub async fn open(to: SocketAddr) -> Peer {
        Peer::open_with(to, Settings::default()).await
    }
    /// Connects to the proxy.
    pub async fn open_with(to: SocketAddr, settings: Settings) -> Peer {
        let s = TcpStream::connect(to).await.expect("connected");
        s.set_nodelay(true).expect("TCP_NODELAY");
        Peer::client(s, settings)
    }
    /// The client's end.
    pub fn client(io: impl Stream + 'static, settings: Settings) -> Peer {
        Peer::new(Box::new(io), Connection::client(Arc::new(settings)))
    }
    /// The server's end.
    pub fn server(io: impl Stream + 'static, settings: Settings) -> Peer {
        Peer::new(Box::new(io), Connection::server(Arc::new(settings)))
    }
    fn new(io: Box<dyn Stream>, codec: Connection) -> Peer {
        Peer {
            io,
            read: ReadBuf::new(),
            codec,
            waiting: BTreeMap::new(),
            release: true,
            messages: BTreeMap::new(),
            told_to_go: false,
            closed: false,
        }
    }
    /// Client: begins a request.
    ///
    /// # Panics
    /// The server takes no more streams.
    pub fn begin(&mut self, head: &RequestHead, end: bool) -> StreamId {
        self.codec.open(head, end, 0).expect("a stream")
    }
    /// Server: sends a response's head.
    pub fn respond(&mut self, id: StreamId, head: &ResponseHead, end: bool) {
        let _ = self.codec.send_response(id, head, end); // the peer may have reset the stream
    }
    /// Sends data, as soon as the windows allow.
    pub fn data(&mut self, id: StreamId, data: impl Into<Chunk>, end: bool) {
        self.waiting.entry(id).or_default().push_back(Out::Data(data.into(), end));
        self.go_on(id);
    }
    /// Sends trailers, behind all data.
    pub fn trailers(&mut self, id: StreamId, all: &[(&str, &str)]) {
        self.waiting.entry(id).or_default().push_back(Out::Trailers(fields(all)));
        self.go_on(id);
    }
    fn go_on(&mut self, id: StreamId) {
        let Some(queue) = self.waiting.get_mut(&id) else { return };
        while let Some(out) = queue.front_mut() {
            match out {
                Out::Data(c, end) => {
                    if self.codec.send_data(id, c, *end) == Sent::Wait {
                        return;
                    }
                }
                Out::Trailers(t) => {
                    let _ = self.codec.send_trailers(id, t); // the peer may have reset the stream
                }
            }
            queue.pop_front();
        }
        self.waiting.remove(&id);
    }
    /// Bytes that wait for a window of the peer.
    pub fn unsent(&self) -> usize {
        let size = |o: &Out| if let Out::Data(c, _) = o { c.len() } else { 0 };
        self.waiting.values().flatten().map(size).sum()
    }
    /// Writes what the codec has to say.
    pub async fn flush(&mut self) {
        loop {
            while let Some((id, _)) = self.codec.writable() {
                self.go_on(id);
            }
            if !self.codec.wants_write() {
                return;
            }
            let out = self.codec.out();
            let bytes = out.front().to_vec();
            out.advance(bytes.len());
            if self.io.write_all(&bytes).await.is_err() {
                let out = self.codec.out();
                out.clear();
                return; // noticed by reading
            }
            let _ = self.io.flush().await; // as above
        }
    }
    /// Sends what waits, then waits for the next event; `None` when the connection has ended.
    ///
    /// # Panics
    /// Nothing comes for ten seconds.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            self.flush().await;
            match self.codec.read(&mut self.read) {
                Ok(Some(e)) => {
                    self.note(&e);
                    return Some(e);
                }
                Ok(None) if self.codec.wants_write() => continue, // PING and SETTINGS are answered
                Ok(None) => {}
                Err(e) => panic!("the proxy broke the protocol: {e}"),
            }
            if self.closed {
                return None;
            }
            let mut buf = [0; 16 * 1024];
            let read = tokio::time::timeout(PATIENCE, self.io.read(&mut buf)).await;
            match read.unwrap_or_else(|_| panic!("nothing came; so far {:?}", self.messages)) {
                Ok(0) | Err(_) => {
                    self.closed = true;
                    self.messages.values_mut().filter(|m| !m.ended).for_each(|m| {
                        m.reset.get_or_insert(None);
                    });
                }
                Ok(n) => self.read.extend(&buf[..n]),
            }
        }
    }
    fn note(&mut self, e: &Event) {
        match e {
            Event::Request { id, head, end } => {
                let m = self.messages.entry(*id).or_default();
                (m.headers, m.ended) = (head.headers.clone(), *end);
            }
            Event::Response { id, head, end, .. } => {
                let m = self.messages.entry(*id).or_default();
                if head.is_informational() {
                    m.informational.push(head.status);
                } else {
                    (m.status, m.headers, m.ended) = (head.status, head.headers.clone(), *end);
                }
            }
            Event::Data { id, data, end, .. } => {
                let m = self.messages.entry(*id).or_default();
                m.body.extend_from_slice(data);
                m.ended = *end;
                if self.release {
                    self.codec.release(*id, data.len());
                }
            }
            Event::Trailers { id, map, .. } => {
                let m = self.messages.entry(*id).or_default();
                (m.trailers, m.ended) = (Some(map.clone()), true);
            }
            Event::Reset { id, code, .. } | Event::StreamError { id, code, .. } => {
                self.messages.entry(*id).or_default().reset = Some(Some(*code));
            }
            Event::Writable { id, .. } => {
                let id = *id;
                self.go_on(id);
            }
            Event::GoAway { .. } => self.told_to_go = true,
            Event::Settings | Event::Pong { .. } => {}
        }
    }
    /// What has arrived on a stream so far.
    pub fn message(&self, id: StreamId) -> Message {
        self.messages.get(&id).cloned().unwrap_or_default()
    }
    /// Waits until a stream's message is complete or cut.
    pub async fn message_of(&mut self, id: StreamId) -> Message {
        self.until(id, |m| m.ended || m.reset.is_some()).await
    }
    /// Waits until a stream's message is as `good` wants it, or cannot become so.
    pub async fn until(&mut self, id: StreamId, good: impl Fn(&Message) -> bool) -> Message {
        loop {
            let m = self.message(id);
            if good(&m) || m.ended || m.reset.is_some() {
                return m;
            }
            if self.next().await.is_none() {
                let mut m = self.message(id);
                m.reset.get_or_insert(None);
                return m;
            }
        }
    }
    /// Client: a whole request and its response.
    pub async fn ask(&mut self, head: &RequestHead, body: Option<&[u8]>) -> Message {
        let id = self.begin(head, body.is_none());
        if let Some(b) = body {
            self.data(id, b.to_vec(), true);
        }
        self.message_of(id).await
    }
    /// Server: the next request's head; `None` when the connection has ended.
    pub async fn request(&mut self) -> Option<(StreamId, Message)> {
        loop {
            if let Event::Request { id, .. } = self.next().await? {
                return Some((id, self.message(id)));
            }
        }
    }
    /// Keeps reading and writing for `t`.
    pub async fn turn(&mut self, t: Duration) {
        let _ = tokio::time::timeout(t, async { while self.next().await.is_some() {} }).await;
    }
    /// Waits for the end of the connection.
    pub async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// Script of a host that answers every request when it is complete, with what `answer` makes of it.
pub async fn serve(io: TcpStream, settings: Settings, answer: impl Fn(&Message) -> (u16, Vec<u8>)) {
    let _ = io.set_nodelay(true); // only makes tests faster
    let mut p = Peer::server(io, settings);
    while let Some(e) = p.next().await {
        let id = match e {
            Event::Request { id, end: true, .. }
            | Event::Data { id, end: true, .. }
            | Event::Trailers { id, .. } => id,
            _ => continue,
        };
        let m = p.message(id);
        let (status, body) = answer(&m);
        p.respond(id, &response(status, &[]), body.is_empty());
        if !body.is_empty() {
            p.data(id, body, m.trailers.is_none());
        }
        if let Some(t) = &m.trailers {
            let all: Vec<_> = t.iter().map(|h| (text(h.name), text(h.value))).collect();
            let all: Vec<_> = all.iter().map(|(n, v)| (&**n, &**v)).collect();
            p.trailers(id, &all);
        }
        p.messages.remove(&id);
    }
}

fn text(b: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(b.as_ref()).into_owned()
}

//! Clients and hosts of either protocol behind one face, for tests that hold for all pairings.

use nuncio_testkit::h2::{self, Peer};
use nuncio_testkit::{Config, Conn, Upstream};
use nuncio_wire::h2::Settings;
use std::net::SocketAddr;

/// A version of HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Http {
    One,
    Two,
}

/// All four pairings of client and host.
pub const PAIRINGS: [(Http, Http); 4] =
    [(Http::One, Http::One), (Http::One, Http::Two), (Http::Two, Http::One), (Http::Two, Http::Two)];

/// What a client got.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub headers: Vec<(String, String)>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
    pub fn trailer(&self, name: &str) -> Option<&str> {
        find(&self.trailers, name)
    }
}

fn find<'a>(all: &'a [(String, String)], name: &str) -> Option<&'a str> {
    all.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| &**v)
}

/// What a client asks.
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: Option<&'a [u8]>,
    /// HTTP/1: sent chunked; needed for trailers.
    pub chunked: bool,
    pub trailers: &'a [(&'a str, &'a str)],
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Ask { method: "GET", path: "/", body: None, chunked: false, trailers: &[] }
    }
}

/// A client's connection.
pub enum Client {
    One(Box<Conn>),
    Two(Box<Peer>),
}

impl Client {
    pub async fn open(v: Http, to: SocketAddr) -> Client {
        match v {
            Http::One => Client::One(Box::new(Conn::open(to).await)),
            Http::Two => Client::Two(Box::new(Peer::open(to).await)),
        }
    }
    pub async fn ask(&mut self, a: &Ask<'_>) -> Answer {
        match self {
            Client::One(c) => ask_one(c, a).await,
            Client::Two(p) => ask_two(p, a).await,
        }
    }
    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(&Ask { path, ..Default::default() }).await
    }
}

async fn ask_one(c: &mut Conn, a: &Ask<'_>) -> Answer {
    let mut m = format!("{} {} HTTP/1.1\r\nhost: h\r\nte: trailers\r\n", a.method, a.path).into_bytes();
    match a.body {
        None => m.extend_from_slice(b"\r\n"),
        Some(b) if a.chunked => {
            m.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for piece in b.chunks(7000) {
                m.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                m.extend_from_slice(piece);
                m.extend_from_slice(b"\r\n");
            }
            m.extend_from_slice(b"0\r\n");
            for (n, v) in a.trailers {
                m.extend_from_slice(format!("{n}: {v}\r\n").as_bytes());
            }
            m.extend_from_slice(b"\r\n");
        }
        Some(b) => {
            m.extend_from_slice(format!("content-length: {}\r\n\r\n", b.len()).as_bytes());
            m.extend_from_slice(b);
        }
    }
    c.send(m).await;
    let r = if a.method == "HEAD" { c.response_to_head().await } else { c.response().await };
    let r = r.expect("a response");
    Answer { status: r.status(), headers: lines(&r.head, 1), trailers: lines(&r.trailers, 0), body: r.body }
}

fn lines(text: &str, skip: usize) -> Vec<(String, String)> {
    let pair = |l: &str| l.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
    text.split("\r\n").skip(skip).filter_map(pair).collect()
}

async fn ask_two(p: &mut Peer, a: &Ask<'_>) -> Answer {
    let id = p.begin(&h2::request(a.method, a.path, &[("te", "trailers")]), a.body.is_none());
    if let Some(b) = a.body {
        p.data(id, b.to_vec(), a.trailers.is_empty());
        if !a.trailers.is_empty() {
            p.trailers(id, a.trailers);
        }
    }
    let m = p.message_of(id).await;
    assert_eq!(m.reset, None, "{m:?}");
    let pairs = |h: &nuncio_wire::HeaderMap| -> Vec<(String, String)> {
        h.iter().map(|h| (text(h.name), text(h.value))).collect()
    };
    Answer {
        status: m.status,
        headers: pairs(&m.headers),
        trailers: m.trailers.as_ref().map(pairs).unwrap_or_default(),
        body: m.body,
    }
}

fn text(b: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(b.as_ref()).into_owned()
}

/// A host that sends back the body and trailers it gets. `/204` and `/304` are answered with that status.
pub async fn echo(v: Http) -> Upstream {
    match v {
        Http::One => {
            Upstream::answering(|m| {
                for code in ["204", "304"] {
                    if m.head.contains(&format!(" /{code} ")) {
                        return format!("HTTP/1.1 {code} x\r\netag: e\r\n\r\n").into_bytes();
                    }
                }
                if m.head.starts_with("HEAD ") {
                    return b"HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n".to_vec();
                }
                if m.trailers.is_empty() {
                    return nuncio_testkit::upstream::ok(&m.body);
                }
                let mut r = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
                for piece in m.body.chunks(5000) {
                    r.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    r.extend_from_slice(piece);
                    r.extend_from_slice(b"\r\n");
                }
                r.extend_from_slice(format!("0\r\n{}\r\n", m.trailers).as_bytes());
                r
            })
            .await
        }
        Http::Two => {
            Upstream::tcp(|io, _| {
                h2::serve(io, Settings::default(), |m| match m.header(":path") {
                    Some("/204") => (204, vec![]),
                    Some("/304") => (304, vec![]),
                    _ => (200, m.body.clone()),
                })
            })
            .await
        }
    }
}

/// A bootstrap for a host that speaks `v`. Trailers pass on HTTP/1 too.
pub fn config(v: Http, host: SocketAddr) -> Config {
    let trailers = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': \
                    type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
                    {http_protocol_options: {enable_trailers: true}}}}";
    let c = match v {
        Http::One => {
            Config::new().cluster("up", host, trailers).route("match: {prefix: /}, route: {cluster: up}")
        }
        Http::Two => Config::to_h2(host),
    };
    c.hcm("http_protocol_options: {enable_trailers: true}")
}

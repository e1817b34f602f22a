//! The host behind the proxy: HTTP/1 and HTTP/2 on one port.
//!
//! `/echo` gives the body back, `/bytes/N` makes one, `/zeros` is 10 MB that cost nothing to make, `/drip/N` makes one slowly, `/cut/N` ends in the middle, `/stall` never answers,
//! `/ws` is a WebSocket that gives back what comes, `/soak.Echo/Talk` the same for gRPC messages. Bodies follow [`crate::pattern`],
//! with the seed from `x-seed`; requests whose body (`x-length`) does not are counted in [`WRONG`].

use crate::Result;
use crate::pattern::{Check, pieces};
use crate::pipe::pipe;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub type Body = BoxBody<Bytes, io::Error>;

/// Requests that arrived with a wrong body.
pub static WRONG: AtomicU64 = AtomicU64::new(0);

static ZEROS: [u8; 10_000_000] = [0; 10_000_000];

/// Serves on a port of its own until the program ends.
pub async fn start() -> Result<SocketAddr> {
    let listener = listen()?;
    let addr = listener.local_addr()?;
    tokio::spawn(serve(listener));
    Ok(addr)
}

/// The same on a thread of its own, so that who is served there takes nothing from others.
pub fn start_apart() -> Result<SocketAddr> {
    let (told, addr) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let listener = listen()?;
            told.send(listener.local_addr()?)?;
            serve(listener).await;
            Ok(())
        })
    });
    Ok(addr.recv()?)
}

/// With room for everybody who comes at once: who finds none tries again a second later.
fn listen() -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    Ok(socket.listen(4096)?)
}

/// The subcommand: nothing but a host.
pub async fn alone(port: u16) -> Result<()> {
    serve(TcpListener::bind(("127.0.0.1", port)).await?).await;
    Ok(())
}

async fn serve(listener: TcpListener) {
    loop {
        let Ok((io, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = io.set_nodelay(true);
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            // The proxy resets as many streams as its clients do.
            server.http2().max_pending_accept_reset_streams(100_000).max_local_error_reset_streams(None);
            // Connections end in every way here: that is no news.
            let _ = server.serve_connection_with_upgrades(TokioIo::new(io), service_fn(answer)).await;
        });
    }
}

pub fn number(h: &HeaderMap, name: &str) -> u64 {
    h.get(name).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0)
}

async fn answer(rq: Request<Incoming>) -> std::result::Result<Response<Body>, Infallible> {
    let path = rq.uri().path().to_owned();
    let seed = number(rq.headers(), "x-seed");
    let (name, n) = path.rsplit_once('/').unwrap_or_default();
    let n = n.parse().unwrap_or(0);
    Ok(match (name, path.as_str()) {
        ("/bytes", _) => made(seed, n, Way::Whole),
        ("/drip", _) => made(seed, n, Way::Slowly),
        ("/cut", _) => made(seed, n, Way::Half),
        (_, "/zeros") => {
            Response::new(Full::new(Bytes::from_static(&ZEROS)).map_err(|never| match never {}).boxed())
        }
        (_, "/echo") => echo(rq, None),
        (_, "/soak.Echo/Talk") => echo(
            rq,
            Some(HeaderMap::from_iter([(
                hyper::header::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            )])),
        ),
        (_, "/ws") => websocket(rq),
        (_, "/stall") => std::future::pending().await,
        _ => status(StatusCode::NOT_FOUND),
    })
}

fn status(code: StatusCode) -> Response<Body> {
    let mut r = Response::new(Full::default().map_err(|never: Infallible| match never {}).boxed());
    *r.status_mut() = code;
    r
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Whole,
    Slowly,
    Half,
}

fn made(seed: u64, len: usize, way: Way) -> Response<Body> {
    let (mut tx, body) = pipe();
    tokio::spawn(async move {
        let mut sent = 0;
        for p in pieces(seed, len) {
            if way == Way::Half && sent * 2 >= len {
                return tx.abort("cut").await;
            }
            sent += p.len();
            let small = if way == Way::Slowly { (p.len() / 4).max(1) } else { p.len() };
            for at in (0..p.len()).step_by(small) {
                if tx.send_data(p.slice(at..p.len().min(at + small))).await.is_err() {
                    return;
                }
                if way == Way::Slowly {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        if way == Way::Half {
            tx.abort("cut").await;
        }
    });
    let mut r = Response::new(body.boxed());
    // With a length half of the time, so that both framings are cut and checked.
    if seed.is_multiple_of(2) {
        r.headers_mut().insert("content-length", HeaderValue::from(len));
    }
    r
}

/// The body back; with `trailers` after it, as gRPC has them.
fn echo(rq: Request<Incoming>, trailers: Option<HeaderMap>) -> Response<Body> {
    let (seed, length) = (number(rq.headers(), "x-seed"), number(rq.headers(), "x-length"));
    let (mut tx, body) = pipe();
    let (grpc, http1) = (trailers.is_some(), rq.version() == hyper::Version::HTTP_11);
    // gRPC's messages are checked by who sent them; those without manners send anything.
    let checked = !grpc && rq.headers().contains_key("x-seed");
    let mut rq = rq.into_body();
    tokio::spawn(async move {
        let mut check = Check::new(seed);
        while let Some(frame) = rq.frame().await {
            // Who cuts its request does not want to be checked.
            let Ok(frame) = frame else { return tx.abort("the request was cut").await };
            let Ok(data) = frame.into_data() else { continue };
            if checked {
                check.add(&data);
            }
            if tx.send(Frame::data(data)).await.is_err() {
                return;
            }
        }
        if checked && !check.whole(length as usize) {
            WRONG.fetch_add(1, Relaxed);
            println!(
                "       the host got {} of {length} bytes, HTTP/1: {http1}, right: {}",
                check.seen(),
                check.right()
            );
        }
        if let Some(t) = trailers {
            let _ = tx.send(Frame::trailers(t)).await;
        }
    });
    let mut r = Response::new(body.boxed());
    if grpc {
        r.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    }
    r
}

fn websocket(mut rq: Request<Incoming>) -> Response<Body> {
    let Some(key) = rq.headers().get("sec-websocket-key").cloned() else {
        return status(StatusCode::BAD_REQUEST);
    };
    let upgraded = hyper::upgrade::on(&mut rq);
    tokio::spawn(async move {
        let Ok(io) = upgraded.await else { return };
        let mut ws = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
        while let Some(Ok(m)) = ws.next().await {
            if (m.is_binary() && ws.send(m).await.is_err()) || ws.flush().await.is_err() {
                return;
            }
        }
    });
    let mut r = status(StatusCode::SWITCHING_PROTOCOLS);
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    r.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    r.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    r.headers_mut().insert("sec-websocket-accept", accept);
    r
}

//! HTTP/1.1: one request after the other on a connection, checked.

use super::{Tally, Target};
use crate::Result;
use crate::origin::Body;
use crate::pattern::{Check, Dice, pieces};
use crate::pipe::pipe;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A request on a connection of its own: status and body.
pub async fn once(to: SocketAddr, method: &str, path: &str) -> Result<(u16, String)> {
    let io = Target { addr: to, trust: None }.connect("http/1.1").await?;
    let (mut send, conn) = http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(conn);
    let rq = Request::builder().method(method).uri(path).header("host", "soak").body(Empty::<Bytes>::new())?;
    let r = send.send_request(rq).await?;
    let status = r.status().as_u16();
    Ok((status, String::from_utf8_lossy(&r.into_body().collect().await?.to_bytes()).into_owned()))
}

/// A request of the usual mix, and what is to be expected of it.
pub struct Ask {
    pub request: Request<Body>,
    /// What it asks for.
    pub what: &'static str,
    /// Which cluster it goes to, as a path.
    pub cluster: &'static str,
    pub seed: u64,
    /// Length of a right answer.
    pub len: usize,
    /// Status of a right answer.
    pub status: u16,
    /// The host cuts the body.
    pub cut: bool,
}

/// A random request. `absolute` is what goes before the path.
pub fn ask(dice: &mut Dice, absolute: &str) -> Result<Ask> {
    let seed = dice.below(1 << 40);
    let len = match dice.below(20) {
        0 => 0,
        1 => dice.below(1_000_000),
        2..5 => dice.below(60_000),
        _ => dice.below(2000),
    } as usize;
    let cluster = if dice.one_in(2) { "/h1" } else { "/h2" };
    let (what, path, status, body, cut) = match dice.below(40) {
        0 => ("stall", "/stall".to_owned(), 504, false, false),
        1 => ("no route", "/none".to_owned(), 404, false, false),
        2 => ("drip", format!("/drip/{}", len % 20_000), 200, false, false),
        3 => ("cut", format!("/cut/{}", len + 50_000), 200, false, true),
        4..20 => ("echo", "/echo".to_owned(), 200, true, false),
        _ => ("bytes", format!("/bytes/{len}"), 200, false, false),
    };
    let path =
        if what == "no route" { format!("{absolute}{path}") } else { format!("{absolute}{cluster}{path}") };
    let len = match what {
        "drip" => len % 20_000,
        "stall" | "no route" => 0,
        _ => len,
    };
    let mut rq = Request::builder().uri(path).header("x-seed", seed).header("x-length", len);
    if absolute.is_empty() {
        rq = rq.header("host", "soak");
    }
    let rq = if body {
        // Half of them with a length, the others chunked.
        if dice.one_in(2) {
            rq = rq.header("content-length", len);
        }
        rq.method("POST").body(sending(seed, len))
    } else {
        rq.body(Empty::new().map_err(|never| match never {}).boxed())
    }?;
    Ok(Ask { request: rq, what, cluster, seed, len, status, cut })
}

fn sending(seed: u64, len: usize) -> Body {
    let (mut tx, body) = pipe();
    tokio::spawn(async move {
        for p in pieces(seed, len) {
            if tx.send_data(p).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}

/// What an answer has to be checked against.
pub struct Wanted {
    what: &'static str,
    cluster: &'static str,
    seed: u64,
    len: usize,
    status: u16,
    cut: bool,
}

impl Ask {
    pub fn split(self) -> (Request<Body>, Wanted) {
        let Ask { request, what, cluster, seed, len, status, cut } = self;
        (request, Wanted { what, cluster, seed, len, status, cut })
    }
}

impl Wanted {
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Reads and checks an answer, slowly if `slow`. Says whether the connection can go on.
    pub async fn check(&self, t: &Tally, r: Response<Incoming>, slow: bool) -> bool {
        let (status, http2) = (r.status().as_u16(), r.version() == hyper::Version::HTTP_2);
        // A stream may be reset before its head has left.
        if self.cut && status == 503 {
            t.good();
            return r.into_body().collect().await.is_ok();
        }
        if status != self.status {
            let body = r.into_body().collect().await.map(|b| b.to_bytes());
            let text = body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            t.odd(format!("{}: {status} {}", self.what, text.get(..120).unwrap_or(&text)));
            return body.is_ok();
        }
        let mut check = Check::new(self.seed);
        let mut body = r.into_body();
        let mut cut = false;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(f) => {
                    if let (Ok(data), 200) = (f.into_data(), status) {
                        check.add(&data);
                    }
                }
                Err(_) => {
                    cut = true;
                    break;
                }
            }
            if slow {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        match () {
            () if !check.right() => t.wrong(self.what),
            () if cut != self.cut => t.odd(format!("{}: cut is {cut}", self.what)),
            () if !cut && status == 200 && !check.whole(self.len) => {
                let over = if http2 { "HTTP/2" } else { "HTTP/1" };
                let (what, to) = (self.what, self.cluster);
                t.wrong(&format!("{what} over {over} to {to}: {} of {} bytes", check.seen(), self.len));
            }
            () => t.good(),
        }
        !cut
    }
}

/// Asks until the end; now and then it reads slowly, or leaves and comes back.
pub async fn run(t: Arc<Tally>, to: Target, seed: u64) {
    let mut dice = Dice::new(seed);
    while !t.over() {
        if let Err(e) = session(&t, &to, &mut dice).await {
            t.odd(format!("h1: {e}"));
        }
    }
}

async fn session(t: &Tally, to: &Target, dice: &mut Dice) -> Result<()> {
    let (mut send, conn) = http1::handshake(TokioIo::new(to.connect("http/1.1").await?)).await?;
    let task = tokio::spawn(conn);
    for _ in 0..dice.below(300) {
        if t.over() {
            break;
        }
        if send.ready().await.is_err() {
            return Ok(());
        }
        let (rq, wanted) = ask(dice, "")?.split();
        let slow = dice.one_in(50);
        let r = match send.send_request(rq).await {
            Ok(r) => r,
            // The proxy closes when a body is cut or a request was answered before its end.
            Err(_) if wanted.cut => {
                t.good();
                return Ok(());
            }
            // The proxy may close an idle connection at any time; this request has not left.
            Err(e) if e.is_closed() || e.is_canceled() => return Ok(()),
            Err(e) => return Err(format!("{}: {e}", wanted.what).into()),
        };
        if !wanted.check(t, r, slow).await || send.is_closed() {
            break;
        }
        if dice.one_in(100) {
            // Goes away in the middle of an answer.
            let (rq, _) = ask(dice, "")?.split();
            let _ = tokio::time::timeout(Duration::from_millis(dice.below(5)), send.send_request(rq)).await;
            break;
        }
    }
    task.abort();
    Ok(())
}

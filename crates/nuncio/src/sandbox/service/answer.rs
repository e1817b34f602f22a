//! What the service says to a request.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};

use super::Identity;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Longest `/delay`.
const MAX_DELAY: Duration = Duration::from_secs(600);
/// Largest `/bytes` and `/chunked`: 1 TiB, sent as it is pulled.
const MAX_BYTES: u64 = 1 << 40;

/// Answers one request that came in on address `local`.
pub(super) async fn answer(
    identity: Arc<Identity>,
    local: IpAddr,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_string();
    let own = format!("/service/{}", identity.name);
    let rest = match path.strip_prefix(&own) {
        Some("" | "/") => return Ok(hello(&identity, local)),
        Some(below) if below.starts_with('/') => below,
        // The name of another service, as `/service/12` for service 1.
        _ if path.starts_with("/service/") => return Ok(not_found()),
        _ => &path,
    };
    let (behaviour, argument) = match rest.strip_prefix('/').and_then(|r| r.split_once('/')) {
        Some((behaviour, argument)) => (behaviour, Some(argument)),
        None => (rest.trim_start_matches('/'), None),
    };
    Ok(match (behaviour, argument) {
        ("healthz", None) => text(StatusCode::OK, "ok\n"),
        ("headers", None) => headers(&request),
        ("echo", None) => echo(request),
        ("status", Some(code)) => status(code),
        ("delay", Some(time)) => delay(time).await,
        ("bytes", Some(count)) => bytes(count, Length::Known),
        ("chunked", Some(count)) => bytes(count, Length::Chunked),
        _ => not_found(),
    })
}

fn hello(identity: &Identity, local: IpAddr) -> Answer {
    let Identity { name, hostname } = identity;
    text(
        StatusCode::OK,
        format!("Hello from behind Nuncio (service {name})! hostname {hostname} resolved {local}\n"),
    )
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404: Not Found\n")
}

fn bad(what: &str) -> Answer {
    text(StatusCode::BAD_REQUEST, format!("400: {what}\n"))
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = with_body(Full::new(text.into()).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer
}

const TEXT: hyper::header::HeaderValue = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");

fn with_body(body: BoxBody<Bytes, hyper::Error>) -> Answer {
    Response::new(body)
}

/// `/status/CODE`. Codes below 200 are no final answers; 204 and 304 have no body (RFC 9110 §6.4.1).
fn status(code: &str) -> Answer {
    let status = code.parse::<u16>().ok().filter(|c| (200..=599).contains(c));
    match status.and_then(|c| StatusCode::from_u16(c).ok()) {
        None => bad("status must be a number from 200 to 599"),
        Some(status @ (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)) => {
            let mut answer = with_body(Empty::new().map_err(|never| match never {}).boxed());
            *answer.status_mut() = status;
            answer
        }
        Some(status) => text(status, format!("{status}\n")),
    }
}

/// `/delay/250ms`.
async fn delay(time: &str) -> Answer {
    match duration(time).filter(|d| *d <= MAX_DELAY) {
        None => bad("delay must be as in 250ms or 2s, at most 600s"),
        Some(delay) => {
            tokio::time::sleep(delay).await;
            text(StatusCode::OK, format!("waited {}ms\n", delay.as_millis()))
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

/// Whether an answer says its length or comes in chunks.
#[derive(Clone, Copy, PartialEq)]
enum Length {
    Known,
    Chunked,
}

/// `/bytes/COUNT` and `/chunked/COUNT`: the alphabet over and over.
fn bytes(count: &str, length: Length) -> Answer {
    match count.parse::<u64>().ok().filter(|n| *n <= MAX_BYTES) {
        None => bad("the count of bytes must be a number up to 1099511627776"),
        Some(left) => {
            let mut answer = with_body(Letters { left, length }.map_err(|never| match never {}).boxed());
            answer.headers_mut().insert(CONTENT_TYPE, TEXT);
            answer
        }
    }
}

/// A body of letters, made as it is pulled.
struct Letters {
    left: u64,
    length: Length,
}

impl Body for Letters {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        /// 630 alphabets: whole ones, so that each frame starts where the last one ended.
        static PATTERN: [u8; 26 * 630] = pattern();
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let now = self.left.min(PATTERN.len() as u64);
        self.left -= now;
        // Invariant: `now` is at most the pattern's length.
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PATTERN[..now as usize])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Length::Known => SizeHint::with_exact(self.left),
            // Chunked when the end is not known; an empty body would be known to be empty.
            Length::Chunked => SizeHint::default(),
        }
    }
}

const fn pattern() -> [u8; 26 * 630] {
    let mut all = [0; 26 * 630];
    let mut i = 0;
    while i < all.len() {
        all[i] = b'a' + (i % 26) as u8;
        i += 1;
    }
    all
}

/// `/headers`: what arrived here, in its order. Values that are no UTF-8 are shown with replacement characters.
fn headers(request: &Request<Incoming>) -> Answer {
    let fields: Vec<[String; 2]> = request
        .headers()
        .iter()
        .map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()])
        .collect();
    let shown = serde_json::json!({
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map_or("/", |p| p.as_str()),
        "version": format!("{:?}", request.version()),
        "headers": fields,
    });
    let mut answer = text(StatusCode::OK, format!("{shown:#}\n"));
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    answer
}

/// `/echo`: the body as it arrives, with its length when that is known, and its trailers.
fn echo(request: Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "405: send a body with POST, PUT or PATCH\n");
        answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("POST, PUT, PATCH"));
        return answer;
    }
    let (head, body) = request.into_parts();
    let mut answer = with_body(body.boxed());
    for name in [CONTENT_TYPE, CONTENT_LENGTH, hyper::header::TRAILER] {
        if let Some(value) = head.headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

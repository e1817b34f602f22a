//! The client's side of the rules: responses, GOAWAY, the server's limits.

use super::rules::check;
use super::script::*;
use crate::h2::frame::*;
use crate::h2::{Settings, StreamId};
use crate::head::RequestHead;

fn cat(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn client_with(method: &str) -> Bench {
    let mut b = Bench::client(Settings::default());
    let mut head = RequestHead::default();
    for (n, v) in [(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "a")] {
        head.headers.append(n, v.as_bytes());
    }
    b.c.open(&head, true, 5).unwrap();
    is(&b.text(), &format!("> HEADERS 1 :authority=a :path=/ :method={method} :scheme=http end"));
    b
}

#[test]
fn responses_by_the_rules() {
    let head = |flags, fields: &[(&str, &str)]| fr(HEADERS, flags, 1, &block(fields));
    let bad = |details| format!("error PROTOCOL_ERROR silent on 1 {details}");
    let (field, message) = (bad("http2.invalid.header.field"), bad("http2.violation.of.messaging.rule"));
    let all: Vec<(&str, &str, Vec<u8>, String)> = vec![
        ("HEAD has no body", "HEAD", cat(&[head(4, &[(":status", "200"), ("content-length", "5")]), fr(DATA, 1, 1, b"hello")]),
            "response 1 200 content-length=5\nstream-error 1 PROTOCOL_ERROR http2.remote_reset\n> RST_STREAM 1 PROTOCOL_ERROR".into()),
        ("204 may say 0", "GET", head(5, &[(":status", "204"), ("content-length", "0")]), "response 1 204 end".into()),
        ("1xx with a length", "GET", head(4, &[(":status", "103"), ("content-length", "0")]), field.clone()),
        ("a tunnel announces nothing", "CONNECT", cat(&[head(4, &[(":status", "200"), ("content-length", "2")]), fr(DATA, 0, 1, b"hello")]),
            "response 1 200\ndata 1 hello".into()),
        ("plain", "GET", head(5, &[(":status", "200"), ("x", "y")]), "response 1 200 x=y end".into()),
        (
            "1xx first",
            "GET",
            cat(&[head(4, &[(":status", "103")]), head(4, &[(":status", "200")]), fr(DATA, 1, 1, b"abc")]),
            "response 1 103\nresponse 1 200\ndata 1 abc end".into(),
        ),
        ("1xx that ends", "GET", head(5, &[(":status", "103")]), message.clone()),
        ("101", "GET", head(4, &[(":status", "101")]), field.clone()),
        ("no status", "GET", head(5, &[("x", "y")]), message.clone()),
        ("two statuses", "GET", head(5, &[(":status", "200"), (":status", "200")]), field.clone()),
        ("odd status", "GET", head(5, &[(":status", "20")]), field.clone()),
        ("status with a sign", "GET", head(5, &[(":status", "+20")]), field.clone()),
        ("a request's field", "GET", head(5, &[(":status", "200"), (":path", "/")]), field.clone()),
        (
            "HEAD announces what does not come",
            "HEAD",
            head(5, &[(":status", "200"), ("content-length", "5")]),
            "response 1 200 content-length=5 end".into(),
        ),
        (
            "304 too",
            "GET",
            head(5, &[(":status", "304"), ("content-length", "5")]),
            "response 1 304 content-length=5 end".into(),
        ),
        ("204 must not", "GET", head(5, &[(":status", "204"), ("content-length", "5")]), field.clone()),
        ("announced, not sent", "GET", head(5, &[(":status", "200"), ("content-length", "5")]), message),
        (
            "DATA before the head",
            "GET",
            fr(DATA, 1, 1, b"x"),
            "stream-error 1 PROTOCOL_ERROR http2.violation.of.messaging.rule\n> RST_STREAM 1 PROTOCOL_ERROR"
                .into(),
        ),
        (
            "trailers",
            "GET",
            cat(&[head(4, &[(":status", "200")]), head(5, &[("x", "y")])]),
            "response 1 200\ntrailers 1 x=y".into(),
        ),
        (
            "trailers only",
            "GET",
            head(5, &[(":status", "200"), ("grpc-status", "5")]),
            "response 1 200 grpc-status=5 end".into(),
        ),
        (
            "PUSH_PROMISE",
            "GET",
            fr(PUSH_PROMISE, 4, 1, &cat(&[u32s(&[2]), block(&GET)])),
            "error PROTOCOL_ERROR silent".into(),
        ),
        (
            "HEADERS on a stream never opened",
            "GET",
            fr(HEADERS, 5, 3, &block(&[(":status", "200")])),
            "error PROTOCOL_ERROR silent".into(),
        ),
        (
            "HEADERS on the server's stream",
            "GET",
            fr(HEADERS, 5, 2, &block(&[(":status", "200")])),
            "error PROTOCOL_ERROR silent".into(),
        ),
        (
            "ENABLE_PUSH from a server",
            "GET",
            fr(SETTINGS, 0, 0, b"\0\x02\0\0\0\x01"),
            "error PROTOCOL_ERROR silent".into(),
        ),
        ("RST_STREAM", "GET", fr(RST_STREAM, 0, 1, &u32s(&[7])), "reset 1 REFUSED_STREAM".into()),
    ];
    for (name, method, bytes, want) in all {
        check(name, || client_with(method), &bytes, &want);
    }
}

#[test]
fn a_server_that_goes_away_drops_later_streams() {
    let mut b = client_with("GET");
    let head: RequestHead =
        RequestHead { headers: GET.into_iter().collect(), version: crate::Version::Http2 };
    let (second, third) = (b.c.open(&head, true, 6).unwrap(), b.c.open(&head, true, 7).unwrap());
    assert_eq!((second, third), (StreamId(3), StreamId(5)));
    b.text();
    let text = b.run(&fr(GOAWAY, 0, 0, &u32s(&[1, 0])));
    let mut lines: Vec<&str> = text.lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(lines, ["goaway 1 NO_ERROR", "reset 3 REFUSED_STREAM", "reset 5 REFUSED_STREAM"]);
    assert!(!b.c.can_open() && b.c.open(&head, true, 8).is_err());
    is(&b.run(&fr(HEADERS, 5, 1, &block(&[(":status", "200")]))), "response 1 200 end");
}

#[test]
fn a_client_keeps_to_the_servers_limits() {
    let mut b = client_with("GET");
    b.run(&fr(SETTINGS, 0, 0, b"\0\x03\0\0\0\x01\0\x08\0\0\0\x01"));
    assert!(!b.c.can_open() && b.c.connect_protocol());
    b.run(&fr(HEADERS, 5, 1, &block(&[(":status", "200")])));
    assert!(b.c.can_open());
    // RFC 8441 §3: it cannot be taken back.
    is(&b.run(&fr(SETTINGS, 0, 0, b"\0\x08\0\0\0\0")), "error PROTOCOL_ERROR silent");
}

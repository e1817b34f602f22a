//! A client and a server of ours, back to back.

use super::super::*;

/// Moves everything that waits from one to the other.
fn pump(from: &mut Connection, to: &mut Connection, buf: &mut ReadBuf) -> Vec<Event> {
    let mut bytes = Vec::new();
    while !from.out().is_empty() {
        let front = from.out().front().to_vec();
        bytes.extend_from_slice(&front);
        from.out().advance(front.len());
    }
    buf.extend(&bytes);
    let mut events = Vec::new();
    while let Some(e) = to.read(buf).unwrap() {
        events.push(e);
    }
    events
}

use crate::buf::ReadBuf;

fn request(method: &str, path: &str, more: &[(&str, &str)]) -> RequestHead {
    let mut all =
        vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "example.com")];
    all.extend_from_slice(more);
    RequestHead { headers: all.into_iter().collect(), version: crate::Version::Http2 }
}

#[test]
fn a_request_and_its_response() {
    let (mut c, mut s) = (Connection::client(Default::default()), Connection::server(Default::default()));
    let (mut cb, mut sb) = (ReadBuf::new(), ReadBuf::new());
    let id = c.open(&request("POST", "/a", &[("x-foo", "bar")]), false, 7).unwrap();
    assert_eq!(c.send_data(id, &mut "hello".into(), true), Sent::All);
    let ev = pump(&mut c, &mut s, &mut sb);
    assert_eq!(ev[0], Event::Settings);
    let Event::Request { id: sid, head, end: false } = &ev[1] else { panic!("{ev:?}") };
    assert_eq!((*sid, head.path(), head.headers.get("x-foo")), (id, &b"/a"[..], Some(&b"bar"[..])));
    assert_eq!(ev[2], Event::Data { id, token: 0, data: "hello".into(), end: true });
    let mut r = ResponseHead::new(200);
    r.headers.append("content-length", b"2");
    s.send_response(id, &r, false).unwrap();
    assert_eq!(s.send_data(id, &mut "hi".into(), false), Sent::All);
    s.send_trailers(id, &[("grpc-status", "0")].into_iter().collect()).unwrap();
    let ev = pump(&mut s, &mut c, &mut cb);
    assert_eq!(ev.len(), 4, "{ev:?}");
    assert_eq!(ev[2], Event::Data { id, token: 7, data: "hi".into(), end: false });
    assert!(matches!(&ev[3], Event::Trailers { map, .. } if map.get("grpc-status") == Some(b"0")));
    c.release(id, 2);
    s.release(id, 5);
    assert_eq!((c.slots(), s.slots(), c.streams(), s.streams()), (0, 0, 0, 0));
}

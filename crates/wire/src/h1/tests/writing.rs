//! What heads and bodies look like on the wire.

use super::*;
use crate::buf::Chunk;

/// What a server writes in answer to `request`.
fn reply(
    settings: &ServerSettings,
    asked: &[u8],
    head: &ResponseHead,
    body: Option<&'static str>,
) -> (String, bool) {
    let mut s = server(settings.clone());
    let mut buf = buffer(asked);
    let mut out = OutBuf::new();
    s.read_head(&mut buf).unwrap().unwrap();
    s.write_head(&mut head.clone(), body.is_none(), &mut out);
    if let Some(b) = body {
        s.write_data(b.into(), &mut out);
        s.write_end(None, &mut out);
    }
    assert!(s.response_complete());
    (written(&mut out), s.keep_alive())
}
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn framing_of_responses() {
    let plain = ServerSettings::default();
    let yes = |t: &str| (t.to_string(), true);
    let no = |t: &str| (t.to_string(), false);
    let length: &[(&str, &str)] = &[("content-length", "2")];
    let see = |asked: &[u8], status, headers, body| reply(&plain, asked, &response(status, headers), body);

    assert_eq!(see(GET, 200, &[], None), yes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(see(GET, 200, length, Some("hi")), yes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    assert_eq!(
        see(GET, 200, &[("x", "y")], Some("hi")),
        yes("HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    );
    // The upstream's coding is not ours.
    assert_eq!(
        see(GET, 200, &[("transfer-encoding", "gzip")], None),
        yes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    );
    assert_eq!(see(GET, 204, &[], None), yes("HTTP/1.1 204 No Content\r\n\r\n"));
    assert_eq!(see(GET, 204, length, Some("hi")), yes("HTTP/1.1 204 No Content\r\n\r\n"));
    assert_eq!(see(GET, 304, &[], None), yes("HTTP/1.1 304 Not Modified\r\n\r\n"));
    assert_eq!(
        see(GET, 304, length, Some("hi")),
        yes("HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n")
    );
    assert_eq!(see(HEAD, 200, length, None), yes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"));
    assert_eq!(see(HEAD, 200, length, Some("hi")), yes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"));
    assert_eq!(see(HEAD, 200, &[], None), yes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"));
    assert_eq!(see(HEAD, 204, &[], None), yes("HTTP/1.1 204 No Content\r\n\r\n"));
    // A body that breaks its promise ends the connection and never runs into the next response.
    assert_eq!(see(GET, 200, length, Some("h")), no("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh"));
    assert_eq!(see(GET, 200, length, Some("hix")), no("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    assert_eq!(see(GET, 200, length, None), no("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"));
    // Without an upgrade, 101 leaves no framing behind.
    assert!(!see(GET, 101, &[], None).1);
}

#[test]
fn connection_header_of_responses() {
    let plain = ServerSettings::default();
    let close: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let order = "HTTP/1.1 200 OK\r\nx: y\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n";
    assert_eq!(reply(&plain, close, &response(200, &[("x", "y")]), Some("b")), (order.into(), false));
    // A header of that name is replaced in place; `close` in it is meant.
    let head = response(200, &[("connection", "foo"), ("connection", "bar"), ("x", "y")]);
    let want = "HTTP/1.1 200 OK\r\nconnection: close\r\nx: y\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(reply(&plain, close, &head, None), (want.into(), false));
    let head = response(200, &[("connection", "close")]);
    assert_eq!(
        reply(&plain, GET, &head, None),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".into(), false)
    );
}

#[test]
fn http_1_0_clients() {
    let on = ServerSettings { accept_http_10: true, ..Default::default() };
    let old: &[u8] = b"GET / HTTP/1.0\r\nhost: a\r\n\r\n";
    let keep: &[u8] = b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n";
    let see = |asked, headers, body| reply(&on, asked, &response(200, headers), body);
    assert_eq!(see(old, &[], Some("hi")), ("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhi".into(), false));
    assert_eq!(see(keep, &[], Some("hi")), ("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhi".into(), false));
    assert_eq!(
        see(keep, &[("content-length", "2")], Some("hi")),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi".into(), true)
    );
    let head = b"HEAD / HTTP/1.0\r\nhost: a\r\n\r\n";
    assert_eq!(reply(&on, head, &response(200, &[]), None).0, "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n");
}

#[test]
fn informational_and_close() {
    let mut s = server(Default::default());
    let mut out = OutBuf::new();
    s.read_head(&mut buffer(GET)).unwrap().unwrap();
    s.write_informational(&response(100, &[]), &mut out);
    s.write_informational(&response(103, &[("link", "x"), ("content-length", "3")]), &mut out);
    assert_eq!(written(&mut out), "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Unknown\r\nlink: x\r\n\r\n");
    s.close_after_response();
    s.write_head(&mut response(200, &[]), true, &mut out);
    assert_eq!(written(&mut out), "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    s.write_informational(&response(100, &[]), &mut out);
    assert_eq!((written(&mut out).as_str(), s.keep_alive()), ("", false));
}

/// Draining an idle connection: a request that was on its way is answered, as the last one.
#[test]
fn close_asked_between_requests() {
    let mut s = server(Default::default());
    let mut out = OutBuf::new();
    s.close_after_response();
    s.read_head(&mut buffer(GET)).unwrap().unwrap();
    s.write_head(&mut response(200, &[]), true, &mut out);
    assert!(written(&mut out).contains("connection: close"));
    assert!(s.read_head(&mut buffer(GET)).unwrap().is_none());
}

#[test]
fn the_answer_to_a_refused_request_closes() {
    let mut s = server(Default::default());
    let mut out = OutBuf::new();
    let e = s.read_head(&mut buffer(b"HEAD bad\r\n")).unwrap_err();
    s.write_head(&mut response(e.status, &[("content-length", "11")]), false, &mut out);
    s.write_data(e.body.into(), &mut out);
    s.write_end(None, &mut out);
    let want = "HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\nconnection: close\r\n\r\nBad Request";
    assert_eq!((written(&mut out).as_str(), s.keep_alive()), (want, false));
}

#[test]
fn cases_of_names() {
    let see = |header_case, read_with: HeaderCase| {
        let settings = ServerSettings { header_case, ..Default::default() };
        let mut head = response(200, &[("x-envoy-foo2bar", "1")]);
        head.headers.push_written(crate::Id::OTHER, b"X-UPPER", b"2", read_with.keeps());
        head.headers.set_name_case(read_with.of_read());
        reply(&settings, GET, &head, None).0.replace("HTTP/1.1 200 OK\r\n", "")
    };
    let lower = "x-envoy-foo2bar: 1\r\nx-upper: 2\r\ncontent-length: 0\r\n\r\n";
    let proper = "X-Envoy-Foo2bar: 1\r\nX-Upper: 2\r\nContent-Length: 0\r\n\r\n";
    let kept = "x-envoy-foo2bar: 1\r\nX-UPPER: 2\r\ncontent-length: 0\r\n\r\n";
    let kept_proper = "X-Envoy-Foo2bar: 1\r\nX-UPPER: 2\r\nContent-Length: 0\r\n\r\n";
    use HeaderCase::*;
    for written in [Lower, Proper, Preserve, PreserveElseProper] {
        // Who kept the case says how the rest is written.
        assert_eq!(see(written, Preserve), kept);
        assert_eq!(see(written, PreserveElseProper), kept_proper);
        assert_eq!(see(written, Lower), if written == Proper { proper } else { lower });
    }
}

/// What a filter put into a head cannot end a line.
#[test]
fn nothing_splits_a_message() {
    let head = response(200, &[("x", "a\r\nset-cookie: b\0"), ("bad\nname", "1")]);
    let (t, _) = reply(&ServerSettings::default(), GET, &head, None);
    assert_eq!(t, "HTTP/1.1 200 OK\r\nx: a  set-cookie: b \r\ncontent-length: 0\r\n\r\n");
    let mut c = client(Default::default());
    let mut out = OutBuf::new();
    let head = request(&[(":method", "GET"), (":path", "/a b\r\nx: y"), (":authority", "h\n")]);
    c.write_head(&head, true, &mut out).unwrap();
    assert_eq!(written(&mut out), "GET /a%20b%0D%0Ax:%20y HTTP/1.1\r\nhost: h \r\n\r\n");
    for bad in [
        &[(":path", "/")][..],
        &[(":method", "G T"), (":path", "/")],
        &[(":method", "GET")],
        &[(":method", "CONNECT")],
    ] {
        assert_eq!(c.write_head(&request(bad), true, &mut out).unwrap_err().cause, Cause::Required);
    }
    assert!(out.is_empty());
}

fn ask(
    settings: &ClientSettings,
    more: &[(&'static str, &'static str)],
    body: Option<&'static str>,
) -> String {
    let mut c = client(settings.clone());
    let mut out = OutBuf::new();
    c.write_head(&request(more), body.is_none(), &mut out).unwrap();
    if let Some(b) = body {
        c.write_data(b.into(), &mut out);
        c.write_end(None, &mut out);
    }
    assert!(c.request_complete());
    written(&mut out)
}

#[test]
fn requests() {
    let plain = ClientSettings::default();
    let with = |method, more: &[(&'static str, &'static str)], body| {
        let mut all = vec![
            (":method", method),
            (":path", "/p?q"),
            (":scheme", "http"),
            (":authority", "a:1"),
            ("x", "y"),
        ];
        all.extend_from_slice(more);
        ask(&plain, &all, body)
    };
    let get = "GET /p?q HTTP/1.1\r\nhost: a:1\r\nx: y\r\n\r\n";
    assert_eq!(with("GET", &[], None), get);
    assert_eq!(with("GET", &[("host", "other")], None), get);
    assert_eq!(with("DELETE", &[], None), "DELETE /p?q HTTP/1.1\r\nhost: a:1\r\nx: y\r\n\r\n");
    assert_eq!(
        with("POST", &[], None),
        "POST /p?q HTTP/1.1\r\nhost: a:1\r\nx: y\r\ncontent-length: 0\r\n\r\n"
    );
    assert_eq!(
        with("POST", &[("content-length", "2")], Some("hi")),
        "POST /p?q HTTP/1.1\r\nhost: a:1\r\nx: y\r\ncontent-length: 2\r\n\r\nhi"
    );
    assert_eq!(
        with("POST", &[("transfer-encoding", "chunked")], Some("hi")),
        "POST /p?q HTTP/1.1\r\nhost: a:1\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    );
    let all = &[(":method", "GET"), (":path", "/p"), (":scheme", "http"), (":authority", "a")];
    let full = ClientSettings { send_fully_qualified_url: true, ..Default::default() };
    assert_eq!(ask(&full, all, None), "GET http://a/p HTTP/1.1\r\nhost: a\r\n\r\n");
    let proper = ClientSettings { header_case: HeaderCase::Proper, ..Default::default() };
    assert_eq!(ask(&proper, all, None), "GET /p HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a_short_request_body_spoils_the_connection() {
    let mut c = client(Default::default());
    let head = request(&[(":method", "POST"), (":path", "/"), (":authority", "a"), ("content-length", "5")]);
    c.write_head(&head, false, &mut OutBuf::new()).unwrap();
    c.write_end(None, &mut OutBuf::new());
    c.read_head(&mut buffer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).unwrap().unwrap();
    assert!(!c.reusable());
}

#[test]
fn trailers_go_out_when_enabled() {
    for (enable_trailers, want) in [(true, "1\r\nb\r\n0\r\nx-t: 1\r\n\r\n"), (false, "1\r\nb\r\n0\r\n\r\n")] {
        let trailers: HeaderMap = [("x-t", "1")].into_iter().collect();
        let mut s = server(ServerSettings { enable_trailers, ..Default::default() });
        let mut out = OutBuf::new();
        s.read_head(&mut buffer(GET)).unwrap().unwrap();
        s.write_head(&mut response(200, &[]), false, &mut out);
        written(&mut out);
        s.write_data("b".into(), &mut out);
        s.write_end(Some(&trailers), &mut out);
        assert_eq!(written(&mut out), want);
    }
}

#[test]
fn chunk_sizes_are_hexadecimal() {
    let mut s = server(Default::default());
    let mut out = OutBuf::new();
    s.read_head(&mut buffer(GET)).unwrap().unwrap();
    s.write_head(&mut response(200, &[]), false, &mut out);
    written(&mut out);
    for n in [1, 15, 16, 255, 256, 65536] {
        s.write_data(Chunk::from(vec![b'x'; n]), &mut out);
        assert_eq!(written(&mut out), format!("{n:x}\r\n{}\r\n", "x".repeat(n)));
    }
    s.write_data(Chunk::default(), &mut out);
    assert!(out.is_empty(), "an empty chunk would end the body");
}

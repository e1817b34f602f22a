//! Upgrades and CONNECT: nothing behind such a request is another request, and nothing is handed on before the
//! answer.

use super::*;

fn start(raw: &[u8]) -> (Server, ReadBuf, Upgrade) {
    let mut s = server(Default::default());
    let mut buf = buffer(raw);
    let start = s.read_head(&mut buf).unwrap().unwrap();
    (s, buf, start.upgrade)
}
const WEBSOCKET: &[u8] =
    b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";
const SMUGGLED: &[u8] = b"GET /admin HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn accepted() {
    let (mut s, mut buf, upgrade) = start(&[WEBSOCKET, b"early"].concat());
    let mut out = OutBuf::new();
    assert_eq!(upgrade, Upgrade::Token);
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::NeedMore));
    assert!(s.withholds() && !s.request_complete());
    s.write_head(&mut response(101, &[("connection", "Upgrade"), ("upgrade", "websocket")]), false, &mut out);
    let want = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(written(&mut out), want);
    assert!(s.upgraded() && !s.withholds() && !s.keep_alive());
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::Data("early".into())));
    buf.extend(SMUGGLED);
    assert_eq!(s.read_head(&mut buf).unwrap().map(|r| r.upgrade), None);
    assert!(matches!(s.read_body(&mut buf), Ok(BodyEvent::Data(d)) if *d == *SMUGGLED));
    s.write_data("down".into(), &mut out);
    assert_eq!(written(&mut out), "down");
    assert_eq!(s.read_eof(), Eof::BodyEnd);
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::End));
    s.write_end(None, &mut out);
    assert_eq!(written(&mut out), "");
    buf.extend(SMUGGLED);
    assert!(s.read_head(&mut buf).unwrap().is_none(), "a raw connection never becomes HTTP again");
}

/// CVE-2026-73548: bytes sent before the upgrade is accepted are neither payload nor a request when it is refused.
#[test]
fn refused() {
    let (mut s, mut buf, _) = start(&[WEBSOCKET, SMUGGLED].concat());
    let mut out = OutBuf::new();
    s.write_head(&mut response(403, &[("content-length", "2")]), false, &mut out);
    s.write_data("no".into(), &mut out);
    s.write_end(None, &mut out);
    assert_eq!(
        written(&mut out),
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
    );
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::NeedMore));
    assert!(!s.keep_alive() && !s.upgraded() && !s.request_complete());
    assert!(s.read_head(&mut buf).unwrap().is_none());
}

#[test]
fn a_declared_body_comes_before_the_raw_bytes() {
    let raw = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\ncontent-length: 5\r\n\r\nhelloRAW";
    let (mut s, mut buf, _) = start(raw);
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::Data("hello".into())));
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::NeedMore));
    s.write_head(&mut response(101, &[]), false, &mut OutBuf::new());
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::Data("RAW".into())));
    // Chunks would reach the upstream without the header that explains them.
    let raw = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(served(raw), "501 http1.invalid_transfer_encoding");
}

#[test]
fn connect() {
    let (mut s, mut buf, upgrade) =
        start(b"CONNECT a:1 HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\n\r\nearly");
    let mut out = OutBuf::new();
    assert_eq!(upgrade, Upgrade::Connect);
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::NeedMore));
    s.write_head(&mut response(200, &[("content-length", "0")]), false, &mut out);
    assert_eq!(written(&mut out), "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::Data("early".into())));

    let (mut s, _, _) = start(b"CONNECT a:1 HTTP/1.1\r\n\r\n");
    s.write_head(&mut response(404, &[]), true, &mut out);
    assert_eq!(written(&mut out), "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");

    let see = |h: &str| served(format!("CONNECT a:1 HTTP/1.1\r\n{h}\r\n\r\n").as_bytes());
    assert_eq!(see("content-length: 5"), "400 http1.body_disallowed");
    assert_eq!(see("transfer-encoding: chunked"), "501 http1.invalid_transfer_encoding");
}

#[test]
fn ignored_upgrades_are_plain_requests() {
    let ignore = IgnoreUpgrade(Arc::new(|t: &[u8]| t.eq_ignore_ascii_case(b"TLS/1.0")));
    let settings = ServerSettings { ignore_upgrade: Some(ignore), ..Default::default() };
    let see = |u: &str| {
        let raw = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: {u}\r\n\r\n");
        conversation(&settings, &[raw.as_bytes()])
    };
    assert_eq!(see("TLS/1.0"), "<:method=GET;:path=/;:authority=a; >");
    assert_eq!(
        see("tls/1.0, foo"),
        "<:method=GET;:path=/;:authority=a;connection=upgrade;upgrade=foo; Token …"
    );
    assert_eq!(see("foo"), "<:method=GET;:path=/;:authority=a;connection=upgrade;upgrade=foo; Token …");
}

#[test]
fn upstream() {
    let ask: &[(&str, &str)] = &[("connection", "upgrade"), ("upgrade", "foo")];
    let see = |raw: &[u8], eof| answered(&ClientSettings::default(), "GET", ask, &[raw], eof);
    let yes = b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nraw";
    assert_eq!(see(yes, true), "<101 connection=upgrade;upgrade=foo; upgraded raw>");
    assert_eq!(see(b"HTTP/1.1 101 S\r\n\r\nraw", false), "!HPE_INVALID_STATUS");
    // A 200 is no acceptance, whatever its headers say (CVE-2024-23326).
    let ok = b"HTTP/1.1 200 OK\r\nconnection: upgrade\r\nupgrade: foo\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(see(ok, false), "<200 connection=upgrade;upgrade=foo;content-length=2; hi>");

    let mut c = client(Default::default());
    let mut out = OutBuf::new();
    c.write_head(&request(&[(":method", "CONNECT"), (":authority", "a:1")]), false, &mut out).unwrap();
    assert_eq!(written(&mut out), "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
    let mut buf = buffer(b"HTTP/1.1 200 OK\r\n\r\nraw");
    assert!(c.read_head(&mut buf).unwrap().unwrap().upgraded && c.upgraded());
    assert_eq!(c.read_body(&mut buf), Ok(BodyEvent::Data("raw".into())));
    c.write_data("up".into(), &mut out);
    assert_eq!(written(&mut out), "up");
    assert!(!c.reusable());
}

use super::parse::{MAX, Parsed, Version, may_begin, parse};
use super::{NAME, text};
use crate::testing::listener_filters;
use nuncio_core::address::Address;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::listener_filter::{Detected, Inspection, Verdict};
use nuncio_testkit::filter_test::counters;
use std::sync::Arc;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const BOTH: [bool; 2] = [true, true];

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [V2, &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

/// 1.2.3.4:5 to 6.7.8.9:258.
const IPV4: [u8; 12] = [1, 2, 3, 4, 6, 7, 8, 9, 0, 5, 1, 2];

fn addresses(data: &[u8]) -> Option<String> {
    match parse(data, BOTH) {
        Parsed::Header(_, h) => {
            assert_eq!(h.len, data.len());
            Some(h.addresses.map_or("own".into(), |(from, to)| format!("{from} {to}")))
        }
        Parsed::Malformed(_) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines() {
    for (line, told) in [
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 258\r\n", Some("1.2.3.4:5 6.7.8.9:258")),
        ("PROXY TCP6 1::2 3::4 5 6\r\n", Some("[1::2]:5 [3::4]:6")),
        ("PROXY UNKNOWN\r\n", Some("own")),
        ("PROXY UNKNOWN whatever\r\n", Some("own")),
        ("PROXY TCP4 1::2 3::4 5 6\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 65536\r\n", None),
        ("PROXY TCP4 1.2.3.4 6.7.8.9 +5 6\r\n", None),
        ("PROXY TCP4 0.0.0.0 6.7.8.9 5 6\r\n", None),
        ("PROXY TCP4 224.0.0.1 6.7.8.9 5 6\r\n", None),
        ("PROXY UDP4 1.2.3.4 6.7.8.9 5 6\r\n", None),
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", None),
    ] {
        assert_eq!(addresses(line.as_bytes()).as_deref(), told, "{line}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    assert_eq!(parse(long.as_bytes(), BOTH), Parsed::Malformed(None));
}

#[test]
fn binary() {
    assert_eq!(addresses(&v2(0x21, 0x11, &IPV4)).as_deref(), Some("1.2.3.4:5 6.7.8.9:258"));
    assert_eq!(addresses(&v2(0x20, 0, &[])).as_deref(), Some("own"));
    assert_eq!(addresses(&v2(0x20, 0x11, &IPV4)).as_deref(), Some("own"));
    let v6 = [[1; 16], [2; 16]].concat();
    assert!(addresses(&v2(0x21, 0x21, &[&v6[..], &[0, 1, 0, 2]].concat())).is_some());
    for wrong in [
        v2(0x11, 0x11, &IPV4), // another version
        v2(0x22, 0x11, &IPV4), // no such command
        v2(0x21, 0x31, &IPV4), // a pipe
        v2(0x21, 0x10, &IPV4), // neither stream nor datagram
        v2(0x21, 0x11, &IPV4[1..]),
        v2(0x21, 0x11, &[&IPV4[..], &[1, 0]].concat()), // a value without length
        v2(0x21, 0x11, &[&IPV4[..], &[1, 0, 9, 1]].concat()),
    ] {
        assert_eq!(addresses(&wrong), None, "{wrong:?}");
    }
}

/// However the header comes in pieces, it is waited for, and what follows is not touched.
#[test]
fn pieces() {
    let tlv = [&IPV4[..], &[0xea, 0, 2, b'o', b'k', 4, 0, 0]].concat();
    for header in [v2(0x21, 0x11, &tlv), b"PROXY TCP4 1.2.3.4 6.7.8.9 5 258\r\n".to_vec()] {
        for n in 1..header.len() {
            assert_eq!(parse(&header[..n], BOTH), Parsed::Partial, "{n}");
            assert!(may_begin(&header[..n], BOTH));
        }
        let more = [&header[..], b"GET"].concat();
        let Parsed::Header(_, h) = parse(&more, BOTH) else { panic!("it is whole") };
        assert_eq!(h.len, header.len());
        assert!(h.tlvs(&more).all(|t| t == (0xea, &b"ok"[..]) || t == (4, &b""[..])));
    }
    assert!(!may_begin(b"GET", BOTH) && !may_begin(b"PROXY", [false, true]) && !may_begin(V2, [true, false]));
    assert_eq!(parse(b"PROXY UNKNOWN\r\n", [false, true]), Parsed::Disallowed(Version::V1));
    assert_eq!(parse(&v2(0x20, 0, &[]), [true, false]), Parsed::Disallowed(Version::V2));
}

#[test]
fn any_bytes_are_taken() {
    let mut x = 7u32;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    let good = v2(0x21, 0x11, &[&IPV4[..], &[1, 0, 1, 2]].concat());
    for _ in 0..20_000 {
        let mut data = good.clone();
        for _ in 0..3 {
            let at = usize::from(next()) % data.len();
            data[at] = next();
        }
        if let Parsed::Header(_, h) = parse(&data, BOTH) {
            assert!(h.len <= MAX && h.tlvs(&data).count() <= data.len());
        }
    }
}

#[test]
fn a_connection_gets_its_addresses() {
    let (filters, store) = listener_filters(include_str!("example.yaml"));
    let _shard = store.register_shard();
    let f = &filters[0];
    let run = |data: &[u8]| {
        let here = || Address::Ip("127.0.0.1:1".parse().expect("an address"));
        let conn = ConnInfo::new(1, Arc::new(ListenerInfo::default()), here(), here());
        let mut detected = Detected::default();
        let mut at = Inspection { conn: &conn, detected: &mut detected, original_dst: None };
        let verdict = f.on_data(&mut *f.state(), data, &mut at);
        let vpc = conn.metadata.borrow().get(NAME, ["vpc"]).map(|v| format!("{v:?}"));
        let addresses = (conn.remote.borrow().to_string(), conn.local.borrow().to_string());
        (verdict, addresses, vpc.unwrap_or_default())
    };
    let header = v2(0x21, 0x11, &[&IPV4[..], &[234, 0, 2, b'a', 0xff]].concat());
    let (verdict, addresses, vpc) = run(&header);
    assert_eq!(verdict, Verdict::Next(header.len()));
    assert_eq!(addresses, ("1.2.3.4:5".into(), "6.7.8.9:258".into()));
    assert!(vpc.contains("\"a!\""), "{vpc}");
    let (verdict, addresses, _) = run(b"PROXY UNKNOWN\r\nx");
    assert_eq!((verdict, addresses.0), (Verdict::Next(15), "127.0.0.1:1".into()));
    assert_eq!(run(b"GET / HTTP/1.1\r\n").0, Verdict::Close);
    assert_eq!(run(b"PROXY nonsense\r\n").0, Verdict::Close);
    let counts: Vec<_> = counters(&store).into_iter().filter(|(_, n)| *n > 0).collect();
    let all = [
        ("downstream_cx_proxy_proto_error", 2),
        ("proxy_proto.edge.not_found_disallowed", 1),
        ("proxy_proto.edge.versions.v1.error", 1),
        ("proxy_proto.edge.versions.v1.found", 1),
        ("proxy_proto.edge.versions.v2.found", 1),
    ];
    assert_eq!(counts, all.map(|(n, c)| (n.to_owned(), c)));
}

#[test]
fn no_header_may_be_allowed() {
    let (filters, _store) = listener_filters(
        &include_str!("example.yaml")
            .replace("stat_prefix: edge", "allow_requests_without_proxy_protocol: true"),
    );
    let f = &filters[0];
    let here = || Address::Ip("127.0.0.1:1".parse().expect("an address"));
    let conn = ConnInfo::new(1, Arc::new(ListenerInfo::default()), here(), here());
    let mut detected = Detected::default();
    let mut at = Inspection { conn: &conn, detected: &mut detected, original_dst: None };
    for (data, verdict) in [
        (&b"G"[..], Verdict::Next(0)),
        (b"P", Verdict::More),
        (b"PR", Verdict::More),
        (b"\r\n", Verdict::More),
    ] {
        assert_eq!(f.on_data(&mut *f.state(), data, &mut at), verdict);
    }
}

#[test]
fn what_is_no_utf_8_is_marked() {
    assert_eq!(text("a\u{e9}b".as_bytes()), "a\u{e9}b");
    assert_eq!(text(b"\xffa\xfe\xfe"), "!a!!");
}

use super::*;
use crate::testing::listener_filters;
use nuncio_core::address::Address;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::listener_filter::Detected;
use nuncio_testkit::filter_test::counters;
use std::sync::Arc;

#[test]
fn first_lines() {
    for (data, found) in [
        (&b"GET / HTTP/1.1\r\n"[..], Found::Http11),
        (b"GET / HTTP/1.0\n", Found::Http10),
        (b"GET /\r\n", Found::Http10),
        (b"CUSTOM * HTTP/1.1\r\n", Found::Http11),
        (b"GET http://a/b HTTP/1.1\r\n", Found::Http11),
        (b"CONNECT a:1 HTTP/1.1\r\n", Found::Http11),
        (b"GET a:1 HTTP/1.1\r\n", Found::Nothing),
        (b"GET / HTTP/1.1 x\r\n", Found::Nothing),
        (b"GET / HTTX/1.1\r\n", Found::Nothing),
        (b"G(T / HTTP/1.1\r\n", Found::Nothing),
        (b"\r\nGET / HTTP/1.1\r\n", Found::Nothing),
        (b"\x16\x03\x01\n", Found::Nothing),
        (b"GET /", Found::Partial),
        (PREFACE, Found::Http2),
        (&PREFACE[..5], Found::Partial),
        (b"PRI * HTTP/1.1\r\n", Found::Http11),
    ] {
        assert_eq!(inspect(data), found, "{}", String::from_utf8_lossy(data));
    }
}

#[test]
fn chains_can_be_chosen_by_it() {
    let (filters, store) = listener_filters(include_str!("example.yaml"));
    let _shard = store.register_shard();
    let run = |transport_protocol, data: &[u8]| {
        let here = || Address::Ip("127.0.0.1:1".parse().expect("an address"));
        let conn = ConnInfo::new(1, Arc::new(ListenerInfo::default()), here(), here());
        let mut detected = Detected { transport_protocol, ..Detected::default() };
        let mut at = Inspection { conn: &conn, detected: &mut detected, original_dst: None };
        let mut st = filters[0].state();
        let verdict = match filters[0].on_accept(&mut *st, &mut at) {
            Verdict::More => filters[0].on_data(&mut *st, data, &mut at),
            done => done,
        };
        (verdict, detected.application_protocols.concat())
    };
    assert_eq!(run("", b"GET / HTTP/1.1\r\n"), (Verdict::Next(0), b"http/1.1".to_vec()));
    assert_eq!(run("raw_buffer", PREFACE), (Verdict::Next(0), b"h2c".to_vec()));
    assert_eq!(run("", b"GET / HTTP/1.0\r\n"), (Verdict::Next(0), b"http/1.0".to_vec()));
    assert_eq!(run("", b"?\r\n"), (Verdict::Next(0), vec![]));
    assert_eq!(run("tls", b"GET / HTTP/1.1\r\n"), (Verdict::Next(0), vec![]));
    assert_eq!(run("", &[b'x'; MAX - 1]).0, Verdict::More);
    assert_eq!(run("", &[b'x'; MAX]).0, Verdict::Close);
    let counts: Vec<_> = counters(&store).into_iter().filter(|(_, n)| *n > 0).collect();
    let one = |n: &str| (format!("http_inspector.{n}"), 1);
    let all = ["http10_found", "http11_found", "http2_found", "http_not_found", "read_error"];
    assert_eq!(counts, all.map(one));
}

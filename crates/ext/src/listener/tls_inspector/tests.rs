//! Counts and outcomes were measured on Envoy 1.40.

use super::NAME;
use crate::testing::listener_filters;
use nuncio_core::address::Address;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::listener_filter::{Detected, Inspection, Verdict};
use nuncio_testkit::filter_test::counters;
use std::sync::Arc;

/// What became of a connection that begins with these pieces: the last verdict, what was detected, the reason in the
/// metadata, the transport failure, the counters that are not 0.
struct Outcome {
    verdict: Verdict,
    detected: Detected,
    reason: Option<String>,
    failure: String,
    counts: Vec<(String, u64)>,
}

fn inspect(config: &str, pieces: &[&[u8]]) -> Outcome {
    let (filters, store) = listener_filters(&format!(
        "- {{name: t, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector, {config}}}}}"
    ));
    let _shard = store.register_shard();
    let address = || Address::Ip("127.0.0.1:1".parse().unwrap());
    let conn = ConnInfo::new(1, Arc::new(ListenerInfo::default()), address(), address());
    let (mut detected, mut st, mut data) = (Detected::default(), filters[0].state(), vec![]);
    let mut at = Inspection { conn: &conn, detected: &mut detected, original_dst: None };
    let mut verdict = filters[0].on_accept(&mut *st, &mut at);
    for p in pieces {
        assert_eq!(verdict, Verdict::More);
        data.extend_from_slice(p);
        let most = data.len().min(filters[0].max_bytes());
        verdict = filters[0].on_data(&mut *st, &data[..most], &mut at);
    }
    let metadata = conn.metadata.borrow();
    let reason = metadata.get(NAME, ["failure_reason"]).map(|v| format!("{v:?}"));
    let counts = counters(&store).into_iter().filter(|(_, n)| *n > 0).collect();
    let failure = conn.end().transport_failure.borrow().to_string();
    Outcome { verdict, detected, reason, failure, counts }
}

fn counts(all: &[&str]) -> Vec<(String, u64)> {
    all.iter().map(|n| (format!("tls_inspector.{n}"), 1)).collect()
}

/// A ClientHello that asks for A.Example and offers h2.
fn hello() -> Vec<u8> {
    let sni = b"\0\0\0\x0e\0\x0c\0\0\x09A.Example";
    let alpn = b"\0\x10\0\x05\0\x03\x02h2";
    let extensions = [&sni[..], alpn].concat();
    let mut body = vec![3, 3];
    body.extend([0; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0, 0, extensions.len() as u8]);
    body.extend(extensions);
    let mut message = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    message.extend(body);
    message
}

#[test]
fn a_client_hello_says_what_chains_are_chosen_by() {
    let all = hello();
    let o = inspect("", &[&all[..20], &all[20..]]);
    assert_eq!(o.verdict, Verdict::Next(0));
    assert_eq!((o.detected.transport_protocol, &*o.detected.server_name), ("tls", "a.example"));
    assert_eq!(o.detected.application_protocols, [b"h2"]);
    assert_eq!(o.counts, counts(&["alpn_found", "sni_found", "tls_found"]));
    assert_eq!((o.reason, &*o.failure), (None, ""));
}

#[test]
fn anything_else_is_plain_text() {
    let o = inspect("", &[b"GET / HTTP/1.1\r\n"]);
    assert_eq!((o.verdict, o.detected.transport_protocol), (Verdict::Next(0), ""));
    assert_eq!(o.counts, counts(&["tls_not_found"]));
    assert!(o.reason.is_some_and(|r| r.contains("ClientHelloNotDetected")));
    let failure = "TLS_error|error:1000009c:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end";
    assert_eq!(o.failure, failure);
}

#[test]
fn or_is_closed_if_so_configured() {
    let o = inspect("close_connection_on_client_hello_parsing_errors: true", &[b"GET / HTTP/1.1\r\n"]);
    assert_eq!((o.verdict, o.counts), (Verdict::Close, vec![]));
}

#[test]
fn a_client_hello_has_a_limit() {
    let mut long = vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc];
    long.resize(300, 0);
    let o = inspect("max_client_hello_size: 256", &[&long]);
    assert_eq!((o.verdict, o.counts), (Verdict::Close, counts(&["client_hello_too_large"])));
    assert!(o.reason.is_some_and(|r| r.contains("ClientHelloTooLarge")));
}

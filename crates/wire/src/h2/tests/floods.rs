//! Envoy's flood protection, and the advisories behind it.

use super::script::*;
use crate::h2::frame::*;
use crate::h2::{ErrorCode, Settings, StreamId};
use crate::head::ResponseHead;

fn server() -> Bench {
    Bench::server(Settings::default())
}
/// The last lines of what happens.
fn tail(text: &str, n: usize) -> String {
    let lines: Vec<&str> =
        text.lines().filter(|l| !l.starts_with("> ") && !l.starts_with("settings")).collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}

#[test]
fn cve_2019_9512_pings_that_nobody_reads_the_answers_of() {
    let text = server().run(&fr(PING, 0, 0, b"12345678").repeat(1001));
    is(&tail(&text, 2), "error ENHANCE_YOUR_CALM silent\nToo many control frames in the outbound queue.");
    assert_eq!(text.matches("PING ack").count(), 1001);
    // A peer that reads them may go on, also when the output never runs quite empty.
    let mut b = server();
    for i in 0..20_000 {
        b.feed(&fr(PING, 0, 0, b"12345678"), usize::MAX);
        if i > 100 {
            b.c.out().advance(17);
        }
    }
    assert!(!b.text().contains("error"));
}

#[test]
fn cve_2019_9515_settings() {
    let text = server().run(&fr(SETTINGS, 0, 0, b"").repeat(1001));
    is(&tail(&text, 2), "error ENHANCE_YOUR_CALM silent\nToo many control frames in the outbound queue.");
}

#[test]
fn cve_2019_9514_streams_that_make_us_reset() {
    // Each malformed request costs a RST_STREAM.
    let s = Settings { stream_error_on_invalid_messaging: true, ..Settings::default() };
    let mut b = Bench::server(s);
    let bad: Vec<u8> = (0..1100).flat_map(|i| fr(HEADERS, 5, 2 * i + 1, &block(&[("x", "y")]))).collect();
    let text = b.run(&bad);
    is(&tail(&text, 2), "error ENHANCE_YOUR_CALM silent\nToo many control frames in the outbound queue.");
    assert_eq!(b.c.take_counters().outbound_control_flood, 1);
}

#[test]
fn cve_2019_9513_priorities() {
    let prio = fr(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]);
    is(&server().run(&prio.repeat(100)), "");
    let text = server().run(&prio.repeat(101));
    is(&text, "error ENHANCE_YOUR_CALM silent\nToo many PRIORITY frames");
    // 100 more per stream opened.
    let mut b = server();
    b.run(&get(1));
    is(&b.run(&prio.repeat(200)), "");
    is(&tail(&b.run(&prio), 1), "Too many PRIORITY frames");
    assert_eq!(b.c.take_counters().inbound_priority_frames_flood, 1);
}

#[test]
fn window_updates() {
    let update = fr(WINDOW_UPDATE, 0, 0, &u32s(&[1]));
    is(&server().run(&update.repeat(5)), "");
    is(&server().run(&update.repeat(6)), "error ENHANCE_YOUR_CALM silent\nToo many WINDOW_UPDATE frames");
    // Two per stream, twenty per DATA frame sent.
    let mut b = server();
    b.run(&get(1));
    b.c.send_response(StreamId(1), &ResponseHead::new(200), false).unwrap();
    b.send(1, "abc", false);
    b.text();
    is(&b.run(&update.repeat(5 + 2 + 20)), "");
    is(&tail(&b.run(&update), 1), "Too many WINDOW_UPDATE frames");
}

#[test]
fn cve_2019_9518_empty_frames() {
    let flood = "error ENHANCE_YOUR_CALM silent on 1 http2.inbound_empty_frames_flood
        Too many consecutive frames with an empty payload";
    let mut b = server();
    b.run(&post(1));
    is(&b.run(&fr(DATA, 0, 1, b"").repeat(2)), flood);
    let mut b = server();
    b.run(&post(1));
    is(&b.run(&fr(DATA, PADDED, 1, b"\x02\0\0").repeat(2)), flood);
    // One is allowed, and so is one with END_STREAM.
    let mut b = server();
    b.run(&post(1));
    is(
        &b.run(
            &[fr(DATA, 0, 1, b""), fr(DATA, 0, 1, b"x"), fr(DATA, 0, 1, b""), fr(DATA, 1, 1, b"")].concat(),
        ),
        "data 1 x end",
    );
}

#[test]
fn cve_2024_27919_and_30255_continuations() {
    // golden h2.continuation_flood: empty ones
    let bytes = [fr(HEADERS, 1, 1, &block(&GET)), fr(CONTINUATION, 0, 1, b"").repeat(2000)].concat();
    is(
        &server().run(&bytes),
        "error ENHANCE_YOUR_CALM silent on 1 begun http2.inbound_empty_frames_flood
        Too many consecutive frames with an empty payload",
    );
    // small ones
    let bytes =
        [fr(HEADERS, 1, 1, &block(&GET)), fr(CONTINUATION, 0, 1, b"\0\x01x\x01y").repeat(2000)].concat();
    is(
        &server().run(&bytes),
        "stream-error 1 INTERNAL_ERROR http2.too_many_headers begun
        error ENHANCE_YOUR_CALM silent
        Too many CONTINUATION frames following a HEADERS frame
        > RST_STREAM 1 INTERNAL_ERROR",
    );
    // large ones: what is over the limit is refused at once, and the rest is not waited for
    let mut part = b"\0\x01x\x7f\x81\x7c".to_vec();
    part.resize(16_006, b'v');
    part.truncate(6 + 127 + 1 + (124 << 7));
    let bytes = [fr(HEADERS, 1, 1, &block(&GET)), fr(CONTINUATION, 0, 1, &part).repeat(100)].concat();
    let mut b = server();
    is(
        &b.run(&bytes),
        "stream-error 1 INTERNAL_ERROR http2.header_list_size_too_large begun
        error ENHANCE_YOUR_CALM silent
        Too many CONTINUATION frames following a HEADERS frame
        > RST_STREAM 1 INTERNAL_ERROR",
    );
}

#[test]
fn too_many_headers() {
    // golden h2.headers_too_many: the connection lives, and its compression state too.
    let mut fields = GET.to_vec();
    let names: Vec<String> = (0..150).map(|i| format!("x{i}")).collect();
    fields.extend(names.iter().map(|n| (n.as_str(), "1")));
    let mut b = server();
    is(
        &b.run(&[fr(HEADERS, 5, 1, &block(&fields)), get(3)].concat()),
        "stream-error 1 INTERNAL_ERROR http2.too_many_headers begun
        request 3 :method=GET :scheme=http :path=/ :authority=a end
        > RST_STREAM 1 INTERNAL_ERROR",
    );
    assert_eq!(b.c.take_counters().header_overflow, 1);
    fields.truncate(100);
    assert!(b.run(&fr(HEADERS, 5, 5, &block(&fields))).starts_with("request 5"));
    // Trailers are counted by themselves.
    b.run(&post(7));
    let trailers: Vec<_> = names.iter().map(|n| (n.as_str(), "1")).collect();
    is(
        &b.run(&fr(HEADERS, 5, 7, &block(&trailers))),
        "stream-error 7 INTERNAL_ERROR http2.too_many_headers\n> RST_STREAM 7 INTERNAL_ERROR",
    );
}

/// HEADERS and CONTINUATIONs of a literal block that may be long.
fn long_head(id: u32, b: &[u8]) -> Vec<u8> {
    let n = b.len().div_ceil(16_384);
    b.chunks(16_384)
        .enumerate()
        .flat_map(|(i, part)| {
            let end = if i + 1 == n { END_HEADERS } else { 0 };
            if i == 0 { fr(HEADERS, END_STREAM | end, id, part) } else { fr(CONTINUATION, end, id, part) }
        })
        .collect()
}

#[test]
fn the_size_limit_is_exact() {
    // 60 KiB of names and values, pseudo-headers included (measured on Envoy 1.40).
    for (n, fits) in [(61_401, true), (61_402, false)] {
        let value = "v".repeat(n);
        let mut fields = GET.to_vec();
        fields.push(("y", &value));
        let text = server().run(&long_head(1, &block(&fields)));
        assert_eq!(text.starts_with("request 1"), fits);
        assert_eq!(text.contains("http2.header_list_size_too_large"), !fits);
    }
    // A string beyond 64 KiB cannot be skipped: the connection ends (as in Envoy).
    let value = "v".repeat(65_537);
    let text = server().run(&long_head(1, &block(&[("y", &value)])));
    is(
        &text,
        "error COMPRESSION_ERROR on 1 begun
        > GOAWAY 1 COMPRESSION_ERROR",
    );
}

#[test]
fn cve_2026_47774_a_byte_on_the_wire_is_not_a_header_in_memory_for_free() {
    // One entry of 3,900 bytes in the table, then references to it at a byte each.
    let mut bomb = block(&GET);
    bomb.extend_from_slice(b"\x40\x01x");
    bomb.extend_from_slice(&[0x7f, 0xbd, 0x1d]); // 127 + 61 + 29 * 128 = 3900
    bomb.extend_from_slice(&[b'v'; 3900]);
    bomb.extend_from_slice(&[0xbe; 10_000]);
    let text = server().run(&long_head(1, &bomb));
    is(
        &text,
        "stream-error 1 INTERNAL_ERROR http2.header_list_size_too_large begun\n> RST_STREAM 1 INTERNAL_ERROR",
    );
    // The same with cookie crumbs, empty ones too.
    let mut crumbs = block(&GET);
    crumbs.extend_from_slice(&[0x60, 0x00]); // cookie:, into the table
    crumbs.extend_from_slice(&[0xbe; 15_000]);
    let text = server().run(&long_head(1, &crumbs));
    is(&text, "stream-error 1 INTERNAL_ERROR http2.too_many_headers begun\n> RST_STREAM 1 INTERNAL_ERROR");
}

#[test]
fn cve_2023_44487_rapid_reset_leaves_nothing_behind() {
    let mut b = server();
    for i in 0..10_000u32 {
        b.feed(&[get(2 * i + 1), fr(RST_STREAM, 0, 2 * i + 1, &u32s(&[8]))].concat(), usize::MAX);
        assert_eq!((b.c.streams(), b.c.slots()), (0, 0));
    }
    // The connection manager judges by these.
    assert_eq!((b.c.take_counters().rx_reset, b.c.opened()), (10_000, 10_000));
}

#[test]
fn answers_that_nobody_reads() {
    let mut b = server();
    for i in 0..10_001u32 {
        b.feed(&get(2 * i + 1), usize::MAX);
        b.c.send_response(StreamId(2 * i + 1), &ResponseHead::new(200), true).ok();
    }
    let text = b.run(&get(30_001));
    is(&tail(&text, 2), "error ENHANCE_YOUR_CALM silent\nToo many frames in the outbound queue.");
    assert_eq!(b.c.take_counters().outbound_flood, 1);
}

#[test]
fn streams_that_wait_and_vanish_leave_no_trace() {
    // The connection's window is shut: each response waits, and its stream is reset.
    let mut b = server();
    b.run(&get(1));
    b.c.send_response(StreamId(1), &ResponseHead::new(200), false).unwrap();
    let fill: &'static [u8] = &[b'x'; 65_535];
    b.c.send_data(StreamId(1), &mut fill.into(), false);
    for i in 1..20_000u32 {
        let id = 2 * i + 1;
        b.run(&get(id));
        b.c.send_response(StreamId(id), &ResponseHead::new(200), false).unwrap();
        b.send(id, "abc", true);
        b.run(&fr(RST_STREAM, 0, id, &u32s(&[8])));
    }
    assert!(b.c.queue.len() < 200 && b.c.slots() == 1 && b.c.gone.len() <= 1024, "{}", b.c.queue.len());
}

#[test]
fn nothing_comes_after_an_error() {
    let mut b = server();
    b.run(&fr(DATA, 0, 1, b"x"));
    is(&b.run(&get(1)), "");
    b.c.goaway(ErrorCode::NO_ERROR, b"");
    is(&b.text(), "");
}

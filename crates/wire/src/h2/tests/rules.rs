//! A line or two per rule of RFC 9113, in the RFC's order; what a server says to each.
//!
//! `silent`: Envoy closes the connection without GOAWAY there, and so do we.

use super::script::*;
use crate::h2::frame::*;
use crate::h2::{ErrorCode, Settings, StreamId, Underscores};
use crate::head::ResponseHead;

type Case = (&'static str, Vec<u8>, &'static str);

fn cat(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

pub const REQ: &str = "request 1 :method=GET :scheme=http :path=/ :authority=a end";
const OPEN: &str = "request 1 :method=POST :scheme=http :path=/ :authority=a";

fn frames() -> Vec<Case> {
    let long = vec![b'x'; 16_385];
    vec![
        // 4.1, 5.5: unknown frames and flags are ignored
        ("unknown frame", fr(0xff, 0xff, 0, b"unknown"), ""),
        ("unknown flags", fr(PING, 0xfe, 0, b"12345678"), "> PING ack 12345678"),
        (
            "reserved bit",
            {
                let mut g = get(1);
                g[5] |= 0x80;
                g
            },
            REQ,
        ),
        // 4.2
        (
            "too large a DATA",
            cat(&[post(1), fr(DATA, 0, 1, &long)]),
            "OPEN
            error FRAME_SIZE_ERROR
            > GOAWAY 1 FRAME_SIZE_ERROR too large frame size",
        ),
        (
            "too large an unknown frame",
            fr(0x99, 0, 0, &long),
            "error FRAME_SIZE_ERROR
            > GOAWAY 0 FRAME_SIZE_ERROR too large frame size",
        ),
        // 4.3
        (
            "undecodable block",
            fr(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff"),
            "error COMPRESSION_ERROR on 1 begun
            > GOAWAY 1 COMPRESSION_ERROR",
        ),
        (
            "block that ends within a field",
            fr(HEADERS, 5, 1, b"\x82\x40"),
            "error COMPRESSION_ERROR on 1 begun
            > GOAWAY 1 COMPRESSION_ERROR",
        ),
        (
            "PRIORITY inside a block",
            cat(&[fr(HEADERS, 1, 1, &block(&GET)), fr(PRIORITY, 0, 1, &[0; 5])]),
            "error PROTOCOL_ERROR on 1 begun
            > GOAWAY 1 PROTOCOL_ERROR unexpected non-CONTINUATION frame or stream_id is invalid",
        ),
        (
            "HEADERS of another stream inside a block",
            cat(&[fr(HEADERS, 1, 1, &block(&GET)), get(3)]),
            "error PROTOCOL_ERROR on 1 begun
            > GOAWAY 1 PROTOCOL_ERROR unexpected non-CONTINUATION frame or stream_id is invalid",
        ),
        // 5.1: idle
        (
            "DATA on idle",
            fr(DATA, 0, 1, b"x"),
            "error PROTOCOL_ERROR
            > GOAWAY 0 PROTOCOL_ERROR DATA: stream in idle",
        ),
        ("RST_STREAM on idle", fr(RST_STREAM, 0, 1, &[0; 4]), "error PROTOCOL_ERROR silent"),
        ("WINDOW_UPDATE on idle", fr(WINDOW_UPDATE, 0, 1, &u32s(&[1])), "error PROTOCOL_ERROR silent"),
        (
            "CONTINUATION on idle",
            fr(CONTINUATION, 4, 1, b""),
            "error PROTOCOL_ERROR
            > GOAWAY 0 PROTOCOL_ERROR CONTINUATION: unexpected",
        ),
        ("PRIORITY on idle", fr(PRIORITY, 0, 1, &u32s(&[0, 0])[..5]), ""),
        (
            "PRIORITY of an idle stream on itself",
            fr(PRIORITY, 0, 1, &u32s(&[1, 0])[..5]),
            "error PROTOCOL_ERROR silent",
        ),
        (
            "PRIORITY of a stream on itself",
            cat(&[get(1), fr(PRIORITY, 0, 1, &u32s(&[1, 0])[..5])]),
            "REQ
            stream-error 1 PROTOCOL_ERROR http2.unknown.nghttp2.error
            > RST_STREAM 1 PROTOCOL_ERROR",
        ),
        // 5.1: half-closed (remote)
        (
            "DATA behind the end",
            cat(&[get(1), fr(DATA, 1, 1, b"x")]),
            "REQ
            error STREAM_CLOSED
            > GOAWAY 1 STREAM_CLOSED DATA: stream in half-closed(remote)",
        ),
        (
            "HEADERS behind the end",
            cat(&[get(1), get(1)]),
            "REQ
            error STREAM_CLOSED silent",
        ),
        (
            "WINDOW_UPDATE and PRIORITY behind the end",
            cat(&[get(1), fr(WINDOW_UPDATE, 0, 1, &u32s(&[1])), fr(PRIORITY, 0, 1, &[0; 5])]),
            REQ,
        ),
        (
            "RST_STREAM behind the end",
            cat(&[get(1), fr(RST_STREAM, 0, 1, &u32s(&[8]))]),
            "REQ
            reset 1 CANCEL",
        ),
        // 5.1: closed by the peer's RST_STREAM
        (
            "DATA behind RST_STREAM",
            cat(&[post(1), fr(RST_STREAM, 0, 1, &u32s(&[8])), fr(DATA, 1, 1, b"x")]),
            "OPEN
            reset 1 CANCEL
            > RST_STREAM 1 STREAM_CLOSED",
        ),
        (
            "HEADERS behind RST_STREAM",
            cat(&[post(1), fr(RST_STREAM, 0, 1, &u32s(&[8])), get(1)]),
            "OPEN
            reset 1 CANCEL
            > RST_STREAM 1 STREAM_CLOSED",
        ),
        (
            "WINDOW_UPDATE, PRIORITY, RST_STREAM behind RST_STREAM",
            cat(&[
                post(1),
                fr(RST_STREAM, 0, 1, &u32s(&[8])),
                fr(WINDOW_UPDATE, 0, 1, &u32s(&[1])),
                fr(PRIORITY, 0, 1, &[0; 5]),
                fr(RST_STREAM, 0, 1, &u32s(&[8])),
            ]),
            "OPEN
            reset 1 CANCEL",
        ),
        // 5.1.1
        ("even id", fr(HEADERS, 5, 2, &block(&GET)), "error PROTOCOL_ERROR silent"),
        (
            "id that falls",
            cat(&[get(5), get(3)]),
            "request 5 :method=GET :scheme=http :path=/ :authority=a end
            error PROTOCOL_ERROR silent",
        ),
        // 5.3.1
        (
            "HEADERS that depends on itself",
            fr(HEADERS, 0x25, 1, &cat(&[u32s(&[1]), vec![9], block(&GET)])),
            "error PROTOCOL_ERROR silent",
        ),
        // 6.1
        (
            "DATA on stream 0",
            fr(DATA, 0, 0, b"x"),
            "error PROTOCOL_ERROR
            > GOAWAY 0 PROTOCOL_ERROR DATA: stream_id == 0",
        ),
        (
            "DATA with padding",
            cat(&[post(1), fr(DATA, 9, 1, b"\x03abc\0\0\0")]),
            "OPEN
            data 1 abc end",
        ),
        (
            "DATA with nothing but padding",
            cat(&[post(1), fr(DATA, 9, 1, b"\x03\0\0\0")]),
            "OPEN
            data 1  end",
        ),
        (
            "DATA with too much padding",
            cat(&[post(1), fr(DATA, 9, 1, b"\x05abc")]),
            "OPEN
            error PROTOCOL_ERROR
            > GOAWAY 1 PROTOCOL_ERROR DATA: invalid padding",
        ),
        (
            "DATA without its pad length",
            cat(&[post(1), fr(DATA, 9, 1, b"")]),
            "OPEN
            error PROTOCOL_ERROR
            > GOAWAY 1 PROTOCOL_ERROR DATA: insufficient padding space",
        ),
        // 6.2
        ("HEADERS on stream 0", fr(HEADERS, 5, 0, &block(&GET)), "error PROTOCOL_ERROR silent"),
        (
            "HEADERS with padding and priority",
            fr(HEADERS, 0x2d, 1, &cat(&[vec![2], u32s(&[3]), vec![9], block(&GET), vec![0, 0]])),
            REQ,
        ),
        (
            "HEADERS with too much padding",
            fr(HEADERS, 0xd, 1, &cat(&[vec![200], block(&GET)])),
            "error PROTOCOL_ERROR
            > GOAWAY 0 PROTOCOL_ERROR HEADERS: invalid padding",
        ),
        (
            "HEADERS too short for its priority",
            fr(HEADERS, 0x25, 1, b"123"),
            "error FRAME_SIZE_ERROR
            > GOAWAY 0 FRAME_SIZE_ERROR HEADERS: payload too short",
        ),
        // 6.3
        (
            "PRIORITY on stream 0",
            fr(PRIORITY, 0, 0, &[0; 5]),
            "error PROTOCOL_ERROR
            > GOAWAY 0 PROTOCOL_ERROR PRIORITY on stream 0",
        ),
        (
            "PRIORITY of 4 bytes",
            fr(PRIORITY, 0, 1, &[0; 4]),
            "error FRAME_SIZE_ERROR
            > GOAWAY 0 FRAME_SIZE_ERROR",
        ),
        // 6.4
        ("RST_STREAM on stream 0", fr(RST_STREAM, 0, 0, &[0; 4]), "error PROTOCOL_ERROR silent"),
        (
            "RST_STREAM of 3 bytes",
            cat(&[post(1), fr(RST_STREAM, 0, 1, &[0; 3])]),
            "OPEN
            error FRAME_SIZE_ERROR
            > GOAWAY 1 FRAME_SIZE_ERROR",
        ),
        // 6.5
        (
            "SETTINGS acknowledgement with a payload",
            fr(SETTINGS, 1, 0, b"123456"),
            "error FRAME_SIZE_ERROR
            > GOAWAY 0 FRAME_SIZE_ERROR",
        ),
        ("SETTINGS on a stream", fr(SETTINGS, 0, 1, b""), "error PROTOCOL_ERROR silent"),
        (
            "SETTINGS of 5 bytes",
            fr(SETTINGS, 0, 0, b"12345"),
            "error FRAME_SIZE_ERROR
            > GOAWAY 0 FRAME_SIZE_ERROR",
        ),
        (
            "unknown setting",
            fr(SETTINGS, 0, 0, b"\0\x55\0\0\0\x01"),
            "settings
            > SETTINGS ack",
        ),
        ("ENABLE_PUSH 2", fr(SETTINGS, 0, 0, b"\0\x02\0\0\0\x02"), "error PROTOCOL_ERROR silent"),
        (
            "INITIAL_WINDOW_SIZE 2^31",
            fr(SETTINGS, 0, 0, b"\0\x04\x80\0\0\0"),
            "error FLOW_CONTROL_ERROR silent",
        ),
        ("MAX_FRAME_SIZE 16383", fr(SETTINGS, 0, 0, b"\0\x05\0\0\x3f\xff"), "error PROTOCOL_ERROR silent"),
        ("MAX_FRAME_SIZE 2^24", fr(SETTINGS, 0, 0, b"\0\x05\x01\0\0\0"), "error PROTOCOL_ERROR silent"),
        ("33 settings", fr(SETTINGS, 0, 0, &b"\0\x55\0\0\0\0".repeat(33)), "error ENHANCE_YOUR_CALM silent"),
        // 6.6
        ("PUSH_PROMISE", fr(PUSH_PROMISE, 4, 1, &u32s(&[2])), "error PROTOCOL_ERROR silent"),
        // 6.7
        ("PING", fr(PING, 0, 0, b"12345678"), "> PING ack 12345678"),
        ("PING that answers", fr(PING, 1, 0, b"12345678"), "pong 12345678"),
        ("PING on a stream", fr(PING, 0, 1, b"12345678"), "error PROTOCOL_ERROR silent"),
        (
            "PING of 7 bytes",
            fr(PING, 0, 0, b"1234567"),
            "error FRAME_SIZE_ERROR
            > GOAWAY 0 FRAME_SIZE_ERROR",
        ),
        // 6.8
        (
            "GOAWAY",
            cat(&[fr(GOAWAY, 0, 0, &u32s(&[0, 2])), get(1)]),
            "goaway 0 INTERNAL_ERROR
            request 1 :method=GET :scheme=http :path=/ :authority=a end",
        ),
        ("GOAWAY on a stream", fr(GOAWAY, 0, 1, &[0; 8]), "error PROTOCOL_ERROR silent"),
        (
            "GOAWAY of 7 bytes",
            fr(GOAWAY, 0, 0, &[0; 7]),
            "error FRAME_SIZE_ERROR
            > GOAWAY 0 FRAME_SIZE_ERROR",
        ),
        // 6.9
        ("WINDOW_UPDATE of 0", fr(WINDOW_UPDATE, 0, 0, &[0; 4]), "error PROTOCOL_ERROR silent"),
        (
            "WINDOW_UPDATE of 0 on a stream",
            cat(&[post(1), fr(WINDOW_UPDATE, 0, 1, &[0; 4])]),
            "OPEN
            error PROTOCOL_ERROR silent on 1 http2.unknown.nghttp2.error",
        ),
        (
            "WINDOW_UPDATE of 3 bytes",
            fr(WINDOW_UPDATE, 0, 0, &[0; 3]),
            "error FRAME_SIZE_ERROR
            > GOAWAY 0 FRAME_SIZE_ERROR",
        ),
        (
            "connection window beyond 2^31-1",
            fr(WINDOW_UPDATE, 0, 0, &u32s(&[0x7fff_ffff])),
            "error FLOW_CONTROL_ERROR
            > GOAWAY 0 FLOW_CONTROL_ERROR WINDOW_UPDATE beyond 2^31-1",
        ),
        (
            "stream window beyond 2^31-1",
            cat(&[post(1), fr(WINDOW_UPDATE, 0, 1, &u32s(&[0x7fff_ffff]))]),
            "OPEN
            stream-error 1 FLOW_CONTROL_ERROR http2.unknown.nghttp2.error
            > RST_STREAM 1 FLOW_CONTROL_ERROR",
        ),
        // 6.10
        (
            "CONTINUATION",
            {
                let b = block(&GET);
                cat(&[
                    fr(HEADERS, 1, 1, &b[..2]),
                    fr(CONTINUATION, 0, 1, &b[2..4]),
                    fr(CONTINUATION, 4, 1, &b[4..]),
                ])
            },
            REQ,
        ),
        (
            "CONTINUATION on stream 0",
            fr(CONTINUATION, 4, 0, b"x"),
            "error PROTOCOL_ERROR
            > GOAWAY 0 PROTOCOL_ERROR CONTINUATION: unexpected",
        ),
        (
            "CONTINUATION of another stream",
            cat(&[fr(HEADERS, 1, 1, &block(&GET)), fr(CONTINUATION, 4, 3, b"")]),
            "error PROTOCOL_ERROR on 1 begun
            > GOAWAY 1 PROTOCOL_ERROR unexpected non-CONTINUATION frame or stream_id is invalid",
        ),
        (
            "CONTINUATION behind END_HEADERS",
            cat(&[get(1), fr(CONTINUATION, 4, 1, b"")]),
            "REQ
            error PROTOCOL_ERROR
            > GOAWAY 1 PROTOCOL_ERROR CONTINUATION: unexpected",
        ),
        // 8.1
        (
            "trailers",
            cat(&[post(1), fr(DATA, 0, 1, b"abc"), fr(HEADERS, 5, 1, &block(&[("x", "y")]))]),
            "OPEN
            data 1 abc
            trailers 1 x=y",
        ),
        (
            "trailers without END_STREAM",
            cat(&[post(1), fr(HEADERS, 4, 1, &block(&[("x", "y")]))]),
            "OPEN
            error PROTOCOL_ERROR silent on 1 http2.violation.of.messaging.rule",
        ),
        (
            "pseudo-header in trailers",
            cat(&[post(1), fr(HEADERS, 5, 1, &block(&[(":path", "/")]))]),
            "OPEN
            error PROTOCOL_ERROR silent on 1 http2.invalid.header.field",
        ),
        // 8.1.1, as in golden h2.content_length_mismatch
        (
            "body shorter than content-length",
            cat(&[fr(HEADERS, 4, 1, &with(&POST, &[("content-length", "5")])), fr(DATA, 1, 1, b"abc")]),
            "request 1 :method=POST :scheme=http :path=/ :authority=a content-length=5
            stream-error 1 PROTOCOL_ERROR http2.remote_reset
            > RST_STREAM 1 PROTOCOL_ERROR",
        ),
        (
            "body longer than content-length",
            cat(&[fr(HEADERS, 4, 1, &with(&POST, &[("content-length", "2")])), fr(DATA, 1, 1, b"abc")]),
            "request 1 :method=POST :scheme=http :path=/ :authority=a content-length=2
            stream-error 1 PROTOCOL_ERROR http2.remote_reset
            > RST_STREAM 1 PROTOCOL_ERROR",
        ),
        (
            "frames behind a stream error are dropped",
            cat(&[
                fr(HEADERS, 4, 1, &with(&POST, &[("content-length", "2")])),
                fr(DATA, 0, 1, b"abc"),
                fr(DATA, 1, 1, b"abc"),
            ]),
            "request 1 :method=POST :scheme=http :path=/ :authority=a content-length=2
            stream-error 1 PROTOCOL_ERROR http2.remote_reset
            > RST_STREAM 1 PROTOCOL_ERROR",
        ),
        (
            "trailers before content-length is reached",
            cat(&[
                fr(HEADERS, 4, 1, &with(&POST, &[("content-length", "5")])),
                fr(DATA, 0, 1, b"abc"),
                fr(HEADERS, 5, 1, &block(&[("x", "y")])),
            ]),
            "request 1 :method=POST :scheme=http :path=/ :authority=a content-length=5
            data 1 abc
            error PROTOCOL_ERROR silent on 1 http2.violation.of.messaging.rule",
        ),
        (
            "content-length reached",
            cat(&[
                fr(HEADERS, 4, 1, &with(&POST, &[("content-length", "5")])),
                fr(DATA, 0, 1, b"abc"),
                fr(DATA, 1, 1, b"de"),
            ]),
            "request 1 :method=POST :scheme=http :path=/ :authority=a content-length=5
            data 1 abcde end",
        ),
    ]
}

#[track_caller]
pub fn check(name: &str, bench: impl Fn() -> Bench, bytes: &[u8], want: &str) {
    println!("{name}");
    let want = want.replace("REQ", REQ).replace("OPEN", OPEN);
    is(&bench().run(bytes), &want);
    // The same, byte by byte, and in other pieces.
    for step in [1, 2, 3, 7, 10] {
        let mut b = bench();
        b.feed(bytes, step);
        is(&b.text(), &want);
    }
}

#[test]
fn frame_by_frame() {
    for (name, bytes, want) in frames() {
        check(name, || Bench::server(Settings::default()), &bytes, want);
    }
}

#[test]
fn the_first_frames() {
    // RFC 9113 §3.4
    let raw = || Bench::raw(Settings::default());
    let greeting = "> SETTINGS 1=4096 8=0 3=1024 4=16777216\n";
    let ack = "> SETTINGS ack\n> WINDOW_UPDATE 0 25100289";
    let ok = cat(&[PREFACE.to_vec(), fr(SETTINGS, 0, 0, &[])]);
    check("preface", raw, &ok, &format!("settings\n{greeting}{ack}"));
    let bad = "error PROTOCOL_ERROR silent\nReceived bad client magic byte string\n";
    check("bad preface", raw, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r?", &format!("{bad}{greeting}"));
    check("HTTP/1.1", raw, b"GET / HTTP/1.1\r\n\r\n", &format!("{bad}{greeting}"));
    let early = cat(&[PREFACE.to_vec(), fr(PING, 0, 0, b"12345678")]);
    check("no SETTINGS", raw, &early, &format!("error PROTOCOL_ERROR silent\n{greeting}"));
    let early = cat(&[PREFACE.to_vec(), fr(SETTINGS, ACK, 0, b"")]);
    check("only an acknowledgement", raw, &early, &format!("error PROTOCOL_ERROR silent\n{greeting}"));
}

#[test]
fn settings_advertised() {
    // golden h2.settings_advertised, and both roles' defaults as on Envoy's wire
    let s = Settings {
        max_concurrent_streams: 7,
        initial_window_size: 65_536,
        connection_window: 131_072,
        header_table_size: 1024,
        ..Settings::default()
    };
    is(&Bench::raw(s.clone()).text(), "> SETTINGS 1=1024 8=0 3=7 4=65536");
    let mut c = Bench::raw(s);
    c.c = crate::h2::Connection::client(Settings::default().into());
    let sent = c.sent();
    let frames = sent.strip_prefix(&PREFACE[..]).unwrap();
    is(
        &frames_text(frames, &mut crate::h2::hpack::Decoder::new(0, 0)),
        "> SETTINGS 2=0 1=4096 8=0 3=1024 4=16777216\n> WINDOW_UPDATE 0 25100289",
    );
}

#[test]
fn underscores() {
    let bytes = cat(&[fr(HEADERS, 5, 1, &with(&GET, &[("a_b", "1"), ("x", "y")])), get(3)]);
    let run = |underscores| Bench::server(Settings { underscores, ..Settings::default() }).run(&bytes);
    let third = REQ.replace("request 1", "request 3");
    is(&run(Underscores::Allow), &format!("{} a_b=1 x=y end\n{third}", REQ.trim_end_matches(" end")));
    is(&run(Underscores::DropHeader), &format!("{} x=y end\n{third}", REQ.trim_end_matches(" end")));
    is(
        &run(Underscores::Reject),
        &format!(
            "stream-error 1 INTERNAL_ERROR http2.unexpected_underscore begun\n{third}\n> RST_STREAM 1 INTERNAL_ERROR"
        ),
    );
}

#[test]
fn concurrency() {
    // Before the acknowledgement a stream too many is refused, after it the connection ends (as in Envoy).
    let s = Settings { max_concurrent_streams: 2, ..Settings::default() };
    let mut b = Bench::raw(s.clone());
    b.run(&cat(&[PREFACE.to_vec(), fr(SETTINGS, 0, 0, &[]), get(1), get(3)]));
    is(&b.run(&get(5)), "> RST_STREAM 5 REFUSED_STREAM");
    assert_eq!(b.c.take_counters().stream_refused_errors, 1);
    b.c.send_response(StreamId(1), &ResponseHead::new(200), true).unwrap();
    b.run(&fr(SETTINGS, ACK, 0, &[]));
    is(&b.run(&get(7)), &REQ.replace("request 1", "request 7"));
    is(&b.run(&get(9)), "error PROTOCOL_ERROR silent");
}

#[test]
fn frames_of_streams_that_we_reset_are_dropped() {
    let mut b = Bench::server(Settings::default());
    b.run(&post(1));
    b.c.reset(StreamId(1), ErrorCode::NO_ERROR);
    is(&b.text(), "> RST_STREAM 1 NO_ERROR");
    let more = cat(&[
        fr(DATA, 0, 1, b"abc"),
        fr(WINDOW_UPDATE, 0, 1, &u32s(&[5])),
        fr(HEADERS, 5, 1, &block(&[("x", "y")])),
        fr(RST_STREAM, 0, 1, &u32s(&[8])),
    ]);
    is(&b.run(&more), "");
    // Also of more of them than are remembered.
    for i in 1..3000 {
        b.run(&post(2 * i + 1));
        b.c.reset(StreamId(2 * i + 1), ErrorCode::CANCEL);
        b.text();
    }
    is(&b.run(&more), "");
    // But not of a stream that ended on both sides.
    let mut b = Bench::server(Settings::default());
    b.run(&get(1));
    b.c.send_response(StreamId(1), &ResponseHead::new(200), true).unwrap();
    is(&b.text(), "> HEADERS 1 :status=200 end");
    is(&b.run(&fr(DATA, 1, 1, b"x")), "error STREAM_CLOSED\n> GOAWAY 1 STREAM_CLOSED DATA: stream is closed");
}

#[test]
fn no_frame_of_ours_is_longer_than_every_peer_accepts() {
    let mut b = Bench::server(Settings::default());
    b.run(&get(1));
    let mut head = ResponseHead::new(200);
    let value = "v".repeat(20_000);
    head.headers.append("x-a", value.as_bytes());
    head.headers.append("connection", b"close");
    head.headers.append("te", b"gzip");
    b.c.send_response(StreamId(1), &head, false).unwrap();
    let text = b.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("> HEADERS 1 :status=200") && !text.contains("close") && !text.contains("gzip")
    );
    assert!(lines[1].starts_with("> CONTINUATION 1 x-a=vvv"));
}

#[test]
fn goaway_in_two_steps() {
    let mut b = Bench::server(Settings::default());
    b.run(&get(1));
    b.c.shutdown_notice();
    is(&b.text(), "> GOAWAY 2147483647 NO_ERROR");
    is(&b.run(&post(3)), &OPEN.replace("request 1", "request 3"));
    b.c.goaway(ErrorCode::NO_ERROR, b"");
    is(&b.text(), "> GOAWAY 3 NO_ERROR");
    // Later streams are ignored, earlier ones finish.
    is(&b.run(&cat(&[post(5), fr(DATA, 1, 5, b"x"), fr(DATA, 1, 3, b"abc")])), "data 3 abc end");
    b.c.send_response(StreamId(3), &ResponseHead::new(200), true).unwrap();
    is(&b.text(), "> HEADERS 3 :status=200 end");
    assert_eq!(b.c.take_counters().goaway_sent, 1);
}

#[test]
fn informational_heads_and_trailers_out() {
    let mut b = Bench::server(Settings::default());
    b.run(&get(1));
    b.c.send_response(StreamId(1), &ResponseHead::new(103), false).unwrap();
    b.c.send_response(StreamId(1), &ResponseHead::new(200), false).unwrap();
    assert!(b.c.send_response(StreamId(1), &ResponseHead::new(200), false).is_err());
    b.send(1, "hi", false);
    b.c.send_trailers(StreamId(1), &[("grpc-status", "0")].into_iter().collect()).unwrap();
    assert!(b.c.send_trailers(StreamId(1), &Default::default()).is_err());
    is(
        &b.text(),
        "> HEADERS 1 :status=103\n> HEADERS 1 :status=200\n> DATA 1 hi\n> HEADERS 1 grpc-status=0 end",
    );
    assert_eq!((b.c.streams(), b.c.slots()), (0, 0));
}

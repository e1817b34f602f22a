//! Flow control (RFC 9113 §5.2, §6.9), both ways.

use super::script::*;
use crate::buf::Chunk;
use crate::h2::frame::*;
use crate::h2::{Event, Sent, Settings, StreamId};
use crate::head::ResponseHead;

/// Windows small enough to be seen at work.
fn small() -> Settings {
    Settings { initial_window_size: 65_535, connection_window: 65_535, ..Settings::default() }
}
/// A server whose peer opened streams 1, 3, … with a window of `window`, each with a response head sent.
fn serving(n: u32, window: u32, s: Settings) -> Bench {
    let mut b = Bench::server(s);
    let mut setting = vec![0, 4];
    setting.extend_from_slice(&window.to_be_bytes());
    b.run(&fr(SETTINGS, 0, 0, &setting));
    for i in 0..n {
        b.run(&get(2 * i + 1));
        b.c.send_response(StreamId(2 * i + 1), &ResponseHead::new(200), false).unwrap();
    }
    b.text();
    b
}
fn update(id: u32, n: u32) -> Vec<u8> {
    fr(WINDOW_UPDATE, 0, id, &u32s(&[n]))
}

#[test]
fn the_streams_window() {
    let mut b = serving(1, 3, Settings::default());
    let (sent, rest) = b.send(1, "abcdef", true);
    assert_eq!((sent, &*rest), (Sent::Wait, &b"def"[..]));
    is(&b.text(), "> DATA 1 abc");
    is(&b.run(&update(1, 2)), "writable 1");
    let (sent, rest) = b.send(1, "def", true);
    assert_eq!((sent, &*rest), (Sent::Wait, &b"f"[..]));
    is(&b.run(&update(1, 1)), "writable 1\n> DATA 1 de");
    assert_eq!(b.send(1, "f", true).0, Sent::All);
    is(&b.text(), "> DATA 1 f end");
    assert_eq!(b.send(1, "g", true).0, Sent::Gone);
}

#[test]
fn the_end_needs_no_window() {
    let mut b = serving(1, 0, Settings::default());
    assert_eq!(b.send(1, "", true).0, Sent::All);
    is(&b.text(), "> DATA 1  end");
}

#[test]
fn a_window_that_shrinks_below_zero() {
    // RFC 9113 §6.9.2
    let mut b = serving(1, 10, Settings::default());
    b.send(1, "abcdef", false);
    b.run(&fr(SETTINGS, 0, 0, b"\0\x04\0\0\0\x02"));
    assert_eq!(b.c.capacity(StreamId(1)), 0);
    let (sent, rest) = b.send(1, "ghi", true);
    assert_eq!((sent, rest.len()), (Sent::Wait, 3));
    is(&b.run(&update(1, 4)), "");
    is(&b.run(&update(1, 1)), "writable 1");
    b.send(1, "ghi", false);
    is(&b.text(), "> DATA 1 g");
    // And one that grows again by SETTINGS.
    b.send(1, "hi", false);
    is(&b.run(&fr(SETTINGS, 0, 0, b"\0\x04\0\0\0\x05")), "settings\nwritable 1\n> SETTINGS ack");
    // RFC 9113 §6.9.2: no window may pass 2^31-1.
    b.run(&update(1, 0x7fff_ff00));
    is(&b.run(&fr(SETTINGS, 0, 0, b"\0\x04\x7f\xff\xff\xff")), "error FLOW_CONTROL_ERROR silent");
}

#[test]
fn the_connections_window_is_shared_in_turn() {
    let mut b = serving(3, 1 << 20, Settings::default());
    let fill: &'static [u8] = &[b'x'; 65_535];
    let mut rest = Chunk::from(fill);
    assert_eq!(b.c.send_data(StreamId(1), &mut rest, false), Sent::All);
    b.sent();
    for id in [1, 3, 5] {
        assert_eq!(b.send(id, "abc", true).0, Sent::Wait);
    }
    is(&b.run(&update(1, 1)), "");
    // Each in its turn, as far as the window goes.
    b.feed(&update(0, 5), usize::MAX);
    b.text();
    assert_eq!(b.send(1, "abc", true).0, Sent::All);
    assert_eq!(b.c.writable(), Some((StreamId(3), 0)));
    let (sent, rest) = b.send(3, "abc", true);
    assert_eq!((sent, &*rest), (Sent::Wait, &b"c"[..]));
    assert_eq!(b.c.writable(), None);
    // One at a time while the window is small.
    is(&b.run(&update(0, 9)), "writable 5\n> DATA 1 abc end\n> DATA 3 ab");
    assert_eq!(b.send(5, "abc", true).0, Sent::All);
    assert_eq!(b.c.writable(), Some((StreamId(3), 0)));
}

#[test]
fn the_output_is_bounded_and_wakes_when_it_was_written() {
    let mut b = serving(2, 1 << 20, Settings { out_limit: 20_000, ..Settings::default() });
    b.run(&update(0, 1 << 20));
    let all: &'static [u8] = &[b'x'; 50_000];
    let (mut one, mut two) = (Chunk::from(all), Chunk::from(all));
    assert_eq!(b.c.send_data(StreamId(1), &mut one, true), Sent::Wait);
    assert_eq!(b.c.send_data(StreamId(3), &mut two, true), Sent::Wait);
    assert!(b.c.out().len() <= 20_100);
    let mut order = Vec::new();
    for _ in 0..100 {
        b.sent();
        while let Some((id, _)) = b.c.writable() {
            let rest = if id.0 == 1 { &mut one } else { &mut two };
            order.push(id.0);
            b.c.send_data(id, rest, true);
            assert!(b.c.out().len() <= 20_100);
        }
    }
    assert!(one.is_empty() && two.is_empty());
    // Neither waits for the other to finish.
    assert!(order.windows(3).all(|w| w[0] != w[1] || w[1] != w[2]), "{order:?}");
}

#[test]
fn released_bytes_open_the_windows_at_half() {
    let mut b = Bench::server(small());
    b.run(&post(1));
    b.run(&post(3));
    let part = [b'x'; 16_000];
    b.run(&fr(DATA, 0, 1, &part));
    b.run(&fr(DATA, 0, 1, &part));
    b.c.release(StreamId(1), 16_000);
    is(&b.text(), "");
    b.c.release(StreamId(1), 16_000);
    is(&b.text(), "");
    b.run(&fr(DATA, 0, 3, &part));
    // The connection counts what all of its streams release.
    b.c.release(StreamId(3), 16_000);
    is(&b.text(), "> WINDOW_UPDATE 0 48000");
    b.run(&fr(DATA, 0, 1, &part));
    b.c.release(StreamId(1), 1_000_000); // more than there is
    is(&b.text(), "> WINDOW_UPDATE 1 48000");
}

#[test]
fn what_nobody_releases_stops_the_peer() {
    let mut b = Bench::server(small());
    b.run(&post(1));
    for _ in 0..4 {
        b.run(&fr(DATA, 0, 1, &[b'x'; 16_000]));
    }
    // Beyond its window a stream is reset (as in Envoy), beyond the connection's all ends.
    let mut b2 = Bench::server(Settings { initial_window_size: 65_535, ..Settings::default() });
    b2.run(&post(1));
    for _ in 0..4 {
        b2.run(&fr(DATA, 0, 1, &[b'x'; 16_000]));
    }
    is(
        &b2.run(&fr(DATA, 0, 1, &[b'x'; 1536])),
        "stream-error 1 FLOW_CONTROL_ERROR http2.remote_reset\n> RST_STREAM 1 FLOW_CONTROL_ERROR",
    );
    let text = b.run(&fr(DATA, 0, 1, &[b'x'; 1536]));
    assert!(text.starts_with("error FLOW_CONTROL_ERROR\n> GOAWAY 1 FLOW_CONTROL_ERROR"), "{text}");
}

#[test]
fn padding_is_released_at_once() {
    let mut b = Bench::server(small());
    b.run(&post(1));
    for i in 0..200 {
        let mut p = vec![255];
        p.extend_from_slice(&[0; 255]);
        let text = b.run(&fr(DATA, PADDED | if i == 199 { END_STREAM } else { 0 }, 1, &[p, vec![]].concat()));
        assert!(!text.contains("error"), "{i}: {text}");
        b.run(&fr(DATA, 0, 1, b"x")); // an empty frame in a row with another would be a flood
    }
}

#[test]
fn bytes_of_streams_that_end_come_back_to_the_connection() {
    // By our reset, by the peer's, by a stream error, and for frames that are dropped.
    let mut b = Bench::server(small());
    let part = [b'x'; 9000];
    let mut updates = 0;
    for i in 0..100u32 {
        let id = 2 * i + 1;
        b.run(&post(id));
        b.run(&fr(DATA, 0, id, &part));
        let text = match i % 3 {
            0 => {
                b.c.reset(StreamId(id), crate::h2::ErrorCode::CANCEL);
                b.run(&fr(DATA, 0, id, &part)) // under way when we reset
            }
            1 => b.run(&fr(RST_STREAM, 0, id, &u32s(&[8]))),
            _ => {
                let mut text = b.run(&fr(DATA, END_STREAM, id, b"y"));
                b.c.send_response(StreamId(id), &ResponseHead::new(200), true).unwrap();
                // Both sides ended, the caller still holds the bytes: the stream is remembered for them.
                assert_eq!((b.c.streams(), b.c.slots()), (0, 1));
                b.c.release(StreamId(id), 9000);
                assert_eq!(b.c.slots(), 1);
                b.c.release(StreamId(id), 1);
                text += &b.text();
                text
            }
        };
        assert!(!text.contains("error"), "{i}: {text}");
        assert_eq!(b.c.slots(), 0);
        updates += text.matches("WINDOW_UPDATE 0").count();
    }
    assert!(updates > 20, "{updates}");
}

#[test]
fn data_is_handed_on_as_it_arrives() {
    let mut b = Bench::server(Settings::default());
    b.run(&post(1));
    let frame = fr(DATA, END_STREAM, 1, b"hello world");
    b.buf.extend(&frame[..14]);
    let e = b.c.read(&mut b.buf).unwrap();
    assert!(matches!(&e, Some(Event::Data { data, end: false, .. }) if &**data == b"hello"), "{e:?}");
    assert_eq!(b.c.read(&mut b.buf).unwrap(), None);
    b.buf.extend(&frame[14..]);
    let e = b.c.read(&mut b.buf).unwrap();
    assert!(matches!(&e, Some(Event::Data { data, end: true, .. }) if &**data == b" world"), "{e:?}");
}

#[test]
fn a_reset_in_the_middle_of_a_frame() {
    let mut b = Bench::server(small());
    b.run(&post(1));
    let frame = fr(DATA, END_STREAM, 1, b"hello world");
    is(&b.run(&frame[..14]), "data 1 hello");
    b.c.reset(StreamId(1), crate::h2::ErrorCode::CANCEL);
    is(&b.run(&frame[14..]), "> RST_STREAM 1 CANCEL");
    is(&b.run(&fr(PING, 0, 0, b"12345678")), "> PING ack 12345678");
}

#[test]
fn tokens_come_back_with_events() {
    let mut b = Bench::server(Settings::default());
    b.run(&post(1));
    b.c.set_token(StreamId(1), 77);
    assert_eq!(b.c.token(StreamId(1)), Some(77));
    b.buf.extend(&fr(DATA, 0, 1, b"x"));
    assert!(matches!(b.c.read(&mut b.buf), Ok(Some(Event::Data { token: 77, .. }))));
    b.buf.extend(&fr(RST_STREAM, 0, 1, &[0; 4]));
    assert!(matches!(b.c.read(&mut b.buf), Ok(Some(Event::Reset { token: 77, .. }))));
    assert_eq!(b.c.token(StreamId(1)), None);
}

#[test]
fn wire_bytes_are_counted() {
    let mut b = Bench::server(Settings::default());
    let head = post(1);
    b.run(&head);
    b.run(&fr(DATA, END_STREAM, 1, b"abc"));
    b.c.release(StreamId(1), 3);
    b.c.send_response(StreamId(1), &ResponseHead::new(200), false).unwrap();
    b.send(1, "hi", true);
    let m = b.c.meter(StreamId(1)).unwrap();
    assert_eq!((m.header_received, m.wire_received), (head.len() as u64, head.len() as u64 + 12));
    assert_eq!((m.header_sent, m.wire_sent), (10, 10 + 11));
    assert_eq!(b.c.slots(), 0);
}

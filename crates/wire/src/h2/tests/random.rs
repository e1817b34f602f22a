//! Seeded randomness: mutated bytes never panic, and two connections of ours move random bodies without ever
//! passing a window.

use super::script::*;
use crate::buf::{Chunk, ReadBuf};
use crate::h2::frame::*;
use crate::h2::*;
use std::collections::BTreeMap;

struct Rng(u64);
impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// A conversation with a bit of everything.
fn sample() -> Vec<u8> {
    let b = block(&GET);
    [
        PREFACE.to_vec(),
        fr(SETTINGS, 0, 0, b"\0\x04\0\0\xff\xff\0\x01\0\0\x01\0"),
        fr(SETTINGS, ACK, 0, &[]),
        post(1),
        fr(DATA, 0, 1, b"hello"),
        fr(PRIORITY, 0, 3, &[0, 0, 0, 1, 9]),
        fr(HEADERS, 0x2d, 3, &[vec![2], u32s(&[1]), vec![9], b.clone(), vec![0, 0]].concat()),
        fr(WINDOW_UPDATE, 0, 0, &u32s(&[1000])),
        fr(DATA, PADDED, 1, b"\x03abc\0\0\0"),
        fr(HEADERS, END_STREAM, 5, &b[..3]),
        fr(CONTINUATION, END_HEADERS, 5, &b[3..]),
        fr(PING, 0, 0, b"12345678"),
        fr(HEADERS, 5, 1, &block(&[("x-trailer", "y")])),
        fr(RST_STREAM, 0, 3, &u32s(&[8])),
        fr(0xbe, 0, 9, b"grease"),
        fr(HEADERS, 5, 7, &[b"\x40\x01x\x01y".to_vec(), b, vec![0xbe]].concat()),
        fr(GOAWAY, 0, 0, &u32s(&[0, 0])),
    ]
    .concat()
}

#[test]
fn mutated_conversations_never_panic_and_split_as_they_like() {
    let base = sample();
    let mut rng = Rng(42);
    for round in 0..4000 {
        let mut bytes = base.clone();
        for _ in 0..rng.below(6) {
            let at = rng.below(bytes.len());
            match rng.below(4) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes[at] = rng.below(256) as u8,
                2 => drop(bytes.drain(at..(at + rng.below(20)).min(bytes.len()))),
                _ => {
                    let from = rng.below(base.len());
                    let part = base[from..(from + rng.below(60)).min(base.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        let settings = Settings { stream_error_on_invalid_messaging: round % 2 == 0, ..Settings::default() };
        let run = |step| {
            let mut b = Bench::raw(settings.clone());
            b.feed(&bytes, step);
            b.text()
        };
        let whole = run(usize::MAX);
        for step in [1, 1 + rng.below(30)] {
            let parts = run(step);
            // A body whose stream breaks a rule later may come out in part.
            // A block that both breaks a rule and cannot be decoded is reported for what is found first.
            if !whole.contains("data") && !whole.contains("COMPRESSION_ERROR") {
                assert_eq!(whole, parts, "round {round}, step {step}");
            }
        }
    }
}

#[test]
fn mutated_responses_never_panic() {
    let base = [
        fr(SETTINGS, 0, 0, b"\0\x03\0\0\0\x09"),
        fr(HEADERS, 4, 1, &block(&[(":status", "103")])),
        fr(HEADERS, 4, 1, &block(&[(":status", "200"), ("content-length", "5")])),
        fr(DATA, 0, 1, b"hello"),
        fr(HEADERS, 5, 1, &block(&[("grpc-status", "0")])),
        fr(HEADERS, 5, 3, &block(&[(":status", "404")])),
        fr(RST_STREAM, 0, 5, &u32s(&[7])),
        fr(GOAWAY, 0, 0, &u32s(&[1, 0])),
    ]
    .concat();
    let head = RequestHead { headers: GET.into_iter().collect(), version: crate::Version::Http2 };
    let mut rng = Rng(43);
    for _ in 0..4000 {
        let mut bytes = base.clone();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len());
            bytes[at] = rng.below(256) as u8;
        }
        let mut b = Bench::client(Settings::default());
        (0..4).for_each(|i| assert!(b.c.open(&head, i != 2, i).is_ok()));
        b.feed(&bytes, 1 + rng.below(50));
        b.text();
    }
}

/// One end of a pair: what it has still to send, and what it got.
struct End {
    c: Connection,
    buf: ReadBuf,
    to_send: BTreeMap<u32, (Vec<u8>, usize)>,
    got: BTreeMap<u32, Vec<u8>>,
    ended: BTreeMap<u32, bool>,
    held: Vec<(StreamId, usize)>,
}

impl End {
    fn new(c: Connection) -> End {
        let (to_send, got, ended) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        End { c, buf: ReadBuf::new(), to_send, got, ended, held: Vec::new() }
    }
    fn push(&mut self, id: StreamId, rng: &mut Rng) {
        let Some((body, at)) = self.to_send.get_mut(&id.0) else { return };
        let n = (body.len() - *at).min(1 + rng.below(30_000));
        let end = *at + n == body.len();
        let mut chunk = Chunk::from(body[*at..*at + n].to_vec());
        let sent = self.c.send_data(id, &mut chunk, end);
        assert_ne!(sent, Sent::Gone);
        *at += n - chunk.len();
        if sent == Sent::All && end {
            self.to_send.remove(&id.0);
        } else if sent == Sent::All {
            self.push(id, rng);
        }
    }
    fn read(&mut self, rng: &mut Rng) {
        while let Some(e) = self.c.read(&mut self.buf).expect("no error between our own") {
            match e {
                Event::Request { id, .. } => {
                    self.got.insert(id.0, Vec::new());
                    self.c.send_response(id, &ResponseHead::new(200), false).unwrap();
                    self.to_send.insert(id.0, (body(id.0 + 1), 0));
                    self.push(id, rng);
                }
                Event::Data { id, data, end, .. } => {
                    self.got.entry(id.0).or_default().extend_from_slice(&data);
                    self.held.push((id, data.len()));
                    self.ended.insert(id.0, end);
                }
                Event::Writable { id, .. } => self.push(id, rng),
                Event::Response { .. } | Event::Settings => {}
                e => panic!("{e:?}"),
            }
        }
        // Bodies are consumed now and then.
        while !self.held.is_empty() && rng.below(3) > 0 {
            let (id, n) = self.held.swap_remove(rng.below(self.held.len()));
            self.c.release(id, n);
        }
    }
    /// Some of what waits goes over.
    fn write(&mut self, to: &mut End, rng: &mut Rng) {
        for _ in 0..1 + rng.below(4) {
            let part = self.c.out().front();
            let n = part.len().min(1 + rng.below(20_000));
            to.buf.extend(&part[..n]);
            self.c.out().advance(n);
        }
        while let Some((id, _)) = self.c.writable() {
            self.push(id, rng);
        }
    }
}

/// The body of a stream in one direction: length and content follow from `key`.
fn body(key: u32) -> Vec<u8> {
    let n = (key as usize * 7919) % 200_000;
    (0..n).map(|i| (i as u32).wrapping_mul(key) as u8).collect()
}

#[test]
fn two_of_ours_move_random_bodies() {
    for (seed, window, connection) in [(1, 65_535, 65_535), (2, 70_000, 200_000), (3, 16 << 20, 24 << 20)] {
        let mut rng = Rng(seed);
        let s =
            Settings { initial_window_size: window, connection_window: connection, ..Settings::default() };
        let mut client = End::new(Connection::client(s.clone().into()));
        let mut server = End::new(Connection::server(s.into()));
        let head = RequestHead { headers: POST.into_iter().collect(), version: crate::Version::Http2 };
        let (mut opened, mut idle) = (0, 0);
        while idle < 3 {
            if opened < 60 && rng.below(4) == 0 {
                let id = client.c.open(&head, false, 0).unwrap();
                client.to_send.insert(id.0, (body(id.0), 0));
                client.push(id, &mut rng);
                opened += 1;
            }
            client.write(&mut server, &mut rng);
            server.read(&mut rng);
            server.write(&mut client, &mut rng);
            client.read(&mut rng);
            let done = opened == 60
                && [&client, &server].iter().all(|e| e.to_send.is_empty() && e.held.is_empty())
                && client.c.out().is_empty()
                && server.c.out().is_empty();
            idle = if done { idle + 1 } else { 0 };
        }
        for i in 0..60u32 {
            let id = 2 * i + 1;
            assert!(server.got[&id] == body(id) && server.ended[&id], "request {id}");
            assert!(client.got[&id] == body(id + 1) && client.ended[&id], "response {id}");
        }
        assert_eq!((client.c.slots(), server.c.slots()), (0, 0));
    }
}

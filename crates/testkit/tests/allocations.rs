//! How often the proxy asks the allocator for memory while requests pass: HTTP/1 to HTTP/1 never, HTTP/2 to HTTP/1 at most
//! twice per stream, whatever the number of headers and the size of the body.
//!
//! The counter sees the whole process, so client and host are plain threads that allocate nothing themselves.

use nuncio_testkit::{Config, Server};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WARM: usize = 300;
const REQUESTS: usize = 1000;

/// A host that answers each request, which has no body, with these bytes.
fn host(answer: Vec<u8>) -> SocketAddr {
    let l = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = l.local_addr().expect("an address");
    std::thread::spawn(move || {
        for io in l.incoming() {
            let (mut io, answer) = (io.expect("a connection"), answer.clone());
            std::thread::spawn(move || {
                let _ = io.set_nodelay(true);
                let mut end = End::default();
                let mut buf = [0; 16 << 10];
                while let Ok(n @ 1..) = io.read(&mut buf) {
                    for _ in 0..end.count(&buf[..n]) {
                        io.write_all(&answer).expect("the proxy reads");
                    }
                }
            });
        }
    });
    addr
}

/// Counts ends of heads in what comes in pieces.
#[derive(Default)]
struct End(usize);

impl End {
    fn count(&mut self, bytes: &[u8]) -> usize {
        let mut n = 0;
        for b in bytes {
            self.0 = match (b, self.0) {
                (b'\r', 0 | 2) | (b'\n', 1 | 3) => self.0 + 1,
                (b'\r', _) => 1,
                _ => 0,
            };
            if self.0 == 4 {
                (self.0, n) = (0, n + 1);
            }
        }
        n
    }
}

fn answer(headers: usize, body: usize) -> Vec<u8> {
    let more: String = (0..headers).map(|i| format!("x-answer-{i}: value {i}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {body}\r\n{more}\r\n{}", "b".repeat(body)).into_bytes()
}

fn connect(to: SocketAddr) -> TcpStream {
    let io = TcpStream::connect(to).expect("the proxy listens");
    io.set_nodelay(true).expect("an option");
    io
}

/// Allocator calls per request over HTTP/1, in thousandths.
fn over_http1(to: SocketAddr, headers: usize, body: usize) -> usize {
    let more: String = (0..headers).map(|i| format!("x-ask-{i}: value {i}\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nhost: h\r\n{more}\r\n").into_bytes();
    let mut io = connect(to);
    let mut buf = vec![0; 64 << 10];
    let mut ask = || {
        io.write_all(&request).expect("the proxy reads");
        let (mut end, mut rest) = (End::default(), None);
        while rest != Some(0) {
            let n = io.read(&mut buf).expect("an answer");
            assert_ne!(n, 0, "the proxy closed");
            rest = match rest {
                Some(left) => Some(left - n),
                // The body has no end of a head in it: what follows the last one is body.
                None if end.count(&buf[..n]) == 0 => None,
                None => {
                    let at = buf[..n].windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| n - at - 4);
                    Some(body - at)
                }
            };
        }
    };
    (0..WARM).for_each(|_| ask());
    counted(|| (0..REQUESTS).for_each(|_| ask()))
}

fn counted(f: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    f();
    let c = region.change();
    (c.allocations + c.reallocations) * 1000 / REQUESTS
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut f = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    f.extend([kind, flags]);
    f.extend(stream.to_be_bytes());
    f.extend(payload);
    f
}

/// Allocator calls per request over HTTP/2, some streams at a time, in thousandths.
fn over_http2(to: SocketAddr, headers: usize) -> usize {
    const AT_A_TIME: usize = 10;
    // :method GET, :scheme http, :path /, :authority h; then literals that no table keeps.
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 1, b'h'];
    for i in 0..headers {
        for text in [format!("x-ask-{i}"), format!("value {i}")] {
            if text.starts_with('x') {
                block.push(0);
            }
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    let mut request = frame(1, 5, 0, &block);
    let mut io = connect(to);
    let open: Vec<u8> = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[0, 4, 0, 1, 0, 0]), // windows of 64 KiB per stream
        frame(8, 0, 0, &0x3fff_ffff_u32.to_be_bytes()),
        frame(4, 1, 0, &[]),
    ]
    .concat();
    io.write_all(&open).expect("the proxy reads");
    let (mut buf, mut have, mut stream) = (vec![0; 256 << 10], 0, 1u32);
    let mut ask = || {
        for _ in 0..AT_A_TIME {
            request[5..9].copy_from_slice(&stream.to_be_bytes());
            stream += 2;
            io.write_all(&request).expect("the proxy reads");
        }
        let mut answered = 0;
        while answered < AT_A_TIME {
            let n = io.read(&mut buf[have..]).expect("answers");
            assert_ne!(n, 0, "the proxy closed");
            have += n;
            let mut at = 0;
            while let Some(head) = buf[at..have].first_chunk::<9>() {
                let end = at + 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if end > have {
                    break;
                }
                assert!(!matches!(head[3], 3 | 7), "reset or closed: {head:?}");
                answered += usize::from(head[3] < 2 && head[4] & 1 == 1);
                at = end;
            }
            buf.copy_within(at..have, 0);
            have -= at;
        }
    };
    (0..WARM / AT_A_TIME).for_each(|_| ask());
    counted(|| (0..REQUESTS / AT_A_TIME).for_each(|_| ask()))
}

/// One test, since the counter is the process's.
#[test]
fn calls_of_the_allocator() {
    // Headers of the request, of the answer, and bytes of its body.
    for (ask, reply, body) in [(2, 2, 1000), (30, 30, 1000), (2, 2, 30_000)] {
        let host = host(answer(reply, body));
        let config = Config::to(host);
        let s = Server::start(&config);
        let h1 = over_http1(s.addr(), ask, body);
        let h2 = over_http2(s.addr(), ask);
        println!("{ask} + {reply} headers, {body} bytes: HTTP/1 {h1}, HTTP/2 {h2} calls in 1000 requests");
        // A timer's slot or a list may grow once in a while.
        assert!(h1 <= 20, "{h1} calls in 1000 HTTP/1 requests with {ask} + {reply} headers and {body} bytes");
        assert!(
            h2 <= 2020,
            "{h2} calls in 1000 HTTP/2 requests with {ask} + {reply} headers and {body} bytes"
        );
    }
}

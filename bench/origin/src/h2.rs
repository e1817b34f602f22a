//! HTTP/2 (RFC 9113), just enough to count requests: every stream gets the same answer once it has ended. Header blocks are
//! not decoded; the answer's block uses no dynamic table.

use std::collections::VecDeque;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const BODY: usize = 1024;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

pub struct H2 {
    /// The answer's header block.
    block: Vec<u8>,
    /// How much DATA the peer lets us send on the connection. Its stream windows are taken to hold an answer.
    window: i64,
    /// Streams whose answer waits for the window.
    waiting: VecDeque<u32>,
}

impl H2 {
    /// Writes our SETTINGS and a window that never runs dry for requests.
    pub fn new(output: &mut Vec<u8>) -> Self {
        // MAX_CONCURRENT_STREAMS (3) 1024, INITIAL_WINDOW_SIZE (4) 16 MiB.
        frame(output, SETTINGS, 0, 0, &[0, 3, 0, 0, 4, 0, 0, 4, 1, 0, 0, 0]);
        frame(output, WINDOW_UPDATE, 0, 0, &0x3fff_ffff_u32.to_be_bytes());
        Self { block: block(), window: 65_535, waiting: VecDeque::new() }
    }

    /// Handles every whole frame; false when the peer breaks the framing.
    pub fn feed(&mut self, input: &mut Vec<u8>, output: &mut Vec<u8>) -> bool {
        let mut at = 0;
        while let Some(head) = input.get(at..at + 9) {
            let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if size > 16_384 {
                return false;
            }
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            let Some(payload) = input.get(at + 9..at + 9 + size) else { break };
            at += 9 + size;
            self.frame(kind, flags, stream, payload, output);
        }
        input.drain(..at);
        true
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], output: &mut Vec<u8>) {
        match kind {
            HEADERS | DATA if flags & END_STREAM != 0 => {
                self.waiting.push_back(stream);
                self.answer(output);
            }
            SETTINGS if flags & ACK == 0 => frame(output, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(output, PING, ACK, 0, payload),
            WINDOW_UPDATE if stream == 0 => {
                if let Ok(bytes) = payload.try_into() {
                    self.window += i64::from(u32::from_be_bytes(bytes));
                }
                self.answer(output);
            }
            _ => {}
        }
    }

    fn answer(&mut self, output: &mut Vec<u8>) {
        while self.window >= BODY as i64 {
            let Some(stream) = self.waiting.pop_front() else { return };
            self.window -= BODY as i64;
            frame(output, HEADERS, END_HEADERS, stream, &self.block);
            frame(output, DATA, END_STREAM, stream, &[b'x'; BODY]);
        }
    }
}

fn frame(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    output.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    output.extend_from_slice(&[kind, flags]);
    output.extend_from_slice(&stream.to_be_bytes());
    output.extend_from_slice(payload);
}

/// `:status: 200` from the static table, the others as literals without indexing (RFC 7541, section 6.2.2).
fn block() -> Vec<u8> {
    let mut out = vec![0x88];
    let headers = [
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("date", "Sat, 21 Nov 2026 04:00:00 GMT"),
        ("cache-control", "private, max-age=0"),
        ("etag", "\"5f-0123456789abcdef\""),
        ("server", "origin"),
    ];
    for (name, value) in headers {
        out.push(0);
        for text in [name, value] {
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

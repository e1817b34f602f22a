//! A small language: bytes of frames in, a line of text per event and per frame sent out.

use crate::buf::{Chunk, ReadBuf};
use crate::h2::frame::*;
use crate::h2::hpack::{Decoder, Encoder};
use crate::h2::*;
use crate::headers::HeaderMap;
use std::fmt::Write;

pub fn fr(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut v = Vec::new();
    put(&mut v, kind, flags, id, payload);
    v
}
/// A header block without any use of the dynamic table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut v = Vec::new();
    for (n, val) in fields {
        Encoder::new(0).field(&mut v, crate::Id::of(n.as_bytes()), n.as_bytes(), val.as_bytes());
    }
    v
}
pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub fn with(base: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]) -> Vec<u8> {
    block(&[base, more].concat())
}
pub fn get(id: u32) -> Vec<u8> {
    fr(HEADERS, END_STREAM | END_HEADERS, id, &block(&GET))
}
pub fn post(id: u32) -> Vec<u8> {
    fr(HEADERS, END_HEADERS, id, &block(&POST))
}
pub fn u32s(n: &[u32]) -> Vec<u8> {
    n.iter().flat_map(|n| n.to_be_bytes()).collect()
}

pub fn map_text(m: &HeaderMap) -> String {
    m.iter()
        .map(|h| format!(" {}={}", String::from_utf8_lossy(h.name), String::from_utf8_lossy(h.value)))
        .collect()
}
pub fn event_text(e: &Event) -> String {
    let end = |e: &bool| if *e { " end" } else { "" };
    match e {
        Event::Request { id, head, end: e } => format!("request {id:?}{}{}", map_text(&head.headers), end(e)),
        Event::Response { id, head, end: e, .. } => {
            format!("response {id:?} {}{}{}", head.status, map_text(&head.headers), end(e))
        }
        Event::Data { id, data, end: e, .. } => {
            format!("data {id:?} {}{}", String::from_utf8_lossy(data), end(e))
        }
        Event::Trailers { id, map, .. } => format!("trailers {id:?}{}", map_text(map)),
        Event::Reset { id, code, .. } => format!("reset {id:?} {}", code.name()),
        Event::StreamError { id, code, details, begun, .. } => {
            format!("stream-error {id:?} {} {details}{}", code.name(), if *begun { " begun" } else { "" })
        }
        Event::Writable { id, .. } => format!("writable {id:?}"),
        Event::GoAway { last, code, .. } => format!("goaway {last:?} {}", code.name()),
        Event::Settings => "settings".into(),
        Event::Pong { payload } => format!("pong {}", String::from_utf8_lossy(payload)),
    }
}

/// One connection under test.
pub struct Bench {
    pub c: Connection,
    pub buf: ReadBuf,
    decoder: Decoder,
    log: String,
}

impl Bench {
    /// A fresh server, before the preface.
    pub fn raw(settings: Settings) -> Bench {
        let c = Connection::server(settings.into());
        Bench { c, buf: ReadBuf::new(), decoder: Decoder::new(4096, 1 << 20), log: String::new() }
    }
    /// A server after the preface, with its SETTINGS acknowledged.
    pub fn server(settings: Settings) -> Bench {
        let mut b = Bench::raw(settings);
        b.feed(&[&PREFACE[..], &fr(SETTINGS, 0, 0, &[]), &fr(SETTINGS, ACK, 0, &[])].concat(), usize::MAX);
        b.text();
        b
    }
    /// A client after the server's SETTINGS and acknowledgement.
    pub fn client(settings: Settings) -> Bench {
        let mut b = Bench { c: Connection::client(settings.into()), ..Bench::raw(Settings::default()) };
        b.c.out().advance(PREFACE.len());
        b.feed(&[fr(SETTINGS, 0, 0, &[]), fr(SETTINGS, ACK, 0, &[])].concat(), usize::MAX);
        b.text();
        b
    }
    /// Lets the connection read `bytes` in pieces of `step`.
    pub fn feed(&mut self, bytes: &[u8], step: usize) {
        for part in bytes.chunks(step.min(bytes.len().max(1))) {
            self.buf.extend(part);
            loop {
                match self.c.read(&mut self.buf) {
                    Ok(Some(e)) => {
                        // Pieces of one body arrive as the bytes do: show them as one.
                        let line = event_text(&e);
                        match (&e, self.log.strip_suffix('\n')) {
                            (Event::Data { id, data, end, .. }, Some(log))
                                if log.rsplit('\n').next().is_some_and(|l| {
                                    l.starts_with(&format!("data {id:?} ")) && !l.ends_with(" end")
                                }) =>
                            {
                                let more = String::from_utf8_lossy(data);
                                self.log = format!("{log}{more}{}\n", if *end { " end" } else { "" });
                            }
                            _ => writeln!(self.log, "{line}").unwrap(),
                        }
                    }
                    Ok(None) => break,
                    Err(e) => {
                        let goaway = if e.goaway { "" } else { " silent" };
                        let begun = if e.begun { " begun" } else { "" };
                        let (s, d) = (e.stream, e.details);
                        let on = if s.0 > 0 { format!(" on {s:?}{begun} {d}") } else { String::new() };
                        writeln!(self.log, "error {}{goaway}{}", e.code.name(), on.trim_end()).unwrap();
                        let m = e.message;
                        if m != "The user callback function failed" {
                            writeln!(self.log, "  {m}").unwrap();
                        }
                        return;
                    }
                }
            }
        }
    }
    /// Everything that waits in the output.
    pub fn sent(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.c.out().is_empty() {
            let part = self.c.out().front().to_vec();
            self.c.out().advance(part.len());
            all.extend_from_slice(&part);
        }
        all
    }
    /// What happened since the last call: events, then the frames sent.
    pub fn text(&mut self) -> String {
        let mut text = std::mem::take(&mut self.log);
        let sent = self.sent();
        text += &frames_text(&sent, &mut self.decoder);
        text
    }
    /// Reads, then shows what happened.
    pub fn run(&mut self, bytes: &[u8]) -> String {
        self.feed(bytes, usize::MAX);
        self.text()
    }
    pub fn send(&mut self, id: u32, data: &'static str, end: bool) -> (Sent, Chunk) {
        let mut c = Chunk::from(data);
        (self.c.send_data(StreamId(id), &mut c, end), c)
    }
}

/// A line per frame.
pub fn frames_text(mut b: &[u8], decoder: &mut Decoder) -> String {
    let mut text = String::new();
    while let Some((head, rest)) = b.split_first_chunk::<HEAD>() {
        let h = Head::parse(head);
        let (p, rest) = rest.split_at(h.len as usize);
        b = rest;
        let id = h.stream;
        let end = if h.has(END_STREAM) { " end" } else { "" };
        let line = match h.kind {
            DATA => format!("> DATA {id} {}{end}", String::from_utf8_lossy(p)),
            HEADERS | CONTINUATION => {
                let mut fields = String::new();
                decoder
                    .decode(p, h.has(END_HEADERS), |f| {
                        let (n, v) = (String::from_utf8_lossy(f.name), String::from_utf8_lossy(f.value));
                        write!(fields, " {n}={v}").unwrap();
                        true
                    })
                    .unwrap();
                let name = if h.kind == HEADERS { "HEADERS" } else { "CONTINUATION" };
                format!("> {name} {id}{fields}{}", if h.kind == HEADERS { end } else { "" })
            }
            RST_STREAM => format!("> RST_STREAM {id} {}", ErrorCode(word(p)).name()),
            SETTINGS if h.has(ACK) => "> SETTINGS ack".into(),
            SETTINGS => format!(
                "> SETTINGS{}",
                p.chunks(6).map(|e| format!(" {}={}", e[1], word(&e[2..]))).collect::<String>()
            ),
            PING => format!("> PING{} {}", if h.has(ACK) { " ack" } else { "" }, String::from_utf8_lossy(p)),
            GOAWAY => {
                let debug = String::from_utf8_lossy(&p[8..]);
                format!("> GOAWAY {} {} {debug}", word(p), ErrorCode(word(&p[4..])).name()).trim_end().into()
            }
            WINDOW_UPDATE => format!("> WINDOW_UPDATE {id} {}", word(p)),
            k => format!("> frame {k}"),
        };
        text += &line;
        text.push('\n');
    }
    assert!(b.is_empty(), "half a frame was sent");
    text
}

/// Asserts lines, indentation aside.
#[track_caller]
pub fn is(got: &str, want: &str) {
    let want: String =
        want.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    let got: String = got.lines().map(|l| format!("{}\n", l.trim())).collect();
    assert_eq!(got, want, "\n--- got\n{got}--- want\n{want}");
}

//! Tests drive both roles with literal bytes; `conversation` turns what happened into text.

mod bodies;
mod limits;
mod requests;
mod responses;
mod splitting;
mod upgrades;
mod writing;

use super::*;
use crate::buf::{OutBuf, ReadBuf};
use crate::head::{RequestHead, ResponseHead};
use crate::headers::HeaderMap;
use std::fmt::Write;
use std::sync::Arc;

pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| if b < 0x80 { b as char } else { '?' }).collect()
}

/// `name=value;` for each header.
pub(super) fn list(headers: &HeaderMap) -> String {
    headers.iter().map(|h| format!("{}={};", text(h.name), text(h.value))).collect()
}

pub(super) fn written(out: &mut OutBuf) -> String {
    let mut all = Vec::new();
    while !out.is_empty() {
        let n = out.front().len();
        all.extend_from_slice(out.front());
        out.advance(n);
    }
    text(&all)
}

pub(super) fn server(settings: ServerSettings) -> Server {
    Server::new(Arc::new(settings), false)
}

pub(super) fn client(settings: ClientSettings) -> Client {
    Client::new(Arc::new(settings))
}

pub(super) fn response(status: u16, headers: &[(&'static str, &'static str)]) -> ResponseHead {
    ResponseHead { status, headers: headers.iter().copied().collect(), version: Default::default() }
}

pub(super) fn request(headers: &[(&'static str, &'static str)]) -> RequestHead {
    RequestHead { headers: headers.iter().copied().collect(), version: Default::default() }
}

pub(super) fn buffer(bytes: &[u8]) -> ReadBuf {
    let mut b = ReadBuf::new();
    b.extend(bytes);
    b
}

/// What a server makes of `pieces`, answering each request with 200 as soon as it is complete. Pieces of a body are
/// joined, so that the text does not depend on how the input was cut.
pub(super) fn conversation(settings: &ServerSettings, pieces: &[&[u8]]) -> String {
    let mut s = server(settings.clone());
    let (mut buf, mut out, mut log) = (ReadBuf::new(), OutBuf::new(), String::new());
    let mut body = Vec::new();
    let mut in_body = false;
    for piece in pieces {
        buf.extend(piece);
        loop {
            if !in_body {
                match s.read_head(&mut buf) {
                    Ok(None) => break,
                    Ok(Some(start)) => {
                        write!(log, "<{}", list(&start.head.headers)).unwrap();
                        if !start.keep_alive {
                            log.push_str(" close");
                        }
                        if start.upgrade != Upgrade::None {
                            write!(log, " {:?}", start.upgrade).unwrap();
                        }
                        if start.expect_continue {
                            log.push_str(" expect");
                        }
                        in_body = true;
                    }
                    Err(e) => {
                        write!(log, "{} {}", e.status, e.details).unwrap();
                        return log;
                    }
                }
            }
            match s.read_body(&mut buf) {
                Ok(BodyEvent::NeedMore) => break,
                Ok(BodyEvent::Data(c)) => {
                    assert!(!c.is_empty());
                    body.extend_from_slice(&c);
                }
                Ok(BodyEvent::Trailers(t)) => {
                    write!(log, " {}+{}", text(&body), list(&t)).unwrap();
                    body.clear();
                }
                Ok(BodyEvent::End) => {
                    assert_eq!(s.read_body(&mut buf), Ok(BodyEvent::End));
                    write!(log, " {}>", text(&body)).unwrap();
                    body.clear();
                    in_body = false;
                    s.write_head(&mut response(200, &[]), true, &mut out);
                    assert!(s.response_complete() && s.is_idle());
                }
                Err(e) => {
                    write!(log, " {}!{} {}", text(&body), e.status, e.details).unwrap();
                    return log;
                }
            }
        }
    }
    if in_body {
        write!(log, " {}…", text(&body)).unwrap();
    }
    log
}

/// `conversation` with default settings and one piece.
pub(super) fn served(input: &[u8]) -> String {
    conversation(&ServerSettings::default(), &[input])
}

/// What a client makes of `pieces`, the answer to a request with this method and headers; `eof`: the upstream closes
/// behind them.
pub(super) fn answered(
    settings: &ClientSettings,
    method: &'static str,
    more: &[(&'static str, &'static str)],
    pieces: &[&[u8]],
    eof: bool,
) -> String {
    let mut c = client(settings.clone());
    let (mut buf, mut out, mut log) = (ReadBuf::new(), OutBuf::new(), String::new());
    let mut head = request(&[(":method", method), (":path", "/"), (":authority", "a")]);
    more.iter().for_each(|(n, v)| head.headers.append(*n, v.as_bytes()));
    c.write_head(&head, true, &mut out).unwrap();
    let mut body = Vec::new();
    let (mut headed, mut ended) = (false, false);
    let mut drive = |c: &mut Client, buf: &mut ReadBuf, log: &mut String| -> Result<bool, H1Error> {
        loop {
            while !headed || ended {
                let Some(start) = c.read_head(buf)? else { break };
                headed = !start.informational;
                write!(log, "<{} {}", start.head.status, list(&start.head.headers)).unwrap();
                if start.upgraded {
                    log.push_str(" upgraded");
                }
                if start.informational {
                    log.push('>');
                }
            }
            if ended {
                return Ok(true);
            }
            match c.read_body(buf)? {
                BodyEvent::NeedMore => return Ok(false),
                BodyEvent::Data(d) => body.extend_from_slice(&d),
                BodyEvent::Trailers(t) => write!(log, " +{}", list(&t)).unwrap(),
                BodyEvent::End => {
                    write!(log, " {}>", text(&body)).unwrap();
                    ended = true;
                }
            }
        }
    };
    let mut all = |c: &mut Client, buf: &mut ReadBuf, log: &mut String| -> Result<(), H1Error> {
        for piece in pieces {
            buf.extend(piece);
            if drive(c, buf, log)? {
                break;
            }
        }
        if eof {
            match c.read_eof()? {
                Eof::BodyEnd => assert!(drive(c, buf, log)?),
                Eof::Incomplete => log.push_str("nothing"),
                Eof::Idle => log.push_str(" idle"),
            }
        }
        Ok(())
    };
    match all(&mut c, &mut buf, &mut log) {
        Ok(()) if c.reusable() => log.push_str(" reusable"),
        Ok(()) => {}
        Err(e) => {
            assert_eq!(e.status, 0);
            write!(log, "!{}", e.cause.as_str()).unwrap();
        }
    }
    log
}

/// `answered` for a GET, in one piece, with defaults.
pub(super) fn got(input: &[u8]) -> String {
    answered(&ClientSettings::default(), "GET", &[], &[input], false)
}

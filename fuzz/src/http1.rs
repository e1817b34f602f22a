//! HTTP/1: what is accepted is the same however the bytes arrive, unambiguous, and free of what splits messages.

use nuncio_wire::h1::{BodyEvent, Client, ClientSettings, Server, ServerSettings, Underscores};
use nuncio_wire::{HeaderMap, OutBuf, ReadBuf, RequestHead, ResponseHead, name};
use std::sync::Arc;

/// One message that was read.
#[derive(Debug, PartialEq, Default)]
struct Seen {
    line: String,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    complete: bool,
}

/// The first byte chooses the settings, the second one how the rest is cut.
fn cut(data: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (&[knobs, step], rest) = data.split_first_chunk()?;
    Some((knobs, 1 + step as usize, rest))
}

/// Requests, as a listener reads them; each is answered, so that the next one on the connection is read too.
pub fn h1_request(data: &[u8]) {
    let Some((knobs, step, bytes)) = cut(data) else { return };
    let on = |bit: u8| knobs & (1 << bit) != 0;
    let settings = Arc::new(ServerSettings {
        max_head_bytes: if on(0) { 200 } else { 60 * 1024 },
        max_headers: if on(1) { 5 } else { 100 },
        accept_http_10: on(2),
        allow_chunked_length: on(3),
        enable_trailers: on(4),
        allow_custom_methods: on(5),
        underscores: if on(6) { Underscores::DropHeader } else { Underscores::Allow },
        allow_absolute_url: !on(7),
        ..ServerSettings::default()
    });
    let whole = serve(&settings, bytes, usize::MAX);
    assert_eq!(whole, serve(&settings, bytes, step), "cut into pieces of {step}");
    for seen in &whole.0 {
        check(&seen.headers);
        assert!(seen.headers.len() <= settings.max_headers + 4);
        assert!(seen.headers.get_all(name::AUTHORITY).count() <= 1);
        if on(6) {
            assert!(seen.headers.iter().all(|h| !h.name.contains(&b'_')), "{:?}", seen.headers);
        }
    }
}

fn serve(settings: &Arc<ServerSettings>, bytes: &[u8], step: usize) -> (Vec<Seen>, Option<&'static str>) {
    let mut server = Server::new(settings.clone(), false);
    let (mut buf, mut out) = (ReadBuf::new(), OutBuf::new());
    let mut all: Vec<Seen> = Vec::new();
    let mut in_body = false;
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        buf.extend(piece);
        loop {
            if !in_body {
                match server.read_head(&mut buf) {
                    Ok(None) => break,
                    Err(e) => return (all, Some(e.details)),
                    Ok(Some(r)) => {
                        let line = format!("{:?} {:?}", r.head.version, r.upgrade);
                        all.push(Seen { line, headers: r.head.headers, ..Seen::default() });
                        in_body = true;
                    }
                }
            }
            let Some(seen) = all.last_mut() else { break };
            match server.read_body(&mut buf) {
                Ok(BodyEvent::NeedMore) => break,
                Ok(BodyEvent::Data(d)) => seen.body.extend_from_slice(&d),
                Ok(BodyEvent::Trailers(t)) => seen.trailers = Some(t),
                Ok(BodyEvent::End) => {
                    seen.complete = true;
                    in_body = false;
                    server.write_head(&mut ResponseHead::new(204), true, &mut out);
                    out.clear();
                }
                Err(e) => return (all, Some(e.details)),
            }
        }
    }
    server.read_eof();
    (all, None)
}

/// Responses, as a cluster's connection reads them, to GET, HEAD, CONNECT or an upgrade.
pub fn h1_response(data: &[u8]) {
    let Some((knobs, step, bytes)) = cut(data) else { return };
    let whole = ask(knobs, bytes, usize::MAX);
    assert_eq!(whole, ask(knobs, bytes, step), "cut into pieces of {step}");
    for seen in &whole.0 {
        check(&seen.headers);
    }
}

fn ask(knobs: u8, bytes: &[u8], step: usize) -> (Vec<Seen>, String) {
    let on = |bit: u8| knobs & (1 << bit) != 0;
    let settings = ClientSettings {
        max_head_bytes: if on(0) { 200 } else { 80 * 1024 },
        max_headers: if on(1) { 5 } else { 100 },
        allow_chunked_length: on(2),
        enable_trailers: on(3),
        ..ClientSettings::default()
    };
    let mut client = Client::new(Arc::new(settings));
    let mut head = RequestHead::default();
    let method: &[u8] = match knobs >> 4 & 3 {
        0 => b"GET",
        1 => b"HEAD",
        2 => b"CONNECT",
        _ => b"POST",
    };
    head.headers.append(":method", method);
    head.headers.append(":path", b"/");
    head.headers.append(":authority", b"a:1");
    if on(6) {
        head.headers.append("connection", b"upgrade");
        head.headers.append("upgrade", b"x");
    }
    let (mut out, mut all, mut buf) = (OutBuf::new(), Vec::<Seen>::new(), ReadBuf::new());
    if let Err(e) = client.write_head(&head, false, &mut out) {
        return (all, e.details.into());
    }
    if !on(7) {
        client.write_end(None, &mut out);
    }
    let mut in_body = false;
    let mut read = |client: &mut Client, buf: &mut ReadBuf, all: &mut Vec<Seen>| loop {
        if !in_body {
            match client.read_head(buf) {
                Ok(None) => return Ok(false),
                Err(e) => return Err(e.details),
                Ok(Some(r)) => {
                    in_body = !r.informational;
                    all.push(Seen {
                        line: r.head.status.to_string(),
                        headers: r.head.headers,
                        ..Seen::default()
                    });
                    continue;
                }
            }
        }
        let Some(seen) = all.last_mut() else { return Ok(false) };
        match client.read_body(buf) {
            Ok(BodyEvent::NeedMore) => return Ok(false),
            Ok(BodyEvent::Data(d)) => seen.body.extend_from_slice(&d),
            Ok(BodyEvent::Trailers(t)) => seen.trailers = Some(t),
            Ok(BodyEvent::End) => {
                seen.complete = true;
                return Ok(true);
            }
            Err(e) => return Err(e.details),
        }
    };
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        buf.extend(piece);
        match read(&mut client, &mut buf, &mut all) {
            Ok(false) => {}
            Ok(true) => return (all, "complete".into()),
            Err(details) => return (all, details.into()),
        }
    }
    let end = match client.read_eof() {
        Ok(eof) => format!("{eof:?} {:?}", read(&mut client, &mut buf, &mut all)),
        Err(e) => e.details.into(),
    };
    (all, end)
}

/// Nothing that is handed on can be read as two messages.
fn check(headers: &HeaderMap) {
    for h in headers.iter() {
        assert!(h.value.iter().all(|&c| c == b'\t' || (c >= b' ' && c != 0x7f)), "{headers:?}");
        assert!(!h.name.is_empty() && h.name.iter().all(u8::is_ascii_graphic), "{headers:?}");
    }
    assert!(headers.get_all(name::CONTENT_LENGTH).count() <= 1, "{headers:?}");
    assert!(
        !(headers.contains(name::CONTENT_LENGTH) && headers.contains(name::TRANSFER_ENCODING)),
        "{headers:?}"
    );
}

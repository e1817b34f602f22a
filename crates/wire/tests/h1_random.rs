//! Bounded random mutation of HTTP/1 messages, reproducible from its seeds: nothing panics, what is accepted is
//! unambiguous, and what is forwarded reads the same at the next hop.

#[path = "seeds/h1.rs"]
mod seeds;

use nuncio_wire::h1::{BodyEvent, Client, ClientSettings, Server, ServerSettings, Upgrade};
use nuncio_wire::{HeaderMap, OutBuf, ReadBuf, RequestHead, ResponseHead, Version, name};
use seeds::{PIECES, REQUESTS, RESPONSES};
use std::sync::Arc;

/// xorshift64*
struct Rng(u64);

impl Rng {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.next(from.len())]
    }
}

fn mutate(rng: &mut Rng, seeds: &[&[u8]]) -> Vec<u8> {
    let mut m = rng.pick(seeds).to_vec();
    if rng.next(4) == 0 {
        m.extend_from_slice(rng.pick(seeds));
    }
    for _ in 0..rng.next(5) {
        let at = rng.next(m.len() + 1);
        match rng.next(5) {
            0 if at < m.len() => m[at] = rng.next(256) as u8,
            1 if at < m.len() => drop(m.remove(at)),
            2 => {
                let to = (at + rng.next(12)).min(m.len());
                let copy = m[at..to].to_vec();
                m.splice(at..at, copy);
            }
            3 => m.truncate(at.max(1)),
            _ => drop(m.splice(at..at, rng.pick(PIECES).iter().copied())),
        }
    }
    m
}

fn cut<'a>(rng: &mut Rng, mut raw: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !raw.is_empty() {
        let (a, b) = raw.split_at(1 + rng.next(raw.len()));
        pieces.push(a);
        raw = b;
    }
    pieces
}

fn settings(rng: &mut Rng) -> ServerSettings {
    ServerSettings {
        max_head_bytes: 400,
        max_headers: 12,
        accept_http_10: rng.next(2) == 0,
        allow_chunked_length: rng.next(2) == 0,
        enable_trailers: rng.next(2) == 0,
        allow_custom_methods: rng.next(2) == 0,
        ..Default::default()
    }
}

/// One exchange as the server saw it.
#[derive(Debug, PartialEq)]
struct Seen {
    head: RequestHead,
    upgrade: Upgrade,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    complete: bool,
}

fn serve(settings: &Arc<ServerSettings>, pieces: &[&[u8]]) -> (Vec<Seen>, Option<&'static str>) {
    let mut s = Server::new(settings.clone(), false);
    let (mut buf, mut out) = (ReadBuf::new(), OutBuf::new());
    let mut all: Vec<Seen> = Vec::new();
    let mut in_body = false;
    for piece in pieces {
        buf.extend(piece);
        loop {
            if !in_body {
                match s.read_head(&mut buf) {
                    Ok(None) => break,
                    Err(e) => return (all, Some(e.details)),
                    Ok(Some(r)) => {
                        let (body, trailers) = (Vec::new(), None);
                        all.push(Seen { head: r.head, upgrade: r.upgrade, body, trailers, complete: false });
                        in_body = true;
                    }
                }
            }
            let seen = all.last_mut().unwrap();
            match s.read_body(&mut buf) {
                Ok(BodyEvent::NeedMore) => break,
                Ok(BodyEvent::Data(d)) => seen.body.extend_from_slice(&d),
                Ok(BodyEvent::Trailers(t)) => seen.trailers = Some(t),
                Ok(BodyEvent::End) => {
                    seen.complete = true;
                    in_body = false;
                    s.write_head(&mut ResponseHead::new(204), true, &mut out);
                    out.clear();
                }
                Err(e) => return (all, Some(e.details)),
            }
        }
    }
    (all, None)
}

#[test]
fn requests() {
    let mut rng = Rng(0x5eed);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let raw = mutate(&mut rng, REQUESTS);
        let settings = Arc::new(settings(&mut rng));
        let (whole, error) = serve(&settings, &[&raw]);
        assert_eq!(serve(&settings, &cut(&mut rng, &raw)), (serve(&settings, &[&raw]).0, error));
        refused += usize::from(error.is_some());
        for seen in &whole {
            accepted += 1;
            check_head(seen, &settings);
            if seen.complete && seen.upgrade == Upgrade::None {
                forwarded_reads_the_same(seen);
            }
        }
    }
    assert!(accepted > 10_000 && refused > 10_000, "the mutations must reach both: {accepted} {refused}");
}

fn check_head(seen: &Seen, settings: &ServerSettings) {
    let h = &seen.head.headers;
    for f in h.iter() {
        assert!(f.value.iter().all(|&c| c == b'\t' || (c >= b' ' && c != 0x7f)), "{h:?}");
        assert!(
            !f.name.is_empty() && f.name.iter().all(|c| c.is_ascii_graphic() && !c.is_ascii_uppercase()),
            "{h:?}"
        );
    }
    assert!(h.len() <= settings.max_headers + 4 && h.byte_size() <= settings.max_head_bytes + 40, "{h:?}");
    assert!(h.get_all(name::CONTENT_LENGTH).count() <= 1, "{h:?}");
    assert!(h.get_all(name::AUTHORITY).count() <= 1, "{h:?}");
    assert!(!(h.contains(name::CONTENT_LENGTH) && h.contains(name::TRANSFER_ENCODING)), "{h:?}");
    assert!(h.get(name::TRANSFER_ENCODING).is_none_or(|v| v.eq_ignore_ascii_case(b"chunked")), "{h:?}");
    assert!(seen.head.version == Version::Http11 || settings.accept_http_10);
}

/// What our client writes for an accepted request, a server reads back as exactly one request with that body.
fn forwarded_reads_the_same(seen: &Seen) {
    let on = Arc::new(ClientSettings { enable_trailers: true, ..Default::default() });
    let mut c = Client::new(on);
    let mut out = OutBuf::new();
    let mut head = seen.head.clone();
    head.headers.remove(name::CONNECTION);
    // The connection manager answers requests without one, before they are forwarded.
    if !head.headers.contains(name::AUTHORITY) {
        head.headers.append(name::AUTHORITY, b"a");
    }
    let end = seen.body.is_empty() && seen.trailers.is_none();
    c.write_head(&head, end, &mut out).unwrap();
    if !end {
        c.write_data(seen.body.clone().into(), &mut out);
        c.write_end(seen.trailers.as_ref(), &mut out);
    }
    let wire = bytes(&mut out);
    let strict = ServerSettings { enable_trailers: true, allow_custom_methods: true, ..Default::default() };
    let (read, error) = serve(&Arc::new(strict), &[&wire]);
    let text = String::from_utf8_lossy(&wire);
    assert_eq!((read.len(), error), (1, None), "{text}");
    assert!(read[0].complete && read[0].body == seen.body && read[0].trailers == seen.trailers, "{text}");
    assert_eq!(
        (read[0].head.method(), read[0].head.authority()),
        (head.method(), head.authority()),
        "{text}"
    );
    // `http://h?q` has a path that only the connection manager refuses.
    if head.path().starts_with(b"/") {
        assert_eq!(read[0].head.path(), head.path(), "{text}");
    }
}

fn bytes(out: &mut OutBuf) -> Vec<u8> {
    let mut all = Vec::new();
    while !out.is_empty() {
        let n = out.front().len();
        all.extend_from_slice(out.front());
        out.advance(n);
    }
    all
}

/// Everything a client sees in an answer, and how it ended.
fn ask(method: &str, pieces: &[&[u8]]) -> (Vec<(u16, HeaderMap)>, Vec<u8>, String) {
    let mut c =
        Client::new(Arc::new(ClientSettings { max_head_bytes: 400, max_headers: 12, ..Default::default() }));
    let mut head = RequestHead::default();
    for (n, v) in [
        (":method", method),
        (":path", "/"),
        (":authority", "a"),
        ("connection", "upgrade"),
        ("upgrade", "x"),
    ] {
        head.headers.append(n, v.as_bytes());
    }
    c.write_head(&head, false, &mut OutBuf::new()).unwrap();
    c.write_end(None, &mut OutBuf::new());
    let (mut heads, mut body, mut buf) = (Vec::new(), Vec::new(), ReadBuf::new());
    let mut headed = false;
    let mut step = |c: &mut Client, buf: &mut ReadBuf| loop {
        if !headed {
            match c.read_head(buf) {
                Ok(None) => return Ok(false),
                Ok(Some(r)) => {
                    headed = !r.informational;
                    heads.push((r.head.status, r.head.headers));
                    continue;
                }
                Err(e) => return Err(e),
            }
        }
        match c.read_body(buf) {
            Ok(BodyEvent::NeedMore) => return Ok(false),
            Ok(BodyEvent::Data(d)) => body.extend_from_slice(&d),
            Ok(BodyEvent::Trailers(_)) => {}
            Ok(BodyEvent::End) => return Ok(true),
            Err(e) => return Err(e),
        }
    };
    let mut run = || {
        for piece in pieces {
            buf.extend(piece);
            if step(&mut c, &mut buf)? {
                return Ok("done".to_string());
            }
        }
        let eof = c.read_eof()?;
        step(&mut c, &mut buf).map(|done| format!("{eof:?} {done}"))
    };
    let end = run().unwrap_or_else(|e| e.cause.as_str().to_string());
    (heads, body, end)
}

#[test]
fn responses() {
    let mut rng = Rng(0xcafe);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let raw = mutate(&mut rng, RESPONSES);
        let method = ["GET", "HEAD", "POST"][rng.next(3)];
        let whole = ask(method, &[&raw]);
        assert_eq!(ask(method, &cut(&mut rng, &raw)), whole, "{}", String::from_utf8_lossy(&raw));
        if whole.2 == "done" || whole.2 == "BodyEnd true" {
            accepted += 1
        } else {
            refused += 1
        }
        for (status, h) in &whole.0 {
            assert!((100..1000).contains(status));
            assert!(h.get_all(name::CONTENT_LENGTH).count() <= 1);
            assert!(!(h.contains(name::CONTENT_LENGTH) && h.contains(name::TRANSFER_ENCODING)));
            for f in h.iter() {
                assert!(f.value.iter().all(|&c| c == b'\t' || (c >= b' ' && c != 0x7f)));
            }
        }
    }
    assert!(accepted > 10_000 && refused > 10_000, "the mutations must reach both: {accepted} {refused}");
}

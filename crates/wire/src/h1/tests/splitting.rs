//! However the input is cut, the same happens; and what one side writes the other reads.

use super::*;

/// A small generator of reproducible numbers (xorshift64*).
struct Rng(u64);
impl Rng {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
}

const REQUESTS: &[&[u8]] = &[
    b"GET /1 HTTP/1.1\r\nhost: a\r\nvia: 1\r\nx: y\r\nVIA: 2\r\n\r\n",
    b"POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world",
    b"POST /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0a\r\n0123456789\r\n0\r\nt: 1\r\nu: 2\r\n\r\n",
    b"\r\n\nGET http://b/4 HTTP/1.1\nhost: a\n\n",
    b"GET /5 HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
    b"POST /6 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhiX\r\n0\r\n\r\n",
    b"POST /7 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: 1\n\r\n",
    b"GET /8 HTTP/1.1\r\nhost: a\r\nx: 1\r\n y\r\n\r\n",
    b"GET /9 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /10",
];

const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nx: y\r\n\r\nhello",
    b"HTTP/1.1 204 No\n\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello",
];

fn settings() -> ServerSettings {
    ServerSettings { enable_trailers: true, ..Default::default() }
}
fn client_settings() -> ClientSettings {
    ClientSettings { enable_trailers: true, ..Default::default() }
}

#[test]
fn cut_at_every_byte() {
    for raw in REQUESTS {
        let whole = conversation(&settings(), &[raw]);
        let bytes: Vec<&[u8]> = raw.chunks(1).collect();
        assert_eq!(conversation(&settings(), &bytes), whole);
        for at in 0..=raw.len() {
            assert_eq!(conversation(&settings(), &[&raw[..at], &raw[at..]]), whole, "at {at}");
        }
    }
    for raw in RESPONSES {
        let see = |pieces: &[&[u8]]| answered(&client_settings(), "GET", &[], pieces, true);
        let whole = see(&[raw]);
        assert_eq!(see(&raw.chunks(1).collect::<Vec<_>>()), whole);
        for at in 0..=raw.len() {
            assert_eq!(see(&[&raw[..at], &raw[at..]]), whole, "at {at}");
        }
    }
}

#[test]
fn pipelined_and_cut_anywhere() {
    let mut rng = Rng(42);
    for _ in 0..500 {
        let raw: Vec<u8> = (0..1 + rng.next(6)).flat_map(|_| REQUESTS[rng.next(4)].to_vec()).collect();
        let mut pieces = Vec::new();
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let (a, b) = rest.split_at(1 + rng.next(rest.len().min(40)));
            pieces.push(a);
            rest = b;
        }
        assert_eq!(conversation(&settings(), &pieces), conversation(&settings(), &[&raw]));
    }
}

/// A request of random make goes through a client to a server, and the response back.
#[test]
fn both_ends_agree() {
    let mut rng = Rng(7);
    for _ in 0..500 {
        let body = vec![b'b'; rng.next(3) * rng.next(9000)];
        let declared = rng.next(2) == 0;
        let (mut c, mut s) = (client(client_settings()), server(settings()));
        let mut head = request(&[(":method", "POST"), (":path", "/p"), (":authority", "h")]);
        for i in 0..rng.next(20) {
            head.headers.append(&format!("x-{i}")[..], "v".repeat(rng.next(50)).as_bytes());
        }
        if declared {
            head.headers.append("content-length", body.len().to_string().as_bytes());
        }
        let trailers: HeaderMap = [("t", "1")].into_iter().collect();
        let trailers = (!declared && rng.next(2) == 0).then_some(&trailers);

        let (mut wire, mut buf) = (OutBuf::new(), ReadBuf::new());
        c.write_head(&head, false, &mut wire).unwrap();
        write_pieces(&mut rng, &body, |d| c.write_data(d, &mut wire));
        c.write_end(trailers, &mut wire);
        carry(&mut wire, &mut buf);
        let start = s.read_head(&mut buf).unwrap().unwrap();
        assert!(
            start
                .head
                .headers
                .iter()
                .filter(|h| h.id != crate::name::TRANSFER_ENCODING)
                .eq_by_value(&head.headers)
        );
        let seen = read_all(|buf| s.read_body(buf).unwrap(), &mut buf);
        assert_eq!(seen, (body.clone(), trailers.is_some()));

        let mut head = response(200, &[("x", "y")]);
        if declared {
            head.headers.append("content-length", body.len().to_string().as_bytes());
        }
        s.write_head(&mut head, false, &mut wire);
        write_pieces(&mut rng, &body, |d| s.write_data(d, &mut wire));
        s.write_end(trailers, &mut wire);
        carry(&mut wire, &mut buf);
        let start = c.read_head(&mut buf).unwrap().unwrap();
        assert_eq!(start.head.status, 200);
        let seen = read_all(|buf| c.read_body(buf).unwrap(), &mut buf);
        assert_eq!(seen, (body, trailers.is_some()));
        assert!(c.reusable() && s.keep_alive() && s.is_idle() && buf.is_empty());
    }
}

fn write_pieces(rng: &mut Rng, body: &[u8], mut write: impl FnMut(crate::Chunk)) {
    let mut rest = body;
    while !rest.is_empty() {
        let (a, b) = rest.split_at(1 + rng.next(rest.len()));
        write(a.to_vec().into());
        rest = b;
    }
}

fn carry(from: &mut OutBuf, to: &mut ReadBuf) {
    while !from.is_empty() {
        let n = from.front().len();
        to.extend(from.front());
        from.advance(n);
    }
}

fn read_all(mut next: impl FnMut(&mut ReadBuf) -> BodyEvent, buf: &mut ReadBuf) -> (Vec<u8>, bool) {
    let (mut all, mut trailers) = (Vec::new(), false);
    loop {
        match next(buf) {
            BodyEvent::Data(d) => all.extend_from_slice(&d),
            BodyEvent::Trailers(_) => trailers = true,
            BodyEvent::End => return (all, trailers),
            BodyEvent::NeedMore => panic!("the body is complete"),
        }
    }
}

trait EqByValue<'a>: Iterator<Item = crate::headers::Header<'a>> + Sized {
    fn eq_by_value(self, other: &HeaderMap) -> bool {
        let a: Vec<_> = self.map(|h| (h.name.to_vec(), h.value.to_vec())).collect();
        let b: Vec<_> = other.iter().map(|h| (h.name.to_vec(), h.value.to_vec())).collect();
        a == b
    }
}
impl<'a, I: Iterator<Item = crate::headers::Header<'a>>> EqByValue<'a> for I {}

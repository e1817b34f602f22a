//! The first message of a TLS client (RFC 8446 §4.1.2), for those who must look at it without taking part in the
//! handshake: which server name it asks for (RFC 6066 §3) and which protocols it offers (RFC 7301).
//!
//! Judged as a TLS stack would judge it that supports TLS 1.0 to 1.3: what it would refuse before it chooses a
//! certificate is no ClientHello.

/// Longest message taken, in bytes; the limit of BoringSSL.
pub const MAX_CLIENT_HELLO: usize = 16 * 1024;
/// Longest record, encrypted ones included (RFC 8446 §5.2 and the older overhead).
const MAX_RECORD: usize = 16 * 1024 + 2048;

/// What stands at the beginning of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// More bytes are needed to tell.
    Partial,
    /// No TLS, or a message that a TLS stack refuses.
    NotTls(NotTls),
    /// A ClientHello, whole.
    Hello(ClientHello),
}

/// Why the bytes are no ClientHello, by BoringSSL's reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTls {
    /// A request of plain HTTP.
    HttpRequest,
    /// CONNECT of plain HTTP.
    ProxyRequest,
    /// No record of TLS.
    WrongVersion,
    /// A record that is none of the handshake's.
    UnexpectedRecord,
    /// Another message of the handshake.
    UnexpectedMessage,
    /// A message that cannot be read.
    Malformed,
}

impl NotTls {
    /// The number and name of the reason.
    pub fn reason(self) -> (u32, &'static str) {
        match self {
            NotTls::HttpRequest => (156, "HTTP_REQUEST"),
            NotTls::ProxyRequest => (155, "HTTPS_PROXY_REQUEST"),
            NotTls::WrongVersion => (247, "WRONG_VERSION_NUMBER"),
            NotTls::UnexpectedRecord => (225, "UNEXPECTED_RECORD"),
            NotTls::UnexpectedMessage => (223, "UNEXPECTED_MESSAGE"),
            NotTls::Malformed => (137, "DECODE_ERROR"),
        }
    }
    /// What a TLS stack answers (RFC 8446 §6): a whole record, or nothing.
    pub fn alert(self) -> &'static [u8] {
        match self {
            NotTls::HttpRequest | NotTls::ProxyRequest => b"",
            NotTls::WrongVersion => b"\x15\x03\x01\0\x02\x02\x46",
            NotTls::UnexpectedRecord | NotTls::UnexpectedMessage => b"\x15\x03\x01\0\x02\x02\x0a",
            NotTls::Malformed => b"\x15\x03\x01\0\x02\x02\x32",
        }
    }
}

/// The facts of a ClientHello.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Bytes of its records.
    pub len: usize,
    /// The host name asked for, as it was sent.
    pub server_name: Option<Vec<u8>>,
    /// Protocols offered, in the client's order; none without a well-formed extension.
    pub protocols: Option<Vec<Vec<u8>>>,
}

/// Takes parts off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u8(&mut self) -> Option<usize> {
        self.take(1).map(|b| usize::from(b[0]))
    }
    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|b| usize::from(b[0]) << 8 | usize::from(b[1]))
    }
    /// A vector whose length takes one byte.
    fn vec8(&mut self) -> Option<&'a [u8]> {
        let n = self.u8()?;
        self.take(n)
    }
    /// A vector whose length takes two bytes.
    fn vec16(&mut self) -> Option<&'a [u8]> {
        let n = self.u16()?;
        self.take(n)
    }
}

/// Looks at the first bytes of a connection.
pub fn opening(data: &[u8]) -> Opening {
    let Some(head) = data.get(..5) else { return Opening::Partial };
    if head[1] != 3 {
        return Opening::NotTls(match head {
            b"POST " | b"HEAD " => NotTls::HttpRequest,
            [b'G', b'E', b'T', b' ', _] | [b'P', b'U', b'T', b' ', _] => NotTls::HttpRequest,
            b"CONNE" => NotTls::ProxyRequest,
            _ => NotTls::WrongVersion,
        });
    }
    // The message may be spread over records.
    let (mut rest, mut message, mut len) = (Reader(data), Vec::new(), 0);
    loop {
        let (Some(kind), Some(version), Some(n)) = (rest.u8(), rest.u16(), rest.u16()) else {
            return Opening::Partial;
        };
        if version >> 8 != 3 || n > MAX_RECORD {
            return Opening::NotTls(NotTls::WrongVersion);
        }
        let Some(part) = rest.take(n) else { return Opening::Partial };
        if kind != 22 {
            return Opening::NotTls(NotTls::UnexpectedRecord);
        }
        len += 5 + n;
        message.extend_from_slice(part);
        if let Some(&[kind, a, b, c]) = message.first_chunk() {
            let want = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind != 1 {
                return Opening::NotTls(NotTls::UnexpectedMessage);
            }
            if want > MAX_CLIENT_HELLO {
                return Opening::NotTls(NotTls::Malformed);
            }
            if let Some(body) = message.get(4..4 + want) {
                return match client_hello(body, len) {
                    Some(hello) => Opening::Hello(hello),
                    None => Opening::NotTls(NotTls::Malformed),
                };
            }
        }
    }
}

/// Takes a message apart; none when a TLS stack refuses it.
fn client_hello(body: &[u8], len: usize) -> Option<ClientHello> {
    let mut r = Reader(body);
    let version = r.u16()?;
    r.take(32)?;
    let session = r.vec8()?;
    let ciphers = r.vec16()?;
    let compressions = r.vec8()?;
    let fits = session.len() <= 32
        && ciphers.len() >= 2
        && ciphers.len() % 2 == 0
        && compressions.contains(&0) // the null method
        && version >= 0x301;
    if !fits {
        return None;
    }
    let mut hello = ClientHello { len, ..Default::default() };
    if r.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(r.vec16()?);
    if !r.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let (kind, body) = (extensions.u16()?, extensions.vec16()?);
        match kind {
            0 if hello.server_name.is_some() => return None,
            0 => hello.server_name = Some(server_name(body)?),
            16 => hello.protocols = protocols(body),
            _ => {}
        }
    }
    Some(hello)
}

/// The one host name of a `server_name` extension.
fn server_name(body: &[u8]) -> Option<Vec<u8>> {
    let mut r = Reader(body);
    let mut names = Reader(r.vec16()?);
    let (kind, name) = (names.u8()?, names.vec16()?);
    let fits = kind == 0
        && r.0.is_empty()
        && names.0.is_empty()
        && (1..=255).contains(&name.len())
        && !name.contains(&0);
    fits.then(|| name.to_vec())
}

/// The protocols of an ALPN extension; none when it is malformed: the handshake will say so.
fn protocols(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut r = Reader(body);
    let mut list = Reader(r.vec16()?);
    let mut all = vec![];
    while !list.0.is_empty() {
        all.push(list.vec8().filter(|p| !p.is_empty())?.to_vec());
    }
    (r.0.is_empty() && !all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u16(n: usize) -> [u8; 2] {
        [(n >> 8) as u8, n as u8]
    }
    fn extension(kind: usize, body: &[u8]) -> Vec<u8> {
        [&u16(kind)[..], &u16(body.len()), body].concat()
    }
    fn sni(name: &[u8]) -> Vec<u8> {
        let entry = [&[0][..], &u16(name.len()), name].concat();
        extension(0, &[&u16(entry.len())[..], &entry].concat())
    }
    fn alpn(all: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = all.iter().flat_map(|p| [&[p.len() as u8][..], p].concat()).collect();
        extension(16, &[&u16(list.len())[..], &list].concat())
    }
    fn body(extensions: &[u8]) -> Vec<u8> {
        let mut m = vec![3, 3];
        m.extend([7; 32]);
        m.extend([0, 0, 2, 0x13, 1, 1, 0]);
        m.extend(u16(extensions.len()));
        m.extend(extensions);
        m
    }
    fn message(body: &[u8]) -> Vec<u8> {
        [&[1, 0][..], &u16(body.len()), body].concat()
    }
    fn records(message: &[u8], each: usize) -> Vec<u8> {
        message.chunks(each).flat_map(|c| [&[22, 3, 1][..], &u16(c.len()), c].concat()).collect()
    }

    #[test]
    fn names_and_protocols_however_it_is_cut() {
        let m = message(&body(&[sni(b"A.example"), alpn(&[b"h2", b"http/1.1"])].concat()));
        for each in [1, 3, 4, 7, m.len()] {
            let bytes = records(&m, each);
            for n in 0..bytes.len() {
                assert_eq!(
                    opening(&bytes[..n]),
                    Opening::Partial,
                    "{n} of {} in records of {each}",
                    bytes.len()
                );
            }
            let hello = ClientHello {
                len: bytes.len(),
                server_name: Some(b"A.example".to_vec()),
                protocols: Some(vec![b"h2".to_vec(), b"http/1.1".to_vec()]),
            };
            assert_eq!(opening(&bytes), Opening::Hello(hello));
        }
    }

    #[test]
    fn neither_is_needed() {
        let bytes = records(&message(&body(&[])), 1000);
        let Opening::Hello(h) = opening(&bytes) else { panic!() };
        assert_eq!((h.server_name, h.protocols), (None, None));
        // A malformed list of protocols is left to the handshake.
        let bytes = records(&message(&body(&extension(16, &[0, 3, 9, 1, 1]))), 1000);
        assert!(matches!(opening(&bytes), Opening::Hello(ClientHello { protocols: None, .. })));
    }

    #[test]
    fn plain_text() {
        for (text, why) in [
            (&b"GET / HTTP/1.1\r\n"[..], NotTls::HttpRequest),
            (b"PUT x", NotTls::HttpRequest),
            (b"CONNECT a:1 HTTP/1.1", NotTls::ProxyRequest),
            (b"PRI * HTTP/2.0", NotTls::WrongVersion),
            (&[22, 2, 1, 0, 1, 0], NotTls::WrongVersion),
            (&[23, 3, 1, 0, 1, 0], NotTls::UnexpectedRecord),
            (&[22, 3, 1, 0, 4, 2, 0, 0, 0], NotTls::UnexpectedMessage),
            (&[22, 3, 1, 0xff, 0xff], NotTls::WrongVersion),
        ] {
            assert_eq!(opening(text), Opening::NotTls(why), "{text:?}");
        }
        for bytes in [&b"GET "[..], &[23, 3, 1, 0, 1], &[22, 3, 1, 0, 0]] {
            assert_eq!(opening(bytes), Opening::Partial);
        }
    }

    #[test]
    fn refused_as_a_tls_stack_refuses_it() {
        let fine = body(&[]);
        let cut = |n: usize| fine[..fine.len() - n].to_vec();
        let mut old = fine.clone();
        old[1] = 0;
        let mut odd = fine.clone();
        odd[36] = 1; // an odd number of cipher bytes
        let mut compressed = fine.clone();
        compressed[40] = 1;
        let trailing = [&fine[..], &[0]].concat();
        for b in [
            old,
            odd,
            compressed,
            trailing,
            cut(1),
            cut(5),
            body(&sni(b"")),
            body(&sni(b"a\0b")),
            body(&[sni(b"a"), sni(b"b")].concat()),
            body(&extension(0, &[0, 0])),
        ] {
            assert_eq!(opening(&records(&message(&b), 5000)), Opening::NotTls(NotTls::Malformed), "{b:?}");
        }
        let long = [22, 3, 1, 0, 4, 1, 0, 0x41, 0];
        assert_eq!(opening(&long), Opening::NotTls(NotTls::Malformed), "too long");
    }

    /// Whatever bytes come, nothing panics.
    #[test]
    fn mutations() {
        let bytes = records(&message(&body(&[sni(b"a.example"), alpn(&[b"h2"])].concat())), 40);
        for at in 0..bytes.len() {
            for v in [0, 1, 0x7f, 0x80, 0xff] {
                let mut m = bytes.clone();
                m[at] = v;
                let _ = opening(&m);
            }
        }
    }
}

//! Checks by a Thrift call without arguments (`envoy.health_checkers.thrift`): a reply that is no exception passes.
//!
//! The formats: Apache Thrift, doc/specs/thrift-rpc.md, thrift-binary-protocol.md, thrift-compact-protocol.md, HeaderFormat.md.

use super::conn::Ended;
use super::thrift_skip::{Read, Reader, skip_struct};
use bytes::Bytes;
use nuncio_api::envoy::extensions::filters::network::thrift_proxy::v3 as proxy;
use nuncio_api::envoy::extensions::health_checkers::thrift::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};

/// Largest frame (`MaxFrameSize`).
const LARGEST: usize = 0xff_ffff;
const HEADER_MAGIC: u16 = 0x0fff;
const BINARY_MAGIC: u16 = 0x8001;
const COMPACT_MAGIC: u8 = 0x82;
const CALL: u8 = 1;
const REPLY: u8 = 2;

/// How messages are told from each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Framed,
    Unframed,
    Header,
}

/// How messages are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    Binary,
    /// Without a version.
    LaxBinary,
    Compact,
}

/// `envoy.extensions.health_checkers.thrift.v3.Thrift`
pub struct Thrift {
    /// What is sent.
    pub request: Bytes,
    transport: Transport,
    protocol: Protocol,
}

impl Thrift {
    /// Reads the message.
    ///
    /// # Errors
    /// Transport or protocol are none of those for checks.
    pub fn new(c: &pb::Thrift) -> BuildResult<Thrift> {
        use proxy::{ProtocolType as P, TransportType as T};
        let transport = match c.transport() {
            T::Framed => Some(Transport::Framed),
            T::Unframed => Some(Transport::Unframed),
            T::Header => Some(Transport::Header),
            T::AutoTransport => None,
        };
        let protocol = match c.protocol() {
            P::Binary => Some(Protocol::Binary),
            // The header has no number for it.
            P::LaxBinary if transport != Some(Transport::Header) => Some(Protocol::LaxBinary),
            P::Compact => Some(Protocol::Compact),
            _ => None,
        };
        let (Some(transport), Some(protocol)) = (transport, protocol) else {
            return Err(BuildError(format!(
                "Unsupported transport or protocol in thrift health check configuration: method_name: {:?} transport: {} \
                 protocol: {}",
                c.method_name,
                c.transport().as_str_name(),
                c.protocol().as_str_name()
            )));
        };
        let request = framed(transport, protocol, &call(protocol, &c.method_name)).into();
        Ok(Thrift { request, transport, protocol })
    }
    /// Whether an answer is a reply that is no exception; `None` while it is not complete.
    ///
    /// # Errors
    /// It is no message of this transport and protocol.
    pub fn judge(&self, data: &[u8]) -> Result<Option<bool>, Ended> {
        let mut r = Reader::new(data);
        let read = match self.transport {
            Transport::Unframed => message(self.protocol, &mut r).and_then(|passed| {
                skip_struct(self.protocol, &mut r)?;
                Ok(passed)
            }),
            Transport::Framed => frame(&mut r).and_then(|mut m| whole(message(self.protocol, &mut m))),
            Transport::Header => frame(&mut r).and_then(|mut m| {
                whole(header(self.protocol, &mut m).and_then(|()| message(self.protocol, &mut m)))
            }),
        };
        match read {
            Ok(passed) => Ok(Some(passed)),
            Err(None) => Ok(None),
            Err(Some(e)) => Err(e),
        }
    }
}

/// Within a frame that is there nothing more comes.
fn whole<T>(r: Read<T>) -> Read<T> {
    r.map_err(|e| Some(e.unwrap_or(Ended)))
}

/// A call of a method without arguments.
fn call(protocol: Protocol, method: &str) -> Vec<u8> {
    let (name, len) = (method.as_bytes(), method.len() as u32);
    let mut m = vec![];
    match protocol {
        Protocol::Binary => {
            m.extend(BINARY_MAGIC.to_be_bytes());
            m.extend([0, CALL]);
            m.extend(len.to_be_bytes());
            m.extend(name);
            m.extend([0; 4]); // its number
        }
        Protocol::LaxBinary => {
            m.extend(len.to_be_bytes());
            m.extend(name);
            m.push(CALL);
            m.extend([0; 4]);
        }
        Protocol::Compact => {
            m.extend([COMPACT_MAGIC, CALL << 5 | 1, 0]);
            varint(&mut m, len);
            m.extend(name);
        }
    }
    m.push(0); // no field
    m
}

fn framed(transport: Transport, protocol: Protocol, message: &[u8]) -> Vec<u8> {
    let mut m = vec![];
    match transport {
        Transport::Unframed => {}
        Transport::Framed => m.extend((message.len() as u32).to_be_bytes()),
        Transport::Header => {
            // Protocol, no transforms, padding to four bytes.
            let header = [if protocol == Protocol::Compact { 2 } else { 0 }, 0, 0, 0];
            m.extend((10 + header.len() as u32 + message.len() as u32).to_be_bytes());
            m.extend(HEADER_MAGIC.to_be_bytes());
            m.extend([0; 6]); // flags, its number
            m.extend((header.len() as u16 / 4).to_be_bytes());
            m.extend(header);
        }
    }
    m.extend(message);
    m
}

fn varint(m: &mut Vec<u8>, mut n: u32) {
    while n >= 0x80 {
        m.push(n as u8 | 0x80);
        n >>= 7;
    }
    m.push(n as u8);
}

/// A frame that is complete.
fn frame<'a>(r: &mut Reader<'a>) -> Read<Reader<'a>> {
    let len = r.u32()? as usize;
    if len == 0 || len > LARGEST {
        return Err(Some(Ended));
    }
    Ok(Reader::new(r.take(len)?))
}

/// The header within a frame.
fn header(protocol: Protocol, r: &mut Reader<'_>) -> Read<()> {
    if r.u16()? != HEADER_MAGIC {
        return Err(Some(Ended));
    }
    r.take(6)?; // flags, its number
    let len = usize::from(r.u16()?) * 4;
    let mut h = Reader::new(r.take(len)?);
    let number = if protocol == Protocol::Compact { 2 } else { 0 };
    // A transform is nothing that we can undo; what follows says nothing of the call.
    if h.varint()? != number || h.varint()? != 0 {
        return Err(Some(Ended));
    }
    Ok(())
}

/// The head of a message, and what it says: true for a reply that is no exception.
fn message(protocol: Protocol, r: &mut Reader<'_>) -> Read<bool> {
    let kind = match protocol {
        Protocol::Binary => {
            if r.u16()? != BINARY_MAGIC {
                return Err(Some(Ended));
            }
            r.u8()?;
            let kind = r.u8()?;
            let len = r.u32()?;
            r.take(len as usize)?;
            r.take(4)?;
            kind
        }
        Protocol::LaxBinary => {
            let len = r.u32()?;
            r.take(len as usize)?;
            let kind = r.u8()?;
            r.take(4)?;
            kind
        }
        Protocol::Compact => {
            let (magic, version) = (r.u8()?, r.u8()?);
            if magic != COMPACT_MAGIC || version & 0x1f != 1 {
                return Err(Some(Ended));
            }
            r.varint()?;
            let len = r.varint()?;
            r.take(len as usize)?;
            version >> 5
        }
    };
    if !(1..=4).contains(&kind) {
        return Err(Some(Ended));
    }
    // What is declared to be thrown has a number of its own in the result.
    Ok(kind == REPLY && matches!(r.first_field(protocol)?, None | Some(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy::{ProtocolType as P, TransportType as T};

    fn thrift(transport: T, protocol: P) -> BuildResult<Thrift> {
        let (transport, protocol) = (transport.into(), protocol.into());
        Thrift::new(&pb::Thrift { method_name: "ping".into(), transport, protocol })
    }

    /// A message of this kind whose result is `body`.
    fn answer(t: &Thrift, kind: u8, body: &[u8]) -> Vec<u8> {
        let mut m = call(t.protocol, "ping");
        m.pop();
        match t.protocol {
            Protocol::Binary => m[3] = kind,
            Protocol::LaxBinary => m[8] = kind,
            Protocol::Compact => m[1] = kind << 5 | 1,
        }
        m.extend(body);
        framed(t.transport, t.protocol, &m)
    }

    #[test]
    fn calls_are_written_as_their_specification_says() {
        let of = |t, p| thrift(t, p).expect("both are known").request;
        assert_eq!(&*of(T::Unframed, P::Binary), b"\x80\x01\0\x01\0\0\0\x04ping\0\0\0\0\0");
        assert_eq!(&*of(T::Unframed, P::LaxBinary), b"\0\0\0\x04ping\x01\0\0\0\0\0");
        assert_eq!(&*of(T::Framed, P::Compact), b"\0\0\0\x09\x82\x21\0\x04ping\0");
        let header = of(T::Header, P::Compact);
        assert_eq!(&*header, b"\0\0\0\x17\x0f\xff\0\0\0\0\0\0\0\x01\x02\0\0\0\x82\x21\0\x04ping\0");
    }

    #[test]
    fn a_reply_without_exception_passes() {
        // A string in field 0 or 1, in either way of writing; then the end.
        let binary = |field| [&[11, 0, field, 0, 0, 0, 2][..], b"ok", &[0]].concat();
        let compact = |field| match field {
            0 => [&[0x08, 0, 2][..], b"ok", &[0]].concat(),
            n => [&[n << 4 | 8, 2][..], b"ok", &[0]].concat(),
        };
        for transport in [T::Framed, T::Unframed, T::Header] {
            for protocol in [P::Binary, P::LaxBinary, P::Compact] {
                let Ok(t) = thrift(transport, protocol) else {
                    assert_eq!((transport, protocol), (T::Header, P::LaxBinary));
                    continue;
                };
                let body = |field| if protocol == P::Compact { compact(field) } else { binary(field) };
                for (kind, body, passed) in [
                    (2, vec![0], true),
                    (2, body(0), true),
                    (2, body(1), false),
                    (3, body(1), false),
                    (1, vec![0], false),
                ] {
                    let whole = answer(&t, kind, &body);
                    assert_eq!(t.judge(&whole), Ok(Some(passed)), "{transport:?} {protocol:?} {whole:?}");
                    for n in 0..whole.len() {
                        assert_eq!(
                            t.judge(&whole[..n]),
                            Ok(None),
                            "{transport:?} {protocol:?} {n} of {whole:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for (transport, protocol, data) in [
            (T::Framed, P::Binary, &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
            (T::Framed, P::Binary, b"\0\0\0\0"),
            (T::Framed, P::Binary, b"\0\0\0\x02\x80\x01"),
            (T::Unframed, P::Binary, b"HTTP"),
            (T::Unframed, P::Compact, b"\x82\x01\0\0\0"),
            (T::Unframed, P::Compact, b"\x82\x41\xff\xff\xff\xff\xff\xff"),
            (T::Header, P::Binary, b"\0\0\0\x0f\x0f\xff\0\0\0\0\0\0\0\x01\x02\0\0\0\0"),
        ] {
            let t = thrift(transport, protocol).expect("both are known");
            assert_eq!(t.judge(data), Err(Ended), "{transport:?} {protocol:?} {data:?}");
        }
        assert!(thrift(T::AutoTransport, P::Binary).is_err() && thrift(T::Framed, P::Twitter).is_err());
    }
}

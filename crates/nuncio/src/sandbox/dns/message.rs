//! One question in, one answer out (RFC 1035 §4, RFC 6891 for larger UDP answers).

use std::net::Ipv4Addr;

use super::{TTL, Zone};

/// How a question came, which limits the size of its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    /// 512 bytes, or what the question's OPT record allows (RFC 6891 §6.2.3), at most [`MAX_UDP`].
    Udp,
    /// 65,535 bytes.
    Tcp,
}

const HEADER: usize = 12;
const PLAIN_UDP: usize = 512;
/// Largest UDP answer: it fits the loopback MTU and any sensible receive buffer.
const MAX_UDP: usize = 4096;

const TYPE_A: u16 = 1;
const TYPE_OPT: u16 = 41;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

/// Response codes (RFC 1035 §4.1.1, RFC 6895 §2.3).
#[derive(Clone, Copy)]
enum Code {
    NoError = 0,
    FormatError = 1,
    NameError = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// The answer to a message, or `None` when it deserves none: too short to have an id, or itself an answer.
///
/// Answers without addresses carry no SOA record, so that nobody may cache them (RFC 2308 §5): the name may get an
/// address any moment.
pub(super) fn answer(message: &[u8], zone: &Zone, transport: Transport) -> Option<Vec<u8>> {
    let header = message.get(..HEADER)?;
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        return None;
    }
    let opcode = header[2] >> 3 & 0xf;
    if opcode != 0 {
        return Some(Reply::to(header, &[], None).finish(Code::NotImplemented, &[], PLAIN_UDP));
    }
    let Some(query) = Query::read(message) else {
        return Some(Reply::to(header, &[], None).finish(Code::FormatError, &[], PLAIN_UDP));
    };
    let limit = match (transport, query.udp_size) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => PLAIN_UDP,
        (Transport::Udp, Some(size)) => usize::from(size).clamp(PLAIN_UDP, MAX_UDP),
    };
    let reply = Reply::to(header, query.question, query.udp_size);
    if query.class != CLASS_IN && query.class != CLASS_ANY {
        return Some(reply.finish(Code::Refused, &[], limit));
    }
    Some(match zone.get(&query.name) {
        None => reply.finish(Code::NameError, &[], limit),
        Some(addresses) if query.kind == TYPE_A || query.kind == TYPE_ANY => {
            reply.finish(Code::NoError, &addresses, limit)
        }
        // The name exists, but has nothing of this type (AAAA, for one).
        Some(_) => reply.finish(Code::NoError, &[], limit),
    })
}

/// What a well-formed query asks.
struct Query<'a> {
    /// The question section as it came: an answer repeats it, upper and lower case included.
    question: &'a [u8],
    /// The name in lower case, without the final dot.
    name: String,
    kind: u16,
    class: u16,
    /// Size of the asker's UDP buffer, when there is an OPT record.
    udp_size: Option<u16>,
}

impl<'a> Query<'a> {
    fn read(message: &'a [u8]) -> Option<Query<'a>> {
        let count = |at: usize| u16_at(message, at);
        if count(4)? != 1 {
            return None;
        }
        let records = u32::from(count(6)?) + u32::from(count(8)?) + u32::from(count(10)?);
        let mut name = String::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            if length == 0 {
                break;
            }
            // The first name of a message cannot point to an earlier one (RFC 1035 §4.1.4).
            if length > 63 {
                return None;
            }
            let label = message.get(at + 1..at + 1 + length)?;
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|&b| char::from(b.to_ascii_lowercase())));
            at += 1 + length;
        }
        if name.len() > 253 {
            return None;
        }
        let (kind, class) = (u16_at(message, at + 1)?, u16_at(message, at + 3)?);
        let end = at + 5;
        let udp_size = find_opt(message, end, records)?;
        Some(Query { question: &message[HEADER..end], name, kind, class, udp_size })
    }
}

/// The UDP size of the OPT record among `records` records from `at` on; outer `None` when they are malformed.
fn find_opt(message: &[u8], mut at: usize, records: u32) -> Option<Option<u16>> {
    let mut found = None;
    for _ in 0..records {
        at = skip_name(message, at)?;
        let (kind, class, length) =
            (u16_at(message, at)?, u16_at(message, at + 2)?, u16_at(message, at + 8)?);
        at += 10 + usize::from(length);
        if at > message.len() {
            return None;
        }
        if kind == TYPE_OPT {
            found = Some(class);
        }
    }
    Some(found)
}

/// The place behind the name at `at`, which may end in a pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length,
            192..=255 => return Some(at + 2),
            _ => return None,
        }
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

/// An answer being written.
struct Reply<'a> {
    id: [u8; 2],
    recursion_desired: u8,
    question: &'a [u8],
    with_opt: bool,
}

impl<'a> Reply<'a> {
    /// `header` is the query's, and at least [`HEADER`] long.
    fn to(header: &[u8], question: &'a [u8], udp_size: Option<u16>) -> Self {
        Reply {
            id: [header[0], header[1]],
            recursion_desired: header[2] & 1,
            question,
            with_opt: udp_size.is_some(),
        }
    }

    /// The whole message. Addresses that do not fit `limit` are left out all together, and the message says
    /// "truncated": the asker comes again over TCP.
    fn finish(&self, code: Code, addresses: &[Ipv4Addr], limit: usize) -> Vec<u8> {
        const RECORD: usize = 16;
        const OPT: usize = 11;
        let fixed = HEADER + self.question.len() + if self.with_opt { OPT } else { 0 };
        let truncated = fixed + addresses.len() * RECORD > limit;
        let addresses = if truncated { &[] } else { addresses };

        let mut out = Vec::with_capacity(fixed + addresses.len() * RECORD);
        out.extend_from_slice(&self.id);
        // QR, AA, TC, RD; RA, RCODE. RA is set although we never recurse: resolvers warn without it.
        out.push(0x80 | 0x04 | u8::from(truncated) << 1 | self.recursion_desired);
        out.push(0x80 | code as u8);
        out.extend_from_slice(&u16::from(!self.question.is_empty()).to_be_bytes());
        // Invariant: at most `topology::MAX_INSTANCES` addresses.
        out.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
        out.extend_from_slice(&0u16.to_be_bytes());
        out.extend_from_slice(&u16::from(self.with_opt).to_be_bytes());
        out.extend_from_slice(self.question);
        for address in addresses {
            // A pointer to the name in the question (RFC 1035 §4.1.4).
            out.extend_from_slice(&(0xc000 | HEADER as u16).to_be_bytes());
            out.extend_from_slice(&TYPE_A.to_be_bytes());
            out.extend_from_slice(&CLASS_IN.to_be_bytes());
            out.extend_from_slice(&TTL.to_be_bytes());
            out.extend_from_slice(&4u16.to_be_bytes());
            out.extend_from_slice(&address.octets());
        }
        if self.with_opt {
            out.push(0); // the root
            out.extend_from_slice(&TYPE_OPT.to_be_bytes());
            out.extend_from_slice(&(MAX_UDP as u16).to_be_bytes());
            out.extend_from_slice(&[0; 6]); // extended code, version, flags, length
        }
        out
    }
}

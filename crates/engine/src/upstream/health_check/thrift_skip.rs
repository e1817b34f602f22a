//! Where a Thrift struct ends: without frames nothing else says where a message does.

use super::conn::Ended;
use super::thrift::Protocol;

/// Structs, lists and maps within each other.
const DEEPEST: u32 = 32;

/// What was read; `None`: more is needed.
pub type Read<T> = Result<T, Option<Ended>>;

/// Reads numbers.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// From the beginning.
    pub fn new(data: &'a [u8]) -> Reader<'a> {
        Reader(data)
    }
    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(None)?;
        self.0 = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or(None)?;
        self.0 = rest;
        Ok(*head)
    }
    pub fn u8(&mut self) -> Read<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }
    pub fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    pub fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    /// A number of seven bits a byte.
    pub fn varint(&mut self) -> Read<u32> {
        let mut n = 0;
        for shift in [0, 7, 14, 21, 28] {
            let b = self.u8()?;
            n |= u32::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(Some(Ended))
    }
    /// The number of the first field of the struct that begins here; `None`: it has none. Nothing is taken.
    pub fn first_field(&self, protocol: Protocol) -> Read<Option<i32>> {
        let mut r = Reader(self.0);
        let first = r.u8()?;
        if protocol != Protocol::Compact {
            return Ok(if first == 0 { None } else { Some(r.u16()?.cast_signed().into()) });
        }
        Ok(match (first & 0x0f, first >> 4) {
            (0, _) => None,
            (_, 0) => Some(zigzag(r.varint()?)),
            (_, delta) => Some(delta.into()),
        })
    }
}

fn zigzag(n: u32) -> i32 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// Goes to the end of a struct.
pub fn skip_struct(protocol: Protocol, r: &mut Reader<'_>) -> Read<()> {
    match protocol {
        Protocol::Compact => compact_struct(r, DEEPEST),
        Protocol::Binary | Protocol::LaxBinary => binary_struct(r, DEEPEST),
    }
}

fn deeper(depth: u32) -> Read<u32> {
    depth.checked_sub(1).ok_or(Some(Ended))
}

fn binary_struct(r: &mut Reader<'_>, depth: u32) -> Read<()> {
    loop {
        match r.u8()? {
            0 => return Ok(()),
            kind => {
                r.u16()?;
                binary_value(kind, r, deeper(depth)?)?;
            }
        }
    }
}

fn binary_value(kind: u8, r: &mut Reader<'_>, depth: u32) -> Read<()> {
    match kind {
        // bool, byte; double, i16, i32, i64
        2 | 3 => r.take(1).map(drop),
        4 | 10 => r.take(8).map(drop),
        6 => r.take(2).map(drop),
        8 => r.take(4).map(drop),
        11 => {
            let n = r.u32()?;
            r.take(n as usize).map(drop)
        }
        12 => binary_struct(r, deeper(depth)?),
        13 => {
            let (key, value, n) = (r.u8()?, r.u8()?, r.u32()?);
            (0..n).try_for_each(|_| {
                binary_value(key, r, deeper(depth)?)?;
                binary_value(value, r, deeper(depth)?)
            })
        }
        // set, list
        14 | 15 => {
            let (kind, n) = (r.u8()?, r.u32()?);
            (0..n).try_for_each(|_| binary_value(kind, r, deeper(depth)?))
        }
        _ => Err(Some(Ended)),
    }
}

fn compact_struct(r: &mut Reader<'_>, depth: u32) -> Read<()> {
    loop {
        let first = r.u8()?;
        let kind = first & 0x0f;
        if kind == 0 {
            return Ok(());
        }
        if first >> 4 == 0 {
            r.varint()?;
        }
        // A field that is true or false says so by its kind.
        if !matches!(kind, 1 | 2) {
            compact_value(kind, r, deeper(depth)?)?;
        }
    }
}

fn compact_value(kind: u8, r: &mut Reader<'_>, depth: u32) -> Read<()> {
    match kind {
        // bool, byte
        1..=3 => r.take(1).map(drop),
        // i16, i32, i64
        4..=6 => {
            // Ten bytes at most.
            for _ in 0..10 {
                if r.u8()? & 0x80 == 0 {
                    return Ok(());
                }
            }
            Err(Some(Ended))
        }
        7 => r.take(8).map(drop),
        8 => {
            let n = r.varint()?;
            r.take(n as usize).map(drop)
        }
        // list, set
        9 | 10 => {
            let first = r.u8()?;
            let n = if first >> 4 == 0x0f { r.varint()? } else { (first >> 4).into() };
            (0..n).try_for_each(|_| compact_value(first & 0x0f, r, deeper(depth)?))
        }
        11 => {
            let n = r.varint()?;
            if n == 0 {
                return Ok(());
            }
            let kinds = r.u8()?;
            (0..n).try_for_each(|_| {
                compact_value(kinds >> 4, r, deeper(depth)?)?;
                compact_value(kinds & 0x0f, r, deeper(depth)?)
            })
        }
        12 => compact_struct(r, deeper(depth)?),
        _ => Err(Some(Ended)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(protocol: Protocol, data: &[u8]) -> Option<usize> {
        let mut r = Reader::new(data);
        skip_struct(protocol, &mut r).ok().map(|()| data.len() - r.0.len())
    }

    #[test]
    fn structs_are_skipped_to_their_end() {
        let binary: &[u8] = &[
            2, 0, 0, 1, // true
            10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, // i64
            15, 0, 2, 11, 0, 0, 0, 1, 0, 0, 0, 1, b'x', // list of a string
            13, 0, 3, 8, 12, 0, 0, 0, 1, 0, 0, 0, 7, 3, 0, 1, 5,
            0, // map of i32 to a struct with a byte
            0, 99,
        ];
        assert_eq!(ends(Protocol::Binary, binary), Some(binary.len() - 1));
        let compact: &[u8] = &[
            0x11, // 1: true
            0x16, 0x80, 0x01, // 2: i64
            0x19, 0x18, 1, b'x', // 3: list of a string
            0x1b, 1, 0x5c, 14, 0x13, 5, 0, // 4: map of i32 to a struct with a byte
            0x07, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, // 16: double
            0, 99,
        ];
        assert_eq!(ends(Protocol::Compact, compact), Some(compact.len() - 1));
        for n in 0..binary.len() - 1 {
            assert_eq!(ends(Protocol::Binary, &binary[..n]), None);
        }
        for n in 0..compact.len() - 1 {
            assert_eq!(ends(Protocol::Compact, &compact[..n]), None);
        }
    }

    #[test]
    fn what_goes_too_deep_or_is_unknown_is_refused() {
        let nested = [12, 0, 1].repeat(40);
        let mut r = Reader::new(&nested);
        assert_eq!(skip_struct(Protocol::Binary, &mut r), Err(Some(Ended)));
        let mut r = Reader::new(&[99, 0, 1]);
        assert_eq!(skip_struct(Protocol::Binary, &mut r), Err(Some(Ended)));
        // So many that nobody would wait for them.
        let mut r = Reader::new(&[15, 0, 1, 12, 255, 255, 255, 255]);
        assert_eq!(skip_struct(Protocol::Binary, &mut r), Err(None));
        let mut r = Reader::new(&[0x07, 0x01]);
        assert_eq!(r.first_field(Protocol::Compact), Ok(Some(-1)));
        assert_eq!(r.u8(), Ok(7));
    }
}

//! Protobuf's wire format (<https://protobuf.dev/programming-guides/encoding/>): reading records and writing them.

/// The value of one record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Eight(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Four(u32),
}

/// The bytes are no valid protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The records of a message: field number and value. Ends after the first error.
#[derive(Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
}

/// Reads the records of a message.
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { bytes }
}

/// Takes a varint from the front.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

/// Takes a value of a wire type from the front.
pub fn take_value<'a>(bytes: &mut &'a [u8], wire_type: u8) -> Option<Wire<'a>> {
    Some(match wire_type {
        0 => Wire::Varint(take_varint(bytes)?),
        1 => Wire::Eight(u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)),
        2 => {
            let len = usize::try_from(take_varint(bytes)?).ok()?;
            Wire::Bytes(take(bytes, len)?)
        }
        5 => Wire::Four(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?)),
        // Groups (3 and 4) are proto2's; no message here has one.
        _ => return None,
    })
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u32, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let record = take_varint(&mut self.bytes).and_then(|tag| {
            let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
            Some((number, take_value(&mut self.bytes, (tag & 7) as u8)?))
        });
        if record.is_none() {
            self.bytes = &[];
        }
        Some(record.ok_or(Malformed))
    }
}

impl<'a> Wire<'a> {
    /// The bytes of a length-delimited value; of any other, none.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// Its wire type.
    pub fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Eight(_) => 1,
            Self::Bytes(_) => 2,
            Self::Four(_) => 5,
        }
    }

    /// The default value of a wire type.
    pub fn zero(wire_type: u8) -> Wire<'static> {
        match wire_type {
            1 => Wire::Eight(0),
            2 => Wire::Bytes(&[]),
            5 => Wire::Four(0),
            _ => Wire::Varint(0),
        }
    }
}

/// The elements of a packed list.
pub fn packed(mut bytes: &[u8], wire_type: u8) -> impl Iterator<Item = Wire<'_>> {
    std::iter::from_fn(move || if bytes.is_empty() { None } else { take_value(&mut bytes, wire_type) })
}

/// The value of the last record with that number and wire type. A record of another wire type is another, unknown field.
pub fn last(bytes: &[u8], number: u32, wire_type: u8) -> Option<Wire<'_>> {
    let records = records(bytes).flatten();
    let same = records.filter(|(found, value)| *found == number && value.wire_type() == wire_type);
    same.last().map(|(_, value)| value)
}

/// Type URL and value of a `google.protobuf.Any`.
pub fn any_parts(bytes: &[u8]) -> (&str, &[u8]) {
    let url = last(bytes, 1, 2).map_or(&[][..], Wire::bytes);
    (std::str::from_utf8(url).unwrap_or_default(), last(bytes, 2, 2).map_or(&[], Wire::bytes))
}

/// Nanoseconds of a `google.protobuf.Duration` or `Timestamp`.
pub fn nanoseconds(bytes: &[u8]) -> i128 {
    let (seconds, nanos) = seconds_and_nanos(bytes);
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

/// Seconds and nanoseconds of a `google.protobuf.Duration` or `Timestamp`.
pub fn seconds_and_nanos(bytes: &[u8]) -> (i64, i32) {
    let number = |field| match last(bytes, field, 0) {
        Some(Wire::Varint(value)) => value,
        _ => 0,
    };
    (number(1) as i64, number(2) as i32)
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a record's tag.
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a value; its tag is there.
pub fn put_value(out: &mut Vec<u8>, value: Wire<'_>) {
    match value {
        Wire::Varint(value) => put_varint(out, value),
        Wire::Eight(value) => out.extend_from_slice(&value.to_le_bytes()),
        Wire::Bytes(bytes) => put_bytes(out, bytes),
        Wire::Four(value) => out.extend_from_slice(&value.to_le_bytes()),
    }
}

/// Runs `write` and puts the length of what it appended in front of that.
pub fn put_delimited<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.push(0);
    let result = write(out);
    let len = out.len() - start - 1;
    if len < 0x80 {
        out[start] = len as u8;
        return result;
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, len as u64);
    let extra = prefix.len() - 1;
    out.resize(out.len() + extra, 0);
    out.copy_within(start + 1..start + 1 + len, start + 1 + extra);
    out[start..=start + extra].copy_from_slice(&prefix);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let mut out = Vec::new();
        put_tag(&mut out, 1, 0);
        put_varint(&mut out, u64::MAX);
        put_tag(&mut out, 200, 2);
        put_delimited(&mut out, |out| out.extend_from_slice(&[7; 300]));
        put_tag(&mut out, 3, 2);
        put_delimited(&mut out, |out| put_bytes(out, b"x"));
        let read: Vec<_> = records(&out).collect::<Result<_, _>>().expect("well-formed");
        assert_eq!(read[0], (1, Wire::Varint(u64::MAX)));
        assert_eq!(read[1], (200, Wire::Bytes(&[7; 300])));
        assert_eq!(read[2], (3, Wire::Bytes(&[1, b'x'])));
    }

    #[test]
    fn malformed_bytes_end_the_records() {
        for bytes in [&[0x08][..], &[0x0a, 5, 1], &[0x0b], &[0x09, 1, 2], &[0x00, 1], &[0xff; 11], &[0x0d, 1]]
        {
            assert_eq!(records(bytes).last(), Some(Err(Malformed)), "{bytes:?}");
        }
    }

    #[test]
    fn durations_take_negative_parts() {
        let mut out = Vec::new();
        put_tag(&mut out, 1, 0);
        put_varint(&mut out, -2_i64 as u64);
        put_tag(&mut out, 2, 0);
        put_varint(&mut out, -5_i64 as u64);
        assert_eq!(nanoseconds(&out), -2_000_000_005);
    }
}

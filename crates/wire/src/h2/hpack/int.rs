//! Integers with a prefix (RFC 7541 §5.1).

/// Why an integer could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntError {
    /// More bytes are needed.
    Short,
    /// Larger than this codec accepts (2^28), or padded with useless bytes.
    TooLarge,
}

/// Reads an integer whose first byte keeps the low `prefix` bits; returns it and the bytes used.
#[inline]
pub fn read(bytes: &[u8], prefix: u32) -> Result<(usize, usize), IntError> {
    let mask = (1usize << prefix) - 1;
    let Some(&first) = bytes.first() else { return Err(IntError::Short) };
    let mut value = first as usize & mask;
    if value < mask {
        return Ok((value, 1));
    }
    let mut shift = 0;
    for (i, &b) in bytes.iter().enumerate().skip(1) {
        if shift > 21 {
            return Err(IntError::TooLarge);
        }
        value += ((b & 0x7f) as usize) << shift;
        shift += 7;
        if b & 0x80 == 0 {
            return Ok((value, i + 1));
        }
    }
    if shift > 21 { Err(IntError::TooLarge) } else { Err(IntError::Short) }
}

/// Writes an integer behind the bits `flags` of its first byte.
#[inline]
pub fn write(out: &mut Vec<u8>, flags: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        return out.push(flags | value as u8);
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appendix_c1() {
        for (value, prefix, bytes) in
            [(10, 5, &[0b01010][..]), (1337, 5, &[0b11111, 0b10011010, 0b1010]), (42, 8, &[42])]
        {
            let mut out = Vec::new();
            write(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(read(bytes, prefix), Ok((value, bytes.len())));
        }
    }

    #[test]
    fn limits() {
        assert_eq!(read(&[], 7), Err(IntError::Short));
        assert_eq!(read(&[0x7f], 7), Err(IntError::Short));
        assert_eq!(read(&[0x7f, 0x80, 0x80, 0x80], 7), Err(IntError::Short));
        assert_eq!(read(&[0x7f, 0xff, 0xff, 0xff, 0x7f], 7), Ok((127 + (1 << 28) - 1, 5)));
        assert_eq!(read(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x01], 7), Err(IntError::TooLarge));
        for v in (0..100_000).step_by(7) {
            let mut out = Vec::new();
            write(&mut out, 0x80, 7, v);
            assert_eq!(read(&out, 7), Ok((v, out.len())));
        }
    }
}

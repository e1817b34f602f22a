//! HPACK: what decodes survives being encoded and decoded again, and a block may be cut anywhere.

use nuncio_wire::h2::hpack::{DecodeError, Decoder, Encoder};

/// Name and value of every field.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Fields that one block may have here: an index into the table is one byte and may stand for 4 KiB.
const MOST: usize = 2_000;

/// Blocks of one connection: the first byte says how they are cut, then each begins with its length.
pub fn hpack(data: &[u8]) {
    let Some((&step, mut rest)) = data.split_first() else { return };
    let (mut whole, mut parts) = (Decoder::new(4096, 8192), Decoder::new(4096, 8192));
    let (mut encoder, mut again) = (Encoder::new(4096), Decoder::new(4096, 1 << 20));
    while let Some((&length, tail)) = rest.split_first() {
        let (block, next) = tail.split_at(tail.len().min(length as usize));
        rest = next;
        let (result, fields) = decode(&mut whole, block, usize::MAX);
        let (cut_result, cut_fields) = decode(&mut parts, block, 1 + step as usize);
        assert_eq!((&result, &fields), (&cut_result, &cut_fields));
        if result.is_err() {
            return;
        }
        let mut encoded = Vec::new();
        encoder.begin(&mut encoded);
        for (name, value) in &fields {
            encoder.field(&mut encoded, nuncio_wire::Id::of(name), name, value);
        }
        assert_eq!(decode(&mut again, &encoded, usize::MAX), (Ok(()), fields));
    }
}

fn decode(decoder: &mut Decoder, block: &[u8], step: usize) -> (Result<(), DecodeError>, Fields) {
    let mut fields = Fields::new();
    let mut pieces = block.chunks(step.min(block.len().max(1))).peekable();
    if pieces.peek().is_none() {
        return (decoder.decode(block, true, |_| true), fields);
    }
    while let Some(piece) = pieces.next() {
        let result = decoder.decode(piece, pieces.peek().is_none(), |f| {
            fields.push((f.name.to_vec(), f.value.to_vec()));
            fields.len() < MOST
        });
        if result.is_err() {
            return (result, fields);
        }
    }
    (Ok(()), fields)
}

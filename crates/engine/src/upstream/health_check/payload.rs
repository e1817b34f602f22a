//! Bytes to send, and bytes that an answer must have (`HealthCheck.Payload`).

use nuncio_api::envoy::config::core::v3::health_check as pb;
use nuncio_core::error::{BuildError, BuildResult};
use pb::payload::Payload as P;

/// The bytes of a payload; hexadecimal text is read.
///
/// # Errors
/// Text that is no hexadecimal.
pub fn bytes(p: &pb::Payload) -> BuildResult<Vec<u8>> {
    match &p.payload {
        Some(P::Binary(b)) => Ok(b.to_vec()),
        Some(P::Text(t)) => {
            hex(t).filter(|b| !b.is_empty()).ok_or_else(|| BuildError(format!("invalid hex string '{t}'")))
        }
        None => Ok(vec![]),
    }
}

fn hex(t: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = t.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?)).collect()
}

/// What an answer must have: these pieces in this order, with anything around them.
#[derive(Debug, Default)]
pub struct Expected(Vec<Vec<u8>>);

impl Expected {
    /// Reads them; empty ones do not count.
    ///
    /// # Errors
    /// As of [`bytes`].
    pub fn new(all: &[pb::Payload]) -> BuildResult<Expected> {
        let all = all.iter().map(bytes).collect::<BuildResult<Vec<_>>>()?;
        Ok(Expected(all.into_iter().filter(|b| !b.is_empty()).collect()))
    }
    /// Nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// How long all of it is.
    pub fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
    /// True when it is there.
    pub fn is_in(&self, mut answer: &[u8]) -> bool {
        self.0.iter().all(|piece| match answer.windows(piece.len()).position(|w| w == piece) {
            None => false,
            Some(at) => {
                answer = &answer[at + piece.len()..];
                true
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(t: &str) -> pb::Payload {
        pb::Payload { payload: Some(P::Text(t.into())) }
    }

    #[test]
    fn text_is_hexadecimal() {
        assert_eq!(bytes(&text("00fFa1")), Ok(vec![0, 255, 161]));
        for bad in ["0", "0g", "zz"] {
            assert_eq!(bytes(&text(bad)).map_err(|e| e.0), Err(format!("invalid hex string '{bad}'")));
        }
    }

    #[test]
    fn pieces_come_in_order() {
        let e = Expected::new(&[text("0102"), text("0304")]).expect("payloads");
        assert_eq!(e.len(), 4);
        for (answer, found) in [
            (&[1, 2, 3, 4][..], true),
            (&[0, 1, 2, 9, 3, 4, 9], true),
            (&[3, 4, 1, 2], false),
            (&[1, 2, 3], false),
            (&[], false),
        ] {
            assert_eq!(e.is_in(answer), found, "{answer:?}");
        }
        assert!(Expected::default().is_in(b""));
    }
}

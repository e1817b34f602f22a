//! `traceparent` and `tracestate` (W3C Trace Context).

use super::put;
use nuncio_core::tracing::Span;
use nuncio_wire::{HeaderMap, name};

/// What the headers of a request say of its trace.
#[derive(Debug, PartialEq, Eq)]
pub struct Parent {
    /// Number of the trace, in halves.
    pub trace: (u64, u64),
    /// Number of the span that the request belongs to.
    pub span: u64,
    /// The trace is recorded.
    pub sampled: bool,
    /// `tracestate`
    pub state: Vec<u8>,
}

impl Parent {
    /// `None` without a `traceparent`.
    ///
    /// # Errors
    /// It is none that can be read.
    pub fn of(h: &HeaderMap) -> Option<Result<Parent, Invalid>> {
        let value = h.get(name::TRACEPARENT)?;
        let mut parsed = parse(value);
        if let Ok(p) = &mut parsed {
            p.state = h.joined(name::TRACESTATE).unwrap_or_default().into_owned();
        }
        Some(parsed)
    }
}

/// A `traceparent` that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid;

fn parse(value: &[u8]) -> Result<Parent, Invalid> {
    let text = std::str::from_utf8(value).map_err(|_| Invalid)?;
    let mut parts = text.split('-');
    let mut part = |len: usize| {
        let p = parts.next().ok_or(Invalid)?;
        let hex = p.len() == len && p.bytes().all(|b| b.is_ascii_hexdigit());
        if hex { Ok(p) } else { Err(Invalid) }
    };
    let number = |hex: &str| u64::from_str_radix(hex, 16).map_err(|_| Invalid);
    part(2)?;
    let trace = part(32)?;
    let (trace, span) = ((number(&trace[..16])?, number(&trace[16..])?), number(part(16)?)?);
    let sampled = number(part(2)?)? & 1 == 1;
    if parts.next().is_some() || trace == (0, 0) || span == 0 {
        return Err(Invalid);
    }
    Ok(Parent { trace, span, sampled, state: vec![] })
}

/// Writes `traceparent`.
pub fn inject(span: &Span, h: &mut HeaderMap) {
    let (high, flag) = (span.trace_high.unwrap_or(0), u8::from(span.sampled));
    let value = format!("00-{high:016x}{:016x}-{:016x}-{flag:02x}", span.trace, span.id);
    put(h, name::TRACEPARENT, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents() {
        let of = |value: &str| {
            let h: HeaderMap = [("traceparent", value), ("tracestate", "a=1")].into_iter().collect();
            Parent::of(&h).expect("it is there")
        };
        let good = of("00-0000000000000001000000000000000a-00000000000000ff-01").expect("it is good");
        assert_eq!((good.trace, good.span, good.sampled), ((1, 10), 255, true));
        assert_eq!(good.state, b"a=1");
        assert!(!of("00-0000000000000001000000000000000a-00000000000000ff-00").expect("it is good").sampled);
        for bad in [
            "",
            "00-00000000000000000000000000000000-00000000000000ff-01",
            "00-0000000000000001000000000000000a-0000000000000000-01",
            "00-0000000000000001000000000000000a-00000000000000ff-1",
            "00-0000000000000001000000000000000g-00000000000000ff-01",
            "00-0000000000000001000000000000000a-00000000000000ff-01-x",
            "00-+000000000000001000000000000000a-00000000000000ff-01",
        ] {
            assert_eq!(of(bad), Err(Invalid), "{bad}");
        }
        assert!(Parent::of(&HeaderMap::new()).is_none());
    }
}

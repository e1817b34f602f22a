//! The headers of B3 (<https://github.com/openzipkin/b3-propagation>), of both forms.

use crate::tracers::put;
use nuncio_core::tracing::Span;
use nuncio_wire::{HeaderMap, name};

const SINGLE: &str = "b3";
const PARENT: &str = "x-b3-parentspanid";

/// The trace and span that a request belongs to.
#[derive(Debug, PartialEq, Eq)]
pub struct Context {
    /// 0 where the trace's number has 64 bits.
    pub trace_high: u64,
    /// The trace's number, or its second half.
    pub trace: u64,
    /// The span's number.
    pub span: u64,
    /// That of the span before it; 0 for none.
    pub parent: u64,
    /// It is reported.
    pub sampled: bool,
}

/// Headers that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid;

/// Whether B3 says something of sampling.
pub fn is_spoken(h: &HeaderMap) -> bool {
    h.contains(SINGLE) || h.contains(name::X_B3_SAMPLED)
}

/// It says all in one header.
pub fn is_single(h: &HeaderMap) -> bool {
    h.contains(SINGLE)
}

/// What it says of sampling.
pub fn sampled(h: &HeaderMap) -> Option<bool> {
    if let Some(single) = h.get(SINGLE) {
        let at = match single.len() {
            1 => 0,
            35 | 52 => 34,
            51 | 68 => 50,
            _ => return None,
        };
        return flag(*single.get(at)?);
    }
    h.get(name::X_B3_SAMPLED).map(|v| v == b"1" || v == b"true")
}

fn flag(c: u8) -> Option<bool> {
    match c {
        b'0' => Some(false),
        b'1' | b'd' => Some(true),
        _ => None,
    }
}

impl Context {
    /// What the headers say: `None` when there are none, `Ok(None)` when they speak of sampling alone.
    pub fn of(h: &HeaderMap, sampled: bool) -> Option<Result<Option<Context>, Invalid>> {
        if let Some(single) = h.get(SINGLE) {
            return Some(of_single(single, sampled));
        }
        let (trace, span) = (h.get(name::X_B3_TRACEID)?, h.get(name::X_B3_SPANID)?);
        let parent = h.get(PARENT).filter(|p| !p.is_empty());
        Some(of_several(trace, span, parent, sampled).map(Some))
    }
}

fn of_several(trace: &[u8], span: &[u8], parent: Option<&[u8]>, sampled: bool) -> Result<Context, Invalid> {
    let (trace_high, trace) = match trace.len() {
        32 => (number(&trace[..16])?, number(&trace[16..])?),
        _ => (0, number(trace)?),
    };
    let parent = parent.map(number).transpose()?.unwrap_or(0);
    Ok(Context { trace_high, trace, span: number(span)?, parent, sampled })
}

/// `<trace>-<span>-<flag>-<parent>`, the last two of which may be missing; or a flag alone.
fn of_single(b3: &[u8], sampled: bool) -> Result<Option<Context>, Invalid> {
    if let [c] = b3 {
        return flag(*c).map(|_| None).ok_or(Invalid);
    }
    let mut parts = b3.split(|c| *c == b'-');
    let (trace, span) = (parts.next().unwrap_or_default(), parts.next().ok_or(Invalid)?);
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return Err(Invalid);
    }
    if let Some(f) = parts.next() {
        let [c] = f else { return Err(Invalid) };
        flag(*c).ok_or(Invalid)?;
    }
    let parent = parts.next();
    if parent.is_some_and(|p| p.len() != 16) || parts.next().is_some() {
        return Err(Invalid);
    }
    of_several(trace, span, parent, sampled).map(Some)
}

fn number(hex: &[u8]) -> Result<u64, Invalid> {
    let digits = !hex.is_empty() && hex.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(hex).ok().filter(|_| digits).ok_or(Invalid)?;
    u64::from_str_radix(text, 16).map_err(|_| Invalid)
}

/// Writes a span into headers, of the form in which they came.
pub fn inject(span: &Span, h: &mut HeaderMap) {
    if span.single_header {
        let parent = span.parent.map(|p| format!("-{p:016x}")).unwrap_or_default();
        let value = format!("{}-{:016x}-{}{parent}", span.trace_hex(), span.id, u8::from(span.sampled));
        put(h, SINGLE, value.as_bytes());
        return;
    }
    put(h, name::X_B3_TRACEID, span.trace_hex().as_bytes());
    put(h, name::X_B3_SPANID, format!("{:016x}", span.id).as_bytes());
    if let Some(parent) = span.parent {
        put(h, PARENT, format!("{parent:016x}").as_bytes());
    }
    put(h, name::X_B3_SAMPLED, if span.sampled { b"1" } else { b"0" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let of = |headers: &[(&str, &str)]| {
            let h: HeaderMap = headers.iter().copied().collect();
            Context::of(&h, true)
        };
        let (t, s, p) = ("000000000000000a", "000000000000000b", "000000000000000c");
        let c = Context { trace_high: 0, trace: 10, span: 11, parent: 0, sampled: true };
        assert_eq!(of(&[("x-b3-traceid", t), ("x-b3-spanid", s)]), Some(Ok(Some(c))));
        let c = || Context { trace_high: 12, trace: 10, span: 11, parent: 12, sampled: true };
        let long = format!("{p}{t}");
        let several = [("x-b3-traceid", &*long), ("x-b3-spanid", s), ("x-b3-parentspanid", p)];
        assert_eq!(of(&several), Some(Ok(Some(c()))));
        assert_eq!(of(&[("b3", &format!("{long}-{s}-1-{p}"))]), Some(Ok(Some(c()))));
        assert_eq!(of(&[("b3", "0")]), Some(Ok(None)));
        assert_eq!(of(&[("x-b3-traceid", t)]), None);
        for bad in ["", "x", "a-b", &format!("{t}-{s}-x"), &format!("{t}-{s}-1-"), &format!("{t}-{s}-")] {
            assert_eq!(of(&[("b3", bad)]), Some(Err(Invalid)), "{bad}");
        }
        assert_eq!(of(&[("x-b3-traceid", "+1"), ("x-b3-spanid", s)]), Some(Err(Invalid)));
    }

    #[test]
    fn sampling() {
        let of = |name: &str, value: &str| sampled(&[(name, value)].into_iter().collect());
        assert_eq!((of("x-b3-sampled", "1"), of("x-b3-sampled", "true")), (Some(true), Some(true)));
        assert_eq!(
            (of("x-b3-sampled", "0"), of("b3", "d"), of("b3", "0")),
            (Some(false), Some(true), Some(false))
        );
        assert_eq!((of("b3", "000000000000000a-000000000000000b-0"), of("b3", "xx")), (Some(false), None));
    }
}

//! JSON as Envoy writes it: sorted keys, numbers as the shortest text of a double, strings always valid UTF-8.

use super::out::{Out, Style, rewrite};
use super::parse::{Extras, Part, parse};
use super::{FormatCx, append_parts};
use crate::error::BuildResult;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::io::Write;

/// A compiled `json_format`.
#[derive(Debug)]
pub(super) enum Node {
    /// Text that is the same for all requests.
    Raw(Vec<u8>),
    /// A string with commands. A single one keeps its type, several make a string.
    Value(Vec<Part>),
    /// Each key as `"key":`.
    Map(Vec<(Vec<u8>, Node)>),
    List(Vec<Node>),
}

impl Node {
    /// Compiles. With `omit` a `null` of the configuration is left out at once.
    pub fn new(format: &Struct, omit: bool, extras: Extras) -> BuildResult<Node> {
        let mut members = Vec::new();
        for (k, v) in &format.fields {
            if let Some(node) = Node::of(v, omit, extras)? {
                let mut key = vec![b'"'];
                key.extend_from_slice(k.as_bytes());
                escape_tail(&mut key, 1);
                key.extend_from_slice(b"\":");
                members.push((key, node));
            }
        }
        Ok(Node::Map(members))
    }
    fn of(value: &Value, omit: bool, extras: Extras) -> BuildResult<Option<Node>> {
        Ok(Some(match &value.kind {
            None | Some(Kind::NullValue(_)) if omit => return Ok(None),
            Some(Kind::StringValue(s)) if s.contains('%') => Node::Value(parse(s, extras)?),
            Some(Kind::StructValue(s)) => Node::new(s, omit, extras)?,
            Some(Kind::ListValue(l)) => {
                let mut nodes = Vec::new();
                for v in &l.values {
                    nodes.extend(Node::of(v, omit, extras)?);
                }
                Node::List(nodes)
            }
            _ => {
                let mut raw = Vec::new();
                append_value(&mut raw, value);
                Node::Raw(raw)
            }
        }))
    }
    /// Appends the value; `false` when it is left out. With `omit` unset values are left out, and so are maps in
    /// which nothing remains, but for the outermost (`root`); lists stay.
    pub fn append(&self, cx: &FormatCx<'_>, out: &mut Vec<u8>, omit: bool, root: bool) -> bool {
        match self {
            Node::Raw(text) => out.extend_from_slice(text),
            Node::Value(parts) => {
                if let [Part::Operator(op)] = &parts[..] {
                    if !op.append(cx, &mut Out::new(out, Style::Json)) {
                        if omit {
                            return false;
                        }
                        out.extend_from_slice(b"null");
                    }
                } else {
                    out.push(b'"');
                    let unset = if omit { "" } else { "-" };
                    append_parts(parts, cx, &mut Out::new(out, Style::JsonPart), unset);
                    out.push(b'"');
                }
            }
            Node::Map(members) => {
                out.push(b'{');
                let start = out.len();
                for (key, node) in members {
                    let before = out.len();
                    if before > start {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    if !node.append(cx, out, omit, false) {
                        out.truncate(before);
                    }
                }
                if omit && !root && out.len() == start {
                    out.pop();
                    return false;
                }
                out.push(b'}');
            }
            Node::List(nodes) => {
                out.push(b'[');
                let start = out.len();
                for node in nodes {
                    let before = out.len();
                    if before > start {
                        out.push(b',');
                    }
                    if !node.append(cx, out, omit, false) {
                        out.truncate(before);
                    }
                }
                out.push(b']');
            }
        }
        true
    }
}

/// Appends a value as compact JSON.
pub fn append_value(out: &mut Vec<u8>, value: &Value) {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => out.extend_from_slice(b"null"),
        Some(Kind::BoolValue(b)) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Some(Kind::NumberValue(n)) => append_double(out, *n),
        Some(Kind::StringValue(s)) => append_string(out, s.as_bytes()),
        Some(Kind::StructValue(s)) => append_fields(out, s),
        Some(Kind::ListValue(l)) => {
            out.push(b'[');
            for (i, v) in l.values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                append_value(out, v);
            }
            out.push(b']');
        }
    }
}

pub(super) fn append_fields(out: &mut Vec<u8>, s: &Struct) {
    out.push(b'{');
    for (i, (k, v)) in s.fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        append_string(out, k.as_bytes());
        out.push(b':');
        append_value(out, v);
    }
    out.push(b'}');
}

pub(super) fn append_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.extend_from_slice(text);
    escape_tail(out, start);
    out.push(b'"');
}

/// Escapes what stands behind `start` for a JSON string. Bytes that are not UTF-8 are written as the characters of
/// the same number, and then everything special is in that form, as in Envoy.
pub(super) fn escape_tail(buf: &mut Vec<u8>, start: usize) {
    let special = |b: &u8| *b < 0x20 || *b >= 0x7f || matches!(b, b'"' | b'\\');
    rewrite(buf, start, special, |from, to| {
        let utf8 = std::str::from_utf8(from).is_ok();
        for b in from {
            let short = match b {
                b'"' => b'"',
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x08 => b'b',
                0x0c => b'f',
                _ => 0,
            };
            if !special(b) || (utf8 && *b >= 0x7f) {
                to.push(*b);
            } else if utf8 && short != 0 {
                to.extend([b'\\', short]);
            } else {
                // Writing to a vector cannot fail.
                let _ = write!(to, "\\u{b:04x}");
            }
        }
    });
}

/// The shortest text that reads back as `n`, in plain or scientific form, whichever is shorter (C++'s `to_chars`).
pub(super) fn append_double(out: &mut Vec<u8>, n: f64) {
    if !n.is_finite() {
        // Envoy writes `null` for NaN and text that is no JSON for the infinities.
        out.extend_from_slice(b"null");
        return;
    }
    let start = out.len();
    // Writing to a vector cannot fail. Small whole numbers are nearly all there is.
    if n.fract() == 0.0 && (0.0..100_000.0).contains(&n) && n.is_sign_positive() {
        let _ = write!(out, "{}", n as u32);
        return;
    }
    let _ = write!(out, "{n:e}");
    let Some(e) = out[start..].iter().position(|b| *b == b'e') else { return };
    let exponent: i32 =
        std::str::from_utf8(&out[start + e + 1..]).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    out.truncate(start + e);
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
    // Rust's plain form is the shortest one too, with zeros for the digits that a double does not know.
    let scientific = out.len() - start;
    if (-20..=22).contains(&exponent) {
        let middle = out.len();
        let _ = write!(out, "{n}");
        if out.len() - middle <= scientific {
            out.drain(start..middle);
        } else {
            out.truncate(middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(n: f64) -> String {
        let mut out = Vec::new();
        append_double(&mut out, n);
        String::from_utf8(out).expect("text")
    }
    fn string(b: &[u8]) -> String {
        let mut out = Vec::new();
        append_string(&mut out, b);
        String::from_utf8(out).expect("text")
    }

    /// Measured on Envoy 1.40.0.
    #[test]
    fn numbers() {
        for (n, text) in [
            (100_000.0, "1e+05"),
            (1_200_000.0, "1200000"),
            (12_000_000.0, "1.2e+07"),
            (10_000.0, "10000"),
            (123_456.0, "123456"),
            (0.001, "0.001"),
            (0.0001, "1e-04"),
            (0.1, "0.1"),
            (0.00012, "0.00012"),
            (1e9, "1e+09"),
            (1e300, "1e+300"),
            (123e20, "1.23e+22"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (12_345_678_901_234_568.0, "12345678901234568"),
            (123_456_789_012.0, "123456789012"),
            (1_234_567.5, "1234567.5"),
            (3e-5, "3e-05"),
            (1e-7, "1e-07"),
            (-100_000.0, "-1e+05"),
            (-3.25, "-3.25"),
            (0.0, "0"),
            (-0.0, "-0"),
            (200.0, "200"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(double(n), text);
        }
    }

    /// Measured on Envoy 1.40.0; CVE-2024-34363 was a crash on the second kind.
    #[test]
    fn strings() {
        assert_eq!(string(b"plain /?"), r#""plain /?""#);
        assert_eq!(
            string("é\"\\\t\u{80}y\u{7f}\u{1}\n".as_bytes()),
            "\"é\\\"\\\\\\t\u{80}y\u{7f}\\u0001\\n\""
        );
        assert_eq!(string(b"v\xff\"\\\ty"), r#""v\u00ff\u0022\u005c\u0009y""#);
    }
}

//! Values, how they compare, and how they are shown.

use super::attributes::Object;
use super::time;
use crate::metadata::Metadata;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// An expression has no value: something is not there, or values do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// A map has no such key; `has` says so.
    NoSuchKey,
    /// Anything else.
    Other,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// A string.
    Text(Cow<'a, [u8]>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// A duration, in nanoseconds.
    Duration(i64),
    /// A point in time, in nanoseconds since 1970.
    Timestamp(i128),
    /// A type.
    Type(&'static str),
    /// A list.
    List(Vec<Value<'a>>),
    /// A list that stands in the expression.
    Constants(&'a [Value<'a>]),
    /// A map that stands in the expression.
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// A map from metadata.
    Struct(Struct),
    /// A group of attributes.
    Object(Object),
}

impl<'a> Value<'a> {
    /// A string.
    pub(super) fn text(t: impl Into<String>) -> Value<'a> {
        Value::Text(Cow::Owned(t.into().into_bytes()))
    }
    /// From metadata.
    pub(super) fn of_proto(v: prost_types::Value) -> Value<'a> {
        match v.kind {
            None | Some(Kind::NullValue(_)) => Value::Null,
            Some(Kind::BoolValue(b)) => Value::Bool(b),
            Some(Kind::NumberValue(n)) => Value::Double(n),
            Some(Kind::StringValue(s)) => Value::text(s),
            Some(Kind::StructValue(s)) => Value::Struct(s),
            Some(Kind::ListValue(l)) => Value::List(l.values.into_iter().map(Value::of_proto).collect()),
        }
    }
    /// The same, borrowed: no string or list is copied.
    pub(super) fn reborrow(&'a self) -> Value<'a> {
        match self {
            Value::Text(t) => Value::Text(Cow::Borrowed(t)),
            Value::Bytes(b) => Value::Bytes(Cow::Borrowed(b)),
            Value::List(l) => Value::Constants(l),
            Value::Constants(l) => Value::Constants(l),
            other => other.clone(),
        }
    }
    /// The elements of a list.
    pub(super) fn elements(&self) -> Option<&[Value<'a>]> {
        match self {
            Value::List(l) => Some(l),
            Value::Constants(l) => Some(l),
            _ => None,
        }
    }
    /// Its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::Text(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Type(_) => "type",
            Value::List(_) | Value::Constants(_) => "list",
            Value::Map(_) | Value::Struct(_) | Value::Object(_) => "map",
        }
    }
    /// Whether both are the same; numbers of different types may be.
    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Map(_) | Value::Struct(_), Value::Map(_) | Value::Struct(_)) => {
                let (a, b) = (self.entries(), other.entries());
                let same =
                    |(k, v): &(Value<'_>, Value<'_>)| b.iter().any(|(bk, bv)| k.equals(bk) && v.equals(bv));
                a.len() == b.len() && a.iter().all(same)
            }
            _ => match (self.elements(), other.elements()) {
                (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
                _ => self.compare(other) == Some(Ordering::Equal),
            },
        }
    }
    /// Keys and values of a map; none of anything else.
    pub(super) fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match self {
            Value::Map(m) => m.clone(),
            Value::Struct(s) => {
                let entry = |(k, v): (&String, &prost_types::Value)| {
                    (Value::text(k.as_str()), Value::of_proto(v.clone()))
                };
                s.fields.iter().map(entry).collect()
            }
            _ => vec![],
        }
    }
    /// Which comes first; `None` when they have no order.
    pub(super) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Text(a), Value::Text(b)) | (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
            (Value::Double(a), b) => with_double(b.integer()?, *a).map(Ordering::reverse),
            (a, Value::Double(b)) => with_double(a.integer()?, *b),
            (a, b) => Some(a.integer()?.cmp(&b.integer()?)),
        }
    }
    fn integer(&self) -> Option<i128> {
        match self {
            Value::Int(n) => Some(i128::from(*n)),
            Value::Uint(n) => Some(i128::from(*n)),
            _ => None,
        }
    }
    /// As text, where an expression's value is wanted as one.
    pub fn print(&self) -> Cow<'_, [u8]> {
        let text = match self {
            Value::Text(t) | Value::Bytes(t) => return Cow::Borrowed(t),
            Value::Null => "NULL".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Int(n) => n.to_string(),
            Value::Uint(n) => n.to_string(),
            Value::Double(d) => six_digits(*d),
            Value::Duration(d) => time::duration(*d),
            Value::Timestamp(t) => time::timestamp(*t, "+00:00"),
            Value::Type(_) => "CelType value".to_owned(),
            Value::List(_) | Value::Constants(_) => "CelList value".to_owned(),
            Value::Map(_) | Value::Struct(_) | Value::Object(_) => "CelMap value".to_owned(),
        };
        Cow::Owned(text.into_bytes())
    }
    /// As a value of metadata (`%TYPED_CEL%`); `None` when it has no such form.
    pub fn proto(&self) -> Option<prost_types::Value> {
        let kind = match self {
            Value::Null => Kind::NullValue(0),
            Value::Bool(b) => Kind::BoolValue(*b),
            // Beyond 2^53 the nearest floating-point number, as in Envoy.
            Value::Int(n) => Kind::NumberValue(*n as f64),
            Value::Uint(n) => Kind::NumberValue(*n as f64),
            Value::Double(d) => Kind::NumberValue(*d),
            Value::Text(t) => Kind::StringValue(String::from_utf8_lossy(t).into_owned()),
            Value::Bytes(b) => Kind::StringValue(base64(b)),
            Value::Duration(d) => Kind::StringValue(time::json_duration(*d)),
            Value::Timestamp(t) => Kind::StringValue(time::timestamp(*t, "Z")),
            Value::Struct(s) => Kind::StructValue(s.clone()),
            Value::List(_) | Value::Constants(_) => {
                let all = self.elements().unwrap_or_default().iter().map(Value::proto);
                Kind::ListValue(ListValue { values: all.collect::<Option<_>>()? })
            }
            Value::Map(m) => {
                let mut fields = BTreeMap::new();
                for (k, v) in m {
                    fields.insert(String::from_utf8_lossy(&k.print()).into_owned(), v.proto()?);
                }
                Kind::StructValue(Struct { fields })
            }
            Value::Type(_) | Value::Object(_) => return None,
        };
        Some(prost_types::Value { kind: Some(kind) })
    }
}

/// Metadata of one name space.
pub(super) fn namespace<'a>(m: &Metadata, name: &[u8]) -> Option<Value<'a>> {
    m.0.get(std::str::from_utf8(name).ok()?).cloned().map(Value::Struct)
}

fn with_double(n: i128, d: f64) -> Option<Ordering> {
    /// Beyond all integers.
    const FAR: f64 = 1e30;
    if d.is_nan() {
        return None;
    }
    if d.abs() > FAR {
        return Some(if d > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = d.trunc();
    Some(n.cmp(&(whole as i128)).then_with(|| 0.0_f64.total_cmp(&(d - whole + 0.0))))
}

/// As C's `%g` writes it.
fn six_digits(d: f64) -> String {
    if d.is_nan() {
        return "nan".into();
    }
    if d.is_infinite() {
        return if d > 0.0 { "inf" } else { "-inf" }.into();
    }
    if d == 0.0 {
        return if d.is_sign_negative() { "-0" } else { "0" }.into();
    }
    let scientific = format!("{d:.5e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |t: &str| match t.contains('.') {
        true => t.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => t.to_owned(),
    };
    if (-4..6).contains(&exponent) {
        let places = usize::try_from(5 - exponent).unwrap_or(0);
        return trimmed(&format!("{d:.places$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for c in bytes.chunks(3) {
        let n = c.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - c.len()));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= c.len() { digit } else { '=' });
        }
    }
    out
}

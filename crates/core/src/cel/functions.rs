//! Functions and operators (the language definition, "List of Standard Definitions").

use super::value::{Failed, Value};
use super::{Options, eval, time};
use crate::error::{BuildError, BuildResult};
use crate::format::FormatCx;
use crate::matchers::re2;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cmp::Ordering;

type Found<'a> = Result<Value<'a>, Failed>;
/// The values that a function gets, its target first.
pub(super) type Args<'a> = SmallVec<[Value<'a>; 2]>;

/// A regular expression that is looked for anywhere.
#[derive(Debug)]
pub(super) struct Pattern(regex::bytes::Regex);

/// Of a compiled pattern, in bytes: also of one that comes with a request.
const MAX_PATTERN: usize = 1 << 20;

impl Pattern {
    /// Compiles; the error is RE2's text.
    pub(super) fn new(pattern: &[u8]) -> Result<Pattern, String> {
        let text = std::str::from_utf8(pattern).map_err(|_| "invalid UTF-8".to_owned())?;
        let mut b = regex::bytes::RegexBuilder::new(&re2::translate(text)?);
        let built = b.unicode(false).size_limit(MAX_PATTERN).build();
        built.map(Pattern).map_err(|_| "pattern too large - compile failed".to_owned())
    }
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Not,
    Negative,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    /// Whether strings may be put together.
    Add(bool),
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    Int,
    Uint,
    Double,
    Bool,
    Bytes,
    Text,
    Duration,
    Timestamp,
    Type,
    Dyn,
    Time(&'static str),
    Lower,
    Upper,
    Replace,
    Split,
}

/// Parts of a point in time or of a duration.
const TIME: &[&str] = &[
    "getFullYear",
    "getMonth",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
];

impl Function {
    /// The function of this name that takes so many arguments, the target counted.
    ///
    /// # Errors
    /// Envoy has it, and this proxy does not.
    pub(super) fn named(name: &str, args: usize, method: bool, o: Options) -> BuildResult<Option<Function>> {
        use Function as F;
        if let Some(t) = TIME.iter().find(|t| **t == name) {
            return Ok((method && matches!(args, 1 | 2)).then_some(F::Time(t)));
        }
        if matches!(name, "extract" | "capture" | "captureN" | "re.extract" | "re.capture" | "re.captureN")
            && args >= 2
        {
            return Err(BuildError::not_implemented(format_args!("CEL function {name}")));
        }
        let found = match (name, args) {
            ("!_", 1) => F::Not,
            ("-_", 1) => F::Negative,
            ("_==_", 2) => F::Equal,
            ("_!=_", 2) => F::NotEqual,
            ("_<_", 2) => F::Less,
            ("_<=_", 2) => F::LessEqual,
            ("_>_", 2) => F::Greater,
            ("_>=_", 2) => F::GreaterEqual,
            ("@in" | "_in_" | "in", 2) => F::In,
            ("_+_", 2) => F::Add(o.string_concat),
            ("_-_", 2) => F::Subtract,
            ("_*_", 2) => F::Multiply,
            ("_/_", 2) => F::Divide,
            ("_%_", 2) => F::Remainder,
            ("size", 1) => F::Size,
            ("matches", 2) => F::Matches,
            ("contains", 2) if method => F::Contains,
            ("startsWith", 2) if method => F::StartsWith,
            ("endsWith", 2) if method => F::EndsWith,
            ("lowerAscii", 1) if method && o.string_functions => F::Lower,
            ("upperAscii", 1) if method && o.string_functions => F::Upper,
            ("replace", 3 | 4) if method && o.string_functions => F::Replace,
            ("split", 2 | 3) if method && o.string_functions => F::Split,
            _ if method => return Ok(None),
            ("int", 1) => F::Int,
            ("uint", 1) => F::Uint,
            ("double", 1) => F::Double,
            ("bool", 1) => F::Bool,
            ("bytes", 1) => F::Bytes,
            ("string", 1) if o.string_conversion => F::Text,
            ("duration", 1) => F::Duration,
            ("timestamp", 1) => F::Timestamp,
            ("type", 1) => F::Type,
            ("dyn", 1) => F::Dyn,
            _ => return Ok(None),
        };
        Ok(Some(found))
    }
    /// Its value.
    pub(super) fn call<'a>(self, mut args: Args<'a>, cx: &FormatCx<'a>) -> Found<'a> {
        use Function as F;
        let (Some(a), b) = (args.first(), args.get(1)) else { return Err(Failed::Other) };
        let b = b.unwrap_or(&Value::Null);
        let bool = |v| Ok(Value::Bool(v));
        match self {
            F::Not => match a {
                Value::Bool(x) => bool(!x),
                _ => Err(Failed::Other),
            },
            F::Equal => bool(a.equals(b)),
            F::NotEqual => bool(!a.equals(b)),
            F::Less | F::LessEqual | F::Greater | F::GreaterEqual => bool(self.orders(a, b)?),
            F::In => bool(eval::contains(a, b, cx)?),
            F::Negative | F::Add(_) | F::Subtract | F::Multiply | F::Divide | F::Remainder => {
                self.arithmetic(a, b)
            }
            F::Size => size(a, cx),
            F::Contains | F::StartsWith | F::EndsWith => match (a, b) {
                (Value::Text(a), Value::Text(b)) => bool(match self {
                    F::StartsWith => a.starts_with(b),
                    F::EndsWith => a.ends_with(b),
                    _ => memchr::memmem::find(a, b).is_some(),
                }),
                _ => Err(Failed::Other),
            },
            F::Matches => match (a, b) {
                (Value::Text(a), Value::Text(p)) => {
                    bool(Pattern::new(p).map_err(|_| Failed::Other)?.is_match(a))
                }
                _ => Err(Failed::Other),
            },
            F::Type => Ok(Value::Type(a.type_name())),
            F::Time(part) => self::part(part, a, args.get(1)),
            F::Lower | F::Upper | F::Replace | F::Split => self.of_strings(&args),
            F::Dyn => args.pop().ok_or(Failed::Other),
            F::Int | F::Uint | F::Double | F::Bool | F::Bytes | F::Text | F::Duration | F::Timestamp => {
                let one = args.pop().ok_or(Failed::Other)?;
                self.convert(one).ok_or(Failed::Other)
            }
        }
    }
    fn orders(self, a: &Value<'_>, b: &Value<'_>) -> Result<bool, Failed> {
        let nan = |v: &Value<'_>| matches!(v, Value::Double(d) if d.is_nan());
        let Some(o) = a.compare(b) else {
            return if nan(a) || nan(b) { Ok(false) } else { Err(Failed::Other) };
        };
        Ok(match self {
            Function::Less => o == Ordering::Less,
            Function::LessEqual => o != Ordering::Greater,
            Function::Greater => o == Ordering::Greater,
            _ => o != Ordering::Less,
        })
    }
    fn arithmetic<'a>(self, a: &Value<'a>, b: &Value<'a>) -> Found<'a> {
        use Function as F;
        let checked = match (self, a, b) {
            (F::Negative, Value::Int(a), _) => a.checked_neg().map(Value::Int),
            (F::Negative, Value::Double(a), _) => Some(Value::Double(-a)),
            (F::Add(_), Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int),
            (F::Subtract, Value::Int(a), Value::Int(b)) => a.checked_sub(*b).map(Value::Int),
            (F::Multiply, Value::Int(a), Value::Int(b)) => a.checked_mul(*b).map(Value::Int),
            (F::Divide, Value::Int(a), Value::Int(b)) => a.checked_div(*b).map(Value::Int),
            (F::Remainder, Value::Int(a), Value::Int(b)) => a.checked_rem(*b).map(Value::Int),
            (F::Add(_), Value::Uint(a), Value::Uint(b)) => a.checked_add(*b).map(Value::Uint),
            (F::Subtract, Value::Uint(a), Value::Uint(b)) => a.checked_sub(*b).map(Value::Uint),
            (F::Multiply, Value::Uint(a), Value::Uint(b)) => a.checked_mul(*b).map(Value::Uint),
            (F::Divide, Value::Uint(a), Value::Uint(b)) => a.checked_div(*b).map(Value::Uint),
            (F::Remainder, Value::Uint(a), Value::Uint(b)) => a.checked_rem(*b).map(Value::Uint),
            (F::Add(_), Value::Double(a), Value::Double(b)) => Some(Value::Double(a + b)),
            (F::Subtract, Value::Double(a), Value::Double(b)) => Some(Value::Double(a - b)),
            (F::Multiply, Value::Double(a), Value::Double(b)) => Some(Value::Double(a * b)),
            (F::Divide, Value::Double(a), Value::Double(b)) => Some(Value::Double(a / b)),
            (F::Add(_), Value::Duration(a), Value::Duration(b)) => a.checked_add(*b).map(Value::Duration),
            (F::Subtract, Value::Duration(a), Value::Duration(b)) => a.checked_sub(*b).map(Value::Duration),
            (F::Add(_), Value::Timestamp(t), Value::Duration(d))
            | (F::Add(_), Value::Duration(d), Value::Timestamp(t)) => {
                t.checked_add(i128::from(*d)).map(Value::Timestamp)
            }
            (F::Subtract, Value::Timestamp(t), Value::Duration(d)) => {
                t.checked_sub(i128::from(*d)).map(Value::Timestamp)
            }
            (F::Subtract, Value::Timestamp(a), Value::Timestamp(b)) => {
                a.checked_sub(*b).and_then(|d| i64::try_from(d).ok()).map(Value::Duration)
            }
            (F::Add(true), Value::Text(a), Value::Text(b)) => Some(Value::Text([&a[..], b].concat().into())),
            (F::Add(true), Value::Bytes(a), Value::Bytes(b)) => {
                Some(Value::Bytes([&a[..], b].concat().into()))
            }
            _ => None,
        };
        checked.ok_or(Failed::Other)
    }
    fn convert(self, v: Value<'_>) -> Option<Value<'_>> {
        use Function as F;
        let parse = |t: &[u8]| std::str::from_utf8(t).ok().map(str::to_owned);
        Some(match (self, v) {
            (F::Int, v @ Value::Int(_))
            | (F::Uint, v @ Value::Uint(_))
            | (F::Double, v @ Value::Double(_))
            | (F::Bool, v @ Value::Bool(_))
            | (F::Bytes, v @ Value::Bytes(_))
            | (F::Text, v @ Value::Text(_))
            | (F::Duration, v @ Value::Duration(_))
            | (F::Timestamp, v @ Value::Timestamp(_)) => v,
            (F::Int, Value::Uint(n)) => Value::Int(i64::try_from(n).ok()?),
            (F::Int, Value::Double(d)) if d.abs() < 9.2e18 => Value::Int(d as i64),
            (F::Int, Value::Text(t)) => Value::Int(parse(&t)?.parse().ok()?),
            (F::Int, Value::Timestamp(t)) => {
                Value::Int(i64::try_from(t.div_euclid(time::SECOND.into())).ok()?)
            }
            (F::Int, Value::Bool(b)) => Value::Int(b.into()),
            (F::Uint, Value::Int(n)) => Value::Uint(u64::try_from(n).ok()?),
            (F::Uint, Value::Double(d)) if (0.0..1.8e19).contains(&d) => Value::Uint(d as u64),
            (F::Uint, Value::Text(t)) => Value::Uint(parse(&t)?.parse().ok()?),
            (F::Double, Value::Int(n)) => Value::Double(n as f64),
            (F::Double, Value::Uint(n)) => Value::Double(n as f64),
            (F::Double, Value::Text(t)) => Value::Double(parse(&t)?.parse().ok()?),
            (F::Bool, Value::Text(t)) => match &t[..] {
                b"true" | b"True" | b"TRUE" | b"t" | b"1" => Value::Bool(true),
                b"false" | b"False" | b"FALSE" | b"f" | b"0" => Value::Bool(false),
                _ => return None,
            },
            (F::Bytes, Value::Text(t)) => Value::Bytes(t),
            (F::Text, Value::Bytes(b)) => Value::text(parse(&b)?),
            (F::Text, Value::Duration(d)) => Value::text(time::json_duration(d)),
            (F::Text, Value::Timestamp(t)) => Value::text(time::timestamp(t, "Z")),
            (F::Text, v @ (Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Bool(_))) => {
                Value::text(String::from_utf8(v.print().into_owned()).ok()?)
            }
            (F::Duration, Value::Text(t)) => Value::Duration(time::parse_duration(&parse(&t)?)?),
            (F::Timestamp, Value::Text(t)) => Value::Timestamp(time::parse_timestamp(&parse(&t)?)?),
            (F::Timestamp, Value::Int(n)) => Value::Timestamp(i128::from(n) * i128::from(time::SECOND)),
            _ => return None,
        })
    }
    /// `lowerAscii`, `upperAscii`, `replace` and `split`.
    fn of_strings<'a>(self, args: &Args<'a>) -> Found<'a> {
        let texts: Option<SmallVec<[&[u8]; 3]>> = args
            .iter()
            .map(|a| match a {
                Value::Text(t) => Some(&**t),
                _ => None,
            })
            .collect();
        let text = |t: Vec<u8>| Value::Text(Cow::Owned(t));
        match (self, texts.as_deref()) {
            (Function::Lower, Some([t])) => Ok(text(t.to_ascii_lowercase())),
            (Function::Upper, Some([t])) => Ok(text(t.to_ascii_uppercase())),
            (Function::Replace, Some([t, old, new])) => Ok(text(replace(t, old, new))),
            (Function::Split, Some([t, by])) => {
                Ok(Value::List(split(t, by).into_iter().map(|p| text(p.to_vec())).collect()))
            }
            _ => Err(Failed::Other),
        }
    }
}

/// With an empty separator, into characters.
fn split<'t>(text: &'t [u8], by: &[u8]) -> Vec<&'t [u8]> {
    if by.is_empty() {
        let starts = text
            .utf8_chunks()
            .flat_map(|c| c.valid().chars().map(char::len_utf8).chain(c.invalid().iter().map(|_| 1)));
        let mut rest = text;
        return starts
            .map(|n| {
                let (one, tail) = rest.split_at(n.min(rest.len()));
                rest = tail;
                one
            })
            .collect();
    }
    let mut parts = vec![];
    let mut from = 0;
    for at in memchr::memmem::find_iter(text, by) {
        parts.push(&text[from..at]);
        from = at + by.len();
    }
    parts.push(&text[from..]);
    parts
}

fn replace(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    if old.is_empty() {
        return text.to_vec();
    }
    split(text, old).join(new)
}

fn size<'a>(v: &Value<'a>, cx: &FormatCx<'a>) -> Found<'a> {
    let n = match v {
        Value::Text(t) => String::from_utf8_lossy(t).chars().count(),
        Value::Bytes(b) => b.len(),
        Value::Map(m) => m.len(),
        Value::Struct(s) => s.fields.len(),
        Value::Object(o) => o.size(cx),
        other => other.elements().ok_or(Failed::Other)?.len(),
    };
    Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

/// A part of a point in time, perhaps in a zone, or of a duration.
fn part<'a>(which: &str, of: &Value<'a>, zone: Option<&Value<'a>>) -> Found<'a> {
    const MS: i64 = 1_000_000;
    let found = match (of, zone) {
        (Value::Timestamp(t), None) => time::part(which, *t),
        (Value::Timestamp(t), Some(Value::Text(zone))) => {
            let offset = std::str::from_utf8(zone).ok().and_then(time::offset).ok_or(Failed::Other)?;
            time::part(which, t + i128::from(offset) * i128::from(time::SECOND))
        }
        (Value::Duration(d), None) => match which {
            "getHours" => Some(d / (3600 * time::SECOND)),
            "getMinutes" => Some(d / (60 * time::SECOND)),
            "getSeconds" => Some(d / time::SECOND),
            "getMilliseconds" => Some(d / MS % 1000),
            _ => None,
        },
        _ => None,
    };
    found.map(Value::Int).ok_or(Failed::Other)
}

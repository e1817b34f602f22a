//! Evaluation.

use super::attributes::{HeadersOf, Object};
use super::compile::Node;
use super::value::{Failed, Value};
use crate::format::FormatCx;
use std::borrow::Cow;

type Found<'a> = Result<Value<'a>, Failed>;

/// The group of attributes that a node stands for, where that is known without a request.
pub(super) fn object(n: &Node) -> Option<Object> {
    match n {
        Node::Group(o) => Some(*o),
        Node::Field { of, key } => match (object(of)?, &**key) {
            (Object::Request, "headers") => Some(Object::Headers(HeadersOf::Request)),
            (Object::Response, "headers") => Some(Object::Headers(HeadersOf::Response)),
            (Object::Response, "trailers") => Some(Object::Headers(HeadersOf::Trailers)),
            _ => None,
        },
        _ => None,
    }
}

impl Node {
    /// Its value.
    pub(super) fn eval<'a>(&'a self, cx: &FormatCx<'a>) -> Found<'a> {
        match self {
            Node::Constant(v) => Ok(v.reborrow()),
            Node::Group(o) => Ok(Value::Object(*o)),
            Node::Unknown => Err(Failed::Other),
            Node::Header(of, name) => of.get(name, cx).ok_or(Failed::NoSuchKey),
            Node::Field { of, key } => member(of.eval(cx)?, &Value::Text(Cow::Borrowed(key.as_bytes())), cx),
            Node::Has { of, key } => {
                let key = Value::Text(Cow::Borrowed(key.as_bytes()));
                match member(of.eval(cx)?, &key, cx) {
                    Ok(_) => Ok(Value::Bool(true)),
                    Err(Failed::NoSuchKey) => Ok(Value::Bool(false)),
                    Err(e) => Err(e),
                }
            }
            Node::Index(pair) => member(pair.0.eval(cx)?, &pair.1.eval(cx)?, cx),
            Node::And(pair) => either(pair, false, cx),
            Node::Or(pair) => either(pair, true, cx),
            Node::Choice(c) => match c.0.eval(cx)? {
                Value::Bool(true) => c.1.eval(cx),
                Value::Bool(false) => c.2.eval(cx),
                _ => Err(Failed::Other),
            },
            Node::Call(f, args) => {
                let args = args.iter().map(|a| a.eval(cx)).collect::<Result<smallvec::SmallVec<_>, _>>()?;
                f.call(args, cx)
            }
            Node::Matches(text, pattern) => match text.eval(cx)? {
                Value::Text(t) => Ok(Value::Bool(pattern.is_match(&t))),
                _ => Err(Failed::Other),
            },
            Node::List(all) => Ok(Value::List(all.iter().map(|n| n.eval(cx)).collect::<Result<_, _>>()?)),
            Node::Map(all) => {
                let entry = |(k, v): &'a (Node, Node)| Ok((k.eval(cx)?, v.eval(cx)?));
                Ok(Value::Map(all.iter().map(entry).collect::<Result<_, _>>()?))
            }
        }
    }
}

/// `&&` and `||`: one side may decide although the other fails.
fn either<'a>(pair: &'a (Node, Node), decides: bool, cx: &FormatCx<'a>) -> Found<'a> {
    let truth = |n: &'a Node| match n.eval(cx) {
        Ok(Value::Bool(b)) => Ok(b),
        Ok(_) => Err(Failed::Other),
        Err(e) => Err(e),
    };
    let first = truth(&pair.0);
    if first == Ok(decides) {
        return Ok(Value::Bool(decides));
    }
    match truth(&pair.1) {
        Ok(b) if b == decides => Ok(Value::Bool(decides)),
        Err(e) => Err(first.err().unwrap_or(e)),
        Ok(b) => first.map(|_| Value::Bool(b)),
    }
}

/// What something has under a key, or at a place.
fn member<'a>(of: Value<'a>, key: &Value<'a>, cx: &FormatCx<'a>) -> Found<'a> {
    match (of, key) {
        (Value::Object(o), Value::Text(k)) => o.get(k, cx),
        (Value::Struct(mut s), Value::Text(k)) => {
            let key = std::str::from_utf8(k).map_err(|_| Failed::NoSuchKey)?;
            s.fields.remove(key).map(Value::of_proto).ok_or(Failed::NoSuchKey)
        }
        (Value::Map(all), k) => {
            let found = all.into_iter().find(|(mk, _)| mk.equals(k));
            found.map(|(_, v)| v).ok_or(Failed::NoSuchKey)
        }
        (Value::List(mut all), k) => {
            let i = place(k).filter(|i| *i < all.len()).ok_or(Failed::Other)?;
            Ok(all.swap_remove(i))
        }
        (Value::Constants(all), k) => {
            place(k).and_then(|i| all.get(i)).map(Value::reborrow).ok_or(Failed::Other)
        }
        (Value::Object(_) | Value::Struct(_), _) => Err(Failed::NoSuchKey),
        _ => Err(Failed::Other),
    }
}

fn place(k: &Value<'_>) -> Option<usize> {
    match k {
        Value::Int(n) => usize::try_from(*n).ok(),
        Value::Uint(n) => usize::try_from(*n).ok(),
        Value::Double(d) if d.fract() == 0.0 && *d >= 0.0 => Some(*d as usize),
        _ => None,
    }
}

/// `in`
pub(super) fn contains<'a>(key: &Value<'a>, of: &Value<'a>, cx: &FormatCx<'a>) -> Result<bool, Failed> {
    if let Some(all) = of.elements() {
        return Ok(all.iter().any(|v| v.equals(key)));
    }
    match of {
        Value::Object(_) | Value::Map(_) | Value::Struct(_) => match member(of.clone(), key, cx) {
            Ok(_) => Ok(true),
            Err(Failed::NoSuchKey) => Ok(false),
            Err(e) => Err(e),
        },
        _ => Err(Failed::Other),
    }
}

//! From the message to what is evaluated. What can be known of an expression before there is a request is found out here.

use super::attributes::{self, HeadersOf, Object};
use super::functions::{Function, Pattern};
use super::value::Value;
use super::{Options, eval};
use crate::error::{BuildError, BuildResult};
use nuncio_api::cel::expr as pb;
use nuncio_wire::HeaderName;
use pb::constant::ConstantKind as C;
use pb::expr::{Call, CreateStruct, ExprKind as K, create_struct::entry::KeyKind};
use std::borrow::Cow;

/// A compiled expression.
#[derive(Debug)]
pub(super) enum Node {
    Constant(Value<'static>),
    Group(Object),
    /// A name that stands for nothing.
    Unknown,
    /// A header whose name is known.
    Header(HeadersOf, HeaderName),
    Field {
        of: Box<Node>,
        key: Box<str>,
    },
    Has {
        of: Box<Node>,
        key: Box<str>,
    },
    Index(Box<(Node, Node)>),
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    Choice(Box<(Node, Node, Node)>),
    Call(Function, Box<[Node]>),
    Matches(Box<Node>, Pattern),
    List(Box<[Node]>),
    Map(Box<[(Node, Node)]>),
}

/// As deep as this; messages that are nested deeper do not decode.
const MAX_DEPTH: usize = 300;

/// Compiles.
pub(super) fn compile(e: &pb::Expr, options: Options) -> BuildResult<Node> {
    node(e, options, 0).map_err(|e| match e.is_not_implemented() {
        true => e,
        false => BuildError(format!("failed to create an expression: {e}")),
    })
}

fn node(e: &pb::Expr, o: Options, depth: usize) -> BuildResult<Node> {
    if depth > MAX_DEPTH {
        return Err("expression is too deep".into());
    }
    let sub = |e: &pb::Expr| node(e, o, depth + 1);
    let all = |es: &[pb::Expr]| es.iter().map(sub).collect::<BuildResult<Box<[Node]>>>();
    match e.expr_kind.as_ref().ok_or("Invalid empty expression")? {
        K::ConstExpr(c) => constant(c).map(Node::Constant),
        K::IdentExpr(i) => Ok(name(&i.name)),
        K::SelectExpr(s) => {
            let of = sub(s.operand.as_deref().ok_or("Invalid empty expression")?)?;
            if let Some(object) = eval::object(&of)
                && let Some(e) = attributes::unbuilt(object, &s.field)
            {
                return Err(e);
            }
            let key = s.field.as_str().into();
            Ok(match (s.test_only, &of) {
                (true, _) => Node::Has { of: of.into(), key },
                _ => field(of, &s.field),
            })
        }
        K::CallExpr(c) => call(c, o, &sub),
        K::ListExpr(l) => Ok(fold_list(all(&l.elements)?)),
        K::StructExpr(s) => map(s, &sub),
        K::ComprehensionExpr(_) => Err("Comprehension support is disabled".into()),
    }
}

/// A field of something, or a header.
fn field(of: Node, key: &str) -> Node {
    match eval::object(&of) {
        Some(Object::Headers(of)) => Node::Header(of, HeaderName::new(&key.to_ascii_lowercase())),
        _ => Node::Field { of: of.into(), key: key.into() },
    }
}

fn name(name: &str) -> Node {
    if let Some(object) = attributes::group(name) {
        return Node::Group(object);
    }
    const TYPES: &[&str] = &[
        "null_type",
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "type",
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
    ];
    match TYPES.iter().find(|t| **t == name) {
        Some(t) => Node::Constant(Value::Type(t)),
        None => Node::Unknown,
    }
}

fn constant(c: &pb::Constant) -> BuildResult<Value<'static>> {
    Ok(match c.constant_kind.as_ref().ok_or("Invalid empty constant")? {
        C::NullValue(_) => Value::Null,
        C::BoolValue(b) => Value::Bool(*b),
        C::Int64Value(n) => Value::Int(*n),
        C::Uint64Value(n) => Value::Uint(*n),
        C::DoubleValue(d) => Value::Double(*d),
        C::StringValue(s) => Value::text(s.as_str()),
        C::BytesValue(b) => Value::Bytes(Cow::Owned(b.to_vec())),
        C::DurationValue(d) => {
            Value::Duration(d.seconds.saturating_mul(super::time::SECOND).saturating_add(d.nanos.into()))
        }
        C::TimestampValue(t) => {
            Value::Timestamp(i128::from(t.seconds) * i128::from(super::time::SECOND) + i128::from(t.nanos))
        }
    })
}

/// A list of constants is made once.
fn fold_list(nodes: Box<[Node]>) -> Node {
    if !nodes.iter().all(|n| matches!(n, Node::Constant(_))) {
        return Node::List(nodes);
    }
    let values = nodes.into_iter().filter_map(|n| match n {
        Node::Constant(v) => Some(v),
        _ => None,
    });
    Node::Constant(Value::List(values.collect()))
}

fn map(s: &CreateStruct, sub: &dyn Fn(&pb::Expr) -> BuildResult<Node>) -> BuildResult<Node> {
    if !s.message_name.is_empty() {
        let name = &s.message_name;
        return Err(BuildError(format!("Invalid struct creation: missing type info for '{name}'")));
    }
    let entry = |e: &pb::expr::create_struct::Entry| {
        let key = match &e.key_kind {
            Some(KeyKind::MapKey(k)) => sub(k)?,
            Some(KeyKind::FieldKey(k)) => Node::Constant(Value::text(k.as_str())),
            None => return Err("Invalid empty expression".into()),
        };
        Ok((key, sub(e.value.as_ref().ok_or("Invalid empty expression")?)?))
    };
    s.entries.iter().map(entry).collect::<BuildResult<_>>().map(Node::Map)
}

fn call(c: &Call, o: Options, sub: &dyn Fn(&pb::Expr) -> BuildResult<Node>) -> BuildResult<Node> {
    let mut args = c.target.iter().map(|t| &**t).chain(&c.args).map(sub).collect::<BuildResult<Vec<_>>>()?;
    let missing = || BuildError(format!("No overload found in reference resolve step for {}", c.function));
    let pair =
        |args: Vec<Node>| <[Node; 2]>::try_from(args).map(|[a, b]| Box::new((a, b))).map_err(|_| missing());
    match &*c.function {
        "_&&_" => return pair(args).map(Node::And),
        "_||_" => return pair(args).map(Node::Or),
        "_[_]" => {
            let pair = pair(args)?;
            if let (Some(Object::Headers(of)), Node::Constant(Value::Text(key))) =
                (eval::object(&pair.0), &pair.1)
            {
                let key = String::from_utf8_lossy(key).to_ascii_lowercase();
                return Ok(Node::Header(of, HeaderName::new(&key)));
            }
            return Ok(Node::Index(pair));
        }
        "_?_:_" => {
            let [a, b, c] = <[Node; 3]>::try_from(args).map_err(|_| missing())?;
            return Ok(Node::Choice(Box::new((a, b, c))));
        }
        // A pattern that is known is compiled once.
        "matches" if matches!(&args[..], [_, Node::Constant(Value::Text(_))]) => {
            let [text, pattern] = <[Node; 2]>::try_from(args).map_err(|_| missing())?;
            let Node::Constant(Value::Text(p)) = pattern else { return Err(missing()) };
            let p = Pattern::new(&p).map_err(|e| BuildError(format!("invalid regular expression: {e}")))?;
            return Ok(Node::Matches(text.into(), p));
        }
        _ => {}
    }
    let f = Function::named(&c.function, args.len(), c.target.is_some(), o)?.ok_or_else(missing)?;
    args.shrink_to_fit();
    Ok(Node::Call(f, args.into()))
}

//! `google.protobuf.Struct` as a tree: the value of a `TypedStruct` that came as protobuf.

use super::{Kind, Position, Tree};
use prost_types::{Struct, Value as Proto, value::Kind as ProtoKind};

/// The tree of a struct. Nodes have no position. A struct's depth is bounded by prost's decoder.
pub fn from_struct(value: &Struct) -> Tree<'static> {
    let mut tree = Tree { source: "", extra: String::new(), rows: Vec::new(), unique_keys: false };
    object(&mut tree, value);
    tree
}

fn object(tree: &mut Tree<'static>, object: &Struct) {
    let row = tree.push(Kind::Map, Position::default(), 0, 0);
    for (key, inner) in &object.fields {
        tree.push_text(key, Position::default());
        value(tree, inner);
    }
    tree.close(row, u32::try_from(object.fields.len()).unwrap_or(u32::MAX));
}

fn value(tree: &mut Tree<'static>, proto: &Proto) {
    let none = Position::default();
    match &proto.kind {
        None | Some(ProtoKind::NullValue(_)) => {
            tree.push(Kind::Null, none, 0, 0);
        }
        Some(ProtoKind::BoolValue(value)) => {
            tree.push(if *value { Kind::True } else { Kind::False }, none, 0, 0);
        }
        Some(ProtoKind::NumberValue(number)) => {
            tree.push_number(&number.to_string(), none);
        }
        Some(ProtoKind::StringValue(text)) => {
            tree.push_text(text, none);
        }
        Some(ProtoKind::StructValue(inner)) => object(tree, inner),
        Some(ProtoKind::ListValue(list)) => {
            let row = tree.push(Kind::Seq, none, 0, 0);
            list.values.iter().for_each(|inner| value(tree, inner));
            tree.close(row, u32::try_from(list.values.len()).unwrap_or(u32::MAX));
        }
    }
}

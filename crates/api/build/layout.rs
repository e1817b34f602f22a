//! Estimates the size of the prost structs, to decide which fields to box.
//!
//! Envoy's `Cluster`, `Listener` and `RouteAction` are wide: with every optional message inline a `Cluster` takes
//! several KiB, nearly all of it `None`. A field whose message is larger than [`LARGE`] bytes is boxed.

use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::HashMap;

/// Messages above this many bytes are boxed where they are a field or a oneof's case.
const LARGE: usize = 128;

/// Paths of the fields to box, as prost-build wants them: `.package.Message[.oneof].field`.
pub fn boxed_fields(pool: &DescriptorPool) -> Vec<String> {
    let mut sizes = Sizes::default();
    let mut out = Vec::new();
    for message in pool.all_messages().filter(|message| !message.is_map_entry()) {
        for field in message.fields() {
            let large = |inner: MessageDescriptor| {
                !is_native(&inner) && !is_copy(&inner, &mut Vec::new()) && sizes.of(&inner) > LARGE
            };
            if singular(&field).is_some_and(large) {
                let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
                let oneof = oneof.map(|oneof| format!(".{}", oneof.name())).unwrap_or_default();
                out.push(format!(".{}{oneof}.{}", message.full_name(), field.name()));
            }
        }
    }
    out
}

fn singular(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match (field.cardinality(), field.kind()) {
        (Cardinality::Optional, Kind::Message(message)) => Some(message),
        _ => None,
    }
}

/// Well-known types, which prost maps to its own types.
fn is_native(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf"
}

/// Whether prost derives `Copy`: it then does so for what contains the message too, which a box would break.
/// A recursive message holds a box, and so does not.
fn is_copy(message: &MessageDescriptor, within: &mut Vec<String>) -> bool {
    if within.iter().any(|name| name == message.full_name()) {
        return false;
    }
    within.push(message.full_name().to_string());
    let copy = message.fields().all(|field| match (field.cardinality(), field.kind()) {
        (Cardinality::Repeated, _) | (_, Kind::String | Kind::Bytes) => false,
        (_, Kind::Message(inner)) if is_native(&inner) => {
            matches!(inner.name(), "Duration" | "Timestamp" | "Empty") || copy_wrapper(&inner)
        }
        (_, Kind::Message(inner)) => is_copy(&inner, within),
        _ => true,
    });
    within.pop();
    copy
}

fn copy_wrapper(message: &MessageDescriptor) -> bool {
    message.name().ends_with("Value")
        && !matches!(message.name(), "StringValue" | "BytesValue" | "ListValue" | "Value")
}

#[derive(Default)]
struct Sizes {
    known: HashMap<String, usize>,
}

impl Sizes {
    fn of(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(size) = self.known.get(message.full_name()) {
            return *size;
        }
        // A recursive field is boxed by prost anyway.
        self.known.insert(message.full_name().to_string(), 8);
        let mut size = 0;
        for field in
            message.fields().filter(|field| field.containing_oneof().is_none_or(|o| o.is_synthetic()))
        {
            size += self.field(&field);
        }
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            size += 8 + oneof.fields().map(|field| self.field(&field)).max().unwrap_or(0);
        }
        self.known.insert(message.full_name().to_string(), size);
        size
    }

    fn field(&mut self, field: &FieldDescriptor) -> usize {
        if field.cardinality() == Cardinality::Repeated {
            return 24;
        }
        match field.kind() {
            Kind::String | Kind::Bytes => 24,
            Kind::Message(inner) => match inner.full_name() {
                "google.protobuf.Any" => 48,
                name if name.starts_with("google.protobuf.") => 24,
                _ => match self.of(&inner) {
                    size if size > LARGE && !is_copy(&inner, &mut Vec::new()) => 8,
                    size => size + 8,
                },
            },
            _ => 8,
        }
    }
}

//! Merges `protos/amend/` into the protos we compile.
//!
//! A file there has the path of the proto that it amends and holds only what Envoy 1.40.0 has on top: messages, enums,
//! enum values and fields. A field whose number exists already is replaced (a newer name or stricter rules).

use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// Merges `amendment` into `file`.
pub fn amend(file: &mut FileDescriptorProto, amendment: FileDescriptorProto) {
    for import in amendment.dependency {
        if !file.dependency.contains(&import) {
            file.dependency.push(import);
        }
    }
    for message in amendment.message_type {
        merge_message(&mut file.message_type, message);
    }
    for enumeration in amendment.enum_type {
        merge_enum(&mut file.enum_type, enumeration);
    }
}

fn merge_message(into: &mut Vec<DescriptorProto>, from: DescriptorProto) {
    let Some(message) = into.iter_mut().find(|message| message.name == from.name) else {
        into.push(from);
        return;
    };
    for nested in from.nested_type {
        merge_message(&mut message.nested_type, nested);
    }
    for enumeration in from.enum_type {
        merge_enum(&mut message.enum_type, enumeration);
    }
    for field in from.field {
        merge_field(&mut message.field, field);
    }
}

fn merge_field(into: &mut Vec<FieldDescriptorProto>, from: FieldDescriptorProto) {
    match into.iter_mut().find(|field| field.number == from.number) {
        Some(field) => *field = FieldDescriptorProto { oneof_index: field.oneof_index, ..from },
        None => into.push(from),
    }
}

fn merge_enum(into: &mut Vec<EnumDescriptorProto>, from: EnumDescriptorProto) {
    match into.iter_mut().find(|enumeration| enumeration.name == from.name) {
        Some(enumeration) => enumeration.value.extend(from.value),
        None => into.push(from),
    }
}

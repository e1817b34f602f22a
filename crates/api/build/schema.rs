//! Generates the static schema tables that `src/schema` includes.
//!
//! Names sit in one string and rows refer to each other by index, so that the tables hold no pointers: they need no
//! relocation at start-up and compile fast.

use crate::{Error, rules};
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    Value,
};
use std::collections::HashMap;
use std::fmt::Write;

/// The text of `schema_data.rs`.
pub fn generate(pool: &DescriptorPool) -> Result<String, Error> {
    let mut messages: Vec<_> = pool.all_messages().filter(|m| !is_meta(m.full_name())).collect();
    messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    let mut enums: Vec<_> = pool.all_enums().filter(|e| !is_meta(e.full_name())).collect();
    enums.sort_by(|a, b| a.full_name().cmp(b.full_name()));

    let mut tables = Tables { pool: Some(pool), ..Tables::default() };
    tables.message_ids = messages.iter().enumerate().map(|(id, m)| (m.full_name().to_string(), id)).collect();
    tables.enum_ids = enums.iter().enumerate().map(|(id, e)| (e.full_name().to_string(), id)).collect();
    tables.rule_set(String::new());
    for enumeration in &enums {
        tables.enumeration(enumeration);
    }
    for message in &messages {
        tables.message(message)?;
    }
    Ok(tables.finish())
}

/// Messages that describe protos and never occur as data.
fn is_meta(name: &str) -> bool {
    let descriptor = ["Descriptor", "Options", "Feature", "SourceCode", "GeneratedCode"];
    name.starts_with("validate.")
        || name.starts_with("google.protobuf.") && descriptor.iter().any(|part| name.contains(part))
        || name.contains(".annotations.")
}

/// The value of an option of a descriptor.
pub fn option(options: &DynamicMessage, pool: &DescriptorPool, name: &str) -> Option<Value> {
    let extension = pool.get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

/// Whether an annotation says that something is work in progress.
fn in_progress(options: &DynamicMessage, pool: &DescriptorPool, annotation: &str) -> bool {
    let Some(Value::Message(status)) = option(options, pool, annotation) else { return false };
    status.get_field_by_name("work_in_progress").and_then(|value| value.as_bool()).unwrap_or(false)
}

/// Files that are work in progress for Envoy 1.40.0, while the copy at hand has no annotations.
const IN_PROGRESS: [&str; 7] = [
    "envoy/extensions/http/ai_filters/schema_validation/v3/schema_validation.proto",
    "envoy/extensions/http/ai_filters/transcoder/v3/transcoder.proto",
    "xds/core/v3/cidr.proto",
    "xds/core/v3/resource.proto",
    "xds/core/v3/resource_name.proto",
    "xds/type/matcher/v3/domain.proto",
    "xds/type/matcher/v3/ip.proto",
];

fn flag(options: &DynamicMessage, pool: &DescriptorPool, name: &str) -> bool {
    option(options, pool, name).and_then(|value| value.as_bool()).unwrap_or(false)
}

#[derive(Default)]
struct Tables<'a> {
    pool: Option<&'a DescriptorPool>,
    message_ids: HashMap<String, usize>,
    enum_ids: HashMap<String, usize>,
    strings: String,
    string_offsets: HashMap<String, usize>,
    values: Vec<String>,
    enums: Vec<String>,
    rule_sets: Vec<String>,
    rule_ids: HashMap<String, usize>,
    fields: Vec<String>,
    names: Vec<usize>,
    numbers: Vec<usize>,
    oneofs: Vec<String>,
    messages: Vec<String>,
}

impl Tables<'_> {
    fn string(&mut self, text: &str) -> String {
        let strings = &mut self.strings;
        let offset = *self.string_offsets.entry(text.to_string()).or_insert_with(|| {
            strings.push_str(text);
            strings.len() - text.len()
        });
        format!("s({offset},{})", text.len())
    }

    fn rule_set(&mut self, rules: String) -> usize {
        let next = self.rule_sets.len();
        let id = *self.rule_ids.entry(rules.clone()).or_insert(next);
        if id == next {
            self.rule_sets.push(rules);
        }
        id
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptor) {
        let name = self.string(enumeration.full_name());
        let start = self.values.len();
        let mut values: Vec<_> = enumeration.values().collect();
        values.sort_by_key(|value| value.number());
        for value in &values {
            let name = self.string(value.name());
            let deprecated =
                value.enum_value_descriptor_proto().options.as_ref().is_some_and(|o| o.deprecated());
            let disallowed = self.pool.is_some_and(|pool| {
                flag(&value.options(), pool, "envoy.annotations.disallowed_by_default_enum")
            });
            let flags = u8::from(deprecated) | u8::from(disallowed) << 2;
            self.values.push(format!("EnumValue{{number:{},name:{name},flags:{flags}}}", value.number()));
        }
        self.enums.push(format!("Enum{{name:{name},values:sp({start},{})}}", values.len()));
    }

    fn message(&mut self, message: &MessageDescriptor) -> Result<(), Error> {
        let pool = self.pool.ok_or("no pool")?;
        let name = self.string(message.full_name());
        let proto = message.parent_file();
        let in_file = IN_PROGRESS.contains(&proto.name())
            || ["xds.annotations.v3.file_status", "udpa.annotations.file_status"]
                .iter()
                .any(|annotation| in_progress(&proto.options(), pool, annotation));
        let marked = in_progress(&message.options(), pool, "xds.annotations.v3.message_status");
        let flags = u8::from(marked) | u8::from(in_file) << 1;
        let file = self.string(proto.name().rsplit('/').next().unwrap_or_default());
        let fields: Vec<_> = message.fields().collect();
        let mut declared = fields.clone();
        // prost-reflect yields fields by number; rules are checked in the order of declaration.
        declared.sort_by_key(|field| field.path().last().copied());
        let oneofs: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();

        let first_field = self.fields.len();
        for field in &declared {
            let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            let oneof = oneof.and_then(|oneof| oneofs.iter().position(|known| known.name() == oneof.name()));
            let row = self.field(field, oneof, pool)?;
            self.fields.push(row);
        }

        let mut numbers: Vec<usize> = (0..declared.len()).collect();
        numbers.sort_by_key(|index| declared[*index].number());
        self.numbers.extend(numbers);

        // An entry is twice the field's index, plus one for the JSON name.
        let mut names: Vec<(String, usize)> = Vec::new();
        for (index, field) in declared.iter().enumerate() {
            names.push((field.name().to_string(), 2 * index));
            if field.json_name() != field.name() {
                names.push((field.json_name().to_string(), 2 * index + 1));
            }
        }
        names.sort();
        let first_name = self.names.len();
        self.names.extend(names.iter().map(|(_, entry)| *entry));

        let first_oneof = self.oneofs.len();
        for oneof in &oneofs {
            let required = flag(&oneof.options(), pool, "validate.required");
            let name = self.string(oneof.name());
            self.oneofs.push(format!("Oneof{{name:{name},required:{required}}}"));
        }

        let unchecked = flag(&message.options(), pool, "validate.disabled")
            || flag(&message.options(), pool, "validate.ignored");
        self.messages.push(format!(
            "Message{{name:{name},file:{file},kind:Kind::{},unchecked:{unchecked},map_entry:{},flags:{flags},fields:sp({first_field},{}),\
             names:sp({first_name},{}),oneofs:sp({first_oneof},{})}}",
            kind(message.full_name()),
            message.is_map_entry(),
            declared.len(),
            names.len(),
            oneofs.len(),
        ));
        Ok(())
    }

    fn field(
        &mut self,
        field: &FieldDescriptor,
        oneof: Option<usize>,
        pool: &DescriptorPool,
    ) -> Result<String, Error> {
        let options = field.options();
        let rules = match option(&options, pool, "validate.rules") {
            Some(Value::Message(rules)) => rules::list(&rules)?,
            _ => String::new(),
        };
        let rules = self.rule_set(rules);
        let presence = if field.is_map() {
            "Map"
        } else if field.cardinality() == Cardinality::Repeated {
            if field.is_packed() { "Packed" } else { "Repeated" }
        } else if field.supports_presence() {
            "Explicit"
        } else {
            "Implicit"
        };
        let mut flags = 0;
        if field.field_descriptor_proto().options.as_ref().is_some_and(|options| options.deprecated()) {
            flags |= 1;
        }
        if flag(&options, pool, "udpa.annotations.sensitive") {
            flags |= 2;
        }
        if flag(&options, pool, "envoy.annotations.disallowed_by_default") {
            flags |= 4;
        }
        if in_progress(&options, pool, "xds.annotations.v3.field_status") {
            flags |= 16;
        }
        if let Kind::Enum(enumeration) = field.kind() {
            let deprecated = |value: prost_reflect::EnumValueDescriptor| {
                value
                    .enum_value_descriptor_proto()
                    .options
                    .as_ref()
                    .is_some_and(|options| options.deprecated())
            };
            if enumeration.values().any(deprecated) {
                flags |= 8;
            }
        }
        let name = self.string(field.name());
        let json_name = self.string(field.json_name());
        Ok(format!(
            "Field{{name:{name},json_name:{json_name},number:{},ty:{},presence:Presence::{presence},oneof:{},\
             flags:{flags},rules:{rules}}}",
            field.number(),
            self.ty(field.kind()),
            oneof.map_or(-1, |oneof| oneof as i32),
        ))
    }

    fn ty(&self, kind: Kind) -> String {
        match kind {
            Kind::Message(message) => format!("Type::Message({})", self.message_ids[message.full_name()]),
            Kind::Enum(enumeration) => format!("Type::Enum({})", self.enum_ids[enumeration.full_name()]),
            scalar => {
                // Its debug form is the proto's keyword: `uint32`.
                let keyword = format!("{scalar:?}");
                format!("Type::{}{}", keyword[..1].to_ascii_uppercase(), &keyword[1..])
            }
        }
    }

    fn finish(self) -> String {
        let mut out = String::from("// Generated by build/schema.rs.\n");
        let mut table = |name: &str, ty: &str, rows: &[String]| {
            writeln!(out, "pub(super) static {name}: [{ty}; {}] = [", rows.len()).ok();
            for row in rows {
                writeln!(out, "{row},").ok();
            }
            writeln!(out, "];").ok();
        };
        let rule_sets: Vec<_> = self.rule_sets.iter().map(|rules| format!("&[{rules}]")).collect();
        let text = |list: &[usize]| list.iter().map(usize::to_string).collect::<Vec<_>>();
        table("MESSAGES", "Message", &self.messages);
        table("FIELDS", "Field", &self.fields);
        table("NAMES", "u16", &text(&self.names));
        table("NUMBERS", "u16", &text(&self.numbers));
        table("ONEOFS", "Oneof", &self.oneofs);
        table("ENUMS", "Enum", &self.enums);
        table("VALUES", "EnumValue", &self.values);
        table("RULES", "&[Rule]", &rule_sets);
        writeln!(out, "pub(super) static STRINGS: &str = {:?};", self.strings).ok();
        out
    }
}

/// How JSON treats the message.
fn kind(name: &str) -> &'static str {
    match name.strip_prefix("google.protobuf.") {
        Some("Any") => "Any",
        Some("Duration") => "Duration",
        Some("Timestamp") => "Timestamp",
        Some("Struct") => "Struct",
        Some("Value") => "Value",
        Some("ListValue") => "ListValue",
        Some("FieldMask") => "FieldMask",
        Some(name) if name.ends_with("Value") && name != "EnumValue" => "Wrapper",
        _ => match name {
            "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct" => "TypedStruct",
            _ => "Plain",
        },
    }
}

//! The schema of every message: static tables generated from the protos.
//!
//! One table-driven engine serves files, xDS resources, `/config_dump` and tests; these are its tables. Rows refer to
//! each other by index and names are slices of one string, so the tables need no relocation and cost nothing until read.

mod rule;
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
mod tables {
    use super::rule::{Bound, HEADER_NAME, HEADER_VALUE, NO_LINE_BREAK, Rule};
    use super::{Enum, EnumValue, Field, Kind, Message, Oneof, Presence, Span, Text, Type};

    const fn s(offset: u32, len: u16) -> Text {
        Text { offset, len }
    }
    const fn sp(start: u32, len: u16) -> Span {
        Span { start, len }
    }
    include!(concat!(env!("OUT_DIR"), "/schema_data.rs"));
}

pub use rule::{Bound, HEADER_NAME, HEADER_VALUE, NO_LINE_BREAK, Rule};
use tables::{ENUMS, FIELDS, MESSAGES, NAMES, NUMBERS, ONEOFS, RULES, STRINGS, VALUES};

/// A slice of the table of names.
#[derive(Clone, Copy)]
struct Text {
    offset: u32,
    len: u16,
}

impl Text {
    fn get(self) -> &'static str {
        let start = self.offset as usize;
        &STRINGS[start..start + usize::from(self.len)]
    }
}

/// A range of rows of another table.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u16,
}

impl Span {
    fn of<T>(self, table: &'static [T]) -> &'static [T] {
        let start = self.start as usize;
        &table[start..start + usize::from(self.len)]
    }
}

/// How proto3 JSON treats a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object with the message's fields.
    Plain,
    /// `google.protobuf.Any`: the inner message's JSON plus `@type`.
    Any,
    /// `google.protobuf.Duration`: `"1.5s"`.
    Duration,
    /// `google.protobuf.Timestamp`: RFC 3339.
    Timestamp,
    /// `google.protobuf.Struct`: any JSON object.
    Struct,
    /// `google.protobuf.Value`: any JSON value.
    Value,
    /// `google.protobuf.ListValue`: any JSON list.
    ListValue,
    /// `google.protobuf.FieldMask`: comma-separated paths.
    FieldMask,
    /// `google.protobuf.UInt32Value` and friends: the bare value.
    Wrapper,
    /// `xds.type.v3.TypedStruct` or `udpa.type.v1.TypedStruct`: an object, but inside an `Any` it stands for the
    /// message that its `type_url` names.
    TypedStruct,
}

/// The type of a field, of a list's element or of a map's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Message(u16),
    Enum(u16),
}

impl Type {
    /// The message, if this is one.
    pub fn message(self) -> Option<&'static Message> {
        match self {
            Self::Message(id) => Some(&MESSAGES[usize::from(id)]),
            _ => None,
        }
    }

    /// The enum, if this is one.
    pub fn enumeration(self) -> Option<&'static Enum> {
        match self {
            Self::Enum(id) => Some(&ENUMS[usize::from(id)]),
            _ => None,
        }
    }

    /// The wire type (0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes).
    pub fn wire_type(self) -> u8 {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => 1,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => 5,
            Self::String | Self::Bytes | Self::Message(_) => 2,
            _ => 0,
        }
    }

    /// The name of the type as protobuf's JSON errors print it (`string`, `uint32`, `message a.B`, `enum a.C`).
    pub fn describe(self) -> String {
        match self {
            Self::Message(id) => format!("message {}", MESSAGES[usize::from(id)].name()),
            Self::Enum(id) => format!("enum {}", ENUMS[usize::from(id)].name()),
            scalar => format!("{scalar:?}").to_ascii_lowercase(),
        }
    }
}

/// Whether and how often a field occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A scalar whose default value is the same as absence.
    Implicit,
    /// A message, a member of a oneof or an `optional` scalar.
    Explicit,
    /// A list with one wire record per element.
    Repeated,
    /// A list of numbers in one wire record.
    Packed,
    /// A map; the field's type is the entry message.
    Map,
}

/// A message.
pub struct Message {
    name: Text,
    file: Text,
    /// How JSON treats it.
    pub kind: Kind,
    /// Its rules are switched off (`validate.disabled`).
    pub unchecked: bool,
    /// It is the entry of a map.
    pub map_entry: bool,
    flags: u8,
    fields: Span,
    names: Span,
    oneofs: Span,
}

/// A field.
pub struct Field {
    name: Text,
    json_name: Text,
    /// Field number.
    pub number: u32,
    /// Type (of the element, for a list).
    pub ty: Type,
    /// Whether and how often it occurs.
    pub presence: Presence,
    oneof: i8,
    flags: u8,
    rules: u16,
}

/// A oneof.
pub struct Oneof {
    name: Text,
    /// One of its cases must be set.
    pub required: bool,
}

/// An enum.
pub struct Enum {
    name: Text,
    values: Span,
}

/// A value of an enum.
pub struct EnumValue {
    /// Number on the wire.
    pub number: i32,
    name: Text,
    flags: u8,
}

/// The message of that full name, e.g. `envoy.config.core.v3.Node`.
pub fn message(name: &str) -> Option<&'static Message> {
    MESSAGES.binary_search_by(|message| message.name().cmp(name)).ok().map(|id| &MESSAGES[id])
}

/// The message that a type URL names: what follows the last `/`.
pub fn message_of_url(type_url: &str) -> Option<&'static Message> {
    message(type_url.rsplit_once('/').map_or(type_url, |(_, name)| name))
}

/// All messages, by name.
pub fn messages() -> &'static [Message] {
    &MESSAGES
}

impl Message {
    /// Full name.
    pub fn name(&self) -> &'static str {
        self.name.get()
    }

    /// Name of the proto file, without its folders.
    pub fn file(&self) -> &'static str {
        self.file.get()
    }

    /// Name of the proto file, with its folders: those of its package.
    pub fn path(&self) -> String {
        let package = self.name().split('.').take_while(|part| !part.starts_with(char::is_uppercase));
        package.chain([self.file()]).collect::<Vec<_>>().join("/")
    }

    /// Marked as work in progress (`xds.annotations.v3.message_status`).
    pub fn in_progress(&self) -> bool {
        self.flags & 1 != 0
    }

    /// In a proto file that is marked as work in progress (`xds.annotations.v3.file_status`).
    pub fn in_file_in_progress(&self) -> bool {
        self.flags & 2 != 0
    }

    /// Position among [`messages`].
    pub fn id(&self) -> usize {
        let offset = (std::ptr::from_ref(self) as usize).wrapping_sub(MESSAGES.as_ptr() as usize);
        offset / size_of::<Self>()
    }

    /// Name without package and without the messages around it.
    pub fn short_name(&self) -> &'static str {
        let name = self.name();
        name.rsplit_once('.').map_or(name, |(_, short)| short)
    }

    /// Fields in the order of declaration, which is the order in which rules are checked.
    pub fn fields(&self) -> &'static [Field] {
        self.fields.of(&FIELDS)
    }

    /// Oneofs in the order of declaration.
    pub fn oneofs(&self) -> &'static [Oneof] {
        self.oneofs.of(&ONEOFS)
    }

    /// The position among [`Self::fields`] of the field with that proto name or JSON name.
    pub fn index_of_name(&self, name: &str) -> Option<usize> {
        let (fields, names) = (self.fields(), self.names.of(&NAMES));
        let spelling = |entry: &u16| {
            let field = &fields[usize::from(entry / 2)];
            if entry.is_multiple_of(2) { field.name() } else { field.json_name() }
        };
        let at = names.binary_search_by(|entry| spelling(entry).cmp(name)).ok()?;
        Some(usize::from(names[at] / 2))
    }

    /// The position among [`Self::fields`] of the field with that number.
    pub fn index_of_number(&self, number: u32) -> Option<usize> {
        let fields = self.fields();
        // Most messages declare their fields in order and without gaps.
        let guess = (number as usize).wrapping_sub(1);
        if fields.get(guess).is_some_and(|field| field.number == number) {
            return Some(guess);
        }
        let numbers = Span { start: self.fields.start, len: self.fields.len }.of(&NUMBERS);
        let at = numbers.binary_search_by(|index| fields[usize::from(*index)].number.cmp(&number)).ok()?;
        Some(usize::from(numbers[at]))
    }

    /// The field with that proto name or JSON name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.index_of_name(name).map(|index| &self.fields()[index])
    }
}

impl Field {
    /// Name in the proto, `snake_case`.
    pub fn name(&self) -> &'static str {
        self.name.get()
    }

    /// Name in JSON, `lowerCamelCase`.
    pub fn json_name(&self) -> &'static str {
        self.json_name.get()
    }

    /// The position among the message's oneofs of the one it belongs to.
    pub fn oneof(&self) -> Option<usize> {
        usize::try_from(self.oneof).ok()
    }

    /// Marked as deprecated.
    pub fn deprecated(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Holds a secret (`udpa.annotations.sensitive`).
    pub fn sensitive(&self) -> bool {
        self.flags & 2 != 0
    }

    /// Deprecated, and Envoy refuses it unless a runtime key allows it (`envoy.annotations.disallowed_by_default`).
    pub fn disallowed(&self) -> bool {
        self.flags & 4 != 0
    }

    /// An enum of which a value is deprecated.
    pub fn has_deprecated_value(&self) -> bool {
        self.flags & 8 != 0
    }

    /// Marked as work in progress (`xds.annotations.v3.field_status`).
    pub fn in_progress(&self) -> bool {
        self.flags & 16 != 0
    }

    /// protoc-gen-validate rules, in the order in which they are checked.
    pub fn rules(&self) -> &'static [Rule] {
        RULES[usize::from(self.rules)]
    }

    /// Whether a record of that wire type is of this field: a list of numbers may be packed or not.
    pub fn takes(&self, wire_type: u8) -> bool {
        wire_type == self.ty.wire_type() || self.is_list() && wire_type == 2 && self.ty.wire_type() != 2
    }

    /// It is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.presence, Presence::Repeated | Presence::Packed)
    }
}

impl Oneof {
    /// Name.
    pub fn name(&self) -> &'static str {
        self.name.get()
    }
}

impl Enum {
    /// Full name.
    pub fn name(&self) -> &'static str {
        self.name.get()
    }

    /// Values by number.
    pub fn values(&self) -> &'static [EnumValue] {
        self.values.of(&VALUES)
    }

    /// The value of a number (the first declared of aliases).
    pub fn value(&self, number: i32) -> Option<&'static EnumValue> {
        let values = self.values();
        let at = values.partition_point(|value| value.number < number);
        values.get(at).filter(|value| value.number == number)
    }

    /// The name of a number.
    pub fn name_of(&self, number: i32) -> Option<&'static str> {
        self.value(number).map(EnumValue::name)
    }

    /// The number of a name: as spelled, else in any case.
    pub fn number_of(&self, name: &str) -> Option<i32> {
        let values = self.values();
        let exact = values.iter().find(|value| value.name() == name);
        let value = exact.or_else(|| values.iter().find(|value| value.name().eq_ignore_ascii_case(name)))?;
        Some(value.number)
    }
}

impl EnumValue {
    /// Name.
    pub fn name(&self) -> &'static str {
        self.name.get()
    }

    /// Marked as deprecated.
    pub fn deprecated(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Deprecated, and Envoy refuses it unless a runtime key allows it.
    pub fn disallowed(&self) -> bool {
        self.flags & 4 != 0
    }
}

#[cfg(test)]
mod tests;

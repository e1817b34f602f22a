//! What an `Any` holds, for those who make extensions.

use crate::encode::encode;
use crate::error::{ConfigError, ConfigErrors, Stage};
use crate::load::UnknownFields;
use crate::schema::{self, Kind};
use crate::tree::from_struct;
use crate::validate::{Violation, ViolationKind, validate};
use crate::xds::r#type::v3::TypedStruct;
use prost::{Message, Name};
use prost_types::Any;

/// The type URL under which an extension for an `Any` is to be looked up: that inside, if it is a `TypedStruct`.
pub fn effective_type_url(any: &Any) -> String {
    match typed_struct(any) {
        Some(typed) => typed.type_url,
        None => any.type_url.clone(),
    }
}

/// Decodes the message of an `Any`, after its rules were checked. A `TypedStruct` is read as the message that it stands
/// for. An empty `Any` is an empty message. Unknown fields are left out, as Envoy does with what xDS brings.
///
/// # Errors
/// A type URL that names another message, bytes that are not that message, and every rule that is broken.
pub fn decode_any<M: Message + Name + Default>(any: &Any) -> Result<M, ConfigErrors> {
    decode_any_with(any, UnknownFields::Ignore)
}

/// Likewise, with a choice of what to do with unknown fields (`--reject-unknown-dynamic-fields`).
///
/// # Errors
/// Those of [`decode_any`], and unknown fields if they are to be refused.
pub fn decode_any_with<M: Message + Name + Default>(
    any: &Any,
    unknown: UnknownFields,
) -> Result<M, ConfigErrors> {
    let wire;
    let mut bytes = any.value.as_slice();
    let mut url = any.type_url.as_str();
    let typed = typed_struct(any);
    if let Some(typed) = &typed {
        url = &typed.type_url;
        wire = encode_struct(typed)?;
        bytes = &wire;
    }
    let wanted = M::full_name();
    let found = url.rsplit_once('/').map_or(url, |(_, name)| name);
    if found != wanted && !(url.is_empty() && bytes.is_empty()) {
        let phrase = format!("Unable to unpack as {wanted}: [{url}]");
        return Err(ConfigError::new(Stage::Shape, phrase).into());
    }
    if let Some(schema) = schema::message(&wanted) {
        let violations = validate(schema, bytes);
        let refused = violations.into_iter().filter(|violation| match violation.kind {
            ViolationKind::Rule => true,
            ViolationKind::UnknownField => unknown == UnknownFields::Refuse,
            ViolationKind::Deprecated | ViolationKind::InProgress => false,
        });
        let errors: Vec<_> = refused.map(Violation::into_error).collect();
        if !errors.is_empty() {
            return Err(ConfigErrors::new(errors));
        }
    }
    M::decode(bytes).map_err(|error| {
        ConfigError::new(Stage::Shape, format!("Unable to unpack as {wanted}: {error}")).into()
    })
}

/// Packs a message into an `Any`.
pub fn pack_any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn typed_struct(any: &Any) -> Option<TypedStruct> {
    schema::message_of_url(&any.type_url).filter(|schema| schema.kind == Kind::TypedStruct)?;
    // Both kinds have the same fields.
    TypedStruct::decode(any.value.as_slice()).ok()
}

/// The message that a `TypedStruct` stands for, as protobuf bytes.
fn encode_struct(typed: &TypedStruct) -> Result<Vec<u8>, ConfigErrors> {
    let Some(schema) = schema::message_of_url(&typed.type_url) else {
        let phrase = format!("could not find @type '{}'", typed.type_url);
        return Err(ConfigError::new(Stage::Shape, phrase).into());
    };
    let tree = from_struct(typed.value.as_ref().unwrap_or(&prost_types::Struct::default()));
    let (bytes, errors) = encode(schema, tree.root());
    if errors.is_empty() { Ok(bytes) } else { Err(ConfigErrors::new(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::extensions::filters::http::buffer::v3::Buffer;
    use crate::envoy::extensions::filters::http::router::v3::Router;
    use prost_types::{Struct, Value, value::Kind as ProtoKind};

    fn typed(url: &str, field: &str, kind: ProtoKind) -> Any {
        let fields = [(field.to_string(), Value { kind: Some(kind) })].into();
        pack_any(&TypedStruct { type_url: url.to_string(), value: Some(Struct { fields }) })
    }

    #[test]
    fn messages_are_unpacked_and_checked() {
        let router = Router { start_child_span: true, ..Router::default() };
        assert_eq!(decode_any::<Router>(&pack_any(&router)), Ok(router.clone()));
        assert_eq!(decode_any::<Router>(&Any::default()), Ok(Router::default()));
        let errors = decode_any::<Buffer>(&pack_any(&router)).expect_err("another type");
        assert!(
            errors.envoy_phrase().starts_with("Unable to unpack as envoy.extensions.filters.http.buffer")
        );
        let errors = decode_any::<Buffer>(&pack_any(&Buffer::default())).expect_err("a rule");
        assert_eq!(
            errors.envoy_phrase(),
            "Proto constraint validation failed (BufferValidationError.MaxRequestBytes: value is required)"
        );
        let newer = Any { value: vec![0xfa, 0xf0, 0x04, 0], ..pack_any(&router) };
        assert_eq!(decode_any::<Router>(&newer), Ok(Router::default()));
        let errors = decode_any_with::<Router>(&newer, UnknownFields::Refuse).expect_err("an unknown field");
        assert!(errors.envoy_phrase().ends_with("(root) with unknown field set {9999}) has unknown fields"));
        let broken = Any { value: vec![0x0a, 9], ..pack_any(&router) };
        assert!(decode_any::<Router>(&broken).is_err());
    }

    #[test]
    fn typed_structs_are_unwrapped() {
        let url = Router::type_url();
        let any = typed(&url, "startChildSpan", ProtoKind::BoolValue(true));
        assert_eq!(effective_type_url(&any), url);
        assert!(decode_any::<Router>(&any).expect("a router").start_child_span);
        let any = typed(&url, "bogus", ProtoKind::NumberValue(1.0));
        assert!(
            decode_any::<Router>(&any)
                .expect_err("no such field")
                .envoy_phrase()
                .contains("no such field: 'bogus'")
        );
        let any = typed("x/no.such.Type", "a", ProtoKind::NullValue(0));
        assert!(
            decode_any::<Router>(&any)
                .expect_err("no such type")
                .envoy_phrase()
                .contains("could not find @type")
        );
        let buffer = typed(&Buffer::type_url(), "max_request_bytes", ProtoKind::NumberValue(5.0));
        assert_eq!(decode_any::<Buffer>(&buffer).expect("a buffer").max_request_bytes, Some(5));
    }
}

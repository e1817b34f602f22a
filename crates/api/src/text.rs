//! Protobuf's text format (<https://protobuf.dev/reference/protobuf/textformat-spec/>) → protobuf bytes.

use crate::schema::{self, Field, Kind, Message, Presence, Type};
use crate::tree::Position;
use crate::wire::{put_bytes, put_delimited, put_tag, put_varint};

/// Messages may be nested this deep.
const MAX_DEPTH: usize = 100;

/// Why a text is not the message, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// The reason.
    pub reason: String,
    /// Where.
    pub position: Position,
}

/// Encodes a text as a message.
///
/// # Errors
/// The first thing that is wrong.
pub fn encode(message: &'static Message, source: &str) -> Result<Vec<u8>, TextError> {
    let mut parser = Parser { source, at: 0, depth: 0 };
    let mut out = Vec::new();
    parser.fields(message, None, &mut out)?;
    Ok(out)
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
    depth: usize,
}

/// A scalar as it is written.
enum Scalar<'s> {
    /// An identifier or a number, without the sign before it.
    Word(&'s str),
    Bytes(Vec<u8>),
}

impl<'s> Parser<'s> {
    /// Reads fields until `close`, or until the end.
    fn fields(
        &mut self,
        message: &'static Message,
        close: Option<char>,
        out: &mut Vec<u8>,
    ) -> Result<(), TextError> {
        if self.depth >= MAX_DEPTH {
            return self.error("nested too deep");
        }
        self.depth += 1;
        let mut oneofs = 0_u64;
        loop {
            self.skip_blanks();
            match (self.peek(), close) {
                (None, None) => break,
                (Some(found), Some(close)) if found == close => {
                    self.at += 1;
                    break;
                }
                (None, Some(close)) => return self.error(&format!("'{close}' expected")),
                (Some('['), _) => self.expanded_any(message, out)?,
                (Some(_), _) => {
                    let name = self.word()?;
                    let Some(field) = message.fields().iter().find(|field| field.name() == name) else {
                        self.at -= name.len();
                        let reason =
                            format!("Message type \"{}\" has no field named \"{name}\".", message.name());
                        return self.error(&reason);
                    };
                    let bit = field.oneof().map_or(0, |oneof| 1 << (oneof & 63));
                    if oneofs & bit != 0 {
                        return self.error(&format!("'{name}' is a member of a oneof that is already set"));
                    }
                    oneofs |= bit;
                    self.field(field, out)?;
                }
            }
            self.skip_blanks();
            if matches!(self.peek(), Some(',' | ';')) {
                self.at += 1;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(&mut self, field: &'static Field, out: &mut Vec<u8>) -> Result<(), TextError> {
        let colon = self.take(':');
        let is_message = field.ty.message().is_some();
        if !colon && !is_message {
            return self.error("':' expected");
        }
        let is_list = field.is_list() || field.presence == Presence::Map;
        if !is_list || !self.take('[') {
            return self.value(field, out);
        }
        if self.take(']') {
            return Ok(());
        }
        loop {
            self.value(field, out)?;
            if self.take(']') {
                return Ok(());
            }
            self.expect(',')?;
        }
    }

    fn value(&mut self, field: &'static Field, out: &mut Vec<u8>) -> Result<(), TextError> {
        put_tag(out, field.number, field.ty.wire_type());
        match field.ty.message() {
            Some(message) => {
                let close = if self.take('<') { '>' } else { '}' };
                if close == '}' {
                    self.expect('{')?;
                }
                put_delimited(out, |out| self.fields(message, Some(close), out))
            }
            None => self.scalar(field.ty, out),
        }
    }

    /// `[type.googleapis.com/a.B] { … }` in an `Any`.
    fn expanded_any(&mut self, message: &'static Message, out: &mut Vec<u8>) -> Result<(), TextError> {
        if message.kind != Kind::Any {
            return self.error("extensions are not known here");
        }
        self.expect('[')?;
        let start = self.at;
        let Some(len) = self.source[start..].find(']') else { return self.error("']' expected") };
        let url = self.source[start..start + len].trim();
        let Some(inner) = schema::message_of_url(url).filter(|_| url.contains('/')) else {
            return self.error(&format!("Could not find type \"{url}\" stored in google.protobuf.Any."));
        };
        self.at += len + 1;
        self.take(':');
        let close = if self.take('<') { '>' } else { '}' };
        if close == '}' {
            self.expect('{')?;
        }
        put_tag(out, 1, 2);
        put_bytes(out, url.as_bytes());
        put_tag(out, 2, 2);
        put_delimited(out, |out| self.fields(inner, Some(close), out))
    }

    fn scalar(&mut self, ty: Type, out: &mut Vec<u8>) -> Result<(), TextError> {
        let negative = self.take('-');
        let scalar = self.literal()?;
        let word = match (&scalar, ty) {
            (Scalar::Bytes(bytes), Type::String | Type::Bytes) if !negative => {
                if ty == Type::String && std::str::from_utf8(bytes).is_err() {
                    return self.error("a string field must be UTF-8");
                }
                put_bytes(out, bytes);
                return Ok(());
            }
            (Scalar::Word(word), _) if !matches!(ty, Type::String | Type::Bytes) => *word,
            _ => return self.error(&format!("a value of type {} expected", ty.describe())),
        };
        if matches!(ty, Type::Double | Type::Float) {
            let word = word
                .strip_suffix(['f', 'F'])
                .filter(|rest| rest.ends_with(|c: char| c.is_ascii_digit() || c == '.'));
            let word = word.unwrap_or(if let Scalar::Word(word) = scalar { word } else { "" });
            let Ok(value) = word.parse::<f64>() else { return self.error(&format!("'{word}' is no number")) };
            let value = if negative { -value } else { value };
            if ty == Type::Double {
                out.extend_from_slice(&value.to_le_bytes());
            } else {
                out.extend_from_slice(&(value as f32).to_le_bytes());
            }
            return Ok(());
        }
        let named = match ty {
            Type::Bool => match word {
                "true" | "True" | "t" => Some(1),
                "false" | "False" | "f" => Some(0),
                _ => None,
            },
            Type::Enum(_) => ty.enumeration().and_then(|known| {
                known.values().iter().find(|value| value.name() == word).map(|value| i128::from(value.number))
            }),
            _ => None,
        };
        let Some(number) = named.or_else(|| whole(word)) else {
            return self.error(&format!("'{word}' is no value of type {}", ty.describe()));
        };
        let number = if negative { -number } else { number };
        let (low, high) = bounds(ty);
        if number < low || number > high {
            return self.error(&format!("{number} is out of range"));
        }
        match ty {
            Type::Sint32 | Type::Sint64 => {
                let value = number as i64;
                put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
            }
            _ => match ty.wire_type() {
                1 => out.extend_from_slice(&(number as u64).to_le_bytes()),
                5 => out.extend_from_slice(&(number as u32).to_le_bytes()),
                _ => put_varint(out, number as u64),
            },
        }
        Ok(())
    }

    fn literal(&mut self) -> Result<Scalar<'s>, TextError> {
        self.skip_blanks();
        if !matches!(self.peek(), Some('"' | '\'')) {
            return self.word().map(Scalar::Word);
        }
        let mut bytes = Vec::new();
        // Adjacent strings are one.
        while let Some(quote @ ('"' | '\'')) = self.peek() {
            self.at += 1;
            self.string(quote, &mut bytes)?;
            self.skip_blanks();
        }
        Ok(Scalar::Bytes(bytes))
    }

    fn string(&mut self, quote: char, out: &mut Vec<u8>) -> Result<(), TextError> {
        loop {
            let Some(next) = self.peek() else { return self.error("the string has no end") };
            self.at += next.len_utf8();
            match next {
                _ if next == quote => return Ok(()),
                '\n' => return self.error("the string has no end on its line"),
                '\\' => self.escape(out)?,
                _ => out.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), TextError> {
        let Some(next) = self.peek() else { return self.error("the string has no end") };
        self.at += next.len_utf8();
        let simple = match next {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            'a' => 7,
            'b' => 8,
            'v' => 11,
            'f' => 12,
            '\\' | '\'' | '"' | '?' => next as u8,
            '0'..='7' => {
                self.at -= 1;
                let value = self.digits(3, 8)?;
                u8::try_from(value & 0xff).unwrap_or_default()
            }
            'x' | 'X' => u8::try_from(self.digits(2, 16)?).unwrap_or_default(),
            'u' | 'U' => {
                let value = self.digits(if next == 'u' { 4 } else { 8 }, 16)?;
                let Some(character) = char::from_u32(value) else {
                    return self.error("no Unicode character");
                };
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.error(&format!("invalid escape '\\{next}'")),
        };
        out.push(simple);
        Ok(())
    }

    /// A number of at most `most` digits.
    fn digits(&mut self, most: usize, radix: u32) -> Result<u32, TextError> {
        let rest = &self.source[self.at..];
        let len = rest.chars().take(most).take_while(|digit| digit.is_digit(radix)).count();
        match u32::from_str_radix(&rest[..len], radix) {
            Ok(value) => {
                self.at += len;
                Ok(value)
            }
            Err(_) => self.error("digits expected"),
        }
    }

    fn word(&mut self) -> Result<&'s str, TextError> {
        self.skip_blanks();
        let rest = &self.source[self.at..];
        let mut previous = ' ';
        let end = rest.find(|c: char| {
            let exponent =
                matches!(previous, 'e' | 'E') && rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
            previous = c;
            !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || exponent && matches!(c, '+' | '-'))
        });
        let word = &rest[..end.unwrap_or(rest.len())];
        if word.is_empty() {
            return self.error("a name or a value expected");
        }
        self.at += word.len();
        Ok(word)
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), TextError> {
        if self.take(wanted) { Ok(()) } else { self.error(&format!("'{wanted}' expected")) }
    }

    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    /// Skips white space and comments.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.source[self.at..];
            let blank = rest.len() - rest.trim_start().len();
            self.at += blank;
            if !self.source[self.at..].starts_with('#') {
                break;
            }
            let rest = &self.source[self.at..];
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn error<T>(&self, reason: &str) -> Result<T, TextError> {
        let before = &self.source[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let position = Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        };
        Err(TextError { reason: reason.to_string(), position })
    }
}

fn whole(word: &str) -> Option<i128> {
    if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return i128::from_str_radix(digits, 16).ok();
    }
    match word.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        Some(digits) => i128::from_str_radix(digits, 8).ok(),
        None => word.parse().ok(),
    }
}

fn bounds(ty: Type) -> (i128, i128) {
    match ty {
        Type::Bool => (0, 1),
        Type::Int32 | Type::Sint32 | Type::Sfixed32 | Type::Enum(_) => (i32::MIN.into(), i32::MAX.into()),
        Type::Uint32 | Type::Fixed32 => (0, u32::MAX.into()),
        Type::Uint64 | Type::Fixed64 => (0, u64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::core::v3::{HeaderValueOption, Node};
    use prost::Message as _;

    fn cluster(text: &str) -> Result<Cluster, TextError> {
        let bytes = encode(schema::message("envoy.config.cluster.v3.Cluster").expect("a message"), text)?;
        Ok(Cluster::decode(bytes.as_slice()).expect("well-formed"))
    }

    #[test]
    fn fields_lists_maps_and_any() {
        let text = "
            name: 'a' \"b\\n\\x41\\101\"  # a comment
            type: STRICT_DNS, connect_timeout { seconds: 5; nanos: 0x10 }
            lb_policy: 3
            load_assignment: <
              cluster_name: \"c\"
              endpoints { lb_endpoints { endpoint { address { socket_address { address: \"::1\" port_value: 010 } } } } }
              endpoints: [{ priority: 1 }, { priority: 2 }]
            >
            typed_extension_protocol_options { key: \"k\" value {
              [type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions] { }
            } }
        ";
        let cluster = cluster(text).expect("a cluster");
        assert_eq!(cluster.name, "ab\nAA");
        assert_eq!(cluster.connect_timeout.map(|timeout| (timeout.seconds, timeout.nanos)), Some((5, 16)));
        assert_eq!(cluster.lb_policy, 3);
        let assignment = cluster.load_assignment.expect("an assignment");
        assert_eq!(assignment.endpoints.len(), 3);
        assert_eq!(assignment.endpoints[2].priority, 2);
        let any = &cluster.typed_extension_protocol_options["k"];
        assert_eq!(
            any.type_url,
            "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        );
    }

    #[test]
    fn errors_have_a_place() {
        for (text, reason, line, column) in [
            ("name: \"x\"\nnope: 1", "has no field named \"nope\"", 2, 1),
            ("name 5", "':' expected", 1, 6),
            ("name: 5", "type string expected", 1, 8),
            ("name: \"x", "has no end", 1, 9),
            ("connect_timeout { seconds: 1", "'}' expected", 1, 29),
            ("lb_policy: NOPE", "'NOPE' is no value", 1, 16),
            ("connect_timeout { seconds: 99999999999999999999 }", "out of range", 1, 48),
            ("typed_extension_protocol_options { value { [x/No] {} } }", "Could not find type", 1, 45),
        ] {
            let error = cluster(text).expect_err(text);
            assert!(error.reason.contains(reason), "{text}: {error:?}");
            assert_eq!(error.position, Position { line, column }, "{text}");
        }
        let deep = "metadata { filter_metadata { value { fields { value { struct_value { ".repeat(30);
        assert!(cluster(&deep).is_err());
    }

    #[test]
    fn scalars_of_every_kind() {
        let bytes = encode(
            schema::message("google.protobuf.Value").expect("a message"),
            "list_value { values { number_value: -1.5e-3 } values { bool_value: true } values { number_value: 2f } }",
        );
        assert!(bytes.is_ok(), "{bytes:?}");
        let schema = schema::message("envoy.config.core.v3.HeaderValueOption").expect("a message");
        let bytes = encode(schema, "header { key: 'k' raw_value: '\\377' } append { value: false }")
            .expect("a header");
        let option = HeaderValueOption::decode(bytes.as_slice()).expect("well-formed");
        assert_eq!(option.header.expect("a header").raw_value, [0xff]);
        let node = encode(schema::message("envoy.config.core.v3.Node").expect("a message"), "id: '\\u00e9'");
        assert_eq!(Node::decode(node.expect("a node").as_slice()).expect("well-formed").id, "é");
    }
}

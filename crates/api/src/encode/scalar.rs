//! Numbers, booleans, texts, bytes and enums.

use super::{Encoder, Refused};
use crate::schema::{Enum, EnumValue, Type};
use crate::suggest;
use crate::tree::{Node, Value};
use crate::wire::{put_bytes, put_varint};

/// Whole numbers that a double tells apart from their neighbours: `(lowest, highest)` of signed and of unsigned ones.
const EXACT_SIGNED: (f64, f64) = (-9_007_199_254_740_992.0, 9_007_199_254_740_992.0);
const EXACT_UNSIGNED: (f64, f64) = (0.0, 18_014_398_509_481_984.0);

impl<'t> Encoder<'t> {
    /// Encodes a value that is no message, without its tag. Writes nothing if it is refused.
    pub(super) fn scalar(&mut self, ty: Type, node: Node<'t>, out: &mut Vec<u8>) -> Result<(), Refused> {
        match ty {
            Type::String => put_bytes(out, self.text(node)?.as_bytes()),
            Type::Bytes => {
                let text = self.text(node)?;
                match base64(text) {
                    Some(bytes) => put_bytes(out, &bytes),
                    None => return self.refuse(node, "corrupt base64"),
                }
            }
            Type::Bool => out.push(u8::from(self.boolean(node)?)),
            Type::Enum(_) => {
                let Some(known) = ty.enumeration() else { return Err(Refused) };
                let number = self.enum_number(known, node)?;
                put_varint(out, i64::from(number) as u64);
            }
            Type::Int32 | Type::Int64 => put_varint(out, self.signed(ty, node)? as u64),
            Type::Uint32 | Type::Uint64 => put_varint(out, self.unsigned(ty, node)?),
            Type::Sint32 | Type::Sint64 => {
                let value = self.signed(ty, node)?;
                put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
            }
            Type::Fixed32 => out.extend_from_slice(&(self.unsigned(ty, node)? as u32).to_le_bytes()),
            Type::Fixed64 => out.extend_from_slice(&self.unsigned(ty, node)?.to_le_bytes()),
            Type::Sfixed32 => out.extend_from_slice(&(self.signed(ty, node)? as i32).to_le_bytes()),
            Type::Sfixed64 => out.extend_from_slice(&self.signed(ty, node)?.to_le_bytes()),
            Type::Double => out.extend_from_slice(&self.float(node)?.to_le_bytes()),
            Type::Float => {
                let value = self.float(node)?;
                let single = value as f32;
                if value.is_finite() && !single.is_finite() {
                    return self.refuse(node, "float out of range");
                }
                out.extend_from_slice(&single.to_le_bytes());
            }
            Type::Message(_) => return Err(Refused),
        }
        Ok(())
    }

    pub(super) fn text(&mut self, node: Node<'t>) -> Result<&'t str, Refused> {
        match node.value() {
            Value::Text(text) => Ok(text),
            _ => {
                self.unexpected(node, '"');
                Err(Refused)
            }
        }
    }

    fn boolean(&mut self, node: Node<'t>) -> Result<bool, Refused> {
        let is = |text: &str, words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        match node.value() {
            Value::Bool(value) => Ok(value),
            Value::Text(text) if is(text, ["true", "t", "yes", "y", "1"]) => Ok(true),
            Value::Text(text) if is(text, ["false", "f", "no", "n", "0"]) => Ok(false),
            _ => self.refuse(node, "expected 'true' or 'false'"),
        }
    }

    fn enum_number(&mut self, known: &'static Enum, node: Node<'t>) -> Result<i32, Refused> {
        match node.value() {
            Value::Null => Ok(0),
            Value::Text(text) => {
                if let Some(number) = known.number_of(text).or_else(|| text.trim().parse().ok()) {
                    return Ok(number);
                }
                if self.is_full() {
                    return Err(Refused);
                }
                let suggestion = suggest::nearest(text, known.values().iter().map(EnumValue::name));
                self.unknown(node, &format!("unknown enum value: '{text}'"), suggestion.map(str::to_string));
                Err(Refused)
            }
            Value::Int(_) | Value::Number(_) => Ok(self.signed(Type::Int64, node)? as i32),
            _ => self.refuse(node, "expected number or string"),
        }
    }

    fn signed(&mut self, ty: Type, node: Node<'t>) -> Result<i64, Refused> {
        let value = self.integer(node, |text| text.parse::<i64>().ok().map(i128::from), EXACT_SIGNED)?;
        let narrow = matches!(ty, Type::Int32 | Type::Sint32 | Type::Sfixed32);
        match i64::try_from(value) {
            Ok(value) if !narrow || i32::try_from(value).is_ok() => Ok(value),
            _ => self.refuse(node, "integer out of range"),
        }
    }

    fn unsigned(&mut self, ty: Type, node: Node<'t>) -> Result<u64, Refused> {
        let value = self.integer(node, |text| text.parse::<u64>().ok().map(i128::from), EXACT_UNSIGNED)?;
        let narrow = matches!(ty, Type::Uint32 | Type::Fixed32);
        match u64::try_from(value) {
            Ok(value) if !narrow || u32::try_from(value).is_ok() => Ok(value),
            _ => self.refuse(node, "integer out of range"),
        }
    }

    fn integer(
        &mut self,
        node: Node<'t>,
        whole: impl Fn(&str) -> Option<i128>,
        (lowest, highest): (f64, f64),
    ) -> Result<i128, Refused> {
        let digits;
        let text = match node.value() {
            Value::Int(value) if value >= 0 || lowest < 0.0 => return Ok(i128::from(value)),
            Value::Int(value) => {
                digits = value.to_string();
                digits.as_str()
            }
            Value::Number(text) => text,
            Value::Text(text) if text.contains(|c: char| c.is_ascii_whitespace()) => {
                return self.refuse(node, "non-number characters in quoted number");
            }
            Value::Text(text) => text,
            _ => return self.refuse(node, "expected number or string"),
        };
        if let Some(value) = whole(text) {
            return Ok(value);
        }
        match text.parse::<f64>() {
            Ok(value) if !value.is_finite() => self.refuse(node, &format!("invalid number: '{text}'")),
            Ok(value) if value < lowest || value > highest => {
                self.refuse(node, "JSON number out of range for int")
            }
            Ok(value) if value.fract() != 0.0 => {
                self.refuse(node, "expected integer, but JSON number had fractional part")
            }
            Ok(value) => Ok(value as i128),
            Err(_) => self.refuse(node, &format!("invalid number: '{text}'")),
        }
    }

    fn float(&mut self, node: Node<'t>) -> Result<f64, Refused> {
        match node.value() {
            Value::Int(value) => Ok(value as f64),
            Value::Number(text) => Ok(text.parse().unwrap_or_default()),
            Value::Text(text) => match text.trim_ascii().parse() {
                Ok(value) => Ok(value),
                Err(_) => self.refuse(node, "non-number characters in quoted number"),
            },
            _ => self.refuse(node, "expected number or string"),
        }
    }
}

/// Base64 in both alphabets, with or without padding.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 0 && (padding > 2 || !text.len().is_multiple_of(4)) {
        return None;
    }
    let digits = &text[..text.len() - padding];
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for at in 0..4 {
            let digit = match group.get(at) {
                Some(byte @ b'A'..=b'Z') => byte - b'A',
                Some(byte @ b'a'..=b'z') => byte - b'a' + 26,
                Some(byte @ b'0'..=b'9') => byte - b'0' + 52,
                Some(b'+' | b'-') => 62,
                Some(b'/' | b'_') => 63,
                Some(_) => return None,
                None => 0,
            };
            bits = bits << 6 | u32::from(digit);
        }
        let bytes = bits.to_be_bytes();
        out.extend_from_slice(&bytes[1..group.len()]);
    }
    Some(out)
}

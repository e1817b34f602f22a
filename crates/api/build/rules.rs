//! protoc-gen-validate rules of a field → the Rust text of a list of `Rule`s (`src/schema/rule.rs`).
//!
//! The order of the list is the order in which Envoy's generated validators check.

use crate::Error;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

/// The rules of one field, comma-separated.
pub fn list(rules: &DynamicMessage) -> Result<String, Error> {
    let mut out = Vec::new();
    for (field, value) in rules.fields() {
        let Value::Message(inner) = value else {
            return Err(format!("rule {} is no message", field.name()).into());
        };
        let mut set = Set { kind: field.name().to_string(), rules: inner.clone(), out: Vec::new() };
        set.collect()?;
        // `required` and the like come before the rules of the type, wherever they are declared.
        if set.kind == "message" {
            out.splice(0..0, set.out)
        } else {
            out.splice(out.len().., set.out)
        };
    }
    Ok(out.join(","))
}

struct Set {
    kind: String,
    rules: DynamicMessage,
    out: Vec<String>,
}

impl Set {
    /// The value of one rule, marked as used.
    fn take(&mut self, name: &str) -> Option<Value> {
        let field = self.rules.descriptor().get_field_by_name(name)?;
        let value = self.rules.has_field(&field).then(|| self.rules.get_field(&field).into_owned())?;
        self.rules.clear_field(&field);
        Some(value)
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(name).and_then(|value| value.as_bool()).unwrap_or(false)
    }

    fn push(&mut self, rule: impl Into<String>) {
        self.out.push(rule.into());
    }

    fn collect(&mut self) -> Result<(), Error> {
        if self.flag("skip") {
            self.push("Rule::Skip");
        }
        if self.flag("ignore_empty") {
            self.push("Rule::IgnoreEmpty");
        }
        if self.flag("required") {
            self.push("Rule::Required");
        }
        match self.kind.clone().as_str() {
            "string" => self.strings(false)?,
            "bytes" => self.strings(true)?,
            "enum" => self.enums()?,
            "bool" => {
                if let Some(value) = self.take("const") {
                    self.push(format!("Rule::Bool({})", value.as_bool().unwrap_or(false)));
                }
            }
            "repeated" => self.repeated("min_items", "max_items")?,
            "map" => self.repeated("min_pairs", "max_pairs")?,
            "any" => {
                if let Some(list) = self.take("in") {
                    self.push(format!("Rule::AnyIn(&[{}])", texts(&list)?));
                }
            }
            "duration" => self.range("Duration", duration)?,
            "message" | "timestamp" => {}
            _ => self.range("Number", |value| Ok(format!("{:?}", number(value)?)))?,
        }
        match self.rules.fields().next() {
            Some((field, value)) => {
                Err(format!("rule {}.{} = {value:?} is not handled", self.kind, field.name()).into())
            }
            None => Ok(()),
        }
    }

    fn strings(&mut self, bytes: bool) -> Result<(), Error> {
        if let Some(list) = self.take("in") {
            self.push(format!("Rule::In(&[{}])", texts(&list)?));
        }
        let (min, max) = (self.take("min_len"), self.take("max_len"));
        self.length(if bytes { "Bytes" } else { "Length" }, min, max)?;
        let (min, max) = (self.take("min_bytes"), self.take("max_bytes"));
        self.length("Bytes", min, max)?;
        for (name, rule) in
            [("prefix", "Prefix"), ("suffix", "Suffix"), ("contains", "Contains"), ("pattern", "Pattern")]
        {
            if let Some(text) = self.take(name) {
                self.push(format!("Rule::{rule}({:?})", text.as_str().ok_or("a text is wanted")?));
            }
        }
        let strict = self.take("strict").and_then(|value| value.as_bool()).unwrap_or(true);
        if let Some(regex) = self.take("well_known_regex").and_then(|value| value.as_enum_number()) {
            self.push(match (strict, regex) {
                (false, _) => "Rule::Pattern(NO_LINE_BREAK)",
                (true, 1) => "Rule::Pattern(HEADER_NAME)",
                (true, _) => "Rule::Pattern(HEADER_VALUE)",
            });
        }
        Ok(())
    }

    fn length(&mut self, rule: &str, min: Option<Value>, max: Option<Value>) -> Result<(), Error> {
        if min.is_some() || max.is_some() {
            let text = |value: Option<Value>| match value {
                Some(value) => Ok::<_, Error>(format!("Some({})", number(&value)? as u64)),
                None => Ok("None".to_string()),
            };
            self.push(format!("Rule::{rule}({},{})", text(min)?, text(max)?));
        }
        Ok(())
    }

    fn enums(&mut self) -> Result<(), Error> {
        for (name, rule) in [("in", "EnumIn"), ("not_in", "EnumNotIn")] {
            if let Some(Value::List(list)) = self.take(name) {
                let numbers: Vec<_> = list.iter().filter_map(Value::as_i32).collect();
                self.push(format!("Rule::{rule}(&{numbers:?})"));
            }
        }
        if self.flag("defined_only") {
            self.push("Rule::Defined");
        }
        Ok(())
    }

    fn repeated(&mut self, min: &str, max: &str) -> Result<(), Error> {
        let (min, max) = (self.take(min), self.take(max));
        self.length("Items", min, max)?;
        if self.flag("unique") {
            self.push("Rule::Unique");
        }
        for (name, rule) in [("items", "Each"), ("keys", "Keys"), ("values", "Each")] {
            if let Some(Value::Message(inner)) = self.take(name) {
                self.push(format!("Rule::{rule}(&[{}])", list(&inner)?));
            }
        }
        Ok(())
    }

    fn range(&mut self, rule: &str, text: impl Fn(&Value) -> Result<String, Error>) -> Result<(), Error> {
        let mut bound = |inclusive: &str, exclusive: &str| {
            for (name, kind) in [(inclusive, "Closed"), (exclusive, "Open")] {
                if let Some(value) = self.take(name) {
                    return text(&value).map(|value| format!("Bound::{kind}({value})"));
                }
            }
            Ok("Bound::None".to_string())
        };
        let (low, high) = (bound("gte", "gt")?, bound("lte", "lt")?);
        if low != "Bound::None" || high != "Bound::None" {
            self.push(format!("Rule::{rule}({low},{high})"));
        }
        for (name, kind) in [("in", "NumberIn"), ("const", "NumberIn")] {
            match self.take(name) {
                Some(Value::List(list)) => {
                    let numbers = list.iter().map(number).collect::<Result<Vec<_>, _>>()?;
                    self.push(format!("Rule::{kind}(&{numbers:?})"));
                }
                Some(value) => self.push(format!("Rule::{kind}(&[{:?}])", number(&value)?)),
                None => {}
            }
        }
        Ok(())
    }
}

fn number(value: &Value) -> Result<f64, Error> {
    Ok(match value {
        Value::F64(number) => *number,
        Value::F32(number) => f64::from(*number),
        Value::I32(number) => f64::from(*number),
        Value::U32(number) => f64::from(*number),
        Value::I64(number) => *number as f64,
        Value::U64(number) => *number as f64,
        other => return Err(format!("{other:?} is no number").into()),
    })
}

/// Nanoseconds.
fn duration(value: &Value) -> Result<String, Error> {
    let message = value.as_message().ok_or("a duration is wanted")?;
    let part = |name: &str| message.get_field_by_name(name).map(|value| value.into_owned());
    let seconds = part("seconds").and_then(|value| value.as_i64()).unwrap_or(0);
    let nanos = part("nanos").and_then(|value| value.as_i32()).unwrap_or(0);
    Ok((i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).to_string())
}

fn texts(list: &Value) -> Result<String, Error> {
    let list = list.as_list().ok_or("a list is wanted")?;
    Ok(list.iter().filter_map(Value::as_str).map(|text| format!("{text:?}")).collect::<Vec<_>>().join(","))
}

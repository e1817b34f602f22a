//! What one key of a layer is worth: Envoy reads every value as text and, where it can, as a number, a truth value or
//! a fraction.

use crate::matchers::FractionalPercent;
use nuncio_api::tree::{Node, Value as Yaml, parse_yaml};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::fmt::Write;

/// A value of the runtime.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuntimeValue {
    /// As it was written.
    pub text: String,
    /// As a whole number: a fraction is cut off; absent for negative numbers.
    pub number: Option<u64>,
    /// As a number.
    pub double: Option<f64>,
    /// As a truth value: `true`, `false`, or a whole number.
    pub boolean: Option<bool>,
    /// From `{numerator: 5, denominator: TEN_THOUSAND}`.
    pub fraction: Option<FractionalPercent>,
}

impl RuntimeValue {
    /// A value of a static layer or a control plane.
    pub fn new(v: &Value) -> RuntimeValue {
        match &v.kind {
            Some(Kind::NumberValue(n)) => of_number(n.to_string(), *n),
            Some(Kind::BoolValue(b)) => {
                RuntimeValue { text: b.to_string(), boolean: Some(*b), ..Default::default() }
            }
            Some(Kind::StringValue(s)) => match s.trim().parse() {
                Ok(n) => of_number(s.clone(), n),
                Err(_) => RuntimeValue { text: s.clone(), ..Default::default() },
            },
            Some(Kind::StructValue(s)) => {
                let mut text = String::new();
                write_struct(s, 0, &mut text);
                RuntimeValue { text, fraction: fraction(s), ..Default::default() }
            }
            _ => RuntimeValue::default(),
        }
    }
    /// A value that was written as text, in `/runtime_modify` or a file: YAML.
    ///
    /// # Errors
    /// Envoy's phrase for what is no YAML.
    pub fn of_text(text: &str) -> Result<RuntimeValue, String> {
        // As the one element of a list: a document may not be a bare scalar.
        let list = format!("- {}", text.replace('\n', "\n  "));
        let tree = parse_yaml(&list).map_err(|e| e.phrase)?;
        let Yaml::Seq(mut all) = tree.root().value() else { return Err("no YAML value".to_owned()) };
        let worth = match all.next().map_or(Yaml::Null, Node::value) {
            Yaml::Int(n) => of_number(String::new(), n as f64),
            Yaml::Bool(b) => RuntimeValue { boolean: Some(b), ..Default::default() },
            // The text with its quotes, if it has some, so that those make it a text for good.
            Yaml::Text(_) => {
                text.trim().parse().map_or_else(|_| Default::default(), |n| of_number(String::new(), n))
            }
            Yaml::Map(entries) => {
                let field = |(k, v): (Node<'_>, Node<'_>)| (k.text().to_owned(), Value { kind: scalar(v) });
                let fraction = fraction(&Struct { fields: entries.map(field).collect() });
                RuntimeValue { fraction, ..Default::default() }
            }
            Yaml::Null | Yaml::Number(_) | Yaml::Seq(_) => RuntimeValue::default(),
        };
        Ok(RuntimeValue { text: text.to_owned(), ..worth })
    }
    /// What a `RuntimeFractionalPercent` makes of it: a fraction, or a number of percent.
    pub(super) fn as_fraction(&self) -> Option<FractionalPercent> {
        self.fraction.or_else(|| {
            let numerator = u32::try_from(self.number?).unwrap_or(u32::MAX);
            Some(FractionalPercent { numerator, denominator: 100 })
        })
    }
}

/// What a fraction may be made of.
fn scalar(n: Node<'_>) -> Option<Kind> {
    match n.value() {
        Yaml::Int(n) => Some(Kind::NumberValue(n as f64)),
        Yaml::Text(t) => Some(Kind::StringValue(t.to_owned())),
        _ => None,
    }
}

fn of_number(text: String, n: f64) -> RuntimeValue {
    let whole = n < f64::from(i32::MAX) && n >= f64::from(i32::MIN) && n.fract() == 0.0;
    RuntimeValue {
        text,
        // Beyond the range it is the nearest number there is.
        number: (n >= 0.0).then_some(n as u64),
        double: Some(n),
        boolean: whole.then_some(n != 0.0),
        fraction: None,
    }
}

/// A numerator of percent, unless a denominator is named; with anything else beside them it is no fraction.
fn fraction(s: &Struct) -> Option<FractionalPercent> {
    let mut f = FractionalPercent { numerator: 0, denominator: 100 };
    for (name, v) in &s.fields {
        match (&**name, &v.kind) {
            ("numerator", Some(Kind::NumberValue(n))) => f.numerator = *n as u32,
            ("numerator", _) => {}
            ("denominator", Some(Kind::StringValue(d))) => {
                f.denominator = match &**d {
                    "HUNDRED" => 100,
                    "TEN_THOUSAND" => 10_000,
                    "MILLION" => 1_000_000,
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    Some(f)
}

/// As protobuf's text format, which is what Envoy shows of it.
fn write_struct(s: &Struct, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    for (name, v) in &s.fields {
        // Writing into a string does not fail.
        let _ = writeln!(out, "{pad}fields {{\n{pad}  key: {name:?}\n{pad}  value {{");
        match &v.kind {
            Some(Kind::NumberValue(n)) => drop(writeln!(out, "{pad}    number_value: {n}")),
            Some(Kind::StringValue(t)) => drop(writeln!(out, "{pad}    string_value: {t:?}")),
            Some(Kind::BoolValue(b)) => drop(writeln!(out, "{pad}    bool_value: {b}")),
            Some(Kind::StructValue(inner)) if depth < 32 => {
                let _ = writeln!(out, "{pad}    struct_value {{");
                write_struct(inner, depth + 3, out);
                let _ = writeln!(out, "{pad}    }}");
            }
            _ => {}
        }
        let _ = writeln!(out, "{pad}  }}\n{pad}}}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_yaml() {
        let v = |text: &str| {
            let v = RuntimeValue::of_text(text).expect("a value");
            assert_eq!(v.text, text);
            (v.number, v.double, v.boolean, v.fraction.map(|f| (f.numerator, f.denominator)))
        };
        assert_eq!(v("5"), (Some(5), Some(5.0), Some(true), None));
        assert_eq!(v("0"), (Some(0), Some(0.0), Some(false), None));
        assert_eq!(v("1.7"), (Some(1), Some(1.7), None, None));
        assert_eq!(v("-1"), (None, Some(-1.0), Some(true), None));
        assert_eq!(v("1e3"), (Some(1000), Some(1000.0), Some(true), None));
        assert_eq!(v("true"), (None, None, Some(true), None));
        assert_eq!(v("text"), (None, None, None, None));
        assert_eq!(v("\"5\""), (None, None, None, None));
        assert_eq!(v("null"), (None, None, None, None));
        assert_eq!(v(""), (None, None, None, None));
        assert_eq!(v("[1]"), (None, None, None, None));
        assert_eq!(v("{numerator: 5}"), (None, None, None, Some((5, 100))));
        assert_eq!(v("{numerator: 5, denominator: MILLION}"), (None, None, None, Some((5, 1_000_000))));
        assert_eq!(v("{numerator: 5, other: 1}"), (None, None, None, None));
        let e = RuntimeValue::of_text("{broken").unwrap_err();
        assert!(e.starts_with("yaml-cpp: error at ") && e.ends_with(": end of map flow not found"), "{e}");
    }

    #[test]
    fn a_struct_is_shown_as_protobuf_text() {
        let v = Value { kind: Some(Kind::NumberValue(3.0)) };
        let s = Struct { fields: [("numerator".to_owned(), v)].into() };
        let v = RuntimeValue::new(&Value { kind: Some(Kind::StructValue(s)) });
        assert_eq!(v.text, "fields {\n  key: \"numerator\"\n  value {\n    number_value: 3\n  }\n}\n");
    }
}

//! JSON as Envoy prints it: indented by one blank, `<` and `>` escaped.

use serde_json::Value;

/// The text of a value, without a line break at the end.
pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

/// Appends a value whose inner lines are indented as at nesting `depth`.
pub fn write(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                new_line(i, depth + 1, out);
                write(item, depth + 1, out);
            }
            close(']', depth, out);
        }
        Value::Object(fields) if !fields.is_empty() => {
            out.push('{');
            for (i, (name, item)) in fields.iter().enumerate() {
                new_line(i, depth + 1, out);
                string(name, out);
                out.push_str(": ");
                write(item, depth + 1, out);
            }
            close('}', depth, out);
        }
        Value::String(s) => string(s, out),
        other => out.push_str(&other.to_string()),
    }
}

fn new_line(index: usize, depth: usize, out: &mut String) {
    out.push_str(if index == 0 { "\n" } else { ",\n" });
    out.extend(std::iter::repeat_n(' ', depth));
}

fn close(bracket: char, depth: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', depth));
    out.push(bracket);
}

/// Appends a string in quotes.
pub fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '\u{7f}' | '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_envoy_prints_it() {
        let v = json!({"a": [], "b": {}, "c": [1, {"d": "<\"\n\u{1}é"}], "e": null, "f": 1.5, "g": true});
        let text = "{\n \"a\": [],\n \"b\": {},\n \"c\": [\n  1,\n  {\n   \"d\": \"\\u003c\\\"\\n\\u0001é\"\n  }\n ],\n \
                    \"e\": null,\n \"f\": 1.5,\n \"g\": true\n}";
        assert_eq!(pretty(&v), text);
        assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), v);
    }
}

//! Paths to values in a message.

use std::borrow::Cow;
use std::fmt::Write;

/// A step of the path to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field, by its proto name.
    Field(Cow<'static, str>),
    /// An element of a list.
    Index(u32),
    /// The value of a map's entry.
    Key(String),
    /// The message inside an `Any`.
    Any,
}

/// `static_resources.listeners[0].filter_chains[0].filters[0].typed_config.<any>.stat_prefix`
pub(super) fn text(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        if !text.is_empty() && matches!(step, Step::Field(_) | Step::Any) {
            text.push('.');
        }
        match step {
            Step::Field(name) => text.push_str(name),
            // A String takes everything.
            Step::Index(index) => _ = write!(text, "[{index}]"),
            Step::Key(key) => _ = write!(text, "[{key}]"),
            Step::Any => text.push_str("<any>"),
        }
    }
    text
}

impl Step {
    /// The steps of a path as text.
    pub fn parse_path(text: &str) -> Vec<Self> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                // A key may hold dots.
                let (key, after) = inner.split_once(']').unwrap_or((inner, ""));
                steps.push(key.parse().map_or_else(|_| Self::Key(key.to_string()), Self::Index));
                rest = after;
                continue;
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            match &rest[..end] {
                "" => {}
                "<any>" => steps.push(Self::Any),
                name => steps.push(Self::Field(name.to_string().into())),
            }
            rest = &rest[end..];
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip() {
        for path in [
            "",
            "name",
            "static_resources.listeners[0].filter_chains[10].filters[2].typed_config.<any>.stat_prefix",
            "typed_per_filter_config[envoy.filters.http.cors].<any>.x",
        ] {
            assert_eq!(text(&Step::parse_path(path)), path);
        }
        for odd in ["[", "]", "a..b", ".", "a[", "[[]]", "<any>"] {
            let _steps = Step::parse_path(odd);
        }
    }
}

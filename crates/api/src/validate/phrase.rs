//! The words of the validators that protoc-gen-validate makes for Envoy.

use super::Element;
use crate::schema::{Bound, HEADER_VALUE, NO_LINE_BREAK};
use std::fmt::Write;

/// `LbEndpoints[0]`: a field's name in the generated C++, and which value of it.
pub(super) fn label(name: &str, element: &Element) -> String {
    let mut label = String::with_capacity(name.len() + 4);
    for part in name.split('_') {
        let mut letters = part.chars();
        label.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        label.push_str(letters.as_str());
    }
    match element {
        Element::Only => {}
        Element::Index(index) => _ = write!(label, "[{index}]"),
        Element::Key(key) => _ = write!(label, "[{key}]"),
    }
    label
}

/// How many `item`s or `pair`s there must be.
pub(super) fn count_phrase(least: Option<u64>, most: Option<u64>, unit: &str) -> String {
    match (least, most) {
        (Some(least), Some(most)) if least == most => format!("value must contain exactly {least} {unit}(s)"),
        (Some(least), Some(most)) => {
            format!("value must contain between {least} and {most} {unit}s, inclusive")
        }
        (Some(least), None) => format!("value must contain at least {least} {unit}(s)"),
        (None, most) => format!("value must contain no more than {} {unit}(s)", most.unwrap_or(0)),
    }
}

/// How many `characters` or `bytes` a text must have.
pub(super) fn length_phrase(least: Option<u64>, most: Option<u64>, unit: &str) -> String {
    match (least, most) {
        (Some(least), Some(most)) if least == most => format!("value length must be {least} {unit}"),
        (Some(least), Some(most)) => {
            format!("value length must be between {least} and {most} {unit}, inclusive")
        }
        (Some(least), None) => format!("value length must be at least {least} {unit}"),
        (None, most) => format!("value length must be at most {} {unit}", most.unwrap_or(0)),
    }
}

/// Between which bounds a value must lie.
pub(super) fn range_phrase<T: Copy + PartialOrd>(
    low: Bound<T>,
    high: Bound<T>,
    show: impl Fn(T) -> String,
) -> String {
    match (low, high) {
        (Bound::None, Bound::Closed(high)) => format!("value must be less than or equal to {}", show(high)),
        (Bound::None, Bound::Open(high)) => format!("value must be less than {}", show(high)),
        (Bound::Closed(low), Bound::None) => format!("value must be greater than or equal to {}", show(low)),
        (Bound::Open(low), Bound::None) => format!("value must be greater than {}", show(low)),
        (Bound::None, Bound::None) => String::new(),
        (
            Bound::Closed(low_value) | Bound::Open(low_value),
            Bound::Closed(high_value) | Bound::Open(high_value),
        ) => {
            if low_value > high_value {
                // The bounds are allowed, so they are no part of what is forbidden.
                let left = if matches!(high, Bound::Closed(_)) { '(' } else { '[' };
                let right = if matches!(low, Bound::Closed(_)) { ')' } else { ']' };
                return format!(
                    "value must be outside range {left}{}, {}{right}",
                    show(high_value),
                    show(low_value)
                );
            }
            let left = if matches!(low, Bound::Closed(_)) { '[' } else { '(' };
            let right = if matches!(high, Bound::Closed(_)) { ']' } else { ')' };
            format!("value must be inside range {left}{}, {}{right}", show(low_value), show(high_value))
        }
    }
}

/// A number of a rule.
pub(super) fn show_number(number: f64) -> String {
    // The only bound that a double cannot hold.
    if number >= i64::MAX as f64 { i64::MAX.to_string() } else { number.to_string() }
}

/// A duration as Go prints it, which is where the words come from: `1h0m0s`, `1.5s`, `20ms`.
pub(super) fn show_duration(nanoseconds: i128) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let left = nanoseconds.unsigned_abs();
    let small = [(1_000_000_u128, "ms"), (1_000, "µs"), (1, "ns")];
    if left == 0 {
        return "0s".to_string();
    }
    if left < 1_000_000_000 {
        let (unit, name) = small.into_iter().find(|(unit, _)| left >= *unit).unwrap_or((1, "ns"));
        return format!("{sign}{}{name}", fraction(left, unit));
    }
    let minutes = left / 60_000_000_000;
    let seconds = fraction(left % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn fraction(value: u128, unit: u128) -> String {
    let mut text = (value / unit).to_string();
    let rest = value % unit;
    if rest > 0 {
        let digits = unit.ilog10() as usize;
        let decimals = format!("{rest:0digits$}");
        text.push('.');
        text.push_str(decimals.trim_end_matches('0'));
    }
    text
}

/// A pattern as Envoy prints it.
pub(super) fn show_pattern(pattern: &str) -> String {
    match pattern {
        NO_LINE_BREAK => format!("\"{pattern}\""),
        HEADER_VALUE => r#""^[^\x00-\b\n-\x1f\x7f]*$""#.to_string(),
        _ => format!("{pattern:?}"),
    }
}

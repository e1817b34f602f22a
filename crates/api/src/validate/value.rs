//! Rules about one value.

use super::phrase::{length_phrase, range_phrase, show_duration, show_number, show_pattern};
use crate::schema::{Bound, NO_LINE_BREAK, Rule, Type};
use crate::wire::{Wire, nanoseconds};
use regex::Regex;
use std::borrow::Cow;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Why a value that is no message breaks a rule.
pub(super) fn check(rule: &Rule, ty: Type, wire: Wire<'_>) -> Option<String> {
    let text = || String::from_utf8_lossy(wire.bytes());
    let failed = |broken: bool, phrase: &dyn Fn() -> String| if broken { Some(phrase()) } else { None };
    match rule {
        Rule::Length(least, most) => {
            let len = text().chars().count() as u64;
            failed(!within(len, *least, *most), &|| length_phrase(*least, *most, "characters"))
        }
        Rule::Bytes(least, most) => {
            let len = wire.bytes().len() as u64;
            failed(!within(len, *least, *most), &|| length_phrase(*least, *most, "bytes"))
        }
        Rule::In(list) => {
            failed(!list.contains(&&*text()), &|| format!("value must be in list [{}]", list.join(" ")))
        }
        Rule::Prefix(prefix) => {
            failed(!text().starts_with(prefix), &|| format!("value does not have prefix {prefix:?}"))
        }
        Rule::Suffix(suffix) => {
            failed(!text().ends_with(suffix), &|| format!("value does not have suffix {suffix:?}"))
        }
        Rule::Contains(part) => {
            failed(!text().contains(part), &|| format!("value does not contain substring {part:?}"))
        }
        Rule::Pattern(pattern) => failed(!matches(pattern, wire.bytes()), &|| {
            format!("value does not match regex pattern {}", show_pattern(pattern))
        }),
        Rule::Number(low, high) => {
            failed(!inside(number(ty, wire), *low, *high), &|| range_phrase(*low, *high, show_number))
        }
        Rule::NumberIn(list) => failed(!list.contains(&number(ty, wire)), &|| {
            let list: Vec<_> = list.iter().map(|number| show_number(*number)).collect();
            format!("value must be in list [{}]", list.join(" "))
        }),
        Rule::Bool(wanted) => {
            failed((wire != Wire::Varint(0)) != *wanted, &|| format!("value must equal {wanted}"))
        }
        Rule::Defined | Rule::EnumIn(_) | Rule::EnumNotIn(_) => enumeration(rule, ty, wire),
        _ => None,
    }
}

fn enumeration(rule: &Rule, ty: Type, wire: Wire<'_>) -> Option<String> {
    let (known, Wire::Varint(value)) = (ty.enumeration()?, wire) else { return None };
    let value = value as i32;
    let names = |numbers: &[i32]| {
        let names: Vec<_> = numbers.iter().filter_map(|number| known.name_of(*number)).collect();
        names.join(" ")
    };
    match rule {
        Rule::Defined if known.name_of(value).is_none() => {
            Some("value must be one of the defined enum values".to_string())
        }
        Rule::EnumIn(list) if !list.contains(&value) => {
            Some(format!("value must be in list [{}]", names(list)))
        }
        Rule::EnumNotIn(list) if list.contains(&value) => {
            Some(format!("value must not be in list [{}]", names(list)))
        }
        _ => None,
    }
}

/// Why a duration breaks its rules.
pub(super) fn duration(rules: &[Rule], bytes: &[u8]) -> Option<String> {
    let value = nanoseconds(bytes);
    rules.iter().find_map(|rule| match rule {
        Rule::Duration(low, high) if !inside(value, *low, *high) => {
            Some(range_phrase(*low, *high, show_duration))
        }
        _ => None,
    })
}

fn within(len: u64, least: Option<u64>, most: Option<u64>) -> bool {
    least.is_none_or(|least| len >= least) && most.is_none_or(|most| len <= most)
}

/// Whether a value lies between two bounds, or outside of them if they are the wrong way round. As in Envoy, NaN does.
fn inside<T: Copy + PartialOrd>(value: T, low: Bound<T>, high: Bound<T>) -> bool {
    const LESS: &[Ordering] = &[Ordering::Less];
    const LESS_OR_EQUAL: &[Ordering] = &[Ordering::Less, Ordering::Equal];
    const GREATER: &[Ordering] = &[Ordering::Greater];
    const GREATER_OR_EQUAL: &[Ordering] = &[Ordering::Greater, Ordering::Equal];
    let is = |bound: &T, orders: &[Ordering]| {
        value.partial_cmp(bound).is_some_and(|order| orders.contains(&order))
    };
    let low_met = match low {
        Bound::None => true,
        Bound::Closed(low) => !is(&low, LESS),
        Bound::Open(low) => !is(&low, LESS_OR_EQUAL),
    };
    let high_met = match high {
        Bound::None => true,
        Bound::Closed(high) => !is(&high, GREATER),
        Bound::Open(high) => !is(&high, GREATER_OR_EQUAL),
    };
    match (low, high) {
        (Bound::Closed(low) | Bound::Open(low), Bound::Closed(high) | Bound::Open(high)) if low > high => {
            low_met || high_met
        }
        _ => low_met && high_met,
    }
}

fn number(ty: Type, wire: Wire<'_>) -> f64 {
    match (ty, wire) {
        (Type::Double, Wire::Eight(bits)) => f64::from_bits(bits),
        (Type::Float, Wire::Four(bits)) => f64::from(f32::from_bits(bits)),
        (Type::Uint32, Wire::Varint(value)) => f64::from(value as u32),
        (Type::Uint64, Wire::Varint(value)) | (Type::Fixed64, Wire::Eight(value)) => value as f64,
        (Type::Sint32 | Type::Sint64, Wire::Varint(value)) => {
            ((value >> 1) as i64 ^ -((value & 1) as i64)) as f64
        }
        (Type::Sfixed32, Wire::Four(value)) => f64::from(value as i32),
        (_, Wire::Varint(value) | Wire::Eight(value)) => value as i64 as f64,
        (_, Wire::Four(value)) => f64::from(value),
        (_, Wire::Bytes(_)) => 0.0,
    }
}

thread_local! {
    /// Compiled patterns: the schema has about ten.
    static PATTERNS: RefCell<HashMap<&'static str, Option<Regex>>> = RefCell::default();
}

fn matches(pattern: &'static str, bytes: &[u8]) -> bool {
    // By far the most frequent one: every header.
    if pattern == NO_LINE_BREAK {
        return !bytes.iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r'));
    }
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    PATTERNS.with_borrow_mut(|patterns| {
        let regex = patterns.entry(pattern).or_insert_with(|| Regex::new(pattern).ok());
        // A test compiles every pattern of the schema.
        regex.as_ref().is_some_and(|regex| regex.is_match(&text))
    })
}

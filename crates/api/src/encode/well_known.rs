//! Durations, timestamps, field masks, and JSON as data.

use super::{Encoder, Step, elements};
use crate::tree::{Node, Value};
use crate::wire::{put_bytes, put_delimited, put_tag, put_varint};
use std::collections::HashSet;

/// Ten thousand years.
const MAX_SECONDS: i64 = 3_652_500 * 86_400;

impl<'t> Encoder<'t> {
    pub(super) fn duration(&mut self, node: Node<'t>, out: &mut Vec<u8>) {
        let Ok(text) = self.text(node) else { return };
        match parse_duration(text) {
            Ok(parts) => put_parts(parts, out),
            Err(reason) => self.invalid(node, reason),
        }
    }

    pub(super) fn timestamp(&mut self, node: Node<'t>, out: &mut Vec<u8>) {
        let Ok(text) = self.text(node) else { return };
        match parse_timestamp(text) {
            Ok(parts) => put_parts(parts, out),
            Err(reason) => self.invalid(node, reason),
        }
    }

    pub(super) fn field_mask(&mut self, node: Node<'t>, out: &mut Vec<u8>) {
        let Ok(text) = self.text(node) else { return };
        for path in text.split(',').filter(|_| !text.is_empty()) {
            let mut snake = String::with_capacity(path.len() + 4);
            for character in path.chars() {
                if character.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(character.to_ascii_lowercase());
            }
            put_tag(out, 1, 2);
            put_bytes(out, snake.as_bytes());
        }
    }

    /// `google.protobuf.Struct`
    pub(super) fn structure(&mut self, node: Node<'t>, out: &mut Vec<u8>) {
        self.path.push(Step::Struct);
        let entries = match node.value() {
            Value::Map(entries) => Some(entries),
            _ => None,
        };
        match entries {
            None => self.unexpected(node, '{'),
            Some(entries) if self.enter(node) => {
                let mut keys = HashSet::new();
                for (index, (key, value)) in entries.enumerate() {
                    self.path.push(Step::Index(index as u32));
                    self.check_key(key, &mut keys);
                    self.path.pop();
                    put_tag(out, 1, 2);
                    put_delimited(out, |out| {
                        put_tag(out, 1, 2);
                        put_bytes(out, key.text().as_bytes());
                        put_tag(out, 2, 2);
                        put_delimited(out, |out| self.value(value, out));
                    });
                }
                self.depth -= 1;
            }
            Some(_) => {}
        }
        self.path.pop();
    }

    /// `google.protobuf.ListValue`
    pub(super) fn list_value(&mut self, node: Node<'t>, out: &mut Vec<u8>) {
        self.path.push(Step::List);
        match elements(node) {
            None => self.unexpected(node, '['),
            Some(elements) if self.enter(node) => {
                for element in elements {
                    put_tag(out, 1, 2);
                    put_delimited(out, |out| self.value(element, out));
                }
                self.depth -= 1;
            }
            Some(_) => {}
        }
        self.path.pop();
    }

    /// `google.protobuf.Value`
    pub(super) fn value(&mut self, node: Node<'t>, out: &mut Vec<u8>) {
        let double = |value: f64, out: &mut Vec<u8>| {
            put_tag(out, 2, 1);
            out.extend_from_slice(&value.to_le_bytes());
        };
        match node.value() {
            Value::Null => {
                put_tag(out, 1, 0);
                out.push(0);
            }
            Value::Int(value) => double(value as f64, out),
            Value::Number(text) => double(text.parse().unwrap_or_default(), out),
            Value::Text(text) => {
                put_tag(out, 3, 2);
                put_bytes(out, text.as_bytes());
            }
            Value::Bool(value) => {
                put_tag(out, 4, 0);
                out.push(u8::from(value));
            }
            Value::Map(_) => {
                put_tag(out, 5, 2);
                put_delimited(out, |out| self.structure(node, out));
            }
            Value::Seq(_) => {
                put_tag(out, 6, 2);
                put_delimited(out, |out| self.list_value(node, out));
            }
        }
    }
}

fn put_parts((seconds, nanos): (i64, i32), out: &mut Vec<u8>) {
    if seconds != 0 {
        put_tag(out, 1, 0);
        put_varint(out, seconds as u64);
    }
    if nanos != 0 {
        put_tag(out, 2, 0);
        put_varint(out, i64::from(nanos) as u64);
    }
}

/// Seconds and nanoseconds of `1.5s`; the error is protobuf's reason.
pub(crate) fn parse_duration(text: &str) -> Result<(i64, i32), &'static str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    if end == 0 {
        return Err("duration must start with an integer");
    }
    let (digits, rest) = text.split_at(end);
    let seconds: i64 = digits.parse().map_err(|_| "duration had bad seconds")?;
    if !(-MAX_SECONDS..=MAX_SECONDS).contains(&seconds) {
        return Err("duration out of range");
    }
    let (nanos, rest) = take_fraction(rest).ok_or("duration had bad nanoseconds")?;
    if rest != "s" {
        return Err("duration must end with a single 's'");
    }
    Ok((seconds, if digits.starts_with('-') { -nanos } else { nanos }))
}

/// Nanoseconds of `.5…`, and what follows; no fraction is zero.
fn take_fraction(text: &str) -> Option<(i32, &str)> {
    let Some(digits) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 || end > 9 {
        return None;
    }
    let (digits, rest) = digits.split_at(end);
    Some((digits.parse::<i32>().ok()? * 10_i32.pow(9 - end as u32), rest))
}

/// Seconds since 1970 and nanoseconds of an RFC 3339 time; the error is protobuf's reason.
pub(crate) fn parse_timestamp(text: &str) -> Result<(i64, i32), &'static str> {
    fn take(text: &mut &str, digits: usize, end: &str) -> Option<i64> {
        let number = text.get(..digits).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
        *text = text[digits..].strip_prefix(end)?;
        number.parse().ok()
    }
    if text.len() < 20 {
        return Err("timestamp string too short");
    }
    let mut rest = text;
    let year = take(&mut rest, 4, "-").filter(|year| *year > 0).ok_or("bad year in timestamp")?;
    let month =
        take(&mut rest, 2, "-").filter(|month| (1..=12).contains(month)).ok_or("bad month in timestamp")?;
    let day = take(&mut rest, 2, "T").filter(|day| (1..=31).contains(day)).ok_or("bad day in timestamp")?;
    let hour = take(&mut rest, 2, ":").ok_or("bad hours in timestamp")?;
    let minute = take(&mut rest, 2, ":").ok_or("bad minutes in timestamp")?;
    let second = take(&mut rest, 2, "").ok_or("bad seconds in timestamp")?;
    let (nanos, rest) = take_fraction(rest).ok_or("timestamp had bad nanoseconds")?;
    let offset = match rest.as_bytes() {
        [] => return Err("timestamp missing timezone offset"),
        b"Z" => 0,
        [sign @ (b'+' | b'-'), ..] => {
            if rest.len() != 6 {
                return Err("timestamp offset of wrong size.");
            }
            let mut rest = &rest[1..];
            let hours = take(&mut rest, 2, ":");
            let minutes = take(&mut rest, 2, "");
            let (Some(hours), Some(minutes)) = (hours, minutes) else {
                return Err("timestamp offset has bad hours and minutes");
            };
            (hours * 60 + minutes) * if *sign == b'-' { -60 } else { 60 }
        }
        _ => return Err("bad timezone offset"),
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Ok((seconds - offset, nanos))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

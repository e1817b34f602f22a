//! Texts, numbers, bytes and times in JSON.

use std::fmt::{self, Write};

/// Writes a JSON string with the escapes of protobuf's printer, which are more than JSON asks for: `<`, `>` and what is
/// invisible are escaped too.
///
/// # Errors
/// Only those of `out`.
pub fn write_quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        if !must_escape(character) {
            continue;
        }
        out.write_str(&text[plain..at])?;
        plain = at + character.len_utf8();
        match character {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '"' => out.write_str("\\\"")?,
            '\u{c}' => out.write_str("\\f")?,
            '\u{8}' => out.write_str("\\b")?,
            '\\' => out.write_str("\\\\")?,
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
    }
    out.write_str(&text[plain..])?;
    out.write_char('"')
}

fn must_escape(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, '\0'..='\u{1f}' | '"' | '\\' | '<' | '>' | '\u{7f}');
    }
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{600}'..='\u{603}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

/// Writes a double as C's `%.17g` does with the fewest digits that give the same number again.
///
/// # Errors
/// Only those of `out`.
pub fn write_double(out: &mut dyn Write, value: f64) -> fmt::Result {
    write_float(out, value, &format!("{value:e}"))
}

/// Writes a single-precision number likewise.
pub(super) fn write_single(out: &mut dyn Write, value: f32) -> fmt::Result {
    write_float(out, f64::from(value), &format!("{value:e}"))
}

/// `scientific` is the shortest form with an exponent, as `1.5e-7`.
fn write_float(out: &mut dyn Write, value: f64, scientific: &str) -> fmt::Result {
    if value.is_nan() {
        return out.write_str("\"NaN\"");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // From how many digits on C changes to the exponent depends on the precision it needed.
    let precision = if digits.bytes().filter(u8::is_ascii_digit).count() > 15 { 17 } else { 15 };
    if (-4..precision).contains(&exponent) {
        return write!(out, "{}", plain(digits, exponent));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{digits}e{sign}{:02}", exponent.abs())
}

/// Digits with an exponent as a plain number.
fn plain(digits: &str, exponent: i32) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let point = whole.len() as i32 + exponent;
    if point <= 0 {
        return format!("{sign}0.{}{all}", "0".repeat(point.unsigned_abs() as usize));
    }
    let point = point as usize;
    if point >= all.len() {
        return format!("{sign}{all}{}", "0".repeat(point - all.len()));
    }
    format!("{sign}{}.{}", &all[..point], &all[point..])
}

/// Writes base64 in quotes.
pub(super) fn write_base64(out: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.write_char('"')?;
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            out.write_char(if at <= group.len() { char::from(digit) } else { '=' })?;
        }
    }
    out.write_char('"')
}

/// Writes `"1.500s"`.
pub(super) fn write_duration(out: &mut dyn Write, (seconds, nanos): (i64, i32)) -> fmt::Result {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    write!(out, "\"{sign}{}", seconds.unsigned_abs())?;
    write_fraction(out, nanos.unsigned_abs())?;
    out.write_str("s\"")
}

/// Writes an RFC 3339 time in quotes.
pub(super) fn write_timestamp(out: &mut dyn Write, (seconds, nanos): (i64, i32)) -> fmt::Result {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March and eras of 400 years on 0000-03-01, so that leap days come last.
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era.saturating_mul(400).saturating_add(year + carry);
    let (hours, minutes, seconds) = (time / 3_600, time / 60 % 60, time % 60);
    write!(out, "\"{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}")?;
    write_fraction(out, nanos.unsigned_abs())?;
    out.write_str("Z\"")
}

/// Writes nothing, or a point and three, six or nine digits.
fn write_fraction(out: &mut dyn Write, nanos: u32) -> fmt::Result {
    match nanos {
        0 => Ok(()),
        _ if nanos.is_multiple_of(1_000_000) => write!(out, ".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => write!(out, ".{:06}", nanos / 1_000),
        _ => write!(out, ".{nanos:09}"),
    }
}

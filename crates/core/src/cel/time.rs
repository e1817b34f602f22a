//! Durations and points in time: as text, from text, and their parts.

use crate::calendar::Civil;

pub(super) const SECOND: i64 = 1_000_000_000;

/// As `absl::FormatDuration` writes it: `1h2m3.5s`, `1.5ms`, `0`.
pub(super) fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |n: u64, unit: u64, name: &str| {
        let digits = unit.ilog10() as usize;
        let text = match n % unit {
            0 => (n / unit).to_string(),
            rest => format!("{}.{rest:0digits$}", n / unit).trim_end_matches('0').to_owned(),
        };
        format!("{text}{name}")
    };
    const S: u64 = 1_000_000_000;
    if n < S {
        let text = match n {
            0..1_000 => format!("{n}ns"),
            1_000..1_000_000 => decimal(n, 1_000, "us"),
            _ => decimal(n, 1_000_000, "ms"),
        };
        return format!("{sign}{text}");
    }
    let mut out = sign.to_owned();
    let (hours, minutes, seconds) = (n / (3600 * S), n / (60 * S) % 60, n % (60 * S));
    if hours > 0 {
        out += &format!("{hours}h");
    }
    if minutes > 0 {
        out += &format!("{minutes}m");
    }
    if seconds > 0 {
        out += &decimal(seconds, S, "s");
    }
    out
}

/// As JSON has it: `1.500s`.
pub(super) fn json_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    format!("{sign}{}{}s", n / 1_000_000_000, json_fraction((n % 1_000_000_000) as u32))
}

/// Three, six or nine digits.
fn json_fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        n if n % 1_000_000 == 0 => format!(".{:03}", n / 1_000_000),
        n if n % 1_000 == 0 => format!(".{:06}", n / 1_000),
        n => format!(".{n:09}"),
    }
}

/// RFC 3339, with this for the zone (`Z` is JSON's, with its number of digits).
pub(super) fn timestamp(nanos: i128, zone: &str) -> String {
    let (secs, rest) = (nanos.div_euclid(SECOND.into()), nanos.rem_euclid(SECOND.into()));
    let c = Civil::of(i64::try_from(secs).unwrap_or(0));
    let rest = u32::try_from(rest).unwrap_or(0);
    let fraction = match (rest, zone) {
        (0, _) => String::new(),
        (n, "Z") => json_fraction(n),
        (n, _) => format!(".{n:09}").trim_end_matches('0').to_owned(),
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}{zone}",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

/// From `1h2m3.5s`.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let n: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        const UNITS: &[(&str, f64)] =
            &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
        let (name, unit) = UNITS.iter().find(|(name, _)| rest.starts_with(name))?;
        total += n * unit;
        rest = &rest[name.len()..];
    }
    (!text.is_empty() && total < 9e18).then_some((sign * total) as i64)
}

/// From RFC 3339.
pub(super) fn parse_timestamp(text: &str) -> Option<i128> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let b = text.as_bytes();
    let signs = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !signs.iter().all(|(at, sign)| b.get(*at).map(u8::to_ascii_uppercase) == Some(*sign)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if !valid || second > 59 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let kept = fraction.get(..digits.min(9)).filter(|d| !d.is_empty())?;
        nanos = format!("{kept:0<9}").parse::<i64>().ok()?;
        rest = &fraction[digits..];
    }
    let secs = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(rest)?;
    Some(i128::from(secs) * i128::from(SECOND) + i128::from(nanos))
}

/// A zone's distance from UTC in seconds: `Z`, `UTC`, `+01:00`, `02:30`.
pub(super) fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z" | "UTC" | "") {
        return (!zone.is_empty()).then_some(0);
    }
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (h, m) = rest.split_once(':')?;
    let (h, m): (i64, i64) = (h.parse().ok()?, m.parse().ok()?);
    (h.abs() < 24 && (0..60).contains(&m)).then_some(sign * (h * 3600 + m * 60))
}

/// Days from 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A part of a point in time, as the methods of CEL count: months, days and weekdays from 0 (`getDate` from 1).
pub(super) fn part(method: &str, nanos: i128) -> Option<i64> {
    let secs = i64::try_from(nanos.div_euclid(SECOND.into())).ok()?;
    let c = Civil::of(secs);
    let (month, day) = (i64::from(c.month), i64::from(c.day));
    Some(match method {
        "getFullYear" => c.year,
        "getMonth" => month - 1,
        "getDate" => day,
        "getDayOfMonth" => day - 1,
        "getDayOfWeek" => c.weekday.into(),
        "getDayOfYear" => i64::from(c.day_of_year) - 1,
        "getHours" => c.hour.into(),
        "getMinutes" => c.minute.into(),
        "getSeconds" => c.second.into(),
        "getMilliseconds" => i64::try_from(nanos.rem_euclid(SECOND.into()) / 1_000_000).ok()?,
        _ => return None,
    })
}

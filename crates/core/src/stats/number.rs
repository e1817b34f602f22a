//! Floating point numbers as Envoy prints them.

use std::fmt::Write;

/// Appends `value` as fmtlib's `{}` does (`/stats` quantiles): shortest digits that read back as the same number,
/// with an exponent below 1e-4 and from 1e16 on.
pub(super) fn push_shortest(out: &mut String, value: f64) {
    if !value.is_finite() {
        return push_special(out, value);
    }
    let exponent = exponent_of(value);
    if value == 0.0 || (-4..16).contains(&exponent) {
        push_fmt(out, format_args!("{value}"));
    } else {
        push_scientific(out, &format!("{value:e}"));
    }
}

/// Appends `value` as C++ `std::to_chars` does (Envoy's JSON): the shorter of the plain and the scientific form,
/// the plain one if they are equally long. NaN is `null`.
pub(super) fn push_json(out: &mut String, value: f64) {
    if !value.is_finite() {
        return out.push_str("null");
    }
    let plain = format!("{value}");
    let mut scientific = String::new();
    push_scientific(&mut scientific, &format!("{value:e}"));
    out.push_str(if scientific.len() < plain.len() { &scientific } else { &plain });
}

/// Appends `value` as C's `%.{precision}g`.
pub(super) fn push_general(out: &mut String, value: f64, precision: usize) {
    if !value.is_finite() {
        return push_special(out, value);
    }
    if value == 0.0 {
        return out.push('0');
    }
    let rounded = format!("{value:.*e}", precision - 1);
    let (digits, exponent) = split_exponent(&rounded);
    if (-4..precision as i32).contains(&exponent) {
        let decimals = (precision as i32 - 1 - exponent) as usize;
        let fixed = format!("{value:.decimals$}");
        out.push_str(strip_zeros(&fixed));
    } else {
        push_scientific(out, &format!("{}e{exponent}", strip_zeros(digits)));
    }
}

fn push_fmt(out: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(args);
}

fn push_special(out: &mut String, value: f64) {
    out.push_str(if value.is_nan() {
        "nan"
    } else if value > 0.0 {
        "inf"
    } else {
        "-inf"
    });
}

fn exponent_of(value: f64) -> i32 {
    split_exponent(&format!("{value:e}")).1
}

fn split_exponent(text: &str) -> (&str, i32) {
    // Rust's `{:e}` always has an exponent.
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    (digits, exponent.parse().unwrap_or(0))
}

/// C writes an exponent with its sign and at least two digits.
fn push_scientific(out: &mut String, text: &str) {
    let (digits, exponent) = split_exponent(text);
    let sign = if exponent < 0 { '-' } else { '+' };
    push_fmt(out, format_args!("{digits}e{sign}{:02}", exponent.unsigned_abs()));
}

fn strip_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(f: impl Fn(&mut String)) -> String {
        let mut out = String::new();
        f(&mut out);
        out
    }

    #[test]
    fn quantiles_of_the_text_output() {
        for (value, text) in [
            (0.0, "0"),
            (1.05, "1.05"),
            (495.00000000000006, "495.00000000000006"),
            (3750000.0, "3750000"),
            (1e15, "1000000000000000"),
            (1e16, "1e+16"),
            (1.5e17, "1.5e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(with(|out| push_shortest(out, value)), text);
        }
    }

    #[test]
    fn json_takes_the_shorter_form() {
        for (value, text) in [
            (300000.0, "3e+05"),
            (60000.0, "60000"),
            (1800000.0, "1800000"),
            (105000.0, "105000"),
            (110.00000000000001, "110.00000000000001"),
            (0.1, "0.1"),
            (99.5, "99.5"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(with(|out| push_json(out, value)), text);
        }
    }

    #[test]
    fn general_is_c_printf() {
        assert_eq!(with(|out| push_general(out, 1800000.0, 6)), "1.8e+06");
        assert_eq!(with(|out| push_general(out, 300000.0, 6)), "300000");
        assert_eq!(with(|out| push_general(out, 0.5, 6)), "0.5");
        assert_eq!(with(|out| push_general(out, 99.9, 6)), "99.9");
        assert_eq!(with(|out| push_general(out, 110.00000000000001, 15)), "110");
        assert_eq!(with(|out| push_general(out, 0.1, 15)), "0.1");
        let sum = 3.0491803278688522;
        assert_eq!(with(|out| push_general(out, sum, 32)), "3.0491803278688522915729208762059");
        assert_eq!(with(|out| push_general(out, 1e33, 32)), "9.9999999999999994557523098704282e+32");
        assert_eq!(with(|out| push_general(out, 3600000.0, 32)), "3600000");
    }
}

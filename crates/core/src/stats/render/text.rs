//! `/stats`: a line per stat.

use super::Histogram;
use crate::stats::histogram::{Distribution, QUANTILES};
use crate::stats::number::{push_general, push_shortest};
use crate::stats::query::BucketMode;

/// Appends a whole number; `write!` is several times slower, and there may be a million.
pub(super) fn push_number(out: &mut String, value: u64) {
    let mut text = [0; 20];
    let at = digits(value, &mut text);
    push_ascii(out, &text[at..]);
}

/// Writes a number to the end of `text`, and returns where it begins.
fn digits(mut value: u64, text: &mut [u8]) -> usize {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return at;
        }
    }
}

fn push_ascii(out: &mut String, text: &[u8]) {
    // Digits and what stands around them always are UTF-8.
    out.push_str(std::str::from_utf8(text).unwrap_or_default());
}

pub(super) fn number(name: &str, value: u64, out: &mut String) {
    // All behind the name at once.
    let mut text = *b": 00000000000000000000\n";
    let end = text.len() - 1;
    let at = digits(value, &mut text[2..end]);
    text[at..at + 2].copy_from_slice(b": ");
    out.push_str(name);
    push_ascii(out, &text[at..]);
}

pub(super) fn string(name: &str, value: &str, out: &mut String) {
    out.push_str(name);
    out.push_str(": \"");
    out.push_str(value);
    out.push_str("\"\n");
}

pub(super) fn histogram(
    mode: BucketMode,
    name: &str,
    histogram: &Histogram<'_>,
    bounds: &[f64],
    out: &mut String,
) {
    out.push_str(name);
    if !histogram.used {
        return out.push_str(": No recorded values\n");
    }
    match mode {
        BucketMode::Unset | BucketMode::Summary => {
            out.push_str(": ");
            summary(histogram, out);
        }
        BucketMode::Cumulative | BucketMode::Disjoint => {
            out.push_str(": ");
            let disjoint = mode == BucketMode::Disjoint;
            let interval = histogram.counts(histogram.interval, bounds, disjoint);
            let cumulative = histogram.counts(histogram.cumulative, bounds, disjoint);
            for ((i, bound), (interval, cumulative)) in
                bounds.iter().enumerate().zip(interval.zip(cumulative))
            {
                out.push_str(if i == 0 { "B" } else { " B" });
                push_general(out, *bound, 6);
                pair(out, |out| push_number(out, interval), |out| push_number(out, cumulative));
            }
        }
        BucketMode::Detailed => {
            out.push_str(":\n  totals=");
            details(histogram.cumulative, out);
            out.push_str("\n  intervals=");
            details(histogram.interval, out);
            out.push_str("\n  summary=");
            summary(histogram, out);
        }
    }
    out.push('\n');
}

fn pair(out: &mut String, first: impl FnOnce(&mut String), second: impl FnOnce(&mut String)) {
    out.push('(');
    first(out);
    out.push(',');
    second(out);
    out.push(')');
}

fn summary(histogram: &Histogram<'_>, out: &mut String) {
    let interval = histogram.quantiles(histogram.interval);
    let cumulative = histogram.quantiles(histogram.cumulative);
    for (i, quantile) in QUANTILES.iter().enumerate() {
        out.push_str(if i == 0 { "P" } else { " P" });
        push_general(out, 100.0 * quantile, 6);
        pair(out, |out| push_shortest(out, interval[i]), |out| push_shortest(out, cumulative[i]));
    }
}

fn details(distribution: &Distribution, out: &mut String) {
    for (i, bucket) in distribution.buckets().enumerate() {
        if i != 0 {
            out.push_str(", ");
        }
        push_general(out, bucket.lower_bound, 15);
        out.push(',');
        push_general(out, bucket.width, 15);
        out.push(':');
        push_number(out, bucket.count);
    }
}

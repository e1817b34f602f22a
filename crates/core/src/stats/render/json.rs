//! `/stats?format=json`: one object with an array of stats, the last of which holds all histograms.

use super::Histogram;
use super::text::push_number;
use crate::stats::histogram::{Distribution, QUANTILES};
use crate::stats::number::push_json;
use crate::stats::query::BucketMode;

#[derive(Default)]
pub(super) struct Writer {
    any: bool,
    any_histogram: bool,
}

impl Writer {
    pub(super) fn begin(&mut self, out: &mut String) {
        out.push_str("{\"stats\":[");
    }

    fn item(&mut self, name: &str, out: &mut String) {
        self.comma(out);
        out.push_str("{\"name\":");
        push_string(out, name);
        out.push_str(",\"value\":");
    }

    fn comma(&mut self, out: &mut String) {
        if std::mem::replace(&mut self.any, true) {
            out.push(',');
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64, out: &mut String) {
        self.item(name, out);
        push_number(out, value);
        out.push('}');
    }

    pub(super) fn string(&mut self, name: &str, value: &str, out: &mut String) {
        self.item(name, out);
        push_string(out, value);
        out.push('}');
    }

    pub(super) fn histogram(
        &mut self,
        mode: BucketMode,
        name: &str,
        histogram: &Histogram<'_>,
        bounds: &[f64],
        out: &mut String,
    ) {
        if std::mem::replace(&mut self.any_histogram, true) {
            out.push(',');
        } else {
            self.comma(out);
            begin_histograms(mode, out);
        }
        out.push_str("{\"name\":");
        push_string(out, name);
        match mode {
            BucketMode::Unset | BucketMode::Summary => {
                out.push_str(",\"values\":");
                quantiles(histogram, out);
            }
            BucketMode::Cumulative | BucketMode::Disjoint => {
                out.push_str(",\"buckets\":");
                let disjoint = mode == BucketMode::Disjoint;
                let interval = histogram.counts(histogram.interval, bounds, disjoint);
                let cumulative = histogram.counts(histogram.cumulative, bounds, disjoint);
                array(
                    out,
                    bounds.iter().zip(interval.zip(cumulative)),
                    |out, (bound, (interval, cumulative))| {
                        out.push_str("{\"upper_bound\":");
                        push_json(out, *bound);
                        out.push_str(",\"interval\":");
                        push_number(out, interval);
                        out.push_str(",\"cumulative\":");
                        push_number(out, cumulative);
                        out.push('}');
                    },
                );
            }
            BucketMode::Detailed => {
                out.push_str(",\"totals\":");
                details(histogram.cumulative, out);
                out.push_str(",\"intervals\":");
                details(histogram.interval, out);
                out.push_str(",\"percentiles\":");
                quantiles(histogram, out);
            }
        }
        out.push('}');
    }

    pub(super) fn end(&mut self, mode: BucketMode, out: &mut String) {
        if self.any_histogram {
            out.push_str(if is_flat(mode) { "]}" } else { "]}}" });
        }
        out.push_str("]}");
    }
}

/// Whether the histograms are a plain array, without the list of quantiles.
fn is_flat(mode: BucketMode) -> bool {
    matches!(mode, BucketMode::Cumulative | BucketMode::Disjoint)
}

fn begin_histograms(mode: BucketMode, out: &mut String) {
    out.push_str("{\"histograms\":");
    if is_flat(mode) {
        return out.push('[');
    }
    let (supported, list) = match mode {
        BucketMode::Detailed => ("supported_percentiles", "details"),
        _ => ("supported_quantiles", "computed_quantiles"),
    };
    out.push_str("{\"");
    out.push_str(supported);
    out.push_str("\":");
    array(out, QUANTILES.iter(), |out, quantile| push_json(out, quantile * 100.0));
    out.push_str(",\"");
    out.push_str(list);
    out.push_str("\":[");
}

fn array<T>(out: &mut String, items: impl Iterator<Item = T>, mut item: impl FnMut(&mut String, T)) {
    out.push('[');
    for (i, value) in items.enumerate() {
        if i != 0 {
            out.push(',');
        }
        item(out, value);
    }
    out.push(']');
}

fn quantiles(histogram: &Histogram<'_>, out: &mut String) {
    let interval = histogram.quantiles(histogram.interval);
    let cumulative = histogram.quantiles(histogram.cumulative);
    array(out, cumulative.iter().zip(interval), |out, (cumulative, interval)| {
        out.push_str("{\"cumulative\":");
        push_json(out, *cumulative);
        out.push_str(",\"interval\":");
        push_json(out, interval);
        out.push('}');
    });
}

fn details(distribution: &Distribution, out: &mut String) {
    array(out, distribution.buckets(), |out, bucket| {
        out.push_str("{\"lower_bound\":");
        push_json(out, bucket.lower_bound);
        out.push_str(",\"width\":");
        push_json(out, bucket.width);
        out.push_str(",\"count\":");
        push_number(out, bucket.count);
        out.push('}');
    });
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') {
        out.push_str(&rest[..at]);
        let c = rest.as_bytes()[at];
        match c {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            _ => {
                out.push_str("\\u00");
                out.push(if c < 0x10 { '0' } else { '1' });
                out.push(char::from_digit(u32::from(c % 16), 16).unwrap_or('0'));
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

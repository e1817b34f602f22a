//! Against outputs of Envoy 1.40.0 (`testdata`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{parse, text};
use crate::stats;
use crate::stats::*;

stats! {
    struct Any {
        counters: CounterFamily = "",
        gauges: GaugeFamily = "",
        histograms: HistogramFamily(Milliseconds) = "",
    }
    struct ClusterHistograms {
        upstream_rq_body_size: Histogram(Bytes),
    }
}

const STATS: &str = include_str!("../testdata/stats.txt");
const PROMETHEUS: &str = include_str!("../testdata/prometheus.txt");
const HISTOGRAMS: &str = include_str!("../testdata/histograms.txt");

/// The series of a Prometheus output, without values: `(series, kind)`.
fn series() -> Vec<(&'static str, &'static str)> {
    let mut kind = "";
    let mut found = Vec::new();
    for line in PROMETHEUS.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(header) => kind = header.split_once(' ').expect("name and kind").1,
            None => found.push((line.rsplit_once(' ').expect("series and value").0, kind)),
        }
    }
    found
}

fn series_of(producer: &tags::TagProducer, name: &str) -> String {
    let found = producer.extract(name);
    let mut extracted = String::new();
    found.push_extracted_name(name, &mut extracted);
    let legal = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_");
    let labels: Vec<String> = found.tags.iter().map(|(n, v)| format!("{}=\"{v}\"", legal(n))).collect();
    format!("envoy_{}{{{}}}", legal(&extracted), labels.join(","))
}

/// The names in `/stats`, and whether each is a histogram.
fn names() -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    STATS.lines().map(|line| {
        let (name, value) = line.split_once(": ").expect("name and value");
        (name, value, value.starts_with("P0(") || value == "No recorded values")
    })
}

#[test]
fn every_name_becomes_the_series_that_envoy_made_of_it() {
    let producer = tags::TagProducer::default();
    let mut expected: BTreeMap<&str, &str> = series().into_iter().collect();
    for (name, _, is_histogram) in names() {
        let series = series_of(&producer, name);
        if is_histogram {
            for suffix in ["_sum{", "_count{"] {
                let series = series.replacen('{', suffix, 1);
                assert_eq!(expected.remove(&*series), Some("histogram"), "{name}: {series}");
            }
        } else {
            assert!(expected.remove(&*series).is_some(), "{name}: {series}");
        }
    }
    assert_eq!(expected, BTreeMap::new(), "series that no stat became");
}

/// A store with the stats of the golden output. The prefix of each is cut anywhere, so that groups interleave.
fn golden_store() -> (Store, Vec<Any>) {
    let producer = tags::TagProducer::default();
    let kinds: BTreeMap<&str, &str> = series().into_iter().collect();
    let store = Store::new();
    let mut groups = Vec::new();
    for (i, (name, value, is_histogram)) in names().enumerate() {
        let dots: Vec<usize> = name.match_indices('.').map(|(at, _)| at).collect();
        let dot = dots[i * 7 % dots.len()];
        let group = Any::new(&store.scope(&name[..dot]));
        let key = &name[dot + 1..];
        if is_histogram {
            let _ = group.histograms().get(key);
        } else {
            let value = value.parse().expect("a number");
            match kinds[&*series_of(&producer, name)] {
                "counter" => group.counters().get(key).add(value),
                _ => group.gauges().get(key).set(value),
            }
        }
        groups.push(group);
    }
    (store, groups)
}

#[test]
fn stats_output() {
    let (store, _groups) = golden_store();
    let ours = text(&store, "");
    let mut lines = ours.lines();
    for (name, value, is_histogram) in names() {
        let expected = if is_histogram { "No recorded values" } else { value };
        assert_eq!(lines.next(), Some(&*format!("{name}: {expected}")));
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn prometheus_output() {
    let (store, _groups) = golden_store();
    let ours = text(&store, "format=prometheus");
    let name_only = |line: &str| match line.starts_with('#') {
        true => line.to_owned(),
        false => line.rsplit_once(' ').expect("series and value").0.to_owned(),
    };
    let ours: Vec<String> = ours.lines().filter(|line| !line.contains("_bucket{")).map(name_only).collect();
    let golden: Vec<String> = PROMETHEUS.lines().map(name_only).collect();
    for (ours, golden) in ours.iter().zip(&golden) {
        assert_eq!(ours, golden);
    }
    assert_eq!(ours.len(), golden.len());
}

/// What Envoy printed for values sent as body sizes, in two flush intervals.
#[test]
fn histogram_outputs() {
    let store = Store::new();
    let settings = Settings {
        histogram_buckets: vec![(Arc::new(|n| n.starts_with("cluster.b.")), Arc::from([3.0, 20.5, 100.0]))],
        ..Settings::default()
    };
    store.configure(settings);
    let groups = ["a", "a_b", "b"].map(|name| ClusterHistograms::new(&store.scope("cluster").scope(name)));
    let record = |group: usize, values: &[u64]| {
        values.iter().for_each(|v| groups[group].upstream_rq_body_size().record(*v));
    };
    record(0, &[0, 1, 7, 7, 7, 45, 1009]);
    store.flush_histograms();
    record(0, &[0, 3, 3, 3, 15, 16, 99, 250, 259, 333, 12000, 3_712_345]);
    record(2, &[3, 3, 3, 15, 16, 99, 250, 259, 333, 12000, 300_000, 1_799_999]);
    store.flush_histograms();
    let mut sections = 0;
    for section in HISTOGRAMS.split("== ").skip(1) {
        let (head, expected) = section.split_once('\n').expect("a title");
        let (mode, format) = head.split_once(' ').expect("mode and format");
        let query = format!("histogram_buckets={mode}&format={format}");
        let ours = match Query::parse(&query, false, |_| Err(String::new())) {
            Ok(query) => Render::new(&store, query, Vec::new()).into_string(),
            Err(error) => error,
        };
        for (ours, expected) in ours.lines().zip(expected.lines()) {
            assert_eq!(ours, expected, "{head}");
        }
        assert_eq!(ours.trim_end(), expected.trim_end(), "{head}");
        sections += 1;
    }
    assert_eq!(sections, 12);
}

/// Quantiles of the golden output that a single sample explains.
#[test]
fn quantiles_of_single_samples() {
    let store = Store::new();
    for (value, printed) in
        [(495, "495.00000000000006"), (3, "3.05"), (52, "52.5"), (405, "405"), (5050, "5050")]
    {
        let group = ClusterHistograms::new(&store.scope(&format!("v{value}")));
        group.upstream_rq_body_size().record(value);
        store.flush_histograms();
        let line = text(&store, &format!("filter=v{value}."));
        assert!(line.contains(&format!(" P50({printed},{printed}) ")), "{line}");
        store.flush_histograms();
        let line = text(&store, &format!("filter=v{value}."));
        assert!(line.contains(&format!(" P50(nan,{printed}) ")), "{line}");
    }
    assert_eq!(parse("").buckets, BucketMode::Unset);
}

//! What is listed, in which order, and with which value.

use std::sync::Arc;

use super::{parse, text};
use crate::stats;
use crate::stats::*;

stats! {
    struct Cluster {
        upstream_rq_total: Counter,
        upstream_rq_active: Gauge,
        membership_total: SetGauge,
        membership_change: SharedCounter,
        version_text: Text,
        cx_open: Derived = "circuit_breakers.default.cx_open",
        rq_open: Derived = "circuit_breakers.default.rq_open",
        fallback: Counter lazy = "lb.fallback",
        upstream_rq_time: Histogram(Milliseconds) lazy,
        length: Histogram(Percent) = "length",
        rq: Codes lazy = "upstream_rq",
        external: Codes lazy = "external.upstream_rq",
        ciphers: CounterFamily = "ciphers.",
        sizes: HistogramFamily(Bytes) = "sizes.",
    }
    struct Other {
        after: Counter = "z",
        before: Counter = "b.upstream_rq_total2",
    }
}

fn cluster(store: &Store, name: &str) -> Cluster {
    Cluster::new(&store.scope("cluster").scope(name))
}

#[test]
fn eager_stats_are_listed_at_zero_and_lazy_ones_once_used() {
    let store = Store::new();
    let a = cluster(&store, "a");
    assert_eq!(
        text(&store, ""),
        "cluster.a.version_text: \"\"\n\
         cluster.a.circuit_breakers.default.cx_open: 0\n\
         cluster.a.circuit_breakers.default.rq_open: 0\n\
         cluster.a.membership_change: 0\n\
         cluster.a.membership_total: 0\n\
         cluster.a.upstream_rq_active: 0\n\
         cluster.a.upstream_rq_total: 0\n\
         cluster.a.length: No recorded values\n"
    );
    assert_eq!(text(&store, "usedonly"), "");
    a.upstream_rq_total().add(0);
    a.upstream_rq_active().add(3);
    a.upstream_rq_active().dec();
    a.membership_total().set(7);
    a.membership_change().inc();
    a.version_text().set("v1");
    a.cx_open().set(|| Some(1));
    a.group().derive(Arc::new(|gauges: &mut DerivedGauges| {
        gauges.set(const { Cluster::derived("cx_open") }, 5);
    }));
    a.fallback().inc();
    a.rq().record(503);
    a.rq().record(503);
    a.rq().record(200);
    a.external().record_code(42);
    a.ciphers().get("X").add(2);
    a.upstream_rq_time().record(1);
    a.sizes().get("x").record(1);
    a.length().record(500_000);
    assert_eq!(
        text(&store, "usedonly"),
        "cluster.a.version_text: \"v1\"\n\
         cluster.a.ciphers.X: 2\n\
         cluster.a.circuit_breakers.default.cx_open: 1\n\
         cluster.a.external.upstream_rq_unknown: 1\n\
         cluster.a.lb.fallback: 1\n\
         cluster.a.membership_change: 1\n\
         cluster.a.membership_total: 7\n\
         cluster.a.upstream_rq_200: 1\n\
         cluster.a.upstream_rq_2xx: 1\n\
         cluster.a.upstream_rq_503: 2\n\
         cluster.a.upstream_rq_5xx: 2\n\
         cluster.a.upstream_rq_active: 2\n\
         cluster.a.upstream_rq_completed: 3\n\
         cluster.a.upstream_rq_total: 0\n"
    );
    assert_eq!(
        text(&store, "type=Histograms"),
        "cluster.a.length: No recorded values\n\
         cluster.a.sizes.x: No recorded values\n\
         cluster.a.upstream_rq_time: No recorded values\n"
    );
    store.flush_histograms();
    let used = text(&store, "usedonly&type=Histograms");
    assert_eq!(used.lines().count(), 3);
    assert!(used.starts_with("cluster.a.length: P0(0.505,0.505) "), "{used}");
    assert!(text(&store, "format=prometheus&filter=length").contains("le=\"0.5\"} 1\n"));
}

/// The merge, against sorting everything.
#[test]
fn the_order_is_that_of_full_names() {
    let store = Store::new();
    let names = [
        "a",
        "a.b",
        "a-b",
        "a_b",
        "a.b.c",
        "b",
        "A",
        "a.upstream_rq_total",
        "z.z",
        "a.b.upstream_rq_active.x",
    ];
    let clusters: Vec<Cluster> = names.iter().map(|name| cluster(&store, name)).collect();
    let others: Vec<Other> =
        names.iter().map(|name| Other::new(&store.scope("cluster").scope(name))).collect();
    let more = [
        Other::new(&store.root()),
        Other::new(&store.scope("cluster")),
        Other::new(&store.scope("cluster-")),
    ];
    clusters.iter().for_each(|c| c.rq().record(204));
    others.iter().for_each(|o| o.after().inc());
    let ours = text(&store, "type=Counters");
    let lines: Vec<&str> = ours.lines().map(|line| line.split_once(": ").expect("name").0).collect();
    let mut sorted = lines.clone();
    sorted.sort_unstable();
    assert_eq!(lines, sorted);
    // Two counters and three codes, and two of Other; nothing is lost, nothing twice.
    assert_eq!(lines.len(), names.len() * 7 + more.len() * 2);
    sorted.dedup();
    assert_eq!(sorted.len(), lines.len());
}

#[test]
fn prometheus_orders_by_segment() {
    let store = Store::new();
    let _clusters: Vec<Cluster> = ["a-b", "a", "a_b"].iter().map(|name| cluster(&store, name)).collect();
    assert!(
        text(&store, "").find("cluster.a-b.").expect("a-b") < text(&store, "").find("cluster.a.").expect("a")
    );
    assert_eq!(
        text(&store, "format=prometheus&filter=upstream_rq_total"),
        "# TYPE envoy_cluster_upstream_rq_total counter\n\
         envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\"} 0\n\
         envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a-b\"} 0\n\
         envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a_b\"} 0\n"
    );
    cluster(&store, "a").version_text().set("v\"1\\\n");
    assert_eq!(
        text(&store, "format=prometheus&text_readouts&filter=.a.version"),
        "# TYPE envoy_cluster_version_text gauge\n\
         envoy_cluster_version_text{envoy_cluster_name=\"a\",text_value=\"v\\\"1\\\\\\n\"} 0\n"
    );
    assert_eq!(text(&store, "format=prometheus&filter=version"), "");
}

#[test]
fn json_output() {
    let store = Store::new();
    let _a = cluster(&store, "a\"\\\u{1}");
    assert_eq!(
        text(&store, "format=json&filter=_total"),
        r#"{"stats":[{"name":"cluster.a\"\\\u0001.membership_total","value":0},{"name":"cluster.a\"\\\u0001.upstream_rq_total","value":0}]}"#
    );
    assert_eq!(text(&store, "format=json&filter=nothing"), r#"{"stats":[]}"#);
    assert_eq!(text(&store, "format=json&hidden=only"), r#"{"stats":[]}"#);
    let histograms = text(&store, "format=json&type=Histograms&histogram_buckets=cumulative");
    assert!(histograms.starts_with(r#"{"stats":[{"histograms":[{"name":"#), "{histograms}");
    assert!(histograms.ends_with("]}]}]}"), "{histograms}");
}

#[test]
fn endpoints_come_after_the_stats() {
    let store = Store::new();
    let _a = cluster(&store, "a");
    let host = |metric: &str, is_counter| HostMetric {
        name: format!("cluster.a.endpoint.127.0.0.1_80.{metric}"),
        tag_extracted_name: format!("cluster.endpoint.{metric}"),
        tags: vec![
            ("envoy.cluster_name".into(), "a".into()),
            ("envoy.endpoint_address".into(), "127.0.0.1:80".into()),
        ],
        is_counter,
        value: 4,
    };
    let hosts = || vec![host("rq_total", true), host("cx_total", true), host("healthy", false)];
    let lines = Render::new(&store, parse("filter=total"), hosts()).into_string();
    assert_eq!(
        lines,
        "cluster.a.membership_total: 0\n\
         cluster.a.upstream_rq_total: 0\n\
         cluster.a.endpoint.127.0.0.1_80.rq_total: 4\n\
         cluster.a.endpoint.127.0.0.1_80.cx_total: 4\n"
    );
    let gauges = Render::new(&store, parse("type=Gauges&filter=healthy"), hosts()).into_string();
    assert_eq!(gauges, "cluster.a.endpoint.127.0.0.1_80.healthy: 4\n");
    let series = Render::new(&store, parse("format=prometheus&filter=endpoint"), hosts()).into_string();
    let labels = r#"{envoy_cluster_name="a",envoy_endpoint_address="127.0.0.1:80"} 4"#;
    assert_eq!(
        series,
        format!(
            "# TYPE envoy_cluster_endpoint_cx_total counter\nenvoy_cluster_endpoint_cx_total{labels}\n\
             # TYPE envoy_cluster_endpoint_rq_total counter\nenvoy_cluster_endpoint_rq_total{labels}\n\
             # TYPE envoy_cluster_endpoint_healthy gauge\nenvoy_cluster_endpoint_healthy{labels}\n"
        )
    );
}

#[test]
fn stats_matcher_hides_stats() {
    let store = Store::new();
    let a = cluster(&store, "a");
    a.rq().record(200);
    let _all = text(&store, "");
    let accept = |name: &str| !name.contains("upstream_rq_2") && !name.contains("membership");
    store.configure(Settings { accept: Some(Arc::new(accept)), ..Settings::default() });
    let _b = cluster(&store, "b");
    let out = text(&store, "type=Counters");
    assert_eq!(
        out,
        "cluster.a.upstream_rq_completed: 1\ncluster.a.upstream_rq_total: 0\ncluster.b.upstream_rq_total: 0\n"
    );
    assert!(!text(&store, "format=prometheus").contains("membership"));
    store.configure(Settings::default());
    assert!(text(&store, "").contains("cluster.a.upstream_rq_200: 1\n"));
}

#[test]
fn configured_tags_and_namespaces_reach_prometheus() {
    let store = Store::new();
    let cli = [("zone".to_owned(), "eu".to_owned())];
    store.configure(Settings {
        tags: tags::TagProducer::new(true, &cli, Vec::new()).expect("tags"),
        custom_namespaces: vec!["wasmcustom".into()],
        ..Settings::default()
    });
    let _a = cluster(&store, "a");
    let _custom = [Other::new(&store.scope("wasmcustom.x")), Other::new(&store.scope("wasmcustom.1"))];
    assert_eq!(
        text(&store, "format=prometheus&filter=upstream_rq_total&type=Counters"),
        "# TYPE envoy_cluster_upstream_rq_total counter\n\
         envoy_cluster_upstream_rq_total{zone=\"eu\",envoy_cluster_name=\"a\"} 0\n\
         # TYPE x_b_upstream_rq_total2 counter\n\
         x_b_upstream_rq_total2{zone=\"eu\"} 0\n"
    );
}

#[test]
fn resets_take_values_but_not_the_used_mark() {
    let store = Store::new();
    let a = cluster(&store, "a");
    a.upstream_rq_total().add(5);
    a.membership_change().add(2);
    a.upstream_rq_active().inc();
    a.rq().record(200);
    let mut gained = Vec::new();
    let mut collect = |store: &Store| {
        gained.clear();
        let mut snapshot = store.snapshot();
        while snapshot.step(3, |metric| {
            if let MetricValue::Counter { value, delta } = metric.value
                && metric.used
            {
                gained.push((metric.name.to_owned(), value, delta));
            }
        }) {}
        gained.clone()
    };
    let first = collect(&store);
    assert!(first.contains(&("cluster.a.upstream_rq_total".into(), 5, 5)), "{first:?}");
    store.reset_counters();
    a.upstream_rq_total().add(1);
    a.membership_change().inc();
    assert_eq!(
        text(&store, "usedonly"),
        "cluster.a.membership_change: 1\n\
         cluster.a.upstream_rq_200: 0\n\
         cluster.a.upstream_rq_2xx: 0\n\
         cluster.a.upstream_rq_active: 1\n\
         cluster.a.upstream_rq_completed: 0\n\
         cluster.a.upstream_rq_total: 1\n"
    );
    let second = collect(&store);
    assert!(second.contains(&("cluster.a.upstream_rq_total".into(), 1, 1)), "{second:?}");
    assert!(second.contains(&("cluster.a.membership_change".into(), 1, 1)), "{second:?}");
    assert!(second.contains(&("cluster.a.upstream_rq_200".into(), 0, 0)), "{second:?}");
}

#[test]
fn snapshots_carry_everything_with_tags() {
    let store = Store::new();
    let a = cluster(&store, "a");
    a.version_text().set("v");
    a.length().record(1_000_000);
    store.flush_histograms();
    let mut seen = Vec::new();
    let mut snapshot = store.snapshot();
    while snapshot.step(1000, |metric| {
        let tags = metric.tags();
        assert_eq!(tags.tags[0], ("envoy.cluster_name", "a"));
        let value = match &metric.value {
            MetricValue::Counter { .. } => "counter".to_owned(),
            MetricValue::Gauge(_) => "gauge".to_owned(),
            MetricValue::Text(text) => text.to_string(),
            MetricValue::Histogram(unit, flushed) => {
                let flushed = flushed.as_ref().expect("flushed");
                format!("{unit:?} {} {}", flushed.interval.count(), metric.bucket_bounds().len())
            }
        };
        seen.push((metric.tag_extracted_name(), value));
    }) {}
    assert_eq!(seen.len(), 8);
    assert_eq!(seen[0], ("cluster.version_text".into(), "v".into()));
    assert_eq!(seen[7], ("cluster.length".into(), "Percent 1 19".into()));
}

#[test]
fn names_are_sanitized() {
    for (name, clean) in [
        ("cluster.foo.", "cluster.foo"),
        (".listener.127.0.0.1:80.", "listener.127.0.0.1_80"),
        ("[::1]:80", "[__1]_80"),
        ("http://x/:/y:\0", "http_x/_y__"),
        ("", ""),
        (".", ""),
    ] {
        assert_eq!(sanitize(name), clean);
    }
    let store = Store::new();
    assert_eq!(store.scope("a").scope("").scope("b:c.").prefix(), "a.b_c.");
    let group = cluster(&store, "x");
    let _ = group.ciphers().get("evil\nname: 1");
    assert!(text(&store, "").contains("cluster.x.ciphers.evil_name_ 1: 0\n"));
}

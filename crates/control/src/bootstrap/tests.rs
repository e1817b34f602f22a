use super::*;
use nuncio_api::load::{Format, parse_message};
use nuncio_core::registry::Registry;

fn coverage() -> Coverage {
    let mut c = Coverage::default();
    c.add(coverage::COVERED);
    c
}
fn options(yaml: &str) -> Options {
    Options { config_yaml: yaml.to_owned(), ..Options::default() }
}
fn bootstrap(yaml: &str) -> pb::Bootstrap {
    parse_message(yaml.as_bytes(), Format::Yaml, "x", UnknownFields::Refuse).unwrap().message
}

#[test]
fn fields_that_nobody_reads_are_refused_by_name() {
    let e = load(&options("watchdogs: {}\nheader_prefix: x\nflags_path: /f"), &coverage()).unwrap_err();
    assert_eq!(e.phrase, "not implemented yet: Bootstrap.watchdogs");
    assert_eq!(e.details.len(), 3, "{e:?}");
    assert!(
        e.details.contains(&"header_prefix: not implemented yet: Bootstrap.header_prefix".to_owned()),
        "{e:?}"
    );
    assert!(load(&options("node: {id: a}\ncluster_manager: {local_cluster_name: x}"), &coverage()).is_ok());
}

#[test]
fn every_field_of_the_bootstrap_is_known_to_the_table() {
    // A misspelt row would refuse, or pass over, the wrong field.
    for c in coverage::COVERED {
        let m = nuncio_api::schema::message(c.message).unwrap_or_else(|| panic!("{}", c.message));
        for f in c.fields.iter().chain(c.ignored.iter().map(|(f, _)| f)) {
            assert!(m.field(f).is_some_and(|known| known.name() == *f), "{}.{f}", c.message);
        }
    }
}

#[test]
fn errors_carry_envoys_phrase_and_their_place() {
    assert_eq!(load(&options(""), &coverage()).unwrap_err().phrase, NO_CONFIG);
    let e = load(&options("node: {id: a}\nbogus_field: 1"), &coverage()).unwrap_err();
    assert!(e.phrase.contains("no such field: 'bogus_field'"), "{e:?}");
    assert!(e.details.iter().any(|d| d.starts_with("--config-yaml:2:1: ")), "{e:?}");
    let o = Options { allow_unknown_static_fields: true, ..options("bogus_field: 1") };
    assert!(load(&o, &coverage()).is_ok());
}
const NO_CONFIG: &str =
    "At least one of --config-path or --config-yaml or Options::configProto() should be non-empty";

#[test]
fn the_command_line_wins_over_the_node() {
    let b = bootstrap(
        "node: {id: a, cluster: b, locality: {region: r, zone: z}, metadata: {x: [1, true, {y: null}]}}",
    );
    let n = node(b.node.as_deref(), &Options::default(), &Registry::default());
    assert_eq!((n.info.id.as_str(), n.info.cluster.as_str(), n.info.zone.as_str()), ("a", "b", "z"));
    assert_eq!(n.json["metadata"], serde_json::json!({"x": [1, true, {"y": null}]}));
    let o = Options {
        service_node: "n".into(),
        service_cluster: "c".into(),
        service_zone: "zz".into(),
        ..Options::default()
    };
    let n = node(b.node.as_deref(), &o, &Registry::default());
    assert_eq!((n.info.id.as_str(), n.info.cluster.as_str(), n.info.zone.as_str()), ("n", "c", "zz"));
    assert_eq!(n.json["locality"], serde_json::json!({"region": "r", "zone": "zz", "sub_zone": ""}));
    let keys: Vec<&String> = n.json.as_object().unwrap().keys().collect();
    let envoys = [
        "id",
        "cluster",
        "metadata",
        "locality",
        "user_agent_name",
        "user_agent_build_version",
        "extensions",
        "client_features",
        "listening_addresses",
        "dynamic_parameters",
    ];
    assert_eq!(keys, envoys);
}

#[test]
fn flush_intervals() {
    let f = flush(&bootstrap("{}")).unwrap();
    assert_eq!((f.interval, f.on_admin), (Duration::from_secs(5), false));
    let f = flush(&bootstrap("{stats_flush_interval: 0.5s}")).unwrap();
    assert_eq!((f.interval, f.on_admin), (Duration::from_millis(500), false));
    assert!(flush(&bootstrap("{stats_flush_on_admin: true}")).unwrap().on_admin);
}

#[test]
fn stats_config() {
    let yaml = "stats_config: {use_all_default_tags: false, stats_tags: [{tag_name: a, regex: '^x\\.((.+?)\\.)'}, \
                {tag_name: f, fixed_value: v}], stats_matcher: {exclusion_list: {patterns: [{prefix: 'y.'}]}}, \
                histogram_bucket_settings: [{match: {suffix: _ms}, buckets: [5, 1, 5]}]}";
    let b = bootstrap(yaml);
    let o = Options { stats_tags: vec![("cli".into(), "t".into())], ..Options::default() };
    let s = settings(b.stats_config.as_deref(), &o).unwrap();
    let tags = s.tags.extract("x.foo.bar");
    let found: Vec<_> = tags.tags.iter().copied().collect();
    assert!(
        found.contains(&("a", "foo")) && found.contains(&("f", "v")) && found.contains(&("cli", "t")),
        "{found:?}"
    );
    let accept = s.accept.as_ref().unwrap();
    assert!(accept("x.y") && !accept("y.x"));
    assert_eq!((s.buckets("a_ms"), s.buckets("a").len()), (&[1.0, 5.0][..], 19));
    assert!(
        settings(
            bootstrap("stats_config: {stats_tags: [{tag_name: a, regex: '['}]}").stats_config.as_deref(),
            &o
        )
        .is_err()
    );
}

#[test]
fn a_control_plane_needs_its_cluster_and_our_name() {
    let refused = |yaml: &str, node: &str| {
        let o = Options { service_node: node.into(), service_cluster: node.into(), ..options(yaml) };
        load(&o, &coverage()).unwrap_err().phrase
    };
    let ads =
        "dynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}]}}";
    assert_eq!(refused(ads, ""), "Unknown gRPC client cluster 'x'");
    let known = format!("{ads}\nstatic_resources: {{clusters: [{{name: x, type: STATIC}}]}}");
    assert!(refused(&known, "").starts_with("ads: node 'id' and 'cluster' are required."));
    let named = Options { service_node: "me".into(), service_cluster: "us".into(), ..options(&known) };
    assert!(load(&named, &coverage()).is_ok());
    let cds = "dynamic_resources: {cds_config: {ads: {}}}";
    assert!(refused(cds, "").starts_with("type.googleapis.com/envoy.config.cluster.v3.Cluster: node 'id'"));
}

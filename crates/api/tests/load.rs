//! The way in: formats, merging, all errors at once.

use nuncio_api::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::json::{JsonOptions, json_of, to_json, write_json};
use nuncio_api::load::{
    Format, LoadOptions, UnknownFields, load_bootstrap, load_bootstrap_parts, parse_message, positions_in,
};
use nuncio_api::schema;
use prost::Message;
use std::path::{Path, PathBuf};

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/variants/base.yaml")
}

fn cluster(yaml: &str) -> Result<Cluster, Vec<String>> {
    let loaded = parse_message::<Cluster>(yaml.as_bytes(), Format::Yaml, "c.yaml", UnknownFields::Refuse);
    loaded
        .map(|loaded| loaded.message)
        .map_err(|errors| errors.errors().iter().map(ToString::to_string).collect())
}

/// A file in a folder of its own, which goes away with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let dir = std::env::temp_dir().join(format!("nuncio-api-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let path = dir.join(name);
        std::fs::write(&path, bytes).expect("a file");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(dir) = self.0.parent() {
            let _removed = std::fs::remove_dir_all(dir);
        }
    }
}

#[test]
fn without_a_file_envoy_says_so() {
    let errors = load_bootstrap(&LoadOptions::default()).expect_err("nothing to load");
    assert_eq!(
        errors.envoy_phrase(),
        "At least one of --config-path or --config-yaml or Options::configProto() should be non-empty"
    );
    let path = Path::new("/nope.yaml");
    let errors =
        load_bootstrap(&LoadOptions { path: Some(path), ..LoadOptions::default() }).expect_err("no file");
    assert_eq!(errors.to_string(), "Invalid path: /nope.yaml");
}

#[test]
fn config_yaml_is_merged_over_the_file() {
    let path = base();
    let yaml = "node: {id: other}\nstatic_resources: {clusters: [{name: more, connect_timeout: 1s}]}";
    let options = LoadOptions { path: Some(&path), yaml: Some(yaml), ..LoadOptions::default() };
    let bootstrap = load_bootstrap(&options).expect("a bootstrap").message;
    let node = bootstrap.node.expect("a node");
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("other", "c1"));
    let clusters = bootstrap.static_resources.expect("resources").clusters;
    assert_eq!(clusters.len(), 2);
    assert_eq!(clusters[1].name, "more");

    // What the one lacks the other may have; what is wrong after the merge is refused.
    let yaml = "static_resources: {clusters: [{connect_timeout: 1s}]}";
    let options = LoadOptions { path: Some(&path), yaml: Some(yaml), ..LoadOptions::default() };
    let errors = load_bootstrap(&options).expect_err("a cluster without a name");
    assert!(errors.envoy_phrase().contains("Clusters[1]"), "{errors}");
    assert!(errors.errors()[0].position.is_none());
}

#[test]
fn every_format_gives_the_same_message() {
    let path = base();
    let yaml =
        load_bootstrap(&LoadOptions { path: Some(&path), ..LoadOptions::default() }).expect("a bootstrap");
    let json = json_of(&yaml.message, JsonOptions { pretty: true, ..JsonOptions::default() }).expect("JSON");
    let text = r#"
        admin { address { socket_address { address: "127.0.0.1" port_value: 9901 } } }
        node { id: "n1" cluster: "c1" }
    "#;
    for (name, bytes) in
        [("b.json", json.as_bytes()), ("b.pb", yaml.wire.as_slice()), ("b.conf", json.as_bytes())]
    {
        let file = File::new(name, bytes);
        let loaded = load_bootstrap(&LoadOptions { path: Some(&file.0), ..LoadOptions::default() });
        assert_eq!(loaded.expect(name).message, yaml.message, "{name}");
    }
    let file = File::new("b.pb_text", text.as_bytes());
    let loaded =
        load_bootstrap(&LoadOptions { path: Some(&file.0), ..LoadOptions::default() }).expect("text");
    assert_eq!(loaded.message.node, yaml.message.node);
    assert_eq!(loaded.message.admin, yaml.message.admin);

    let file = File::new("bad.pb_text", b"node {\n  idd: 'x'\n}");
    let errors =
        load_bootstrap(&LoadOptions { path: Some(&file.0), ..LoadOptions::default() }).expect_err("text");
    assert!(errors.to_string().contains("bad.pb_text:2:3: Unable to parse file"), "{errors}");
    let file = File::new("bad.pb", &[0x0a, 0xff]);
    assert!(load_bootstrap(&LoadOptions { path: Some(&file.0), ..LoadOptions::default() }).is_err());
    let file = File::new("bad.yaml", &[0xff, 0xfe]);
    assert!(load_bootstrap(&LoadOptions { path: Some(&file.0), ..LoadOptions::default() }).is_err());
}

#[test]
fn all_errors_are_reported_with_place_path_and_suggestion() {
    let errors = cluster(
        "name: ''
conect_timeout: 1s
type: STATICK
lb_policy: [1]
load_assignment:
  cluster_name: c
  endpoints:
  - lb_endpoints:
    - endpoint: {address: {socket_address: {address: a, port_value: 70000}}}
    - endpoint: {address: {socket_address: {address: '', port_value: x}}}
",
    )
    .expect_err("much is wrong");
    assert_eq!(errors.len(), 5, "{errors:#?}");
    assert!(errors[0].starts_with("c.yaml:2:1: "), "{}", errors[0]);
    assert!(errors[0].contains("no such field: 'conect_timeout'"), "{}", errors[0]);
    assert!(errors[0].ends_with("(did you mean 'connect_timeout'?)"), "{}", errors[0]);
    assert!(errors[1].starts_with("c.yaml:3:7: type: "), "{}", errors[1]);
    assert!(errors[1].ends_with("(did you mean 'STATIC'?)"), "{}", errors[1]);
    assert!(errors[2].starts_with("c.yaml:4:12: lb_policy: "), "{}", errors[2]);
    assert!(
        errors[3].starts_with("c.yaml:9:69: load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: Proto"),
        "{}",
        errors[3]
    );
    assert!(errors[4].contains("invalid number: 'x'"), "{}", errors[4]);
}

#[test]
fn type_urls_are_suggested() {
    let errors = cluster(
        "name: c
typed_extension_protocol_options:
  k: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOption}
  l: {\"@type\": envoy.extensions.upstreams.http.v3.HttpProtocolOptions}
",
    )
    .expect_err("no such types");
    let known = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    assert_eq!(errors.len(), 2);
    for error in errors {
        assert!(error.ends_with(&format!("(did you mean '{known}'?)")), "{error}");
    }
}

#[test]
fn unknown_fields_may_be_left_out() {
    let yaml = b"name: c\nnew_field: {a: 1}\ntype: NEWER\n";
    let loaded =
        parse_message::<Cluster>(yaml, Format::Yaml, "c.yaml", UnknownFields::Ignore).expect("a cluster");
    assert_eq!(loaded.message.name, "c");
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);

    // On the wire, too: field 9999 of a Cluster.
    let mut wire = loaded.wire;
    wire.extend_from_slice(&[0xfa, 0xf0, 0x04, 1, b'x']);
    let refused = parse_message::<Cluster>(&wire, Format::Binary, "xds", UnknownFields::Refuse);
    let errors = refused.expect_err("an unknown field");
    assert_eq!(
        errors.envoy_phrase(),
        "Protobuf message (type envoy.config.cluster.v3.Cluster(root) with unknown field set {9999}) has unknown fields"
    );
    assert!(parse_message::<Cluster>(&wire, Format::Binary, "xds", UnknownFields::Ignore).is_ok());
}

#[test]
fn what_envoy_would_say_first_comes_first() {
    // A wrong shape hides unknown fields, those hide rules.
    let shape = "name: ''\nbogus: 1\nconnect_timeout: 5\n";
    let loaded = parse_message::<Cluster>(shape.as_bytes(), Format::Yaml, "c", UnknownFields::Refuse);
    assert!(loaded.expect_err("wrong").envoy_phrase().starts_with("Unable to parse JSON"));
    let unknown = "load_assignment: {policy: {bogus: 1}}\n";
    let loaded = parse_message::<Cluster>(unknown.as_bytes(), Format::Yaml, "c", UnknownFields::Refuse);
    assert!(loaded.expect_err("wrong").envoy_phrase().contains("no such field: 'bogus'"));
    // In the order of declaration, not of the file; oneofs last.
    let rules = "cluster_type: {name: ''}\nconnect_timeout: 0s\nname: ''\n";
    let loaded = parse_message::<Cluster>(rules.as_bytes(), Format::Yaml, "c", UnknownFields::Refuse);
    let errors = loaded.expect_err("wrong");
    assert_eq!(
        errors.envoy_phrase(),
        "Proto constraint validation failed (ClusterValidationError.Name: value length must be at least 1 characters)"
    );
    let place = |path: &str| errors.errors().iter().position(|error| error.path == path);
    assert!(place("cluster_type.name") < place("connect_timeout"), "{errors}");
    assert!(place("connect_timeout") < place("name"), "{errors}");
}

#[test]
fn aliases_and_ignored_entries_serve_as_templates() {
    let yaml = "
!ignore templates:
  timeout: &timeout 3s
name: c
connect_timeout: *timeout
";
    let cluster = cluster(yaml).expect("a cluster");
    assert_eq!(cluster.connect_timeout.map(|timeout| timeout.seconds), Some(3));
}

#[test]
fn yaml_json_and_bytes_round_trip() {
    let variants = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/variants");
    let schema = schema::message("envoy.config.bootstrap.v3.Bootstrap").expect("a message");
    let mut count = 0;
    for entry in std::fs::read_dir(variants).expect("the variants") {
        let path = entry.expect("a file").path();
        let Ok(loaded) = load_bootstrap(&LoadOptions { path: Some(&path), ..LoadOptions::default() }) else {
            continue;
        };
        for options in [JsonOptions::default(), JsonOptions { pretty: true, ..JsonOptions::default() }] {
            let mut json = String::new();
            write_json(&mut json, schema, &loaded.wire, options).expect("a String takes everything");
            let again =
                parse_message::<Bootstrap>(json.as_bytes(), Format::Json, "json", UnknownFields::Refuse);
            let again = again.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
            // Compared as JSON: fields inside an Any may come in another order.
            let name = schema.name();
            assert_eq!(to_json(name, &again.wire), to_json(name, &loaded.wire), "{}", path.display());
            assert_eq!(to_json(name, &again.message.encode_to_vec()), to_json(name, &loaded.wire));
        }
        count += 1;
    }
    assert!(count > 50, "{count}");
}

#[test]
fn places_can_be_found_later() {
    let file = File::new("p.yaml", b"static_resources:\n  clusters:\n  - name: a\n  - {name: b, metadata: {filter_metadata: {x.y: {z: 1}}}}\n");
    let place =
        |path: &str| positions_in(&file.0, &[path])[0].map(|position| (position.line, position.column));
    assert_eq!(place("static_resources.clusters[1].name"), Some((4, 12)));
    assert_eq!(place("static_resources.clusters[1].metadata.filter_metadata[x.y]"), Some((4, 49)));
    assert_eq!(place("static_resources.clusters[0].connect_timeout"), Some((3, 5)));
    assert_eq!(positions_in(Path::new("/nope.yaml"), &["node", "admin"]), [None, None]);
}

#[test]
fn parts_are_the_whole() {
    use nuncio_api::envoy::config::{cluster::v3::Cluster, listener::v3::Listener};
    use prost::Message;
    let yaml = "node: {id: me}\nstatic_resources:\n  secrets: [{name: s}]\n  clusters: [{name: a}, {name: b}]\n  \
                listeners: [{name: l, address: {pipe: {path: /p}}}]\nstats_flush_interval: 3s\n";
    let options = LoadOptions { yaml: Some(yaml), ..LoadOptions::default() };
    let mut whole = load_bootstrap(&options).expect("a bootstrap").message;
    let parts = load_bootstrap_parts(&options).expect("a bootstrap");
    let resources = whole.static_resources.as_mut().expect("resources");
    let clusters: Vec<Cluster> =
        parts.clusters.iter().map(|c| Cluster::decode(&**c).expect("a cluster")).collect();
    let listeners: Vec<Listener> =
        parts.listeners.iter().map(|l| Listener::decode(&**l).expect("a listener")).collect();
    assert_eq!(clusters, std::mem::take(&mut resources.clusters));
    assert_eq!(listeners, std::mem::take(&mut resources.listeners));
    assert_eq!(parts.message, whole);
    assert_eq!(parts.message.static_resources.expect("resources").secrets.len(), 1);
}

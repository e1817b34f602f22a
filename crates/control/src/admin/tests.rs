//! Expected texts and shapes are what Envoy 1.40.0 answered to the same requests.

use super::view::*;
use super::*;
use crate::options::Options;
use crate::server::runtime::Layers;
use crate::server::{Parts, Phase};
use nuncio_api::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_core::address::Address;
use nuncio_core::stats::Store;
use nuncio_engine::upstream::health::HostHealth;
use prost::{Message, Name};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const BOOTSTRAP: &str = "
node: {id: n1, cluster: c1, locality: {region: r, zone: z}}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 29901}}}
layered_runtime:
  layers:
  - {name: static, static_layer: {a: {b: 1, e: str}, f.g: 3}}
  - {name: admin, admin_layer: {}}
";

#[derive(Default)]
struct Fake {
    clusters: Vec<ClusterView>,
    configs: Vec<(Dumped, ConfigView)>,
    certs: Vec<CertsView>,
    drained: RefCell<Vec<Drain>>,
    unready: RefCell<Vec<(String, Vec<String>)>>,
}

impl View for Fake {
    fn next_cluster(&self, after: Option<&str>) -> Option<ClusterView> {
        self.clusters.iter().find(|c| after.is_none_or(|a| c.name.as_str() > a)).cloned()
    }
    fn listeners(&self) -> Vec<ListenerView> {
        let ip = |port| Address::Ip(([127, 0, 0, 1], port).into());
        vec![
            ListenerView { name: "l".into(), addresses: vec![ip(29902)] },
            ListenerView { name: "m".into(), addresses: vec![ip(1), Address::Pipe(Arc::new("@p".into()))] },
        ]
    }
    fn unready_listeners(&self) -> Vec<(String, Vec<String>)> {
        self.unready.borrow().clone()
    }
    fn dump(&self, of: Dumped) -> Vec<ConfigView> {
        self.configs.iter().filter(|(d, _)| *d == of).map(|(_, c)| c.clone()).collect()
    }
    fn certs(&self) -> Vec<CertsView> {
        self.certs.clone()
    }
    fn reopen_access_logs(&self) {}
    fn drain_listeners(&self, how: Drain) {
        self.drained.borrow_mut().push(how);
    }
}

fn host(port: u16) -> HostView {
    HostView {
        address: Address::Ip(([127, 0, 0, 1], port).into()),
        hostname: String::new(),
        locality: Default::default(),
        priority: 0,
        weight: 1,
        canary: false,
        health: 0,
        success_rate: -1.0,
        local_origin_success_rate: -1.0,
        stats: HostStats { cx_connect_fail: 1, cx_total: 1, rq_error: 1, ..Default::default() },
    }
}

fn cluster(name: &str) -> ClusterView {
    let t =
        Thresholds { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024, max_retries: 3 };
    ClusterView {
        name: name.into(),
        observability_name: name.into(),
        eds_service_name: String::new(),
        added_via_api: false,
        breakers: [t, t],
        outlier: None,
        hosts: vec![host(19299)],
    }
}

fn config<M: Message + Name + Default>(name: &str, yaml: &str) -> ConfigView {
    let m = parse_message::<M>(yaml.as_bytes(), Format::Yaml, "x", UnknownFields::Refuse).unwrap();
    let any = prost_types::Any { type_url: M::type_url(), value: m.message.encode_to_vec() };
    let last_updated = UNIX_EPOCH + Duration::from_millis(1_795_234_025_007);
    ConfigView { name: name.into(), config: Rc::new(move || any.clone()), last_updated, version: None }
}

struct Setup {
    server: Server,
    view: Rc<Fake>,
}

fn setup() -> Setup {
    use nuncio_api::envoy::config::listener::v3::Listener;
    setup_with(vec![
        (Dumped::Clusters, config::<Cluster>("c", "{name: c, alt_stat_name: x}")),
        (Dumped::Clusters, config::<Cluster>("d", "name: d")),
        (Dumped::Listeners, config::<Listener>("l", "name: l\naddress: {pipe: {path: /p}}")),
    ])
}

fn setup_with(configs: Vec<(Dumped, ConfigView)>) -> Setup {
    setup_of(BOOTSTRAP, configs)
}

fn setup_of(bootstrap: &str, configs: Vec<(Dumped, ConfigView)>) -> Setup {
    let loaded =
        parse_message::<Bootstrap>(bootstrap.as_bytes(), Format::Yaml, "x", UnknownFields::Refuse).unwrap();
    let store = Store::new();
    let runtime = Layers::new(loaded.message.layered_runtime.as_ref(), &store.root()).unwrap();
    let node = json!({"id": "n1"});
    let options = Options::default();
    let server = Server::new(Parts {
        options,
        concurrency: 2,
        store,
        runtime,
        node,
        bootstrap: loaded.wire.into(),
        node_message: loaded.message.node,
        flush_on_admin: false,
    });
    let view =
        Rc::new(Fake { clusters: vec![cluster("blackhole"), cluster("zoo")], configs, ..Default::default() });
    server.set_view(view.clone());
    server.set_phase(Phase::Live);
    Setup { server, view }
}

impl Setup {
    fn ask(&self, method: &str, path: &str) -> (u16, &'static str, String) {
        self.send(method, path, b"")
    }
    fn send(&self, method: &str, path: &str, form: &[u8]) -> (u16, &'static str, String) {
        let cx = AdminCx { server: &self.server, view: &*self.view };
        let r = respond(&cx, &Request { method, path, form });
        (r.status, r.content_type, String::from_utf8(r.into_body()).unwrap())
    }
    fn get(&self, path: &str) -> String {
        self.ask("GET", path).2
    }
    fn post(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask("POST", path);
        (status, body)
    }
    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).unwrap()
    }
}

#[test]
fn unknown_paths_and_methods() {
    let s = setup();
    for path in ["/nope", "/ready/", "/readyx", "/stats/x", ""] {
        let (status, kind, body) = s.ask("GET", path);
        assert_eq!((status, kind), (404, "text/plain; charset=UTF-8"));
        assert!(
            body.starts_with(
                "invalid path. admin commands are:\n  /: Admin home page\n  /allocprofiler (POST): "
            ),
            "{body}"
        );
    }
    for c in commands::COMMANDS.iter().filter(|c| c.mutates) {
        for method in ["GET", "PUT", "HEAD"] {
            let (status, _, body) = s.ask(method, c.path);
            assert_eq!((status, body), (405, format!("Method {method} not allowed, POST required.")));
        }
    }
    assert_eq!(s.ask("PUT", "/ready").0, 200, "what changes nothing takes every method");
}

#[test]
fn headers_in_envoys_order() {
    let s = setup();
    let cx = AdminCx { server: &s.server, view: &*s.view };
    let names = |path| {
        let r = respond(&cx, &Request { method: "GET", path, form: b"" });
        r.all_headers().map(|(n, _)| n).collect::<Vec<_>>()
    };
    assert_eq!(names("/ready"), ["content-type", "cache-control", "x-content-type-options"]);
    // Envoy adds one by itself to errors of this command, and another to every answer.
    let twice = ["x-content-type-options", "content-type", "cache-control", "x-content-type-options"];
    assert_eq!(names("/config_dump?resource=nope"), twice);
}

#[test]
fn help_lists_every_command() {
    let s = setup();
    let text = s.get("/help");
    assert!(text.starts_with("admin commands are:\n  /: Admin home page\n"));
    for line in [
        "  /clusters: upstream cluster status\n      filter: Regular expression (Google re2) for filtering clusters by name\n",
        "      enable: enables the CPU profiler; One of (y, n)\n",
        "      level: desired logging level, this will change all loggers's level; One of (, trace, debug, info, warning, error, critical, off)\n",
        "      format: Format to use; One of (html, active-html, text, json)\n",
        "  /stats/recentlookups/enable (POST): enable recording of reset stat-name lookup names\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let paths: Vec<_> = commands::COMMANDS.iter().map(|c| c.path).collect();
    assert!(paths.is_sorted() && paths.len() == 33, "{}", paths.len());
    let home = s.ask("GET", "/");
    assert_eq!(home.1, "text/html; charset=UTF-8");
    assert!(paths[1..].iter().all(|p| home.2.contains(&format!("<button>{p}</button>"))));
}

#[test]
fn ready_follows_the_state() {
    let s = setup();
    assert_eq!(s.ask("GET", "/ready"), (200, "text/plain; charset=UTF-8", "LIVE\n".into()));
    assert_eq!(s.post("/healthcheck/fail"), (200, "OK\n".into()));
    assert_eq!((s.ask("GET", "/ready").0, s.get("/ready")), (503, "DRAINING\n".into()));
    assert_eq!(s.json("/server_info")["state"], "DRAINING");
    assert_eq!(s.post("/healthcheck/ok"), (200, "OK\n".into()));
    assert_eq!(s.get("/ready"), "LIVE\n");
    s.server.set_phase(Phase::Initializing);
    assert_eq!(s.get("/ready"), "INITIALIZING\n");
}

#[test]
fn server_info_has_envoys_fields() {
    let s = setup();
    let v = s.json("/server_info");
    let keys: Vec<&String> = v.as_object().unwrap().keys().collect();
    let envoys = [
        "version",
        "state",
        "uptime_current_epoch",
        "uptime_all_epochs",
        "hot_restart_version",
        "command_line_options",
        "node",
        "hot_restart_initializing",
    ];
    assert_eq!(keys, envoys);
    let o = &v["command_line_options"];
    assert_eq!(o.as_object().unwrap().len(), 39);
    assert_eq!((&o["base_id"], &o["drain_time"], &o["mode"]), (&json!("0"), &json!("600s"), &json!("Serve")));
    assert_eq!((&o["file_flush_interval"], &o["concurrency"]), (&json!("10s"), &json!(2)));
    assert_eq!(v["hot_restart_version"], "11.104");
    assert_eq!(s.get("/hot_restart_version"), "11.104");
}

#[test]
fn clusters_in_text() {
    let mut s = setup();
    let mut c = cluster("blackhole");
    c.eds_service_name = "svc".into();
    c.outlier = Some(OutlierView { success_rate: (-1.0, -1.0), local_origin_success_rate: (97.5, -1.0) });
    c.hosts[0].health = HostHealth::FAILED_ACTIVE_HC | HostHealth::EDS_STATUS_DRAINING;
    c.hosts[0].locality = ["r".into(), "z".into(), String::new()];
    s.view = Rc::new(Fake { clusters: vec![c, cluster("zoo")], ..Default::default() });
    s.server = setup().server;
    let view: Rc<dyn View> = s.view.clone();
    let server = Server::new(Parts {
        options: Options::default(),
        concurrency: 1,
        store: Store::new(),
        runtime: Layers::new(None, &Store::new().root()).unwrap(),
        node: Value::Null,
        bootstrap: Default::default(),
        node_message: None,
        flush_on_admin: false,
    });
    server.set_view(view);
    s.server = server;
    let text = s.get("/clusters");
    let first: Vec<&str> = text.lines().take_while(|l| !l.starts_with("zoo")).collect();
    let expected = "blackhole::observability_name::blackhole
blackhole::outlier::success_rate_average::-1
blackhole::outlier::success_rate_ejection_threshold::-1
blackhole::outlier::local_origin_success_rate_average::97.5
blackhole::outlier::local_origin_success_rate_ejection_threshold::-1
blackhole::default_priority::max_connections::1024
blackhole::default_priority::max_pending_requests::1024
blackhole::default_priority::max_requests::1024
blackhole::default_priority::max_retries::3
blackhole::high_priority::max_connections::1024
blackhole::high_priority::max_pending_requests::1024
blackhole::high_priority::max_requests::1024
blackhole::high_priority::max_retries::3
blackhole::added_via_api::false
blackhole::eds_service_name::svc
blackhole::127.0.0.1:19299::cx_active::0
blackhole::127.0.0.1:19299::cx_connect_fail::1
blackhole::127.0.0.1:19299::cx_total::1
blackhole::127.0.0.1:19299::rq_active::0
blackhole::127.0.0.1:19299::rq_error::1
blackhole::127.0.0.1:19299::rq_pending_active::0
blackhole::127.0.0.1:19299::rq_success::0
blackhole::127.0.0.1:19299::rq_timeout::0
blackhole::127.0.0.1:19299::rq_total::0
blackhole::127.0.0.1:19299::hostname::
blackhole::127.0.0.1:19299::health_flags::/failed_active_hc/eds_status_draining
blackhole::127.0.0.1:19299::weight::1
blackhole::127.0.0.1:19299::region::r
blackhole::127.0.0.1:19299::zone::z
blackhole::127.0.0.1:19299::sub_zone::
blackhole::127.0.0.1:19299::canary::false
blackhole::127.0.0.1:19299::priority::0
blackhole::127.0.0.1:19299::success_rate::-1
blackhole::127.0.0.1:19299::local_origin_success_rate::-1";
    assert_eq!(first.join("\n"), expected);
    let health = &s.json("/clusters?format=json")["cluster_statuses"][0]["host_statuses"][0]["health_status"];
    assert_eq!(*health, json!({"failed_active_health_check": true, "eds_health_status": "DRAINING"}));
}

#[test]
fn clusters_in_json() {
    let s = setup();
    let text = s.get("/clusters?format=json&filter=^zoo$");
    let metric = |n: &str| json!({"name": n});
    let counted = |n: &str| json!({"value": "1", "name": n});
    let gauge = |n: &str| json!({"type": "GAUGE", "name": n});
    let t = json!({"max_connections": 1024, "max_pending_requests": 1024, "max_requests": 1024, "max_retries": 3});
    let mut high = json!({"priority": "HIGH"});
    high.as_object_mut().unwrap().extend(t.as_object().unwrap().clone());
    let expected = json!({"cluster_statuses": [{
        "name": "zoo",
        "host_statuses": [{
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 19299}},
            "stats": [
                counted("cx_connect_fail"), counted("cx_total"), counted("rq_error"), metric("rq_success"), metric("rq_timeout"),
                metric("rq_total"), gauge("cx_active"), gauge("rq_active"), gauge("rq_pending_active"),
            ],
            "health_status": {"eds_health_status": "HEALTHY"},
            "weight": 1,
            "locality": {},
        }],
        "circuit_breakers": {"thresholds": [t, high]},
        "observability_name": "zoo",
    }]});
    assert_eq!(text, json::pretty(&expected) + "\n");
    assert_eq!(s.get("/clusters?filter=x&format=json"), "{}\n");
    assert_eq!(
        s.ask("GET", "/clusters?filter=["),
        (400, "text/plain; charset=UTF-8", "Invalid re2 regex".into())
    );
    assert_eq!(s.json("/clusters?format=json")["cluster_statuses"].as_array().unwrap().len(), 2);
}

#[test]
fn ten_thousand_clusters_come_in_pieces() {
    let server = setup().server;
    struct Many;
    impl View for Many {
        fn next_cluster(&self, after: Option<&str>) -> Option<ClusterView> {
            let n = after.map_or(0, |a| a[1..].parse::<u32>().unwrap() + 1);
            (n < 10_000).then(|| cluster(&format!("c{n:05}")))
        }
        fn listeners(&self) -> Vec<ListenerView> {
            Vec::new()
        }
        fn unready_listeners(&self) -> Vec<(String, Vec<String>)> {
            vec![]
        }
        fn dump(&self, _: Dumped) -> Vec<ConfigView> {
            Vec::new()
        }
        fn certs(&self) -> Vec<CertsView> {
            Vec::new()
        }
        fn reopen_access_logs(&self) {}
        fn drain_listeners(&self, _: Drain) {}
    }
    let many: Rc<dyn View> = Rc::new(Many);
    let fresh = Server::new(Parts {
        options: server.options.clone(),
        concurrency: 1,
        store: Store::new(),
        runtime: Layers::new(None, &Store::new().root()).unwrap(),
        node: Value::Null,
        bootstrap: Default::default(),
        node_message: None,
        flush_on_admin: false,
    });
    fresh.set_view(many);
    for path in ["/clusters", "/clusters?format=json", "/clusters?filter=nothing"] {
        let cx = AdminCx { server: &fresh, view: &Many };
        let Body::Chunks(mut c) = respond(&cx, &Request { method: "GET", path, form: b"" }).body else {
            panic!()
        };
        let (mut pieces, mut out) = (0, String::new());
        while c.next(&mut out) {
            pieces += 1;
            assert!(out.len() < 64 << 10);
            out.clear();
        }
        assert!(pieces >= 39, "{path}: {pieces}");
    }
}

#[test]
fn listeners() {
    let s = setup();
    assert_eq!(s.get("/listeners"), "l::127.0.0.1:29902\nm::127.0.0.1:1\nm::@p\n");
    let v = s.json("/listeners?format=json");
    assert_eq!(
        v["listener_statuses"][0],
        json!({"name": "l", "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 29902}}})
    );
    assert_eq!(v["listener_statuses"][1]["additional_local_addresses"], json!([{"pipe": {"path": "@p"}}]));
}

#[test]
fn runtime() {
    let s = setup();
    let entry = |last: &str, values: [&str; 2]| json!({"layer_values": values, "final_value": last});
    let expected = json!({
        "entries": {"a.b": entry("1", ["1", ""]), "a.e": entry("str", ["str", ""]), "f.g": entry("3", ["3", ""])},
        "layers": ["static", "admin"],
    });
    assert_eq!(s.json("/runtime"), expected);
    assert_eq!(s.post("/runtime_modify?a.b=7&x=y&x=z"), (200, "OK\n".into()));
    assert_eq!(s.json("/runtime")["entries"]["a.b"], entry("7", ["1", "7"]));
    assert_eq!(s.json("/runtime")["entries"]["x"], entry("y", ["", "y"]), "the first value counts");
    assert_eq!(s.send("POST", "/runtime_modify", b"a.b=&x=").2, "OK\n");
    assert_eq!(s.json("/runtime"), expected);
    let usage = "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send the parameters as form values\n\
                 use an empty value to remove a previously added override";
    assert_eq!(s.post("/runtime_modify"), (400, usage.into()));
}

#[test]
fn config_dump_in_full() {
    let s = setup();
    let v = s.json("/config_dump");
    let types: Vec<&str> = v["configs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["@type"].as_str().unwrap().rsplit('.').next().unwrap())
        .collect();
    let envoys = [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "ListenersConfigDump",
        "ScopedRoutesConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
    ];
    assert_eq!(types, envoys);
    assert_eq!(v["configs"][0]["bootstrap"]["node"]["id"], "n1");
    assert_eq!(
        v["configs"][3],
        json!({"@type": "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump"})
    );
    let c = &v["configs"][1]["static_clusters"][0];
    let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let whole = json!({"cluster": {"@type": url, "name": "c", "alt_stat_name": "x"}, "last_updated": "2026-11-21T04:07:05.007Z"});
    assert_eq!(*c, whole);
    // Made in pieces, it is what one printing of the whole would be.
    let text = s.get("/config_dump");
    assert_eq!(text, json::pretty(&v) + "\n");
    assert_eq!(s.json("/config_dump?include_eds")["configs"].as_array().unwrap().len(), 7);
    let named = s.json("/config_dump?name_regex=d");
    assert_eq!(named["configs"][1]["static_clusters"].as_array().unwrap().len(), 1);
    assert!(named["configs"][2].get("static_listeners").is_none());
}

#[test]
fn config_dump_of_a_control_plane() {
    use nuncio_api::envoy::admin::v3::listeners_config_dump::DynamicListener;
    let of = |version: &str, yaml: &str| {
        let c = config::<Cluster>("x", yaml);
        ConfigView { version: Some(version.into()), ..c }
    };
    let listener = "{name: l, warming_state: {version_info: '8'}, error_state: {details: refused}}";
    let s = setup_with(vec![
        (Dumped::Clusters, config::<Cluster>("a", "name: a")),
        (Dumped::DynamicClusters, of("7", "name: b")),
        (Dumped::DynamicClusters, of("", "name: c")),
        (Dumped::WarmingClusters, of("8", "name: b")),
        (Dumped::DynamicListeners, config::<DynamicListener>("l", listener)),
    ]);
    let v = s.json("/config_dump");
    let cluster =
        |name: &str| json!({"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": name});
    let at = "2026-11-21T04:07:05.007Z";
    let expected = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
        "static_clusters": [{"cluster": cluster("a"), "last_updated": at}],
        "dynamic_active_clusters": [
            {"version_info": "7", "cluster": cluster("b"), "last_updated": at},
            {"cluster": cluster("c"), "last_updated": at},
        ],
        "dynamic_warming_clusters": [{"version_info": "8", "cluster": cluster("b"), "last_updated": at}],
    });
    assert_eq!(v["configs"][1], expected);
    let listeners =
        json!([{"name": "l", "warming_state": {"version_info": "8"}, "error_state": {"details": "refused"}}]);
    assert_eq!(v["configs"][2]["dynamic_listeners"], listeners);
    assert_eq!(s.get("/config_dump"), json::pretty(&v) + "\n");
    let warming = s.json("/config_dump?resource=dynamic_warming_clusters&mask=version_info");
    assert_eq!(warming["configs"][0]["version_info"], "8");
}

#[test]
fn config_dump_of_parts() {
    let s = setup();
    let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let of = "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster";
    assert_eq!(
        s.json("/config_dump?resource=static_clusters&mask=cluster.name"),
        json!({"configs": [{"@type": of, "cluster": {"@type": url, "name": "c"}}, {"@type": of, "cluster": {"@type": url, "name": "d"}}]})
    );
    let bootstrap = "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump";
    assert_eq!(
        s.json("/config_dump?mask=bootstrap.node.id"),
        json!({"configs": [{"@type": bootstrap, "bootstrap": {"node": {"id": "n1"}}}]})
    );
    assert_eq!(s.get("/config_dump?resource=static_listeners&name_regex=zz"), "{}\n");
    assert_eq!(s.get("/config_dump?resource=dynamic_active_clusters"), "{}\n");
    for (path, status, text) in [
        ("?resource=nope", 404, "nope not found in config dump"),
        ("?mask=nope", 400, "FieldMask nope could not be successfully applied to any configs."),
        (
            "?resource=static_clusters&mask=nope.foo",
            400,
            "FieldMask \npaths: \"nope.foo\"\n could not be successfully used.",
        ),
        (
            "?resource=bootstrap",
            400,
            "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field",
        ),
        ("?name_regex=[", 400, "INVALID_ARGUMENT: Error while parsing name_regex from [: missing ]: ["),
    ] {
        assert_eq!(s.ask("GET", &format!("/config_dump{path}")), (status, "text/plain", text.into()));
    }
}

#[test]
fn stats_in_their_formats() {
    let s = setup();
    let (status, kind, text) = s.ask("GET", "/stats?filter=^runtime");
    assert_eq!((status, kind), (200, "text/plain; charset=UTF-8"));
    let expected = "runtime.admin_overrides_active: 0\nruntime.deprecated_feature_seen_since_process_start: 0\n\
                    runtime.deprecated_feature_use: 0\nruntime.load_error: 0\nruntime.load_success: 2\nruntime.num_keys: 3\n\
                    runtime.num_layers: 2\nruntime.override_dir_exists: 0\nruntime.override_dir_not_exists: 2\n";
    assert_eq!(text, expected);
    let (_, kind, text) = s.ask("GET", "/stats?format=json&filter=num_keys");
    assert_eq!(
        (kind, text.as_str()),
        ("application/json", "{\"stats\":[{\"name\":\"runtime.num_keys\",\"value\":3}]}")
    );
    let prometheus = "# TYPE envoy_runtime_num_keys gauge\nenvoy_runtime_num_keys{} 3\n";
    assert_eq!(s.get("/stats/prometheus?filter=num_keys").trim_end(), prometheus.trim_end());
    assert_eq!(s.ask("GET", "/stats?format=bogus").0, 400);
    assert_eq!(s.get("/stats?filter=%5B"), "Invalid re2 regex: missing ]: [");
    let (_, kind, page) = s.ask("GET", "/stats?format=html&filter=num_keys");
    assert_eq!(kind, "text/html; charset=UTF-8");
    assert!(page.contains("runtime.num_keys: 3\n</pre>"), "{page}");
    assert_eq!(s.post("/reset_counters"), (200, "OK\n".into()));
    assert!(s.get("/stats?filter=load_success").contains("runtime.load_success: 0"));
}

#[test]
fn certs() {
    let s = setup();
    assert_eq!(s.get("/certs"), "{\n \"certificates\": []\n}\n");
    let at = SystemTime::now() + Duration::from_secs(364 * 86_400 + 5_000);
    let cert = CertView {
        path: "cert.pem".into(),
        serial_number: "4e97".into(),
        subject_alt_names: vec![("dns", "lab.local".into()), ("uri", "spiffe://lab/x".into())],
        valid_from: UNIX_EPOCH,
        expiration_time: at,
    };
    let view =
        Fake { certs: vec![CertsView { ca_cert: vec![], cert_chain: vec![cert] }], ..Default::default() };
    let cx = AdminCx { server: &s.server, view: &view };
    let r = respond(&cx, &Request { method: "GET", path: "/certs", form: b"" });
    let v: Value = serde_json::from_slice(&r.into_body()).unwrap();
    let c = &v["certificates"][0]["cert_chain"][0];
    assert_eq!(
        (&c["days_until_expiration"], &c["valid_from"]),
        (&json!("364"), &json!("1970-01-01T00:00:00Z"))
    );
    assert_eq!(c["subject_alt_names"], json!([{"dns": "lab.local"}, {"uri": "spiffe://lab/x"}]));
}

#[test]
fn logging() {
    use nuncio_core::log::{Level, Logger};
    let s = setup();
    let (status, body) = s.post("/logging?level=&paths=kafka:debug,,golang:off");
    assert_eq!((status, body.starts_with("active loggers:\n  a2a: ")), (200, true));
    assert!(
        body.contains("\n  kafka: debug\n") && body.contains("\n  golang: off\n") && body.ends_with("\n\n")
    );
    assert_eq!(log::level(Logger::Kafka), Level::Debug);
    for (query, error) in [
        ("nope=info", "unknown logger name"),
        ("kafka=bogus", "unknown logger level"),
        ("kafka=warn", "unknown logger level"),
        ("level=bogus", "unknown logger level"),
        ("kafka=info&golang=info", "invalid number of parameters"),
        ("paths=a", "empty logger name or empty logger level"),
        ("paths=kafka:trace,nope:info", "unknown logger name"),
        ("group=kafka:debug", "group parameter requires fine-grain logging to be enabled"),
    ] {
        let (status, body) = s.post(&format!("/logging?{query}"));
        let begin = format!(
            "error: {error}\n\nusage: /logging?<name>=<level> (change single level)\n\
             usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
             usage: /logging?level=<level> (change all levels)\n\
             usage: /logging?group=<group_name>:<level> (change group of loggers)\n\
             levels: trace debug info warning error critical off \nactive loggers:\n  a2a: "
        );
        assert!(status == 400 && body.starts_with(&begin), "{query}: {body}");
    }
    assert_eq!(log::level(Logger::Kafka), Level::Debug, "a refused change changes nothing");
}

#[test]
fn small_answers() {
    let s = setup();
    assert_eq!(s.ask("GET", "/init_dump?mask=x"), (200, "application/json", "{}\n".into()));
    *s.view.unready.borrow_mut() =
        vec![("l 1".into(), vec![]), ("m 2".into(), vec!["shared target SdsApi s".into()])];
    let name = |of: &str| format!("init manager Listener-local-init-manager {of}");
    let waiting = json!({"unready_targets_dumps": [
        {"name": name("l 1")},
        {"name": name("m 2"), "target_names": ["shared target SdsApi s"]},
    ]});
    for path in ["/init_dump", "/init_dump?mask=listener", "/init_dump?mask="] {
        assert_eq!(s.json(path), waiting, "{path}");
    }
    assert_eq!(s.json("/init_dump?mask=listener,x"), json!({}));
    assert_eq!(
        s.get("/contention"),
        "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing."
    );
    let memory = s.json("/memory");
    let names = [
        "allocated",
        "heap_size",
        "pageheap_unmapped",
        "pageheap_free",
        "total_thread_cache",
        "total_physical_bytes",
    ];
    assert!(memory.as_object().unwrap().keys().eq(names));
    assert_eq!(s.post("/cpuprofiler"), (400, "?enable=<y|n>\n".into()));
    assert_eq!(s.post("/cpuprofiler?enable=y"), (500, "failure to start the profiler".into()));
    assert_eq!(s.post("/cpuprofiler?enable=n"), (200, "OK\n".into()));
    assert_eq!(
        s.post("/heapprofiler?enable=y"),
        (501, "The current build does not support heap profiler".into())
    );
    assert_eq!(s.post("/reopen_logs"), (200, "OK\n".into()));
    assert_eq!(s.post("/drain_listeners?graceful&inboundonly"), (200, "OK\n".into()));
    assert_eq!(*s.view.drained.borrow(), [Drain { inbound_only: true, graceful: true, skip_exit: false }]);
}

#[test]
fn a_large_configuration_is_dumped_piece_by_piece() {
    let cluster = |i: usize| format!("  - {{name: c{i}, connect_timeout: 1s, alt_stat_name: '<{i}>'}}\n");
    let clusters: String = (0..2_000).map(cluster).collect();
    let bootstrap = format!(
        "{BOOTSTRAP}static_resources:\n  secrets: [{{name: s, tls_certificate: {{private_key: {{inline_string: x}}}}}}]\n  \
         clusters:\n{clusters}"
    );
    let s = setup_of(&bootstrap, vec![]);
    let cx = AdminCx { server: &s.server, view: &*s.view };
    let answer = respond(&cx, &Request { method: "GET", path: "/config_dump", form: b"" });
    let Body::Chunks(mut chunks) = answer.body else { panic!("the whole at once") };
    let (mut all, mut pieces) = (String::new(), 0);
    let mut more = true;
    while more {
        let mut piece = String::new();
        more = chunks.next(&mut piece);
        assert!(piece.len() < 40 << 10, "{} bytes", piece.len());
        all.push_str(&piece);
        pieces += 1;
    }
    assert!(pieces > 5);
    // As if it were made of one value; and a mask, which is, says the same.
    let v: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all, json::pretty(&v) + "\n");
    let whole = &v["configs"][0]["bootstrap"];
    let keys: Vec<&String> = whole.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["node", "static_resources", "admin", "layered_runtime"]);
    let resources = whole["static_resources"].as_object().unwrap();
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["clusters", "secrets"]);
    assert_eq!(resources["clusters"].as_array().unwrap().len(), 2_000);
    assert_eq!(resources["secrets"][0]["tls_certificate"]["private_key"]["inline_string"], "[redacted]");
    assert_eq!(s.json("/config_dump?mask=bootstrap")["configs"][0]["bootstrap"], *whole);
}

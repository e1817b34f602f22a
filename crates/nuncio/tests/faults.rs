//! Control planes that die, hang, and send what they never should: traffic goes on with what there was, the reason is in
//! the stats and the log, memory stays bounded, and a control plane that is well again is followed.

mod running;

use nuncio_plane::kinds::{Kind, by_url};
use nuncio_plane::{Event, Fault, Folder as Source, Plane, What};
use running::{Folder, Running};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn bootstrap(port: u16, api: &str) -> String {
    format!(
        "
node: {{id: n1, cluster: c1}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
dynamic_resources:
  ads_config:
    api_type: {api}
    transport_api_version: V3
    grpc_services:
    - envoy_grpc: {{cluster_name: plane, retry_policy: {{retry_back_off: {{base_interval: 0.05s, max_interval: 0.1s}}}}}}
  cds_config: {{resource_api_version: V3, ads: {{}}}}
  lds_config: {{resource_api_version: V3, ads: {{}}}}
static_resources:
  clusters:
  - name: plane
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: plane
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
"
    )
}

/// A listener whose routes answer with `body`.
fn resources(body: &str) -> String {
    format!(
        "
resources:
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: c
  connect_timeout: 1s
- '@type': type.googleapis.com/envoy.config.listener.v3.Listener
  name: l
  address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
  filter_chains:
  - filters:
    - name: hcm
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: ingress
        rds: {{route_config_name: rc, config_source: {{resource_api_version: V3, ads: {{}}}}}}
        http_filters:
        - name: envoy.filters.http.router
          typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
- '@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: rc
  virtual_hosts:
  - {{name: vh, domains: ['*'], routes: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: {body}}}}}}}]}}
"
    )
}

struct World {
    folder: Folder,
    plane: Option<Plane>,
    seen: Arc<Mutex<Vec<Event>>>,
    proxy: Running,
    listener: String,
}

fn start(seen: &Arc<Mutex<Vec<Event>>>, port: u16) -> Plane {
    let seen = seen.clone();
    let at = ([127, 0, 0, 1], port).into();
    // The old one's connections may hold the port for a moment.
    for _ in 0..200 {
        let seen = seen.clone();
        match Plane::start(at, move |e| seen.lock().expect("no panic").push(e)) {
            Ok(p) => return p,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    panic!("{at} stays taken");
}

impl World {
    fn new(name: &str, api: &str) -> World {
        let folder = Folder::new(name);
        let seen = Arc::new(Mutex::new(vec![]));
        let plane = start(&seen, 0);
        World::set(&plane, &folder, "one");
        let proxy = Running::start_with(&folder, &bootstrap(plane.addr().port(), api), &[]);
        let listener = proxy.listener();
        World { folder, plane: Some(plane), seen, proxy, listener }
    }
    fn set(plane: &Plane, folder: &Folder, body: &str) {
        let path = folder.path("xds");
        std::fs::create_dir_all(&path).expect("a folder");
        folder.file("xds/all.yaml", &resources(body));
        let found = Source::new(path).look();
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        plane.change(|w| w.replace(found.resources.expect("read")));
    }
    fn plane(&self) -> &Plane {
        self.plane.as_ref().expect("it runs")
    }
    fn answers(&self) -> String {
        let mut s = TcpStream::connect(&self.listener).expect("it listens");
        s.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        s.read_to_string(&mut answer).expect("an answer");
        answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
    }
    fn stat(&self, name: &str) -> u64 {
        // Main may be busy for longer than an answer may take, where the build is slow.
        let all = self.proxy.ask("GET", "/stats").unwrap_or_default();
        let line = all.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        line.and_then(|v| v.parse().ok()).unwrap_or(0)
    }
    fn wait_stat(&self, name: &str, good: impl Fn(u64) -> bool) {
        self.proxy.wait_for(name, |_| good(self.stat(name)).then_some(()));
    }
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path("err")).expect("a log")
    }
    /// The last refusal of this kind.
    fn refusal(&self, kind: &Kind) -> Option<String> {
        let seen = self.seen.lock().expect("no panic");
        seen.iter().rev().find_map(|e| match &e.what {
            What::Refused { why, .. } if e.kind == kind => Some(why.clone()),
            _ => None,
        })
    }
    /// It follows what comes now.
    fn follows(&self, body: &str) {
        World::set(self.plane(), &self.folder, body);
        self.proxy.wait_for(body, |_| (self.answers() == body).then_some(()));
    }
    /// Resident memory, in MB: now, or at its highest.
    fn memory(&self, which: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.proxy.child.id())).expect("it runs");
        let line = status.lines().find_map(|l| l.strip_prefix(which)).expect("a line");
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().expect("kB") / 1024
    }
}

fn clusters() -> &'static Kind {
    by_url("type.googleapis.com/envoy.config.cluster.v3.Cluster").expect("a kind")
}
fn listeners() -> &'static Kind {
    by_url("type.googleapis.com/envoy.config.listener.v3.Listener").expect("a kind")
}

fn bears(name: &str, api: &str) {
    let mut w = World::new(name, api);
    assert_eq!(w.answers(), "one");
    let calm = w.memory("VmRSS");

    // Garbage ends the stream; the next one goes on where this one was.
    let failures = w.stat("cluster_manager.cds.update_failure");
    w.plane().fault(Fault::Garbage);
    w.wait_stat("cluster_manager.cds.update_failure", |n| n > failures);
    w.proxy.wait_for("the reason", |_| w.log().contains("Unable to parse protobuf").then_some(()));
    assert_eq!(w.answers(), "one");
    w.wait_stat("control_plane.connected_state", |n| n == 1);
    w.follows("two");

    // A response that is refused as a whole.
    let rejected = w.stat("listener_manager.lds.update_rejected");
    w.plane().fault(Fault::WrongType(listeners()));
    w.wait_stat("listener_manager.lds.update_rejected", |n| n == rejected + 1);
    let why = w.refusal_of(listeners());
    assert!(why.contains("does not match"), "{why}");
    assert_eq!(w.answers(), "two");

    // A hundred megabytes, and as many crumbs as a slow build takes.
    for fault in [Fault::Huge(clusters(), 100_000_000), Fault::Crumbs(clusters(), 100_000)] {
        w.seen.lock().expect("no panic").clear();
        let rejected = w.stat("cluster_manager.cds.update_rejected");
        w.plane().fault(fault);
        w.wait_stat("cluster_manager.cds.update_rejected", |n| n == rejected + 1);
        let why = w.refusal_of(clusters());
        assert!(why.contains("malformed") && why.len() < 5000, "{why}");
        assert_eq!(w.answers(), "two");
        let (now, most) = (w.memory("VmRSS"), w.memory("VmHWM"));
        assert!(most < calm + 700, "{calm} MB, then at most {most} MB");
        assert!(now < calm + 100, "{calm} MB, then {now} MB");
        let lines = w.log();
        assert!(lines.len() < 1 << 20, "{} bytes of log", lines.len());
    }
    w.follows("three");

    // It hangs in the middle of a message: nothing comes of it, until the connection ends.
    w.plane().fault(Fault::Hang);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(w.answers(), "three");
    w.plane().fault(Fault::Cut);
    w.follows("four");
    w.plane().fault(Fault::End(14));
    w.follows("five");

    // It dies, and another one comes.
    let port = w.plane().addr().port();
    drop(w.plane.take());
    w.wait_stat("control_plane.connected_state", |n| n == 0);
    assert_eq!(w.answers(), "five");
    let plane = start(&w.seen, port);
    World::set(&plane, &w.folder, "six");
    w.plane = Some(plane);
    w.follows("six");
    assert_eq!(w.stat("control_plane.connected_state"), 1);
}

impl World {
    fn refusal_of(&self, kind: &Kind) -> String {
        self.proxy.wait_for("a refusal", |_| self.refusal(kind))
    }
}

#[test]
fn control_planes_that_break_are_borne_with_delta() {
    bears("faults-delta", "DELTA_GRPC");
}

#[test]
fn control_planes_that_break_are_borne_with_the_state_of_the_world() {
    bears("faults-sotw", "GRPC");
}

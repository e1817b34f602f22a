use super::*;
use crate::address::Address;
use crate::clock::sim::Sim;
use crate::filter::{NodeInfo, ServerCx};
use crate::info::{ConnInfo, ListenerInfo, StreamInfo};
use crate::init::Init;
use crate::kinds::AccessLogger;
use crate::registry::{Docs, Registry};
use crate::runtime::{Layer, Runtime, RuntimeValue, ServerState, Snapshot};
use crate::stats::Store;
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_api::load::{Format, UnknownFields, parse_message};
use prost_types::value::Kind as V;
use prost_types::{Struct, Value};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(Default)]
struct Server(Arc<Runtime>);

impl ServerCx for Server {
    fn has_cluster(&self, _: &str) -> bool {
        false
    }
    fn runtime(&self) -> Arc<Runtime> {
        self.0.clone()
    }
    fn state(&self) -> Arc<ServerState> {
        Arc::default()
    }
}

impl Server {
    fn set(&self, key: &str, value: &str) {
        let values = [(key.to_owned(), RuntimeValue::of_text(value).unwrap())].into();
        self.0.set(Snapshot::new(vec![Layer { values, ..Default::default() }]));
    }
}

fn with_cx<R>(server: &Server, registry: &Registry, f: impl FnOnce(&BuildCx<'_>) -> R) -> R {
    let (scope, node) = (Store::new().root(), NodeInfo::default());
    let init = Init::default();
    f(&BuildCx { registry, scope: &scope, name: "", node: &node, server, init: &init, validate_only: false })
}

fn filter_on(server: &Server, yaml: &str) -> BuildResult<AccessLogFilter> {
    let f =
        parse_message::<pb::AccessLogFilter>(yaml.as_bytes(), Format::Yaml, "test", UnknownFields::Refuse);
    with_cx(server, &Registry::default(), |cx| AccessLogFilter::new(&f.expect("valid").message, cx))
}

fn filter(yaml: &str) -> AccessLogFilter {
    filter_on(&Server::default(), yaml).unwrap()
}

/// An entry.
struct Entry {
    request: HeaderMap,
    response: HeaderMap,
    trailers: HeaderMap,
    info: StreamInfo,
    conn: ConnInfo,
    log_type: AccessLogType,
}

impl Entry {
    fn new() -> Entry {
        let address = || Address::Ip("127.0.0.1:1".parse().unwrap());
        let info = StreamInfo::new();
        info.response_code.set(200);
        Entry {
            request: [(":path", "/a"), ("x-request-id", "0000000a-e5a2-4cd8-94e4-096af64eeff8")]
                .into_iter()
                .collect(),
            response: HeaderMap::new(),
            trailers: HeaderMap::new(),
            info,
            conn: ConnInfo::new(1, Arc::new(ListenerInfo::default()), address(), address()),
            log_type: AccessLogType::DownstreamEnd,
        }
    }
    fn cx(&self) -> FormatCx<'_> {
        FormatCx {
            request: Some(&self.request),
            response: Some((200, &self.response)),
            trailers: Some(&self.trailers),
            log_type: self.log_type,
            ..FormatCx::new(&self.info, &self.conn)
        }
    }
    fn passes(&self, yaml: &str) -> bool {
        filter(yaml).matches(&self.cx())
    }
}

#[test]
fn status_codes_compare() {
    let e = Entry::new();
    let with = |op: &str, v: u32| {
        e.passes(&format!("status_code_filter: {{comparison: {{op: {op}, value: {{default_value: {v}}}}}}}"))
    };
    assert!(with("GE", 200) && !with("GE", 201));
    assert!(with("LE", 200) && !with("LE", 199));
    assert!(with("EQ", 200) && !with("EQ", 201));
    assert!(with("NE", 201) && !with("NE", 200));
}

#[test]
fn runtime_overrides_the_value_to_compare_with() {
    let (server, e) = (Server::default(), Entry::new());
    let f = "status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: k}}}";
    let f = filter_on(&server, f).unwrap();
    assert!(!f.matches(&e.cx()));
    server.set("k", "200");
    assert!(f.matches(&e.cx()));
}

#[test]
fn durations_count_to_the_last_byte_or_to_now() {
    let sim = Sim::new();
    let e = Entry::new();
    sim.advance(Duration::from_millis(30));
    let at_least = |ms: u32| {
        e.passes(&format!("duration_filter: {{comparison: {{op: GE, value: {{default_value: {ms}}}}}}}"))
    };
    assert!(at_least(30) && !at_least(31));
    e.info.times.ds_tx_end.set(Some(clock::now()));
    sim.advance(Duration::from_millis(30));
    assert!(!at_least(31));
}

#[test]
fn health_checks_are_kept_out() {
    let e = Entry::new();
    assert!(e.passes("not_health_check_filter: {}"));
    e.info.health_check.set(true);
    assert!(!e.passes("not_health_check_filter: {}"));
}

#[test]
fn and_or() {
    let e = Entry::new();
    let (yes, no) = ("{not_health_check_filter: {}}", "{log_type_filter: {types: [TcpUpstreamConnected]}}");
    assert!(e.passes(&format!("and_filter: {{filters: [{yes}, {yes}]}}")));
    assert!(!e.passes(&format!("and_filter: {{filters: [{yes}, {no}]}}")));
    assert!(e.passes(&format!("or_filter: {{filters: [{no}, {yes}]}}")));
    assert!(!e.passes(&format!("or_filter: {{filters: [{no}, {no}]}}")));
}

#[test]
fn headers_of_the_request() {
    let e = Entry::new();
    assert!(e.passes("header_filter: {header: {name: ':path', string_match: {exact: /a}}}"));
    assert!(!e.passes("header_filter: {header: {name: x, present_match: true}}"));
    let none = FormatCx { request: None, ..e.cx() };
    assert!(!filter("header_filter: {header: {name: ':path', present_match: true}}").matches(&none));
}

#[test]
fn response_flags() {
    let e = Entry::new();
    assert!(!e.passes("response_flag_filter: {}"));
    e.info.set_flag(Flag::NoRouteFound);
    assert!(e.passes("response_flag_filter: {}"));
    assert!(e.passes("response_flag_filter: {flags: [UH, NR]}"));
    assert!(!e.passes("response_flag_filter: {flags: [UH]}"));
}

#[test]
fn grpc_status_of_trailers_headers_or_http() {
    let mut e = Entry::new();
    let ok = "grpc_status_filter: {statuses: [OK]}";
    let unknown = "grpc_status_filter: {statuses: [UNKNOWN]}";
    // 200 without a gRPC status is UNKNOWN to Envoy.
    assert!(!e.passes(ok) && e.passes(unknown));
    e.info.response_code.set(503);
    assert!(e.passes("grpc_status_filter: {statuses: [UNAVAILABLE]}"));
    e.response.set(name::GRPC_STATUS, b"2");
    assert!(e.passes(unknown));
    e.trailers.set(name::GRPC_STATUS, b"0");
    assert!(e.passes(ok) && !e.passes("grpc_status_filter: {statuses: [OK], exclude: true}"));
    e.trailers.set(name::GRPC_STATUS, b"no number");
    assert!(!e.passes(ok) && !e.passes(unknown));
}

#[test]
fn metadata() {
    let e = Entry::new();
    let f = "metadata_filter: {matcher: {filter: ns, path: [{key: a}, {key: b}], value: {string_match: {exact: v}}}";
    let (or_missing, only_there) = (format!("{f}}}"), format!("{f}, match_if_key_not_found: false}}"));
    assert!(e.passes(&or_missing) && !e.passes(&only_there));
    let st = |k: &str, v: V| Struct { fields: [(k.to_owned(), Value { kind: Some(v) })].into() };
    e.info.set_metadata("ns", st("a", V::StructValue(st("b", V::StringValue("v".into())))));
    assert!(e.passes(&or_missing) && e.passes(&only_there));
    e.info.set_metadata("ns", st("a", V::StructValue(st("b", V::StringValue("w".into())))));
    assert!(!e.passes(&or_missing) && !e.passes(&only_there));
    assert!(e.passes("metadata_filter: {}"));
}

#[test]
fn log_types() {
    let e = Entry::new();
    assert!(e.passes("log_type_filter: {types: [DownstreamEnd]}"));
    assert!(!e.passes("log_type_filter: {types: [DownstreamEnd], exclude: true}"));
    assert!(!e.passes("log_type_filter: {types: [DownstreamStart]}"));
}

#[test]
fn samples_by_request_id_unless_told_otherwise() {
    let (server, e) = (Server::default(), Entry::new());
    let at = |percent: u32| {
        format!("runtime_filter: {{runtime_key: k, percent_sampled: {{numerator: {percent}}}}}")
    };
    // 0x0000000a % 100 = 10
    assert!(e.passes(&at(11)) && !e.passes(&at(10)));
    assert!(!e.passes("runtime_filter: {runtime_key: k}"));
    let f = filter_on(&server, &at(0)).unwrap();
    server.set("k", "100");
    assert!(f.matches(&e.cx()));
    rng::seed(1);
    let f = filter(
        "runtime_filter: {runtime_key: k, percent_sampled: {numerator: 50}, use_independent_randomness: true}",
    );
    let hits = (0..1000).filter(|_| f.matches(&e.cx())).count();
    assert!((400..600).contains(&hits), "{hits}");
}

#[test]
fn nothing_is_traced() {
    let f = filter("traceable_filter: {}");
    assert!(!f.matches(&Entry::new().cx()));
}

#[test]
fn expressions_decide() {
    let ty = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter";
    let yaml = |e: &str| {
        format!("extension_filter: {{name: x, typed_config: {{'@type': {ty}, expression: '{e}'}}}}")
    };
    assert!(filter(&yaml("1 + 1 == 2")).matches(&Entry::new().cx()));
    assert!(!filter(&yaml("request.headers[\"none\"] == \"\"")).matches(&Entry::new().cx()));
    let no = |e: &str| filter_on(&Server::default(), &yaml(e)).err().unwrap().0;
    assert!(
        no("1 +").starts_with("Not able to parse filter expression: INVALID_ARGUMENT: "),
        "{}",
        no("1 +")
    );
    assert!(no("f(1)").starts_with("failed to create an expression: "), "{}", no("f(1)"));
}

#[test]
fn the_table_names_fields_that_exist() {
    for c in COVERED {
        let m = nuncio_api::schema::message(c.message).expect(c.message);
        assert!(c.fields.iter().all(|f| m.field(f).is_some()), "{}", c.message);
    }
}

static LOGGED: AtomicU32 = AtomicU32::new(0);

struct Count;
impl AccessLogger for Count {
    type Config = nuncio_api::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
    fn new(_: Self::Config, _: &BuildCx<'_>) -> BuildResult<Count> {
        Ok(Count)
    }
    fn log(&self, _: &FormatCx<'_>) {
        LOGGED.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn builds_loggers_from_the_registry() {
    let mut registry = Registry::default();
    registry.access_logger::<Count>("envoy.access_loggers.stdout", Docs { text: "", example: "" });
    let log = |yaml: &str| {
        parse_message::<pb::AccessLog>(yaml.as_bytes(), Format::Yaml, "test", UnknownFields::Refuse)
            .expect("valid")
            .message
    };
    let url = "type.googleapis.com/envoy.extensions.access_loggers";
    let config = format!("name: x\ntyped_config: {{'@type': {url}.stream.v3.StdoutAccessLog}}\n");
    let filtered = format!("{config}filter: {{response_flag_filter: {{}}}}");
    let server = Server::default();
    let build = |yaml: &str| with_cx(&server, &registry, |cx| build(&[log(yaml)], cx));
    let e = Entry::new();
    build(&config).unwrap().iter().for_each(|l| l.log(&e.cx()));
    build(&filtered).unwrap().iter().for_each(|l| l.log(&e.cx()));
    assert_eq!(LOGGED.load(Ordering::Relaxed), 1);
    let file = format!("name: f\ntyped_config: {{'@type': {url}.file.v3.FileAccessLog, path: /x}}\n");
    assert_eq!(
        build(&file).err().unwrap().0,
        "not implemented yet: f (envoy.extensions.access_loggers.file.v3.FileAccessLog)"
    );
    let nothing = pb::AccessLog { name: "nothing".into(), ..Default::default() };
    let refused = with_cx(&server, &registry, |cx| super::build(&[nothing], cx)).err().unwrap().0;
    assert_eq!(refused, "Didn't find a registered implementation for 'nothing' with type URL: ''");
}

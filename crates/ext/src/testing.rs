//! What the tests of several extensions need.

use nuncio_api::envoy::config::accesslog::v3::AccessLog;
use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::envoy::config::listener::v3::{
    Filter, FilterChain, Listener, ListenerFilter, filter, listener_filter::ConfigType,
};
use nuncio_api::envoy::config::trace::v3::tracing::Http;
use nuncio_api::envoy::config::trace::v3::tracing::http::ConfigType as TracerConfig;
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType as FilterConfig;
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_core::access_log::{self, Logger};
use nuncio_core::address::Address;
use nuncio_core::coverage::Coverage;
use nuncio_core::filter::{BuildCx, DynFilter, NodeInfo, ServerCx};
use nuncio_core::format::FormatCx;
use nuncio_core::info::{ConnInfo, ListenerInfo};
use nuncio_core::init::Init;
use nuncio_core::kinds::DynEarlyHeaderMutation;
use nuncio_core::listener_filter::DynListenerFilter;
use nuncio_core::network_filter::DynNetworkFilter;
use nuncio_core::runtime::{Runtime, ServerState};
use nuncio_core::stats::Store;
use nuncio_core::terminal_filter::DynTerminalFilter;
use nuncio_core::tracing::DynTracer;
use nuncio_core::upstreams::{ClientOptions, DnsCache, HttpClient};
use nuncio_core::{BuildResult, Registry, StreamInfo};
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::{Calls, FakeNames};
use nuncio_wire::HeaderMap;
use prost::{Message, Name};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, MutexGuard};

/// A server that has every cluster but one, none of which answers unless it is told to.
#[derive(Default)]
struct Server {
    calls: Calls,
}

/// A cluster that is not there.
const NO_CLUSTER: &str = "no-such-cluster";

impl ServerCx for Server {
    fn has_cluster(&self, name: &str) -> bool {
        name != NO_CLUSTER
    }
    fn runtime(&self) -> Arc<Runtime> {
        Arc::default()
    }
    fn dns_cache(&self, _: &DnsCacheConfig, _: &BuildCx<'_>) -> BuildResult<Arc<dyn DnsCache>> {
        Ok(Arc::new(FakeNames))
    }
    fn state(&self) -> Arc<ServerState> {
        Arc::default()
    }
    fn http_client(&self, o: &ClientOptions<'_>, _: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        Ok(self.calls.client(o.cluster))
    }
}

/// Every extension of this crate, with what is read of their configuration.
pub fn registered() -> (Registry, Coverage) {
    let (mut r, mut c) = (Registry::default(), Coverage::default());
    crate::register(&mut r, &mut c);
    (r, c)
}

/// A chain of filters of this crate.
pub fn filters(yaml: &str) -> FilterTest {
    FilterTest::new(crate::register, yaml)
}

/// Calls `build` as main does, on a server that answers what `calls` say; stats go to `store`.
fn on_main<T>(store: &Store, calls: Calls, build: impl FnOnce(&BuildCx<'_>) -> T) -> T {
    build(&BuildCx {
        registry: &registered().0,
        scope: &store.root(),
        name: "",
        node: &NodeInfo::default(),
        server: &Server { calls },
        init: &Init::default(),
        validate_only: false,
    })
}

/// A message as YAML has it, or why it is refused.
fn read<M: Message + Name + Default>(yaml: &str) -> Result<M, String> {
    let read = parse_message::<M>(yaml.as_bytes(), Format::Yaml, "test", UnknownFields::Refuse);
    Ok(read.map_err(|e| e.envoy_phrase().to_owned())?.message)
}

/// As [`read`], of a list under this name.
fn read_list<M: Message + Name + Default>(name: &str, list: &str) -> M {
    let yaml = format!("{name}:\n  {}", list.replace('\n', "\n  "));
    read(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"))
}

/// Fails if the extension that is configured here does not read all of it.
fn assert_all_read(any: &prost_types::Any) {
    let unread = registered().1.check(any.type_url.rsplit('/').next().unwrap_or_default(), &any.value);
    assert!(unread.is_empty(), "{unread:?}");
}

/// Builds access loggers; their stats go to `store`.
pub fn loggers(logs: &[AccessLog], store: &Store) -> Result<Vec<Logger>, String> {
    on_main(store, Calls::default(), |cx| access_log::build(logs, cx)).map_err(|e| e.0)
}

/// Builds the listener filters of a list; their stats go to the store that is returned.
pub fn listener_filters(yaml: &str) -> (Vec<Arc<dyn DynListenerFilter>>, Store) {
    let store = Store::new();
    let build = |f: &ListenerFilter, cx: &BuildCx<'_>| {
        let Some(ConfigType::TypedConfig(any)) = &f.config_type else { panic!("{yaml}") };
        assert_all_read(any);
        cx.registry.build_listener_filter(&f.name, any, cx).unwrap_or_else(|e| panic!("{e}\n{yaml}"))
    };
    let list = read_list::<Listener>("listener_filters", yaml).listener_filters;
    let built = on_main(&store, Calls::default(), |cx| list.iter().map(|f| build(f, cx)).collect());
    (built, store)
}

/// A client of a gRPC service whose calls these are.
pub fn grpc_client(calls: &Calls) -> nuncio_core::grpc::Client {
    use nuncio_api::envoy::config::core::v3::{GrpcService, grpc_service};
    let cluster = grpc_service::EnvoyGrpc { cluster_name: "c".into(), ..Default::default() };
    let target = Some(grpc_service::TargetSpecifier::EnvoyGrpc(cluster));
    let service = GrpcService { target_specifier: target, ..Default::default() };
    on_main(&Store::new(), calls.clone(), |cx| nuncio_core::grpc::Client::new(&service, cx))
        .expect("it is good")
}

/// Builds the network filters of a list; their stats go to the store that is returned. `calls`: what they ask of others.
pub fn calling_network_filters(yaml: &str, calls: Calls) -> (Vec<Arc<dyn DynNetworkFilter>>, Store) {
    with_network_filters(yaml, calls, |f, any, cx| cx.registry.build_network_filter(&f.name, any, cx))
}

/// Builds the network filter of a list of one, if it is such that stand last.
pub fn terminal_filter(yaml: &str) -> Arc<dyn DynTerminalFilter> {
    let build = |f: &Filter, any: &prost_types::Any, cx: &BuildCx<'_>| {
        cx.registry.build_terminal_filter(&f.name, any, cx)
    };
    with_network_filters(yaml, Calls::default(), build).0.remove(0)
}

/// Loads the examples of either kind; the stats they made.
pub fn any_network_filters(yaml: &str) -> Store {
    let build =
        |f: &Filter, any: &prost_types::Any, cx: &BuildCx<'_>| match cx.registry.terminal_name(&any.type_url)
        {
            Some(_) => cx.registry.build_terminal_filter(&f.name, any, cx).map(drop),
            None => cx.registry.build_network_filter(&f.name, any, cx).map(drop),
        };
    let (built, store) = with_network_filters(yaml, Calls::default(), build);
    assert!(!built.is_empty());
    store
}

fn with_network_filters<T>(
    yaml: &str,
    calls: Calls,
    build: impl Fn(&Filter, &prost_types::Any, &BuildCx<'_>) -> BuildResult<T>,
) -> (Vec<T>, Store) {
    let store = Store::new();
    let one = |f: &Filter, cx: &BuildCx<'_>| {
        let Some(filter::ConfigType::TypedConfig(any)) = &f.config_type else { panic!("{yaml}") };
        assert_all_read(any);
        build(f, any, cx).unwrap_or_else(|e| panic!("{e}\n{yaml}"))
    };
    let list = read_list::<FilterChain>("filters", yaml).filters;
    let built = on_main(&store, calls, |cx| list.iter().map(|f| one(f, cx)).collect());
    (built, store)
}

/// An access logger with a config of this message (`a: b, c: d`), or why it is refused.
pub fn logger(message: &str, config: &str) -> Result<Logger, String> {
    let yaml = format!("name: x\ntyped_config: {{'@type': type.googleapis.com/{message}, {config}}}");
    Ok(loggers(&[read::<AccessLog>(&yaml)?], &Store::new())?.remove(0))
}

/// A tracer with a config of this message (`a: b, c: d`), or why it is refused.
pub fn tracer(message: &str, config: &str) -> Result<Arc<dyn DynTracer>, String> {
    let yaml = format!("name: x\ntyped_config: {{'@type': type.googleapis.com/{message}, {config}}}");
    tracer_of(&yaml, &Store::new())
}

/// The tracer of a `provider`; its stats go to `store`.
pub fn tracer_of(yaml: &str, store: &Store) -> Result<Arc<dyn DynTracer>, String> {
    let http = read::<Http>(yaml)?;
    let Some(TracerConfig::TypedConfig(any)) = &http.config_type else { panic!("{yaml}") };
    assert_all_read(any);
    on_main(store, Calls::default(), |cx| cx.registry.build_tracer(&http.name, any, cx)).map_err(|e| e.0)
}

/// The first filter of a list, as an upstream filter, or why it is refused; its stats go to `store`.
pub fn upstream_filter(yaml: &str, store: &Store) -> Result<Arc<dyn DynFilter>, String> {
    let list =
        read::<HttpConnectionManager>(&format!("stat_prefix: t\nroute_config: {{}}\nhttp_filters:\n{yaml}"))?;
    let filter = list.http_filters.first().ok_or("no filter")?;
    let Some(FilterConfig::TypedConfig(any)) = &filter.config_type else { return Err("no config".into()) };
    assert_all_read(any);
    let build = |cx: &BuildCx<'_>| cx.registry.build_upstream_http_filter(&filter.name, any, cx);
    on_main(store, Calls::default(), build).map_err(|e| e.0)
}

/// An early header mutation (a `TypedExtensionConfig`), or why it is refused; its stats go to `store`.
pub fn early_mutation(yaml: &str, store: &Store) -> Result<Arc<dyn DynEarlyHeaderMutation>, String> {
    let config = read::<TypedExtensionConfig>(yaml)?;
    let any = config.typed_config.unwrap_or_default();
    assert_all_read(&any);
    let build = |cx: &BuildCx<'_>| cx.registry.build_early_header_mutation(&config.name, &any, cx);
    on_main(store, Calls::default(), build).map_err(|e| e.0)
}

/// Calls `f` with an entry: `GET /p`, answered with 200.
pub fn with_entry<R>(f: impl FnOnce(&FormatCx<'_>) -> R) -> R {
    let request: HeaderMap = [(":method", "GET"), (":path", "/p")].into_iter().collect();
    let response = HeaderMap::new();
    let info = StreamInfo::new();
    info.response_code.set(200);
    let address = || Address::Ip("127.0.0.1:1".parse().expect("an address"));
    let conn = ConnInfo::new(1, Arc::new(ListenerInfo::default()), address(), address());
    f(&FormatCx {
        request: Some(&request),
        response: Some((200, &response)),
        log_type: AccessLogType::DownstreamEnd,
        ..FormatCx::new(&info, &conn)
    })
}

/// Held by tests that flush or reopen all files of the process, and by those that such a thing would disturb.
#[expect(clippy::disallowed_types, reason = "tests, not workers, wait for each other")]
static ALL_FILES: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Keeps the files for this test.
pub fn keep_files() -> MutexGuard<'static, ()> {
    // A test that failed leaves nothing behind that matters to others.
    ALL_FILES.lock().unwrap_or_else(|e| e.into_inner())
}

/// What a logger writes to `path` for that entry.
pub fn entry_line(logger: &Logger, path: &Path) -> String {
    let _kept = keep_files();
    with_entry(|entry| logger.log(entry));
    crate::access_log::flush();
    std::fs::read_to_string(path).expect("the file can be used")
}

const CHILD: &str = "NUNCIO_EXT_TEST_CHILD";

/// Runs `test` (the full name of the calling test) in a process of its own, which does `child`, and gives what it wrote
/// to its standard and error output. In that process it does not return.
pub fn outputs_of(test: &str, child: impl FnOnce()) -> (String, String) {
    if std::env::var_os(CHILD).is_some() {
        child();
        std::process::exit(0);
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let out = command.args([test, "--exact", "--nocapture"]).env(CHILD, "1").output().expect("it runs");
    assert!(out.status.success(), "{out:?}");
    let text = |b: Vec<u8>| String::from_utf8(b).expect("text");
    (text(out.stdout), text(out.stderr))
}

//! From configuration to a chain.

use super::FilterTest;
use super::calls::Calls;
use super::names::FakeNames;
use super::routes::Routes;
use nuncio_api::envoy::config::core::v3::ConfigSource;
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use nuncio_api::envoy::extensions::filters::http::router::v3::Router;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_core::coverage::Coverage;
use nuncio_core::filter::{BuildCx, ServerCx};
use nuncio_core::init::Init;
use nuncio_core::pipeline::{Chain, ChainFilter};
use nuncio_core::route::FilterId;
use nuncio_core::runtime::{Runtime, ServerState};
use nuncio_core::stats::{MetricValue, Store};
use nuncio_core::upstreams::{ClientOptions, DnsCache, FindCluster, Found, HttpClient};
use nuncio_core::{BuildError, BuildResult, LocalBoxFuture, Registry};
use prost::{Message, Name};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The server as filters see it.
#[derive(Default)]
pub(super) struct Server {
    pub runtime: Arc<Runtime>,
    pub state: Arc<ServerState>,
    pub clusters: Vec<String>,
    /// Clusters that a control plane has.
    pub findable: Arc<Findable>,
    pub calls: Calls,
}

/// A control plane that is asked for clusters.
#[derive(Default)]
pub(super) struct Findable {
    there: Vec<String>,
    found: Mutex<Vec<String>>,
}

impl Findable {
    pub fn new(names: &[&str]) -> Arc<Findable> {
        let there = names.iter().map(|n| (*n).to_owned()).collect();
        Arc::new(Findable { there, found: Mutex::default() })
    }
}

impl Findable {
    pub fn found(&self) -> Vec<String> {
        self.found.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl FindCluster for Findable {
    fn is_here(&self, name: &str) -> bool {
        self.found.lock().unwrap_or_else(|e| e.into_inner()).iter().any(|n| n == name)
    }
    fn find(&self, name: &str, _: Duration) -> LocalBoxFuture<'static, Found> {
        let found = self.there.iter().any(|n| n == name);
        if found {
            self.found.lock().unwrap_or_else(|e| e.into_inner()).push(name.to_owned());
        }
        Box::pin(async move { if found { Found::Here } else { Found::Missing } })
    }
}

impl ServerCx for Server {
    fn cluster_finder(&self, _: &ConfigSource, _: &BuildCx<'_>) -> BuildResult<Arc<dyn FindCluster>> {
        Ok(self.findable.clone())
    }
    fn has_cluster(&self, name: &str) -> bool {
        self.clusters.iter().any(|c| c == name)
    }
    fn runtime(&self) -> Arc<Runtime> {
        self.runtime.clone()
    }
    fn state(&self) -> Arc<ServerState> {
        self.state.clone()
    }
    fn http_client(&self, o: &ClientOptions<'_>, _: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        Ok(self.calls.client(o.cluster))
    }
    fn dns_cache(&self, _: &DnsCacheConfig, _: &BuildCx<'_>) -> BuildResult<Arc<dyn DnsCache>> {
        Ok(Arc::new(FakeNames))
    }
}

/// A chain and its routes.
pub(super) struct Built {
    pub chain: Rc<Chain>,
    pub routes: Option<Rc<Routes>>,
}

impl Built {
    pub fn new(test: &FilterTest) -> BuildResult<Built> {
        let (mut registry, mut coverage) = (Registry::default(), Coverage::default());
        (test.register)(&mut registry, &mut coverage);
        let scope = test.store.scope("http.test");
        let cx = BuildCx {
            registry: &registry,
            scope: &scope,
            name: "",
            node: &test.node,
            server: &test.server,
            init: &Init::default(),
            validate_only: false,
        };
        let hcm = format!("stat_prefix: test\nroute_config: {{}}\nhttp_filters:\n{}", test.filters);
        let hcm: pb::HttpConnectionManager = parse(&hcm)?;
        let mut filters = vec![];
        for f in &hcm.http_filters {
            let Some(pb::http_filter::ConfigType::TypedConfig(any)) = &f.config_type else {
                return Err(format!("{}: give a typed_config", f.name).into());
            };
            if any.type_url.ends_with(&Router::full_name()) {
                continue;
            }
            covered(&coverage, any)?;
            let filter = registry.build_http_filter(&f.name, any, &cx)?;
            filters.push(ChainFilter { id: FilterId::of(&f.name), filter, disabled: f.disabled });
        }
        let routes = test.routes.as_ref().map(|r| Routes::new(&parse(r)?, &coverage, &cx)).transpose()?;
        let switchable = routes.is_some() || filters.iter().any(|f| f.disabled);
        Ok(Built { chain: Rc::new(Chain { filters, switchable }), routes: routes.map(Rc::new) })
    }
}

/// Reads YAML with all of Envoy's rules.
fn parse<M: Message + Name + Default>(yaml: &str) -> BuildResult<M> {
    match parse_message(yaml.as_bytes(), Format::Yaml, "test.yaml", UnknownFields::Refuse) {
        Ok(loaded) => Ok(loaded.message),
        Err(e) => Err(BuildError(e.envoy_phrase().into())),
    }
}

/// Refuses fields that nobody reads.
pub(super) fn covered(coverage: &Coverage, any: &prost_types::Any) -> BuildResult<()> {
    let message = any.type_url.rsplit('/').next().unwrap_or_default();
    match coverage.check(message, &any.value).first() {
        None => Ok(()),
        Some(unread) => Err(BuildError::not_implemented(&unread.field)),
    }
}

/// Every counter and gauge of a store.
pub fn counters(store: &Store) -> Vec<(String, u64)> {
    let mut all = vec![];
    let mut snapshot = store.snapshot();
    while snapshot.step(usize::MAX, |m| match m.value {
        MetricValue::Counter { value, .. } | MetricValue::Gauge(value) => {
            all.push((m.name.to_owned(), value))
        }
        _ => {}
    }) {}
    all
}

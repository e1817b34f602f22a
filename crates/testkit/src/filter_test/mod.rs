//! Drives a chain of HTTP filters without sockets: configuration in, requests in, everything that can be seen out.
//!
//! ```ignore
//! let t = FilterTest::new(nuncio_ext::register, include_str!("example.yaml"))
//!     .route_config("virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: c}}]}]")
//!     .upstream_replies(Reply::new(200).header("x-up", "1").body("hello"));
//! let seen = t.request("GET /path").header("x-a", "1").send();
//! assert_eq!((seen.status, &*seen.body), (200, "hello"));
//! assert_eq!(seen.upstream().header("x-a"), Some("1"));
//! assert_eq!(t.stat("http.test.my_filter.ok"), 1);
//! ```
//!
//! The chain is built once, at the first request; requests then run one after another on a runtime of their own, through
//! the real pipeline. In place of the router stands an upstream that reads the whole request and answers as it was told.
//! The clock is that of the thread: take it over with `nuncio_core::clock::sim::Sim` where time matters.

mod build;
mod calls;
mod message;
mod names;
mod routes;
mod upstream;

pub use calls::{Calls, SeenCall};
pub use message::{Payload, Reply, Request, Seen, SeenRequest};
pub use names::FakeNames;

pub use build::counters;
use build::{Built, Findable, Server};
use nuncio_core::coverage::Coverage;
use nuncio_core::filter::NodeInfo;
use nuncio_core::runtime::{Layer, RuntimeValue, ServerState, Snapshot};
use nuncio_core::stats::Store;
use nuncio_core::{BuildError, Registry};
use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

/// A chain under test.
pub struct FilterTest {
    register: fn(&mut Registry, &mut Coverage),
    filters: String,
    routes: Option<String>,
    node: NodeInfo,
    store: Store,
    server: Server,
    reply: RefCell<Reply>,
    built: OnceCell<Built>,
}

impl FilterTest {
    /// A chain of the filters in `yaml`, a list as in `HttpConnectionManager.http_filters` (a router at its end may be left
    /// out), of the extensions that `register` registers. The upstream answers 200 without a body.
    pub fn new(register: fn(&mut Registry, &mut Coverage), yaml: &str) -> FilterTest {
        FilterTest {
            register,
            filters: yaml.to_owned(),
            routes: None,
            node: NodeInfo {
                id: "test-id".into(),
                cluster: "test-cluster".into(),
                zone: "test-zone".into(),
                ..Default::default()
            },
            store: Store::new(),
            server: Server::default(),
            reply: RefCell::new(Reply::new(200)),
            built: OnceCell::new(),
        }
    }
    /// Routes: a `RouteConfiguration`, for what filters see of it (names, metadata, `typed_per_filter_config` of its four
    /// levels). Of matchers `domains` (exact and `*`), `prefix` and `path` are understood.
    pub fn route_config(mut self, yaml: &str) -> FilterTest {
        self.routes = Some(yaml.to_owned());
        self
    }
    /// What the upstream answers from now on.
    pub fn upstream_replies(self, reply: Reply) -> FilterTest {
        self.replies(reply);
        self
    }
    /// As [`upstream_replies`](Self::upstream_replies), between requests.
    pub fn replies(&self, reply: Reply) {
        *self.reply.borrow_mut() = reply;
    }
    /// Clusters that exist.
    pub fn clusters(mut self, names: &[&str]) -> FilterTest {
        self.server.clusters = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }
    /// Clusters that a control plane has, to be found when a request needs them.
    pub fn clusters_to_find(mut self, names: &[&str]) -> FilterTest {
        self.server.findable = Findable::new(names);
        self
    }
    /// Those of them that were found.
    pub fn found(&self) -> Vec<String> {
        self.server.findable.found()
    }
    /// Facts of the proxy; `test-id`, `test-cluster` and `test-zone` otherwise.
    pub fn node(mut self, node: NodeInfo) -> FilterTest {
        self.node = node;
        self
    }
    /// What filters ask of others.
    pub fn calls(&self) -> &Calls {
        &self.server.calls
    }
    /// Sets a runtime value.
    pub fn runtime(&self, key: &str, value: &str) {
        let mut layers = self.server.runtime.snapshot().layers.clone();
        let values = [(key.to_owned(), RuntimeValue::of_text(value).expect("YAML"))].into();
        layers.push(Layer { values, ..Default::default() });
        self.server.runtime.set(Snapshot::new(layers));
    }
    /// Flags of the server.
    pub fn server_state(&self) -> Arc<ServerState> {
        self.server.state.clone()
    }
    /// Builds the chain, or says why its configuration is refused: also for fields that nobody reads.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn build(&self) -> Result<(), BuildError> {
        if self.built.get().is_none() {
            let built = Built::new(self)?;
            // Nobody else can have set it: the cell is of this thread.
            let _ = self.built.set(built);
        }
        Ok(())
    }
    /// Why the configuration is refused.
    ///
    /// # Panics
    /// It is not.
    pub fn refusal(&self) -> String {
        match self.build() {
            Err(e) => e.0,
            Ok(()) => panic!("the configuration is not refused:\n{}", self.filters),
        }
    }
    /// A request, to be completed and sent: `GET /path`. Authority is `test.example`, scheme `http`.
    ///
    /// # Panics
    /// The configuration is refused, or the line is not a method and a path.
    pub fn request(&self, line: &str) -> Request<'_> {
        if let Err(e) = self.build() {
            panic!("the configuration is refused: {e}\n{}", self.filters);
        }
        Request::new(self, line)
    }
    /// The value of a counter or gauge; filters count below `http.test.`.
    ///
    /// # Panics
    /// There is no such stat.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.stats();
        let found = stats.iter().find(|(n, _)| n == name);
        found.unwrap_or_else(|| panic!("no stat {name}; there are {stats:?}")).1
    }
    /// Every counter and gauge there is.
    ///
    /// # Panics
    /// The configuration is refused.
    pub fn stats(&self) -> Vec<(String, u64)> {
        if let Err(e) = self.build() {
            panic!("the configuration is refused: {e}\n{}", self.filters);
        }
        counters(&self.store)
    }
}

#[cfg(test)]
mod tests;

//! What an HTTP filter is. An author implements [`HttpFilter`]; the rest of the file erases its types.
//!
//! A hook answers with a [`Step`]: the reply is the hook's return value, so "replied, then continued" cannot be
//! written (Envoy's own contract kept producing that bug).

use crate::LocalBoxFuture;
use crate::discovery::Discovery;
use crate::error::{BuildError, BuildResult};
use crate::exchange::{Exchange, LocalReply};
use crate::init::Init;
use crate::registry::Registry;
use crate::route::AnyConfig;
use crate::stats::Scope;
use crate::upstreams::{ChargeCluster, ClientOptions, DnsCache, FindCluster, HttpClient};
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::envoy::config::core::v3::{ConfigSource, Node};
use nuncio_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3::Secret;
use std::any::Any;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// What a hook wants next.
pub enum Step<'a> {
    /// Go on with the next filter.
    Next,
    /// Answer with this. In the request phase all response hooks see it; from a response hook it goes straight to
    /// the codec.
    Reply(Box<LocalReply>),
    /// Begin again with the changed request, as a new exchange with an entry of its own in the access log (internal
    /// redirects). What `request_body` is, is its body. Refused, and taken as `Next`, unless the request was read to its end.
    Restart,
    /// Wait for the future, then do what it says.
    Wait(LocalBoxFuture<'a, Step<'static>>),
}

impl<'a> Step<'a> {
    /// Waits for `f`.
    pub fn wait(f: impl Future<Output = Step<'static>> + 'a) -> Step<'a> {
        Step::Wait(Box::pin(f))
    }
    /// Answers with a text.
    pub fn reply(
        status: u16,
        body: impl Into<nuncio_wire::Chunk>,
        details: impl Into<Cow<'static, str>>,
    ) -> Step<'a> {
        Step::Reply(Box::new(LocalReply::new(status, body, details)))
    }
}

/// Facts of this proxy that configuration may refer to.
#[derive(Debug, Default, Clone)]
pub struct NodeInfo {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.locality.zone`.
    pub zone: String,
    /// `node.locality`: region, zone, sub-zone.
    pub locality: Arc<[String; 3]>,
}

/// What a factory may use while it builds, on the main thread.
#[derive(Clone, Copy)]
pub struct BuildCx<'a> {
    /// To build extensions inside extensions.
    pub registry: &'a Registry,
    /// Where stats of this extension go, e.g. `http.ingress.`.
    pub scope: &'a Scope,
    /// The extension's configured name.
    pub name: &'a str,
    /// This proxy.
    pub node: &'a NodeInfo,
    /// The server it belongs to: runtime, health state, clusters that exist.
    pub server: &'a dyn ServerCx,
    /// What must be there before that which is built is used: whoever fetches something adds a target.
    pub init: &'a Init,
    /// `--mode validate`: build, but start nothing and bind nothing.
    pub validate_only: bool,
}

/// What a factory may ask of the server.
pub trait ServerCx {
    /// True when a static or active cluster has this name.
    fn has_cluster(&self, name: &str) -> bool;
    /// The runtime, as a snapshot that changes are posted to.
    fn runtime(&self) -> Arc<crate::runtime::Runtime>;
    /// Flags of the whole server that filters look at.
    fn state(&self) -> Arc<crate::runtime::ServerState>;
    /// A client for calls of our own to a cluster, which need not exist yet.
    ///
    /// # Errors
    /// The retry policy is refused, or this server calls nobody (a test's).
    fn http_client(&self, o: &ClientOptions<'_>, _cx: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        Err(BuildError(format!("nobody calls {} here", o.cluster)))
    }
    /// A client for calls to a cluster that nobody else sees: in no list, and without stats. `cluster` has no name; who
    /// asks for the same has the same. It goes with its last client.
    ///
    /// # Errors
    /// The cluster is refused, or this server calls nobody (a test's).
    fn own_client(&self, _cluster: Cluster, _cx: &BuildCx<'_>) -> BuildResult<Arc<dyn HttpClient>> {
        Err("nobody calls a cluster of their own here".into())
    }
    /// Brings resources while the server runs. Without one, configuration that needs it is refused.
    fn discovery(&self) -> Option<Rc<dyn Discovery>> {
        None
    }
    /// Counts responses in the stats of clusters; a server without clusters has none.
    fn charges(&self) -> Option<Arc<dyn ChargeCluster>> {
        None
    }
    /// The cache of this configuration: all that name it share it.
    ///
    /// # Errors
    /// Another configuration has its name, its resolver is not built, or this server resolves nothing (a test's).
    fn dns_cache(&self, c: &DnsCacheConfig, _cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DnsCache>> {
        Err(BuildError(format!("nobody resolves names for {} here", c.name)))
    }
    /// Asks a control plane for clusters when requests need them.
    ///
    /// # Errors
    /// They cannot come from there.
    fn cluster_finder(&self, _: &ConfigSource, _: &BuildCx<'_>) -> BuildResult<Arc<dyn FindCluster>> {
        Err(BuildError::not_implemented("on-demand discovery of clusters here"))
    }
    /// What this proxy says of itself to services that it reports to; empty in a test.
    fn node_message(&self) -> Node {
        Node::default()
    }
    /// The static secret of this name (`static_resources.secrets`).
    fn secret(&self, _name: &str) -> Option<Arc<Secret>> {
        None
    }
    /// Opens a log of events, which is written as access logs are; its lines end where they say. Stats go to `store`.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open_log(&self, path: &str, _store: &crate::stats::Store) -> BuildResult<EventLog> {
        Err(BuildError(format!("unable to open file '{path}': this server has no logs of events")))
    }
}

/// Takes lines of events, on main.
pub type EventLog = Rc<dyn Fn(&str)>;

/// Route config of a filter that has none. Configuring one is refused in Envoy's words.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NoRoute {}

impl prost::Name for NoRoute {
    const NAME: &'static str = "NoRoute";
    const PACKAGE: &'static str = "nuncio";
}

/// An HTTP filter: built once per configuration on the main thread, shared by every worker.
pub trait HttpFilter: Sized + Send + Sync + 'static {
    /// The proto in `typed_config`.
    type Config: prost::Message + prost::Name + Default;
    /// The proto in `typed_per_filter_config`; [`NoRoute`] when there is none.
    type RouteConfig: prost::Message + prost::Name + Default;
    /// The parsed form of the per-route config; what `ex.route_config::<..>()` returns.
    type Route: Send + Sync + 'static;
    /// State of one stream; `()` when the filter keeps none (then nothing is allocated).
    type Stream: Default + 'static;

    /// Builds the filter.
    ///
    /// # Errors
    /// The configuration is refused (at start, or with a NACK).
    fn new(config: Self::Config, cx: &BuildCx<'_>) -> BuildResult<Self>;
    /// Parses a per-route config.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    fn route(config: Self::RouteConfig, cx: &BuildCx<'_>) -> BuildResult<Self::Route>;
    /// The request's head is there; its body can be pulled, wrapped or buffered.
    fn on_request<'a>(self: &'a Arc<Self>, _: &'a mut Self::Stream, _: &'a mut Exchange) -> Step<'a> {
        Step::Next
    }
    /// The response's head is there. Runs in reverse order, for all filters, also for those that never saw the request.
    fn on_response<'a>(self: &'a Arc<Self>, _: &'a mut Self::Stream, _: &'a mut Exchange) -> Step<'a> {
        Step::Next
    }
    /// The stream is over, in whatever way.
    fn on_done(self: &Arc<Self>, _: &mut Self::Stream, _: &Exchange) {}
}

/// What the pipeline sees of a filter.
pub trait DynFilter: Send + Sync {
    /// Fresh state for one stream.
    fn stream(&self) -> Box<dyn Any>;
    /// [`HttpFilter::on_request`].
    fn on_request<'a>(&'a self, st: &'a mut dyn Any, ex: &'a mut Exchange) -> Step<'a>;
    /// [`HttpFilter::on_response`].
    fn on_response<'a>(&'a self, st: &'a mut dyn Any, ex: &'a mut Exchange) -> Step<'a>;
    /// [`HttpFilter::on_done`].
    fn on_done(&self, st: &mut dyn Any, ex: &Exchange);
}

struct Typed<F>(Arc<F>);

impl<F: HttpFilter> DynFilter for Typed<F> {
    fn stream(&self) -> Box<dyn Any> {
        Box::new(F::Stream::default())
    }
    fn on_request<'a>(&'a self, st: &'a mut dyn Any, ex: &'a mut Exchange) -> Step<'a> {
        // The pipeline hands every filter the state that `stream` made for it; anything else is passed over.
        st.downcast_mut().map_or(Step::Next, |st| self.0.on_request(st, ex))
    }
    fn on_response<'a>(&'a self, st: &'a mut dyn Any, ex: &'a mut Exchange) -> Step<'a> {
        st.downcast_mut().map_or(Step::Next, |st| self.0.on_response(st, ex))
    }
    fn on_done(&self, st: &mut dyn Any, ex: &Exchange) {
        if let Some(st) = st.downcast_mut() {
            self.0.on_done(st, ex);
        }
    }
}

/// What the registry sees of a filter.
pub trait HttpFilterFactory: Send + Sync {
    /// Builds the filter from the bytes of its config message.
    ///
    /// # Errors
    /// The configuration is refused.
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynFilter>>;
    /// Parses a per-route config.
    ///
    /// # Errors
    /// The configuration is refused.
    fn route(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<AnyConfig>;
    /// Type URL of the config, without its host.
    fn config_type(&self) -> String;
    /// Type URL of the per-route config, unless there is none.
    fn route_type(&self) -> Option<String>;
}

pub(crate) struct Factory<F>(pub PhantomData<fn() -> F>);

impl<F: HttpFilter> HttpFilterFactory for Factory<F> {
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynFilter>> {
        let config = decode::<F::Config>(config)?;
        Ok(Arc::new(Typed(Arc::new(F::new(config, cx)?))))
    }
    fn route(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<AnyConfig> {
        if self.route_type().is_none() {
            let name = cx.name;
            return Err(format!(
                "The filter {name} doesn't support virtual host or route specific configurations"
            )
            .into());
        }
        Ok(Arc::new(F::route(decode::<F::RouteConfig>(config)?, cx)?))
    }
    fn config_type(&self) -> String {
        <F::Config as prost::Name>::full_name()
    }
    fn route_type(&self) -> Option<String> {
        let name = <F::RouteConfig as prost::Name>::full_name();
        (name != <NoRoute as prost::Name>::full_name()).then_some(name)
    }
}

/// Decodes a message that the configuration engine has encoded and validated.
pub(crate) fn decode<M: prost::Message + Default>(bytes: &[u8]) -> BuildResult<M> {
    M::decode(bytes).map_err(|e| BuildError(e.to_string()))
}

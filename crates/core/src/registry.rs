//! One registry of extensions, by (kind, type URL).
//!
//! The type URL decides, as in Envoy; the name only appears in messages. The same URL may serve several kinds.
//! What Envoy has and we have not built is told apart from what does not exist by the table in `api`.

use crate::error::{BuildError, BuildResult};
use crate::filter::{BuildCx, DynFilter, Factory, HttpFilter, HttpFilterFactory};
use crate::kinds::{self, AccessLogger, AccessLoggerFactory, DynAccessLogger};
use crate::kinds::{DynEarlyHeaderMutation, EarlyHeaderMutation, EarlyHeaderMutationFactory};
use crate::listener_filter::{self, DynListenerFilter, ListenerFilter, ListenerFilterFactory};
use crate::network_filter::{self, DynNetworkFilter, NetworkFilter, NetworkFilterFactory};
use crate::route::AnyConfig;
use crate::terminal_filter::{self, DynTerminalFilter, TerminalFilter, TerminalFilterFactory};
use crate::tracing::{self, DynTracer, Tracer, TracerFactory};
use nuncio_api::extensions::Origin;
use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// Kinds of extension; the text is Envoy's category.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Kind {
    /// `envoy.filters.http`
    HttpFilter,
    /// `envoy.filters.http.upstream`
    UpstreamHttpFilter,
    /// `envoy.filters.network`
    NetworkFilter,
    /// `envoy.filters.listener`
    ListenerFilter,
    /// `envoy.transport_sockets.downstream`
    DownstreamTransportSocket,
    /// `envoy.transport_sockets.upstream`
    UpstreamTransportSocket,
    /// `envoy.access_loggers`
    AccessLogger,
    /// `envoy.load_balancing_policies`
    LoadBalancingPolicy,
    /// `envoy.network.dns_resolver`
    DnsResolver,
    /// `envoy.upstream_options`
    UpstreamOptions,
    /// `envoy.clusters`
    Cluster,
    /// `envoy.retry_host_predicates`
    RetryHostPredicate,
    /// `envoy.retry_priorities`
    RetryPriority,
    /// `envoy.http.stateful_header_formatters`
    HeaderFormatter,
    /// `envoy.http.early_header_mutation`
    EarlyHeaderMutation,
    /// `envoy.resource_monitors`
    ResourceMonitor,
    /// `envoy.tracers`
    Tracer,
    /// `envoy.health_checkers`
    HealthChecker,
    /// `envoy.health_check.event_sinks`
    HealthCheckEventSink,
}

impl Kind {
    /// Envoy's category name.
    pub fn category(self) -> &'static str {
        match self {
            Kind::HttpFilter => "envoy.filters.http",
            Kind::UpstreamHttpFilter => "envoy.filters.http.upstream",
            Kind::NetworkFilter => "envoy.filters.network",
            Kind::ListenerFilter => "envoy.filters.listener",
            Kind::DownstreamTransportSocket => "envoy.transport_sockets.downstream",
            Kind::UpstreamTransportSocket => "envoy.transport_sockets.upstream",
            Kind::AccessLogger => "envoy.access_loggers",
            Kind::LoadBalancingPolicy => "envoy.load_balancing_policies",
            Kind::DnsResolver => "envoy.network.dns_resolver",
            Kind::UpstreamOptions => "envoy.upstream_options",
            Kind::Cluster => "envoy.clusters",
            Kind::RetryHostPredicate => "envoy.retry_host_predicates",
            Kind::RetryPriority => "envoy.retry_priorities",
            Kind::HeaderFormatter => "envoy.http.stateful_header_formatters",
            Kind::EarlyHeaderMutation => "envoy.http.early_header_mutation",
            Kind::ResourceMonitor => "envoy.resource_monitors",
            Kind::Tracer => "envoy.tracers",
            Kind::HealthChecker => "envoy.health_checkers",
            Kind::HealthCheckEventSink => "envoy.health_check.event_sinks",
        }
    }
}

/// What people read about an extension; `docs/extensions.md` is made from it.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    /// What it does, in Markdown.
    pub text: &'static str,
    /// A configuration that loads.
    pub example: &'static str,
}

/// One registered extension.
pub struct Entry {
    /// Envoy's well-known name.
    pub name: &'static str,
    /// Full names of its config messages.
    pub types: Vec<String>,
    /// Docs.
    pub docs: Docs,
    factory: Box<dyn Any + Send + Sync>,
}

/// All extensions of this binary.
#[derive(Default)]
pub struct Registry {
    entries: BTreeMap<(Kind, &'static str), Arc<Entry>>,
    by_type: BTreeMap<(Kind, String), Arc<Entry>>,
    disabled: Vec<(Kind, &'static str)>,
}

impl Registry {
    /// Registers anything; the typed methods below are what extensions call.
    ///
    /// # Panics
    /// When the kind and type are registered already: two extensions would shadow each other. At start only.
    pub fn insert(
        &mut self,
        kind: Kind,
        name: &'static str,
        types: Vec<String>,
        docs: Docs,
        factory: impl Any + Send + Sync,
    ) {
        let e = Arc::new(Entry { name, types: types.clone(), docs, factory: Box::new(factory) });
        for t in types {
            let old = self.by_type.insert((kind, t.clone()), e.clone());
            assert!(old.is_none(), "two extensions for {t} of kind {kind:?}");
        }
        self.entries.insert((kind, name), e);
    }
    /// Registers an HTTP filter.
    pub fn http_filter<F: HttpFilter>(&mut self, name: &'static str, docs: Docs) {
        let f: Arc<dyn HttpFilterFactory> = Arc::new(Factory::<F>(PhantomData));
        let mut types = vec![f.config_type()];
        types.extend(f.route_type().filter(|t| *t != types[0]));
        self.insert(Kind::HttpFilter, name, types, docs, f);
    }
    /// Registers an HTTP filter that may stand between the router and the hosts too.
    pub fn upstream_http_filter<F: HttpFilter>(&mut self, name: &'static str, docs: Docs) {
        let f: Arc<dyn HttpFilterFactory> = Arc::new(Factory::<F>(PhantomData));
        self.insert(Kind::UpstreamHttpFilter, name, vec![f.config_type()], docs, f);
    }
    /// Registers an access logger.
    pub fn access_logger<L: AccessLogger>(&mut self, name: &'static str, docs: Docs) {
        let f: Arc<dyn AccessLoggerFactory> = Arc::new(kinds::LoggerFactory::<L>(PhantomData));
        self.insert(Kind::AccessLogger, name, vec![<L::Config as prost::Name>::full_name()], docs, f);
    }
    /// Registers an early header mutation.
    pub fn early_header_mutation<M: EarlyHeaderMutation>(&mut self, name: &'static str, docs: Docs) {
        let f: Arc<dyn EarlyHeaderMutationFactory> = Arc::new(kinds::EarlyFactory::<M>(PhantomData));
        self.insert(Kind::EarlyHeaderMutation, name, vec![<M::Config as prost::Name>::full_name()], docs, f);
    }
    /// Registers a tracer.
    pub fn tracer<T: Tracer>(&mut self, name: &'static str, docs: Docs) {
        let f: Arc<dyn TracerFactory> = Arc::new(tracing::Factory::<T>(PhantomData));
        self.insert(Kind::Tracer, name, vec![<T::Config as prost::Name>::full_name()], docs, f);
    }
    /// Registers a listener filter.
    pub fn listener_filter<F: ListenerFilter>(&mut self, name: &'static str, docs: Docs) {
        let f: Arc<dyn ListenerFilterFactory> = Arc::new(listener_filter::Factory::<F>(PhantomData));
        self.insert(Kind::ListenerFilter, name, vec![<F::Config as prost::Name>::full_name()], docs, f);
    }
    /// Registers a network filter that stands before the last one of a chain.
    pub fn network_filter<F: NetworkFilter>(&mut self, name: &'static str, docs: Docs) {
        let f: Arc<dyn NetworkFilterFactory> = Arc::new(network_filter::Factory::<F>(PhantomData));
        self.insert(Kind::NetworkFilter, name, vec![<F::Config as prost::Name>::full_name()], docs, f);
    }
    /// Registers a network filter that is the last one of a chain.
    pub fn terminal_filter<F: TerminalFilter>(&mut self, name: &'static str, docs: Docs) {
        let f: Arc<dyn TerminalFilterFactory> = Arc::new(terminal_filter::Factory::<F>(PhantomData));
        self.insert(Kind::NetworkFilter, name, vec![<F::Config as prost::Name>::full_name()], docs, f);
    }
    /// `--disable-extensions`: takes an extension out. False when there is none of that name.
    pub fn disable(&mut self, category: &str, name: &str) -> bool {
        let Some((key, e)) = self.entries.iter().find(|(k, _)| k.0.category() == category && k.1 == name)
        else {
            return false;
        };
        let (key, types) = (*key, e.types.clone());
        self.entries.remove(&key);
        for t in types {
            self.by_type.remove(&(key.0, t));
        }
        self.disabled.push(key);
        true
    }
    /// True when `--disable-extensions` took this extension out.
    pub fn is_disabled(&self, kind: Kind, name: &str) -> bool {
        self.disabled.iter().any(|(k, n)| *k == kind && *n == name)
    }
    /// Every extension with its kind, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &Entry)> {
        self.entries.iter().map(|(k, e)| (k.0, &**e))
    }

    /// The factory for a config, as the type `T` its kind uses.
    ///
    /// # Errors
    /// Envoy's words when there is no such extension; `not implemented yet` when Envoy has it.
    pub fn find<T: Clone + 'static>(&self, kind: Kind, name: &str, type_url: &str) -> BuildResult<T> {
        let ty = type_url.rsplit('/').next().unwrap_or_default();
        let found = self.by_type.get(&(kind, ty.to_owned()));
        match found.and_then(|e| e.factory.downcast_ref::<T>()) {
            Some(f) => Ok(f.clone()),
            None => Err(self.missing(kind, name, ty)),
        }
    }
    fn missing(&self, kind: Kind, name: &str, ty: &str) -> BuildError {
        let off = self.is_disabled(kind, name);
        if !off && nuncio_api::extensions::find(kind.category(), ty).is_some_and(|e| e.origin == Origin::Core)
        {
            return BuildError::not_implemented(format_args!("{name} ({ty})"));
        }
        BuildError(nuncio_api::extensions::unregistered(name, ty))
    }
    /// Envoy's name of the extension with this config type.
    pub fn name_of(&self, kind: Kind, type_url: &str) -> Option<&'static str> {
        let ty = type_url.rsplit('/').next().unwrap_or_default();
        self.by_type.get(&(kind, ty.to_owned())).map(|e| e.name)
    }

    /// Builds an HTTP filter.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the filter refuses its config.
    pub fn build_http_filter(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<dyn DynFilter>> {
        let f: Arc<dyn HttpFilterFactory> = self.find(Kind::HttpFilter, name, &any.type_url)?;
        f.build(&any.value, &BuildCx { name, ..*cx })
    }
    /// Builds an HTTP filter that stands between the router and the hosts.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the filter refuses its config.
    pub fn build_upstream_http_filter(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<dyn DynFilter>> {
        let f: Arc<dyn HttpFilterFactory> = self.find(Kind::UpstreamHttpFilter, name, &any.type_url)?;
        f.build(&any.value, &BuildCx { name, ..*cx })
    }
    /// Parses a per-route config of an HTTP filter.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the filter refuses the config.
    pub fn build_route_config(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<AnyConfig> {
        let f: Arc<dyn HttpFilterFactory> = self.find(Kind::HttpFilter, name, &any.type_url)?;
        f.route(&any.value, &BuildCx { name, ..*cx })
    }
    /// Builds an access logger.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the logger refuses its config.
    pub fn build_access_logger(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<dyn DynAccessLogger>> {
        let f: Arc<dyn AccessLoggerFactory> = self.find(Kind::AccessLogger, name, &any.type_url)?;
        f.build(&any.value, &BuildCx { name, ..*cx })
    }
    /// Builds an early header mutation.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the extension refuses its config.
    pub fn build_early_header_mutation(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<dyn DynEarlyHeaderMutation>> {
        let f: Arc<dyn EarlyHeaderMutationFactory> =
            self.find(Kind::EarlyHeaderMutation, name, &any.type_url)?;
        f.build(&any.value, &BuildCx { name, ..*cx })
    }
    /// Builds a tracer.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the tracer refuses its config.
    pub fn build_tracer(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<dyn DynTracer>> {
        let f: Arc<dyn TracerFactory> = self.find(Kind::Tracer, name, &any.type_url)?;
        f.build(&any.value, &BuildCx { name, ..*cx })
    }
    /// Builds a listener filter.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the filter refuses its config.
    pub fn build_listener_filter(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<dyn DynListenerFilter>> {
        let f: Arc<dyn ListenerFilterFactory> = self.find(Kind::ListenerFilter, name, &any.type_url)?;
        f.build(&any.value, &BuildCx { name, ..*cx })
    }
    /// Builds a network filter that stands before the last one of a chain.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the filter refuses its config.
    pub fn build_network_filter(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<dyn DynNetworkFilter>> {
        let f: Arc<dyn NetworkFilterFactory> = self.find(Kind::NetworkFilter, name, &any.type_url)?;
        f.build(&any.value, &BuildCx { name, ..*cx })
    }
    /// Envoy's name of the terminal network filter with this config type; none when there is no such filter.
    pub fn terminal_name(&self, type_url: &str) -> Option<&'static str> {
        let ty = type_url.rsplit('/').next().unwrap_or_default();
        let e = self.by_type.get(&(Kind::NetworkFilter, ty.to_owned()))?;
        e.factory.is::<Arc<dyn TerminalFilterFactory>>().then_some(e.name)
    }
    /// Builds a network filter that is the last one of a chain.
    ///
    /// # Errors
    /// As [`find`](Self::find), or the filter refuses its config.
    pub fn build_terminal_filter(
        &self,
        name: &str,
        any: &prost_types::Any,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Arc<dyn DynTerminalFilter>> {
        let f: Arc<dyn TerminalFilterFactory> = self.find(Kind::NetworkFilter, name, &any.type_url)?;
        f.build(&any.value, &BuildCx { name, ..*cx })
    }
}

//! Live configuration: resources that come from control planes and from files while the server runs.
//!
//! Whoever wants resources subscribes to them ([`Discovery`], in `core`); [`Xds`] finds out where they come from. From
//! files: [`mod@file`]. From a control plane: [`stream`] keeps a gRPC stream open for a [`mux`], which speaks [`sotw`] or
//! [`delta`] for all subscriptions of the stream. Each of those is a [`watch`]. The server itself subscribes to clusters
//! ([`cds`]), listeners ([`lds`]) and layers of the runtime ([`rtds`]); clusters to their hosts, and connection managers to their routes, in the engine.

mod apply;
pub mod base;
pub mod cds;
mod delta;
pub mod file;
pub mod lds;
mod mux;
pub mod odcds;
mod queue;
pub mod resource;
mod rest;
pub mod rtds;
mod sotw;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

use apply::InPieces;
use base::Base;
use file::{FileSource, Folders};
pub use mux::far;
use mux::{ControlPlaneStats, Mux};
use nuncio_api::envoy::config::bootstrap::v3::bootstrap::DynamicResources;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::core::v3::api_config_source::ApiType;
use nuncio_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier as From;
use nuncio_api::load::UnknownFields;
use nuncio_core::coverage::Covered;
use nuncio_core::discovery::{Discovery, OnDemand, Subscribe, Subscriber, Subscription};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::grpc::Client;
use nuncio_core::stats::Scope;
use nuncio_core::upstreams::ClientOptions;
use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;
use stream::Rules;
use watch::Watch;

/// What is read of the messages that say where resources come from.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.bootstrap.v3.Bootstrap.DynamicResources",
        &["lds_config", "cds_config", "ads_config"],
    ),
    Covered::new(
        "envoy.config.core.v3.ConfigSource",
        &[
            "path",
            "path_config_source",
            "api_config_source",
            "ads",
            "self",
            "initial_fetch_timeout",
            "resource_api_version",
        ],
    ),
    Covered::new("envoy.config.core.v3.AggregatedConfigSource", &[]),
    Covered::new("envoy.config.core.v3.PathConfigSource", &["path", "watched_directory"]),
    Covered::new("envoy.config.core.v3.WatchedDirectory", &["path"]),
    Covered::new(
        "envoy.config.core.v3.ApiConfigSource",
        &[
            "api_type",
            "transport_api_version",
            "grpc_services",
            "rate_limit_settings",
            "set_node_on_first_message_only",
            "cluster_names",
            "refresh_delay",
            "request_timeout",
        ],
    ),
    Covered::new("envoy.config.core.v3.RateLimitSettings", &["max_tokens", "fill_rate"]),
    Covered::new("envoy.config.core.v3.SelfConfigSource", &["transport_api_version"]),
];

/// How long the first response may take when the configuration does not say.
const FIRST_FETCH: Duration = Duration::from_secs(15);

/// Where resources come from while the server runs.
pub struct Xds {
    base: OnceCell<Weak<Base>>,
    node: Rc<core::Node>,
    root: Scope,
    ads_config: Option<core::ApiConfigSource>,
    ads: Option<Rc<Mux>>,
    muxes: RefCell<Vec<Weak<Mux>>>,
    folders: Folders,
    /// What is followed to the end.
    kept: RefCell<Vec<Subscription>>,
    unknown: UnknownFields,
}

impl Xds {
    /// Knows the control plane of the bootstrap.
    pub fn new(
        d: Option<&DynamicResources>,
        node: &core::Node,
        root: &Scope,
        reject_unknown: bool,
    ) -> Rc<Xds> {
        let ads_config = d.and_then(|d| d.ads_config.as_deref().cloned());
        let node = Rc::new(node.clone());
        let ads = ads_config.as_ref().map(|c| {
            let stats = ControlPlaneStats::new(&root.scope("control_plane"));
            Mux::new(is_delta(c), node.clone(), c.set_node_on_first_message_only, stats)
        });
        let muxes = RefCell::new(ads.iter().map(Rc::downgrade).collect());
        let unknown = if reject_unknown { UnknownFields::Refuse } else { UnknownFields::Ignore };
        let (base, folders, root) = (OnceCell::new(), Folders::default(), root.clone());
        let kept = RefCell::default();
        Rc::new(Xds { base, node, root, ads_config, ads, muxes, folders, kept, unknown })
    }
    /// This proxy, as control planes know it.
    pub fn node(&self) -> &core::Node {
        &self.node
    }
    /// What builders need, from now on.
    pub fn set_base(&self, base: &Rc<Base>) {
        // A second call would be a mistake of the start-up code; the first one stays.
        let _ = self.base.set(Rc::downgrade(base));
    }
    /// What builders need.
    pub fn base(&self) -> Option<Rc<Base>> {
        self.base.get()?.upgrade()
    }
    /// Whether `ads_config` can be used.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_ads(&self) -> BuildResult<()> {
        let Some(c) = &self.ads_config else { return Ok(()) };
        if c.api_type() == ApiType::Rest {
            return Err(BuildError::not_implemented("dynamic_resources.ads_config.api_type: REST"));
        }
        check_api(c, "dynamic_resources.ads_config")
    }
    /// Connects to the control plane of the bootstrap: clusters that lead there are ready.
    ///
    /// # Errors
    /// The configuration of the client is refused.
    pub fn start_ads(&self) -> BuildResult<()> {
        let (Some(c), Some(mux)) = (&self.ads_config, &self.ads) else { return Ok(()) };
        const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
        let what = if is_delta(c) { "DeltaAggregatedResources" } else { "StreamAggregatedResources" };
        self.connect(mux, c, format!("{SERVICE}/{what}")).map(drop)
    }
    /// No requests for these kinds until what is returned goes.
    pub fn pause(&self, kinds: &'static [&'static str]) -> Paused {
        let mut muxes = self.muxes.borrow_mut();
        muxes.retain(|m| m.strong_count() > 0);
        let muxes: Vec<_> = muxes.iter().filter_map(Weak::upgrade).collect();
        muxes.iter().for_each(|m| m.pause(kinds));
        Paused { muxes, kinds }
    }
    fn connect(
        &self,
        mux: &Rc<Mux>,
        c: &core::ApiConfigSource,
        method: String,
    ) -> BuildResult<tokio::task::AbortHandle> {
        let Some(base) = self.base() else { return Err("nothing is built yet".into()) };
        let service = c.grpc_services.first().cloned().unwrap_or_default();
        let client = Client::new(&service, &base.cx())?;
        let run = stream::run(mux.clone(), client, method, Rules::new(c));
        Ok(tokio::task::spawn_local(run).abort_handle())
    }
    /// Polls for one subscription.
    fn poll(&self, c: &core::ApiConfigSource, watch: Rc<Watch>) -> BuildResult<Subscription> {
        let Some(base) = self.base() else { return Err("nothing is built yet".into()) };
        let cx = base.cx();
        let client = cx.server.http_client(&ClientOptions::new(rest::cluster(c)), &cx)?;
        let poll = rest::Poll::new(c, watch.kind, client, self.node.clone(), self.unknown)?;
        let task = tokio::task::spawn_local(poll.run(watch.clone())).abort_handle();
        Ok(Subscription::new(Polled { watch, task }))
    }
    /// A stream for one subscription.
    fn own(
        &self,
        c: &core::ApiConfigSource,
        wish: &Subscribe<'_>,
        watch: Rc<Watch>,
    ) -> BuildResult<(Rc<Mux>, Subscription)> {
        let delta = is_delta(c);
        let method = resource::method(wish.kind, delta).ok_or_else(|| {
            BuildError::not_implemented(format_args!("a service of its own for {}", wish.kind))
        })?;
        let stats = ControlPlaneStats::new(&wish.scope.scope("control_plane"));
        let mux = Mux::new(delta, self.node.clone(), c.set_node_on_first_message_only, stats);
        self.muxes.borrow_mut().push(Rc::downgrade(&mux));
        mux.add(&watch);
        let task = self.connect(&mux, c, method)?;
        Ok((mux.clone(), Subscription::new(Held { mux, watch, task: Some(task) })))
    }
}

/// See [`Xds::pause`].
pub struct Paused {
    muxes: Vec<Rc<Mux>>,
    kinds: &'static [&'static str],
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.muxes.iter().for_each(|m| m.resume(self.kinds));
    }
}

/// A watch on a mux.
struct Held {
    mux: Rc<Mux>,
    watch: Rc<Watch>,
    task: Option<tokio::task::AbortHandle>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.mux.remove(&self.watch);
        if let Some(t) = &self.task {
            t.abort();
        }
    }
}

/// A watch that is polled for.
struct Polled {
    watch: Rc<Watch>,
    task: tokio::task::AbortHandle,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.watch.end();
        self.task.abort();
    }
}

fn is_delta(c: &core::ApiConfigSource) -> bool {
    matches!(c.api_type(), ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc)
}

fn check_api(c: &core::ApiConfigSource, field: &str) -> BuildResult<()> {
    const NAME: &str = "envoy.config.core.v3.ApiConfigSource";
    if c.transport_api_version() != core::ApiVersion::V3 {
        return Err(format!("V2 .and AUTO xDS transport protocol versions are deprecated in {NAME}").into());
    }
    match c.api_type() {
        ApiType::Rest => rest::check(c),
        ApiType::Grpc | ApiType::DeltaGrpc if c.grpc_services.is_empty() => {
            Err("API configs must have either a gRPC service or a cluster name defined".into())
        }
        ApiType::Grpc | ApiType::DeltaGrpc if c.grpc_services.len() > 1 => Err(BuildError::not_implemented(
            format_args!("a second ApiConfigSource.grpc_services in {field}"),
        )),
        ApiType::Grpc | ApiType::DeltaGrpc => Ok(()),
        other => Err(format!("Unsupported config source {}", other.as_str_name()).into()),
    }
}

impl Discovery for Xds {
    fn check(&self, source: &core::ConfigSource) -> BuildResult<()> {
        match &source.config_source_specifier {
            Some(From::Path(path)) => {
                file::check(&core::PathConfigSource { path: path.clone(), ..Default::default() })
            }
            Some(From::PathConfigSource(p)) => file::check(p),
            Some(From::ApiConfigSource(a)) => check_api(a, "ConfigSource.api_config_source"),
            Some(From::Ads(_)) if self.ads.is_none() => {
                Err("ADS must be configured to support an ADS config source".into())
            }
            Some(From::Ads(_)) => Ok(()),
            Some(From::Self_(_)) | None => {
                Err("Missing config source specifier in envoy::config::core::v3::ConfigSource".into())
            }
        }
    }
    fn follow(&self, folder: &Path, changed: Rc<dyn Fn()>) -> Subscription {
        self.folders.moved_into(folder, changed)
    }
    fn subscribe_on_demand(&self, wish: Subscribe<'_>) -> Option<OnDemand> {
        let base = self.base.get().cloned().unwrap_or_default();
        let watch = Watch::on_demand(wish.kind, wish.name, wish.stats.clone(), wish.subscriber.clone(), base);
        let (mux, held) = match &wish.source.config_source_specifier {
            Some(From::ApiConfigSource(a)) if is_delta(a) => match self.own(a, &wish, watch.clone()) {
                Ok(own) => own,
                Err(e) => {
                    watch.rejected(&e.0);
                    return None;
                }
            },
            Some(From::Ads(_)) => {
                let mux = self.ads.clone().filter(|mux| mux.is_delta())?;
                mux.add(&watch);
                (mux.clone(), Subscription::new(Held { mux, watch: watch.clone(), task: None }))
            }
            _ => return None,
        };
        watch.wait(first_fetch(wish.source));
        let ask = Box::new(move |name: &str| mux.ask(&watch, name));
        Some(OnDemand { ask, held })
    }
    fn subscribe(&self, wish: Subscribe<'_>) -> Subscription {
        self.follow_wish(wish, None)
    }
}

impl Xds {
    /// As [`subscribe`](Discovery::subscribe), for responses that may be huge: what a stream brings is applied in pieces.
    pub fn subscribe_in_pieces<S: Subscriber + InPieces + 'static>(
        &self,
        wish: Subscribe<'_>,
        subscriber: &Rc<S>,
    ) -> Subscription {
        let weak: Weak<S> = Rc::downgrade(subscriber);
        self.follow_wish(Subscribe { subscriber: weak.clone(), ..wish }, Some(weak))
    }
    fn follow_wish(&self, wish: Subscribe<'_>, pieces: Option<Weak<dyn InPieces>>) -> Subscription {
        let base = self.base.get().cloned().unwrap_or_default();
        let watch = Watch::new(wish.kind, wish.name, wish.stats.clone(), wish.subscriber.clone(), base);
        pieces.into_iter().for_each(|p| watch.set_pieces(p));
        let limit = first_fetch(wish.source);
        let from_file = |p: &core::PathConfigSource, watch| {
            Subscription::new(FileSource::start(p, watch, self.unknown, &self.folders))
        };
        match &wish.source.config_source_specifier {
            Some(From::Path(path)) => {
                from_file(&core::PathConfigSource { path: path.clone(), ..Default::default() }, watch)
            }
            Some(From::PathConfigSource(p)) => from_file(p, watch),
            Some(From::ApiConfigSource(a)) if a.api_type() == ApiType::Rest => {
                watch.arm(limit, false);
                self.poll(a, watch.clone()).unwrap_or_else(|e| {
                    watch.rejected(&e.0);
                    Subscription::new(())
                })
            }
            Some(From::ApiConfigSource(a)) => {
                watch.wait(limit);
                self.own(a, &wish, watch.clone()).map_or_else(
                    |e| {
                        watch.rejected(&e.0);
                        Subscription::new(())
                    },
                    |(_, held)| held,
                )
            }
            _ => match &self.ads {
                Some(mux) => {
                    watch.wait(limit);
                    mux.add(&watch);
                    Subscription::new(Held { mux: mux.clone(), watch, task: None })
                }
                None => Subscription::new(()), // `check` has refused it
            },
        }
    }
}

/// How long the first response may take; no time is for ever.
fn first_fetch(source: &core::ConfigSource) -> Duration {
    let limit = source.initial_fetch_timeout.map(|d| Duration::try_from(d).unwrap_or_default());
    limit.unwrap_or(FIRST_FETCH)
}

impl Xds {
    /// Whether this is the control plane of the bootstrap.
    fn is_ads(source: &core::ConfigSource) -> bool {
        matches!(source.config_source_specifier, Some(From::Ads(_)))
    }
    /// Whether `source` speaks a delta protocol, which `what` needs.
    fn check_delta(&self, source: &core::ConfigSource, what: &str) -> BuildResult<()> {
        let delta = match &source.config_source_specifier {
            Some(From::ApiConfigSource(a)) => is_delta(a),
            Some(From::Ads(_)) => self.ads.as_ref().is_some_and(|mux| mux.is_delta()),
            _ => false,
        };
        match delta {
            true => Ok(()),
            false => Err(format!("{what} needs a control plane that speaks a delta protocol").into()),
        }
    }
    /// Calls `changed` whenever something is moved to one of these places, as long as the server runs.
    pub fn follow_files(&self, places: &[PathBuf], changed: impl Fn() + 'static) {
        let changed: Rc<dyn Fn()> = Rc::new(changed);
        let kept = places.iter().map(|p| self.folders.moved_to(p, changed.clone()));
        self.kept.borrow_mut().extend(kept);
    }
    /// Where stats go.
    pub fn root(&self) -> &Scope {
        &self.root
    }
}

//! Resources that come while the server runs: who wants one says so here, and whoever can bring it (`control::xds`) calls
//! back. All of it lives on main.

use crate::error::BuildResult;
use crate::filter::BuildCx;
use crate::hash64::xxh64;
use crate::stats::Scope;
use crate::{clock, stats};
use bytes::Bytes;
use nuncio_api::envoy::config::core::v3::ConfigSource;
use std::any::Any;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// A resource as it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its version; with state-of-the-world protocols that of the response.
    pub version: Arc<str>,
    /// Type URL of its message.
    pub type_url: String,
    /// Its message, encoded.
    pub bytes: Bytes,
}

/// What a response changes.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Resources that are new, or may be others now.
    pub resources: &'a [Resource],
    /// Resources that are gone.
    pub removed: Removed<'a>,
    /// `version_info`, or `system_version_info`.
    pub version: &'a str,
}

/// Which resources are gone.
#[derive(Clone, Copy, Debug)]
pub enum Removed<'a> {
    /// Those of these names.
    Named(&'a [String]),
    /// All but those that the response holds.
    Others,
}

/// Takes over what a subscription brings.
pub trait Subscriber {
    /// A response has arrived. For subscriptions by name it holds at most one resource, whose message was checked.
    ///
    /// # Errors
    /// What was refused, and why; the rest is in use.
    fn update(&self, update: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()>;
    /// The first response has not come in time, or could not be used: do not wait for it.
    fn give_up(&self);
    /// A response that was taken over has spoken of these resources, by their names and aliases: also of some that do not
    /// exist. Only of subscriptions [on demand](Discovery::subscribe_on_demand).
    fn answered(&self, _ids: &[String]) {}
}

/// A wish for resources.
pub struct Subscribe<'a> {
    /// Full name of the message, without host.
    pub kind: &'static str,
    /// Where they come from.
    pub source: &'a ConfigSource,
    /// The one that is wanted; none for all of the kind.
    pub name: Option<&'a str>,
    /// Counts what becomes of it.
    pub stats: Rc<dyn CountUpdates>,
    /// Where those stats are, and those of a stream of its own.
    pub scope: &'a Scope,
    /// Is told.
    pub subscriber: Weak<dyn Subscriber>,
}

/// Brings resources.
pub trait Discovery {
    /// Whether resources can come from there.
    ///
    /// # Errors
    /// They cannot.
    fn check(&self, source: &ConfigSource) -> BuildResult<()>;
    /// Begins to bring resources; `source` was checked. A file may be read, and the subscriber called, before this
    /// returns.
    fn subscribe(&self, wish: Subscribe<'_>) -> Subscription;
    /// Begins to bring the resources that [`OnDemand::ask`] names and, when `wish` has a name, those whose names begin
    /// with it and a slash (VHDS). None when they cannot be brought this way: only delta protocols do.
    fn subscribe_on_demand(&self, _wish: Subscribe<'_>) -> Option<OnDemand> {
        None
    }
    /// Calls `changed` whenever something is moved into the folder, until what is returned is dropped.
    fn follow(&self, folder: &Path, changed: Rc<dyn Fn()>) -> Subscription;
}

/// Resources come until this is dropped.
pub struct Subscription(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any>);

impl Subscription {
    /// Ends when `held` is dropped.
    pub fn new(held: impl Any) -> Subscription {
        Subscription(Box::new(held))
    }
}

/// A subscription to resources that are asked for when somebody needs them; it ends when this is dropped.
pub struct OnDemand {
    /// Asks for a resource; once is enough.
    pub ask: Box<dyn Fn(&str)>,
    /// Goes with it.
    pub held: Subscription,
}

/// Counts what becomes of a subscription.
pub trait CountUpdates {
    /// Something was asked for, or came.
    fn attempt(&self);
    /// A version is in use; `took` says how long that took, where Envoy measures it.
    fn success(&self, version: &str, took: Option<Duration>);
    /// Nothing came.
    fn failure(&self);
    /// What came was refused.
    fn rejected(&self);
    /// The first response did not come in time.
    fn timed_out(&self);
}

stats! {
    /// What Envoy counts of each subscription.
    pub struct SubscriptionStats {
        init_fetch_timeout: SharedCounter,
        update_attempt: SharedCounter,
        update_failure: SharedCounter,
        update_rejected: SharedCounter,
        update_success: SharedCounter,
        update_time: SetGauge,
        version: SetGauge,
        version_text: Text,
        update_duration: Histogram(Milliseconds),
    }
    /// What Envoy counts of those whose resources are swapped as a whole.
    pub struct ReloadStats {
        config_reload: SharedCounter,
        config_reload_time_ms: SetGauge,
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A version as the number that Envoy's gauges show.
pub fn version_number(version: &str) -> u64 {
    xxh64(version.as_bytes(), 0)
}

impl CountUpdates for SubscriptionStats {
    fn attempt(&self) {
        self.update_attempt().inc();
    }
    fn success(&self, version: &str, took: Option<Duration>) {
        self.update_success().inc();
        self.update_time().set(now_ms());
        self.version().set(version_number(version));
        self.version_text().set(version);
        if let Some(took) = took {
            self.update_duration().record(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
    }
    fn failure(&self) {
        self.update_failure().inc();
    }
    fn rejected(&self) {
        self.update_rejected().inc();
    }
    fn timed_out(&self) {
        self.init_fetch_timeout().inc();
    }
}

impl ReloadStats {
    /// Another configuration is in use.
    pub fn reloaded(&self) {
        self.config_reload().inc();
        self.config_reload_time_ms().set(now_ms());
    }
}

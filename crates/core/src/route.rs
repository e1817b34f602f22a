//! What the floors above share about routes; tables and matching are the engine's.

use crate::LocalBoxFuture;
use crate::exchange::Exchange;
use crate::info::StreamShared;
use crate::metadata::Metadata;
use crate::rate_limit::RateLimits;
use nuncio_wire::{HeaderMap, RequestHead};
use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};

/// A filter's configured name as a number: the key of `typed_per_filter_config`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FilterId(u32);

impl FilterId {
    /// No filter.
    pub const NONE: FilterId = FilterId(u32::MAX);
    /// The number of `name`; equal names have equal numbers. Main thread, while configuration is built.
    pub fn of(name: &str) -> FilterId {
        static NAMES: OnceLock<Mutex<HashMap<String, u32>>> = OnceLock::new();
        // A poisoned lock still guards a map that is whole: insertion is its last step.
        let mut names = NAMES.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner());
        let next = names.len() as u32;
        FilterId(*names.entry(name.to_owned()).or_insert(next))
    }
}

/// A parsed per-route config of some filter.
pub type AnyConfig = Arc<dyn Any + Send + Sync>;

/// The per-filter configs of one level, parsed on main.
#[derive(Default, Clone)]
pub struct PerFilter(Option<Box<Configs>>);

/// Apart, since most routes have none.
#[derive(Default, Clone)]
struct Configs {
    configs: Vec<(FilterId, AnyConfig)>,
    disabled: Vec<(FilterId, bool)>,
}

impl PerFilter {
    /// Adds the config of a filter.
    pub fn insert(&mut self, id: FilterId, config: AnyConfig) {
        self.0.get_or_insert_default().configs.push((id, config));
    }
    /// Switches a filter off (`FilterConfig.disabled`) or on again.
    pub fn set_disabled(&mut self, id: FilterId, disabled: bool) {
        self.0.get_or_insert_default().disabled.push((id, disabled));
    }
    /// The config of a filter.
    pub fn get(&self, id: FilterId) -> Option<&AnyConfig> {
        self.0.as_ref()?.configs.iter().find(|c| c.0 == id).map(|c| &c.1)
    }
    /// Whether this level says that a filter is off. One that it has a config for is on.
    pub fn disabled(&self, id: FilterId) -> Option<bool> {
        let said = self.0.as_ref()?.disabled.iter().find(|c| c.0 == id).map(|c| c.1);
        said.or_else(|| self.get(id).map(|_| false))
    }
    /// True when nothing is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// A chosen route, as everybody but the router sees it.
pub trait Route: Any + Send + Sync {
    /// `Route.name`; empty when it has none.
    fn name(&self) -> &str;
    /// Name of its virtual host.
    fn virtual_host(&self) -> &str;
    /// `Route.metadata`.
    fn metadata(&self) -> &Metadata;
    /// Per-filter configs from the most to the least specific level:
    /// weighted cluster, route, virtual host, route configuration.
    fn per_filter(&self, sx: &StreamShared) -> [Option<&PerFilter>; 4];
    /// The cluster the request goes to; `None` when the route answers by itself.
    fn cluster<'a>(&'a self, head: &'a RequestHead, sx: &StreamShared) -> Option<Cow<'a, str>>;
    /// Its rate limits and those of its virtual host.
    fn rate_limits(&self) -> RateLimits<'_> {
        RateLimits::default()
    }
    /// Adds to the headers of a local reply what the route adds to responses.
    fn finalize_reply(&self, _status: u16, _headers: &mut HeaderMap, _ex: &Exchange) {}
}

impl dyn Route {
    /// The engine's own type behind the trait.
    pub fn downcast<T: Route>(self: Arc<Self>) -> Option<Arc<T>> {
        let any: Arc<dyn Any + Send + Sync> = self;
        any.downcast().ok()
    }
}

/// Chooses routes for one stream, from the table the stream began with.
pub trait RouteSource {
    /// The first route that matches, or none.
    fn choose(&self, head: &RequestHead, sx: &StreamShared) -> Option<Arc<dyn Route>>;
    /// Asks for the virtual host of a request for which there is no route (VHDS); none when nobody can be asked. The routes
    /// that there are afterwards, unless they are gone.
    fn ask(&self, _: &RequestHead) -> Option<LocalBoxFuture<'static, Option<Rc<dyn RouteSource>>>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_with_a_config_is_on() {
        let (on, off, other) = (FilterId::of("on"), FilterId::of("off"), FilterId::of("other"));
        let mut p = PerFilter::default();
        p.insert(on, Arc::new(()));
        p.insert(off, Arc::new(()));
        p.set_disabled(off, true);
        assert_eq!([on, off, other].map(|id| p.disabled(id)), [Some(false), Some(true), None]);
    }
}

//! An HTTP filter whose configuration comes from a control plane; while it is missing, requests are refused.

use crate::ecds::{self, Slot};
use nuncio_api::envoy::config::core::v3::ExtensionConfigSource;
use nuncio_api::envoy::extensions::filters::http::router::v3::Router;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::{BuildCx, DynFilter, Step};
use nuncio_core::{Exchange, Flag, LocalReply};
use prost::Name;
use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
struct Discovered(Arc<Slot<Arc<dyn DynFilter>>>);

/// The filter that a stream has found, and its state.
struct State {
    filter: Rc<Option<Arc<dyn DynFilter>>>,
    state: Box<dyn Any>,
}

/// A filter of this name.
///
/// # Errors
/// Its configuration cannot come from there, or the default is refused.
pub fn filter(name: &str, c: &ExtensionConfigSource, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynFilter>> {
    if c.type_urls.iter().any(|t| t.rsplit('/').next() == Some(&Router::full_name())) {
        return Err(BuildError::not_implemented("HttpFilter.config_discovery of a terminal filter"));
    }
    let owned = name.to_owned();
    let build =
        move |any: &prost_types::Any, cx: &BuildCx<'_>| cx.registry.build_http_filter(&owned, any, cx);
    Ok(Arc::new(Discovered(ecds::discover("http_filter", name, c, cx, build)?)))
}

impl DynFilter for Discovered {
    fn stream(&self) -> Box<dyn Any> {
        let filter = self.0.get();
        let state = filter.as_ref().as_ref().map_or_else(|| Box::new(()) as Box<dyn Any>, |f| f.stream());
        Box::new(State { filter, state })
    }
    fn on_request<'a>(&'a self, st: &'a mut dyn Any, ex: &'a mut Exchange) -> Step<'a> {
        let Some(State { filter, state }) = st.downcast_mut::<State>() else { return Step::Next };
        match &**filter {
            Some(f) => f.on_request(&mut **state, ex),
            None => Step::Reply(Box::new(LocalReply::new(500, "", "").flag(Flag::NoFilterConfigFound))),
        }
    }
    fn on_response<'a>(&'a self, st: &'a mut dyn Any, ex: &'a mut Exchange) -> Step<'a> {
        let Some(State { filter, state }) = st.downcast_mut::<State>() else { return Step::Next };
        match &**filter {
            Some(f) => f.on_response(&mut **state, ex),
            None => Step::Next,
        }
    }
    fn on_done(&self, st: &mut dyn Any, ex: &Exchange) {
        if let Some(State { filter, state }) = st.downcast_mut::<State>()
            && let Some(f) = &**filter
        {
            f.on_done(&mut **state, ex);
        }
    }
}

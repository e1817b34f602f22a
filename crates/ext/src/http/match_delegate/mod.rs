use nuncio_api::envoy::extensions::common::matching::v3 as pb;
use nuncio_api::envoy::extensions::filters::common::matcher::action::v3::SkipFilter;
use nuncio_api::xds::core::v3::TypedExtensionConfig;
use nuncio_core::cel::Program;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, DynFilter, HttpFilterFactory, Step};
use nuncio_core::match_input::{self, Input, Source};
use nuncio_core::match_tree::{Kind, NotAvailable, Tree, Value};
use nuncio_core::registry::{Docs, Kind as ExtensionKind};
use nuncio_core::route::AnyConfig;
use nuncio_core::{BuildError, BuildResult, Exchange, Registry};
use prost::{Message, Name};
use std::any::Any;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.match_delegate";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
    &["xds_matcher", "extension_config"],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    let f: Arc<dyn HttpFilterFactory> = Arc::new(Factory);
    r.insert(ExtensionKind::HttpFilter, NAME, vec![pb::ExtensionWithMatcher::full_name()], docs, f);
}

/// Builds the filter inside, and the tree before it.
struct Factory;

impl HttpFilterFactory for Factory {
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynFilter>> {
        let c = pb::ExtensionWithMatcher::decode(config).map_err(|e| BuildError(e.to_string()))?;
        let tree = c.xds_matcher.as_ref().ok_or("one of `matcher` and `matcher_tree` must be set.")?;
        let inside = c.extension_config.as_ref().ok_or("field: \"extension_config\", reason: is required")?;
        let none = prost_types::Any::default();
        let any = inside.typed_config.as_ref().unwrap_or(&none);
        let filter = cx.registry.build_http_filter(&inside.name, any, cx)?;
        Ok(Arc::new(Delegate { tree: Tree::new(tree, &Skipping)?, filter }))
    }
    fn route(&self, _: &[u8], cx: &BuildCx<'_>) -> BuildResult<AnyConfig> {
        Err(BuildError::not_implemented(format_args!("{} per route", cx.name)))
    }
    fn config_type(&self) -> String {
        pb::ExtensionWithMatcher::full_name()
    }
    fn route_type(&self) -> Option<String> {
        None
    }
}

/// Trees whose one action is to skip the filter.
struct Skipping;

impl Kind for Skipping {
    type Input = Input;
    type Action = ();
    type Data<'d> = Source<'d>;

    fn input(&self, c: &TypedExtensionConfig) -> BuildResult<Input> {
        let url = c.typed_config.as_ref().map_or("", |a| &a.type_url);
        let ty = url.rsplit('/').next().unwrap_or_default();
        Input::new(c)?.ok_or_else(|| BuildError(nuncio_api::extensions::unregistered(&c.name, ty)))
    }
    fn action(&self, c: &TypedExtensionConfig) -> BuildResult<()> {
        let url = c.typed_config.as_ref().map_or("", |a| &a.type_url);
        let ty = url.rsplit('/').next().unwrap_or_default();
        if ty == SkipFilter::full_name() {
            return Ok(());
        }
        if ty.starts_with("envoy.extensions.filters.") {
            return Err(BuildError::not_implemented(format_args!("matcher action {} ({ty})", c.name)));
        }
        Err(BuildError(nuncio_api::extensions::unregistered(&c.name, ty)))
    }
    fn value<'a>(input: &Input, from: &'a Source<'_>) -> Value<'a> {
        input.value(from)
    }
    fn is_attributes(input: &Input) -> bool {
        matches!(input, Input::Attributes)
    }
    fn holds(program: &Program, from: &Source<'_>) -> bool {
        match_input::holds(program, from)
    }
}

/// A filter that a tree may skip.
struct Delegate {
    tree: Tree<Skipping>,
    filter: Arc<dyn DynFilter>,
}

/// What the tree has said of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Nothing yet: it looks at what is not there yet.
    Nothing,
    Run,
    Skip,
}

struct State {
    said: Said,
    inner: Box<dyn Any>,
}

impl Delegate {
    /// Asks the tree, unless it has answered before. True: the filter is skipped.
    fn skips(&self, st: &mut State, ex: &Exchange) -> bool {
        if st.said == Said::Nothing {
            let from = Source { request: &ex.request, response: ex.response.as_ref(), sx: &ex.sx };
            st.said = match self.tree.find(&from) {
                Ok(Some(())) => Said::Skip,
                Ok(None) => Said::Run,
                Err(NotAvailable) => Said::Nothing,
            };
        }
        st.said == Said::Skip
    }
}

impl DynFilter for Delegate {
    fn stream(&self) -> Box<dyn Any> {
        Box::new(State { said: Said::Nothing, inner: self.filter.stream() })
    }
    fn on_request<'a>(&'a self, st: &'a mut dyn Any, ex: &'a mut Exchange) -> Step<'a> {
        // The pipeline hands every filter the state that `stream` made for it.
        let Some(st) = st.downcast_mut::<State>() else { return Step::Next };
        match self.skips(st, ex) {
            true => Step::Next,
            false => self.filter.on_request(&mut *st.inner, ex),
        }
    }
    fn on_response<'a>(&'a self, st: &'a mut dyn Any, ex: &'a mut Exchange) -> Step<'a> {
        let Some(st) = st.downcast_mut::<State>() else { return Step::Next };
        match self.skips(st, ex) {
            true => Step::Next,
            false => self.filter.on_response(&mut *st.inner, ex),
        }
    }
    fn on_done(&self, st: &mut dyn Any, ex: &Exchange) {
        if let Some(st) = st.downcast_mut::<State>() {
            self.filter.on_done(&mut *st.inner, ex);
        }
    }
}

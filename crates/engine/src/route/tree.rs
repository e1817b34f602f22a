//! `VirtualHost.matcher`: a tree that leads to a route, or to a list of them, of which the first that matches counts.

use crate::proto;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::xds::core::v3::TypedExtensionConfig;
use nuncio_api::xds::r#type::matcher::v3::Matcher as PbMatcher;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::match_input::{Input, Source};
use nuncio_core::match_tree::{Kind, Tree, Value};
use prost::Name;
use std::cell::RefCell;
use std::ops::Range;

/// Trees whose leaves are ranges of a virtual host's routes.
#[derive(Default)]
pub struct Routes(RefCell<Vec<pb::Route>>);

impl Kind for Routes {
    type Input = Input;
    type Action = Range<usize>;
    type Data<'d> = Source<'d>;

    fn input(&self, c: &TypedExtensionConfig) -> BuildResult<Input> {
        input(c)
    }
    fn action(&self, c: &TypedExtensionConfig) -> BuildResult<Range<usize>> {
        let any = c.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        let any = prost_types::Any { type_url: any.type_url.clone(), value: any.value.to_vec() };
        let more = if ty == pb::Route::full_name() {
            vec![proto::unpack::<pb::Route>(&any)?]
        } else if ty == pb::RouteList::full_name() {
            proto::unpack::<pb::RouteList>(&any)?.routes
        } else {
            return Err(nuncio_api::extensions::unregistered(&c.name, ty).into());
        };
        let mut all = self.0.borrow_mut();
        let from = all.len();
        all.extend(more);
        Ok(from..all.len())
    }
    fn value<'a>(input: &Input, from: &'a Source<'_>) -> Value<'a> {
        input.value(from)
    }
}

/// An input of a tree that chooses among routes or clusters.
///
/// # Errors
/// There is none, or it looks at more than a request.
pub(super) fn input(c: &TypedExtensionConfig) -> BuildResult<Input> {
    let url = c.typed_config.as_ref().map_or("", |a| &a.type_url);
    let refused = || {
        BuildError(format!(
            "requirement violation while creating route match tree: INVALID_ARGUMENT: Route table can only match on request headers, saw {url}"
        ))
    };
    Input::new(c)?.filter(|i| matches!(i, Input::Header(_) | Input::FilterState(_))).ok_or_else(refused)
}

/// The routes of a tree, and the tree.
///
/// # Errors
/// The tree is refused.
pub fn build(m: &PbMatcher) -> BuildResult<(Vec<pb::Route>, Tree<Routes>)> {
    let kind = Routes::default();
    let tree = Tree::new(m, &kind)?;
    Ok((kind.0.into_inner(), tree))
}

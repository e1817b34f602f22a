//! Of scoped routes `?name_regex=` chooses the scopes, not the lists that they stand in.

use crate::admin::view::ConfigView;
use crate::regex::Search;
use nuncio_api::envoy::config::route::v3::ScopedRouteConfiguration;
use prost::{Message, Name};
use prost_types::Any;
use std::rc::Rc;

/// Leaves of a list, whose scopes are at `scopes`, those whose name fits.
pub(super) fn retain<M: Message + Name + Default>(
    c: &mut ConfigView,
    scopes: impl Fn(&mut M) -> &mut Vec<Any>,
    filter: &Search,
) {
    let Ok(mut list) = M::decode(&*(c.config)().value) else { return };
    scopes(&mut list)
        .retain(|any| ScopedRouteConfiguration::decode(&*any.value).is_ok_and(|s| filter.found_in(&s.name)));
    let any = Any { type_url: M::type_url(), value: list.encode_to_vec() };
    c.config = Rc::new(move || any.clone());
}

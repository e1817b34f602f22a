use crate::http::header_mutation::headers::HeaderMutations;
use crate::http::header_mutation::target::Target;
use nuncio_api::envoy::extensions::http::early_header_mutation::header_mutation::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::kinds::EarlyHeaderMutation;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry, StreamShared};
use nuncio_wire::{HeaderMap, joined};

/// Its well-known name.
pub const NAME: &str = "envoy.http.early_header_mutation.header_mutation";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    &["mutations"],
)];

/// Registers the extension.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.early_header_mutation::<HeaderMutation>(NAME, docs);
}

/// The extension.
pub struct HeaderMutation(HeaderMutations);

impl EarlyHeaderMutation for HeaderMutation {
    type Config = pb::HeaderMutation;

    fn new(config: pb::HeaderMutation, _: &BuildCx<'_>) -> BuildResult<HeaderMutation> {
        HeaderMutations::new(&config.mutations).map(HeaderMutation)
    }
    fn mutate(&self, headers: &mut HeaderMap, sx: &StreamShared) {
        // No route is chosen yet.
        self.0.apply(&mut Target::Request { headers, sx, route: None }, joined::in_requests);
    }
}

#[cfg(test)]
mod tests;

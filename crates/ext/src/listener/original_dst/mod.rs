use nuncio_api::envoy::extensions::filters::listener::original_dst::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::listener_filter::{Inspection, ListenerFilter, Verdict};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry};

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.listener.original_dst";

/// What is read of its configuration.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.filters.listener.original_dst.v3.OriginalDst", &[])];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.listener_filter::<OriginalDst>(NAME, docs);
}

/// The filter.
pub struct OriginalDst;

impl ListenerFilter for OriginalDst {
    type Config = pb::OriginalDst;
    type State = ();

    fn new(_: pb::OriginalDst, _: &BuildCx<'_>) -> BuildResult<OriginalDst> {
        Ok(OriginalDst)
    }
    fn on_accept(&self, _: &mut (), at: &mut Inspection<'_>) -> Verdict {
        if let Some(original) = at.original_dst.take() {
            *at.conn.local.borrow_mut() = original;
        }
        Verdict::Next(0)
    }
    fn wants_original_dst(&self) -> bool {
        true
    }
}

use nuncio_api::envoy::extensions::filters::network::echo::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::info::ConnInfo;
use nuncio_core::registry::Docs;
use nuncio_core::terminal_filter::{TerminalFilter, Then};
use nuncio_core::{BuildResult, Registry};
use nuncio_wire::{Chunk, OutBuf};

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.network.echo";

/// What is read of its configuration: there is nothing in it.
pub const COVERED: &[Covered] = &[Covered::new("envoy.extensions.filters.network.echo.v3.Echo", &[])];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.terminal_filter::<Echo>(NAME, docs);
}

/// The filter.
pub struct Echo;

impl TerminalFilter for Echo {
    type Config = pb::Echo;

    fn new(_: pb::Echo, _: &BuildCx<'_>) -> BuildResult<Echo> {
        Ok(Echo)
    }
    fn on_data(&self, _: &ConnInfo, data: Chunk, out: &mut OutBuf) -> Then {
        out.chunk(data);
        Then::GoOn
    }
}

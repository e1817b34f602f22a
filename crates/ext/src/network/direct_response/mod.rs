use nuncio_api::envoy::extensions::filters::network::direct_response::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::info::ConnInfo;
use nuncio_core::registry::Docs;
use nuncio_core::terminal_filter::{TerminalFilter, Then};
use nuncio_core::{BuildResult, Registry, data_source};
use nuncio_wire::OutBuf;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.network.direct_response";

/// What is read of its configuration.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.filters.network.direct_response.v3.Config", &["response"])];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.terminal_filter::<DirectResponse>(NAME, docs);
}

/// The filter.
pub struct DirectResponse {
    /// What it says.
    response: Vec<u8>,
}

impl TerminalFilter for DirectResponse {
    type Config = pb::Config;

    fn new(config: pb::Config, _: &BuildCx<'_>) -> BuildResult<DirectResponse> {
        let response = match &config.response {
            Some(r) if r.specifier.is_some() => data_source::read(r)?,
            _ => vec![],
        };
        Ok(DirectResponse { response })
    }
    fn on_new_connection(&self, conn: &ConnInfo, out: &mut OutBuf) -> Then {
        out.put(&self.response);
        if let Some(i) = conn.logged.get() {
            i.set_details("direct_response");
        }
        Then::Close
    }
}

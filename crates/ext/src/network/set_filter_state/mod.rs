use crate::http::set_filter_state::Value;
use nuncio_api::envoy::extensions::filters::network::set_filter_state::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::filter_state::LifeSpan;
use nuncio_core::format::FormatCx;
use nuncio_core::info::{ConnInfo, StreamInfo};
use nuncio_core::network_filter::{Access, NetworkFilter};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry};
use std::rc::Rc;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.network.set_filter_state";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.network.set_filter_state.v3.Config",
    &["on_new_connection", "on_downstream_tls_handshake"],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.network_filter::<SetFilterState>(NAME, docs);
}

/// The filter.
pub struct SetFilterState {
    on_new_connection: Vec<Value>,
    on_handshake: Vec<Value>,
}

impl NetworkFilter for SetFilterState {
    type Config = pb::Config;
    type State = ();

    fn new(config: pb::Config, _: &BuildCx<'_>) -> BuildResult<SetFilterState> {
        let all = |list: &[_]| list.iter().map(Value::new).collect::<BuildResult<_>>();
        Ok(SetFilterState {
            on_new_connection: all(&config.on_new_connection)?,
            on_handshake: all(&config.on_downstream_tls_handshake)?,
        })
    }
    fn on_new_connection(self: &Arc<Self>, (): &mut (), conn: &Rc<ConnInfo>) -> Access {
        set(&self.on_new_connection, conn);
        Access::Granted
    }
    fn on_handshake(&self, (): &mut (), conn: &Rc<ConnInfo>) {
        set(&self.on_handshake, conn);
    }
}

fn set(values: &[Value], conn: &ConnInfo) {
    let of_connection = StreamInfo { start: conn.start, ..StreamInfo::new() };
    let info = conn.logged.get().map_or(&of_connection, |i| i);
    for v in values {
        let cx = FormatCx::new(info, conn);
        let Some(object) = v.object(&cx) else { continue };
        conn.filter_state.borrow_mut().set_guarded(&v.key, LifeSpan::Connection, v.read_only, object);
    }
}

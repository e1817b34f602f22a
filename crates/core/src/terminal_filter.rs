//! What a network filter is that stands last in a filter chain and answers the client itself, without an upstream
//! (`envoy.filters.network.echo`). It gets bytes and gives bytes; sockets, TLS and back-pressure are the engine's.

use crate::error::BuildResult;
use crate::filter::{BuildCx, decode};
use crate::info::ConnInfo;
use nuncio_wire::{Chunk, OutBuf};
use std::marker::PhantomData;
use std::sync::Arc;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    GoOn,
    /// It is closed when everything that was written has left.
    Close,
}

/// A terminal network filter: built once on main, shared by every worker.
pub trait TerminalFilter: Sized + Send + Sync + 'static {
    /// The proto in `typed_config`.
    type Config: prost::Message + prost::Name + Default;

    /// Builds the filter; its stats go below `cx.scope`.
    ///
    /// # Errors
    /// The configuration is refused.
    fn new(config: Self::Config, cx: &BuildCx<'_>) -> BuildResult<Self>;
    /// A connection has come and the filters before let it pass; its TLS handshake has not begun. What goes to `out` is
    /// written after it.
    fn on_new_connection(&self, _: &ConnInfo, _: &mut OutBuf) -> Then {
        Then::GoOn
    }
    /// Bytes have come.
    fn on_data(&self, _: &ConnInfo, _: Chunk, _: &mut OutBuf) -> Then {
        Then::GoOn
    }
}

/// What the engine sees of a terminal network filter.
pub trait DynTerminalFilter: Send + Sync {
    /// [`TerminalFilter::on_new_connection`].
    fn on_new_connection(&self, conn: &ConnInfo, out: &mut OutBuf) -> Then;
    /// [`TerminalFilter::on_data`].
    fn on_data(&self, conn: &ConnInfo, data: Chunk, out: &mut OutBuf) -> Then;
}

impl<F: TerminalFilter> DynTerminalFilter for F {
    fn on_new_connection(&self, conn: &ConnInfo, out: &mut OutBuf) -> Then {
        TerminalFilter::on_new_connection(self, conn, out)
    }
    fn on_data(&self, conn: &ConnInfo, data: Chunk, out: &mut OutBuf) -> Then {
        TerminalFilter::on_data(self, conn, data, out)
    }
}

/// What the registry sees of a terminal network filter.
pub trait TerminalFilterFactory: Send + Sync {
    /// Builds the filter from the bytes of its config message.
    ///
    /// # Errors
    /// The configuration is refused.
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynTerminalFilter>>;
}

pub(crate) struct Factory<F>(pub PhantomData<fn() -> F>);

impl<F: TerminalFilter> TerminalFilterFactory for Factory<F> {
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynTerminalFilter>> {
        Ok(Arc::new(F::new(decode::<F::Config>(config)?, cx)?))
    }
}

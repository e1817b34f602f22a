//! What a network filter is that stands before the last one of a filter chain: it decides whether a connection may go on.
//!
//! It is asked when the connection has come (and may let it wait), told when the TLS handshake (if there is one) is done, and asked again
//! when the first bytes are there; what it answers is an [`Access`]. It does not change bytes: filters that do are
//! the last of their chain.

use crate::LocalBoxFuture;
use crate::error::BuildResult;
use crate::filter::{BuildCx, decode};
use crate::info::ConnInfo;
use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a filter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The connection goes on.
    Granted,
    /// It is closed after this time, for this reason (`%DOWNSTREAM_LOCAL_CLOSE_REASON%`).
    Refused(Duration, &'static str),
}

/// A network filter: built once on main, shared by every worker.
pub trait NetworkFilter: Sized + Send + Sync + 'static {
    /// The proto in `typed_config`.
    type Config: prost::Message + prost::Name + Default;
    /// State of one connection; lives as long as it.
    type State: Default + 'static;

    /// Builds the filter; its stats go below `cx.scope`.
    ///
    /// # Errors
    /// The configuration is refused.
    fn new(config: Self::Config, cx: &BuildCx<'_>) -> BuildResult<Self>;
    /// A connection has come; its TLS handshake has not begun.
    fn on_new_connection(self: &Arc<Self>, _: &mut Self::State, _: &Rc<ConnInfo>) -> Access {
        Access::Granted
    }
    /// Asked next, when it was granted: what is to be awaited before the connection goes on.
    fn admits<'a>(
        self: &'a Arc<Self>,
        _: &'a mut Self::State,
        _: &'a Rc<ConnInfo>,
    ) -> Option<LocalBoxFuture<'a, Access>> {
        None
    }
    /// The TLS handshake is done.
    fn on_handshake(&self, _: &mut Self::State, _: &Rc<ConnInfo>) {}
    /// Bytes have come from the client: the first ones, or all when [`every_piece`](Self::every_piece).
    fn on_data(&self, _: &mut Self::State, _: &Rc<ConnInfo>) -> Access {
        Access::Granted
    }
    /// Whether it wants to be asked when bytes come.
    fn wants_data(&self) -> bool {
        false
    }
    /// Whether it wants to be asked whenever bytes come, not only once.
    fn every_piece(&self) -> bool {
        false
    }
}

/// What the engine sees of a network filter.
pub trait DynNetworkFilter: Send + Sync {
    /// Fresh state for one connection.
    fn state(&self) -> Box<dyn Any>;
    /// [`NetworkFilter::on_new_connection`].
    fn on_new_connection(&self, st: &mut dyn Any, conn: &Rc<ConnInfo>) -> Access;
    /// [`NetworkFilter::admits`].
    fn admits<'a>(
        &'a self,
        st: &'a mut dyn Any,
        conn: &'a Rc<ConnInfo>,
    ) -> Option<LocalBoxFuture<'a, Access>>;
    /// [`NetworkFilter::on_handshake`].
    fn on_handshake(&self, st: &mut dyn Any, conn: &Rc<ConnInfo>);
    /// [`NetworkFilter::on_data`].
    fn on_data(&self, st: &mut dyn Any, conn: &Rc<ConnInfo>) -> Access;
    /// [`NetworkFilter::wants_data`].
    fn wants_data(&self) -> bool;
    /// [`NetworkFilter::every_piece`].
    fn every_piece(&self) -> bool;
}

struct Typed<F>(Arc<F>);

impl<F: NetworkFilter> DynNetworkFilter for Typed<F> {
    fn state(&self) -> Box<dyn Any> {
        Box::new(F::State::default())
    }
    fn on_new_connection(&self, st: &mut dyn Any, conn: &Rc<ConnInfo>) -> Access {
        // The engine hands every filter the state that `state` made for it; anything else is passed over.
        st.downcast_mut().map_or(Access::Granted, |st| self.0.on_new_connection(st, conn))
    }
    fn admits<'a>(
        &'a self,
        st: &'a mut dyn Any,
        conn: &'a Rc<ConnInfo>,
    ) -> Option<LocalBoxFuture<'a, Access>> {
        self.0.admits(st.downcast_mut()?, conn)
    }
    fn on_handshake(&self, st: &mut dyn Any, conn: &Rc<ConnInfo>) {
        if let Some(st) = st.downcast_mut() {
            self.0.on_handshake(st, conn);
        }
    }
    fn on_data(&self, st: &mut dyn Any, conn: &Rc<ConnInfo>) -> Access {
        st.downcast_mut().map_or(Access::Granted, |st| self.0.on_data(st, conn))
    }
    fn wants_data(&self) -> bool {
        self.0.wants_data()
    }
    fn every_piece(&self) -> bool {
        self.0.every_piece()
    }
}

/// What the registry sees of a network filter.
pub trait NetworkFilterFactory: Send + Sync {
    /// Builds the filter from the bytes of its config message.
    ///
    /// # Errors
    /// The configuration is refused.
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynNetworkFilter>>;
}

pub(crate) struct Factory<F>(pub PhantomData<fn() -> F>);

impl<F: NetworkFilter> NetworkFilterFactory for Factory<F> {
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynNetworkFilter>> {
        Ok(Arc::new(Typed(Arc::new(F::new(decode::<F::Config>(config)?, cx)?))))
    }
}

//! What a listener filter is: it looks at a connection before its filter chain is chosen.
//!
//! A filter sees no socket. It is asked when the connection is there, and then, if it wants, whenever more bytes have
//! come; what it answers is a [`Verdict`]. Bytes that it does not consume are still there for the filters behind it
//! and for the connection.

use crate::address::Address;
use crate::error::BuildResult;
use crate::filter::{BuildCx, decode};
use crate::info::ConnInfo;
use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

/// What was found out about a connection before its filter chain is chosen.
pub struct Inspection<'a> {
    /// Facts of the connection; filters may change its addresses, metadata and filter state.
    pub conn: &'a ConnInfo,
    /// What filter chains are chosen by.
    pub detected: &'a mut Detected,
    /// Where the client wanted to go before the system redirected it (`SO_ORIGINAL_DST`); only when one of the filters
    /// [wants](ListenerFilter::wants_original_dst) to know.
    pub original_dst: Option<Address>,
}

/// What filter chains are chosen by, besides addresses.
#[derive(Debug, Default)]
pub struct Detected {
    /// `tls`, `raw_buffer`; empty while nobody knows.
    pub transport_protocol: &'static str,
    /// Protocols the client offers, its favourite first.
    pub application_protocols: Vec<Vec<u8>>,
    /// The server name it asks for, in lower case; may be empty.
    pub server_name: String,
}

/// What a filter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ask the next filter. So many of the bytes belonged to this filter: nobody else sees them.
    Next(usize),
    /// More bytes are needed.
    More,
    /// Close the connection.
    Close,
}

/// A listener filter: built once on main, shared by every worker.
pub trait ListenerFilter: Sized + Send + Sync + 'static {
    /// The proto in `typed_config`.
    type Config: prost::Message + prost::Name + Default;
    /// State of one connection.
    type State: Default + 'static;

    /// Builds the filter; its stats go below `cx.scope`, the listener's.
    ///
    /// # Errors
    /// The configuration is refused.
    fn new(config: Self::Config, cx: &BuildCx<'_>) -> BuildResult<Self>;
    /// The connection is there.
    fn on_accept(&self, _: &mut Self::State, _: &mut Inspection<'_>) -> Verdict {
        Verdict::More
    }
    /// More bytes are there; `data` is all that came and was not consumed, but never more than
    /// [`max_bytes`](Self::max_bytes).
    fn on_data(&self, _: &mut Self::State, _: &[u8], _: &mut Inspection<'_>) -> Verdict {
        Verdict::Next(0)
    }
    /// True when the filter looks at [`Inspection::original_dst`].
    fn wants_original_dst(&self) -> bool {
        false
    }
    /// Most bytes the filter wants to see. It must not ask for more once it has them: the connection is closed then.
    fn max_bytes(&self) -> usize {
        0
    }
}

/// What the engine sees of a listener filter.
pub trait DynListenerFilter: Send + Sync {
    /// Fresh state for one connection.
    fn state(&self) -> Box<dyn Any>;
    /// [`ListenerFilter::on_accept`].
    fn on_accept(&self, st: &mut dyn Any, at: &mut Inspection<'_>) -> Verdict;
    /// [`ListenerFilter::on_data`].
    fn on_data(&self, st: &mut dyn Any, data: &[u8], at: &mut Inspection<'_>) -> Verdict;
    /// [`ListenerFilter::max_bytes`].
    fn max_bytes(&self) -> usize;
    /// [`ListenerFilter::wants_original_dst`].
    fn wants_original_dst(&self) -> bool;
}

impl<F: ListenerFilter> DynListenerFilter for F {
    fn state(&self) -> Box<dyn Any> {
        Box::new(F::State::default())
    }
    fn on_accept(&self, st: &mut dyn Any, at: &mut Inspection<'_>) -> Verdict {
        // The engine hands every filter the state that `state` made for it; anything else is passed over.
        st.downcast_mut().map_or(Verdict::Next(0), |st| ListenerFilter::on_accept(self, st, at))
    }
    fn on_data(&self, st: &mut dyn Any, data: &[u8], at: &mut Inspection<'_>) -> Verdict {
        st.downcast_mut().map_or(Verdict::Next(0), |st| ListenerFilter::on_data(self, st, data, at))
    }
    fn max_bytes(&self) -> usize {
        ListenerFilter::max_bytes(self)
    }
    fn wants_original_dst(&self) -> bool {
        ListenerFilter::wants_original_dst(self)
    }
}

/// What the registry sees of a listener filter.
pub trait ListenerFilterFactory: Send + Sync {
    /// Builds the filter from the bytes of its config message.
    ///
    /// # Errors
    /// The configuration is refused.
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynListenerFilter>>;
}

pub(crate) struct Factory<F>(pub PhantomData<fn() -> F>);

impl<F: ListenerFilter> ListenerFilterFactory for Factory<F> {
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynListenerFilter>> {
        Ok(Arc::new(F::new(decode::<F::Config>(config)?, cx)?))
    }
}

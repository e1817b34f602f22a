//! The other kinds of extension, in the shape of [`HttpFilter`](crate::filter::HttpFilter): a typed trait for the
//! author, erased by the registry. Listener filters have theirs in
//! [`listener_filter`](crate::listener_filter).

use crate::error::BuildResult;
use crate::filter::{BuildCx, decode};
use crate::format::FormatCx;
use crate::info::StreamShared;
use nuncio_wire::HeaderMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// Writes access log entries. Shared by all workers; never blocks.
pub trait AccessLogger: Sized + Send + Sync + 'static {
    /// The proto in `typed_config`.
    type Config: prost::Message + prost::Name + Default;
    /// Builds the logger.
    ///
    /// # Errors
    /// The configuration is refused.
    fn new(config: Self::Config, cx: &BuildCx<'_>) -> BuildResult<Self>;
    /// One entry.
    fn log(&self, entry: &FormatCx<'_>);
}

/// What callers see of an access logger.
pub trait DynAccessLogger: Send + Sync {
    /// One entry.
    fn log(&self, entry: &FormatCx<'_>);
}
impl<L: AccessLogger> DynAccessLogger for L {
    fn log(&self, entry: &FormatCx<'_>) {
        AccessLogger::log(self, entry);
    }
}

/// What the registry sees of an access logger.
pub trait AccessLoggerFactory: Send + Sync {
    /// Builds the logger from the bytes of its config message.
    ///
    /// # Errors
    /// The configuration is refused.
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynAccessLogger>>;
}

pub(crate) struct LoggerFactory<L>(pub PhantomData<fn() -> L>);
impl<L: AccessLogger> AccessLoggerFactory for LoggerFactory<L> {
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynAccessLogger>> {
        Ok(Arc::new(L::new(decode::<L::Config>(config)?, cx)?))
    }
}

/// Changes the headers of a request before the connection manager does (`early_header_mutation_extensions`), so that routes,
/// tracing and what is said of the client's address see the change. Shared by all workers.
pub trait EarlyHeaderMutation: Sized + Send + Sync + 'static {
    /// The proto in `typed_config`.
    type Config: prost::Message + prost::Name + Default;
    /// Builds it.
    ///
    /// # Errors
    /// The configuration is refused.
    fn new(config: Self::Config, cx: &BuildCx<'_>) -> BuildResult<Self>;
    /// Changes the headers of one request.
    fn mutate(&self, headers: &mut HeaderMap, sx: &StreamShared);
}

/// What callers see of an early header mutation.
pub trait DynEarlyHeaderMutation: Send + Sync {
    /// Changes the headers of one request.
    fn mutate(&self, headers: &mut HeaderMap, sx: &StreamShared);
}
impl<M: EarlyHeaderMutation> DynEarlyHeaderMutation for M {
    fn mutate(&self, headers: &mut HeaderMap, sx: &StreamShared) {
        EarlyHeaderMutation::mutate(self, headers, sx);
    }
}

/// What the registry sees of an early header mutation.
pub trait EarlyHeaderMutationFactory: Send + Sync {
    /// Builds it from the bytes of its config message.
    ///
    /// # Errors
    /// The configuration is refused.
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynEarlyHeaderMutation>>;
}

pub(crate) struct EarlyFactory<M>(pub PhantomData<fn() -> M>);
impl<M: EarlyHeaderMutation> EarlyHeaderMutationFactory for EarlyFactory<M> {
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynEarlyHeaderMutation>> {
        Ok(Arc::new(M::new(decode::<M::Config>(config)?, cx)?))
    }
}

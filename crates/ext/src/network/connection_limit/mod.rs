use crate::config::{Switch, millis, root};
use nuncio_api::envoy::extensions::filters::network::connection_limit::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::info::ConnInfo;
use nuncio_core::network_filter::{Access, NetworkFilter};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry, stats};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.network.connection_limit";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
    &["stat_prefix", "max_connections", "delay", "runtime_enabled"],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.network_filter::<ConnectionLimit>(NAME, docs);
}

stats! {
    /// `connection_limit.<stat_prefix>.`
    pub struct LimitStats {
        active_connections: Gauge,
        limited_connections: Counter,
    }
}

/// The filter.
pub struct ConnectionLimit {
    max: u64,
    /// Connections of all workers: the limit is one of the whole process.
    open: AtomicU64,
    delay: Duration,
    enabled: Switch,
    stats: LimitStats,
}

/// Counts until it is dropped.
#[derive(Default)]
pub struct Counted(Option<Arc<ConnectionLimit>>);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(f) = &self.0 {
            f.open.fetch_sub(1, Relaxed);
            f.stats.active_connections().dec();
        }
    }
}

impl NetworkFilter for ConnectionLimit {
    type Config = pb::ConnectionLimit;
    type State = Counted;

    fn new(config: pb::ConnectionLimit, cx: &BuildCx<'_>) -> BuildResult<ConnectionLimit> {
        Ok(ConnectionLimit {
            max: config.max_connections.unwrap_or(0),
            open: AtomicU64::new(0),
            delay: millis(config.delay.as_ref()).unwrap_or_default(),
            enabled: Switch::new(config.runtime_enabled.as_ref(), cx),
            stats: LimitStats::new(&root(cx.scope).scope("connection_limit").scope(&config.stat_prefix)),
        })
    }
    fn on_new_connection(self: &Arc<Self>, st: &mut Counted, _: &Rc<ConnInfo>) -> Access {
        if !self.enabled.get() {
            return Access::Granted;
        }
        self.stats.active_connections().inc();
        // One that is refused counts until it is closed, as in Envoy.
        let before = self.open.fetch_add(1, Relaxed);
        st.0 = Some(self.clone());
        if before < self.max {
            return Access::Granted;
        }
        self.stats.limited_connections().inc();
        Access::Refused(self.delay, "over_connection_limit")
    }
}

use crate::config::{Switch, millis, root};
use crate::token_bucket::TokenBucket;
use nuncio_api::envoy::extensions::filters::network::local_ratelimit::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::flags::Flag;
use nuncio_core::info::ConnInfo;
use nuncio_core::network_filter::{Access, NetworkFilter};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry, stats};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.network.local_ratelimit";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
    &["stat_prefix", "token_bucket", "runtime_enabled"],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.network_filter::<LocalRateLimit>(NAME, docs);
}

stats! {
    /// `local_rate_limit.<stat_prefix>.`
    pub struct LimitStats {
        rate_limited: Counter,
    }
}

/// The filter.
pub struct LocalRateLimit {
    bucket: TokenBucket,
    enabled: Switch,
    stats: LimitStats,
}

impl NetworkFilter for LocalRateLimit {
    type Config = pb::LocalRateLimit;
    type State = ();

    fn new(config: pb::LocalRateLimit, cx: &BuildCx<'_>) -> BuildResult<LocalRateLimit> {
        let bucket = config.token_bucket.ok_or("field: \"token_bucket\", reason: is required")?;
        let interval = millis(bucket.fill_interval.as_ref()).unwrap_or_default();
        if interval < Duration::from_millis(50) {
            return Err("local rate limit token bucket fill timer must be >= 50ms".into());
        }
        let per_fill = f64::from(bucket.tokens_per_fill.unwrap_or(1));
        Ok(LocalRateLimit {
            bucket: TokenBucket::new(bucket.max_tokens.into(), per_fill / interval.as_secs_f64()),
            enabled: Switch::new(config.runtime_enabled.as_ref(), cx),
            stats: LimitStats::new(&root(cx.scope).scope("local_rate_limit").scope(&config.stat_prefix)),
        })
    }
    fn on_new_connection(self: &Arc<Self>, (): &mut (), conn: &Rc<ConnInfo>) -> Access {
        if !self.enabled.get() || self.bucket.take(1) {
            return Access::Granted;
        }
        self.stats.rate_limited().inc();
        if let Some(info) = conn.logged.get() {
            info.set_flag(Flag::UpstreamRetryLimitExceeded); // Envoy's choice
        }
        Access::Refused(Duration::ZERO, "local_ratelimit_close_over_limit")
    }
}

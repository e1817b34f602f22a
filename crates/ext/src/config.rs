//! Values as configurations of several extensions give them.

use nuncio_api::envoy::config::core::v3 as pb;
use nuncio_api::envoy::r#type::v3::FractionalPercent as PbPercent;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
pub use nuncio_core::format::request_cx;
use nuncio_core::matchers::FractionalPercent;
use nuncio_core::runtime::{Runtime, RuntimeFraction};
use nuncio_core::stats::Scope;
use std::sync::Arc;
use std::time::Duration;

/// What is read of the messages that several extensions have in theirs.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.type.v3.HttpStatus", &["code"]),
    Covered::new("envoy.type.v3.TokenBucket", &["max_tokens", "tokens_per_fill", "fill_interval"]),
    Covered::new("envoy.config.core.v3.HttpUri", &["uri", "cluster", "timeout"]),
];

/// `RuntimeFractionalPercent`; without a default value it is never.
pub fn fraction(f: &pb::RuntimeFractionalPercent, cx: &BuildCx<'_>) -> RuntimeFraction {
    cx.server.runtime().fraction(&f.runtime_key, percent(f.default_value.as_ref()))
}

/// `RuntimeFeatureFlag`: on, unless the configuration or the runtime says otherwise.
pub struct Switch {
    default: bool,
    key: Option<(String, Arc<Runtime>)>,
}

impl Switch {
    /// From configuration.
    pub fn new(f: Option<&pb::RuntimeFeatureFlag>, cx: &BuildCx<'_>) -> Switch {
        let key = f.map(|f| f.runtime_key.clone()).filter(|k| !k.is_empty());
        Switch {
            default: f.and_then(|f| f.default_value).unwrap_or(true),
            key: key.map(|k| (k, cx.server.runtime())),
        }
    }
    /// Whether it is on. Where a key is configured this takes the lock of the runtime's snapshot, which main holds for
    /// as long as it takes to write a pointer.
    pub fn get(&self) -> bool {
        let said = self.key.as_ref().and_then(|(k, r)| r.snapshot().get(k).and_then(|v| v.boolean));
        said.unwrap_or(self.default)
    }
}

/// `FractionalPercent`; without a value it is never.
pub fn percent(p: Option<&PbPercent>) -> FractionalPercent {
    p.map_or(FractionalPercent::NEVER, FractionalPercent::new)
}

/// A duration that validation has found to be positive, cut off below the millisecond, which is what Envoy's timers know.
pub fn millis(d: Option<&prost_types::Duration>) -> Option<Duration> {
    let d = d?;
    let seconds = u64::try_from(d.seconds).unwrap_or(0);
    let nanos = u64::try_from(d.nanos).unwrap_or(0);
    Some(Duration::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)))
}

/// The scope of stats that stand below no connection manager.
pub fn root(scope: &Scope) -> Scope {
    scope.store().root()
}

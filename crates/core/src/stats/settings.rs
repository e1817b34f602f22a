//! How stats are shown: from `stats_config` of the bootstrap and `--stats-tag`, as plain values.

use std::fmt;
use std::sync::Arc;

use super::histogram::DEFAULT_BUCKETS;
use super::tags::TagProducer;

/// Decides about a full stat name.
pub type NameMatcher = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Settings of a [`Store`](super::Store).
#[derive(Clone)]
pub struct Settings {
    /// `stats_config.stats_tags`, `use_all_default_tags` and `--stats-tag`.
    pub tags: TagProducer,
    /// `stats_config.stats_matcher`: whether a stat exists; `None` accepts all.
    pub accept: Option<NameMatcher>,
    /// `stats_config.histogram_bucket_settings` in order: the first match that has buckets counts. The bounds
    /// ascend (Envoy sorts them).
    pub histogram_buckets: Vec<(NameMatcher, Arc<[f64]>)>,
    /// First name segments whose stats go to Prometheus without the segment and without `envoy_` (Wasm's
    /// `wasmcustom`).
    pub custom_namespaces: Vec<String>,
    /// How many keys a family may have.
    pub family_limit: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tags: TagProducer::default(),
            accept: None,
            histogram_buckets: Vec::new(),
            custom_namespaces: Vec::new(),
            family_limit: 10_000,
        }
    }
}

impl Settings {
    /// The bucket bounds of the histogram `name`.
    pub fn buckets(&self, name: &str) -> &[f64] {
        self.histogram_buckets.iter().find(|(matches, _)| matches(name)).map_or(&DEFAULT_BUCKETS, |(_, b)| b)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("tags", &self.tags).finish_non_exhaustive()
    }
}

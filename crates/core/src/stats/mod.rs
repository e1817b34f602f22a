//! stats
mod block;
mod book;
mod family;
mod handles;
mod histogram;
mod macros;
mod number;
mod query;
mod render;
mod schema;
mod settings;
mod shard;
mod slots;
mod snapshot;
mod store;
pub mod tags;
mod view;
mod walk;

pub use block::{DerivedFn, Group};
pub use book::{Flushed, HistogramFlush};
pub use family::*;
pub use handles::*;
pub use histogram::{BucketCount, DEFAULT_BUCKETS, Distribution, QUANTILES, Unit};
pub use query::{BucketMode, Format, Query, TypeFilter};
pub use render::{HostMetric, Render};
pub use schema::{Kind, Member, Schema};
#[doc(hidden)]
pub use schema::{codes_before, index_of, offset_of};
pub use settings::{NameMatcher, Settings};
pub use shard::ShardHandle;
pub use snapshot::{Metric, MetricValue, Snapshot};
pub use store::{Scope, Store, sanitize};
pub use view::Value;

#[cfg(test)]
mod tests;

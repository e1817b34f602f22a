//! Statistics: counters, gauges, histograms and text readouts under Envoy's names.
//!
//! # Writing
//!
//! A group of stats is declared once and made per instance; handles borrow it:
//!
//! ```
//! use nuncio_core::stats;
//! use nuncio_core::stats::{Render, Query, Store};
//!
//! stats! {
//!     /// `cluster.<name>.`
//!     pub struct ClusterStats {
//!         upstream_cx_total: Counter,
//!         upstream_cx_active: Gauge,
//!         membership_total: SetGauge,
//!         membership_change: SharedCounter,
//!         upstream_cx_length_ms: Histogram(Milliseconds),
//!         cx_open: Derived = "circuit_breakers.default.cx_open",
//!         upstream_rq: Codes,
//!     }
//! }
//!
//! let store = Store::new();
//! let _shard = store.register_shard(); // once per worker thread, and on main
//! let stats = ClusterStats::new(&store.scope("cluster").scope("web"));
//! stats.upstream_cx_total().inc();
//! stats.upstream_rq().record(200);
//! let active = stats.upstream_cx_active().guard(); // one less when dropped
//! stats.cx_open().set(|| Some(0)); // computed by whoever reads
//! let out = Render::new(&store, Query::default(), Vec::new()).into_string();
//! assert!(out.contains("cluster.web.upstream_rq_2xx: 1\n"));
//! # drop(active);
//! ```
//!
//! | kind | where its value is | cost of a write |
//! |---|---|---|
//! | `Counter`, `Gauge` | a cell per thread that wrote it; main sums | a load and a store, about 2 ns |
//! | `Histogram` | a sparse table of buckets per thread | about 5 ns |
//! | `Codes` | a cell per thread and code | three counters |
//! | `SetGauge`, `SharedCounter` | one cell, for all threads | an atomic update |
//! | `Derived`, `Text` | a function; a string; on main | – |
//! | `CounterFamily`, … | as the kind, by a key known at run time | a look-up in a map of the thread |
//!
//! Which kind: count events of the data plane with `Counter`. Count what only main sees (`membership_change`,
//! `update_success`) with `SharedCounter`, so that clusters without traffic touch no thread's table. A number that
//! goes up and down with objects is a `Gauge`, one that is known as a whole is a `SetGauge`, and one that can be had
//! from somewhere else at any time (`*_open`, `remaining_*`, `server.uptime`) is `Derived`.
//!
//! Groups with the same schema and prefix are one group: a cluster and its update, or two connection managers with
//! one `stat_prefix`, count together. Stats exist while somebody holds their group. One group for many names (its
//! members may be called `circuit_breakers.default.cx_open`) is cheaper than several groups.
//!
//! # Reading
//!
//! Names, tags and values are put together when somebody reads ([`Render`] for the admin interface, [`Snapshot`] for
//! sinks), in slices, so that main can do other things in between. An idle cluster costs its prefix and a few
//! numbers: about 450 bytes with a hundred stats, some of it for the gauges that are set.
//!
//! - A stat is *used* once it was written, whatever its value; only [`Store::reclaim`] ends that.
//! - `/reset_counters` ([`Store::reset_counters`]) notes what to subtract, for only a thread itself may write its cells.
//! - Histograms show what was flushed: main calls [`Store::flush_histograms`] every `stats_flush_interval`.
//! - Main calls [`Store::reclaim`] after groups were dropped, at the latest at every flush.
//!
//! # Layout
//!
//! `slots` cells · `histogram` buckets and quantiles · `shard` a thread's cells · `schema`, `macros` what a group
//! has · `block`, `handles`, `family` groups and how they are written · `store` which groups exist · `book` what main
//! remembers · `view`, `walk` reading in order · `tags` · `query`, `render`, `snapshot`, `number` outputs.

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

pub use block::{DeriveGauges, DerivedFn, DerivedGauges, Group};
pub use book::{Flushed, HistogramFlush};
pub use family::*;
pub use handles::*;
pub use histogram::{BucketCount, DEFAULT_BUCKETS, Distribution, QUANTILES, Unit};
pub use query::{BucketMode, Format, Query, TypeFilter};
pub use render::{HostMetric, Render};
pub use schema::{DerivedGauge, Kind, Member, Schema};
#[doc(hidden)]
pub use schema::{codes_before, derived_at, index_of, offset_of};
pub use settings::{NameMatcher, Settings};
pub use shard::ShardHandle;
pub use snapshot::{Metric, MetricValue, Snapshot};
pub use store::{Scope, Store, sanitize};
pub use view::Value;

#[cfg(test)]
mod tests;

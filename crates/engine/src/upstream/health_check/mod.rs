//! Active health checks (`Cluster.health_checks`), on main.
//!
//! [`config`] is what is configured. Each host has a task ([`checker`]) that probes it ([`http`], [`grpc`], [`tcp`], [`redis`],
//! [`thrift`]) over a
//! connection of its own, which no request ever uses; [`state`] turns results into health, by thresholds, and says when to
//! look again. What changes in a host's [`health`](super::health) reaches the workers as every change of health does.

mod checker;
mod config;
mod conn;
mod event;
mod grpc;
mod http;
mod payload;
mod redis;
mod several;
mod state;
mod tcp;
#[cfg(test)]
mod tests;
mod thrift;
mod thrift_skip;

pub use checker::Report;
pub use config::{COVERED, Config, Target};
pub use several::{Checks, Configured};
pub use state::{Failure, Transition};

use nuncio_core::stats;

stats! {
    /// `cluster.<name>.health_check.`
    pub struct HealthCheckStats {
        attempt: Counter,
        failure: Counter,
        network_failure: Counter,
        passive_failure: Counter,
        success: Counter,
        verify_cluster: Counter,
        degraded: Gauge,
        healthy: Gauge,
    }
}

//! Outlier detection (`Cluster.outlier_detection`): hosts that answer worse than they should are ejected for a while.
//!
//! Workers report every answer to the host's [`Monitor`], which counts in atomics that all threads share; so many
//! failures in a row, and it tells main. Main's [`Detector`] decides, also of what it finds at every interval, and what it
//! changes in a host's [`health`](super::health) reaches the workers as every change of health does.

mod config;
mod detector;
mod event;
mod monitor;
#[cfg(test)]
mod tests;

pub use config::{COVERED, Config};
pub use detector::{Changed, Detector};
pub use monitor::{Errors, Monitor, Streak};

use nuncio_core::stats;

stats! {
    /// `cluster.<name>.outlier_detection.`
    pub struct OutlierStats {
        ejections_consecutive_5xx: Counter,
        ejections_detected_consecutive_5xx: Counter,
        ejections_detected_consecutive_gateway_failure: Counter,
        ejections_detected_consecutive_local_origin_failure: Counter,
        ejections_detected_degradation: Counter,
        ejections_detected_failure_percentage: Counter,
        ejections_detected_local_origin_failure_percentage: Counter,
        ejections_detected_local_origin_success_rate: Counter,
        ejections_detected_success_rate: Counter,
        ejections_enforced_consecutive_5xx: Counter,
        ejections_enforced_consecutive_gateway_failure: Counter,
        ejections_enforced_consecutive_local_origin_failure: Counter,
        ejections_enforced_failure_percentage: Counter,
        ejections_enforced_local_origin_failure_percentage: Counter,
        ejections_enforced_local_origin_success_rate: Counter,
        ejections_enforced_success_rate: Counter,
        ejections_enforced_total: Counter,
        ejections_overflow: Counter,
        ejections_success_rate: Counter,
        ejections_total: Counter,
        ejections_active: Gauge,
    }
}

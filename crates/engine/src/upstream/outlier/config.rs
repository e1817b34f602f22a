//! What is configured, each number with its runtime key.

use crate::proto::duration_or;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::runtime::{Runtime, RuntimeNumber};
use std::time::Duration;

/// What is read of `OutlierDetection`.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.config.cluster.v3.OutlierDetection",
    &[
        "consecutive_5xx",
        "interval",
        "base_ejection_time",
        "max_ejection_percent",
        "enforcing_consecutive_5xx",
        "enforcing_success_rate",
        "success_rate_minimum_hosts",
        "success_rate_request_volume",
        "success_rate_stdev_factor",
        "consecutive_gateway_failure",
        "enforcing_consecutive_gateway_failure",
        "split_external_local_origin_errors",
        "consecutive_local_origin_failure",
        "enforcing_consecutive_local_origin_failure",
        "enforcing_local_origin_success_rate",
        "failure_percentage_threshold",
        "enforcing_failure_percentage",
        "enforcing_failure_percentage_local_origin",
        "failure_percentage_minimum_hosts",
        "failure_percentage_request_volume",
        "max_ejection_time",
        "max_ejection_time_jitter",
        "successful_active_health_check_uneject_host",
        "always_eject_one_host",
    ],
)];

/// `OutlierDetection`. Times are in milliseconds, `enforcing_*` in percent.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as in the message")]
pub struct Config {
    pub consecutive_5xx: RuntimeNumber,
    pub consecutive_gateway_failure: RuntimeNumber,
    pub consecutive_local_origin_failure: RuntimeNumber,
    pub interval: RuntimeNumber,
    pub base_ejection_time: RuntimeNumber,
    pub max_ejection_time: RuntimeNumber,
    pub max_ejection_time_jitter: RuntimeNumber,
    pub max_ejection_percent: RuntimeNumber,
    pub success_rate_minimum_hosts: RuntimeNumber,
    pub success_rate_request_volume: RuntimeNumber,
    /// In thousandths.
    pub success_rate_stdev_factor: RuntimeNumber,
    pub failure_percentage_threshold: RuntimeNumber,
    pub failure_percentage_minimum_hosts: RuntimeNumber,
    pub failure_percentage_request_volume: RuntimeNumber,
    pub enforcing_consecutive_5xx: RuntimeNumber,
    pub enforcing_consecutive_gateway_failure: RuntimeNumber,
    pub enforcing_consecutive_local_origin_failure: RuntimeNumber,
    pub enforcing_success_rate: RuntimeNumber,
    pub enforcing_local_origin_success_rate: RuntimeNumber,
    pub enforcing_failure_percentage: RuntimeNumber,
    pub enforcing_failure_percentage_local_origin: RuntimeNumber,
    pub split_external_local_origin_errors: bool,
    pub always_eject_one_host: bool,
    pub successful_active_health_check_uneject_host: bool,
}

impl Config {
    /// Reads the message.
    ///
    /// # Errors
    /// A bad duration, or a maximum below the base.
    pub fn new(o: &pb::OutlierDetection, runtime: &Runtime) -> BuildResult<Config> {
        let key = |name: &str, n: u64| runtime.number(&format!("outlier_detection.{name}"), n);
        let number = |name: &str, v: Option<u32>, default: u64| key(name, v.map_or(default, u64::from));
        let ms = |d: Duration| d.as_millis() as u64;
        let time = |v: &Option<prost_types::Duration>, default: u64| -> BuildResult<u64> {
            duration_or(v, Duration::from_millis(default)).map(ms)
        };
        let base = time(&o.base_ejection_time, 30_000)?;
        let max = time(&o.max_ejection_time, base.max(300_000))?;
        if max < base {
            return Err(
                "outlier detector's max_ejection_time cannot be smaller than base_ejection_time".into()
            );
        }
        Ok(Config {
            consecutive_5xx: number("consecutive_5xx", o.consecutive_5xx, 5),
            consecutive_gateway_failure: number(
                "consecutive_gateway_failure",
                o.consecutive_gateway_failure,
                5,
            ),
            consecutive_local_origin_failure: number(
                "consecutive_local_origin_failure",
                o.consecutive_local_origin_failure,
                5,
            ),
            interval: key("interval_ms", time(&o.interval, 10_000)?),
            base_ejection_time: key("base_ejection_time_ms", base),
            max_ejection_time: key("max_ejection_time_ms", max),
            max_ejection_time_jitter: key(
                "max_ejection_time_jitter_ms",
                time(&o.max_ejection_time_jitter, 0)?,
            ),
            max_ejection_percent: number("max_ejection_percent", o.max_ejection_percent, 10),
            success_rate_minimum_hosts: number("success_rate_minimum_hosts", o.success_rate_minimum_hosts, 5),
            success_rate_request_volume: number(
                "success_rate_request_volume",
                o.success_rate_request_volume,
                100,
            ),
            success_rate_stdev_factor: number("success_rate_stdev_factor", o.success_rate_stdev_factor, 1900),
            failure_percentage_threshold: number(
                "failure_percentage_threshold",
                o.failure_percentage_threshold,
                85,
            ),
            failure_percentage_minimum_hosts: number(
                "failure_percentage_minimum_hosts",
                o.failure_percentage_minimum_hosts,
                5,
            ),
            failure_percentage_request_volume: number(
                "failure_percentage_request_volume",
                o.failure_percentage_request_volume,
                50,
            ),
            enforcing_consecutive_5xx: number("enforcing_consecutive_5xx", o.enforcing_consecutive_5xx, 100),
            enforcing_consecutive_gateway_failure: number(
                "enforcing_consecutive_gateway_failure",
                o.enforcing_consecutive_gateway_failure,
                0,
            ),
            enforcing_consecutive_local_origin_failure: number(
                "enforcing_consecutive_local_origin_failure",
                o.enforcing_consecutive_local_origin_failure,
                100,
            ),
            enforcing_success_rate: number("enforcing_success_rate", o.enforcing_success_rate, 100),
            enforcing_local_origin_success_rate: number(
                "enforcing_local_origin_success_rate",
                o.enforcing_local_origin_success_rate,
                100,
            ),
            enforcing_failure_percentage: number(
                "enforcing_failure_percentage",
                o.enforcing_failure_percentage,
                0,
            ),
            enforcing_failure_percentage_local_origin: number(
                "enforcing_failure_percentage_local_origin",
                o.enforcing_failure_percentage_local_origin,
                0,
            ),
            split_external_local_origin_errors: o.split_external_local_origin_errors,
            always_eject_one_host: o.always_eject_one_host.unwrap_or(false),
            successful_active_health_check_uneject_host: o
                .successful_active_health_check_uneject_host
                .unwrap_or(true),
        })
    }
}

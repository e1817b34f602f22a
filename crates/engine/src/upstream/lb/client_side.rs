//! `ClientSideWeightedRoundRobin`: hosts weigh what they say of their load, requests per second over utilization.
//!
//! What a host reports ([`LoadReport`]) becomes its [`HostLoad`]'s weight, on whatever thread it is heard. Main looks at
//! them all ([`reweigh`]) every `weight_update_period`: a host of which nothing is known that counts gets the median.

use super::config::{self, How, Policy, PolicyCx};
use crate::proto::duration_or;
use crate::upstream::host::{Host, up_now};
use nuncio_api::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::orca::{LoadReport, Metric};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What is read of the message.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        &[
            "enable_oob_load_report",
            "oob_reporting_period",
            "blackout_period",
            "weight_expiration_period",
            "weight_update_period",
            "error_utilization_penalty",
            "metric_names_for_computing_utilization",
            "slow_start_config",
            "oob_reporting_config",
        ],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.common.v3.OrcaOobReportingConfig",
        &["port_value", "authority", "transport_socket_match_criteria"],
    ),
];

/// A compiled `ClientSideWeightedRoundRobin`.
#[derive(Debug)]
pub struct ClientSide {
    /// `enable_oob_load_report`: reports come on streams of their own; those with responses count too.
    pub streams: Option<Streams>,
    /// `blackout_period`, in milliseconds.
    blackout: u64,
    /// `weight_expiration_period`, in milliseconds.
    expiration: u64,
    /// `weight_update_period`
    pub update: Duration,
    /// `metric_names_for_computing_utilization`
    metrics: Box<[Metric]>,
    /// `error_utilization_penalty`
    penalty: f64,
    /// The metrics count before `application_utilization`.
    metrics_first: bool,
}

/// How hosts are asked for reports.
#[derive(Debug)]
pub struct Streams {
    /// `oob_reporting_period`
    pub period: Duration,
    /// `oob_reporting_config.port_value`; 0: the host's own.
    pub port: u16,
    /// `oob_reporting_config.authority`; empty: the host's own.
    pub authority: Box<str>,
    /// `oob_reporting_config.transport_socket_match_criteria`
    pub labels: Option<prost_types::Struct>,
}

impl ClientSide {
    fn new(c: &pb::ClientSideWeightedRoundRobin, cx: PolicyCx<'_>) -> BuildResult<ClientSide> {
        let period = |d: &Option<prost_types::Duration>, s| duration_or(d, Duration::from_secs(s));
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let runtime = cx.build.server.runtime().snapshot();
        let guard = "envoy.reloadable_features.orca_weight_manager_use_named_metrics_first";
        let metrics = &c.metric_names_for_computing_utilization;
        let streams = Streams {
            period: period(&c.oob_reporting_period, 10)?,
            port: c.oob_reporting_config.as_ref().map_or(0, |o| o.port_value.min(65535) as u16),
            authority: c.oob_reporting_config.as_ref().map_or("", |o| &o.authority).into(),
            labels: c.oob_reporting_config.as_ref().and_then(|o| o.transport_socket_match_criteria.clone()),
        };
        Ok(ClientSide {
            streams: c.enable_oob_load_report.unwrap_or(false).then_some(streams),
            blackout: millis(period(&c.blackout_period, 10)?),
            expiration: millis(period(&c.weight_expiration_period, 180)?),
            update: period(&c.weight_update_period, 1)?.max(Duration::from_millis(100)),
            metrics: metrics.iter().filter_map(|n| Metric::named(n)).collect(),
            penalty: c.error_utilization_penalty.unwrap_or(1.0).into(),
            metrics_first: runtime.get(guard).is_none_or(|v| v.boolean != Some(false)),
        })
    }
    /// What a host weighs that reports this; `None`: it says too little.
    fn weight(&self, r: &LoadReport) -> Option<u32> {
        let named = || r.largest(&self.metrics);
        let application = || r.application_utilization;
        let all: [&dyn Fn() -> f64; 2] =
            if self.metrics_first { [&named, &application] } else { [&application, &named] };
        let utilization = all.iter().map(|f| f()).find(|u| *u > 0.0).unwrap_or(r.cpu_utilization);
        let rps = Some(r.rps_fractional).filter(|r| *r > 0.0)?;
        let utilization = Some(utilization + self.penalty * r.eps / rps).filter(|u| *u > 0.0)?;
        Some((rps / utilization) as u32) // as much as there is room for
    }
}

/// `ClientSideWeightedRoundRobin`
///
/// # Errors
/// A duration that is none.
pub fn policy(c: &pb::ClientSideWeightedRoundRobin, cx: PolicyCx<'_>) -> BuildResult<Policy> {
    let policy = config::spread(How::RoundRobin, None, c.slow_start_config.as_ref(), cx)?;
    let client_side = Some(Arc::new(ClientSide::new(c, cx)?));
    Ok(match policy {
        Policy::Spread(s) => Policy::Spread(config::Spread { client_side, ..s }),
        other => other,
    })
}

/// What a host has reported.
#[derive(Debug)]
pub struct HostLoad {
    config: Arc<ClientSide>,
    weight: AtomicU32,
    /// Since when it has reported without a gap, by [`up_now`].
    since: AtomicU64,
    last: AtomicU64,
}

/// It has not.
const NEVER: u64 = u64::MAX;

impl HostLoad {
    /// A host that has reported nothing.
    pub fn new(config: Arc<ClientSide>) -> HostLoad {
        let (weight, since, last) = (AtomicU32::new(0), AtomicU64::new(NEVER), AtomicU64::new(0));
        HostLoad { config, weight, since, last }
    }
    /// Takes a report. False: it says too little.
    pub fn report(&self, r: &LoadReport) -> bool {
        let Some(weight) = self.config.weight(r) else { return false };
        let now = up_now();
        self.weight.store(weight, Relaxed);
        self.last.store(now, Relaxed);
        if self.since.load(Relaxed) == NEVER {
            self.since.store(now, Relaxed);
        }
        true
    }
    /// The weight, unless its reports have just begun, or have ended.
    fn valid(&self, now: u64) -> Option<u32> {
        let since = Some(self.since.load(Relaxed)).filter(|s| *s != NEVER)?;
        if now.saturating_sub(since) < self.config.blackout {
            return None;
        }
        if now.saturating_sub(self.last.load(Relaxed)) > self.config.expiration {
            self.since.store(NEVER, Relaxed);
            return None;
        }
        Some(self.weight.load(Relaxed))
    }
}

/// Gives these hosts a place for their reports, and those of one priority after the other the weights that follow from
/// them. True when one has changed.
pub fn reweigh(hosts: &[Arc<Host>]) -> bool {
    let now = up_now();
    let mut changed = false;
    for level in hosts.chunk_by(|a, b| a.priority() == b.priority()) {
        let valid: Vec<_> = level.iter().map(|h| h.load.get().and_then(|l| l.valid(now))).collect();
        let median = median(valid.iter().flatten().copied().collect());
        for (host, weight) in level.iter().zip(valid) {
            let weight = weight.unwrap_or(median);
            if host.weight() != weight {
                host.set_weight(weight);
                changed = true;
            }
        }
    }
    changed
}

/// 1 of nothing.
fn median(mut all: Vec<u32>) -> u32 {
    all.sort_unstable();
    let middle = all.len() / 2;
    let Some(upper) = all.get(middle) else { return 1 };
    match all.get(middle.wrapping_sub(1)) {
        Some(lower) if all.len().is_multiple_of(2) => lower.midpoint(*upper),
        _ => *upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::host::Wanted;
    use nuncio_core::clock::sim::Sim;

    fn config() -> ClientSide {
        ClientSide {
            streams: None,
            blackout: 10_000,
            expiration: 180_000,
            update: Duration::from_secs(1),
            metrics: [Metric::Mem, Metric::Named(Some("q".into()))].into(),
            penalty: 1.0,
            metrics_first: true,
        }
    }
    fn report(rps: f64, cpu: f64) -> LoadReport {
        LoadReport { rps_fractional: rps, cpu_utilization: cpu, ..Default::default() }
    }

    #[test]
    fn weights_are_requests_over_utilization() {
        let mut c = config();
        assert_eq!(c.weight(&report(100.0, 0.5)), Some(200));
        assert_eq!(c.weight(&report(0.0, 0.5)), None);
        assert_eq!(c.weight(&report(100.0, 0.0)), None);
        assert_eq!(c.weight(&report(1e12, 0.1)), Some(u32::MAX));
        let r = LoadReport { eps: 50.0, ..report(100.0, 0.5) };
        assert_eq!(c.weight(&r), Some(100));
        assert_eq!(
            c.weight(&LoadReport { cpu_utilization: 0.0, ..r.clone() }),
            Some(200),
            "errors alone count"
        );
        c.penalty = 0.0;
        assert_eq!(c.weight(&r), Some(200));
        let r = LoadReport { mem_utilization: 0.25, application_utilization: 0.125, ..r };
        assert_eq!(c.weight(&r), Some(400));
        c.metrics_first = false;
        assert_eq!(c.weight(&r), Some(800));
        assert_eq!(c.weight(&LoadReport { application_utilization: 0.0, ..r }), Some(400));
    }

    #[test]
    fn medians() {
        assert_eq!([vec![], vec![7], vec![4, 2], vec![9, 1, 5]].map(median), [1, 7, 3, 5]);
        assert_eq!(median(vec![u32::MAX, u32::MAX]), u32::MAX);
    }

    #[test]
    fn reports_count_after_a_while_and_not_for_ever() {
        let sim = Sim::new();
        let config = Arc::new(config());
        let hosts: Vec<_> = [0, 0, 0, 1]
            .map(|priority| {
                let h = Arc::new(Host::new(Wanted { weight: 5, priority, ..Wanted::default() }));
                h.load.set(Box::new(HostLoad::new(config.clone()))).expect("it is new");
                h
            })
            .into();
        let says = |i: usize, r: &LoadReport| hosts[i].load.get().expect("set above").report(r);
        let weights = || [0, 1, 2, 3].map(|i| hosts[i].weight());
        assert!(says(0, &report(100.0, 0.5)) && says(1, &report(100.0, 0.25)));
        assert!(!says(2, &report(0.0, 1.0)));
        assert!(reweigh(&hosts));
        assert_eq!(weights(), [1, 1, 1, 1], "none counts yet");
        sim.advance(Duration::from_secs(10));
        assert!(reweigh(&hosts));
        assert_eq!(weights(), [200, 400, 300, 1], "the median is that of a priority");
        assert!(!reweigh(&hosts));
        sim.advance(Duration::from_secs(175));
        assert!(says(1, &report(100.0, 1.0)));
        assert!(reweigh(&hosts));
        assert_eq!(weights(), [100, 100, 100, 1], "the first has expired");
        assert!(says(0, &report(100.0, 0.5)));
        sim.advance(Duration::from_secs(1));
        assert!(!reweigh(&hosts), "and waits again");
        sim.advance(Duration::from_secs(9));
        assert!(reweigh(&hosts));
        assert_eq!(weights(), [200, 100, 150, 1]);
    }
}

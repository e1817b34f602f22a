//! The log of ejections (`cluster_manager.outlier_detection.event_log_path`).

use super::detector::Kind;
use nuncio_api::envoy::data::cluster::v3 as pb;
use nuncio_api::json::{JsonOptions, json_of};
use nuncio_core::clock;
use pb::outlier_detection_event::Event;
use std::time::Duration;

/// What an event says of its host.
pub(super) struct About<'a> {
    pub cluster: &'a str,
    pub url: String,
    pub ejections: u32,
    /// Since it was ejected, or let in again.
    pub since: Option<Duration>,
}

impl About<'_> {
    fn event(self) -> pb::OutlierDetectionEvent {
        pb::OutlierDetectionEvent {
            timestamp: Some(timestamp()),
            secs_since_last_action: self.since.map(|s| s.as_secs()),
            cluster_name: self.cluster.to_owned(),
            upstream_url: self.url,
            num_ejections: self.ejections,
            ..Default::default()
        }
    }
}

/// The line of an ejection. `rates`: the host's success rate, the average and the threshold.
pub(super) fn ejected(about: About<'_>, kind: Kind, enforced: bool, rates: (f64, (f64, f64))) -> String {
    let percent = |n: f64| n as u32;
    let (host, (average, threshold)) = rates;
    let event = match kind {
        Kind::SuccessRate | Kind::SuccessRateLocalOrigin => {
            Event::EjectSuccessRateEvent(pb::OutlierEjectSuccessRate {
                host_success_rate: percent(host),
                cluster_average_success_rate: percent(average),
                cluster_success_rate_ejection_threshold: percent(threshold),
            })
        }
        Kind::FailurePercentage | Kind::FailurePercentageLocalOrigin => {
            Event::EjectFailurePercentageEvent(pb::OutlierEjectFailurePercentage {
                host_success_rate: percent(host),
            })
        }
        _ => Event::EjectConsecutiveEvent(pb::OutlierEjectConsecutive {}),
    };
    line(&pb::OutlierDetectionEvent {
        r#type: kind.pb().into(),
        action: pb::Action::Eject.into(),
        enforced,
        event: Some(event),
        ..about.event()
    })
}

/// The line of a host that is let in again.
pub(super) fn unejected(about: About<'_>) -> String {
    line(&pb::OutlierDetectionEvent { action: pb::Action::Uneject.into(), ..about.event() })
}

/// Now, in whole milliseconds.
fn timestamp() -> prost_types::Timestamp {
    let t = prost_types::Timestamp::from(clock::wall());
    prost_types::Timestamp { nanos: t.nanos / 1_000_000 * 1_000_000, ..t }
}

fn line(e: &pb::OutlierDetectionEvent) -> String {
    let options = JsonOptions { defaults: true, ..JsonOptions::default() };
    let mut line = json_of(e, options).unwrap_or_default();
    line.push('\n');
    line
}

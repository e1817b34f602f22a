//! The log of health checks (`event_log_path`, `envoy.health_check.event_sink.file`).

use super::state::Event;
use crate::upstream::host::Host;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::data::core::v3 as pb;
use nuncio_api::json::{JsonOptions, json_of};
use nuncio_core::address::Address;
use nuncio_core::clock;
use pb::health_check_event::Event as E;

/// The line of an event.
pub fn line(kind: pb::HealthCheckerType, cluster: &str, host: &Host, e: Event) -> String {
    let event = match e {
        Event::Ejected(f) => {
            let (failure_type, http_status_code) = (f.pb().into(), f.http_status());
            E::EjectUnhealthyEvent(pb::HealthCheckEjectUnhealthy { failure_type, http_status_code })
        }
        Event::Added(first_check) => E::AddHealthyEvent(pb::HealthCheckAddHealthy { first_check }),
        Event::Passed => E::SuccessfulHealthCheckEvent(pb::HealthCheckSuccessful {}),
        Event::Failed(f, first_check) => E::HealthCheckFailureEvent(pb::HealthCheckFailure {
            failure_type: f.pb().into(),
            first_check,
            http_status_code: f.http_status(),
        }),
        Event::Degraded => E::DegradedHealthyHost(pb::DegradedHealthyHost {}),
        Event::NoLongerDegraded => E::NoLongerDegradedHost(pb::NoLongerDegradedHost {}),
    };
    let time = prost_types::Timestamp::from(clock::wall());
    let [region, zone, sub_zone] = (*host.info.locality).clone();
    let message = pb::HealthCheckEvent {
        health_checker_type: kind.into(),
        host: host.info.address.as_ref().map(|a| Box::new(address(a))),
        cluster_name: cluster.to_owned(),
        event: Some(event),
        // In whole milliseconds.
        timestamp: Some(prost_types::Timestamp { nanos: time.nanos / 1_000_000 * 1_000_000, ..time }),
        locality: Some(core::Locality { region, zone, sub_zone }),
        ..Default::default()
    };
    let options = JsonOptions { defaults: true, ..JsonOptions::default() };
    let mut line = json_of(&message, options).unwrap_or_default();
    line.push('\n');
    line
}

fn address(a: &Address) -> core::Address {
    use core::address::Address as A;
    let address = match a {
        Address::Ip(ip) => A::SocketAddress(core::SocketAddress {
            address: a.without_port(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(ip.port().into())),
            ..Default::default()
        }),
        Address::Pipe(p) => A::Pipe(core::Pipe { path: p.display().to_string(), mode: 0 }),
        Address::Internal(..) => return core::Address::default(),
    };
    core::Address { address: Some(address) }
}

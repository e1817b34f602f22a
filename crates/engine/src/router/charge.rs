//! Counts what became of a request, in its cluster's stats and its host's counters.

use crate::upstream::host::{Host, HostCounters};
use crate::upstream::local::Cluster;
use nuncio_core::Exchange;
use nuncio_wire::{ResponseHead, name};
use std::time::Duration;

/// Charges a host's response, `took` after the request was complete.
pub fn code(
    cluster: &Cluster,
    host: Option<&Host>,
    ex: &Exchange,
    head: &ResponseHead,
    took: Option<Duration>,
) {
    let canary = host.is_some_and(|h| h.info.canary)
        || head.headers.get(name::X_ENVOY_UPSTREAM_CANARY) == Some(b"true");
    charge(cluster, host, ex, head.status, canary, took);
}
/// Charges a reply of ours for an upstream's failure.
pub fn local(cluster: &Cluster, host: Option<&Host>, ex: &Exchange, status: u16) {
    charge(cluster, host, ex, status, false, None);
}

fn charge(
    cluster: &Cluster,
    host: Option<&Host>,
    ex: &Exchange,
    status: u16,
    canary: bool,
    took: Option<Duration>,
) {
    let s = &cluster.plan.stats;
    s.rq().record(status);
    let internal = ex.request.headers.get(name::X_ENVOY_INTERNAL) == Some(b"true");
    if internal {
        s.internal().record(status);
    } else {
        s.external().record(status);
    }
    if canary {
        s.canary().record(status);
    }
    if let Some(t) = took {
        let ms = t.as_millis() as u64;
        s.upstream_rq_time().record(ms);
        if internal {
            s.internal_rq_time().record(ms);
        } else {
            s.external_rq_time().record(ms);
        }
        if canary {
            s.canary_rq_time().record(ms);
        }
    }
    if let Some(h) = host {
        HostCounters::inc(if status >= 500 { &h.counters.rq_error } else { &h.counters.rq_success });
    }
}

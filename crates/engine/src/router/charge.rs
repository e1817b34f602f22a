//! Counts what became of a request: in its cluster's stats and its host's counters, and by what else is asked for.

use crate::stats::{AltStats, RequestStats, ZoneStats};
use crate::upstream::host::HostCounters;
use crate::upstream::local::{Cluster, LocalHost};
use nuncio_core::Exchange;
use nuncio_core::info::StreamShared;
use nuncio_core::stats::{Codes, sanitize};
use nuncio_wire::{ResponseHead, name};
use std::rc::Rc;
use std::time::Duration;

/// Who is charged for a request.
#[derive(Clone)]
pub struct Account {
    /// Its cluster.
    pub cluster: Rc<Cluster>,
    /// Count response codes and times.
    dynamic: bool,
    /// The request comes from inside (`x-envoy-internal`).
    internal: bool,
    /// The cluster's own codes are not counted, only that a response came.
    pub uncoded: bool,
    more: Option<Box<More>>,
}

/// What few requests are counted by.
#[derive(Clone, Default)]
struct More {
    /// The virtual cluster and the route.
    requests: Vec<RequestStats>,
    alt: Option<AltStats>,
    /// Our zone.
    zone: String,
}

impl Account {
    /// An account with a cluster; `route`: what the route itself counts.
    pub fn new(cluster: Rc<Cluster>, dynamic: bool, internal: bool, route: Option<&RequestStats>) -> Account {
        let mut a = Account { cluster, dynamic, internal, uncoded: false, more: None };
        route.into_iter().for_each(|r| a.also(r.clone()));
        a
    }
    /// Counts there too.
    pub fn also(&mut self, s: RequestStats) {
        self.more.get_or_insert_default().requests.push(s);
    }
    /// Counts under the name that the request asks for.
    pub fn alt(&mut self, s: AltStats) {
        self.more.get_or_insert_default().alt = Some(s);
    }
    /// Counts by zones, from this one.
    pub fn zone(&mut self, ours: &str) {
        self.more.get_or_insert_default().zone = ours.to_owned();
    }

    /// The virtual cluster and the route.
    pub fn requests(&self) -> impl Iterator<Item = &RequestStats> {
        self.more.iter().flat_map(|m| &m.requests)
    }
    /// A connection for the request is there.
    pub fn connected(&self) {
        self.requests().for_each(|r| r.upstream_rq_total().inc());
    }
    /// The request is sent again, after this response (or, `None`, after a reset).
    pub fn retried(&self, host: &LocalHost, status: Option<u16>) {
        HostCounters::inc(&host.host.counters.rq_error);
        if let Some(status) = status {
            self.cluster.retry_stats().rq().record(status);
        }
    }
    /// Charges a host's response, `took` after the request was complete.
    pub fn response(&self, host: &LocalHost, ex: &Exchange, head: &ResponseHead, took: Option<Duration>) {
        let canary =
            host.host.info.canary || head.headers.get(name::X_ENVOY_UPSTREAM_CANARY) == Some(b"true");
        self.charge(Some(host), &ex.sx, head.status, canary, took);
    }
    /// Charges a reply of ours for an upstream's failure.
    pub fn reply(&self, host: Option<&LocalHost>, sx: &StreamShared, status: u16) {
        self.charge(host, sx, status, false, None);
    }
    /// The route's timeout passed while the response's head was waited for.
    pub fn timeout(&self, host: &LocalHost, status: u16) {
        let s = &self.cluster.plan.stats;
        s.upstream_rq_timeout().inc();
        self.requests().for_each(|r| r.upstream_rq_timeout().inc());
        HostCounters::inc(&host.host.counters.rq_timeout);
        HostCounters::inc(&host.host.counters.rq_error);
        if self.dynamic {
            self.count(s.rq(), status);
            match self.internal {
                true => s.internal().record(status),
                false => s.external().record(status),
            }
            self.requests().for_each(|r| r.rq().record(status));
        }
    }

    fn count(&self, rq: Codes<'_>, status: u16) {
        match self.uncoded {
            true => rq.record_completed(),
            false => rq.record(status),
        }
    }

    fn charge(
        &self,
        host: Option<&LocalHost>,
        sx: &StreamShared,
        status: u16,
        canary: bool,
        took: Option<Duration>,
    ) {
        if let Some(h) = host {
            HostCounters::inc(if status >= 500 {
                &h.host.counters.rq_error
            } else {
                &h.host.counters.rq_success
            });
        }
        if !self.dynamic || sx.info.health_check.get() {
            return;
        }
        let s = &self.cluster.plan.stats;
        self.count(s.rq(), status);
        match self.internal {
            true => s.internal().record(status),
            false => s.external().record(status),
        }
        if canary {
            s.canary().record(status);
        }
        let ms = took.map(|t| t.as_millis() as u64);
        if let Some(ms) = ms {
            s.upstream_rq_time().record(ms);
            if self.internal {
                s.internal_rq_time().record(ms);
            } else {
                s.external_rq_time().record(ms);
            }
            if canary {
                s.canary_rq_time().record(ms);
            }
        }
        if let Some(m) = &self.more {
            if let Some(a) = &m.alt {
                self.count(a.rq(), status);
            }
            m.charge(&self.cluster, host, status, ms, Kind { internal: self.internal, canary });
        }
    }
}

#[derive(Clone, Copy)]
struct Kind {
    internal: bool,
    canary: bool,
}

impl More {
    fn charge(&self, cluster: &Cluster, host: Option<&LocalHost>, status: u16, ms: Option<u64>, k: Kind) {
        for r in &self.requests {
            r.rq().record(status);
            ms.into_iter().for_each(|ms| r.upstream_rq_time().record(ms));
        }
        if let Some(z) = host.and_then(|h| self.between_zones(cluster, h)) {
            z.rq().record(status);
            ms.into_iter().for_each(|ms| z.upstream_rq_time().record(ms));
        }
        let Some(a) = &self.alt else { return };
        let class = if k.internal {
            (a.internal(), a.internal_rq_time())
        } else {
            (a.external(), a.external_rq_time())
        };
        class.0.record(status);
        if k.canary {
            a.canary().record(status);
        }
        if let Some(ms) = ms {
            a.upstream_rq_time().record(ms);
            class.1.record(ms);
            if k.canary {
                a.canary_rq_time().record(ms);
            }
        }
    }
    /// `None` unless both zones are known.
    fn between_zones<'a>(&self, cluster: &Cluster, host: &'a LocalHost) -> Option<&'a ZoneStats> {
        let theirs = &host.host.info.locality[1];
        let make = || {
            let scope = cluster.plan.scope.scope("zone").scope(&self.zone).scope(&sanitize(theirs));
            ZoneStats::new(&scope)
        };
        (!self.zone.is_empty() && !theirs.is_empty()).then(|| host.zone.get_or_init(make))
    }
}

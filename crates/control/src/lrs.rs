//! Load reports (LRS, `cluster_manager.load_stats_config`): a server says which clusters it wants to hear of and how often,
//! and is told what their hosts have served since the last report.

use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::endpoint::v3::{ClusterStats, UpstreamEndpointStats, UpstreamLocalityStats};
use nuncio_api::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::grpc::{Client, Status, code};
use nuncio_core::{log, stats};
use nuncio_engine::ClusterManager;
use nuncio_engine::upstream::host::Host;
use nuncio_engine::upstream::manager::ClusterEntry;
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const METHOD: &str = "envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";
/// Between a stream that has ended and the next one.
const RETRY: Duration = Duration::from_secs(5);
/// Reports come no more often, whatever the server says.
const SHORTEST: Duration = Duration::from_millis(10);

stats! {
    /// `load_reporter.`
    pub struct ReporterStats {
        errors: SharedCounter,
        requests: SharedCounter,
        responses: SharedCounter,
        retries: SharedCounter,
    }
}

/// See the module.
pub struct Reporter {
    clusters: ClusterManager,
    client: Client,
    node: core::Node,
    stats: ReporterStats,
    /// What the server wants to hear.
    wish: Option<LoadStatsResponse>,
    tracked: BTreeMap<String, Tracked>,
}

/// A cluster that is reported.
struct Tracked {
    since: Instant,
    /// What was reported of each host, by its address in memory, which nobody else gets as long as it is here.
    hosts: HashMap<usize, (Weak<Host>, Counts)>,
    dropped: u64,
}

/// What a host has served.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Counts {
    success: u64,
    error: u64,
    issued: u64,
}

impl Counts {
    fn of(h: &Host) -> Counts {
        let c = &h.counters;
        Counts {
            success: c.rq_success.load(Relaxed),
            error: c.rq_error.load(Relaxed),
            issued: c.rq_total.load(Relaxed),
        }
    }
    fn since(self, last: Counts) -> Counts {
        Counts {
            success: self.success.saturating_sub(last.success),
            error: self.error.saturating_sub(last.error),
            issued: self.issued.saturating_sub(last.issued),
        }
    }
}

impl Tracked {
    /// From now on; what was served before is not told.
    fn begin(c: Option<&Rc<ClusterEntry>>) -> Tracked {
        let mut t = Tracked { since: clock::now(), hosts: HashMap::new(), dropped: 0 };
        if let Some(c) = c {
            t.dropped = dropped(c);
            let known = |h: &Arc<Host>| (place(h), (Arc::downgrade(h), Counts::of(h)));
            t.hosts = c.hosts().hosts.iter().map(known).collect();
        }
        t
    }
    /// What a host has served since the last time.
    fn latch(&mut self, h: &Arc<Host>) -> Counts {
        let now = Counts::of(h);
        let last = self.hosts.entry(place(h)).or_insert_with(|| (Arc::downgrade(h), Counts::default()));
        now.since(std::mem::replace(&mut last.1, now))
    }
}

fn place(h: &Arc<Host>) -> usize {
    Arc::as_ptr(h).addr()
}

/// Requests that a circuit breaker or the maintenance mode has kept from a cluster.
fn dropped(c: &ClusterEntry) -> u64 {
    let s = &c.plan.stats;
    s.upstream_rq_pending_overflow().value()
        + s.upstream_rq_active_overflow().value()
        + s.upstream_rq_maintenance_mode().value()
}

impl Reporter {
    /// A client of the server that `c` names.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(
        c: &core::ApiConfigSource,
        clusters: &ClusterManager,
        node: &core::Node,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Reporter> {
        let service = c.grpc_services.first();
        let service =
            service.ok_or("API configs must have either a gRPC service or a cluster name defined")?;
        let mut node = node.clone();
        node.client_features.push("envoy.lrs.supports_send_all_clusters".into());
        Ok(Reporter {
            clusters: clusters.clone(),
            client: Client::new(service, cx)?,
            node,
            stats: ReporterStats::new(&cx.scope.store().root().scope("load_reporter")),
            wish: None,
            tracked: BTreeMap::new(),
        })
    }
    /// Reports, for ever.
    pub async fn run(mut self) {
        loop {
            let status = self.one().await;
            match status.is_ok() {
                true => log!(Upstream, Debug, "StreamLoadStats gRPC config stream closed gracefully"),
                false => {
                    log!(Upstream, Warning, "StreamLoadStats gRPC config stream closed: {status}");
                    self.stats.errors().inc();
                }
            }
            clock::sleep(TimerKind::Other, RETRY).await;
            self.stats.retries().inc();
        }
    }
    /// One stream, and how it ended.
    async fn one(&mut self) -> Status {
        let mut stream = self.client.open(METHOD, None, None);
        let mut due = self.tell(&stream.sender);
        loop {
            let wait = due.map_or(super::xds::far(), |d| d.saturating_duration_since(clock::now()));
            tokio::select! {
                m = stream.receiver.message() => match m.map(LoadStatsResponse::decode) {
                    Ok(Ok(wish)) => {
                        due = Some(self.track(wish));
                        self.stats.requests().inc();
                    }
                    Ok(Err(e)) => return Status::new(code::INTERNAL, e.to_string()),
                    Err(status) => return status,
                },
                () = clock::sleep(TimerKind::Other, wait) => due = self.tell(&stream.sender),
            }
        }
    }
    /// Sends a report; when the next one is due, if the server has said so.
    fn tell(&mut self, sender: &nuncio_core::grpc::Sender) -> Option<Instant> {
        let report = self.report();
        sender.send_message(&report);
        self.stats.responses().inc();
        let wish = self.wish.take()?;
        Some(self.track(wish))
    }
    /// Begins to count what the server wants to hear of; when the next report is due.
    fn track(&mut self, wish: LoadStatsResponse) -> Instant {
        let all = self.clusters.list();
        let named = |name: &str| all.iter().find(|c| &*c.plan.name == name);
        let names: Vec<String> = match wish.send_all_clusters {
            true => all.iter().map(|c| c.plan.name.to_string()).collect(),
            false => wish.clusters.clone(),
        };
        let mut before = std::mem::take(&mut self.tracked);
        for name in names {
            let tracked = before.remove(&name).unwrap_or_else(|| Tracked::begin(named(&name)));
            self.tracked.insert(name, tracked);
        }
        let interval = wish.load_reporting_interval.and_then(|d| Duration::try_from(d).ok());
        self.wish = Some(wish);
        clock::now() + interval.unwrap_or_default().max(SHORTEST)
    }
    fn report(&mut self) -> LoadStatsRequest {
        let each_endpoint = self.wish.as_ref().is_some_and(|w| w.report_endpoint_granularity);
        let all = self.clusters.list();
        let mut cluster_stats = vec![];
        for (name, t) in &mut self.tracked {
            let Some(c) = all.iter().find(|c| *c.plan.name == **name) else { continue };
            cluster_stats.push(of_cluster(c, t, each_endpoint));
        }
        LoadStatsRequest { node: Some(Box::new(self.node.clone())), cluster_stats }
    }
}

fn of_cluster(c: &ClusterEntry, t: &mut Tracked, each_endpoint: bool) -> ClusterStats {
    t.hosts.retain(|_, (h, _)| h.strong_count() > 0);
    let mut localities: BTreeMap<(u32, [String; 3]), UpstreamLocalityStats> = BTreeMap::new();
    for h in &c.hosts().hosts {
        let (n, active) = (t.latch(h), h.counters.rq_active.load(Relaxed));
        if n == Counts::default() && active == 0 {
            continue;
        }
        let l = localities.entry((h.priority(), (*h.info.locality).clone())).or_default();
        l.total_successful_requests += n.success;
        l.total_error_requests += n.error;
        l.total_requests_in_progress += active;
        l.total_issued_requests += n.issued;
        if each_endpoint {
            l.upstream_endpoint_stats.push(UpstreamEndpointStats {
                address: h.info.address.as_ref().and_then(message_of).map(Into::into),
                total_successful_requests: n.success,
                total_error_requests: n.error,
                total_requests_in_progress: active,
                total_issued_requests: n.issued,
                ..Default::default()
            });
        }
    }
    let upstream_locality_stats = localities
        .into_iter()
        .map(|((priority, [region, zone, sub_zone]), l)| UpstreamLocalityStats {
            locality: Some(core::Locality { region, zone, sub_zone }),
            priority,
            ..l
        })
        .collect();
    let now = clock::now();
    let measured = now.saturating_duration_since(std::mem::replace(&mut t.since, now));
    let all_dropped = dropped(c);
    let total_dropped_requests = all_dropped.saturating_sub(std::mem::replace(&mut t.dropped, all_dropped));
    ClusterStats {
        cluster_name: c.plan.name.to_string(),
        cluster_service_name: c.eds.as_ref().map(|e| e.service_name.clone()).unwrap_or_default(),
        upstream_locality_stats,
        total_dropped_requests,
        load_report_interval: prost_types::Duration::try_from(measured).ok(),
        ..Default::default()
    }
}

fn message_of(a: &Address) -> Option<core::Address> {
    use core::socket_address::PortSpecifier::PortValue;
    let ip = a.ip()?;
    let socket = core::SocketAddress {
        address: ip.to_string(),
        port_specifier: Some(PortValue(a.port()?.into())),
        ..Default::default()
    };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_engine::upstream::host::{HostCounters, Wanted};

    #[test]
    fn each_report_says_what_is_new() {
        let host = || Arc::new(Host::new(Wanted::default()));
        let serve = |h: &Host, good: u32, bad: u32| {
            let c = &h.counters;
            (0..good).for_each(|_| HostCounters::inc(&c.rq_success));
            (0..bad).for_each(|_| HostCounters::inc(&c.rq_error));
            (0..good + bad).for_each(|_| HostCounters::inc(&c.rq_total));
        };
        let mut t = Tracked::begin(None);
        let (a, b) = (host(), host());
        serve(&a, 2, 1);
        let first = Counts { success: 2, error: 1, issued: 3 };
        assert_eq!((t.latch(&a), t.latch(&a), t.latch(&b)), (first, Counts::default(), Counts::default()));
        serve(&a, 0, 4);
        serve(&b, 1, 0);
        assert_eq!(t.latch(&a), Counts { success: 0, error: 4, issued: 4 });
        assert_eq!(t.latch(&b), Counts { success: 1, error: 0, issued: 1 });
        // One that takes the place of another is not taken for it.
        drop(b);
        let c = host();
        assert_eq!(t.latch(&c), Counts::default());
    }

    #[test]
    fn addresses_as_messages() {
        let a = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 80)));
        let Some(core::address::Address::SocketAddress(s)) = message_of(&a).and_then(|m| m.address) else {
            panic!("no socket address")
        };
        assert_eq!((&*s.address, s.port_specifier.is_some()), ("127.0.0.1", true));
    }
}

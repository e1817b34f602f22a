//! Asks the hosts of a cluster for reports of their load, on a stream to each (`enable_oob_load_report`): on main, on
//! connections of its own, which come again after a while when they end.

use super::cluster::ClusterPlan;
use super::connect;
use super::host::Host;
use super::lb::client_side::{ClientSide, HostLoad, Streams};
use super::transport::Transport;
use crate::mux::{End, Incoming, Mux};
use crate::stats::{Http2Stats, count_http2};
use nuncio_core::address::Address;
use nuncio_core::body::Frame;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::grpc::{Status, code, frame};
use nuncio_core::orca::{LoadReport, LoadReportRequest, STREAM};
use nuncio_core::{log, rng, stats};
use nuncio_wire::h2::Connection;
use nuncio_wire::{ReadBuf, RequestHead, ResponseHead, Version, name};
use prost::Message;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::task::AbortHandle;

stats! {
    /// `cluster.<name>.lb_orca_oob.`
    pub struct OobStats {
        report_errors: Counter,
        reports_received: Counter,
        stream_failures: Counter,
        stream_terminated: Counter,
        active_sessions: Gauge,
    }
}

/// The longest report, in bytes.
const MOST: u32 = 64 * 1024;
/// The first and the longest time, in milliseconds, below which lies how long it is until a stream comes again.
const AGAIN: (u64, u64) = (1_000, 30_000);

/// The reports of a cluster's hosts.
pub struct LoadReports {
    plan: Arc<ClusterPlan>,
    config: Arc<ClientSide>,
    /// With streams of their own.
    stats: Option<OobStats>,
    http2: OnceCell<Http2Stats>,
    sessions: RefCell<HashMap<*const Host, Session>>,
}

struct Session {
    host: Arc<Host>,
    task: AbortHandle,
}

/// How a stream ended.
enum Ended {
    /// The host does not report.
    ForGood,
    /// It may report later.
    ForNow,
}

impl LoadReports {
    /// Of no hosts yet; `None`: the cluster's policy does not ask for reports.
    pub fn new(plan: &Arc<ClusterPlan>) -> Option<Rc<LoadReports>> {
        let config = plan.lb.client_side()?.clone();
        let stats = config.streams.as_ref().map(|_| OobStats::new(&plan.scope.scope("lb_orca_oob")));
        let (http2, sessions) = Default::default();
        Some(Rc::new(LoadReports { plan: plan.clone(), config, stats, http2, sessions }))
    }
    /// How often weights follow from what was reported.
    pub fn period(&self) -> Duration {
        self.config.update
    }
    /// These hosts are heard from now on, and no others.
    pub fn set_hosts(self: &Rc<Self>, hosts: &[Arc<Host>]) {
        for h in hosts {
            h.load.get_or_init(|| Box::new(HostLoad::new(self.config.clone())));
        }
        let Some(stats) = &self.stats else { return };
        let mut old = std::mem::take(&mut *self.sessions.borrow_mut());
        let session = |h: &Arc<Host>| {
            stats.active_sessions().inc();
            let task = tokio::task::spawn_local(run(Rc::downgrade(self), h.clone())).abort_handle();
            Session { host: h.clone(), task }
        };
        let new = hosts.iter().map(|h| {
            let key = Arc::as_ptr(h);
            (key, old.remove(&key).unwrap_or_else(|| session(h)))
        });
        *self.sessions.borrow_mut() = new.collect();
        old.into_values().for_each(|s| self.ends(&s));
    }
    fn ends(&self, s: &Session) {
        // One that has ended for good is not counted any more.
        if !s.task.is_finished() {
            self.stats.iter().for_each(|s| s.active_sessions().dec());
        }
        s.task.abort();
        log!(Upstream, Debug, "no more load reports from {}", s.host.info.address_text);
    }
    /// Nobody is heard any more.
    pub fn end(&self) {
        self.sessions.take().into_values().for_each(|s| self.ends(&s));
    }
    /// A connection to a host, and the stream on it until that ends. `heard`: a report came.
    async fn stream(&self, streams: &Streams, host: &Host, heard: &mut bool) -> Result<(), Ended> {
        let address = address(host, streams.port).ok_or(Ended::ForNow)?;
        let transport = self.transport(streams, host);
        let http2 = self.http2.get_or_init(|| Http2Stats::new(&self.plan.scope.scope("http2")));
        http2.nghttp2_upstream_connections().inc();
        let connect = connect::connect_to(&self.plan, transport, &address, &host.info, "h2");
        let io = clock::timeout(TimerKind::Other, self.plan.connect_timeout, connect).await;
        let Ok(Ok(io)) = io else { return Err(Ended::ForNow) };
        let mux = Mux::new(io, ReadBuf::new(), Connection::client(self.plan.http.h2.clone()), true);
        let head = self.request(streams, host, &address, transport.is_tls());
        let slot = mux.open(&head, false).map_err(|_| Ended::ForNow)?;
        mux.send_data(slot, message(streams.period).into(), true);
        let result = self.receive(&mux, slot, host, http2, heard).await;
        let status = match result {
            Ok(status) => status,
            Err(ended) => return Err(ended),
        };
        // Envoy closes the connection while it reads from it, and takes that for an error.
        self.plan.stats.upstream_cx_protocol_error().inc();
        log!(Upstream, Debug, "{} reports no more: status {}", address, status.code);
        Err(if status.code == code::UNIMPLEMENTED { Ended::ForGood } else { Ended::ForNow })
    }
    /// Takes reports until the host ends the stream, which has a status, or something else does.
    async fn receive(
        &self,
        mux: &Mux,
        slot: u32,
        host: &Host,
        http2: &Http2Stats,
        heard: &mut bool,
    ) -> Result<Status, Ended> {
        let drive = |cx: &mut Context<'_>| {
            let mut nothing = |_: Incoming| {};
            let end = mux.poll(cx, &mut nothing);
            count_http2(http2, &mux.codec(Connection::take_counters));
            if let std::task::Poll::Ready(End::Protocol(_)) = end {
                self.plan.stats.upstream_cx_protocol_error().inc();
            }
        };
        let (head, end) = loop {
            let head = poll_fn(|cx| {
                drive(cx); // its end resets the stream
                mux.poll_head(slot, cx)
            });
            let (head, end) = head.await.map_err(|_| Ended::ForNow)?;
            if !head.is_informational() {
                break (head, end);
            }
        };
        if end || head.status != 200 {
            return Ok(status_of(&head));
        }
        let mut decoder = frame::Decoder::new(MOST);
        loop {
            let frame = poll_fn(|cx| {
                drive(cx); // as above
                mux.poll_frame(slot, cx)
            });
            match frame.await {
                Some(Ok(Frame::Data(c))) => decoder.push(&c),
                Some(Ok(Frame::Trailers(t))) => return Ok(Status::of(&t)),
                Some(Err(_)) => return Err(Ended::ForNow),
                None => return Ok(Status::new(code::UNKNOWN, "")),
            }
            while let Some(m) = match decoder.message() {
                Ok(m) => m,
                Err(status) => return Ok(status),
            } {
                let Ok(report) = LoadReport::decode(m) else { return Ok(Status::new(code::INTERNAL, "")) };
                *heard = true;
                self.heard(host, &report);
            }
        }
    }
    fn heard(&self, host: &Host, r: &LoadReport) {
        let Some(stats) = &self.stats else { return };
        stats.reports_received().inc();
        if !host.load.get().is_some_and(|l| l.report(r)) {
            stats.report_errors().inc();
            log!(Upstream, Debug, "{} reports too little of its load", host.info.address_text);
        }
    }
    fn transport(&self, streams: &Streams, host: &Host) -> &Transport {
        match &streams.labels {
            None => self.plan.transports.of(&host.info),
            Some(labels) => self.plan.transports.labelled(labels),
        }
    }
    fn request(&self, streams: &Streams, host: &Host, address: &Address, tls: bool) -> RequestHead {
        let mut head = RequestHead { version: Version::Http2, ..Default::default() };
        let own = address.to_string();
        let names = [&*streams.authority, &*host.info.hostname, &own, &*self.plan.name];
        let authority = names.into_iter().find(|n| !n.is_empty()).unwrap_or_default();
        let h = &mut head.headers;
        h.set(name::METHOD, b"POST");
        h.set(name::PATH, STREAM);
        h.set(name::AUTHORITY, authority.as_bytes());
        h.set(name::SCHEME, if tls { b"https" } else { b"http" });
        h.set(name::TE, b"trailers");
        h.set(name::CONTENT_TYPE, b"application/grpc");
        head
    }
}

impl Drop for LoadReports {
    fn drop(&mut self) {
        self.end();
    }
}

/// The request's body: one message.
fn message(period: Duration) -> Vec<u8> {
    let period = prost_types::Duration::try_from(period).ok();
    let message = LoadReportRequest { report_interval: period }.encode_to_vec();
    let mut body = frame::head(message.len() as u32).to_vec();
    body.extend_from_slice(&message);
    body
}

/// Where a host reports.
fn address(host: &Host, port: u16) -> Option<Address> {
    Some(match (host.info.address.clone()?, port) {
        (Address::Ip(ip), port @ 1..) => SocketAddr::new(ip.ip(), port).into(),
        (address, _) => address,
    })
}

/// What a head says that is all there is.
fn status_of(head: &ResponseHead) -> Status {
    if head.headers.contains(name::GRPC_STATUS) {
        return Status::of(&head.headers);
    }
    let code = match head.status {
        404 => code::UNIMPLEMENTED,
        _ => code::UNKNOWN,
    };
    Status::new(code, "")
}

/// The task of a host.
async fn run(reports: Weak<LoadReports>, host: Arc<Host>) {
    let Some(config) = reports.upgrade().map(|r| r.config.clone()) else { return };
    let Some(streams) = &config.streams else { return };
    let below = |ms: u64| Duration::from_millis(rng::below(ms.max(1)));
    // Hosts are not all asked at once.
    let mut wait = below(u64::try_from(streams.period.as_millis()).unwrap_or(u64::MAX));
    let mut again = AGAIN.0;
    loop {
        clock::sleep(TimerKind::Other, wait).await;
        let Some(r) = reports.upgrade() else { return };
        let mut heard = false;
        // In a box: between streams the task is small.
        let result = Box::pin(r.stream(streams, &host, &mut heard)).await;
        let Some(stats) = &r.stats else { return };
        if let Err(Ended::ForGood) = result {
            stats.stream_terminated().inc();
            stats.active_sessions().dec();
            log!(Upstream, Info, "{} does not report its load", host.info.address_text);
            return;
        }
        stats.stream_failures().inc();
        if heard {
            again = AGAIN.0;
        }
        wait = below(again);
        again = again.saturating_mul(2).min(AGAIN.1);
    }
}

//! Records on their way to a collector (`opentelemetry.proto.collector.logs.v1`).
//!
//! Each worker keeps its own until they are `buffer_size_bytes` long or `buffer_flush_interval` has passed; what leaves
//! together is one call. Loggers with equal configuration share what waits, as in Envoy.

use crate::tracers::collector::Collector;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use nuncio_api::opentelemetry::proto::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use nuncio_api::opentelemetry::proto::common::v1::KeyValue;
use nuncio_api::opentelemetry::proto::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use nuncio_api::opentelemetry::proto::resource::v1::Resource;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::filter::BuildCx;
use nuncio_core::grpc::Client;
use nuncio_core::hash::TrustedMap;
use nuncio_core::stats::Scope;
use nuncio_core::{BuildResult, log, stats, worker};
use prost::Message;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

const METHOD: &str = "opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// `buffer_flush_interval` when it is not set.
const INTERVAL: Duration = Duration::from_secs(1);
/// `buffer_size_bytes` when it is not set.
const SIZE: u32 = 16 * 1024;

stats! {
    /// Below `access_logs.open_telemetry_access_log.<stat_prefix>.`
    struct ExportStats {
        logs_dropped: Counter,
        logs_written: Counter,
    }
}

stats! {
    /// There, too, where the collector is called by gRPC. They count what goes by streams, and so stay at zero.
    struct StreamStats {
        grpc_entries_flush_failed: Counter,
        grpc_entries_flushed: Counter,
    }
}

/// A collector.
pub enum To {
    Grpc(Client),
    Http(Collector, Duration),
}

impl To {
    /// One that is called by gRPC.
    ///
    /// # Errors
    /// The service is refused.
    pub fn grpc(s: &core::GrpcService, cx: &BuildCx<'_>) -> BuildResult<To> {
        Ok(To::Grpc(Client::new(s, cx)?))
    }
    /// One that is called by HTTP.
    ///
    /// # Errors
    /// The service is refused.
    pub fn http(s: &core::HttpService, cx: &BuildCx<'_>) -> BuildResult<To> {
        let (collector, timeout) = Collector::of(s, cx)?;
        Ok(To::Http(collector, timeout))
    }
}

/// When what leaves, and what each call says.
pub struct Settings {
    /// `buffer_flush_interval`
    pub interval: Option<prost_types::Duration>,
    /// `buffer_size_bytes`
    pub size: Option<u32>,
    /// Who sends.
    pub resource: Vec<KeyValue>,
}

/// Collects records, and sends them.
pub struct Exporter(Arc<Shared>);

/// Lives as long as a logger that exports here.
struct Shared {
    id: u64,
    plan: Arc<Plan>,
}

/// What all workers share.
pub(super) struct Plan {
    to: To,
    resource: Resource,
    interval: Duration,
    size: usize,
    stats: ExportStats,
    /// Held, so that they are listed.
    _streams: Option<StreamStats>,
}

/// Main's list of those that are in use.
#[derive(Default)]
struct Known(RefCell<Vec<(OpenTelemetryAccessLogConfig, Weak<Shared>)>>);

/// What a worker has of each, by id.
#[derive(Default)]
struct Here(RefCell<TrustedMap<u64, Kept>>);

type Kept = (Weak<Shared>, Rc<Buffer>);

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Exporter {
    /// Exports as `c` says, to whom it names.
    pub fn new(c: &OpenTelemetryAccessLogConfig, to: To, s: Settings, cx: &BuildCx<'_>) -> Exporter {
        let known = worker::local(Known::default);
        known.0.borrow_mut().retain(|(_, k)| k.strong_count() > 0);
        let found = known.0.borrow().iter().find(|(k, _)| k == c).and_then(|(_, k)| k.upgrade());
        if let Some(shared) = found {
            return Exporter(shared);
        }
        let scope = cx.scope.store().root().scope("access_logs").scope("open_telemetry_access_log");
        let plan = Plan::new(to, s, &scope_of(&scope, &c.stat_prefix));
        let shared = Arc::new(Shared { id: NEXT.fetch_add(1, Relaxed), plan: Arc::new(plan) });
        known.0.borrow_mut().push((c.clone(), Arc::downgrade(&shared)));
        Exporter(shared)
    }
    /// Takes a record.
    pub fn report(&self, record: LogRecord) {
        let here = worker::local(Here::default);
        let found = here.0.borrow().get(&self.0.id).map(|(_, b)| b.clone());
        let buffer = found.unwrap_or_else(|| {
            let mut all = here.0.borrow_mut();
            // Those of configurations that are gone. What they hold leaves with their timer.
            all.retain(|_, (of, _)| of.strong_count() > 0);
            let buffer = Rc::new(Buffer::new(self.0.plan.clone()));
            all.insert(self.0.id, (Arc::downgrade(&self.0), buffer.clone()));
            buffer
        });
        buffer.add(record);
    }
}

/// `stat_prefix`, which may end in a point.
fn scope_of(scope: &Scope, prefix: &str) -> Scope {
    match prefix.trim_end_matches('.') {
        "" => scope.clone(),
        prefix => scope.scope(prefix),
    }
}

impl Plan {
    pub(super) fn new(to: To, s: Settings, scope: &Scope) -> Plan {
        let interval = s.interval.and_then(|d| Duration::try_from(d).ok());
        Plan {
            _streams: matches!(to, To::Grpc(_)).then(|| StreamStats::new(scope)),
            to,
            resource: Resource { attributes: s.resource, ..Default::default() },
            interval: interval.unwrap_or(INTERVAL).max(Duration::from_millis(1)),
            size: s.size.unwrap_or(SIZE) as usize,
            stats: ExportStats::new(scope),
        }
    }
    /// Records that were taken, and those that were not.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.stats.logs_written().value(), self.stats.logs_dropped().value())
    }
    /// One call, and what has become of its records.
    async fn send(self: Arc<Plan>, log_records: Vec<LogRecord>) {
        let sent = log_records.len() as u64;
        let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
        let logs = ResourceLogs { resource: Some(self.resource.clone()), scope_logs, ..Default::default() };
        let request = ExportLogsServiceRequest { resource_logs: vec![logs] };
        let refused = match &self.to {
            To::Grpc(client) => {
                match client.unary::<ExportLogsServiceResponse>(METHOD, &request, None, None).await {
                    Ok(r) => {
                        let refused = r.partial_success.map_or(0, |p| p.rejected_log_records);
                        u64::try_from(refused).map_or(sent, |n| n.min(sent))
                    }
                    Err(_) => sent,
                }
            }
            To::Http(c, timeout) => {
                let agent = crate::tracers::opentelemetry::agent();
                match c.post("application/x-protobuf", Some(&agent), request.encode_to_vec(), *timeout).await
                {
                    Ok(200) => 0,
                    Ok(status) => {
                        log!(
                            Misc,
                            Error,
                            "OTLP HTTP access log exporter received a non-success status code: {status} while \
                             exporting the OTLP message"
                        );
                        sent
                    }
                    Err(_) => sent,
                }
            }
        };
        self.stats.logs_dropped().add(refused);
        self.stats.logs_written().add(sent - refused);
    }
}

/// The records of one worker.
pub(super) struct Buffer {
    plan: Arc<Plan>,
    records: RefCell<Vec<LogRecord>>,
    /// Their length, in bytes.
    size: Cell<usize>,
    /// The timer runs.
    timed: Cell<bool>,
}

impl Buffer {
    pub(super) fn new(plan: Arc<Plan>) -> Buffer {
        Buffer { plan, records: RefCell::default(), size: Cell::new(0), timed: Cell::new(false) }
    }
    pub(super) fn add(self: &Rc<Buffer>, record: LogRecord) {
        self.size.set(self.size.get() + record.encoded_len());
        self.records.borrow_mut().push(record);
        if self.size.get() >= self.plan.size {
            self.flush();
        } else if !self.timed.replace(true) {
            worker::spawn(self.clone().flush_later());
        }
    }
    /// Sends what there is when its time has come.
    async fn flush_later(self: Rc<Buffer>) {
        clock::sleep(TimerKind::Other, self.plan.interval).await;
        self.timed.set(false);
        self.flush();
    }
    fn flush(&self) {
        let records = self.records.take();
        self.size.set(0);
        if !records.is_empty() {
            worker::spawn(self.plan.clone().send(records));
        }
    }
}

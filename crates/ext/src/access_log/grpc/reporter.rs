//! Entries on their way to an access log service (`envoy.service.accesslog.v3`).
//!
//! Each worker keeps its own until there are `buffer_size_bytes` of them or `buffer_flush_interval` has passed, and has a
//! stream of its own to the service. Loggers with equal configuration share both, as in Envoy.

use nuncio_api::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use nuncio_api::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use nuncio_api::envoy::service::accesslog::v3::stream_access_logs_message::Identifier;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::filter::BuildCx;
use nuncio_core::grpc::{Client, Sender, Stream};
use nuncio_core::hash::TrustedMap;
use nuncio_core::upstreams::ChargeCluster;
use nuncio_core::{BuildResult, stats, worker};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const METHOD: &str = "envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
/// `buffer_flush_interval` when it is not set.
const INTERVAL: Duration = Duration::from_secs(1);
/// `buffer_size_bytes` when it is not set.
const SIZE: u32 = 16 * 1024;
/// Most bytes that wait on a worker while the service does not take them, whatever `buffer_size_bytes` says. Envoy bounds
/// entries of requests by that only, and those of connections not at all.
const MOST: usize = 16 << 20;
/// Field of `StreamAccessLogsMessage.HTTPAccessLogEntries` and its like that holds the entries.
const LOG_ENTRY: u32 = 1;

/// What the entries are about; the field of `StreamAccessLogsMessage` that they go into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// `http_logs`
    Requests = 2,
    /// `tcp_logs`
    Connections = 3,
}

stats! {
    /// Below `access_logs.grpc_access_log.`: all loggers together.
    struct ReporterStats {
        grpc_entries_flush_failed: Counter,
        grpc_entries_flushed: Counter,
        logs_dropped: Counter,
        logs_written: Counter,
    }
}

/// Collects entries, and sends them.
pub struct Reporter(Arc<Shared>);

/// Lives as long as a logger that reports here.
struct Shared {
    id: u64,
    plan: Arc<Plan>,
}

struct Plan {
    about: About,
    client: Client,
    /// What the first message of a stream says: `identifier`, encoded with its key.
    identifier: Vec<u8>,
    interval: Duration,
    size: usize,
    stats: ReporterStats,
    /// Knows whether the service's cluster is there; none in a test.
    clusters: Option<Arc<dyn ChargeCluster>>,
}

/// Main's list of those that are in use.
#[derive(Default)]
struct Known(RefCell<Vec<InUse>>);

struct InUse {
    about: About,
    config: CommonGrpcAccessLogConfig,
    shared: Weak<Shared>,
}

/// What a worker has of each, by id.
#[derive(Default)]
struct Here(RefCell<TrustedMap<u64, Kept>>);

struct Kept {
    of: Weak<Shared>,
    buffer: Rc<Buffer>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Reporter {
    /// Reports as `c` says.
    ///
    /// # Errors
    /// The service is refused.
    pub fn new(c: &CommonGrpcAccessLogConfig, about: About, cx: &BuildCx<'_>) -> BuildResult<Reporter> {
        let known = worker::local(Known::default);
        known.0.borrow_mut().retain(|k| k.shared.strong_count() > 0);
        let same = |k: &&InUse| k.about == about && k.config == *c;
        let found = known.0.borrow().iter().find(same).and_then(|k| k.shared.upgrade());
        if let Some(shared) = found {
            return Ok(Reporter(shared));
        }
        let identifier =
            Identifier { node: Some(Box::new(cx.server.node_message())), log_name: c.log_name.clone() };
        let first = StreamAccessLogsMessage { identifier: Some(identifier), log_entries: None };
        let interval = c.buffer_flush_interval.and_then(|d| Duration::try_from(d).ok());
        let plan = Plan {
            about,
            client: Client::new(&super::service(c)?, cx)?,
            identifier: first.encode_to_vec(),
            interval: interval.unwrap_or(INTERVAL).max(Duration::from_millis(1)),
            size: c.buffer_size_bytes.unwrap_or(SIZE) as usize,
            stats: ReporterStats::new(&cx.scope.store().root().scope("access_logs").scope("grpc_access_log")),
            clusters: cx.server.charges(),
        };
        let shared = Arc::new(Shared { id: NEXT.fetch_add(1, Relaxed), plan: Arc::new(plan) });
        known.0.borrow_mut().push(InUse { about, config: c.clone(), shared: Arc::downgrade(&shared) });
        Ok(Reporter(shared))
    }
    /// Takes an entry.
    pub fn report(&self, entry: &impl Message) {
        let here = worker::local(Here::default);
        let found = here.0.borrow().get(&self.0.id).map(|k| k.buffer.clone());
        let buffer = found.unwrap_or_else(|| {
            // Those of configurations that are gone; what they hold leaves when nobody holds the list.
            let gone: Vec<_> = here.0.borrow_mut().extract_if(|_, k| k.of.strong_count() == 0).collect();
            drop(gone);
            let mut all = here.0.borrow_mut();
            let buffer = Rc::new(Buffer::new(self.0.plan.clone()));
            all.insert(self.0.id, Kept { of: Arc::downgrade(&self.0), buffer: buffer.clone() });
            buffer
        });
        buffer.add(entry);
    }
}

/// The entries of one worker, and its stream.
struct Buffer {
    plan: Arc<Plan>,
    /// Entries, encoded with their keys.
    entries: RefCell<Vec<u8>>,
    /// Their sizes without keys, in bytes, and how many they are.
    size: Cell<usize>,
    count: Cell<u64>,
    open: RefCell<Option<Open>>,
    /// The timer runs.
    timed: Cell<bool>,
}

/// A stream to the service.
struct Open {
    sender: Sender,
    over: Rc<Cell<bool>>,
}

impl Open {
    /// Opens a stream with its first message; nothing when it ends at once, as with a cluster that has no host to go to.
    fn new(client: &Client, first: Vec<u8>) -> Option<Open> {
        let Stream { sender, mut receiver } = client.open(METHOD, None, None);
        sender.send(first);
        // What the service says means nothing; hearing it out is what sends our messages.
        let at_once = receiver.poll_message(&mut Context::from_waker(Waker::noop()));
        if matches!(at_once, Poll::Ready(Err(_))) {
            return None;
        }
        let over = Rc::new(Cell::new(false));
        let ended = over.clone();
        worker::spawn(async move {
            while receiver.message().await.is_ok() {}
            ended.set(true);
        });
        Some(Open { sender, over })
    }
}

impl Buffer {
    fn new(plan: Arc<Plan>) -> Buffer {
        let (entries, size, count, open, timed) = Default::default();
        Buffer { plan, entries, size, count, open, timed }
    }
    fn add(self: &Rc<Buffer>, entry: &impl Message) {
        let p = &*self.plan;
        if p.about == About::Requests && p.size > 0 && self.size.get() >= p.size {
            self.flush();
        }
        let full = p.about == About::Requests && p.size > 0 && self.size.get() >= p.size;
        if full || self.entries.borrow().len() >= MOST {
            p.stats.logs_dropped().inc();
            return;
        }
        if p.about == About::Requests {
            p.stats.logs_written().inc();
        }
        prost::encoding::message::encode(LOG_ENTRY, entry, &mut *self.entries.borrow_mut());
        self.size.set(self.size.get() + entry.encoded_len());
        self.count.set(self.count.get() + 1);
        if self.size.get() >= p.size {
            self.flush();
        }
        if !self.entries.borrow().is_empty() && !self.timed.replace(true) {
            worker::spawn(self.clone().flush_later());
        }
    }
    /// Sends what there is until nothing is left.
    async fn flush_later(self: Rc<Buffer>) {
        while !self.entries.borrow().is_empty() {
            clock::sleep(TimerKind::Other, self.plan.interval).await;
            self.flush();
        }
        self.timed.set(false);
    }
    /// Sends what there is. It stays while too much is under way already, and while there is no such cluster or it has no
    /// host to go to; each try counts what has failed to leave.
    fn flush(&self) {
        let mut entries = self.entries.borrow_mut();
        if entries.is_empty() {
            return;
        }
        let (client, stats) = (&self.plan.client, &self.plan.stats);
        let mut open = self.open.borrow_mut();
        let connected = open.as_ref().filter(|o| !o.over.get());
        let full = connected.is_some_and(|o| o.sender.is_full());
        let sent = !full && connected.is_some_and(|o| o.sender.send(self.message(&[], &entries)));
        if !full && !sent {
            let gone = self.plan.clusters.as_ref().is_some_and(|all| !all.exists(client.cluster()));
            let first = || Open::new(client, self.message(&self.plan.identifier, &entries));
            *open = if gone { None } else { first() };
        }
        if full || open.is_none() {
            stats.grpc_entries_flush_failed().add(self.count.get());
            return;
        }
        stats.grpc_entries_flushed().add(self.count.take());
        entries.clear();
        self.size.set(0);
    }
    fn message(&self, identifier: &[u8], entries: &[u8]) -> Vec<u8> {
        /// Bytes of a key and a length.
        const KEY: usize = 11;
        let mut m = Vec::with_capacity(identifier.len() + KEY + entries.len());
        m.extend_from_slice(identifier);
        encode_key(self.plan.about as u32, WireType::LengthDelimited, &mut m);
        encode_varint(entries.len() as u64, &mut m);
        m.extend_from_slice(entries);
        m
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Not when the thread ends: nothing can be sent any more.
        if worker::existing::<Here>().is_some() {
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests;

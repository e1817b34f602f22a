//! Spans on their way to a collector: each worker keeps its own until there are enough, or some time has passed.

use nuncio_core::LocalBoxFuture;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::filter::BuildCx;
use nuncio_core::hash::TrustedMap;
use nuncio_core::runtime::RuntimeNumber;
use nuncio_core::tracing::Span;
use nuncio_core::worker;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Where spans go.
pub trait Export: Send + Sync + 'static {
    /// Sends them.
    fn export(self: Arc<Self>, spans: Vec<Span>) -> LocalBoxFuture<'static, ()>;
    /// Some time has passed: what there is is sent.
    fn timer_flushed(&self);
    /// A span found no room.
    fn dropped(&self) {}
}

/// Collects spans, and hands them on.
pub struct Reporter<E>(Arc<Shared<E>>);

struct Shared<E> {
    id: u64,
    to: Arc<E>,
    /// So many are sent at once.
    enough: RuntimeNumber,
    /// After so many milliseconds, all are.
    interval: RuntimeNumber,
    /// So many are kept.
    most: usize,
}

/// The spans of one worker, by reporter.
#[derive(Default)]
struct Kept(RefCell<TrustedMap<u64, Vec<Span>>>);

static NEXT: AtomicU64 = AtomicU64::new(0);

impl<E: Export> Reporter<E> {
    /// Reports to `to`. The runtime keys `<prefix>.min_flush_spans` and `<prefix>.flush_interval_ms` say how often.
    pub fn new(to: Arc<E>, prefix: &str, most: usize, cx: &BuildCx<'_>) -> Reporter<E> {
        let runtime = cx.server.runtime();
        Reporter(Arc::new(Shared {
            id: NEXT.fetch_add(1, Relaxed),
            to,
            enough: runtime.number(&format!("{prefix}.min_flush_spans"), 5),
            interval: runtime.number(&format!("{prefix}.flush_interval_ms"), 5000),
            most,
        }))
    }
    /// Where the spans go.
    pub fn to(&self) -> &E {
        &self.0.to
    }
    /// Takes a span.
    pub fn report(&self, span: Span) {
        let here = worker::local(Kept::default);
        let mut all = here.0.borrow_mut();
        let mut first = false;
        let kept = all.entry(self.0.id).or_insert_with(|| {
            first = true;
            vec![]
        });
        let full = kept.len() >= self.0.most;
        if full {
            self.0.to.dropped();
        } else {
            kept.push(span);
        }
        let enough = full || kept.len() as u64 >= self.0.enough.get();
        drop(all);
        if first {
            worker::spawn(flush_at_times(Arc::downgrade(&self.0)));
        }
        if enough {
            self.0.flush();
        }
    }
}

impl<E: Export> Shared<E> {
    fn flush(&self) {
        let here = worker::local(Kept::default);
        let spans = here.0.borrow_mut().get_mut(&self.id).map(std::mem::take).unwrap_or_default();
        if !spans.is_empty() {
            worker::spawn(self.to.clone().export(spans));
        }
    }
}

/// Sends what there is, again and again, until the tracer is gone.
async fn flush_at_times<E: Export>(of: Weak<Shared<E>>) {
    let Some(id) = of.upgrade().map(|s| s.id) else { return };
    while let Some(ms) = of.upgrade().map(|s| s.interval.get()) {
        clock::sleep(TimerKind::Other, Duration::from_millis(ms.max(1))).await;
        if let Some(s) = of.upgrade() {
            s.to.timer_flushed();
            s.flush();
        }
    }
    let gone = worker::local(Kept::default).0.borrow_mut().remove(&id);
    drop(gone);
}

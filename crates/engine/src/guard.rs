//! A panic ends one connection or stream, never the process: it is caught where the task is polled, counted and
//! logged; then what the exchange still owes (`on_done`, access logs) is done, each piece under a guard of its own.

use nuncio_core::{log, pipeline};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics caught since the start (`server.panics`).
pub fn panics() -> u64 {
    PANICS.load(Relaxed)
}

/// Runs `f` on this thread; a panic in it ends it and nothing else.
pub fn spawn(what: &'static str, f: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(Guarded { what, inner: Some(Box::pin(f)) });
}

struct Guarded<F> {
    what: &'static str,
    inner: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(f) = &mut self.inner else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| f.as_mut().poll(cx))) {
            Ok(p) => p,
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|s| (*s).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                let what = self.what;
                let inner = self.inner.take();
                // Dropping what is left may panic again.
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(inner)));
                let more = pipeline::finish_wrecks() + u64::from(dropped.is_err());
                PANICS.fetch_add(1 + more, Relaxed);
                log!(Logger::Main, Level::Critical, "panic in a {what}: {text}");
                Poll::Ready(())
            }
        }
    }
}

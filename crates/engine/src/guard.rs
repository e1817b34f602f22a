//! A panic ends one connection or stream, never the process: it is caught where the task is polled, counted and
//! logged; then what the exchange still owes (`on_done`, access logs) is done, each piece under a guard of its own.

use nuncio_core::{clock, log, pipeline};
use pin_project_lite::pin_project;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics caught since the start (`server.panics`).
pub fn panics() -> u64 {
    PANICS.load(Relaxed)
}

/// Runs `f` on this thread; a panic in it ends it and nothing else. Time stands still during each of its polls.
pub fn spawn(what: &'static str, f: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
    tokio::task::spawn_local(Guarded { what, inner: Some(f) })
}

pin_project! {
    struct Guarded<F> {
        what: &'static str,
        #[pin]
        inner: Option<F>,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _turn = clock::turn();
        let mut this = self.project();
        let Some(f) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| f.poll(cx))) {
            Ok(p) => p,
            Err(panic) => {
                // Dropping what is left may panic again.
                let dropped = catch_unwind(AssertUnwindSafe(|| this.inner.set(None)));
                let more = pipeline::finish_wrecks() + u64::from(dropped.is_err());
                count(this.what, &*panic, 1 + more);
                Poll::Ready(())
            }
        }
    }
}

/// What `f` returns; `None` when it panicked, which ends nothing else.
pub fn caught<R>(what: &str, f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| count(what, &*panic, 1)).ok()
}

fn count(what: &str, panic: &(dyn Any + Send), panics: u64) {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    PANICS.fetch_add(panics, Relaxed);
    log!(Main, Critical, "panic in a {what}: {text}");
}

//! Timers as futures.

use super::wheel::{self, Span};
use super::{TimerKind, now};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const UNREGISTERED: u32 = u32::MAX;

/// A timer that starts now. It costs nothing until it is polled for the first time; dropping it cancels it.
pub fn sleep(kind: TimerKind, after: Duration) -> Sleep {
    sleep_from(kind, now(), after)
}

/// As [`sleep`], for callers that know the time already.
pub fn sleep_from(kind: TimerKind, now: Instant, after: Duration) -> Sleep {
    Sleep { span: wheel::with(|w| w.span(now, after)), key: UNREGISTERED, kind, here: PhantomData }
}

/// A timer that fires at an instant.
pub fn sleep_until(kind: TimerKind, at: Instant) -> Sleep {
    let now = now();
    sleep_from(kind, now, at.saturating_duration_since(now))
}

/// A timer of this thread; a future that is ready when the time is over, until it is [`reset`](Sleep::reset).
pub struct Sleep {
    span: Span,
    key: u32,
    kind: TimerKind,
    /// A timer belongs to the wheel of its thread.
    here: PhantomData<*const ()>,
}

impl Sleep {
    /// Starts the timer anew, from now. Cheap when the new deadline is later than the old one.
    pub fn reset(&mut self, after: Duration) {
        self.reset_from(now(), after);
    }
    /// As [`reset`](Self::reset), for callers that know the time already.
    pub fn reset_from(&mut self, now: Instant, after: Duration) {
        let driver = wheel::with(|w| {
            self.span = w.span(now, after);
            if self.key == UNREGISTERED { None } else { w.reset(self.key, self.span) }
        });
        if let Some(driver) = driver {
            driver.wake();
        }
    }
    /// True when the time is over.
    pub fn is_elapsed(&self) -> bool {
        self.key != UNREGISTERED && wheel::with(|w| w.fired(self.key))
    }
    /// True when it was started at `at` or later, to the millisecond.
    pub fn began_since(&self, at: Instant) -> bool {
        wheel::with(|w| self.span.start >= w.tick_at(at))
    }
    /// A moment before which it does not fire, unless timers of its kind are scaled. `None`: beyond what the clock can
    /// express, or nothing is known.
    pub fn not_before(&self) -> Option<Instant> {
        wheel::with(|w| w.instant_of(self.span.end))
    }
    /// What the timer is for.
    pub fn kind(&self) -> TimerKind {
        self.kind
    }
}

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        if me.key != UNREGISTERED {
            // The waker this one replaces is dropped here, when the wheel is no longer borrowed.
            return match wheel::with(|w| w.poll(me.key, cx.waker())) {
                Ok(()) => Poll::Ready(()),
                Err(_replaced) => Poll::Pending,
            };
        }
        let waker = cx.waker().clone();
        let (key, driver) = wheel::with(|w| w.insert(me.kind, me.span, waker));
        me.key = key;
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if self.key != UNREGISTERED {
            let _waker = wheel::try_with(|w| w.remove(self.key));
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sleep({:?}, {} ms)", self.kind, self.span.end - self.span.start)
    }
}

/// The time was over before the future was ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

/// Drives `future` for at most `after`.
pub fn timeout<F: Future>(kind: TimerKind, after: Duration, future: F) -> Timeout<F> {
    Timeout { future: Box::pin(future), sleep: sleep(kind, after) }
}

/// See [`timeout`].
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(r) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(r));
        }
        Pin::new(&mut self.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

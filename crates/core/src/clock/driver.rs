//! What turns the wheel: one task per thread.

use super::{now, sim, wheel};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Fires this thread's timers, for ever. To be spawned once per runtime, before the first timer is polled.
///
/// It sleeps until the next slot of the wheel that is not empty; a timer that comes before it wakes this task, any
/// other does not. When the loop was busy and several slots are due, all of them fire. Under a simulated clock
/// it does nothing: there [`sim::Sim::advance`] turns the wheel.
pub async fn run_wheel() {
    let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let Some(at) = turn(cx) else { return Poll::Pending };
            alarm.as_mut().reset(at.into());
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Fires what is due and says when to come back; `None` when there is nothing to wait for but the first timer.
fn turn(cx: &mut Context<'_>) -> Option<Instant> {
    let waker = cx.waker().clone();
    if sim::now().is_some() {
        return None;
    }
    fire(now());
    let (at, _replaced) = wheel::with(|w| {
        let next = w.next_tick();
        w.programmed = next.unwrap_or(u64::MAX);
        (next.and_then(|t| w.instant_of(t)), w.driver.replace(waker))
    });
    at
}

/// Moves this thread's wheel to `now` and wakes who waited, when the wheel is no longer borrowed.
pub(super) fn fire(now: Instant) {
    let mut woken: Vec<Waker> = wheel::with(|w| {
        let mut woken = std::mem::take(&mut w.spare);
        let tick = w.tick_at(now);
        w.advance(tick, &mut woken);
        woken
    });
    for waker in woken.drain(..) {
        waker.wake();
    }
    wheel::with(|w| w.spare = woken);
}

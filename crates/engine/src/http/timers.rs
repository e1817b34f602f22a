//! What ends a stream that takes too long: `stream_idle_timeout`, `request_timeout`, `max_stream_duration`, and what
//! a route says about them.
//!
//! Only the idle timer is on by default. It is armed once and looked at lazily: activity only notes the time. The others
//! cost nothing while they are not configured.

use super::Hcm;
use super::stream::Downstream;
use crate::route::RouteEntry;
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::info::{Interrupt, StreamShared};
use nuncio_core::route::Route;
use nuncio_core::{Exchange, Flag, LocalReply};
use nuncio_wire::{HeaderMap, RequestHead, name};
use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// gRPC's `DEADLINE_EXCEEDED`.
const DEADLINE_EXCEEDED: u32 = 4;

/// What a route says about the duration of its streams.
#[derive(Clone, Debug, Default)]
pub struct RouteTimers {
    /// `RouteAction.idle_timeout`; zero switches the idle timeout off.
    pub idle: Option<Duration>,
    /// `RouteAction.flush_timeout`; zero switches it off.
    pub flush: Option<Duration>,
    /// `RouteAction.max_stream_duration`
    pub duration: Option<MaxDuration>,
}

/// `RouteAction.MaxStreamDuration`
#[derive(Clone, Debug, Default)]
pub struct MaxDuration {
    /// `max_stream_duration`; zero is no limit.
    pub limit: Option<Duration>,
    /// `grpc_timeout_header_max`: a request's `grpc-timeout` counts, up to this; zero is no limit.
    pub grpc_max: Option<Duration>,
    /// `grpc_timeout_header_offset`, taken off a request's `grpc-timeout`.
    pub grpc_offset: Option<Duration>,
}

/// Why a stream took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Late {
    /// `stream_idle_timeout`
    Idle,
    /// `request_headers_timeout`
    Headers,
    /// `request_timeout`
    Request,
    /// `max_stream_duration`
    Duration,
}

impl Late {
    /// Counts it and makes the reply: 408 while the request is incomplete, 504 afterwards.
    pub fn reply(self, hcm: &Hcm, complete: bool) -> LocalReply {
        let s = &hcm.stats;
        let (body, details) = match self {
            Late::Idle => {
                s.downstream_rq_idle_timeout().inc();
                ("stream timeout", "stream_idle_timeout")
            }
            Late::Headers => {
                s.downstream_rq_header_timeout().inc();
                ("request header timeout", "request_header_timeout")
            }
            Late::Request => {
                s.downstream_rq_timeout().inc();
                ("request timeout", "request_overall_timeout")
            }
            Late::Duration => {
                s.downstream_rq_max_duration_reached().inc();
                ("downstream duration timeout", "max_duration_timeout")
            }
        };
        let reply = LocalReply::new(if complete { 504 } else { 408 }, body, details);
        match self {
            Late::Idle => reply.flag(Flag::StreamIdleTimeout),
            Late::Duration => LocalReply { grpc_status: Some(DEADLINE_EXCEEDED), ..reply },
            _ => reply,
        }
    }
}

/// The timers of one stream.
pub struct Timers<'a> {
    hcm: &'a Hcm,
    idle: Option<Duration>,
    limits: Option<Box<Limits>>,
    /// `stream_flush_timeout`, once the whole response waits for the client.
    flush: Option<Box<Sleep>>,
}

/// The timers that are not usual.
struct Limits {
    began: Instant,
    request: Option<Sleep>,
    duration: Option<Sleep>,
    /// Where the idle timer rests when the route sets it.
    idle: Option<Option<Sleep>>,
    /// `access_log_flush_interval`: when the next entry is due.
    log: Option<Sleep>,
    /// The route whose timers hold, as its address; only compared.
    route: Option<*const ()>,
}

impl<'a> Timers<'a> {
    /// Timers of a stream that begins.
    pub fn new(hcm: &'a Hcm, ex: &mut Exchange, d: &impl Downstream) -> Timers<'a> {
        let t = &hcm.timeouts;
        let mut timers = Timers { hcm, idle: t.stream_idle, limits: None, flush: None };
        let every = hcm.plan.log_every;
        if t.request.is_none() && t.max_stream.is_none() && every.is_none() && !hcm.routes_set_timers() {
            return timers;
        }
        let began = d.began().unwrap_or(ex.sx.info.start);
        let sleep = |t: Duration| clock::sleep_until(TimerKind::Other, began + t);
        timers.limits = Some(Box::new(Limits {
            began,
            request: t.request.filter(|_| ex.sx.info.times.ds_rx_end.get().is_none()).map(sleep),
            duration: t.max_stream.map(sleep),
            idle: None,
            log: every.map(|t| clock::sleep(TimerKind::Other, t)),
            route: None,
        }));
        if every.is_some() {
            *ex.sx.shown.borrow_mut() = Some(Box::new(ex.request.clone()));
        }
        if hcm.routes_set_timers() {
            let route = ex.sx.current_route();
            timers.route(route, Some(&mut ex.request));
        }
        timers
    }

    /// A route was chosen: what it says holds instead of what the connection manager says.
    fn route(&mut self, route: Option<Arc<dyn Route>>, head: Option<&mut RequestHead>) {
        let Some(l) = &mut self.limits else { return };
        let address = route.as_ref().map(|r| Arc::as_ptr(r).cast::<()>());
        if address == l.route {
            return;
        }
        l.route = address;
        let Some(route) = route.and_then(<dyn Route>::downcast::<RouteEntry>) else { return };
        let Some(timers) = route.action.timers() else { return };
        if let Some(idle) = timers.idle {
            self.idle = Some(idle).filter(|t| !t.is_zero());
            l.idle = Some(None);
        }
        let limit = match &timers.duration {
            None => self.hcm.timeouts.max_stream,
            Some(d) => d.limit(head, self.hcm.timeouts.max_stream),
        };
        l.duration = limit.map(|t| clock::sleep_until(TimerKind::Other, l.began + t));
    }

    /// True when the access log is to have an entry now, of a stream that goes on.
    pub fn log_due(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(l), Some(every)) = (&mut self.limits, self.hcm.plan.log_every) else { return false };
        let Some(sleep) = &mut l.log else { return false };
        let due = Pin::new(&mut *sleep).poll(cx).is_ready();
        if due {
            // From now on, as in Envoy: an entry that came late puts off the next.
            *sleep = clock::sleep(TimerKind::Other, every);
            let _ = Pin::new(sleep).poll(cx); // it is not over yet
        }
        due
    }

    /// The response is complete, but the client does not take its rest: ready when that takes too long.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, sx: &StreamShared, d: &impl Downstream) -> Poll<()> {
        if self.flush.is_none() {
            let Some(limit) = d.flush_timeout(self.flush_timeout(sx)).filter(|t| !t.is_zero()) else {
                return Poll::Pending;
            };
            self.flush = Some(Box::new(clock::sleep(TimerKind::Other, limit)));
        }
        self.flush.as_mut().map_or(Poll::Pending, |s| Pin::new(&mut **s).poll(cx))
    }
    /// `flush_timeout` of the route, else `stream_flush_timeout`, else whatever holds of `idle_timeout`.
    fn flush_timeout(&self, sx: &StreamShared) -> Option<Duration> {
        let t = &self.hcm.timeouts;
        let route = match self.hcm.routes_set_timers() {
            true => sx.current_route().and_then(<dyn Route>::downcast::<RouteEntry>),
            false => None,
        };
        let timers = route.as_ref().and_then(|r| r.action.timers());
        timers
            .and_then(|r| r.flush)
            .or(t.stream_flush)
            .or_else(|| timers.and_then(|r| r.idle))
            .or(t.stream_idle)
    }

    /// Interrupts the stream when it took too long. `idle` is where the idle timer rests.
    pub fn poll(&mut self, cx: &mut Context<'_>, sx: &StreamShared, idle: &RefCell<Option<Sleep>>) {
        if self.limits.is_some() {
            self.poll_limits(cx, sx);
        }
        let Some(timeout) = self.idle else { return };
        let idled = match self.limits.as_mut().and_then(|l| l.idle.as_mut()) {
            Some(own) => poll_idle(own, timeout, cx, sx),
            None => poll_idle(&mut idle.borrow_mut(), timeout, cx, sx),
        };
        if idled {
            self.idle = None;
            self.late(Late::Idle, cx, sx);
        }
    }

    fn poll_limits(&mut self, cx: &mut Context<'_>, sx: &StreamShared) {
        if self.hcm.routes_set_timers() {
            self.route(sx.current_route(), None);
        }
        let Some(l) = &mut self.limits else { return };
        if l.request.is_some() && sx.info.times.ds_rx_end.get().is_some() {
            l.request = None;
        }
        let mut ended = |s: &mut Option<Sleep>| {
            let ready = s.as_mut().is_some_and(|s| Pin::new(s).poll(cx).is_ready());
            if ready {
                *s = None;
            }
            ready
        };
        if ended(&mut l.request) {
            self.late(Late::Request, cx, sx);
        } else if ended(&mut l.duration) {
            self.late(Late::Duration, cx, sx);
        }
    }

    fn late(&self, why: Late, cx: &Context<'_>, sx: &StreamShared) {
        let reply = why.reply(self.hcm, sx.info.times.ds_rx_end.get().is_some());
        sx.interrupt(Interrupt::Reply(Box::new(reply)));
        cx.waker().wake_by_ref();
    }
}

/// True when nothing has moved for `timeout`.
fn poll_idle(timer: &mut Option<Sleep>, timeout: Duration, cx: &mut Context<'_>, sx: &StreamShared) -> bool {
    loop {
        let sleep = timer.get_or_insert_with(|| clock::sleep(TimerKind::HttpDownstreamStreamIdle, timeout));
        if Pin::new(&mut *sleep).poll(cx).is_pending() {
            return false;
        }
        // Not by the clock: overload may have shortened the timer.
        let active = sx.info.active.get();
        if sleep.began_since(active) {
            return true;
        }
        sleep.reset_from(active, timeout);
    }
}

impl MaxDuration {
    /// The limit of a stream; `default` is the connection manager's. Tells the host by `grpc-timeout`, as Envoy does.
    fn limit(&self, head: Option<&mut RequestHead>, default: Option<Duration>) -> Option<Duration> {
        let asked = head.as_ref().and_then(|h| grpc_timeout(&h.headers));
        let limit = match (asked, self.grpc_max) {
            (Some(mut t), Some(max)) => {
                if t > max && !max.is_zero() {
                    t = max;
                }
                Some(t.saturating_sub(self.grpc_offset.unwrap_or_default()))
            }
            _ => match self.limit {
                Some(t) => Some(t).filter(|t| !t.is_zero()),
                None => default,
            },
        };
        if let Some(head) = head.filter(|h| h.is_grpc()) {
            match limit {
                Some(t) => head.headers.set(name::GRPC_TIMEOUT, &grpc_timeout_text(t)),
                None if default.is_some() => drop(head.headers.remove(name::GRPC_TIMEOUT)),
                None => {}
            }
        }
        limit
    }
}

/// The value of `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
pub fn grpc_timeout(h: &HeaderMap) -> Option<Duration> {
    let v = h.get(name::GRPC_TIMEOUT)?;
    let (unit, digits) = v.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        // Envoy counts milliseconds, and rounds up.
        b'u' => Duration::from_millis(n.div_ceil(1000)),
        b'n' => Duration::from_millis(n.div_ceil(1_000_000)),
        _ => return None,
    })
}

/// A duration as `grpc-timeout` says it, in the finest unit that it fits.
pub fn grpc_timeout_text(t: Duration) -> Vec<u8> {
    let mut n = t.as_millis();
    for (unit, size) in [('m', 1000), ('S', 60), ('M', 60)] {
        if n < 100_000_000 {
            return format!("{n}{unit}").into_bytes();
        }
        n /= size;
    }
    format!("{}H", n.min(99_999_999)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(timeout: &str) -> RequestHead {
        let headers = [("content-type", "application/grpc"), ("grpc-timeout", timeout)].into_iter().collect();
        RequestHead { headers, ..Default::default() }
    }

    #[test]
    fn grpc_timeouts_are_read() {
        let read = |s: &str| grpc_timeout(&head(s).headers).map(|d| d.as_millis());
        assert_eq!(read("2H"), Some(7_200_000));
        assert_eq!(read("3M"), Some(180_000));
        assert_eq!(read("4S"), Some(4000));
        assert_eq!(read("5m"), Some(5));
        assert_eq!(read("1500u"), Some(2));
        assert_eq!(read("1n"), Some(1));
        for bad in ["", "m", "5", "123456789m", "-1m", "5x", "5 m"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn grpc_timeouts_are_written() {
        let text = |ms| String::from_utf8(grpc_timeout_text(Duration::from_millis(ms))).expect("text");
        assert_eq!(text(0), "0m");
        assert_eq!(text(99_999_999), "99999999m");
        assert_eq!(text(100_000_000), "100000S");
        assert_eq!(text(100_000_000_000), "1666666M");
    }

    #[test]
    fn a_route_limits_what_a_request_asks_for() {
        let ms = Duration::from_millis;
        let rule = |max, offset| MaxDuration { limit: Some(ms(9)), grpc_max: max, grpc_offset: offset };
        let ask = |r: MaxDuration, timeout: &str| {
            let mut h = head(timeout);
            let limit = r.limit(Some(&mut h), Some(ms(7)));
            (limit, h.headers.get_str(name::GRPC_TIMEOUT).map(str::to_owned))
        };
        assert_eq!(ask(rule(Some(ms(100)), None), "50m"), (Some(ms(50)), Some("50m".into())));
        assert_eq!(ask(rule(Some(ms(100)), None), "1S"), (Some(ms(100)), Some("100m".into())));
        assert_eq!(ask(rule(Some(ms(0)), None), "1S"), (Some(ms(1000)), Some("1000m".into())));
        assert_eq!(ask(rule(Some(ms(100)), Some(ms(20))), "50m"), (Some(ms(30)), Some("30m".into())));
        assert_eq!(ask(rule(None, None), "50m"), (Some(ms(9)), Some("9m".into())));
        let off = MaxDuration { limit: Some(ms(0)), ..Default::default() };
        assert_eq!(ask(off, "50m"), (None, None));
        assert_eq!(ask(MaxDuration::default(), "x"), (Some(ms(7)), Some("7m".into())));
    }
}

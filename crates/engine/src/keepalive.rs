//! Whether a silent HTTP/2 peer is still there (`envoy.config.core.v3.KeepaliveSettings`): a PING now and then, and an end
//! to the connection whose peer does not answer.

use crate::mux::Mux;
use crate::proto::duration;
use nuncio_api::envoy::config::core::v3::KeepaliveSettings;
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::rng;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

pub(crate) const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.KeepaliveSettings",
        &["interval", "timeout", "interval_jitter", "connection_idle_interval"],
    ),
    Covered::new("envoy.type.v3.Percent", &["value"]),
];

/// `connection_keepalive`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KeepalivePlan {
    /// `interval`: a PING after so long, and after each answer; `None`: none of these.
    interval: Option<Duration>,
    /// `timeout`: how long the peer may say nothing after a PING.
    timeout: Duration,
    /// `interval_jitter`, in percent of the interval.
    jitter: f64,
    /// `connection_idle_interval`: a PING ahead of a stream, when nothing came for so long. Clients only.
    idle: Option<Duration>,
}

impl KeepalivePlan {
    /// The plan that a message describes.
    ///
    /// # Errors
    /// A duration is negative.
    pub fn new(k: &KeepaliveSettings) -> BuildResult<KeepalivePlan> {
        // Whole milliseconds, as Envoy takes them.
        let ms = |d: &Option<_>| -> BuildResult<_> {
            let d = duration(d)?.map(|d| Duration::from_millis(d.as_millis() as u64));
            Ok(d.filter(|d| !d.is_zero()))
        };
        Ok(KeepalivePlan {
            interval: ms(&k.interval)?,
            timeout: ms(&k.timeout)?.unwrap_or_default(),
            jitter: k.interval_jitter.as_ref().map_or(15.0, |p| p.value),
            idle: ms(&k.connection_idle_interval)?,
        })
    }
}

/// The timers of one connection.
pub struct Keepalive {
    plan: KeepalivePlan,
    /// Until the next PING.
    next: Option<Sleep>,
    /// Until the peer is given up; armed while an answer is due.
    answer: Option<Sleep>,
    /// When something came last.
    heard: Instant,
}

impl Keepalive {
    /// For a connection just made.
    pub fn new(plan: KeepalivePlan) -> Keepalive {
        let mut k = Keepalive { plan, next: None, answer: None, heard: clock::now() };
        k.rest();
        k
    }
    /// No answer is due: waits for the next interval.
    fn rest(&mut self) {
        self.answer = None;
        self.next = self.plan.interval.map(|i| {
            let most = (self.plan.jitter * i.as_millis() as f64 / 100.0) as u64;
            let more = if most > 0 { rng::u64() % most } else { 0 };
            clock::sleep(TimerKind::Other, i + Duration::from_millis(more))
        });
    }
    /// A stream is about to begin: after a long silence a PING goes ahead of it.
    pub fn before_stream(&mut self, mux: &Mux) {
        if self.plan.idle.is_some_and(|i| clock::now().saturating_duration_since(self.heard) > i) {
            self.ping(mux);
        }
    }
    fn ping(&mut self, mux: &Mux) {
        if self.answer.is_some() {
            return; // one is under way, and tells as much
        }
        let now = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        mux.codec(|c| c.ping((now.as_millis() as u64).to_be_bytes()));
        self.answer = Some(clock::sleep(TimerKind::Other, self.plan.timeout));
    }
    /// To be called by the connection's driver after reading. `received`: bytes came. Ready when the peer is gone.
    pub fn poll(&mut self, cx: &mut Context<'_>, mux: &Mux, received: bool) -> Poll<()> {
        let pong = mux.take_pong();
        if received {
            self.heard = clock::now();
        }
        if pong {
            self.rest();
        } else if received && let Some(answer) = &mut self.answer {
            // Whatever comes shows that the peer lives; its answer may stand in line behind it.
            answer.reset(self.plan.timeout);
        }
        if self.next.as_mut().is_some_and(|s| Pin::new(s).poll(cx).is_ready()) {
            self.next = None;
            self.ping(mux);
        }
        match &mut self.answer {
            Some(answer) => Pin::new(answer).poll(cx),
            None => Poll::Pending,
        }
    }
}

//! Retries: a request that failed, or was answered badly, is sent again, perhaps to another host.
//!
//! In the order of what happens: a [`policy`] is compiled on main, from [`conditions`]; a request that a policy or a
//! header of its own speaks of gets [`Tries`]: its [`state`] decides after each attempt, the body that may be sent again is
//! kept by [`replay`], and [`again`] waits, chooses a host and makes the next attempt, perhaps while one goes on that took too
//! long ([`hedge`]). Requests without a policy pay
//! for one look at their headers.

pub(super) mod again;
pub mod conditions;
mod hedge;
pub mod policy;
pub mod replay;
pub mod state;
#[cfg(test)]
mod tests;

use super::charge::Account;
use super::replies;
use crate::upstream::local::LocalHost;
use nuncio_core::LocalReply;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::error::ResetReason;
use nuncio_core::info::StreamShared;
use nuncio_wire::{IdSet, RequestHead, name};
pub use policy::{Predicate, RetryPolicy};
use replay::Replay;
use state::Retry;
pub use state::RetryRuntime;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Headers by which a request asks for retries or a timeout of each try; no host sees them.
const ASKING: IdSet = IdSet::new(&[
    name::X_ENVOY_RETRY_ON,
    name::X_ENVOY_RETRY_GRPC_ON,
    name::X_ENVOY_MAX_RETRIES,
    name::X_ENVOY_RETRIABLE_HEADER_NAMES,
    name::X_ENVOY_RETRIABLE_STATUS_CODES,
    name::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
    name::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
]);

/// How long a try took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Late {
    /// `per_try_timeout`: its response did not begin.
    Timeout,
    /// `per_try_idle_timeout`: nothing came from its host.
    Idle,
}

impl Late {
    /// What the client is told when there is no other try.
    pub fn reply(self, status: u16) -> LocalReply {
        let details = match self {
            Late::Timeout => "upstream_per_try_timeout",
            Late::Idle => "upstream_per_try_idle_timeout",
        };
        replies::timeout(status, details)
    }
    /// Counts it.
    pub fn count(self, account: &Account, host: &LocalHost) {
        let s = &account.cluster.plan.stats;
        match self {
            Late::Timeout => s.upstream_rq_per_try_timeout().inc(),
            Late::Idle => s.upstream_rq_per_try_idle_timeout().inc(),
        }
        crate::upstream::host::HostCounters::inc(&host.host.counters.rq_timeout);
    }
}

/// What a request keeps that may be tried more than once, or whose tries have timeouts of their own.
pub struct Tries {
    /// `None`: it is tried once.
    retry: Option<Retry>,
    /// Its response may send it elsewhere (`internal_redirect_policy`).
    redirects: bool,
    replay: Option<Rc<Replay>>,
    each: Each,
    idle: Option<Duration>,
    timers: Option<(Option<Sleep>, Option<Sleep>)>,
}

/// How long each try of a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Each {
    /// `None` is no limit.
    pub timeout: Option<Duration>,
    /// It is not given up then, but goes on beside the next (`hedge_on_per_try_timeout`).
    pub hedge: bool,
}

impl Each {
    /// What a host is told about it: one that is waited for has the time of the whole request.
    pub fn told(self) -> Option<Duration> {
        self.timeout.filter(|_| !self.hedge)
    }
}

impl Tries {
    /// Takes the headers that ask for something, and says what a request is to get.
    pub fn new(
        policy: Option<&Arc<RetryPolicy>>,
        head: &mut RequestHead,
        each: Each,
        priority: usize,
        account: &Account,
        rt: &RetryRuntime,
        redirects: bool,
    ) -> Option<Box<Tries>> {
        let asks = head.headers.contains_any(&ASKING);
        if policy.is_none() && each.timeout.is_none() && !asks && !redirects {
            return None;
        }
        let idle = policy.and_then(|p| p.more.as_ref()).and_then(|m| m.per_try_idle_timeout);
        let retry = Retry::new(policy, head, &account.cluster.plan.breakers[priority], rt);
        if asks {
            head.headers.remove_all(&ASKING);
        }
        (retry.is_some() || each.timeout.is_some() || idle.is_some() || redirects)
            .then(|| Box::new(Tries { retry, redirects, replay: None, each, idle, timers: None }))
    }
    /// How long each try may take.
    pub fn each(&self) -> Each {
        self.each
    }
    /// The present try may take as long as it likes.
    pub fn untimed(&mut self) {
        self.timers = Some((None, None));
    }
    /// Keeps what is read of `body` from now on, up to `limit` bytes, if it may be needed again.
    pub fn keep(&mut self, body: &mut Body, limit: usize, account: &Account) {
        if (self.redirects || self.retry.as_ref().is_some_and(Retry::enabled)) && !body.is_end() {
            let replay = Replay::new(body.take(), limit, account.cluster.plan.stats.clone());
            *body = replay.reader();
            self.replay = Some(replay);
        }
    }
    /// Tells a pump whether its attempt is still the present one.
    pub fn turn(&self) -> Option<Turn> {
        self.replay.as_ref().map(Turn::of)
    }
    /// The retries, unless more of the request came than could be kept.
    pub fn retry(&mut self) -> Option<&mut Retry> {
        if self.replay.as_ref().is_some_and(|r| r.is_spent()) {
            self.retry = None;
        }
        self.retry.as_mut()
    }
    /// The request's body is kept, as far as it was sent.
    pub fn keeps(&self) -> bool {
        self.replay.is_some()
    }
    /// More of the body came than could be kept.
    pub fn is_spent(&self) -> bool {
        self.replay.as_ref().is_some_and(|r| r.is_spent())
    }
    /// The policy has the request sent again after its exchange ended so.
    pub fn will_retry(&mut self, reason: ResetReason) -> bool {
        self.retry().is_some_and(|r| r.will_retry(reason))
    }
    /// An attempt begins.
    pub fn begin(&mut self, host: &Rc<LocalHost>) {
        self.timers = None;
        if let Some(r) = &mut self.retry {
            r.tries(host);
        }
    }
    /// Waits between two attempts; what arrives of the request meanwhile is kept.
    ///
    /// # Errors
    /// More came than can be kept.
    pub async fn pause(&self, wait: Sleep, sx: &StreamShared) -> Result<(), LocalReply> {
        match &self.replay {
            Some(r) => r.pause(wait, sx).await,
            None => {
                wait.await;
                Ok(())
            }
        }
    }
    /// The request's body from its beginning.
    pub fn body(&self) -> Option<Body> {
        self.replay.as_ref().map(Replay::reader)
    }
    /// All data of the request's body, once it was read to its end.
    pub fn whole(&self) -> Body {
        self.replay.as_ref().map(|r| r.whole()).unwrap_or_default()
    }
    /// An attempt is given up.
    pub fn leave(&mut self) {
        if let Some(r) = &self.replay {
            r.leave();
        }
    }
    /// The response is final: its body, of which every piece must come in time.
    pub fn into_body(self, body: Body, account: &Account, host: &Rc<LocalHost>) -> Body {
        if let Some(r) = &self.replay {
            r.release();
        }
        let Some(idle) = self.idle.filter(|_| !body.is_end()) else { return body };
        let sleep = clock::sleep(TimerKind::Other, idle);
        let (account, host) = (account.clone(), host.clone());
        Body::source(Timed { body, idle, sleep, late: Box::new(move || Late::Idle.count(&account, &host)) })
    }
    /// A connection is there: times the try, as soon as the request has been sent.
    pub fn poll_late(&mut self, cx: &mut Context<'_>, sx: &StreamShared) -> Poll<Late> {
        if self.timers.is_none() && sx.info.times.us_tx_end.get().is_some() {
            let sleep = |t| clock::sleep(TimerKind::Other, t);
            self.timers = Some((self.each.timeout.map(sleep), self.idle.map(sleep)));
        }
        let Some((timeout, idle)) = &mut self.timers else { return Poll::Pending };
        let mut over = |s: &mut Option<Sleep>| s.as_mut().is_some_and(|s| Pin::new(s).poll(cx).is_ready());
        if over(timeout) {
            return Poll::Ready(Late::Timeout);
        }
        if over(idle) { Poll::Ready(Late::Idle) } else { Poll::Pending }
    }
}

/// Whose turn it is to read the request's body.
pub struct Turn {
    replay: Rc<Replay>,
    turn: u32,
}

impl Turn {
    /// The present one.
    pub fn of(replay: &Rc<Replay>) -> Turn {
        Turn { turn: replay.turn(), replay: replay.clone() }
    }
    /// Another attempt reads now.
    pub fn is_over(&self) -> bool {
        self.replay.turn() != self.turn
    }
}

/// A response's body under `per_try_idle_timeout`.
struct Timed {
    body: Body,
    idle: Duration,
    sleep: Sleep,
    late: Box<dyn Fn()>,
}

impl BodySource for Timed {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.body.poll_frame(cx, sx);
        if frame.is_ready() {
            self.sleep.reset(self.idle);
            return frame;
        }
        if Pin::new(&mut self.sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        (self.late)();
        self.body = Body::Empty;
        Poll::Ready(Some(Err(BodyError::Reply(Box::new(Late::Idle.reply(504))))))
    }
    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

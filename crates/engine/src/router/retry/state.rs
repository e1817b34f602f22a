//! Whether a request is sent once more, and when: the state of one request's retries.

use super::conditions::RetryOn;
use super::policy::{Hosts, More, RetryPolicy};
use crate::router::charge::Account;
use crate::upstream::breakers::Breakers;
use crate::upstream::host::Host;
use crate::upstream::lb::previous::PreviousPriorities;
use crate::upstream::lb::subset;
use crate::upstream::lb::subset_config::Criterion;
use crate::upstream::local::LocalHost;
use nuncio_core::error::ResetReason;
use nuncio_core::runtime::{Runtime, RuntimeNumber};
use nuncio_core::{clock, rng};
use nuncio_wire::{HeaderName, RequestHead, ResponseHead, name};

use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What the runtime says about retries.
#[derive(Clone, Debug)]
pub struct RetryRuntime {
    /// `upstream.base_retry_backoff_ms`
    pub base_ms: RuntimeNumber,
    /// `upstream.use_retry`, in percent.
    pub use_retry: RuntimeNumber,
    /// `nuncio.upstream.replay`, in percent: requests whose connection had gone are sent again.
    pub replay: RuntimeNumber,
}

impl RetryRuntime {
    /// Reads from this runtime.
    pub fn new(r: &Runtime) -> RetryRuntime {
        RetryRuntime {
            base_ms: r.number("upstream.base_retry_backoff_ms", 25),
            use_retry: r.number("upstream.use_retry", 100),
            replay: r.number("nuncio.upstream.replay", 100),
        }
    }
}

/// What an answer or a failure calls for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is final.
    Final,
    /// Try again after a while.
    BackOff,
    /// Try again at once (425).
    AtOnce,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is final.
    Final,
    /// It is final, and the retry before it made it better.
    Succeeded,
    /// Try again after this time.
    Again(Duration, Wait),
    /// It would be tried again, but too many retries are under way.
    Overflow,
    /// It would be tried again, but was tried often enough.
    LimitExceeded,
}

/// Who says how long to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// There is no reason to.
    No,
    /// The policy.
    Exponential,
    /// The response.
    RateLimited,
}

impl Verdict {
    /// Counts it for the cluster, the virtual cluster and the route.
    pub fn count(self, account: &Account) {
        let s = &account.cluster.plan.stats;
        match self {
            Verdict::Final => {}
            Verdict::Succeeded => {
                s.upstream_rq_retry_success().inc();
                account.requests().for_each(|r| r.upstream_rq_retry_success().inc());
            }
            Verdict::Overflow => {
                s.upstream_rq_retry_overflow().inc();
                account.requests().for_each(|r| r.upstream_rq_retry_overflow().inc());
            }
            Verdict::LimitExceeded => {
                s.upstream_rq_retry_limit_exceeded().inc();
                account.requests().for_each(|r| r.upstream_rq_retry_limit_exceeded().inc());
            }
            Verdict::Again(_, wait) => {
                s.upstream_rq_retry().inc();
                account.requests().for_each(|r| r.upstream_rq_retry().inc());
                match wait {
                    Wait::No => {}
                    Wait::Exponential => s.upstream_rq_retry_backoff_exponential().inc(),
                    Wait::RateLimited => s.upstream_rq_retry_backoff_ratelimited().inc(),
                }
            }
        }
    }
}

/// One of the retries that a breaker allows; given back when dropped.
struct Permit(Arc<Breakers>);

impl Permit {
    fn take(b: &Arc<Breakers>) -> Option<Permit> {
        b.try_take_retry().then(|| Permit(b.clone()))
    }
}
impl Drop for Permit {
    fn drop(&mut self) {
        self.0.retries.give();
    }
}

/// What calls for a retry of one request.
#[derive(Clone)]
pub struct Calls {
    on: RetryOn,
    policy: Option<Arc<RetryPolicy>>,
    /// From `x-envoy-retriable-status-codes`.
    codes: Vec<u32>,
    /// From `x-envoy-retriable-header-names`.
    headers: Vec<HeaderName>,
}

impl Calls {
    /// What a response calls for; `early`: the request came as early data (RFC 8470).
    pub fn on_head(&self, head: &ResponseHead, early: bool) -> Decision {
        let again = |yes| if yes { Decision::BackOff } else { Decision::Final };
        if head.headers.contains(name::X_ENVOY_RATELIMITED) {
            return again(self.on.any(RetryOn::ENVOY_RATELIMITED));
        }
        let status = head.status;
        if (500..600).contains(&status) && self.on.any(RetryOn::FIVE_XX)
            || matches!(status, 502..=504) && self.on.any(RetryOn::GATEWAY_ERROR)
            || status == 409 && self.on.any(RetryOn::RETRIABLE_4XX)
        {
            return Decision::BackOff;
        }
        let more = self.policy.as_ref().and_then(|p| p.more.as_deref());
        if self.on.any(RetryOn::RETRIABLE_STATUS_CODES) {
            let mut codes = more.iter().flat_map(|m| m.status_codes.iter()).chain(&self.codes);
            if codes.any(|c| *c == u32::from(status)) {
                const TOO_EARLY: u16 = 425;
                if status != TOO_EARLY {
                    return Decision::BackOff;
                }
                // RFC 8470: it is for the client to send again what it sent as early data.
                if !early {
                    return Decision::AtOnce;
                }
            }
        }
        if self.on.any(RetryOn::RETRIABLE_HEADERS)
            && (more.is_some_and(|m| m.headers.iter().any(|m| m.matches(head)))
                || self.headers.iter().any(|n| head.headers.contains(n)))
        {
            return Decision::BackOff;
        }
        let grpc = head.headers.get_str(name::GRPC_STATUS).and_then(|v| v.trim().parse().ok());
        again(grpc.is_some_and(|status| self.on.any(RetryOn::of_grpc_status(status))))
    }
}

/// The retries of one request.
pub struct Retry {
    calls: Calls,
    remaining: u32,
    breakers: Arc<Breakers>,
    /// The next interval and the longest, in milliseconds.
    interval: (u64, u64),
    /// Held from the decision to retry until the next decision.
    permit: Option<Permit>,
    /// Bytes have been sent to some host.
    pub started: bool,
    /// Most requests are sent once.
    tried: SmallVec<[Rc<LocalHost>; 2]>,
    /// `retry_priority`
    priorities: Option<Box<PreviousPriorities>>,
}

impl Retry {
    /// The retries that a policy and the request's headers allow; `None` when neither asks for any.
    pub fn new(
        policy: Option<&Arc<RetryPolicy>>,
        head: &RequestHead,
        breakers: &Arc<Breakers>,
        rt: &RetryRuntime,
    ) -> Option<Retry> {
        let h = &head.headers;
        let (on, grpc_on) = (h.get_str(name::X_ENVOY_RETRY_ON), h.get_str(name::X_ENVOY_RETRY_GRPC_ON));
        let configured = policy.map(|p| p.on).unwrap_or_default();
        if configured.is_empty() && on.is_none() && grpc_on.is_none() {
            return None;
        }
        let more = policy.and_then(|p| p.more.as_deref());
        let asked =
            on.map(RetryOn::http).unwrap_or_default() | grpc_on.map(RetryOn::grpc).unwrap_or_default();
        let calls = Calls { on: configured | asked, policy: policy.cloned(), codes: vec![], headers: vec![] };
        let mut r = Retry {
            calls,
            remaining: policy.map_or(1, |p| p.num_retries),
            breakers: breakers.clone(),
            interval: more.and_then(|m| m.back_off).unwrap_or_else(|| {
                let base = rt.base_ms.get().max(1);
                (base, base.saturating_mul(10))
            }),
            permit: None,
            started: false,
            tried: SmallVec::new(),
            priorities: more.and_then(|m| m.priorities_every).map(|n| Box::new(PreviousPriorities::new(n))),
        };
        if let Some(m) = more.filter(|m| !m.request_headers.is_empty())
            && !m.request_headers.iter().any(|m| m.matches(head))
        {
            r.calls.on = RetryOn::default();
        }
        let number = |v: &str| v.trim().parse::<u64>().ok();
        if let Some(n) = h.get_str(name::X_ENVOY_MAX_RETRIES).and_then(number)
            && !r.calls.on.is_empty()
        {
            r.remaining = u32::try_from(n).unwrap_or(u32::MAX);
        }
        if let Some(codes) = h.get_str(name::X_ENVOY_RETRIABLE_STATUS_CODES) {
            r.calls.codes = codes.split(',').filter_map(|c| c.trim().parse().ok()).collect();
        }
        if let Some(names) = h.get_str(name::X_ENVOY_RETRIABLE_HEADER_NAMES) {
            let names = names.split(',').map(str::trim).filter(|n| !n.is_empty());
            r.calls.headers = names.map(HeaderName::new).collect();
        }
        Some(r)
    }
    /// The request may be sent more than once, so what was sent must be kept.
    pub fn enabled(&self) -> bool {
        !self.calls.on.is_empty()
    }
    /// The end of an exchange for `reason` leads to a retry, if the breakers allow one.
    pub fn will_retry(&self, reason: ResetReason) -> bool {
        self.remaining > 0 && self.on_reset(reason) != Decision::Final
    }
    /// A host is about to be tried.
    pub fn tries(&mut self, host: &Rc<LocalHost>) {
        if self.hosts().previous {
            self.tried.push(host.clone());
        }
        if let Some(p) = &self.priorities {
            p.tries(host.host.clone());
        }
    }
    /// Which priorities the next attempt goes to.
    pub fn priorities(&self) -> Option<&PreviousPriorities> {
        self.priorities.as_deref()
    }
    fn more(&self) -> Option<&More> {
        self.calls.policy.as_ref()?.more.as_deref()
    }
    fn hosts(&self) -> Hosts {
        self.more().map(|m| m.hosts).unwrap_or_default()
    }
    /// How often a host may be rejected in one choice.
    pub fn host_attempts(&self) -> u32 {
        self.hosts().attempts.max(1)
    }
    /// Another host would be better.
    pub fn rejects(&self, host: &Arc<Host>) -> bool {
        let hosts = self.hosts();
        let same = |h: &Rc<LocalHost>| Arc::ptr_eq(&h.host, host);
        let omitted = |all: &Vec<Criterion>| all.iter().all(|c| subset::has(host, c, true));
        hosts.canaries && host.info.canary
            || hosts.previous && self.tried.iter().any(same)
            || self.more().is_some_and(|m| m.omitted.iter().any(omitted))
    }

    /// What a response calls for.
    pub fn on_head(&self, head: &ResponseHead, request: &RequestHead) -> Decision {
        self.calls.on_head(head, request.headers.contains("early-data"))
    }
    /// What calls for a retry.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }
    /// What the end of an exchange before its response calls for.
    pub fn on_reset(&self, reason: ResetReason) -> Decision {
        use ResetReason::{ConnectionTimeout, LocalConnectionFailure, RemoteConnectionFailure};
        let never = matches!(reason, ResetReason::Overflow | ResetReason::PendingOverflow);
        let connecting =
            matches!(reason, LocalConnectionFailure | RemoteConnectionFailure | ConnectionTimeout);
        let always = RetryOn::RESET | RetryOn::FIVE_XX | RetryOn::GATEWAY_ERROR;
        let again = !never
            && (connecting && self.calls.on.any(RetryOn::CONNECT_FAILURE)
                || !self.started && self.calls.on.any(RetryOn::RESET_BEFORE_REQUEST)
                || self.calls.on.any(always)
                || reason == ResetReason::RemoteRefusedStream && self.calls.on.any(RetryOn::REFUSED_STREAM));
        if again { Decision::BackOff } else { Decision::Final }
    }

    /// Decides, and takes what a retry needs. `head`: the response, which may say when to come again.
    pub fn decide(&mut self, d: Decision, head: Option<&ResponseHead>, rt: &RetryRuntime) -> Verdict {
        if d == Decision::Final {
            return if self.permit.take().is_some() { Verdict::Succeeded } else { Verdict::Final };
        }
        if self.remaining == 0 {
            // A hedged try goes on and may still succeed, so it keeps what it has taken.
            return Verdict::LimitExceeded;
        }
        self.permit = None;
        self.remaining -= 1;
        let Some(permit) = Permit::take(&self.breakers) else { return Verdict::Overflow };
        if !rt.use_retry.percent() {
            return Verdict::Final;
        }
        self.permit = Some(permit);
        let (ms, wait) = match head.and_then(|h| self.told_to_wait(h)) {
            _ if d == Decision::AtOnce => (0, Wait::No),
            Some(ms) => (ms + rng::below(ms / 2), Wait::RateLimited),
            None => (self.next_interval(), Wait::Exponential),
        };
        Verdict::Again(Duration::from_millis(ms), wait)
    }
    /// Full jitter: anything below an interval that doubles each time.
    fn next_interval(&mut self) -> u64 {
        let (now, max) = self.interval;
        self.interval.0 = if now < max.div_ceil(2) { now * 2 } else { max };
        rng::below(now.max(1))
    }
    /// When the response says to come again, in milliseconds; more than 1.
    fn told_to_wait(&self, head: &ResponseHead) -> Option<u64> {
        let limited = self.calls.policy.as_ref()?.more.as_ref()?.rate_limited.as_ref()?;
        let parse = |h: &super::policy::ResetHeader| {
            let seconds: u64 = head.headers.get_str(&h.name)?.trim().parse().ok()?;
            let seconds = match h.unix_timestamp {
                true => seconds.checked_sub(unix_now())?,
                false => seconds,
            };
            Some(seconds.saturating_mul(1000)).filter(|ms| *ms <= limited.max_ms)
        };
        limited.headers.iter().find_map(parse).filter(|ms| *ms > 1)
    }
}

fn unix_now() -> u64 {
    clock::wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

//! Hedging (`HedgePolicy.hedge_on_per_try_timeout`): an attempt whose time is over goes on beside the next one, and the
//! first good response wins.
//!
//! The time of a try begins when its request was sent whole, so an attempt set aside only waits for its response: it needs
//! nothing of the request, and several may wait while one attempt is being made.

use super::state::{Calls, Decision};
use crate::router::attempt::{self, Attempt, Failed};
use crate::router::charge::Account;
use crate::router::{replies, span};
use crate::upstream::host::HostCounters;
use crate::upstream::local::LocalHost;
use crate::upstream::stream::{UpResponse, UpStream};
use nuncio_core::Exchange;
use nuncio_core::error::StreamError;
use nuncio_core::info::{StreamShared, UpstreamInfo};
use nuncio_core::tracing::UpstreamSpan;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

/// The first of two things.
pub enum First<T> {
    /// An attempt that was set aside has the response, or none of them will have one.
    Aside(Box<Parked>, Result<UpResponse, StreamError>),
    /// What they were waited for beside.
    Other(T),
}

/// The attempts of one request that took too long and may still be answered, the oldest first. No more than its retries.
#[derive(Default)]
pub struct Aside {
    all: Vec<Parked>,
}

impl Aside {
    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// Sets the present attempt aside.
    pub fn take(&mut self, attempt: &mut Attempt, ex: &Exchange) {
        let stream = attempt.stream.take();
        let calls = attempt.tries.as_mut().and_then(|t| t.retry()).map(|r| r.calls().clone());
        attempt.leave();
        let (Some(stream), Some(calls)) = (stream, calls) else { return };
        let mut facts = Facts::default();
        facts.swap(&attempt.sx);
        {
            let mut up = attempt.sx.info.upstream.borrow_mut();
            up.cluster.clone_from(&facts.upstream.cluster);
            up.cluster_observability.clone_from(&facts.upstream.cluster_observability);
            up.cluster_metadata.clone_from(&facts.upstream.cluster_metadata);
        }
        self.all.push(Parked {
            stream: Some(stream),
            host: attempt.host.clone(),
            account: attempt.account.clone(),
            sx: attempt.sx.clone(),
            timeout_status: attempt.timeout.status,
            calls,
            early: ex.request.headers.contains("early-data"),
            grpc: ex.request.is_grpc(),
            facts,
        });
    }
    /// Waits for `other`, unless one of those set aside has a response that is taken.
    pub async fn beside<T>(&mut self, other: impl Future<Output = T>) -> First<T> {
        let mut other = pin!(other);
        poll_fn(|cx| match self.poll(cx, false) {
            Poll::Ready((p, r)) => Poll::Ready(First::Aside(p, r)),
            Poll::Pending => other.as_mut().poll(cx).map(First::Other),
        })
        .await
    }
    /// Waits for them alone: what becomes of the last one is taken, whatever it is.
    pub async fn alone(&mut self) -> (Box<Parked>, Result<UpResponse, StreamError>) {
        poll_fn(|cx| self.poll(cx, true)).await
    }
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        alone: bool,
    ) -> Poll<(Box<Parked>, Result<UpResponse, StreamError>)> {
        let mut at = 0;
        while let Some(p) = self.all.get_mut(at) {
            let Poll::Ready(result) = p.poll(cx) else {
                at += 1;
                continue;
            };
            let p = Box::new(self.all.remove(at));
            if alone && self.all.is_empty() || p.wins(&result) {
                return Poll::Ready((p, result));
            }
            p.fails(result);
        }
        Poll::Pending
    }
}

/// An attempt set aside. Dropped: it is reset.
pub struct Parked {
    stream: Option<UpStream>,
    host: Rc<LocalHost>,
    account: Account,
    sx: Rc<StreamShared>,
    timeout_status: u16,
    calls: Calls,
    early: bool,
    grpc: bool,
    facts: Facts,
}

/// What is known of an attempt, while the stream has that of another one.
#[derive(Default)]
struct Facts {
    upstream: UpstreamInfo,
    times: [Option<Instant>; 8],
    span: Option<UpstreamSpan>,
}

impl Facts {
    /// Puts these in the place of those that the stream has.
    fn swap(&mut self, sx: &StreamShared) {
        std::mem::swap(&mut self.upstream, &mut *sx.info.upstream.borrow_mut());
        for (ours, theirs) in self.times.iter_mut().zip(sx.info.times.upstream()) {
            *ours = theirs.replace(*ours);
        }
        if let Some(active) = &mut *sx.info.trace.borrow_mut() {
            std::mem::swap(&mut self.span, &mut active.upstream);
        }
    }
}

impl Parked {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<UpResponse, StreamError>> {
        match &mut self.stream {
            Some(s) => s.poll_head(cx, &self.sx),
            None => Poll::Pending,
        }
    }
    /// The response is better than waiting for another. Envoy passes an informational one on, so that no other can follow.
    fn wins(&self, result: &Result<UpResponse, StreamError>) -> bool {
        result.as_ref().is_ok_and(|r| {
            r.head.is_informational() || self.calls.on_head(&r.head, self.early) == Decision::Final
        })
    }
    /// Nobody wants what came of it.
    fn fails(mut self: Box<Self>, result: Result<UpResponse, StreamError>) {
        attempt::heard(&self.host.host, result.as_ref(), self.grpc);
        match &result {
            Ok(_) => HostCounters::inc(&self.host.host.counters.rq_error),
            Err(e) => self.account.reply(Some(&self.host), &self.sx, replies::reset_status(e.reason)),
        }
        self.end_span(|sx| match &result {
            Ok(r) => span::answered(sx, &r.head),
            Err(e) => span::reset(sx, e.reason),
        });
    }
    fn end_span(&mut self, tell: impl FnOnce(&StreamShared)) {
        if self.facts.span.is_some() {
            self.facts.swap(&self.sx);
            tell(&self.sx);
            span::over_aside(&self.sx);
            self.facts.swap(&self.sx);
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.end_span(|_| {});
        // The time of the whole request is over. Outlier detection has heard of this attempt.
        if self.stream.is_some() && self.sx.deadline_passed() {
            self.account.timeout(&self.host, self.timeout_status);
        }
    }
}

impl Attempt {
    /// An attempt that takes too long does not end.
    pub(super) fn hedges(&self) -> bool {
        self.tries.as_ref().is_some_and(|t| t.each().hedge)
    }
    /// Waits on after its time is over.
    pub(super) async fn patiently(&mut self, ex: &Exchange) -> Result<UpResponse, Failed> {
        if let Some(t) = &mut self.tries {
            t.untimed();
        }
        let result = self.head(ex).await;
        self.report(ex, &result);
        result
    }
    /// Nobody wants its result, since others may have a better one.
    pub(super) fn gives_up(&self, result: &Result<UpResponse, Failed>) {
        match result {
            Ok(_) => HostCounters::inc(&self.host.host.counters.rq_error),
            Err(Failed::Reset(e)) => {
                self.account.reply(Some(&self.host), &self.sx, replies::reset_status(e.reason));
            }
            Err(_) => {}
        }
    }
    /// One that was set aside has the response; there will be no other attempt.
    pub(super) async fn takes_over(
        &mut self,
        ex: &Exchange,
        first: Box<Parked>,
        head: Result<UpResponse, StreamError>,
    ) -> Result<UpResponse, Failed> {
        self.adopt(ex, first);
        let result = match head {
            Ok(head) => match self.came(ex, head) {
                Some(last) => Ok(last),
                None => self.head(ex).await,
            },
            Err(e) => Err(Failed::Reset(e)),
        };
        self.report(ex, &result);
        result
    }
    fn adopt(&mut self, ex: &Exchange, mut p: Box<Parked>) {
        span::over(ex);
        self.leave();
        (self.settled, self.informed) = (false, false);
        if let Some(t) = &mut self.tries {
            t.untimed();
        }
        self.stream = p.stream.take();
        self.host = p.host.clone();
        p.facts.swap(&self.sx);
    }
}

//! Requests that a host closed its connection under: they are sent once more, without a retry policy.
//!
//! A host may close a connection that idles while a request for it is on its way. Whoever forwards such a request hears
//! of the end of the connection in place of an answer, and Envoy answers 503 (`UC`). As RFC 9110 section 9.2.2 and RFC 9113
//! section 8.7 allow, the request is sent again in its place, when the connection had served others before, and
//!
//! * no byte of the request had left, or
//! * the host said that it did nothing with it (REFUSED_STREAM, or a stream above the last one of GOAWAY), or
//! * no byte of an answer came over HTTP/1, and the method is idempotent.
//!
//! That happens once, at once, on a connection made for it, to the same host, after everything that a retry policy asks
//! for. Such requests are counted in `cluster.<name>.nuncio.upstream_rq_replay`; the runtime key
//! `nuncio.upstream.replay` (percent, 100 by default) switches it off.

use super::attempt::{Attempt, Failed, Sending};
use super::retry::Turn;
use super::retry::replay::Replay;
use crate::upstream::host::HostCounters;
use crate::upstream::pool::Wants;
use crate::upstream::stream::UpResponse;
use nuncio_core::Exchange;
use nuncio_core::error::StreamError;
use nuncio_wire::RequestHead;
use std::rc::Rc;

/// So much of a body is kept that has no retry policy, in bytes. Those that send more seldom run into idle connections: they
/// would wait for the first answer.
const LIMIT: usize = 64 * 1024;

/// RFC 9110 section 9.2.2.
pub fn is_idempotent(head: &RequestHead) -> bool {
    matches!(head.method(), b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE")
}

/// What a request is worth sending again.
#[derive(Default)]
pub struct Repeat {
    /// The runtime allows it, and it was not done yet.
    pub allowed: bool,
    /// The body as far as it was sent, where no retry policy keeps it.
    kept: Option<Rc<Replay>>,
}

impl Repeat {
    /// Keeps the body of a request that goes over a connection which was used before.
    pub fn keep(&mut self, ex: &mut Exchange) {
        let replay = Replay::unaccounted(ex.request_body.take(), LIMIT);
        ex.request_body = replay.reader();
        self.kept = Some(replay);
    }
    /// Tells a pump whether its body is still read by it.
    pub fn turn(&self) -> Option<Turn> {
        self.kept.as_ref().map(Turn::of)
    }
    /// An answer began: nothing is kept any more.
    pub fn over(&mut self) {
        if let Some(k) = self.kept.take() {
            k.release();
        }
    }
    fn is_spent(&self) -> bool {
        self.kept.as_ref().is_some_and(|k| k.is_spent())
    }
}

impl Attempt {
    /// After `e`: sends the request again, if that does no harm.
    ///
    /// # Errors
    /// `e`, or why the second try failed.
    pub(super) async fn repeated(
        &mut self,
        ex: &mut Exchange,
        e: StreamError,
        complete: bool,
    ) -> Result<UpResponse, Failed> {
        let fate = self.fate(e.reason);
        let body = complete || self.repeat.kept.is_some() || self.tries.as_ref().is_some_and(|t| t.keeps());
        let spent = self.repeat.is_spent() || self.tries.as_ref().is_some_and(|t| t.is_spent());
        let policy = self.tries.as_mut().is_some_and(|t| t.will_retry(e.reason));
        if !fate.may_repeat(is_idempotent(&ex.request)) || !body || spent || policy {
            return Err(Failed::Reset(e));
        }
        self.repeat.allowed = false;
        self.account.cluster.replay_stats().upstream_rq_replay().inc();
        HostCounters::inc(&self.host.host.counters.rq_error);
        self.drop_stream();
        if let Some(kept) = &self.repeat.kept {
            kept.leave();
            ex.request_body = kept.reader();
        } else if let Some(t) = &mut self.tries {
            t.leave();
            if let Some(body) = t.body() {
                ex.request_body = body;
            }
        }
        self.forget_times();
        let sending = Sending { complete, wants: Wants { sure: true, fresh: true } };
        self.once(ex, sending).await
    }
}

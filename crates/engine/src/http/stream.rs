//! One exchange, whatever the client speaks: runs the filter chain, then writes the response and pulls its body.
//!
//! The protocol drivers ([`h1`](super::h1), [`h2`](super::h2)) call [`drive`] with a [`Downstream`] that knows how
//! their protocol writes heads and data, and how it learns that the client is gone.

use super::done::Said;
use super::premature;
use super::request::is_upgrade;
use super::timers::Timers;
use super::upgrade::Verdict;
use super::{Hcm, Last};
use crate::upstream::local::Clusters;
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_core::clock::{self, Sleep};
use nuncio_core::error::ResetReason;
use nuncio_core::info::{Interrupt, Meter, StreamShared};
use nuncio_core::pipeline::{Finalizer, Outcome, Run};
use nuncio_core::{Body, BodyError, Exchange, Flag, Frame, LocalReply};
use nuncio_wire::{Chunk, HeaderMap, RequestHead, ResponseHead, Version};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The client's side of one exchange.
pub trait Downstream {
    /// Sends a 1xx head.
    fn send_informational(&self, head: &ResponseHead);
    /// Sends the response's head; `end`: it is the whole response. What the codec says of the connection is in it then,
    /// as the access log shows it.
    fn send_head(&self, head: &mut ResponseHead, end: bool);
    /// Ready when more data may be sent. An error: the client is gone.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;
    /// Sends data; legal after `poll_ready`.
    fn send_data(&self, data: Chunk);
    /// Ends the response.
    fn send_end(&self, trailers: Option<&HeaderMap>);
    /// Hands what was sent to the kernel, as far as it takes it. Ready when all is handed over.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;
    /// Ends the stream (HTTP/1: the connection) without a whole response.
    fn reset(&self, reason: ResetReason);
    /// How long a client has to take the rest of a response that is complete; `stream` is the stream's limit.
    fn flush_timeout(&self, stream: Option<Duration>) -> Option<Duration>;
    /// It took longer.
    fn unread(&self);
    /// Ready when the client is gone or has reset the stream.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone>;
    /// Do not take another request on this connection.
    fn set_close(&self);
    /// Ask the client to go elsewhere; the connection closes after `drain_timeout`. False: it was asked before.
    fn start_drain(&self) -> bool;
    /// Counts what has arrived of a request's body that nobody will pull.
    fn count_unread(&self, sx: &StreamShared);
    /// Where the idle timer rests between polls; HTTP/1 keeps one for all its exchanges.
    fn idle_timer(&self) -> &RefCell<Option<Sleep>>;
    /// The client has taken the request back before it could begin: then no filter sees it, and no host.
    fn taken_back(&self) -> Option<Gone> {
        None
    }
    /// Writes down what the exchange's messages were on the wire, in bytes.
    fn meter(&self, _: &Meter) {}
    /// When the first byte of the request came, if that was noted.
    fn began(&self) -> Option<Instant> {
        None
    }
}

/// The client went away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// Its connection ended.
    Disconnected,
    /// It reset the stream (HTTP/2), with these details; none when it did so without an error.
    Reset(&'static str),
    /// We have closed its connection, with these details; none when it was cut with its listener or the process.
    Cut(&'static str),
    /// It broke the protocol: the details of the stream's error, or the codec's message for the connection's.
    Protocol(&'static str),
}

/// Runs one exchange to its end. True when it was answered at once: as Envoy sees it, before the request was read.
///
/// Here and on the way to the upstream, futures are pinned where they are called: a call that is simply awaited is moved to
/// its place first, with all the room that it may ever need.
pub async fn drive<D: Downstream>(
    d: &D,
    hcm: &Rc<Hcm>,
    ex: Exchange,
    early: Option<Box<LocalReply>>,
) -> bool {
    let mut passed = pin!(pass(d, hcm, ex, early, true)).await;
    let at_once = passed.at_once;
    while let Some(ex) = passed.again.take() {
        hcm.count_request_begun();
        match ex.sx.info.protocol.get() {
            Some(Version::Http2) => hcm.stats.downstream_rq_http2_total().inc(),
            _ => hcm.stats.downstream_rq_http1_total().inc(),
        }
        // In a box: few requests come here, and all would carry its state.
        passed = Box::pin(pass(d, hcm, *ex, None, false)).await;
    }
    at_once
}

/// What came of one pass through the chain.
struct Passed {
    at_once: bool,
    /// The request begins again (internal redirects).
    again: Option<Box<Exchange>>,
}

async fn pass<D: Downstream>(
    d: &D,
    hcm: &Rc<Hcm>,
    mut ex: Exchange,
    mut early: Option<Box<LocalReply>>,
    first: bool,
) -> Passed {
    let sx = ex.sx.clone();
    ex.rewriter.clone_from(&hcm.rewriter);
    let (mut chain, mut terminal) = (&hcm.chain, &hcm.terminal);
    let mut upgraded = None;
    let no_filters;
    if early.as_ref().is_some_and(|reply| reply.unfiltered) {
        no_filters = Rc::default();
        chain = &no_filters;
    }
    if early.is_none() {
        // As in Envoy the route is chosen before the first filter runs.
        ex.route();
        if first {
            hcm.decide_tracing(&mut ex);
        }
        match hcm.upgrade(&ex) {
            Verdict::Plain => {}
            Verdict::Taken(own) => {
                hcm.stats.downstream_cx_upgrades_total().inc();
                upgraded = Some(hcm.stats.downstream_cx_upgrades_active().guard());
                if let Some((c, last)) = own {
                    (chain, terminal) = (c, last);
                }
            }
            Verdict::Refused => {
                hcm.stats.downstream_rq_ws_on_non_ws_route().inc();
                if sx.info.protocol.get() >= Some(Version::Http2) {
                    d.start_drain(); // HTTP/1 closes by itself
                }
                early = Some(Box::new(LocalReply::new(403, "", "upgrade_failed")));
            }
        }
    }
    if hcm.plan.log_beginnings && early.is_none() {
        hcm.log(&ex, AccessLogType::DownstreamStart);
    }
    if early.is_none() {
        hcm.begin_span(&mut ex);
    }
    sx.conn.streams.set(sx.conn.streams.get() + 1);
    let mut run = Run::new(chain.clone(), ex, Some(hcm.clone()));
    // Dropped before `run`, which writes the log.
    let mut whole = Whole(&sx, false);
    let mut timers = Timers::new(hcm, &mut run.ex, d);
    let mut waited = false;
    let outcome = match early {
        Some(reply) => {
            run.ex.reply(*reply);
            Ok(Outcome::Respond)
        }
        None => {
            let mut hooks = pin!(run.hooks(terminal));
            poll_fn(|cx| {
                if !waited && let Some(gone) = d.taken_back() {
                    return Poll::Ready(Err(gone));
                }
                let r = hooks.as_mut().poll(cx);
                send_informational(d, hcm, &sx);
                match r {
                    Poll::Ready(o) => Poll::Ready(Ok(o)),
                    Poll::Pending => {
                        waited = true;
                        timers.poll(cx, &sx, d.idle_timer());
                        if timers.log_due(cx) {
                            let shown = sx.shown.take().unwrap_or_default();
                            hcm.log_parts(&sx, &shown, Said::default(), AccessLogType::DownstreamPeriodic);
                            *sx.shown.borrow_mut() = Some(shown);
                        }
                        d.poll_gone(cx).map(Err)
                    }
                }
            })
            .await
        }
    };
    let mut again = None;
    match outcome {
        Ok(Outcome::Restart) => {
            sx.info.set_details(RESTARTED);
            if let Some(r) = &run.ex.response {
                sx.info.response_code.set(r.status);
                hcm.count_tracing(&sx.info);
            }
            again = Some((run.ex.request.clone(), run.ex.request_body.take()));
        }
        Ok(Outcome::Respond) => {
            // What came while the request waited was received, though a reply of ours does not need it.
            // A reply given at once is to the head alone, as in Envoy, and one to a body that is too large comes before
            // its end.
            let info = &sx.info;
            if waited
                && run.ex.replied.is_some_and(|status| status != 413)
                && info.times.ds_rx_end.get().is_none()
            {
                d.count_unread(&sx);
            }
            pin!(respond(d, hcm, &mut run, timers)).await
        }
        Ok(Outcome::Reset) => cut(d, &sx, ResetReason::LocalReset),
        Err(gone) => client_gone(&sx, gone),
    }
    d.meter(&sx.info.downstream);
    whole.1 = true;
    drop(upgraded);
    let again = again.map(|(request, body)| {
        drop(whole);
        drop(run); // its log is written before the next one's
        Box::new(Exchange::again(request, body, &sx, hcm.routes()))
    });
    Passed { at_once: !waited && again.is_none(), again }
}

/// `%RESPONSE_CODE_DETAILS%` of an exchange whose request begins again.
pub(super) const RESTARTED: &str = "internal_redirect";

/// A stream that is dropped before its end was cut by us, with its connection: the listener is removed or the process
/// ends.
struct Whole<'a>(&'a StreamShared, bool);

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if self.1 {
            let streams = &self.0.conn.streams;
            streams.set(streams.get().saturating_sub(1));
        } else if !std::thread::panicking() {
            self.0.info.set_flag(Flag::DownstreamConnectionTermination);
            self.0.info.set_details(CUT);
        }
    }
}

/// `%RESPONSE_CODE_DETAILS%` of a stream whose connection we have closed under it.
const CUT: &str = "downstream_local_disconnect(purging_socket_that_have_not_progressed_to_connections)";

async fn respond<D: Downstream>(d: &D, hcm: &Rc<Hcm>, run: &mut Run, mut timers: Timers<'_>) {
    let sx = run.ex.sx.clone();
    send_informational(d, hcm, &sx);
    let Some(mut head) = run.ex.response.take() else { return d.reset(ResetReason::LocalReset) };
    hcm.finish_response_head(&mut head, &run.ex, d);
    if hcm.plan.log_tunnels && opens_tunnel(&run.ex.request, &head) {
        let said = Said { response: Some(&head), trailers: None };
        hcm.log_parts(&sx, &run.ex.request, said, AccessLogType::DownstreamTunnelSuccessfullyEstablished);
    }
    let end = run.ex.response_body.is_end();
    d.send_head(&mut head, end);
    sx.info.times.ds_tx_beg.set(Some(clock::now()));
    sx.info.active.set(clock::now());
    run.ex.response = Some(head);
    let body = &mut run.ex.response_body;
    let mut ended = end;
    let done = poll_fn(|cx| {
        let (mut interrupt, mut complete) = (sx.poll_beside(cx), false);
        loop {
            if let Some(i) = interrupt {
                return Poll::Ready(Err(match i {
                    Interrupt::Reset(r) => Fail::Reset(r),
                    Interrupt::Reply(r) => Fail::Reply(r),
                }));
            }
            if ended {
                let flushed = d.poll_flush(cx);
                if flushed.is_pending() && timers.poll_flush(cx, &sx, d).is_ready() {
                    return Poll::Ready(Err(Fail::Unread));
                }
                return flushed.map_err(Fail::Gone);
            }
            match d.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(g)) => return Poll::Ready(Err(Fail::Gone(g))),
                Poll::Pending => {
                    complete = body.is_end();
                    break;
                }
            }
            match body.poll_frame(cx, &sx) {
                Poll::Ready(Some(Ok(Frame::Data(c)))) => {
                    sx.info.bytes_sent.set(sx.info.bytes_sent.get() + c.len() as u64);
                    sx.info.active.set(clock::now());
                    d.send_data(c);
                }
                Poll::Ready(Some(Ok(Frame::Trailers(t)))) => {
                    d.send_end(Some(&t));
                    run.ex.response_trailers = Some(t);
                    ended = true;
                }
                Poll::Ready(None) => {
                    d.send_end(None);
                    ended = true;
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(Fail::Body(e))),
                Poll::Pending => match d.poll_flush(cx) {
                    Poll::Ready(Err(g)) => return Poll::Ready(Err(Fail::Gone(g))),
                    _ => break,
                },
            }
            // What runs beside the stream has had its turn, but the body may have something to say.
            interrupt = sx.take_interrupt();
        }
        if complete {
            // All that is left to do is the client's.
            return match timers.poll_flush(cx, &sx, d) {
                Poll::Ready(()) => Poll::Ready(Err(Fail::Unread)),
                Poll::Pending => d.poll_gone(cx).map(|g| Err(Fail::Gone(g))),
            };
        }
        timers.poll(cx, &sx, d.idle_timer());
        if timers.log_due(cx) {
            let said = Said { response: run.ex.response.as_ref(), trailers: None };
            hcm.log_parts(&sx, &run.ex.request, said, AccessLogType::DownstreamPeriodic);
        }
        d.poll_gone(cx).map(|g| Err(Fail::Gone(g)))
    })
    .await;
    match done {
        Ok(()) => sx.info.times.ds_tx_end.set(Some(clock::now())),
        Err(Fail::Gone(g)) => client_gone(&sx, g),
        Err(Fail::Reset(r)) => cut(d, &sx, r),
        Err(Fail::Unread) => {
            sx.info.times.ds_tx_end.set(Some(clock::now())); // the stream itself is over, as Envoy sees it
            d.unread();
        }
        Err(Fail::Body(BodyError::Reset(r))) => {
            sx.info.set_flag(r.flag());
            let details = format!("upstream_reset_after_response_started{{{}}}", r.text());
            sx.info.set_details(details.replace(' ', "_"));
            if run.ex.request.is_grpc()
                && let Last::Router(r) = &hcm.terminal
            {
                r.stats.rq_reset_after_downstream_response_started().inc();
            }
            d.reset(r);
        }
        // The head has left: a reply is no longer possible, but it says why the stream ends.
        Err(Fail::Body(BodyError::Reply(r)) | Fail::Reply(r)) => {
            r.flags.iter().for_each(|f| sx.info.set_flag(*f));
            sx.info.set_details(r.details);
            if sx.deadline_passed()
                && let Some(name) = &sx.info.upstream.borrow().cluster
                && let Some(cluster) = Clusters::here().get(name)
            {
                cluster.plan.stats.upstream_rq_timeout().inc();
            }
            d.reset(ResetReason::LocalReset);
        }
    }
}

/// Ends a stream that cannot be answered: the client may be the reason.
fn cut<D: Downstream>(d: &D, sx: &StreamShared, reason: ResetReason) {
    match d.poll_gone(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(gone) => client_gone(sx, gone),
        Poll::Pending => d.reset(reason),
    }
}

/// What follows the response's head is no HTTP any more: an upgrade or CONNECT was granted.
fn opens_tunnel(request: &RequestHead, head: &ResponseHead) -> bool {
    is_upgrade(&head.headers) || (request.is_connect() && (200..300).contains(&head.status))
}

enum Fail {
    Gone(Gone),
    /// The client does not read the rest of a response that is complete.
    Unread,
    Body(BodyError),
    Reset(ResetReason),
    Reply(Box<LocalReply>),
}

/// Passes 1xx heads of the upstream on, if the configuration says so (`proxy_100_continue`); else the client gets its 100 from us
/// alone.
fn send_informational<D: Downstream>(d: &D, hcm: &Hcm, sx: &StreamShared) {
    while let Some(mut head) = sx.next_informational() {
        if hcm.proxy_100_continue {
            hcm.finish_informational_head(&mut head);
            d.send_informational(&head);
        }
    }
}

/// A request whose client left before its head was whole: it is counted and logged all the same, since a request begins
/// with its first byte, as in Envoy.
pub(super) fn half_request(hcm: &Hcm, sx: Rc<StreamShared>) {
    hcm.count_request_begun();
    client_gone(&sx, Gone::Disconnected);
    hcm.done(&Exchange::new(RequestHead::default(), Body::Empty, sx));
}

fn client_gone(sx: &StreamShared, gone: Gone) {
    let info = &sx.info;
    let (flag, details) = match gone {
        Gone::Protocol(details) => {
            info.set_flag(Flag::DownstreamProtocolError);
            return match details.starts_with("http2.") {
                true => info.set_details(details),
                false => info.set_details(format!("codec_error:{}", details.replace(' ', "_"))),
            };
        }
        Gone::Disconnected => (Flag::DownstreamConnectionTermination, "downstream_remote_disconnect"),
        Gone::Cut("") => (Flag::DownstreamConnectionTermination, CUT),
        Gone::Cut(premature::DETAILS) => return info.set_details(premature::DETAILS),
        Gone::Cut(details) => (Flag::DownstreamConnectionTermination, details),
        Gone::Reset("") => return,
        Gone::Reset(details) => (Flag::DownstreamRemoteReset, details),
    };
    info.set_flag(flag);
    info.set_details(details);
}

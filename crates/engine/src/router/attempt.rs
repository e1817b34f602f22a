//! One attempt to have a request answered by one host.

use super::filters::UpstreamFilters;
use super::repeat::{Repeat, is_idempotent};
use super::retry::{Late, Tries, Turn};
use super::{Timeout, ahead, arm_timeout, charge::Account, replies, span};
use crate::upstream::host::Host;
use crate::upstream::lb::client_side::HostLoad;
use crate::upstream::local::{LocalHost, PoolKey};
use crate::upstream::pool::Wants;
use crate::upstream::stream::{Fate, UpConn, UpResponse, UpStream, UpWriter};
use crate::upstream::watch;
use nuncio_core::address::Address;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::clock;
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::exchange::http_status_of;
use nuncio_core::info::{Interrupt, StreamShared};
use nuncio_core::orca::LoadReport;
use nuncio_core::{Exchange, LocalReply};
use nuncio_wire::{HeaderMap, ResponseHead, Version, name};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// An attempt under way.
pub struct Attempt {
    pub(super) account: Account,
    pub(super) host: Rc<LocalHost>,
    pub(super) sx: Rc<StreamShared>,
    priority: usize,
    pub(super) timeout: Timeout,
    pub(super) stream: Option<UpStream>,
    /// What stands before the host.
    pub filters: Option<Arc<UpstreamFilters>>,
    /// The response's body, once it went through them.
    pub(super) filtered: Option<Body>,
    /// What a host sends that is connected to for its bytes.
    pub(super) tunnel: Option<Body>,
    /// The response's head came, or the attempt failed: what happens now is accounted for.
    pub(super) settled: bool,
    /// Outlier detection has heard that it took too long.
    timed_out: bool,
    /// The host has reported its load, or another one before.
    reported: bool,
    /// An informational head came.
    pub(super) informed: bool,
    /// What a request keeps that may be tried again.
    pub tries: Option<Box<Tries>>,
    /// What a request keeps that may be sent again when its connection had gone.
    pub(super) repeat: Repeat,
    /// `set-cookie` of the response, made while its host was chosen (`hash_policy`).
    pub set_cookie: Option<Box<str>>,
}

/// How a request is sent.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    /// Its head is all of it.
    pub complete: bool,
    /// On which connection.
    pub wants: Wants,
}

/// Why an attempt has no response.
pub enum Failed {
    /// The exchange ended.
    Reset(StreamError),
    /// It took too long.
    Late(Late),
    /// There was nobody to try.
    Reply(Box<LocalReply>),
}

impl From<StreamError> for Failed {
    fn from(e: StreamError) -> Failed {
        Failed::Reset(e)
    }
}

impl Attempt {
    /// An attempt with `host`.
    pub fn new(
        account: Account,
        host: Rc<LocalHost>,
        sx: Rc<StreamShared>,
        priority: usize,
        timeout: Timeout,
        tries: Option<Box<Tries>>,
    ) -> Attempt {
        let (stream, tunnel, informed) = (None, None, false);
        let (settled, timed_out, reported, set_cookie) = (false, false, false, None);
        let mut a = Attempt {
            filters: None,
            filtered: None,
            account,
            host,
            sx,
            priority,
            timeout,
            stream,
            tunnel,
            settled,
            timed_out,
            reported,
            informed,
            tries,
            repeat: Repeat::default(),
            set_cookie,
        };
        a.begins();
        a
    }
    fn begins(&mut self) {
        let mut up = self.sx.info.upstream.borrow_mut();
        up.host = Some(self.host.host.info.clone());
        up.hosts_attempted.push(self.host.host.info.clone());
        drop(up);
        if let Some(t) = &mut self.tries {
            t.begin(&self.host);
        }
    }

    /// Gets a connection, sends the request and waits for the final response head.
    ///
    /// # Errors
    /// The connection could not be had, or ended before the head.
    pub async fn run(&mut self, ex: &mut Exchange) -> Result<UpResponse, Failed> {
        let result = match self.filters.clone() {
            None => pin!(self.exchange(ex)).await,
            // In a box: few have any, and all would carry their state.
            Some(filters) => Box::pin(self.through(ex, &filters)).await,
        };
        self.report(ex, &result);
        self.timed_out = matches!(result, Err(Failed::Late(_)));
        result
    }
    /// Tells outlier detection how it went, and the balancer which load the host reports.
    pub(super) fn report(&mut self, ex: &Exchange, result: &Result<UpResponse, Failed>) {
        if let Some(load) = self.host.host.load.get()
            && let Ok(r) = result
        {
            self.reported |= reported(load, &r.head.headers);
        }
        if self.sx.info.trace.borrow().is_some() {
            match result {
                Ok(r) => span::answered(&self.sx, &r.head),
                Err(Failed::Reset(e)) => span::reset(&self.sx, e.reason),
                Err(_) => {}
            }
        }
        match result {
            Ok(r) => heard(&self.host.host, Ok(r), ex.request.is_grpc()),
            Err(Failed::Reset(e)) => heard(&self.host.host, Err(e), false),
            Err(Failed::Late(_)) => {
                if let Some(m) = self.host.host.monitor.get() {
                    m.timed_out(self.timeout.status);
                }
            }
            Err(Failed::Reply(_)) => {}
        }
    }
    pub(super) async fn exchange(&mut self, ex: &mut Exchange) -> Result<UpResponse, Failed> {
        let complete = ex.request_body.is_end();
        if complete {
            arm_timeout(&self.sx, self.timeout);
        }
        let sure = !(self.repeat.allowed && complete && is_idempotent(&ex.request));
        let result = pin!(self.once(ex, Sending { complete, wants: Wants { sure, fresh: false } })).await;
        match result {
            // In a box: few requests come here, and all would carry its state.
            Err(Failed::Reset(e)) if self.repeat.allowed && self.stream.is_some() => {
                Box::pin(self.repeated(ex, e, complete)).await
            }
            result => result,
        }
    }
    pub(super) async fn once(&mut self, ex: &mut Exchange, sending: Sending) -> Result<UpResponse, Failed> {
        let times = &self.sx.info.times;
        let Sending { complete, wants } = sending;
        let began = clock::now();
        let downstream = self.sx.info.protocol.get().unwrap_or(Version::Http11);
        let cluster = &self.account.cluster;
        let own = cluster.plan.transports.options(Some(&ex.request), &self.sx.conn).map(|mut o| {
            if self.sx.info.hides_addresses.get() {
                o.addresses = None;
            }
            o
        });
        let client = cluster.plan.pool_per_connection.then(|| self.sx.conn.id.get());
        let key = PoolKey { options: own, priority: self.priority, client };
        let own = (!key.is_usual()).then(|| self.host.pool_for(key, cluster));
        let pool = own.as_deref().unwrap_or(&self.host.pool);
        if !self.host.admits(pool, cluster) {
            {
                let mut up = self.sx.info.upstream.borrow_mut();
                up.host = None;
                up.hosts_attempted.pop();
            }
            self.account.reply(None, &ex.sx, 503);
            return Err(Failed::Reply(Box::new(replies::no_healthy_upstream())));
        }
        let got = pool.acquire(downstream, self.priority, wants);
        let got = match complete {
            true => got.await?,
            false => ahead::meanwhile(got, &mut ex.request_body, &self.sx).await?,
        };
        let ready = clock::now();
        self.account.connected();
        if let Some(m) = self.host.host.monitor.get() {
            m.connected();
        }
        if got.connected {
            times.us_cx_beg.set(Some(began));
            times.us_cx_end.set(Some(ready));
        }
        self.note_connection(&got.stream, ready.saturating_duration_since(began));
        let stream = self.stream.insert(got.stream);
        times.us_tx_beg.set(Some(ready));
        if let UpConn::H2(_) = stream.conn() {
            self.sx.info.upstream_meter.plain_header_tx.set(ex.request.headers.byte_size() as u64);
        }
        if self.repeat.allowed
            && !complete
            && stream.is_reused()
            && self.tries.as_ref().is_none_or(|t| !t.keeps())
        {
            let http2 = matches!(stream.conn(), UpConn::H2(_));
            if http2 || is_idempotent(&ex.request) {
                self.repeat.keep(ex);
            }
        }
        if let Some(id) = ex.request.missing() {
            return Err(Failed::Reply(Box::new(replies::missing_header(id))));
        }
        stream.writer.send_head(&ex.request, complete)?;
        if complete {
            times.us_tx_end.set(Some(ready));
        } else {
            let (body, writer) = (ex.request_body.take(), stream.writer.clone());
            let turn = self.repeat.turn().or_else(|| self.tries.as_ref().and_then(|t| t.turn()));
            self.sx.side(pump(body, writer, self.sx.clone(), self.timeout, turn));
        }
        self.head(ex).await
    }

    /// Waits for the final response head.
    ///
    /// # Errors
    /// The exchange ended, or took too long.
    pub(super) async fn head(&mut self, ex: &Exchange) -> Result<UpResponse, Failed> {
        loop {
            let (sx, tries, stream) = (&self.sx, &mut self.tries, &mut self.stream);
            let response = poll_fn(|cx| {
                let Some(stream) = stream else {
                    return Poll::Ready(Err(Failed::Reset(ResetReason::LocalReset.into())));
                };
                if let Poll::Ready(r) = stream.poll_head(cx, sx) {
                    return Poll::Ready(r.map_err(Failed::Reset));
                }
                match tries {
                    None => Poll::Pending,
                    Some(t) => t.poll_late(cx, sx).map(|late| Err(Failed::Late(late))),
                }
            });
            let response = response.await?;
            if let Some(last) = self.came(ex, response) {
                return Ok(last);
            }
        }
    }
    /// A response head came; it is given back if it is the last one.
    pub(super) fn came(&mut self, ex: &Exchange, response: UpResponse) -> Option<UpResponse> {
        self.repeat.over();
        let times = &self.sx.info.times;
        if times.us_rx_beg.get().is_none() {
            times.us_rx_beg.set(Some(clock::now()));
        }
        if !response.head.is_informational() {
            return Some(response);
        }
        // Only the first counts and goes on to the client, as in Envoy.
        if !std::mem::replace(&mut self.informed, true) {
            self.account.response(&self.host, ex, &response.head, None);
            self.sx.inform(response.head);
        }
        None
    }

    fn note_connection(&self, stream: &UpStream, waited: Duration) {
        let mut up = self.sx.info.upstream.borrow_mut();
        up.pool_ready = Some(waited);
        let (id, protocol, facts) = match stream.conn() {
            UpConn::H1(c) => (c.id, Version::Http11, &c.facts),
            UpConn::H2(c) => (c.id, Version::Http2, &c.facts),
        };
        up.connection_id = Some(id);
        up.connections_attempted.push(id);
        up.protocol = Some(protocol);
        up.local_address.clone_from(&facts.local);
        match &self.host.host.info.address {
            pipe @ Some(Address::Pipe(_)) => up.remote_address.clone_from(pipe),
            _ => up.remote_address.clone_from(&facts.remote),
        }
        up.tls.clone_from(&facts.tls);
    }

    /// The head came: counts it and sets Envoy's headers.
    pub fn answered(&mut self, ex: &mut Exchange, r: &mut UpResponse, suppress: bool) {
        self.settled = true;
        let now = clock::now();
        ex.sx.info.response_code.set(r.head.status);
        // A response before the end of its request says nothing about the host's speed.
        let took = ex.sx.info.times.ds_rx_end.get().map(|end| now.saturating_duration_since(end));
        self.account.response(&self.host, ex, &r.head, took);
        ex.sx.info.set_details("via_upstream");
        if let Some(took) = took.filter(|_| !suppress) {
            let mut ms = itoa::Buffer::new();
            let ms = ms.format(took.as_millis() as u64);
            r.head.headers.set(name::X_ENVOY_UPSTREAM_SERVICE_TIME, ms.as_bytes());
        }
    }

    /// The response's body; the stream lives as long as it.
    pub fn into_body(mut self, end: bool) -> Body {
        if let Some(body) = self.tunnel.take() {
            return body;
        }
        let body = match (self.filtered.take(), self.stream.take()) {
            (Some(body), _) => body,
            (None, Some(s)) if !end => s.into_body(),
            _ => Body::Empty,
        };
        let body = match self.host.host.monitor.get() {
            Some(_) if !body.is_end() => Body::source(Judged { body, host: self.host.host.clone() }),
            _ => body,
        };
        let body = match self.host.host.load.get() {
            Some(_) if !self.reported && !body.is_end() => {
                Body::source(Reporting { body, host: self.host.host.clone() })
            }
            _ => body,
        };
        match self.tries.take() {
            None => body,
            Some(t) => t.into_body(body, &self.account, &self.host),
        }
    }

    /// Lets go of the host. What is left of the attempt is nobody's concern.
    pub fn leave(&mut self) {
        self.settled = true;
        if let Some(t) = &mut self.tries {
            t.leave(); // before the stream: a pump must not write on
        }
        self.stream = None;
        self.filtered = None;
        self.informed = false;
    }
    /// What is known of the host's part in a request that failed for `reason`.
    pub(super) fn fate(&self, reason: ResetReason) -> Fate {
        match &self.stream {
            Some(s) if !self.informed => s.fate(reason),
            _ => Fate::Unknown,
        }
    }
    /// Lets go of the connection.
    pub(super) fn drop_stream(&mut self) {
        self.stream = None;
    }
    /// Goes on with another host, or the same one.
    pub fn next(&mut self, host: Rc<LocalHost>) {
        (self.settled, self.timed_out) = (false, false);
        self.host = host;
        self.forget_times();
        {
            // What was tried before nobody is told, as in Envoy.
            let mut up = self.sx.info.upstream.borrow_mut();
            up.hosts_attempted.clear();
            up.connections_attempted.clear();
        }
        self.begins();
    }
    /// Nothing is known of the connection to come.
    pub(super) fn forget_times(&self) {
        self.sx.info.times.upstream().iter().for_each(|t| t.set(None));
        let mut up = self.sx.info.upstream.borrow_mut();
        (up.local_address, up.remote_address) = (None, None);
        (up.connection_id, up.protocol, up.tls, up.pool_ready) = (None, None, None, None);
    }
    /// The timeout of the whole request.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.after
    }
    /// Who is charged.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Makes the reply for a failure.
    pub fn failed(&mut self, ex: &Exchange, e: Failed) -> LocalReply {
        self.settled = true;
        self.sx.clear_deadline();
        self.sx.drop_sides();
        let e = match e {
            Failed::Reset(e) => e,
            Failed::Late(late) => {
                let status = self.timeout.status;
                self.account.reply(Some(&self.host), &ex.sx, status);
                return late.reply(status);
            }
            Failed::Reply(r) => return *r,
        };
        let r = replies::reset(&e, self.informed, self.sx.info.attempts.get() > 1);
        {
            let mut up = ex.sx.info.upstream.borrow_mut();
            up.transport_failure = e.transport.clone();
            if e.reason == ResetReason::PendingOverflow {
                // A breaker refused the request before it got to a host.
                up.host = None;
                up.hosts_attempted.pop();
            }
        }
        if !self.informed {
            self.account.reply(Some(&self.host), &ex.sx, r.status);
        }
        r
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // Cut short: by the timeout, or because the client left.
        if self.sx.deadline_passed() {
            if let Some(m) = self.host.host.monitor.get().filter(|_| !self.timed_out) {
                m.timed_out(self.timeout.status);
            }
            self.account.timeout(&self.host, self.timeout.status);
        }
    }
}

/// Tells outlier detection and the health checker of a host how an exchange with it went.
pub(super) fn heard(host: &Arc<Host>, result: Result<&UpResponse, &StreamError>, grpc: bool) {
    if let Some(cluster) = host.checked_by.get()
        && let Ok(r) = result
        && r.head.headers.contains(name::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL)
    {
        watch::tell_failed(cluster.clone(), host.clone());
    }
    let Some(m) = host.monitor.get() else { return };
    match result {
        Ok(r) => m.answered(judged_status(grpc, &r.head)),
        // The cluster's limits say nothing of the host.
        Err(e) if matches!(e.reason, ResetReason::Overflow | ResetReason::PendingOverflow) => {}
        Err(_) => m.failed(),
    }
}

/// The status by which a response is judged: that of gRPC counts where it comes with the head.
fn judged_status(grpc: bool, head: &ResponseHead) -> u16 {
    let grpc = grpc.then(|| head.headers.get_str(name::GRPC_STATUS)?.parse().ok()).flatten();
    grpc.map_or(head.status, http_status_of)
}

/// A response's body, whose early end outlier detection hears of.
struct Judged {
    body: Body,
    host: Arc<Host>,
}

impl BodySource for Judged {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.body.poll_frame(cx, sx);
        if let Poll::Ready(Some(Err(BodyError::Reset(_)))) = &frame
            && let Some(m) = self.host.monitor.get()
        {
            m.failed();
        }
        frame
    }
    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

/// Takes what a host reports of its load with a response. True when it does.
fn reported(load: &HostLoad, headers: &HeaderMap) -> bool {
    let report = LoadReport::of(headers);
    report.inspect(|r| _ = load.report(r)).is_some()
}

/// A response's body, whose trailers may report the load of its host.
struct Reporting {
    body: Body,
    host: Arc<Host>,
}

impl BodySource for Reporting {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.body.poll_frame(cx, sx);
        if let Poll::Ready(Some(Ok(Frame::Trailers(t)))) = &frame
            && let Some(load) = self.host.load.get()
        {
            reported(load, t);
        }
        frame
    }
    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

/// Carries the request's body to the host, beside everything else that happens on the stream.
///
/// `turn`: the body may be read by another attempt later.
async fn pump(mut body: Body, up: UpWriter, sx: Rc<StreamShared>, timeout: Timeout, turn: Option<Turn>) {
    let result = poll_fn(|cx| {
        if turn.as_ref().is_some_and(Turn::is_over) {
            return Poll::Ready(Err(ResetReason::LocalReset.into()));
        }
        loop {
            if let Err(e) = ready!(up.poll_ready(cx)) {
                return Poll::Ready(Err(e));
            }
            match body.poll_frame(cx, &sx) {
                Poll::Ready(Some(Ok(Frame::Data(c)))) => up.send_data(c),
                Poll::Ready(Some(Ok(Frame::Trailers(t)))) => {
                    up.send_end(Some(&t));
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(None) => {
                    up.send_end(None);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Some(Err(e))) => {
                    let _ = up.poll_flush(cx); // what was good has been forwarded, as in Envoy
                    match e {
                        BodyError::Reply(r) => sx.interrupt(Interrupt::Reply(r)),
                        BodyError::Reset(r) => sx.interrupt(Interrupt::Reset(r)),
                    }
                    return Poll::Ready(Err(ResetReason::LocalReset.into()));
                }
                Poll::Pending => {
                    // Hand over what there is: the host may answer before the body ends.
                    let _ = up.poll_flush(cx);
                    return Poll::Pending;
                }
            }
        }
    })
    .await;
    // A host that is gone is noticed by whoever waits for its response.
    if result.is_ok() {
        sx.info.times.us_tx_end.set(Some(clock::now()));
        arm_timeout(&sx, timeout);
        let _ = poll_fn(|cx| up.poll_flush(cx)).await;
    }
}

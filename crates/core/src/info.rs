//! What is known about a stream and its connection: for access logs, format strings, matchers and filters.
//!
//! [`StreamShared`] is what everybody who works on one stream holds (`Rc`, one thread): its facts in cells, and the
//! three ways to act on it from the side ([`interrupt`](StreamShared::interrupt), [`side`](StreamShared::side),
//! [`inform`](StreamShared::inform)).

use crate::LocalBoxFuture;
use crate::address::Address;
use crate::clock::{Sleep, TimerKind};
use crate::error::ResetReason;
use crate::exchange::LocalReply;
use crate::filter_state::FilterState;
use crate::flags::{Flag, Flags};
use crate::metadata::{LazyMetadata, Metadata};
use crate::route::{Route, RouteSource};
use crate::tracing::{Active, Reason};
use nuncio_wire::{RequestHead, ResponseHead, Version};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Instant, SystemTime};

/// Points in time of a stream, named as in `%COMMON_DURATION%`; unset until they happen.
#[derive(Default)]
pub struct Times {
    /// Last byte of the request received (`DS_RX_END`).
    pub ds_rx_end: Cell<Option<Instant>>,
    /// Connecting to the upstream began (`US_CX_BEG`); unset when a pooled connection was used.
    pub us_cx_beg: Cell<Option<Instant>>,
    /// Connected (`US_CX_END`).
    pub us_cx_end: Cell<Option<Instant>>,
    /// TLS handshake with the upstream done (`US_HS_END`).
    pub us_hs_end: Cell<Option<Instant>>,
    /// First byte sent to the upstream (`US_TX_BEG`).
    pub us_tx_beg: Cell<Option<Instant>>,
    /// Last byte sent to the upstream (`US_TX_END`).
    pub us_tx_end: Cell<Option<Instant>>,
    /// First byte of the upstream's response (`US_RX_BEG`).
    pub us_rx_beg: Cell<Option<Instant>>,
    /// First byte of the response's body (`US_RX_BODY_BEG`).
    pub us_rx_body_beg: Cell<Option<Instant>>,
    /// Last byte of the response received (`US_RX_END`).
    pub us_rx_end: Cell<Option<Instant>>,
    /// First byte of the response sent (`DS_TX_BEG`).
    pub ds_tx_beg: Cell<Option<Instant>>,
    /// Last byte of the response sent (`DS_TX_END`).
    pub ds_tx_end: Cell<Option<Instant>>,
}

impl Times {
    /// Those of the present attempt.
    pub fn upstream(&self) -> [&Cell<Option<Instant>>; 8] {
        [
            &self.us_cx_beg,
            &self.us_cx_end,
            &self.us_hs_end,
            &self.us_tx_beg,
            &self.us_tx_end,
            &self.us_rx_beg,
            &self.us_rx_body_beg,
            &self.us_rx_end,
        ]
    }
}

/// A byte meter of one direction pair (Envoy's `BytesMeter`), in bytes.
#[derive(Default)]
pub struct Meter {
    /// Header bytes received.
    pub header_rx: Cell<u64>,
    /// Header bytes sent.
    pub header_tx: Cell<u64>,
    /// All bytes received, framing included.
    pub wire_rx: Cell<u64>,
    /// All bytes sent, framing included.
    pub wire_tx: Cell<u64>,
    /// Header bytes received, after HPACK.
    pub plain_header_rx: Cell<u64>,
    /// Header bytes sent, before HPACK.
    pub plain_header_tx: Cell<u64>,
}

/// Facts of one upstream host that outlive its membership.
#[derive(Debug, Default)]
pub struct HostInfo {
    /// Where it is; `None` before a name was resolved.
    pub address: Option<Address>,
    /// `address` as text, e.g. `127.0.0.1:80`.
    pub address_text: Arc<str>,
    /// Its host name from configuration, or the name it was resolved from.
    pub hostname: Arc<str>,
    /// Region, zone, sub-zone.
    pub locality: Arc<[String; 3]>,
    /// Its metadata (`LbEndpoint.metadata`).
    pub metadata: LazyMetadata,
    /// Its locality's metadata (`LocalityLbEndpoints.metadata`).
    pub locality_metadata: LazyMetadata,
    /// True when `envoy.lb: canary: true`.
    pub canary: bool,
}

/// The host that a request is to go to, whatever the balancer would choose (Envoy's `setUpstreamOverrideHost`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideHost {
    /// Its address, as [`HostInfo::address_text`].
    pub address: Box<str>,
    /// No other host will do.
    pub strict: bool,
    /// Status of the answer when no other will do and the cluster has no such host.
    pub not_found: u16,
}

/// The upstream side of a stream; the last attempt, unless said otherwise.
#[derive(Default)]
pub struct UpstreamInfo {
    /// Name of the cluster.
    pub cluster: Option<Arc<str>>,
    /// `alt_stat_name` of the cluster, or its name (`%UPSTREAM_CLUSTER%`).
    pub cluster_observability: Option<Arc<str>>,
    /// Metadata of the cluster.
    pub cluster_metadata: Option<LazyMetadata>,
    /// The host chosen.
    pub host: Option<Arc<HostInfo>>,
    /// Our end of the connection.
    pub local_address: Option<Address>,
    /// The host's end of the connection.
    pub remote_address: Option<Address>,
    /// Number of the connection.
    pub connection_id: Option<u64>,
    /// Its TLS facts.
    pub tls: Option<Rc<TlsInfo>>,
    /// Version spoken with it.
    pub protocol: Option<Version>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub transport_failure: Cow<'static, str>,
    /// Every host tried, in order.
    pub hosts_attempted: SmallVec<[Arc<HostInfo>; 1]>,
    /// Every connection tried, in order.
    pub connections_attempted: SmallVec<[u64; 2]>,
    /// How the upstream connection ended (`%UPSTREAM_DETECTED_CLOSE_TYPE%`, `%UPSTREAM_LOCAL_CLOSE_REASON%`).
    pub local_close_reason: Cow<'static, str>,
    /// From the router taking up the request to having a connection.
    pub pool_ready: Option<std::time::Duration>,
}

/// Facts of a TLS connection, of both its ends. Absent values are empty.
#[derive(Default, Debug, Clone)]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// OpenSSL's name of the cipher suite.
    pub cipher: Cow<'static, str>,
    /// Name of the key exchange group, e.g. `X25519`.
    pub group: Cow<'static, str>,
    /// Negotiated ALPN protocol.
    pub alpn: Vec<u8>,
    /// Server name asked for.
    pub sni: String,
    /// Session id in hex (`%DOWNSTREAM_TLS_SESSION_ID%`).
    pub session_id: String,
    /// The peer's certificate, when it sent one.
    pub peer: Option<Arc<CertInfo>>,
    /// Our certificate, when we sent one.
    pub local: Option<Arc<CertInfo>>,
    /// The certificates that the peer sent after its own, as URL-encoded PEM.
    pub peer_intermediates: String,
    /// The peer's certificate was verified against a trusted authority.
    pub peer_validated: bool,
}

/// Facts of a certificate.
#[derive(Default, Debug, Clone)]
pub struct CertInfo {
    /// Subject in RFC 2253 form.
    pub subject: String,
    /// Issuer in RFC 2253 form.
    pub issuer: String,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// SHA-256 of the certificate, in hex.
    pub fingerprint_256: String,
    /// SHA-1 of the certificate, in hex.
    pub fingerprint_1: String,
    /// Certificate as URL-encoded PEM.
    pub pem_urlencoded: String,
    /// URI names.
    pub uri_sans: Vec<String>,
    /// DNS names.
    pub dns_sans: Vec<String>,
    /// IP addresses.
    pub ip_sans: Vec<String>,
    /// E-mail addresses.
    pub email_sans: Vec<String>,
    /// Start of validity.
    pub not_before: Option<SystemTime>,
    /// End of validity.
    pub not_after: Option<SystemTime>,
}

/// Which way a listener's traffic goes (`Listener.traffic_direction`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// Not said.
    #[default]
    Unspecified,
    /// Towards the local service.
    Inbound,
    /// Away from it.
    Outbound,
}

/// What a connection knows of its listener.
#[derive(Debug, Default)]
pub struct ListenerInfo {
    /// `Listener.name`, or the name made up for it.
    pub name: String,
    /// `Listener.traffic_direction`.
    pub direction: Direction,
    /// `Listener.metadata`.
    pub metadata: Metadata,
    /// `Listener.per_connection_buffer_limit_bytes`, 0 for no limit.
    pub buffer_limit: u32,
}

/// Facts of one downstream connection, shared by its streams.
pub struct ConnInfo {
    /// Its number, unique in the process; 0 before it has a filter chain.
    pub id: Cell<u64>,
    /// When it was accepted.
    pub start: Instant,
    /// Its listener.
    pub listener: Arc<ListenerInfo>,
    /// The peer's address as the socket says.
    pub direct_remote: Address,
    /// Our address as the socket says.
    pub direct_local: Address,
    /// The peer's address, after listener filters (PROXY protocol).
    pub remote: RefCell<Address>,
    /// Our address, after listener filters (original destination).
    pub local: RefCell<Address>,
    /// TLS facts, once the handshake is done.
    pub tls: OnceCell<Rc<TlsInfo>>,
    /// Server name from the TLS inspector, in lower case; not set from the handshake alone.
    pub sni: OnceCell<String>,
    /// Name of the filter chain chosen.
    pub filter_chain_name: OnceCell<Arc<str>>,
    /// Round-trip facts for `%DOWNSTREAM_HANDSHAKE_DURATION%`.
    pub handshake_done: Cell<Option<Instant>>,
    /// Why it ended, if there is something to say: idle connections carry no room for it.
    end: OnceCell<Box<ConnEnd>>,
    /// How many bytes of a request may be buffered, 0 for no limit: the listener's limit, HTTP/2 sets that of its streams.
    pub buffer_limit: Cell<u32>,
    /// Objects that live as long as the connection.
    pub filter_state: RefCell<FilterState>,
    /// Dynamic metadata set by listener and network filters.
    pub metadata: RefCell<Metadata>,
    /// Streams under way.
    pub streams: Cell<u32>,
    /// What the listener's access log says of the connection as a whole; only when the listener has one.
    pub logged: OnceCell<Box<StreamInfo>>,
}

/// Why a connection ended; empty is nothing worth a name.
#[derive(Default)]
pub struct ConnEnd {
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub transport_failure: RefCell<Cow<'static, str>>,
    /// `%DOWNSTREAM_LOCAL_CLOSE_REASON%`: why we closed it.
    pub local_close_reason: RefCell<Cow<'static, str>>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub termination: RefCell<Cow<'static, str>>,
}

impl ConnInfo {
    /// Facts of a connection just accepted.
    pub fn new(id: u64, listener: Arc<ListenerInfo>, remote: Address, local: Address) -> ConnInfo {
        ConnInfo {
            id: Cell::new(id),
            start: crate::clock::now(),
            buffer_limit: Cell::new(listener.buffer_limit),
            listener,
            direct_remote: remote.clone(),
            direct_local: local.clone(),
            remote: RefCell::new(remote),
            local: RefCell::new(local),
            tls: OnceCell::new(),
            sni: OnceCell::new(),
            filter_chain_name: OnceCell::new(),
            handshake_done: Cell::new(None),
            end: OnceCell::new(),
            filter_state: RefCell::default(),
            metadata: RefCell::default(),
            streams: Cell::new(0),
            logged: OnceCell::new(),
        }
    }
    /// Why it ended, to be filled in.
    pub fn end(&self) -> &ConnEnd {
        self.end.get_or_init(Box::default)
    }
    /// One of the texts on why it ended; empty when nothing was said of it.
    pub fn ended(&self, text: impl Fn(&ConnEnd) -> &RefCell<Cow<'static, str>>) -> Cow<'static, str> {
        self.end.get().map(|e| text(e).borrow().clone()).unwrap_or_default()
    }
    /// Notes bytes that came and went over the connection, for the listener's access log.
    pub fn count_bytes(&self, received: u64, sent: u64) {
        if let Some(i) = self.logged.get() {
            i.bytes_received.set(i.bytes_received.get() + received);
            i.bytes_sent.set(i.bytes_sent.get() + sent);
        }
    }
}

/// Facts of one stream.
pub struct StreamInfo {
    /// When its first byte was read.
    pub start: Instant,
    /// When a part of the request was read or a part of the response written, last (`stream_idle_timeout`).
    pub active: Cell<Instant>,
    /// `start` on the wall clock.
    pub start_wall: SystemTime,
    /// Later points in time.
    pub times: Times,
    /// Version the client speaks.
    pub protocol: Cell<Option<Version>>,
    /// Response flags.
    pub flags: Cell<Flags>,
    /// The client's address as this request says it (`x-forwarded-for`); none: the connection's.
    pub remote: RefCell<Option<Address>>,
    /// Status sent, 0 before a head was.
    pub response_code: Cell<u16>,
    /// `%RESPONSE_CODE_DETAILS%`; empty when unset.
    pub details: RefCell<Cow<'static, str>>,
    /// They were set, to nothing.
    pub empty_details: Cell<bool>,
    /// Body bytes received from the client.
    pub bytes_received: Cell<u64>,
    /// Body bytes sent to the client.
    pub bytes_sent: Cell<u64>,
    /// The downstream byte meter.
    pub downstream: Meter,
    /// The upstream byte meter.
    pub upstream_meter: Meter,
    /// The upstream side.
    pub upstream: RefCell<UpstreamInfo>,
    /// The host that a filter wants for it; its first attempt goes there.
    pub override_host: RefCell<Option<Rc<OverrideHost>>>,
    /// Upstream attempts, 0 before the first.
    pub attempts: Cell<u32>,
    /// A random number kept for the stream: weighted clusters and fractions decide the same way when a route is chosen again.
    pub random: Cell<u64>,
    /// Bytes buffered for this stream by filters and bodies.
    pub buffered: Cell<usize>,
    /// The request is a health check (set by the health check filter).
    pub health_check: Cell<bool>,
    /// `:scheme` becomes that of the connection to the host (`scheme_header_transformation.match_upstream`).
    pub scheme_of_upstream: Cell<bool>,
    /// Hosts are not told the client's address by a PROXY header (`add_proxy_protocol_connection_state: false`).
    pub hides_addresses: Cell<bool>,
    /// `%VIRTUAL_CLUSTER_NAME%`.
    pub virtual_cluster: RefCell<Option<Arc<str>>>,
    /// `%STREAM_ID%` of a proxied connection, where it is logged; that of a request is its request id.
    pub stream_id: RefCell<Option<Box<str>>>,
    /// Objects that live as long as the stream.
    pub filter_state: RefCell<FilterState>,
    /// Dynamic metadata; `None` until the first is set.
    pub metadata: RefCell<Option<Box<Metadata>>>,
    /// Why it is traced.
    pub trace_reason: Cell<Reason>,
    /// Its span; `None` where nothing is traced.
    pub trace: RefCell<Option<Box<Active>>>,
}

impl StreamInfo {
    /// Facts of a stream that begins now.
    #[inline]
    pub fn new() -> StreamInfo {
        StreamInfo::at(crate::clock::now(), crate::clock::wall(), crate::rng::u64())
    }
    #[inline]
    fn at(start: Instant, start_wall: SystemTime, random: u64) -> StreamInfo {
        StreamInfo {
            start,
            active: Cell::new(start),
            start_wall,
            times: Times::default(),
            protocol: Cell::new(None),
            flags: Cell::default(),
            remote: RefCell::default(),
            response_code: Cell::new(0),
            details: RefCell::new(Cow::Borrowed("")),
            empty_details: Cell::new(false),
            bytes_received: Cell::new(0),
            bytes_sent: Cell::new(0),
            downstream: Meter::default(),
            upstream_meter: Meter::default(),
            upstream: RefCell::default(),
            override_host: RefCell::default(),
            attempts: Cell::new(0),
            random: Cell::new(random),
            buffered: Cell::new(0),
            health_check: Cell::new(false),
            scheme_of_upstream: Cell::new(false),
            hides_addresses: Cell::new(false),
            virtual_cluster: RefCell::default(),
            stream_id: RefCell::default(),
            filter_state: RefCell::default(),
            metadata: RefCell::default(),
            trace_reason: Cell::default(),
            trace: RefCell::default(),
        }
    }
    /// Sets a response flag.
    pub fn set_flag(&self, f: Flag) {
        let mut flags = self.flags.get();
        flags.set(f);
        self.flags.set(flags);
    }
    /// True when the flag is set.
    pub fn has_flag(&self, f: Flag) -> bool {
        self.flags.get().has(f)
    }
    /// Sets `%RESPONSE_CODE_DETAILS%`.
    pub fn set_details(&self, d: impl Into<Cow<'static, str>>) {
        *self.details.borrow_mut() = d.into();
    }
    /// Merges dynamic metadata.
    pub fn set_metadata(&self, namespace: &str, s: prost_types::Struct) {
        self.metadata.borrow_mut().get_or_insert_default().merge(namespace, s);
    }
}

impl Default for StreamInfo {
    fn default() -> StreamInfo {
        StreamInfo::new()
    }
}

/// Something that ends a stream from outside its filters: a timer, overload, a codec error.
#[derive(Debug)]
pub enum Interrupt {
    /// Answer with this; it passes the response hooks like any other reply.
    Reply(Box<LocalReply>),
    /// End without an answer.
    Reset(ResetReason),
}

/// A timer, and what interrupts the stream when it fires.
struct Deadline {
    sleep: Sleep,
    then: fn(&StreamShared) -> Interrupt,
    /// The timer wakes the stream's task; before this moment there is nothing to see.
    quiet_until: Option<Instant>,
}

/// What everybody who works on a stream shares.
pub struct StreamShared {
    /// Facts.
    pub info: StreamInfo,
    /// Facts of its connection.
    pub conn: Rc<ConnInfo>,
    pub(crate) route: RefCell<RouteState>,
    interrupt: RefCell<Option<Interrupt>>,
    sides: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    informational: RefCell<VecDeque<ResponseHead>>,
    deadline: RefCell<Option<Deadline>>,
    deadline_passed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The request's head for entries of the access log while filters hold it; only when there are such entries.
    pub shown: RefCell<Option<Box<RequestHead>>>,
}

#[derive(Default)]
pub(crate) struct RouteState {
    pub source: Option<Rc<dyn RouteSource>>,
    pub resolved: bool,
    pub route: Option<Arc<dyn Route>>,
}

/// Streams whose memory is kept per thread: more than a busy worker has under way over HTTP/2.
const KEEP: usize = 1024;
thread_local! {
    static FREE: RefCell<Vec<Rc<StreamShared>>> = const { RefCell::new(Vec::new()) };
    /// The connection of a stream that is over.
    static NOWHERE: Rc<ConnInfo> = Rc::new(ConnInfo::new(
        0,
        Arc::default(),
        Address::Internal(Default::default(), Default::default()),
        Address::Internal(Default::default(), Default::default()),
    ));
}

impl StreamShared {
    /// A stream that begins now on `conn`; routes come from `source`.
    pub fn new(conn: Rc<ConnInfo>, source: Option<Rc<dyn RouteSource>>) -> Rc<StreamShared> {
        let kept = FREE.try_with(|f| f.borrow_mut().pop()).ok().flatten();
        if let Some(mut sx) = kept
            && let Some(s) = Rc::get_mut(&mut sx)
        {
            s.info.start = crate::clock::now();
            s.info.active.set(s.info.start);
            s.info.start_wall = crate::clock::wall();
            s.info.random.set(crate::rng::u64());
            s.conn = conn;
            s.route.get_mut().source = source;
            return sx;
        }
        Rc::new(StreamShared {
            info: StreamInfo::new(),
            conn,
            route: RefCell::new(RouteState { source, resolved: false, route: None }),
            interrupt: RefCell::default(),
            sides: RefCell::default(),
            informational: RefCell::default(),
            deadline: RefCell::default(),
            deadline_passed: Cell::new(false),
            waker: RefCell::default(),
            shown: RefCell::default(),
        })
    }
    /// The stream is over, and its log is written: its memory is kept for another one, since it is large and every
    /// request needs it. Nothing happens while somebody else holds the stream.
    pub fn recycle(mut self: Rc<Self>) {
        let Some(s) = Rc::get_mut(&mut self) else { return };
        let Ok(nowhere) = NOWHERE.try_with(Rc::clone) else { return }; // the thread is ending
        s.info = StreamInfo::at(s.info.start, s.info.start_wall, 0);
        s.conn = nowhere;
        *s.route.get_mut() = RouteState::default();
        *s.interrupt.get_mut() = None;
        s.sides.get_mut().clear();
        s.informational.get_mut().clear();
        *s.deadline.get_mut() = None;
        s.deadline_passed.set(false);
        *s.waker.get_mut() = None;
        *s.shown.get_mut() = None;
        let _ = FREE.try_with(|f| {
            let mut f = f.borrow_mut();
            if f.len() < KEEP {
                f.push(self);
            }
        });
    }
    /// Where routes of this stream come from.
    pub fn route_source(&self) -> Option<Rc<dyn RouteSource>> {
        self.route.borrow().source.clone()
    }
    /// Lets the next route be chosen from `source`.
    pub fn set_route_source(&self, source: Rc<dyn RouteSource>) {
        let old = {
            let mut r = self.route.borrow_mut();
            r.resolved = false;
            r.source.replace(source)
        };
        drop(old);
    }
    /// The route chosen so far, without choosing one (access logs).
    pub fn current_route(&self) -> Option<Arc<dyn Route>> {
        self.route.borrow().route.clone()
    }
    /// Runs `f` beside the stream: polled whenever the stream is, dropped with it. For the request pump, ext_proc.
    pub fn side(&self, f: impl Future<Output = ()> + 'static) {
        self.sides.borrow_mut().push(Box::pin(f));
        self.wake();
    }
    /// Runs `f` on this worker, also after the stream has ended. For mirrored requests and the like.
    pub fn detach(&self, f: impl Future<Output = ()> + 'static) {
        crate::worker::spawn(f);
    }
    /// Ends the stream from outside; the first interrupt wins.
    pub fn interrupt(&self, i: Interrupt) {
        self.interrupt.borrow_mut().get_or_insert(i);
        self.wake();
    }
    /// Interrupts the stream when `sleep` ends, unless it is over by then; replaces an earlier deadline. For what runs in
    /// the stream or beside it: whoever polls that looks at the deadline afterwards, so nothing is woken for it.
    pub fn set_deadline(&self, sleep: Sleep, then: fn(&StreamShared) -> Interrupt) {
        *self.deadline.borrow_mut() = Some(Deadline { sleep, then, quiet_until: None });
    }
    /// There is a deadline.
    pub fn has_deadline(&self) -> bool {
        self.deadline.borrow().is_some()
    }
    /// Takes the deadline back.
    pub fn clear_deadline(&self) {
        *self.deadline.borrow_mut() = None;
    }
    /// The deadline has interrupted the stream.
    pub fn deadline_passed(&self) -> bool {
        self.deadline_passed.get()
    }
    fn poll_deadline(&self, cx: &mut Context<'_>) {
        let mut deadline = self.deadline.borrow_mut();
        let Some(d) = &mut *deadline else { return };
        if d.quiet_until.is_some_and(|t| crate::clock::now() < t) {
            return;
        }
        if Pin::new(&mut d.sleep).poll(cx).is_ready() {
            let i = (d.then)(self);
            *deadline = None;
            self.deadline_passed.set(true);
            self.interrupt.borrow_mut().get_or_insert(i);
        } else if d.sleep.kind() == TimerKind::Other {
            d.quiet_until = d.sleep.not_before();
        }
    }
    /// The request's head as it is now, for entries of the access log that come before its end.
    pub fn show(&self, head: &RequestHead) {
        if let Some(shown) = &mut *self.shown.borrow_mut() {
            (**shown).clone_from(head);
        }
    }
    /// Sends a 1xx head to the client before the response.
    pub fn inform(&self, head: ResponseHead) {
        self.informational.borrow_mut().push_back(head);
        self.wake();
    }
    /// For connection drivers: the next 1xx head to send.
    pub fn next_informational(&self) -> Option<ResponseHead> {
        self.informational.borrow_mut().pop_front()
    }
    /// For connection drivers: polls everything that runs beside the stream and takes an interrupt if there is one.
    /// The waker is kept, so that `side`, `interrupt` and `inform` wake the driver.
    pub fn poll_beside(&self, cx: &mut Context<'_>) -> Option<Interrupt> {
        {
            let mut w = self.waker.borrow_mut();
            if !w.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *w = Some(cx.waker().clone());
                if let Some(d) = &mut *self.deadline.borrow_mut() {
                    d.quiet_until = None;
                }
            }
        }
        if !self.sides.borrow().is_empty() {
            self.poll_sides(cx);
        }
        self.poll_deadline(cx);
        self.take_interrupt()
    }
    /// For connection drivers: what has interrupted the stream since the last poll.
    pub fn take_interrupt(&self) -> Option<Interrupt> {
        self.interrupt.borrow_mut().take()
    }
    fn poll_sides(&self, cx: &mut Context<'_>) {
        // Taken out while polled: a side future may add another.
        let mut sides = std::mem::take(&mut *self.sides.borrow_mut());
        sides.retain_mut(|f| f.as_mut().poll(cx).is_pending());
        let mut now = self.sides.borrow_mut();
        let added = std::mem::replace(&mut *now, sides);
        now.extend(added);
    }
    /// Drops everything that runs beside the stream (the request pump lets go of the request body).
    pub fn drop_sides(&self) {
        drop(std::mem::take(&mut *self.sides.borrow_mut()));
    }
    fn wake(&self) {
        if let Some(w) = &*self.waker.borrow() {
            w.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Rc<ConnInfo> {
        let nowhere = Address::Internal("a".into(), "b".into());
        Rc::new(ConnInfo::new(7, Arc::default(), nowhere.clone(), nowhere))
    }

    #[test]
    fn a_stream_in_used_memory_knows_nothing_of_the_one_before() {
        let (conn, other) = (connection(), connection());
        let sx = StreamShared::new(conn.clone(), None);
        sx.info.set_flag(Flag::NoRouteFound);
        sx.info.set_details("details");
        sx.info.response_code.set(404);
        sx.info.set_metadata("a", prost_types::Struct::default());
        sx.side(std::future::pending());
        sx.interrupt(Interrupt::Reset(ResetReason::LocalReset));
        sx.inform(ResponseHead::new(103));
        let at = Rc::as_ptr(&sx);
        let held = sx.clone();
        sx.recycle();
        held.recycle();
        assert_eq!(Rc::strong_count(&conn), 1, "its connection is let go");
        let sx = StreamShared::new(other.clone(), None);
        assert_eq!(Rc::as_ptr(&sx), at, "the memory is used again, once nobody held it");
        let i = &sx.info;
        assert_eq!((i.has_flag(Flag::NoRouteFound), i.response_code.get()), (false, 0));
        assert!(i.details.borrow().is_empty() && i.metadata.borrow().is_none());
        assert!(sx.sides.borrow().is_empty() && sx.next_informational().is_none());
        assert!(sx.poll_beside(&mut Context::from_waker(Waker::noop())).is_none());
        assert!(Rc::ptr_eq(&sx.conn, &other));
    }
}

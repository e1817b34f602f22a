//! Checks the hosts of one cluster: a task for each.

use super::HealthCheckStats;
use super::config::{Config, Kind};
use super::conn::{ConnStats, Ended, HttpConn};
use super::grpc;
use super::http::{Outcome, Passed};
use super::state::{Event, Failure, State, Transition};
use super::{event, redis, tcp};
use crate::io::Io;
use crate::stats::{Http1Stats, Http2Stats};
use crate::upstream::cluster::{ClusterPlan, UpstreamProtocol};
use crate::upstream::connect;
use crate::upstream::health::HostHealth;
use crate::upstream::host::Host;
use crate::upstream::transport::{Transport, Transports};
use nuncio_core::address::Address;
use nuncio_core::clock::{self, Sleep, TimerKind};
use nuncio_core::stats::sanitize;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::AbortHandle;

/// `user-agent` of checks.
pub const USER_AGENT: &[u8] = b"Envoy/HC";

/// What a check has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// What it changed.
    pub transition: Transition,
    /// The check was passed.
    pub passed: bool,
}

type Heard = Box<dyn Fn(&Arc<Host>, Report)>;

/// The health checker of one cluster.
pub struct Checker {
    plan: Arc<ClusterPlan>,
    config: Config,
    /// With the protocols of `tls_options`.
    transports: Option<Transports>,
    /// It is one of several: it has a view of its own of each host.
    several: bool,
    stats: HealthCheckStats,
    sessions: RefCell<HashMap<*const Host, Session>>,
    heard: OnceCell<Heard>,
    /// The cluster has had a connection.
    traffic: Cell<bool>,
    /// The codecs' stats, made with the first connection.
    http1: OnceCell<Http1Stats>,
    http2: OnceCell<Http2Stats>,
}

struct Session {
    host: Arc<Host>,
    seen: Rc<Seen>,
    task: AbortHandle,
}

/// What a check knows of a host.
struct Seen {
    state: RefCell<State>,
    /// Its own view, where there are several checks.
    view: Option<HostHealth>,
}

impl Seen {
    fn health<'a>(&'a self, host: &'a Host) -> &'a HostHealth {
        self.view.as_ref().unwrap_or(&host.health)
    }
}

/// The connection of a session.
enum Conn {
    Http(HttpConn),
    Tcp(Box<tcp::Conn>),
    Redis(Box<redis::Conn>),
}

impl Conn {
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Conn::Http(c) => c.poll_idle(cx),
            Conn::Tcp(c) => c.poll_idle(cx),
            Conn::Redis(c) => c.poll_idle(cx),
        }
    }
}

impl Checker {
    /// Checks nobody yet.
    pub fn new(
        plan: Arc<ClusterPlan>,
        config: Config,
        transports: Option<Transports>,
        several: bool,
    ) -> Checker {
        let scope = plan.scope.scope("health_check");
        let stats = HealthCheckStats::new(&match &*config.name {
            "" => scope,
            name => scope.scope("name").scope(&sanitize(name)),
        });
        let (sessions, heard, traffic, http1, http2) = Default::default();
        Checker { plan, config, transports, several, stats, sessions, heard, traffic, http1, http2 }
    }
    /// Tells `f` of every result; set once.
    pub fn tells(&self, f: impl Fn(&Arc<Host>, Report) + 'static) {
        // The first one stays: a cluster begins once.
        let _ = self.heard.set(Box::new(f));
    }
    /// These hosts are checked from now on, and no others. One that is new counts as failed until its first check, unless
    /// a host with its address was checked before (any, if it is `logical`); `pending`: it does not count at all until then.
    pub fn set_hosts(self: &Rc<Self>, hosts: &[Arc<Host>], pending: bool, logical: bool) {
        let mut old = std::mem::take(&mut *self.sessions.borrow_mut());
        let mut new = HashMap::with_capacity(hosts.len());
        for h in hosts.iter().filter(|h| !h.is_unchecked()) {
            let key = Arc::as_ptr(h);
            let session = old.remove(&key).unwrap_or_else(|| {
                let before = old.values().find(|s| logical || s.host.info.address == h.info.address);
                let view = self.several.then(HostHealth::default);
                let health = view.as_ref().unwrap_or(&h.health);
                begin(health, before.map(|s| s.seen.health(&s.host)), pending);
                h.checked_by.get_or_init(|| self.plan.name.clone());
                self.session(h, view)
            });
            new.insert(key, session);
        }
        *self.sessions.borrow_mut() = new;
        for s in old.into_values() {
            self.ends(&s);
        }
    }
    fn session(self: &Rc<Self>, h: &Arc<Host>, view: Option<HostHealth>) -> Session {
        let state = RefCell::new(State::new(view.as_ref().unwrap_or(&h.health), &self.stats));
        let seen = Rc::new(Seen { state, view });
        let run = run(Rc::downgrade(self), h.clone(), seen.clone());
        Session { host: h.clone(), seen, task: tokio::task::spawn_local(run).abort_handle() }
    }
    /// What this check has found of a host, one of several checks.
    pub fn view(&self, host: &Arc<Host>) -> u16 {
        let sessions = self.sessions.borrow();
        sessions.get(&Arc::as_ptr(host)).map_or(0, |s| s.seen.health(host).bits())
    }
    /// It has looked at a host once.
    pub fn has_checked(&self, host: &Arc<Host>) -> bool {
        let sessions = self.sessions.borrow();
        sessions.get(&Arc::as_ptr(host)).is_none_or(|s| !s.seen.state.borrow().is_first())
    }
    fn ends(&self, s: &Session) {
        s.task.abort();
        if s.seen.state.borrow().ends(s.seen.health(&s.host), &self.stats) {
            // Somebody may wait for a check that will not come.
            let passed = !s.host.health.has(HostHealth::FAILED_ACTIVE_HC);
            self.tell(&s.host, Report { transition: Transition::Unchanged, passed });
        }
    }
    /// How many hosts are checked.
    pub fn len(&self) -> usize {
        self.sessions.borrow().len()
    }
    /// A host has told a request that it has failed.
    pub fn failed_passively(&self, host: &Arc<Host>) {
        let seen = self.sessions.borrow().get(&Arc::as_ptr(host)).map(|s| s.seen.clone());
        if let Some(seen) = seen {
            self.result(host, &seen, Err((Failure::Passive, false)));
        }
    }
    fn tell(&self, host: &Arc<Host>, r: Report) {
        if let Some(f) = self.heard.get() {
            f(host, r);
        }
    }
    fn result(&self, host: &Arc<Host>, seen: &Seen, outcome: Outcome) -> Transition {
        let mut log = |e: Event| {
            let line = event::line(self.config.kind.pb(), &self.plan.name, host, e);
            self.config.logs.iter().for_each(|l| l(&line));
        };
        let (rules, stats, health) = (&self.config.rules, &self.stats, seen.health(host));
        let state = &seen.state;
        if outcome.is_ok() && !self.several && health.has(HostHealth::FAILED_ACTIVE_HC) {
            host.comes_up();
        }
        let transition = match outcome {
            Ok(Passed { degraded }) => state.borrow_mut().passed(health, rules, stats, degraded, &mut log),
            Err(failure) => state.borrow_mut().failed(health, rules, stats, failure, &mut log),
        };
        self.tell(host, Report { transition, passed: outcome.is_ok() });
        transition
    }
    fn has_traffic(&self) -> bool {
        if !self.traffic.get() {
            self.traffic.set(self.plan.stats.upstream_cx_total().value() > 0);
        }
        self.traffic.get()
    }
    /// One check.
    async fn probe(&self, host: &Arc<Host>, conn: &mut Option<Conn>) -> Outcome {
        let network = |_: Ended| (Failure::Network, false);
        let tls = self.transport(host).is_tls();
        let mut c = match conn.take() {
            Some(c) => c,
            None => self.connect(host).await.map_err(network)?,
        };
        let (outcome, close) = match (&self.config.kind, &mut c) {
            (Kind::Http(h), Conn::Http(c)) => {
                let head = h.request(host, self.authority(host, &h.host), tls);
                let answer =
                    c.ask(&head, h.send.clone().into(), h.keep(), |_, _| false).await.map_err(network)?;
                (h.judge(&answer, &host.health, &self.stats), answer.close)
            }
            (Kind::Grpc(g), Conn::Http(c)) => {
                let head = g.request(host, self.authority(host, &g.authority), tls, self.config.timeout);
                let answer =
                    c.ask(&head, g.body().into(), grpc::MOST, grpc::enough).await.map_err(network)?;
                (g.judge(&answer), answer.close)
            }
            (Kind::Tcp(t), Conn::Tcp(c)) if !t.receive.is_empty() => {
                c.check(t).await.map_err(network)?;
                (Ok(Passed { degraded: false }), false)
            }
            (Kind::Redis(r), Conn::Redis(c)) => (r.outcome(c.ask(r).await.map_err(network)?), false),
            (Kind::Thrift(t), Conn::Tcp(c)) => {
                let passed = c.ask(&t.request, |answer| t.judge(answer)).await.map_err(network)?;
                (outcome(passed), false)
            }
            // A connection is all that is wanted.
            _ => (Ok(Passed { degraded: false }), true),
        };
        if self.config.reuse_connection && !close {
            *conn = Some(c);
        }
        outcome
    }
    fn authority<'a>(&'a self, host: &'a Host, configured: &'a str) -> &'a str {
        let own = host.check.as_ref().map_or("", |c| &*c.hostname);
        [own, configured].into_iter().find(|n| !n.is_empty()).unwrap_or(&self.plan.name)
    }
    fn transport(&self, host: &Host) -> &Transport {
        let all = self.transports.as_ref().unwrap_or(&self.plan.transports);
        match &self.config.labels {
            None => all.of(&host.info),
            Some(labels) => all.labelled(labels),
        }
    }
    async fn connect(&self, host: &Arc<Host>) -> Result<Conn, Ended> {
        let address = address(host).ok_or(Ended)?;
        let alpn = if self.plan.http.protocol == UpstreamProtocol::Http2 { "h2" } else { "" };
        let io: Io = connect::connect_to(&self.plan, self.transport(host), &address, &host.info, alpn)
            .await
            .map_err(|_| Ended)?;
        let (http, scope, cluster) = (&self.plan.http, &self.plan.scope, self.plan.stats.clone());
        let of = |http2| ConnStats { cluster, http2 };
        Ok(match &self.config.kind {
            Kind::Redis(_) => Conn::Redis(Box::new(redis::Conn::new(io, self.plan.clone(), host.clone()))),
            Kind::Tcp(_) | Kind::Thrift(_) => Conn::Tcp(Box::new(tcp::Conn::new(io))),
            Kind::Http(h) if !h.http2 => {
                self.http1.get_or_init(|| Http1Stats::new(&scope.scope("http1")));
                Conn::Http(HttpConn::h1(io, http.h1.clone(), of(None)))
            }
            Kind::Http(_) | Kind::Grpc(_) => {
                let stats = self.http2.get_or_init(|| Http2Stats::new(&scope.scope("http2")));
                Conn::Http(HttpConn::h2(io, http.h2.clone(), of(Some(stats.clone()))))
            }
        })
    }
}

impl Checker {
    /// Checks nobody any more, and tells nobody.
    pub fn end(&self) {
        for s in self.sessions.take().into_values() {
            s.task.abort();
            s.seen.state.borrow().ends(s.seen.health(&s.host), &self.stats);
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is made of an answer that is right or wrong.
pub(super) fn outcome(passed: bool) -> Outcome {
    if passed { Ok(Passed { degraded: false }) } else { Err((Failure::Active(0), false)) }
}

/// Where a host is checked.
fn address(host: &Host) -> Option<Address> {
    let own = host.check.as_deref();
    let address = own.and_then(|c| c.address.clone()).or_else(|| host.info.address.clone())?;
    Some(match (address, own.map_or(0, |c| c.port)) {
        (Address::Ip(ip), port @ 1..) => SocketAddr::new(ip.ip(), port).into(),
        (address, _) => address,
    })
}

/// What counts of a host that is new.
fn begin(health: &HostHealth, before: Option<&HostHealth>, pending: bool) {
    const KEPT: u16 = HostHealth::FAILED_ACTIVE_HC
        | HostHealth::DEGRADED_ACTIVE_HC
        | HostHealth::PENDING_ACTIVE_HC
        | HostHealth::ACTIVE_HC_TIMEOUT;
    health.set(match before {
        Some(b) => b.bits() & KEPT,
        None if pending => HostHealth::FAILED_ACTIVE_HC | HostHealth::PENDING_ACTIVE_HC,
        None => HostHealth::FAILED_ACTIVE_HC,
    });
}

/// The task of a host.
async fn run(checker: Weak<Checker>, host: Arc<Host>, seen: Rc<Seen>) {
    let mut conn = None;
    let first = checker.upgrade().and_then(|c| c.config.rules.first());
    if let Some(wait) = first {
        clock::sleep(TimerKind::Other, wait).await;
    }
    while let Some(c) = checker.upgrade() {
        c.stats.attempt().inc();
        // In a box: between checks the task is small.
        let probe = Box::pin(c.probe(&host, &mut conn));
        let outcome = clock::timeout(TimerKind::Other, c.config.timeout, probe).await;
        let outcome = outcome.unwrap_or(Err((Failure::NetworkTimeout, false)));
        let transition = c.result(&host, &seen, outcome);
        let wait = c.config.rules.next(outcome.is_ok(), transition, c.has_traffic());
        drop(c);
        idle(&mut conn, wait).await;
    }
}

/// Waits; meanwhile a connection that its host closes is let go of.
async fn idle(conn: &mut Option<Conn>, wait: Duration) {
    let mut sleep: Sleep = clock::sleep(TimerKind::Other, wait);
    poll_fn(|cx| {
        if let Some(c) = conn
            && c.poll_idle(cx).is_ready()
        {
            *conn = None;
        }
        Pin::new(&mut sleep).poll(cx)
    })
    .await;
}

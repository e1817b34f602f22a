//! One proxied connection: the cluster and a host are chosen and connected to as soon as the client is there, then the
//! bytes go both ways until both sides have ended, or a limit is reached.

use super::config::{Hash, Target, TcpPlan};
use super::log;
use super::relay::{End, Limits, Relay};
use super::tunnel::relay::{State, TunnelRelay};
use super::tunnel::{self, TunnelUp};
use crate::io::Io;
use crate::listener::gate::Gate;
use crate::upstream::bytes::{self, BytesUp};
use crate::upstream::lb::LbContext;
use crate::upstream::lb::config::Policy;
use crate::upstream::lb::hash_policy::{self, HashPolicy};
use crate::upstream::lb::subset::{Criteria, asked};
use crate::upstream::local::{Cluster, Clusters, LocalHost};
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::filter_state::{TCP_PROXY_CLUSTER, TCP_PROXY_IDLE_TIMEOUT};
use nuncio_core::flags::Flag;
use nuncio_core::info::{ConnInfo, StreamInfo};
use nuncio_core::rng;
use nuncio_core::upstreams::Found;
use nuncio_wire::ReadBuf;
use std::borrow::Cow;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

/// A connection that is proxied.
pub struct Session {
    plan: Arc<TcpPlan>,
    conn: Rc<ConnInfo>,
    /// `max_downstream_connection_duration` ends it then.
    deadline: Option<Instant>,
    /// It has an upstream.
    linked: Cell<bool>,
}

/// What a connection says about the host it should go to.
struct Asking<'a> {
    session: &'a Session,
    target: &'a Target,
}

impl LbContext for Asking<'_> {
    fn hash(&self, _: Option<&HashPolicy>) -> Option<u64> {
        let conn = &self.session.conn;
        match self.session.plan.hash.as_ref()? {
            Hash::SourceIp => hash_policy::of_ip(&conn.remote.borrow()),
            Hash::FilterState(key) => conn.filter_state.borrow().get(key)?.hash(),
        }
    }
    fn criteria(&self) -> Option<Criteria<'_>> {
        asked(self.target.metadata_match.as_deref(), self.session.info())
    }
    fn info(&self) -> Option<&StreamInfo> {
        Some(self.session.info())
    }
    fn conn(&self) -> Option<&ConnInfo> {
        Some(&self.session.conn)
    }
}

/// What leads to the upstream.
enum Link {
    /// A connection.
    Bytes(BytesUp),
    /// A stream to an HTTP proxy.
    Tunnel(Box<TunnelUp>),
}

/// Why there is no upstream connection, as `tcp_initializion_failure:<n>` (Envoy's spelling) numbers it.
#[derive(Clone, Copy)]
enum Failure {
    ConnectFailed = 0,
    NoHealthyUpstream = 1,
    ResourceLimitExceeded = 2,
    NoRoute = 3,
}

impl Session {
    /// A connection that begins. Counts it.
    pub fn begin(plan: Arc<TcpPlan>, conn: Rc<ConnInfo>) -> Session {
        let deadline = plan.max_duration().map(|d| conn.start + d);
        let logged = conn.logged.get().is_some() || !plan.access_logs.is_empty();
        let s = Session { plan, conn, deadline, linked: Cell::new(false) };
        let id = logged.then(|| String::from_utf8_lossy(&rng::uuid4()).into());
        *s.info().stream_id.borrow_mut() = id;
        s.plan.stats.downstream_cx_total().inc();
        if s.plan.log.start {
            s.log(AccessLogType::TcpConnectionStart);
        }
        s
    }
    /// What is noted of the connection as a whole.
    fn info(&self) -> &StreamInfo {
        let new = || Box::new(StreamInfo { start: self.conn.start, ..StreamInfo::new() });
        self.conn.logged.get_or_init(new)
    }
    fn log(&self, kind: AccessLogType) {
        log::write(&self.plan.access_logs, &self.conn, kind);
    }
    fn closes(&self, reason: impl Into<Cow<'static, str>>) {
        *self.conn.end().local_close_reason.borrow_mut() = reason.into();
    }

    /// Serves the connection to its end. `client` makes the client's stream ready, perhaps by a handshake, while the
    /// upstream is connected to (`tls`: by a handshake); it gives none when that failed. `gate`: what the connection has
    /// to pass first.
    pub async fn serve(
        self,
        client: impl Future<Output = Option<(Io, ReadBuf)>>,
        tls: bool,
        mut gate: Option<Box<Gate>>,
    ) {
        if let Some(g) = &mut gate
            && !g.opens().await
        {
            g.drain(client).await;
            return;
        }
        let work = pin!(self.run(client, tls, gate));
        let Some(at) = self.deadline else { return work.await };
        let left = at.saturating_duration_since(clock::now());
        if clock::timeout(TimerKind::Other, left, work).await.is_err() {
            const REASON: &str = "max_connection_duration_reached";
            self.plan.stats.max_downstream_connection_duration().inc();
            self.info().set_flag(Flag::DurationTimeout);
            self.closes(REASON);
            self.info().upstream.borrow_mut().local_close_reason = REASON.into();
            if !self.linked.get() {
                self.unlinked();
            }
        }
    }
    /// It ends without an upstream that would be told.
    fn unlinked(&self) {
        let mut up = self.info().upstream.borrow_mut();
        (up.host, up.local_close_reason) = (None, "".into());
    }

    async fn run(
        &self,
        client: impl Future<Output = Option<(Io, ReadBuf)>>,
        tls: bool,
        mut gate: Option<Box<Gate>>,
    ) {
        let (mut client, mut connect) = (pin!(client), pin!(self.connect()));
        let (mut stream, mut up, mut late) = (None, None, false);
        let mut limits = Limits::new(self.idle(), self.plan.log.interval);
        // Both at once; the first failure ends both.
        let both = poll_fn(|cx| {
            if up.is_none()
                && let Poll::Ready(u) = connect.as_mut().poll(cx)
            {
                up = Some(u);
            }
            // No handshake for nothing.
            if tls && matches!(up, Some(None)) {
                return Poll::Ready(());
            }
            if stream.is_none()
                && let Poll::Ready(s) = client.as_mut().poll(cx)
            {
                stream = Some(s);
            }
            match (&stream, &up) {
                (Some(None), _) | (_, Some(None)) | (Some(_), Some(_)) => Poll::Ready(()),
                _ => {
                    ready!(limits.poll(cx, &|| self.log(AccessLogType::TcpPeriodic)));
                    late = true;
                    Poll::Ready(())
                }
            }
        });
        both.await;
        if late {
            self.ended(End::Idle);
            return self.unlinked();
        }
        match (stream.flatten(), up.flatten()) {
            (Some((io, read)), Some(up)) => {
                if let Some(g) = &mut gate {
                    g.secured();
                    if !read.is_empty() && !g.passes() {
                        self.plan.stats.downstream_cx_rx_bytes_total().add(read.len() as u64);
                        self.conn.count_bytes(read.len() as u64, 0);
                        return;
                    }
                }
                limits.moved();
                self.relay(io, read, up, gate, limits).await;
            }
            // What was read and goes nowhere counts as not read: the connection ends with RST.
            (Some((io, read)), None) if !read.is_empty() => io.set_reset_on_close(),
            _ => {}
        }
    }

    async fn relay(&self, io: Io, read: ReadBuf, up: Link, gate: Option<Box<Gate>>, limits: Limits) {
        self.linked.set(true);
        if self.plan.log.connected {
            self.log(AccessLogType::TcpUpstreamConnected);
        }
        let log = || self.log(AccessLogType::TcpPeriodic);
        let (plan, conn, info) = (&*self.plan, &*self.conn, self.info());
        self.ended(match up {
            Link::Bytes(up) => Relay::new(plan, conn, info, io, read, up, limits).behind(gate).run(log).await,
            Link::Tunnel(up) => {
                let (up, state) = (*up, State::default());
                let relay = TunnelRelay { plan, conn, info, client: io, read, up, gate, limits, state };
                Box::pin(relay.run(log)).await
            }
        });
    }
    fn ended(&self, end: End) {
        match end {
            End::Idle => {
                const REASON: &str = "tcp_session_idle_timeout";
                self.plan.stats.idle_timeout().inc();
                self.closes(REASON);
                self.info().upstream.borrow_mut().local_close_reason = REASON.into();
            }
            End::UpstreamReset => self.info().set_flag(Flag::UpstreamRemoteReset),
            End::Closed => {}
        }
    }

    /// Connects, as often as `max_connect_attempts` says.
    async fn connect(&self) -> Option<Link> {
        let began = clock::now();
        let info = self.info();
        let own = self.own_cluster();
        let target = own.as_ref().unwrap_or_else(|| self.plan.choose(info.random.get()));
        let name = &target.name;
        loop {
            let Some(cluster) = self.cluster(name).await else {
                self.plan.stats.downstream_cx_no_route().inc();
                return self.failed(Some(Flag::NoClusterFound), Failure::NoRoute);
            };
            {
                let mut up = info.upstream.borrow_mut();
                up.cluster = Some(cluster.plan.name.clone());
                up.cluster_observability = Some(cluster.plan.observability_name.clone());
                up.cluster_metadata = Some(cluster.plan.metadata.clone());
            }
            let stats = &cluster.plan.stats;
            if !cluster.plan.breakers[0].connections.can_take() {
                stats.upstream_cx_overflow().inc();
                return self.failed(Some(Flag::UpstreamOverflow), Failure::ResourceLimitExceeded);
            }
            let asking = Asking { session: self, target };
            let mut host = cluster.choose(&asking);
            if host.is_none()
                && let Policy::Forward(f) = &cluster.plan.lb.policy
                && f.resolve(f.destination(&asking)).await.is_ok()
            {
                host = cluster.choose(&asking);
            }
            let Some(host) = host else {
                stats.upstream_cx_none_healthy().inc();
                return self.failed(Some(Flag::NoHealthyUpstream), Failure::NoHealthyUpstream);
            };
            info.attempts.set(info.attempts.get() + 1);
            {
                let mut up = info.upstream.borrow_mut();
                up.host = Some(host.host.info.clone());
                up.hosts_attempted.push(host.host.info.clone());
            }
            match self.link(&cluster, &host, began).await {
                Ok(made) => {
                    if let Some(m) = host.host.monitor.get() {
                        m.served();
                    }
                    return Some(made);
                }
                Err(e) => {
                    info.upstream.borrow_mut().transport_failure = e.transport;
                    // A refusal of the cluster's own limits is no failure of the host.
                    if !matches!(e.reason, ResetReason::Overflow | ResetReason::PendingOverflow) {
                        match (host.host.monitor.get(), e.reason) {
                            (None, _) => {}
                            (Some(m), ResetReason::ConnectionTimeout) => m.timed_out(504),
                            (Some(m), _) => m.failed(),
                        }
                        info.set_flag(Flag::UpstreamConnectionFailure);
                    }
                    if info.attempts.get() >= self.plan.max_connect_attempts {
                        return self.exhausted(&cluster);
                    }
                }
            }
        }
    }
    /// How long nothing may move: what filters before have set for this connection, or `idle_timeout`.
    fn idle(&self) -> Option<Duration> {
        let own = self.conn.filter_state.borrow().get(TCP_PROXY_IDLE_TIMEOUT);
        let own = own.and_then(|o| o.text()?.parse().ok()).map(Duration::from_millis);
        own.or(self.plan.idle)
    }
    /// The cluster that filters before have chosen for this connection.
    fn own_cluster(&self) -> Option<Target> {
        let object = self.conn.filter_state.borrow().get(TCP_PROXY_CLUSTER)?;
        self.plan.instead(&object.text()?)
    }
    async fn link(
        &self,
        cluster: &Rc<Cluster>,
        host: &Rc<LocalHost>,
        began: Instant,
    ) -> Result<Link, StreamError> {
        if let Some(plan) = &self.plan.tunnel {
            // Boxed: most connections have none.
            let opened = Box::pin(tunnel::open(plan, cluster, host, &self.conn, self.info(), began)).await;
            return opened.map(|up| Link::Tunnel(Box::new(up)));
        }
        let made = bytes::open(cluster, &host.host, &self.conn).await?;
        self.connected(&made, began);
        Ok(Link::Bytes(made))
    }
    /// The cluster of this name, when it is there or can be found.
    async fn cluster(&self, name: &str) -> Option<Rc<Cluster>> {
        if let Some(c) = Clusters::here().get(name) {
            return Some(c);
        }
        let o = self.plan.on_demand.as_ref()?;
        o.stats.on_demand_cluster_attempt().inc();
        match o.finder.find(name, o.limit).await {
            Found::Here => o.stats.on_demand_cluster_success().inc(),
            Found::Missing => o.stats.on_demand_cluster_missing().inc(),
            Found::TimedOut => o.stats.on_demand_cluster_timeout().inc(),
        }
        Clusters::here().get(name)
    }
    fn exhausted(&self, cluster: &Cluster) -> Option<Link> {
        cluster.plan.stats.upstream_cx_connect_attempts_exceeded().inc();
        self.failed(Some(Flag::UpstreamRetryLimitExceeded), Failure::ConnectFailed)
    }
    fn failed(&self, flag: Option<Flag>, why: Failure) -> Option<Link> {
        flag.into_iter().for_each(|f| self.info().set_flag(f));
        self.closes(format!("tcp_initializion_failure:{}", why as u8));
        None
    }
    fn connected(&self, made: &BytesUp, began: Instant) {
        let mut up = self.info().upstream.borrow_mut();
        up.local_address = made.facts.local.clone();
        up.remote_address = made.facts.remote.clone();
        up.tls = made.facts.tls.clone();
        up.connection_id = Some(made.id);
        up.connections_attempted.push(made.id);
        up.pool_ready = Some(clock::now().saturating_duration_since(began));
    }
}

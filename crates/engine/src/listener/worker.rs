//! A listener on one worker: accepts, lets listener filters look, chooses the filter chain, runs the TLS handshake, and
//! hands the connection to its connection manager.

use super::answer;
use super::chains::Facts;
use super::config::{ChainPlan, ListenerPlan};
use super::filters::Inspected;
use super::gate::Gate;
use super::socket::{Bound, Listen};
use super::terminal::Terminal;
use crate::guard;
use crate::http::CloseReason;
use crate::http::codec::{self, Counted};
use crate::http::drain::Drain;
use crate::io::Io;
use crate::stats::HandlerStats;
use crate::tcp::{self, Session};
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::flags::Flag;
use nuncio_core::info::{ConnInfo, Direction};
use nuncio_core::listener_filter::Detected;
use nuncio_core::worker;
use nuncio_wire::ReadBuf;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinHandle};

/// Numbers downstream connections across workers, as `%CONNECTION_ID%` prints them.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Listeners of one thread.
#[derive(Default)]
pub struct LocalListeners {
    all: RefCell<Vec<Rc<LocalListener>>>,
    /// Those that take connections, by address: for [`use_original_dst`](ListenerPlan::use_original_dst).
    by_address: RefCell<HashMap<SocketAddr, Rc<LocalListener>>>,
    /// `envoy.overload_actions.stop_accepting_connections`
    paused: Cell<bool>,
}

struct LocalListener {
    /// What connections that come now get.
    serving: RefCell<Rc<Serving>>,
    handler: HandlerStats,
    /// One per address; none when it does not bind.
    acceptors: RefCell<Vec<JoinHandle<()>>>,
    /// Its connections, to cut them; places of those that ended are in `free`.
    connections: RefCell<Vec<Open>>,
    free: RefCell<Vec<u32>>,
    /// Nothing is accepted for now.
    paused: Cell<bool>,
    /// Acceptors that wait for the end of that.
    resumed: RefCell<Vec<Waker>>,
}

/// A listener's plan on one worker. It is replaced when filter chains change.
struct Serving {
    plan: Arc<ListenerPlan>,
    /// What serves the connections of each filter chain, in their order.
    terminals: Vec<Option<Terminal>>,
}

/// A connection, as its listener knows it.
#[derive(Default)]
struct Open {
    task: Option<AbortHandle>,
    /// Its filter chain.
    chain: Option<u32>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Perhaps the last one that holds the plan, when connections outlived it: main frees plans.
        worker::retire(self.plan.clone());
    }
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener, Address),
}

impl Acceptor {
    fn new(b: Bound) -> io::Result<Acceptor> {
        Ok(match b {
            Bound::Tcp(l) => Acceptor::Tcp(TcpListener::from_std(l)?),
            Bound::Unix(l, local) => Acceptor::Unix(UnixListener::from_std(l)?, local),
        })
    }
    async fn accept(&self) -> io::Result<(Io, Address, Address)> {
        match self {
            Acceptor::Tcp(l) => {
                let (s, peer) = l.accept().await?;
                s.set_nodelay(true)?;
                let local = s.local_addr()?;
                Ok((Io::Tcp(s), peer.into(), local.into()))
            }
            Acceptor::Unix(l, local) => {
                let (s, _) = l.accept().await?;
                // A client without an address of its own counts as at ours, as in Envoy.
                Ok((Io::Unix(s), local.clone(), local.clone()))
            }
        }
    }
}

impl LocalListeners {
    /// This thread's listeners.
    pub fn here() -> Rc<LocalListeners> {
        worker::local(LocalListeners::default)
    }
    /// Begins to accept. `handler` names this thread in the stats: `worker_0`, `main_thread`.
    ///
    /// # Errors
    /// A socket cannot be registered.
    pub fn start(
        &self,
        plan: Arc<ListenerPlan>,
        terminals: Vec<Option<Terminal>>,
        sockets: Vec<Bound>,
        handler: &str,
    ) -> io::Result<()> {
        let bound = |(i, a): (usize, &Listen)| match sockets.get(i) {
            Some(s) => with_port(&s.address(&a.address)),
            None => with_port(&a.address),
        };
        let addresses: Vec<_> = plan.addresses.iter().enumerate().map(bound).collect();
        let acceptors = sockets.into_iter().map(Acceptor::new).collect::<io::Result<Vec<_>>>()?;
        let handler = HandlerStats::new(&plan.scope.scope(handler));
        let l = Rc::new(LocalListener {
            serving: RefCell::new(Rc::new(Serving { plan, terminals })),
            handler,
            acceptors: RefCell::default(),
            connections: RefCell::default(),
            free: RefCell::default(),
            paused: Cell::default(),
            resumed: RefCell::default(),
        });
        l.pause(self.paused.get());
        let tasks = acceptors.into_iter().map(|a| tokio::task::spawn_local(accept(l.clone(), a)));
        *l.acceptors.borrow_mut() = tasks.collect();
        self.serve_at(&addresses, &l);
        self.all.borrow_mut().push(l);
        Ok(())
    }
    /// Gives the listener of this tag another plan, which differs in its filter chains. Chains that stay go on with the
    /// routes of the new plan; those that go drain.
    pub fn update(&self, tag: u64, plan: &Arc<ListenerPlan>, drain: Drain) {
        self.each(Which::One(tag), |l| l.update(plan.clone(), drain));
    }
    /// Cuts what is left of filter chains.
    pub fn remove_chains(&self, chains: &[u32]) {
        let goes = |o: &Open| o.chain.is_some_and(|c| chains.contains(&c));
        let all = self.all.borrow();
        for l in all.iter() {
            let open = l.connections.borrow();
            open.iter().filter(|o| goes(o)).filter_map(|o| o.task.as_ref()).for_each(AbortHandle::abort);
        }
    }
    /// Asks clients to go elsewhere; listening goes on.
    pub fn drain(&self, which: Which, drain: Drain) {
        self.each(which, |l| l.serving().terminals.iter().flatten().for_each(|t| t.drain(drain)));
    }
    /// Leaves connections with the kernel for a while, or takes them again; listeners to come do so, too.
    pub fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.each(Which::All, |l| l.pause(paused));
    }
    /// Stops to accept; connections go on.
    pub fn stop(&self, which: Which) {
        self.by_address.borrow_mut().retain(|_, l| !which.takes(l));
        self.each(which, |l| l.acceptors.borrow_mut().drain(..).for_each(|t| t.abort()));
    }
    /// Puts a listener where [`at`](Self::at) finds it: at its addresses, one by one.
    fn serve_at(&self, addresses: &[Option<SocketAddr>], l: &Rc<LocalListener>) {
        let mut all = self.by_address.borrow_mut();
        let plan = &l.serving().plan;
        for (address, asked) in addresses.iter().zip(&plan.addresses) {
            let Some(address) = address else { continue };
            all.insert(*address, l.clone());
            if asked.ipv4_compat && address.ip() == Ipv6Addr::UNSPECIFIED {
                // Unless another listener has just this address.
                let four = (Ipv4Addr::UNSPECIFIED, address.port()).into();
                let other = |o: &Rc<LocalListener>| o.serving.borrow().plan.info.name != plan.info.name;
                if !all.get(&four).is_some_and(other) {
                    all.insert(four, l.clone());
                }
            }
        }
    }
    /// The listener at an address, or at any address with that port, that takes connections.
    fn at(&self, address: &Address) -> Option<Rc<LocalListener>> {
        let exact = with_port(address)?;
        let any: IpAddr =
            if exact.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let all = self.by_address.borrow();
        all.get(&exact).or_else(|| all.get(&(any, exact.port()).into())).cloned()
    }
    /// Ends what is left of a listener: its connections are cut.
    pub fn remove(&self, which: Which) {
        self.stop(which);
        self.each(which, |l| {
            l.connections.borrow_mut().drain(..).filter_map(|o| o.task).for_each(|t| t.abort())
        });
        self.all.borrow_mut().retain(|l| !which.takes(l));
    }
    fn each(&self, which: Which, f: impl Fn(&LocalListener)) {
        self.all.borrow().iter().filter(|l| which.takes(l)).for_each(|l| f(l));
    }
}

/// The address and the port of an IP address.
fn with_port(a: &Address) -> Option<SocketAddr> {
    Some((a.ip()?, a.port()?).into())
}

/// Which listeners are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// All of them.
    All,
    /// Those whose `traffic_direction` is `INBOUND`.
    Inbound,
    /// One generation of one listener.
    One(u64),
}

impl Which {
    fn takes(self, l: &LocalListener) -> bool {
        let serving = l.serving.borrow();
        self.includes(serving.plan.tag, serving.plan.info.direction)
    }
    /// True for a listener with this tag and direction.
    pub fn includes(self, tag: u64, direction: Direction) -> bool {
        match self {
            Which::All => true,
            Which::Inbound => direction == Direction::Inbound,
            Which::One(t) => t == tag,
        }
    }
}

async fn accept(l: Rc<LocalListener>, acceptor: Acceptor) {
    loop {
        let mut next = pin!(acceptor.accept());
        let accepted = poll_fn(|cx| match l.paused.get() {
            true => l.wait_for_resumption(cx),
            false => next.as_mut().poll(cx),
        });
        match accepted.await {
            Ok((io, remote, local)) => l.accepted(io, remote, local),
            // Out of descriptors, or the client left already: others can still be served.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => clock::sleep(TimerKind::Other, Duration::from_millis(10)).await,
        }
    }
}

impl LocalListener {
    fn pause(&self, paused: bool) {
        let paused = paused && !self.serving.borrow().plan.bypasses_overload;
        self.paused.set(paused);
        if !paused {
            self.resumed.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }
    fn wait_for_resumption<T>(&self, cx: &Context<'_>) -> Poll<T> {
        let mut all = self.resumed.borrow_mut();
        if !all.iter().any(|w| w.will_wake(cx.waker())) {
            all.push(cx.waker().clone());
        }
        Poll::Pending
    }
    fn serving(&self) -> Rc<Serving> {
        self.serving.borrow().clone()
    }
    fn update(&self, plan: Arc<ListenerPlan>, drain: Drain) {
        let old = self.serving();
        let of_chain = |c: &ChainPlan| {
            let kept = old.plan.chains.iter().zip(&old.terminals).find(|(o, _)| o.tag == c.tag);
            c.terminal.as_ref().map(|t| t.instantiate(kept.and_then(|(_, t)| t.as_ref())))
        };
        let terminals = plan.chains.iter().map(|c| of_chain(c)).collect();
        let stays = |tag: u32| plan.chains.iter().any(|c| c.tag == tag);
        for (_, t) in old.plan.chains.iter().zip(&old.terminals).filter(|(o, _)| !stays(o.tag)) {
            t.iter().for_each(|t| t.drain(drain));
        }
        *self.serving.borrow_mut() = Rc::new(Serving { plan, terminals });
    }
    fn accepted(self: &Rc<Self>, io: Io, remote: Address, local: Address) {
        let serving = self.serving();
        let plan = &serving.plan;
        let s = &plan.stats;
        s.connections_accepted_per_socket_event().record(1);
        let overload = &plan.server.overload;
        let exempt =
            plan.ignores_connection_limit || (plan.bypasses_overload && overload.connections.is_monitored());
        if !overload.connections.admit(exempt) {
            s.downstream_global_cx_overflow().inc();
            return;
        }
        let refused = match () {
            () if !plan.bypasses_overload && overload.refuses_connection() => {
                Some(s.downstream_cx_overload_reject())
            }
            () if plan.connections.load(Relaxed) >= plan.connection_limit.get() => {
                Some(s.downstream_cx_overflow())
            }
            () => None,
        };
        if let Some(counter) = refused {
            overload.connections.leave();
            counter.inc();
            return;
        }
        let info = plan.connection(remote, local);
        let place = Place::new(self.clone());
        let at = place.at;
        let plain = plan.filters.is_empty();
        let (active, at_end) = (Cell::new(false), OnceCell::new());
        let cx = Connection { place, info: Rc::new(info), active, at_end };
        let task = if plain {
            let Some(chain) = cx.choose(&Detected::default()) else { return };
            guard::spawn("connection", serve(cx, chain, io, ReadBuf::new()))
        } else {
            guard::spawn("connection", inspect(cx, io))
        };
        // The task runs after this one, so its place is still its own.
        if let Some(p) = self.connections.borrow_mut().get_mut(at as usize) {
            p.task = Some(task.abort_handle());
        }
    }
}

impl ListenerPlan {
    /// Facts of a connection just accepted.
    fn connection(&self, remote: Address, local: Address) -> ConnInfo {
        let info = ConnInfo::new(0, self.info.clone(), remote, local);
        if !self.access_logs.is_empty() {
            // Set once, here.
            let _ = info.logged.set(Box::default());
        }
        info
    }
}

/// What a connection takes of its listener: it counts against the limit, and is known by its number.
struct Place {
    listener: Rc<LocalListener>,
    /// Of its task in `connections`.
    at: u32,
}

impl Place {
    fn new(listener: Rc<LocalListener>) -> Place {
        listener.serving.borrow().plan.connections.fetch_add(1, Relaxed);
        let at = listener.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut all = listener.connections.borrow_mut();
            all.push(Open::default());
            all.len() as u32 - 1
        });
        Place { listener, at }
    }
    fn set(&self, f: impl FnOnce(&mut Open)) {
        if let Some(p) = self.listener.connections.borrow_mut().get_mut(self.at as usize) {
            f(p);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listener.serving.borrow().plan.connections.fetch_sub(1, Relaxed);
        self.set(|p| *p = Open::default());
        self.listener.free.borrow_mut().push(self.at);
    }
}

/// The filter chain of a connection, by its number in the plan at that time. Not kept for long: a connection shall not
/// keep plans of the past.
struct Chosen(Rc<Serving>, usize);

/// A connection that counts against the limit; dropping it takes it out of the counts and writes the access log.
struct Connection {
    place: Place,
    info: Rc<ConnInfo>,
    /// It has a filter chain, and counts as one of the listener's.
    active: Cell<bool>,
    /// Writes the TCP proxy's access log.
    at_end: OnceCell<tcp::log::AtEnd>,
}

impl Connection {
    /// Chooses the filter chain.
    fn choose(&self, detected: &Detected) -> Option<Chosen> {
        let (listener, info) = (&self.place.listener, &self.info);
        let serving = listener.serving();
        let plan = &serving.plan;
        let chain = plan.matcher.find(&Facts {
            local: &info.local.borrow(),
            remote: &info.remote.borrow(),
            direct_remote: &info.direct_remote,
            detected,
        });
        let Some(chain) = chain else {
            plan.stats.no_filter_chain_match().inc();
            if let Some(i) = info.logged.get() {
                i.set_flag(Flag::NoRouteFound);
                i.set_details("filter_chain_not_found");
            }
            return None;
        };
        info.id.set(NEXT.fetch_add(1, Relaxed));
        // The name is set once, here.
        let _ = info.filter_chain_name.set(plan.chains[chain].name.clone());
        self.active.set(true);
        self.place.set(|p| p.chain = Some(plan.chains[chain].tag));
        plan.stats.downstream_cx_total().inc();
        plan.stats.downstream_cx_active().inc();
        listener.handler.downstream_cx_total().inc();
        listener.handler.downstream_cx_active().inc();
        Some(Chosen(serving, chain))
    }
    /// The listener that this connection, for which the listener filters found out where it wanted to go, belongs to.
    fn destination(&self) -> Option<Rc<LocalListener>> {
        let hands_over = self.place.listener.serving.borrow().plan.use_original_dst;
        let local = self.info.local.borrow();
        let restored = hands_over && *local != self.info.direct_local;
        restored.then(|| LocalListeners::here().at(&local)).flatten()
    }
    /// Makes it a connection of another listener, as if it had been accepted there: what listener filters have noted
    /// stays behind, but for the addresses. The limits of that listener do not count.
    fn hand_over(&mut self, to: Rc<LocalListener>) {
        let old = &self.info;
        let info = to.serving.borrow().plan.connection(old.direct_remote.clone(), old.direct_local.clone());
        info.remote.swap(&old.remote);
        info.local.swap(&old.local);
        let place = Place::new(to);
        let mut task = None;
        self.place.set(|p| task = p.task.take());
        place.set(|p| p.task = task);
        (self.place, self.info) = (place, Rc::new(info));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (l, serving) = (&self.place.listener, self.place.listener.serving());
        let plan = &serving.plan;
        plan.server.overload.connections.leave();
        if self.active.get() {
            plan.stats.downstream_cx_active().dec();
            plan.stats.downstream_cx_destroy().inc();
            l.handler.downstream_cx_active().dec();
            let lived = clock::now().saturating_duration_since(self.info.start);
            plan.stats.downstream_cx_length_ms().record(lived.as_millis() as u64);
        }
        if !std::thread::panicking() {
            tcp::log::write(&plan.access_logs, &self.info, AccessLogType::NotSet);
        }
    }
}

/// Lets the listener filters look at a connection, then serves it.
async fn inspect(cx: Connection, mut io: Io) {
    let mut read = ReadBuf::new();
    // Boxed: what is needed at the start of a connection only shall not stay with it.
    match Box::pin(admit(cx, &mut io, &mut read)).await {
        Some((cx, chain)) => serve(cx, chain, io, read).await,
        // The bytes that were looked at count as not read: such a connection ends with RST.
        None if !read.is_empty() => io.set_reset_on_close(),
        None => {}
    }
}

/// Lets the listener filters look, and those of the listener that the connection then belongs to.
async fn admit(mut cx: Connection, io: &mut Io, read: &mut ReadBuf) -> Option<(Connection, Chosen)> {
    let mut detected = Detected::default();
    look(&cx, io, read, &mut detected).await?;
    if let Some(to) = cx.destination() {
        cx.hand_over(to);
        // Once only, whatever the filters say now.
        look(&cx, io, read, &mut detected).await?;
    }
    let chosen = cx.choose(&detected)?;
    Some((cx, chosen))
}

async fn look(cx: &Connection, io: &mut Io, read: &mut ReadBuf, detected: &mut Detected) -> Option<()> {
    let serving = cx.place.listener.serving();
    let plan = &serving.plan;
    let stats = &plan.stats;
    let _counted = stats.downstream_pre_cx_active().guard();
    let run = plan.filters.run(io, read, &cx.info, detected);
    let ended = match plan.filters.timeout {
        None => run.await,
        Some(t) => match clock::timeout(TimerKind::Other, t, run).await {
            Ok(ended) => ended,
            Err(_) => {
                stats.downstream_pre_cx_timeout().inc();
                match plan.filters.continue_on_timeout {
                    true => Inspected::Done,
                    false => Inspected::Refused,
                }
            }
        },
    };
    if !detected.server_name.is_empty() {
        // Set once, here.
        let _ = cx.info.sni.set(detected.server_name.clone());
    }
    match ended {
        Inspected::Done => Some(()),
        Inspected::Refused => None,
        Inspected::Unconfigured => {
            plan.config_stats.iter().for_each(|s| s.extension_config_missing().inc());
            None
        }
        Inspected::RemoteClose => {
            stats.downstream_listener_filter_remote_close().inc();
            None
        }
        Inspected::Error => {
            stats.downstream_listener_filter_error().inc();
            None
        }
    }
}

/// Serves a connection that has a filter chain. How it begins is in a box of its own, which is gone when a client of
/// HTTP/1 has said its first word: most of those wait most of the time, and ten thousand may wait.
fn serve(cx: Connection, chosen: Chosen, io: Io, read: ReadBuf) -> impl Future<Output = ()> {
    let begun = Box::pin(begin(cx, chosen, io, read));
    async move {
        let Some(Begun { cx: _cx, gate: _gate, conn }) = begun.await else { return };
        conn.serve().await;
    }
}

/// An HTTP/1 connection, and what lives as long as it.
struct Begun {
    cx: Connection,
    gate: Option<Box<Gate>>,
    conn: codec::Http1,
}

/// Lets a connection through its network filters and its TLS handshake. HTTP/1 is left to the caller, any other one is
/// served to its end.
async fn begin(cx: Connection, chosen: Chosen, io: Io, read: ReadBuf) -> Option<Begun> {
    let Chosen(serving, chain) = chosen;
    let terminal = serving.terminals[chain].clone()?; // without filters it is closed at once
    let Ok(mut gate) = Gate::new(&serving.plan.chains[chain].network, &cx.info) else {
        let stats = serving.plan.config_stats.as_ref();
        stats.iter().for_each(|s| s.network_extension_config_missing().inc());
        return None;
    };
    match terminal {
        Terminal::Http(hcm) => {
            let tls = serving.plan.chains[chain].tls.is_some();
            let idle = hcm.timeouts.idle;
            let counted = Counted::new(hcm, cx.info.clone(), tls);
            let secured = secure(&cx, Chosen(serving, chain), io, read);
            let admitted = match &mut gate {
                None => secured.await,
                Some(gate) => Box::pin(gate.admit(secured, idle)).await,
            };
            match admitted {
                Ok((io, read)) => {
                    let conn = codec::begin(io, read, counted).await?;
                    return Some(Begun { cx, gate, conn });
                }
                Err(reason) => counted.ended(reason),
            }
        }
        Terminal::Tcp(plan) => {
            // Set once, here; dropped after this connection's own entry was written.
            let _ = cx.at_end.set(tcp::log::AtEnd::new(plan.clone(), cx.info.clone()));
            let session = Session::begin(plan, cx.info.clone());
            let tls = serving.plan.chains[chain].tls.is_some();
            let client = async { secure(&cx, Chosen(serving, chain), io, read).await.ok() };
            // Boxed: larger than what the beginning of an HTTP connection needs.
            Box::pin(session.serve(client, tls, gate)).await;
        }
        Terminal::Own(filter) => {
            let info = cx.info.clone();
            let client = async { secure(&cx, Chosen(serving, chain), io, read).await.ok() };
            Box::pin(answer::serve(&*filter, &info, client, gate)).await;
        }
    }
    None
}

/// Runs the TLS handshake, if the chain asks for one. What was read and not consumed comes with the stream.
async fn secure(
    cx: &Connection,
    chosen: Chosen,
    mut io: Io,
    mut read: ReadBuf,
) -> Result<(Io, ReadBuf), CloseReason> {
    let Chosen(serving, chain) = chosen;
    let plan = &serving.plan;
    let ChainPlan { tls: Some(tls), handshake_timeout, .. } = &*plan.chains[chain] else {
        return Ok((io, read));
    };
    // Boxed: its state is large and short-lived.
    let handshake = Box::pin(tls.accept(io, std::mem::take(&mut read)));
    let done = match handshake_timeout {
        None => Ok(handshake.await),
        Some(t) => clock::timeout(TimerKind::TransportSocketConnect, *t, handshake).await,
    };
    io = match done {
        Ok(Ok(io)) => io,
        Ok(Err(e)) => {
            if e.kind() == io::ErrorKind::InvalidData {
                *cx.info.end().transport_failure.borrow_mut() = e.to_string().into();
            }
            return Err(CloseReason::Remote);
        }
        Err(_) => {
            plan.stats.downstream_cx_transport_socket_connect_timeout().inc();
            return Err(CloseReason::Local);
        }
    };
    if let Some(t) = io.tls_info() {
        cx.info.handshake_done.set(Some(clock::now()));
        // Set once, here. The name in it is not what `%REQUESTED_SERVER_NAME%` prints: that is the TLS inspector's.
        let _ = cx.info.tls.set(t);
    }
    Ok((io, read))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of what an async function of four arguments returns.
    fn size<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle connections are ten thousand of these: a request's state has its place in the slab.
    #[test]
    fn an_idle_connection_is_small() {
        let task = size(serve);
        assert!(task <= 640, "a connection's task takes {task} bytes");
        let beginning = size(begin);
        assert!(beginning <= 1024, "the beginning of a connection takes {beginning} bytes");
    }
}

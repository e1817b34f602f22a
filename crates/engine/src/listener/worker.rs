//! A listener on one worker: accepts, lets listener filters look, chooses the filter chain, runs the TLS handshake, and
//! hands the connection to its connection manager.

use super::chains::Facts;
use super::config::ListenerPlan;
use super::filters::Inspected;
use super::socket::Bound;
use crate::guard;
use crate::http::CloseReason;
use crate::http::Hcm;
use crate::http::codec::{self, Counted};
use crate::http::drain::Drain;
use crate::io::Io;
use crate::stats::HandlerStats;
use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::flags::Flag;
use nuncio_core::format::FormatCx;
use nuncio_core::info::{ConnInfo, Direction};
use nuncio_core::listener_filter::Detected;
use nuncio_core::worker;
use nuncio_wire::ReadBuf;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinHandle};

/// Numbers downstream connections across workers, as `%CONNECTION_ID%` prints them.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Listeners of one thread.
#[derive(Default)]
pub struct LocalListeners(RefCell<Vec<Rc<LocalListener>>>);

struct LocalListener {
    plan: Arc<ListenerPlan>,
    /// The connection managers of the filter chains, in their order.
    hcms: Vec<Option<Rc<Hcm>>>,
    handler: HandlerStats,
    /// One per address.
    acceptors: RefCell<Vec<JoinHandle<()>>>,
    /// The tasks of its connections, to cut them; places of those that ended are in `free`.
    connections: RefCell<Vec<Option<AbortHandle>>>,
    free: RefCell<Vec<u32>>,
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
        hcms: Vec<Option<Rc<Hcm>>>,
        sockets: Vec<Bound>,
        handler: &str,
    ) -> io::Result<()> {
        let acceptors = sockets.into_iter().map(Acceptor::new).collect::<io::Result<Vec<_>>>()?;
        let handler = HandlerStats::new(&plan.scope.scope(handler));
        let l = Rc::new(LocalListener {
            plan,
            hcms,
            handler,
            acceptors: RefCell::default(),
            connections: RefCell::default(),
            free: RefCell::default(),
        });
        let tasks = acceptors.into_iter().map(|a| tokio::task::spawn_local(accept(l.clone(), a)));
        *l.acceptors.borrow_mut() = tasks.collect();
        self.0.borrow_mut().push(l);
        Ok(())
    }
    /// Asks clients to go elsewhere; listening goes on.
    pub fn drain(&self, which: Which, drain: Drain) {
        self.each(which, |l| l.hcms.iter().flatten().for_each(|h| h.drain.begin(drain)));
    }
    /// Stops to accept; connections go on.
    pub fn stop(&self, which: Which) {
        self.each(which, |l| l.acceptors.borrow_mut().drain(..).for_each(|t| t.abort()));
    }
    /// Ends what is left of a listener: its connections are cut.
    pub fn remove(&self, which: Which) {
        self.stop(which);
        self.each(which, |l| l.connections.borrow_mut().drain(..).flatten().for_each(|t| t.abort()));
        self.0.borrow_mut().retain(|l| !which.takes(l));
    }
    fn each(&self, which: Which, f: impl Fn(&LocalListener)) {
        self.0.borrow().iter().filter(|l| which.takes(l)).for_each(|l| f(l));
    }
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
        self.includes(l.plan.tag, l.plan.info.direction)
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
        match acceptor.accept().await {
            Ok((io, remote, local)) => l.accepted(io, remote, local),
            // Out of descriptors, or the client left already: others can still be served.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => clock::sleep(TimerKind::Other, Duration::from_millis(10)).await,
        }
    }
}

impl LocalListener {
    fn accepted(self: &Rc<Self>, io: Io, remote: Address, local: Address) {
        let s = &self.plan.stats;
        s.connections_accepted_per_socket_event().record(1);
        if self.plan.connections.load(Relaxed) >= self.plan.connection_limit.get() {
            s.downstream_cx_overflow().inc();
            return;
        }
        let info = Rc::new(ConnInfo::new(0, self.plan.info.clone(), remote, local));
        if !self.plan.access_logs.is_empty() {
            // Set once, here.
            let _ = info.logged.set(Box::default());
        }
        self.plan.connections.fetch_add(1, Relaxed);
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut all = self.connections.borrow_mut();
            all.push(None);
            all.len() as u32 - 1
        });
        let cx = Connection { listener: self.clone(), info, active: Cell::new(false), place };
        let task = if self.plan.filters.is_empty() {
            let Some(chain) = cx.choose(&Detected::default()) else { return };
            guard::spawn("connection", serve(cx, chain, io, ReadBuf::new()))
        } else {
            guard::spawn("connection", inspect(cx, io))
        };
        // The task runs after this one, so its place is still its own.
        if let Some(p) = self.connections.borrow_mut().get_mut(place as usize) {
            *p = Some(task.abort_handle());
        }
    }
}

/// A connection that counts against the limit; dropping it takes it out of the counts and writes the access log.
struct Connection {
    listener: Rc<LocalListener>,
    info: Rc<ConnInfo>,
    /// It has a filter chain, and counts as one of the listener's.
    active: Cell<bool>,
    /// Of its task in `connections`.
    place: u32,
}

impl Connection {
    /// Chooses the filter chain.
    fn choose(&self, detected: &Detected) -> Option<usize> {
        let (plan, info) = (&self.listener.plan, &self.info);
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
        plan.stats.downstream_cx_total().inc();
        plan.stats.downstream_cx_active().inc();
        self.listener.handler.downstream_cx_total().inc();
        self.listener.handler.downstream_cx_active().inc();
        Some(chain)
    }
    /// Writes the listener's access log.
    fn log(&self) {
        let Some(info) = self.info.logged.get() else { return };
        let metadata = self.info.metadata.borrow();
        if !metadata.0.is_empty() {
            *info.metadata.borrow_mut() = Some(Box::new(metadata.clone()));
        }
        let cx = FormatCx {
            request: None,
            response: None,
            trailers: None,
            info,
            conn: &self.info,
            route: None,
            local_reply_body: b"",
            log_type: AccessLogType::NotSet,
        };
        self.listener.plan.access_logs.iter().for_each(|l| l.log(&cx));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let l = &self.listener;
        l.plan.connections.fetch_sub(1, Relaxed);
        if let Some(p) = l.connections.borrow_mut().get_mut(self.place as usize) {
            *p = None;
            l.free.borrow_mut().push(self.place);
        }
        if self.active.get() {
            l.plan.stats.downstream_cx_active().dec();
            l.plan.stats.downstream_cx_destroy().inc();
            l.handler.downstream_cx_active().dec();
            let lived = clock::now().saturating_duration_since(self.info.start);
            l.plan.stats.downstream_cx_length_ms().record(lived.as_millis() as u64);
        }
        if !std::thread::panicking() {
            self.log();
        }
    }
}

/// Lets the listener filters look at a connection, then serves it.
async fn inspect(cx: Connection, mut io: Io) {
    let mut read = ReadBuf::new();
    // Boxed: what is needed at the start of a connection only shall not stay with it.
    match Box::pin(look(&cx, &mut io, &mut read)).await {
        Some(chain) => serve(cx, chain, io, read).await,
        // The bytes that were looked at count as not read: such a connection ends with RST.
        None if !read.is_empty() => io.set_reset_on_close(),
        None => {}
    }
}

async fn look(cx: &Connection, io: &mut Io, read: &mut ReadBuf) -> Option<usize> {
    let plan = &cx.listener.plan;
    let stats = &plan.stats;
    let _counted = stats.downstream_pre_cx_active().guard();
    let mut detected = Detected::default();
    let run = plan.filters.run(io, read, &cx.info, &mut detected);
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
        Inspected::Done => cx.choose(&detected),
        Inspected::Refused => None,
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

async fn serve(cx: Connection, chain: usize, mut io: Io, mut read: ReadBuf) {
    let l = &cx.listener;
    let plan = &l.plan.chains[chain];
    // A chain without filters closes what comes.
    let Some(hcm) = l.hcms[chain].clone() else { return };
    let counted = Counted::new(hcm, cx.info.clone(), plan.tls.is_some());
    if let Some(tls) = &plan.tls {
        // Boxed: its state is large and short-lived.
        let handshake = Box::pin(tls.accept(io, std::mem::take(&mut read)));
        let done = match plan.handshake_timeout {
            None => Ok(handshake.await),
            Some(t) => clock::timeout(TimerKind::TransportSocketConnect, t, handshake).await,
        };
        io = match done {
            Ok(Ok(io)) => io,
            Ok(Err(e)) => {
                if e.kind() == io::ErrorKind::InvalidData {
                    *cx.info.transport_failure.borrow_mut() = e.to_string().into();
                }
                return counted.ended(CloseReason::Remote);
            }
            Err(_) => {
                l.plan.stats.downstream_cx_transport_socket_connect_timeout().inc();
                return counted.ended(CloseReason::Local);
            }
        };
    }
    if let Some(t) = io.tls_info() {
        cx.info.handshake_done.set(Some(clock::now()));
        // Set once, here. The name in it is not what `%REQUESTED_SERVER_NAME%` prints: that is the TLS inspector's.
        let _ = cx.info.tls.set(t);
    }
    codec::serve(io, read, counted).await;
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
        assert!(task <= 1024, "a connection's task takes {task} bytes");
    }
}

//! A listener on one worker: accepts, runs the TLS handshake, and hands the connection to its connection manager.

use super::config::ListenerPlan;
use super::socket::Bound;
use crate::guard;
use crate::http::Hcm;
use crate::http::codec;
use crate::io::Io;
use crate::stats::HandlerStats;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::info::ConnInfo;
use nuncio_core::worker;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// Numbers downstream connections across workers, as `%CONNECTION_ID%` prints them.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Listeners of one thread.
#[derive(Default)]
pub struct LocalListeners(RefCell<Vec<Rc<LocalListener>>>);

struct LocalListener {
    plan: Arc<ListenerPlan>,
    hcm: Option<Rc<Hcm>>,
    handler: HandlerStats,
    task: RefCell<Option<JoinHandle<()>>>,
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    fn new(b: Bound) -> io::Result<Acceptor> {
        Ok(match b {
            Bound::Tcp(l) => Acceptor::Tcp(TcpListener::from_std(l)?),
            Bound::Unix(l) => Acceptor::Unix(UnixListener::from_std(l)?),
        })
    }
    async fn accept(&self, configured: &Address) -> io::Result<(Io, Address, Address)> {
        match self {
            Acceptor::Tcp(l) => {
                let (s, peer) = l.accept().await?;
                s.set_nodelay(true)?;
                let local = s.local_addr()?;
                Ok((Io::Tcp(s), peer.into(), local.into()))
            }
            Acceptor::Unix(l) => {
                let (s, _) = l.accept().await?;
                Ok((Io::Unix(s), Address::Pipe(Arc::default()), configured.clone()))
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
    /// The socket cannot be registered.
    pub fn start(
        &self,
        plan: Arc<ListenerPlan>,
        hcm: Option<Rc<Hcm>>,
        socket: Bound,
        handler: &str,
    ) -> io::Result<()> {
        let acceptor = Acceptor::new(socket)?;
        let handler = HandlerStats::new(&plan.scope.scope(handler));
        let l = Rc::new(LocalListener { plan, hcm, handler, task: RefCell::new(None) });
        let task = tokio::task::spawn_local(accept(l.clone(), acceptor));
        *l.task.borrow_mut() = Some(task);
        self.0.borrow_mut().push(l);
        Ok(())
    }
    /// Tells clients to go elsewhere; listening goes on.
    pub fn drain(&self, inbound_only: bool) {
        for l in &*self.0.borrow() {
            if !inbound_only || l.plan.info.direction == nuncio_core::info::Direction::Inbound {
                l.hcm.iter().for_each(|h| h.draining.set(true));
            }
        }
    }
    /// Stops to accept; connections go on.
    pub fn stop_accepting(&self, inbound_only: bool) {
        for l in &*self.0.borrow() {
            if !inbound_only || l.plan.info.direction == nuncio_core::info::Direction::Inbound {
                l.hcm.iter().for_each(|h| h.draining.set(true));
                if let Some(t) = l.task.borrow_mut().take() {
                    t.abort();
                }
            }
        }
    }
}

async fn accept(l: Rc<LocalListener>, acceptor: Acceptor) {
    loop {
        match acceptor.accept(&l.plan.address).await {
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
        self.plan.connections.fetch_add(1, Relaxed);
        s.downstream_cx_total().inc();
        s.downstream_cx_active().inc();
        self.handler.downstream_cx_total().inc();
        self.handler.downstream_cx_active().inc();
        let id = NEXT.fetch_add(1, Relaxed);
        let info = Rc::new(ConnInfo::new(id, self.plan.info.clone(), remote, local));
        // The name is set once, here.
        let _ = info.filter_chain_name.set(self.plan.chain.name.clone());
        let open = Open { listener: self.clone(), info };
        guard::spawn("connection", serve(open, io));
    }
}

/// A connection that counts; dropping it takes it out of the counts.
struct Open {
    listener: Rc<LocalListener>,
    info: Rc<ConnInfo>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let l = &self.listener;
        l.plan.connections.fetch_sub(1, Relaxed);
        l.plan.stats.downstream_cx_active().dec();
        l.plan.stats.downstream_cx_destroy().inc();
        l.handler.downstream_cx_active().dec();
        let lived = clock::now().saturating_duration_since(self.info.start);
        l.plan.stats.downstream_cx_length_ms().record(lived.as_millis() as u64);
    }
}

async fn serve(open: Open, io: Io) {
    let l = &open.listener;
    let io = match &l.plan.chain.tls {
        None => io,
        Some(tls) => {
            // Boxed: its state is large and short-lived.
            let handshake = Box::pin(tls.accept(io));
            let done = match l.plan.chain.handshake_timeout {
                None => Ok(handshake.await),
                Some(t) => clock::timeout(TimerKind::TransportSocketConnect, t, handshake).await,
            };
            match done {
                Ok(Ok(io)) => io,
                Ok(Err(_)) => return,
                Err(_) => {
                    l.plan.stats.downstream_cx_transport_socket_connect_timeout().inc();
                    return;
                }
            }
        }
    };
    if let Some(t) = io.tls_info() {
        open.info.handshake_done.set(Some(clock::now()));
        // Both cells are set once, here.
        let _ = open.info.sni.set(t.sni.clone());
        let _ = open.info.tls.set(t);
    }
    // A chain without filters closes what comes.
    if let Some(hcm) = l.hcm.clone() {
        codec::serve(io, hcm, open.info.clone()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of what an async function of two arguments returns.
    fn size<A, B, F: Future>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle connections are ten thousand of these: a request's state has its place in the slab.
    #[test]
    fn an_idle_connection_is_small() {
        let task = size(serve);
        assert!(task <= 1024, "a connection's task takes {task} bytes");
    }
}

//! The server, on a thread of its own.

use crate::connection;
use crate::fault::Fault;
use crate::kinds::Kind;
use crate::world::World;
use nuncio_api::google::rpc::Status;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{broadcast, watch};

/// What happened between the control plane and a proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The proxy: number of its connection, from 1.
    pub connection: u64,
    /// What kind of resources it is about.
    pub kind: &'static Kind,
    /// What happened.
    pub what: What,
}

/// See [`Event`].
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The proxy asks for these, in addition; for all of the kind when there are none.
    Asked {
        /// Their names.
        names: Vec<String>,
    },
    /// A response went out.
    Sent {
        /// Of all resources of the kind together.
        version: String,
        /// How many it holds.
        resources: usize,
        /// Names that it takes away, where the protocol can say so.
        removed: Vec<String>,
    },
    /// The proxy uses it (ACK).
    Accepted {
        /// Of the response.
        version: String,
    },
    /// The proxy does not use all of it (NACK).
    Refused {
        /// Of the response.
        version: String,
        /// In the proxy's words.
        why: String,
    },
}

impl What {
    /// What a proxy makes of a response.
    pub(crate) fn answer(version: String, error: Option<Status>) -> What {
        match error {
            Some(e) => What::Refused { version, why: e.message },
            None => What::Accepted { version },
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.short;
        match &self.what {
            What::Asked { names } if names.is_empty() => write!(f, "{kind}: all are asked for"),
            What::Asked { names } => write!(f, "{kind}: asked for {}", names.join(", ")),
            What::Sent { version, resources, removed } => {
                write!(f, "{kind}: version {version} sent, {resources} of them")?;
                match removed.is_empty() {
                    true => Ok(()),
                    false => write!(f, "; gone: {}", removed.join(", ")),
                }
            }
            What::Accepted { version } => write!(f, "{kind}: version {version} is in use"),
            What::Refused { version, why } => {
                write!(f, "{kind}: version {version} REFUSED: {}", why.trim_end())
            }
        }
    }
}

/// Whom to tell.
pub(crate) type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// What connections share.
pub(crate) struct Shared {
    pub(crate) world: Mutex<World>,
    pub(crate) tell: Tell,
}

/// A running control plane; it ends when dropped, and its connections with it.
pub struct Plane {
    addr: SocketAddr,
    shared: Arc<Shared>,
    changed: watch::Sender<u64>,
    faults: broadcast::Sender<Fault>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Plane {
    /// Listens on `addr` (port 0: any) with nothing to serve yet; `tell` learns what happens, on the server's thread.
    ///
    /// # Errors
    /// The address cannot be used, or there is no thread to be had.
    pub fn start(addr: SocketAddr, tell: impl Fn(Event) + Send + Sync + 'static) -> io::Result<Plane> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { world: Mutex::default(), tell: Arc::new(tell) });
        let (changed, is_changed) = watch::channel(0);
        let (stop, mut stopped) = watch::channel(false);
        let (faults, _) = broadcast::channel(64);
        let (all, at_fault) = (shared.clone(), faults.clone());
        let run = move || {
            let mut rt = tokio::runtime::Builder::new_current_thread();
            let Ok(rt) = rt.enable_all().build_local(tokio::runtime::LocalOptions::default()) else { return };
            rt.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(&listener, &all, &is_changed, &at_fault) => {}
                    _ = stopped.wait_for(|s| *s) => {}
                }
            });
        };
        // The codec's buffers are of one thread, so the server has one of its own.
        let thread = std::thread::Builder::new().name("control-plane".to_owned()).spawn(run)?;
        Ok(Plane { addr, shared, changed, faults, stop, thread: Some(thread) })
    }
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
    /// Changes what it serves, and tells all proxies: one update, whatever `f` does.
    pub fn change<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        let t = f(&mut self.shared.world.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|n| *n += 1);
        t
    }
    /// Does what a control plane should never do.
    pub fn fault(&self, fault: Fault) {
        // Without a connection nobody sees it.
        let _ = self.faults.send(fault);
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // The thread may have ended.
        let _ = self.stop.send(true);
        if let Some(t) = self.thread.take() {
            let _ = t.join(); // a panic there was printed there
        }
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    shared: &Arc<Shared>,
    changed: &watch::Receiver<u64>,
    faults: &broadcast::Sender<Fault>,
) {
    for number in 1.. {
        match listener.accept().await {
            Ok((io, _)) => {
                let _ = io.set_nodelay(true); // only makes it faster
                let serve =
                    connection::serve(io, number, shared.clone(), changed.clone(), faults.subscribe());
                tokio::task::spawn_local(serve);
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

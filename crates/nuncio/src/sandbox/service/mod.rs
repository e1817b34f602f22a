//! The little HTTP/1.1 service behind the sidecars, which serves as a test upstream too (`args` lists its paths).
//!
//! It stands on `hyper` on purpose and not on our own codec: what is at both ends of a test with the same codec
//! cannot show that codec's mistakes. `answer` decides what to say, this file has connections and their end.

mod answer;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{Failure, args, say, signals};

/// Connections of one instance at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 10_000;
/// How long requests may take to end once an instance stops.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// Pause after a failed accept (no file descriptor left), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Who an instance says it is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// N of `/service/N`.
    pub(super) name: String,
    /// Name of the machine or instance.
    pub(super) hostname: String,
}

/// A running instance. Dropping it ends its connections at once, [`stop`](Instance::stop) lets requests end.
pub(super) struct Instance {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Instance {
    /// Listens on `address` and serves until stopped.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(super) async fn start(identity: Identity, address: SocketAddr) -> io::Result<Instance> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::new(identity), stopping));
        Ok(Instance { address, stop, tasks })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and idle connections at once, others after their request, or after two seconds.
    pub(super) async fn stop(mut self) {
        // The receiver is gone only when the task is.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn serve(listener: TcpListener, identity: Arc<Identity>, mut stopping: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Invariant: the semaphore is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|&stop| stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, Arc::clone(&identity), stopping.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let ends = async { while connections.join_next().await.is_some() {} };
    // What is left after that is cut by dropping `connections`.
    let _ = tokio::time::timeout(LAST_REQUESTS, ends).await;
}

async fn serve_connection(stream: TcpStream, identity: Arc<Identity>, mut stopping: watch::Receiver<bool>) {
    // Small answers leave at once; without it they are only later.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let local: IpAddr = local.ip();
    let answer = service_fn(move |request| answer::answer(Arc::clone(&identity), local, request));
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    // How a connection ends concerns its client only.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|&stop| stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// `sandbox service`: one instance until SIGINT or SIGTERM.
///
/// # Errors
/// When the address cannot be bound.
pub(super) async fn run(options: args::Service) -> Result<(), Failure> {
    let mut signals = signals::Stop::new()?;
    let hostname = options.hostname.unwrap_or_else(machine_name);
    let identity = Identity { name: options.name, hostname };
    let instance = Instance::start(identity.clone(), options.listen)
        .await
        .map_err(|e| format!("cannot listen on {}: {e}", options.listen))?;
    say(&format!("service {} ({}) on http://{}", identity.name, identity.hostname, instance.address()));
    signals.wait().await;
    instance.stop().await;
    Ok(())
}

/// The machine's (or container's) name.
fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

#[cfg(test)]
mod tests;

//! A network without a kernel: hosts by their addresses, which answer HTTP/1 after a while of simulated time, or do not.

use crate::io::Io;
use nuncio_core::clock::{self, TimerKind};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

thread_local!(static HERE: RefCell<Option<Net>> = const { RefCell::new(None) });

/// The hosts there are.
#[derive(Clone, Default)]
pub struct Net(Rc<RefCell<BTreeMap<SocketAddr, Rc<SimHost>>>>);

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Up,
    /// Nobody listens, and connections end.
    Down,
    /// Nothing comes back.
    Silent,
}

/// A host.
pub struct SimHost {
    reach: Cell<Reach>,
    changed: Notify,
    /// How long an answer takes.
    pub latency: Cell<Duration>,
    /// Requests are answered with 503; checks are not.
    pub fails: Cell<bool>,
    /// Requests it has got.
    pub served: Cell<u64>,
    tasks: RefCell<Vec<AbortHandle>>,
}

impl Net {
    /// From now on this thread's connections are made here.
    pub fn install(&self) {
        HERE.set(Some(self.clone()));
    }
    pub fn add(&self, at: SocketAddr, latency: Duration) -> Rc<SimHost> {
        let host = Rc::new(SimHost {
            reach: Cell::new(Reach::Up),
            changed: Notify::new(),
            latency: Cell::new(latency),
            fails: Cell::new(false),
            served: Cell::new(0),
            tasks: RefCell::default(),
        });
        self.0.borrow_mut().insert(at, host.clone());
        host
    }
}

/// A connection to `at`, if this thread has a simulated network.
pub async fn open(at: SocketAddr) -> Option<io::Result<Io>> {
    let net = HERE.with_borrow(Clone::clone)?;
    clock::sleep(TimerKind::Other, Duration::from_millis(1)).await;
    let host = net.0.borrow().get(&at).cloned();
    let Some(host) = host.filter(|h| h.reach.get() != Reach::Down) else {
        return Some(Err(io::ErrorKind::ConnectionRefused.into()));
    };
    if host.reach.get() == Reach::Silent {
        pending::<()>().await;
    }
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let task = tokio::task::spawn_local(serve(host.clone(), theirs));
    let mut tasks = host.tasks.borrow_mut();
    tasks.retain(|t| !t.is_finished());
    tasks.push(task.abort_handle());
    Some(Ok(Io::Memory(Box::new(ours))))
}

async fn serve(host: Rc<SimHost>, mut io: DuplexStream) {
    let (mut request, mut piece) = (vec![], [0; 1024]);
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match io.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(n) => request.extend_from_slice(&piece[..n]),
            }
        }
        host.is_heard().await;
        clock::sleep(TimerKind::Other, host.latency.get()).await;
        host.is_heard().await;
        let check = request.starts_with(b"GET /check ");
        request.clear();
        if !check {
            host.served.set(host.served.get() + 1);
        }
        let status = if host.fails.get() && !check { "503 Unavailable" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if io.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl SimHost {
    pub fn set(&self, reach: Reach) {
        self.reach.set(reach);
        if reach == Reach::Down {
            self.tasks.take().iter().for_each(AbortHandle::abort);
        }
        self.changed.notify_waiters();
    }
    async fn is_heard(&self) {
        while self.reach.get() == Reach::Silent {
            self.changed.notified().await;
        }
    }
}

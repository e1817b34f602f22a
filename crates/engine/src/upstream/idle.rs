//! Connections nobody uses: one watcher per thread notices when a host closes them or when they idle too long.
//!
//! A connection that waits in its pool has no task. It registers a waker of its own with its socket and its timer;
//! when that fires, the connection's number goes to the thread's watcher, which looks after it. Registering costs no
//! system call, and nothing is allocated per request.

#![expect(
    clippy::disallowed_types,
    reason = "a Waker must be Sync; nearly always this thread alone takes the lock, and never for long"
)]

use super::h1::H1Up;
use super::host::{Host, HostCounters};
use super::local::Cluster;
use nuncio_core::{clock, worker};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Wake, Waker};
use std::time::Instant;

/// Numbers connections across threads.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A new connection's number.
pub fn next_id() -> u64 {
    NEXT.fetch_add(1, Relaxed)
}

#[derive(Default)]
struct Woken {
    ids: Vec<u64>,
    watcher: Option<Waker>,
}

/// This thread's watcher.
#[derive(Default)]
struct Watcher {
    woken: Arc<Mutex<Woken>>,
    conns: RefCell<HashMap<u64, Weak<H1Up>>>,
}

struct ConnWaker {
    id: u64,
    woken: Arc<Mutex<Woken>>,
}

fn lock(m: &Mutex<Woken>) -> MutexGuard<'_, Woken> {
    // What it guards is whole after every statement, also after a panic elsewhere.
    m.lock().unwrap_or_else(|e| e.into_inner())
}

impl Wake for ConnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        let watcher = {
            let mut w = lock(&self.woken);
            w.ids.push(self.id);
            w.watcher.clone()
        };
        if let Some(w) = watcher {
            w.wake();
        }
    }
}

fn here() -> Rc<Watcher> {
    worker::local(|| {
        let w = Watcher::default();
        tokio::task::spawn_local(run(w.woken.clone()));
        w
    })
}

/// Watches a connection from now on; returns the waker to register with its socket and timer.
pub fn watch(conn: &Rc<H1Up>) -> Waker {
    let w = here();
    w.conns.borrow_mut().insert(conn.id, Rc::downgrade(conn));
    Waker::from(Arc::new(ConnWaker { id: conn.id, woken: w.woken.clone() }))
}
/// Stops watching a connection that is closed.
pub fn forget(id: u64) {
    here().conns.borrow_mut().remove(&id);
}

async fn run(woken: Arc<Mutex<Woken>>) {
    loop {
        let ids = poll_fn(|cx| {
            let mut w = lock(&woken);
            if w.ids.is_empty() {
                w.watcher = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut w.ids))
        })
        .await;
        for id in ids {
            let conn = here().conns.borrow().get(&id).and_then(Weak::upgrade);
            if let Some(c) = conn {
                c.poll_idle();
            }
        }
    }
}

/// Stats of a connection that has ended.
pub fn closed(
    cluster: &Cluster,
    host: &Host,
    priority: usize,
    born: Instant,
    requests: u64,
    active: bool,
    remote: bool,
) {
    let s = &cluster.plan.stats;
    s.upstream_cx_active().dec();
    s.upstream_cx_destroy().inc();
    match (remote, active) {
        (true, _) => s.upstream_cx_destroy_remote().inc(),
        (false, _) => s.upstream_cx_destroy_local().inc(),
    }
    if active {
        s.upstream_cx_destroy_with_active_rq().inc();
        match remote {
            true => s.upstream_cx_destroy_remote_with_active_rq().inc(),
            false => s.upstream_cx_destroy_local_with_active_rq().inc(),
        }
    }
    s.upstream_rq_per_cx().record(requests);
    s.upstream_cx_length_ms().record(clock::now().saturating_duration_since(born).as_millis() as u64);
    HostCounters::dec(&host.counters.cx_active);
    cluster.plan.breakers[priority].connections.give();
}

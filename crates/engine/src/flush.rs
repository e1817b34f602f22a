//! Writes at the end of a turn of the loop: what several connections have ready leaves in one burst.
//!
//! A write to a socket whose reader sleeps wakes that reader, and on a busy proxy the next write comes microseconds later,
//! when it sleeps again: each costs a wake-up. So an HTTP/1 connection that has a small message ready puts itself down
//! here; the thread's flusher is the last task of the turn and writes for all of them. The reader of the first is
//! still at work when the others arrive. What is large is written at once: it would only grow cold.

use crate::guard;
use nuncio_core::worker;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A message of so many bytes or more does not wait.
const LARGE: usize = 16 * 1024;
/// With so many connections waiting they are written for at once: the first has waited long enough.
const BURST: usize = 32;

/// A connection that the flusher writes for.
pub trait Flush {
    /// Hands what waits to the kernel, unless its own task did so meanwhile. `Pending`: that task is to go on.
    fn flush(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Who writes for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Writer {
    /// Nobody: nothing waits, or nobody has asked yet.
    #[default]
    None,
    /// The flusher, soon.
    Flusher,
    /// Its own task: the kernel did not take everything.
    Task,
}

/// A connection's part: who writes for it, and the flusher of its thread.
pub struct Later {
    writer: Cell<Writer>,
    flusher: Rc<Flusher>,
}

impl Later {
    /// Nothing waits.
    pub fn new() -> Later {
        Later { writer: Cell::default(), flusher: Flusher::here() }
    }
    /// `waiting` bytes are ready: true when the flusher writes them, false when the caller has to, by [`now`](Self::now).
    pub fn offer(&self, waiting: usize, conn: impl FnOnce() -> Option<Rc<dyn Flush>>, task: &Waker) -> bool {
        if waiting >= LARGE || self.writer.get() == Writer::Task {
            return false;
        }
        if waiting == 0 || self.writer.get() == Writer::Flusher {
            return true;
        }
        let Some(conn) = conn() else { return false };
        self.writer.set(Writer::Flusher);
        self.flusher.add(Entry { conn, task: task.clone() });
        true
    }
    /// The flusher has something to write.
    pub fn is_listed(&self) -> bool {
        self.writer.get() == Writer::Flusher
    }
    /// The connection's own task has to write.
    pub fn is_stuck(&self) -> bool {
        self.writer.get() == Writer::Task
    }
    /// Somebody has written, as far as it went.
    pub fn written<E>(&self, r: &Poll<Result<(), E>>) {
        self.writer.set(match r {
            Poll::Ready(Ok(())) => Writer::None,
            _ => Writer::Task,
        });
    }
}

struct Entry {
    conn: Rc<dyn Flush>,
    /// The task that drives the connection.
    task: Waker,
}

/// A thread's flusher.
#[derive(Default)]
struct Flusher {
    list: RefCell<Vec<Entry>>,
    /// Memory for the list of one turn.
    spare: RefCell<Vec<Entry>>,
    waker: RefCell<Option<Waker>>,
}

impl Flusher {
    /// This thread's.
    fn here() -> Rc<Flusher> {
        worker::local(|| {
            guard::spawn("flusher", async {
                let flusher = Flusher::here();
                poll_fn(|cx| {
                    *flusher.waker.borrow_mut() = Some(cx.waker().clone());
                    flusher.flush(cx);
                    Poll::Pending
                })
                .await
            });
            Flusher::default()
        })
    }
    fn add(&self, entry: Entry) {
        let waiting = {
            let mut list = self.list.borrow_mut();
            list.push(entry);
            list.len()
        };
        // Before its first poll it has no waker, but a turn.
        if waiting == 1 {
            self.waker.borrow().iter().for_each(Waker::wake_by_ref);
        } else if waiting >= BURST
            && let Some(w) = self.waker.borrow().clone()
        {
            self.flush(&mut Context::from_waker(&w));
        }
    }
    fn flush(&self, cx: &mut Context<'_>) {
        let mut list = std::mem::replace(&mut *self.list.borrow_mut(), self.spare.take());
        for Entry { conn, task } in list.drain(..) {
            // A panic keeps no other connection from its turn; the task sees to what is left.
            let done = guard::caught("flusher", || {
                let done = conn.flush(cx);
                drop(conn); // perhaps the last that held it
                done
            });
            if done != Some(Poll::Ready(())) {
                task.wake();
            }
        }
        *self.spare.borrow_mut() = list;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::{Builder, LocalOptions};

    struct Conn {
        later: Later,
        me: std::rc::Weak<Conn>,
        waits: Cell<usize>,
        /// What the kernel takes.
        room: Cell<usize>,
        writes: Cell<usize>,
    }

    impl Conn {
        fn new(room: usize) -> Rc<Conn> {
            Rc::new_cyclic(|me| Conn {
                later: Later::new(),
                me: me.clone(),
                waits: Cell::new(0),
                room: Cell::new(room),
                writes: Cell::new(0),
            })
        }
        fn write(&self) -> Poll<Result<(), ()>> {
            self.writes.set(self.writes.get() + 1);
            let n = self.waits.get().min(self.room.get());
            self.waits.set(self.waits.get() - n);
            let r = if self.waits.get() == 0 { Poll::Ready(Ok(())) } else { Poll::Pending };
            self.later.written(&r);
            r
        }
        fn offer(&self, n: usize, task: &Waker) -> bool {
            self.waits.set(self.waits.get() + n);
            self.later.offer(self.waits.get(), || Some(self.me.upgrade()?), task)
        }
    }
    impl Flush for Conn {
        fn flush(&self, _: &mut Context<'_>) -> Poll<()> {
            match self.later.is_listed() && self.write().is_pending() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        }
    }

    fn run(f: impl Future<Output = ()>) {
        let rt = Builder::new_current_thread().build_local(LocalOptions::default()).expect("a runtime");
        rt.block_on(f);
    }
    async fn turn() {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }

    #[test]
    fn one_write_at_the_end_of_a_turn() {
        run(async {
            let c = Conn::new(1000);
            turn().await; // the flusher has its waker
            assert!(c.offer(10, Waker::noop()) && c.offer(10, Waker::noop()));
            assert_eq!((c.writes.get(), c.later.is_listed()), (0, true));
            turn().await;
            assert_eq!((c.writes.get(), c.waits.get(), c.later.is_listed()), (1, 0, false));
            assert_eq!(Rc::strong_count(&c), 1, "the flusher keeps nobody");
            assert!(!c.offer(LARGE, Waker::noop()), "what is large is the caller's");
        });
    }

    #[test]
    fn a_long_list_does_not_wait() {
        run(async {
            let all: Vec<_> = (0..BURST).map(|_| Conn::new(1000)).collect();
            turn().await;
            all.iter().for_each(|c| assert!(c.offer(10, Waker::noop())));
            assert_eq!(all.iter().map(|c| c.waits.get()).sum::<usize>(), 0);
            turn().await;
            assert_eq!(all.iter().map(|c| c.writes.get()).sum::<usize>(), BURST, "one write each");
        });
    }

    #[test]
    fn what_the_kernel_does_not_take_is_the_tasks() {
        struct Woken(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        run(async {
            let woken = std::sync::Arc::new(Woken(false.into()));
            let c = Conn::new(4);
            turn().await;
            assert!(c.offer(10, &woken.clone().into()));
            turn().await;
            assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed));
            assert_eq!((c.waits.get(), c.later.is_stuck()), (6, true));
            assert!(!c.offer(1, Waker::noop()), "until all has left");
            c.room.set(100);
            assert!(c.write().is_ready() && !c.later.is_stuck());
            assert!(c.offer(1, Waker::noop()));
        });
    }
}

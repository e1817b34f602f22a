//! Memory for requests: a request's future is large, an idle connection must not carry it, and the hot path must
//! neither allocate nor move it about. So each thread keeps futures that serve one request after the other: a loop that
//! asks its [`Inbox`] for the next one. It is lent for one request and goes back when it asks for another.

use nuncio_core::worker;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Futures kept per kind and thread: more than a busy worker has requests under way over HTTP/2.
const KEEP: usize = 1024;

/// Where a loop of a pool gets its work from.
pub struct Inbox<A> {
    next: Rc<Cell<Option<A>>>,
    /// It asked, and there was nothing: it may be lent again.
    idle: Rc<Cell<bool>>,
}

impl<A> Inbox<A> {
    /// The next piece of work.
    pub async fn next(&self) -> A {
        poll_fn(|_| match self.next.take() {
            Some(work) => Poll::Ready(work),
            None => {
                self.idle.set(true);
                Poll::Pending // whoever borrows the loop next polls it
            }
        })
        .await
    }
}

struct Loop<A, F> {
    future: Pin<Box<F>>,
    next: Rc<Cell<Option<A>>>,
    idle: Rc<Cell<bool>>,
}

/// The idle loops of one kind.
pub struct LoopPool<A, F> {
    free: RefCell<Vec<Loop<A, F>>>,
}

impl<A: 'static, F: Future<Output = ()> + 'static> LoopPool<A, F> {
    /// This thread's pool for the loops that `make` returns. `make` only names the type.
    pub fn of(_make: fn(Inbox<A>) -> F) -> Rc<LoopPool<A, F>> {
        worker::local(|| LoopPool::<A, F> { free: RefCell::default() })
    }
    /// Has a loop do one piece of work.
    pub fn start(self: &Rc<Self>, make: fn(Inbox<A>) -> F, work: A) -> Lent<A, F> {
        let free = self.free.borrow_mut().pop();
        let lent = free.unwrap_or_else(|| {
            let (next, idle) = <(Rc<Cell<Option<A>>>, Rc<Cell<bool>>)>::default();
            let inbox = Inbox { next: next.clone(), idle: idle.clone() };
            Loop { future: Box::pin(make(inbox)), next, idle }
        });
        lent.next.set(Some(work));
        lent.idle.set(false);
        Lent { lent: Some(lent), pool: self.clone() }
    }
}

/// A loop at work for one borrower, ready when the work is done. Dropping it before drops the loop with what it does.
pub struct Lent<A: 'static, F: Future<Output = ()> + 'static> {
    lent: Option<Loop<A, F>>,
    pool: Rc<LoopPool<A, F>>,
}

impl<A: 'static, F: Future<Output = ()> + 'static> Future for Lent<A, F> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(l) = &mut self.lent else { return Poll::Ready(()) };
        match l.future.as_mut().poll(cx) {
            Poll::Pending if l.idle.get() => Poll::Ready(()),
            other => other,
        }
    }
}

impl<A: 'static, F: Future<Output = ()> + 'static> Drop for Lent<A, F> {
    fn drop(&mut self) {
        // One that is not idle was cut short, perhaps by a panic.
        if let Some(l) = self.lent.take().filter(|l| l.idle.get()) {
            let mut free = self.pool.free.borrow_mut();
            if free.len() < KEEP {
                free.push(l);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Work = (u32, Rc<Cell<u32>>);

    async fn add(inbox: Inbox<Work>) {
        loop {
            let (n, sum) = inbox.next().await;
            tokio::task::yield_now().await;
            sum.set(sum.get() + n);
        }
    }

    #[test]
    fn loops_are_lent_again() {
        let (pool, sum) = (LoopPool::of(add), Rc::new(Cell::new(0)));
        let rt = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for n in 1..=3 {
            rt.block_on(pool.start(add, (n, sum.clone())));
            assert_eq!(pool.free.borrow().len(), 1);
        }
        assert_eq!((sum.get(), Rc::strong_count(&sum)), (6, 1), "a loop keeps nothing of its work");
    }

    #[test]
    fn one_that_is_cut_short_is_not() {
        let (pool, sum) = (LoopPool::of(add), Rc::new(Cell::new(0)));
        drop(pool.start(add, (1, sum.clone())));
        let mut begun = pool.start(add, (1, sum.clone()));
        assert!(Pin::new(&mut begun).poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        drop(begun);
        assert_eq!((pool.free.borrow().len(), sum.get(), Rc::strong_count(&sum)), (0, 0, 1));
    }
}

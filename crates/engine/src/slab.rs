//! Memory for request futures: a request's future is large, an idle connection must not carry it, and the hot path
//! must not allocate. So the boxes are kept per thread and refilled.

use nuncio_core::worker;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Boxes kept per kind of future and thread.
const KEEP: usize = 256;

/// Empty boxes for futures of one type.
pub struct FuturePool<F> {
    free: RefCell<Vec<Pin<Box<Option<F>>>>>,
}

impl<F: Future + 'static> FuturePool<F> {
    /// This thread's pool for the futures that `make` returns. `make` only names the type.
    pub fn of<A>(_make: fn(A) -> F) -> Rc<FuturePool<F>> {
        worker::local(|| FuturePool::<F> { free: RefCell::default() })
    }
    /// Makes a future in a box of the pool.
    pub fn start<A>(self: &Rc<Self>, make: fn(A) -> F, args: A) -> Pooled<F> {
        let mut slot = self.free.borrow_mut().pop().unwrap_or_else(|| Box::pin(None));
        slot.set(Some(make(args)));
        Pooled { slot: Some(slot), pool: self.clone() }
    }
}

/// A future in a box of a pool; the box goes back when it is dropped.
pub struct Pooled<F: Future + 'static> {
    slot: Option<Pin<Box<Option<F>>>>,
    pool: Rc<FuturePool<F>>,
}

impl<F: Future + 'static> Future for Pooled<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.slot.as_mut().and_then(|s| s.as_mut().as_pin_mut()) {
            Some(f) => f.poll(cx),
            None => Poll::Pending, // polled again after a panic: nothing left to do
        }
    }
}

impl<F: Future + 'static> Drop for Pooled<F> {
    fn drop(&mut self) {
        if let Some(mut slot) = self.slot.take() {
            slot.set(None);
            let mut free = self.pool.free.borrow_mut();
            if free.len() < KEEP {
                free.push(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_reused() {
        async fn f(n: u32) -> u32 {
            n + 1
        }
        let pool = FuturePool::of(f);
        let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(rt.block_on(pool.start(f, 1)), 2);
        assert_eq!(pool.free.borrow().len(), 1);
        assert_eq!(rt.block_on(pool.start(f, 2)), 3);
        assert_eq!(pool.free.borrow().len(), 1);
    }
}

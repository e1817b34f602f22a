//! The per-thread tables and how a thread finds its own.

use std::cell::{OnceCell, RefCell};
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use super::histogram::CellTable;
use super::slots::Slots;
use super::store::Inner;

/// What one thread counts. Only its owner writes it; main reads it while it is written.
pub(super) struct Shard {
    pub(super) slots: Slots,
    pub(super) histograms: CellTable,
}

impl Shard {
    pub(super) const fn new() -> Self {
        Self { slots: Slots::new(), histograms: CellTable::new() }
    }
}

struct Local {
    /// Weak, and kept: the address of the store cannot be given to another store meanwhile.
    store: Weak<Inner>,
    shard: Arc<Shard>,
}

impl Local {
    #[inline]
    fn is_of(&self, store: &Arc<Inner>) -> bool {
        std::ptr::eq(self.store.as_ptr(), Arc::as_ptr(store))
    }
}

thread_local! {
    /// The first shard of this thread: without a borrow flag, so that finding it costs two loads.
    static FIRST: OnceCell<Local> = const { OnceCell::new() };
    /// Shards of further stores, which only tests with several servers have.
    static MORE: RefCell<Vec<Local>> = const { RefCell::new(Vec::new()) };
}

/// Calls `owned` with this thread's shard of `store`, or `shared` with the one that all threads without a shard
/// write together.
#[inline]
pub(super) fn with<R>(store: &Arc<Inner>, owned: impl Fn(&Shard) -> R, shared: impl Fn(&Shard) -> R) -> R {
    let found = FIRST.try_with(|first| match first.get() {
        Some(local) if local.is_of(store) => Some(owned(&local.shard)),
        _ => None,
    });
    match found {
        Ok(Some(result)) => result,
        _ => other(store, owned, shared),
    }
}

#[cold]
fn other<R>(store: &Arc<Inner>, owned: impl Fn(&Shard) -> R, shared: impl Fn(&Shard) -> R) -> R {
    let found = MORE.try_with(|more| more.borrow().iter().find(|l| l.is_of(store)).map(|l| l.shard.clone()));
    match found {
        Ok(Some(shard)) => owned(&shard),
        // No shard, or the thread is ending and its locals are gone.
        _ => shared(&store.shared),
    }
}

/// Says that this thread owns a shard. What was counted stays when the handle is dropped.
#[must_use = "the thread owns its shard while this lives"]
pub struct ShardHandle {
    store: Weak<Inner>,
    _this_thread_only: PhantomData<*const ()>,
}

impl ShardHandle {
    pub(super) fn install(store: &Arc<Inner>) -> Self {
        let handle = Self { store: Arc::downgrade(store), _this_thread_only: PhantomData };
        let known = FIRST.with(|first| first.get().is_some_and(|l| l.is_of(store)))
            || MORE.with(|more| more.borrow().iter().any(|l| l.is_of(store)));
        if known {
            return handle;
        }
        let shard = Arc::new(Shard::new());
        store.add_shard(shard.clone());
        let local = Local { store: Arc::downgrade(store), shard };
        if let Err(local) = FIRST.with(|first| first.set(local)) {
            MORE.with(|more| more.borrow_mut().push(local));
        }
        handle
    }
}

impl Drop for ShardHandle {
    fn drop(&mut self) {
        // The thread may be ending: then the list is gone already.
        let _ = MORE.try_with(|more| more.borrow_mut().retain(|l| !Weak::ptr_eq(&l.store, &self.store)));
    }
}
